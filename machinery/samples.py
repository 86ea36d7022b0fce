"""The pickle of the sample grids: written as the contract says, and read without running it."""
import io
import pickle
from pathlib import Path

import torch

from . import files, pickles

SAMPLES = 'train_samples.pkl'
MOST_EPOCHS = 100_000


def save_samples(samples, path=SAMPLES):
    """Write the contract's pickle: a float32 tensor (16, 3, s, s) in [-1, 1] for each epoch.

    Raises OSError where nothing can be written; an older file is then as it was.
    """
    def write(file):
        pickle.dump(samples, file)

    files.write_atomically(path, write)


def load_samples(path=SAMPLES):
    """Read a pickle of samples, also an old one; return a list of float32 CPU tensors (n, 3, s, s).

    CUDA tensors, tensors with a gradient, arrays, tuples, and any number of images are understood.
    Nothing in the file is run: tensors, arrays and containers are built, and all else is refused.
    Raises FileNotFoundError where there is no such file, ValueError for one of anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist: train for at least one epoch first')
    data = path.read_bytes()
    try:
        epochs = pickles.Reader(len(data)).read(io.BytesIO(data))
        if len(epochs) > MOST_EPOCHS:
            raise ValueError(f'{len(epochs):,} items')
        epochs = list(epochs)
        if not all(_is_grid(epoch) for epoch in epochs):
            raise ValueError('something else')
        # The same grid can stand in several places; it is brought into shape once.
        different = {id(epoch): epoch for epoch in epochs}
        if sum(epoch.numel() for epoch in different.values()) > len(data):
            raise ValueError('more numbers than the file has bytes')
        grids = {key: _plain(epoch) for key, epoch in different.items()}
        return [grids[id(epoch)] for epoch in epochs]
    except Exception as error:               # a hostile or damaged pickle can raise anything
        raise ValueError(f'{path}: expected a pickled list of image tensors, '
                         f'found {error!s:.200}') from error


def _is_grid(epoch):
    """Say whether epoch is images (n, 3, height, width)."""
    return isinstance(epoch, torch.Tensor) and epoch.ndim == 4 and epoch.shape[1] == 3


def _plain(epoch):
    return epoch.to(torch.float32).contiguous()
