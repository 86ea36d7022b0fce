"""The folder of a run's files, where one is chosen: all goes there, and comes from there."""
import os
import shutil
from pathlib import Path

import pytest
import torch

import helpers
from machinery.files import load_samples, save_samples
from machinery.lesson import call_train
from machinery.run import choose_run_folder, load_checkpoint, load_history
from tests.tools import expect_same_run, numbers_of, tiny_training, train_tiny


def results(notebook, n_epochs, run_folder, **options):
    """Train tiny networks with a folder of their own; return what a resumed run must bring back."""
    D, G, losses = train_tiny(notebook, n_epochs, run_folder=run_folder, **options)
    place = Path(run_folder)
    history = load_history(place / 'checkpoints_gan')
    return dict(losses=losses, D=numbers_of(D), G=numbers_of(G),
                samples=load_samples(place / 'train_samples.pkl'),
                history=history['d_loss'].tolist())


def test_all_of_a_run_goes_to_its_folder(notebook, folder):
    """The working folder gets nothing; what looks at a run is told where it is."""
    results(notebook, 2, 'drive/faces', distance=lambda images: 1.0)
    assert os.listdir() == ['drive']
    assert sorted(os.listdir('drive/faces')) == [
        'checkpoints_gan', 'checkpoints_gan.lock', 'train_samples.pkl']
    assert sorted(os.listdir('drive/faces/checkpoints_gan')) == [
        'best.pt', 'epochs', 'latest.pt', 'losses.npz', 'previous.pt']
    place = 'drive/faces/checkpoints_gan'
    assert notebook.sample_faces(3, place, seed=1).shape == (3, 3, 32, 32)
    assert helpers.face([0.5] * 6, place).shape == (1, 3, 32, 32)


def test_run_that_was_moved_goes_on(notebook, folder, capsys):
    """Its place is no part of what it is: it ends bit for bit like one that stayed."""
    whole = results(notebook, 3, 'whole')
    results(notebook, 2, 'here')
    os.mkdir('mounted')
    shutil.move('here', 'mounted/there')
    moved = results(notebook, 3, 'mounted/there', resume=True)
    assert 'Continuing mounted/there/checkpoints_gan/ after epoch 2' in capsys.readouterr().out
    expect_same_run(moved, whole)


def test_earlier_run_is_set_aside_in_its_folder(notebook, folder):
    results(notebook, 2, 'drive')
    results(notebook, 1, 'drive')
    assert os.listdir() == ['drive']
    assert len(load_samples('drive/checkpoints_gan-1/train_samples.pkl')) == 2
    assert load_checkpoint('drive/checkpoints_gan')['epoch'] == 1


def test_loop_from_elsewhere_is_kept_there_too(notebook, folder):
    """Its pickle as well, which it writes in the working folder."""
    def train(D, G, n_epochs, print_every=50):
        save_samples([torch.zeros(16, 3, 32, 32)])
        return [(1.5, 0.5)] * 5

    D, G, _ = tiny_training(vars(notebook))
    config = dict(z_size=6, g_conv_dim=4, img_size=32, run_folder=choose_run_folder('drive'))
    call_train(train, D, G, 3, 1, None, None, config)
    assert os.listdir() == ['drive']
    assert load_history('drive/checkpoints_gan')['per_epoch'].tolist() == [2, 2, 1]
    assert len(load_samples('drive/train_samples.pkl')) == 1
    assert torch.equal(numbers_of(notebook.load_generator('drive/checkpoints_gan')), numbers_of(G))


def test_loop_from_elsewhere_leaves_the_pickle_of_another_run(notebook, folder):
    """One that writes none is not given that which lies in the working folder."""
    save_samples([torch.ones(16, 3, 32, 32)])
    before = Path('train_samples.pkl').read_bytes()
    D, G, _ = tiny_training(vars(notebook))
    config = dict(z_size=6, g_conv_dim=4, img_size=32, run_folder=choose_run_folder('drive'))
    for writes in (False, True):
        def train(D, G, n_epochs, print_every=50, writes=writes):
            if writes:
                save_samples([torch.zeros(16, 3, 32, 32)])
            return [(1.5, 0.5)]

        call_train(train, D, G, 1, 1, None, None, config)
        assert Path('drive/train_samples.pkl').exists() == writes
        assert Path('train_samples.pkl').read_bytes() == before
    assert sorted(os.listdir()) == ['drive', 'train_samples.pkl']


# ------------------------------------------------------------------------------------- choosing it


def test_folder_is_chosen_by_parameter_or_variable(folder, monkeypatch, capsys):
    """The variable has the last word, ~ stands for the home folder, and the folder is made."""
    monkeypatch.setenv('HOME', str(folder / 'home'))
    assert choose_run_folder() == choose_run_folder('.') == '.'
    assert capsys.readouterr().out == ''
    assert choose_run_folder('~/drive/faces') == str(folder / 'home/drive/faces')
    monkeypatch.setenv('DCGAN_RUN', '~/other')
    assert choose_run_folder('drive') == str(folder / 'home/other')
    assert (folder / 'home/other').is_dir() and not Path('drive').exists()
    assert f'The run is kept in {folder}/home/other/' in capsys.readouterr().out


@pytest.mark.parametrize('place', ['a file', 'a file/below', '/proc/nowhere'])
def test_folder_that_cannot_be_written_is_refused(notebook, folder, monkeypatch, place):
    """In one sentence, where it is chosen; and before the first step where it was not asked."""
    Path('a file').touch()
    with pytest.raises(PermissionError, match='Nothing of a run could be kept: .* DCGAN_RUN'):
        choose_run_folder(place)
    steps = []
    monkeypatch.setattr(notebook, 'train_step', lambda *_, **__: steps.append(1))
    with pytest.raises(OSError):
        train_tiny(notebook, 1, run_folder=place)
    assert steps == []
