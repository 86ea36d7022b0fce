"""Measure the public solutions' loop beside ours, on the same networks; it needs no data.

    python -m experiments.bench [--quick] [--repeats 5] [--compile] [--only
    step|loader|epoch|scaling]

step      a ladder: the public training step, then one technique more in each row, up to our own
loader    ImageFolder with PIL beside our first decoding, our cache, our loader and DeviceLoader;
          with --folder FOLDER also the decoding of the images in a folder of yours
epoch     from files to updated weights; on a GPU also 50 epochs of 89,931 images
scaling   our images/s against batch size, image size, width and number of images, and in the
          notebook's presets

Each is a table, assets/bench_<name>.csv; rows of other devices are kept. How rates, ratios and
memory are measured is said at the top of bench_timing.py. The public loop is re-implemented and
runs on the torch at hand; its files are drawn faces of 64x64 in a temporary folder. An epoch on a
CPU is a part of one, of a few seconds: see the column block.

Takes about ten minutes on two cores that do nothing else, and about one with --quick (32x32 mostly,
two repeats). --tiny is a rehearsal of seconds, whose numbers mean nothing. --compile adds
torch.compile, which on a CPU takes up to a minute to start for each pair of networks.
"""
import functools
import os
import tempfile
from pathlib import Path

import torch

import helpers
from experiments import bench_loops as loops
from experiments import common
from experiments.bench_loops import BATCH, notebook
from experiments.bench_timing import (
    BFLOAT16,
    CUDA,
    DEVICE,
    FAST,
    PLAIN,
    SEED,
    WARM_PASSES,
    WARM_STEPS,
    Bench,
    Contender,
    timed,
    tuned,
)

SIZES = (32, 32), (32, 64), (64, 64)         # (image size, conv_dim)
LONG_EPOCHS = 50
PRODUCT = (8192, 10) if CUDA else (2048, 1)          # (rows of a square, products in a block)


def describe(size, width, batch=None):
    return f'{size}x{size}, conv_dim {width}, batch {batch or BATCH}'


def sizes_of(bench):
    return SIZES[:1] if bench.quick else SIZES


# --------------------------------------------------------------------------------------------- step


def peak_of(precision):
    """Return the TFLOP/s of a large product: the best of ten blocks."""
    size, times = PRODUCT
    dtype = torch.bfloat16 if precision == 'bfloat16' else torch.float32
    square = torch.randn(size, size, device=DEVICE).to(dtype)

    def multiply():
        for _ in range(times):
            square @ square

    with tuned(precision == 'tf32'):
        seconds = min(timed(multiply) for _ in range(10)) / times
    return 2 * size ** 3 / seconds / 1e12


def measure_peaks(bench):
    """Measure the device's best at a large product, to hold the arithmetic of a step against."""
    size, times = PRODUCT
    rows = []
    for precision in dict.fromkeys(('float32', PLAIN, FAST)):
        peak = peak_of(precision)
        bench.peaks[precision] = peak
        rows.append(dict(
            setting='the device', row=f'product of {size}x{size}, {precision}, best of 10',
            repeats=10, block=f'{times} products', tflop_per_s=peak, precision=precision))
    bench.save('step', rows)
    peaks = [f'{peak:.3g} TFLOP/s in {name}' for name, peak in bench.peaks.items()]
    print('Large products:', ', '.join(peaks))


def ladder(compiled):
    """Return (technique, what it changes) for each row; it keeps what the rows above it change."""
    rungs = [('the public step', {})]
    if CUDA:
        rungs.append(("+ Adam over lists of tensors, by now torch's default", dict(adam='foreach')))
    rungs += [
        ("+ detach: D's half stops at the picture", dict(detach=True)),
        ('+ one forward pass of G for both halves', dict(once=True)),
        ('+ noise and labels made on the device', dict(on_device=True)),
        ("+ G's half leaves out D's weights: our train_step", dict(ours=True)),
        ('+ fused Adam', dict(adam='fused')),
        ('+ channels_last', dict(channels_last=True))]
    if CUDA:
        rungs.append(('+ search for kernels, TF32 in all products', dict(tuned=True)))
    if BFLOAT16:
        rungs.append(('+ bfloat16', dict(bfloat16=True)))
    elif not CUDA:
        rungs.append(('+ helpers.capture: float32 here', dict(bfloat16=True)))
    if CUDA:
        rungs.append(('+ CUDA graph: helpers.capture', dict(graph=True)))
    if compiled:
        rungs.append(('+ torch.compile of D and G', dict(compiled=True)))
    return rungs


