"""What dcgan_faces.ipynb calls: presets, and the doors to the rooms in machinery/.

Nothing here is needed to understand a GAN: the method is in the notebook, all of it. This file
chooses how much to train and passes on the names of the rooms behind it. What each room holds is
said in machinery/__init__.py.
"""
import ast
import math
import os
import platform
import sys
from pathlib import Path

import torch

from machinery.adopted import call_train
from machinery.batches import DeviceLoader, ImageDataset
from machinery.checkpoints import CHECKPOINTS, load_checkpoint, load_history
from machinery.console import check_choice, check_range, check_whole
from machinery.devices import choose_device, device_name, has_bfloat16, set_seed, to_device
from machinery.drawn import drawn_faces
from machinery.explorer import show_page
from machinery.fast_step import capture
from machinery.identity import code_of
from machinery.images import decode_folder
from machinery.latent import find_directions, invert, memorisation, move
from machinery.lesson import call, load_definitions
from machinery.lock import choose_run_folder
from machinery.metric import (
    ENCODER,
    FaceDistance,
    FaceEncoder,
    attribute_shares,
    nearest_faces,
    quality,
    seen_attributes,
)
from machinery.pictures import (
    film,
    plot_attributes,
    plot_distance,
    plot_losses,
    plot_recovery,
    show_beside,
    show_epochs,
    show_grid,
)
from machinery.pretrained import (
    choose_start,
    load_pair,
    rebuild,
    show_pretrained,
    start_from,
)
from machinery.run import Run
from machinery.samples import SAMPLES, load_samples
from machinery.sources import (
    FACES_COUNT,
    balancing_sampler,
    count_images,
    load_attributes,
    load_dataset,
    read_attributes,
)

__all__ = [
    # in this file
    'choose_preset', 'configure', 'face', 'versions',
    # pictures
    'film', 'plot_attributes', 'plot_distance', 'plot_losses', 'plot_recovery',
    'show_beside', 'show_epochs', 'show_grid', 'show_page', 'show_pretrained',
    # the data
    'DeviceLoader', 'FACES_COUNT', 'ImageDataset', 'balancing_sampler', 'decode_folder',
    'drawn_faces', 'load_attributes', 'load_dataset', 'read_attributes',
    # training
    'CHECKPOINTS', 'Run', 'SAMPLES', 'call', 'call_train', 'capture', 'check_choice',
    'check_whole', 'choose_device', 'choose_run_folder', 'choose_start', 'code_of', 'device_name',
    'has_bfloat16', 'load_checkpoint', 'load_definitions', 'load_history', 'load_pair',
    'load_samples', 'rebuild', 'set_seed', 'start_from', 'to_device',
    # quality
    'ENCODER', 'FaceDistance', 'FaceEncoder', 'attribute_shares', 'find_directions',
    'invert', 'memorisation', 'move', 'nearest_faces', 'quality', 'seen_attributes',
]

# -------------------------------------------------------------------------------- presets, versions

FEW_IMAGES = 2_000           # in a folder: with so many or fewer, the preset is 'few'


def choose_preset(presets):
    """Choose one of presets, a dict of dicts, and print which.

    It is 'full' on a GPU and 'quick' on a CPU, but 'few' where DCGAN_DATA names a folder of few
    images, unless DCGAN_PRESET names one. That may also change single values of it, and parameters
    that no preset has (see configure):
    DCGAN_PRESET='classic n_epochs=25 batch_size=64 lr=0.0002'.
    Raises ValueError for an unknown preset or an unsuitable value.
    """
    name, changes = _wish()
    why = ''
    if name is None:
        name, why = _what_suits(presets)
    check_choice(presets, DCGAN_PRESET=name)
    preset = dict(presets[name])
    for key, text in changes:
        if key not in preset:
            continue
        everything = key == 'max_images' and text == 'None'
        preset[key] = None if everything else _value_like(preset[key], key, text)
    if os.environ.get('RANK', '0') == '0':       # torchrun's processes have not met yet
        wish = os.environ.get('DCGAN_PRESET', '').strip() or name
        print(f'Preset {wish!r} on {device_name()}{why}')
    return preset


def _what_suits(presets):
    """Return the name of the preset that suits machine and images, and the reason in words."""
    n_images = count_images(os.environ.get('DCGAN_DATA', ''), FEW_IMAGES + 1)
    if 'few' in presets and 0 < n_images <= FEW_IMAGES:
        heart = ', and fewer than 100 are soon learnt by heart' if n_images < 100 else ''
        return 'few', (f': {n_images:,} images are few{heart}. So training goes on from a trained '
                       f'pair, and D sees images augmented. DCGAN_PRESET=quick begins from scratch')
    return ('full' if torch.cuda.is_available() else 'quick'), ''


