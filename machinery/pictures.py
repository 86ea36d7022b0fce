"""Pictures for the notebook: grids of faces, films, curves, bars."""
import io
import math

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import ticker
from PIL import Image
from torchvision.utils import make_grid

D_COLOUR, G_COLOUR = 'tab:blue', 'tab:orange'
WIDTH = 10           # of figures, in inches


def to_array(images, columns=8):
    """Return images (n, 3, s, s) in [-1, 1] as one grid: uint8 (height, width, 3)."""
    images = images.detach().float().cpu()
    grid = make_grid(images, columns, padding=1, pad_value=1, normalize=True, value_range=(-1, 1))
    return (grid.permute(1, 2, 0) * 255).round().byte().numpy()


def show_grid(images, columns=8, title='', axes=None):
    """Draw images (n, 3, s, s) in [-1, 1] as a grid."""
    picture = to_array(images, columns)
    height, width, _ = picture.shape
    if axes is None:
        _, axes = plt.subplots(figsize=(WIDTH, WIDTH * height / width), layout='constrained')
    axes.imshow(picture, interpolation='nearest')
    axes.set_title(title, fontsize=10, loc='left')
    axes.axis('off')


def show_beside(real, generated, columns=8):
    """Draw real and generated images, each (n, 3, s, s) in [-1, 1], side by side."""
    n_rows = math.ceil(len(real) / columns)
    height = 0.53 * WIDTH * n_rows / columns
    _, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, height), layout='constrained')
    show_grid(real, columns, 'real', left)
    show_grid(generated, columns, 'generated', right)


def show_epochs(samples, n_rows=6, n_faces=12):
    """Draw the same faces at several epochs, a row each."""
    epochs = np.geomspace(1, len(samples), n_rows)       # most is learnt early
    epochs = np.unique(epochs.round().astype(int))
    height = WIDTH / n_faces * len(epochs)
    _, rows = plt.subplots(len(epochs), squeeze=False, figsize=(WIDTH, height),
                           layout='constrained')
    for epoch, axes in zip(epochs, rows[:, 0], strict=True):
        faces = samples[epoch - 1][:n_faces]
        axes.imshow(to_array(faces, n_faces), interpolation='nearest')
        axes.set(xticks=[], yticks=[], frame_on=False)
        axes.set_ylabel(f'epoch {epoch}', rotation=0, ha='right', va='center')


def film(samples, n_frames=18):
    """Return the bytes of an animated PNG, which any viewer shows: the grid, epoch after epoch."""
    epochs = np.linspace(0, len(samples) - 1, n_frames)
    epochs = np.unique(epochs.round().astype(int))
    grids = [to_array(samples[epoch]) for epoch in epochs]
    strip = Image.fromarray(np.concatenate(grids))
    strip = strip.quantize(256)                          # the frames of a PNG share their colours
    height = len(grids[0])
    frames = []
    for number in range(len(grids)):
        box = (0, number * height, strip.width, (number + 1) * height)
        frames.append(strip.crop(box))
    times = [300] * len(frames)                          # milliseconds
    times[-1] = 2000                                     # the last epoch stays in view
    file = io.BytesIO()
    frames[0].save(file, 'png', save_all=True, append_images=frames[1:], duration=times, loop=0)
    return file.getvalue()


def plot_losses(history, objective='bce'):
    """Plot the figures of load_history(): each batch light, smoothed bold.

    Dashed is the level at which D can only guess; for losses other than 'bce' there is none.
    """
    _, (losses, answers) = plt.subplots(1, 2, figsize=(WIDTH, 3.2), layout='constrained')
    _plot_smoothed(losses, history, 'd_loss', 'loss of D', D_COLOUR)
    _plot_smoothed(losses, history, 'g_loss', 'loss of G', G_COLOUR)
    _plot_smoothed(answers, history, 'd_real', 'D(x)', D_COLOUR)
    _plot_smoothed(answers, history, 'd_fake', 'D(G(z))', G_COLOUR)
    if objective == 'bce':
        _plot_level(losses, math.log(4), 'log 4: D guesses', D_COLOUR)
        _plot_level(losses, math.log(2), 'log 2: D guesses', G_COLOUR)
    _plot_level(answers, 0.5, '1/2: D guesses', 'grey')
    both = np.concatenate([history['d_loss'], history['g_loss']])
    lowest, highest = np.quantile(both[np.isfinite(both)], (0.005, 0.995))
    losses.set_ylim(min(0, 1.1 * lowest), max(0, 1.1 * highest))     # some fall below 0
    answers.set_ylim(0, 1)
    if np.isnan(history['d_real']).all():
        answers.text(0.5, 0.7, 'this training kept no D(x), D(G(z))', ha='center',
                     transform=answers.transAxes)
    for axes in (losses, answers):
        axes.set_xlabel('epoch')
        axes.legend(fontsize=8, ncols=2)


