"""The tests of dcgan_faces.ipynb, in the order of the notebook.

The notebook hands each part to its test right under the part's own cell:

    tests.test_generator(Generator)

The test prints 'Tests Passed', or raises an AssertionError that says what was expected, what came
instead, and with which parameters. What is unusual and works gets a remark.

pytest runs the same tests on the notebook's own parts (the last section), and on those of any other
notebook, with points for each:

    DCGAN_NOTEBOOK=theirs.ipynb pytest problem_unittests.py
"""
import contextlib
import copy
import functools
import io
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image

from machinery.checks import (
    answering,
    drawn_by,
    empty_folder,
    expect,
    expect_close,
    expect_equal,
    global_names,
    layers_of,
    louder,
    numbers_of,
    on_the_cpu,
    part_test,
    remark_unless,
    remarks,
    result_or_error,
    scope_of,
    seed_again,
    tiny_training,
    watch_passes,
    write_images,
)
from machinery.console import fitting, setting, takes
from machinery.files import SAMPLES, load_samples
from machinery.lesson import NOTEBOOK, load_definitions
from machinery.run import load_checkpoint, load_history

# ------------------------------------------------------------------------------------- the images


@part_test
def test_get_dataloader(get_dataloader):
    """Shape, type, range, number, order and contents of the batches from a folder of ten images."""
    with empty_folder() as here:
        paths = write_images(here / 'faces' / 'celeba', 10)    # nested, as ImageFolder wants it
        for image_size in (32, 64):
            parameters = dict(batch_size=4, image_size=image_size, images=10)
            loader = get_dataloader(4, image_size=image_size, data_dir='faces')
            size = getattr(loader, 'batch_size', 'none')
            expect_equal('batch_size', size, 4, **parameters)
            drop_last = len(loader) == 2
            remark_unless(not drop_last, 'The last, short batch', 'none', 'one')
            expect_equal('Number of batches', len(loader), 2 if drop_last else 3, **parameters)

            batches = list(loader)
            pairs = all(isinstance(batch, tuple | list) and len(batch) == 2 for batch in batches)
            expect(pairs, 'A batch', type(batches[0]).__name__, '(images, labels)', **parameters)
            batches = [images for images, labels in batches]
            shapes = [tuple(batch.shape) for batch in batches]
            expected = [(size, 3, image_size, image_size) for size in (4, 4, 2)]
            expect_equal('Shapes', shapes, expected[:len(shapes)], **parameters)

            images = torch.cat(batches)
            expect_equal('Type', images.dtype, torch.float32, **parameters)
            expect_equal('Device', images.device.type, 'cpu', **parameters)
            low, high = images.min().item(), images.max().item()
            expect(0 <= low and 0.1 < high <= 1, 'Range', (low, high), '[0, 1]', **parameters)
            expect_reds_of(paths, images)

            again = torch.cat([images for images, labels in loader])
            expect(not torch.equal(images, again), 'A second pass', 'the same order',
                   'another order', **parameters)


def expect_reds_of(paths, images):
    """Each image is one of the files, and no two are the same: told by the mean of its red."""
    on_disk = {path.name: np.asarray(Image.open(path))[..., 0].mean() / 255 for path in paths}
    for red in images[:, 0].mean((1, 2)).tolist():
        nearest = min(on_disk, key=lambda name: abs(on_disk[name] - red))
        expect_close('Red of an image', red, on_disk.pop(nearest), 0.02)


@part_test
def test_scale(scale):
    """Symmetric and asymmetric ranges, both ends included; the argument is left alone."""
    x = torch.linspace(0, 1, 5)
    for low, high in ((-1, 1), (0, 5), (-3, 1), (0, 1)):
        expected = [low + (high - low) * share for share in (0, 0.25, 0.5, 0.75, 1)]
        expect_close('Scaled values', scale(x.clone(), (low, high)), expected,
                     feature_range=(low, high))
    expect_close('Default range', scale(x), [-1, -0.5, 0, 0.5, 1])
    dark = torch.tensor([0.25, 0.5])
    expect_close('Scaled values of a dark image', scale(dark), [-0.5, 0], x=dark)
    expect_close('The argument afterwards', dark, [0.25, 0.5], 0)


@part_test
def test_random_flip(random_flip):
    """About half of the images are mirrored left to right, the others stay as they were."""
    x = torch.rand(400, 3, 4, 6)
    before = x.clone()
    y = random_flip(x)
    mirrored = (y == x.flip(3)).flatten(1).all(1)
    kept = (y == x).flatten(1).all(1)
    expect((mirrored ^ kept).all(), 'Images', 'others', 'each as it was, or mirrored left to right')
    share = mirrored.float().mean().item()
    expect(0.4 < share < 0.6, 'Share of mirrored images', share, 'about 1/2')
    expect(torch.equal(x, before), 'The argument', 'changed', 'as it was')


# ----------------------------------------------------------------------------------- the networks


@part_test
def test_discriminator(Discriminator):
    """The original exercise's test: (50, 3, 32, 32) pixels of -1 give (50, 1)."""
    batch_size, conv_dim = 50, 10
    D = Discriminator(conv_dim)
    out = D(torch.full((batch_size, 3, 32, 32), -1.0))
    expect_equal('Wrong size of the discriminator output', tuple(out.size()), (batch_size, 1),
                 batch_size=batch_size, conv_dim=conv_dim)


@part_test
def test_discriminator_layers(Discriminator):
    """Logits and gradient at three sizes and odd widths, batches of one too; remarks on layers."""
    sizes = sizes_of(Discriminator, (32, 1), (32, 10), (32, 7), (64, 8), (128, 5))
    for img_size, conv_dim in sizes:
        parameters = dict(img_size=img_size, conv_dim=conv_dim)
        D = Discriminator(conv_dim, **fitting(Discriminator, dict(img_size=img_size)))
        depths = expected_depths(conv_dim, img_size)
        convolutions = layers_of(D, nn.Conv2d)[:len(depths)]
        came = [layer.out_channels for layer in convolutions]
        remark_unless(came == depths, 'Depths behind the convolutions', came, depths)
        look_at_kernels(convolutions)
        look_at_batch_norm(D, len(depths) - 1, **parameters)
        slopes = sorted({layer.negative_slope for layer in layers_of(D, nn.LeakyReLU)})
        in_forward = not layers_of(D, (nn.ReLU, nn.LeakyReLU))      # F.leaky_relu tells no slope
        remark_unless(in_forward or slopes == [0.2], 'Slopes of the layers of leaky ReLU', slopes,
                      [0.2])
        pooling = layers_of(D, (nn.MaxPool2d, nn.AvgPool2d))
        remark_unless(pooling == [], 'Pooling layers', pooling, [])
        expect_logits(D, **parameters)

        x = torch.randn(3, 3, img_size, img_size, requires_grad=True)
        out = D(x)
        expect_equal('Output', tuple(out.shape), (3, 1), **parameters)
        out.sum().backward()
        expect(x.grad.isfinite().all() and x.grad.abs().sum() > 0, 'Gradient', x.grad,
               'finite, and not 0 everywhere', **parameters)
        look_at_one(D, x[:1], (1, 1))

    if not takes(Discriminator, 'img_size'):
        return
    message = 'nothing'
    try:
        Discriminator(4, img_size=33)
    except ValueError as error:
        message = str(error)
    expect('expected one of 32, 64, 128' in message, 'A size that cannot be built', message,
           'a ValueError that says what can', img_size=33)


