"""The steps that save passes through D change what they say they change, and nothing else."""
import copy

import pytest
import torch

from experiments import steps

BATCH, SIZE, Z_SIZE = 6, 32, 10


def one_step(notebook, step, d_batch_norm=True, **options):
    """Take a step from fixed weights, by plain gradient descent; return (D's, G's) new weights."""
    torch.manual_seed(0)
    D = notebook.Discriminator(8, SIZE, d_batch_norm)
    G = notebook.Generator(Z_SIZE, 8, SIZE)
    optimizers = [torch.optim.SGD(network.parameters(), lr=1.0) for network in (D, G)]
    real, z = torch.rand(BATCH, 3, SIZE, SIZE) * 2 - 1, torch.randn(BATCH, Z_SIZE)
    step(D, G, *optimizers, real, z, **options)
    return [torch.nn.utils.parameters_to_vector(network.parameters()) for network in (D, G)]


def test_one_forward_leaves_D_as_the_notebook_does(notebook):
    """D learns the same, with the penalty as well; G learns from the D before."""
    variant = steps.definitions_with('one forward of D for fakes').train_step
    wanted, G_after = one_step(notebook, notebook.train_step, penalty=0.1)
    found, G_before = one_step(notebook, variant, penalty=0.1)
    torch.testing.assert_close(found, wanted)
    assert not torch.allclose(G_before, G_after, atol=1e-6)


def test_one_forward_teaches_G_by_the_D_before(notebook):
    """G's update is the notebook's where D does not move."""
    def with_still_D(D, G, d_optimizer, g_optimizer, real, z):
        still = copy.deepcopy(D)
        d_optimizer.step = lambda: None
        return notebook.train_step(still, G, d_optimizer, g_optimizer, real, z)

    _, wanted = one_step(notebook, with_still_D)
    variant = steps.definitions_with('one forward of D for fakes').train_step
    torch.testing.assert_close(one_step(notebook, variant)[1], wanted)


@pytest.mark.parametrize('batch_norm, same', [(False, True), (True, False)])
def test_one_backward_is_exact_without_batch_norm(batch_norm, same):
    """Then no fake is mixed with another, and both players learn what two passes teach them."""
    two, one = [one_step(definitions, definitions.train_step, batch_norm)
                for name in ('one forward of D for fakes', 'one backward through D')
                for definitions in [steps.definitions_with(name)]]
    torch.testing.assert_close(one[0], two[0])                       # D learns the same
    assert torch.allclose(one[1], two[1], atol=1e-5) == same         # G nearly
