"""Measure the public solutions' loop beside ours on the same networks, into assets/bench_*.csv. It needs no data.

    python experiments/bench.py [--quick] [--repeats 5] [--compile] [--only step|loader|epoch|scaling]

step      a ladder: the public training step, then one technique more in each row, up to helpers.capture
loader    ImageFolder + PIL with 0 and 4 workers, beside our first decoding, our loader and helpers.Feed
epoch     files to updated weights; as many images as the csv says; on a GPU also 50 epochs of 89,931 images
scaling   images/s of ours against batch size, image size, width and number of images

The rows of a group take turns, there and back. A rate is the median over the repeats with the lowest and highest; a ratio
is taken within each repeat first. Warm-up is not in them: it has columns of its own, and so has its first call (that of the
first row pays for what a process needs once). The public loop is re-implemented and runs on the torch at hand; its files
are drawn faces of 64x64 in a temporary folder. An epoch on a CPU is a part of one, of a few seconds: see the column block.
Memory is the peak that torch allocated on a GPU for that row; on a CPU it stays empty. Rows of other devices are kept.
Takes about ten minutes on two cores that do nothing else, with --quick (32x32 mostly, two repeats) about one. --compile adds
torch.compile, which on a CPU takes up to a minute to start for each pair of networks.
"""
import argparse
import contextlib
import copy
import csv
import functools
import gc
import io
import itertools
import math
import os
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms
from torchvision.datasets import ImageFolder

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE))
import helpers  # noqa: E402

SETTINGS = (32, 32), (32, 64), (64, 64)              # image size, conv_dim
BATCH, Z_SIZE, PRINT_EVERY, SEED = 128, 100, 50, 0
EPOCHS, FACES = 50, helpers.FACES_COUNT
RATIOS = [f'ratio_{of}{end}' for of in ('above', 'baseline') for end in ('', '_lowest', '_highest')]
COLUMNS = ['setting', 'row', 'images_per_s', 'lowest', 'highest', *RATIOS, 'block', 'block_s', 'first_call_s', 'warm_up',
           'warm_up_s', 'memory_gib', 'mflop_per_image', 'tflop_per_s', 'precision', 'share_of_peak', 'repeats', 'seeds',
           'images_seen', 'command', 'device', 'torch']
warnings.filterwarnings('ignore', 'This DataLoader will create 4 worker')        # the public solutions ask for them
notebook = helpers.load_definitions(HERE / 'dcgan_faces.ipynb')
device = helpers.choose_device()
CUDA, BFLOAT16 = device.type == 'cuda', helpers.has_bfloat16(device)
PLAIN = 'tf32' if CUDA else 'float32'                # cudnn's convolutions use TF32 unless told not to
FAST = 'bfloat16' if BFLOAT16 else PLAIN
WARM_STEPS, WARM_PASSES = ((1, 19, 20), (1, 1)) if CUDA else ((1, 1), (1,))   # a CUDA graph is recorded in the fourth step


def public_loader(folder, size, n_images, workers):
    """Every image is opened, resized and turned to float32 anew in every epoch."""
    images = ImageFolder(folder, transforms.Compose([transforms.Resize(size), transforms.ToTensor()]))
    return DataLoader(Subset(images, range(n_images)), BATCH, shuffle=True, num_workers=workers)


def public_step(D, G, d_optimizer, g_optimizer, real, detach=False, once=False, on_device=False):
    """One step as the public solutions take it, in our words; each flag mends one thing (once needs detach)."""
    def loss(logits, label):
        labels = torch.full((len(real),), label, device=real.device if on_device else 'cpu').to(real.device)
        return torch.nn.BCEWithLogitsLoss()(logits.squeeze(), labels)

    def pictures():
        if on_device:
            return G(torch.rand(len(real), Z_SIZE, device=real.device) * 2 - 1)
        return G(torch.from_numpy(np.random.uniform(-1, 1, (len(real), Z_SIZE))).float().to(real.device))

    d_optimizer.zero_grad()
    real_loss, fake = loss(D(real), 1.), pictures()
    d_loss = real_loss + loss(D(fake.detach() if detach else fake), 0.)
    d_loss.backward()
    d_optimizer.step()

    g_optimizer.zero_grad()
    g_loss = loss(D(fake if once else pictures()), 1.)
    g_loss.backward()
    g_optimizer.step()
    return d_loss, g_loss


def timed(function, *arguments):
    """Seconds that function takes, the device's part included."""
    wait = torch.cuda.synchronize if CUDA else int
    wait()
    started = time.perf_counter()
    function(*arguments)
    wait()
    return time.perf_counter() - started


