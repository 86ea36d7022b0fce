"""A training run that survives interrupts, crashes and numbers gone bad."""
import math
import sys
import time

import torch
from tqdm import tqdm

from . import failures, report
from .checkpoints import Checkpoints, Progress
from .console import progress_bar
from .devices import broadcast, world


class Run:
    """A training run: it counts, prints and saves, and it goes on where it stopped.

    parts     dict of whatever has a state_dict(): networks, among them D and G, and optimizers
    fixed_z   (16, z_size), the noise of the grids
    config    dict of plain values that describe the run, kept in every checkpoint. Three are for
              the run itself. resume: go on from checkpoints_gan/ where that holds this very run;
              another run found there is set aside, never overwritten. rescue: when numbers are no
              longer finite, go back one epoch, once, with learning rates times this; 0: stop at
              once. distance_every: epochs between two measurements of the distance
    distance  a function from images to a number, lower being better; None: it is not measured
    """

    N_JUDGED = 2000      # generated images that the distance is asked of

    def __init__(self, parts, fixed_z, config, distance=None):
        self.parts = parts
        self.config = config
        self.distance = distance
        self.progress = Progress(config, fixed_z)
        self.checkpoints = Checkpoints(parts, self.progress)
        self.rank, self.n_processes = world()
        self.bar = None
        self.batch_shape = None
        if self.rank == 0:
            self.checkpoints.resume_or_set_aside(config['resume'])
        if broadcast(self.progress.epoch) > 0 and self.rank > 0:
            self.checkpoints.join()
        self.good = self.checkpoints.copy()

    def epochs(self, n_epochs):
        """Yield the number of each epoch still to run; one whose numbers went bad comes again."""
        self.n_epochs = n_epochs
        if self.progress.epoch >= n_epochs:
            self.say(f'All {n_epochs} epochs are done; to train further, raise n_epochs.')
        while self.progress.epoch < n_epochs:
            self.steps = []
            self.started = time.perf_counter()
            yield self.progress.epoch + 1

    def batches(self, loader):
        """Yield (number, images) for each batch, moving the progress bar; stop when losses go bad.

        Raises ValueError for a loader that gives no batch.
        """
        if len(loader) == 0:
            raise ValueError('The loader gives no batch: there are fewer images than batch_size, '
                             'and it drops the rest.')
        if self.bar is None:
            n_batches = (self.n_epochs - self.progress.epoch) * len(loader)
            self.bar = progress_bar(n_batches, ' batches', desc='Training')
        for number, images in enumerate(loader):
            self.batch_shape = images.shape
            yield number, images
            self.progress.images_seen += len(images)
            self.bar.update()
            # Looking at the numbers waits for the device, so it is done every hundredth time.
            if number % 100 == 99 and not self.steps[-1].isfinite().all():
                break

    def record(self, figures):
        """Keep the four figures of a step as they are, on the device: no waiting for it."""
        self.steps.append(figures)
        self.progress.n_steps += 1

    def say(self, line):
        """Print a line above the progress bar."""
        tqdm.write(line, file=sys.stdout)

    def end_epoch(self, generate):
        """Close the epoch: print its line and save it all, or go back if numbers went bad.

        generate  gives images (n, 3, s, s) in [-1, 1] for noise (n, z_size)
        """
        progress = self.progress
        grid = generate(progress.fixed_z)
        steps = torch.stack(self.steps).float().cpu()        # the epoch's only wait for the device
        if not failures.all_finite(self.parts, steps, grid):
            self._go_back(failures.what_went_bad(steps))
            return
        progress.seconds += time.perf_counter() - self.started
        progress.epoch += 1
        progress.history.append(steps)
        progress.samples.append(grid)
        if self.distance and progress.epoch % self.config['distance_every'] == 0:
            self._measure(generate)
        self._say_and_keep(report.epoch_line(progress, self.n_epochs, bool(self.distance)))
        for warning in report.warnings(progress):
            self._say_and_keep(warning)
        self.good = self.checkpoints.copy()
        if self.rank == 0:
            self.checkpoints.save(self._say_and_keep)
        # The others wait here, so that what they read next has been written.
        self.checkpoints.saved = broadcast(self.checkpoints.saved)

    def _measure(self, generate):
        """Ask for the distance of new images, made from the same noise in every epoch."""
        started = time.perf_counter()
        z_size = self.progress.fixed_z.shape[1]
        z = torch.randn(self.N_JUDGED, z_size, generator=torch.Generator().manual_seed(0))
        images = torch.cat([generate(part) for part in z.split(250)])
        value = float(self.distance(images))
        if not math.isfinite(value):
            self._say_and_keep(f'  The distance of this epoch is {value}: it is left out.')
            return
        measured = [self.progress.epoch, value, time.perf_counter() - started]
        self.progress.distances.append(measured)

    def _say_and_keep(self, line):
        """Print a line, and keep it to be shown again when the run is resumed."""
        self.say(line)
        self.progress.lines.append(line)

    def _go_back(self, what):
        """Go back to the end of the epoch before, with lower learning rates.

        Raises FloatingPointError the second time, or where rescue is 0.
        """
        epoch, rescue = self.progress.epoch, self.config['rescue']
        if self.progress.rescued or not rescue:
            raise FloatingPointError(
                f'Epoch {epoch + 1}: {what}. Epoch {epoch} is kept in {self.checkpoints.folder}/. '
                f'Try a lower lr, or penalty = 0.1; look for images that are all of one colour.')
        self.checkpoints.go_back(self.good)
        self.progress.rescued = True
        optimizers = [part for part in self.parts.values() if hasattr(part, 'param_groups')]
        failures.lower_learning_rates(optimizers, rescue)
        self.good = self.checkpoints.copy()
        self._say_and_keep(f'  Epoch {epoch + 1}: {what}: back to the end of epoch {epoch}, '
                           f'learning rates x {rescue}.')

    def __enter__(self):
        self.termination = failures.termination_as_interrupt()
        self.termination.__enter__()
        return self

    def __exit__(self, kind, error, trace):
        """End the run; an interrupt ends here, and errors that we understand get words of ours."""
        self.termination.__exit__(None, None, None)
        if self.bar is not None:
            self.bar.close()
        saved = self.checkpoints.saved
        if self.checkpoints.behind:
            print(f'NOT ON DISK: what came after epoch {saved}. Free some space and train again.')
        if isinstance(error, KeyboardInterrupt):
            how = 'run this cell again' if self.config['resume'] else 'train with resume=True'
            print(f'Interrupted in epoch {self.progress.epoch + 1}. On disk: all up to the end of '
                  f'epoch {saved}. To go on, {how}.')
            return True
        explained = failures.in_our_words(error, self)
        if explained:
            raise explained from error
        return False
