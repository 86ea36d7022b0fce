"""The progress of a training run on disk: written every epoch, read, resumed, set aside.

A run leaves these files. Each is written whole or not at all.

checkpoints_gan/latest.pt     networks, optimizers, random state and progress after the last epoch
checkpoints_gan/previous.pt   the same, one epoch earlier, in case the latest is damaged
checkpoints_gan/best.pt       the same, at the epoch whose faces came nearest to real ones
checkpoints_gan/losses.npz    the losses of every batch, and the distances
train_samples.pkl             the contract's pickle: a grid of faces for each epoch
"""
import io
import itertools
import os
import random
import zipfile
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import torch

from . import files, samples

CHECKPOINTS = 'checkpoints_gan'
MAY_CHANGE = ('n_epochs', 'print_every', 'resume', 'rescue', 'distance_every')   # when resuming


@dataclass
class Progress:
    """All of a run that is neither network nor optimizer."""
    config: dict                     # plain values that describe the run
    fixed_z: torch.Tensor            # (16, z_size), the noise of every grid
    epoch: int = 0                   # finished ones
    n_steps: int = 0
    images_seen: int = 0
    seconds: float = 0.0             # of training, in finished epochs
    losses: list = field(default_factory=list)      # (d_loss, g_loss) every print_every batches
    samples: list = field(default_factory=list)     # a grid (16, 3, s, s) for each epoch
    lines: list = field(default_factory=list)       # printed at the end of epochs
    history: list = field(default_factory=list)     # for each epoch (n_steps, 4): d_loss, g_loss,
                                                    # D(x) and D(G(z)) of each step
    distances: list = field(default_factory=list)   # [epoch, distance, seconds it took]
    rescued: bool = False            # whether numbers went bad once and the run went back an epoch

    def state(self):
        """Return the fields as a dict, for a checkpoint."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def restore(self, state):
        """Take up the fields of a checkpoint; the configuration stays today's."""
        for each in fields(self):
            if each.name != 'config':
                setattr(self, each.name, state[each.name])

    def is_best(self):
        """Say whether the epoch just finished has the lowest distance so far."""
        if not self.distances:
            return False
        best_epoch, _, _ = min(self.distances, key=lambda measured: measured[1])
        return best_epoch == self.epoch

    def figures(self):
        """Return what losses.npz holds: a dict of arrays; see load_history."""
        names = 'd_loss', 'g_loss', 'd_real', 'd_fake'
        figures = dict(zip(names, torch.cat(self.history).T.numpy(), strict=True))
        figures['per_epoch'] = [len(steps) for steps in self.history]
        figures['distances'] = np.array(self.distances, np.float64).reshape(-1, 3)
        return figures


def random_state():
    """Return the state of every random generator in use, as plain values and tensors."""
    kind, keys, *rest = np.random.get_state()
    state = dict(torch=torch.get_rng_state(), cuda=[], python=random.getstate())
    state['numpy'] = [kind, keys.tolist(), *rest]
    if torch.cuda.is_available():
        state['cuda'] = [torch.cuda.get_rng_state()]     # under torchrun the same on all ranks
    return state


def set_random_state(state):
    """Put every random generator back to where random_state() saw it."""
    torch.set_rng_state(state['torch'])
    if state['cuda'] and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'][0])
    random.setstate(state['python'])
    np.random.set_state(tuple(state['numpy']))


