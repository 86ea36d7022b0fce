"""Does it run on a GPU? The first stages of experiments.gpu, each called with a Task.

A stage prints what it finds, its last line being the one for the report, and raises where something
is wrong. Without a GPU it does the same work on the CPU, and says what that cannot show.
"""
import contextlib
import gc
import importlib.util
import json
import math
import os
import re
import runpy
import signal
import statistics
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import torch

import helpers
from experiments import common
from experiments.common import PROJECT

# The bench is imported within functions: it looks for the GPU as soon as it is imported.

COLUMNS = ('stage', 'what', 'value', 'lowest', 'highest', 'unit', 'repeats', 'seeds',
           'images_seen', 'command', 'device', 'torch')
CUDA_TESTS = ('tests/run/test_fast_step.py', 'tests/run/test_devices.py',
              'tests/data/test_batches.py')
TRAINING_CALL = re.compile(r'^losses = .*train.*$', re.MULTILINE)      # the notebook's own
REPEATS = 3                   # of what is timed
MEMORY_GIB = 4                # that the check of too large a batch may use


@dataclass(frozen=True)
class Task:
    """What a stage has to know: where its rows go, and on what it works."""
    into: Path                # folder of the tables
    scratch: Path             # folder for files that need not stay
    command: str              # the command line, for the tables
    folder: Path | None       # of faces; None: drawn ones
    rehearse: bool            # in miniature


def results_table(into):
    """Return the table of what the stages measure themselves."""
    return common.Table(into / 'gpu.csv', COLUMNS, ('device', 'stage', 'what'))


def save(task, stage, rows, whence=None):
    """Merge rows, dicts with at least what and value, and print them."""
    complete = []
    for row in rows:
        start = dict(stage=stage, lowest=row['value'], highest=row['value'], unit='', repeats=1,
                     seeds='', images_seen='')
        row = start | row | (whence or common.provenance(task.command))
        for name in ('value', 'lowest', 'highest'):
            row[name] = in_short(row[name])
        print(f'{row["what"]}: {row["value"]} [{row["lowest"]}, {row["highest"]}] {row["unit"]}')
        complete.append(row)
    results_table(task.into).merge(complete)


def in_short(value):
    """Return a number with five digits, as text; a text as it is."""
    if isinstance(value, float):
        return f'{value:.0f}' if abs(value) >= 1e5 else f'{value:.5g}'
    return value


def spread(values):
    """Return the columns of a row: median, lowest, highest and number of values."""
    return dict(value=statistics.median(values), lowest=min(values), highest=max(values),
                repeats=len(values))


def on_gpu():
    return helpers.choose_device().type == 'cuda'


# --------------------------------------------------------------------------- the device, its tests


def device(task):
    """Say what there is, and leave the rows' provenance for the stages' parent.

    Raises SystemExit where there is no GPU, unless this is a rehearsal.
    """
    if not on_gpu() and not task.rehearse:
        raise SystemExit(f'torch {torch.__version__} finds no GPU here; to try the command without '
                         f'one, add --rehearse')
    whence = common.provenance(task.command)
    (task.scratch / 'device.json').write_text(json.dumps(whence))
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    if on_gpu():
        properties = torch.cuda.get_device_properties(0)
        print(properties)
        print(f'It computes: {torch.ones(8, device="cuda").sum().item():g} = 8')
        memory = properties.total_memory
    save(task, 'device', [
        dict(what='memory of the device', value=memory / 2 ** 30, unit='GiB'),
        dict(what='bfloat16', value=int(helpers.has_bfloat16(helpers.choose_device())))])
    where = 'a GPU' if on_gpu() else 'NO GPU: what follows runs on the CPU'
    print(f'{where}; {helpers.versions()}, CUDA {torch.version.cuda}')


def cuda_tests(task):
    """Run the suite's tests that need a GPU; without one they are skipped."""
    import pytest
    os.chdir(PROJECT)
    chosen = ['-q', '-rs', '-p', 'no:cacheprovider', '-k', 'cuda or gpu or one_graph']
    code = pytest.main([*chosen, *CUDA_TESTS])
    if code != 0:
        raise SystemExit(f'pytest ended with {int(code)}')


# ------------------------------------------------------------------------------------ the notebook


