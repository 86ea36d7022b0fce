"""A picture of the training under the notebook's cell, renewed in place while it goes on."""
import io
import time

import numpy as np
import torch
from IPython.display import Image, display
from matplotlib.figure import Figure

from .console import in_notebook
from .pictures import D_COLOUR, G_COLOUR, label_plainly, to_array

SHARE = 0.02         # of the training time that may go into pictures
SECOND = 2.0         # seconds from the first picture, at the start, to the next
N_MEANS = 100        # points of a smoothed curve


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
        picture = Image(draw_run(run))
        if self.handle is None:
            self.handle = display(picture, display_id=True)
            self.next_time = started + SECOND
        else:
            self.handle.update(picture)
            now = time.perf_counter()
            self.next_time = now + (now - started) / SHARE


def draw_run(run):
    """Draw the faces, losses and distances of a Run as they are now; return the bytes of a PNG."""
    progress = run.progress
    steps = list(progress.history)
    if run.steps:
        steps.append(torch.stack(run.steps).float().cpu())
    figure = Figure(figsize=(10, 3.3), layout='constrained')
    faces, losses = figure.subplots(1, 2, width_ratios=(1, 1.9))
    figure.suptitle(_title(run), fontsize=10, x=0.01, ha='left')
    faces.imshow(to_array(run.generate(progress.fixed_z), 4), interpolation='nearest')
    faces.axis('off')
    _plot_losses(losses, steps)
    if progress.distances:
        _plot_distances(losses.twinx(), progress.distances)
    file = io.BytesIO()
    figure.savefig(file, format='png', dpi=80)
    return file.getvalue()


def _title(run):
    """Return epoch, speed and time left in a line."""
    words = f'after {run.progress.epoch} of {run.n_epochs} epochs'
    if run.bar is None:
        return words
    bar = run.bar.format_dict
    words += f', {run.progress.images_seen:,} images seen'
    if bar['n'] > 0 and bar['total']:
        seconds_left = bar['elapsed'] / bar['n'] * (bar['total'] - bar['n'])
        minutes, seconds = divmod(round(seconds_left), 60)
        rate = (run.progress.images_seen - run.seen_before) / bar['elapsed']
        words += f', {rate:,.0f} images/s, {minutes}:{seconds:02d} left'
    return words


def _plot_losses(axes, steps):
    """Plot both losses over the epochs, as means of some steps each."""
    axes.set(xlabel='epoch', ylabel='loss')
    values = [each.numpy() for each in steps if len(each) > 0]
    if not values:
        return
    longest = max(map(len, values))          # the epoch that is going on is shorter
    places = [epoch + (np.arange(len(each)) + 1) / longest for epoch, each in enumerate(values)]
    places, values = np.concatenate(places), np.concatenate(values)
    window = max(1, len(values) // N_MEANS)
    n_means = len(values) // window
    places = places[:n_means * window].reshape(n_means, window).mean(1)
    means = values[:n_means * window].reshape(n_means, window, 4).mean(1)
    axes.plot(places, means[:, 0], color=D_COLOUR, label='loss of D')
    axes.plot(places, means[:, 1], color=G_COLOUR, label='loss of G')
    axes.legend(fontsize=8, loc='upper left')


def _plot_distances(axes, distances):
    epochs, values, _ = zip(*distances, strict=True)
    axes.plot(epochs, values, 'o-', color='tab:green', label='distance to real faces')
    axes.set(yscale='log', ylabel='distance')
    label_plainly(axes.yaxis)
    axes.legend(fontsize=8, loc='upper right')
