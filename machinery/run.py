"""A training run: it counts, prints and saves, and goes on where it stopped.

checkpoints_gan/epochs/0001.pt   of each epoch: the figures of its steps, grid, losses, lines
checkpoints_gan/best.pt          the run at the epoch whose faces came nearest to real ones
checkpoints_gan/previous.pt      what latest.pt was an epoch earlier
checkpoints_gan/latest.pt        networks, optimizers, random state and counters. Written last: what
                                 is not in it has not happened, and is written anew
checkpoints_gan/losses.npz       all figures and distances for NumPy, written at the end
train_samples.pkl                the contract's pickle, a grid of faces for each epoch: written
                                 whole now and then, and at the end
"""
import dataclasses
import itertools
import math
import os
import sys
import time
from pathlib import Path

import filelock
import numpy as np
import torch
from tqdm import tqdm

from . import console, files, identity, metric
from .devices import broadcast, random_state, set_random_state, world
from .identity import groups_among, optimizers_among
from .pictures import LiveView

CHECKPOINTS = 'checkpoints_gan'
DRIVE = '/content/drive/MyDrive'     # of Google, where a Colab notebook has mounted it
N_JUDGED = 2000      # generated images that the distance is asked of
YOUNG = 1000         # steps before which no warning is given
SATURATED = 0.97     # D(x) - D(G(z)) from which D tells real from fake almost every time
ASTRAY = 3           # times its best distance: healthy runs came to 1.2, one gone astray to 14
COLLAPSED = 0.05     # spread of a grid's pixels under which its faces are one and the same
NEEDED = {'D', 'G', 'G_average', 'config', 'random_state', 'fixed_z', 'epoch', 'rescued'}


@dataclasses.dataclass
class Epoch:
    """What is kept of an epoch."""
    steps: list | torch.Tensor = dataclasses.field(default_factory=list)   # (n, 4) in the end
    grid: torch.Tensor | None = None        # (16, 3, s, s) in [-1, 1]
    losses: list = dataclasses.field(default_factory=list)     # pairs, every print_every batches
    lines: list = dataclasses.field(default_factory=list)      # printed in it and at its end
    distance: list = dataclasses.field(default_factory=list)   # [distance, seconds], if measured
    answers: list = dataclasses.field(default_factory=list)    # then too: see metric.answers


