"""The tests of dcgan_faces.ipynb, for two callers with one body.

In the notebook, a part is handed to its test under the part's own cell: tests.test_generator(Generator). It prints
'Tests Passed', or raises an AssertionError that says what was expected, what came and with which parameters.
Under pytest, the same tests get the same parts from fixtures of the same names, read out of the notebook.
"""
import ast
import contextlib
import copy
import functools
import http.server
import inspect
import io
import json
import math
import os
import pickle
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader

import helpers

HERE = Path(__file__).resolve().parent
NOTEBOOK = HERE / 'dcgan_faces.ipynb'
LONG = pytest.mark.skipif('DCGAN_LONG' not in os.environ, reason='takes long: set DCGAN_LONG=1')
PARTS = ('get_dataloader', 'scale', 'random_flip', 'Discriminator', 'Generator', 'weights_init_normal', 'build_network', 'real_loss',
         'fake_loss', 'OBJECTIVES', 'gradient_penalty', 'make_optimizers',
         'decay_learning_rates', 'train_step', 'update_average', 'generate', 'train', 'view_samples',
         'sample_faces', 'slerp')

# ---------------------------------------------------------------------------------------------------- mechanics


def expect(holds, what, came, expected, **parameters):
    """Fail with the message, what came, what was expected and the parameters of the test, unless it holds."""
    if not holds:
        raise AssertionError(f'{what}: expected {expected}, found {came}. Test parameters: {parameters}')


def expect_equal(what, came, expected, **parameters):
    expect(came == expected, what, came, expected, **parameters)


def expect_close(what, came, expected, tolerance=1e-5, **parameters):
    difference = (torch.as_tensor(came).double() - torch.as_tensor(expected).double()).abs().max().item()
    expect(difference <= tolerance, what, f'{came} (off by {difference:.3g})', expected, **parameters)


def part_test(test):
    """Make a test of parts callable from the notebook: seeded, quiet, random state put back, result printed."""
    @functools.wraps(test)
    def run(*parts, **named_parts):
        before = helpers.random_state()
        torch.manual_seed(0)
        try:
            with contextlib.redirect_stdout(io.StringIO()), helpers.alone():
                test(*parts, **named_parts)
        finally:
            helpers.set_random_state(before)
        print('Tests Passed')
    return run


@pytest.fixture
def notebook():
    """The notebook's definitions, a fresh module for each test."""
    return helpers.load_definitions(NOTEBOOK)


def _part_fixture(name):
    return pytest.fixture(name=name)(lambda notebook: getattr(notebook, name))


for _name in PARTS:
    globals()[f'_part_{_name}'] = _part_fixture(_name)


def scope_of(function):
    """The global names of the notebook that a function of it sees."""
    return inspect.unwrap(function).__globals__


@contextlib.contextmanager
def global_names(function, **names):
    """Lend a function of the notebook other global names, for as long as the block runs."""
    scope, missing = scope_of(function), object()
    before = {name: scope.get(name, missing) for name in names}
    scope.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is missing:
                del scope[name]
            else:
                scope[name] = value


