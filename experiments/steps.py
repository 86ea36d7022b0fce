"""Other training steps, that save passes through D: what they gain in time, and cost in faces.

Each stands in for the notebook's train_step: after the notebook's definitions it takes the same
arguments, and it returns the same figures. They do not augment.
"""
import functools

import torch

from experiments import common

STEPS = {}                   # {name: step}, filled below


def step(name):
    """Give a step its name in the tables."""
    def decorate(function):
        STEPS[name] = function
        return function
    return decorate


@step('one forward of D for fakes')
def one_forward(notebook, D, G, d_optimizer, g_optimizer, real, z, objective='bce', penalty=0,
                augmentation=()):
    """Let D judge the fakes once, for both players: G learns from D before its update."""
    d_objective, g_objective = notebook.OBJECTIVES[objective]
    fake = G(z)
    D_real, D_fake = D(real), D(fake)
    d_loss = d_objective(D_real, D_fake)
    g_loss = g_objective(D_real.detach(), D_fake)
    extra = penalty * notebook.gradient_penalty(D, real, fake, objective) if penalty else 0
    d_optimizer.zero_grad()
    g_optimizer.zero_grad()
    g_loss.backward(inputs=list(G.parameters()), retain_graph=True)
    (d_loss + extra).backward(inputs=list(D.parameters()))
    d_optimizer.step()
    g_optimizer.step()
    return figures(d_loss, g_loss, D_real, D_fake)


@step('one backward through D')
def one_backward(notebook, D, G, d_optimizer, g_optimizer, real, z, objective='bce', penalty=0,
                 augmentation=()):
    """Let one backward pass through D serve both players, for cross-entropy alone.

    D's loss of a fake has the slope s at its logit, and G's has s - 1, where s is D(fake). So the
    gradient that reaches a fake on behalf of D is multiplied by (s - 1) / s, and goes on to G
    (one-stage training; Shen et al., arXiv:2103.00430). Batch normalisation mixes the fakes of a
    batch, so this is an approximation.
    """
    d_objective, g_objective = notebook.OBJECTIVES[objective]
    fake = G(z)
    D_real, D_fake = D(real), D(fake)
    d_loss = d_objective(D_real, D_fake)
    s = D_fake.detach().sigmoid().clamp(min=1e-3)
    fake.register_hook(functools.partial(torch.mul, ((s - 1) / s)[:, :, None, None]))
    extra = penalty * notebook.gradient_penalty(D, real, fake, objective) if penalty else 0
    d_optimizer.zero_grad()
    g_optimizer.zero_grad()
    (d_loss + extra).backward()
    d_optimizer.step()
    g_optimizer.step()
    g_loss = g_objective(D_real.detach(), D_fake.detach())
    return figures(d_loss, g_loss, D_real, D_fake)


def figures(d_loss, g_loss, D_real, D_fake):
    judged = D_real.sigmoid().mean(), D_fake.sigmoid().mean()
    return torch.stack([d_loss, g_loss, *judged]).detach()


def definitions_with(name=None):
    """Return the notebook's definitions, with one of these steps in the place of its own."""
    notebook = common.notebook_definitions()
    if name:
        notebook.train_step = functools.partial(STEPS[name], notebook)
    return notebook