def expect_logits(D, **parameters):
    """Logits lie anywhere: between two ends a sigmoid holds them, or a tanh."""
    img_size = parameters['img_size']
    out = louder(D)(100 * torch.randn(8, 3, img_size, img_size))
    low, high = out.min().item(), out.max().item()
    expect(low < -1 or high > 1, 'Answers with weights a hundred times as large', (low, high),
           'logits, which lie anywhere: leave out the sigmoid or tanh at the end, for the losses '
           'take logits', **parameters)


def look_at_one(network, x, shape):
    """Remark unless a batch of one works, in train mode: the last of an epoch can be one."""
    out, error = result_or_error(network, x)
    came = error or tuple(out.shape)
    remark_unless(came == shape, f'{type(network).__name__} of a batch of one', came, shape)


def sizes_of(network, *sizes):
    """Those of the sizes that a network can be built for: without img_size, 32 and no width of 1.
    """
    if takes(network, 'img_size'):
        return sizes
    return [size for size in sizes if size[0] == 32 and size[1] > 1]


@part_test
def test_generator(Generator):
    """The original exercise's test: (50, 25) numbers give (50, 3, 32, 32)."""
    batch_size, z_size, conv_dim = 50, 25, 10
    G = Generator(z_size, conv_dim)
    out = G(torch.rand(batch_size, z_size) * 2 - 1)
    expect_equal('Wrong size of the generator output', tuple(out.size()), (batch_size, 3, 32, 32),
                 batch_size=batch_size, z_size=z_size, conv_dim=conv_dim)


@part_test
def test_generator_layers(Generator):
    """Range and gradient at three sizes and odd widths, batches of one too; remarks on layers."""
    sizes = sizes_of(Generator, (32, 1, 3), (32, 10, 25), (32, 7, 25), (64, 8, 100), (128, 5, 1))
    for img_size, conv_dim, z_size in sizes:
        parameters = dict(img_size=img_size, conv_dim=conv_dim, z_size=z_size)
        G = Generator(**fitting(Generator, parameters))
        depths = expected_depths(conv_dim, img_size)[::-1]
        convolutions = layers_of(G, nn.ConvTranspose2d)[-len(depths):]
        came = [layer.in_channels for layer in convolutions]
        remark_unless(came == depths, 'Depths before the transposed convolutions', came, depths)
        look_at_kernels(convolutions)
        look_at_batch_norm(G, len(depths), **parameters)

        z = torch.randn(3, z_size, requires_grad=True)
        out = G(z)
        expect_equal('Output', tuple(out.shape), (3, 3, img_size, img_size), **parameters)
        (out * torch.randn_like(out)).sum().backward()
        expect(z.grad.isfinite().all(), 'Gradient', z.grad, 'finite', **parameters)
        expect_range(out, louder(G)(z), **parameters)
        look_at_one(G, z[:1], (1, 3, img_size, img_size))

        kinds = {(p.dtype, p.device.type) for p in G.parameters()}
        expect_equal('Type and device of the weights', kinds, {(torch.float32, 'cpu')})


def expect_range(images, louder_images, **parameters):
    """Pixels come near to both ends, with weights a hundred times as large, and never beyond."""
    both = torch.cat([images, louder_images])
    low, high = both.min().item(), both.max().item()
    expect(-1 <= low < -0.9 and 0.9 < high <= 1, 'Range with weights a hundred times as large',
           (low, high), '-1 to 1: let a tanh be the end, and no sigmoid or ReLU', **parameters)


def expected_depths(conv_dim, img_size):
    """Depths between the image and 4 pixels: each layer halves the size and doubles the depth."""
    n_layers = int(math.log2(img_size)) - 2
    return [conv_dim * 2 ** i for i in range(n_layers)]


def look_at_kernels(convolutions):
    for layer in convolutions:
        came = layer.kernel_size, layer.stride
        remark_unless(came == ((4, 4), (2, 2)), 'Kernel and stride', came, ((4, 4), (2, 2)))


def look_at_batch_norm(network, count, **parameters):
    layers = layers_of(network, nn.BatchNorm2d)
    remark_unless(len(layers) == count, 'Batch normalisations', len(layers), count)
    for layer in layers:
        expect(layer.eps <= 0.01, 'eps of a batch normalisation', layer.eps,
               '1e-5: it only keeps from dividing by 0', **parameters)
        came = layer.eps, layer.momentum
        remark_unless(came == (1e-5, 0.1), 'eps and momentum', came, (1e-5, 0.1))


@part_test
def test_weights_init_normal(weights_init_normal):
    """N(0, 0.02) for weights of convolutions and linear layers; batch normalisation untouched."""
    for layer in (nn.Conv2d(64, 64, 4), nn.ConvTranspose2d(64, 64, 4), nn.Linear(256, 256),
                  nn.Conv2d(64, 64, 4, bias=False)):
        kind = type(layer).__name__
        before = copy.deepcopy(layer)
        layer.apply(weights_init_normal)
        weight = layer.weight.detach()
        expect(not torch.equal(weight, before.weight), f'Weights of {kind}', 'those of before',
               'drawn anew')
        expect_close(f'Mean of the weights of {kind}', weight.mean(), 0, 5e-4)
        expect_close(f'Standard deviation of the weights of {kind}', weight.std(), 0.02, 5e-4)
        farthest = weight.abs().max().item()
        expect(farthest > 0.06, f'Largest weight of {kind}', farthest,
               'beyond three standard deviations, as normal numbers have it')
        if layer.bias is not None:
            fine = torch.equal(layer.bias, before.bias) or not layer.bias.any()
            expect(fine, f'Bias of {kind}', layer.bias, 'zero, or as it was')

    normalisation = nn.BatchNorm2d(2000)
    normalisation.apply(weights_init_normal)
    nn.ReLU().apply(weights_init_normal)
    mean, spread = normalisation.weight.mean().item(), normalisation.weight.std().item()
    near_one = abs(mean - 1) < 0.01 and spread < 0.03 and not normalisation.bias.any()
    expect(near_one, 'Scale of batch normalisation', f'{mean:.2f} ± {spread:.2f}', '1: untouched')
    remark_unless(spread == 0, 'Scale of batch normalisation', f'N(1, {spread:.2f})', 1)


