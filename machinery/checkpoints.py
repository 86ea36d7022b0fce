"""The progress of a training run on disk: written every epoch, read, resumed, set aside.

A run leaves these files in its folder, which the parameter run_folder names. Each is written whole
or not at all; what a save writes does not grow.

checkpoints_gan/latest.pt     networks, optimizers, random state and counters after the last epoch
checkpoints_gan/previous.pt   the same, one epoch earlier, in case the latest is damaged
checkpoints_gan/best.pt       the same, at the epoch whose faces came nearest to real ones
checkpoints_gan/epochs/       for each epoch the losses of every batch, the distance, and the grid
checkpoints_gan/losses.npz    all losses and distances for NumPy, written when train returns
checkpoints_gan/lock          which process trains here, if any does
train_samples.pkl             the contract's pickle: a grid of faces for each epoch
"""
import io
import itertools
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from . import epochs, files, identity, samples
from .devices import random_state, set_random_state
from .lock import Lock

CHECKPOINTS = 'checkpoints_gan'
FORMAT = 2                       # the version before had no such key, and no files of epochs
NETWORKS = 'D', 'G', 'G_average'
OPTIMIZERS = 'd_optimizer', 'g_optimizer'        # a loop from elsewhere may leave none
COUNTERS = 'fixed_z', 'epoch', 'n_steps', 'images_seen', 'seconds', 'rescued'


@dataclass
class Progress:
    """All of a run that is neither network nor optimizer."""
    config: dict                     # plain values that describe the run
    fixed_z: torch.Tensor            # (16, z_size), the noise of every grid
    epoch: int = 0                   # finished ones
    n_steps: int = 0
    images_seen: int = 0
    seconds: float = 0.0             # of training, in finished epochs
    rescued: bool = False            # whether numbers went bad once and the run went back an epoch
    epochs: list = field(default_factory=list)      # an Epoch for each finished one
    losses: list = field(default_factory=list)      # (d_loss, g_loss) every print_every batches
    lines: list = field(default_factory=list)       # printed at the end of epochs
    n_losses: int = 0                # how many of them are in finished epochs
    n_lines: int = 0

    @property
    def samples(self):
        """The grids (16, 3, s, s) of all epochs."""
        return [epoch.grid for epoch in self.epochs if epoch.grid is not None]

    @property
    def history(self):
        """For each epoch (n_steps, 4): d_loss, g_loss, D(x) and D(G(z)) of each step."""
        return [epoch.steps for epoch in self.epochs]

    @property
    def distances(self):
        """[epoch, distance, seconds it took] for each epoch whose distance was measured."""
        return epochs.distances(self.epochs)

    def finish_epoch(self):
        """Let the last epoch keep what was printed since the one before it."""
        last = self.epochs[-1]
        last.losses = self.losses[self.n_losses:]
        last.lines = self.lines[self.n_lines:]
        self.n_losses, self.n_lines = len(self.losses), len(self.lines)

    def state(self):
        """Return what a checkpoint keeps of it, as a dict: epochs have files of their own."""
        counters = {name: getattr(self, name) for name in COUNTERS}
        return counters | dict(config=self.config, format=FORMAT)

    def restore(self, state):
        """Take up the counters of a checkpoint; losses after its last epoch are forgotten."""
        for name in COUNTERS:
            setattr(self, name, state[name])
        del self.losses[self.n_losses:]

    def take_up(self, finished):
        """Take up finished epochs that were read."""
        self.epochs = finished
        self.losses = [losses for epoch in finished for losses in epoch.losses]
        self.lines = [line for epoch in finished for line in epoch.lines]
        self.n_losses, self.n_lines = len(self.losses), len(self.lines)

    def is_best(self):
        """Say whether the epoch just finished has the lowest distance so far."""
        if not self.distances:
            return False
        best_epoch, _, _ = min(self.distances, key=lambda measured: measured[1])
        return best_epoch == self.epoch