@contextlib.contextmanager
def empty_folder():
    """Work in an empty folder that vanishes afterwards."""
    import tempfile
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder, and none of the project's environment variables."""
    monkeypatch.chdir(tmp_path)
    for name in ('DCGAN_DATA', 'DCGAN_PRESET', 'DCGAN_URL', 'DCGAN_FAST', 'DCGAN_ATTRIBUTES'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('no_proxy', '*')
    return tmp_path


def write_images(folder, n, size=(64, 64), ending='jpg', seed=0):
    """Fill a folder with n small images of noise on a colour of their own; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    paths = [folder / f'{number:06d}.{ending}' for number in range(1, n + 1)]
    for path in paths:
        pixels = random.integers(0, 200, 3) + random.integers(0, 50, (size[1], size[0], 3))
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return paths


def tiny_training(scope, n_images=10, batch_size=4, lr=2e-4, seed=0):
    """Small networks, optimizers and a loader: (D, G, the global names that train reads). The last batch is short."""
    torch.manual_seed(seed)
    D, G = scope['Discriminator'](4), scope['Generator'](z_size=6, conv_dim=4)
    for network in (D, G):
        network.apply(scope['weights_init_normal'])
    d_optimizer, g_optimizer = scope['make_optimizers'](D, G, lr)
    images = helpers.drawn_faces(n_images, 32, seed)
    faces = helpers.ImageDataset(images, torch.zeros(n_images, dtype=torch.int64))
    loader = DataLoader(faces, batch_size, shuffle=True, collate_fn=faces.collate)
    return D, G, dict(celeba_train_loader=loader, batch_size=batch_size, img_size=32, z_size=6, train_on_gpu=False,
                      d_optimizer=d_optimizer, g_optimizer=g_optimizer)


def numbers_of(module):
    """All weights and buffers of a module in one vector."""
    return torch.cat([value.detach().flatten().double() for value in module.state_dict().values()])


# ---------------------------------------------------------------------------------------------- the original two


@part_test
def test_discriminator(Discriminator):
    """The exercise's own test: (50, 3, 32, 32) pixels of -1 give (50, 1)."""
    batch_size, conv_dim = 50, 10
    D = Discriminator(conv_dim)
    out = D(torch.full((batch_size, 3, 32, 32), -1.0))
    expect_equal('Wrong size of the discriminator output', tuple(out.size()), (batch_size, 1),
                 batch_size=batch_size, conv_dim=conv_dim)


@part_test
def test_generator(Generator):
    """The exercise's own test: (50, 25) noise gives (50, 3, 32, 32)."""
    batch_size, z_size, conv_dim = 50, 25, 10
    G = Generator(z_size, conv_dim)
    out = G(torch.rand(batch_size, z_size) * 2 - 1)
    expect_equal('Wrong size of the generator output', tuple(out.size()), (batch_size, 3, 32, 32),
                 batch_size=batch_size, z_size=z_size, conv_dim=conv_dim)


# -------------------------------------------------------------------------------------------------- data, scale


@part_test
def test_get_dataloader(get_dataloader):
    """Shape, type, range, length, order and contents of the batches of a folder of ten images."""
    with empty_folder() as here:
        paths = write_images(here / 'faces' / 'celeba', 10)   # in a folder of its own, as torchvision's ImageFolder wants
        for image_size in (32, 64):
            loader = get_dataloader(4, image_size=image_size, data_dir='faces')
            parameters = dict(batch_size=4, image_size=image_size, images=10)
            expect_equal('batch_size', loader.batch_size, 4, **parameters)
            expect_equal('Number of batches', len(loader), 3, **parameters)
            batches = [images for images, labels in loader]
            shapes = [tuple(batch.shape) for batch in batches]
            expect_equal('Shapes', shapes, [(size, 3, image_size, image_size) for size in (4, 4, 2)], **parameters)
            images = torch.cat(batches)
            expect_equal('Type and device', (images.dtype, images.device.type), (torch.float32, 'cpu'), **parameters)
            expect(0 <= images.min() and .1 < images.max() <= 1, 'Range', (images.min(), images.max()), '[0, 1]')
            colours = sorted(round(colour, 2) for colour in images.mean((2, 3))[:, 0].tolist())
            on_disk = sorted(round(np.asarray(Image.open(path))[..., 0].mean() / 255, 2) for path in paths)
            expect_close('Colours of the images', colours, on_disk, .02, **parameters)
            again = torch.cat([images for images, labels in loader])
            expect(not torch.equal(images, again), 'A second pass', 'the same order', 'another order', **parameters)


@part_test
def test_scale(scale):
    """Symmetric and asymmetric ranges, ends included; the argument is left alone."""
    x = torch.linspace(0, 1, 5)
    for low, high in ((-1, 1), (0, 5), (-3, 1), (0, 1), (2, 2)):
        expected = torch.tensor([low + (high - low) * share for share in (0, .25, .5, .75, 1)])
        expect_close('Scaled values', scale(x.clone(), (low, high)), expected, feature_range=(low, high))
    expect_close('Default range', scale(x), [-1, -.5, 0, .5, 1])
    before = x.clone()
    scale(x)
    expect(torch.equal(x, before), 'The argument', x, before)


@part_test
def test_random_flip(random_flip):
    """About half of the images come back mirrored left to right, the others as they were; the argument is left alone."""
    x = torch.rand(400, 3, 4, 6)
    before = x.clone()
    y = random_flip(x)
    mirrored = (y == x.flip(3)).flatten(1).all(1)
    kept = (y == x).flatten(1).all(1)
    expect((mirrored ^ kept).all(), 'Images', 'others', 'each as it was, or mirrored left to right')
    expect(.4 < mirrored.float().mean() < .6, 'Share of mirrored images', mirrored.float().mean(), 'about 1/2')
    expect(torch.equal(x, before), 'The argument', 'changed', 'as it was')


# ------------------------------------------------------------------------------------------------------ networks


def layers_of(network, kinds):
    return [layer for layer in network.modules() if isinstance(layer, kinds)]


def expect_batch_norm(network, count, **parameters):
    layers = layers_of(network, nn.BatchNorm2d)
    expect_equal('Batch normalisations', len(layers), count, **parameters)
    for layer in layers:
        expect_equal('eps and momentum', (layer.eps, layer.momentum), (1e-5, .1), **parameters)


@part_test
def test_discriminator_layers(Discriminator):
    """Layers, logits and gradient at three sizes and odd widths, batches of one included."""
    for img_size, conv_dim in ((32, 1), (32, 7), (64, 8), (128, 5)):
        parameters = dict(img_size=img_size, conv_dim=conv_dim)
        D = Discriminator(conv_dim, img_size=img_size)
        convolutions = layers_of(D, nn.Conv2d)
        depths = [conv_dim * 2 ** i for i in range(int(math.log2(img_size)) - 2)]
        expect_equal('Depths', [layer.out_channels for layer in convolutions][:len(depths)], depths, **parameters)
        expect(all((layer.kernel_size, layer.stride) == ((4, 4), (2, 2)) for layer in convolutions[:len(depths)]),
               'Kernels and strides', convolutions, '4 and 2', **parameters)
        expect_equal('Pooling layers', layers_of(D, (nn.MaxPool2d, nn.AvgPool2d)), [], **parameters)
        expect_equal('Sigmoids', layers_of(D, nn.Sigmoid), [], **parameters)
        slopes = {layer.negative_slope for layer in layers_of(D, nn.LeakyReLU)}
        expect_equal('Slopes of the leaky ReLUs', slopes, {.2}, **parameters)
        expect_batch_norm(D, len(depths) - 1, **parameters)
        for batch_size in (1, 3):
            x = torch.randn(batch_size, 3, img_size, img_size, requires_grad=True)
            out = D(x)
            expect_equal('Output', tuple(out.shape), (batch_size, 1), **parameters)
            out.sum().backward()
            expect(x.grad.isfinite().all() and x.grad.abs().sum() > 0, 'Gradient', x.grad, 'finite, not zero')
    with pytest.raises(ValueError, match='expected one of 32, 64, 128'):
        Discriminator(4, img_size=33)


@part_test
def test_generator_layers(Generator):
    """Layers, range and gradient at three sizes and odd widths, batches of one included."""
    for img_size, conv_dim, z_size in ((32, 1, 3), (32, 7, 25), (64, 8, 100), (128, 5, 1)):
        parameters = dict(img_size=img_size, conv_dim=conv_dim, z_size=z_size)
        G = Generator(z_size=z_size, conv_dim=conv_dim, img_size=img_size)
        depths = [conv_dim * 2 ** i for i in range(int(math.log2(img_size)) - 2)][::-1]
        convolutions = layers_of(G, nn.ConvTranspose2d)[-len(depths):]
        expect_equal('Depths into the transposed convolutions',
                     [layer.in_channels for layer in convolutions], depths, **parameters)
        expect(all((layer.kernel_size, layer.stride) == ((4, 4), (2, 2)) for layer in convolutions),
               'Kernels and strides', convolutions, '4 and 2', **parameters)
        expect_batch_norm(G, len(depths), **parameters)
        for batch_size in (1, 3):
            z = torch.randn(batch_size, z_size, requires_grad=True)
            out = G(z)
            expect_equal('Output', tuple(out.shape), (batch_size, 3, img_size, img_size), **parameters)
            expect(out.abs().max() <= 1 and out.min() < 0, 'Range', (out.min(), out.max()), '[-1, 1]', **parameters)
            (out * torch.randn_like(out)).sum().backward()
            expect(z.grad.isfinite().all(), 'Gradient', z.grad, 'finite', **parameters)
    expect_equal('Type and device of the weights', {(p.dtype, p.device.type) for p in G.parameters()},
                 {(torch.float32, 'cpu')})


@part_test
def test_weights_init_normal(weights_init_normal):
    """N(0, 0.02) for Conv2d, ConvTranspose2d and Linear; bias 0 or left; BatchNorm and others untouched."""
    for layer in (nn.Conv2d(64, 64, 4), nn.ConvTranspose2d(64, 64, 4), nn.Linear(256, 256),
                  nn.Conv2d(64, 64, 4, bias=False)):
        bias = None if layer.bias is None else layer.bias.detach().clone()
        layer.apply(weights_init_normal)
        kind = type(layer).__name__
        expect_close(f'Mean of the weights of {kind}', layer.weight.mean().detach(), 0, 5e-4)
        expect_close(f'Standard deviation of the weights of {kind}', layer.weight.std().detach(), .02, 5e-4)
        farthest = layer.weight.abs().max().item()
        expect(farthest > .06, f'Largest weight of {kind}', farthest, 'beyond three deviations, as a normal one has')
        if bias is not None:
            kept = torch.equal(layer.bias, bias) or not layer.bias.any()
            expect(kept, f'Bias of {kind}', layer.bias, 'zero, or as it was')
    normalisation = nn.BatchNorm2d(8)
    before = copy.deepcopy(normalisation.state_dict())
    normalisation.apply(weights_init_normal)
    nn.ReLU().apply(weights_init_normal)
    for name, value in before.items():
        expect(torch.equal(value, normalisation.state_dict()[name]), f'BatchNorm {name}', 'changed', 'untouched')


@part_test
def test_build_network(build_network):
    """D and G come back initialised, in this order, printed D, an empty line, G."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        D, G = build_network(d_conv_dim=16, g_conv_dim=16, z_size=100)
    expect_equal('Printed', printed.getvalue().strip(), f'{D}\n\n{G}')
    expect_equal('Outputs', (tuple(D(torch.zeros(2, 3, 32, 32)).shape), tuple(G(torch.zeros(2, 100)).shape)),
                 ((2, 1), (2, 3, 32, 32)))
    for name, network in (('D', D), ('G', G)):
        for layer in layers_of(network, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            spread = layer.weight.std().item()
            expect(abs(spread - .02) < .003, f'{name} is not initialised: spread of {layer}', spread, .02)


# ------------------------------------------------------------------------------------------- losses, optimizers


@part_test
def test_losses(real_loss, fake_loss):
    """Values, gradients, smoothing, both shapes, and logits of ±10,000."""
    for shape in ((6, 1), (6,)):
        logits = torch.linspace(-3, 3, 6).view(shape).requires_grad_()
        p = torch.sigmoid(logits.detach().double())
        for name, loss, target in (('real_loss', real_loss(logits), 1), ('fake_loss', fake_loss(logits), 0),
                                   ('real_loss, smooth', real_loss(logits, smooth=True), .9)):
            value = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
            expect_close(name, loss.detach(), value, logits=logits.tolist())
            gradient, = torch.autograd.grad(loss, logits)
            expect_close(f'Gradient of {name}', gradient, (p - target) / 6, 1e-6, logits=logits.tolist())
    for logit in (-1e4, 1e4):
        for name, loss, target in (('real_loss', real_loss, 1), ('fake_loss', fake_loss, 0)):
            x = torch.full((4, 1), logit, requires_grad=True)
            value = loss(x)
            gradient, = torch.autograd.grad(value, x)
            expect_close(name, value.detach(), max(0, logit * (1 - 2 * target)), .01, logit=logit)
            expect_close(f'Gradient of {name}', gradient, [[((logit > 0) - target) / 4]] * 4, logit=logit)


@part_test
def test_objectives(OBJECTIVES):
    """Values of every objective against its paper's formula, and the sign of its gradients."""
    real, fake = torch.tensor([[.5], [-1.], [3.]]), torch.tensor([[-.5], [2.], [-4.]])
    r, f = real.double().flatten().tolist(), fake.double().flatten().tolist()

    def mean(values):
        values = list(values)
        return sum(values) / len(values)

    def plus(x):
        return math.log1p(math.exp(x))

    pairs = list(zip(r, f))
    expected = {
        'bce': (mean(plus(-a) + plus(b) for a, b in pairs), mean(plus(-b) for b in f)),
        'bce-smooth': (mean(.9 * plus(-a) + .1 * plus(a) + plus(b) for a, b in pairs), mean(plus(-b) for b in f)),
        'least-squares': (mean((a - 1) ** 2 + b ** 2 for a, b in pairs), mean((b - 1) ** 2 for b in f)),
        'hinge': (mean(max(0, 1 - a) + max(0, 1 + b) for a, b in pairs), -mean(f)),
        'wasserstein': (mean(f) - mean(r), -mean(f)),
        'relativistic': (mean(plus(b - a) for a, b in pairs), mean(plus(a - b) for a, b in pairs)),
    }
    expect(set(expected) <= set(OBJECTIVES), 'Names', sorted(OBJECTIVES), f'{sorted(expected)}, and others if you like')
    for name in expected:
        d_objective, g_objective = OBJECTIVES[name]
        for player, objective, value in (('D', d_objective, expected[name][0]), ('G', g_objective, expected[name][1])):
            x, y = real.clone().requires_grad_(), fake.clone().requires_grad_()
            loss = objective(x, y)
            expect_close(f'Loss of {player}', loss.detach(), value, 1e-5, objective=name)
        slope, = torch.autograd.grad(loss, y)        # G's, at the fake of the lowest logit
        expect(slope[2] < 0, "G's gradient", slope.tolist(), 'calls for a higher logit', objective=name)


@part_test
def test_gradient_penalty(gradient_penalty):
    """For a linear D its slope is known: |w|, wherever it is measured."""
    w = torch.randn(3 * 4 * 4)

    def D(x):
        return (x.flatten(1) @ w)[:, None]

    real, fake = torch.randn(5, 3, 4, 4), torch.randn(5, 3, 4, 4, requires_grad=True)
    expect_close('R1', gradient_penalty(D, real, fake, 'bce').detach(), w.square().sum(), 1e-3)
    expect_close('R1 + R2', gradient_penalty(D, real, fake, 'relativistic').detach(), 2 * w.square().sum(), 1e-3)
    expect_close('Wasserstein', gradient_penalty(D, real, fake, 'wasserstein').detach(), (w.norm() - 1) ** 2, 1e-3)
    v = w.clone().requires_grad_()

    def curved(x):
        return ((x.flatten(1) ** 2) @ v)[:, None] / 2

    on_real, on_fake = ((x.detach().flatten(1) * w).square().sum(1).mean() for x in (real, fake))
    expect_close('R1 of a curved D', gradient_penalty(curved, real, fake, 'bce').detach(), on_real, 1e-3)
    penalty = gradient_penalty(curved, real, fake, 'relativistic')
    expect_close('R1 + R2 of a curved D', penalty.detach(), on_real + on_fake, 1e-3)
    far = torch.zeros(400, 3, 4, 4), torch.ones(400, 3, 4, 4)        # in between, the slope is the share of the way times |w|
    between = gradient_penalty(curved, *far, 'wasserstein').detach()
    shares = torch.linspace(0, 1, 1001)
    expect_close('Wasserstein of a curved D, each image somewhere in between', between,
                 (shares * w.norm() - 1).square().mean(), .15 * (w.norm() - 1).square())
    slopes = torch.autograd.grad(penalty, [v, fake], allow_unused=True)
    expect(slopes[0] is not None and slopes[0].abs().sum() > 0, "D's gradient of the penalty", slopes[0], 'a gradient')
    expect(slopes[1] is None, "G's gradient of the penalty", 'a gradient', 'none')


@part_test
def test_decay_learning_rates(decay_learning_rates):
    """Constant for the first half, then down in a line, never 0; the same whether or not it was asked before."""
    optimizers = [torch.optim.Adam(nn.Linear(2, 1).parameters(), lr) for lr in (2e-4, 1e-3)]
    rates = []
    for epoch in range(1, 11):
        decay_learning_rates(optimizers, epoch, 10)
        rates.append([optimizer.param_groups[0]['lr'] for optimizer in optimizers])
    rates = torch.tensor(rates, dtype=torch.float64) / torch.tensor([2e-4, 1e-3], dtype=torch.float64)
    expect_close('First half', rates[:5], torch.ones(5, 2), 1e-9, n_epochs=10)
    expect(0 < rates[-1, 0] < .25, 'Last rate', rates[-1].tolist(), 'above 0, under a quarter', n_epochs=10)
    steps = rates[6:] - rates[5:-1]
    expect_close('Steps down', steps, steps[:1].expand_as(steps), 1e-9, n_epochs=10)
    expect(steps.max() < 0, 'Steps down', steps.tolist(), 'below 0', n_epochs=10)
    decay_learning_rates(optimizers, 7, 10)
    expect_close('Asked again', optimizers[0].param_groups[0]['lr'] / 2e-4, rates[6, 0], 1e-6, epoch=7)


@part_test
def test_make_optimizers(make_optimizers):
    """Two Adams with the DCGAN values by default, each over all weights of its own network and no others."""
    D, G = nn.Linear(3, 1), nn.Linear(2, 3)
    for network, optimizer in zip((D, G), make_optimizers(D, G)):
        expect(isinstance(optimizer, torch.optim.Adam), 'Optimizer', type(optimizer), 'Adam')
        group, = optimizer.param_groups
        expect_equal('lr and betas', (group['lr'], tuple(group['betas'])), (2e-4, (.5, .999)))
        expect_equal('Weights', [id(p) for p in group['params']], [id(p) for p in network.parameters()])
    group = make_optimizers(D, G, 1e-3, .1, .99)[0].param_groups[0]
    expect_equal('lr and betas', (group['lr'], tuple(group['betas'])), (1e-3, (.1, .99)), lr=1e-3, beta1=.1, beta2=.99)


# ------------------------------------------------------------------------------------------------- step and loop


@part_test
def test_train_step(train_step):
    """The numbers of one step against an independent calculation; each player's step leaves the other alone."""
    scope = scope_of(train_step)
    for objective, penalty, batch_size in (('bce', 0, 4), ('bce-smooth', 0, 3), ('relativistic', .5, 4)):
        smooth = objective == 'bce-smooth'
        D, G, names = tiny_training(scope)
        d_optimizer, g_optimizer = names['d_optimizer'], names['g_optimizer']
        D2, G2 = copy.deepcopy(D), copy.deepcopy(G)
        d_optimizer2, g_optimizer2 = (torch.optim.Adam(m.parameters(), 2e-4, (.5, .999)) for m in (D2, G2))
        real, z = torch.rand(batch_size, 3, 32, 32) * 2 - 1, torch.randn(batch_size, 6)
        parameters = dict(objective=objective, penalty=penalty, batch_size=batch_size)
        for p in (*D.parameters(), *G.parameters()):
            p.grad = torch.ones_like(p)              # left over from before: no step may add to it
        seen_by_G = []
        hooks = [next(G.parameters()).register_hook(lambda _: seen_by_G.append('backward')),
                 G.register_forward_hook(lambda *_: seen_by_G.append('forward'))]
        out = train_step(D, G, d_optimizer, g_optimizer, real, z, objective=objective, penalty=penalty)
        for hook in hooks:
            hook.remove()
        expect_equal("G's passes: D's step must not run back into G", seen_by_G, ['forward', 'backward'], **parameters)

        fake = G2(z)                                 # the same step, written out by hand
        logits_real, logits_fake = D2(real), D2(fake.detach())
        d_loss = F.softplus(-logits_real).mean() + .1 * smooth * logits_real.mean() + F.softplus(logits_fake).mean()
        extra = 0
        if penalty:
            d_loss = F.softplus(logits_fake - logits_real).mean()
            for x in (real, fake):
                x = x.detach().requires_grad_()
                slope, = torch.autograd.grad(D2(x).sum(), x, create_graph=True)
                extra = extra + penalty * slope.square().sum() / batch_size
        for p, gradient in zip(D2.parameters(), torch.autograd.grad(d_loss + extra, list(D2.parameters()))):
            p.grad = gradient
        d_optimizer2.step()
        g_loss = F.softplus((logits_real.detach() if penalty else 0) - D2(fake)).mean()
        for p, gradient in zip(G2.parameters(), torch.autograd.grad(g_loss, list(G2.parameters()))):
            p.grad = gradient
        g_optimizer2.step()

        expect_equal('Result', (tuple(out.shape), out.requires_grad), ((4,), False), **parameters)
        expected = [d_loss, g_loss, torch.sigmoid(logits_real).mean(), torch.sigmoid(logits_fake).mean()]
        expect_close('d_loss, g_loss, D(x), D(G(z))', out, torch.stack(expected).detach(), 1e-5, **parameters)
        for name, ours, reference in (('D', D, D2), ('G', G, G2)):
            expect_close(f'Weights and statistics of {name} after one step', numbers_of(ours), numbers_of(reference),
                         2e-6, **parameters)
            for p, p2 in zip(ours.parameters(), reference.parameters()):
                expect_close(f"Gradients of {name}: only its own step's", p.grad, p2.grad, 1e-5, **parameters)
        expect(all(p.requires_grad for p in D.parameters()), "D's weights after the step", 'frozen', 'trainable')


@part_test
def test_update_average(update_average):
    """Weights and running statistics move by 1 - decay; the counter is copied; G is left alone."""
    G = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = copy.deepcopy(G)
    G(torch.randn(8, 3))
    with torch.no_grad():
        for p in G.parameters():
            p.add_(1)
    start, goal = copy.deepcopy(average.state_dict()), copy.deepcopy(G.state_dict())
    update_average(average, G, .75)
    for name, value in average.state_dict().items():
        expected = start[name] * .75 + goal[name] * .25 if value.is_floating_point() else goal[name]
        expect_close(name, value, expected, decay=.75)
        expect_close(f'{name} of G itself', G.state_dict()[name], goal[name], 0)


@part_test
def test_generate(generate):
    """On the CPU, without a graph, each image by itself whatever the batch; G's mode is put back."""
    G = scope_of(generate)['Generator'](z_size=5, conv_dim=4)
    for _ in range(3):
        G(torch.randn(16, 5))                        # gives the running statistics something to hold
    z = torch.randn(4, 5)
    for training in (True, False):
        G.train(training)
        before = numbers_of(G)
        images = generate(G, z)
        parameters = dict(training=training)
        expect_equal('Images', (tuple(images.shape), images.dtype, images.device.type, images.requires_grad),
                     ((4, 3, 32, 32), torch.float32, 'cpu', False), **parameters)
        expect_close('An image made alone', generate(G, z[:1]), images[:1], 1e-5, **parameters)
        expect_equal('Mode of G afterwards', G.training, training, **parameters)
        expect(torch.equal(numbers_of(G), before), "G's statistics", 'changed', 'untouched', **parameters)


PRINTED = re.compile(r'^Epoch \[( {4}\d)/( {4}\d)\] \| d_loss: (\d\.\d{4}) \| g_loss: (\d\.\d{4})$', re.M)


@part_test
def test_train(train):
    """The loop: what each step is given, what is printed, recorded and written, and the grids' noise."""
    scope = scope_of(train)
    for ema_decay in (0, .9):
        with empty_folder(), contextlib.redirect_stdout(io.StringIO()) as printed:
            D, G, names = tiny_training(scope)
            step, generate, steps, noises = scope['train_step'], scope['generate'], [], []

            def watched_step(D, G, d_optimizer, g_optimizer, real, z, **options):
                steps.append((real.detach().clone(), z.detach().clone(), D.training and G.training))
                return step(D, G, d_optimizer, g_optimizer, real, z, **options)

            def watched_generate(G, z):
                noises.append(z.clone())
                return generate(G, z)

            with global_names(train, **names, train_step=watched_step, generate=watched_generate):
                losses = train(D, G, 3, print_every=2, ema_decay=ema_decay)
            samples = helpers.load_samples('train_samples.pkl')
            history = helpers.load_history()
            saved = helpers.load_checkpoint()
        parameters = dict(n_epochs=3, print_every=2, images=10, batch_size=4, ema_decay=ema_decay)
        expect_equal('Images a step', [len(real) for real, _, _ in steps], [4, 4, 2] * 3, **parameters)
        expect_equal('Noise a step', [tuple(z.shape) for _, z, _ in steps], [(4, 6), (4, 6), (2, 6)] * 3, **parameters)
        expect(all(training for *_, training in steps), 'Networks in a step', 'eval mode', 'train mode', **parameters)
        lowest, highest = (f(getattr(real, f.__name__)().item() for real, *_ in steps) for f in (min, max))
        expect(-1 <= lowest < -.8 and .5 < highest <= 1, 'Range of the real images', (lowest, highest), '[-1, 1]')
        spread = torch.cat([z.flatten() for _, z, _ in steps]).std().item()
        expect(.7 < spread < 1.3, 'Spread of the noise', spread, 'that of N(0, 1)', **parameters)
        expect(not torch.equal(steps[0][1], steps[1][1]), 'Noise of two steps', 'the same', 'drawn anew')
        expect(all(torch.equal(z, noises[0]) for z in noises) and len(noises) == 3,
               'fixed_z', 'another one in some epoch', 'the same in all epochs', **parameters)
        lines = PRINTED.findall(printed.getvalue())
        expect_equal('Epochs printed', [(int(a), int(b)) for a, b, *_ in lines], [(e, 3) for e in (1, 1, 2, 2, 3, 3)],
                     printed=printed.getvalue())
        expect_equal('Pairs printed and returned', [(f'{d:.4f}', f'{g:.4f}') for d, g in losses],
                     [(d, g) for *_, d, g in lines], **parameters)
        expect_equal("np.array(losses).T", np.array(losses).T.shape, (2, 6), **parameters)
        shapes = [(tuple(s.shape), s.dtype, s.requires_grad) for s in samples]
        expect_equal('Samples', shapes, [((16, 3, 32, 32), torch.float32, False)] * 3, **parameters)
        expect(all(s.abs().max() <= 1 for s in samples), 'Range of the samples', samples, '[-1, 1]')
        expect(not torch.equal(samples[0], samples[2]), 'Samples of two epochs', 'the same', 'different')
        expect_equal('Losses kept', [len(history[name]) for name in ('d_loss', 'g_loss', 'd_real', 'd_fake')], [9] * 4)
        expect_close('Losses kept', history['d_loss'][::3][:1], [losses[0][0]], 1e-6)
        expect_equal('Epoch, steps and images in the checkpoint',
                     [saved[name] for name in ('epoch', 'n_steps', 'images_seen')], [3, 9, 30], **parameters)
        same = torch.equal(numbers_of(G), torch.cat([v.flatten().double() for v in saved['G_average'].values()]))
        expect_equal("The grids' generator is G itself", same, ema_decay == 0, **parameters)


@part_test
def test_view_samples(view_samples):
    """A 2 x 8 grid of one epoch, for any image size and for what old pickles hold."""
    import matplotlib.pyplot as plt
    samples = [torch.rand(16, 3, size, size, requires_grad=True) * 2 - 1 for size in (32, 64)]
    shown = plt.get_fignums()
    for epoch, size in ((0, 32), (-1, 64)):
        view_samples(epoch, samples)
        figure = plt.gcf()
        expect_equal('Pictures', len(figure.axes), 16, epoch=epoch)
        layout = {axis.get_subplotspec().get_gridspec().get_geometry() for axis in figure.axes}
        expect_equal('Rows and columns', layout, {(2, 8)}, epoch=epoch)
        picture = np.asarray(figure.axes[3].images[0].get_array(), dtype=float)
        expected = (samples[epoch][3].detach().permute(1, 2, 0).numpy() + 1) / 2
        expect_close('Fourth picture', picture, expected, 1e-6, epoch=epoch)
    for number in set(plt.get_fignums()) - set(shown):
        plt.close(number)


@part_test
def test_slerp(slerp):
    """Both ends, the right number of points, and no dip of the length in between."""
    start, end = torch.tensor([3., 0, 0]), torch.tensor([0, 3., 0])
    path = slerp(start, end, 5)
    expect_equal('Shape', tuple(path.shape), (5, 3))
    expect_close('Ends', path[[0, -1]], torch.stack([start, end]))
    expect_close('Lengths', path.norm(dim=1), torch.full((5,), 3.))


# ---------------------------------------------------------------------------- whole runs: from here on pytest alone


def run_training(notebook, n_epochs, resume=False, seed=0, **options):
    """Train tiny networks in the current folder; return everything that a run must bring back."""
    D, G, names = tiny_training(vars(notebook), seed=seed)
    with global_names(notebook.train, **names):
        losses = notebook.train(D, G, n_epochs, 1, flip=True, ema_decay=.9, resume=resume, **options)
    saved = helpers.load_checkpoint()
    optimizers = [state for name in ('d_optimizer', 'g_optimizer') for state in saved[name]['state'].values()]
    return dict(losses=losses, D=numbers_of(D), G=numbers_of(G), samples=helpers.load_samples(), epoch=saved['epoch'],
                average=list(saved['G_average'].values()), history=helpers.load_history()['d_loss'].tolist(),
                optimizers=[value for state in optimizers for value in state.values()])


def expect_same_run(one, other):
    for name, value in one.items():
        if isinstance(value, (list, tuple)) and torch.is_tensor(value[0]):
            same = len(value) == len(other[name]) and all(map(torch.equal, value, other[name]))
        else:
            same = torch.equal(value, other[name]) if torch.is_tensor(value) else value == other[name]
        expect(same, f'A resumed run: {name}', 'another', 'bit for bit that of a run that never stopped')


def test_resume_is_exact(notebook, folder):
    """Two epochs, a stop, new networks, two more: bit for bit the run of four epochs."""
    whole = run_training(notebook, 4)
    run_training(notebook, 2)
    torch.manual_seed(12345)
    resumed = run_training(notebook, 4, resume=True, seed=0)
    expect_same_run(whole, resumed)


def test_interrupt_keeps_finished_epochs(notebook, folder, capsys):
    """Ctrl-C in the third epoch: train returns, two epochs are on disk, and the run goes on to the same end."""
    whole = run_training(notebook, 4)

    class Interrupted(DataLoader):
        passes = 0

        def __iter__(self):
            Interrupted.passes += 1
            for number, batch in enumerate(super().__iter__()):
                if Interrupted.passes == 3 and number == 1:
                    raise KeyboardInterrupt
                yield batch

    D, G, names = tiny_training(vars(notebook))
    faces = names['celeba_train_loader'].dataset
    names['celeba_train_loader'] = Interrupted(faces, 4, shuffle=True, collate_fn=faces.collate)
    with global_names(notebook.train, **names):
        losses = notebook.train(D, G, 4, 1, flip=True, ema_decay=.9)
    assert len(losses) == 7 and 'Interrupted in epoch 3. On disk: all up to the end of epoch 2' in capsys.readouterr().out
    assert helpers.load_checkpoint()['epoch'] == 2 and len(helpers.load_samples()) == 2
    expect_same_run(whole, run_training(notebook, 4, resume=True))


def brightness(images):
    return images.double().mean().item()


EVERYTHING = dict(objective='relativistic', penalty=.1, lr_decay=True, distance=brightness, distance_every=2)


def test_resume_is_exact_with_everything_on(notebook, folder, capsys):
    """Penalty, schedule and distance too: interrupted in epoch 4 of 6, resumed, and the same to the bit, best epoch included."""
    whole = run_training(notebook, 6, **EVERYTHING)
    best = helpers.load_checkpoint(best=True)['epoch']
    step, calls = notebook.train_step, []

    def interrupted_step(*arguments, **options):
        calls.append(1)
        if len(calls) == 11:
            raise KeyboardInterrupt
        return step(*arguments, **options)

    notebook.train_step = interrupted_step
    run_training(notebook, 6, **EVERYTHING)
    assert 'Interrupted in epoch 4' in capsys.readouterr().out
    expect_same_run(whole, run_training(notebook, 6, resume=True, **EVERYTHING))
    assert helpers.load_checkpoint(best=True)['epoch'] == best
    assert helpers.load_history()['distances'][:, 0].tolist() == [2, 4, 6]


def test_distance_changes_nothing(notebook, folder):
    """Asking for the distance must not draw from the training's random numbers, nor leave G in another mode."""
    expect_same_run(run_training(notebook, 2), run_training(notebook, 2, distance=brightness))


def test_best_epoch_is_kept(notebook, folder):
    """The epoch with the lowest distance is kept as best.pt, and shown; the latest goes on being the latest."""
    distances = iter([3., 1., 2.])
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        run_training(notebook, 3, distance=lambda images: next(distances))
    assert helpers.load_checkpoint(best=True)['epoch'] == 2 and helpers.load_checkpoint()['epoch'] == 3
    assert re.findall(r'FFD +(\d+\.\d\d)', printed.getvalue()) == ['3.00', '1.00', '2.00']
    assert helpers.load_history()['distances'][:, 1].tolist() == [3, 1, 2]
    run_training(notebook, 1)
    assert helpers.load_checkpoint(best=True)['epoch'] == 1      # never measured: the latest


def test_distance_is_asked_of_new_images_of_the_average(notebook, folder):
    """N_JUDGED images in [-1, 1] from always the same noise."""
    seen = []
    run_training(notebook, 2, distance=lambda images: seen.append(images) or 1.)
    assert [tuple(images.shape) for images in seen] == [(helpers.Run.N_JUDGED, 3, 32, 32)] * 2
    G = notebook.load_generator()
    z = torch.randn(helpers.Run.N_JUDGED, 6, generator=torch.Generator().manual_seed(0))[:20]
    expect_close('Images of the best, that is the first epoch', seen[0][:20], notebook.generate(G, z), 1e-5)


def test_finished_run_is_read_back(notebook, folder, capsys):
    """Training a finished run again changes nothing, and shows its epochs again."""
    first = run_training(notebook, 2)
    printed = capsys.readouterr().out
    again = run_training(notebook, 2, resume=True, seed=5)
    expect_same_run(first, again)
    shown = capsys.readouterr().out
    epochs = [line for line in printed.splitlines() if line.startswith('epoch')]
    assert len(epochs) == 2 and all(line in shown for line in epochs) and 'All 2 epochs are done' in shown


@pytest.mark.parametrize('resume, config, why', [(False, {'lr': 1}, 'resume is off'), (True, {'lr': 2}, 'differs in lr')])
def test_earlier_run_is_set_aside(notebook, folder, capsys, resume, config, why):
    """A new run never overwrites another one: it is moved as a whole, its samples with it."""
    run_training(notebook, 2, config={'lr': 1})
    before = Path('checkpoints_gan/latest.pt').read_bytes()
    for kept in ('checkpoints_gan-1', 'checkpoints_gan-2'):
        run_training(notebook, 1, resume=resume, config=config)
        assert why in capsys.readouterr().out
        assert len(helpers.load_samples(Path(kept) / 'train_samples.pkl')) in (1, 2)
        resume, config, why = False, {'lr': 1}, 'resume is off'
    assert Path('checkpoints_gan-1/latest.pt').read_bytes() == before


def test_samples_without_a_run_are_set_aside(notebook, folder, capsys):
    """A train_samples.pkl that somebody already has is kept, whether resuming or not."""
    for number, resume in ((1, False), (2, True)):
        Path('train_samples.pkl').write_bytes(b'fifty epochs of mine')
        shutil.rmtree('checkpoints_gan', ignore_errors=True)
        run_training(notebook, 1, resume=resume)
        assert Path(f'checkpoints_gan-{number}/train_samples.pkl').read_bytes() == b'fifty epochs of mine'


def test_finished_run_mends_its_files(notebook, folder):
    """Samples or losses that are missing or damaged are written again from the checkpoint."""
    whole = run_training(notebook, 2)
    Path('train_samples.pkl').unlink()
    Path('checkpoints_gan/losses.npz').write_bytes(b'damaged')
    expect_same_run(whole, run_training(notebook, 2, resume=True))


def test_numpy_numbers_in_the_configuration(notebook, folder):
    """A run configured with NumPy's numbers is saved and resumed like any other."""
    config = dict(lr=np.float64(2e-4), n=np.int64(3), resume=np.True_)
    run_training(notebook, 1, config=config)
    assert run_training(notebook, 2, resume=True, config=config)['epoch'] == 2


def test_curves_of_a_run_that_went_bad():
    import matplotlib.pyplot as plt
    history = {name: np.array([1, .5, math.nan, math.inf]) for name in ('d_loss', 'g_loss', 'd_real', 'd_fake')}
    helpers.plot_losses(history | dict(per_epoch=np.array([2, 2])))
    plt.close()


def test_checkpoint_holds_the_run(notebook, folder):
    """Networks, average, optimizers, epoch, losses, random state and configuration, readable with weights_only."""
    run_training(notebook, 2, config={'lr': 2e-4, 'data': 'here'})
    saved = torch.load('checkpoints_gan/latest.pt', weights_only=True)
    expected = {'D', 'G', 'G_average', 'd_optimizer', 'g_optimizer', 'epoch', 'losses', 'random_state', 'config',
                'fixed_z', 'samples', 'history'}
    assert expected <= set(saved) and {'torch', 'cuda', 'python', 'numpy'} <= set(saved['random_state'])
    assert saved['config'] == {'lr': 2e-4, 'data': 'here', 'generator': dict(z_size=6, conv_dim=4, img_size=32),
                               'objective': 'bce', 'penalty': 0, 'penalty_every': 4, 'flip': True, 'ema_decay': .9, 'lr_decay': False}
    assert not list(folder.glob('**/*.part'))


def test_save_is_all_or_nothing(folder, monkeypatch):
    """A write that breaks in the middle leaves the old file whole and nothing beside it."""
    helpers.save_samples([torch.zeros(16, 3, 4, 4)])

    def broken(file):
        file.write(b'half')
        raise OSError(28, 'No space left on device')

    with pytest.raises(OSError):
        helpers.write_atomically('train_samples.pkl', broken)
    assert len(helpers.load_samples()) == 1 and os.listdir() == ['train_samples.pkl']


def test_checkpoint_from_before_there_were_distances(notebook, folder, capsys):
    """It is read like any other."""
    run_training(notebook, 1)
    state = torch.load('checkpoints_gan/latest.pt', weights_only=True)
    del state['distances']
    torch.save(state, 'checkpoints_gan/latest.pt')
    assert helpers.load_checkpoint()['distances'] == [] and run_training(notebook, 2, resume=True)['epoch'] == 2


def test_full_disk_does_not_end_training(notebook, folder, monkeypatch, capsys):
    """The first two saves fail: training goes on, says so, and saves all again when it can."""
    fsync, calls = os.fsync, []

    def full_at_first(number):
        calls.append(number)
        if len(calls) < 3:
            raise OSError(28, 'No space left on device')
        fsync(number)

    monkeypatch.setattr(os, 'fsync', full_at_first)
    assert len(run_training(notebook, 3)['samples']) == 3
    printed = capsys.readouterr().out
    assert printed.count('NOT SAVED') == 2 and printed.count('Saved again') == 1 and not list(folder.glob('**/*.part'))


def test_disk_full_to_the_end(notebook, folder, monkeypatch, capsys):
    """Nothing can be saved after epoch 1: that is still whole, and the end says what is not on disk."""
    run_training(notebook, 1)
    monkeypatch.setattr(os, 'fsync', lambda number: (_ for _ in ()).throw(OSError(28, 'No space left on device')))
    D, G, names = tiny_training(vars(notebook))
    with global_names(notebook.train, **names):
        assert len(notebook.train(D, G, 3, 1, flip=True, ema_decay=.9, resume=True)) == 9
    assert 'NOT ON DISK: what came after epoch 1' in capsys.readouterr().out
    assert helpers.load_checkpoint()['epoch'] == 1 and len(helpers.load_samples()) == 1


def test_vanished_folder_is_made_again(notebook, folder, monkeypatch):
    """Somebody deletes the folder while training runs: the next epoch writes it anew."""
    generate, calls = notebook.generate, []

    def deleting(G, z):
        calls.append(shutil.rmtree('checkpoints_gan', ignore_errors=True))
        return generate(G, z)

    monkeypatch.setattr(notebook, 'generate', deleting)
    assert run_training(notebook, 3)['epoch'] == len(calls) == 3


def test_terminated_like_interrupted(notebook, folder, capsys):
    """SIGTERM in the second epoch: train returns what it has, and the handler from before is back."""
    class Terminated(DataLoader):
        batches = 0

        def __iter__(self):
            for batch in super().__iter__():
                Terminated.batches += 1
                if Terminated.batches == 5:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch

    before = signal.getsignal(signal.SIGTERM)
    D, G, names = tiny_training(vars(notebook))
    faces = names['celeba_train_loader'].dataset
    names['celeba_train_loader'] = Terminated(faces, 4, shuffle=True, collate_fn=faces.collate)
    with global_names(notebook.train, **names):
        assert len(notebook.train(D, G, 9, 1)) in (4, 5)
    assert 'Interrupted in epoch 2' in capsys.readouterr().out and helpers.load_checkpoint()['epoch'] == 1
    assert signal.getsignal(signal.SIGTERM) == before


def damage(path):
    data = bytearray(Path(path).read_bytes())
    data[len(data) // 2] ^= 1
    Path(path).write_bytes(data)


def test_damaged_checkpoint_falls_back(notebook, folder, capsys):
    """One flipped bit in the latest checkpoint: the one before it is used, with a word, to the same end."""
    whole = run_training(notebook, 4)
    run_training(notebook, 3)
    damage('checkpoints_gan/latest.pt')
    Path('train_samples.pkl').write_bytes(b'damaged too')
    capsys.readouterr()
    resumed = run_training(notebook, 4, resume=True)
    assert re.search(r'latest.pt is damaged .*previous.pt, epoch 2', capsys.readouterr().out)
    expect_same_run(whole, resumed)
    for name in ('latest.pt', 'previous.pt'):
        damage(Path('checkpoints_gan') / name)
    with pytest.raises(ValueError, match='resume = False'):
        run_training(notebook, 4, resume=True)
    run_training(notebook, 1)
    assert len(list(folder.glob('checkpoints_gan-*/latest.pt'))) == 2


def going_bad(notebook, monkeypatch, at):
    """Let the steps with the numbers in at spoil one weight of G and give infinite losses."""
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
    """In the first or the second epoch: back to the epoch's start with half the rate, and on to the end."""
    going_bad(notebook, monkeypatch, [at])
    run = run_training(notebook, 3, rescue=.5)
    saved = helpers.load_checkpoint()
    assert run['epoch'] == 3 and len(run['losses']) == len(run['history']) == 9
    assert all(value.isfinite().all() for name in ('D', 'G', 'G_average') for value in saved[name].values())
    assert [saved[name]['param_groups'][0]['lr'] for name in ('d_optimizer', 'g_optimizer')] == [1e-4, 1e-4]
    assert f'Epoch {(at + 2) // 3}: numbers went bad (d_loss inf' in capsys.readouterr().out


@pytest.mark.parametrize('at, rescue', [([5], 0), ([5, 9], .5)])
def test_bad_numbers_end_with_a_message(notebook, folder, monkeypatch, at, rescue):
    """Without rescue at once, with it at the second time: the good epoch stays on disk."""
    going_bad(notebook, monkeypatch, at)
    with pytest.raises(FloatingPointError, match='Epoch 2: numbers went bad .* Epoch 1 is kept .* lower lr'):
        run_training(notebook, 3, rescue=rescue)
    assert helpers.load_checkpoint()['epoch'] == 1 and len(helpers.load_samples()) == 1


def test_warnings_of_collapse_and_saturation(notebook, folder, monkeypatch, capsys):
    monkeypatch.setattr(helpers.running, 'YOUNG', 3)
    monkeypatch.setattr(notebook, 'generate', lambda G, z: torch.zeros(16, 3, 32, 32))
    monkeypatch.setattr(notebook, 'train_step', lambda *_, **options: torch.tensor([0., 9., .999, .001]))
    D, G, names = tiny_training(vars(notebook))
    with global_names(notebook.train, **names):
        notebook.train(D, G, 1)
    printed = capsys.readouterr().out
    assert 'G has collapsed' in printed and 'D tells real from fake' in printed


@pytest.mark.parametrize('error', [torch.OutOfMemoryError('CUDA out of memory.'), MemoryError(),
                                   RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_out_of_memory_says_what_fits(notebook, folder, monkeypatch, error):
    """Six images at once are too many, from the second epoch on: the message names the batch that fits."""
    D, G, names = tiny_training(vars(notebook), n_images=16, batch_size=8)
    forward, calls = G.forward, []

    def small(z):
        calls.append(1)
        if len(calls) > 4 and len(z) > 6:
            raise error
        return forward(z)

    monkeypatch.setattr(G, 'forward', small)
    with global_names(notebook.train, **names, generate=lambda G, z: torch.randn(16, 3, 32, 32)):
        with pytest.raises(MemoryError, match='batch_size 8 at 32x32. .* fits .*: 2. All up to epoch 2 is in'):
            notebook.train(D, G, 3, ema_decay=.9)
    assert helpers.load_checkpoint()['epoch'] == 2


CRASHES = """
import contextlib, os, random, signal, sys, time
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
import helpers, problem_unittests as tests
notebook = helpers.load_definitions(tests.NOTEBOOK)

def epoch_on_disk():
    with contextlib.suppress(FileNotFoundError):
        return helpers.load_checkpoint()['epoch']
    return 0

random.seed(0)
reached, in_writing = 0, 0
for crash in range(int(sys.argv[2])):
    ready, done = os.pipe()
    child = os.fork()
    if child == 0:
        write = helpers.write_atomically
        def announced(*arguments, **options):
            write(*arguments, **options)
            os.write(done, b'.')
        helpers.files.write_atomically = announced
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            tests.run_training(notebook, 10_000, resume=True)
        finally:
            os._exit(1)
    os.close(done)
    assert os.read(ready, 1), 'the training ended by itself'   # a file is written: from here on any instant will do
    os.close(ready)
    time.sleep(random.uniform(0, .08))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    in_writing += any(name.endswith('.part') for name in os.listdir('checkpoints_gan') + os.listdir())
    epoch, grids = epoch_on_disk(), len(helpers.load_samples()) if os.path.exists('train_samples.pkl') else 0
    assert epoch >= max(1, reached), (crash, epoch, reached)
    assert abs(epoch - grids) <= 1, (crash, epoch, grids)
    reached = epoch
print(f'{sys.argv[2]} crashes, {in_writing} of them while a file was written, {reached} epochs')
"""


def crash(folder, times):
    done = subprocess.run([sys.executable, '-c', CRASHES, str(HERE), str(times)], cwd=folder, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_killed_at_any_instant(folder):
    """SIGKILL at 50 random instants: checkpoint and samples always load, and no finished epoch is lost."""
    assert re.search(r'50 crashes, [1-9]', crash(folder, 50))


@LONG
def test_killed_at_many_instants(folder):
    crash(folder, 1000)


def test_memory_stays_flat(notebook, folder):
    """Between epoch 2 and epoch 30, the tensors alive grow by the grids and the losses that train gives back."""
    import gc
    alive, generate = [], notebook.generate

    def counting(G, z):
        if len(alive) in (1, 29):
            gc.collect()
        alive.append(len(alive) in (1, 29) and sum(
            t.numel() * t.element_size() for t in gc.get_objects() if issubclass(type(t), torch.Tensor)))
        return generate(G, z)

    D, G, names = tiny_training(vars(notebook), n_images=4)
    with global_names(notebook.train, **names, generate=counting):
        notebook.train(D, G, 30, ema_decay=.9)
    growth = (alive[29] - alive[1]) / 28
    assert growth <= 16 * 3 * 32 * 32 * 4 + 64, f'{growth:,.0f} bytes an epoch'


def test_sample_faces(notebook, sample_faces, folder, monkeypatch):
    """Faces from the file alone: the averaged generator's, the same for a seed, and without a Discriminator."""
    run_training(notebook, 1)
    monkeypatch.delattr(notebook, 'Discriminator')
    faces = sample_faces(3, seed=7)
    assert faces.shape == (3, 3, 32, 32) and faces.abs().max() <= 1
    assert torch.equal(faces, sample_faces(3, seed=7)) and not torch.equal(faces, sample_faces(3))
    G = notebook.Generator(6, 4)
    G.load_state_dict(helpers.load_checkpoint()['G_average'])
    expect_close('Faces', faces, notebook.generate(G, torch.randn(3, 6, generator=torch.Generator().manual_seed(7))), 0)
    with pytest.raises(FileNotFoundError, match='train first'):
        sample_faces(1, folder='elsewhere')
    Path('checkpoints_gan/latest.pt').write_bytes(Path('checkpoints_gan/latest.pt').read_bytes()[:999])
    with pytest.raises(ValueError, match='damaged'):
        sample_faces(1)


def test_mirrors_when_asked(notebook, folder, monkeypatch):
    """train mirrors with flip=True, and only then."""
    calls = []
    monkeypatch.setattr(notebook, 'random_flip', lambda x: calls.append(len(x)) or x)
    for flip, expected in ((False, []), (True, [4, 4, 2])):
        D, G, names = tiny_training(vars(notebook))
        with global_names(notebook.train, **names):
            notebook.train(D, G, 1, flip=flip)
        assert calls == expected


def test_interrupted_step_leaves_networks_trainable(notebook, folder, monkeypatch):
    """Ctrl-C in the middle of a step: the same networks train on when the cell is run again."""
    D, G, names = tiny_training(vars(notebook))
    with global_names(notebook.train, **names):
        for stop in (names['d_optimizer'], names['g_optimizer']):
            with monkeypatch.context() as patch:
                patch.setattr(stop, 'step', lambda: (_ for _ in ()).throw(KeyboardInterrupt()))
                assert notebook.train(D, G, 2, 1, resume=True) == []
        assert len(notebook.train(D, G, 2, 1, resume=True)) == 6


class PublicD(nn.Module):
    """A discriminator as the public solutions write it: one argument, layers by name."""

    def __init__(self, conv_dim):
        super().__init__()
        self.conv_dim = conv_dim
        self.conv1 = nn.Conv2d(3, conv_dim, 4, 2, 1, bias=False)
        self.conv2 = nn.Conv2d(conv_dim, conv_dim * 2, 4, 2, 1, bias=False)
        self.fc = nn.Linear(conv_dim * 2 * 8 * 8, 1)

    def forward(self, x):
        x = F.leaky_relu(self.conv2(F.leaky_relu(self.conv1(x), .2)), .2)
        return self.fc(x.view(-1, self.conv_dim * 2 * 8 * 8))


class PublicG(nn.Module):
    """Its generator: no z_size to ask for, which the notebook's own global name then tells."""

    def __init__(self, z_size, conv_dim):
        super().__init__()
        self.fc = nn.Linear(z_size, conv_dim * 8 * 8)
        self.up1 = nn.ConvTranspose2d(conv_dim, conv_dim, 4, 2, 1)
        self.up2 = nn.ConvTranspose2d(conv_dim, 3, 4, 2, 1)

    def forward(self, z):
        return torch.tanh(self.up2(F.relu(self.up1(self.fc(z).view(len(z), -1, 8, 8)))))


def test_networks_of_public_solutions_work(notebook, folder):
    """Their classes pass the original tests and train in our loop, with their kind of loader."""
    test_discriminator(PublicD)
    test_generator(PublicG)
    D, G, names = tiny_training(vars(notebook))
    images, labels = next(iter(names['celeba_train_loader']))
    names['celeba_train_loader'] = DataLoader(list(zip(images, labels)), 3, shuffle=True)
    D, G = PublicD(4), PublicG(z_size=6, conv_dim=4)
    names['d_optimizer'], names['g_optimizer'] = notebook.make_optimizers(D, G)
    with global_names(notebook.train, **names):
        assert len(notebook.train(D, G, n_epochs=2, print_every=1)) == 4
    assert len(pickle.load(open('train_samples.pkl', 'rb'))) == 2


# ------------------------------------------------------------------------------------------------------- pickles


class OldPickler(pickle.Pickler):
    """Writes tensors as a machine with a GPU did: their storages say cuda:0."""

    def reducer_override(self, thing):
        if not isinstance(thing, (torch.storage.TypedStorage, torch.UntypedStorage)):
            return NotImplemented
        file = io.BytesIO()
        torch.save(thing, file, _use_new_zipfile_serialization=False)
        data = file.getvalue().replace(b'\x03\x00\x00\x00cpu', b'\x06\x00\x00\x00cuda:0')
        assert b'cuda:0' in data
        return torch.storage._load_from_bytes, (data.replace(b'ctorch\nFloatStorage', b'ctorch.cuda\nFloatStorage'),)


def old_cuda_pickle(thing, protocol):
    file = io.BytesIO()
    OldPickler(file, protocol).dump(thing)
    return file.getvalue()


IMAGES = torch.linspace(-1, 1, 16 * 3 * 32 * 32).view(16, 3, 32, 32)


@pytest.mark.parametrize('protocol', [2, 4, 5])
@pytest.mark.parametrize('name, epochs', [
    ('tensors', [IMAGES, IMAGES]),
    ('a tuple', (IMAGES, IMAGES)),
    ('with a gradient', [IMAGES.clone().requires_grad_(), IMAGES.clone().requires_grad_() * 1]),
    ('parameters', [nn.Parameter(IMAGES.clone())] * 2),
    ('128 images', [IMAGES.repeat(8, 1, 1, 1)] * 2),
    ('arrays', [IMAGES.numpy(), IMAGES.numpy()]),
    ('one array', IMAGES.numpy()[None].repeat(2, 0)),
    ('float64', [IMAGES.double(), IMAGES.double()]),
    ('not contiguous', [IMAGES.contiguous(memory_format=torch.channels_last)] * 2)])
def test_all_kinds_of_old_pickles_open(folder, protocol, name, epochs):
    """On a machine without a GPU, also where the file says cuda:0."""
    files = [pickle.dumps(epochs, protocol)]
    if torch.is_tensor(epochs[0]) and epochs[0].dtype == torch.float32:
        files.append(old_cuda_pickle(epochs, protocol))
    for data in files:
        Path('old.pkl').write_bytes(data)
        loaded = helpers.load_samples('old.pkl')
        assert len(loaded) == 2
        for images in loaded:
            assert images.dtype == torch.float32 and images.device.type == 'cpu' and not images.requires_grad
            assert type(images) is torch.Tensor and torch.equal(images[:16], IMAGES)


class Calls:
    """Pickles as a call of any function: what an attacker would send."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile(name):
    touch = "open('owned', 'w').close()"
    if name == 'a storage that holds a call':
        file = io.BytesIO()
        torch.save(Calls(os.system, 'touch owned'), file, _use_new_zipfile_serialization=False)
        return pickle.dumps([Calls(torch.storage._load_from_bytes, file.getvalue())])
    return {'os.system': lambda: pickle.dumps([IMAGES, Calls(os.system, 'touch owned')]),
            'exec': lambda: pickle.dumps(Calls(exec, touch)),
            'eval in a tuple': lambda: pickle.dumps((IMAGES, Calls(eval, touch))),
            'getattr': lambda: pickle.dumps([Calls(getattr, 'text', 'upper')]),
            'an object of its own': lambda: pickle.dumps([PublicG(2, 2)]),
            'an array larger than memory': lambda: pickle.dumps(Calls(np.ndarray, (1 << 40,))),
            'a picture larger than memory': lambda: pickle.dumps([torch.zeros(1).expand(16, 3, 1 << 18, 1 << 18)]),
            'an array of 0.8 GB': lambda: pickle.dumps([Calls(np.ndarray, (800_000_000,))]),
            'lists in lists': lambda: pickle.dumps(functools.reduce(lambda inner, _: [inner] * 10, range(12), [1.])),
            'a tensor outside its storage': lambda: pickle.dumps([Calls(
                torch._utils._rebuild_tensor_v2, torch.zeros(4).storage(), 10 ** 6, (1, 3, 1, 1), (1, 1, 1, 1), False, {})]),
            'a storage that is packed': lambda: packed_storage(),
            'a memo of 2 billion places': lambda: b'\x80\x02K\x01r\xff\xff\xff\x7f.',
            'a bytearray of 8 GB': lambda: b'\x80\x05\x96' + (2 ** 33).to_bytes(8, 'little') + b'x.',
            'letters': lambda: pickle.dumps('abc'),
            'a dict': lambda: pickle.dumps({0: IMAGES}),
            'one row of numbers': lambda: pickle.dumps([torch.zeros(5)]),
            'no images': lambda: pickle.dumps(['face'] * 16),
            'no list': lambda: pickle.dumps(3),
            'half a file': lambda: pickle.dumps([IMAGES])[:-1000],
            'nothing': lambda: b'',
            'text': lambda: b'epoch,loss\n1,2\n'}[name]()


def packed_storage():
    """A megabyte of zeros in a few bytes, as a new torch file in place of the old kind of storage."""
    file, squeezed = io.BytesIO(), io.BytesIO()
    torch.save(torch.zeros(250_000).untyped_storage(), file)
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(squeezed, 'w', zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return pickle.dumps([Calls(torch.storage._load_from_bytes, squeezed.getvalue())])


@pytest.mark.parametrize('name', ['os.system', 'exec', 'eval in a tuple', 'a storage that holds a call', 'an array of 0.8 GB',
                                  'lists in lists', 'a tensor outside its storage', 'a storage that is packed', 'letters',
                                  'a dict', 'one row of numbers', 'a bytearray of 8 GB',
                                  'a memo of 2 billion places', 'getattr', 'an object of its own', 'an array larger than memory',
                                  'a picture larger than memory', 'no images', 'no list', 'half a file', 'nothing', 'text'])
def test_hostile_pickles_run_nothing(folder, name):
    Path('sent.pkl').write_bytes(hostile(name))
    started = time.time()
    with pytest.raises(ValueError, match='sent.pkl: expected a pickled list of image tensors'):
        helpers.load_samples('sent.pkl')
    assert time.time() - started < 5, 'it took its time, and memory, before it was refused'
    assert os.listdir() == ['sent.pkl']


# ---------------------------------------------------------------------------------------------- data, door by door


def load(**options):
    images, labels, source = helpers.load_images(**{'image_size': 32, **options})
    return images


def test_folder_of_any_layout(folder, capsys):
    """Nested folders and three formats are found; what is no image is passed over; unreadable files are named."""
    for number, (place, ending) in enumerate([('.', 'jpg'), ('celeba', 'png'), ('celeba/New Folder With Items', 'webp'),
                                              ('über "all"', 'JPEG')]):
        write_images(folder / 'faces' / place, 3, ending=ending, seed=number)
    write_images(folder / 'faces/__MACOSX/celeba', 2)
    (folder / 'faces/__MACOSX/celeba/._000001.jpg').write_bytes(b'fork')
    for name in ('._000001.jpg', '.DS_Store', 'celeba/.hidden.png', 'notes.txt'):
        (folder / 'faces' / name).write_bytes(b'fork')
    (folder / 'faces/circle').symlink_to(folder / 'faces')
    (folder / 'faces/renamed.jpg').write_text('This is no picture.')
    (folder / 'faces/empty.png').touch()
    whole = (folder / 'faces/000001.jpg').read_bytes()
    (folder / 'faces/truncated.jpg').write_bytes(whole[:len(whole) // 2])
    assert load(data_dir='faces').shape == (12, 3, 32, 32)
    printed = capsys.readouterr().out
    assert '3 of 15 files are unreadable and left out: empty.png (UnidentifiedImageError), renamed.jpg' in printed
    assert 'truncated.jpg (OSError)' in printed and '12 images of 32x32, faces/' in printed


def test_celeba_originals_get_the_crop_of_the_small_set(folder):
    """178 x 218: the central 108 x 108. Other sizes: the central square."""
    pixels = np.zeros((218, 178, 3), np.uint8)
    pixels[55:163, 35:143] = 200
    Image.fromarray(pixels).save('original.png')
    assert (helpers.decode_image('original.png', 32) == 200).all()
    pixels = np.zeros((40, 100, 3), np.uint8)
    pixels[:, 30:70] = 200
    Image.fromarray(pixels).save('wide.png')
    assert (helpers.decode_image('wide.png', 32) == 200).all()


@pytest.mark.parametrize('kind', ['grey', 'cmyk', 'palette', 'transparent', 'palette, transparent', '16 bits', 'one pixel',
                                  'a line', 'turned', 'large'])
def test_every_colour_mode_and_size(folder, kind):
    """Each becomes 32 x 32 RGB of the right colours, upright, on white."""
    red = Image.new('RGB', (64, 64), (200, 20, 20))
    expected = np.full((32, 32, 3), (200, 20, 20))
    name, options = 'image.png', {}
    if kind == 'grey':
        image, expected[:] = Image.new('L', (64, 64), 90), 90
    elif kind == 'cmyk':
        image, name = red.convert('CMYK'), 'image.jpg'
    elif kind == 'palette':
        image = red.convert('P', palette=Image.Palette.ADAPTIVE)
    elif kind == 'transparent':
        image, expected[:] = Image.new('RGBA', (64, 64), (9, 9, 9, 0)), 255
    elif kind == 'palette, transparent':
        image, options, expected[:] = red.convert('P', palette=Image.Palette.ADAPTIVE), {'transparency': 0}, 255
    elif kind == '16 bits':
        image, expected[:] = Image.fromarray(np.full((64, 64), 40_000, np.uint16)), 155
    elif kind == 'one pixel':
        image = red.resize((1, 1))
    elif kind == 'a line':
        image = red.resize((20_000, 2))
    elif kind == 'turned':                           # the file's own note says: turn me by 90 degrees
        image, name = red.copy(), 'image.jpg'
        image.paste((255, 255, 255), (0, 0, 64, 32))
        expected[:, 16:] = 255
        exif = Image.Exif()
        exif[0x0112] = 6
        options = {'exif': exif}
    elif kind == 'large':
        image, name = red.resize((3000, 2000)), 'image.jpg'
    image.save(name, **options)
    difference = np.abs(helpers.decode_image(name, 32).astype(int) - expected)
    assert np.median(difference) <= 3 and (difference > 12).mean() < .07, difference.max()


def test_cache_is_used_until_the_folder_changes(folder, monkeypatch, capsys):
    """Decoded once; again after a new, a changed or a missing file, or damage to the cache; one file for each size."""
    paths = write_images(folder / 'faces', 5)
    decoded, decode = [], helpers.decode_image
    monkeypatch.setattr(helpers.data, 'decode_image', lambda *a: decoded.append(1) or decode(*a))

    def decodings():
        decoded.clear()
        images = load(data_dir='faces')
        assert torch.equal(images, torch.stack([torch.tensor(decode(path, 32)).permute(2, 0, 1) for path in
                                                sorted((folder / 'faces').glob('*.jpg'))]))
        return len(decoded)

    assert [decodings(), decodings()] == [5, 0]
    write_images(folder / 'faces', 1, seed=9)
    os.utime(paths[0], ns=(1, 1))
    assert [decodings(), decodings()] == [5, 0]
    paths[1].unlink()
    assert [decodings(), decodings()] == [4, 0]
    load(data_dir='faces', image_size=64)
    assert decodings() == 0 and len(list((folder / 'faces').glob('.dcgan_cache-*.npy'))) == 2
    cache, = (folder / 'faces').glob('.dcgan_cache-32px*')
    cache.write_bytes(cache.read_bytes()[:-7])
    assert [decodings(), decodings()] == [4, 0]
    assert 'is damaged' in capsys.readouterr().out


def test_faults_of_a_disk_are_not_cached(folder, monkeypatch):
    """A file that could not be opened this time is tried again next time."""
    write_images(folder / 'faces', 4)
    decode = helpers.decode_image

    def denied(path, size):
        if path.endswith('3.jpg'):
            raise PermissionError(13, 'Permission denied')
        return decode(path, size)

    with monkeypatch.context() as patch:
        patch.setattr(helpers.data, 'decode_image', denied)
        assert len(load(data_dir='faces')) == 3
    assert len(load(data_dir='faces')) == 4


def test_cache_finds_another_place(folder, monkeypatch, capsys):
    """Where the images' folder takes no cache, the current one does."""
    write_images(folder / 'faces', 3)
    write = helpers.write_atomically

    def read_only(path, *arguments):
        if path.parent.name == 'faces':
            raise PermissionError(13, 'Permission denied')
        write(path, *arguments)

    monkeypatch.setattr(helpers.files, 'write_atomically', read_only)
    load(data_dir='faces')
    assert list(folder.glob('.dcgan_cache-32px*.npy')) and 'No cache in faces/: Permission denied' in capsys.readouterr().out


def test_cache_is_no_class_of_images(folder):
    """torchvision's ImageFolder, with which older notebooks read the same data, must not take the cache for a class."""
    from torchvision.datasets import ImageFolder
    write_images(folder / 'faces/celeba', 3)
    load(data_dir='faces')
    assert len(ImageFolder(folder / 'faces')) == 3


def test_missed_nested_folder_is_said(folder, monkeypatch, capsys):
    """As many images as celeba/ holds without the folder inside it: a note tells how many there should be."""
    write_images(folder / 'faces/celeba', 3)
    monkeypatch.setattr(helpers.data, 'FACES_OUTER', 3)
    load(data_dir='faces')
    assert 'With that, it is 89,931' in capsys.readouterr().out


def test_images_stay_within_their_bytes(folder):
    """uint8 on the CPU: 90,000 images of 64 x 64 are 1.1 GB, and max_images takes an even choice."""
    write_images(folder / 'faces', 9)
    images = load(data_dir='faces', image_size=64)
    assert images.dtype == torch.uint8 and images.numel() / len(images) * 90_000 < 1.2e9
    some = load(data_dir='faces', image_size=64, max_images=3)
    assert torch.equal(some, images[[0, 3, 6]])


def test_environment_chooses_the_data(folder, monkeypatch, capsys):
    """DCGAN_DATA stands in for the default folder, not for one that is named by hand."""
    write_images(folder / 'mine', 3)
    write_images(folder / 'other', 4)
    monkeypatch.setenv('DCGAN_DATA', 'mine')
    assert len(load()) == 3 and len(load(data_dir='other')) == 4
    monkeypatch.setenv('DCGAN_DATA', 'drawn')
    assert len(load(max_images=7)) == 7 and 'NOT photographs' in capsys.readouterr().out
    monkeypatch.setenv('DCGAN_DATA', 'nowhere')
    with pytest.raises(FileNotFoundError, match='DCGAN_DATA'):
        load()


def small_archive(path, names=('celeba/000001.jpg', 'celeba/New Folder With Items/000002.jpg'), extra=()):
    """A zip in the layout of the small CelebA set."""
    image = io.BytesIO()
    Image.new('RGB', (64, 64), (200, 100, 50)).save(image, 'jpeg')
    with zipfile.ZipFile(path, 'w') as archive:
        for name in [f'processed_celeba_small/{name}' for name in names] + list(extra):
            archive.writestr(name, image.getvalue())
        archive.writestr('processed_celeba_small/.DS_Store', 'x')
        archive.writestr('__MACOSX/processed_celeba_small/celeba/._000001.jpg', 'fork')
    return path


def test_zip_lying_about(folder, capsys):
    small_archive('processed-celeba-small.zip')
    assert len(load()) == 2
    found = {str(path.relative_to(folder)) for path in folder.glob('processed_celeba_small/**/*.*') if path.is_file()}
    assert 'processed_celeba_small/celeba/New Folder With Items/000002.jpg' in found
    assert not any('MACOSX' in name or 'DS_Store' in name for name in found)
    assert '89,931' in capsys.readouterr().out


class Server:
    """A web server on this machine that serves one file, with faults: it breaks off, lies, dawdles, says nothing."""

    def __init__(self, data, ranges=True, breaks_after=None, status=200, length=None, pause=0, silent=False):
        asked, stopped = [], threading.Event()
        self.asked, self.stopped = asked, stopped

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.headers.get('Range'))
                if silent:
                    return stopped.wait(5)
                first = int(asked[-1][6:-1]) if asked[-1] and ranges else 0
                self.send_response(416 if first >= len(data) else 206 if first else status)
                self.send_header('Content-Length', str(length or len(data) - first))
                self.send_header('Location', self.path)
                self.end_headers()
                body = data[first:] if first or breaks_after is None else data[:breaks_after]
                with contextlib.suppress(OSError):   # the other side may have hung up
                    for byte in range(0, len(body), 100 if pause else len(body)):
                        self.wfile.write(body[byte:byte + 100] if pause else body)
                        if stopped.wait(pause) if pause else False:
                            return

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={'poll_interval': .02}, daemon=True).start()
        self.url = f'http://127.0.0.1:{self.server.server_port}/faces.zip'

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.parametrize('ranges', [True, False])
def test_download_resumes(folder, monkeypatch, capsys, ranges):
    """A download that broke off goes on from its last byte, or from the first if the server cannot do that."""
    data = small_archive(folder / 'there.zip').read_bytes()
    with Server(data, ranges, breaks_after=500) as server:
        monkeypatch.setenv('DCGAN_URL', server.url)
        assert len(load(max_images=5)) == 5
        assert f'broke off after 500 of {len(data):,} bytes' in capsys.readouterr().out
    with Server(data, ranges) as server:
        monkeypatch.setenv('DCGAN_URL', server.url)
        assert len(load()) == 2
        assert server.asked == ['bytes=500-']
    assert Path('processed-celeba-small.zip').read_bytes() == data and not list(folder.glob('*.part'))


def test_download_that_was_whole_already(folder, monkeypatch):
    """Killed between the last byte and the new name: the part is taken; a part of something else is thrown away."""
    data = small_archive(folder / 'there.zip').read_bytes()
    with Server(data, status=200) as server:
        monkeypatch.setenv('DCGAN_URL', server.url)
        Path('processed-celeba-small.zip.part').write_bytes(data)
        assert len(load()) == 2
        shutil.rmtree('processed_celeba_small')
        Path('processed-celeba-small.zip').unlink()
        Path('processed-celeba-small.zip.part').write_bytes(b'x' * len(data))
        assert len(load(max_images=5)) == 5 and not list(folder.glob('*.part'))
        assert len(load()) == 2


def test_celeba_itself_on_disk(folder, capsys):
    """torchvision's own folder is found before anything is downloaded."""
    write_images(folder / 'data/celeba/img_align_celeba', 3, size=(178, 218))
    assert len(load()) == 3 and 'Found CelebA itself' in capsys.readouterr().out


def test_svhn(folder, monkeypatch, notebook):
    """The digits come through the very same loader, with their labels, at any size."""
    import hashlib
    import scipy.io
    import torchvision
    Path('data').mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 6), dtype=np.uint8)
    scipy.io.savemat('data/train_32x32.mat', {'X': pixels, 'y': np.array([[1, 2, 10, 4, 5, 6]], np.uint8).T})
    checksum = hashlib.md5(Path('data/train_32x32.mat').read_bytes()).hexdigest()
    address = 'http://127.0.0.1:9/train_32x32.mat'
    lists = {'train': [address, 'train_32x32.mat', checksum]}
    monkeypatch.setattr(torchvision.datasets.SVHN, 'split_list', lists)
    for size in (32, 64):
        images, labels = next(iter(notebook.get_dataloader(6, size, dataset='svhn')))
        assert images.shape == (6, 3, size, size) and sorted(labels.tolist()) == [0, 1, 2, 4, 5, 6]
        assert abs(images.mean().item() - pixels.mean() / 255) < .01


# --------------------------------------------------------------------------------------------------- drawn faces


def test_drawn_faces_are_seeded_and_varied():
    """The same for a seed, no two alike, of every lightness, and the same picture at each size."""
    faces = helpers.drawn_faces(300, 32, seed=1)
    assert faces.shape == (300, 3, 32, 32) and faces.dtype == torch.uint8
    assert torch.equal(faces, helpers.drawn_faces(300, 32, seed=1))
    assert not torch.equal(faces, helpers.drawn_faces(300, 32, seed=2))
    pixels = faces.float().div(255)
    distances = torch.cdist(pixels.flatten(1), pixels.flatten(1)) + 100 * torch.eye(300)
    assert distances.min() > 2, 'two of the faces are nearly the same'
    cheeks = pixels[:, :, 17:20, 13:19].mean((1, 2, 3))
    assert cheeks.quantile(.05) < .35 and cheeks.quantile(.95) > .65, 'the skins do not vary'
    corners = pixels[:, :, :3, :3].mean((2, 3)).std(0)
    assert corners.min() > .12, 'the backgrounds do not vary'


def test_drawn_faces_look_like_faces():
    """On average: two dark eyes on the skin between them, a mouth redder than the cheeks, alike left and right."""
    mean = helpers.drawn_faces(1000, 64, seed=3).float().mean(0) / 255
    grey = mean.mean(0)
    eyes, between, cheeks = grey[29:31, 22:27].mean(), grey[32:34, 31:33].mean(), grey[36:39, 22:27].mean()
    assert eyes < between - .05 and eyes < cheeks - .05
    redness = mean[0] - mean[1:].mean(0)
    assert redness[44:48, 29:35].mean() > redness[36:39, 22:27].mean() + .005
    assert (grey - grey.flip(1)).abs().mean() < .02


# ------------------------------------------------------------------------------------------------------- presets


PRESETS = {'smoke': dict(n_epochs=2, max_images=4), 'quick': dict(n_epochs=9, max_images=None),
           'full': dict(n_epochs=50, max_images=None)}


@pytest.mark.parametrize('wish, expected', [
    ('smoke', dict(n_epochs=2, max_images=4)),
    ('quick n_epochs=3 max_images=10', dict(n_epochs=3, max_images=10)),
    ('smoke max_images=None', dict(n_epochs=2, max_images=None))])
def test_presets(monkeypatch, wish, expected):
    monkeypatch.setenv('DCGAN_PRESET', wish)
    assert helpers.choose_preset(PRESETS) == expected


def test_preset_of_the_machine(monkeypatch):
    monkeypatch.delenv('DCGAN_PRESET', raising=False)
    for has_gpu, name in ((False, 'quick'), (True, 'full')):
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: has_gpu)
        monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: 'a GPU')
        assert helpers.choose_preset(PRESETS) == PRESETS[name]


