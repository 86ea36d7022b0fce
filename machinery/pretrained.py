"""Trained networks in folders: those that the project ships, and those that are handed on."""
import hashlib
import json
import os
from pathlib import Path

import safetensors.torch
import torch

from . import files
from .console import fitting, setting
from .identity import code_of, other_code
from .pictures import show_grid

ASSETS = Path(__file__).parent.parent / 'assets'
PRETRAINED = ASSETS / 'dcgan-64'             # the pair that helpers and experiments draw with
FORMAT = 1                                   # of the folders
NETWORKS = 'G_average', 'G', 'D'             # of a pair
UNNAMED = 'images that it does not name'     # what a pair learnt, where nothing says it
THEN = ', and before that '                  # between the images that a pair learnt


def save_networks(folder, config, networks):
    """Write networks into a folder that load_networks reads.

    config    what is known of them, plain values: config.json
    networks  {name: state dict}: model.safetensors, in half precision
    The checksum in config.json tells whether the two files belong together.
    Raises ValueError for numbers that half precision cannot hold, OSError where the disk is full.
    """
    tensors = {}
    for network, weights in networks.items():
        for name, value in weights.items():
            if value.is_floating_point():
                value = value.half()
            if not value.isfinite().all():
                raise ValueError(f'{network}.{name} holds numbers that float16 cannot hold')
            # A copy of its own for each: G_average is G itself where nothing is averaged.
            tensors[f'{network}.{name}'] = value.contiguous().clone()
    data = safetensors.torch.save(tensors, metadata=dict(format='pt'))
    config = dict(format=FORMAT, **config, sha256=hashlib.sha256(data).hexdigest())
    files.write_bytes(folder / 'model.safetensors', data)
    write_config(folder, config)


def write_config(folder, config):
    """Write config.json of a folder; OSError where the disk is full."""
    text = json.dumps(config, indent=2, ensure_ascii=False) + '\n'
    files.write_bytes(folder / 'config.json', text.encode())


def load_networks(folder, known):
    """Read a folder of save_networks: (config, {name: state dict, float32}).

    known  what config.json has to hold
    Raises FileNotFoundError where a file is missing, and ValueError, in one sentence, where one is
    something else: cut short, of another version, or a pointer to a large file.
    """
    path = folder / 'config.json'
    try:
        config = json.loads(path.read_text(encoding='utf-8'))
        if config['format'] != FORMAT or any(name not in config for name in known):
            raise ValueError('another version')
        path = folder / 'model.safetensors'
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != config['sha256']:
            raise ValueError('another file')
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f'{path} does not exist: take it again from where {folder.name} '
                                f'came from.') from error
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{path} is damaged, of another version, or only a pointer to a large '
                         f'file: take it again from where {folder.name} came from.') from error
    networks = {}
    for name, value in safetensors.torch.load(data).items():
        network, _, name = name.partition('.')
        value = value.float() if value.is_floating_point() else value
        networks.setdefault(network, {})[name] = value
    return config, networks


# ------------------------------------------------------------------------------------------ a pair


def load_pair(folder=None):
    """Read a generator and its discriminator, all that is needed to train on from there: a dict.

    generator, discriminator  the arguments of Generator and Discriminator
    G, G_average, D           for load_state_dict, float32
    config                    all of config.json
    folder may begin with ~, and stand in the project if it is not in the current folder; None: the
    pair that comes with the project.
    Raises what load_networks raises.
    """
    folder = Path(os.path.expanduser(folder or PRETRAINED))
    if not folder.exists():
        folder = ASSETS.parent / folder
    arguments = 'generator', 'discriminator'
    config, networks = load_networks(folder, arguments)
    return networks | {name: config[name] for name in arguments} | dict(config=config)


def choose_start(start=''):
    """Return the folder of the pair that a training goes on from: DCGAN_START, else start.

    '' where there is none. Raises FileNotFoundError or ValueError where it holds no pair.
    """
    start = setting('DCGAN_START', start)
    if start:
        load_pair(start)             # whether it is one is known before anything is built
    return start


def start_from(folder, D, G):
    """Give networks the weights of a pair, to train on from there; return what is known of it.

    That is a dict for the run's configuration. pair: its checksum. pair_learnt, pair_kinds: the
    images that it learnt, in words and their kind, and before them those of its own pair: lists.
    Raises ValueError, in one sentence, where they are built otherwise than the pair's.
    """
    pair = load_pair(folder)
    for name, network in (('D', D), ('G', G)):
        try:
            network.load_state_dict(pair[name])
        except RuntimeError as error:
            raise ValueError(f'start: {name} in {folder} is built otherwise than the parameters '
                             f'ask for. What fits it is {_parameters_of(pair)}. Or train without '
                             f'a pair: start = \'\', and no DCGAN_START.') from error
    G.start = folder
    learnt = learnt_by(pair['config'])
    G.pair = dict(pair=pair['config']['sha256'], pair_learnt=learnt,      # for the run's config
                  pair_kinds=kinds_learnt_by(pair['config']))
    print(f'Training goes on from {folder}, which learnt {THEN.join(learnt)}. If yours are '
          f'among these, it may know those held out, and the distances flatter it.')
    return G.pair


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
    return [config.get('data') or UNNAMED, *config.get('went_on_from', {}).get('data', [])]


def kinds_learnt_by(config):
    """Return the kinds of the images of learnt_by; 'own' where it is not known."""
    return [config.get('kind', 'own'), *config.get('went_on_from', {}).get('kinds', [])]


# ---------------------------------------------------------------------------------- the generator


def build(Network, arguments, weights):
    """Build a network and give it trained weights; arguments that its class lacks are left out.

    Returns it on the CPU. Raises ValueError, in one sentence, where the weights are another's.
    """
    known = fitting(Network, arguments)
    try:
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
    stand_ins = dict(conv_dim=config.get('g_conv_dim'), img_size=config.get('img_size'))
    return {name: value for name, value in stand_ins.items() if value is not None} | built


def rebuild(Generator, config, weights):
    """Build the Generator that a configuration describes (see arguments_of), with trained weights.

    Returns G on the CPU, which knows its z_size, and in .learnt what it was trained on, in words.
    Raises ValueError, in one sentence, where the weights are those of another Generator: of other
    shapes, or of other code, where that is known.
    """
    arguments = arguments_of(config)
    G = build(Generator, arguments, weights)
    changed = other_code(config, dict(source_code=code_of(Generator)))
    if changed:
        raise ValueError(f'the weights were trained with other code of {", ".join(changed)} than '
                         f'is defined here: put it back, or train again.')
    G.z_size = arguments['z_size']
    G.learnt = THEN.join([config.get('data') or UNNAMED, *config.get('pair_learnt', [])])
    return G


def show_pretrained(Generator, n=16):
    """Draw faces of the generator that comes with the project, if it fits the class Generator.

    Random numbers that are drawn afterwards stay the same.
    """
    try:
        pair = load_pair()
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            G = rebuild(Generator, pair, pair['G_average'])
            images = G.eval()(torch.randn(n, G.z_size))
    except (OSError, ValueError) as error:
        print(f'No faces of the generator that comes with the project: {error}')
        return
    show_grid(images, columns=8)
