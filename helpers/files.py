"""Files written whole or not at all, and read without running anything that is in them."""
import collections
import io
import math
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import torch

CHECKPOINTS = 'checkpoints_gan'
SAMPLES = 'train_samples.pkl'
STATE = ('config', 'fixed_z', 'epoch', 'n_steps', 'images_seen', 'seconds', 'losses', 'samples', 'lines', 'history', 'distances',
         'rescued')                                  # what a checkpoint holds of a Run, beside networks and optimizers
PRETRAINED = Path(__file__).parent.parent / 'assets/generator-32.pt'


def write_atomically(path, write, keep=None):
    """Call write(file) on a new file; when that is whole and on the disk, put it in path's place.

    keep  where the file that was in path's place goes; None: nowhere
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


def save_samples(samples, path=SAMPLES):
    """Write the contract's pickle: a list of one float32 CPU tensor (16, 3, s, s) in [-1, 1] an epoch."""
    write_atomically(path, lambda file: pickle.dump(samples, file))


def load_samples(path=SAMPLES):
    """Read a pickle of samples, also an old one, as a list of float32 CPU tensors (n, 3, s, s).

    CUDA tensors, tensors with a gradient, arrays, tuples and any number of images are understood. Nothing in the
    file is run: tensors, arrays and containers are built, all else is refused.
    Raises ValueError for a file that holds anything else.
    """
    try:
        epochs = _TensorUnpickler(io.BytesIO(Path(path).read_bytes())).load()
        if not all(isinstance(epoch, (torch.Tensor, np.ndarray)) and epoch.ndim == 4 and epoch.shape[1] == 3
                   and math.prod(epoch.shape) <= os.path.getsize(path) for epoch in epochs):
            raise ValueError('something else, or more numbers than the file has bytes')
        epochs = [torch.as_tensor(epoch) for epoch in epochs]
        return [epoch.detach().to('cpu', torch.float32).contiguous() for epoch in epochs]
    except OSError:
        raise
    except Exception as error:                       # a hostile or damaged pickle can raise anything
        raise ValueError(f'{path}: expected a pickled list of image tensors, found {error}') from error


class _TensorUnpickler(pickle._Unpickler):
    """Builds tensors, arrays and containers; every other name in a pickle is refused before it is imported.

    It is the one in Python: the one in C makes room for whatever size or number a file of a few bytes declares.
    """

    def find_class(self, module, name):
        try:
            return _ALLOWED[module.replace('numpy.core', 'numpy._core'), name]
        except KeyError:
            raise pickle.UnpicklingError(f'the name {module}.{name}, which is no part of a tensor') from None

    def load_bytearray8(self):                       # as it is, but for reading first and making room afterwards
        self.append(bytearray(self.read(int.from_bytes(self.read(8), 'little'))))

    dispatch = pickle._Unpickler.dispatch | {pickle.BYTEARRAY8[0]: load_bytearray8}


def _tensor(storage, offset, size, stride, *rest):
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    if min(offset, *size, *stride) < 0 or last >= max(1, storage._size()):    # torch would enlarge the storage
        raise pickle.UnpicklingError('a tensor that leads outside its storage')
    return torch._utils._rebuild_tensor_v2(storage, offset, size, stride, *rest)


def _storage(data):
    if data[:2] == b'PK':                            # a zip archive could unpack to more than the file holds
        raise pickle.UnpicklingError('a storage that is packed')
    return load_safely(io.BytesIO(data))


_ALLOWED = {
    ('torch._utils', '_rebuild_tensor_v2'): _tensor,
    ('torch._utils', '_rebuild_parameter'): torch._utils._rebuild_parameter,
    ('torch.storage', '_load_from_bytes'): _storage,
    ('collections', 'OrderedDict'): collections.OrderedDict,
    ('numpy._core.multiarray', '_reconstruct'): lambda kind, shape, code: np.empty(0),    # pickle fills it in
    ('numpy._core.numeric', '_frombuffer'): np._core.numeric._frombuffer,
    ('numpy', 'ndarray'): None,                      # named by every array, needed by none of the above
    ('numpy', 'dtype'): np.dtype,
    ('_codecs', 'encode'): lambda text, encoding: text.encode('latin1'),
}


def load_checkpoint(folder=CHECKPOINTS, best=False):
    """Read the latest checkpoint that is whole, on the CPU; a dict. Nothing in the file is run.

    best  True: the one with the lowest distance to real faces instead, where distances were measured
    Raises FileNotFoundError where there is none, ValueError where there are only damaged ones.
    """
    faults = []
    for path in [Path(folder) / f'{name}.pt' for name in ['best'] * best + ['latest', 'previous']]:
        try:
            with zipfile.ZipFile(path) as parts:     # checksums first, and no part may be larger than the file
                if parts.testzip() or sum(part.file_size for part in parts.infolist()) > path.stat().st_size:
                    raise zipfile.BadZipFile('a checksum or a size is wrong')
            state = {'distances': []} | load_safely(path)      # runs from before there were distances had none
            missing = set(STATE) - set(state)
            if missing:
                raise KeyError(f'no {", ".join(sorted(missing))} in it')
        except FileNotFoundError:
            continue
        except Exception as error:                   # a hostile or damaged file can raise anything
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            faults.append(f'{path} is damaged or no checkpoint of this notebook ({reason:.150})')
            continue
        if faults:
            print(f'{faults[0]}: going on from {path}, epoch {state["epoch"]}')
        return state
    if faults:
        raise ValueError('; '.join(faults) + '. Train with resume = False: it is moved aside.')
    raise FileNotFoundError(f'{Path(folder) / "latest.pt"} does not exist: train first, or name the folder of a run')


def load_pretrained(path=None):
    """A generator that the project trained: a dict of generator (its arguments), weights, and card (what is known of it).

    Raises FileNotFoundError where the file is missing.
    """
    path = Path(path or PRETRAINED)
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist: it comes with the project')
    saved = load_safely(path)
    return saved | dict(weights={name: value.float() if value.is_floating_point() else value
                                 for name, value in saved['weights'].items()})


def load_safely(file):
    """A file of torch, on the CPU: tensors, containers and plain values, NumPy's among them; all else is refused."""
    scalars = [np._core.multiarray.scalar, np.dtype, *(type(np.dtype(code)) for code in '?bhilqBHILQefd')]
    with torch.serialization.safe_globals(scalars):
        return torch.load(file, map_location='cpu', weights_only=True)


def load_history(folder=CHECKPOINTS):
    """The figures of a run: a dict of arrays.

    d_loss, g_loss, d_real, d_fake  float32, one number a batch
    per_epoch  batches in each epoch
    distances  (n, 3): epoch, distance to real faces, seconds that measuring it took
    """
    path = Path(folder) / 'losses.npz'
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist: train for at least one epoch first')
    with np.load(path) as arrays:
        return dict(arrays)