@part_test
def test_build_network(build_network):
    """D and G come back initialised, in this order; printed are D, an empty line, and G."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        D, G = build_network(d_conv_dim=16, g_conv_dim=16, z_size=100)
    remark_unless(f'{D}\n\n{G}' in printed.getvalue(), 'Printed', 'something else',
                  'D, an empty line, and G')
    for name, network, x, shape in (('D', D, torch.zeros(2, 3, 32, 32), (2, 1)),
                                    ('G', G, torch.zeros(2, 100), (2, 3, 32, 32))):
        out, error = result_or_error(network, x)
        came = error or tuple(out.shape)
        expect(came == shape, f'Output of {name}', came, f'{shape}, and build_network to return '
               f'(D, G) in this order')
        for layer in layers_of(network, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            spread = layer.weight.std().item()
            doubt = 0.003 + 0.05 / math.sqrt(layer.weight.numel())
            expect(abs(spread - 0.02) < doubt, f'{name} is not initialised: spread of {layer}',
                   spread, 0.02)


# ------------------------------------------------------------------------------------- the losses


@part_test
def test_losses(real_loss, fake_loss):
    """What holds for any loss; for cross-entropy also its values, gradients and smoothing."""
    with on_the_cpu(real_loss), on_the_cpu(fake_loss):
        for name, loss_of, sign in (('real_loss', real_loss, -1), ('fake_loss', fake_loss, 1)):
            check_any_loss(name, loss_of, sign)
        if is_cross_entropy(real_loss, fake_loss):
            check_cross_entropy(real_loss, fake_loss)
        else:
            remarks['Losses'] = ('The losses are not cross-entropy: what is said of log 2 and '
                                 'log 4 does not hold for them.')
    if not takes(real_loss, 'smooth'):
        remarks['smooth'] = "real_loss takes no smooth, which the objective 'bce-smooth' needs."


def check_any_loss(name, loss_of, sign):
    """One finite number with a gradient, the mean of a batch; sign says which way is worse."""
    for logits in ([-3.0, -1.0, 2.0], [-1e4] * 2, [1e4] * 2):
        x = torch.tensor(logits)[:, None].requires_grad_()
        loss = loss_of(x)
        expect(isinstance(loss, torch.Tensor) and loss.requires_grad, name, loss,
               'a tensor with a gradient', logits=logits)
        expect_equal(f'Shape of {name}', tuple(loss.shape), (), logits=logits)
        gradient, = torch.autograd.grad(loss, x)
        expect(loss.isfinite() and gradient.isfinite().all(), name, (loss, gradient),
               'finite, with a finite gradient', logits=logits)
        four_times = loss_of(x.repeat(4, 1))
        expect_close(f'{name} of the same logits four times', four_times.detach(),
                     loss.detach(), 1e-3 * loss.abs().item() + 1e-6, logits=logits)

    # Photographs should get logits well above 0, fakes well below: one step towards that helps.
    far, near = torch.full((4, 1), 3.0 * sign), torch.full((4, 1), 2.0 * sign)
    expect(loss_of(near) < loss_of(far), f'{name} of logits {3.0 * sign} and {2.0 * sign}',
           (loss_of(far).item(), loss_of(near).item()), 'the second one lower')
    for what, x, same in (('logits (B,)', near[:, 0], near), ('a batch of one', near[:1], near)):
        out, error = result_or_error(loss_of, x)
        came = error or round(out.item(), 4)
        remark_unless(came == round(loss_of(same).item(), 4), f'{name} of {what}', came,
                      'what it is of others')


def is_cross_entropy(real_loss, fake_loss):
    """Whether the losses are meant to be: then both are log 2 where D can only guess."""
    guess = torch.zeros(4, 1)
    return all(abs(loss(guess).item() - math.log(2)) < 0.01 for loss in (real_loss, fake_loss))


def check_cross_entropy(real_loss, fake_loss):
    """Values and gradients for the target that a loss asks for; remarks on unusual targets."""
    kinds = [('real_loss', real_loss, 1), ('fake_loss', fake_loss, 0)]
    if takes(real_loss, 'smooth'):
        kinds.append(('real_loss, smooth', functools.partial(real_loss, smooth=True), 0.9))
    for name, loss_of, usual in kinds:
        target = target_of(loss_of)
        leeway = 0 if name == 'real_loss, smooth' else 0.2
        expect(abs(target - usual) <= leeway, f'Target of {name}', target, usual)
        remark_unless(target == usual, f'Target of {name}', target, usual)
        logits = torch.linspace(-3, 3, 6)[:, None].requires_grad_()
        p = torch.sigmoid(logits.detach().double())
        loss = loss_of(logits)
        expected = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
        expect_close(name, loss.detach(), expected, logits=logits.tolist())
        gradient, = torch.autograd.grad(loss, logits)
        expect_close(f'Gradient of {name}', gradient, (p - target) / 6, 1e-6,
                     logits=logits.tolist())
    look_at_confident_logits(real_loss, fake_loss)


def gradient_at(loss_of, logit):
    """The gradient of a loss for each of four equal logits."""
    x = torch.full((4, 1), float(logit), requires_grad=True)
    gradient, = torch.autograd.grad(loss_of(x), x)
    return 4 * gradient[0].item()


def target_of(loss_of):
    """The probability that a cross-entropy asks for: at logit 0 its gradient is 1/2 less that."""
    return round(0.5 - gradient_at(loss_of, 0), 3)


def look_at_confident_logits(real_loss, fake_loss):
    """Remark where the gradient of a wrong and confident answer is gone."""
    for size in (*range(5, 100), 10_000):
        for name, loss_of, wrong in (('real_loss', real_loss, -1), ('fake_loss', fake_loss, 1)):
            if abs(gradient_at(loss_of, wrong * size)) < 0.5:
                remarks['Gradient'] = (
                    f'The gradient of {name} is gone where D is wrong by a logit of {size} or '
                    f'more: take BCEWithLogitsLoss of the logits, not BCELoss of their sigmoid.')
                return


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def softplus(x):
    """-log sigmoid(-x): what binary cross entropy makes of a logit."""
    return math.log1p(math.exp(x))


@part_test
def test_objectives(OBJECTIVES):
    """Each objective's values against its paper's formula; of any, the way that it pushes."""
    real = [0.5, -1.0, 3.0]
    fake = [-0.5, 2.0, -4.0]
    pairs = list(zip(real, fake, strict=True))
    x, y = torch.tensor(real)[:, None], torch.tensor(fake)[:, None].requires_grad_()
    expected = {                                       # name: (D's loss, G's loss)
        'least-squares': (mean((r - 1) ** 2 + f ** 2 for r, f in pairs),
                          mean((f - 1) ** 2 for f in fake)),
        'hinge': (mean(max(0, 1 - r) + max(0, 1 + f) for r, f in pairs), -mean(fake)),
        'wasserstein': (mean(fake) - mean(real), -mean(fake)),
        'relativistic': (mean(softplus(f - r) for r, f in pairs),
                         mean(softplus(r - f) for r, f in pairs)),
    }
    wanted = ['bce', 'bce-smooth', *expected]
    expect(isinstance(OBJECTIVES, dict) and set(wanted) <= set(OBJECTIVES), 'Names',
           OBJECTIVES and list(OBJECTIVES), f'{", ".join(wanted)}, and others if you like')
    scope = scope_of(OBJECTIVES['bce'][0])
    real_loss, fake_loss = scope['real_loss'], scope['fake_loss']
    left_out = set()
    with on_the_cpu(OBJECTIVES['bce'][0]):
        g_bce = real_loss(y)
        expected['bce'] = (real_loss(x) + fake_loss(y), g_bce)
        if takes(real_loss, 'smooth'):
            expected['bce-smooth'] = (real_loss(x, smooth=True) + fake_loss(y), g_bce)
        else:
            left_out = {'bce-smooth'}
        for name in set(OBJECTIVES) - left_out:
            d_objective, g_objective = map(answering, OBJECTIVES[name])
            if name in expected:
                check_formula(name, d_objective, g_objective, x, y, *expected[name])
            check_directions(name, d_objective, g_objective)


def check_formula(name, d_objective, g_objective, x, y, d_expected, g_expected):
    """The two losses of logits x and y, and that G is called to raise its lowest logit, y[2]."""
    expect_close('Loss of D', d_objective(x, y), d_expected, objective=name)
    g_loss = g_objective(x, y)
    expect_close('Loss of G', g_loss, g_expected, objective=name)
    gradient, = torch.autograd.grad(g_loss, y)
    expect(gradient[2] < 0, "G's gradient at its lowest logit", gradient.flatten().tolist(),
           'negative, which calls for a higher logit', objective=name)


def check_directions(name, d_objective, g_objective):
    """One step towards the right answer from far on the wrong side helps, whatever the loss is."""
    low, less_low, less_high, high = (torch.full((4, 1), logit) for logit in (-3.0, -2.0, 2.0, 3.0))
    for what, loss, far, near in (
            ("D's loss as real logits rise", d_objective, (low, low), (less_low, low)),
            ("D's loss as fake logits fall", d_objective, (high, high), (high, less_high)),
            ("G's loss as fake logits rise", g_objective, (high, low), (high, less_low))):
        before, after = loss(*far).item(), loss(*near).item()
        expect(after < before, what, (before, after), 'the second one lower', objective=name)


@part_test
def test_gradient_penalty(gradient_penalty):
    """For a linear D, the slope is |w| wherever it is measured; for a curved D it says where."""
    w = torch.randn(3 * 4 * 4)
    v = w.clone().requires_grad_()

    def linear(x):
        return (x.flatten(1) @ w)[:, None]

    def curved(x):                                     # its slope at x is |v x|
        return ((x.flatten(1) ** 2) @ v)[:, None] / 2

    def penalty_of(D, real, fake, objective):
        return gradient_penalty(D, real, fake, objective).detach()

    real = torch.randn(5, 3, 4, 4)
    fake = torch.randn(5, 3, 4, 4, requires_grad=True)
    r1, wgan_gp = w.square().sum(), (w.norm() - 1) ** 2
    expect_close('R1', penalty_of(linear, real, fake, 'bce'), r1, 1e-3)
    expect_close('R1 + R2', penalty_of(linear, real, fake, 'relativistic'), 2 * r1, 1e-3)
    expect_close('Wasserstein', penalty_of(linear, real, fake, 'wasserstein'), wgan_gp, 1e-3)

    r1 = (real.flatten(1) * w).square().sum(1).mean()
    r2 = (fake.detach().flatten(1) * w).square().sum(1).mean()
    expect_close('R1 of a curved D', penalty_of(curved, real, fake, 'bce'), r1, 1e-3)
    penalty = gradient_penalty(curved, real, fake, 'relativistic')
    expect_close('R1 + R2 of a curved D', penalty.detach(), r1 + r2, 1e-3)
    gradients = torch.autograd.grad(penalty, [v, fake], allow_unused=True)
    expect(gradients[0] is not None and gradients[0].abs().sum() > 0,
           "D's gradient of the penalty", gradients[0], 'a gradient')
    expect(gradients[1] is None, "G's gradient of the penalty", 'a gradient', 'none')

    # Between images of 0 and images of 1, the slope is the share of the way times |w|.
    zeros, ones = torch.zeros(400, 3, 4, 4), torch.ones(400, 3, 4, 4)
    shares = torch.linspace(0, 1, 1001)
    expected = (shares * w.norm() - 1).square().mean()
    expect_close('Wasserstein of a curved D, each image at a place of its own in between',
                 penalty_of(curved, zeros, ones, 'wasserstein'), expected, 0.15 * wgan_gp)


@part_test
def test_augment(augment, AUGMENTATIONS):
    """Each image is changed in its own way, the gradient goes through, no names change nothing."""
    x = torch.rand(64, 3, 32, 32) * 2 - 1
    expect(torch.equal(augment(x, ()), x), 'Images without a name', 'others', 'as they were')
    for names in [(name,) for name in AUGMENTATIONS] + [tuple(AUGMENTATIONS)]:
        parameters = dict(names=names)
        before = x.clone()
        images = x.clone().requires_grad_()
        y = augment(images, names)
        expect(torch.equal(images, before), 'The argument', 'changed', 'as it was', **parameters)
        expect_equal('Shape', tuple(y.shape), tuple(x.shape), **parameters)
        expect_equal('Type', y.dtype, x.dtype, **parameters)
        expect(y.isfinite().all(), 'Images', 'some not finite', 'finite', **parameters)
        one_image = augment(x[:1].expand(64, -1, -1, -1), names)
        expect((one_image != one_image[:1]).flatten(1).any(1).sum() > 48,
               'One image, 64 times', 'changed alike', 'each time in another way', **parameters)
        gradient, = torch.autograd.grad(y.sum(), images)
        reached = (gradient != 0).flatten(1).any(1).all()
        expect(reached, "G's gradient", 'none for some image', 'one for each', **parameters)
        torch.manual_seed(1)
        first = augment(x, names)
        torch.manual_seed(1)
        expect(torch.equal(augment(x, names), first), 'The same seed', 'another result',
               'the same', **parameters)
    if {'colour', 'translation', 'cutout'} <= set(AUGMENTATIONS):
        look_at_colour(augment)
        look_at_translation(augment)
        look_at_cutout(augment)


def look_at_colour(augment):
    """The colours of a grey image stay grey; brightness changes by 1/2 at most, to both sides."""
    grey = torch.zeros(200, 3, 8, 8)
    y = augment(grey, ('colour',))
    expect_close('A grey image in other colours', y, y.mean((1, 2, 3), keepdim=True).expand_as(y))
    brightness = y.mean((1, 2, 3))
    expect(-0.5 <= brightness.min() < -0.4 and 0.4 < brightness.max() <= 0.5,
           'Brightness of a grey image', (brightness.min(), brightness.max()), 'from -1/2 to 1/2')
    colourful = torch.randn(200, 3, 1, 1).expand(200, 3, 8, 8)
    y = augment(colourful, ('colour',))
    expect_close('A plain image stays plain', y, y[:, :, :1, :1].expand_as(y))
    spread = y[:, :, 0, 0].std(1) / colourful[:, :, 0, 0].std(1)
    expect(spread.min() < 0.2 and 1.5 < spread.max() <= 3.01, 'Factor of saturation and contrast',
           (spread.min(), spread.max()), 'from 0 to 3')


def look_at_translation(augment):
    """Images of 16 pixels move by -2 to 2 pixels either way, and what comes in is 0."""
    x = torch.rand(400, 3, 16, 16) + 1
    y = augment(x, ('translation',))
    padded = F.pad(x, (2, 2, 2, 2))
    found = {}
    for down in range(5):
        for right in range(5):
            window = padded[:, :, down:down + 16, right:right + 16]
            found[down - 2, right - 2] = (y - window).abs().flatten(1).amax(1) < 1e-5
    shifts = torch.stack(list(found.values()))
    expect(shifts.any(0).all(), 'Shifted images', 'others', 'moved by whole pixels, 0 comes in')
    missing = [shift for shift, images in found.items() if not images.any()]
    expect_equal('Shifts of 16 pixels that never come', missing, [])


def look_at_cutout(augment):
    """One square of half the side is 0, or what of it lies inside; all else is as it was."""
    x = torch.rand(400, 3, 16, 16) + 1
    y = augment(x, ('cutout',))
    gone = y == 0
    expect(torch.equal(torch.where(gone, x, y), x), 'Pixels outside of the square', 'changed',
           'as they were')
    expect((gone.all(1) == gone.any(1)).all(), 'The square', 'not in all colours', 'in all')
    rows, columns = gone[:, 0].any(2).sum(1), gone[:, 0].any(1).sum(1)
    expect(torch.equal(gone[:, 0].sum((1, 2)), rows * columns), 'Pixels cut out',
           'no rectangle', 'one rectangle')
    expect_equal('Largest and smallest side of what is cut out',
                 (max(rows.max(), columns.max()).item(), min(rows.min(), columns.min()).item()),
                 (8, 4))


# --------------------------------------------------------------------------------- the optimizers


@part_test
def test_make_optimizers(make_optimizers):
    """Two Adams with the DCGAN values by default, each over all weights of its own network."""
    D, G = nn.Linear(3, 1), nn.Linear(2, 3)
    check_optimizers(D, G, make_optimizers(D, G), (2e-4, (0.5, 0.999)))
    values = dict(lr=1e-3, beta1=0.1, beta2=0.99)
    if takes(make_optimizers, 'lr') and takes(make_optimizers, 'beta1'):
        made = make_optimizers(D, G, **fitting(make_optimizers, values))
        beta2 = 0.99 if takes(make_optimizers, 'beta2') else 0.999
        check_optimizers(D, G, made, (1e-3, (0.1, beta2)), **values)


def check_optimizers(D, G, optimizers, expected, **parameters):
    expect_equal('Number of optimizers', len(optimizers), 2, **parameters)
    for name, network, optimizer in zip('DG', (D, G), optimizers, strict=True):
        held = {id(p) for group in optimizer.param_groups for p in group['params']}
        expect(held == {id(p) for p in network.parameters()}, f'Weights of the optimizer of {name}',
               'others', f'those of {name}, all of them', **parameters)
        if not isinstance(optimizer, torch.optim.Adam):
            remark_unless(False, f'Optimizer of {name}', type(optimizer).__name__, 'Adam')
            continue
        for group in optimizer.param_groups:
            came = group['lr'], tuple(group['betas'])
            expect_equal(f'lr and betas of {name}', came, expected, **parameters)


@part_test
def test_decay_learning_rates(decay_learning_rates):
    """Constant for one half, then down in a line but never to 0, whatever was asked before."""
    starts = torch.tensor([2e-4, 1e-3], dtype=torch.float64)
    optimizers = [torch.optim.Adam(nn.Linear(2, 1).parameters(), lr) for lr in (2e-4, 1e-3)]

    def rates_in(epoch):
        decay_learning_rates(optimizers, epoch, 10)
        rates = [optimizer.param_groups[0]['lr'] for optimizer in optimizers]
        return torch.tensor(rates, dtype=torch.float64) / starts

    rates = torch.stack([rates_in(epoch) for epoch in range(1, 11)])
    expect_close('First half', rates[:5], torch.ones(5, 2), 1e-9, n_epochs=10)
    last = rates[-1, 0].item()
    expect(0 < last < 0.25, 'Last rate', last, 'above 0 and under a quarter', n_epochs=10)
    steps = rates[6:] - rates[5:-1]
    expect(steps.max() < 0, 'Steps', steps.tolist(), 'all downwards', n_epochs=10)
    expect_close('Steps', steps, steps[:1].expand_as(steps), 1e-9, n_epochs=10)
    expect_close('Asked once more', rates_in(7), rates[6], 1e-6, epoch=7)


# ----------------------------------------------------------------------------------- the training


@part_test
def test_plain_step(plain_step):
    """One step of cross-entropy, in its plain form; all else is the same."""
    check_steps(plain_step, [('bce', 0, 4), ('bce', 0, 3)])


@part_test
def test_train_step(train_step):
    """Also with other objectives, a penalty, and images that are changed before D sees them."""
    cases = [('bce', 0, 4), ('bce-smooth', 0, 3), ('relativistic', 0.5, 4)]
    if not takes(train_step, 'objective'):
        cases = cases[:1]
    if not takes(scope_of(train_step)['real_loss'], 'smooth'):
        cases = [case for case in cases if case[0] != 'bce-smooth']
    check_steps(train_step, cases)
    if takes(train_step, 'augmentation'):
        with on_the_cpu(train_step):
            look_at_augmented_step(train_step)


def check_steps(train_step, cases):
    """One step against the same step written out by hand; neither player's step moves the other."""
    with on_the_cpu(train_step):
        for objective, penalty, batch_size in cases:
            check_step(train_step, batch_size, objective=objective, penalty=penalty)


