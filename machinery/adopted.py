"""Training loops from elsewhere: called with what they take, and kept as a run."""
import contextlib
import inspect
import math
import os
import shutil
from pathlib import Path

import numpy as np
import torch

from . import epochs, parameters
from .checkpoints import Checkpoints, Progress
from .lesson import takes
from .samples import SAMPLES


def call_train(train, D, G, n_epochs, print_every, loader, distance, config):
    """Call train and return its losses, a list of pairs.

    A train(D, G, n_epochs, print_every) from elsewhere, which takes no more than that, keeps no
    checkpoints: its networks and losses are then kept in checkpoints_gan/, so that all that looks
    at a run finds them there, and so is the pickle. An earlier run is set aside first.

    config is brought up to date first; see parameters.as_they_count.
    """
    scope = inspect.unwrap(train).__globals__
    config = parameters.as_they_count(config, scope, G, loader, distance)
    if takes(train, 'config'):
        return train(D, G, n_epochs, print_every, loader, distance, config)
    arguments = getattr(G, 'arguments', dict(z_size=config['z_size']))
    config = config | dict(generator=arguments)
    progress = Progress(config, fixed_z=torch.zeros(0, config['z_size']), epoch=n_epochs)
    checkpoints = Checkpoints(dict(D=D, G=G, G_average=G), progress)
    with checkpoints.lock:
        checkpoints.resume_or_set_aside(resume=False)
        with _earlier_samples_apart():
            losses = train(D, G, n_epochs, print_every)
            if Path(SAMPLES).exists():
                shutil.move(SAMPLES, checkpoints.pickle.path)
        progress.epochs = _epochs_of(losses, n_epochs)
        _keep(checkpoints)
    return losses


@contextlib.contextmanager
def _earlier_samples_apart():
    """Within this block a pickle in the current folder, another run's, has another name."""
    apart = Path(f'{SAMPLES}.earlier')
    if Path(SAMPLES).exists():
        os.replace(SAMPLES, apart)
    try:
        yield
    finally:
        if apart.exists():
            os.replace(apart, SAMPLES)


def _epochs_of(losses, n_epochs):
    """Spread the printed losses over the epochs; D(x) and D(G(z)) are not known."""
    figures = torch.full((len(losses), 4), math.nan)
    figures[:, :2] = torch.tensor(losses, dtype=torch.float32).view(-1, 2)
    no_grid = torch.zeros(0, 3, 1, 1)                    # they are in the loop's own pickle
    parts = np.array_split(figures.numpy(), n_epochs)
    return [epochs.Epoch(torch.tensor(part), no_grid) for part in parts]


def _keep(checkpoints):
    folder, progress = checkpoints.folder, checkpoints.progress
    checkpoints.keep()
    epochs.write_missing(folder, progress.epochs)
    epochs.write(folder / 'latest.pt', checkpoints.kept)
    checkpoints.saved = progress.epoch
    checkpoints.write_figures()
    print(f'This train keeps no checkpoints: its networks and losses are in {folder}/ now. What '
          f'follows draws faces with G as it is, from normal noise.')
