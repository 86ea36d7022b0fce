"""Grids, films and curves."""
import io
import math

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from torchvision.utils import make_grid

D_COLOUR, G_COLOUR = 'tab:blue', 'tab:orange'


def to_array(images, columns=8):
    """Images (n, 3, s, s) in [-1, 1] as one uint8 picture (height, width, 3), columns of them side by side."""
    grid = make_grid(images.detach().float().cpu(), columns, padding=1, normalize=True, value_range=(-1, 1), pad_value=1)
    return (grid.permute(1, 2, 0) * 255).round().byte().numpy()


def show_grid(images, columns=8, title='', axes=None):
    """Draw images (n, 3, s, s) in [-1, 1] as a grid without axes."""
    picture = to_array(images, columns)
    if axes is None:
        _, axes = plt.subplots(figsize=(10, 10 * picture.shape[0] / picture.shape[1]), layout='constrained')
    axes.imshow(picture, interpolation='nearest')
    axes.set_title(title, fontsize=10, loc='left')
    axes.axis('off')


def show_epochs(samples, n_rows=6, n_faces=12):
    """Draw the same faces at n_rows epochs, evenly spaced in the logarithm: most is learnt at first."""
    epochs = np.unique(np.geomspace(1, len(samples), n_rows).round().astype(int))
    figure, rows = plt.subplots(len(epochs), squeeze=False, figsize=(10, 10 / n_faces * len(epochs)), layout='constrained')
    for epoch, axes in zip(epochs, rows[:, 0]):
        axes.imshow(to_array(samples[epoch - 1][:n_faces], n_faces), interpolation='nearest')
        axes.set(xticks=[], yticks=[], frame_on=False)
        axes.set_ylabel(f'epoch {epoch}', rotation=0, ha='right', va='center')


def show_beside(real, generated, columns=8):
    """Draw real and generated images, each (n, 3, s, s) in [-1, 1], beside each other."""
    _, (left, right) = plt.subplots(1, 2, figsize=(10, 5.3 * math.ceil(len(real) / columns) / columns), layout='constrained')
    show_grid(real, columns, 'real', left)
    show_grid(generated, columns, 'generated', right)


def film(samples, n_frames=18):
    """The fixed-noise grid over the epochs as an animated PNG: its bytes. A saved notebook shows it anywhere."""
    epochs = np.unique(np.linspace(0, len(samples) - 1, n_frames).round().astype(int))
    grids = [to_array(samples[epoch]) for epoch in epochs]
    strip = Image.fromarray(np.concatenate(grids)).quantize(256)             # frames of a PNG share their 256 colours
    frames = [strip.crop((0, i * len(grid), strip.width, (i + 1) * len(grid))) for i, grid in enumerate(grids)]
    file = io.BytesIO()
    times = [300] * (len(frames) - 1) + [2000]       # ms; the last epoch stays in view
    frames[0].save(file, 'png', save_all=True, append_images=frames[1:], duration=times, loop=0)
    return file.getvalue()


def plot_losses(history):
    """Plot what load_history() gives: every batch light, smoothed bold, and dashed the level of a D that can only guess."""
    epochs = np.arange(len(history['d_loss'])) / history['per_epoch'].mean()
    window = max(1, len(epochs) // 100)
    _, (losses, answers) = plt.subplots(1, 2, figsize=(10, 3.2), layout='constrained')
    for axes, name, label, colour in ((losses, 'd_loss', 'loss of D', D_COLOUR), (losses, 'g_loss', 'loss of G', G_COLOUR),
                                      (answers, 'd_real', 'D(x)', D_COLOUR), (answers, 'd_fake', 'D(G(z))', G_COLOUR)):
        smoothed = np.convolve(history[name], np.ones(window) / window, 'valid')
        axes.plot(epochs, history[name], color=colour, alpha=.2, linewidth=.5)
        axes.plot(epochs[window - 1:], smoothed, color=colour, label=label)
    losses.axhline(math.log(4), color=D_COLOUR, linestyle='--', linewidth=1, label='log 4: D guesses')
    losses.axhline(math.log(2), color=G_COLOUR, linestyle='--', linewidth=1, label='log 2: D guesses')
    both = np.concatenate([history['d_loss'], history['g_loss']])
    losses.set_ylim(0, 1.1 * np.quantile(both[np.isfinite(both)], .995))
    answers.axhline(.5, color='grey', linestyle='--', linewidth=1, label='1/2: D guesses')
    answers.set_ylim(0, 1)
    for axes in (losses, answers):
        axes.set_xlabel('epoch')
        axes.legend(fontsize=8, ncols=2)


def plot_distance(history, floor=None):
    """Plot the distance to real faces over the epochs, and dashed the floor: real faces against other real faces."""
    epochs, distances, _ = history['distances'].T
    _, axes = plt.subplots(figsize=(10, 3), layout='constrained')
    axes.plot(epochs, distances, 'o-', color=G_COLOUR, label='generated faces')
    best = distances.argmin()
    axes.annotate(f'best: {distances[best]:.2f}', (epochs[best], distances[best]), xytext=(0, 9), textcoords='offset points',
                  ha='right', fontsize=9)
    if floor:
        axes.axhline(floor, color='grey', linestyle='--', linewidth=1, label=f'floor, other real faces: {floor:.2f}')
    axes.set(yscale='log', xlabel='epoch', ylabel='Fréchet face distance')
    axes.legend(fontsize=8)


def plot_attributes(shares):
    """Plot the shares of attributes: shares is a dict from a label ('training faces', say) to {attribute: share}."""
    attributes = sorted(next(iter(shares.values())), key=lambda name: -next(iter(shares.values()))[name])
    _, axes = plt.subplots(figsize=(10, 3.6), layout='constrained')
    for number, (label, values) in enumerate(shares.items()):
        places = np.arange(len(attributes)) + .8 / len(shares) * (number - (len(shares) - 1) / 2)
        axes.bar(places, [100 * values[name] for name in attributes], .8 / len(shares), label=label)
    axes.set_xticks(range(len(attributes)), [name.replace('_', ' ') for name in attributes], rotation=90, fontsize=8)
    axes.set(ylabel='% of faces', xlim=(-.7, len(attributes) - .3))
    axes.legend(fontsize=8)
