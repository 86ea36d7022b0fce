"""On the day a GPU is at hand: try the project on it, measure it, and train on it, in one go.

    python -m experiments.gpu --into PLACE [--folder FOLDER_OF_FACES] [--minutes 9]

1. Does it run? The tests that need a GPU; the notebook as a script in the presets smoke and quick,
   the latter interrupted and resumed; the captured step against the plain one; too large a batch.
2. How fast? The public loop beside ours, the floor of our step, and 50 epochs of 89,931 images.
3. How good? What is left of the time trains the pair of the preset full, and judges it.

The stages run in turn, most important first, each in a process of its own with a share of the time.
One that fails or hangs is reported, and the others go on. What a stage saves goes to those after
it; the last one takes all that is left.

PLACE gets gpu_report.md, written anew after every stage; gpu.csv and bench_epoch.csv; the pictures,
tables and pair of the last stage (see experiments.pictures); and in gpu_logs/ what the stages
printed. Without --folder, faces are drawn by code, and distances mean little.

--rehearse does all of this in miniature, in minutes, on a CPU too: its numbers mean nothing.
"""
import argparse
import contextlib
import functools
import gc
import json
import math
import os
import re
import runpy
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import helpers
from experiments import common, runs
from experiments.common import PROJECT
from experiments.settings import BASE
from machinery import files

# The bench is imported within functions: it looks for the GPU as soon as it is imported.

COLUMNS = ('stage', 'what', 'value', 'lowest', 'highest', 'unit', 'repeats', 'seeds',
           'images_seen', 'command', 'device', 'torch')
REPORT = 'gpu_report.md'
REPEATS = 3                  # of what is timed
AT_MOST = 2                  # times its share: all that a stage may take of the time left over
GRACE = 5                    # seconds that ending a stage may take
N_DRAWN = 6_000              # faces that are drawn where no folder is given
POINTS = [(size, width, batch) for size, width in ((32, 32), (64, 64)) for batch in (16, 128, 512)]
TRAINING_CALL = re.compile(r'^losses = .*train.*$', re.MULTILINE)      # the notebook's own


@dataclass(frozen=True)
class Task:
    """What a stage has to know."""
    into: Path                # folder of the tables
    scratch: Path             # folder for files that need not stay
    folder: Path | None       # of faces; None: drawn ones
    rehearse: bool            # in miniature
    seconds: float = 0        # that it may take

    @property
    def command(self):
        words = ['--into', 'PLACE', *(['--folder', 'FOLDER'] if self.folder else [])]
        return common.command('gpu', *words, *(['--rehearse'] if self.rehearse else []))

    @property
    def points(self):
        """Where speed is measured: (image size, conv_dim, batch) each."""
        return [(32, 4, 8)] if self.rehearse else POINTS

    def faces(self):
        """Return the folder of faces; where none is given, that of drawn ones."""
        return self.folder or self.drawn_faces()

    def drawn_faces(self):
        """Return a folder of drawn faces, written once."""
        from experiments import bench_loops
        folder = self.scratch / 'drawn'
        if not folder.exists():
            bench_loops.write_faces(folder, 240 if self.rehearse else N_DRAWN)
        return folder

    def save(self, stage, what, values, unit='', **more):
        """Keep a row of gpu.csv, and print it: the median of values, lowest and highest."""
        numbers = dict(value=statistics.median(values), lowest=min(values), highest=max(values))
        row = dict(stage=stage, what=what, unit=unit, repeats=len(values), seeds='',
                   images_seen='') | {name: in_short(value) for name, value in numbers.items()}
        results_table(self.into).merge([row | more | common.provenance(self.command)])
        print(f'{what}: {row["value"]} [{row["lowest"]}, {row["highest"]}] {unit}', flush=True)


def results_table(into):
    """Return the table of what the stages measure themselves."""
    return common.Table(into / 'gpu.csv', COLUMNS, ('device', 'stage', 'what'))


def in_short(value):
    """Return a number with five digits, as text."""
    return f'{value:.0f}' if abs(value) >= 1e5 else f'{value:.5g}'


def on_gpu():
    return helpers.choose_device().type == 'cuda'


STAGES = {}                  # {name: (function of a Task, its share in seconds of nine minutes)}


def stage(name, seconds):
    """Make a stage of the function below; its last printed line is the one for the report."""
    def decorate(function):
        STAGES[name] = function, seconds
        return function
    return decorate


# ------------------------------------------------------------------------------------ does it run?