def _plot_smoothed(axes, history, name, label, colour):
    values = history[name]
    epochs = np.arange(len(values)) / history['per_epoch'].mean()
    window = max(1, len(values) // 100)
    smoothed = np.convolve(values, np.ones(window) / window, 'valid')
    axes.plot(epochs, values, color=colour, alpha=0.2, linewidth=0.5)
    axes.plot(epochs[window - 1:], smoothed, color=colour, label=label)


def _plot_level(axes, level, label, colour):
    axes.axhline(level, color=colour, linestyle='--', linewidth=1, label=label)


def plot_distance(history, floor=None):
    """Plot the distance to real faces over the epochs; say so where none was measured.

    Dashed is the floor, the distance of real faces to other real ones.
    """
    epochs, distances, _ = history['distances'].T
    if len(distances) == 0:
        print('No distance to real faces was measured in this training.')
        return
    _, axes = plt.subplots(figsize=(WIDTH, 3), layout='constrained')
    axes.plot(epochs, distances, 'o-', color=G_COLOUR, label='generated faces')
    best = distances.argmin()
    axes.annotate(f'best: {distances[best]:.2f}', (epochs[best], distances[best]), fontsize=9,
                  xytext=(0, 9), textcoords='offset points', ha='right')
    if floor and math.isfinite(floor):
        _plot_level(axes, floor, f'floor, other real faces: {floor:.2f}', 'grey')
    axes.set(yscale='log', xlabel='epoch', ylabel='Fréchet face distance')
    label_plainly(axes.yaxis)
    axes.legend(fontsize=8)


def label_plainly(axis):
    """Label a logarithmic axis with numbers like 2, 3, 5 and 10, and not with powers of ten."""
    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 3, 5)))
    axis.set_major_formatter('{x:g}')
    axis.set_minor_formatter(ticker.NullFormatter())


def plot_recovery(found):
    """Plot the errors of a Memorisation: training faces against held-out ones, medians dashed.

    Without held-out faces there is nothing to plot.
    """
    if len(found.held_out) == 0:
        return
    _, axes = plt.subplots(figsize=(WIDTH, 2.6), layout='constrained')
    both = np.concatenate([found.training, found.held_out])
    bins = np.linspace(both.min(), both.max(), 25)
    for label, errors, colour in (('training faces', found.training, D_COLOUR),
                                  ('held-out faces', found.held_out, G_COLOUR)):
        axes.hist(errors.numpy(), bins, alpha=0.5, color=colour, label=label)
        axes.axvline(errors.median(), color=colour, linestyle='--', linewidth=1)
    axes.set(xlabel='error of the nearest face that G can make, in shades of 255', ylabel='faces')
    axes.legend(fontsize=8)


def plot_attributes(shares):
    """Plot shares of attributes as bars, commonest first: {label: {attribute: share}}."""
    first = next(iter(shares.values()))
    attributes = sorted(first, key=first.get, reverse=True)
    _, axes = plt.subplots(figsize=(WIDTH, 3.6), layout='constrained')
    width = 0.8 / len(shares)
    for number, (label, values) in enumerate(shares.items()):
        shift = width * (number - (len(shares) - 1) / 2)
        places = np.arange(len(attributes)) + shift
        percent = [100 * values[name] for name in attributes]
        axes.bar(places, percent, width, label=label)
    names = [name.replace('_', ' ') for name in attributes]
    axes.set_xticks(range(len(attributes)), names, rotation=90, fontsize=8)
    axes.set(ylabel='% of faces', xlim=(-0.7, len(attributes) - 0.3))
    axes.legend(fontsize=8)
