"""The files that the project trained and ships, and the generators in them."""
from pathlib import Path

import torch

from . import files
from .calls import fitting
from .identity import code_of, other_code
from .pictures import show_grid

PRETRAINED = Path(__file__).parent.parent / 'assets/generator-32.pt'


def load_shipped(path, names):
    """Read a file that comes with the project: a dict with these names in it.

    Raises FileNotFoundError where it is missing, and ValueError, in one sentence, where it is
    something else: empty, cut short, of another version, or a pointer to a large file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist: it comes with the project, so take it '
                                f'from there again.')
    what = 'is damaged or cut short'
    try:
        saved = files.load_safely(path)
        if isinstance(saved, dict) and all(name in saved for name in names):
            return saved
        what = 'is of another version'
    except Exception:                                # a damaged file can raise anything
        start = path.read_bytes()[:100]
        if not start:
            what = 'is empty'
        elif start.startswith(b'version https://git-lfs'):
            what = 'is only a pointer to a large file (git lfs pull fetches that)'
    raise ValueError(f'{path} {what}: take it from the project again.')


def load_pretrained(path=None):
    """Read a generator that the project trained: a dict.

    generator  the arguments of Generator
    weights    for load_state_dict, float32
    card       what is known of it, in words
    Raises FileNotFoundError where the file is missing, ValueError where it is damaged.
    """
    saved = load_shipped(path or PRETRAINED, ('generator', 'weights', 'card'))
    weights = {}
    for name, value in saved['weights'].items():     # saved in half precision
        weights[name] = value.float() if value.is_floating_point() else value
    return saved | dict(weights=weights)


def rebuild(Generator, config, weights):
    """Build the Generator that a configuration describes, and give it trained weights.

    config  its 'generator' holds the arguments; g_conv_dim and img_size stand in for those of a
            class that does not keep its own
    Returns G on the CPU, which knows its z_size. Raises ValueError, in one sentence, where the
    weights are those of another Generator: of other shapes, or of other code, where that is known.
    """
    built = config.get('generator')
    if not isinstance(built, dict) or 'z_size' not in built:
        raise ValueError('this configuration does not say how its generator was built.')
    arguments = dict(built)
    for name, stand_in in (('conv_dim', 'g_conv_dim'), ('img_size', 'img_size')):
        if stand_in in config:
            arguments.setdefault(name, config[stand_in])
    known = fitting(Generator, arguments)
    try:
        G = Generator(**known)
        G.load_state_dict(weights)
    except (RuntimeError, TypeError) as error:
        words = ', '.join(f'{name}={value}' for name, value in known.items())
        raise ValueError(f'the weights are not those of Generator({words}) as it is defined '
                         f'here.') from error
    changed = other_code(config.get('code', {}), code_of(Generator))
    changed = [name for name in changed if name != '<lambda>']       # it may be somebody else's
    if changed:
        raise ValueError(f'the weights were trained with other code of {", ".join(changed)} than '
                         f'is defined here: put it back, or train again.')
    G.z_size = arguments['z_size']
    return G


def show_pretrained(Generator, n=32):
    """Draw faces of the generator that comes with the project, if it fits the class Generator.

    Random numbers that are drawn afterwards stay the same.
    """
    try:
        pretrained = load_pretrained()
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            G = rebuild(Generator, pretrained, pretrained['weights'])
            images = G.eval()(torch.randn(n, G.z_size))
    except (OSError, ValueError) as error:
        print(f'No faces of the generator that comes with the project: {error}')
        return
    show_grid(images, columns=16)
