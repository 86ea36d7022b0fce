"""Pickles as people have them from older notebooks, and pickles that an attacker would send."""
import io
import os
import pickle
import zipfile

import numpy as np
import torch

IMAGES = torch.linspace(-1, 1, 16 * 3 * 32 * 32).view(16, 3, 32, 32)
TOUCH = "open('owned', 'w').close()"             # what leaves a trace if it is run


# ----------------------------------------------------------------------------------- as a GPU wrote

class _OldPickler(pickle.Pickler):
    """Writes tensors as a machine with a GPU did: their storages say cuda:0, mps:0 and so on."""

    def __init__(self, file, protocol, device):
        super().__init__(file, protocol)
        self.place = len(device).to_bytes(4, 'little') + device.encode()
        self.kind = b'ctorch.cuda\n' if device.startswith('cuda') else b'ctorch\n'

    def reducer_override(self, thing):
        if not isinstance(thing, (torch.storage.TypedStorage, torch.UntypedStorage)):
            return NotImplemented
        file = io.BytesIO()
        torch.save(thing, file, _use_new_zipfile_serialization=False)
        data = file.getvalue().replace(b'\x03\x00\x00\x00cpu', self.place)
        assert self.place in data
        data = data.replace(b'ctorch\nFloatStorage', self.kind + b'FloatStorage')
        return torch.storage._load_from_bytes, (data,)


def old_pickle(thing, protocol, device='cuda:0'):
    """Pickle tensors as if they were on a device that has storages."""
    file = io.BytesIO()
    _OldPickler(file, protocol, device).dump(thing)
    return file.getvalue()


class _PicklerWithoutStorages(pickle.Pickler):
    """Writes tensors as a device without storages did: as their numbers, and its own name."""

    def __init__(self, file, protocol, function, device):
        super().__init__(file, protocol)
        self.function, self.device = function, device

    def reducer_override(self, thing):
        if not isinstance(thing, torch.Tensor):
            return NotImplemented
        return self.function, (thing.detach().numpy(), thing.dtype, self.device, True)


def pickle_without_storages(thing, protocol, device, name='_rebuild_device_tensor_from_numpy'):
    """Pickle tensors as DirectML does, and others; name is the function that a torch calls then."""
    file = io.BytesIO()
    function = torch._utils._rebuild_device_tensor_from_numpy
    _PicklerWithoutStorages(file, protocol, function, device).dump(thing)
    return file.getvalue().replace(b'_rebuild_device_tensor_from_numpy', name.encode())


# ---------------------------------------------------------------------------- as an attacker would

class Calls:
    """An object whose pickle is a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class OwnObject(torch.nn.Linear):
    """A network of a class of one's own, which torch does not know."""


def os_system():
    """Among the images, a command for the shell."""
    return pickle.dumps([IMAGES, Calls(os.system, 'touch owned')])


def calls_exec():
    """A statement of Python."""
    return pickle.dumps(Calls(exec, TOUCH))


def eval_in_a_tuple():
    """An expression of Python behind images that are fine."""
    return pickle.dumps((IMAGES, Calls(eval, TOUCH)))


def calls_getattr():
    """The key to every other function."""
    return pickle.dumps([Calls(getattr, 'text', 'upper')])


def an_object_of_its_own():
    """A whole network instead of its weights."""
    return pickle.dumps([OwnObject(2, 2)])


def storage_that_holds_a_call():
    """A command inside the bytes that are a tensor's storage."""
    file = io.BytesIO()
    torch.save(Calls(os.system, 'touch owned'), file, _use_new_zipfile_serialization=False)
    return pickle.dumps([Calls(torch.storage._load_from_bytes, file.getvalue())])