class Run:
    """A training run. Within a with-block it owns its folder, and goes on with the run found there.

    parts     dict of what has a state_dict(): D, G, G_average and the optimizers
    loader    gives the batches of an epoch
    fixed_z   (16, z_size), the noise of the grids
    config    dict of plain values: the parameters. It is held against what was really made, and
              kept in every checkpoint. resume: go on from run_folder where it holds this very run;
              another run found there is moved aside, never overwritten. rescue: what the learning
              rates are multiplied by, once in a run: where numbers are no longer finite, and it
              goes back an epoch; or where the distance stays above ASTRAY times its best one, and
              it goes back to that epoch. 0: it never goes back
    draw      gives images (n, 3, s, s) in [-1, 1] for noise (n, z_size)
    distance  a function from images to a number, lower being better; None: it is not measured
    """

    def __init__(self, parts, loader, fixed_z, config, draw, distance=None, print_every=50):
        console.check_whole(print_every=print_every)
        identity.check_optimizers(parts)
        self.parts = parts
        self.loader = loader
        self.fixed_z = fixed_z
        self.config = identity.as_made(config, parts, loader, z_size=fixed_z.shape[1])
        self.draw = draw
        self.distance = distance
        self.print_every = print_every
        self.counts = dict(epoch=0, n_steps=0, images_seen=0, seconds=0.0, rescued=False)
        self.epochs_done = []
        self.now = Epoch()
        self.n_epochs = 0            # of the loop, once it has begun
        self.saved = 0               # the last epoch that is on disk
        self.n_in_samples = 0        # grids in the pickle
        self.folder = Path(config['run_folder'], CHECKPOINTS)
        self.samples = self.folder.with_name(files.SAMPLES)
        self.rank, _ = world()
        self.view = LiveView(config['live_view'])
        self.bar = None

    n_steps = property(lambda self: self.counts['n_steps'])

    @property
    def losses(self):
        """All (d_loss, g_loss) that were printed."""
        return [pair for epoch in (*self.epochs_done, self.now) for pair in epoch.losses]

    # ------------------------------------------------------------------------ what the loop calls

    def epochs(self, n_epochs):
        """Yield the number of each epoch still to run; one whose numbers went bad comes again."""
        self.n_epochs = n_epochs
        self.view.show(self)
        done = self.counts['epoch']
        if done >= n_epochs:
            self.say(f'All {done} epochs are done; to train further, raise n_epochs above that. '
                     f'For a new run, set resume = False or another run_folder.')
            return
        if done == 0 and self.config['start'] and self.distance:
            before, _ = self._measure()
            if before:
                self._say_and_keep(f'Before this training, the pair in {self.config["start"]} '
                                   f'comes to FFD {before[0]:.2f}.')
        n_batches = (n_epochs - done) * len(self.loader)
        self.bar = console.progress_bar(n_batches, ' batches', desc='Training')
        while self.counts['epoch'] < n_epochs:
            self.started = time.perf_counter()
            yield self.counts['epoch'] + 1

    def batches(self):
        """Yield each batch of images, moving the progress bar; stop early where numbers went bad.

        Raises ValueError for a loader that gives no batch.
        """
        for images in self.loader:
            yield images
            self.counts['images_seen'] += len(images)
            self.bar.update()
            if self.view.is_due():
                self.view.show(self)
            # Looking at the numbers waits for the device, so it is done every hundredth time.
            if self.n_steps % 100 == 0 and not self.now.steps[-1].isfinite().all():
                return
        if not self.now.steps:
            raise ValueError('The loader gave no batch: has it fewer images than batch_size, or '
                             'than processes?')

    def log(self, figures):
        """Keep the figures (4,) of a step, on the device; print its losses every print_every steps.
        """
        if len(self.now.steps) % self.print_every == 0:
            d_loss, g_loss = figures[:2].tolist()            # waits for the device
            self.now.losses.append((d_loss, g_loss))
            self.say(f'Epoch [{self.counts["epoch"] + 1:5d}/{self.n_epochs:5d}] | '
                     f'd_loss: {d_loss:6.4f} | g_loss: {g_loss:6.4f}')
        self.now.steps.append(figures.detach())
        self.counts['n_steps'] += 1

    def end_epoch(self):
        """Draw the grid, measure the distance, print the epoch's line and save; or go back."""
        now, counts = self.now, self.counts
        now.grid = self.draw(self.fixed_z)
        now.steps = torch.stack(now.steps).float().cpu()     # the epoch's only wait for the device
        networks = [part for part in self.parts.values() if isinstance(part, torch.nn.Module)]
        weights = [value for network in networks for value in network.state_dict().values()]
        if not all(values.isfinite().all() for values in (now.steps, now.grid, *weights)):
            self._go_back()
            return
        counts['epoch'] += 1
        counts['seconds'] += time.perf_counter() - self.started
        self.epochs_done.append(now)
        try:
            is_due = counts['epoch'] % self.config['distance_every'] == 0
            if self.distance and (is_due or counts['epoch'] == self.n_epochs):
                now.distance, now.answers = self._measure()
        finally:                     # the epoch is trained, however its measuring ended
            self._say_and_keep(epoch_line(self))
            for warning in warnings(self):
                self._say_and_keep(warning)
            self._come_back()
            self.now = Epoch()
            if self.rank == 0:
                self._save_or_say(self._save)
            self.saved = broadcast(self.saved)               # the others wait for the files

    def say(self, line):
        """Print a line above the progress bar."""
        tqdm.write(line, file=sys.stdout)

    def _say_and_keep(self, line):
        """Print a line, and keep it with its epoch, to be shown again when the run goes on."""
        self.say(line)
        self.now.lines.append(line)

    def _measure(self):
        """Return [distance of new images, seconds it took], and D's answers; [] if not finite.

        They are made from the same noise each time. A loader from elsewhere holds nothing out, and
        D is asked nothing.
        """
        started = time.perf_counter()
        same = torch.Generator().manual_seed(0)
        z = torch.randn(N_JUDGED, self.fixed_z.shape[1], generator=same)
        fakes = self.draw(z)
        value = broadcast(float(self.distance(fakes)))       # all processes go on alike
        measured = [value, time.perf_counter() - started] if math.isfinite(value) else []
        faces = identity.images_of(self.loader)
        if faces is None:
            return measured, []
        return measured, metric.answers(self.parts['D'], faces.images, faces.held_out, fakes)

    # ------------------------------------------------------------------------------ begin and end

    def __enter__(self):
        """Own the folder, and take up the run that is in it or move it aside.

        Raises RuntimeError where another process trains there, OSError where nothing can be
        written, ValueError where the run to go on with is damaged.
        """
        if self.rank == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock = own(self.folder)
            try:
                self._take_up()
            except BaseException:
                self.lock.release()
                raise
        broadcast(None)                          # the others wait for the files
        if self.rank > 0:
            self._load(*first_whole(self.folder))
        return self

    def _take_up(self):
        """Go on with the run in the folder; or move another one aside, and begin."""
        there = any(self.folder.rglob('*.pt')) or self.samples.exists()
        why, checkpoint = self._compare() if there else ('that is not there', ())
        if why and are_trained(self.parts):
            raise ValueError(f'D and G are trained already, and this is another run than the one '
                             f'in {self.folder}/ ({why}): for new networks, run the notebook from '
                             f'the cell with build_network on.')
        if not why:
            self._load(*checkpoint)
            for line in itertools.chain(*(epoch.lines for epoch in self.epochs_done)):
                print(line)
            print(f'Continuing {self.folder}/ after epoch {self.counts["epoch"]} '
                  f'({self.counts["images_seen"]:,} images seen).')
            return
        if there:
            print(f'An earlier run is kept in {set_aside(self.folder)}/ ({why}); this one starts '
                  f'at epoch 1.')
        self._save()
        first_whole(self.folder)             # what cannot be read again is told now

    def _compare(self):
        """Return (why what is in the folder is another run, ()); or ('', its checkpoint)."""
        if not self.config['resume']:
            return 'resume is off', ()
        try:
            state, path = first_whole(self.folder)
        except FileNotFoundError:
            return 'it came without a checkpoint to go on from', ()
        changed = identity.differences(self.config, state['config'], state['rescued'])
        if changed:
            return 'it differs in ' + ', '.join(changed), ()
        return '', (state, path)

    def __exit__(self, kind, error, trace):
        """End the run, and leave the folder to others; an interrupt ends here."""
        try:
            return self._end(error)
        finally:                     # also where a second interrupt ends the end
            if self.rank == 0:
                self.lock.release()

    def _end(self, error):
        """Write and say what the end asks for; return whether it was an interrupt."""
        if error is None or isinstance(error, KeyboardInterrupt):
            self.view.show(self)
        if self.bar is not None:
            self.bar.close()
        if self.rank == 0:
            self._save_or_say(self._write_end)
        if self.saved < self.counts['epoch']:
            print(f'NOT ON DISK: what came after epoch {self.saved}. Free some space and train '
                  f'again.')
        if isinstance(error, KeyboardInterrupt) and self.n_epochs:
            print(f'Interrupted. On disk: all up to the end of epoch {self.saved}. To go on, run '
                  f'this cell, or the same command, again, with resume = True.')
            return True
        if is_out_of_memory(error):
            raise MemoryError(f'Out of memory: halve batch_size, or img_size. All up to epoch '
                              f'{self.saved} is in {self.folder}/.') from error
        return False

    # --------------------------------------------------------------------------------- the files

    def _save(self):
        """Write all that belongs to the last epoch, and latest.pt last."""
        state = {name: part.state_dict() for name, part in self.parts.items()}
        state |= self.counts
        state |= dict(config=self.config, fixed_z=self.fixed_z, random_state=random_state())
        data = files.to_bytes(state)
        (self.folder / 'epochs').mkdir(parents=True, exist_ok=True)
        for number, epoch in enumerate(self.epochs_done, 1):
            path = epoch_path(self.folder, number)
            if number > self.saved or not path.exists():
                files.write_bytes(path, files.to_bytes(vars(epoch)))
        if is_best(self.epochs_done):
            files.write_bytes(self.folder / 'best.pt', data)
        files.write_bytes(self.folder / 'latest.pt', data, keep=self.folder / 'previous.pt')
        self.saved = self.counts['epoch']
        # The pickle is written whole, so only when a tenth more epochs have come.
        if 10 * (self.saved - self.n_in_samples) > self.n_in_samples:
            self._write_samples()

    def _write_samples(self):
        grids = [epoch.grid for epoch in self.epochs_done[:self.saved] if epoch.grid is not None]
        if grids:                    # a loop from elsewhere writes its own
            files.save_samples(grids, self.samples)
        self.n_in_samples = self.saved

    def _write_end(self):
        """Write what is for others to read, of the epochs that are on disk."""
        self._write_samples()
        if self.saved > 0:
            figures = figures_of(self.epochs_done[:self.saved])
            files.write_atomically(self.folder / 'losses.npz',
                                   lambda file: np.savez(file, **figures))

    def _save_or_say(self, save):
        """Call save(); where the disk does not take it, say so, for training goes on."""
        try:
            save()
        except OSError as error:
            self.say(f'  NOT SAVED: {error}. The next epoch is saved with all that is missing.')

    def _load(self, state, path):
        """Take up the run in the folder. A damaged latest.pt makes way for the good previous.pt."""
        if path.name == 'previous.pt' and self.rank == 0:
            os.replace(path, self.folder / 'latest.pt')
        self._load_parts(state)
        self.counts = {name: state[name] for name in self.counts}
        self.fixed_z = state['fixed_z']
        set_random_state(state['random_state'])
        self.saved = state['epoch']
        self.epochs_done = load_epochs(self.folder, self.saved)

    def _load_parts(self, state):
        for name, part in self.parts.items():
            part.load_state_dict(state[name])

    def _go_back(self):
        """Go back to the last epoch on disk, once, with lower learning rates.

        Raises FloatingPointError the second time, or where rescue is 0.
        """
        what = f'Epoch {self.counts["epoch"] + 1}: a loss or a weight is no longer finite'
        if self.counts['rescued'] or not self.config['rescue']:
            raise FloatingPointError(f'{what}. Epoch {self.saved} is kept in {self.folder}/. Try a '
                                     f'lower lr, or penalty = 0.1.')
        self._load(*first_whole(self.folder))
        self.now = Epoch()
        self._lower_rates(f'{what}: back to the end of epoch {self.saved}')

    def _come_back(self):
        """Take the networks of the best epoch, once, where the run has gone astray and stays there.

        The epochs go on, and nothing is trained again.
        """
        times = times_astray(self.epochs_done)
        if times == 0:
            return
        self._say_and_keep(f'  Warning: this distance is more than {ASTRAY} times the best one: '
                           f'the run has gone astray.')
        if times > 1 and self.config['rescue'] and not self.counts['rescued']:
            state, path = first_whole(self.folder, best=True)
            if path.name != 'best.pt':           # it is damaged or gone: nothing better is there
                return
            self._load_parts(state)
            self._lower_rates(f'It has not come back: on with the networks of epoch '
                              f'{state["epoch"]}')

    def _lower_rates(self, what):
        """Multiply the learning rates by rescue, and say after what; this happens once in a run."""
        self.counts['rescued'] = True
        for group in groups_among(self.parts):
            for name in {'lr', 'initial_lr'} & set(group):
                group[name] *= self.config['rescue']
        self._say_and_keep(f'  {what}, learning rates x {self.config["rescue"]}.')

    def adopt(self, epochs):
        """Keep the epochs of a loop from elsewhere."""
        self.epochs_done = epochs
        self.counts['epoch'] = len(epochs)
        self._save_or_say(self._save)


