"""Files written whole or not at all, and read without running anything in them.

A pickle is a program. That of the sample grids is run by Python's own Unpickler, but whatever it
names it gets a stand-in from GridReader.names, and these build tensors and nothing else. Before
that, its steps are gone through once: only those that lists of tensors are made of, and not too
many.
"""
import errno
import io
import os
import pickle
import pickletools
import re
import zipfile
from pathlib import Path

import numpy as np
import torch

SAMPLES = 'train_samples.pkl'
MOST_EPOCHS = 100_000
MOST_STEPS = 1_000_000       # of a pickle's program: a tensor takes some 50
COPIES = 6                   # so many times its own size may a file's bytes be decoded
STEPS = set('''PROTO FRAME STOP MARK PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET NONE DUP
    NEWTRUE NEWFALSE INT LONG BININT BININT1 BININT2 LONG1 UNICODE BINUNICODE SHORT_BINUNICODE
    BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST
    LIST APPEND APPENDS GLOBAL STACK_GLOBAL REDUCE BUILD'''.split())
KINDS = {'f2', 'f4', 'f8', 'u1'}
TYPES = 'float16', 'bfloat16', 'float32', 'float64', 'uint8'
# What torch calls for tensors of devices that have no storages: DirectML, TPU, Gaudi and others
WITHOUT_STORAGE = ('device_tensor_from_numpy', 'device_tensor_from_cpu_tensor', 'xla_tensor',
                   'hpu_tensor', 'ort_tensor', 'mlc_tensor')
PICKLES_IN_A_STORAGE = 5     # as torch writes one: number, version, sizes, contents, keys

# ------------------------------------------------------------------------------ whole or not at all


def write_atomically(path, write, keep=None):
    """Call write(file) on a new file; once that is whole and on the disk, put it in path's place.

    keep  where the file that was in path's place goes; None: nowhere
    Raises OSError where the disk is full or nothing may be written; the old file is then as it was.
    """
    path = Path(path)
    fresh = path.with_name(f'{path.name}.part')
    try:
        fresh.unlink(missing_ok=True)        # what a crash has left, or a link to somewhere else
        with open(fresh, 'xb') as file:      # x: a new file, and never through a link
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if keep and path.exists():
            os.replace(path, keep)
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def write_bytes(path, data, keep=None):
    """Write bytes, whole or not at all; keep is as in write_atomically."""
    write_atomically(path, lambda file: file.write(data), keep)


# --------------------------------------------------------------------------------- files of torch


def to_bytes(state):
    """Return what torch.save writes of a dict of tensors and plain values."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def load_safely(file):
    """Read a file of torch on the CPU: tensors, containers and plain values; nothing in it is run.

    file  a path, or a file opened for reading bytes
    Raises ValueError for a file of anything else, and OSError for one that cannot be read.
    """
    try:
        with zipfile.ZipFile(file) as archive:           # torch itself compares no checksums
            size = archive.fp.seek(0, os.SEEK_END)
            unpacked = sum(part.file_size for part in archive.infolist())
            if unpacked > size or archive.testzip():
                raise ValueError('a damaged archive, or one that unpacks to more than itself')
        if hasattr(file, 'seek'):
            file.seek(0)
        return torch.load(file, map_location='cpu', weights_only=True)
    except Exception as error:               # a hostile or damaged file can raise anything
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise                            # EINVAL: the archive names a place before its start
        named = re.search(r'GLOBAL (\S+)', str(error))
        found = named[1] if named else f'{type(error).__name__}: {error!s:.150}'
        raise ValueError(f'{file} is damaged, or no file of torch with tensors and plain values: '
                         f'found {found}') from error


# ------------------------------------------------------------------------------ the pickle of grids


def save_samples(samples, path=SAMPLES):
    """Write the contract's pickle: a float32 tensor (16, 3, s, s) in [-1, 1] for each epoch.

    Raises OSError where nothing can be written; an older file is then as it was.
    """
    write_atomically(path, lambda file: pickle.dump(samples, file))


def load_samples(path=SAMPLES):
    """Read a pickle of samples, also an old one; return a list of float32 CPU tensors (n, 3, s, s).

    Tensors of any device, tensors with a gradient, arrays, tuples, and any number of images are
    understood; bytes from 0 to 255 become numbers in [-1, 1].
    Nothing in the file is run: tensors, arrays and containers are built, and all else is refused.
    Raises FileNotFoundError where there is no such file, ValueError for one of anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist: train for at least one epoch first')
    data = path.read_bytes()
    try:
        grids = grids_in(GridReader(data).load())
        # The same grid can stand in several places: it is counted, and brought into shape, once.
        different = {id(grid): grid for grid in grids}
        if sum(grid.numel() for grid in different.values()) > len(data):
            raise ValueError('more numbers than the file has bytes')
        plain = {key: as_float(grid) for key, grid in different.items()}
        return [plain[id(grid)] for grid in grids]
    except Exception as error:               # a hostile or damaged pickle can raise anything
        raise ValueError(f'{path}: expected a pickled list of image tensors, '
                         f'found {error!s:.200}') from error


