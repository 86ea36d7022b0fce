"""The generators that the project trained and ships."""
from pathlib import Path

from . import files

PRETRAINED = Path(__file__).parent.parent / 'assets/generator-32.pt'


def load_pretrained(path=None):
    """Read a generator that the project trained: a dict.

    generator  the arguments of Generator
    weights    for load_state_dict, float32
    card       what is known of it, in words
    Raises FileNotFoundError where the file is missing.
    """
    path = Path(path or PRETRAINED)
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist: it comes with the project')
    saved = files.load_safely(path)
    weights = {}
    for name, value in saved['weights'].items():     # saved in half precision
        weights[name] = value.float() if value.is_floating_point() else value
    return saved | dict(weights=weights)