# ------------------------------------------------------------------------------- parts and figures


def are_trained(parts):
    """Say whether an optimizer has taken a step: then its network is no longer a new one."""
    return any(optimizer.state for optimizer in optimizers_among(parts))


def is_out_of_memory(error):
    """Tell by its type, or by its words: the CPU's allocator raises a plain RuntimeError."""
    said = 'DefaultCPUAllocator: ' in str(error)     # what follows differs with the system
    return said or isinstance(error, (MemoryError, torch.OutOfMemoryError))


# ----------------------------------------------------------------------- what is said of an epoch


def is_best(epochs):
    """Say whether the last of some epochs came nearer to real faces than all before it."""
    distances = [epoch.distance[0] if epoch.distance else math.inf for epoch in epochs]
    *before, last = math.inf, *distances
    return last < min(before, default=math.inf)


def times_astray(epochs):
    """Count the last measured epochs, this one among them, that lie far above the best one."""
    distances = [epoch.distance[0] for epoch in epochs if epoch.distance]
    if not epochs[-1].distance or min(distances) <= 0:       # one of one's own may be below 0
        return 0
    far = [distance > ASTRAY * min(distances) for distance in distances]
    return far[::-1].index(False)                            # the best one is not far


def warnings(run):
    """Yield a sentence where D has won, and one where G draws one and the same face."""
    if run.n_steps < YOUNG:
        return
    epoch = run.epochs_done[-1]
    _, _, d_real, d_fake = epoch.steps.mean(0).tolist()
    if d_real - d_fake > SATURATED:
        yield ('  Warning: D tells real from fake almost every time; '
               'G has little left to learn from.')
    if epoch.grid.std(0).mean() < COLLAPSED:
        yield '  Warning: the sixteen samples are nearly one and the same: G has collapsed.'


