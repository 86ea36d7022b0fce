"""The fast step gives the numbers of the plain step: to the bit, or to bfloat16's rounding."""
import functools

import pytest
import torch

from machinery import devices, fast_step, latent
from machinery.drawn import drawn_faces
from machinery.lesson import load_definitions
from machinery.parameters import QUICK, configure
from machinery.run import load_checkpoint
from tests.tools import (
    DEVICES,
    NOTEBOOK,
    expect,
    expect_close,
    expect_same_run,
    needs_gpu,
    numbers_of,
    run_training,
    tiny_training,
    train_tiny,
)


def training_on(device, notebook):
    """Tiny networks and their optimizers on a device."""
    D, G, _ = tiny_training(vars(notebook))
    D.to(device, memory_format=torch.channels_last)
    G.to(device, memory_format=torch.channels_last)
    return D, G, *notebook.make_optimizers(D, G)


def take_steps(notebook, wrap, device, n_steps=50):
    """Train with the step that wrap makes of the notebook's; each fifth batch is short.

    Returns the figures (n_steps, 4), and all weights in one vector.
    """
    D, G, d_optimizer, g_optimizer = training_on(device, notebook)
    step = wrap(notebook.train_step, D, G, d_optimizer, g_optimizer)
    numbers = torch.Generator().manual_seed(0)
    faces = drawn_faces(8, 32).float().div(127.5).sub(1)
    figures = []
    for number in range(n_steps):
        if number == 30:
            g_optimizer.param_groups[0]['lr'] *= 0.5     # a graph must notice
        batch_size = 5 if number % 5 == 4 else 8
        chosen = torch.randperm(8, generator=numbers)[:batch_size]
        z = torch.randn(batch_size, 6, generator=numbers)
        penalty = 0.1 if number % 4 == 0 else 0
        real = faces[chosen].to(device)
        figures.append(step(real, z.to(device), objective='bce', penalty=penalty))
    return torch.stack(figures).cpu(), torch.cat([numbers_of(D), numbers_of(G)]).cpu()


def plain(step, *networks_and_optimizers):
    """Not wrapped at all."""
    return functools.partial(step, *networks_and_optimizers)


@pytest.mark.parametrize('device', DEVICES)
def test_captured_step_agrees_in_float32(notebook, monkeypatch, device):
    """Without bfloat16: on a CPU to the bit, on a GPU nearly."""
    monkeypatch.setattr(devices, 'has_bfloat16', lambda device: False)
    precision = torch.get_float32_matmul_precision()
    try:
        captured = take_steps(notebook, fast_step.capture, device)
        expected = take_steps(notebook, plain, device)
    finally:
        torch.set_float32_matmul_precision(precision)
    tolerance = 0 if device == 'cpu' else 0.02
    expect_close('Figures', captured[0], expected[0], tolerance)
    expect_close('Weights', captured[1], expected[1], tolerance)


@pytest.mark.parametrize('device', DEVICES)
def test_captured_step_agrees_in_bfloat16(notebook, monkeypatch, device):
    """With bfloat16, emulated where the machine has none: within 0.1, and yet not the same."""
    monkeypatch.setattr(devices, 'has_bfloat16', lambda device: True)
    figures, weights = take_steps(notebook, fast_step.capture, device)
    plain_figures, plain_weights = take_steps(notebook, plain, device)
    expect_close('Figures', figures, plain_figures, 0.1)
    rounded = (weights != plain_weights).any()
    expect(rounded, 'Weights', 'those of float32', 'rounded a little differently')
    expect(figures.dtype == torch.float32, 'Figures', figures.dtype, torch.float32)


def test_fast_path_can_be_turned_off(notebook, monkeypatch):
    """With DCGAN_FAST=0 the step is the plain one, to the bit."""
    monkeypatch.setattr(devices, 'has_bfloat16', lambda device: True)
    monkeypatch.setenv('DCGAN_FAST', '0')
    figures, weights = take_steps(notebook, fast_step.capture, 'cpu', 3)
    plain_figures, plain_weights = take_steps(notebook, plain, 'cpu', 3)
    expect_close('Figures', figures, plain_figures, 0)
    expect_close('Weights', weights, plain_weights, 0)


def test_other_devices_take_the_plain_step(notebook):
    """Neither a graph nor bfloat16 on a Mac's GPU, for example."""
    D, G, *optimizers = training_on('cpu', notebook)
    D.to('meta')
    G.to('meta')
    step = fast_step.capture(notebook.train_step, D, G, *optimizers)
    assert step.func is notebook.train_step and step.args == (D, G, *optimizers)