@stage('device', 30)
def device(task):
    """Say what there is; without a GPU all other stages are left out, but in a rehearsal."""
    if not on_gpu() and not task.rehearse:
        raise SystemExit(f'torch {torch.__version__} finds no GPU here; to try the command without '
                         f'one, add --rehearse')
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    if on_gpu():
        memory = torch.cuda.get_device_properties(0).total_memory
    task.save('device', 'memory of the device', [memory / 2 ** 30], 'GiB')
    where = 'a GPU' if on_gpu() else 'NO GPU: what follows runs on the CPU'
    print(f'{where}; {helpers.versions()}, CUDA {torch.version.cuda}')


@stage('the tests that need a GPU', 45)
def gpu_tests(task):
    """Without one they are skipped."""
    import pytest
    os.chdir(PROJECT)
    code = pytest.main(['-q', '-rs', '-p', 'no:cacheprovider', '-m', 'gpu', 'tests'])
    if code != 0:
        raise SystemExit(f'pytest ended with {int(code)}')


@stage('the notebook, smoke', 40)
def notebook_smoke(task):
    """The whole of it, its own tests included."""
    saved = run_notebook(task, 'smoke', 'smoke')
    print(f'The notebook ran to its end: {saved["epoch"]} epochs, {saved["n_steps"]} steps')


@stage('the notebook, interrupted', 35)
def notebook_interrupted(task):
    """It gets Ctrl-C when its first epoch is on the disk."""
    def one_epoch_is_saved():
        with contextlib.suppress(FileNotFoundError):
            return helpers.load_checkpoint()['epoch'] >= 1
        return False
    saved = run_notebook(task, 'quick', quick_preset(task), one_epoch_is_saved)
    if not 1 <= saved['epoch'] < saved['config']['n_epochs']:
        raise SystemExit(f'It was interrupted, and {saved["epoch"]} epochs are saved')
    print(f'Interrupted after epoch {saved["epoch"]}')


@stage('the notebook, resumed', 35)
def notebook_resumed(task):
    """Run again in the same folder, it has to go on to its end."""
    saved = run_notebook(task, 'quick', quick_preset(task), lambda: False)
    folder = task.scratch / 'quick'
    if list(folder.glob(f'{helpers.CHECKPOINTS}-*')):
        raise SystemExit('The interrupted run was set aside and not resumed')
    if saved['epoch'] != saved['config']['n_epochs']:
        raise SystemExit(f'The resumed run ended after {saved["epoch"]} epochs')
    task.save('the notebook', 'images/s of training, preset quick',
              [saved['images_seen'] / saved['seconds']], images_seen=saved['images_seen'])
    print(f'Resumed, to the end of epoch {saved["epoch"]}')


def quick_preset(task):
    if task.rehearse:
        return 'quick conv_dim=4 n_epochs=100 distance_every=100'
    return 'quick n_epochs=12'


