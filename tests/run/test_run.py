"""A run: resumed to the bit, interrupted, measured, and its faces drawn from the file alone."""
import contextlib
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import helpers
from machinery import run as run_room
from machinery.drawn import drawn_faces
from machinery.files import load_samples
from machinery.run import N_JUDGED, load_checkpoint, load_history
from tests.tools import (
    Acting,
    ending_at,
    expect_close,
    expect_same_run,
    global_names,
    raises,
    run_training,
    tiny_training,
    train_tiny,
)


def brightness(images):
    """A distance that is quickly measured."""
    return images.double().mean().item()


# ---------------------------------------------------------------------- stopped, and taken up again


def test_resume_is_exact(notebook, folder):
    """Two epochs, a stop, new networks, two more: bit for bit the run of four epochs."""
    whole = run_training(notebook, 4)
    run_training(notebook, 2)
    torch.manual_seed(12345)
    expect_same_run(whole, run_training(notebook, 4, resume=True))


def test_interrupt_keeps_finished_epochs(notebook, folder, capsys):
    """Ctrl-C in the third epoch: train returns, two epochs are on disk, and resuming works."""
    whole = run_training(notebook, 4)

    def interrupted_at_batch_8(loader):
        return Acting(loader, at=8, act=raises(KeyboardInterrupt()))

    _, _, losses = train_tiny(notebook, 4, wrap=interrupted_at_batch_8, flip=True, ema_decay=0.9)
    assert len(losses) == 7
    printed = capsys.readouterr().out
    assert 'Interrupted. On disk: all up to the end of epoch 2' in printed
    assert load_checkpoint()['epoch'] == 2 and len(load_samples()) == 2
    expect_same_run(whole, run_training(notebook, 4, resume=True))


def test_resume_is_exact_with_everything_on(notebook, folder, capsys):
    """The same with penalty, schedule and distance, interrupted in epoch 4 of 6."""
    options = dict(objective='relativistic', penalty=0.1, lr_decay=True, distance=brightness,
                   distance_every=2)
    whole = run_training(notebook, 6, **options)
    best = load_checkpoint(best=True)['epoch']
    notebook.train_step = ending_at(notebook.train_step, 11, KeyboardInterrupt())
    run_training(notebook, 6, **options)
    assert 'Interrupted. On disk: all up to the end of epoch 3' in capsys.readouterr().out
    expect_same_run(whole, run_training(notebook, 6, resume=True, **options))
    assert load_checkpoint(best=True)['epoch'] == best
    assert load_history()['distances'][:, 0].tolist() == [2, 4, 6]


def test_finished_run_is_read_back(notebook, folder, capsys):
    """Training a finished run again changes nothing, and shows its epochs again."""
    first = run_training(notebook, 2)
    printed = capsys.readouterr().out
    expect_same_run(first, run_training(notebook, 2, resume=True, seed=5))
    shown = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith('epoch')]
    assert len(lines) == 2
    assert all(line in shown for line in lines)
    assert 'All 2 epochs are done' in shown


def test_fewer_epochs_than_a_run_has(notebook, folder, capsys):
    """Nothing is trained, and the line counts the epochs that there are."""
    run_training(notebook, 2)
    run_training(notebook, 1, resume=True)
    assert 'to train further, raise n_epochs above that' in capsys.readouterr().out


def test_interrupted_step_leaves_networks_trainable(notebook, folder, monkeypatch):
    """Ctrl-C in the middle of a step: the same networks train on when the cell is run again."""
    D, G, names = tiny_training(vars(notebook))
    config = dict(resume=True)
    with global_names(notebook.train, **names):
        for stop in (names['d_optimizer'], names['g_optimizer']):
            with monkeypatch.context() as patch:
                patch.setattr(stop, 'step', raises(KeyboardInterrupt()))
                assert notebook.train(D, G, 2, 1, config=config) == []
        assert len(notebook.train(D, G, 2, 1, config=config)) == 6


# ------------------------------------------------------------------------------------- the distance


def test_distance_changes_nothing(notebook, folder):
    """The distance draws none of the training's random numbers, and leaves G in its mode."""
    expect_same_run(run_training(notebook, 2), run_training(notebook, 2, distance=brightness))


def held_out_too(loader):
    """The same loader, whose data set has some images held out."""
    loader.loader.dataset.held_out = drawn_faces(30, 32, seed=9)
    return loader


def test_answers_of_d_change_nothing_and_are_kept(notebook, folder, monkeypatch):
    """To training faces, held-out ones and fakes, at each measured epoch; resumed ones as well."""
    monkeypatch.setattr(run_room, 'N_JUDGED', 20)
    options = dict(distance=brightness, distance_every=2)
    plain = run_training(notebook, 5, **options)
    assert load_history()['answers'].shape == (0, 6)
    expect_same_run(plain, run_training(notebook, 5, wrap=held_out_too, **options))
    history = load_history()
    assert history['answers'][:, 0].tolist() == [2, 4, 5]
    assert ((history['answers'][:, 1:4] > 0) & (history['answers'][:, 1:4] < 1)).all()
    with np.load('checkpoints_gan/losses.npz') as arrays:
        assert np.array_equal(arrays['answers'], history['answers'])
    run_training(notebook, 2, wrap=held_out_too, **options)
    expect_same_run(plain, run_training(notebook, 5, wrap=held_out_too, resume=True, **options))
    assert np.array_equal(load_history()['answers'], history['answers'])
    helpers.plot_losses(history)
    shown = {line.get_label(): line for line in plt.gcf().axes[1].lines}
    for column, words in ((1, 'learnt'), (2, 'held out')):
        assert np.array_equal(shown[f'D(x), x {words}'].get_ydata(), history['answers'][:, column])
    plt.close()


