"""Pictures for the notebook: grids of faces, films, curves, bars, and the view of a training."""
import copy
import io
import math
import time

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Image as DisplayedImage
from IPython.display import display
from matplotlib import ticker
from matplotlib.figure import Figure
from PIL import Image
from torchvision.utils import make_grid
from tqdm import tqdm

from .console import in_notebook
from .files import as_float

D_COLOUR, G_COLOUR, HELD_OUT = 'tab:blue', 'tab:orange', 'tab:green'
WIDTH = 10           # of figures, in inches


def to_array(images, columns=8):
    """Return images as one grid: uint8 (height, width, 3).

    images  (n, 3, s, s), either floats in [-1, 1] or bytes
    """
    images = as_float(images.detach().cpu())
    grid = make_grid(images, columns, padding=1, pad_value=1, normalize=True, value_range=(-1, 1))
    return (grid.permute(1, 2, 0) * 255).round().byte().numpy()


def show_grid(images, columns=8, title='', axes=None):
    """Draw images (n, 3, s, s), floats in [-1, 1] or bytes, as a grid."""
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


def show_rows(rows):
    """Draw images in rows with a label each: {label: images (n, 3, s, s)}, as show_grid has them.
    """
    n_columns = max(len(images) for images in rows.values())
    width = min(WIDTH, 2 + 1.2 * n_columns)              # few faces are not drawn larger
    height = width / n_columns * len(rows)
    _, all_axes = plt.subplots(len(rows), squeeze=False, layout='constrained',
                               figsize=(width, min(height, WIDTH)))
    for (label, images), axes in zip(rows.items(), all_axes[:, 0], strict=True):
        axes.imshow(to_array(images, len(images)), interpolation='nearest')
        axes.set(xticks=[], yticks=[], frame_on=False)
        axes.set_ylabel(label, rotation=0, ha='right', va='center')


def show_epochs(samples, n_rows=6, n_faces=12):
    """Draw the same faces at several epochs, a row each."""
    epochs = np.geomspace(1, len(samples), n_rows)       # most is learnt early
    epochs = np.unique(epochs.round().astype(int))
    show_rows({f'epoch {epoch}': samples[epoch - 1][:n_faces] for epoch in epochs})