class Checkpoints:
    """The files of one run: found at its start, written after each of its epochs.

    parts     dict of whatever has a state_dict(): networks and optimizers
    progress  the run's Progress; run_folder in its config says where the files are

    The pickle lies beside the folder of the checkpoints.
    """

    def __init__(self, parts, progress):
        self.parts = parts
        self.progress = progress
        self.folder = Path(progress.config.get('run_folder', '.'), CHECKPOINTS)
        self.lock = Lock(self.folder / 'lock')
        self.pickle = epochs.GrowingPickle(self.folder.with_name(samples.SAMPLES))
        self.kept = b''              # the run at the end of its last epoch: what latest.pt holds
        self.saved = 0               # the last epoch that is on disk
        self.best = None             # the best epoch, where it is not on disk yet
        self.behind = False          # whether the disk has not taken a later one

    # ------------------------------------------------------------------------------ at the start

    def resume_or_set_aside(self, resume):
        """Take up the run that is in the folder, or move another one out of the way; say which.

        Raises ValueError where resume is True and there are only damaged checkpoints, and where a
        new run would begin with networks that are trained already.
        """
        there = any(self.folder.rglob('*.pt')) or self.pickle.path.exists()
        if not there:
            why = 'that is not there'
        else:
            why = self._take_up() if resume else 'resume is off'
        if why and identity.are_trained(self.parts):
            raise ValueError(f'D and G are trained already, and this is another run than the one '
                             f'in {self.folder}/ ({why}): for new networks, run the notebook from '
                             f'the cell with build_network on.')
        if not there:
            return
        if why:
            aside = set_aside(self.folder)
            self.lock.take()
            print(f'An earlier run is kept in {aside}/ ({why}); this one starts at epoch 1.')
            return
        print('\n'.join(self.progress.lines))
        print(f'Continuing {self.folder}/ after epoch {self.progress.epoch} '
              f'({self.progress.images_seen:,} images seen).')
        try:
            self._mend()
        except OSError as error:
            print(f'  NOT SAVED: {error}. Training goes on, and the next epoch is saved again.')

    def _take_up(self):
        """Restore the run in the folder; return why not, if it is none or another one.

        A damaged latest.pt makes way for the good previous.pt here, in one rename, so that no later
        write can put the damaged file in the good one's place.
        """
        names = 'latest', 'previous'
        if not any((self.folder / f'{name}.pt').exists() for name in names):
            return 'it came without a checkpoint to go on from'
        state, path = _read_first_whole(self.folder, names)
        changed = identity.differences(self.progress.config, state['config'])
        changed += identity.unlike(self.parts, state)
        if changed:
            return 'it differs in ' + ', '.join(changed)
        if path.name == 'previous.pt':
            os.replace(path, self.folder / 'latest.pt')
        self._restore_all(state)
        return ''

    def _mend(self):
        """Write again what a crash between two files may have left behind latest.pt."""
        epochs.remove_after(self.folder, self.progress.epoch)
        epochs.write_missing(self.folder, self.progress.epochs)
        if self.progress.is_best():
            self.keep()
            self.best = self.kept
            self._write_best()
        self.pickle.write(self.progress.samples)

    def join(self):
        """Take up what rank 0 has found, on another rank."""
        self._restore_all(load_checkpoint(self.folder))

    def _restore_all(self, state):
        if 'format' in state:
            finished = epochs.read_epochs(self.folder, state['epoch'])
        else:
            finished = epochs.epochs_inside(state)
        self.progress.take_up(finished)
        self._restore(state)
        self.saved = self.progress.epoch

    # ------------------------------------------------------------------------------ in memory

    def keep(self):
        """Keep a copy of the run as it is now, at the end of an epoch."""
        state = {name: part.state_dict() for name, part in self.parts.items()}
        state |= self.progress.state()
        state |= dict(classes=identity.classes(self.parts), random_state=random_state())
        self.kept = epochs.to_bytes(state)

    def check_kept(self):
        """Raise ValueError, in one sentence, where what is kept could not be read again."""
        try:
            files.load_safely(io.BytesIO(self.kept))
        except ValueError as error:
            raise ValueError(f'config holds what no checkpoint can keep: {error}') from error

    def go_back(self):
        """Put the run back to where it was when it was kept."""
        self._restore(files.load_safely(io.BytesIO(self.kept)))

    def _restore(self, state):
        self.progress.restore(state)
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        set_random_state(state['random_state'])

    # ----------------------------------------------------------------------------- on disk

    def save(self, say):
        """Write what was kept; where the disk does not take it, say so, for training goes on.

        Raises RuntimeError where the folder has become that of another run.
        """
        if self.progress.is_best():
            self.best = self.kept
        try:
            self.lock.take()
            self._write()
        except OSError as error:
            self.behind = True
            say(f'  NOT SAVED: {error}. Training goes on, and the next epoch is saved again.')
            return
        if self.behind:
            say('  Saved again, with all that could not be saved before.')
        self.behind = False
        self.saved = self.progress.epoch

    def _write(self):
        """Write latest.pt, whose old one becomes previous.pt, and what belongs to it.

        The files of epochs come first: a checkpoint finds all epochs that it counts.
        """
        epochs.write_missing(self.folder, self.progress.epochs)
        epochs.write(self.folder / 'latest.pt', self.kept, keep=self.folder / 'previous.pt')
        self._write_best()
        self.pickle.write(self.progress.samples)

    def _write_best(self):
        """Write best.pt, also that of an earlier epoch, where the disk has not taken it yet."""
        if self.best:
            epochs.write(self.folder / 'best.pt', self.best)
            self.best = None

    def write_figures(self):
        """Write losses.npz: the figures of all epochs that are on disk."""
        if self.saved == 0 or self.behind or not self.lock.is_held():
            return
        figures = epochs.figures(self.progress.epochs[:self.saved])
        path = self.folder / 'losses.npz'
        try:
            files.write_atomically(path, lambda file: np.savez(file, **figures))
        except OSError as error:
            print(f'  NOT SAVED: {error}. Its figures are in {self.folder}/epochs/ as well.')


