"""All generators of random numbers at once: seeded, kept, and put back."""
import numbers
import random

import numpy as np
import torch


def set_seed(seed):
    """Seed the generators of torch, NumPy and Python: the same seed, the same run.

    Raises ValueError for what is no whole number.
    """
    if not isinstance(seed, numbers.Integral) or not -2 ** 63 <= seed < 2 ** 64:
        raise ValueError(f'seed: found {seed!r}, expected a whole number')
    torch.manual_seed(seed)
    np.random.seed(seed % 2 ** 32)
    random.seed(int(seed))


def random_state():
    """Return the state of every random generator in use, as plain values and tensors."""
    kind, keys, *rest = np.random.get_state()
    state = dict(torch=torch.get_rng_state(), cuda=[], python=random.getstate())
    state['numpy'] = [kind, keys.tolist(), *rest]
    if torch.cuda.is_available():
        state['cuda'] = [torch.cuda.get_rng_state()]     # under torchrun the same on all ranks
    return state


def set_random_state(state):
    """Put every random generator back to where random_state() saw it."""
    torch.set_rng_state(state['torch'])
    if state['cuda'] and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'][0])
    random.setstate(state['python'])
    np.random.set_state(tuple(state['numpy']))
