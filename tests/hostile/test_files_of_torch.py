"""Files of torch read as data: all that is data comes back, and all else is refused."""
import io
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from machinery.files import load_safely
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


# --------------------------------------------------------------------------------- what is refused


class Odd:
    """An object of one's own."""


REFUSED = {
    'a class of my own': [Odd()],
    'a path': dict(folder=Path('faces')),
    'an array of objects': np.array([{}], object),
}


@pytest.mark.parametrize('what', REFUSED)
def test_what_is_no_data_is_refused(what):
    """In words that name it."""
    with pytest.raises(ValueError, match='is damaged, or no file of torch'):
        through_torch(REFUSED[what])


def test_what_is_refused_is_named():
    with pytest.raises(ValueError, match='found .*Odd$'):
        through_torch([Odd()])
