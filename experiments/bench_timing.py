"""How the benchmark measures: contenders take turns, and their medians become rows of a csv.

The contenders of a group take turns, there and back. A rate is the median over the repeats, with
the lowest and the highest; a ratio is taken within each repeat first. Warm-up is not in them: it
has columns of its own, and so has the first call (that of the first row pays for what a process
needs once). Memory is the peak that torch allocated on a GPU for a row; on a CPU it stays empty.
"""
import contextlib
import gc
import math
import statistics
import time

import torch

import helpers
from experiments import common

DEVICE = helpers.choose_device()
CUDA = DEVICE.type == 'cuda'
BFLOAT16 = helpers.has_bfloat16(DEVICE)
PLAIN = 'tf32' if CUDA else 'float32'        # cudnn's convolutions use TF32 unless told not to
FAST = 'bfloat16' if BFLOAT16 else PLAIN
# Units of work in each block of the warm-up. A CUDA graph is recorded in the fourth step.
WARM_STEPS = (1, 19, 20) if CUDA else (1, 1)
WARM_PASSES = (1, 1) if CUDA else (1,)

SEED = 0
RATIOS = ('ratio_above', 'ratio_above_lowest', 'ratio_above_highest',
          'ratio_baseline', 'ratio_baseline_lowest', 'ratio_baseline_highest')
COLUMNS = ('setting', 'row', 'images_per_s', 'lowest', 'highest', *RATIOS, 'block', 'block_s',
           'first_call_s', 'warm_up', 'warm_up_s', 'memory_gib', 'mflop_per_image', 'tflop_per_s',
           'precision', 'share_of_peak', 'repeats', 'seeds', 'images_seen', 'command', 'device',
           'torch')


def timed(function, *arguments):
    """Return the seconds that a function takes, the device's part included."""
    if CUDA:
        torch.cuda.synchronize()
    started = time.perf_counter()
    function(*arguments)
    if CUDA:
        torch.cuda.synchronize()
    return time.perf_counter() - started


@contextlib.contextmanager
def tuned(on):
    """Within this block, cudnn searches for kernels and products use TF32, or neither.

    helpers.capture switches both on for the whole process; the public loop has to do without.
    """
    set_tuning(on)
    try:
        yield
    finally:
        set_tuning(False)


def set_tuning(on):
    if CUDA:
        torch.backends.cudnn.benchmark = on
        torch.set_float32_matmul_precision('high' if on else 'highest')


class Contender:
    """One row of a table: a piece of work whose speed is held against that of other rows.

    name       of the row
    build      gives run(n), a function that does n units of the work
    images     that one unit goes through
    unit       what the units are, in words
    tuned      whether the work may search for kernels and use TF32 in products
    mflop      arithmetic for an image, in millions of operations; None: not counted
    precision  of that arithmetic
    """

    def __init__(self, name, build, images, unit='steps', tuned=True, mflop=None, precision=''):
        self.name = name
        self.build = build
        self.images = images
        self.unit = unit
        self.tuned = tuned
        self.mflop = mflop
        self.precision = precision
        self.rates = []          # images/s, one a repeat
        self.units = 1           # of work in a block, which is timed as a whole
        self.memory = None

    def warm_up(self, counts, seconds):
        """Build, then run blocks of so many units, which do not count.

        The last of them tells how many units make a block of so many seconds.
        """
        gc.collect()
        if CUDA:
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
        self.run = self.build()
        times = [self.time(units) for units in counts]
        self.first_call_s = times[0]
        self.warm_up_units = sum(counts)
        self.warm_up_s = sum(times)
        self.units = math.ceil(seconds * counts[-1] / times[-1])
        if CUDA:
            self.memory = (torch.cuda.max_memory_allocated() - before) / 2 ** 30

    def time(self, units):
        """Return the seconds that so many units take."""
        with tuned(self.tuned):
            return timed(self.run, units)

    def take_turn(self):
        self.rates.append(self.units * self.images / self.time(self.units))

    def full_name(self):
        """Return the name, and what became of a CUDA graph that could not be recorded."""
        captured = getattr(self.run, 'captured', None)
        if getattr(captured, 'broken', False):
            return f'{self.name}, which failed: plain step'
        return self.name


