"""What goes wrong in a run: a full disk, bad numbers, memory that is short."""
import gc
import math
import os
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import helpers
from machinery import run as run_room
from machinery.files import load_samples
from machinery.run import load_checkpoint
from tests.tools import (
    ending_at,
    global_names,
    raises,
    run_training,
    tiny_training,
    train_tiny,
)

NO_SPACE = OSError(28, 'No space left on device')

# ---------------------------------------------------------------------------------------- the disk


def test_full_disk_does_not_end_training(notebook, folder, monkeypatch, capsys):
    """The saves of two epochs fail: training goes on, says so, and saves all when it can."""
    fsync, calls = os.fsync, []

    def full_at_first(number):
        calls.append(number)
        if len(calls) in (2, 3):             # the first one is before the training
            raise NO_SPACE
        fsync(number)

    monkeypatch.setattr(os, 'fsync', full_at_first)
    assert len(run_training(notebook, 3)['samples']) == 3
    printed = capsys.readouterr().out
    assert printed.count('NOT SAVED') == 2 and 'NOT ON DISK' not in printed
    assert len(os.listdir('checkpoints_gan/epochs')) == 3
    assert not list(folder.glob('**/*.part'))


def test_disk_full_to_the_end(notebook, folder, monkeypatch, capsys):
    """Nothing can be saved after epoch 1: that stays whole, and the end says what is not there."""
    run_training(notebook, 1)
    monkeypatch.setattr(os, 'fsync', raises(NO_SPACE))
    _, _, losses = train_tiny(notebook, 3, flip=True, ema_decay=0.9, resume=True)
    assert len(losses) == 9
    assert 'NOT ON DISK: what came after epoch 1' in capsys.readouterr().out
    assert load_checkpoint()['epoch'] == 1 and len(load_samples()) == 1


def test_vanished_folder_is_made_again(notebook, folder, monkeypatch):
    """Somebody deletes the folder while training runs: the next epoch writes it anew."""
    generate, calls = notebook.generate, []

    def deleting(G, z):
        calls.append(1)
        shutil.rmtree('checkpoints_gan', ignore_errors=True)
        return generate(G, z)

    monkeypatch.setattr(notebook, 'generate', deleting)
    assert run_training(notebook, 3)['epoch'] == 3
    assert len(calls) == 3


# ------------------------------------------------------------------------------------- bad numbers


def going_bad(notebook, monkeypatch, at):
    """Let the steps with these numbers spoil one weight of G and return infinite losses."""
    step, calls = notebook.train_step, []

    def bad_step(D, G, *rest, **options):
        calls.append(1)
        figures = step(D, G, *rest, **options)
        if len(calls) in at:
            next(G.parameters()).data[0, 0] = math.nan
            figures[:2] = math.inf
        return figures

    monkeypatch.setattr(notebook, 'train_step', bad_step)


@pytest.mark.parametrize('at', [2, 5])
def test_bad_numbers_are_rolled_back_once(notebook, folder, monkeypatch, capsys, at):
    """In the first or second epoch: back to its start with half the rate, then on to the end."""
    going_bad(notebook, monkeypatch, [at])
    run = run_training(notebook, 3, rescue=0.5)
    saved = load_checkpoint()
    assert run['epoch'] == 3 and len(run['losses']) == len(run['history']) == 9
    for name in ('D', 'G', 'G_average'):
        assert all(value.isfinite().all() for value in saved[name].values())
    for name in ('d_optimizer', 'g_optimizer'):
        assert saved[name]['param_groups'][0]['lr'] == 1e-4
    epoch = (at + 2) // 3
    assert f'Epoch {epoch}: a loss or a weight is no longer finite' in capsys.readouterr().out


@pytest.mark.parametrize('at, rescue', [([5], 0), ([5, 9], 0.5)])
def test_bad_numbers_end_with_a_message(notebook, folder, monkeypatch, at, rescue):
    """Without rescue at once, with it the second time; the good epoch stays on disk."""
    going_bad(notebook, monkeypatch, at)
    message = 'Epoch 2: a loss or a weight .* finite. Epoch 1 is kept .* lower lr'
    with pytest.raises(FloatingPointError, match=message):
        run_training(notebook, 3, rescue=rescue)
    assert load_checkpoint()['epoch'] == 1 and len(load_samples()) == 1