def check_step(train_step, batch_size, **options):
    """One step of plain gradient descent: weights tell each gradient that was used, and its size.
    """
    parameters = dict(options, batch_size=batch_size)
    scope = scope_of(train_step)
    D, G, _ = tiny_training(scope)
    for network in (D, G):
        network.register_forward_pre_hook(seed_again)        # copied along
    D2, G2 = copy.deepcopy(D), copy.deepcopy(G)
    real, z = torch.rand(batch_size, 3, 32, 32) * 2 - 1, torch.randn(batch_size, 6)
    for p in (*D.parameters(), *G.parameters()):
        p.grad = torch.ones_like(p)                # from the step before: nothing may add to it

    passes, noises = watch_passes(G)
    optimizers = [torch.optim.SGD(network.parameters(), STEP) for network in (D, G)]
    out = train_step(D, G, *optimizers, real, z, **fitting(train_step, options))
    look_at_passes(passes, noises, z, **parameters)
    losses = scope['real_loss'], scope['fake_loss']
    expected, leftover = step_by_hand(D2, G2, real, noises, *losses, **options)

    expect(isinstance(out, torch.Tensor), 'The result', type(out).__name__,
           'a tensor (4,): d_loss, g_loss, D(x), D(G(z))', **parameters)
    expect_equal('Shape of the result', tuple(out.shape), (4,), **parameters)
    expect(not out.requires_grad, 'The result', 'has a graph', 'has none', **parameters)
    expect_close('d_loss, g_loss, D(x), D(G(z))', out, expected, 1e-5, **parameters)
    for name, ours, by_hand in (('D', D, D2), ('G', G, G2)):
        for p, p2 in zip(ours.parameters(), by_hand.parameters(), strict=True):
            largest = max(1, p2.abs().max().item())        # float32 rounds by so much more
            expect_close(f'Weights of {name} after one step', p.detach(), p2.detach(),
                         2e-6 * largest, **parameters)
            if name == 'G' and p.grad is not None:
                expect_close('Gradients of G', p.grad, p2.grad, 1e-5, **parameters)
        trainable = all(p.requires_grad for p in ours.parameters())
        expect(trainable, f"{name}'s weights after the step", 'frozen', 'trainable', **parameters)
    for statistic, statistic2 in zip(G.buffers(), G2.buffers(), strict=True):
        expect_close('Statistics of G after one step', statistic, statistic2, 2e-6, **parameters)
    look_at_leftover(D, D2, leftover)


