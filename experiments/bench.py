"""Measure the public solutions' loop beside ours, on the same networks; it needs no data.

    python -m experiments.bench [--repeats 5] [--compile] [--only step|loader|epoch|scaling]

step      a ladder: the public training step, then one technique more in each row, up to our own
loader    ImageFolder with PIL beside our first decoding, our cache, our loader and DeviceLoader
epoch     from files to updated weights
scaling   our images/s against batch size, image size, width and number of images

Each is a table, assets/bench_<name>.csv; rows of other devices are kept. How rates, ratios and
memory are measured is said at the top of bench_timing.py. The public loop is re-implemented and
runs on the torch at hand; its files are drawn faces of 64x64 in a temporary folder. An epoch on a
CPU is a part of one, of a few seconds: see the column block.

Takes about ten minutes on two cores that do nothing else. --compile adds torch.compile, which on a
CPU takes up to a minute to start for each pair of networks.
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
N_FILES = 6_000                              # drawn faces in files
PRODUCT = (8192, 10) if CUDA else (2048, 1)          # (rows of a square, products in a block)


def describe(size, width, batch=None):
    return f'{size}x{size}, conv_dim {width}, batch {batch or BATCH}'


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


def step_tables(bench, options):
    """Measure the step alone: its batch of drawn faces is on the device already."""
    for size, width in SIZES:
        real = notebook.scale(helpers.drawn_faces(BATCH, size, SEED).to(DEVICE) / 255)
        if options.compile:
            torch.compiler.reset()       # else it would compile for any size, having met another
        contenders, changes = [], {}
        for name, change in ladder(options.compile):
            changes = changes | change
            flags = {flag: value for flag, value in changes.items() if flag != 'tuned'}
            build = functools.partial(loops.build_steps, size, width, real, **flags)
            contenders.append(Contender(name, build, BATCH, tuned='tuned' in changes,
                                        mflop=loops.count_mflop(size, width, **flags),
                                        precision=FAST if 'bfloat16' in changes else PLAIN))
        bench.compare('step', describe(size, width), contenders, WARM_STEPS)


# ------------------------------------------------------------------------------------------- loader


def loader_tables(bench, options):
    """Measure loading alone: all files, again and again."""
    for size in sorted({size for size, _ in SIZES}):
        ours = loops.notebook_loader(size, options.faces)
        works = {}
        for n_workers in (0, 4):
            loader = loops.public_loader(options.faces, size, N_FILES, n_workers)
            works[f'public: ImageFolder + PIL, {n_workers} workers'] = loops.build_passes(loader)
        works |= loops.build_decoding(options.faces, size) | {
            'ours: get_dataloader': loops.build_passes(ours),
            'ours: helpers.DeviceLoader, which train uses':
                loops.build_passes(helpers.DeviceLoader(ours, DEVICE))}
        contenders = [Contender(name, lambda run=run: run, N_FILES, 'passes')
                      for name, run in works.items()]
        setting = f'JPEGs of 64x64 to {size}x{size}, batch {BATCH}'
        bench.compare('loader', setting, contenders, WARM_PASSES)


# -------------------------------------------------------------------------------------------- epoch


def epoch_tables(bench, options):
    """Measure files to updated weights.

    The start of the workers is in the time, as it is in every epoch of the public loop.
    """
    public = [('public loop, 0 workers', 0, False), ('public loop, 4 workers', 4, False)]
    if CUDA:
        public.append(('the same with Adam over lists', 4, True))
    for size, width in SIZES:
        n_images = images_for_seconds(size, width, seconds=4)
        contenders = []
        for name, n_workers, foreach in public:
            loader = loops.public_loader(options.faces, size, n_images, n_workers)
            build = functools.partial(loops.build_public_epochs, size, width, loader, foreach)
            contenders.append(Contender(name, build, n_images, 'passes', tuned=False))
        ours = loops.notebook_loader(size, options.faces, n_images)
        build = functools.partial(loops.build_epochs, size, width, ours)
        contenders.append(Contender('ours: DeviceLoader, mirroring, captured step, average', build,
                                    n_images, 'passes'))
        bench.compare('epoch', describe(size, width), contenders, WARM_PASSES)


def images_for_seconds(size, width, seconds):
    """Return how many images, in whole batches, the public step takes in so many seconds."""
    real = torch.rand(BATCH, 3, size, size, device=DEVICE)
    build = functools.partial(loops.build_steps, size, width, real)
    step = Contender('', build, BATCH, tuned=False)
    step.warm_up(WARM_STEPS, seconds)
    n_batches = min(max(step.units, 6), N_FILES // BATCH)
    return n_batches * BATCH


# ------------------------------------------------------------------------------------------ scaling


def random_images(n_images, size):
    return torch.randint(256, (n_images, 3, size, size), dtype=torch.uint8)


def scaling_tables(bench, options):
    """Measure ours along one axis at a time; ratios are to the first row of each."""
    batches = [2 ** power for power in range(4, 13 if CUDA else 10)]
    widths = [16, 32, 64, 128] if CUDA else [16, 32, 64]
    axes = dict(batch=batches, size=[32, 64, 128], width=widths)
    for axis, values in axes.items():
        contenders = [contender_at(**dict(size=32, width=32, batch=BATCH) | {axis: value})
                      for value in values]
        bench.compare('scaling', f'by {axis}', contenders, WARM_STEPS)
    scale_with_images(bench)


def contender_at(size, width, batch):
    images = random_images(2 ** 24 // size ** 2, size)
    build = functools.partial(loops.build_fed_steps, size, width, batch, images)
    return Contender(describe(size, width, batch), build, batch, precision=FAST,
                     mflop=loops.count_mflop(size, width, ours=True))


def scale_with_images(bench, counts=(10_000, 50_000, 100_000, 200_000)):
    """Measure whether an image costs more where there are many: in training, and in loading."""
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


# --------------------------------------------------------------------------------------------- main

TABLES = dict(step=step_tables, loader=loader_tables, epoch=epoch_tables, scaling=scaling_tables)


def command_of(options):
    """Return the command line that the tables name."""
    words = []
    if options.repeats != 5:
        words += ['--repeats', options.repeats]
    if options.compile:
        words.append('--compile')
    if options.only:
        words += ['--only', options.only]
    return common.command('bench', *words)


def main(arguments=None):
    parser = common.command_parser(__doc__)
    parser.add_argument('--repeats', type=int, default=5, help='turns of each row (default 5)')
    parser.add_argument('--compile', action='store_true',
                        help='a row with torch.compile; it starts slowly')
    parser.add_argument('--only', choices=TABLES, help='only this table')
    options = parser.parse_args(arguments)
    os.environ['DCGAN_FAST'] = '1'
    bench = Bench(options.into, command_of(options), options.repeats)
    print(helpers.versions())
    torch.manual_seed(SEED)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ['TORCHINDUCTOR_CACHE_DIR'] = f'{scratch}/compiled'        # each starts cold
        options.faces = Path(scratch) / 'faces'
        if options.only in (None, 'loader', 'epoch'):
            loops.write_faces(options.faces, N_FILES)
        if options.only in (None, 'step', 'scaling'):
            measure_peaks(bench)
        for name, measure in TABLES.items():
            if options.only in (None, name):
                measure(bench, options)


if __name__ == '__main__':
    main()
