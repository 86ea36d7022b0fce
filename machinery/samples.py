"""The pickle of the sample grids: written as the contract says, and read without running it."""
import collections
import io
import math
import pickle
from pathlib import Path

import numpy as np
import torch

from . import files

SAMPLES = 'train_samples.pkl'


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
    data = Path(path).read_bytes()
    try:
        epochs = _TensorUnpickler(io.BytesIO(data)).load()
        for epoch in epochs:
            if not _is_grid(epoch, len(data)):
                raise ValueError('something else, or more numbers than the file has bytes')
        return [_plain(epoch) for epoch in epochs]
    except Exception as error:               # a hostile or damaged pickle can raise anything
        raise ValueError(f'{path}: expected a pickled list of image tensors, '
                         f'found {error}') from error


def _is_grid(epoch, n_bytes):
    """Say whether epoch is images (n, 3, height, width) that the file has the bytes for."""
    if not isinstance(epoch, (torch.Tensor, np.ndarray)):
        return False
    return epoch.ndim == 4 and epoch.shape[1] == 3 and math.prod(epoch.shape) <= n_bytes


def _plain(epoch):
    return torch.as_tensor(epoch).detach().to('cpu', torch.float32).contiguous()


class _TensorUnpickler(pickle._Unpickler):
    """Builds tensors, arrays and containers; refuses every other name before it is imported.

    This is Python's own unpickler and not the fast one in C, which makes room for whatever size or
    number a file of a few bytes declares.
    """

    def find_class(self, module, name):
        module = module.replace('numpy.core', 'numpy._core')         # as NumPy 1 wrote it
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f'the name {module}.{name}, which is no part of a tensor')
        return _ALLOWED[module, name]

    def load_bytearray8(self):
        """Read first and make room afterwards; pickle's own does it the other way round."""
        size = int.from_bytes(self.read(8), 'little')
        self.append(bytearray(self.read(size)))

    dispatch = pickle._Unpickler.dispatch | {pickle.BYTEARRAY8[0]: load_bytearray8}


# The functions that a pickle may call, by the names under which it asks for them. Each is either
# harmless for any arguments or replaced by one of ours that is.

def _tensor(storage, offset, size, stride, *rest):
    """Build a tensor that lies inside its storage; torch would enlarge the storage for another."""
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if min(offset, *size, *stride) < 0 or last >= max(1, storage._size()):
        raise pickle.UnpicklingError('a tensor that leads outside its storage')
    return torch._utils._rebuild_tensor_v2(storage, offset, size, stride, *rest)


def _storage(data):
    """Read the numbers of a tensor, unless they are packed: they could unpack to any size."""
    if data[:2] == b'PK':
        raise pickle.UnpicklingError('a storage that is packed')
    return files.load_safely(io.BytesIO(data))


def _array(kind, shape, code):
    """Make an empty array, whatever is asked for: pickle fills it in afterwards."""
    return np.empty(0)


def _letters(text, encoding):
    """Give back the bytes that protocol 2 writes as text."""
    return text.encode('latin1')


_ALLOWED = {
    ('torch._utils', '_rebuild_tensor_v2'): _tensor,
    ('torch._utils', '_rebuild_parameter'): torch._utils._rebuild_parameter,
    ('torch.storage', '_load_from_bytes'): _storage,
    ('collections', 'OrderedDict'): collections.OrderedDict,
    ('numpy._core.multiarray', '_reconstruct'): _array,
    ('numpy._core.numeric', '_frombuffer'): np._core.numeric._frombuffer,
    ('numpy', 'ndarray'): None,              # every array names it, and none of the above needs it
    ('numpy', 'dtype'): np.dtype,
    ('_codecs', 'encode'): _letters,
}