def tune(on):
    """cudnn's search for kernels and TF32 in products, which helpers.capture switches on for the whole process."""
    if CUDA:
        torch.backends.cudnn.benchmark = on
        torch.set_float32_matmul_precision('high' if on else 'highest')


class Row:
    """One row of a table. build() gives run(n), which does n units of work on so many images each."""

    def __init__(self, name, build, images, unit='steps', tuned=True, mflop=None, precision=''):
        self.name, self.build, self.images, self.unit, self.tuned = name, build, images, unit, tuned
        self.mflop, self.precision, self.rates, self.units, self.memory = mflop, precision, [], 1, None

    def time(self, units):
        tune(self.tuned)
        return timed(self.run, units)

    def warm_up(self, counts, seconds):
        """Run blocks of that many units, which do not count; the last tells how many make a block of so many seconds."""
        gc.collect()
        if CUDA:
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
        self.run = self.build()
        times = [self.time(units) for units in counts]
        self.warm = [(times or [0])[0], sum(counts), sum(times)]
        if counts:
            self.units = math.ceil(seconds * counts[-1] / times[-1])
        if CUDA:
            self.memory = (torch.cuda.max_memory_allocated() - before) / 2 ** 30


class Bench:
    """The tables: how long to measure, the device's peaks, the faces in files."""

    def __init__(self, arguments, folder):
        self.quick, self.compile, self.folder, self.peaks = arguments.quick, arguments.compile, folder, {}
        self.repeats = arguments.repeats or (2 if self.quick else 5)
        self.seconds, self.n_files = (.2, 600) if self.quick else (.5, 6_000)
        self.settings = SETTINGS[:1] if self.quick else SETTINGS

    def compare(self, table, setting, rows, warm, repeats=None):
        """Warm the rows up, let them take turns, print and save them."""
        for row in rows:
            row.warm_up(warm, self.seconds)
        for repeat in range(repeats or self.repeats):
            for row in rows[::-1] if repeat % 2 else rows:
                row.rates.append(row.units * row.images / row.time(row.units))
        tune(False)
        print(f'\n{f"{table} | {setting}":60} {"images/s":>10} {"":20} {"x row above":19} {"x first row":20} peak',
              '    warm-up')
        self.save(table, [self.cells(setting, row, above, rows[0]) for above, row in zip(rows[:1] + rows, rows)])

    def cells(self, setting, row, above, first):
        """Print a row; return it as a dict for the csv."""
        turns = [row.rates] + [[mine / its for mine, its in zip(row.rates, other.rates)] for other in (above, first)]
        (rate, lowest, highest), *ratios = [(statistics.median(values), min(values), max(values)) for values in turns]
        tflops = row.mflop * rate / 1e6 if row.mflop else None
        share = tflops / self.peaks[row.precision] if tflops else None
        name = row.name + ', which failed: plain step' * getattr(getattr(row.run, 'captured', None), 'broken', False)
        shown = ['{:.2f} [{:.2f}, {:.2f}]'.format(*ratio) for ratio in ratios]
        print(f'{name:60} {rate:10,.0f} {f"[{lowest:,.0f}, {highest:,.0f}]":20} {shown[0]:19} {shown[1]:19}'
              f'{f"{share:.1%}" if share else "":>6} {row.warm[2]:8.2f} s', flush=True)
        return dict(zip(RATIOS, ratios[0] + ratios[1])) | dict(
            setting=setting, row=name, images_per_s=rate, lowest=lowest, highest=highest,
            block=f'{row.units} {row.unit} of {row.images} images', block_s=row.units * row.images / rate,
            first_call_s=row.warm[0], warm_up=f'{row.warm[1]} {row.unit}', warm_up_s=row.warm[2], memory_gib=row.memory,
            mflop_per_image=row.mflop, tflop_per_s=tflops, precision=row.precision, share_of_peak=share,
            repeats=len(row.rates), images_seen=row.images * row.units * len(row.rates))

    def save(self, table, rows):
        """Put rows into the table's csv, in place of those of the same device, setting and name."""
        path, kept = HERE / f'assets/bench_{table}.csv', {}
        if path.exists():
            with open(path, newline='') as file:
                kept = {(row['device'], row['setting'], row['row']): row for row in csv.DictReader(file)}
        shared = dict(seeds=SEED, command='python ' + ' '.join(sys.argv), device=helpers.device_name(),
                      torch=torch.__version__)
        for row in rows:
            kept[shared['device'], row['setting'], row['row']] = shared | {
                name: value if not isinstance(value, float) else f'{value:.4g}' if value < 1e4 else f'{value:.0f}'
                for name, value in row.items()}
        with open(path, 'w', newline='') as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(kept.values())