STEP = 0.1               # learning rate of the step under test


def look_at_passes(passes, noises, z, **parameters):
    """G is passed forward and back once; what more it takes is time, unless it changes a gradient.
    """
    anew = ['forward', 'forward', 'backward'], ['forward', 'backward', 'forward', 'backward']
    expect(passes == ['forward', 'backward'] or passes in anew,
           "G's passes: D's step must not run back into G", passes, ['forward', 'backward'],
           **parameters)
    expect(torch.equal(noises[0], z), 'Noise of the fakes', 'another', 'z', **parameters)
    expect_equal('Shape of the noise', tuple(noises[-1].shape), tuple(z.shape), **parameters)
    remark_unless(passes not in anew, "Fakes of G's half", 'made anew, which takes time',
                  'those that D has seen')
    remark_unless(passes != anew[1], "D's step", 'runs back into G, which takes time',
                  'D(fake.detach())')


def look_at_leftover(D, by_hand, leftover):
    """D's gradients after the step: of its own, or with those that G's step left, which cost time.
    """
    for p, p2, more in zip(D.parameters(), by_hand.parameters(), leftover, strict=True):
        alike = [p.grad is None or torch.allclose(p.grad, grad, atol=1e-5)
                 for grad in (p2.grad, p2.grad + more, more, 0 * more)]
        expect(any(alike), "D's gradients after the step", p.grad,
               'those of its own step, with those of G’s at most')
        remark_unless(alike[0], "G's step", "also worked out gradients of D's weights, which takes "
                      'time and is not used', 'g_loss.backward(inputs=list(G.parameters()))')


