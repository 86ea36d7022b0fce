"""DCGAN_PRESET, and the preset that a machine gets without it."""
from pathlib import Path

import pytest
import torch

import helpers

PRESETS = {'smoke': dict(n_epochs=2, max_images=4),
           'quick': dict(n_epochs=9, max_images=None),
           'full': dict(n_epochs=50, max_images=None)}


@pytest.mark.parametrize('wish, expected', [
    ('smoke', dict(n_epochs=2, max_images=4)),
    ('quick n_epochs=3 max_images=10', dict(n_epochs=3, max_images=10)),
    ('smoke max_images=None', dict(n_epochs=2, max_images=None))])
def test_presets(monkeypatch, wish, expected):
    monkeypatch.setenv('DCGAN_PRESET', wish)
    assert helpers.choose_preset(PRESETS) == expected


def test_preset_of_the_machine(monkeypatch):
    """'full' on a GPU, 'quick' on a CPU."""
    monkeypatch.delenv('DCGAN_PRESET', raising=False)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: 'a GPU')
    for has_gpu, name in ((False, 'quick'), (True, 'full')):
        monkeypatch.setattr(torch.cuda, 'is_available', lambda has_gpu=has_gpu: has_gpu)
        assert helpers.choose_preset(PRESETS) == PRESETS[name]


PARAMETERS = dict(n_epochs=9, lr=4e-4, seed=42, objective='bce', balance=(), flip=True, img_size=32,
                  penalty=0.025, print_every=200, dataset='faces', max_images=None)


def configured(monkeypatch, wish, **by_hand):
    """The configuration that a wish gives, where the parameters cell says by_hand."""
    monkeypatch.setenv('DCGAN_PRESET', wish)
    scope = PARAMETERS | by_hand
    config = helpers.configure(scope.copy(), helpers.choose_preset(PRESETS), scope)
    assert scope == config
    return config


@pytest.mark.parametrize('wish, expected', [
    ('quick', {}),
    ('quick lr=0.0008 seed=1', dict(lr=0.0008, seed=1)),
    ('quick objective=hinge dataset="svhn"', dict(objective='hinge', dataset='svhn')),
    ('quick balance=("Male","Young")', dict(balance=('Male', 'Young'))),
    ('quick balance=Male', dict(balance=('Male',))),
    ('quick flip=False penalty=0 seed=0', dict(flip=False, penalty=0, seed=0)),
    ('quick n_epochs=3', dict(n_epochs=3))])
def test_preset_changes_every_parameter(monkeypatch, wish, expected):
    """Also those that no preset has, each in its own kind; what it says is the last word."""
    assert configured(monkeypatch, wish) == PARAMETERS | expected


@pytest.mark.parametrize('wish, message', [
    ('quick n_epoch=1', "DCGAN_PRESET: found 'n_epoch', .* Did you mean 'n_epochs'?"),
    ('quick objektive=bce', "Did you mean 'objective'?"),
    ('quick flip=yes', "flip: found 'yes', expected one of 'True', 'False'"),
    ('quick lr=fast', "lr: found 'fast', expected a number"),
    ('quick lr=True', "lr: found 'True', expected a number"),
    ('quick seed=1.5', "seed: found '1.5', expected a whole number"),
    ('quick print_every=0', 'print_every: found 0, expected a whole number, 1 or more'),
    ('quick balance=7', r"balance: found '7', expected a name, or several like"),
    ('quick img_size=48', 'img_size: found 48, expected one of 32, 64, 128'),
    ('quick lr', "lr: found '', expected a number"),
    ('quick lr=1 lr=2', "DCGAN_PRESET: found lr twice, expected it once"),
    ('quick n_epochs=1 n_epochs=1', "DCGAN_PRESET: found n_epochs twice"),
    ('quick lr=0', 'lr: found 0, expected a number above 0'),
    ('quick lr=1e999', 'lr: found inf, expected a number above 0')])
def test_wrong_changes_are_refused_in_words(monkeypatch, wish, message):
    with pytest.raises(ValueError, match=message):
        configured(monkeypatch, wish)


def test_values_by_hand_become_plain_ones(monkeypatch):
    """As checkpoints hold them: a path as text, a list as a tuple."""
    monkeypatch.setenv('DCGAN_PRESET', 'quick')
    scope = PARAMETERS | dict(dataset=Path('some/where'), balance=['Male', 'Young'])
    config = helpers.configure(scope.copy(), helpers.choose_preset(PRESETS), scope)
    assert (config['dataset'], config['balance']) == ('some/where', ('Male', 'Young'))
    assert (scope['dataset'], scope['balance']) == ('some/where', ('Male', 'Young'))


def test_wrong_size_by_hand_is_refused_at_once(monkeypatch):
    """Before any image is decoded, wherever the size comes from."""
    with pytest.raises(ValueError, match='img_size: found 48, expected one of 32, 64, 128'):
        configured(monkeypatch, 'quick', img_size=48)


@pytest.mark.parametrize('by_hand, expected', [
    (dict(lr=-1e-4), 'a number above 0'),
    (dict(lr='fast'), 'a number above 0'),
    (dict(lr=float('nan')), 'a number above 0'),
    (dict(penalty=-1), 'a number, 0 or more'),
    (dict(penalty=True), 'a number, 0 or more'),
    (dict(ema_decay=1.5), 'a number from 0 to just below 1'),
    (dict(ema_decay=1), 'a number from 0 to just below 1'),
    (dict(rescue=5), 'a number from 0 to just below 1'),
    (dict(beta1=1), 'a number from 0 to just below 1'),
    (dict(beta2=-0.1), 'a number from 0 to just below 1'),
    (dict(batch_size=0), 'a whole number, 1 or more'),
    (dict(z_size=2.5), 'a whole number, 1 or more'),
    (dict(epoch_size=12.5), 'a whole number, 1 or more'),
    (dict(epoch_size=-1), 'a whole number, 1 or more'),
    (dict(penalty_every=0), 'a whole number, 1 or more'),
    (dict(distance_every=0), 'a whole number, 1 or more'),
    (dict(hold_out='0.1'), 'a share from 0 to 0.5'),
    (dict(hold_out=0.6), 'a share from 0 to 0.5'),
    (dict(resume='False'), 'one of True, False'),
    (dict(flip=None), 'one of True, False')], ids=str)
def test_parameters_out_of_range_are_refused_at_once(monkeypatch, by_hand, expected):
    """Before any image is decoded, and not after an epoch."""
    (name, value), = by_hand.items()
    with pytest.raises(ValueError, match=f'{name}: found {value!r}, expected {expected}'):
        configured(monkeypatch, 'quick', **by_hand)


def test_parameters_at_the_ends_of_their_ranges(monkeypatch):
    ends = dict(penalty=0, ema_decay=0, rescue=0, beta1=0.0, beta2=0, batch_size=1, hold_out=0.5)
    assert configured(monkeypatch, 'quick', **ends) == PARAMETERS | ends
