"""Train in a child process, kill it at a random instant, look at its files, and start again.

python crash.py TIMES    in an empty folder
"""
import contextlib
import os
import random
import signal
import sys
import time

import torch

from machinery import files
from machinery.checkpoints import load_checkpoint
from machinery.lesson import load_definitions
from machinery.samples import load_samples
from tests.tools import NOTEBOOK, run_training


def train(notebook, file_written):
    """Train without end, and send a byte through the pipe whenever a file has been written."""
    write = files.write_atomically

    def announced(*arguments, **options):
        write(*arguments, **options)
        os.write(file_written, b'.')

    files.write_atomically = announced
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        run_training(notebook, 10_000, resume=True)
    finally:
        os._exit(1)


def train_and_kill(notebook):
    """Start a training, and kill it shortly after its first file: any instant will do by then."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        train(notebook, writing)
    os.close(writing)
    assert os.read(reading, 1), 'the training ended by itself'
    os.close(reading)
    time.sleep(random.uniform(0, 0.08))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def epoch_on_disk():
    with contextlib.suppress(FileNotFoundError):
        return load_checkpoint()['epoch']
    return 0


def grids_on_disk():
    return len(load_samples()) if os.path.exists('train_samples.pkl') else 0


def main(times):
    torch.set_num_threads(1)
    random.seed(0)
    notebook = load_definitions(NOTEBOOK)
    reached = n_in_writing = 0
    for crash in range(times):
        train_and_kill(notebook)
        unfinished = [name for name in os.listdir('checkpoints_gan') + os.listdir()
                      if name.endswith('.part')]
        n_in_writing += bool(unfinished)
        epoch, grids = epoch_on_disk(), grids_on_disk()
        assert epoch >= max(1, reached), (crash, epoch, reached)
        assert abs(epoch - grids) <= 1, (crash, epoch, grids)
        reached = epoch
    print(f'{times} crashes, {n_in_writing} of them while a file was written, {reached} epochs')


main(int(sys.argv[1]))
