"""Every parameter of a run, once: its value in the preset quick, and what it may be.

The notebook's parameters cell shows the values of quick and says why they are so. Another preset
changes what nobody changed there by hand; DCGAN_PRESET has the last word.
"""
import ast
import math
import os
from collections import namedtuple

import torch

from .console import check_choice, is_number, is_whole, setting
from .devices import choose_device, device_name
from .identity import plain
from .sources import DATA_SETS, count_images

Kind = namedtuple('Kind', 'fits words')      # a function that tells what a value may be, in words


def are_names(value):
    return isinstance(value, tuple) and all(isinstance(each, str) for each in value)


def among(*choices):
    """One of these, which are all of one type: 32.0 is not 32."""
    words = 'one of ' + ', '.join(map(repr, choices))
    return Kind(lambda value: type(value) is type(choices[0]) and value in choices, words)


COUNT = Kind(lambda value: is_whole(value) and value >= 1, 'a whole number, 1 or more')
COUNT_OR_0 = Kind(lambda value: is_whole(value) and value >= 0, 'a whole number, 1 or more, or 0')
COUNT_OR_NONE = Kind(lambda value: value is None or COUNT.fits(value),
                     'a whole number, 1 or more, or None')
WHOLE = Kind(is_whole, 'a whole number')
SWITCH = Kind(lambda value: isinstance(value, bool), 'one of True, False')
TEXT = Kind(lambda value: isinstance(value, str), 'a text')
NAMES = Kind(are_names, "a name, or several like ('one','another')")
SHARE = Kind(lambda value: is_number(value) and 0 <= value < 1, 'a number from 0 to just below 1')
PART = Kind(lambda value: is_number(value) and 0 <= value <= 0.5 or TEXT.fits(value) and value,
            'a share from 0 to 0.5, or the path of a folder of others')
RATE = Kind(lambda value: is_number(value) and 0 < value < math.inf, 'a number above 0')
WEIGHT = Kind(lambda value: is_number(value) and 0 <= value < math.inf, 'a number, 0 or more')

PARAMETERS = {               # name: (value in quick, what it may be)
    'dataset': ('faces', among(*DATA_SETS)),
    'data_dir': ('processed_celeba_small/', TEXT),
    'max_images': (18_000, COUNT_OR_NONE),
    'hold_out': (0.1, PART),
    'img_size': (32, among(32, 64, 128)),
    'batch_size': (16, COUNT),
    'flip': (True, SWITCH),
    'augmentation': ((), NAMES),
    'epoch_size': (0, COUNT_OR_0),
    'balance': ((), NAMES),
    'd_conv_dim': (32, COUNT),
    'g_conv_dim': (32, COUNT),
    'z_size': (100, COUNT),
    'd_batch_norm': (True, SWITCH),
    'start': ('', TEXT),
    'objective': ('bce', TEXT),
    'penalty': (0.01, WEIGHT),
    'penalty_every': (16, COUNT),
    'lr': (8e-4, RATE),
    'beta1': (0.0, SHARE),
    'beta2': (0.999, SHARE),
    'lr_decay': (True, SWITCH),
    'ema_decay': (0.999, SHARE),
    'run_folder': ('.', TEXT),
    'n_epochs': (8, COUNT),
    'first_steps': (1_000, COUNT),
    'print_every': (1_000, COUNT),
    'distance_every': (2, COUNT),
    'live_view': (True, SWITCH),
    'resume': (True, SWITCH),
    'rescue': (0.5, SHARE),
    'threads': (0, COUNT_OR_0),
    'seed': (42, WHOLE),
}
QUICK = {name: value for name, (value, _) in PARAMETERS.items()}
PAPERS = dict(batch_size=128, lr=2e-4, beta1=0.5, penalty=0, flip=False, ema_decay=0,
              lr_decay=False)                # the recipe of the DCGAN paper
