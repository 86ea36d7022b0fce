"""Files that are written whole or not at all, and torch's files read without running them."""
import os
from pathlib import Path

import numpy as np
import torch

# NumPy's plain numbers, which people put into a configuration
NUMPY_NUMBERS = [np._core.multiarray.scalar, np.dtype]
NUMPY_NUMBERS += [type(np.dtype(code)) for code in '?bhilqBHILQefd']


def write_atomically(path, write, keep=None):
    """Call write(file) on a new file; once that is whole and on the disk, put it in path's place.

    keep  where the file that was in path's place goes; None: nowhere
    Raises OSError where the disk is full or nothing may be written; the old file is then as it was.
    """
    path = Path(path)
    fresh = path.with_name(f'{path.name}.part')
    try:
        with open(fresh, 'wb') as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if keep and path.exists():
            os.replace(path, keep)
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def load_safely(file):
    """Read a file of torch on the CPU: tensors, containers and plain values; refuse all else."""
    with torch.serialization.safe_globals(NUMPY_NUMBERS):
        return torch.load(file, map_location='cpu', weights_only=True)