def step_tables(bench):
    """Measure the step alone: its batch of drawn faces is on the device already."""
    for size, width in sizes_of(bench):
        real = notebook.scale(helpers.drawn_faces(BATCH, size, SEED).to(DEVICE) / 255)
        if bench.compiled:
            torch.compiler.reset()       # else it would compile for any size, having met another
        contenders, changes = [], {}
        for name, change in ladder(bench.compiled):
            changes = changes | change
            flags = {flag: value for flag, value in changes.items() if flag != 'tuned'}
            build = functools.partial(loops.build_steps, size, width, real, **flags)
            contenders.append(Contender(name, build, BATCH, tuned='tuned' in changes,
                                        mflop=loops.count_mflop(size, width, **flags),
                                        precision=FAST if 'bfloat16' in changes else PLAIN))
        bench.compare('step', describe(size, width), contenders, WARM_STEPS)


# ------------------------------------------------------------------------------------------- loader


def faces_of(bench):
    """Return (folder, number) of the drawn faces in files, which are written at the first call."""
    n_images = 600 if bench.quick else 6_000
    if bench.tiny:
        n_images = 6 * BATCH
    folder = bench.scratch / 'faces'
    if not folder.exists():
        loops.write_faces(folder, n_images)
    return folder, n_images


def loader_tables(bench):
    """Measure loading alone: all files, again and again."""
    folder, n_images = faces_of(bench)
    for size in sorted({size for size, _ in sizes_of(bench)}):
        ours = loops.notebook_loader(size, folder)
        works = {}
        for n_workers in (0, 4):
            loader = loops.public_loader(folder, size, n_images, n_workers)
            works[f'public: ImageFolder + PIL, {n_workers} workers'] = loops.build_passes(loader)
        works |= {
            'ours: the first decoding, cache written':
                loops.build_calls(loops.decode_first, folder, size),
            'ours: opening the cache':
                loops.build_calls(helpers.decode_folder, folder, size),
            'ours: get_dataloader':
                loops.build_passes(ours),
            'ours: helpers.DeviceLoader, which train uses':
                loops.build_passes(helpers.DeviceLoader(ours, DEVICE)),
            'ours: drawing as many faces by code':
                loops.build_calls(helpers.drawn_faces, n_images, size, SEED)}
        setting = f'JPEGs of 64x64 to {size}x{size}, batch {BATCH}'
        compare_loading(bench, setting, works, n_images)
        if bench.folder:
            measure_folder(bench, size)


def measure_folder(bench, size):
    """Measure the decoding of the user's own images; no cache is left among them."""
    with loops.linked(bench.folder) as fresh:
        with common.silence():
            images, _ = helpers.decode_folder(fresh, size)
        works = {
            'ours: the first decoding, cache written':
                loops.build_calls(loops.decode_first, bench.folder, size),
            'ours: opening the cache':
                loops.build_calls(helpers.decode_folder, fresh, size)}
        setting = f'files of {bench.folder.name}/ to {size}x{size}'
        compare_loading(bench, setting, works, len(images))


def compare_loading(bench, setting, works, n_images):
    contenders = []
    for name, run in works.items():
        contenders.append(Contender(name, lambda run=run: run, n_images, 'passes'))
    bench.compare('loader', setting, contenders, WARM_PASSES)


# -------------------------------------------------------------------------------------------- epoch


