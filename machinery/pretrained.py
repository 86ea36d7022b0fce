"""The files that the project trained and ships, and the folders in which networks are handed on."""
import hashlib
import json
import os
from pathlib import Path

import safetensors.torch
import torch

from . import files
from .identity import code_of, other_code, shapes
from .lesson import fitting
from .pictures import show_grid

ASSETS = Path(__file__).parent.parent / 'assets'
PRETRAINED = ASSETS / 'dcgan-64'             # the generator that helpers and experiments draw with
FORMAT = 1                                   # of the folders
NETWORKS = 'G_average', 'G', 'D'
UNNAMED = 'images that it does not name'     # what a pair learnt, where nothing says it
THEN = ', and before that '                  # between the images that a pair learnt


def load_shipped(path, names, read=files.load_safely):
    """Read a file that comes with the project, or in a folder of save_pair: a dict.

    names  what it must hold
    read   the function from its path to the dict
    Raises FileNotFoundError where it is missing, and ValueError, in one sentence, where it is
    something else: empty, cut short, of another version, or a pointer to a large file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist: {_again(path)}.')
    what = 'is damaged or cut short'
    try:
        saved = read(path)
        if isinstance(saved, dict) and all(name in saved for name in names):
            return saved
        what = 'is of another version'
    except Exception:                                # a damaged file can raise anything
        start = path.read_bytes()[:100]
        if not start:
            what = 'is empty'
        elif start.startswith(b'version https://git-lfs'):
            what = 'is only a pointer to a large file (git lfs pull fetches that)'
    raise ValueError(f'{path} {what}: {_again(path)}.')


def _again(path):
    """Say where to take a file from that is no good."""
    ours = path.resolve().is_relative_to(ASSETS.resolve())
    return f'take it from {"the project" if ours else "where it came from"} again'


# ------------------------------------------------------------------------- a folder of two networks


def save_pair(folder, config, networks):
    """Write a generator and its discriminator into a folder that load_pair reads.

    config    what is known of them, plain values: config.json. 'generator' and 'discriminator' are
              the arguments of their classes
    networks  the weights {'G_average': , 'G': , 'D': }: model.safetensors, in half precision
    The checksum in config.json tells whether the two files belong together.
    Raises ValueError for numbers that half precision cannot hold, OSError where the disk is full.
    """
    tensors = {}
    for network in NETWORKS:
        for name, value in networks[network].items():
            if value.is_floating_point():
                value = value.half()
            if not value.isfinite().all():
                raise ValueError(f'{network}.{name} holds numbers that float16 cannot hold')
            # A copy of its own for each: G_average is G itself where nothing is averaged.
            tensors[f'{network}.{name}'] = value.contiguous().clone()
    data = safetensors.torch.save(tensors, metadata=dict(format='pt'))
    config = dict(format=FORMAT, **config, sha256=hashlib.sha256(data).hexdigest())
    files.write_atomically(folder / 'model.safetensors', lambda file: file.write(data))
    write_config(folder, config)


def write_config(folder, config):
    """Write config.json of a folder; OSError where the disk is full."""
    text = json.dumps(config, indent=2, ensure_ascii=False) + '\n'
    files.write_atomically(folder / 'config.json', lambda file: file.write(text.encode()))


def load_pair(folder):
    """Read a folder of save_pair, all that is needed to train on from there: a dict.

    generator, discriminator  the arguments of Generator and Discriminator
    G, G_average, D           for load_state_dict, float32
    config                    all of config.json
    folder may begin with ~, and stand in the project if it is not in the current folder.
    Raises FileNotFoundError where a file is missing, ValueError where one is damaged.
    """
    folder = _folder_meant(folder)
    path = folder / 'config.json'
    config = load_shipped(path, ('format', 'generator', 'discriminator', 'sha256'), _read_json)
    arguments = config['generator'], config['discriminator']
    known = all(isinstance(each, dict) for each in arguments) and 'z_size' in config['generator']
    if config['format'] != FORMAT or not known:
        raise ValueError(f'{path} is of another version: {_again(path)}.')

    def read(path):
        return _read_networks(path, config['sha256'])
    networks = load_shipped(folder / 'model.safetensors', NETWORKS, read)
    pair = {name: networks[name] for name in NETWORKS}
    return pair | dict(generator=arguments[0], discriminator=arguments[1], config=config)


def _folder_meant(name):
    """Return the folder that a name stands for: here, or in the project."""
    here = Path(os.path.expanduser(name))
    return here if here.exists() else ASSETS.parent / here


def _read_json(path):
    return json.loads(path.read_text(encoding='utf-8'))


def _read_networks(path, checksum):
    """Return {network: weights, float32} of a file; ValueError where it is not that of checksum."""
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != checksum:
        raise ValueError('it is not the file that it was')
    networks = {}
    for name, value in safetensors.torch.load(data).items():
        network, _, name = name.partition('.')
        networks.setdefault(network, {})[name] = value
    return {network: _in_full_precision(weights) for network, weights in networks.items()}


def _in_full_precision(weights):
    """Return a state dict whose floating point numbers are float32.

    Raises ValueError for one with numbers that are not finite.
    """
    full = {}
    for name, value in weights.items():
        if not value.isfinite().all():
            raise ValueError(f'{name} holds numbers that are not finite')
        full[name] = value.float() if value.is_floating_point() else value
    return full


def choose_start(start=''):
    """Return the folder of the pair that a training goes on from: DCGAN_START, else start.

    '' where there is none. Raises FileNotFoundError or ValueError where it holds no pair.
    """
    start = os.environ.get('DCGAN_START') or start
    if start:
        try:
            load_pair(start)
        except FileNotFoundError as error:
            raise FileNotFoundError(f'start: {start!r} is no folder of a trained pair. {error} '
                                    f'(experiments.export makes such a folder of a run.)') from None
    return start


def start_from(folder, D, G):
    """Give networks the weights of a pair, to train on from there; return what is known of it.

    That is a dict for the run's configuration. pair: its checksum. pair_learnt: the images that it
    learnt, and before them those of the pair that it went on from itself, a list of words.
    Raises ValueError, in one sentence, where they are built otherwise than the pair's.
    """
    pair = load_pair(folder)
    for name, network in (('D', D), ('G', G), ('G_average', G)):
        if shapes(network.state_dict()) != shapes(pair[name]):
            raise ValueError(f'start: {name} in {folder} is built otherwise than the parameters '
                             f'ask for. What fits it is {_parameters_of(pair)}. Or train without '
                             f'a pair: start = \'\', and no DCGAN_START.')
    D.load_state_dict(pair['D'])
    G.load_state_dict(pair['G'])
    G.start = folder
    learnt = learnt_by(pair['config'])
    print(f'Training goes on from {folder}, which learnt {THEN.join(learnt)}. If yours are '
          f'among these, it may know those held out, and the distances flatter it.')
    return dict(pair=pair['config']['sha256'], pair_learnt=learnt)


def _parameters_of(pair):
    """Return the notebook's parameters that suit a pair, as DCGAN_PRESET takes them."""
    wanted = dict(pair['generator'])
    wanted |= {f'd_{name}': value for name, value in pair['discriminator'].items()}
    if 'conv_dim' in wanted:
        wanted['g_conv_dim'] = wanted.pop('conv_dim')
    wanted.pop('d_img_size', None)                   # that of G
    return ' '.join(f'{name}={value}' for name, value in wanted.items())