def run_notebook(task, name, preset, interrupt_when=None):
    """Run the notebook as a script in a folder of scratch; return the run's last checkpoint.

    interrupt_when  a function that is asked again and again in the training, which gets Ctrl-C when
                    it says yes; the script then ends after its training, and its tests are left out
    """
    cells = json.loads((PROJECT / 'dcgan_faces.ipynb').read_text(encoding='utf-8'))['cells']
    script = '\n\n'.join(''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code')
    call = TRAINING_CALL.search(script)
    if call is None:
        raise ValueError(f'The notebook has no line like {TRAINING_CALL.pattern!r}')
    if interrupt_when:
        script = re.sub(r'^tests\.', '# tests.', script[:call.end()], flags=re.MULTILINE)
    folder = task.scratch / name
    folder.mkdir(exist_ok=True)
    path = folder / 'dcgan_faces.py'
    path.write_text(f'{script}\n', encoding='utf-8')
    os.environ.update(DCGAN_DATA=str(task.faces()), DCGAN_PRESET=preset)
    sys.argv = [str(path)]
    ended = threading.Event()
    if interrupt_when:
        threading.Thread(target=interrupt, args=[interrupt_when, ended], daemon=True).start()
    with contextlib.chdir(folder):
        runpy.run_path(str(path), run_name='__main__')
        ended.set()
        return helpers.load_checkpoint()


def interrupt(when, ended):
    """Wait until when() says yes; then do to this process what Ctrl-C does."""
    while not ended.wait(0.02):
        if when():
            os.kill(os.getpid(), signal.SIGINT)
            return


@stage('the captured step', 30)
def captured_step(task, n_steps=50, tolerance=0.1):
    """Take 50 steps captured and plainly, and plainly once more: how far do they end apart?"""
    outcomes = {name: take_steps(task, name == 'captured', n_steps)
                for name in ('captured', 'plain', 'plain again')}
    plain_figures, plain_weights = outcomes['plain']
    apart = {}
    for name in ('captured', 'plain again'):
        figures, weights = outcomes[name]
        apart[name] = (figures - plain_figures).abs().max().item()
        share = ((weights - plain_weights).norm() / plain_weights.norm()).item()
        what = f'{n_steps} steps, {name} against plain'
        task.save('the captured step', f'{what}: largest difference of figures', [apart[name]])
        task.save('the captured step', f'{what}: weights, share of their norm', [share])
    if not apart['captured'] <= tolerance:
        raise SystemExit(f'figures differ by {apart["captured"]:.3g}, too much')
    print(f'Figures differ by at most {apart["captured"]:.2g}, and by {apart["plain again"]:.2g} '
          f'where both are plain')


def take_steps(task, captured, n_steps):
    """Take steps, each fourth with the penalty; return (figures, weights in one vector)."""
    from experiments import bench_loops as loops
    size, width, batch = (32, 4, 8) if task.rehearse else (64, 64, 16)
    D, G = loops.make_networks(size, width)
    step = loops.captured_step(D, G)
    if not captured:
        step = getattr(step, 'step', step)           # what a graph would record
    numbers = torch.Generator().manual_seed(0)
    faces = helpers.drawn_faces(4 * batch, size).float() / 127.5 - 1
    figures = []
    for number in range(n_steps):
        chosen = torch.randperm(len(faces), generator=numbers)[:batch]
        real = faces[chosen].to(loops.DEVICE, memory_format=torch.channels_last)
        z = torch.randn(batch, loops.Z_SIZE, generator=numbers).to(loops.DEVICE)
        figures.append(step(real, z, objective='bce', penalty=0.1 if number % 4 == 0 else 0))
    if getattr(step, 'broken', False):
        raise SystemExit('There is no recording: see the message above.')
    weights = [weight.detach().flatten() for network in (D, G) for weight in network.parameters()]
    return torch.stack(figures).cpu(), torch.cat(weights).cpu()


@stage('out of memory', 20)
def out_of_memory(task, memory_gib=4):
    """Train with a batch that does not fit, which has to be said, and then with one that does."""
    size, width, batch = (32, 4, 64) if task.rehearse else (64, 64, 16_384)
    if on_gpu():
        total = torch.cuda.get_device_properties(0).total_memory / 2 ** 30
        torch.cuda.set_per_process_memory_fraction(min(1., memory_gib / total))
    config = BASE | dict(img_size=size, conv_dim=width)
    try:
        train_once(config | dict(batch_size=batch))
        raise SystemExit(f'A batch of {batch} fits: nothing was shown')
    except MemoryError as error:
        said = str(error)
    gc.collect()                 # a notebook's functions and its networks hold on to each other
    torch.cuda.empty_cache()
    train_once(config | dict(batch_size=8))
    print(said)


def train_once(config, at_most=8):
    """Train on one grey batch, in a folder that vanishes; a CPU refuses more than 8 images.

    A CPU that really ran out of memory would take it from others.
    """
    def prepare(D, G):
        if not on_gpu():
            D.register_forward_pre_hook(refuse)

    def refuse(network, inputs):
        if len(inputs[0]) > at_most:
            raise torch.OutOfMemoryError(f'a batch of more than {at_most} was refused')
    batch, size = config['batch_size'], config['img_size']
    grey = torch.full((batch, 3, size, size), 128, dtype=torch.uint8)
    loader = runs.loader_of(helpers.ImageDataset(grey), batch, batch)
    with common.scratch_folder():
        runs.train(common.notebook_definitions(), config, loader, 0, 1, prepare=prepare)


# ---------------------------------------------------------------------------------------- how fast?


@stage('the public loop beside ours', 100)
def loops_beside(task):
    """From files to updated weights: rows of bench_epoch.csv."""
    from experiments import bench, bench_loops
    from experiments.bench_timing import Bench, Contender
    timing = Bench(task.into, task.command, REPEATS, seconds=0.01 if task.rehearse else 0.5)
    for size, width, batch in task.points:
        n_images = 3 * batch if task.rehearse else 3_072
        files = bench_loops.public_loader(task.drawn_faces(), size, n_images, 4, batch)
        bytes_ = bench_loops.loader_of(helpers.drawn_faces(n_images, size), batch)
        public = functools.partial(bench_loops.build_public_epochs, size, width, files)
        ours = functools.partial(bench_loops.build_epochs, size, width, bytes_)
        timing.compare('epoch', bench.describe(size, width, batch), [
            Contender('public loop, 4 workers', public, n_images, 'passes', tuned=False),
            Contender('ours', ours, n_images, 'passes')], (1, 1))


class Traffic(TorchDispatchMode):
    """Counts operations, and the bytes that they read and write, as if there were no caches."""

    def __init__(self):
        super().__init__()
        self.n_operations = 0
        self.n_bytes = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        result = function(*arguments, **options)
        returns = [value.alias_info for value in function._schema.returns]
        is_view = any(alias and not alias.is_write for alias in returns)
        if is_view or 'empty' in function._schema.name:
            return result
        self.n_operations += 1
        read = [*tree_leaves(arguments), *tree_leaves(options)]
        written = [] if any(returns) else tree_leaves(result)
        for value, declared in zip(arguments, function._schema.arguments, strict=False):
            if declared.alias_info and declared.alias_info.is_write:
                written += tree_leaves(value)
        self.n_bytes += sum(bytes_of(value) for value in [*read, *written])
        return result


def bytes_of(value):
    """Return how much memory a tensor takes; 0 for anything else."""
    if not torch.is_tensor(value):
        return 0
    # An expanded tensor has more elements than memory.
    return min(value.numel() * value.element_size(), value.untyped_storage().nbytes())


@stage('the floor of a step', 40)
def floor(task):
    """Hold our step against what its arithmetic, its memory and its launches must take.

    The largest of the three is the floor. The bytes are those of a step whose operations pass
    everything through memory; fused ones need fewer. A launch is one operation of such a step.
    """
    from experiments import bench, bench_loops
    from experiments.bench_timing import FAST, timed
    peak = bench.peak_of(FAST) * 1e12
    bandwidth = measure_bandwidth(2 ** 29 if on_gpu() else 2 ** 22)
    launch = seconds_of_launch()
    task.save('floor', f'large products in {FAST}', [peak / 1e12], 'TFLOP/s')
    task.save('floor', 'copies of large tensors', [bandwidth / 1e9], 'GB/s')
    task.save('floor', 'a tiny kernel', [launch * 1e6], 'us')
    for size, width, batch in task.points:
        step, real, z = bench_loops.make_step(size, width, batch)

        def take(n, step=step, real=real, z=z):
            for _ in range(n):
                step(real, z)
        take(2)
        with Traffic() as traffic:
            getattr(step, 'step', step)(real, z)
        take(10)                 # until it is recorded
        n_steps = 1 if task.rehearse else max(1, round(0.3 / max(timed(take, 5) / 5, 1e-6)))
        seconds = [timed(take, n_steps) / n_steps for _ in range(REPEATS)]
        flop = bench_loops.count_mflop(size, width, ours=True) * batch * 1e6
        floors = dict(arithmetic=flop / peak, memory=traffic.n_bytes / bandwidth,
                      launches=traffic.n_operations * launch)
        setting = bench.describe(size, width, batch)
        task.save('floor', f'{setting}: a step', [1e6 * value for value in seconds], 'us')
        for name, value in floors.items():
            task.save('floor', f'{setting}: floor of {name}', [1e6 * value], 'us')
        limit = max(floors, key=floors.get)
        share = floors[limit] / statistics.median(seconds)
        task.save('floor', f'{setting}: share of the floor of {limit}', [share])
    print(f'{setting}: {share:.0%} of what its {limit} would allow')


def measure_bandwidth(n_floats):
    """Return the bytes/s that a large copy reads and writes: the best of ten."""
    from experiments.bench_timing import DEVICE, timed
    source = torch.ones(n_floats, device=DEVICE)
    target = torch.empty_like(source)
    return 8 * n_floats / min(timed(target.copy_, source) for _ in range(10))


def seconds_of_launch(n=1000):
    """Return what a tiny kernel takes in a row of many: in a CUDA graph, or on a CPU as it is."""
    from experiments.bench_timing import DEVICE, timed
    number = torch.zeros(1, device=DEVICE)

    def add():
        for _ in range(n):
            number.add_(1)
    add()
    if not on_gpu():
        return min(timed(add) for _ in range(10)) / n
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        add()
    return min(timed(graph.replay) for _ in range(10)) / n


@stage('fifty epochs', 45)
def fifty_epochs(task):
    """Time 50 epochs of 89,931 images at 32x32, from the first step on, five at a time.

    After each five the seconds of all are projected from them, so that what is cut short is not
    lost. The images are drawn faces, repeated: time does not depend on what they show. Building the
    networks and bringing the images to the device are not in it, warm-up and recording are.
    """
    from experiments import bench_loops
    from experiments.bench_timing import timed
    n_images, width, n_epochs = helpers.FACES_COUNT, 32, 50
    if task.rehearse:
        n_images, width, n_epochs = 300, 4, 10
    few = helpers.drawn_faces(min(2_000, n_images), 32)
    images = few.repeat(math.ceil(n_images / len(few)), 1, 1, 1)[:n_images]
    loader = bench_loops.loader_of(images, bench_loops.BATCH, drop_last=False)
    run = bench_loops.build_epochs(32, width, loader)
    seconds = 0
    for done in range(5, n_epochs + 1, 5):
        seconds += timed(run, 5)
        whole = seconds * n_epochs / done
        task.save('fifty epochs', f'{n_epochs} epochs of {n_images:,} images', [whole], 's',
                  seeds=0, images_seen=done * n_images)
        print(f'{whole:.1f} s, from {done} epochs', flush=True)


# ---------------------------------------------------------------------------------------- how good?


@stage('the pair of full', 120)
def full(task, spare=40):
    """Train the preset full for the time that is left, and make its pictures, tables and pair.

    The epochs are chosen by the speed that was measured, since learning rates fall towards the end;
    if the time is up before, the training is interrupted.
    """
    from experiments import bench, pictures
    ends = time.monotonic() + task.seconds - spare
    n_epochs = epochs_for(task, bench.describe(64, 64, 16), task.seconds - spare)
    preset = f'full n_epochs={n_epochs} distance_every=1'
    if task.rehearse:
        preset = 'full img_size=32 conv_dim=4 n_epochs=2 distance_every=1'
    saved = run_notebook(task, 'full', preset, lambda: time.monotonic() > ends)
    os.symlink(task.faces(), task.scratch / 'full/processed_celeba_small')
    pictures.main([str(task.scratch / 'full'), f'{task.command}, {helpers.versions()}',
                   '--into', str(task.into)])
    history = helpers.load_history(task.scratch / 'full' / helpers.CHECKPOINTS)
    for epoch, ffd, _ in history['distances']:
        seconds = saved['seconds'] * epoch / saved['epoch']
        print(f'epoch {epoch:.0f}, {seconds:.0f} s of training: {ffd:.2f}')
    best = min(ffd for _, ffd, _ in history['distances'])
    task.save('the pair of full', f'distance, {"real" if task.folder else "DRAWN"} faces', [best],
              seeds=saved['config']['seed'], images_seen=saved['images_seen'])
    print(f'Distance {best:.2f} after {saved["seconds"]:.0f} s of training, '
          f'{saved["epoch"]} epochs')


def epochs_for(task, setting, seconds):
    """Return how many epochs of the faces fit into so many seconds, with a distance after each."""
    rate = 2_000                 # images/s, where the loops were not measured
    path = task.into / 'bench_epoch.csv'
    for row in common.read_csv(path)[1] if path.exists() else ():
        if (row['setting'], row['row']) == (setting, 'ours'):
            rate = float(row['images_per_s'])
    n_images = sum(1 for path in task.faces().rglob('*.jpg'))
    return max(2, int(seconds / (n_images / rate + 1)))


# --------------------------------------------------------------------------- the stages, one by one


@dataclass
class Outcome:
    """What became of a stage: ok, failed, stopped or left out."""
    name: str
    state: str
    seconds: float = 0
    output: str = ''

    @property
    def lines(self):
        return [line.rstrip() for line in self.output.splitlines() if line.strip()] or ['']


def run_process(command, log, seconds):
    """Run a command for at most so many seconds, its output into a file; return (state, seconds).

    Its own children end with it.
    """
    started = time.monotonic()
    with open(log, 'wb') as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=PROJECT,
                                   start_new_session=True)
    try:
        state = 'ok' if process.wait(seconds) == 0 else 'failed'
    except subprocess.TimeoutExpired:
        state = 'stopped'
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return state, time.monotonic() - started