def epoch_tables(bench):
    """Measure files to updated weights.

    The start of the workers is in the time, as it is in every epoch of the public loop.
    """
    folder, n_files = faces_of(bench)
    public = [('public loop, 0 workers', 0, False), ('public loop, 4 workers', 4, False)]
    if CUDA:
        public.append(('the same with Adam over lists', 4, True))
    for size, width in sizes_of(bench):
        n_images = images_for_seconds(size, width, n_files, seconds=4)
        contenders = []
        for name, n_workers, foreach in public:
            loader = loops.public_loader(folder, size, n_images, n_workers)
            build = functools.partial(loops.build_public_epochs, size, width, loader, foreach)
            contenders.append(Contender(name, build, n_images, 'passes', tuned=False))
        ours = loops.notebook_loader(size, folder, n_images)
        build = functools.partial(loops.build_epochs, size, width, ours)
        contenders.append(Contender('ours: DeviceLoader, mirroring, captured step, average', build,
                                    n_images, 'passes'))
        bench.compare('epoch', describe(size, width), contenders, WARM_PASSES)
    if CUDA and bench.long and not bench.quick:
        long_run(bench)
    else:
        reason = 'with --quick or --no-long' if CUDA else 'on a CPU'
        print(f'Left out {reason}: {LONG_EPOCHS} epochs of {helpers.FACES_COUNT:,} images.')


