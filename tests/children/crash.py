"""Train in a child process, kill it at a random instant, look at its files, and start again.

python crash.py TIMES    in an empty folder
"""
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from machinery.files import load_samples
from machinery.lesson import load_definitions
from machinery.run import load_checkpoint, load_history
from tests.tools import NOTEBOOK, run_training


def train(notebook, n_epochs, writing=None):
    """Train, and send a byte through the pipe whenever a file is about to reach the disk."""
    fsync = os.fsync

    def announced(number):
        os.write(writing, b'.')
        fsync(number)

    if writing:
        os.fsync = announced
    sys.stdout = open(os.devnull, 'w', encoding='utf-8')
    try:
        run_training(notebook, n_epochs, resume=True)
    finally:
        os._exit(1)


def train_and_kill(notebook):
    """Start a training, and kill it within one of its first epochs, at about the time it saves."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        train(notebook, 10_000, writing)
    os.close(writing)
    for _ in range(random.randint(1, 15)):
        assert os.read(reading, 1), 'the training ended by itself'
    os.close(reading)
    time.sleep(random.choice([0, random.uniform(0, 0.003), random.uniform(0, 0.03)]))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def on_disk(read, count):
    """Return how many epochs are found by read(); none where there is no file yet."""
    try:
        return count(read())
    except FileNotFoundError:
        return 0


def main(times):
    torch.set_num_threads(1)
    random.seed(0)
    notebook = load_definitions(NOTEBOOK)
    reached = n_in_writing = 0
    for crash in range(times):
        train_and_kill(notebook)
        n_in_writing += any(Path().glob('**/*.part'))
        epoch = on_disk(load_checkpoint, lambda state: state['epoch'])
        grids = on_disk(load_samples, len)
        history = on_disk(load_history, lambda figures: len(figures['per_epoch']))
        assert epoch >= reached, (crash, epoch, reached)
        assert history == epoch, (crash, epoch, history)
        assert 10 * (epoch - grids) <= grids + 10, (crash, epoch, grids)
        reached = epoch
    compare_with_a_whole_run(notebook, reached)
    print(f'{times} crashes, {n_in_writing} of them while a file was written, {reached} epochs')


def compare_with_a_whole_run(notebook, reached):
    """Train as many epochs in another folder, without a stop: weights and grids are the same."""
    killed = load_checkpoint(), load_samples()
    os.mkdir('whole')
    os.chdir('whole')
    if os.fork() == 0:
        train(notebook, reached)
    os.wait()
    whole = load_checkpoint(), load_samples()
    for name, value in whole[0]['G_average'].items():
        assert torch.equal(value, killed[0]['G_average'][name]), name
    assert all(map(torch.equal, whole[1], killed[1]))


main(int(sys.argv[1]))