def measure_peaks(bench):
    """The device's best at a large product, to hold the arithmetic of a step against."""
    size, times = (8192, 10) if CUDA else (2048, 1)
    for precision in dict.fromkeys(('float32', PLAIN, FAST)):
        square = torch.randn(size, size, device=device).to(torch.bfloat16 if precision == 'bfloat16' else torch.float32)
        tune(precision == 'tf32')
        seconds = min(timed(lambda: [square @ square for _ in range(times)]) for _ in range(10)) / times
        bench.peaks[precision] = 2 * size ** 3 / seconds / 1e12
    tune(False)
    bench.save('step', [dict(setting='the device', row=f'product of {size}x{size}, {precision}, best of 10', repeats=10,
                             block=f'{times} products', tflop_per_s=peak, precision=precision)
                        for precision, peak in bench.peaks.items()])
    print('Large products:', ', '.join(f'{peak:.3g} TFLOP/s in {name}' for name, peak in bench.peaks.items()))


def ladder(compiled):
    """(technique, what it changes) for each row; a row keeps what the rows above it have changed."""
    return [row[:2] for row in (
        ('the public step', dict()),
        ("+ Adam over lists of tensors, by now torch's default", dict(adam='foreach'), CUDA),
        ("+ detach: D's half stops at the picture", dict(detach=True)),
        ('+ one forward pass of G for both halves', dict(once=True)),
        ('+ noise and labels made on the device', dict(on_device=True)),
        ("+ G's half leaves out D's weights: our train_step", dict(ours=True)),
        ('+ fused Adam', dict(adam='fused')),
        ('+ channels_last', dict(channels_last=True)),
        ('+ search for kernels, TF32 in all products', dict(tuned=True), CUDA),
        ('+ bfloat16' if BFLOAT16 else '+ helpers.capture: float32 here', dict(bfloat16=True), BFLOAT16 or not CUDA),
        ('+ CUDA graph: helpers.capture', dict(graph=True), CUDA),
        ('+ torch.compile of D and G', dict(compile=True), compiled)) if row[2:] != (False,)]


def make_networks(size, width, device=device, channels_last=True):
    """D and G, with the same weights at every call."""
    torch.manual_seed(SEED)
    np.random.seed(SEED)
    networks = notebook.Discriminator(width, size), notebook.Generator(Z_SIZE, width, size)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return [network.apply(notebook.weights_init_normal).to(device, memory_format=memory_format) for network in networks]


def public_optimizers(D, G, foreach=False):
    return [torch.optim.Adam(network.parameters(), 2e-4, (.5, .999), foreach=foreach) for network in (D, G)]


def step_builder(size, width, real, adam='loop', detach=False, once=False, on_device=False, ours=False, channels_last=False,
                 tuned=False, bfloat16=False, graph=False, compile=False):
    """run(n) for n training steps on one batch, beginning with networks of the same weights."""
    D, G = make_networks(size, width, real.device, channels_last)
    optimizers = notebook.make_optimizers(D, G) if adam == 'fused' else public_optimizers(D, G, adam == 'foreach')
    if compile:
        D.compile(dynamic=False)
        G.compile(dynamic=False)
    step = functools.partial(notebook.train_step, D, G, *optimizers)
    if bfloat16 or graph:
        captured = helpers.capture(notebook.train_step, D, G, *optimizers)
        step = captured if graph else getattr(captured, 'step', captured)        # .step: what a graph would record
    if channels_last:
        real = real.contiguous(memory_format=torch.channels_last)
    numbers = itertools.count()

    def run(n_steps):
        for number in itertools.islice(numbers, n_steps):
            if ours:
                losses = step(real, torch.randn(len(real), Z_SIZE, device=real.device))
            else:
                losses = public_step(D, G, *optimizers, real, detach, once, on_device)
            if number % PRINT_EVERY == 0:
                [loss.item() for loss in losses[:2]]
    run.captured = captured if graph else None
    return run


def count_mflop(size, width, batch=4, **changes):
    """Arithmetic of a step for each image, in millions; a multiplication and its addition count as two."""
    chosen = {name: value for name, value in changes.items() if name in ('detach', 'once', 'ours')}
    run = step_builder(size, width, torch.rand(batch, 3, size, size), **chosen)
    with FlopCounterMode(display=False) as counter:
        run(1)
    return counter.get_total_flops() / batch / 1e6


def describe(size, width, batch=BATCH):
    return f'{size}x{size}, conv_dim {width}, batch {batch}'


