"""What several test files need: small trainings, ways to compare them, and ways to break them."""
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from machinery.batches import DeviceLoader
from machinery.checks import (
    expect,
    expect_close,
    global_names,
    numbers_of,
    tiny_training,
    write_images,
)
from machinery.files import load_samples
from machinery.lesson import NOTEBOOK
from machinery.run import load_checkpoint, load_history

__all__ = ['ASSETS', 'DEVICES', 'NOTEBOOK', 'PATIENCE', 'PROJECT', 'Acting', 'damage', 'ending_at',
           'expect', 'expect_close', 'expect_same_run', 'global_names', 'going_bad_once',
           'needs_gpu', 'numbers_of', 'raises', 'run_python', 'run_training', 'tiny_training',
           'torchrun', 'train_tiny', 'write_images']

PROJECT = Path(__file__).resolve().parent.parent
ASSETS = PROJECT / 'assets'
PATIENCE = 1800              # seconds for a program that takes one minute, where others are at work
WITHOUT_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
DEVICES = ['cpu', pytest.param('cuda', marks=[pytest.mark.gpu, WITHOUT_GPU])]


def needs_gpu(test):
    """A decorator: skip a test where there is no GPU; pytest -m gpu runs those that need one."""
    return pytest.mark.gpu(WITHOUT_GPU(test))


# --------------------------------------------------------------------------------- small trainings


def train_tiny(notebook, n_epochs, print_every=1, wrap=None, distance=None, seed=0, **config):
    """Train tiny networks in the current folder; return D, G and the losses.

    wrap    puts something of its own around the loader; None: train takes the loader it finds
    config  what train's config holds: resume=True, lr=1, objective='hinge' and so on
    """
    D, G, names = tiny_training(vars(notebook), seed=seed)
    loader = None
    if wrap:
        loader = wrap(DeviceLoader(names['celeba_train_loader'], 'cpu', like=D))
    with global_names(notebook.train, **names):
        losses = notebook.train(D, G, n_epochs, print_every, loader, distance, config)
    return D, G, losses


def run_training(notebook, n_epochs, **options):
    """Train tiny networks, averaged and mirrored; return all that a resumed run must bring back."""
    options = dict(flip=True, ema_decay=0.9) | options
    D, G, losses = train_tiny(notebook, n_epochs, **options)
    saved = load_checkpoint()
    optimizer_values = []
    for name in ('d_optimizer', 'g_optimizer'):
        for state in saved[name]['state'].values():
            optimizer_values.extend(state.values())
    return dict(losses=losses, D=numbers_of(D), G=numbers_of(G), samples=load_samples(),
                epoch=saved['epoch'], average=list(saved['G_average'].values()),
                history=load_history()['d_loss'].tolist(), optimizers=optimizer_values)


def expect_same_run(one, other):
    """Hold two results of run_training against each other, to the bit."""
    for name, value in one.items():
        if torch.is_tensor(value):
            same = torch.equal(value, other[name])
        elif isinstance(value, list) and torch.is_tensor(value[0]):
            same = len(value) == len(other[name]) and all(map(torch.equal, value, other[name]))
        else:
            same = value == other[name]
        expect(same, f'A resumed run: {name}', 'another', 'that of a run that never stopped')


class Acting:
    """A loader that calls act() just before one of its batches, counted from 1 over all passes."""

    def __init__(self, loader, at, act):
        self.loader, self.at, self.act = loader, at, act
        self.n_given = 0

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        for batch in self.loader:
            self.n_given += 1
            if self.n_given == self.at:
                self.act()
            yield batch


# ----------------------------------------------------------------------------------- ways to break


def raises(error):
    """A function of any arguments that raises this error."""
    def fail(*_, **__):
        raise error
    return fail


def ending_at(step, number, error):
    """A training step that raises an error in place of the step of this number, counted from 1."""
    numbers = itertools.count(1)

    def step_or_end(*arguments, **options):
        if next(numbers) == number:
            raise error
        return step(*arguments, **options)
    return step_or_end


def going_bad_once(step):
    """A training step whose second call gives figures that are infinite."""
    numbers = itertools.count(1)

    def bad_step(*arguments, **options):
        return step(*arguments, **options) + (float('inf') if next(numbers) == 2 else 0)
    return bad_step


def damage(path):
    """Flip a bit in the middle of a file.

    It is flipped in 256 bytes: torch pads the parts of its files with up to 64 bytes of nothing, in
    which a single bit does no damage.
    """
    data = bytearray(Path(path).read_bytes())
    middle = len(data) // 2
    for place in range(middle, min(middle + 256, len(data))):
        data[place] ^= 1
    Path(path).write_bytes(data)


# --------------------------------------------------------------------------------- child processes


def run_python(folder, *arguments, environment=(), timeout=PATIENCE):
    """Run Python in a folder, with this project in reach; return what subprocess.run() returns."""
    command = [sys.executable, *map(str, arguments)]
    environment = dict(os.environ, PYTHONPATH=str(PROJECT)) | dict(environment)
    return subprocess.run(command, cwd=folder, env=environment, timeout=timeout,
                          capture_output=True, text=True)


def torchrun(folder, script, *arguments, environment=(), processes=2):
    """Run a script under torchrun, on the CPU."""
    return run_python(folder, '-m', 'torch.distributed.run', '--standalone',
                      '--nproc-per-node', processes, script, *arguments,
                      environment=dict(environment, CUDA_VISIBLE_DEVICES=''))