def epoch_line(run):
    """Return the line of figures of the epoch just finished."""
    counts, epoch = run.counts, run.epochs_done[-1]
    d_loss, g_loss, d_real, d_fake = epoch.steps.mean(0).tolist()
    column = ''
    if run.distance:
        column = f' FFD {epoch.distance[0]:5.2f} |' if epoch.distance else ' ' * 11 + '|'
    rate = counts['images_seen'] / counts['seconds']
    seconds_left = (run.n_epochs - counts['epoch']) * counts['seconds'] / counts['epoch']
    minutes, seconds = divmod(round(seconds_left), 60)
    return (f'epoch {counts["epoch"]:4d}/{run.n_epochs:4d} | d_loss {d_loss:6.3f} | '
            f'g_loss {g_loss:6.3f} | D(x) {d_real:.2f} | D(G(z)) {d_fake:.2f} |{column} '
            f'{rate:8,.0f} images/s | {minutes:3d}:{seconds:02d} left')


# ------------------------------------------------------------------------------ the folder of a run


def choose_run_folder(run_folder='.'):
    """Return the folder that a run's files go to, as text; make it if it does not exist.

    That is what DCGAN_RUN names, else run_folder; ~ stands for the home folder.
    Raises PermissionError, in one sentence, where it cannot be made.
    """
    folder = Path(console.setting('DCGAN_RUN', run_folder)).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PermissionError(f'Nothing of a run could be kept: {error}. Start Jupyter in a folder '
                              f'that you may write to, or name one as run_folder or in '
                              f'DCGAN_RUN.') from error
    if folder != Path('.'):
        print(f'The run is kept in {folder}/')
    drive = Path(DRIVE)
    if drive.is_dir() and drive.resolve() not in (folder.resolve() / 'x').parents:
        print(f'Colab deletes this folder when it ends the session. To keep the run, set '
              f'run_folder, or DCGAN_RUN, to a folder in {drive}/.')
    return str(folder)


