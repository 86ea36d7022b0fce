"""All generators of random numbers at once."""
import random

import numpy as np
import pytest
import torch

from machinery import devices


def draw():
    """A number of each generator."""
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_seed_reaches_all_generators():
    """It makes the numbers of Python and NumPy the same again, too."""
    numbers = []
    for _ in range(2):
        devices.set_seed(42)
        numbers.append(draw())
    assert numbers[0] == numbers[1]
    torch.manual_seed(42)
    assert numbers[0][2] == torch.rand(1).item()


def test_large_and_negative_seeds_are_taken():
    """As torch takes them."""
    for seed in (-1, 2 ** 40):
        devices.set_seed(seed)
        first = draw()
        devices.set_seed(seed)
        assert draw() == first


@pytest.mark.parametrize('seed', [None, '1', 1.5, 2 ** 64])
def test_seed_that_is_no_whole_number_is_told(seed):
    with pytest.raises(ValueError, match='seed: found .*, expected a whole number'):
        devices.set_seed(seed)


def test_random_state_is_put_back():
    before = devices.random_state()
    first = draw()
    devices.set_random_state(before)
    assert draw() == first
