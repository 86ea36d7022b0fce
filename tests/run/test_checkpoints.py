"""Checkpoints: what they hold, which one is taken, and that a run's files outlive damage."""
import itertools
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from machinery import files, parameters
from machinery.files import load_samples, save_samples
from machinery.run import load_checkpoint, load_history
from tests.tools import damage, expect_same_run, run_training

CHECKPOINTS = Path('checkpoints_gan')


class PowerCut(BaseException):
    """The end of everything: no handler of the project catches it."""


def epoch_of(name):
    """The epoch of one checkpoint file."""
    return torch.load(CHECKPOINTS / name, weights_only=True)['epoch']


# ------------------------------------------------------------------------------- what a file holds


def test_checkpoint_holds_the_run(notebook, folder):
    """Networks, average, optimizers, progress and configuration, readable with weights_only."""
    run_training(notebook, 2, lr=2e-4, data='here')
    saved = torch.load(CHECKPOINTS / 'latest.pt', weights_only=True)
    assert set(saved) == {
        'D', 'G', 'G_average', 'd_optimizer', 'g_optimizer', 'random_state', 'config', 'fixed_z',
        'epoch', 'n_steps', 'images_seen', 'seconds', 'rescued'}
    epoch = torch.load(CHECKPOINTS / 'epochs/0002.pt', weights_only=True)
    assert set(epoch) == {'steps', 'grid', 'losses', 'lines', 'distance', 'answers'}
    assert {'torch', 'cuda', 'python', 'numpy'} <= set(saved['random_state'])
    code = saved['config'].pop('source_code')
    assert {'Discriminator', 'Generator', 'layer_depths'} <= code.keys()
    assert saved['config'].pop('parts').keys() == {
        'D', 'G', 'G_average', 'd_optimizer', 'g_optimizer'}
    assert len(saved['config'].pop('images')) == len(saved['config'].pop('held_out')) == 16
    assert saved['config'] == parameters.PLAIN | dict(
        lr=2e-4, data='here', kind='own', n_held_out=0, flip=True, ema_decay=0.9,
        generator=dict(z_size=6, conv_dim=4, img_size=32))
    assert not list(folder.glob('**/*.part'))


def test_numpy_numbers_in_the_configuration(notebook, folder):
    """A run configured with NumPy's numbers is saved and resumed like any other."""
    config = dict(lr=np.float64(2e-4), n=np.int64(3), resume=np.True_)
    run_training(notebook, 1, **config)
    assert run_training(notebook, 2, **config)['epoch'] == 2


# ------------------------------------------------------------------------------ another run's files


@pytest.mark.parametrize('resume, note, why', [(False, 1, 'resume is off'),
                                               (True, 2, 'differs in note')])
def test_earlier_run_is_set_aside(notebook, folder, capsys, resume, note, why):
    """A new run never overwrites another one: that is moved as a whole, its samples with it."""
    run_training(notebook, 2, note=1)
    before = Path('checkpoints_gan/latest.pt').read_bytes()
    run_training(notebook, 1, resume=resume, note=note)
    assert why in capsys.readouterr().out
    assert len(load_samples('checkpoints_gan-1/train_samples.pkl')) == 2

    run_training(notebook, 1, resume=False, note=1)
    assert 'resume is off' in capsys.readouterr().out
    assert len(load_samples('checkpoints_gan-2/train_samples.pkl')) == 1
    assert Path('checkpoints_gan-1/latest.pt').read_bytes() == before


def test_samples_without_a_run_are_set_aside(notebook, folder):
    """A train_samples.pkl that somebody already has is kept, whether resuming or not."""
    for number, resume in ((1, False), (2, True)):
        Path('train_samples.pkl').write_bytes(b'fifty epochs of mine')
        shutil.rmtree(CHECKPOINTS, ignore_errors=True)
        run_training(notebook, 1, resume=resume)
        kept = Path(f'checkpoints_gan-{number}/train_samples.pkl')
        assert kept.read_bytes() == b'fifty epochs of mine'


@pytest.mark.parametrize('left', [[], ['best.pt']])
def test_what_is_left_of_a_run_is_no_part_of_another(notebook, folder, capsys, left):
    """A crash in epoch 1, or a hand that made room, leaves epochs and no checkpoint to go on from.
    """
    run_training(notebook, 2, note=1, distance=lambda images: 5.0)
    for path in (Path('train_samples.pkl'), *CHECKPOINTS.glob('*.pt')):
        if path.name not in left:
            path.unlink()
    capsys.readouterr()
    new = run_training(notebook, 2, resume=True, note=2)
    assert 'checkpoints_gan-1/ (it came without a checkpoint' in capsys.readouterr().out
    assert len(list(Path('checkpoints_gan-1/epochs').iterdir())) == 2
    assert load_history()['distances'].size == 0
    shutil.rmtree(CHECKPOINTS)
    Path('train_samples.pkl').unlink()
    expect_same_run(new, run_training(notebook, 2, note=2))


# ------------------------------------------------------------------------------------------- damage


