"""The record of a training run, from which it goes on after an interruption, a crash or numbers gone bad."""
import io
import itertools
import math
import operator
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from . import files
from .notebook import progress_bar
from .processes import shared, world
from .speed import Feed

SATURATED, COLLAPSED, YOUNG = .97, .05, 1000         # D(x) - D(G(z)); spread of the grid's pixels; steps before that


def random_state():
    """The state of every random generator in use, as plain values and tensors."""
    kind, keys, *rest = np.random.get_state()
    cuda = [torch.cuda.get_rng_state()] if torch.cuda.is_available() else []     # under torchrun all ranks have the same
    return dict(torch=torch.get_rng_state(), cuda=cuda, python=random.getstate(), numpy=[kind, keys.tolist(), *rest])


def set_random_state(state):
    """Put every random generator back to where random_state() saw it."""
    torch.set_rng_state(state['torch'])
    if state['cuda'] and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'][0])
    random.setstate(state['python'])
    np.random.set_state(tuple(state['numpy']))


class Run:
    """The record of a training run: where it is, what it printed, its losses and its samples; saved every epoch.

    parts   dict of whatever has a state_dict(): networks and optimizers
    config  dict of plain values that describe the run; only MAY_CHANGE may differ when it is resumed
    resume  True: go on from checkpoints_gan/ where that holds this very run. Another run found there is set aside
            (renamed), never deleted or overwritten
    rescue  when losses or weights are no longer finite: go back one epoch, once, with learning rates times this;
            0: stop at once
    distance  a FaceDistance, or any function from images to a number, lower being better: it is asked every
              distance_every epochs, of N_JUDGED images; the best epoch is kept as best.pt. None: not asked
    """

    MAY_CHANGE = 'n_epochs', 'print_every', 'resume', 'rescue', 'distance_every'
    N_JUDGED = 2000

    def __init__(self, parts, fixed_z, config, resume, rescue, distance=None, distance_every=1):
        self.parts, self.fixed_z, self.config, self.resume, self.rescue = parts, fixed_z, config, resume, rescue
        self.folder = Path(files.CHECKPOINTS)
        self.epoch, self.n_steps, self.images_seen, self.seconds = 0, 0, 0, 0.0
        self.losses, self.samples, self.lines, self.history, self.distances = [], [], [], [], []
        self.distance, self.distance_every = distance, distance_every
        self.rescued, self.saved, self.unsaved, self.bar, self.shape, self.feed = False, 0, None, None, None, None
        self.rank, self.size = world()
        if self.rank == 0 and (any(self.folder.glob('*.pt')) or Path(files.SAMPLES).exists()):
            self._resume_or_set_aside(resume)
        if shared(self.epoch) and self.rank:             # the others take up what rank 0 has found
            self._restore(files.load_checkpoint(self.folder))
            self.saved = self.epoch
        self._remember()

    def __enter__(self):
        """From here on the end of a process (SIGTERM) is an interrupt like Ctrl-C: train ends, nothing is lost."""
        self.in_main_thread = threading.current_thread() is threading.main_thread()
        if self.in_main_thread:
            self.before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        return self

    def __exit__(self, kind, error, trace):
        if self.in_main_thread:
            signal.signal(signal.SIGTERM, self.before)
        if self.bar is not None:
            self.bar.close()
        if self.unsaved:
            print(f'NOT ON DISK: what came after epoch {self.saved}. Free some space and train again.')
        if kind is KeyboardInterrupt:
            print(f'Interrupted in epoch {self.epoch + 1}. On disk: all up to the end of epoch {self.saved}. '
                  f'To go on, {"run this cell again" if self.resume else "train with resume=True"}.')
            return True
        said = str(error)
        if kind and self.size > 1 and issubclass(kind, RuntimeError) and any(w in said for w in ('onnection', 'gloo', 'NCCL')):
            raise RuntimeError(f'Rank {self.rank} has lost another process of this job, so it ends. All up to the end of '
                               f'epoch {self.saved} is in {self.folder}/; start torchrun again to go on.') from error
        if kind and self.shape and (issubclass(kind, MemoryError) or 'out of memory' in said or 'allocate memory' in said):
            raise MemoryError(self._what_fits()) from error

    def epochs(self, n_epochs):
        """Yield the number of each epoch still to run, up to n_epochs; one that went bad comes again."""
        self.n_epochs = n_epochs
        if self.epoch >= n_epochs:
            self.say(f'All {n_epochs} epochs are done; to train further, raise n_epochs.', keep=False)
        while self.epoch < n_epochs:
            self.steps, self.started = [], time.perf_counter()
            yield self.epoch + 1

    def batches(self, loader):
        """Yield (number, images) for each batch of the loader, moving the progress bar; stop when losses go bad."""
        if not len(loader):
            raise ValueError('The loader gives no batch: there are fewer images than batch_size, and it drops the rest.')
        if self.bar is None:
            self.bar = progress_bar((self.n_epochs - self.epoch) * len(loader), ' batches', desc='Training')
        if self.feed is None or self.feed.loader is not loader:
            device, D = next(self.parts['G'].parameters()).device, self.parts['D']
            last = any(p.ndim == 4 and not p.is_contiguous() for p in D.parameters())
            self.feed = Feed(loader, device, torch.channels_last if last else torch.contiguous_format)   # as D has it
        for number, images in enumerate(self.feed):
            self.shape = images.shape
            yield number, images
            self.images_seen += len(images)
            self.bar.update()
            if number % 100 == 99 and not self.steps[-1].isfinite().all():   # waits for the device: not every time
                break

    def record(self, step):
        """Keep the four figures of one step, as they are on the device: no waiting for it."""
        self.steps.append(step)
        self.n_steps += 1

    def say(self, line, keep=True):
        """Print a line above the progress bar; keep it, or not, to be shown again when the run is resumed."""
        tqdm.write(line, file=sys.stdout)
        if keep:
            self.lines.append(line)

    def end_epoch(self, generate):
        """Close the epoch: one line of figures, and everything to disk; or back to its start, if numbers went bad.

        generate  gives images (n, 3, s, s) in [-1, 1] for noise (n, z_size)
        """
        samples = generate(self.fixed_z)
        steps = torch.stack(self.steps).float().cpu()            # the epoch's only wait for the device
        networks = [part for part in self.parts.values() if isinstance(part, torch.nn.Module)]
        weights = [value for network in networks for value in network.state_dict().values()]
        if not all(values.isfinite().all() for values in (steps, samples, *weights)):
            return self._go_back(steps)
        self.seconds, self.epoch = self.seconds + time.perf_counter() - self.started, self.epoch + 1
        self.history.append(steps)
        self.samples.append(samples)
        d_loss, g_loss, d_real, d_fake = steps.mean(0).tolist()
        judged = self._judge(generate) if self.distance else ''
        left = round((self.n_epochs - self.epoch) * self.seconds / self.epoch)
        self.say(f'epoch {self.epoch:4d}/{self.n_epochs:4d} | d_loss {d_loss:6.3f} | g_loss {g_loss:6.3f} | '
                 f'D(x) {d_real:.2f} | D(G(z)) {d_fake:.2f} |{judged} {self.images_seen / self.seconds:8,.0f} images/s | '
                 f'{left // 60:3d}:{left % 60:02d} left')
        if self.n_steps >= YOUNG and d_real - d_fake > SATURATED:
            self.say('  Warning: D tells real from fake almost every time; G has little left to learn from.')
        if self.n_steps >= YOUNG and samples.std(0).mean() < COLLAPSED:
            self.say('  Warning: the sixteen samples are nearly one and the same: G has collapsed.')
        self.save()

    def _judge(self, generate):
        """Ask the distance, if this is an epoch to do so; its column of the epoch's line."""
        if self.epoch % self.distance_every:
            return ' ' * 11 + '|'
        started = time.perf_counter()
        z = torch.randn(self.N_JUDGED, self.fixed_z.shape[1], generator=torch.Generator().manual_seed(0))   # always the same
        value = float(self.distance(torch.cat([generate(part) for part in z.split(250)])))
        if not math.isfinite(value):
            return f' FFD {value:5} |'
        self.distances.append([self.epoch, value, time.perf_counter() - started])
        return f' FFD {value:5.2f} |'

    def save(self):
        """Write latest.pt (the one before it becomes previous.pt), losses.npz and train_samples.pkl, each whole.

        Where this epoch's distance is the lowest so far, best.pt is written too.
        """
        self._remember()
        if self.rank == 0:
            self._write()
        self.saved = shared(self.saved)                  # the others wait: what they read next has been written

    def _write(self):
        figures = dict(zip(('d_loss', 'g_loss', 'd_real', 'd_fake'), torch.cat(self.history).T.numpy()),
                       per_epoch=[len(steps) for steps in self.history],
                       distances=np.array(self.distances, np.float64).reshape(-1, 3))
        try:
            self.folder.mkdir(exist_ok=True)
            files.write_atomically(self.folder / 'latest.pt', lambda file: torch.save(self._state(), file),
                             keep=self.folder / 'previous.pt')
            if self.distances and self.epoch == min(self.distances, key=operator.itemgetter(1))[0]:
                files.write_atomically(self.folder / 'best.pt', lambda file: torch.save(self._state(), file))
            files.write_atomically(self.folder / 'losses.npz', lambda file: np.savez(file, **figures))
            files.save_samples(self.samples)
        except OSError as error:
            self.unsaved = error
            self.say(f'  NOT SAVED: {error}. Training goes on, and the next epoch is saved again.')
            return
        if self.unsaved:
            self.say('  Saved again, with all that could not be saved before.')
        self.unsaved, self.saved = None, self.epoch

    def _state(self):
        """All of the run: what a checkpoint holds."""
        state = {name: part.state_dict() for name, part in self.parts.items()}
        return state | {name: getattr(self, name) for name in files.STATE} | dict(random_state=random_state())

    def _remember(self):
        """Keep a copy, but for the grids, to go back to when numbers go bad."""
        file = io.BytesIO()
        torch.save(self._state() | dict(samples=None), file)
        self.good = file.getvalue()

    def _restore(self, state):
        for name in files.STATE[1:]:                  # the configuration is today's
            setattr(self, name, state[name])
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        set_random_state(state['random_state'])

    def _go_back(self, steps):
        bad = steps[~steps.isfinite().all(1)]
        d_loss, g_loss = (bad if len(bad) else steps)[0][:2].tolist()
        message = f'Epoch {self.epoch + 1}: numbers went bad (d_loss {d_loss:.4g}, g_loss {g_loss:.4g})'
        if self.rescued or not self.rescue:
            raise FloatingPointError(f'{message}. Epoch {self.epoch} is kept in {self.folder}/. Try a lower lr, or '
                                     f'penalty = 0.1; look for images that are all of one colour.')
        self._restore(files.load_safely(io.BytesIO(self.good)) | dict(samples=self.samples))
        self.rescued = True
        for part in self.parts.values():
            for group in getattr(part, 'param_groups', ()):
                for name in {'lr', 'initial_lr'} & set(group):
                    group[name] *= self.rescue
        self._remember()
        self.say(f'  {message}: back to the end of epoch {self.epoch}, learning rates x {self.rescue}.')

    def _what_fits(self):
        """After running out of memory: try a pass of smaller batches, and say which one fits."""
        batch, _, size, _ = self.shape
        if self.size > 1:                                # a pass here would wait for the other processes
            return f'Out of memory with batch_size {batch} at {size}x{size}, on rank {self.rank} of {self.size}. Halve it.'
        D, G = self.parts['D'], self.parts['G']
        device = next(G.parameters()).device
        while batch > 1:
            batch //= 2
            try:
                D(G(self.fixed_z[:1].expand(2 * batch, -1).to(device))).sum().backward()   # real and fake: twice
                break
            except (MemoryError, RuntimeError):
                continue
        else:
            batch = 'none'
        smaller = f'; or take img_size = {size // 2}' if size > 32 else ''
        return (f'Out of memory with batch_size {self.shape[0]} at {size}x{size}. batch_size that fits at this size, by '
                f'trying: {batch}{smaller}. All up to epoch {self.saved} is in {self.folder}/.')

    def _resume_or_set_aside(self, resume):
        why = 'resume is off'
        if resume and not any(self.folder.glob('*.pt')):
            why = f'{files.SAMPLES} came without a checkpoint'
        elif resume:
            state = files.load_checkpoint(self.folder)
            changed = [name for name in {**self.config, **state['config']} if name not in self.MAY_CHANGE
                       and self.config.get(name) != state['config'].get(name)]
            if not changed:
                self._restore(state)
                self.saved = self.epoch
                print('\n'.join(self.lines))
                print(f'Continuing {self.folder}/ after epoch {self.epoch} ({self.images_seen:,} images seen).')
                return self._write()                 # makes good what a crash between two files has left undone
            why = 'it differs in ' + ', '.join(sorted(changed))
        numbered = (Path(f'{self.folder}-{number}') for number in itertools.count(1))
        aside = next(path for path in numbered if not path.exists())
        if self.folder.exists():
            os.rename(self.folder, aside)
        aside.mkdir(exist_ok=True)
        if Path(files.SAMPLES).exists():
            os.rename(files.SAMPLES, aside / files.SAMPLES)
        print(f'An earlier run is kept in {aside}/ ({why}); this one starts at epoch 1.')
