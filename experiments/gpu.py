"""On the day a GPU is at hand: run the project on it, measure it, and train on it, in one go.

    python -m experiments.gpu [--folder FOLDER_OF_FACES] [--into PLACE] [--minutes 25]

1. Does it run? Tests, the notebook, an interrupted run, too large a batch, a replayed graph.
2. How fast? 50 epochs of 89,931 images, the floor of a step, and the tables of experiments.bench.
3. How good? The study's main rows with three seeds, and the time to each distance.

The stages run one after the other, each in a process of its own and with a share of the time. One
that fails or hangs is reported, and the others go on. What is left over goes to the stages that
follow; the last one, time to distance, takes all that is left.

It leaves gpu_report.md, which is written anew after every stage, gpu.csv, the tables of bench and
study, and in gpu_logs/ what the stages printed. Where nvidia-smi is, power and clocks are sampled
beside each stage. Without --folder, faces are drawn by code, and distances mean little.

--rehearse does all of this in miniature, in a minute or two, on a CPU too; without --into its
tables vanish.
"""
import importlib
import json
import multiprocessing
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from experiments import common, gpu_report
from experiments.gpu_checks import Task, save
from experiments.gpu_report import Outcome

# Imported once, by the process that the stages of a rehearsal are forked from.
PRELOADED = ['matplotlib.pyplot', 'torch', 'torch_fidelity', 'torch.utils.flop_counter',
             'torchvision.datasets']
AT_MOST = 2                  # times its share: all that a stage may take of the time left over
GRACE = 5                    # seconds to end in peace
SAMPLED = {'power.draw': 'W', 'clocks.sm': 'MHz', 'clocks.mem': 'MHz', 'temperature.gpu': 'C',
           'utilization.gpu': '%'}


@dataclass(frozen=True)
class Stage:
    """A function of a Task, 'module:name', and its share of the time in seconds of 25 minutes."""
    name: str
    function: str
    share: float
    needed: bool = False     # where it fails, the others are left out


def checks(name, function, share):
    return Stage(name, f'experiments.gpu_checks:{function}', share)


def measures(name, function, share):
    return Stage(name, f'experiments.gpu_measures:{function}', share)


STAGES = [
    Stage('device', 'experiments.gpu_checks:device', 60, needed=True),
    Stage('a replayed graph', 'experiments.gpu_graph:graph', 70),
    checks('the CUDA tests', 'cuda_tests', 90),
    checks('the notebook, smoke', 'notebook_smoke', 60),
    checks('the notebook, interrupted', 'notebook_interrupted', 60),
    checks('the notebook, resumed', 'notebook_resumed', 90),
    checks('out of memory', 'out_of_memory', 45),
    measures('fifty epochs', 'fifty_epochs', 150),
    Stage('the floor of a step', 'experiments.gpu_floor:floor', 70),
    measures('bench: step', 'bench_step', 140),
    measures('bench: epoch', 'bench_epoch', 140),
    measures('bench: scaling', 'bench_scaling', 110),
    measures('bench: loader', 'bench_loader', 70),
    measures('the study', 'study_rows', 185),
    measures('summary of the study', 'study_summary', 25),
    measures('time to distance', 'time_to_distance', 135),
]


# ---------------------------------------------------------------------------------------- a stage


def work(stage, task, log):
    """Do a stage's work in its own process, whose output goes into a file."""
    os.setsid()                                   # its own children end with it
    with open(log, 'wb') as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)   # what a killed stage has said is not lost
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Loaders start their workers as in a process of their own: the forkserver's way takes seconds.
    multiprocessing.set_start_method(None, force=True)
    os.environ['MPLBACKEND'] = 'agg'
    for name in ('DCGAN_DATA', 'DCGAN_PRESET', 'DCGAN_FAST'):
        os.environ.pop(name, None)                # the stages have the say
    module, _, name = stage.function.partition(':')
    try:
        getattr(importlib.import_module(module), name)(task)
    except Exception:
        traceback.print_exc()
        raise SystemExit(1) from None


def run_stage(stage, task, seconds):
    """Run a stage for at most so many seconds; return its Outcome."""
    log = task.into / 'gpu_logs' / f'{stage.name.replace(":", "").replace(" ", "_")}.txt'
    log.parent.mkdir(exist_ok=True)
    log.write_text('')
    # Forked processes start faster, but on the day itself no process may owe anything to another.
    context = multiprocessing.get_context('forkserver' if task.rehearse else 'spawn')
    process = context.Process(target=work, args=(stage, task, log))
    started = time.perf_counter()
    process.start()
    try:
        process.join(seconds)
        ended = not process.is_alive()
    finally:
        end(process)
    taken = time.perf_counter() - started
    state = 'ok' if process.exitcode == 0 else 'failed'
    output = log.read_text(encoding='utf-8', errors='replace')
    if not ended:
        state = 'stopped'
        output += f'\nstopped after {taken:.0f} s; the last it said: {last_line(output)}'
    elif state == 'failed' and not output.strip():
        output = f'it ended with {process.exitcode}'
    return Outcome(stage.name, state, taken, output)