def look_at_augmented_step(train_step):
    """Whatever D sees, in the step of either player, has a part cut out."""
    D, G, names = tiny_training(scope_of(train_step))
    seen = []
    D.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    real, z = torch.rand(4, 3, 32, 32) + 1, torch.randn(4, 6)
    train_step(D, G, names['d_optimizer'], names['g_optimizer'], real, z, penalty=0.5,
               augmentation=('cutout',))
    parts = [(images == 0).all(1).flatten(1).sum(1) for images in seen]
    expect(len(seen) >= 4 and all((part >= 64).all() for part in parts),
           'Pixels cut out of what D sees', [part.tolist() for part in parts], '64 or more each')
    gradients = [p.grad.abs().sum().item() for p in G.parameters()]
    expect(min(gradients) > 0, "Gradients of G's weights", gradients, 'all above 0')


def step_by_hand(D, G, real, noises, real_loss, fake_loss, objective, penalty):
    """What a step should do and return: bce, bce-smooth, or relativistic with a penalty.

    noises  what G is given: once, or anew for its own half
    Returns (the figures, the gradients that G's loss gives D's weights).
    """
    fake = G(noises[0])
    logits_real, logits_fake = D(real), D(fake.detach())
    extra = 0
    if objective == 'relativistic':
        d_loss = F.softplus(logits_fake - logits_real).mean()
        for x in (real, fake):
            x = x.detach().requires_grad_()
            slope, = torch.autograd.grad(D(x).sum(), x, create_graph=True)
            extra = extra + penalty * slope.square().sum() / len(x)
    elif objective == 'bce-smooth':
        d_loss = real_loss(logits_real, smooth=True) + fake_loss(logits_fake)
    else:
        d_loss = real_loss(logits_real) + fake_loss(logits_fake)
    descend(D, d_loss + extra)

    if len(noises) > 1:
        fake = G(noises[1])
    if objective == 'relativistic':
        g_loss = F.softplus(logits_real.detach() - D(fake)).mean()
    else:
        g_loss = real_loss(D(fake))
    leftover = gradients_of(g_loss, list(D.parameters()))
    descend(G, g_loss)
    beliefs = [torch.sigmoid(logits).mean() for logits in (logits_real, logits_fake)]
    return torch.stack([d_loss, g_loss, *beliefs]).detach(), leftover


