"""Draw the lesson's diagrams: networks.png, step.png, transposed.png and clouds.png.

    python -m experiments.figures

Shapes, numbers of weights, contributions and distances are asked of torch and of the notebook's
own networks. Nothing is trained.
"""
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from matplotlib.patches import Ellipse, FancyBboxPatch, Rectangle
from scipy.linalg import sqrtm

import helpers
from experiments import common
from machinery.pictures import D_COLOUR, G_COLOUR, WIDTH, to_array

GREY, PALE = '0.45', '0.93'
PIXELS = 800         # that a canvas is wide; its height is given


# ------------------------------------------------------------------------------------------ canvas


def canvas(height):
    """Return axes that are PIXELS wide and so high, in pixels of the picture, y upwards."""
    figure = plt.figure(figsize=(WIDTH, WIDTH * height / PIXELS))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, PIXELS), ylim=(0, height))
    axes.axis('off')
    return axes


def box(axes, x, y, text, width=64, height=34, colour=GREY, fill='white', **options):
    """Draw a box around (x, y) with a text in it."""
    corner = x - width / 2, y - height / 2
    axes.add_patch(FancyBboxPatch(corner, width, height, 'round,pad=0,rounding_size=5',
                                  edgecolor=colour, facecolor=fill, linewidth=1.4))
    axes.text(x, y, text, **dict(ha='center', va='center', fontsize=10) | options)


def arrow(axes, start, end, colour=GREY, linewidth=1.4, **options):
    style = dict(arrowstyle='-|>', color=colour, linewidth=linewidth, shrinkA=0, shrinkB=0)
    axes.annotate('', end, start, arrowprops=style | options)


def tinted(colour, share=0.25):
    """Return a colour mixed with white."""
    return tuple(share * part + 1 - share for part in plt.matplotlib.colors.to_rgb(colour))


# ---------------------------------------------------------------------------------------- networks

WORDS = {nn.Conv2d: 'convolution', nn.ConvTranspose2d: 'transposed\nconvolution',
         nn.Linear: 'linear', nn.BatchNorm2d: 'batch norm', nn.LeakyReLU: 'leaky ReLU',
         nn.ReLU: 'ReLU', nn.Tanh: 'tanh'}


def stages(network, x):
    """Return [(words, number of weights, shape of one output)], one for each layer with weights.

    What follows such a layer, up to the next one, belongs to it.
    """
    found = []

    def note(layer, _, output):
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            found.append([[], 0, ()])
        words, n_weights, _ = found[-1]
        if type(layer) in WORDS:
            words.append(WORDS[type(layer)])
        n_weights += number_of_weights(layer)
        found[-1] = [words, n_weights, tuple(output.shape[1:])]
    hooks = [layer.register_forward_hook(note) for layer in network.modules()
             if not list(layer.children())]
    with torch.no_grad():
        network(x)
    for hook in hooks:
        hook.remove()
    return found


def number_of_weights(network):
    return sum(weights.numel() for weights in network.parameters())


COLUMNS = 62, 240, 410, 570, 735         # of a row: the picture is first
HEIGHTS = 3          # pixels of the drawing for one pixel of a picture
WIDTHS = 0.4         # and for one channel


def size_of(shape):
    """Return the (width, height) that stands for a shape: as wide as deep, as high as a side."""
    if len(shape) == 1:                  # noise or a logit
        return 12, max(12, shape[0])
    channels, side, _ = shape
    if channels == 3:
        return HEIGHTS * side, HEIGHTS * side
    return WIDTHS * channels, HEIGHTS * side


def draw_networks(notebook, conv_dim=32, z_size=100, img_size=32):
    """Draw D from left to right and G from right to left, equal shapes above one another."""
    torch.manual_seed(0)
    D = notebook.Discriminator(conv_dim)
    G = notebook.Generator(z_size=z_size, conv_dim=conv_dim)
    z, image = torch.randn(2, z_size), torch.randn(2, 3, img_size, img_size)
    face = face_of_32()
    axes = canvas(392)
    for x in COLUMNS[:-1]:
        axes.plot([x, x], [90, 300], color='0.8', linestyle=':', linewidth=1.4, zorder=0)
    title = 'The {}, {:,} weights'
    axes.text(14, 372, title.format('discriminator D: from picture to logit',
                                    number_of_weights(D)), color=D_COLOUR, fontsize=11)
    draw_row(axes, 298, [(3, img_size, img_size), *stages(D, image)], COLUMNS, D_COLOUR, face)
    axes.text(14, 171, title.format('generator G: from noise to picture',
                                    number_of_weights(G)), color=G_COLOUR, fontsize=11,
              bbox=dict(facecolor='white', linewidth=0, pad=1))
    draw_row(axes, 93, [(z_size,), *stages(G, z)], COLUMNS[::-1], G_COLOUR, face)
    axes.text(400, 8, 'A box is as high as the side of its picture and as wide as it has channels. '
              'Grey: weights, with those of batch norm.',
              ha='center', fontsize=9, color=GREY)