def test_curves_of_a_run_that_went_bad():
    """Losses that are no numbers can still be plotted."""
    names = 'd_loss', 'g_loss', 'd_real', 'd_fake'
    history = {name: np.array([1, 0.5, math.nan, math.inf]) for name in names}
    helpers.plot_losses(history | dict(per_epoch=np.array([2, 2])))
    plt.close()


def test_config_that_cannot_be_kept_is_told_before_training(notebook, folder, monkeypatch):
    """Not by an unreadable checkpoint when the training is over."""
    monkeypatch.setattr(notebook, 'train_step', raises(AssertionError('a step was taken')))
    with pytest.raises(ValueError, match='tensors and plain values: found .*Path'):
        train_tiny(notebook, 1, data_dir=Path('faces'))


class Empty:
    """A loader that promises batches and gives none, as where processes outnumber the images."""

    def __len__(self):
        return 2

    def __iter__(self):
        return iter(())


def test_epoch_without_a_batch_is_told(notebook, folder):
    D, G, names = tiny_training(vars(notebook))
    with global_names(notebook.train, **names), pytest.raises(ValueError, match='gave no batch'):
        notebook.train(D, G, 1, loader=Empty())


def test_step_whose_figures_keep_their_graph(notebook, folder, monkeypatch):
    """A forgotten detach() fills no memory and no file."""
    step = notebook.train_step

    def own_step(D, *rest, **options):
        return step(D, *rest, **options) + 0 * next(D.parameters()).sum()

    monkeypatch.setattr(notebook, 'train_step', own_step)
    assert np.isfinite(run_training(notebook, 2)['history']).all()


# ------------------------------------------------------------------------------------------ memory


@pytest.mark.parametrize('error', [torch.OutOfMemoryError('CUDA out of memory.'), MemoryError(),
                                   RuntimeError("DefaultCPUAllocator: can't allocate memory"),
                                   RuntimeError('DefaultCPUAllocator: not enough memory')])
def test_out_of_memory_says_what_to_do(notebook, folder, error):
    """In the third epoch: one sentence, and the two epochs before are kept."""
    notebook.train_step = ending_at(notebook.train_step, 8, error)
    with pytest.raises(MemoryError, match='halve batch_size.* All up to epoch 2 is in'):
        train_tiny(notebook, 3)
    assert load_checkpoint()['epoch'] == 2


@pytest.mark.slow
def test_memory_stays_flat(notebook, folder):
    """From epoch 2 to epoch 30, memory grows by the grids and losses that train gives back."""
    generate, calls, alive = notebook.generate, [], {}

    def counting(G, z):
        calls.append(1)
        if len(calls) in (2, 30):
            alive[len(calls)] = bytes_of_tensors()
        return generate(G, z)

    D, G, names = tiny_training(vars(notebook), n_images=4)
    with global_names(notebook.train, **names, generate=counting):
        notebook.train(D, G, 30, config=dict(ema_decay=0.9))
    growth = (alive[30] - alive[2]) / 28
    grid = 16 * 3 * 32 * 32 * 4
    assert growth <= grid + 64, f'{growth:,.0f} bytes an epoch'


def bytes_of_tensors():
    """The size of all tensors that are alive."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def test_warnings_of_collapse_and_saturation(notebook, folder, monkeypatch, capsys):
    """One and the same face sixteen times, and a D that is always right, get a line each."""
    figures = torch.tensor([0.0, 9.0, 0.999, 0.001])
    monkeypatch.setattr(run_room, 'YOUNG', 3)
    monkeypatch.setattr(notebook, 'generate', lambda G, z: torch.zeros(16, 3, 32, 32))
    monkeypatch.setattr(notebook, 'train_step', lambda *_, **__: figures)
    train_tiny(notebook, 1, print_every=50)
    printed = capsys.readouterr().out
    assert 'G has collapsed' in printed and 'D tells real from fake' in printed
