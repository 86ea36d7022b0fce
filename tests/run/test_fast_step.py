"""The fast step gives the numbers of the plain step: to the bit, or to bfloat16's rounding."""
import functools

import pytest
import torch

from machinery import devices, fast_step
from machinery.drawn import drawn_faces
from tests.tools import DEVICES, expect, expect_close, needs_gpu, numbers_of, tiny_training


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


@pytest.mark.parametrize('word', ['false', 'no', 'off'])
def test_other_words_do_not_leave_the_fast_path_on(notebook, monkeypatch, word):
    monkeypatch.setenv('DCGAN_FAST', word)
    D, G, names = tiny_training(vars(notebook))
    with pytest.raises(ValueError, match=f"DCGAN_FAST: found '{word}', expected one of '0', '1'"):
        fast_step.capture(notebook.train_step, D, G, names['d_optimizer'], names['g_optimizer'])


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