def limit_of(number, shares, seconds_left):
    """Return how long a stage may take: its share, and up to as much again of what is left over."""
    left_for_it = seconds_left - sum(shares[number + 1:])
    if number == len(shares) - 1:
        return left_for_it
    return min(left_for_it, AT_MOST * shares[number])


def run_stages(task, minutes):
    """Run the stages in turn, and write the report after each; return their outcomes."""
    ends = time.monotonic() + 60 * minutes
    scale = 60 * minutes / sum(share for _, share in STAGES.values())
    shares = [scale * share for _, share in STAGES.values()]
    logs = task.into / 'gpu_logs'
    logs.mkdir(exist_ok=True)
    outcomes = []
    for number, name in enumerate(STAGES):
        seconds = limit_of(number, shares, ends - GRACE - time.monotonic())
        if outcomes and outcomes[0].state != 'ok':
            outcome = Outcome(name, 'left out', output='it needs the device')
        elif seconds < 1:
            outcome = Outcome(name, 'left out', output='no time was left for it')
        else:
            command = [sys.executable, '-u', '-m', 'experiments.gpu', '--stage', name,
                       '--seconds', f'{seconds:.0f}', '--into', task.into, '--scratch',
                       task.scratch]
            command += ['--folder', task.folder] if task.folder else []
            command += ['--rehearse'] if task.rehearse else []
            log = logs / f'{name.replace(" ", "_").replace(",", "")}.txt'
            state, taken = run_process(command, log, seconds)
            output = log.read_text(encoding='utf-8', errors='replace')
            outcome = Outcome(name, state, taken, output)
        outcomes.append(outcome)
        print(f'{name:28} {outcome.state:8} {outcome.seconds:6.1f} s  {outcome.lines[-1]}',
              flush=True)
        write_report(task, outcomes, minutes)
    return outcomes


