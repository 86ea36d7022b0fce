"""Measure where the time of a training step on a CPU goes, and what would change it.

    python -m experiments.step_time
    python -m experiments.step_time --beside PYTHON    another version of torch, in turns

The notebook's step in its fast form, at 32x32 and conv_dim 32, with the penalty every fourth time,
on one thread, in batches of 8, 16 and 128. step_time.csv has four kinds of rows:

where    the share of each kind of operation, by torch's profiler
kernels  how much of the step is inside oneDNN's own kernels, and which of its implementations serve
what if  the speed of a variant against the step as it is, turn by turn, in processor time
torch    the speed with the torch of another Python against this one's, turn by turn
"""
import collections
import copy
import os
import re
import statistics
import subprocess
import sys
import time

import torch
from torch.profiler import ProfilerActivity, profile

import helpers
from experiments import common
from experiments.steps import STEPS, definitions_with

BATCHES = (8, 16, 128)
N_IMAGES = 640               # a measurement is so many steps that these are seen
REPEATS = 7
PENALTY = 0.04               # 0.01 every fourth step
COLUMNS = ('kind', 'batch', 'name', 'ms_a_step', 'share', 'ratio', 'lowest', 'highest', 'repeats',
           'seeds', 'images_seen', 'command', 'device', 'torch')
KEY = ('kind', 'batch', 'name', 'device')
KINDS = {                    # what the operations of torch are called: what they are for
    'convolution|mkldnn': 'convolutions',
    'batch_norm': 'batch normalisation',
    'relu|threshold|tanh': 'activations',
    'aten::(_to_copy|copy_|to|clone|contiguous)$': 'casts and copies',
    'dam|foreach|zero_grad': 'Adam',
    'mm$|linear': 'matrix products',
    'aten::': 'all other operations',
    '': 'autograd',
}


class Steps:
    """A training step with all that it needs, to be called again and again.

    change    a function that is given the networks, and returns those to be trained by
    notebook  its definitions, which may hold another step
    """

    def __init__(self, batch, penalty=PENALTY, averaged=False, change=None, notebook=None):
        torch.manual_seed(0)
        self.notebook = notebook or common.notebook_definitions()
        with common.silence():
            D, G = self.notebook.build_network(32, 32, 100, 32)
        D.to(memory_format=torch.channels_last)
        G.to(memory_format=torch.channels_last)
        self.G, self.average = G, copy.deepcopy(G) if averaged else None
        optimizers = self.notebook.make_optimizers(D, G, 1e-3, 0.0)
        if change:
            D, G = change(D), change(G)
        self.step = helpers.capture(self.notebook.train_step, D, G, *optimizers)
        real = torch.rand(batch, 3, 32, 32) * 2 - 1
        self.real = real.contiguous(memory_format=torch.channels_last)
        self.penalty = penalty
        self.n_steps = 0
        self.take(8)

    def take(self, n):
        """Take n steps."""
        for _ in range(n):
            penalty = self.penalty if self.n_steps % 4 == 0 else 0
            self.step(self.real, torch.randn(len(self.real), 100), penalty=penalty)
            if self.average:
                self.notebook.update_average(self.average, self.G, 0.999)
            self.n_steps += 1


def milliseconds(steps, n):
    """Return the processor time of a step in milliseconds, the mean of n."""
    started = time.process_time()
    steps.take(n)
    return (time.process_time() - started) / n * 1000


