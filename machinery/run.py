"""A training run that survives interrupts, crashes and numbers gone bad."""
import contextlib
import math
import sys
import time

import torch
from tqdm import tqdm

from . import console, failures, identity, report
from .checkpoints import Checkpoints, Progress
from .devices import broadcast, world
from .epochs import Epoch
from .pictures import LiveView


class Run:
    """A training run: it counts, prints and saves, and it goes on where it stopped.

    parts     dict of whatever has a state_dict(): networks, among them D and G, and optimizers
    fixed_z   (16, z_size), the noise of the grids
    config    dict of plain values that describe the run, kept in every checkpoint. Some are for
              the run itself. resume: go on from checkpoints_gan/ where that holds this very run;
              another run found there is set aside, never overwritten. rescue: when numbers are no
              longer finite, go back one epoch, once, with learning rates times this; 0: stop at
              once. distance_every: epochs between two measurements; the last one has one as well
    generate  gives images (n, 3, s, s) in [-1, 1] for noise (n, z_size)
    distance  a function from images to a number, lower being better; None: it is not measured

    Within a with-block the run owns checkpoints_gan/: a second run there is refused.
    """

    N_JUDGED = 2000      # generated images that the distance is asked of

    def __init__(self, parts, fixed_z, config, generate, distance=None):
        failures.check_optimizers(parts)
        identity.keep_start_rates(parts)
        self.parts = parts
        self.config = config
        self.generate = generate
        self.distance = distance
        self.progress = Progress(config, fixed_z)
        self.checkpoints = Checkpoints(parts, self.progress)
        self.rank, self.n_processes = world()
        self.view = LiveView(config['live_view'])
        self.bar = None
        self.batch_shape = None
        self.steps = []
        self.number = 1              # of the epoch that has begun

    def epochs(self, n_epochs):
        """Yield the number of each epoch still to run; one whose numbers went bad comes again."""
        self.n_epochs = n_epochs
        self.view.show(self)
        if self.progress.epoch >= n_epochs:
            self.say(f'All {self.progress.epoch} epochs are done; to train further, raise n_epochs '
                     f'above that. For a new run, set resume = False or another run_folder.')
        if self.config.get('start') and self.progress.epoch == 0 and self.distance:
            self._measure_start()
        while self.progress.epoch < n_epochs:
            self.steps = []
            self.started = time.perf_counter()
            self.number = self.progress.epoch + 1
            yield self.number

    def batches(self, loader):
        """Yield (number, images) for each batch, moving the progress bar; stop when losses go bad.

        Raises ValueError for a loader that gives no batch.
        """
        if len(loader) == 0:
            raise ValueError('The loader gives no batch: there are fewer images than batch_size, '
                             'and it drops the rest.')
        if self.bar is None:
            n_batches = (self.n_epochs - self.progress.epoch) * len(loader)
            self.bar = console.progress_bar(n_batches, ' batches', desc='Training')
            self.seen_before = self.progress.images_seen
            rate = failures.highest_learning_rate(self.parts)
            if rate > self.rate_before:
                self._say_and_keep(report.rates_rise(self.rate_before, rate, self.n_epochs))
        for number, images in enumerate(loader):
            self.batch_shape = images.shape
            yield number, images
            self.progress.images_seen += len(images)
            self.bar.update()
            if self.view.is_due():
                self.view.show(self)
            # Looking at the numbers waits for the device, so it is done every hundredth time.
            if number % 100 == 99 and not self.steps[-1].isfinite().all():
                break

    def record(self, figures):
        """Keep the four figures of a step as they are, on the device: no waiting for it.

        Raises TypeError for anything but a tensor (4,).
        """
        failures.check_figures(figures)
        self.steps.append(figures.detach())
        self.progress.n_steps += 1

    def say(self, line):
        """Print a line above the progress bar."""
        tqdm.write(line, file=sys.stdout)

    def end_epoch(self):
        """Close the epoch: print its line and save it all, or go back if numbers went bad."""
        if not self.steps:
            raise ValueError(f'The loader gave no batch. Each process takes its share of a batch, '
                             f'and of {self.n_processes} one or more came away empty: batch_size '
                             f'and the images must be as many at least.')
        progress = self.progress
        grid = self.generate(progress.fixed_z)
        steps = torch.stack(self.steps).float().cpu()        # the epoch's only wait for the device
        if not failures.all_finite(self.parts, steps, grid):
            self._go_back(failures.what_went_bad(steps))
            return
        progress.seconds += time.perf_counter() - self.started
        progress.epoch += 1
        progress.epochs.append(Epoch(steps, grid))
        self.steps = []                                      # they are the epoch's now
        is_due = progress.epoch % self.config['distance_every'] == 0
        try:
            if self.distance and (is_due or progress.epoch == self.n_epochs):
                progress.epochs[-1].distance = self._measure()
        finally:                     # the epoch is trained, however its measuring ended
            self._keep_epoch()

    def _keep_epoch(self):
        """Print the line of the epoch just trained, and save it all."""
        progress = self.progress
        self._say_and_keep(report.epoch_line(progress, self.n_epochs, bool(self.distance)))
        for warning in report.warnings(progress):
            self._say_and_keep(warning)
        progress.finish_epoch()
        self.checkpoints.keep()
        if self.rank == 0:
            self.checkpoints.save(self._say_and_keep)
        # The others wait here, so that what they read next has been written.
        self.checkpoints.saved = broadcast(self.checkpoints.saved)

    def _measure_start(self):
        """Say how far the faces of a trained pair are before the training goes on from it."""
        measured = self._measure()
        if measured:
            self._say_and_keep(f'Before this training, the pair in {self.config["start"]} comes to '
                               f'FFD {measured[0]:.2f}.')

    def _measure(self):
        """Return (distance of new images, seconds it took), or () where it has no value.

        They are made from the same noise each time.
        """
        started = time.perf_counter()
        z_size = self.progress.fixed_z.shape[1]
        z = torch.randn(self.N_JUDGED, z_size, generator=torch.Generator().manual_seed(0))
        try:
            value = float(self.distance(self.generate(z)))
        except ValueError as error:          # of images that have none
            self._say_and_keep(f'  No distance is measured here: {error}.')
            return ()
        if not math.isfinite(value):
            self._say_and_keep(f'  The distance would be {value}: it is left out.')
            return ()
        return value, time.perf_counter() - started

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
            raise FloatingPointError(report.gone_bad(epoch, what, self.checkpoints.folder))
        self.checkpoints.go_back()
        self.progress.rescued = True
        failures.lower_learning_rates(self.parts, rescue)
        self.checkpoints.keep()
        self._say_and_keep(f'  Epoch {epoch + 1}: {what}: back to the end of epoch {epoch}, '
                           f'learning rates x {rescue}.')

    def __enter__(self):
        """Own the folder, and take up the run that is in it or set it aside.

        Raises RuntimeError where another process trains there, PermissionError where nothing can be
        written, ValueError where the run to be resumed is damaged.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(failures.termination_as_interrupt())
            if self.rank == 0:
                stack.enter_context(self.checkpoints.lock)
                self.checkpoints.resume_or_set_aside(self.config['resume'])
            if broadcast(self.progress.epoch) > 0 and self.rank > 0:
                self.checkpoints.join()
            self.checkpoints.keep()
            self.checkpoints.check_kept()
            self.rate_before = failures.highest_learning_rate(self.parts)
            self.held = stack.pop_all()
        return self

    def __exit__(self, kind, error, trace):
        """End the run; an interrupt ends here, and errors that we understand get words of ours.

        A script that was told to end (SIGTERM) does so, with the exit status that says so. Where no
        epoch was finished, the networks are as they were before.
        """
        if error is not None and self.progress.epoch == 0:
            self.checkpoints.go_back()
        with self.held:
            if error is None or isinstance(error, KeyboardInterrupt):
                self.view.show(self)
            if self.bar is not None:
                self.bar.close()
            if self.rank == 0:
                self.checkpoints.write_figures()
        saved = self.checkpoints.saved
        if self.checkpoints.behind:
            print(f'NOT ON DISK: what came after epoch {saved}. Free some space and train again.')
        if isinstance(error, KeyboardInterrupt):
            print(report.interrupted(self.number, saved, self.config['resume']))
            if isinstance(error, failures.Terminated) and not console.in_notebook():
                raise SystemExit(failures.Terminated.STATUS) from None
            return True
        explained = failures.in_our_words(error, self)
        if explained:
            raise explained from error
        return False