def write_report(task, outcomes, minutes):
    """Write the report anew, into the folder of the tables."""
    lines = ['# The project on a GPU', '', f'`{task.command}`', '']
    if task.rehearse:
        lines += ['**A rehearsal in miniature: none of the numbers means anything.**', '']
    if task.folder is None:
        lines += ['**All faces are drawn by code:** distances say nothing of real ones.', '']
    good = sum(outcome.state == 'ok' for outcome in outcomes)
    spent = sum(outcome.seconds for outcome in outcomes) / 60
    lines += [f'{good} of {len(STAGES)} stages are ok; {spent:.1f} of {minutes:g} minutes.', '']
    known = {outcome.name: outcome for outcome in outcomes}
    stages = [known.get(name, Outcome(name, 'waiting')) for name in STAGES]
    lines += table(['stage', '', 'seconds', 'its last line'],
                   [[each.name, each.state, f'{each.seconds:.1f}', each.lines[-1]]
                    for each in stages])
    rows = [[row['stage'], row['what'], f'{row["value"]} {row["unit"]}',
             f'{row["lowest"]}–{row["highest"]}', row['repeats'], row['device']]
            for row in results_table(task.into).read()]
    lines += ['', *table(['stage', '', 'value', 'lowest–highest', 'n', 'device'], rows)]
    for outcome in outcomes:
        if outcome.state in ('failed', 'stopped'):
            lines += ['', f'## {outcome.name}: {outcome.state}', '', '```',
                      *outcome.lines[-25:], '```']
    files.write_bytes(task.into / REPORT, '\n'.join([*lines, '']).encode())