def summary(values):
    """Return (median, lowest, highest)."""
    return statistics.median(values), min(values), max(values)


class Bench:
    """The tables of the benchmark, and how long to measure for them.

    into     folder of the tables
    command  the command line, for the tables
    repeats  turns of each row
    seconds  of a block
    """

    def __init__(self, into, command, repeats=5, seconds=0.5):
        self.into = into
        self.command = command
        self.repeats = repeats
        self.seconds = seconds
        self.peaks = {}                              # precision: TFLOP/s in a large product

    def compare(self, table, setting, contenders, warm_up):
        """Warm the contenders up, let them take turns, print them and save them."""
        for contender in contenders:
            contender.warm_up(warm_up, self.seconds)
        for repeat in range(self.repeats):
            there = repeat % 2 == 0
            for contender in contenders if there else contenders[::-1]:
                contender.take_turn()
        print(f'\n{f"{table} | {setting}":60} {"images/s":>10} {"":20} {"x row above":19} '
              f'{"x first row":20} peak     warm-up')
        rows = []
        above = contenders[0]
        for contender in contenders:
            row = self.row_of(setting, contender, above, contenders[0])
            print_row(row)
            rows.append(row)
            above = contender
        self.save(table, rows)

    def row_of(self, setting, contender, above, first):
        """Return a contender's row for the csv, numbers as numbers."""
        rate, lowest, highest = summary(contender.rates)
        ratios = []
        for other in (above, first):
            pairs = zip(contender.rates, other.rates, strict=True)
            ratios += summary([mine / its for mine, its in pairs])
        tflops = share = None
        if contender.mflop:
            tflops = contender.mflop * rate / 1e6
            share = tflops / self.peaks[contender.precision]
        n_images = contender.units * contender.images
        return dict(
            setting=setting, row=contender.full_name(), images_per_s=rate, lowest=lowest,
            highest=highest, **dict(zip(RATIOS, ratios, strict=True)),
            block=f'{contender.units} {contender.unit} of {contender.images} images',
            block_s=n_images / rate, first_call_s=contender.first_call_s,
            warm_up=f'{contender.warm_up_units} {contender.unit}', warm_up_s=contender.warm_up_s,
            memory_gib=contender.memory, mflop_per_image=contender.mflop, tflop_per_s=tflops,
            precision=contender.precision, share_of_peak=share, repeats=len(contender.rates),
            images_seen=n_images * len(contender.rates))

    def save(self, table, rows):
        """Merge rows into bench_<table>.csv: rows of other devices, settings and names are kept."""
        whence = dict(seeds=SEED, **common.provenance(self.command))
        rows = [whence | {name: in_short(value) for name, value in row.items()} for row in rows]
        path = self.into / f'bench_{table}.csv'
        common.Table(path, COLUMNS, key=('device', 'setting', 'row')).merge(rows)


def in_short(value):
    """Return a number with four digits, as text; anything else as it is."""
    if not isinstance(value, float):
        return value
    return f'{value:.4g}' if value < 1e4 else f'{value:.0f}'


def print_row(row):
    above = ratio_in_words(row, 'ratio_above')
    baseline = ratio_in_words(row, 'ratio_baseline')
    spread = f'[{row["lowest"]:,.0f}, {row["highest"]:,.0f}]'
    share = f'{row["share_of_peak"]:.1%}' if row['share_of_peak'] else ''
    print(f'{row["row"]:60} {row["images_per_s"]:10,.0f} {spread:20} {above:19} {baseline:19}'
          f'{share:>6} {row["warm_up_s"]:8.2f} s', flush=True)


def ratio_in_words(row, name):
    return f'{row[name]:.2f} [{row[f"{name}_lowest"]:.2f}, {row[f"{name}_highest"]:.2f}]'
