"""The parameters: what the preset, a hand and DCGAN_PRESET make of them, and what they may be."""
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import helpers
from machinery import parameters
from machinery.parameters import PRESETS, QUICK, configure
from tests.tools import NOTEBOOK


def configured(monkeypatch, wish='quick', **by_hand):
    """The parameters that a wish gives, where the parameters cell says by_hand."""
    monkeypatch.setenv('DCGAN_PRESET', wish)
    scope = QUICK | by_hand
    config = configure(scope)
    assert scope == config
    return config


def test_the_cell_says_what_the_table_says():
    """The notebook's parameters have plain values: those of quick, and a reason for each.

    The first that a reader turns are in the cell tagged for papermill. The others are in the folded
    cell before it, so that whatever is injected or edited wins over them.
    """
    cells = json.loads(NOTEBOOK.read_text(encoding='utf-8'))['cells']
    place, = [number for number, cell in enumerate(cells)
              if 'parameters' in cell['metadata'].get('tags', [])]
    folded, first = cells[place - 1:place + 1]
    assert folded['metadata'] == {'jupyter': {'source_hidden': True}}
    assert 6 <= len(first['source']) <= 9
    lines = folded['source'] + first['source']
    values = {}
    exec('\n'.join(lines), values)
    del values['__builtins__']
    assert values == QUICK and len(lines) == len(QUICK)
    assert all('#' in line for line in lines)


@pytest.mark.parametrize('name', PRESETS)
def test_preset_changes_what_nobody_changed(monkeypatch, capsys, name):
    """And says in one line what it changed."""
    assert configured(monkeypatch, name) == QUICK | PRESETS[name]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f'Preset {name!r} on ')
    for key, value in PRESETS[name].items():
        if value != QUICK[key]:
            assert f'{key} = {value!r}' in printed[1]


def test_classic_is_the_papers_recipe(monkeypatch):
    config = configured(monkeypatch, 'classic')
    assert (config['batch_size'], config['lr'], config['beta1']) == (128, 2e-4, 0.5)
    assert not any(config[name] for name in ('penalty', 'flip', 'ema_decay', 'lr_decay'))


def test_ranks_of_preset_hand_and_environment(monkeypatch):
    """What papermill injects or a user edits wins over the preset, the environment over both."""
    assert configured(monkeypatch, 'full', img_size=128)['img_size'] == 128
    assert configured(monkeypatch, 'full', n_epochs=3)['n_epochs'] == 3
    assert configured(monkeypatch, 'full img_size=32', img_size=128)['img_size'] == 32
    assert configured(monkeypatch, 'classic lr=0.001', lr=5e-4)['lr'] == 0.001


@pytest.mark.parametrize('has_gpu, name', [(False, 'quick'), (True, 'full')])
def test_preset_of_the_machine(monkeypatch, has_gpu, name):
    monkeypatch.delenv('DCGAN_PRESET', raising=False)
    monkeypatch.delenv('DCGAN_DATA', raising=False)
    device = torch.device('cuda' if has_gpu else 'cpu')
    monkeypatch.setattr(parameters, 'choose_device', lambda: device)
    assert configure(dict(QUICK)) == QUICK | PRESETS[name]


@pytest.mark.parametrize('wish, expected', [
    ('quick lr=0.0004 seed=1', dict(lr=0.0004, seed=1)),
    ('quick objective=hinge dataset="svhn"', dict(objective='hinge', dataset='svhn')),
    ('quick balance=("Male","Young")', dict(balance=('Male', 'Young'))),
    ('quick balance=Male', dict(balance=('Male',))),
    ('quick flip=False penalty=0 seed=0', dict(flip=False, penalty=0, seed=0)),
    ('quick max_images=None', dict(max_images=None)),
    ('quick conv_dim=8', dict(d_conv_dim=8, g_conv_dim=8))])
def test_environment_changes_every_parameter(monkeypatch, wish, expected):
    assert configured(monkeypatch, wish) == QUICK | expected