class Checkpoints:
    """The files of one run: found at its start, written after each of its epochs.

    parts     dict of whatever has a state_dict(): networks and optimizers
    progress  the run's Progress
    folder    of the checkpoints
    """

    def __init__(self, parts, progress, folder=CHECKPOINTS):
        self.parts = parts
        self.progress = progress
        self.folder = Path(folder)
        self.saved = 0               # the last epoch that is on disk
        self.behind = False          # whether the disk has not taken a later one

    # ------------------------------------------------------------------------------ at the start

    def resume_or_set_aside(self, resume):
        """Take up the run that is in the folder, or move another one out of the way; say which.

        Raises ValueError where resume is True and there are only damaged checkpoints.
        """
        if not any(self.folder.glob('*.pt')) and not Path(samples.SAMPLES).exists():
            return
        why = self._take_up() if resume else 'resume is off'
        if why:
            aside = set_aside(self.folder)
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
        if not any(self.folder.glob('*.pt')):
            return f'{samples.SAMPLES} came without a checkpoint'
        state, path = _read_first_whole(self.folder, ('latest', 'previous'))
        changed = _differences(self.progress.config, state['config'])
        if changed:
            return 'it differs in ' + ', '.join(changed)
        if path.name == 'previous.pt':
            os.replace(path, self.folder / 'latest.pt')
        self.restore(state)
        self.saved = self.progress.epoch
        return ''

    def _mend(self):
        """Write again what a crash between two files may have left behind latest.pt."""
        if self.progress.is_best():
            data = _to_bytes(self.state())
            files.write_atomically(self.folder / 'best.pt', lambda file: file.write(data))
        self._write_figures()

    def join(self):
        """Take up what rank 0 has found, on another rank."""
        self.restore(load_checkpoint(self.folder))
        self.saved = self.progress.epoch

    # --------------------------------------------------------------------- state in memory

    def state(self):
        """Return all of the run: what a checkpoint holds."""
        state = {name: part.state_dict() for name, part in self.parts.items()}
        return state | self.progress.state() | dict(random_state=random_state())

    def restore(self, state):
        """Put parts, progress and the random generators to where state() saw them."""
        self.progress.restore(state)
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        set_random_state(state['random_state'])

    def copy(self):
        """Return the bytes of a copy of the run, but for the grids, which are never taken back."""
        return _to_bytes(self.state() | dict(samples=None))

    def go_back(self, copy):
        """Restore the run that copy() kept."""
        state = files.load_safely(io.BytesIO(copy))
        self.restore(state | dict(samples=self.progress.samples))

    # ----------------------------------------------------------------------------- on disk

    def save(self, say):
        """Write all files; where the disk does not take them, say so, for training goes on."""
        try:
            self._write_checkpoints()
            self._write_figures()
        except OSError as error:
            self.behind = True
            say(f'  NOT SAVED: {error}. Training goes on, and the next epoch is saved again.')
            return
        if self.behind:
            say('  Saved again, with all that could not be saved before.')
        self.behind = False
        self.saved = self.progress.epoch

    def _write_checkpoints(self):
        """Write latest.pt, whose old one becomes previous.pt, and best.pt if this is the best."""
        self.folder.mkdir(exist_ok=True)
        data = _to_bytes(self.state())
        previous = self.folder / 'previous.pt'
        files.write_atomically(self.folder / 'latest.pt', lambda file: file.write(data), previous)
        if self.progress.is_best():
            files.write_atomically(self.folder / 'best.pt', lambda file: file.write(data))

    def _write_figures(self):
        figures = self.progress.figures()
        path = self.folder / 'losses.npz'
        files.write_atomically(path, lambda file: np.savez(file, **figures))
        samples.save_samples(self.progress.samples)


def _to_bytes(state):
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def _differences(config, earlier):
    """Return the sorted names of what differs, but for what may change in a resumed run."""
    missing = object()
    changed = []
    for name in sorted({*config, *earlier} - set(MAY_CHANGE)):
        if config.get(name, missing) != earlier.get(name, missing):
            changed.append(name)
    return changed


def set_aside(folder):
    """Move an earlier run to folder-1, -2, ... with its samples, and return where it is now."""
    folder = Path(folder)
    numbered = (Path(f'{folder}-{number}') for number in itertools.count(1))
    aside = next(path for path in numbered if not path.exists())
    if folder.exists():
        os.rename(folder, aside)
    aside.mkdir(exist_ok=True)
    if Path(samples.SAMPLES).exists():
        os.rename(samples.SAMPLES, aside / samples.SAMPLES)
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
    """Read one checkpoint: checksums first, and no part may be larger than the file itself."""
    with zipfile.ZipFile(path) as archive:
        size = sum(part.file_size for part in archive.infolist())
        if archive.testzip() or size > path.stat().st_size:
            raise zipfile.BadZipFile('a checksum or a size is wrong')
    state = files.load_safely(path)
    state.setdefault('distances', [])                # runs from before there were distances
    missing = {each.name for each in fields(Progress)} - set(state)
    if missing:
        raise KeyError(f'no {", ".join(sorted(missing))} in it')
    return state


def load_history(folder=CHECKPOINTS):
    """Read the figures of a run: a dict of arrays.

    d_loss, g_loss, d_real, d_fake  float32, one number for each batch
    per_epoch  batches in each epoch
    distances  (n, 3): epoch, distance to real faces, seconds that measuring it took
    Raises FileNotFoundError where there is no run.
    """
    path = Path(folder) / 'losses.npz'
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist: train for at least one epoch first')
    with np.load(path) as arrays:
        return dict(arrays)