# ------------------------------------------------------------------------------- bad input: one table, one message


def faces_with(**files):
    """A folder 'faces' of three good images, and what else a row puts there: bytes, text or an image by name."""
    def prepare(folder, monkeypatch):
        write_images(folder / 'faces', 3)
        for name, content in files.items():
            path = folder / 'faces' / name.replace('__', '.')
            if isinstance(content, Image.Image):
                content.save(path, **({'save_all': True, 'append_images': [content]} if 'animated' in name else {}))
            else:
                path.write_bytes(content)
        return lambda notebook: load(data_dir='faces')
    return prepare


def folder_of(*names, content=b''):
    """A folder 'faces' that holds these files and nothing else."""
    def prepare(folder, monkeypatch):
        for name in names:
            (folder / 'faces' / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / 'faces' / name).write_bytes(content)
        (folder / 'faces').mkdir(exist_ok=True)
        return lambda notebook: load(data_dir='faces')
    return prepare


def named(name):
    """One good image under a difficult name."""
    def prepare(folder, monkeypatch):
        path, = write_images(folder / 'faces', 1)
        (folder / 'faces' / name).parent.mkdir(parents=True, exist_ok=True)
        path.rename(folder / 'faces' / name)
        return lambda notebook: load(data_dir='faces')
    return prepare