PRESETS = {                                  # name: what is otherwise than in quick
    'quick': dict(),                         # minutes on a CPU
    'classic': PAPERS,
    'full': dict(img_size=64, d_conv_dim=64, g_conv_dim=64, n_epochs=50, max_images=None,
                 distance_every=5),          # wants a GPU
    'few': dict(img_size=64, n_epochs=10, max_images=None, epoch_size=1_200, lr=2e-4,
                first_steps=200, ema_decay=0.995, start='assets/dcgan-64',
                augmentation=('colour', 'translation', 'cutout')),   # from a trained pair
    'smoke': dict(d_conv_dim=8, g_conv_dim=8, n_epochs=2, max_images=64, first_steps=20,
                  distance_every=1),         # seconds: for tests
}
# What train does without a config, as in train(D, G, n_epochs): the paper's recipe, and no more
PLAIN = {name: (QUICK | PAPERS)[name] for name in (
    'objective', 'penalty', 'penalty_every', 'flip', 'augmentation', 'start', 'ema_decay',
    'lr_decay', 'run_folder')}
PLAIN |= dict(distance_every=1, live_view=False, resume=False, rescue=0)
FEW_IMAGES = 2_000           # in a folder: with so many or fewer, the preset is 'few'


def configure(scope):
    """Check the parameters in a notebook's globals(), and return them: a dict.

    The preset that DCGAN_PRESET names, or what suits machine and images, changes those that have
    the value of quick: nobody changed them by hand. DCGAN_PRESET may also change single ones:
    DCGAN_PRESET='classic n_epochs=25 batch_size=64 lr=0.0002'. All is changed in scope as well.
    The CPU works with the number of threads that is set, if one is.
    Raises ValueError for an unknown preset or name, and for an unsuitable value.
    """
    name, wishes = wish()
    why = ''
    if not name:
        name, why = what_suits()
    check_choice(PRESETS, DCGAN_PRESET=name)
    by_hand = config_of(scope)
    untouched = [key for key, value in by_hand.items() if value == QUICK[key]]
    preset = {key: value for key, value in PRESETS[name].items() if key in untouched}
    config = by_hand | preset | {key: value for key, value in wishes.items() if key in by_hand}
    changes = {key: value for key, value in config.items() if value != by_hand[key]}
    if config.get('threads'):
        torch.set_num_threads(config['threads'])
    if os.environ.get('RANK', '0') == '0':       # torchrun's processes have not met yet
        print(f'Preset {name!r} on {device_name()}{why}')
        if changes:
            print('  It sets', ', '.join(f'{key} = {value!r}' for key, value in changes.items()))
    scope.update(config)
    return config


def config_of(scope):
    """Return the parameters as they are now in a notebook's globals(); ValueError for a wrong one.
    """
    return {name: checked(name, scope[name]) for name in PARAMETERS if name in scope}


def what_suits():
    """Return the name of the preset that suits machine and images, and the reason in words."""
    n_images = count_images(setting('DCGAN_DATA'), FEW_IMAGES + 1)
    if 0 < n_images <= FEW_IMAGES:
        heart = ', and fewer than 100 are soon learnt by heart' if n_images < 100 else ''
        return 'few', (f': {n_images:,} images are few{heart}. So training goes on from a trained '
                       f'pair, and D sees images augmented. DCGAN_PRESET=quick begins from scratch')
    return ('full' if choose_device().type == 'cuda' else 'quick'), ''


def wish():
    """Return (name, changes) of DCGAN_PRESET='name lr=0.001 ...'; ('', {}) where it is not set.

    conv_dim stands for d_conv_dim and g_conv_dim.
    """
    name, *words = setting('DCGAN_PRESET').split() or ['']
    changes = {}
    for word in words:
        key, _, text = word.partition('=')
        for each in ('d_conv_dim', 'g_conv_dim') if key == 'conv_dim' else (key,):
            check_choice(PARAMETERS, DCGAN_PRESET=each)
            changes[each] = checked(each, spelled(text))
    return name, changes


def spelled(text):
    """Return the number, tuple or other plain value that a text spells; else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text.strip('\'"')


def checked(name, value):
    """Return a parameter's value as checkpoints hold it; raise ValueError for one unsuitable."""
    _, kind = PARAMETERS[name]
    value = plain(value)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if kind is NAMES and isinstance(value, str):
        value = (value,)
    if kind is NAMES and isinstance(value, list | set):
        value = tuple(value)
    if not kind.fits(value):
        raise ValueError(f'{name}: found {value!r}, expected {kind.words}')
    return value