def images_for_seconds(size, width, n_files, seconds):
    """Return how many images, in whole batches, the public step takes in so many seconds."""
    real = torch.rand(BATCH, 3, size, size, device=DEVICE)
    build = functools.partial(loops.build_steps, size, width, real)
    step = Contender('', build, BATCH, tuned=False)
    step.warm_up(WARM_STEPS, seconds)
    n_batches = min(max(step.units, 6), n_files // BATCH)
    return n_batches * BATCH


def long_run(bench):
    """Measure a run as long as the exercise asks for, from the first step on."""
    n_images = helpers.FACES_COUNT
    loader = loops.loader_of(helpers.drawn_faces(n_images, 32, SEED), BATCH, drop_last=False)
    build = functools.partial(loops.build_epochs, 32, 32, loader, LONG_EPOCHS)
    whole = Contender('ours, from the first step on', build, LONG_EPOCHS * n_images, 'run')
    setting = f'{describe(32, 32)}, {LONG_EPOCHS} epochs of {n_images} images'
    bench.compare('epoch', setting, [whole], (), repeats=1)
    seconds = whole.images / whole.rates[0]
    print(f'{LONG_EPOCHS} epochs of {n_images:,} images: {seconds:.1f} s')


# ------------------------------------------------------------------------------------------ scaling


def random_images(n_images, size):
    return torch.randint(256, (n_images, 3, size, size), dtype=torch.uint8)


def scaling_tables(bench):
    """Measure ours along one axis at a time; ratios are to the first row of each."""
    batches = [2 ** power for power in range(4, 13 if CUDA else 10)]
    widths = [16, 32, 64, 128] if CUDA else [16, 32, 64]
    axes = dict(batch=batches, size=[32, 64, 128], width=widths)
    if bench.quick:
        axes = dict(batch=[32, 128, 512], size=[32, 64], width=[16, 32])
    if bench.tiny:
        axes = dict(batch=[4, 16], size=[32], width=[4])
    for axis, values in axes.items():
        scale_along(bench, axis, values)
    scale_with_images(bench)
    compare_presets(bench)


def scale_along(bench, axis, values):
    contenders = []
    for value in values:
        point = dict(size=32, width=32, batch=BATCH)
        point[axis] = value
        size, width = point['size'], point['width']
        images = random_images(2 ** 24 // size ** 2, size)
        build = functools.partial(loops.build_fed_steps, size, width, point['batch'], images)
        mflop = loops.count_mflop(size, width, ours=True)
        contenders.append(Contender(describe(**point), build, point['batch'], mflop=mflop,
                                    precision=FAST))
    bench.compare('scaling', f'by {axis}', contenders, WARM_STEPS)


def scale_with_images(bench):
    """Measure whether an image costs more where there are many: in training, and in loading."""
    counts = (10_000, 20_000) if bench.quick else (10_000, 50_000, 100_000, 200_000)
    if bench.tiny:
        counts = (64, 128)
    images = random_images(counts[-1], 32)
    training, loading = [], []
    for count in counts:
        name = f'{count:,} images'
        build = functools.partial(loops.build_fed_steps, 32, 32, BATCH, images[:count])
        training.append(Contender(name, build, BATCH))
        batches = helpers.DeviceLoader(loops.loader_of(images[:count], BATCH), DEVICE)
        build = functools.partial(loops.build_passes, batches)
        loading.append(Contender(name, build, count // BATCH * BATCH, 'passes'))
    setting = f'{describe(32, 32)}, by number of images'
    bench.compare('scaling', setting, training, WARM_STEPS)
    bench.compare('scaling', 'DeviceLoader alone, 32x32, by number of images', loading, (1, 1))


def compare_presets(bench):
    """Measure the steps of the notebook's presets, the gradient penalty included."""
    contenders = []
    for name in ('quick', 'classic', 'full'):
        preset = notebook.PRESETS[name]
        point = preset['img_size'], preset['conv_dim'], preset['batch_size']
        build = functools.partial(loops.build_rounds, *point, preset['penalty'])
        images = preset['batch_size'] * loops.PENALTY_EVERY
        contenders.append(Contender(f'{name}: {describe(*point)}', build, images,
                                    f'rounds of {loops.PENALTY_EVERY} steps'))
    setting = 'by preset, with its penalty'
    bench.compare('scaling', setting, contenders, WARM_STEPS)


# --------------------------------------------------------------------------------------------- main

TABLES = dict(step=step_tables, loader=loader_tables, epoch=epoch_tables, scaling=scaling_tables)


def make_tiny():
    """Make networks, batches and products as small as they get, in this process."""
    globals().update(BATCH=8, SIZES=((32, 4),), PRODUCT=(128, 1))
    loops.BATCH = BATCH
    tiny = dict(img_size=32, conv_dim=4, batch_size=4, penalty=0.01)
    notebook.PRESETS = dict.fromkeys(notebook.PRESETS, tiny)


def command_of(options):
    """Return the command line that the tables name; a folder of the user's is not named."""
    words = []
    if options.tiny:
        words.append('--tiny')
    if options.quick:
        words.append('--quick')
    if options.repeats:
        words += ['--repeats', options.repeats]
    if options.compile:
        words.append('--compile')
    if options.folder:
        words += ['--folder', 'FOLDER']
    if options.only:
        words += ['--only', options.only]
    if options.no_long:
        words.append('--no-long')
    return common.command('bench', *words)


def main(arguments=None):
    parser = common.command_parser(__doc__)
    parser.add_argument('--quick', action='store_true',
                        help='a minute: fewer repeats, files and settings')
    parser.add_argument('--tiny', action='store_true',
                        help='seconds: all as small as it gets, to rehearse; nothing is measured')
    parser.add_argument('--no-long', action='store_true',
                        help=f'on a GPU without the run of {LONG_EPOCHS} epochs')
    parser.add_argument('--repeats', type=int, help='turns of each row (default 5, with --quick 2)')
    parser.add_argument('--compile', action='store_true',
                        help='a row with torch.compile; it starts slowly')
    parser.add_argument('--folder', type=common.existing_folder,
                        help='of images of yours, to be decoded too')
    parser.add_argument('--only', choices=TABLES, help='only this table')
    options = parser.parse_args(arguments)
    os.environ['DCGAN_FAST'] = '1'
    if options.tiny:
        make_tiny()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ['TORCHINDUCTOR_CACHE_DIR'] = f'{scratch}/compiled'        # each starts cold
        bench = Bench(options.into, Path(scratch), command_of(options), options.quick,
                      options.repeats, options.compile, options.folder)
        bench.tiny = options.tiny
        bench.long = not options.no_long
        if bench.tiny:
            bench.seconds = 0.01
        print(helpers.versions())
        torch.manual_seed(SEED)
        if options.only in (None, 'step', 'scaling'):
            measure_peaks(bench)
        for name, measure in TABLES.items():
            if options.only in (None, name):
                measure(bench)


if __name__ == '__main__':
    main()