def run_notebook(task, name, preset, edit=None):
    """Run the notebook's cells of code as a script in a folder of scratch; return the folder.

    edit  is given the script and returns another one
    """
    cells = json.loads((PROJECT / 'dcgan_faces.ipynb').read_text(encoding='utf-8'))['cells']
    script = '\n\n'.join(''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code')
    if edit:
        script = edit(script)
    folder = task.scratch / name
    folder.mkdir(exist_ok=True)
    path = folder / 'dcgan_faces.py'
    path.write_text(script, encoding='utf-8')
    if importlib.util.find_spec('IPython') is None:
        display_nothing()
    os.environ.update(DCGAN_DATA=str(task.folder or 'drawn'), DCGAN_PRESET=preset)
    sys.argv = [str(path)]
    with contextlib.chdir(folder):
        runpy.run_path(str(path), run_name='__main__')
    return folder / helpers.CHECKPOINTS


def display_nothing():
    """Stand in for IPython, where there is none: a script shows no pictures anyway."""
    print('IPython is missing here: the script does without.')
    sys.modules['IPython'] = types.ModuleType('IPython')
    sys.modules['IPython.display'] = types.ModuleType('IPython.display')
    sys.modules['IPython.display'].Image = lambda *arguments, **options: None


def without_tests(script):
    """Return the script without its calls of problem_unittests, which the first run has made."""
    return re.sub(r'^tests\.', '# tests.', script, flags=re.MULTILINE)


def interrupted(script):
    """Return the script up to its training, which gets Ctrl-C in the second epoch."""
    call = TRAINING_CALL.search(script)
    if call is None:
        raise ValueError(f'The notebook has no line like {TRAINING_CALL.pattern!r}')
    before = without_tests(script[:call.start()])
    setup = 'from experiments import gpu_checks\ngpu_checks.interrupt_second_epoch()\n'
    return f'{before}{setup}{call[0]}\n'


def interrupt_second_epoch():
    """From here on, a run in this process gets the signal of Ctrl-C in its second epoch."""
    record = helpers.Run.record

    def record_and_interrupt(run, figures):
        record(run, figures)
        if run.progress.epoch == 1:
            signal.raise_signal(signal.SIGINT)
    helpers.Run.record = record_and_interrupt


def quick_preset(task):
    """Return the preset of the run that is interrupted and resumed."""
    if task.rehearse:
        return 'quick conv_dim=4 max_images=32 n_epochs=2 distance_every=2'
    return 'quick'


def notebook_smoke(task):
    """Run the whole notebook in the preset smoke, its own tests included."""
    saved = helpers.load_checkpoint(run_notebook(task, 'smoke', 'smoke'))
    print(f'The notebook ran to its end: {saved["epoch"]} epochs, {saved["n_steps"]} steps')


def notebook_interrupted(task):
    """Interrupt the notebook's training in its second epoch: the first one has to be saved."""
    folder = run_notebook(task, 'quick', quick_preset(task), interrupted)
    saved = helpers.load_checkpoint(folder)
    if saved['epoch'] != 1:
        raise SystemExit(f'Interrupted in epoch 2, but {saved["epoch"]} epochs are saved')
    print('Interrupted in epoch 2; the first one is on the disk')


def notebook_resumed(task):
    """Run the notebook again in the same folder: it has to go on, to its end."""
    before = helpers.load_checkpoint(task.scratch / 'quick' / helpers.CHECKPOINTS)
    folder = run_notebook(task, 'quick', quick_preset(task), without_tests)
    if list(folder.parent.glob(f'{helpers.CHECKPOINTS}-*')):
        raise SystemExit('The interrupted run was set aside and not resumed')
    saved = helpers.load_checkpoint(folder)
    if saved['epoch'] != saved['config']['n_epochs']:
        raise SystemExit(f'The resumed run ended after {saved["epoch"]} epochs')
    rate = saved['images_seen'] / saved['seconds']
    save(task, 'notebook', [dict(what='images/s of training, preset quick', value=rate,
                                 images_seen=saved['images_seen'])])
    print(f'Resumed after epoch {before["epoch"]}; {saved["epoch"]} epochs, {rate:,.0f} images/s')


# ------------------------------------------------------------------------------------ out of memory


def out_of_memory(task):
    """Train with a batch that does not fit: the message has to name one that fits."""
    from experiments import bench_loops as loops
    size, width, batch = (32, 4, 64) if task.rehearse else (64, 64, 16_384)
    refuse_above = math.inf
    if on_gpu():
        total = torch.cuda.get_device_properties(0).total_memory / 2 ** 30
        torch.cuda.set_per_process_memory_fraction(min(1., MEMORY_GIB / total))
    else:
        refuse_above = 8      # a CPU would take memory from others: here D refuses by itself
    try:
        train_batches(task, loops, size, width, batch, 1, refuse_above)
    except MemoryError as error:
        said = str(error)
    else:
        raise SystemExit(f'A batch of {batch} fits: nothing was shown')
    print(said)
    gc.collect()
    torch.cuda.empty_cache()
    named = re.search(r'that fits at this size, by trying: (\d+)', said)
    if not named:
        raise SystemExit('The message names no batch size that fits')
    fits = int(named[1])
    # Six steps: warm-up, recording and replays have to fit as well.
    train_batches(task, loops, size, width, fits, 6, math.inf)
    save(task, 'memory', [dict(what=f'batch that fits, named in place of {batch}', value=fits)])
    print(f'A batch of {batch} does not fit; the message names {fits}, which was then trained with')


def train_batches(task, loops, size, width, batch, n_batches, refuse_above):
    """Train on so many grey batches by the notebook's train, in a folder that vanishes."""
    notebook = loops.notebook
    D, G = loops.make_networks(size, width)

    def refuse(network, inputs):
        if len(inputs[0]) > refuse_above:
            raise torch.OutOfMemoryError(f'a batch of more than {refuse_above} was refused')
    D.register_forward_pre_hook(refuse)
    d_optimizer, g_optimizer = notebook.make_optimizers(D, G)
    images = torch.full((batch, 3, size, size), 0.5, device=loops.DEVICE)
    vars(notebook).update(z_size=loops.Z_SIZE, d_optimizer=d_optimizer, g_optimizer=g_optimizer)
    with common.scratch_folder(task.scratch):
        notebook.train(D, G, 1, loader=[images] * n_batches)
