"""What dcgan_faces.ipynb calls: presets, pictures, and the doors to the rooms in machinery/.

Nothing here is needed to understand a GAN: the method is in the notebook, all of it. This file
chooses how much to train, draws what came out, and passes on the names of the rooms behind it. What
each room holds is said in machinery/__init__.py.
"""
import ast
import importlib
import io
import math
import os
import platform

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from torchvision.utils import make_grid

from machinery.attributes import balancing_sampler, load_attributes, read_attributes
from machinery.batches import DeviceLoader, ImageDataset
from machinery.checkpoints import CHECKPOINTS, load_checkpoint, load_history
from machinery.console import check_choice, check_whole
from machinery.devices import choose_device, device_name, has_bfloat16
from machinery.drawn import drawn_faces
from machinery.encoder import (
    ENCODER,
    FaceEncoder,
    attribute_shares,
    nearest_faces,
    seen_attributes,
)
from machinery.fast_step import capture
from machinery.images import decode_folder, list_images
from machinery.lesson import load_definitions
from machinery.metric import FaceDistance, quality
from machinery.pretrained import PRETRAINED, load_pretrained
from machinery.run import Run
from machinery.samples import SAMPLES, load_samples
from machinery.sources import FACES_COUNT, load_dataset

__all__ = [
    # in this file
    'choose_preset', 'film', 'plot_attributes', 'plot_distance', 'plot_losses', 'show_beside',
    'show_epochs', 'show_grid', 'versions',
    # the data
    'DeviceLoader', 'FACES_COUNT', 'ImageDataset', 'balancing_sampler', 'decode_folder',
    'drawn_faces', 'list_images', 'load_attributes', 'load_dataset', 'read_attributes',
    # training
    'CHECKPOINTS', 'Run', 'SAMPLES', 'capture', 'check_choice', 'check_whole', 'choose_device',
    'device_name', 'has_bfloat16', 'load_checkpoint', 'load_definitions', 'load_history',
    'load_pretrained', 'load_samples', 'PRETRAINED',
    # quality
    'ENCODER', 'FaceDistance', 'FaceEncoder', 'attribute_shares', 'nearest_faces', 'quality',
    'seen_attributes',
]

D_COLOUR, G_COLOUR = 'tab:blue', 'tab:orange'
WIDTH = 10           # of figures, in inches


# -------------------------------------------------------------------------------- presets, versions


def choose_preset(presets):
    """Choose one of presets, a dict of dicts, and print which.

    It is 'full' on a GPU and 'quick' on a CPU, unless DCGAN_PRESET names one. That may also change
    single values of it:
    DCGAN_PRESET='classic n_epochs=25 batch_size=64'.
    Raises ValueError for an unknown preset, name or value.
    """
    default = 'full' if torch.cuda.is_available() else 'quick'
    words = os.environ.get('DCGAN_PRESET', '').split() or [default]
    name, *changes = words
    check_choice(presets, DCGAN_PRESET=name)
    preset = dict(presets[name])
    for change in changes:
        key, _, value = change.partition('=')
        check_choice(preset, DCGAN_PRESET=key)
        preset[key] = _value_of(change, value)
        if preset[key] is not None:
            check_whole(**{key: preset[key]})
    if os.environ.get('RANK', '0') == '0':       # torchrun's processes have not met yet
        print(f'Preset {" ".join(words)!r} on {device_name()}')
    return preset


def _value_of(change, text):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        message = f'DCGAN_PRESET: found {change!r}, expected a change like n_epochs=25'
        raise ValueError(message) from None


def versions():
    """Return one line of provenance: Python, torch, device."""
    return f'Python {platform.python_version()}, torch {torch.__version__}, {device_name()}'


# ----------------------------------------------------------------------------------------- pictures


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


def plot_losses(history):
    """Plot the figures of load_history(): each batch light, smoothed bold.

    Dashed is the level at which D can only guess.
    """
    _, (losses, answers) = plt.subplots(1, 2, figsize=(WIDTH, 3.2), layout='constrained')
    _plot_smoothed(losses, history, 'd_loss', 'loss of D', D_COLOUR)
    _plot_smoothed(losses, history, 'g_loss', 'loss of G', G_COLOUR)
    _plot_smoothed(answers, history, 'd_real', 'D(x)', D_COLOUR)
    _plot_smoothed(answers, history, 'd_fake', 'D(G(z))', G_COLOUR)
    _plot_level(losses, math.log(4), 'log 4: D guesses', D_COLOUR)
    _plot_level(losses, math.log(2), 'log 2: D guesses', G_COLOUR)
    _plot_level(answers, 0.5, '1/2: D guesses', 'grey')
    both = np.concatenate([history['d_loss'], history['g_loss']])
    losses.set_ylim(0, 1.1 * np.quantile(both[np.isfinite(both)], 0.995))
    answers.set_ylim(0, 1)
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
    """Plot the distance to real faces over the epochs.

    Dashed is the floor, the distance of real faces to other real ones.
    """
    epochs, distances, _ = history['distances'].T
    _, axes = plt.subplots(figsize=(WIDTH, 3), layout='constrained')
    axes.plot(epochs, distances, 'o-', color=G_COLOUR, label='generated faces')
    best = distances.argmin()
    axes.annotate(f'best: {distances[best]:.2f}', (epochs[best], distances[best]), fontsize=9,
                  xytext=(0, 9), textcoords='offset points', ha='right')
    if floor:
        _plot_level(axes, floor, f'floor, other real faces: {floor:.2f}', 'grey')
    axes.set(yscale='log', xlabel='epoch', ylabel='Fréchet face distance')
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


# ------------------------------------------------------------------------------- names of old code

RENAMED = {          # name in earlier versions: (room, name there)
    'Feed': ('batches', 'DeviceLoader'),
    'FACES_DIR': ('sources', 'FACES_DIR'),
    'alone': ('devices', 'alone'),
    'decode_image': ('images', 'decode_image'),
    'download': ('download', 'download'),
    'find_faces': ('sources', 'find_faces'),
    'is_image': ('images', 'is_image'),
    'load_images': ('sources', 'load_images'),
    'load_svhn': ('sources', 'load_svhn'),
    'random_state': ('checkpoints', 'random_state'),
    'rank_0_first': ('devices', 'rank_0_first'),
    'save_samples': ('samples', 'save_samples'),
    'set_random_state': ('checkpoints', 'set_random_state'),
    'shared': ('devices', 'broadcast'),
    'to_bytes': ('encoder', 'to_bytes'),
    'unpack': ('download', 'unpack'),
    'world': ('devices', 'world'),
    'write_atomically': ('files', 'write_atomically'),
}


def __getattr__(name):
    """Find a name that earlier versions offered here, in the room where it is now."""
    if name not in RENAMED:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    room, new_name = RENAMED[name]
    return getattr(importlib.import_module(f'machinery.{room}'), new_name)
