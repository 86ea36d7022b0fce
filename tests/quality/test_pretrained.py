"""Folders of networks: written, read again, damaged; and which of them is shown."""
import json

import pytest
import torch

import helpers
from experiments import directions
from machinery import pretrained
from machinery.pretrained import NETWORKS, load_pair, save_networks, show_pretrained
from tests.tools import damage, expect_close, raises

FILES = 'model.safetensors', 'config.json'


@pytest.fixture
def networks(notebook):
    """A pair of 64x64, not trained, with convolutions in the order of channels_last."""
    torch.manual_seed(0)
    pair = dict(G=notebook.Generator(6, 4, 64), D=notebook.Discriminator(4, 64, False))
    pair['G_average'] = pair['G']            # as in a run without an average
    for network in pair.values():
        network.to(memory_format=torch.channels_last)
    return pair


@pytest.fixture
def pair(networks, folder):
    """The folder of that pair: my_model/."""
    config = dict(generator=networks['G'].arguments, data='noise',
                  discriminator=dict(conv_dim=4, img_size=64, batch_norm=False))
    (folder / 'my_model').mkdir()
    weights = {name: networks[name].state_dict() for name in NETWORKS}
    save_networks(folder / 'my_model', config, weights)
    return folder / 'my_model'


def test_pair_is_all_that_training_on_needs(notebook, networks, pair):
    """Both networks are built again from the folder, with their weights to half precision."""
    read = load_pair(pair)
    again = dict(G=notebook.Generator(**read['generator']),
                 G_average=notebook.Generator(**read['generator']),
                 D=notebook.Discriminator(**read['discriminator']))
    for name, network in again.items():
        network.load_state_dict(read[name])
        for ours, before in zip(network.state_dict().values(),
                                networks[name].state_dict().values(), strict=True):
            assert ours.dtype in (torch.float32, torch.int64)
            expect_close(name, ours, before, 1e-3)
    assert read['config']['data'] == 'noise'
    assert sorted(path.name for path in pair.iterdir()) == sorted(FILES)


def test_all_that_draws_takes_the_shipped_generator(notebook, pair, monkeypatch):
    monkeypatch.setattr(pretrained, 'PRETRAINED', pair)
    z = torch.randn(2, 6)
    saved = load_pair()
    G = helpers.rebuild(notebook.Generator, saved, saved['G_average'])
    assert torch.equal(helpers.face(z), notebook.generate(G, z))
    assert torch.equal(directions.load_generator()(z), helpers.face(z))


POINTER = b'version https://git-lfs.github.com/spec/v1\noid sha256:1234\nsize 876273\n'
SPOILT = {'missing': (None, 'does not exist'),
          'empty': (lambda data: b'', 'is damaged'),
          'cut': (lambda data: data[:len(data) // 2], 'is damaged'),
          'pointer': (lambda data: POINTER, 'is damaged, .* only a pointer to a large file')}


@pytest.mark.parametrize('name', FILES)
@pytest.mark.parametrize('fault', SPOILT)
def test_a_file_that_is_no_good_is_named_in_one_sentence(pair, name, fault):
    spoil, sentence = SPOILT[fault]
    data = (pair / name).read_bytes()
    (pair / name).unlink()
    if spoil:
        (pair / name).write_bytes(spoil(data))
    with pytest.raises((OSError, ValueError), match=f'{name} {sentence}') as failure:
        load_pair(pair)
    said = str(failure.value)
    assert said.endswith('take it again from where my_model came from.') and '\n' not in said


def test_a_flipped_bit_is_noticed(pair):
    damage(pair / 'model.safetensors')
    with pytest.raises(ValueError, match='model.safetensors is damaged'):
        load_pair(pair)


def test_files_of_two_exports_are_not_mixed(pair, networks, monkeypatch):
    """The disk is full after the weights: config.json is still that of the old ones."""
    write = pretrained.files.write_atomically

    def disk_is_full(path, *arguments):
        if path.name == 'config.json':
            raise OSError('no space left')
        write(path, *arguments)
    monkeypatch.setattr(pretrained.files, 'write_atomically', disk_is_full)
    networks['G'].project.weight.data += 1
    weights = {name: networks[name].state_dict() for name in NETWORKS}
    with pytest.raises(OSError, match='no space left'):
        save_networks(pair, dict(generator={}, discriminator={}), weights)
    with pytest.raises(ValueError, match='model.safetensors is damaged'):
        load_pair(pair)


def test_config_of_another_version(pair):
    path = pair / 'config.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(format=2)))
    with pytest.raises(ValueError, match='config.json is damaged, of another version'):
        load_pair(pair)


@pytest.mark.parametrize('text', ['[1, 2]', '{"format": 1}'])
def test_config_of_something_else(pair, text):
    (pair / 'config.json').write_text(text)
    with pytest.raises(ValueError, match='config.json is damaged, of another version'):
        load_pair(pair)


def test_numbers_too_large_for_half_precision_are_refused(pair, networks):
    """Nothing is written then."""
    before = (pair / 'model.safetensors').read_bytes()
    networks['D'].logit.bias.data += 1e5
    weights = {name: networks[name].state_dict() for name in NETWORKS}
    with pytest.raises(ValueError, match='D.logit.bias holds numbers that float16 cannot hold'):
        save_networks(pair, dict(generator={}, discriminator={}), weights)
    assert (pair / 'model.safetensors').read_bytes() == before


# ---------------------------------------------------------------------------------- what is shown


@pytest.mark.parametrize('numbers', [None, 'abc', [[1.0] * 100, [1.0]], [float('nan')] * 100])
def test_what_are_no_numbers_of_a_face_is_told(numbers):
    with pytest.raises(ValueError, match='^numbers: '):
        helpers.face(numbers)


def test_generator_is_shown_and_no_number_drawn(notebook, monkeypatch):
    """The picture is a decoration: a run is the same with it and without it."""
    shown = []
    monkeypatch.setattr(pretrained, 'show_grid', lambda images, columns: shown.append(images))
    random_before = torch.get_rng_state()
    show_pretrained(notebook.Generator)
    assert len(shown[0]) == 16 and shown[0].std() > 0.1
    assert torch.equal(torch.get_rng_state(), random_before)


def test_class_that_fails_is_said_in_one_line(pair, monkeypatch, capsys):
    monkeypatch.setattr(pretrained, 'PRETRAINED', pair)
    show_pretrained(raises(TypeError('no such argument')))
    said = capsys.readouterr().out
    assert said.startswith('No faces of the generator') and said.count('\n') == 1