def layer_table(network, x):
    """Return a text with a line for each layer that has weights: its kind, output and weights.

    x  an example of what goes in; it changes nothing in the network
    """
    lines = []

    def note(layer, _, output):
        kind = type(layer).__name__
        if hasattr(layer, 'kernel_size'):
            kind += ' {}×{}'.format(*layer.kernel_size)
        shape = ' × '.join(map(str, output.shape[1:]))
        n_weights = sum(each.numel() for each in layer.parameters())
        lines.append(f'  {kind:20}{shape:>16}{n_weights:>12,}')

    trial = copy.deepcopy(network).cpu().eval()
    for layer in trial.modules():
        if list(layer.parameters()) and not list(layer.children()):
            layer.register_forward_hook(note)
    with torch.no_grad():
        trial(x.cpu())
    n_all = sum(each.numel() for each in network.parameters())
    heading = f'{type(network).__name__}: {n_all:,} weights'
    return '\n'.join([heading, *lines, ''])


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

    Dashed is the level at which D can only guess; for losses other than 'bce' there is none. Dots
    are D's answers at an epoch's end, asked alike of faces that it learnt and of those held out.
    """
    _, (losses, answers) = plt.subplots(1, 2, figsize=(WIDTH, 3.2), layout='constrained')
    per_epoch = history['per_epoch'].mean()
    _plot_both_losses(losses, history['d_loss'], history['g_loss'], per_epoch)
    _plot_smoothed(answers, history['d_real'], per_epoch, 'D(x)', D_COLOUR)
    _plot_smoothed(answers, history['d_fake'], per_epoch, 'D(G(z))', G_COLOUR)
    if objective == 'bce':
        _plot_level(losses, math.log(4), 'log 4: D guesses', D_COLOUR)
        _plot_level(losses, math.log(2), 'log 2: D guesses', G_COLOUR)
    if len(history.get('answers', ())) > 0:              # earlier runs know none
        epochs, learnt, held_out, *_ = history['answers'].T
        for values, colour, words in ((learnt, D_COLOUR, 'learnt'),
                                      (held_out, HELD_OUT, 'held out')):
            answers.plot(epochs, values, 'o-', color=colour, markersize=4, linewidth=1,
                         label=f'D(x), x {words}')
    _plot_level(answers, 0.5, '1/2: D guesses', 'grey')
    answers.set_ylim(0, 1)
    if np.isnan(history['d_real']).all():
        answers.text(0.5, 0.7, 'this training kept no D(x), D(G(z))', ha='center',
                     transform=answers.transAxes)
    for axes in (losses, answers):
        axes.set_xlabel('epoch')
        axes.legend(fontsize=8, ncols=2)


def _plot_both_losses(axes, d_loss, g_loss, per_epoch):
    _plot_smoothed(axes, d_loss, per_epoch, 'loss of D', D_COLOUR)
    _plot_smoothed(axes, g_loss, per_epoch, 'loss of G', G_COLOUR)
    both = np.concatenate([d_loss, g_loss])
    finite = both[np.isfinite(both)]
    if len(finite) > 0:
        lowest, highest = np.quantile(finite, (0.005, 0.995))
        axes.set_ylim(min(0, 1.1 * lowest), max(0, 1.1 * highest))       # some fall below 0


def _plot_smoothed(axes, values, per_epoch, label, colour):
    """Plot a figure of each step: as it is, light, and the means of a hundredth of all, bold."""
    epochs = np.arange(len(values)) / per_epoch
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


# ---------------------------------------------------------------------------------- while it trains

SHARE = 0.02         # of the training time that may go into pictures
SECOND = 2.0         # seconds from the first picture, at the start, to the next


class LiveView:
    """Decides when to draw, and puts the drawing in the place of the last one.

    It is renewed by time and never by batch: soon after the start, then so rarely that drawing
    takes no more than SHARE of the time, and once more at the end. It draws no random numbers.

    wanted  False: nothing is shown. Nor is anything outside of a notebook: in a terminal, in a
            script and under torchrun
    """

    def __init__(self, wanted):
        self.wanted = wanted and in_notebook()
        self.handle = None
        self.next_time = 0.0

    def is_due(self):
        """Say whether it is time for a new picture. It costs nothing to ask after every batch."""
        return self.wanted and time.perf_counter() >= self.next_time

    def show(self, run):
        """Show a Run as it is now."""
        if not self.wanted:
            return
        started = time.perf_counter()
        picture = DisplayedImage(draw_run(run))
        if self.handle is None:
            self.handle = display(picture, display_id=True)
            self.next_time = started + SECOND
        else:
            self.handle.update(picture)
            now = time.perf_counter()
            self.next_time = now + (now - started) / SHARE


def draw_run(run):
    """Draw the faces, losses and distances of a Run as they are now; return the bytes of a PNG."""
    figure = Figure(figsize=(10, 3.3), layout='constrained')
    faces, losses = figure.subplots(1, 2, width_ratios=(1, 1.9))
    figure.suptitle(_title(run), fontsize=10, x=0.01, ha='left')
    faces.imshow(to_array(run.draw(run.fixed_z), 4), interpolation='nearest')
    faces.axis('off')
    losses.set(xlabel='epoch', ylabel='loss')
    steps = [epoch.steps for epoch in run.epochs_done]
    if run.now.steps:
        steps.append(torch.stack(run.now.steps).float().cpu())
    if any(map(len, steps)):
        d_loss, g_loss, *_ = torch.cat(steps).T.numpy()
        per_epoch = max(map(len, steps))         # the epoch that is going on is shorter
        _plot_both_losses(losses, d_loss, g_loss, per_epoch)
        losses.legend(fontsize=8, loc='upper left')
    measured = [(number, epoch.distance[0]) for number, epoch in enumerate(run.epochs_done, 1)
                if epoch.distance]
    if measured:
        _plot_distances(losses.twinx(), measured)
    file = io.BytesIO()
    figure.savefig(file, format='png', dpi=80)
    return file.getvalue()


def _title(run):
    """Return epoch, images seen and time left in a line."""
    words = f'after {run.counts["epoch"]} of {run.n_epochs} epochs'
    if run.bar is None:
        return words
    bar = run.bar.format_dict
    words += f', {run.counts["images_seen"]:,} images seen'
    if bar['n'] > 0 and bar['total']:
        seconds_left = bar['elapsed'] / bar['n'] * (bar['total'] - bar['n'])
        words += f', {tqdm.format_interval(seconds_left)} left'
    return words


def _plot_distances(axes, distances):
    epochs, values = zip(*distances, strict=True)
    axes.plot(epochs, values, 'o-', color='tab:green', label='distance to real faces')
    axes.set(yscale='log', ylabel='distance')
    label_plainly(axes.yaxis)
    axes.legend(fontsize=8, loc='upper right')