@needs_gpu
def test_step_is_one_graph(notebook):
    """On a GPU the step is recorded after its warm-up, and nothing makes it fall back."""
    D, G, d_optimizer, g_optimizer = training_on('cuda', notebook)
    step = fast_step.capture(notebook.train_step, D, G, d_optimizer, g_optimizer)
    for _ in range(6):
        step(torch.zeros(8, 3, 32, 32, device='cuda'), torch.randn(8, 6, device='cuda'))
    assert not step.broken and len(step.replays) == 1


# ------------------------------------------------------------------------------------------ threads


@pytest.fixture
def two_threads():
    """torch with two threads, however many the machine would give it."""
    with devices.n_threads(2):
        yield


def planted_rates(monkeypatch, **rates):
    """Let so many calls a second be measured with one, two or four threads."""
    by_number = {number: rates.get(name) for number, name in ((1, 'one'), (2, 'two'), (4, 'four'))}
    monkeypatch.setattr(fast_step, '_per_second', lambda act, number, seconds: by_number[number])
    monkeypatch.setattr(fast_step, 'LONG', 1)


@pytest.mark.parametrize('rates, said', [
    (dict(two=252, one=753), 'With threads = 1 among the parameters this would go 3.0 times'),
    (dict(two=1147, one=766), ''),
    (dict(two=100, one=129), '')])
def test_fewer_threads_are_advised_where_they_are_faster(notebook, folder, monkeypatch, capsys,
                                                         two_threads, rates, said):
    """One line before the first step, and only where it is worth it; their number stays."""
    planted_rates(monkeypatch, **rates)
    train_tiny(notebook, 1)
    before, *_ = capsys.readouterr().out.split('Epoch [')
    assert said in before and before.count('\n') == bool(said)
    assert torch.get_num_threads() == 2


def test_best_of_several_numbers_of_threads(notebook, folder, monkeypatch, capsys):
    planted_rates(monkeypatch, four=100, two=300, one=200)
    for number, said in ((4, True), (1, False)):
        with devices.n_threads(number):
            train_tiny(notebook, 1)
        assert ('With threads = 2 ' in capsys.readouterr().out) == said


def test_short_trainings_try_no_threads(notebook, folder, monkeypatch, two_threads):
    """As those of the tests, and of the preset smoke."""
    monkeypatch.setattr(fast_step, '_per_second', None)
    train_tiny(notebook, 1)


DROPOUT = 'nn.LeakyReLU(0.2, inplace=True)]                # half as large'


def test_trial_of_threads_changes_nothing(folder, monkeypatch, two_threads):
    """Really taken, with a D that draws random numbers: the run is the same to the bit."""
    noisy = load_definitions(NOTEBOOK, [(DROPOUT, f'nn.Dropout(0.1), {DROPOUT}')])
    without = run_training(noisy, 1, resume=False)
    calls = []
    measure = fast_step._per_second

    def measured(act, number, seconds):
        calls.append(number)
        return measure(act, number, 1e-3)

    monkeypatch.setattr(fast_step, '_per_second', measured)
    monkeypatch.setattr(fast_step, 'LONG', 1)
    expect_same_run(without, run_training(noisy, 1, resume=False))
    assert calls == [2, 1]


def test_trial_that_leaves_its_random_numbers_is_seen(folder, monkeypatch, two_threads):
    """The planted bug: without set_random_state the test above fails."""
    monkeypatch.setattr(fast_step, 'set_random_state', lambda state: None)
    with pytest.raises(AssertionError):
        test_trial_of_threads_changes_nothing(folder, monkeypatch, None)


def test_threads_are_kept_with_the_run(notebook, folder, monkeypatch, two_threads, capsys):
    """The parameter sets them, a checkpoint knows it, and with another number the run goes on."""
    monkeypatch.setenv('DCGAN_PRESET', 'quick threads=1')
    config = configure(dict(QUICK))
    assert config['threads'] == torch.get_num_threads() == 1
    train_tiny(notebook, 1, resume=True)
    train_tiny(notebook, 2, resume=True, threads=1)
    assert 'Continuing checkpoints_gan/ after epoch 1' in capsys.readouterr().out
    train_tiny(notebook, 3, resume=True, threads=2)
    assert 'Continuing checkpoints_gan/ after epoch 2' in capsys.readouterr().out
    assert load_checkpoint()['config']['threads'] == 2


@pytest.mark.parametrize('size, expected', [(32, 1), (64, 2)])
def test_inversion_of_small_pictures_takes_one_thread(notebook, monkeypatch, two_threads, size,
                                                      expected):
    """And gives the others back."""
    taken = []

    def search(G, starts, real, *_):
        taken.append(torch.get_num_threads())
        return starts, torch.zeros(len(starts))

    monkeypatch.setattr(latent, 'search', search)
    G = notebook.Generator(6, 4, size)
    latent.invert(G, drawn_faces(2, size), n_steps=2, features=0)
    assert set(taken) == {expected} and torch.get_num_threads() == 2
