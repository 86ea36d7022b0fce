"""Few images: the preset, the start from a trained pair, epochs that show images again."""
import pytest
import torch

import helpers
from machinery import parameters, pretrained
from machinery.checks import tiny_training, write_images
from machinery.pretrained import NETWORKS, load_pair, save_networks
from tests.tools import expect_close


def n_epochs_chosen():
    return parameters.configure(dict(parameters.QUICK))['n_epochs']


@pytest.mark.parametrize('n_images, expected', [(0, 8), (1, 10), (5, 10), (6, 8)])
def test_few_images_have_a_preset_of_their_own(folder, monkeypatch, capsys, n_images, expected):
    """Where DCGAN_DATA names a folder of few images, and the reason is said in the same line."""
    monkeypatch.delenv('DCGAN_PRESET', raising=False)
    monkeypatch.setenv('DCGAN_DEVICE', 'cpu')
    monkeypatch.setattr(parameters, 'FEW_IMAGES', 5)
    (folder / 'mine').mkdir()
    write_images(folder / 'mine', n_images)
    monkeypatch.setenv('DCGAN_DATA', 'mine')
    assert n_epochs_chosen() == expected
    line, *_ = capsys.readouterr().out.splitlines()
    assert ('images are few' in line) == (expected == 10)
    monkeypatch.setenv('DCGAN_PRESET', 'quick')              # who asks has the say
    assert n_epochs_chosen() == 8


@pytest.mark.parametrize('word', ['drawn', ' SVHN'])
def test_words_are_no_folders(folder, monkeypatch, word):
    """DCGAN_DATA=drawn means the drawn faces, whatever lies in a folder of that name."""
    monkeypatch.delenv('DCGAN_PRESET', raising=False)
    monkeypatch.setenv('DCGAN_DEVICE', 'cpu')
    write_images(folder / word.strip(), 2)
    monkeypatch.setenv('DCGAN_DATA', word)
    assert n_epochs_chosen() == 8


@pytest.mark.parametrize('data', ['', 'drawn', 'svhn', 'nowhere'])
def test_other_data_is_not_few(folder, monkeypatch, data):
    monkeypatch.delenv('DCGAN_PRESET', raising=False)
    monkeypatch.setenv('DCGAN_DEVICE', 'cpu')
    monkeypatch.setenv('DCGAN_DATA', data)
    assert n_epochs_chosen() == 8


@pytest.mark.parametrize('epoch_size, n_shown', [(0, 5), (3, 5), (12, 10), (50, 50)])
def test_epochs_show_few_images_again(get_dataloader, folder, epoch_size, n_shown):
    """Each of them equally often, and none twice before all were shown."""
    write_images(folder / 'mine', 5)
    loader = get_dataloader(2, 32, 'mine', epoch_size=epoch_size)
    means = torch.cat([images.mean((1, 2, 3)) for images, _ in loader])
    assert len(means) == n_shown
    values, counts = means.unique(return_counts=True)
    assert len(values) == 5 and (counts == n_shown // 5).all()
    assert len(means[:5].unique()) == 5


@pytest.fixture
def pair(notebook, folder):
    """A folder of a pair whose three networks differ: my_pair/."""
    torch.manual_seed(1)
    networks = dict(G=notebook.Generator(6, 4), G_average=notebook.Generator(6, 4),
                    D=notebook.Discriminator(4))
    (folder / 'my_pair').mkdir()
    save_networks(folder / 'my_pair', dict(generator=networks['G'].arguments,
                                       discriminator=dict(conv_dim=4, img_size=32),
                                       data='9 images, somewhere/'),
              {name: networks[name].state_dict() for name in NETWORKS})
    return 'my_pair'


def test_training_goes_on_from_a_pair(notebook, pair, capsys):
    """D, G and the average are those of the pair when the first step comes."""
    D, G, names = tiny_training(vars(notebook))
    vars(notebook).update(names)
    saved = load_pair(pair)
    assert helpers.start_from(pair, D, G) == dict(pair=saved['config']['sha256'],
                                                  pair_learnt=['9 images, somewhere/'],
                                                  pair_kinds=['own'])
    assert 'which learnt 9 images, somewhere/. If yours' in capsys.readouterr().out
    for name, network in (('D', D), ('G', G)):
        for key, value in network.state_dict().items():
            expect_close(f'{name}.{key}', value, saved[name][key], 0)
    decays, averages = [], []

    def watching(G_average, G, decay):
        decays.append(decay)
        averages.append({key: value.clone() for key, value in G_average.state_dict().items()})

    notebook.update_average = watching
    notebook.train(D, G, 1, config=dict(start=pair, ema_decay=0.9))
    assert set(decays) == {0.9}                              # an average that is not young
    for key, value in averages[0].items():
        expect_close(f'G_average.{key}', value, saved['G_average'][key], 0)


def test_other_shapes_are_refused(notebook, pair):
    D, G = notebook.Discriminator(4), notebook.Generator(6, 5)
    words = (f'start: G in {pair} is built otherwise .* What fits it is z_size=6 img_size=32 '
             f'd_conv_dim=4 g_conv_dim=4. Or')
    with pytest.raises(ValueError, match=words):
        helpers.start_from(pair, D, G)
    with pytest.raises(ValueError, match=f'start: D in {pair} is built otherwise'):
        helpers.start_from(pair, notebook.Discriminator(5), G)


def test_start_is_chosen_from_outside(pair, monkeypatch):
    """DCGAN_START has the last word; a folder without a pair is told at once."""
    assert helpers.choose_start('') == ''
    assert helpers.choose_start(pair) == pair
    monkeypatch.setenv('DCGAN_START', pair)
    assert helpers.choose_start('') == pair
    monkeypatch.setenv('DCGAN_START', 'nowhere')
    with pytest.raises(FileNotFoundError, match='does not exist'):
        helpers.choose_start('')


def test_pair_of_the_project_is_found_from_anywhere(folder):
    """'assets/dcgan-64' stands in the project, wherever the notebook runs."""
    assert helpers.choose_start('assets/dcgan-64') == 'assets/dcgan-64'
    fits = load_pair('assets/dcgan-64')['generator']
    assert fits == load_pair(pretrained.PRETRAINED)['generator']


def test_preset_few_fits_its_pair():
    """Its sizes are those of the pair that it starts from."""
    few = parameters.QUICK | parameters.PRESETS['few']
    generator = load_pair(few['start'])['generator']
    assert (generator['img_size'], generator['conv_dim']) == (few['img_size'], few['g_conv_dim'])


def test_distance_of_the_pair_is_said_before_training(notebook, pair, capsys):
    """Who makes a good pair worse sees it; it is said again where the run goes on."""
    D, G, names = tiny_training(vars(notebook))
    vars(notebook).update(names)
    helpers.start_from(pair, D, G)
    distances = iter([7.25, 8.5, 9.5])
    config = dict(start=pair, ema_decay=0.9, resume=True)
    for n_epochs in (1, 2):
        notebook.train(D, G, n_epochs, config=config, distance=lambda images: next(distances))
        before, after = capsys.readouterr().out.split('Before this training, the pair in ')
        assert after.startswith(f'{pair} comes to FFD 7.25.') and 'epoch    1' not in before
    assert helpers.load_history()['distances'][:, 1].tolist() == [8.5, 9.5]
