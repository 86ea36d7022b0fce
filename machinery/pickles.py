"""Pickles read without running them: tensors, arrays, numbers, texts and containers, nothing else.

A pickle is a program for a small machine with a stack, and Python's own reader lets that program
call whatever it names. Reader.read() below is the same machine with the steps that data need and no
others; FUNCTIONS, near the end, is all that a program may call. Nothing is imported by a name in
the file, nothing is written to but what the program itself has made, and three limits keep time and
memory in proportion to the file.
"""
import io
import math
import pickletools
import zipfile
from collections import OrderedDict

import torch

MOST_STEPS = 1_000_000       # in one file: a tensor takes some 50, and all of them two seconds
COPIES = 6                   # so many times its own size may a file's bytes be decoded or viewed
DEEPEST = 20                 # containers in containers
LARGEST_KEY = 2 ** 31

# The steps that push what stands behind them.
VALUES = {'INT', 'LONG', 'BININT', 'BININT1', 'BININT2', 'LONG1', 'FLOAT', 'BINFLOAT', 'UNICODE',
          'BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8', 'BINBYTES', 'SHORT_BINBYTES',
          'BINBYTES8', 'BYTEARRAY8'}
DTYPES = {'b1': torch.bool, 'u1': torch.uint8, 'u2': torch.uint16, 'u4': torch.uint32,
          'u8': torch.uint64, 'i1': torch.int8, 'i2': torch.int16, 'i4': torch.int32,
          'i8': torch.int64, 'f2': torch.float16, 'f4': torch.float32, 'f8': torch.float64}
STORAGES = {'BoolStorage': torch.bool, 'ByteStorage': torch.uint8, 'CharStorage': torch.int8,
            'ShortStorage': torch.int16, 'IntStorage': torch.int32, 'LongStorage': torch.int64,
            'HalfStorage': torch.float16, 'BFloat16Storage': torch.bfloat16,
            'FloatStorage': torch.float32, 'DoubleStorage': torch.float64}


class Refused(ValueError):
    """There is something in the file that is no data, or too much of it."""


class Name(str):
    """What a program names, such as 'torch FloatStorage': the words, and never the thing."""


def read_archive(file):
    """Read what torch.save wrote: a zip archive of a pickle and of the numbers of its tensors.

    Raises ValueError, and whatever else a damaged file can raise.
    """
    with zipfile.ZipFile(file) as archive:
        size = archive.fp.seek(0, io.SEEK_END)
        if sum(member.file_size for member in archive.infolist()) > size:
            raise Refused('an archive that unpacks to more than itself')
        names = archive.namelist()
        folders = [name.removesuffix('data.pkl') for name in names if name.endswith('/data.pkl')]
        if len(folders) != 1:
            raise Refused('an archive of something else')
        folder = folders[0]
        if f'{folder}byteorder' in names and archive.read(f'{folder}byteorder') != b'little':
            raise Refused('numbers in another order of bytes')
        reader = Reader(size)
        storages = {}

        def load(reference):
            dtype, key = _dtype_and_key(reference)
            if (dtype, key) not in storages:
                storages[dtype, key] = reader.flat(archive.read(f'{folder}data/{key}'), dtype)
            return storages[dtype, key]

        return reader.read(io.BytesIO(archive.read(f'{folder}data.pkl')), load)