WHOLE = ('batch_size', 'd_conv_dim', 'g_conv_dim', 'z_size', 'penalty_every', 'n_epochs',
         'print_every', 'distance_every')
SWITCHES = 'flip', 'd_batch_norm', 'lr_decay', 'sync_batch_norm', 'live_view', 'resume'
RANGES = {             # name: (lowest, below, in words)
    'lr': (sys.float_info.min, math.inf, 'a number above 0'),
    'penalty': (0, math.inf, 'a number, 0 or more'),
    'hold_out': (0, math.nextafter(0.5, 1), 'a share from 0 to 0.5'),
    **dict.fromkeys(('beta1', 'beta2', 'ema_decay', 'rescue'),
                    (0, 1, 'a number from 0 to just below 1')),
}


def configure(parameters, preset, scope):
    """Let DCGAN_PRESET have the last word on the parameters, and return them all, in a dict.

    parameters  their names
    preset      what choose_preset returned
    scope       the notebook's globals(), where they are set; changes are made there
    Raises ValueError for an unknown name or an unsuitable value.
    """
    _, changes = _wish()
    for name, text in changes:
        check_choice(dict.fromkeys([*preset, *parameters]), DCGAN_PRESET=name)
        if name in preset and name in parameters:
            scope[name] = preset[name]
        elif name in parameters:
            scope[name] = _value_like(scope[name], name, text)
    config = {name: _plain(scope[name]) for name in parameters}
    scope.update(config)
    check_choice((32, 64, 128), img_size=scope['img_size'])
    for name, value in config.items():
        if name in WHOLE:
            check_whole(**{name: value})
        elif name == 'epoch_size' and value != 0:
            check_whole(epoch_size=value)
        elif name in SWITCHES:
            check_choice((True, False), **{name: value})
        elif name in RANGES:
            check_range(*RANGES[name], **{name: value})
    return config


def _plain(value):
    """Return a value as checkpoints hold it: paths as texts, lists and sets as tuples."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return tuple(value) if isinstance(value, list | set) else value


def _wish():
    """Return what DCGAN_PRESET asks for: (name of a preset, [(name, text of the value)]).

    Where it asks for nothing, the name is None.
    """
    name, *changes = os.environ.get('DCGAN_PRESET', '').split() or [None]
    pairs = []
    for change in changes:
        key, _, text = change.partition('=')
        if key in dict(pairs):
            raise ValueError(f'DCGAN_PRESET: found {key} twice, expected it once')
        pairs.append((key, text))
    return name, pairs


def _value_like(now, name, text):
    """Return the value that a text stands for, of the same kind as the value now."""
    if isinstance(now, str):
        return text.strip('\'"')
    if isinstance(now, bool):
        check_choice(('True', 'False'), **{name: text})
        return text == 'True'
    value = _plain_value(text)
    if isinstance(now, tuple):
        kind, words = tuple, "a name, or several like ('one','another')"
        value = (value,) if isinstance(value, str) else value
    elif isinstance(now, int):
        kind, words = int, 'a whole number'
    else:
        kind, words = (int, float), 'a number'
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f'{name}: found {text!r}, expected {words}')
    if kind is int and name not in ('seed', 'epoch_size'):
        check_whole(**{name: value})
    return value


def _plain_value(text):
    """Return the number, tuple or other plain value that a text spells; else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def versions():
    """Return one line of provenance: Python, torch, device."""
    return f'Python {platform.python_version()}, torch {torch.__version__}, {device_name()}'


# -------------------------------------------------------------------------- faces without training


def face(numbers, folder=None):
    """Draw faces from their noise: images (n, 3, s, s) in [-1, 1].

    numbers  z_size numbers, as the page assets/explorer.html copies them, or n lists of them
    folder   the checkpoints of a run: 'checkpoints_gan', behind the run_folder if it has one.
             None: the generator that comes with the project
    Raises ValueError for anything else, FileNotFoundError where there is no run.
    """
    notebook = load_definitions(Path(__file__).with_name('dcgan_faces.ipynb'))
    if folder:
        G = notebook.load_generator(Path(folder).expanduser())
    else:
        pair = load_pair()
        G = rebuild(notebook.Generator, pair, pair['G_average'])
    try:
        z = torch.as_tensor(numbers, dtype=torch.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f'numbers: {error}, expected {G.z_size} for each face') from error
    if z.ndim not in (1, 2) or z.shape[-1] != G.z_size:
        raise ValueError(f'numbers: found {tuple(z.shape)}, expected {G.z_size} for each face')
    if not z.isfinite().all():
        raise ValueError('numbers: found some that are not finite')
    return notebook.generate(G, z.reshape(-1, G.z_size))