@pytest.mark.parametrize('wish, message', [
    ('quik', "DCGAN_PRESET: found 'quik', .* Did you mean 'quick'?"),
    ('quick n_epoch=1', "DCGAN_PRESET: found 'n_epoch', .* Did you mean 'n_epochs'?"),
    ('quick objektive=bce', "Did you mean 'objective'?"),
    ('quick flip=yes', "flip: found 'yes', expected one of True, False"),
    ('quick lr=fast', "lr: found 'fast', expected a number"),
    ('quick lr=True', 'lr: found True, expected a number'),
    ('quick seed=1.5', 'seed: found 1.5, expected a whole number'),
    ('quick print_every=0', 'print_every: found 0, expected a whole number, 1 or more'),
    ('quick balance=7', 'balance: found 7, expected a name, or several like'),
    ('quick img_size=48', 'img_size: found 48, expected one of 32, 64, 128'),
    ('quick lr', "lr: found '', expected a number"),
    ('quick lr=0', 'lr: found 0, expected a number above 0'),
    ('quick lr=1e999', 'lr: found inf, expected a number above 0')])
def test_wrong_changes_are_refused_in_words(monkeypatch, wish, message):
    with pytest.raises(ValueError, match=message):
        configured(monkeypatch, wish)


def test_values_by_hand_become_plain_ones(monkeypatch):
    """As checkpoints hold them: a path as text, a list as a tuple."""
    config = configured(monkeypatch, data_dir=Path('some/where'), balance=['Male', 'Young'])
    assert (config['data_dir'], config['balance']) == ('some/where', ('Male', 'Young'))


def test_numbers_of_numpy_become_plain_ones(monkeypatch):
    config = configured(monkeypatch, n_epochs=np.int64(3), lr=np.float32(0.5), resume=np.False_)
    assert [type(config[name]) for name in ('n_epochs', 'lr', 'resume')] == [int, float, bool]


@pytest.mark.parametrize('by_hand, expected', [
    (dict(img_size=48), 'one of 32, 64, 128'),
    (dict(img_size=32.0), 'one of 32, 64, 128'),
    (dict(lr=-1e-4), 'a number above 0'),
    (dict(lr='fast'), 'a number above 0'),
    (dict(lr=float('nan')), 'a number above 0'),
    (dict(penalty=-1), 'a number, 0 or more'),
    (dict(penalty=True), 'a number, 0 or more'),
    (dict(ema_decay=1.5), 'a number from 0 to just below 1'),
    (dict(rescue=5), 'a number from 0 to just below 1'),
    (dict(beta1=1), 'a number from 0 to just below 1'),
    (dict(batch_size=0), 'a whole number, 1 or more'),
    (dict(z_size=2.5), 'a whole number, 1 or more'),
    (dict(epoch_size=-1), 'a whole number, 1 or more'),
    (dict(hold_out=''), 'a share from 0 to 0.5, or the path'),
    (dict(hold_out=None), 'a share from 0 to 0.5'),
    (dict(hold_out=0.6), 'a share from 0 to 0.5'),
    (dict(resume='False'), 'one of True, False'),
    (dict(flip=None), 'one of True, False')], ids=str)
def test_parameters_out_of_range_are_refused_at_once(monkeypatch, by_hand, expected):
    """Before any image is decoded, and not after an epoch."""
    (name, value), = by_hand.items()
    with pytest.raises(ValueError, match=f'{name}: found {value!r}, expected {expected}'):
        configured(monkeypatch, **by_hand)


@pytest.mark.parametrize('name', ['val_faces/', '../others', '/a/b'])
def test_folder_that_judges(monkeypatch, name):
    """hold_out takes a share, or the path of a folder."""
    assert configured(monkeypatch, f'quick hold_out={name}')['hold_out'] == name
    assert configured(monkeypatch, hold_out=Path(name))['hold_out'] == str(Path(name))
    assert configured(monkeypatch, 'quick hold_out=0.2')['hold_out'] == 0.2


def test_parameters_at_the_ends_of_their_ranges(monkeypatch):
    ends = dict(penalty=0, ema_decay=0, rescue=0, beta1=0.0, beta2=0, batch_size=1, hold_out=0.5)
    assert configured(monkeypatch, **ends) == QUICK | ends


def test_plain_training_is_the_papers(monkeypatch):
    """train(D, G, n_epochs) alone: the paper's recipe, and nothing is resumed or rescued."""
    plain = {name: value for name, value in helpers.PLAIN.items() if name in parameters.PAPERS}
    assert plain == {name: parameters.PAPERS[name] for name in plain}
    assert not helpers.PLAIN['resume'] and not helpers.PLAIN['rescue']