class Reader:
    """Reads the pickles of one file.

    size  bytes of the file
    """

    def __init__(self, size):
        self.steps = MOST_STEPS
        self.room = COPIES * size

    def read(self, file, load=None, functions=None):
        """Return what the pickle at the current position of a binary file describes.

        load       gives a tensor for what a program says of numbers outside of the pickle; None:
                   there are none
        functions  what the program may call, by name; None: FUNCTIONS
        Raises ValueError, and whatever else a damaged file can raise.
        """
        load = load or _refuse_reference
        if functions is None:
            functions = FUNCTIONS
        stacks = [[]]                # a mark puts another stack on top
        memo = {}
        for opcode, value in self.opcodes(file):
            stack = stacks[-1]
            match opcode:
                case 'PROTO' | 'FRAME':
                    pass
                case _ if opcode in VALUES:
                    stack.append(value)
                case 'NONE':
                    stack.append(None)
                case 'NEWTRUE':
                    stack.append(True)
                case 'NEWFALSE':
                    stack.append(False)

                case 'PUT' | 'BINPUT' | 'LONG_BINPUT':
                    if value > MOST_STEPS:
                        raise Refused('a place of the memo that nobody needs')
                    memo[value] = stack[-1]
                case 'MEMOIZE':
                    memo[len(memo)] = stack[-1]
                case 'GET' | 'BINGET' | 'LONG_BINGET':
                    stack.append(memo[value])
                case 'DUP':
                    stack.append(stack[-1])
                case 'MARK':
                    stacks.append([])

                case 'EMPTY_TUPLE':
                    stack.append(())
                case 'TUPLE1' | 'TUPLE2' | 'TUPLE3':
                    length = int(opcode[-1])
                    stack[-length:] = [tuple(stack[-length:])]
                case 'TUPLE':
                    items = stacks.pop()
                    stacks[-1].append(tuple(items))
                case 'EMPTY_LIST':
                    stack.append([])
                case 'LIST':
                    items = stacks.pop()
                    stacks[-1].append(items)
                case 'APPEND':
                    item = stack.pop()
                    _extend(stack[-1], [item])
                case 'APPENDS':
                    items = stacks.pop()
                    _extend(stacks[-1][-1], items)
                case 'EMPTY_DICT':
                    stack.append({})
                case 'DICT':
                    items = stacks.pop()
                    stacks[-1].append({})
                    _set_items(stacks[-1][-1], items)
                case 'SETITEM':
                    items = [stack.pop(-2), stack.pop()]
                    _set_items(stack[-1], items)
                case 'SETITEMS':
                    items = stacks.pop()
                    _set_items(stacks[-1][-1], items)

                case 'GLOBAL':
                    stack.append(_name(*value.split(' ')))
                case 'STACK_GLOBAL':
                    stack.append(_name(stack.pop(-2), stack.pop()))
                case 'BINPERSID':
                    stack.append(load(stack.pop()))
                case 'REDUCE':
                    arguments = _checked(stack.pop(), tuple)
                    function = _look_up(stack.pop(), Name, functions)
                    stack.append(function(self, *arguments))
                case 'BUILD':
                    state = stack.pop()
                    self.build(stack[-1], state)
                case 'STOP':
                    result = stack.pop()
                    _check_extent(result)
                    return result
                case _:
                    raise Refused(f'the step {opcode}, which no data need')

    def opcodes(self, file):
        """Yield (name, what stands behind it) of each step of a program; count them."""
        for opcode, value, _ in pickletools.genops(file):
            self.steps -= 1
            if self.steps < 0:
                raise Refused(f'more than {MOST_STEPS:,} steps')
            yield opcode.name, value

    def spend(self, n_bytes):
        """Take room for a copy or a view of so many bytes."""
        self.room -= n_bytes
        if self.room < 0:
            raise Refused('numbers that would take far more room than the file')

    def build(self, target, state):
        """Give an object its state: an array its numbers, a dict of weights its version."""
        if type(target) is torch.Tensor:
            _, shape, dtype, by_columns, data = _checked(state, tuple)
            target.data = self.array(data, dtype, shape, 'F' if by_columns else 'C')
        elif type(target) is OrderedDict:
            versions = _checked(state, dict)['_metadata']            # of the layers
            target._metadata = _checked(versions, OrderedDict)
        elif type(target) is not torch.dtype or _checked(state, tuple)[1] not in ('<', '|'):
            raise Refused('the state of something else than an array or a dict')

    # ---------------------------------------------- what a program may call; see FUNCTIONS below

    def tensor(self, storage, offset, size, stride, *_):
        """A tensor that lies inside its storage, and has no more numbers than that."""
        _check_numbers(offset, *_checked(size, tuple), *_checked(stride, tuple))
        n_numbers = math.prod(size)
        n_stored = _checked(storage, torch.Tensor).untyped_storage().nbytes() // storage.itemsize
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        if n_numbers > n_stored or last >= n_stored > 0:
            raise Refused('a tensor that leads outside its storage')
        self.spend(n_numbers * storage.itemsize)
        return storage.as_strided(size, stride, offset)

    def parameter(self, tensor, *_):
        """The tensor of a parameter."""
        return _checked(tensor, torch.Tensor)

    def storage(self, data):
        """Numbers as torch writes them into a pickle: behind five pickles and a count of 8 bytes.

        The fourth one says what they are. It may call nothing, and so holds no storage of its own.
        """
        self.spend(len(_checked(data, bytes)))
        file = io.BytesIO(data)
        for _ in ('a magic number', 'the version', 'the sizes of types'):
            self.skip(file)
        dtype = self.read(file, lambda reference: _dtype_and_key(reference)[0], functions={})
        self.skip(file)              # the keys: there is but one
        return self.flat(data[file.tell() + 8:], dtype)

    def skip(self, file):
        for _ in self.opcodes(file):
            pass

    def ordered_dict(self):
        return OrderedDict()

    def text_to_bytes(self, text, encoding):
        """Bytes, which protocol 2 writes as text."""
        self.spend(len(_checked(text, str)))
        return text.encode('latin1')

    def dtype(self, code, *_):
        """The kind of an array's numbers: whole, true or false, or with a point."""
        return _look_up(code, str, DTYPES)

    def empty_array(self, *_):
        """An array that a BUILD fills later."""
        return torch.empty(0)

    def array(self, data, dtype, shape, order, axes=()):
        """An array of this shape, by rows (order 'C'), by columns ('F'), or in an order of axes."""
        _check_numbers(*_checked(shape, tuple), *_checked(axes, tuple))
        flat = self.flat(data, dtype)
        if _checked(order, str) == 'C':
            return flat.reshape(shape)
        if order == 'F':
            return flat.reshape(shape[::-1]).permute(*reversed(range(len(shape))))
        if order == 'K':
            return flat.reshape(shape).permute(axes)
        raise Refused('an array of another order')

    def scalar(self, dtype, data):
        """One of NumPy's numbers, as Python's own."""
        return self.flat(data, dtype).item()

    def flat(self, data, dtype):
        """A copy of bytes, as numbers in a row."""
        self.spend(len(_checked(data, bytes, bytearray)))
        if not data:
            return torch.empty(0, dtype=dtype)
        if dtype is torch.bool:
            return torch.frombuffer(bytearray(data), dtype=torch.uint8) != 0     # 65 is no bool
        return torch.frombuffer(bytearray(data), dtype=dtype)