def archive_with(change=None, limit=None, **options):
    """A zip that was tampered with, lying about."""
    def prepare(folder, monkeypatch):
        path = small_archive(folder / 'processed-celeba-small.zip', **options)
        if change:
            path.write_bytes(change(path.read_bytes()))
        if limit:
            monkeypatch.setattr(helpers.data, 'UNPACKED_LIMIT', limit)
        return lambda notebook: load(max_images=5)
    return prepare


def encrypted(data):
    """The flag of an encrypted file set in both places where a zip keeps it."""
    data = bytearray(data)
    for mark, place in ((b'PK\x03\x04', 6), (b'PK\x01\x02', 8)):
        for hit in re.finditer(re.escape(mark), bytes(data)):
            data[hit.start() + place] |= 1
    return bytes(data)


def zip_of(name, content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr(name, content)
    return file.getvalue()


def served(status=200, data=b'<html>sorry</html>', **faults):
    """The download meets this server."""
    def prepare(folder, monkeypatch):
        monkeypatch.setattr(helpers.data, 'PATIENCE', .3)
        server = Server(data, status=status, **faults)
        monkeypatch.setenv('DCGAN_URL', server.url)

        def action(notebook):
            with server:
                started = time.time()
                assert len(load(max_images=5)) == 5 and time.time() - started < 10, 'drawn faces within seconds'
        return action
    return prepare


def unresolved(folder, monkeypatch):
    """The machine asks for the server's address, and nobody ever tells."""
    import socket
    monkeypatch.setattr(helpers.data, 'PATIENCE', .3)
    monkeypatch.setattr(socket, 'getaddrinfo', lambda *_, **__: time.sleep(2))
    monkeypatch.setenv('DCGAN_URL', 'http://faces.example/faces.zip')
    return lambda notebook: load(max_images=5)


def call(action, **environment):
    """A row that needs no files."""
    def prepare(folder, monkeypatch):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return action
    return prepare


def training(**options):
    def action(notebook):
        D, G, names = tiny_training(vars(notebook))
        with global_names(notebook.train, **names):
            notebook.train(D, G, **{'n_epochs': 1, **options})
    return call(action)


def changing_folder(folder, monkeypatch):
    """One of five images disappears while the others are decoded."""
    paths, decode = write_images(folder / 'faces', 5), helpers.decode_image
    monkeypatch.setattr(helpers.data, 'decode_image', lambda *a: paths[4].unlink(missing_ok=True) or decode(*a))
    return lambda notebook: load(data_dir='faces')


def many_files(folder, monkeypatch):
    """A listing of 1,200,000 files, and memory for a tenth of them."""
    (folder / 'faces').mkdir()
    monkeypatch.setattr(helpers.data, 'list_images', lambda folder: [(f'{n}.jpg', 1, 1) for n in range(1_200_000)])
    monkeypatch.setattr(helpers.data, 'IMAGES_LIMIT', 120_000 * 3 * 32 * 32)
    return lambda notebook: load(data_dir='faces')


def cache_with(change):
    """A cache that was decoded before, then changed."""
    def prepare(folder, monkeypatch):
        write_images(folder / 'faces', 3)
        load(data_dir='faces')
        path, = (folder / 'faces').glob('.dcgan_cache*')
        change(path)
        return lambda notebook: load(data_dir='faces')
    return prepare


GREY = Image.new('L', (64, 64), 100)
NOISE = io.BytesIO()
Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(NOISE, 'jpeg')
NOT_ZIP = 'No photographs to be had: .*cannot be unpacked: .*Delete it and run again'
DRAWN = 'DRAWN faces instead(.|\n)*NOT photographs'
LEFT_OUT = '1 of 4 files are unreadable and left out: {}'
FINE = '{} images of 32x32, faces/'

BAD_INPUT = {   # name: (what is prepared, the error or None, what the message or the printed text says)
    'no such folder': (call(lambda n: load(data_dir='nowhere')), FileNotFoundError, "'nowhere' does not exist.*DCGAN_DATA"),
    'no such folder in DCGAN_DATA': (call(lambda n: load(), DCGAN_DATA='nowhere'), FileNotFoundError, "'nowhere' does not"),
    'a file for a folder': (lambda f, m: faces_with()(f, m) and (lambda n: load(data_dir='faces/000001.jpg')),
                            FileNotFoundError, 'is a file, a folder of .* was expected'),
    'empty folder': (folder_of(), ValueError, "'faces' holds no images .*jpg.*Fill it"),
    'folder of text': (folder_of('a.txt', 'b/c.csv'), ValueError, 'holds no images'),
    'only __MACOSX': (folder_of('__MACOSX/a.jpg', '__MACOSX/b/._c.jpg', '.DS_Store'), ValueError, 'holds no images'),
    'nothing readable': (folder_of('a.jpg', 'b.png', content=b'text'), ValueError, 'none of its 2 files can be read'),
    'text named jpg': (faces_with(a__jpg=b'text'), None, LEFT_OUT.format(r'a.jpg \(UnidentifiedImageError\)')),
    'zero bytes': (faces_with(a__png=b''), None, LEFT_OUT.format('a.png')),
    'truncated': (faces_with(a__jpg=NOISE.getvalue()[:900]), None, LEFT_OUT.format(r'a.jpg \(OSError\)')),
    'header alone': (faces_with(a__jpg=NOISE.getvalue()[:20]), None, LEFT_OUT.format('a.jpg')),
    'resource fork': (faces_with(__a__jpg=b'fork'), None, FINE.format(3)),
    'jpeg named png': (faces_with(a__png=NOISE.getvalue()), None, FINE.format(4)),
    'animated': (faces_with(animated__webp=GREY.convert('RGB')), None, FINE.format(4)),
    'CMYK': (faces_with(a__jpg=GREY.convert('CMYK')), None, FINE.format(4)),
    'palette': (faces_with(a__png=GREY.convert('P')), None, FINE.format(4)),
    'black and white': (faces_with(a__png=GREY.convert('1')), None, FINE.format(4)),
    '16 bits': (faces_with(a__png=Image.fromarray(np.full((9, 9), 40_000, np.uint16))), None, FINE.format(4)),
    'alpha': (faces_with(a__webp=GREY.convert('RGBA')), None, FINE.format(4)),
    'grey and alpha': (faces_with(a__png=GREY.convert('LA')), None, FINE.format(4)),
    '1 x 1': (faces_with(a__png=GREY.resize((1, 1))), None, FINE.format(4)),
    '20,000 x 2': (faces_with(a__png=GREY.resize((20_000, 2))), None, FINE.format(4)),
    'decompression bomb': (lambda f, m: m.setattr(Image, 'MAX_IMAGE_PIXELS', 1000) or faces_with()(f, m), ValueError,
                           'none of its 3 files'),
    'name with spaces and quotes': (named('it\'s "a" face .jpg'), None, FINE.format(1)),
    'name in Unicode': (named('gesicht/лицо/脸😀.jpg'), None, FINE.format(1)),
    'name of 250 letters': (named('x' * 246 + '.jpg'), None, FINE.format(1)),
    'name that is not UTF-8': (named(os.fsdecode(b'face\xff\xfe.jpg')), None, FINE.format(1)),
    'links in a circle': (lambda f, m: (f / 'faces/a').mkdir(parents=True) or (f / 'faces/a/b').symlink_to(f / 'faces')
                          or faces_with()(f, m), None, FINE.format(3)),
    'dead link': (lambda f, m: (f / 'faces').mkdir() or (f / 'faces/a.jpg').symlink_to('gone') or faces_with()(f, m),
                  None, FINE.format(3)),
    'folder named jpg': (lambda f, m: (f / 'faces/a.jpg').mkdir(parents=True) or faces_with()(f, m), None, FINE.format(3)),
    'folder that changes': (changing_folder, None, r'1 of 5 files .* left out: 000005.jpg \(FileNotFoundError\)'),
    'more files than memory': (many_files, ValueError, '1,200,000 images: at 32x32 they take 3.7 GB, .*Set max_images'),
    'cache cut short': (cache_with(lambda p: p.write_bytes(p.read_bytes()[:99])), None, 'is damaged .*decoding anew'),
    'cache with a flipped bit': (cache_with(damage), None, 'its checksum is another.*decoding anew'),
    'cache of another size': (cache_with(lambda p: p.rename(p.with_name(p.name.replace('32px', '64px')))), None, FINE.format(3)),
    'cache of another folder': (cache_with(lambda p: p.rename(p.with_name('32px-0-0.npy'))), None, FINE.format(3)),
    'cache that is a pickle': (cache_with(lambda p: p.write_bytes(pickle.dumps(Calls(os.system, 'touch owned')))), None,
                               'is damaged .*decoding anew'),
    'zip cut short': (archive_with(lambda data: data[:len(data) // 2]), None, NOT_ZIP),
    'page for a zip': (archive_with(lambda data: b'<html>404</html>'), None, NOT_ZIP),
    'zip encrypted': (archive_with(encrypted), None, NOT_ZIP),
    'zip in a zip': (archive_with(lambda data: zip_of('faces.zip', data)), None, 'it holds 0 images'),
    'zip bomb': (archive_with(limit=1000), None, 'it holds 2 images of [0-9,]+ bytes'),
    'zip with ../': (archive_with(extra=['../../outside.jpg']), None, "it holds the name '../../outside.jpg'"),
    'zip with an absolute path': (archive_with(extra=['/dcgan-outside.jpg']), None, "holds the name '/dcgan-outside.jpg'"),
    'zip with a flipped bit': (archive_with(lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:]), None, NOT_ZIP),
    'nobody answers': (call(lambda n: load(max_images=5), DCGAN_URL='http://127.0.0.1:9/x'), None, DRAWN),
    'not found': (served(404), None, '404(.|\n)*' + DRAWN),
    'error page': (served(), None, 'no zip archive(.|\n)*' + DRAWN),
    'half a file': (served(data=b'PK' * 5000, breaks_after=500), None, 'broke off after 500 of 10,000 bytes'),
    'wrong length': (served(data=b'PK' * 5000, length=9), None, 'no zip archive'),
    'slow server': (served(data=b'PK' * 5000, pause=.02), None, 'sends less than 20,000 bytes a second'),
    'no address': (call(lambda n: load(max_images=5), DCGAN_URL='nowhere'), None, 'unknown url type(.|\\n)*' + DRAWN),
    'address with a space': (call(lambda n: load(max_images=5), DCGAN_URL='http://127.0.0.1:9/a b'), None,
                             'InvalidURL(.|\\n)*' + DRAWN),
    'silent server': (served(silent=True), None, '(timed out|did not answer)(.|\n)*' + DRAWN),
    'name that is never resolved': (unresolved, None, 'did not answer in 0.6 s(.|\n)*' + DRAWN),
    'redirects for ever': (served(302), None, 'infinite loop(.|\n)*' + DRAWN),
    'SVHN out of reach': (lambda f, m: unreachable_svhn(m, 'x') or (lambda n: load(dataset='svhn')), OSError,
                          'neither in data/ nor to be fetched .*DCGAN_DATA=drawn'),
    'SVHN of the wrong checksum': (lambda f, m: folder_of()(f, m) and (f / 'data').mkdir() or (
        f / 'data/train_32x32.mat').write_bytes(b'x') and unreachable_svhn(m, 'y') or (lambda n: load(dataset='svhn')),
        OSError, 'neither in data/ nor to be fetched'),
    'image_size 0': (call(lambda n: load(image_size=0)), ValueError, 'image_size: found 0, expected a whole number, 1 or'),
    'image_size -1': (call(lambda n: load(image_size=-1)), ValueError, 'image_size: found -1'),
    "image_size '32'": (call(lambda n: load(image_size='32')), ValueError, "image_size: found '32'"),
    'img_size 33': (call(lambda n: n.Generator(9, 4, 33)), ValueError, 'img_size: found 33, expected one of 32, 64, 128'),
    'img_size as text': (call(lambda n: n.Discriminator(4, '64')), ValueError, "found '64', .*Did you mean '64'"),
    'conv_dim 0': (call(lambda n: n.Discriminator(0)), ValueError, 'conv_dim: found 0'),
    'conv_dim 1.5': (call(lambda n: n.Generator(9, 1.5)), ValueError, 'conv_dim: found 1.5'),
    'batch_size 0': (call(lambda n: n.get_dataloader(0, 32, dataset='drawn')), ValueError, 'batch_size: found 0'),
    'batch_size too large': (call(lambda n: n.get_dataloader(9, 32, dataset='drawn', max_images=3)), None,
                             'batch_size: found 9, but there are 3 images: each batch holds them all'),
    'max_images -1': (call(lambda n: load(max_images=-1)), ValueError, 'max_images: found -1'),
    'n_epochs 0': (training(n_epochs=0), ValueError, 'n_epochs: found 0'),
    'print_every 0': (training(print_every=0), ValueError, 'print_every: found 0'),
    'unknown data set': (call(lambda n: load(dataset='shvn')), ValueError, "dataset: found 'shvn', .*Did you mean 'svhn'"),
    'unknown preset': (call(lambda n: helpers.choose_preset(PRESETS), DCGAN_PRESET='qiuck'), ValueError,
                       "found 'qiuck', expected one of 'smoke', 'quick', 'full'. Did you mean 'quick'?"),
    'unknown value of a preset': (call(lambda n: helpers.choose_preset(PRESETS), DCGAN_PRESET='quick epochs=3'), ValueError,
                                  "Did you mean 'n_epochs'?"),
    'value out of range': (call(lambda n: helpers.choose_preset(PRESETS), DCGAN_PRESET='quick n_epochs=-1'), ValueError,
                           'n_epochs: found -1'),
    'value that is no number': (call(lambda n: helpers.choose_preset(PRESETS), DCGAN_PRESET='quick n_epochs=many'),
                                ValueError, 'n_epochs=25'),
}


def unreachable_svhn(monkeypatch, checksum):
    import torchvision
    lists = {'train': ['http://127.0.0.1:9/train_32x32.mat', 'train_32x32.mat', checksum]}
    monkeypatch.setattr(torchvision.datasets.SVHN, 'split_list', lists)


@pytest.mark.parametrize('name', BAD_INPUT)
def test_bad_input_gets_its_message(notebook, folder, monkeypatch, capsys, name):
    """One message that says what was found, what was expected and what to do; nothing is left lying about."""
    prepare, error, message = BAD_INPUT[name]
    action = prepare(folder, monkeypatch)
    before = {path for path in folder.rglob('*')}
    capsys.readouterr()
    if error:
        with pytest.raises(error) as failure:
            action(notebook)
        said = str(failure.value)
    else:
        action(notebook)
        said = capsys.readouterr().out
    assert re.search(message, said), said
    left = {str(path.relative_to(folder)) for path in set(folder.rglob('*')) - before}
    assert all('.dcgan_cache' in path or path.endswith('.zip.part') or path == 'data' for path in left), left
    assert not (folder.parent / 'outside.jpg').exists() and not Path('/dcgan-outside.jpg').exists()


# ---------------------------------------------------------------------------------- hostile checkpoints, fuzzing


@pytest.mark.parametrize('name', ['os.system', 'exec', 'eval in a tuple', 'getattr', 'an object of its own',
                                  'half a file', 'nothing', 'text'])
@pytest.mark.parametrize('as_torch', [True, False])
def test_hostile_checkpoints_run_nothing(folder, name, as_torch):
    """A pickle in place of the checkpoint, bare or packed as torch packs it."""
    Path('checkpoints_gan').mkdir()
    data = hostile(name)
    if as_torch:
        file = io.BytesIO()
        torch.save({}, file)
        with zipfile.ZipFile(file) as good, zipfile.ZipFile('checkpoints_gan/latest.pt', 'w') as bad:
            for part in good.namelist():
                bad.writestr(part, data if part.endswith('data.pkl') else good.read(part))
    else:
        Path('checkpoints_gan/latest.pt').write_bytes(data)
    with pytest.raises(ValueError, match='damaged or no checkpoint'):
        helpers.load_checkpoint()
    assert os.listdir() == ['checkpoints_gan']


def test_checkpoint_that_unpacks_to_more_than_itself(notebook, folder):
    """A part of zeros, squeezed a thousandfold, is refused before it is unpacked."""
    run_training(notebook, 1)
    with zipfile.ZipFile('checkpoints_gan/latest.pt', 'a', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/data/999', bytes(50_000_000))
    with pytest.raises(ValueError, match='a checksum or a size is wrong'):
        helpers.load_checkpoint()


def mutated(data, random):
    """data with bytes changed, cut out, doubled or put in."""
    data = bytearray(data)
    for _ in range(random.randint(1, 8)):
        at = random.randrange(len(data) + 1)
        length = random.choice([1, 1, 2, 4, 8, 64])
        noise = random.choice([random.randbytes(length), b'\xff' * length, bytes(length), b'\x7f\xff\xff\xff'])
        kind = random.randrange(4)
        data[at:at + (length if kind < 2 else 0)] = noise if kind != 1 else b''
        if kind == 3:
            data[at:at] = data[at:at + random.choice([16, 256])]
        data = data or bytearray(b'x')
    return bytes(data)


def fuzz(times, seed=0):
    """Feed each reader times mutated files; return how many each took and refused. Run in a process of its own."""
    import random as randomness
    import resource
    random = randomness.Random(seed)
    notebook = helpers.load_definitions(NOTEBOOK)
    torch.set_num_threads(1)
    helpers.data.UNPACKED_LIMIT = 2 ** 20
    run_training(notebook, 1)
    write_images(Path('faces'), 2)
    load(data_dir='faces')
    cache, = Path('faces').glob('.dcgan_cache*')
    small_archive('good.zip')
    grids = [IMAGES[:2, :, :4, :4].clone(), IMAGES[:2, :, :4, :4].numpy()]
    readers = {
        'samples': ([pickle.dumps(grids, 2), pickle.dumps(grids), old_cuda_pickle(grids[:1], 2)], Path('fuzzed.pkl'),
                    lambda: helpers.load_samples('fuzzed.pkl'), ValueError),
        'checkpoint': ([Path('checkpoints_gan/latest.pt').read_bytes()], Path('fuzzed/latest.pt'),
                       lambda: helpers.load_checkpoint('fuzzed'), ValueError),
        'zip': ([Path('good.zip').read_bytes()], Path('fuzzed.zip'),
                lambda: shutil.rmtree(helpers.unpack('fuzzed.zip', 'unpacked')), OSError),
        'cache': ([cache.read_bytes()], cache, lambda: helpers.decode_folder('faces', 32), ())}
    Path('fuzzed').mkdir()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, (seeds, path, read, documented) in readers.items():
        taken = 0
        for number in range(times):
            path.write_bytes(mutated(random.choice(seeds), random))
            started = time.time()
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    read()
                taken += 1
            except documented:
                pass
            assert time.time() - started < 5, f'{name} {number} hangs'
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 2 ** 20
        assert grown < 1, f'{name}: {grown:.1f} GiB'
        print(f'{name}: {taken} of {times} taken, the others refused; memory grew by {grown:.2f} GiB')
    assert not list(Path().glob('**/owned')) and not list(Path().glob('.unpack*'))


def fuzz_apart(folder, times, seed):
    code = f'import sys; sys.path.insert(0, {str(HERE)!r}); import problem_unittests as t; t.fuzz({times}, {seed})'
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_fuzzed_files_are_refused(folder):
    """2,000 mutated samples, checkpoints, zips and caches each: the documented error or none, no hang, under 1 GB."""
    assert fuzz_apart(folder, 2000, 0).count('of 2000 taken') == 4


@LONG
@pytest.mark.parametrize('seed', range(1, 6))
def test_many_fuzzed_files_are_refused(folder, seed):
    fuzz_apart(folder, 10_000, seed)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_training_on_a_gpu(notebook, folder):
    """The same loop with everything on the GPU; grids and files come back on the CPU; resume works there."""
    for n_epochs in (1, 2):
        D, G, names = tiny_training(vars(notebook))
        for network in (D, G):
            network.to('cuda', memory_format=torch.channels_last)
        names['d_optimizer'], names['g_optimizer'] = notebook.make_optimizers(D, G)
        with global_names(notebook.train, **dict(names, train_on_gpu=True)):
            losses = notebook.train(D, G, n_epochs, 1, flip=True, ema_decay=.9, resume=True)
    assert len(losses) == 6 and np.isfinite(losses).all()
    assert all(grid.device.type == 'cpu' for grid in helpers.load_samples())


# ------------------------------------------------------------------------------------------------------ metric


@pytest.fixture(scope='module')
def crowd():
    return helpers.drawn_faces(600, 32)


def test_encoder_is_small_and_knows_celebas_attributes():
    encoder = helpers.FaceEncoder.trained()
    assert helpers.ENCODER.stat().st_size < 2 * 2 ** 20 and not encoder.training
    assert len(encoder.attribute_names) == 40 and {'Male', 'Young', 'Eyeglasses'} <= set(encoder.attribute_names)
    with pytest.raises(FileNotFoundError, match='encoder.py'):
        helpers.FaceEncoder.trained('nowhere.pt')


@pytest.mark.parametrize('size', [32, 64, 128])
def test_features_do_not_depend_on_type_or_batch(crowd, size):
    """uint8 and float images, alone and among others, give the same features, at every size."""
    images = F.interpolate(crowd[:3].float(), (size, size)).byte()
    encoder = helpers.FaceEncoder.trained()
    together = encoder.embed(images)
    assert together.shape == (3, 128) and not together.requires_grad
    expect_close('From floats', encoder.embed(images.float() / 127.5 - 1), together, 1e-5)
    expect_close('Alone', encoder.embed(images[1:2]), together[1:2], .02)


def test_face_distance_orders_what_the_eye_orders(crowd):
    """0 to itself; small between halves of one crowd; larger the worse the images; an order like that of features."""
    distance = helpers.FaceDistance(crowd, n=200)
    assert distance.n == 200 and abs(distance(crowd[-200:])) < 1e-3
    noise = torch.randn(200, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    noisy = [distance(((crowd[:200].float() + level * noise).clamp(0, 255)).byte()) for level in (0, 20, 60)]
    collapsed = distance(crowd[:1].expand(200, -1, -1, -1))
    assert distance.floor < 1.5 * noisy[0] + .5 and noisy[0] < noisy[1] / 2 < noisy[2] / 2 and collapsed > 5 * noisy[0]
    expect_close('As floats', distance(crowd[:200].float() / 127.5 - 1), noisy[0], 1e-3)
    mean = distance.encoder.embed(crowd[-200:]).double().mean(0)
    shift = distance.encoder.embed(crowd[:200]).double().mean(0) - mean
    assert noisy[0] >= shift.square().sum().item()       # the distance of the means is a part of it


@pytest.mark.parametrize('n_images', [1, 3, 20])
def test_distance_to_a_handful_of_images(notebook, crowd, n_images, capsys):
    """One single image must not stop the notebook: distances and quality come, with a word on their worth."""
    distance = helpers.FaceDistance(crowd[:n_images], n_judged=2)
    assert math.isfinite(distance(crowd[:10])) and math.isfinite(distance.floor) and len(distance.real) == distance.n == 10
    assert all(map(math.isfinite, helpers.quality(crowd[:distance.n], distance.real).values()))
    assert ('too few' in capsys.readouterr().out) == (n_images < 20)


def test_quality_tells_precision_from_recall(crowd):
    """torch-fidelity on our encoder: one face over and over is precise and recalls nothing; noise is neither."""
    real, other = crowd[:200], crowd[200:400]
    same_faces = helpers.quality(other, real)
    assert list(same_faces) == ['Fréchet face distance', 'kernel face distance', 'precision', 'recall']
    assert same_faces['precision'] > .5 and same_faces['recall'] > .5
    one_face = helpers.quality(real[:1].expand(200, -1, -1, -1), real)
    assert one_face['precision'] > .9 and one_face['recall'] < .1
    noise = helpers.quality(torch.rand(200, 3, 32, 32) * 2 - 1, real)
    assert noise['precision'] < .1 and noise['Fréchet face distance'] > 5 * same_faces['Fréchet face distance']
    expect_close('Both ways to the distance', helpers.FaceDistance(torch.cat([other, real]), n=200)(other),
                 same_faces['Fréchet face distance'], .01)


def test_fid_without_its_weights_says_what_to_do(crowd, folder, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(folder))
    monkeypatch.setattr(torch.hub, 'urlopen', lambda *_, **__: (_ for _ in ()).throw(urllib.error.URLError('no network')))
    with pytest.raises(OSError, match="FID needs Inception's weights .* no network.* weights = "):
        helpers.quality(crowd[:20], crowd[20:40], 'inception-v3-compat')


def test_nearest_face_of_a_face_is_itself(crowd):
    indices, distances = helpers.nearest_faces(crowd[[7, 3]].float() / 127.5 - 1, crowd[:20])
    assert indices.tolist() == [7, 3] and distances.max() < .1
    assert helpers.nearest_faces(crowd[[7]], crowd[8:20])[1] > .5


def test_attribute_shares_are_shares(crowd):
    shares = helpers.attribute_shares(crowd[:50])
    assert len(shares) == 40 and all(0 <= share <= 1 for share in shares.values()) and len(set(shares.values())) > 3


def with_attributes(folder, rows, names='Male Young'):
    write_images(folder / 'faces', 6)
    files = sorted(path.name for path in (folder / 'faces').glob('*.jpg'))
    lines = [f'{file} {row}' for file, row in zip(files, rows)]
    (folder / 'list_attr_celeba.txt').write_text('\n'.join([str(len(lines)), names, *lines]) + '\n')


def test_balance_draws_all_groups_equally(notebook, folder):
    """Three of four combinations occur, one of them once in six images: each gets a third of the draws."""
    with_attributes(folder, [' 1  1', ' 1  1', ' 1  1', ' 1 -1', '-1  1', '-1  1'])
    loader = notebook.get_dataloader(3, 32, 'faces', balance=('Male', 'Young'))
    drawn = torch.tensor([index for _ in range(400) for index in loader.sampler])
    shares = torch.bincount(drawn, minlength=6) / len(drawn)
    expect_close('Share of each image', shares, torch.tensor([1, 1, 1, 3, 1.5, 1.5]) / 9, .03)
    assert len(loader.sampler) == 6 and sum(len(images) for images, _ in loader) == 6


@pytest.mark.parametrize('change, message', [
    (lambda folder: (folder / 'list_attr_celeba.txt').unlink(), "CelebA's list_attr_celeba.txt"),
    (lambda folder: (folder / 'list_attr_celeba.txt').write_text('2\nMale Young\na.jpg 1'), 'expected a number, a line of names'),
    (lambda folder: (folder / 'list_attr_celeba.txt').write_text('1\nMale Young\na.jpg 1 1'), 'has no line for 6 of the 6 images'),
    (lambda folder: with_attributes(folder, ['1 1'] * 6, 'Male Old'), "found 'Young', expected one of 'Male', 'Old'"),
    (lambda folder: (folder / 'faces/000003.jpg').write_bytes(b'no image'), '1 images could not be read'),
])
def test_balance_says_what_is_missing(notebook, folder, change, message):
    with_attributes(folder, ['1 1'] * 6)
    change(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        notebook.get_dataloader(3, 32, 'faces', balance=('Male', 'Young'))


def test_balance_of_drawn_faces_is_refused(notebook, folder):
    with pytest.raises(ValueError, match='only the faces of CelebA have them'):
        notebook.get_dataloader(3, 32, dataset='drawn', max_images=6, balance=('Male',))


def test_pretrained_generator_draws_faces(notebook, folder):
    """Small, readable without running anything, with a card; the encoder sees the faces of men and women, most of them young."""
    assert sum(path.stat().st_size for path in (HERE / 'assets').glob('*.pt')) < 15 * 2 ** 20
    saved = helpers.load_pretrained()
    G = notebook.Generator(**saved['generator'])
    G.load_state_dict(saved['weights'])
    images = notebook.generate(G, torch.randn(64, G.z_size))
    shares = helpers.attribute_shares(images)
    assert .2 < shares['Male'] < .7 and shares['Young'] > .5 and shares['Bald'] < .3
    for word in ('data', 'images seen', 'recipe', 'distance', 'Limits', 'Bias'):
        assert word in saved['card'], word
    with pytest.raises(FileNotFoundError, match='comes with the project'):
        helpers.load_pretrained('nowhere.pt')


# -------------------------------------------------------------------------------------------- speed, processes

DEVICES = ['cpu'] + ['cuda'] * torch.cuda.is_available()


def fifty_steps(notebook, wrap, device, n_steps=50):
    """Figures (n_steps, 4), and the weights, of the same training with a step that wrap makes; each fifth batch is short."""
    D, G, names = tiny_training(vars(notebook))
    for network in (D, G):
        network.to(device, memory_format=torch.channels_last)
    d_optimizer, g_optimizer = notebook.make_optimizers(D, G)
    step = wrap(notebook.train_step, D, G, d_optimizer, g_optimizer)
    numbers = torch.Generator().manual_seed(0)
    faces = helpers.drawn_faces(8, 32).float().div(127.5).sub(1)
    figures = []
    for number in range(n_steps):
        if number == 30:
            g_optimizer.param_groups[0]['lr'] *= .5      # a graph must notice
        chosen = torch.randperm(8, generator=numbers)[:5 if number % 5 == 4 else 8]
        z = torch.randn(len(chosen), 6, generator=numbers)
        figures.append(step(faces[chosen].to(device), z.to(device), objective='bce', penalty=.1 if number % 4 == 0 else 0))
    return torch.stack(figures).cpu(), torch.cat([numbers_of(D), numbers_of(G)]).cpu()


def plain(step, D, G, d_optimizer, g_optimizer):
    return functools.partial(step, D, G, d_optimizer, g_optimizer)


@pytest.mark.parametrize('device', DEVICES)
def test_captured_step_agrees_in_float32(notebook, monkeypatch, device):
    """Without bfloat16 the wrapped step gives the plain step's numbers: on a CPU to the bit, on a GPU nearly."""
    monkeypatch.setattr(helpers.speed, 'has_bfloat16', lambda device: False)
    before = torch.get_float32_matmul_precision()
    try:
        captured = fifty_steps(notebook, helpers.capture, device)
        expected = fifty_steps(notebook, plain, device)
    finally:
        torch.set_float32_matmul_precision(before)
    for came, wanted in zip(captured, expected):
        expect_close('Figures and weights', came, wanted, 0 if device == 'cpu' else .02)


@pytest.mark.parametrize('device', DEVICES)
def test_captured_step_agrees_in_bfloat16(notebook, monkeypatch, device):
    """With bfloat16 (emulated where the machine has none) the 50 steps stay within 0.1 of the plain ones, and are not the same."""
    monkeypatch.setattr(helpers.speed, 'has_bfloat16', lambda device: True)
    figures, weights = fifty_steps(notebook, helpers.capture, device)
    plain_figures, plain_weights = fifty_steps(notebook, plain, device)
    expect_close('Figures', figures, plain_figures, .1)
    expect((weights != plain_weights).any(), 'Weights', 'those of float32', 'rounded a little otherwise')
    expect(figures.dtype == torch.float32, 'Figures', figures.dtype, torch.float32)


def test_fast_path_can_be_turned_off(notebook, monkeypatch):
    monkeypatch.setattr(helpers.speed, 'has_bfloat16', lambda device: True)
    monkeypatch.setenv('DCGAN_FAST', '0')
    for came, wanted in zip(fifty_steps(notebook, helpers.capture, 'cpu', 3), fifty_steps(notebook, plain, 'cpu', 3)):
        expect_close('Figures and weights', came, wanted, 0)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('drop_last', [False, True])
def test_feed_gives_the_batches_of_the_loader(device, drop_last):
    """The same seed, the same batches, in values and order; a sampler of one's own holds too."""
    faces = helpers.ImageDataset(helpers.drawn_faces(10, 32), torch.zeros(10, dtype=torch.int64))
    weighted = torch.utils.data.WeightedRandomSampler(torch.eye(10)[3], 7)
    for options in (dict(shuffle=True), dict(shuffle=False), dict(sampler=weighted)):
        loader = DataLoader(faces, 4, drop_last=drop_last, collate_fn=faces.collate, **options)
        feed = helpers.Feed(loader, torch.device(device))
        for _ in range(2):
            torch.manual_seed(3)
            expected = [images for images, _ in loader]
            torch.manual_seed(3)
            came = list(feed)
            assert len(came) == len(expected) == len(loader)
            for batch, wanted in zip(came, expected):
                assert batch.device.type == device and batch.is_contiguous(memory_format=torch.channels_last)
                expect_close('Batch', batch.cpu(), wanted, 1e-7, options=options)


def test_feed_reads_other_loaders():
    """A loader that is not ours is read as it is."""
    batches = [torch.rand(2, 3, 8, 8) for _ in range(3)]
    loader = DataLoader([(image, 0) for batch in batches for image in batch], 2)
    for batch, wanted in zip(helpers.Feed(loader, torch.device('cpu')), batches, strict=True):
        expect_close('Batch', batch, wanted, 0)
    faces = helpers.ImageDataset(helpers.drawn_faces(6, 32), torch.zeros(6, dtype=torch.int64))
    for loader in (DataLoader(torch.utils.data.Subset(faces, [4, 2]), 2, collate_fn=faces.collate),
                   DataLoader(faces, batch_sampler=[[4, 2]], collate_fn=faces.collate),
                   DataLoader(faces, 2, sampler=[4, 2], collate_fn=faces.collate)):
        (batch,), (wanted, _) = helpers.Feed(loader, torch.device('cpu')), next(iter(loader))
        expect_close('Batch', batch, wanted, 1e-7)
        expect_close('Batch', batch, faces[[4, 2]][0], 1e-7)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_feed_from_pinned_memory(monkeypatch):
    """Images that do not fit on the GPU give the same batches."""
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda device: (0, 0))
    test_feed_gives_the_batches_of_the_loader('cuda', False)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_step_is_one_graph(notebook):
    """On a GPU the step is recorded after its warm-up, and nothing made it fall back."""
    D, G, names = tiny_training(vars(notebook))
    for network in (D, G):
        network.to('cuda', memory_format=torch.channels_last)
    step = helpers.capture(notebook.train_step, D, G, *notebook.make_optimizers(D, G))
    for _ in range(6):
        step(torch.zeros(8, 3, 32, 32, device='cuda'), torch.randn(8, 6, device='cuda'))
    assert not step.broken and len(step.graphs) == 1


RANKS = """
import os, sys
sys.path.insert(0, {here!r})
import torch
from torch import nn
import helpers
import problem_unittests as tests
notebook = helpers.load_definitions({notebook!r})
helpers.speed.has_bfloat16 = lambda device: False
device = helpers.choose_device()
torch.manual_seed(0)
D = notebook.Discriminator(4, batch_norm=False)
G = nn.Sequential(nn.Linear(6, 256), nn.Unflatten(1, (16, 4, 4)), nn.ConvTranspose2d(16, 3, 8, 8), nn.Tanh())
d_optimizer, g_optimizer = notebook.make_optimizers(D, G, 1e-3)
step = helpers.capture(notebook.train_step, D, G, d_optimizer, g_optimizer)
faces = helpers.ImageDataset(helpers.drawn_faces(11, 32), torch.zeros(11, dtype=torch.int64))
loader = torch.utils.data.DataLoader(faces, 4, shuffle=True, collate_fn=faces.collate)
figures = []
for number, images in enumerate(image for _ in range(3) for image in helpers.Feed(loader, device)):
    if number == {dies_at} and helpers.world()[0] == 1:
        os._exit(3)
    if len(images) == 4:
        figures.append(step(images * 2 - 1, torch.randn(4, 6), penalty=.1 if number % 2 else 0))
weights = torch.cat([tests.numbers_of(D), tests.numbers_of(G)])
torch.save((torch.stack(figures), weights), f'out-{{helpers.world()[0]}}-of-{{helpers.world()[1]}}.pt')
print('printed by one')
"""


def torchrun(folder, script, *arguments, environment=(), processes=2):
    return subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', str(processes),
                           script, *arguments], cwd=folder, capture_output=True, text=True, timeout=300,
                          env=dict(os.environ, CUDA_VISIBLE_DEVICES='', **dict(environment)))


def test_two_processes_train_as_one(folder):
    """Without batch normalisation two gloo processes give the weights and figures of one, to rounding."""
    Path('ranks.py').write_text(RANKS.format(here=str(HERE), notebook=str(NOTEBOOK), dies_at=-1))
    subprocess.run([sys.executable, 'ranks.py'], check=True, cwd=folder, capture_output=True,
                   env=dict(os.environ, CUDA_VISIBLE_DEVICES=''))
    done = torchrun(folder, 'ranks.py')
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('printed by one') == 1
    figures, weights = torch.load('out-0-of-1.pt')
    assert len(figures) == 6
    for rank in (0, 1):
        figures_of_rank, weights_of_rank = torch.load(f'out-{rank}-of-2.pt')
        expect_close('Figures', figures_of_rank, figures, 1e-4, rank=rank)
        expect_close('Weights', weights_of_rank, weights, 1e-4, rank=rank)


def test_processes_end_in_peace(folder):
    """A script that ends right after its last message: gloo's threads are done with it before Python is."""
    Path('brief.py').write_text(f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import torch
import helpers
helpers.choose_device()
held = torch.distributed.group.WORLD             # as DistributedDataParallel holds it
sys.setswitchinterval(10)                        # gloo's threads wait until Python has nothing to do
for _ in range(20):
    torch.distributed.all_reduce(torch.ones(5))
""")
    done = torchrun(folder, 'brief.py', processes=4)
    assert done.returncode == 0, done.stderr


def test_a_dead_process_ends_the_job(folder):
    """One of two processes dies: the job ends by itself, with a failure that says which."""
    Path('ranks.py').write_text(RANKS.format(here=str(HERE), notebook=str(NOTEBOOK), dies_at=4))
    done = torchrun(folder, 'ranks.py')
    assert done.returncode != 0 and not list(folder.glob('out-*'))
    assert re.search(r'exitcode *: 3 ', done.stderr) and re.search(r'rank *: 1 ', done.stderr), done.stderr


def test_notebook_under_torchrun(copy_of_project):
    """The exported notebook with two processes: one prints and writes; a second start goes on from the first."""
    subprocess.run([sys.executable, '-m', 'nbconvert', '--to', 'script', 'dcgan_faces.ipynb'], cwd=copy_of_project, check=True,
                   capture_output=True)
    for n_epochs in (1, 2):
        done = torchrun(copy_of_project, 'dcgan_faces.py', environment=dict(
            DCGAN_PRESET=f'smoke n_epochs={n_epochs}', DCGAN_DATA='drawn', MPLBACKEND='agg'))
        assert done.returncode == 0, done.stderr
        assert len(re.findall(r'^epoch +\d+/', done.stdout, re.M)) == n_epochs
        assert done.stdout.count('Continuing checkpoints_gan/ after epoch 1') == n_epochs - 1
        assert done.stdout.count("Preset 'smoke") == 1 and not list(copy_of_project.glob('checkpoints_gan-*'))
    saved = helpers.load_checkpoint(copy_of_project / 'checkpoints_gan')
    assert saved['epoch'] == 2 and saved['n_steps'] == 8 and saved['images_seen'] == 128


# ----------------------------------------------------------------------------------- the tests are tested: faults


def edits(*pairs):
    """A change of the notebook's source: each (old, new) must be found exactly once."""
    return lambda monkeypatch: helpers.load_definitions(NOTEBOOK, pairs)


def breaks(target, name, replacement):
    """A fault in helpers: target.name is replaced."""
    def plant(monkeypatch):
        monkeypatch.setattr(target, name, replacement)
        return helpers.load_definitions(NOTEBOOK)
    return plant


INIT = 'isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))'
GRAPH = '@torch.no_grad()\ndef generate'
PARTS_OF_A_RUN = 'parts = dict(D=D, G=G, G_average=G_average, d_optimizer=d_optimizer, g_optimizer=g_optimizer)'
REAL_BCE = 'return F.binary_cross_entropy_with_logits(D_out, target)'
SUBPLOT = 'fig.add_subplot(2, 8, i + 1)\n        imshow((torch'

FAULTS = [
    # the table of CONTRACT.md, row by row
    ('init looks for the text Conv2d', edits((INIT, "'Conv2d' in type(m).__name__ or isinstance(m, nn.Linear)")),
     test_weights_init_normal),
    ('init of G never applied', edits(('    G.apply(weights_init_normal)\n', '')), test_build_network),
    ('init of D never applied', edits(('    D.apply(weights_init_normal)\n', '')), test_build_network),
    ('real images never scaled', edits(('real = scale(images)', 'real = images')), test_train),
    ('scale for symmetric ranges only', edits(('x * (high - low) + low', 'x * 2 * high - high')), test_scale),
    ('fixed_z drawn anew each epoch', edits(('lambda z: generate(G_average, z)',
                                                    "lambda z: generate(G_average, torch.randn(len(z), arguments['z_size']))")), test_train),
    ('samples keep their graph', edits((GRAPH, 'def generate')), test_generate),
    ('no detach', edits(('D(fake.detach())', 'D(fake)'), ('extra).backward()', 'extra).backward(retain_graph=True)')),
     test_train_step),
    ('grids in train mode', edits(('G.eval()(z', 'G(z')), test_generate),
    ('fake batch sized by the loader', edits(('z = torch.randn(len(real),', 'z = torch.randn(batch_size,')), test_train),
    ('eps 0.8 in D', edits(('nn.BatchNorm2d(deep) if', 'nn.BatchNorm2d(deep, 0.8) if')), test_discriminator_layers),
    ('eps 0.8 in G', edits(('nn.BatchNorm2d(shallow)', 'nn.BatchNorm2d(shallow, 0.8)')), test_generator_layers),
    ('sigmoid, then BCE', edits((REAL_BCE, 'return F.binary_cross_entropy(torch.sigmoid(D_out), target)')), test_losses),
    ('checkpoint without optimizers', edits((PARTS_OF_A_RUN, 'parts = dict(D=D, G=G, G_average=G_average)')),
     test_resume_is_exact),
    ('checkpoint without random state', breaks(helpers.running, 'set_random_state', lambda state: None), test_resume_is_exact),
    ('checkpoint without epoch', breaks(helpers.files, 'STATE', tuple(n for n in helpers.files.STATE if n != 'epoch')),
     test_resume_is_exact),
    ('checkpoint needs its folder', breaks(Path, 'mkdir', lambda *a, **k: None), test_resume_is_exact),
    ('plot_size/2 as an index', edits((SUBPLOT, SUBPLOT.replace('8,', '16 / 2,'))), test_view_samples),
    ("plt.style.use('seaborn')", edits((SUBPLOT, "plt.style.use('seaborn')\n        " + SUBPLOT)), test_view_samples),
    # and others that shape tests and short runs do not see
    ('in-place scale', edits(('return x * (high - low) + low', 'return x.mul_(high - low).add_(low)')), test_scale),
    ('last layer of D too narrow', edits(('nn.Conv2d(shallow, deep, 4', 'nn.Conv2d(shallow, deep, 3')),
     test_discriminator_layers),
    ('LeakyReLU of 0.01', edits(("nn.Identity(), nn.LeakyReLU(0.2, ", 'nn.Identity(), nn.LeakyReLU(0.01, ')),
     test_discriminator_layers),
    ('no batch normalisation in G', edits(('nn.BatchNorm2d(shallow), ', '')), test_generator_layers),
    ('ReLU at the end of G', edits(('nn.Tanh()', 'nn.ReLU()')), test_generator_layers),
    ('init of 0.2', edits(('0.0, 0.02)', '0.0, 0.2)')), test_weights_init_normal),
    ('BatchNorm initialised too', edits((INIT, 'getattr(m, "weight", None) is not None')), test_weights_init_normal),
    ('networks returned as G, D', edits(('return D, G', 'return G, D')), test_build_network),
    ('smoothing of 0.8', edits(('0.9 if smooth', '0.8 if smooth')), test_losses),
    ('fake_loss against 1', edits(('torch.zeros_like(D_out)', 'torch.ones_like(D_out)')), test_losses),
    ('Adam without beta1', edits(('d_optimizer = optim.Adam(D.parameters(), lr, (beta1, beta2)',
                                  'd_optimizer = optim.Adam(D.parameters(), lr, (0.9, beta2)')), test_make_optimizers),
    ("G's optimizer holds D", edits(('optim.Adam(G.parameters()', 'optim.Adam(D.parameters()')), test_make_optimizers),
    ("D's gradient from G's step", edits(('g_loss.backward(inputs=list(G.parameters()))', 'g_loss.backward()')),
     test_train_step),
    ('every image mirrored', edits(('device=x.device) < 0.5', 'device=x.device) < 1.5')), test_random_flip),
    ('mirrored upside down', edits(('x.flip(3)', 'x.flip(2)')), test_random_flip),
    ('one coin for the batch', edits(('torch.rand(len(x), 1, 1, 1, device', 'torch.rand(1, 1, 1, 1, device')), test_random_flip),
    ('never mirrored', edits(('real = random_flip(real) if flip else real', 'real = real')), test_mirrors_when_asked),
    ('saturating loss', edits(("'bce':           (lambda real, fake: real_loss(real) + fake_loss(fake), lambda real, fake: real_loss(fake))",
                                "'bce':           (lambda real, fake: real_loss(real) + fake_loss(fake), lambda real, fake: -fake_loss(fake))")),
     test_objectives),
    ('gradients of D add up', edits(('d_optimizer.zero_grad()', 'pass')), test_train_step),
    ('smoothing forgotten', edits(('real_loss(real, smooth=True)', 'real_loss(real)')), test_objectives),
    ('hinge the wrong way round', edits(('F.relu(1 - real) + F.relu(1 + fake)', 'F.relu(1 + real) + F.relu(1 - fake)')),
     test_objectives),
    ('always the same objective', edits(('OBJECTIVES[objective]', "OBJECTIVES['bce']")), test_train_step),
    ('penalty forgotten', edits(('if penalty else 0\n    (d_loss', 'if False else 0\n    (d_loss')), test_train_step),
    ('penalty reaches G', edits(('x = x.detach().requires_grad_()', 'x = x if x.requires_grad else x.requires_grad_()')),
     test_gradient_penalty),
    ('penalty not differentiable', edits(('D(x).sum(), x, create_graph=True)', 'D(x).sum(), x)')), test_gradient_penalty),
    ('penalty on real images alone', edits(("[real, fake] if objective == 'relativistic' else [real]", '[real]')),
     test_gradient_penalty),
    ('Wasserstein penalty on real images', edits(('[mix * real + (1 - mix) * fake]', '[real]')), test_gradient_penalty),
    ('Wasserstein penalty in one place for all', edits(('torch.rand(len(real), 1, 1, 1, device=real.device)',
                                                        'torch.rand(1, 1, 1, 1, device=real.device)')), test_gradient_penalty),
    ('R1 on fakes', edits(("if objective == 'relativistic' else [real]", "if objective == 'relativistic' else [fake]")),
     test_gradient_penalty),
    ('penalty counted as loss', edits(('torch.stack([d_loss,', 'torch.stack([d_loss + extra,')), test_train_step),
    ('learning rate decays from where it is', edits(("group.setdefault('initial_lr', group['lr'])", "group['lr']")),
     test_decay_learning_rates),
    ("average without BatchNorm's statistics", edits(('zip(G_average.state_dict().values(), G.state_dict().values())',
                                                      'zip(G_average.parameters(), G.parameters())')), test_update_average),
    ('average the wrong way round', edits(('currents, 1 - decay)', 'currents, decay)')),
     test_update_average),
    ('G left in eval mode', edits(('    G.train(training)\n', '')), test_generate),
    ('noise drawn once', edits(("z = torch.randn(len(real), arguments['z_size'], device=where)",
                                'z = fixed_z[:len(real)].to(where)')), test_train),
    ('uniform noise', edits(('z = torch.randn(len(real),', 'z = torch.rand(len(real),')), test_train),
    ('losses swapped', edits(('losses.append((d_loss, g_loss))', 'losses.append((g_loss, d_loss))')), test_train),
    ('line at every batch', edits(('if batch_i % print_every == 0', 'if True')), test_train),
    ('straight walk', edits(('    return (torch.sin((1 - t) * angle) * start + torch.sin(t * angle) * end) / torch.sin(angle)',
                             '    return (1 - t) * start + t * end')), test_slerp),
    ('loader does not shuffle', edits(('shuffle=not balance, ', '')),
     test_get_dataloader),
    ('batches in the order of the files', breaks(
        helpers.Feed, '_cut_out', lambda self: self.images.split(self.loader.batch_size)), test_feed_gives_the_batches_of_the_loader),
    ('captured step loses its options', breaks(
        helpers, 'capture', lambda step, *parts: lambda real, z, **options: step(*parts, real, z)),
     test_captured_step_agrees_in_float32),
    ('no bfloat16 after all', breaks(helpers.speed._BFloat16, 'forward', lambda self, x: self.network(x)),
     test_captured_step_agrees_in_bfloat16),
    ('best checkpoint is the latest', breaks(
        helpers, 'load_checkpoint', lambda folder='checkpoints_gan', best=False, load=helpers.load_checkpoint: load(folder)),
     test_best_epoch_is_kept),
    ('distance draws from the training', breaks(helpers.Run, '_judge', lambda self, generate: [torch.randn(4), ''][1]),
     test_distance_changes_nothing),
    ('balance changes nothing', breaks(
        helpers.data, 'WeightedRandomSampler', lambda weights, n: torch.utils.data.WeightedRandomSampler(torch.ones(n), n)),
     test_balance_draws_all_groups_equally),
    ('distance blind to noise', breaks(helpers.FaceEncoder, 'embed', lambda self, images: self.attributes.weight[:, :len(images)].T),
     test_face_distance_orders_what_the_eye_orders),
    ('loader gives bytes', breaks(helpers.ImageDataset, '__getitem__', lambda s, i: (s.images[i].float(), s.labels[i])),
     test_get_dataloader),
]


@pytest.mark.parametrize('name, plant, test', FAULTS, ids=[name for name, *_ in FAULTS])
def test_planted_faults_are_caught(monkeypatch, folder, name, plant, test):
    """Plant a fault in the part under test: its test must fail."""
    notebook = plant(monkeypatch)
    available = dict(folder=folder, notebook=notebook, monkeypatch=monkeypatch, device='cpu', drop_last=False,
                     crowd=helpers.drawn_faces(600, 32) if 'crowd' in inspect.signature(test).parameters else None)
    arguments = {argument: available[argument] if argument in available else getattr(notebook, argument)
                 for argument in inspect.signature(test).parameters}
    with pytest.raises((AssertionError, OSError, ValueError, RuntimeError, KeyError)):
        test(**arguments)


def test_a_failure_tells_what_came_and_with_what(notebook):
    """The message names what was expected, what came, and the parameters; nothing is said to have passed."""
    with pytest.raises(AssertionError) as failure, contextlib.redirect_stdout(io.StringIO()) as printed:
        test_discriminator(lambda conv_dim: nn.Flatten())
    message = str(failure.value)
    assert '(50, 1)' in message and '(50, 3072)' in message and "'conv_dim': 10" in message
    assert printed.getvalue() == ''


def test_a_success_prints_and_leaves_the_random_state(notebook, capsys):
    before = torch.get_rng_state()
    test_generator(notebook.Generator)
    assert capsys.readouterr().out == 'Tests Passed\n' and torch.equal(torch.get_rng_state(), before)


# -------------------------------------------------------------------------------------------------- the notebook


def test_definitions_have_no_side_effect(notebook, capsys):
    """Reading them prints nothing, builds nothing, and gives every part."""
    assert capsys.readouterr().out == ''
    assert all(hasattr(notebook, name) for name in PARTS)
    assert not any(hasattr(notebook, name) for name in ('celeba_train_loader', 'D', 'G', 'losses', 'config'))
    assert set(notebook.PRESETS) == {'smoke', 'quick', 'classic', 'full'}


@pytest.mark.parametrize('old, times', [('no such line', 0), ('nn.BatchNorm2d(', 3)])
def test_definitions_are_edited_in_one_place_or_not_at_all(old, times):
    """A fault or a variant whose place is gone, or is not the only one, must not pass for planted."""
    with pytest.raises(ValueError, match=rf'expected each exactly once .* found .*{times}'):
        helpers.load_definitions(NOTEBOOK, [(old, 'pass')] if not times else [(old, old)])


def test_configuration_is_the_parameters_cell(notebook):
    """Every name set in the parameters cell but the preset is kept in the checkpoints, none twice, each with a reason."""
    cells = json.loads(NOTEBOOK.read_text(encoding='utf-8'))['cells']
    cell, = [source_of(cell) for cell in cells if 'parameters' in cell['metadata'].get('tags', [])]
    assigned = [node for node in ast.parse(cell).body if isinstance(node, ast.Assign)]
    names = [leaf.id for node in assigned for target in node.targets for leaf in ast.walk(target)
             if isinstance(leaf, ast.Name)]
    assert sorted(names) == sorted(notebook.PARAMETERS + ['preset', 'PRESETS'])
    assert all('#' in cell.splitlines()[node.lineno - 1] for node in assigned)
    assert len(set(names)) == len(names)


def source_of(cell):
    return ''.join(cell['source'])


def committed_text():
    """The notebook as committed: running it in place on drawn faces, say, is no fault. Without git, as it lies here."""
    with contextlib.suppress(FileNotFoundError, subprocess.CalledProcessError):
        return subprocess.run(['git', 'show', 'HEAD:./dcgan_faces.ipynb'], cwd=HERE, capture_output=True, encoding='utf-8',
                              check=True).stdout
    return NOTEBOOK.read_text(encoding='utf-8')


def faults_of(text):
    """What is wrong with a stored notebook, given its text: a list of sentences."""
    cells = json.loads(text)['cells']
    code = [cell for cell in cells if cell['cell_type'] == 'code']
    lines = [sum(bool(line.strip()) for line in source_of(cell).splitlines()) for cell in code]
    words = sum(len(source_of(cell).split()) for cell in cells if cell['cell_type'] == 'markdown')
    everything = '\n'.join(map(source_of, code))
    called = re.findall(r'tests\.(test_\w+)\(', everything)
    faults = [f'uses {name}' for name, pattern in {
        'iterator.next()': r'\.next\(\)', 'a division as an index': r'subplot\([^)]*/', 'a style that is gone': 'seaborn',
        'shell or magic': r'^\s*[!%]', 'a star import': r'import \*',
        'an absolute path': r'''['"]/(?:\w)'''}.items() if re.search(pattern, everything, re.M)]
    faults += [f'{name} is not tested under its cell' for name in part_tests() if name not in called]
    if [cell['execution_count'] for cell in code] != list(range(1, len(code) + 1)):
        faults.append('has not been run from top to bottom')
    outputs = [output for cell in code for output in cell['outputs']]
    faults += [f'shows an error: {output["ename"]}' for output in outputs if output['output_type'] == 'error']
    if json.dumps(outputs).count('Tests Passed') != len(called):
        faults.append('has a test that did not pass')
    if re.search(r'(?<![\w.])/(?:tmp|home|root|work|mnt|Users)/', json.dumps(outputs)):
        faults.append("shows a path of somebody's machine")
    if len(text.encode()) > 2_000_000:
        faults.append(f'has {len(text.encode()):,} bytes')
    if statistics.median(lines) > 7 or max(lines) > 60:
        faults.append(f'has cells of {statistics.median(lines)} lines (median) and {max(lines)} (largest)')
    if not 1200 <= words <= 1800:
        faults.append(f'has {words} words of prose')
    return faults


def part_tests():
    """The names of the tests that the notebook calls."""
    return [name for name, test in globals().items() if name.startswith('test_') and hasattr(test, '__wrapped__')]


def test_committed_notebook():
    """Run from top to bottom on real faces, no error, all tests passed, within its sizes."""
    text = committed_text()
    assert faults_of(text) == []
    outputs = [output for cell in json.loads(text)['cells'] for output in cell.get('outputs', [])]
    printed = ''.join(''.join(output.get('text', '')) for output in outputs)
    if not (HERE / '.git').exists() and 'NOT photographs' in printed:
        pytest.skip('this copy was run again, on drawn faces, and without git there is no other to look at')
    assert re.search(r'images of \d+x\d+, processed_celeba_small/', printed) and 'NOT photographs' not in printed


@pytest.mark.parametrize('old, new, fault', [
    ('next(iter(celeba_train_loader))', 'iter(celeba_train_loader).next()', 'iterator.next()'),
    ('fig.add_subplot(2, 8, i + 1)', 'fig.add_subplot(2, 16/2, i + 1)', 'a division'),
    ('import copy', '!pip install torch', 'shell'),
    ("data_dir = 'processed_celeba_small/'", "data_dir = '/data/faces'", 'absolute'),
    ('tests.test_generator(Generator)', '', 'test_generator is not tested'),
    ('"execution_count": 3,', '"execution_count": 33,', 'top to bottom'),
    ('Tests Passed', 'Tests Failed', 'did not pass')])
def test_faults_in_the_committed_notebook_are_caught(old, new, fault):
    text = committed_text()
    assert old in text
    assert any(fault in sentence for sentence in faults_of(text.replace(old, new)))


@pytest.fixture
def copy_of_project(tmp_path):
    """A folder of what a run needs, and nothing else."""
    (tmp_path / 'assets').mkdir()
    for name in ('encoder.pt', 'generator-32.pt'):
        shutil.copy(HERE / 'assets' / name, tmp_path / 'assets')
    shutil.copytree(HERE / 'helpers', tmp_path / 'helpers')
    for name in ('problem_unittests.py', 'dcgan_faces.ipynb'):
        shutil.copy(HERE / name, tmp_path)
    return tmp_path


def test_names_of_helpers_exist():
    """Notebook and experiments name nothing in helpers that is not there: no other test runs the experiments."""
    sources = [(path.name, path.read_text(encoding='utf-8')) for path in sorted((HERE / 'experiments').glob('*.py'))]
    sources += [(NOTEBOOK.name, ''.join(cell['source'])) for cell in json.loads(NOTEBOOK.read_text(encoding='utf-8'))['cells']
                if cell['cell_type'] == 'code']
    named = {(name, node.attr) for name, source in sources for node in ast.walk(ast.parse(source))
             if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == 'helpers'}
    assert len(named) > 50
    assert [(name, attribute) for name, attribute in sorted(named) if not hasattr(helpers, attribute)] == []


def test_notebook_runs_from_top_to_bottom(copy_of_project):
    """The whole notebook in the smoke preset on drawn faces, then again: the second run picks up the first."""
    import nbformat
    from nbclient import NotebookClient
    environment = dict(os.environ, DCGAN_PRESET='smoke', DCGAN_DATA='drawn')
    for run in (1, 2):
        notebook = nbformat.read(copy_of_project / 'dcgan_faces.ipynb', as_version=4)
        NotebookClient(notebook, timeout=300, kernel_name='python3',
                       resources={'metadata': {'path': str(copy_of_project)}}).execute(env=environment)
        printed = ''.join(output.get('text', '') for cell in notebook.cells for output in cell.get('outputs', []))
        assert printed.count('Tests Passed') == len(part_tests())
        assert 'NOT photographs' in printed and 'epoch    2/   2' in printed
        assert ('All 2 epochs are done' in printed) == (run == 2)
    pictures = sum('image/png' in output.get('data', {}) for cell in notebook.cells for output in cell.get('outputs', []))
    assert pictures >= 6
    assert len(helpers.load_samples(copy_of_project / 'train_samples.pkl')) == 2


def test_notebook_runs_as_a_script(copy_of_project):
    """Exported by nbconvert, it trains in a terminal."""
    environment = dict(os.environ, DCGAN_PRESET='smoke n_epochs=1', DCGAN_DATA='drawn', MPLBACKEND='agg')
    subprocess.run([sys.executable, '-m', 'nbconvert', '--to', 'script', 'dcgan_faces.ipynb'], cwd=copy_of_project, check=True,
                   capture_output=True)
    done = subprocess.run([sys.executable, 'dcgan_faces.py'], cwd=copy_of_project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'epoch    1/   1' in done.stdout and (copy_of_project / 'train_samples.pkl').exists()


def test_readme_and_ci_agree():
    """.ci/run calls the README's test command, letter by letter."""
    readme = (HERE / 'README.md').read_text(encoding='utf-8')
    commands = re.findall(r'^.*pytest problem_unittests\.py.*$', readme, re.M)
    assert len(commands) == 1 and commands[0] in (HERE / '.ci/run').read_text(encoding='utf-8')