def own(folder):
    """Own the folder of a run until the lock returned is released, or the process ends.

    A link is owned where it leads. On a file system without locks everybody owns everything.
    Raises RuntimeError where another run owns it.
    """
    lock = filelock.FileLock(f'{folder.resolve()}.lock', timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise RuntimeError(f'{folder}/ belongs to a run that is still going on. Interrupt that one '
                           f'or wait for its end, or train in another folder.') from None
    except (OSError, NotImplementedError):
        pass
    return lock


def set_aside(folder):
    """Move an earlier run to folder-1, -2, ... with its samples; return where it is now."""
    numbered = (Path(f'{folder}-{number}') for number in itertools.count(1))
    aside = next(path for path in numbered if not path.exists())
    os.rename(folder, aside)
    beside = folder.with_name(files.SAMPLES)
    if beside.exists():
        os.rename(beside, aside / files.SAMPLES)
    folder.mkdir()
    return aside


# ------------------------------------------------------------------------------- read from outside


def load_checkpoint(folder=CHECKPOINTS, best=False):
    """Read the latest checkpoint that is whole, on the CPU; a dict. Nothing in the file is run.

    best  True: the one with the lowest distance to real faces, where distances were measured
    Raises FileNotFoundError where there is none, or no finished epoch yet, ValueError where there
    are only damaged ones.
    """
    state, _ = first_whole(Path(folder), best)
    if state['epoch'] == 0:
        raise FileNotFoundError(f'{folder}/ holds no epoch yet: train for at least one first')
    return state


def first_whole(folder, best=False):
    """Return (state, path) of the first checkpoint that is whole; say which ones are not."""
    faults = []
    for name in ('best', 'latest', 'previous')[not best:]:
        path = folder / f'{name}.pt'
        try:
            state = files.load_safely(path)
            if not isinstance(state, dict) or NEEDED - set(state):
                raise ValueError(f'{path} lacks what a checkpoint has')
        except FileNotFoundError:
            continue
        except ValueError as error:
            faults.append(str(error))
            continue
        if faults:
            print(f'{faults[0]}: going on from {path}, epoch {state["epoch"]}')
        return state, path
    if faults:
        raise ValueError('; '.join(faults) + '. Train with resume = False: it is moved aside.')
    raise FileNotFoundError(f'{folder}/latest.pt does not exist: train first, or name the folder '
                            f'of a run')


def load_history(folder=CHECKPOINTS):
    """Read the figures of a run: a dict of arrays.

    d_loss, g_loss, d_real, d_fake  float32, one number for each batch
    per_epoch  batches in each epoch
    distances  (n, 3): epoch, distance to real faces, seconds that measuring it took
    answers    (n, 6): epoch, and the five figures of metric.answers, where faces were held out
    Raises FileNotFoundError where there is no run, or not yet an epoch of it.
    """
    return figures_of(load_epochs(folder, load_checkpoint(folder)['epoch']))


def figures_of(epochs):
    """Return what load_history gives of epochs: a dict of arrays."""
    steps = torch.cat([epoch.steps for epoch in epochs])
    arrays = dict(zip(('d_loss', 'g_loss', 'd_real', 'd_fake'), steps.T.numpy(), strict=True))
    arrays['per_epoch'] = np.array([len(epoch.steps) for epoch in epochs])
    for name, field, width in (('distances', 'distance', 3), ('answers', 'answers', 6)):
        rows = [[number, *getattr(epoch, field)] for number, epoch in enumerate(epochs, 1)
                if getattr(epoch, field)]
        arrays[name] = np.array(rows, np.float64).reshape(-1, width)
    return arrays


def epoch_path(folder, number):
    return Path(folder, 'epochs', f'{number:04d}.pt')


def load_epochs(folder, n_epochs):
    """Read the first epochs; one whose file is damaged or gone has no figures, and says so."""
    epochs = []
    for path in (epoch_path(folder, number) for number in range(1, n_epochs + 1)):
        try:
            epochs.append(Epoch(**files.load_safely(path)))
        except (OSError, TypeError, ValueError):
            line = f'  {path} is damaged or gone: its figures and its grid are left out.'
            epochs.append(Epoch(torch.zeros(0, 4), lines=[line]))
    return epochs