def test_save_is_all_or_nothing(folder):
    """A write that breaks in the middle leaves the old file whole and nothing beside it."""
    save_samples([torch.zeros(16, 3, 4, 4)])

    def broken(file):
        file.write(b'half')
        raise OSError(28, 'No space left on device')

    with pytest.raises(OSError, match='No space'):
        files.write_atomically('train_samples.pkl', broken)
    assert len(load_samples()) == 1 and os.listdir() == ['train_samples.pkl']


def test_finished_run_mends_its_files(notebook, folder):
    """Samples that are missing are written again from the checkpoint."""
    whole = run_training(notebook, 2)
    Path('train_samples.pkl').unlink()
    expect_same_run(whole, run_training(notebook, 2, resume=True))


def test_damaged_checkpoint_falls_back(notebook, folder, capsys):
    """One flipped bit in the latest checkpoint: the one before it is used, to the same end."""
    whole = run_training(notebook, 4)
    run_training(notebook, 3)
    damage(CHECKPOINTS / 'latest.pt')
    Path('train_samples.pkl').write_bytes(b'damaged too')
    capsys.readouterr()
    resumed = run_training(notebook, 4, resume=True)
    printed = capsys.readouterr().out
    assert len(re.findall(r'latest.pt is damaged, .*previous.pt, epoch 2', printed)) == 1
    expect_same_run(whole, resumed)

    damage(CHECKPOINTS / 'latest.pt')
    damage(CHECKPOINTS / 'previous.pt')
    with pytest.raises(ValueError, match='resume = False'):
        run_training(notebook, 4, resume=True)
    run_training(notebook, 1)
    assert len(list(folder.glob('checkpoints_gan-*/latest.pt'))) == 2


def test_previous_is_one_epoch_earlier(notebook, folder):
    """After each epoch, and after resuming, finished or not, whole or damaged."""
    run_training(notebook, 3)
    assert (epoch_of('latest.pt'), epoch_of('previous.pt')) == (3, 2)
    run_training(notebook, 3, resume=True)
    assert (epoch_of('latest.pt'), epoch_of('previous.pt')) == (3, 2)
    run_training(notebook, 4, resume=True)
    assert (epoch_of('latest.pt'), epoch_of('previous.pt')) == (4, 3)
    damage(CHECKPOINTS / 'latest.pt')
    run_training(notebook, 5, resume=True)
    assert (epoch_of('latest.pt'), epoch_of('previous.pt')) == (5, 4)


def cut_power_after(n_renames, patch):
    """Let files be renamed so many times; the next time ends everything."""
    done = []

    def limited(rename):
        def rename_or_end(*paths):
            if len(done) == n_renames:
                raise PowerCut
            done.append(paths)
            rename(*paths)
        return rename_or_end

    patch.setattr(os, 'replace', limited(os.replace))
    patch.setattr(os, 'rename', limited(os.rename))


@pytest.mark.parametrize('damaged', [False, pytest.param(True, marks=pytest.mark.slow)])
def test_power_cut_between_two_renames(notebook, folder, tmp_path_factory, monkeypatch, damaged):
    """Wherever a resumed run is cut off, it can be resumed again, to the same end.

    A run whose latest.pt is damaged has previous.pt alone: nothing may take its place before there
    is another good one.
    """
    whole = run_training(notebook, 3)
    run_training(notebook, 2)
    if damaged:
        damage(CHECKPOINTS / 'latest.pt')
    start = shutil.copytree('.', tmp_path_factory.mktemp('run') / 'start')
    for n_renames in itertools.count():
        with monkeypatch.context() as patch:
            cut_power_after(n_renames, patch)
            try:
                run_training(notebook, 3, resume=True)
                break
            except PowerCut:
                pass
        at_least = 1 if damaged else 2
        assert load_checkpoint()['epoch'] >= at_least, f'cut off after {n_renames} renames'
        expect_same_run(whole, run_training(notebook, 3, resume=True))
        shutil.rmtree(CHECKPOINTS)
        shutil.copytree(start, '.', dirs_exist_ok=True)
    assert n_renames > 4


def test_parameter_that_never_learns_has_no_state(notebook, folder, capsys):
    """A layer that no image passes: the optimizer knows nothing of it, which is no fault."""
    init = notebook.Generator.__init__

    def with_an_idle_layer(self, *arguments, **named):
        init(self, *arguments, **named)
        self.idle = torch.nn.Linear(2, 2)

    notebook.Generator.__init__ = with_an_idle_layer
    run_training(notebook, 1)
    run_training(notebook, 2, resume=True)
    assert 'Continuing' in capsys.readouterr().out


def test_checkpoint_that_lacks_a_network_is_damaged(notebook, folder, capsys):
    """A file of torch's that is something else makes way for the checkpoint before it."""
    run_training(notebook, 2)
    state = files.load_safely(CHECKPOINTS / 'latest.pt')
    del state['G_average']
    torch.save(state, CHECKPOINTS / 'latest.pt')
    assert notebook.sample_faces(2).shape == (2, 3, 32, 32)
    run_training(notebook, 2, resume=True)
    assert 'latest.pt lacks what a checkpoint has' in capsys.readouterr().out