def grids_in(found):
    """Return the images (n, 3, h, w) that a pickle held; ValueError where it held others."""
    if isinstance(found, Inert):
        grids = list(found.value)            # all epochs in one array
    elif isinstance(found, list | tuple) and len(found) <= MOST_EPOCHS:
        grids = [each.value for each in found]
    else:
        raise ValueError('something else')
    if not all(grid.ndim == 4 and grid.shape[1] == 3 for grid in grids):
        raise ValueError('something else')
    return grids


def as_float(images):
    """Return images as float32; the bytes of pictures, 0 to 255, become numbers in [-1, 1]."""
    if images.dtype == torch.uint8:
        images = images / 127.5 - 1
    return images.to(torch.float32).contiguous()


class Inert:
    """What a program gets for a name, and for what it builds: it can do one thing, or nothing."""
    __slots__ = 'call', 'set_state', 'value'

    def __init__(self, value=None, call=None, set_state=None):
        self.value = value
        self.call = call
        self.set_state = set_state

    def __call__(self, *arguments):
        return self.call(*arguments)

    def __setstate__(self, state):
        self.set_state(self, *state)


class GridReader(pickle.Unpickler):
    """Reads one pickle of grids: bytes that hold a list of tensors or arrays."""

    def __init__(self, data):
        super().__init__(io.BytesIO(data))
        self.steps_left = MOST_STEPS
        self.room_left = COPIES * len(data)
        self.look_through(io.BytesIO(data), STEPS)
        self.names = {
            'torch._utils _rebuild_tensor_v2': Inert(call=self.tensor),
            'torch._utils _rebuild_parameter': Inert(call=lambda tensor, *_: tensor),
            'torch.storage _load_from_bytes': Inert(call=self.storage),
            'collections OrderedDict': Inert(call=Inert),
            '_codecs encode': Inert(call=self.encode),
            'numpy ndarray': Inert(),
            'numpy dtype': Inert(call=dtype),
            'numpy._core.multiarray _reconstruct': Inert(call=empty_array),
            'numpy._core.numeric _frombuffer': Inert(call=array_of)}
        self.names |= {f'torch {name}': Inert() for name in TYPES}
        self.names |= {f'torch._utils _rebuild_{name}': Inert(call=lambda numbers, *_: numbers)
                       for name in WITHOUT_STORAGE}

    def find_class(self, module, name):
        """Give the stand-in of a name, in place of the thing."""
        return self.names[f'{module} {name}'.replace('numpy.core', 'numpy._core')]

    def look_through(self, file, steps=None):
        """Count the steps of a program, and refuse those of other kinds, without taking any."""
        for opcode, value, _ in pickletools.genops(file):
            self.steps_left -= 1
            too_far = 'PUT' in opcode.name and value > MOST_STEPS
            unknown = steps and opcode.name not in steps
            if self.steps_left < 0 or too_far or unknown:
                raise ValueError(f'the step {opcode.name}, or too many steps')

    def spend(self, data, kind):
        """Refuse a program that decodes the same bytes again and again."""
        self.room_left -= len(data)
        if type(data) is not kind or self.room_left < 0:
            raise ValueError('numbers that would take far more room than the file')

    def encode(self, text, *_):
        """Bytes, which protocol 2 writes as text."""
        self.spend(text, str)
        return text.encode('latin1')

    def storage(self, data):
        """Numbers as torch writes them into a pickle; torch reads them, and runs nothing either."""
        self.spend(data, bytes)
        file = io.BytesIO(data)
        for _ in range(PICKLES_IN_A_STORAGE):        # which a packed storage does not begin with
            self.look_through(file)
        storage = torch.load(io.BytesIO(data), map_location='cpu', weights_only=True)
        numbers = torch.empty(0, dtype=storage.dtype)
        return Inert(numbers.set_(storage._untyped_storage))

    def tensor(self, storage, offset, size, stride, *_):
        """A tensor; torch refuses one that leads outside its storage."""
        return Inert(storage.value.as_strided(size, stride, offset))


def dtype(kind, *_):
    return Inert(kind, set_state=check_order)


def check_order(kind, _, order, *rest):
    if order not in ('<', '|'):
        raise ValueError('numbers in another order of bytes')


def empty_array(*_):
    return Inert(set_state=fill_array)


def fill_array(empty, _, shape, kind, by_columns, data):
    empty.value = numbers_in(data, kind, shape, 'F' if by_columns else 'C')


def array_of(data, kind, shape, order):
    return Inert(numbers_in(data, kind, shape, order))


def numbers_in(data, kind, shape, order):
    """Return the plain numbers of an array's bytes as a tensor."""
    if type(kind.value) is not str or kind.value not in KINDS:
        raise ValueError('an array of other things than numbers')
    flat = np.frombuffer(bytearray(data), kind.value)
    return torch.from_numpy(flat.reshape(shape, order=order))