FUNCTIONS = {
    'torch._utils _rebuild_tensor_v2': Reader.tensor,
    'torch._utils _rebuild_parameter': Reader.parameter,
    'torch.storage _load_from_bytes': Reader.storage,
    'collections OrderedDict': Reader.ordered_dict,
    '_codecs encode': Reader.text_to_bytes,
    'numpy dtype': Reader.dtype,
    'numpy._core.multiarray _reconstruct': Reader.empty_array,
    'numpy._core.numeric _frombuffer': Reader.array,
    'numpy._core.multiarray scalar': Reader.scalar,
}


# ------------------------------------------------------------------------------------------- checks
# Nothing of a file is printed, hashed or compared before its type is known: lists of lists of lists
# in a few hundred bytes keep a computer busy for years.

def _checked(thing, *types):
    """Return thing if it is of one of these very types."""
    if type(thing) not in types:
        raise Refused(f'{type(thing).__name__} where {types[0].__name__} belongs')
    return thing


def _look_up(key, kind, table):
    """Return what a table has for a key of this type."""
    if _checked(key, kind) not in table:
        raise Refused(f'{key[:50]!r}, which is no part of a tensor')
    return table[key]


def _check_numbers(*numbers):
    """Refuse a shape, a stride or an offset that no tensor has."""
    if len(numbers) > 20 or any(not 0 <= _checked(number, int) < 2 ** 40 for number in numbers):
        raise Refused('a shape that no tensor has')


def _name(module, name):
    """Return a Name if it is one that data have."""
    module = _checked(module, str).replace('numpy.core', 'numpy._core')      # as NumPy 1 wrote it
    found = Name(f'{module} {_checked(name, str)}')
    is_storage = module in ('torch', 'torch.cuda') and name in STORAGES
    if not is_storage and found not in FUNCTIONS and found != 'numpy ndarray':
        raise Refused(f'the name {found[:100]!r}, which is no part of a tensor')
    return found


def _refuse_reference(reference):
    raise Refused('a reference to numbers outside of it')


def _dtype_and_key(reference):
    """Return (dtype, key) of numbers outside of the pickle, from what torch says of them."""
    _, name, key, *_ = _checked(reference, tuple)
    _, kind = _checked(name, Name).split(' ')
    return _look_up(kind, str, STORAGES), _checked(key, str)


def _extend(target, items):
    _checked(target, list).extend(items)


def _set_items(target, items):
    """Put keys and values, in turn, into a dict. Keys are texts and numbers of usual size."""
    _checked(target, dict, OrderedDict)
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(_checked(key, str, int)) is int and abs(key) >= LARGEST_KEY:
            raise Refused('a key that is a huge number')
        target[key] = value


def _check_extent(thing):
    """Refuse containers that would hardly end if they were written out: lists of lists of lists."""
    n_items = 0
    level = [thing]
    for _ in range(DEEPEST):
        containers = [item for item in level if type(item) in (list, tuple, dict, OrderedDict)]
        n_items += sum(map(len, containers))
        if n_items > MOST_STEPS:
            raise Refused('containers in containers without end')
        level = []
        for container in containers:
            level += container.values() if isinstance(container, dict) else container
        if not level:
            return
    raise Refused('containers in containers without end')