def last_line(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else 'nothing'


def end(process):
    """End a process and all of its children: in peace if it can, by force after some seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            if process.is_alive():                # it has no group of its own yet
                process.kill()
        process.join(GRACE)


# --------------------------------------------------------------------------------- power and clocks


class Sampler:
    """Within this block nvidia-smi is asked twice a second; where there is none, nothing is."""

    def __init__(self, path):
        self.path = path
        self.process = None

    def __enter__(self):
        program = shutil.which('nvidia-smi')
        self.path.write_text('')
        if program:
            chosen = os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',')[0] or '0'
            with open(self.path, 'wb') as file:
                self.process = subprocess.Popen(
                    [program, f'--id={chosen}', f'--query-gpu={",".join(SAMPLED)}',
                     '--format=csv,noheader,nounits', '--loop-ms=500'],
                    stdout=file, stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.kill()
            self.process.wait()

    def rows(self):
        """Return a row for each quantity that was sampled, without its provenance."""
        columns = {name: [] for name in SAMPLED}
        for line in self.path.read_text(errors='replace').splitlines():
            for name, text in zip(SAMPLED, line.split(','), strict=False):
                try:
                    columns[name].append(float(text))
                except ValueError:                # '[N/A]', or a line that was cut short
                    continue
        rows = []
        for name, values in columns.items():
            if values:
                rows.append(dict(what=f'nvidia-smi: {name}', value=statistics.median(values),
                                 lowest=min(values), highest=max(values), unit=SAMPLED[name],
                                 repeats=len(values)))
        return rows


# -------------------------------------------------------------------------------------- all stages


def limit_of(number, stages, seconds_left, scale):
    """Return how long a stage may take: its share, and up to as much again of what is left over."""
    left_for_it = seconds_left - scale * sum(stage.share for stage in stages[number + 1:])
    if number == len(stages) - 1:
        return left_for_it
    return min(left_for_it, AT_MOST * scale * stages[number].share)


def run_stages(stages, task, minutes):
    """Run the stages in turn, and write the report after each; return their outcomes."""
    deadline = time.perf_counter() + 60 * minutes
    # The seconds that ending a stage by force may take are not shared out.
    scale = (60 * minutes - 2 * GRACE) / sum(stage.share for stage in stages)
    outcomes = []
    for number, stage in enumerate(stages):
        seconds = limit_of(number, stages, deadline - 2 * GRACE - time.perf_counter(), scale)
        missed = [earlier.name for earlier, outcome in zip(stages, outcomes, strict=False)
                  if earlier.needed and outcome.state == 'failed']
        if missed:
            outcome = Outcome(stage.name, 'left out', 0, f'it needs the stage {missed[0]!r}')
        elif seconds < 1:
            outcome = Outcome(stage.name, 'left out', 0, 'no time was left for it')
        else:
            with Sampler(task.scratch / 'sampled.csv') as sampler:
                outcome = run_stage(stage, task, seconds)
            whence = provenance(task)
            if whence and sampler.rows():
                with common.silence():
                    save(task, stage.name, sampler.rows(), whence)
        outcomes.append(outcome)
        print(f'{outcome.name:28} {outcome.state:8} {outcome.seconds:7.1f} s  '
              f'{outcome.last_line()}', flush=True)
        waiting = [later.name for later in stages[number + 1:]]
        gpu_report.write(task, outcomes, waiting, provenance(task), minutes)
    return outcomes


def provenance(task):
    """Return the columns that the stage 'device' left, or None: this process asks no GPU itself."""
    path = task.scratch / 'device.json'
    return json.loads(path.read_text()) if path.exists() else None


def main(arguments=None):
    parser = common.command_parser(__doc__)
    parser.add_argument('--folder', type=common.existing_folder, help='of faces')
    parser.add_argument('--minutes', type=float, default=25, help='for all stages (default 25)')
    parser.add_argument('--rehearse', action='store_true', help='all of it in miniature')
    parser.set_defaults(into=None)
    options = parser.parse_args(arguments)
    words = ['--folder', 'FOLDER'] if options.folder else []
    if options.rehearse:
        words.append('--rehearse')
    multiprocessing.get_context('forkserver').set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        into = options.into or common.ASSETS
        if options.rehearse and options.into is None:
            into = Path(scratch)
        task = Task(into, Path(scratch), common.command('gpu', *words), options.folder,
                    options.rehearse)
        outcomes = run_stages(STAGES, task, options.minutes)
        print(f'\n{(into / gpu_report.REPORT).read_text(encoding="utf-8")}')
    faults = [outcome.name for outcome in outcomes if outcome.state == 'failed']
    sys.exit(f'failed: {", ".join(faults)}' if faults else 0)


if __name__ == '__main__':
    main()
