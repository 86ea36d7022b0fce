"""A run whose faces go astray: it says so, comes back by itself, or goes back to its best epoch."""
import re

import pytest
import torch
from torch.utils.data import DataLoader

from machinery import run as run_room
from machinery.batches import DeviceLoader, ImageDataset
from machinery.drawn import drawn_faces
from machinery.metric import FaceDistance
from machinery.run import Epoch, load_checkpoint, load_history, times_astray
from tests.tools import (
    expect_same_run,
    global_names,
    going_bad_once,
    numbers_of,
    run_training,
    train_tiny,
)

COLLAPSE = [2.0, 1.0, 9.0, 8.0, 1.5, 0.9]        # best in epoch 2, astray in two epochs


@pytest.fixture(autouse=True)
def few_are_judged(monkeypatch):
    """Drawing 2,000 faces takes longer than these trainings."""
    monkeypatch.setattr(run_room, 'N_JUDGED', 20)


def following(distances):
    """A distance that gives these numbers in turn, whatever the images."""
    numbers = iter(distances)
    return lambda images: next(numbers)


def weights_after(notebook, n_epochs, **options):
    """Train; return (numbers of D and G together, learning rate of G)."""
    D, G, _ = train_tiny(notebook, n_epochs, **options)
    saved = load_checkpoint()
    assert torch.equal(numbers_of(G), torch.cat([value.flatten().double()
                                                 for value in saved['G'].values()]))
    return torch.cat([numbers_of(D), numbers_of(G)]), saved['g_optimizer']['param_groups'][0]['lr']


@pytest.mark.parametrize('distances, times', [
    ([2.0, 1.0, 1.3], 0), ([2.0, 1.0, 2.9], 0), ([2.0, 1.0, 3.1], 1), ([1.0, 5.0, 5.0], 2),
    ([5.0, 1.0], 0), ([1.0, 5.0, 1.0, 5.0], 1), ([1.0, None, 5.0, None, 6.0], 2),
    ([1.0, 5.0, 5.0, None], 0), ([None], 0), ([0.0, 5.0], 0), ([-1.0, 5.0], 0)])
def test_far_is_three_times_the_best(distances, times):
    """The noise from epoch to epoch is no reason; epochs that were not measured do not count."""
    epochs = [Epoch(distance=[] if value is None else [value, 0.1]) for value in distances]
    assert times_astray(epochs) == times


def test_astray_run_goes_back_to_its_best_epoch(notebook, folder, capsys):
    """The second epoch far away ends with the networks and optimizers of the best one; half the
    rate; the numbers of the epochs go on."""
    weights_after(notebook, 4, distance=following(COLLAPSE), rescue=0.5)
    printed = capsys.readouterr().out
    best, latest = load_checkpoint(best=True), load_checkpoint()
    assert (best['epoch'], latest['epoch'], latest['n_steps']) == (2, 4, 12)
    for name in ('D', 'G', 'G_average'):
        assert all(map(torch.equal, best[name].values(), latest[name].values()))
    for name in ('d_optimizer', 'g_optimizer'):
        for before, now in zip(best[name]['state'].values(), latest[name]['state'].values(),
                               strict=True):
            assert all(map(torch.equal, before.values(), now.values()))
        assert best[name]['param_groups'][0]['lr'] == 2e-4
        assert latest[name]['param_groups'][0]['lr'] == 1e-4
    assert printed.count('more than 3 times the best one: the run has gone astray') == 2
    assert 'not come back: on with the networks of epoch 2, learning rates x 0.5.' in printed
    assert load_history()['distances'][:, 1].tolist() == COLLAPSE[:4]


def test_astray_run_stays_where_its_best_epoch_is_gone(notebook, folder, capsys):
    """Nothing better is there to go back to, and the one rescue is not spent."""
    numbers = iter(COLLAPSE)

    def distance(images):
        (folder / 'checkpoints_gan/best.pt').unlink(missing_ok=True)
        return next(numbers)

    _, rate = weights_after(notebook, 4, distance=distance, rescue=0.5)
    assert rate == 2e-4 and not load_checkpoint()['rescued']
    assert 'not come back' not in capsys.readouterr().out