def gradients_of(loss, weights):
    return torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True,
                               materialize_grads=True)


def descend(network, loss):
    """One step of gradient descent; the gradients stay in .grad."""
    weights = list(network.parameters())
    for p, gradient in zip(weights, gradients_of(loss, weights), strict=True):
        p.grad = gradient
    torch.optim.SGD(weights, STEP).step()


@part_test
def test_update_average(update_average):
    """Weights and running statistics move by 1 - decay; the counter is copied; G is left alone."""
    G = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = copy.deepcopy(G)
    start = copy.deepcopy(average.state_dict())
    G(torch.randn(8, 3))
    with torch.no_grad():
        for p in G.parameters():
            p.add_(1)
    goal = copy.deepcopy(G.state_dict())
    update_average(average, G, 0.75)
    for name, value in average.state_dict().items():
        expected = goal[name]
        if value.is_floating_point():
            expected = start[name] * 0.75 + goal[name] * 0.25
        expect_close(name, value, expected, decay=0.75)
        expect_close(f'{name} of G itself', G.state_dict()[name], goal[name], 0)


@part_test
def test_generate(generate):
    """On the CPU, without a graph, each image independent of the batch; G's mode is put back."""
    G = scope_of(generate)['Generator'](z_size=5, conv_dim=4)
    for _ in range(3):
        G(torch.randn(16, 5))                          # so that it has running statistics
    z = torch.randn(4, 5)
    for training in (True, False):
        G.train(training)
        before = numbers_of(G)
        images = generate(G, z)
        came = tuple(images.shape), images.dtype, images.device.type, images.requires_grad
        expect_equal('Images', came, ((4, 3, 32, 32), torch.float32, 'cpu', False),
                     training=training)
        if torch.equal(generate(G, z), images):        # but for layers that draw noise of their own
            expect_close('An image made alone', generate(G, z[:1]), images[:1], 1e-5,
                         training=training)
        expect_equal('Mode of G afterwards', G.training, training)
        same = torch.equal(numbers_of(G), before)
        expect(same, "G's statistics", 'changed', 'untouched', training=training)


NUMBER = r'(-?\d+\.\d{4})'
PRINTED = re.compile(rf'^Epoch \[( {{4}}\d)/( {{4}}\d)\] \| d_loss: {NUMBER} \| g_loss: {NUMBER}$',
                     re.MULTILINE)


class Witness:
    """Stands in for train_step and generate: writes down what they are given, and calls them."""

    def __init__(self, scope):
        self.step_itself, self.generate_itself = scope['train_step'], scope['generate']
        self.batches, self.noises, self.modes, self.grid_noises = [], [], [], []

    def step(self, D, G, d_optimizer, g_optimizer, real, z, **options):
        self.batches.append(real.detach().clone())
        self.noises.append(z.detach().clone())
        self.modes.append(D.training and G.training)
        return self.step_itself(D, G, d_optimizer, g_optimizer, real, z, **options)

    def generate(self, G, z):
        self.grid_noises.append(z.clone())
        return self.generate_itself(G, z)


@part_test
def test_train(train):
    """Three epochs of ten images in batches of four: what is fed, printed, returned and written.

    Of a train from elsewhere, which takes no config, this is what its networks see, and what it
    prints, returns and pickles.
    """
    if not takes(train, 'config'):
        seen = []
        with empty_folder():
            _, losses, lines, samples = train_three_epochs(train, seen=seen)
        remark_unless(lines, 'Lines printed', 'others',
                      'Epoch [    1/    3] | d_loss: 1.3862 | g_loss: 0.6931')
        if lines:
            check_losses(losses, lines)
        check_samples(samples)
        check_what_networks_saw(seen)
        return
    for ema_decay in (0, 0.9):
        watch = Witness(scope_of(train))
        with empty_folder():
            G, losses, lines, samples = train_three_epochs(train, watch,
                                                           config=dict(ema_decay=ema_decay))
            history, saved = load_history(), load_checkpoint()
        check_losses(losses, lines, ema_decay=ema_decay)
        check_samples(samples, ema_decay=ema_decay)
        check_what_was_fed(watch, ema_decay=ema_decay)
        check_what_is_on_disk(G, losses, history, saved, ema_decay=ema_decay)


def train_three_epochs(train, watch=None, seen=None, **options):
    """Train tiny networks in the current folder; return G, the losses, the lines, the samples.

    seen  a list that takes (name, its mode, its input) of each pass of D and G
    """
    D, G, names = tiny_training(scope_of(train))
    if watch:
        names |= dict(train_step=watch.step, generate=watch.generate)
    if seen is not None:
        for name, network in (('D', D), ('G', G)):
            network.register_forward_pre_hook(functools.partial(note, seen, name))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), global_names(train, **names):
        losses = train(D, G, 3, print_every=2, **options)
    expect(Path(SAMPLES).exists(), SAMPLES, 'nothing', 'a grid for each epoch')
    return G, losses, PRINTED.findall(printed.getvalue()), load_samples()


def note(seen, name, network, inputs):
    """A hook that is pickled with its network, where a loop saves that."""
    seen.append((name, network.training, inputs[0].detach().clone()))


def check_what_networks_saw(seen):
    """Real images are scaled; all grids come from one noise, in eval mode."""
    unscaled = sum(name == 'D' and x.min().item() >= 0 for name, _, x in seen)
    expect_equal('Batches that D sees without a number below 0: real images want scale()',
                 unscaled, 0)
    grids = [z for name, training, z in seen if name == 'G' and len(z) >= 16]
    expect_equal('Grids of 16 faces', len(grids), 3, epochs=3)
    in_eval = [not training for name, training, z in seen if name == 'G' and len(z) >= 16]
    expect_equal('Whether G is in eval mode for a grid', in_eval, [True] * 3)
    same = [torch.equal(z, grids[0]) for z in grids]
    expect_equal('Whether the noise of a grid is that of the first', same, [True] * 3)
    sizes = [len(z) for name, training, z in seen if name == 'G' and training]
    remark_unless(min(sizes) == 2, 'Fakes beside a short batch of 2', min(sizes), 2)