def learnt_by(config):
    """Return what the pair of a config.json learnt, and before that its own pair: a list of words.
    """
    learnt = [config.get('data') or UNNAMED]
    before = config.get('went_on_from') or {}
    earlier = before.get('data', [])
    return learnt + ([earlier] if isinstance(earlier, str) else list(earlier))


# ---------------------------------------------------------------------------------- the generator


def load_pretrained(path=None):
    """Read a generator, the one that comes with the project or another: a dict.

    path       a folder of save_pair, or a file of an earlier version; None: PRETRAINED
    generator  the arguments of Generator
    weights    for load_state_dict, float32
    card       what is known of it, in words
    Raises FileNotFoundError where a file is missing, ValueError where one is damaged.
    """
    path = Path(path or PRETRAINED)
    if not path.is_dir():
        saved = load_shipped(path, ('generator', 'weights', 'card'))
        return saved | dict(weights=_in_full_precision(saved['weights']))
    pair = load_pair(path)
    card = path / 'README.md'
    words = card.read_text(encoding='utf-8') if card.is_file() else ''
    return dict(generator=pair['generator'], weights=pair['G_average'], card=words)


def build(Network, arguments, weights):
    """Build a network and give it trained weights; arguments that its class lacks are left out.

    Returns it on the CPU. Raises ValueError, in one sentence, where the weights are another's.
    """
    known = fitting(Network, arguments)
    try:
        with torch.device('meta'):           # takes no memory, whatever the arguments ask for
            n_wanted = sum(value.numel() for value in Network(**known).state_dict().values())
        if n_wanted > sum(value.numel() for value in weights.values()):
            raise RuntimeError('more numbers than there are')
        network = Network(**known)
        network.load_state_dict(weights)
    except (RuntimeError, TypeError) as error:
        words = ', '.join(f'{name}={value}' for name, value in known.items())
        raise ValueError(f'the weights are not those of {Network.__name__}({words}) as it is '
                         f'defined here.') from error
    return network


def arguments_of(config):
    """Return the arguments of the Generator of a configuration.

    Its 'generator' holds them; g_conv_dim and img_size stand in for those of a class that does not
    keep its own.
    """
    built = config.get('generator')
    if not isinstance(built, dict) or 'z_size' not in built:
        raise ValueError('this configuration does not say how its generator was built.')
    arguments = dict(built)
    for name, stand_in in (('conv_dim', 'g_conv_dim'), ('img_size', 'img_size')):
        if stand_in in config:
            arguments.setdefault(name, config[stand_in])
    return arguments


def rebuild(Generator, config, weights):
    """Build the Generator that a configuration describes (see arguments_of), with trained weights.

    Returns G on the CPU, which knows its z_size. Raises ValueError, in one sentence, where the
    weights are those of another Generator: of other shapes, or of other code, where that is known.
    """
    arguments = arguments_of(config)
    G = build(Generator, arguments, weights)
    changed = other_code(config.get('code', {}), code_of(Generator))
    changed = [name for name in changed if name != '<lambda>']       # it may be somebody else's
    if changed:
        raise ValueError(f'the weights were trained with other code of {", ".join(changed)} than '
                         f'is defined here: put it back, or train again.')
    G.z_size = arguments['z_size']
    return G


def show_pretrained(Generator, n=16):
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
    show_grid(images, columns=8)
