"""Pickles and files of torch read as data: all that is data comes back, and all else is refused."""
import io
import pickle
import random
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from machinery import pickles
from machinery.files import load_safely
from tests.hostile.programs import fetch, keep, lists_of_ten, program
from tests.tools import expect


def through_torch(thing):
    """Save a thing as a checkpoint is saved, and read it."""
    file = io.BytesIO()
    torch.save(thing, file)
    return load_safely(file)


def expect_same(found, wanted, where='it'):
    """Hold two nested things against each other: types, keys, values, to the bit."""
    expect(type(found) is type(wanted), f'Type of {where}', type(found), type(wanted))
    if isinstance(wanted, dict):
        expect(list(found) == list(wanted), f'Keys of {where}', list(found), list(wanted))
        for key, value in wanted.items():
            expect_same(found[key], value, f'{where}[{key!r}]')
    elif isinstance(wanted, (list, tuple)):
        expect(len(found) == len(wanted), f'Length of {where}', len(found), len(wanted))
        for number, value in enumerate(wanted):
            expect_same(found[number], value, f'{where}[{number}]')
    elif isinstance(wanted, torch.Tensor):
        same = found.dtype == wanted.dtype and torch.equal(found, wanted)
        expect(same and found.stride() == wanted.stride(), f'Tensor {where}', found, wanted)
    else:
        expect(found == wanted, f'Value of {where}', found, wanted)


def trained_network():
    """A network that has learnt a step, with its optimizer."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(
        memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), 2e-4, (0.5, 0.999))
    network(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    return network, optimizer


def test_all_of_a_checkpoint_comes_back():
    """Weights with their versions, an optimizer, random states, texts and numbers of every kind."""
    network, optimizer = trained_network()
    saved = dict(G=network.state_dict(), g_optimizer=optimizer.state_dict(),
                 random=(random.getstate(), torch.get_rng_state()),
                 config=dict(lr=2e-4, seed=None, big=2 ** 70, minus=-1, name='é "Fréchet"',
                             yes=True, nested=[(1, [2.5]), {}], data=b'\x00\xff'),
                 by_number={0: 'zero', 7: 'seven'}, of_no_numbers=torch.empty(0, 3),
                 one_number=torch.tensor(3), part=torch.arange(12).view(3, 4)[1:, ::2])
    found = through_torch(saved)
    expect_same(found, saved)
    assert found['G']._metadata == saved['G']._metadata


DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8, torch.int8,
          torch.int16, torch.int32, torch.int64, torch.bool]


@pytest.mark.parametrize('dtype', DTYPES)
def test_tensors_of_every_kind_of_number(dtype):
    """They come back as what they were."""
    expect_same(through_torch([torch.tensor([0, 1, 1, 0]).to(dtype)]),
                [torch.tensor([0, 1, 1, 0]).to(dtype)])


def test_tied_weights_stay_tied():
    """Two tensors on the same numbers still share them, as torch promises."""
    weights = torch.zeros(4)
    one, other = through_torch([weights, weights[1:]])
    one[2] = 5
    assert other[1] == 5


@pytest.mark.parametrize('code', '?bhilqBHILQefd')
def test_numbers_of_numpy_become_plain(code):
    """A configuration may hold them; they come back as Python's own."""
    number = np.dtype(code).type(1)
    found, = through_torch([number])
    assert found == number and type(found) in (bool, int, float)


def test_pickles_of_numpy_1_open():
    """It kept its functions elsewhere."""
    data = pickle.dumps(np.arange(6.).reshape(2, 3), 2).replace(b'numpy._core', b'numpy.core')
    assert b'numpy.core' in data
    found = pickles.Reader(len(data)).read(io.BytesIO(data))
    assert found.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_arrays_by_columns():
    """The order in memory is another, and the values stay where they were."""
    array = np.arange(24.).reshape(2, 3, 4)
    for order in (array.transpose(2, 1, 0), array.transpose(1, 0, 2), array[:, ::2]):
        for protocol in range(6):
            data = pickle.dumps(order, protocol)
            found = pickles.Reader(len(data)).read(io.BytesIO(data))
            assert torch.equal(found, torch.tensor(order.copy()))


def test_a_list_that_grew_in_place():
    """A grid may be put behind the end of a file, by the step that repeats the list before it."""
    data = pickle.dumps([torch.zeros(2)], 3)
    item = pickle.dumps(torch.ones(2), 3)
    grown = data[:-1] + pickle.DUP + item[:-1] + pickle.APPEND + pickle.STOP
    for found in (pickle.loads(grown), pickles.Reader(len(grown)).read(io.BytesIO(grown))):
        assert [each.tolist() for each in found] == [[0, 0], [1, 1]]


# --------------------------------------------------------------------------------- what is refused


class Odd:
    """An object of one's own."""


REFUSED = {
    'a class of my own': [Odd()],
    'a set': [{1, 2}],
    'a complex number': [1j],
    'an array of objects': np.array([{}], object),
    'an array of texts': np.array(['a']),
    'numbers the other way round': np.arange(3, dtype='>f4'),
    'a number of a tuple': {(1, 2): 3},
    'a huge number as a key': {2 ** 61: 1},
}


@pytest.mark.parametrize('what', REFUSED)
def test_what_is_no_data_is_refused(what):
    """In words that name it."""
    with pytest.raises(ValueError, match='expected a file of torch with tensors and plain values'):
        through_torch(REFUSED[what])


def read_bytes(data):
    return pickles.Reader(len(data)).read(io.BytesIO(data))


def test_lists_without_end_are_refused():
    """Nothing that a reader hands out takes for ever to be printed, compared or hashed."""
    with pytest.raises(pickles.Refused, match='without end'):
        read_bytes(program(lists_of_ten(), protocol=2))
    assert str(read_bytes(program(lists_of_ten(5), protocol=2))).count('1') == 10 ** 5
    in_itself = pickle.EMPTY_LIST + keep(0) + fetch(0) + pickle.APPEND
    with pytest.raises(pickles.Refused, match='without end'):
        read_bytes(program(in_itself))


def test_steps_are_counted(monkeypatch):
    """A file of more steps than allowed is refused, and so is one that hides them in a storage."""
    data = pickle.dumps(list(range(50)))
    monkeypatch.setattr(pickles, 'MOST_STEPS', 40)
    with pytest.raises(pickles.Refused, match='more than 40 steps'):
        read_bytes(data)


def test_truth_is_zero_or_one():
    """A byte of 65 in a tensor of truth values would be counted 65 times somewhere in torch."""
    data = pickle.dumps(np.array([True, False])).replace(b'\x01\x00\x94', b'\x41\x00\x94')
    assert read_bytes(data).view(torch.uint8).tolist() == [1, 0]


def test_what_is_built_knows_no_function(folder):
    """A name that is not called is a text, not the thing."""
    found, = read_bytes(b'\x80\x02](c_codecs\nencode\ne.')
    assert found == '_codecs encode' and isinstance(found, str)
    assert type(read_bytes(b'\x80\x02ccollections\nOrderedDict\n)R.')) is OrderedDict