def test_loader_from_elsewhere_holds_nothing_out(notebook, folder):
    """D is asked nothing, and the distance is measured all the same."""
    def foreign(loader):
        return [images for images, _ in loader.loader]

    train_tiny(notebook, 1, wrap=foreign, distance=brightness)
    assert len(load_history()['distances']) == 1 and len(load_history()['answers']) == 0


def test_best_epoch_is_kept(notebook, folder, capsys):
    """The epoch with the lowest distance is kept as best.pt, beside the latest."""
    distances = iter([3.0, 1.0, 2.0])
    run_training(notebook, 3, distance=lambda images: next(distances))
    assert load_checkpoint(best=True)['epoch'] == 2
    assert load_checkpoint()['epoch'] == 3
    printed = capsys.readouterr().out
    assert re.findall(r'FFD +(\d+\.\d\d)', printed) == ['3.00', '1.00', '2.00']
    assert load_history()['distances'][:, 1].tolist() == [3, 1, 2]
    run_training(notebook, 1)
    assert load_checkpoint(best=True)['epoch'] == 1      # never measured: the latest


@pytest.mark.parametrize('error', [KeyboardInterrupt(), RuntimeError('a distance of my own')])
def test_epoch_whose_measuring_is_cut_short_is_kept(notebook, folder, capsys, error):
    """It is trained: it is saved without a distance, and the epoch after it has not begun."""
    whole = run_training(notebook, 4)
    distances = iter([2.0, error, 1.0, 3.0])

    def distance(images):
        value = next(distances)
        if isinstance(value, float):
            return value
        raise value

    options = dict(flip=True, ema_decay=0.9, distance=distance)
    with contextlib.suppress(RuntimeError):
        train_tiny(notebook, 4, **options)
    printed = capsys.readouterr().out
    assert 'epoch    2/   4' in printed and load_checkpoint()['epoch'] == 2
    if isinstance(error, KeyboardInterrupt):
        assert 'Interrupted. On disk: all up to the end of epoch 2' in printed
    expect_same_run(whole, run_training(notebook, 4, resume=True, **options))
    assert load_history()['distances'][:, 0].tolist() == [1, 3, 4]
    assert load_checkpoint(best=True)['epoch'] == 3


def test_last_epoch_is_measured(notebook, folder):
    """A run ends with a distance, whatever distance_every: best.pt and the plot need one."""
    run_training(notebook, 1, distance=brightness, distance_every=5)
    assert load_history()['distances'][:, 0].tolist() == [1]
    run_training(notebook, 7, distance=brightness, distance_every=5, resume=True)
    assert load_history()['distances'][:, 0].tolist() == [1, 5, 7]


def test_distance_is_asked_of_new_images_of_the_average(notebook, folder):
    """It sees N_JUDGED images in [-1, 1], always from the same noise."""
    seen = []

    def distance(images):
        seen.append(images)
        return 1.0

    run_training(notebook, 2, distance=distance)
    assert [tuple(images.shape) for images in seen] == [(N_JUDGED, 3, 32, 32)] * 2
    z = torch.randn(N_JUDGED, 6, generator=torch.Generator().manual_seed(0))
    expected = notebook.generate(notebook.load_generator(), z[:20])
    expect_close('Images of the best epoch, which is the first', seen[0][:20], expected, 1e-5)


# ---------------------------------------------------------------------------------- what train does


def test_mirrors_when_asked(notebook, folder, monkeypatch):
    """train mirrors with flip=True, and only then."""
    calls = []

    def counting(x):
        calls.append(len(x))
        return x

    monkeypatch.setattr(notebook, 'random_flip', counting)
    train_tiny(notebook, 1, flip=False)
    assert calls == []
    train_tiny(notebook, 1, flip=True)
    assert calls == [4, 4, 2]


def test_augments_when_asked(notebook, folder, monkeypatch):
    """What train is asked for reaches the step: real images and fakes of each batch."""
    calls = []

    def counting(x):
        calls.append(len(x))
        return x

    monkeypatch.setitem(notebook.AUGMENTATIONS, 'colour', counting)
    train_tiny(notebook, 1)
    assert calls == []
    train_tiny(notebook, 1, augmentation=('colour',))
    assert calls == [4, 4, 4, 4, 2, 2]


def test_sample_faces(notebook, sample_faces, folder, monkeypatch):
    """Faces come from the file alone, without a Discriminator: the averaged generator's, seeded."""
    run_training(notebook, 1)
    monkeypatch.delattr(notebook, 'Discriminator')
    faces = sample_faces(3, seed=7)
    assert faces.shape == (3, 3, 32, 32) and faces.abs().max() <= 1
    assert torch.equal(faces, sample_faces(3, seed=7))
    assert not torch.equal(faces, sample_faces(3))
    G = notebook.Generator(6, 4)
    G.load_state_dict(load_checkpoint()['G_average'])
    z = torch.randn(3, 6, generator=torch.Generator().manual_seed(7))
    expect_close('Faces', faces, notebook.generate(G, z), 0)
    with pytest.raises(FileNotFoundError, match='train first'):
        sample_faces(1, folder='elsewhere')
    latest = Path('checkpoints_gan/latest.pt')
    latest.write_bytes(latest.read_bytes()[:999])
    with contextlib.suppress(FileNotFoundError):
        Path('checkpoints_gan/previous.pt').unlink()
    with pytest.raises(ValueError, match='damaged'):
        sample_faces(1)