def step_tables(bench):
    """The step alone: its batch of drawn faces is on the device already."""
    for size, width in bench.settings:
        real = notebook.scale(helpers.drawn_faces(BATCH, size, SEED).to(device) / 255)
        if bench.compile:
            torch.compiler.reset()                   # or it would compile for any size, having met another before
        rows, changes = [], {}
        for name, change in ladder(bench.compile):
            changes = changes | change
            rows.append(Row(name, functools.partial(step_builder, size, width, real, **changes), BATCH,
                            tuned='tuned' in changes, mflop=count_mflop(size, width, **changes),
                            precision=FAST if 'bfloat16' in changes else PLAIN))
        bench.compare('step', describe(size, width), rows, WARM_STEPS)


def write_faces(folder, n_images):
    """Drawn faces as JPEGs of 64x64, in the layout that ImageFolder asks for."""
    (folder / 'celeba').mkdir(parents=True)
    for number, image in enumerate(helpers.drawn_faces(n_images, 64, SEED).permute(0, 2, 3, 1).numpy()):
        Image.fromarray(image).save(folder / f'celeba/{number:06}.jpg', quality=92)


def quietly(function, *arguments):
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*arguments)


def decode_first(folder, size):
    """Decode through a link, so that no cache is there yet, and write the cache."""
    with tempfile.TemporaryDirectory() as fresh:
        os.symlink(folder, Path(fresh) / 'faces')
        quietly(helpers.decode_folder, fresh, size)


def passes(work, n_passes):
    for _ in range(n_passes):
        work() if callable(work) else [None for _ in work]


def loader_tables(bench):
    """Loading alone: all files, again and again."""
    for size in sorted({size for size, _ in bench.settings}):
        ours = quietly(notebook.get_dataloader, BATCH, size, bench.folder)
        works = {f'public: ImageFolder + PIL, {workers} workers': public_loader(bench.folder, size, bench.n_files, workers)
                 for workers in (0, 4)}
        works |= {'ours: the first decoding, cache written': functools.partial(decode_first, bench.folder, size),
                  'ours: opening the cache': functools.partial(quietly, helpers.decode_folder, bench.folder, size),
                  'ours: get_dataloader': ours,
                  'ours: helpers.Feed, which train uses': helpers.Feed(ours, device)}
        rows = [Row(name, lambda work=work: functools.partial(passes, work), bench.n_files, 'passes')
                for name, work in works.items()]
        bench.compare('loader', f'JPEGs of 64x64 to {size}x{size}, batch {BATCH}', rows, WARM_PASSES)


def epochs_builder(size, width, loader, ours=True, n_epochs=1, foreach=False):
    """run(n) for n times n_epochs epochs: the public loop, or the notebook's but for its files.

    Ours mirrors images and averages weights, as the public loop does not.
    """
    D, G = make_networks(size, width, channels_last=ours)
    if ours:
        average, optimizers, feed = copy.deepcopy(G), notebook.make_optimizers(D, G), helpers.Feed(loader, device)
        captured = helpers.capture(notebook.train_step, D, G, *optimizers)
    else:
        optimizers, feed = public_optimizers(D, G, foreach), loader

    def train_on(images):
        if not ours:
            return public_step(D, G, *optimizers, notebook.scale(images[0]).to(device))
        z = torch.randn(len(images), Z_SIZE, device=device)
        figures = captured(notebook.random_flip(notebook.scale(images)), z)
        notebook.update_average(average, G, .999)
        return figures

    def run(n):
        for _ in range(n * n_epochs):
            for number, images in enumerate(feed):
                losses = train_on(images)
                if number % PRINT_EVERY == 0:
                    [loss.item() for loss in losses[:2]]
    return run


