"""Runs of so many images, in equal passes, and the seconds that these take."""
import time

import torch
from torch.utils.data import Sampler

import helpers
from experiments import study

PASSES = 10          # in which the images of a run are shown; learning rates fall from pass to pass


class Portions(Sampler):
    """All images in random order, a portion of them in each pass; when all are shown, anew."""

    def __init__(self, n_images, portion):
        self.n_images = n_images
        self.portion = portion
        self.order = []

    def __len__(self):
        return self.portion

    def __iter__(self):
        while len(self.order) < self.portion:
            self.order += torch.randperm(self.n_images).tolist()
        chosen, self.order = self.order[:self.portion], self.order[self.portion:]
        yield from chosen


class Stopwatch:
    """A loader that keeps the time of its passes, with all that is done to the batches."""

    def __init__(self, loader):
        self.loader = loader
        on_one_thread = torch.get_num_threads() == 1 and not torch.cuda.is_available()
        self.clock = time.process_time if on_one_thread else time.perf_counter
        self.seconds = 0.0

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        started = self.clock()
        yield from self.loader
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds += self.clock() - started


def train(notebook, config, loader, seed):
    """Train in the current folder; return (G with its averaged weights, images seen, seconds)."""
    D, G = study.build(notebook, config, loader, seed)
    chosen = {name: config[name] for name in study.TRAINING}
    timed = Stopwatch(helpers.DeviceLoader(loader, helpers.choose_device()))
    notebook.train(D, G, PASSES, print_every=10 ** 9, config=chosen, loader=timed)
    saved = helpers.load_checkpoint()
    if saved['epoch'] < PASSES:
        study.stop_after_interrupt()
    G.load_state_dict(saved['G_average'])
    return G, saved['images_seen'], timed.seconds