def check_losses(losses, lines, **parameters):
    """Pairs of plain numbers, and the same in print."""
    pairs = all(isinstance(pair, tuple | list) and list(map(type, pair)) == [float, float]
                for pair in losses)
    expect(pairs, 'Losses', losses, 'pairs of plain numbers: .item() of each', **parameters)
    epochs = [(int(epoch), int(n_epochs)) for epoch, n_epochs, _, _ in lines]
    once = [(epoch, 3) for epoch in (1, 2, 3)]
    twice = [(epoch, 3) for epoch in (1, 1, 2, 2, 3, 3)]
    expect(epochs in (once, twice), 'Epochs printed', epochs, twice, print_every=2, **parameters)
    in_print = [(d_loss, g_loss) for _, _, d_loss, g_loss in lines]
    returned = [(f'{d_loss:.4f}', f'{g_loss:.4f}') for d_loss, g_loss in losses]
    expect_equal('Losses printed and returned', returned, in_print, **parameters)


def check_samples(samples, **parameters):
    """Sixteen images or more for each epoch, in [-1, 1]."""
    kinds = [tuple(grid.shape) for grid in samples]
    enough = [grid for grid in samples if len(grid) >= 16 and grid.shape[1:] == (3, 32, 32)]
    expect(len(enough) == len(samples) == 3, 'Samples', kinds, [(16, 3, 32, 32)] * 3, **parameters)
    remark_unless(kinds == [(16, 3, 32, 32)] * 3, 'Samples', kinds, [(16, 3, 32, 32)] * 3)
    largest = max(grid.abs().max().item() for grid in samples)
    expect(largest <= 1, 'Largest value of the samples', largest, 'up to 1', **parameters)
    same = torch.equal(samples[0], samples[2])
    expect(not same, 'Two epochs', 'the same', 'different', **parameters)


def check_what_was_fed(watch, **parameters):
    """What each step was given, and what each grid was made from."""
    check_equal = functools.partial(expect_equal, images=10, batch_size=4, **parameters)
    check_equal('Images a step', [len(real) for real in watch.batches], [4, 4, 2] * 3)
    shapes = [tuple(z.shape) for z in watch.noises]
    check_equal('Noise a step', shapes, [(4, 6), (4, 6), (2, 6)] * 3)
    check_equal('Networks in train mode', watch.modes, [True] * 9)
    pixels = torch.cat(watch.batches)
    low, high = pixels.min().item(), pixels.max().item()
    in_range = -1 <= low < -0.8 and 0.5 < high <= 1
    expect(in_range, 'Range of the real images', (low, high), '[-1, 1]', **parameters)
    spread = torch.cat(watch.noises).std().item()
    expect(0.7 < spread < 1.3, 'Spread of the noise', spread, 'that of N(0, 1)', **parameters)
    repeated = torch.equal(watch.noises[0], watch.noises[1])
    expect(not repeated, 'Noise of two steps', 'the same', 'drawn anew', **parameters)
    fixed = [torch.equal(z, watch.grid_noises[0]) for z in watch.grid_noises]
    check_equal('Whether fixed_z is that of the first epoch', fixed, [True] * 3)


def check_what_is_on_disk(G, losses, history, saved, ema_decay):
    check_equal = functools.partial(expect_equal, ema_decay=ema_decay)
    lengths = [len(history[name]) for name in ('d_loss', 'g_loss', 'd_real', 'd_fake')]
    check_equal('Losses on disk', lengths, [9] * 4)
    expect_close('First loss on disk', history['d_loss'][0], losses[0][0], 1e-6)
    came = saved['epoch'], saved['n_steps'], saved['images_seen']
    check_equal('Epochs, steps and images in the checkpoint', came, (3, 9, 30))
    average = torch.cat([value.flatten().double() for value in saved['G_average'].values()])
    is_G = torch.equal(numbers_of(G), average)
    check_equal("Whether the grids' generator is G itself", is_G, ema_decay == 0)


# ------------------------------------------------------------------------------------ the results


@part_test
def test_view_samples(view_samples):
    """A 2 x 8 grid of one epoch, for any image size; samples may still carry a gradient."""
    for size in (32, 64):
        samples = [torch.rand(16, 3, size, size, requires_grad=True) * 2 - 1 for _ in range(2)]
        for epoch in (0, -1):
            figure, error = drawn_by(view_samples, epoch, samples)
            if error and size == 64:                   # where the networks make 32x32 alone
                remark_unless(False, 'Images of 64x64', error, 'a grid, as of any size')
                return
            expect(not error, 'Grid', error, 'one of 2 x 8 pictures')
            check_grid(figure, samples[epoch], epoch=epoch, size=size)


def check_grid(figure, images, **parameters):
    """A figure shows 16 images, in [0, 1] or as bytes."""
    expect_equal('Pictures', len(figure.axes), 16, **parameters)
    grids = {axis.get_subplotspec().get_gridspec().get_geometry() for axis in figure.axes}
    expect_equal('Rows and columns', grids, {(2, 8)}, **parameters)
    picture = np.asarray(figure.axes[3].images[0].get_array())
    if picture.dtype == np.uint8:
        picture = picture / 255
    expected = (images[3].detach().permute(1, 2, 0) + 1) / 2
    expect_close('Fourth picture', picture.astype(float), expected, 1 / 255, **parameters)


@part_test
def test_slerp(slerp):
    """Both ends, the right number of points, and no dip of the length in between."""
    start, end = torch.tensor([3.0, 0, 0]), torch.tensor([0, 3.0, 0])
    path = slerp(start, end, 5)
    expect_equal('Shape', tuple(path.shape), (5, 3))
    expect_close('Ends', path[[0, -1]], torch.stack([start, end]))
    expect_close('Lengths', path.norm(dim=1), torch.full((5,), 3.0))


# ----------------------------------------------------------------------------------- under pytest
# Each test above names the part that it wants: pytest gives it the notebook's own.

pytest_plugins = 'machinery.grades'

PARTS = ('get_dataloader', 'scale', 'random_flip', 'Discriminator', 'Generator',
         'weights_init_normal', 'build_network', 'real_loss', 'fake_loss', 'OBJECTIVES',
         'gradient_penalty', 'augment', 'AUGMENTATIONS', 'make_optimizers',
         'decay_learning_rates', 'plain_step', 'train_step', 'update_average',
         'generate', 'train', 'view_samples', 'sample_faces', 'slerp')


@pytest.fixture
def notebook(pytestconfig):
    """The notebook's definitions, a fresh module for each test; or the notebook to be graded."""
    grades = pytestconfig.pluginmanager.get_plugin('machinery.grades')
    if grades and setting('DCGAN_NOTEBOOK'):
        return grades.submission()
    return load_definitions(NOTEBOOK)


def part_fixture(name):
    """A fixture that gives one part of the notebook."""
    def part(notebook):
        return getattr(notebook, name)
    return pytest.fixture(part, name=name)


PART_FIXTURES = {f'part_{name}': part_fixture(name) for name in PARTS}
globals().update(PART_FIXTURES)