def epoch_tables(bench):
    """Files to updated weights. The start of the workers is in the time, as it is in every epoch of the public loop."""
    for size, width in bench.settings:
        real = torch.rand(BATCH, 3, size, size, device=device)
        step = Row('', functools.partial(step_builder, size, width, real), BATCH, tuned=False)
        step.warm_up(WARM_STEPS, 4)                  # as many batches as the public step can take in 4 s
        n_images = min(max(step.units, 6), bench.n_files // BATCH) * BATCH
        ours = quietly(notebook.get_dataloader, BATCH, size, bench.folder, 'faces', n_images)
        rows = []
        for name, workers, foreach in (('public loop, 0 workers', 0, False), ('public loop, 4 workers', 4, False),
                                       ('the same with Adam over lists', 4, True))[:3 if CUDA else 2]:
            loader = public_loader(bench.folder, size, n_images, workers)
            rows.append(Row(name, functools.partial(epochs_builder, size, width, loader, ours=False, foreach=foreach),
                            n_images, 'passes', tuned=False))
        rows.append(Row('ours: Feed, mirroring, captured step, average',
                        functools.partial(epochs_builder, size, width, ours), n_images, 'passes'))
        bench.compare('epoch', describe(size, width), rows, WARM_PASSES)
    if not CUDA or bench.quick:
        print(f'Left out {"with --quick" if CUDA else "on a CPU"}: {EPOCHS} epochs of {FACES:,} images.')
        return
    loader = loader_of(helpers.drawn_faces(FACES, 32, SEED), BATCH, drop_last=False)
    build = functools.partial(epochs_builder, 32, 32, loader, n_epochs=EPOCHS)
    row = Row('ours, from the first step on', build, EPOCHS * FACES, 'run')
    bench.compare('epoch', f'{describe(32, 32)}, {EPOCHS} epochs of {FACES} images', [row], (), repeats=1)
    print(f'{EPOCHS} epochs of {FACES:,} images: {row.images / row.rates[0]:.1f} s')


def loader_of(images, batch, drop_last=True):
    images = helpers.ImageDataset(images, torch.zeros(len(images), dtype=torch.int64))
    return DataLoader(images, batch, shuffle=True, drop_last=drop_last, collate_fn=images.collate)


def fed_builder(size, width, batch, images):
    """run(n) for n steps of ours on what Feed gives, epoch after epoch."""
    D, G = make_networks(size, width)
    step = helpers.capture(notebook.train_step, D, G, *notebook.make_optimizers(D, G))
    batches = itertools.chain.from_iterable(itertools.repeat(helpers.Feed(loader_of(images, batch), device)))

    def run(n_steps):
        for real in itertools.islice(batches, n_steps):
            step(notebook.scale(real), torch.randn(batch, Z_SIZE, device=device))
    return run


def scaling_tables(bench):
    """Ours along one axis at a time, on random bytes; the first row of a group is the baseline of its ratios."""
    def random_images(n_images, size):
        return torch.randint(256, (n_images, 3, size, size), dtype=torch.uint8)

    axes = dict(batch=(32, 128, 512) if bench.quick else [2 ** i for i in range(4, 13 if CUDA else 10)],
                size=(32, 64) if bench.quick else (32, 64, 128),
                width=(16, 32) if bench.quick else (16, 32, 64, 128)[:4 if CUDA else 3])
    for axis, values in axes.items():
        rows = []
        for value in values:
            size, width, batch = (dict(size=32, width=32, batch=BATCH) | {axis: value}).values()
            images = random_images(2 ** 24 // size ** 2, size)
            rows.append(Row(describe(size, width, batch), functools.partial(fed_builder, size, width, batch, images), batch,
                            mflop=count_mflop(size, width, ours=True), precision=FAST))
        bench.compare('scaling', f'by {axis}', rows, WARM_STEPS)
    counts = (10_000, 20_000) if bench.quick else (10_000, 50_000, 100_000, 200_000)
    images = random_images(counts[-1], 32)
    rows = [Row(f'{count:,} images', functools.partial(fed_builder, 32, 32, BATCH, images[:count]), BATCH)
            for count in counts]
    bench.compare('scaling', f'{describe(32, 32)}, by number of images', rows, WARM_STEPS)
    feeds = {count: helpers.Feed(loader_of(images[:count], BATCH), device) for count in counts}
    rows = [Row(f'{count:,} images', lambda feed=feed: functools.partial(passes, feed), count // BATCH * BATCH, 'passes')
            for count, feed in feeds.items()]
    bench.compare('scaling', 'Feed alone, 32x32, by number of images', rows, (1, 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--quick', action='store_true', help='a minute: fewer repeats, files and settings')
    parser.add_argument('--repeats', type=int, help='turns of each row (default 5, with --quick 2)')
    parser.add_argument('--compile', action='store_true', help='a row with torch.compile; it starts slowly')
    parser.add_argument('--only', choices=('step', 'loader', 'epoch', 'scaling'), help='only these tables')
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(DCGAN_FAST='1', TORCHINDUCTOR_CACHE_DIR=f'{folder}/compiled')      # each first call starts cold
        bench = Bench(arguments, Path(folder) / 'faces')
        if arguments.only in (None, 'loader', 'epoch'):
            write_faces(bench.folder, bench.n_files)
        print(helpers.versions())
        torch.manual_seed(SEED)
        if arguments.only in (None, 'step', 'scaling'):
            measure_peaks(bench)
        for name, tables in dict(step=step_tables, loader=loader_tables, epoch=epoch_tables, scaling=scaling_tables).items():
            if arguments.only in (None, name):
                tables(bench)


if __name__ == '__main__':
    main()