def face_of_32():
    """Return a face of the generator of 32x32 that comes with the project, as an array."""
    pair = helpers.load_pair(common.ASSETS / 'dcgan-32')
    G = helpers.rebuild(common.notebook_definitions().Generator, pair, pair['G_average']).eval()
    z = torch.randn(32, G.z_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return to_array(G(z[16:17]))[1:-1, 1:-1]         # without the frame of a grid


def draw_row(axes, y, row, columns, colour, face):
    """Draw one network: its input's shape, then its stages."""
    first, *others = row
    shapes = [first, *[shape for _, _, shape in others]]
    for x, shape in zip(columns, shapes, strict=True):
        draw_shape(axes, x, y, shape, colour, face)
    direction = np.sign(columns[1] - columns[0])
    ends = zip(columns, columns[1:], shapes, shapes[1:], others, strict=False)
    for start, end, before, after, (words, n_weights, _) in ends:
        start += direction * (size_of(before)[0] / 2 + 6)
        end -= direction * (size_of(after)[0] / 2 + 6)
        arrow(axes, (start, y), (end, y))
        middle = (start + end) / 2
        axes.text(middle, y + 5, '\n'.join(words), ha='center', va='bottom', fontsize=9)
        axes.text(middle, y - 6, f'{n_weights:,}', ha='center', va='top', fontsize=9, color=GREY)


def draw_shape(axes, x, y, shape, colour, face):
    width, height = size_of(shape)
    extent = x - width / 2, x + width / 2, y - height / 2, y + height / 2
    words = '×'.join(map(str, shape))
    if shape == (1,):
        words = 'logit'
        axes.add_patch(plt.Circle((x, y), 7, color=colour))
    elif len(shape) == 1:
        words = f'{shape[0]} numbers'
        noise = np.random.default_rng(0).standard_normal((shape[0], 1))
        axes.imshow(noise, cmap='gray', extent=extent, aspect='auto', interpolation='nearest')
    elif shape[0] == 3:
        axes.imshow(face, extent=extent, aspect='auto', interpolation='nearest')
    else:
        axes.add_patch(Rectangle(extent[::2], width, height, edgecolor=colour,
                                 facecolor=tinted(colour), linewidth=1.4))
    axes.text(x, y - height / 2 - 5, words, ha='center', va='top', fontsize=10, color=colour,
              bbox=dict(facecolor='white', linewidth=0, pad=1))


# -------------------------------------------------------------------------------------------- step

# Where z, G, its fakes, D, the logits, their losses and a player's loss stand, from left to right
Z_AT, G_AT, FAKE_AT, D_AT, LOGIT_AT, WISH_AT, LOSS_AT = 36, 128, 242, 424, 530, 640, 758
HALF_A_BOX = {Z_AT: 20, G_AT: 32, FAKE_AT: 32, D_AT: 35, LOGIT_AT: 33, WISH_AT: 42, LOSS_AT: 30}
BELOW = 11           # pixels from an arrow down to that of its gradient


def draw_step():
    """Draw both halves of a training step: grey is computed forwards, gradients have colours."""
    axes = canvas(440)
    draw_half_of_D(axes, top=424, real=357, fake=272)
    draw_half_of_G(axes, top=180, fake=100)
    axes.text(600, 424, 'forwards', fontsize=10)
    arrow(axes, (555, 428), (592, 428))
    axes.text(722, 424, 'gradients', fontsize=10)
    back(axes, (714, 432), (677, 432), D_COLOUR)
    back(axes, (714, 424), (677, 424), G_COLOUR)


def draw_half_of_D(axes, top, real, fake):
    axes.text(14, top, '1  D learns to tell real from fake', fontsize=11, color=D_COLOUR)
    noise_to_fake(axes, fake)
    box(axes, FAKE_AT, real, 'real')
    middle = (real + fake) / 2
    box(axes, D_AT, middle, 'D\nlearns', 70, 130, D_COLOUR, tinted(D_COLOUR))
    for y, name, loss, end in ((real, 'real', 'real_loss\nwants 1', middle + 18),
                               (fake, 'fake', 'fake_loss\nwants 0', middle - 7)):
        between(axes, FAKE_AT, D_AT, y)
        judge(axes, y, name, loss, D_COLOUR)
        between(axes, WISH_AT, LOSS_AT, y, end)
        back_between(axes, LOSS_AT, WISH_AT, end, y, D_COLOUR)
        back_between(axes, WISH_AT, LOGIT_AT, y, y, D_COLOUR)
        back_between(axes, LOGIT_AT, D_AT, y, y, D_COLOUR)
    box(axes, LOSS_AT, middle, 'd_loss', 60, 64, D_COLOUR)
    cut = 332
    axes.plot([cut, cut], [fake - 22, fake + 22], color='tab:red', linewidth=2.5)
    axes.text(cut, fake + 28, 'detach', color='tab:red', ha='center', family='monospace',
              fontsize=10)
    axes.text(cut, fake - 27, 'no gradient\nbeyond here', color='tab:red', ha='center', va='top',
              fontsize=9)


def draw_half_of_G(axes, top, fake):
    axes.text(14, top, '2  G learns to be called real', fontsize=11, color=G_COLOUR)
    noise_to_fake(axes, fake, 'G\nlearns', G_COLOUR)
    box(axes, D_AT, fake, '', 70, 100)
    axes.text(D_AT, fake + 28, 'D', ha='center', va='center', fontsize=10)
    for x, words in ((FAKE_AT, 'the same fake'),
                     (D_AT, 'has learnt in 1; passes the gradient on,\nbut does not learn now')):
        low = fake - (24 if x == FAKE_AT else 56)
        axes.text(x, low, words, ha='center', va='top', fontsize=9, color=GREY)
    between(axes, FAKE_AT, D_AT, fake)
    judge(axes, fake, 'fake', 'real_loss\nwants 1', G_COLOUR)
    between(axes, WISH_AT, LOSS_AT, fake)
    box(axes, LOSS_AT, fake, 'g_loss', 60, 50, G_COLOUR)
    for start, end in ((LOSS_AT, WISH_AT), (WISH_AT, LOGIT_AT), (LOGIT_AT, FAKE_AT),
                       (FAKE_AT, G_AT)):
        back_between(axes, start, end, fake, fake, G_COLOUR)


def noise_to_fake(axes, y, words='G', colour=GREY):
    box(axes, Z_AT, y, 'z', 40)
    box(axes, G_AT, y, words, 64, 56, colour, 'white' if colour == GREY else tinted(colour))
    box(axes, FAKE_AT, y, 'fake')
    between(axes, Z_AT, G_AT, y)
    between(axes, G_AT, FAKE_AT, y)


def judge(axes, y, name, loss, colour):
    """Draw D's logit of one kind of picture, and the loss of it."""
    between(axes, D_AT, LOGIT_AT, y)
    box(axes, LOGIT_AT, y, f'D({name})', 66)
    between(axes, LOGIT_AT, WISH_AT, y)
    box(axes, WISH_AT, y, loss, 84, 40, colour)


def between(axes, start, end, y, end_y=None):
    """Draw what goes forwards from one box to another."""
    start += HALF_A_BOX[start] + 2
    end -= HALF_A_BOX[end] + 2
    arrow(axes, (start, y), (end, y if end_y is None else end_y))


def back_between(axes, start, end, y, end_y, colour):
    """Draw a gradient that goes back from one box to another, below what goes forwards."""
    start -= HALF_A_BOX[start] + 2
    end += HALF_A_BOX[end] + 2
    back(axes, (start, y - BELOW), (end, end_y - BELOW), colour)


def back(axes, start, end, colour):
    arrow(axes, start, end, colour, 2.6)


# -------------------------------------------------------------------------- transposed convolution


def contributions(n, dimensions, kernel, **options):
    """Return how many inputs reach each output of a transposed convolution of stride 2."""
    convolve = {1: F.conv_transpose1d, 2: F.conv_transpose2d}[dimensions]
    inputs = torch.ones(1, 1, *[n] * dimensions)
    weights = torch.ones(1, 1, *[kernel] * dimensions)
    return convolve(inputs, weights, stride=2, padding=1, **options)[0, 0].int()


def draw_transposed():
    """Draw a kernel of 4 beside one of 3: in one dimension, and counted in two."""
    axes = canvas(440)
    draw_kernel(axes, 0, 4, 'Kernel 4, stride 2: even')
    draw_kernel(axes, 400, 3, 'Kernel 3, stride 2: a checkerboard', output_padding=1)


def draw_kernel(axes, x, kernel, title, **options):
    side, left, n = 36, x + 85, 4
    in_row = contributions(n, 1, kernel, **options).tolist()
    axes.text(x + 14, 420, title, fontsize=11)
    axes.text(x + 14, 383, 'inputs', va='center', fontsize=10)
    axes.text(x + 14, 318, 'reach', va='center', fontsize=10)
    axes.text(x + 14, 251, 'outputs', va='center', fontsize=10)
    colours = [plt.get_cmap('tab10')(number) for number in range(n)]
    for number, colour in enumerate(colours):
        cell(axes, left + side * (2 * number + 0.5), 365, tinted(colour, 0.55), side=side)
        first = max(0, 2 * number - 1)                   # the padding cuts off what is outside
        last = min(len(in_row), 2 * number - 1 + kernel)
        bar = Rectangle((left + side * first + 2, 340 - 19 * number), side * (last - first) - 4, 13,
                        color=tinted(colour, 0.55))
        axes.add_patch(bar)
    for place, count in enumerate(in_row):
        cell(axes, left + side * place, 233, shade(count, max(in_row)), count, side)
    counts = contributions(n, 2, kernel, **options)
    side, left = 24, left + 48
    axes.text(x + 14, 104, 'the same\nin 2-d', va='center', fontsize=10)
    for row, line in enumerate(counts.tolist()):
        for column, count in enumerate(line):
            cell(axes, left + side * column, 192 - side * row, shade(count, counts.max().item()),
                 count, side)


def shade(count, most):
    return tinted(G_COLOUR, 0.85 * count / most)


def cell(axes, x, y, fill, text='', side=30):
    """Draw a square from its corner on the lower left."""
    axes.add_patch(Rectangle((x, y), side, side, edgecolor='white', facecolor=fill))
    axes.text(x + side / 2, y + side / 2, text, ha='center', va='center', fontsize=10)


# ------------------------------------------------------------------------------------------ clouds


def frechet(points, others):
    """Return the two parts of the Fréchet distance of two clouds: of means, and of spreads."""
    means = np.square(points.mean(0) - others.mean(0)).sum()
    one, other = np.cov(points.T), np.cov(others.T)
    spreads = np.trace(one + other - 2 * sqrtm(one @ other).real)
    return means, spreads


def draw_clouds(n=120):
    """Draw a cloud of real faces, and three that generators might draw."""
    random = np.random.default_rng(3)
    spread = np.array([[1.0, 0.55], [0.0, 0.75]])
    real = random.standard_normal((n, 2)) @ spread
    noise = random.standard_normal((n, 2))
    generated = {'Far off': noise @ spread + (2.2, -1.1),
                 'Mode collapse, one face': 0.16 * noise @ spread + real.mean(0),
                 'Nearly there': 1.04 * noise @ spread + (0.15, 0.1)}
    figure, panels = plt.subplots(1, 3, figsize=(WIDTH, 3.5), sharex=True, sharey=True,
                                  layout='constrained')
    for axes, (title, points) in zip(panels, generated.items(), strict=True):
        draw_cloud(axes, real, D_COLOUR, 'real')
        draw_cloud(axes, points, G_COLOUR, 'generated')
        start, end = real.mean(0), points.mean(0)
        axes.plot(*zip(start, end, strict=True), color='black', linewidth=1.5)
        means, spreads = frechet(real, points)
        axes.set_title(title, fontsize=11)
        axes.text(0.5, 0.04, f'means {means:.1f} + spreads {spreads:.1f} = '
                  f'distance {means + spreads:.1f}', ha='center', fontsize=10,
                  transform=axes.transAxes)
        axes.set_xlabel('one feature of a face', fontsize=9, color=GREY)
        axes.set(xticks=[], yticks=[], aspect='equal', xlim=(-3.4, 5), ylim=(-4.1, 3.2))
    panels[0].set_ylabel('another', fontsize=9, color=GREY)
    panels[0].legend(fontsize=9, loc='upper right')
    return figure


def draw_cloud(axes, points, colour, label):
    """Draw points, their mean, and the ellipse of two standard deviations."""
    axes.scatter(*points.T, s=7, color=colour, alpha=0.45, linewidths=0)
    sizes, directions = np.linalg.eigh(np.cov(points.T))
    angle = np.degrees(np.arctan2(*directions[::-1, 1]))
    width, height = 4 * np.sqrt(sizes[::-1])
    axes.add_patch(Ellipse(points.mean(0), width, height, angle=angle, edgecolor=colour,
                           facecolor='none', linewidth=2))
    axes.plot(*points.mean(0), 'o', color=colour, markeredgecolor='white', markersize=9,
              label=label)


def main(arguments=None):
    options = common.command_parser(__doc__).parse_args(arguments)
    notebook = common.notebook_definitions()
    for name, draw in (('networks', lambda: draw_networks(notebook)), ('step', draw_step),
                       ('transposed', draw_transposed), ('clouds', draw_clouds)):
        draw()
        common.save_figure(options.into / f'{name}.png')


if __name__ == '__main__':
    main()
