"""A recorded step, by a stand-in for CUDA graphs: checked at its first replay."""
import copy

import pytest
import torch

from machinery.fast_step import Replayed
from tests.tools import numbers_of


class StandIn:
    """Records on a CPU what CudaGraphs records on a GPU; its replay may have a fault."""

    def __init__(self, fault=None):
        self.fault = fault
        self.n_recorded = 0

    def forget(self):
        pass

    def warm_up(self, step, real, z, options):
        return step(real, z, **options)

    def record(self, step, optimizers, real, z, options):
        if self.fault == 'not recorded':
            raise RuntimeError('operation not permitted when stream is capturing')
        self.n_recorded += 1
        options = dict(options)
        if self.fault == 'penalty lost':
            options['penalty'] = 0

        def replay(real, z):
            figures = step(real, z, **options)
            if self.fault == 'stale figures':
                figures = figures * 0
            if self.fault == 'twice':
                step(real, z, **options)
            return figures
        return replay


def steps_of(notebook, fault=None, n_steps=8, wrap=True, penalty=10.):
    """Take some steps, replayed or plain; return (figures, weights, the replayed step)."""
    torch.manual_seed(0)
    D = notebook.Discriminator(4)
    G = notebook.Generator(6, 4)
    for network in (D, G):
        network.apply(notebook.weights_init_normal)
    optimizers = notebook.make_optimizers(D, G)

    def step(real, z, **options):
        return notebook.train_step(D, G, *optimizers, real, z, **options)

    if wrap:
        step = Replayed(step, (D, G), optimizers, StandIn(fault))
    figures = []
    for number in range(n_steps):
        batch_size = 3 if number % 4 == 3 else 4
        real = torch.rand(batch_size, 3, 32, 32) * 2 - 1
        z = torch.randn(batch_size, 6)
        figures.append(step(real, z, objective='wasserstein', penalty=penalty))
    return torch.stack(figures), torch.cat([numbers_of(D), numbers_of(G)]), step


def test_a_good_recording_changes_nothing(notebook, capsys):
    """The check leaves weights, optimizers and random numbers as the plain steps do, to the bit."""
    figures, weights, step = steps_of(notebook, n_steps=20)
    plain_figures, plain_weights, _ = steps_of(notebook, n_steps=20, wrap=False)
    assert torch.equal(figures, plain_figures)
    assert torch.equal(weights, plain_weights)
    assert not step.broken
    assert step.recorder.n_recorded == 2                 # one for each size of batch
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize('fault, message', [
    ('penalty lost', 'does not compute what the step computes (weights differ by'),
    ('stale figures', 'does not compute what the step computes (figures differ by'),
    ('twice', 'does not compute what the step computes (weights differ by'),
    ('not recorded', 'No CUDA graph, hence the plain step from here on: operation not permitted')])
def test_a_bad_recording_is_found_out_and_not_used(notebook, capsys, fault, message):
    """A message says so once, and the training is that of the plain step, to the bit."""
    figures, weights, step = steps_of(notebook, fault, n_steps=10)
    plain_figures, plain_weights, _ = steps_of(notebook, n_steps=10, wrap=False)
    assert step.broken
    assert capsys.readouterr().out.count(message) == 1
    assert torch.equal(figures, plain_figures)
    assert torch.equal(weights, plain_weights)


def test_recordings_are_forgotten_when_the_optimizer_has_new_state(notebook):
    """Loading a state puts it elsewhere; what was recorded would go on with the old one."""
    _, _, step = steps_of(notebook, n_steps=9)
    d_optimizer, _ = step.optimizers
    assert len(step.replays) == 1
    d_optimizer.load_state_dict(copy.deepcopy(d_optimizer.state_dict()))
    before = step.recorder.n_recorded
    step(torch.zeros(4, 3, 32, 32), torch.randn(4, 6), objective='wasserstein', penalty=10.)
    assert step.replays == {} and step.recorder.n_recorded == before


def test_the_stand_in_step_is_not_linear_in_its_options(notebook):
    """The faults above must matter: without the penalty the weights are others."""
    _, weights, _ = steps_of(notebook, n_steps=1, wrap=False)
    _, others, _ = steps_of(notebook, n_steps=1, wrap=False, penalty=0)
    assert not torch.allclose(weights, others, atol=1e-6)