def set_aside(folder):
    """Move an earlier run to folder-1, -2, ... with its samples, and return where it is now."""
    folder = Path(folder)
    numbered = (Path(f'{folder}-{number}') for number in itertools.count(1))
    aside = next(path for path in numbered if not path.exists())
    if folder.exists():
        os.rename(folder, aside)
    aside.mkdir(exist_ok=True)
    beside = folder.with_name(samples.SAMPLES)
    if beside.exists():
        os.rename(beside, aside / samples.SAMPLES)
    return aside


def load_checkpoint(folder=CHECKPOINTS, best=False):
    """Read the latest checkpoint that is whole, on the CPU; a dict. Nothing in the file is run.

    best  True: the one with the lowest distance to real faces, where distances were measured
    Raises FileNotFoundError where there is none, ValueError where there are only damaged ones.
    """
    names = ('best', 'latest', 'previous') if best else ('latest', 'previous')
    state, _ = _read_first_whole(folder, names)
    return state


def _read_first_whole(folder, names):
    """Return (state, path) of the first checkpoint that is whole."""
    faults = []
    for name in names:
        path = Path(folder) / f'{name}.pt'
        try:
            state = _read(path)
        except FileNotFoundError:
            continue
        except Exception as error:                   # a hostile or damaged file can raise anything
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            faults.append(f'{path} is damaged or no checkpoint of this notebook ({reason:.150})')
            continue
        if faults:
            print(f'{faults[0]}: going on from {path}, epoch {state["epoch"]}')
        return state, path
    if faults:
        raise ValueError('; '.join(faults) + '. Train with resume = False: it is moved aside.')
    latest = Path(folder) / 'latest.pt'
    raise FileNotFoundError(f'{latest} does not exist: train first, or name the folder of a run')


def _read(path):
    """Read one checkpoint, of this version or an earlier one."""
    state = epochs.read(path)
    missing = {'config', 'random_state', *NETWORKS, *COUNTERS} - set(state)
    if missing:
        raise KeyError(f'no {", ".join(sorted(missing))} in it')
    _check(state)
    return state


def _check(state):
    """Raise ValueError for values that no run can have: the file counts as damaged then."""
    for name in ('config', 'random_state', 'classes', *NETWORKS, *OPTIMIZERS):
        if not isinstance(state.get(name, {}), dict):
            raise ValueError(f'{name} is no dict')
    if not isinstance(state['config'].get('code', {}), dict):
        raise ValueError('code is no dict')
    for name in ('epoch', 'n_steps', 'images_seen'):
        if not isinstance(state[name], int) or not 0 <= state[name] < 2 ** 40:
            raise ValueError(f'{name} is {state[name]!r:.50}')
    if not 0 < state['epoch'] <= samples.MOST_EPOCHS:
        raise ValueError(f'epoch is {state["epoch"]}')
    if not isinstance(state['seconds'], float) or not 0 <= state['seconds'] < math.inf:
        raise ValueError(f'seconds is {state["seconds"]!r:.50}')
    if not torch.is_tensor(state['fixed_z']) or state['fixed_z'].ndim != 2:
        raise ValueError('fixed_z is no noise')
    if 'format' not in state:
        epochs.epochs_inside(state)


def load_history(folder=CHECKPOINTS):
    """Read the figures of a run: a dict of arrays.

    d_loss, g_loss, d_real, d_fake  float32, one number for each batch
    per_epoch  batches in each epoch
    distances  (n, 3): epoch, distance to real faces, seconds that measuring it took
    Raises FileNotFoundError where there is no run.
    """
    n_epochs = len(list(Path(folder).glob('epochs/*.pt')))
    if n_epochs > 0:
        return epochs.figures(epochs.read_epochs(folder, n_epochs))
    path = Path(folder) / 'losses.npz'               # all that a run of the version before has
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist: train for at least one epoch first')
    with np.load(path) as arrays:
        return dict(arrays)
