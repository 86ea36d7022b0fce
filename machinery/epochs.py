"""What each epoch of a run leaves: a file of its own, and one more grid in the pickle.

checkpoints_gan/epochs/0001.pt and so on are written once, and train_samples.pkl grows in place. So
a save after 500 epochs writes no more than the second one did.
"""
import io
import math
import os
import pickle
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from . import files, samples


@dataclass
class Epoch:
    """What is kept of a finished epoch."""
    steps: torch.Tensor              # (n_steps, 4): d_loss, g_loss, D(x), D(G(z)) of each step
    grid: torch.Tensor | None        # (16, 3, s, s) in [-1, 1]; None where its file was damaged
    losses: list = field(default_factory=list)      # (d_loss, g_loss) every print_every batches
    lines: list = field(default_factory=list)       # printed at its end
    distance: list = field(default_factory=list)    # [distance, seconds]; empty: not measured


def figures(epochs):
    """Return what load_history gives of finished epochs: a dict of arrays."""
    names = 'd_loss', 'g_loss', 'd_real', 'd_fake'
    steps = torch.cat([epoch.steps for epoch in epochs])
    arrays = dict(zip(names, steps.T.numpy(), strict=True))
    arrays['per_epoch'] = np.array([len(epoch.steps) for epoch in epochs])
    arrays['distances'] = np.array(distances(epochs), np.float64).reshape(-1, 3)
    return arrays


def distances(epochs):
    """Return [epoch, distance, seconds] for each epoch whose distance was measured."""
    return [[number, *epoch.distance] for number, epoch in enumerate(epochs, 1) if epoch.distance]


# ------------------------------------------------------------------------------ the files of epochs


def path_of(folder, number):
    return Path(folder) / 'epochs' / f'{number:04d}.pt'


def write_missing(folder, epochs):
    """Write the epochs that have no file yet: as a rule, this is the last one."""
    for number, epoch in enumerate(epochs, 1):
        path = path_of(folder, number)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, to_bytes(vars(epoch)))


def remove_after(folder, number):
    """Remove the files of later epochs: a crash came between them and the checkpoint."""
    path = path_of(folder, number + 1)
    while path.exists():
        path.unlink()
        number += 1
        path = path_of(folder, number + 1)


def read_epochs(folder, n):
    """Read the first n epochs. Nothing in the files is run.

    Where a file is damaged or gone, its epoch has no losses, says so in its lines, and has the grid
    that train_samples.pkl holds.
    """
    return [_read_epoch(path_of(folder, number), number, n) for number in range(1, n + 1)]


def _read_epoch(path, number, n):
    try:
        epoch = Epoch(**read(path))
        if _is_possible(epoch):
            return epoch
    except Exception:                                # a hostile or damaged file can raise anything
        pass
    line = f'  {path} is damaged or gone: the losses of epoch {number} are left out.'
    pickle_path = path.parents[1].with_name(samples.SAMPLES)
    return Epoch(torch.zeros(0, 4), _grid_in(pickle_path, number, n), lines=[line])


def _is_possible(epoch):
    """Say whether an epoch that was read holds what an epoch can hold."""
    return (epoch.grid.ndim == 4 and epoch.grid.shape[1] == 3
            and epoch.steps.ndim == 2 and epoch.steps.shape[1] == 4
            and epoch.steps.is_floating_point()
            and isinstance(epoch.lines, list) and all(isinstance(x, str) for x in epoch.lines)
            and all(_are_numbers(losses) for losses in epoch.losses)
            and len(epoch.distance) in (0, 2) and _are_numbers(epoch.distance)
            and all(map(math.isfinite, epoch.distance)))


def _are_numbers(values):
    return isinstance(values, list | tuple) and all(isinstance(x, int | float) for x in values)


def _grid_in(pickle_path, number, n):
    """Return one of the n grids in train_samples.pkl; None where it does not hold just these."""
    try:
        grids = samples.load_samples(pickle_path)
    except (OSError, ValueError):
        return None
    return grids[number - 1] if len(grids) == n else None


def epochs_inside(state):
    """Return the epochs of a checkpoint of the version before, which held all of them itself.

    Raises ValueError, or whatever damage leads to, where they are impossible ones.
    """
    pairs = zip(state['history'], state['samples'], strict=True)
    epochs = [Epoch(steps, grid) for steps, grid in pairs]
    epochs[-1].losses = state['losses']
    epochs[-1].lines = state['lines']
    for number, *measured in state.get('distances', ()):    # older runs have none
        epochs[number - 1].distance = measured
    if not all(map(_is_possible, epochs)):
        raise ValueError('an epoch in it is none')
    return epochs


# ----------------------------------------------------------------------------- torch's files, whole


def to_bytes(state):
    """Return what torch.save writes of a dict of tensors and plain values."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def write(path, data, keep=None):
    """Write bytes, whole or not at all; keep is as in files.write_atomically."""
    files.write_atomically(path, lambda file: file.write(data), keep)


def read(path):
    """Read one file. Checksums are compared, and no part may be larger than the file itself."""
    return files.load_safely(path)


# ------------------------------------------------------------------------------- the growing pickle


class GrowingPickle:
    """train_samples.pkl as a run writes it: whole at first, and then longer by a grid an epoch.

    To whoever opens it, the file is one pickled list at any time. A new grid is written behind the
    old end, where no reader looks. Once it is on the disk, a single byte changes: the step STOP of
    the old end becomes DUP, which does no harm, and readers go on to the new one.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.n_grids = 0
        self.as_left = None          # what the file system says of the file as this run left it

    def write(self, grids):
        """Make the file hold these grids: add the last one if it holds just the others."""
        if self.n_grids == len(grids) - 1 and self.as_left and self.as_left == self._looks():
            self._add(grids[-1])
        else:
            samples.save_samples(grids, self.path)
        self.n_grids = len(grids)
        self.as_left = self._looks()

    def _add(self, grid):
        # Protocol 3: a later one would number its memo on from the grids before. Without PROTO at
        # the start and STOP at the end it is the program of a grid alone.
        program = pickle.dumps(grid, protocol=3)[2:-1]
        with open(self.path, 'r+b') as file:
            end = file.seek(0, os.SEEK_END)
            file.write(program + pickle.APPEND + pickle.STOP)
            file.flush()
            os.fsync(file.fileno())
            file.seek(end - 1)
            file.write(pickle.DUP)
            file.flush()
            os.fsync(file.fileno())

    def _looks(self):
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns
