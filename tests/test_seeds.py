"""All generators of random numbers at once."""
import json
import random

import numpy as np
import pytest
import torch

from machinery import seeds
from tests.tools import NOTEBOOK


def draw():
    """A number of each generator."""
    return random.random(), np.random.rand(), torch.rand(1).item()


def seeding_line():
    """The line of the notebook that seeds."""
    cells = json.loads(NOTEBOOK.read_text(encoding='utf-8'))['cells']
    source = ''.join(''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code')
    line, = [line for line in source.splitlines() if 'seed(seed)' in line and 'helpers' in line
             or line.startswith('torch.manual_seed(seed)')]
    return line


def test_seed_reaches_all_generators(notebook):
    """The notebook's seed makes the numbers of Python and NumPy the same again, too."""
    numbers = []
    for _ in range(2):
        exec(seeding_line(), vars(notebook) | dict(seed=42))
        numbers.append(draw())
    assert numbers[0] == numbers[1]
    torch.manual_seed(42)
    assert numbers[0][2] == torch.rand(1).item()


def test_large_and_negative_seeds_are_taken():
    """As torch takes them."""
    for seed in (-1, 2 ** 40):
        seeds.set_seed(seed)
        first = draw()
        seeds.set_seed(seed)
        assert draw() == first


@pytest.mark.parametrize('seed', [None, '1', 1.5, 2 ** 64])
def test_seed_that_is_no_whole_number_is_told(seed):
    with pytest.raises(ValueError, match='seed: found .*, expected a whole number'):
        seeds.set_seed(seed)


def test_random_state_is_put_back():
    before = seeds.random_state()
    first = draw()
    seeds.set_random_state(before)
    assert draw() == first