def storage_that_is_packed():
    """A megabyte of zeros in a few bytes: torch's new format in place of its old one."""
    file = io.BytesIO()
    squeezed = io.BytesIO()
    torch.save(torch.zeros(250_000).untyped_storage(), file)
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(squeezed, 'w', zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return pickle.dumps([Calls(torch.storage._load_from_bytes, squeezed.getvalue())])


def tensor_outside_its_storage():
    """One pixel, a million places behind the end of four numbers."""
    storage = torch.zeros(4).storage()
    where = 10 ** 6, (1, 3, 1, 1), (1, 1, 1, 1)
    return pickle.dumps([Calls(torch._utils._rebuild_tensor_v2, storage, *where, False, {})])


def array_larger_than_memory():
    """A few bytes that ask for 8 TB."""
    return pickle.dumps(Calls(np.ndarray, (1 << 40,)))


def array_of_less_than_a_gigabyte():
    """A few bytes that ask for 6.4 GB, and get them on a large machine."""
    return pickle.dumps([Calls(np.ndarray, (800_000_000,))])


def picture_larger_than_memory():
    """One number that is said to be a whole grid of huge images."""
    return pickle.dumps([torch.zeros(1).expand(16, 3, 1 << 18, 1 << 18)])


def bytearray_of_8_gigabytes():
    """An opcode that makes room for 8 GB, followed by one letter."""
    return b'\x80\x05\x96' + (2 ** 33).to_bytes(8, 'little') + b'x.'


def memo_of_2_billion_places():
    """An opcode that puts a number into the last of two billion places."""
    return b'\x80\x02K\x01r\xff\xff\xff\x7f.'


def lists_in_lists():
    """A list of ten lists of ten lists and so on: a billion numbers, should anyone count them."""
    nested = [1.]
    for _ in range(12):
        nested = [nested] * 10
    return pickle.dumps(nested)


def packed_as_torch_packs(data):
    """Return the bytes of an empty checkpoint with data in place of its pickle."""
    good_file, bad_file = io.BytesIO(), io.BytesIO()
    torch.save({}, good_file)
    with zipfile.ZipFile(good_file) as good, zipfile.ZipFile(bad_file, 'w') as bad:
        for part in good.namelist():
            bad.writestr(part, data if part.endswith('data.pkl') else good.read(part))
    return bad_file.getvalue()


# -------------------------------------------------------------------------- something else entirely

def letters():
    """A text, which is a sequence too."""
    return pickle.dumps('abc')


def a_dict():
    """Images by number."""
    return pickle.dumps({0: IMAGES})


def one_row_of_numbers():
    """A tensor, but of one dimension."""
    return pickle.dumps([torch.zeros(5)])


def no_images():
    """A list of words."""
    return pickle.dumps(['face'] * 16)


def no_list():
    """A number."""
    return pickle.dumps(3)


def half_a_file():
    """What a full disk leaves."""
    return pickle.dumps([IMAGES])[:-1000]


def nothing():
    """An empty file."""
    return b''


def text():
    """A table in place of a pickle."""
    return b'epoch,loss\n1,2\n'


HOSTILE = {
    'os.system': os_system,
    'exec': calls_exec,
    'eval in a tuple': eval_in_a_tuple,
    'getattr': calls_getattr,
    'an object of its own': an_object_of_its_own,
    'a storage that holds a call': storage_that_holds_a_call,
    'a storage that is packed': storage_that_is_packed,
    'a tensor outside its storage': tensor_outside_its_storage,
    'an array larger than memory': array_larger_than_memory,
    'an array of 6.4 GB': array_of_less_than_a_gigabyte,
    'a picture larger than memory': picture_larger_than_memory,
    'a bytearray of 8 GB': bytearray_of_8_gigabytes,
    'a memo of 2 billion places': memo_of_2_billion_places,
    'lists in lists': lists_in_lists,
    'letters': letters,
    'a dict': a_dict,
    'one row of numbers': one_row_of_numbers,
    'no images': no_images,
    'no list': no_list,
    'half a file': half_a_file,
    'nothing': nothing,
    'text': text,
}