def number_of_steps(batch):
    return max(8, N_IMAGES // batch // 4 * 4)        # every fourth has a penalty


# ------------------------------------------------------------------------------- the kinds of rows


def where_rows(batch):
    """Return a row for each kind of operation, the largest first."""
    steps, n = Steps(batch), number_of_steps(batch)
    plain = statistics.median(milliseconds(steps, n) for _ in range(REPEATS))
    with profile(activities=[ProfilerActivity.CPU]) as record:
        steps.take(n)
    spent = collections.Counter()
    for event in record.key_averages():
        spent[kind_of(event.key)] += event.self_cpu_time_total / n / 1000
    rows = [dict(kind='where', batch=batch, name='the whole step', ms_a_step=f'{plain:.2f}',
                 share='1')]
    everything = spent.total()
    for name, share in spent.most_common():
        rows.append(dict(kind='where', batch=batch, name=name, share=f'{share / everything:.3f}',
                         ms_a_step=f'{plain * share / everything:.2f}'))
    return rows


def kind_of(operation):
    """Return what an operation of torch is for."""
    return next(kind for pattern, kind in KINDS.items() if re.search(pattern, operation))


def kernel_rows(batch):
    """Return rows on oneDNN's kernels, which a child process is asked to name."""
    child = subprocess.run([sys.executable, '-m', 'experiments.step_time', '--verbose', str(batch)],
                           capture_output=True, text=True, check=True, cwd=common.PROJECT,
                           env=dict(os.environ, OMP_NUM_THREADS='1'))
    spent = collections.Counter()
    for line in child.stdout.splitlines():
        if ',exec,' in line:
            fields = line.split(',exec,')[1].split(',')
            spent[implementation(fields[2])] += float(fields[-1]) / number_of_steps(batch)
    rows = [dict(kind='kernels', batch=batch, name="all of oneDNN's", ms_a_step=spent.total())]
    rows += [dict(kind='kernels', batch=batch, name=name, ms_a_step=value)
             for name, value in spent.most_common()]
    return [row | dict(ms_a_step=f'{row["ms_a_step"]:.2f}') for row in rows]


def implementation(name):
    """Return a kernel's name less what differs from layer to layer."""
    return re.sub(r'\+.*', '', name)


def print_kernels(batch):
    """Let oneDNN print each of its calls in a measurement's steps."""
    torch.set_num_threads(1)
    steps = Steps(batch)
    with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
        steps.take(number_of_steps(batch))


def what_if_rows(batch):
    """Return a row for each variant, measured in turns with the step as it is."""
    contenders = {
        'as it is': Steps(batch),
        'with the average of G': Steps(batch, averaged=True),
        'without the penalty': Steps(batch, penalty=0),
        'torch.compile, without the penalty': Steps(batch, penalty=0, change=torch.compile),
        'denormal numbers flushed': Steps(batch),
    }
    for name in STEPS:
        contenders[name] = Steps(batch, notebook=definitions_with(name))
    n = number_of_steps(batch)
    seen = collections.defaultdict(list)
    for _ in range(REPEATS):
        for name, steps in contenders.items():
            torch.set_flush_denormal(name == 'denormal numbers flushed')
            seen[name].append(milliseconds(steps, n))
    torch.set_flush_denormal(False)
    return [row | dict(kind='what if') for row in turns_as_rows(batch, seen)]


def turns_as_rows(batch, seen):
    """Return a row for each contender: how many times as fast as the first it is.

    seen  {name: milliseconds of a step, a number a turn}
    """
    first, *_ = seen.values()
    rows = []
    for name, values in seen.items():
        ratios = [plain / value for plain, value in zip(first, values, strict=True)]
        rows.append(dict(batch=batch, name=name, ms_a_step=f'{statistics.median(values):.2f}',
                         ratio=f'{statistics.median(ratios):.3f}', lowest=f'{min(ratios):.3f}',
                         highest=f'{max(ratios):.3f}'))
    return rows


def version_rows(batch, other):
    """Return rows on this Python's torch and that of another Python, measured in turns."""
    seen = collections.defaultdict(list)
    for _ in range(REPEATS):
        for python in (sys.executable, other):
            child = subprocess.run([python, '-m', 'experiments.step_time', '--time', str(batch)],
                                   capture_output=True, text=True, check=True, cwd=common.PROJECT,
                                   env=dict(os.environ, OMP_NUM_THREADS='1'))
            version, value = child.stdout.split()[-2:]
            seen[f'torch {version}'].append(float(value))
    return [row | dict(kind='torch') for row in turns_as_rows(batch, seen)]


def print_time(batch):
    """Print the version of torch and the milliseconds of a step."""
    torch.set_num_threads(1)
    steps, n = Steps(batch), number_of_steps(batch)
    print(torch.__version__, statistics.median(milliseconds(steps, n) for _ in range(3)))


def main(arguments=None):
    parser = common.command_parser(__doc__)
    parser.add_argument('--batches', type=int, nargs='+', default=BATCHES)
    parser.add_argument('--verbose', type=int, metavar='BATCH', help="only oneDNN's own report")
    parser.add_argument('--time', type=int, metavar='BATCH', help='only the time of a step')
    parser.add_argument('--beside', metavar='PYTHON', help='with another version of torch')
    options = parser.parse_args(arguments)
    if options.verbose:
        print_kernels(options.verbose)
        return
    if options.time:
        print_time(options.time)
        return
    torch.set_num_threads(1)
    table = common.Table(options.into / 'step_time.csv', COLUMNS, KEY)
    for batch in options.batches:
        if options.beside:
            rows = version_rows(batch, options.beside)
            line = common.command('step_time', '--beside', 'PYTHON')
        else:
            rows = where_rows(batch) + kernel_rows(batch) + what_if_rows(batch)
            line = common.command('step_time')
        said = dict(repeats=REPEATS, seeds='0', images_seen=number_of_steps(batch) * batch)
        table.merge([row | said | common.provenance(line) for row in rows])
        for row in rows:
            print(batch, row['kind'], row['name'], row.get('ms_a_step'), row.get('share', ''),
                  row.get('ratio', ''), sep=' | ', flush=True)


if __name__ == '__main__':
    main()