def table(header, rows):
    """Return a table's lines; what would end a cell is replaced."""
    return common.markdown(header, [[cell.replace('|', '/') for cell in row] for row in rows])


def main(arguments=None):
    parser = common.command_parser(__doc__)
    parser.add_argument('--folder', type=common.existing_folder, help='of faces')
    parser.add_argument('--minutes', type=float, default=9, help='for all stages (default 9)')
    parser.add_argument('--rehearse', action='store_true', help='all of it in miniature')
    for name in ('--stage', '--seconds', '--scratch'):       # of a stage's own process
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.set_defaults(into=None)
    options = parser.parse_args(arguments)
    if options.into is None:
        parser.error('--into is missing: where do the results go?')
    if options.stage:
        task = Task(options.into, Path(options.scratch), options.folder, options.rehearse,
                    float(options.seconds))
        os.environ.update(MPLBACKEND='agg', DCGAN_RUN='', DCGAN_START='')
        os.environ.pop('DCGAN_FAST', None)
        function, _ = STAGES[options.stage]
        function(task)
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        task = Task(options.into, Path(scratch), options.folder, options.rehearse)
        outcomes = run_stages(task, options.minutes)
    faults = [outcome.name for outcome in outcomes if outcome.state != 'ok']
    sys.exit(f'not ok: {", ".join(faults)}' if faults else 0)


if __name__ == '__main__':
    main()