@pytest.mark.parametrize('n_before', [2, 3, 4, 5])
def test_resume_is_exact_across_the_way_back(notebook, folder, n_before):
    """Stopped before it, in the middle of it or after it: bit for bit the unbroken run."""
    options = dict(rescue=0.5, flip=True, ema_decay=0.9)
    whole = run_training(notebook, 6, distance=following(COLLAPSE), **options)
    run_training(notebook, n_before, distance=following(COLLAPSE[:n_before]), **options)
    torch.manual_seed(12345)
    expect_same_run(whole, run_training(notebook, 6, distance=following(COLLAPSE[n_before:]),
                                        resume=True, **options))
    assert load_checkpoint()['rescued'] and load_checkpoint(best=True)['epoch'] == 6


@pytest.mark.parametrize('distances, rescue', [([2.0, 1.0, 9.0, 1.1], 0.5), (COLLAPSE[:4], 0)])
def test_run_that_comes_back_is_left_alone(notebook, folder, capsys, distances, rescue):
    """Or one that wants no rescue: a warning, and the numbers of a run that measures nothing."""
    plain, rate = weights_after(notebook, 4)
    capsys.readouterr()
    weights, same_rate = weights_after(notebook, 4, distance=following(distances), rescue=rescue)
    assert torch.equal(weights, plain) and rate == same_rate
    printed = capsys.readouterr().out
    assert 'has gone astray' in printed and 'not come back' not in printed


def test_way_back_is_taken_once(notebook, folder, capsys):
    """Astray again, it only says so: whoever reads it knows more than a third try would."""
    weights_after(notebook, 7, distance=following([1.0, 9.0, 9.0, 1.2, 9.0, 9.0, 9.0]), rescue=0.5)
    printed = capsys.readouterr().out
    assert printed.count('has gone astray') == 5 and printed.count('not come back') == 1
    assert load_checkpoint()['g_optimizer']['param_groups'][0]['lr'] == 1e-4
    notebook.train_step = going_bad_once(notebook.train_step)
    with pytest.raises(FloatingPointError):
        train_tiny(notebook, 8, distance=following([1.0]), rescue=0.5, resume=True)


def test_rates_fall_from_the_lower_one(notebook, folder):
    """With a schedule, the epochs after it go on with half of its rates."""
    options = dict(rescue=0.5, lr_decay=True)
    _, rate = weights_after(notebook, 6, **options)
    _, lower = weights_after(notebook, 6, distance=following(COLLAPSE), **options)
    assert lower == pytest.approx(rate / 2)


@pytest.mark.slow
def test_collapse_of_a_real_training(notebook, folder, monkeypatch, capsys):
    """Both networks are ruined in epoch 5: the distance tells, and the faces become good again."""
    monkeypatch.setattr(run_room, 'N_JUDGED', 400)
    faces = ImageDataset(drawn_faces(600, 32)).hold_out(0.3)
    loader = DataLoader(faces, 8, shuffle=True, collate_fn=faces.collate)
    distance = FaceDistance(faces.images, n_judged=400, held_out=faces.held_out)
    step, calls = notebook.train_step, []

    def ruining(D, G, *rest, **options):
        calls.append(1)
        if len(calls) == 4 * len(loader) + 10:
            for network in (D, G):
                for value in network.parameters():
                    value.data.normal_(0, 0.5)
        return step(D, G, *rest, **options)

    torch.manual_seed(0)
    D, G = notebook.Discriminator(16), notebook.Generator(20, 16)
    D.apply(notebook.weights_init_normal)
    G.apply(notebook.weights_init_normal)
    d_optimizer, g_optimizer = notebook.make_optimizers(D, G, 1e-3, 0.0)
    names = dict(d_optimizer=d_optimizer, g_optimizer=g_optimizer, z_size=20, train_step=ruining)
    config = dict(rescue=0.5, ema_decay=0.99)
    with global_names(notebook.train, **names):
        notebook.train(D, G, 9, 1000, DeviceLoader(loader, 'cpu'), distance, config)
    printed = capsys.readouterr().out
    measured = load_history()['distances'][:, 1]
    back = int(re.search(r'networks of epoch (\d+)', printed)[1])
    assert back == 4 and min(measured[4:6]) > 3 * measured[3]
    assert load_checkpoint(best=True)['epoch'] > 6
