"""A run as a folder for everybody: its card draws its faces where this project is not."""
import re
import shutil
import subprocess
import sys

import pytest
import torch

import helpers
from experiments import common, explorer, export, pictures
from machinery.lesson import load_definitions
from machinery.pretrained import NETWORKS
from tests.lesson.test_edits import EDITS
from tests.tools import (
    ASSETS,
    NOTEBOOK,
    expect_close,
    global_names,
    tiny_training,
    train_tiny,
    write_images,
)

SHIPPED = sorted(ASSETS.glob('dcgan-*'))
DRAW = '''
import os, runpy, sys, torch
for name in sys.argv[1:]:
    os.chdir(name)
    assert sorted(os.listdir()) == ['README.md', 'config.json', 'lines.py', 'model.safetensors']
    names = runpy.run_path('lines.py')
    torch.save([names['z'], names['faces']], 'drawn.pt')
    os.chdir('..')
assert not {'helpers', 'machinery', 'experiments'} & set(sys.modules)
'''


def train_run(notebook, **config):
    """Train a tiny run in the current folder, whose distance is 7.5."""
    config |= dict(img_size=32, d_conv_dim=4, g_conv_dim=4, d_batch_norm=True, seed=3)
    D, G, names = tiny_training(vars(notebook))
    with global_names(notebook.train, **names):
        notebook.train(D, G, 1, distance=lambda images: 7.5, config=config)


def write_large(notebook, path):
    """Write the folder of a 64x64 generator that draws something, though it was not trained."""
    torch.manual_seed(0)
    G, D = notebook.Generator(20, 8, 64), notebook.Discriminator(8, 64)
    G.apply(notebook.weights_init_normal)
    with torch.no_grad():
        G.layers[-2].weight *= 30                    # far from grey
        for _ in range(20):                          # statistics of its own
            D(G(torch.randn(8, 20)))
    config = dict(generator=G.arguments, data='', img_size=64, d_conv_dim=8)
    best = dict(config=config, epoch=1, images_seen=0,
                G=G.state_dict(), D=D.state_dict(), G_average=G.state_dict())
    export.write_folder(path, best, {})
    return G


def lines_of(card):
    """The lines of Python in a card."""
    block, = re.findall(r'```python\n(.*?)```', card, re.DOTALL)
    return block


def draw_elsewhere(paths, place):
    """Run the lines of cards in a fresh process, each in a copy of its folder and nothing else.

    Returns {name of the folder: (z, faces)}.
    """
    for path in paths:
        shutil.copytree(path, place / path.name)
        card = (path / 'README.md').read_text(encoding='utf-8')
        (place / path.name / 'lines.py').write_text(lines_of(card))
    subprocess.run([sys.executable, '-I', '-c', DRAW, *[path.name for path in paths]], cwd=place,
                   check=True)
    return {path.name: torch.load(place / path.name / 'drawn.pt') for path in paths}


# ------------------------------------------------------------------------- the card without us


@pytest.mark.slow
def test_cards_draw_faces_without_us(notebook, folder):
    """Those of a run's own float32 weights, of a 64x64 generator, and of the shipped folders."""
    train_run(notebook)
    export.main(['checkpoints_gan', '--output', 'of_run'])
    generators = {'of_run': notebook.load_generator(),
                  'large': write_large(notebook, folder / 'large')}
    for path in SHIPPED:
        pair = helpers.load_pair(path)
        generators[path.name] = helpers.rebuild(notebook.Generator, pair, pair['G_average'])
    drawn = draw_elsewhere([folder / 'of_run', folder / 'large', *SHIPPED], folder / 'elsewhere')
    for name, G in generators.items():
        z, faces = drawn[name]
        expected = notebook.generate(G, z)
        assert faces.shape == expected.shape and len(faces) == 8
        assert (faces - expected).abs().max() < 2 * 2 / 255      # [-1, 1] is two wide
    assert drawn['large'][1].shape[2:] == (64, 64) and drawn['large'][1].std() > 0.1


def test_lines_of_the_card_are_a_dozen(notebook, folder):
    write_large(notebook, folder / 'large')
    code = lines_of((folder / 'large/README.md').read_text(encoding='utf-8'))
    assert len([line for line in code.splitlines() if line]) == 12


# --------------------------------------------------------------------------------- what is in it


def test_folder_of_a_run(notebook, folder, capsys):
    """All three networks of the best epoch, what they are, and what the run measured."""
    train_run(notebook, data='18 images, img_align_celeba/', ema_decay=0.9)
    export.main(['checkpoints_gan', '--output', 'deep/my_model', '--made-by', 'a CPU'])
    path = folder / 'deep/my_model'
    assert sorted(file.name for file in path.iterdir()) == ['README.md', 'config.json',
                                                            'model.safetensors']
    assert '32x32, epoch 1' in capsys.readouterr().out
    best, pair = helpers.load_checkpoint(best=True), helpers.load_pair(path)
    for network in NETWORKS:
        for name, value in best[network].items():
            expect_close(f'{network}.{name}', pair[network][name], value, 1e-3)
    config = pair['config']
    assert config['generator'] == dict(z_size=6, conv_dim=4, img_size=32)
    assert config['discriminator'] == dict(conv_dim=4, img_size=32, batch_norm=True)
    assert (config['epoch'], config['images_seen'], config['made_by']) == (1, 10, 'a CPU')
    assert config['recipe']['ema_decay'] == 0.9 and 'resume' not in config['recipe']
    assert config['figures']['values'] == {'Fréchet face distance': 7.5}
    assert torch.__version__ == config['exported_with']['torch']
    assert str(folder) not in (path / 'config.json').read_text()


def head_of(path):
    yaml = pytest.importorskip('yaml')
    _, head, text = (path / 'README.md').read_text(encoding='utf-8').split('---\n', 2)
    return yaml.safe_load(head), text


def test_head_of_the_card_is_what_hubs_read(notebook, folder):
    """The names of Hugging Face's modelcard.md, for faces of CelebA that were judged."""
    train_run(notebook, data='18 images, img_align_celeba/', kind='celeba')
    export.main(['checkpoints_gan', '--output', 'my_model'])
    head, text = head_of(folder / 'my_model')
    assert head['license'] == 'other' and head['license_link'].startswith('https://')
    assert head['library_name'] == 'pytorch'
    assert head['pipeline_tag'] == 'unconditional-image-generation'
    assert 'gan' in head['tags'] and head['datasets'] == ['flwrlabs/celeba']
    model, = head['model-index']
    result, = model['results']
    assert model['name'] == 'my_model'
    assert set(result['task']) == {'type'} and set(result['dataset']) == {'type', 'name'}
    assert result['metrics'] == [dict(type='frechet-face-distance', name='Fréchet face distance',
                                      value=7.5)]
    assert head['metrics'] == ['frechet-face-distance']
    assert 'non-commercial research' in text and 'not an FID' in ' '.join(text.split())


@pytest.mark.parametrize('kind, licence', [('drawn', 'mit'), ('svhn', 'unknown'),
                                           ('own', 'unknown')])
def test_licence_follows_the_data(notebook, folder, kind, licence):
    """Nothing is promised for pictures that we do not know, nor figures that nobody measured."""
    train_tiny(notebook, 1, img_size=32, d_conv_dim=4, d_batch_norm=True, kind=kind)
    export.main(['checkpoints_gan', '--output', 'my_model'])
    head, _ = head_of(folder / 'my_model')
    assert head['license'] == licence
    assert 'model-index' not in head and 'metrics' not in head


@pytest.mark.parametrize('kind, before, licence, celebas', [
    ('own', ['celeba'], 'other', True), ('own', ['own', 'celeba'], 'other', True),
    ('celeba', ['own'], 'other', True), ('drawn', ['celeba'], 'other', True),
    ('own', ['drawn'], 'unknown', False), ('drawn', ['own'], 'unknown', False),
    ('drawn', ['drawn'], 'mit', False)])
def test_licence_of_the_pairs_before_holds(kind, before, licence, celebas):
    """Who goes on from CelebA's faces is bound by CelebA's terms, over any number of pairs."""
    config = dict(kind=kind, went_on_from=dict(name='pair', kinds=before))
    found = export.all_data_of(config)
    assert f'license: {licence}' in found['license']
    assert ('CelebA' in found['terms']) == celebas
    assert found['words'] == export.DATA[kind]['words']


FACES, PHOTOS = '9 images, celeba/', '9 images, holiday/'


def test_card_names_all_pairs_before(notebook, folder):
    """Also where the pair's folder is gone: the run itself knows what came before it."""
    for name, data, kind, start in (('first', FACES, 'celeba', ''),
                                    ('second', PHOTOS, 'own', 'first'),
                                    ('third', PHOTOS, 'own', 'second')):
        D, G, names = tiny_training(vars(notebook))
        vars(notebook).update(names)
        config = dict(img_size=32, d_conv_dim=4, d_batch_norm=True, data=data, kind=kind,
                      start=start)
        if start:
            config |= helpers.start_from(start, D, G)
            shutil.rmtree(start)
        notebook.train(D, G, 1, config=config)
        export.main(['checkpoints_gan', '--output', name])
    text = (folder / 'third/README.md').read_text(encoding='utf-8')
    assert f'| went on from | second, which learnt {PHOTOS}, and before that {FACES} |' in text
    assert 'license: other' in text and 'CelebA is for non-commercial' in text
    explorer.main(['checkpoints_gan', '--output', 'page.html', '--no-sliders'])
    page = (folder / 'page.html').read_text(encoding='utf-8')
    assert f'{PHOTOS}, and before that {PHOTOS}, and before that {FACES}' in page
    config = (folder / 'third/config.json').read_text()
    assert 'run_folder' not in config and '"start"' not in config


@pytest.mark.parametrize('kind, n_measured', [('svhn', 0), ('own', 1)])
def test_page_of_house_numbers_has_no_smile(notebook, folder, monkeypatch, kind, n_measured):
    """As the images are, whatever the parameter said: DCGAN_DATA=svhn leaves it as it is."""
    train_run(notebook, dataset='faces', kind=kind)
    measured = []
    monkeypatch.setattr(explorer, 'sliders_of', lambda G: measured.append(G) or ({}, []))
    explorer.main(['checkpoints_gan', '--output', 'page.html'])
    assert len(measured) == n_measured


def test_nothing_of_others_is_overwritten(notebook, folder):
    """Neither a folder with other files nor the project's own pair; an earlier export is."""
    train_run(notebook)
    (folder / 'mine').mkdir()
    (folder / 'mine/README.md').write_text('my words')
    with pytest.raises(SystemExit, match='mine holds other files'):
        export.main(['checkpoints_gan', '--output', 'mine'])
    assert [path.name for path in (folder / 'mine').iterdir()] == ['README.md']
    shipped = (ASSETS / 'dcgan-32/config.json').read_bytes()
    export.main(['checkpoints_gan'])
    assert (ASSETS / 'dcgan-32/config.json').read_bytes() == shipped
    (folder / 'dcgan-32/model.onnx').write_text('of another generator')
    export.main(['checkpoints_gan'])
    assert not (folder / 'dcgan-32/model.onnx').exists()


@pytest.mark.parametrize('name', ['my: model', '@home', '- dash', 'null', "it's #1", '[faces]'])
def test_any_name_of_a_folder_is_that_of_the_model(notebook, folder, name):
    """And words with a bar stay in their cell."""
    train_run(notebook)
    export.main(['checkpoints_gan', '--output', name, '--made-by', 'a | b\nc'])
    head, text = head_of(folder / name)
    assert head['model-index'][0]['name'] == name
    assert '| made by | a \\| b c |' in text


def test_run_of_other_code_is_refused(notebook, folder):
    """Its card would draw other faces than the run's."""
    edited = load_definitions(NOTEBOOK, [('nn.ReLU(inplace=True)]\n        for deep',
                                          'nn.LeakyReLU(0.2)]\n        for deep')])
    train_run(edited)
    with pytest.raises(SystemExit, match='other code of Generator'):
        export.main(['checkpoints_gan', '--output', 'my_model'])
    assert not (folder / 'my_model').exists()


@pytest.mark.parametrize('hold_out, n_held_out, words', [
    (0.1, 0, 'of the training'), (0.1, 22, 'held out (a share of 0.1'),
    ('/home/me/others/', 22, 'held out (those of others/, which')])
def test_card_says_by_which_faces_a_run_was_judged(notebook, folder, hold_out, n_held_out, words):
    """Of few images none are held out, whatever share was asked for."""
    train_run(notebook, hold_out=hold_out, n_held_out=n_held_out)
    export.main(['checkpoints_gan', '--output', 'mine'])
    assert '/home' not in (folder / 'mine/config.json').read_text(encoding='utf-8')
    best = helpers.load_checkpoint(best=True)
    figures = export.figures_of_run('checkpoints_gan', best)
    assert f'against real faces {words}' in figures['protocol']
    del best['config']['n_held_out']         # a pasted loader holds none out, whatever was asked
    figures = export.figures_of_run('checkpoints_gan', best)
    assert 'against real faces of the training' in figures['protocol']


# ------------------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize('edit', ['another width', 'one more layer'])
def test_card_of_another_class_promises_no_lines(folder, monkeypatch, capsys, edit):
    """The weights are exported all the same."""
    edited = load_definitions(NOTEBOOK, [EDITS[edit]])
    monkeypatch.setattr(common, 'notebook_definitions', lambda: edited)
    train_run(edited)
    export.main(['checkpoints_gan', '--output', 'my_model'])
    assert 'The class Generator is not the one of this project' in capsys.readouterr().out
    assert '```python' not in (folder / 'my_model/README.md').read_text(encoding='utf-8')
    assert helpers.load_pair('my_model')['config']['img_size'] == 32


def test_another_class_than_that_of_the_run_is_refused(notebook, folder):
    train_run(load_definitions(NOTEBOOK, [EDITS['another width']]))
    with pytest.raises(SystemExit, match='the weights are not those of Generator'):
        export.main(['checkpoints_gan', '--output', 'my_model'])
    assert not (folder / 'my_model').exists()


def test_folder_without_a_run_is_refused(folder):
    with pytest.raises(SystemExit, match='does not exist: train first'):
        export.main(['.', '--output', 'my_model'])


# ------------------------------------------------------------------------------------- the faces


@pytest.fixture
def run_with_faces(notebook, folder):
    """The folder of a run of 220 images, a tenth of them held out."""
    write_images(folder / 'processed_celeba_small', 220, size=(32, 32))
    loader = notebook.get_dataloader(20, 32, 'processed_celeba_small', hold_out=0.1)
    dataset = loader.dataset
    train_run(notebook, data=dataset.source, images=dataset.checksum, hold_out=0.1)
    return folder


def test_faces_are_judged_by_those_held_out(run_with_faces):
    """Which ones is on the card; other images are refused."""
    export.main(['checkpoints_gan', '--output', 'mine', '--faces', 'processed_celeba_small'])
    card = (run_with_faces / 'mine/README.md').read_text(encoding='utf-8')
    assert ('| judged by | 22 generated faces (eval mode, seed 3) against 22 real faces held out, '
            'which the training did not see; the floor is that of 22 other faces of the training '
            '|') in card
    for figure in ('Fréchet face distance', 'kernel face distance', 'symmetric precision',
                   'coverage'):
        assert re.search(rf'\| {figure} \| -?[\d.]+ \(floor: -?[\d.]+\) \|', card), figure
    (run_with_faces / 'processed_celeba_small/000007.jpg').unlink()
    with pytest.raises(SystemExit, match='holds other images than those that the run was trained'):
        export.main(['checkpoints_gan', '--output', 'other', '--faces', 'processed_celeba_small'])
    assert not (run_with_faces / 'other').exists()


def test_images_of_runs_that_held_out_images_or_people(run_with_faces, notebook):
    """The list of people came after one run, and before the other: each gets back its own."""
    config = helpers.load_checkpoint(best=True)['config']
    faces = run_with_faces / 'processed_celeba_small'
    files = sorted(path.name for path in faces.glob('*.jpg'))
    lines = [f'{file} {number % 40}\n' for number, file in enumerate(files)]
    (run_with_faces / 'identity_CelebA.txt').write_text(''.join(lines))
    by_people = notebook.get_dataloader(20, 32, faces, hold_out=0.1).dataset
    assert by_people.checksum != config['images']
    for checksum in (config['images'], by_people.checksum):
        dataset = export.images_of_run(faces, config | dict(images=checksum))
        assert dataset.checksum == checksum


def test_run_is_judged_by_a_folder_of_others(run_with_faces):
    """Those who judge, and not those who chose its best epoch; without the folder it is refused."""
    paths = write_images(run_with_faces / 'others', 50, size=(32, 32), seed=1)
    lines = [f'{path.name} {number}\n' for number, path in enumerate(paths)]
    (run_with_faces / 'others/identity_CelebA.txt').write_text(''.join(lines))
    best = helpers.load_checkpoint(best=True)
    faces = run_with_faces / 'processed_celeba_small'
    whole = common.notebook_definitions().get_dataloader(1, 32, faces, hold_out=0).dataset
    best['config'] |= dict(images=whole.checksum, hold_out='others')
    dataset = export.images_of_run(faces, best['config'])
    assert len(dataset) == 220 and len(dataset.judges) == 25
    _, distance, _ = export.judge(best, dataset)
    assert torch.equal(distance.real, dataset.judges)
    (run_with_faces / 'others').rename(run_with_faces / 'gone')
    with pytest.raises(FileNotFoundError, match="hold_out: 'others' does not exist"):
        export.images_of_run(faces, best['config'])


def test_run_that_held_none_out_is_judged_by_its_training_faces(run_with_faces):
    best = helpers.load_checkpoint(best=True)
    faces = run_with_faces / 'processed_celeba_small'
    whole = common.notebook_definitions().get_dataloader(1, 32, faces, hold_out=0).dataset
    best['config'] |= dict(images=whole.checksum, hold_out=0)
    figures, distance, generated = export.judge(best, export.images_of_run(faces, best['config']))
    assert len(generated) == distance.n == 110
    assert 'against 110 real faces of the training' in figures['protocol']


def test_images_of_a_pasted_loader_are_not_guessed(run_with_faces):
    """Nobody knows which they were, so no folder is taken for them."""
    config = helpers.load_checkpoint(best=True)['config']
    del config['images'], config['n_held_out']
    with pytest.raises(ValueError, match='holds other images'):
        export.images_of_run(run_with_faces / 'processed_celeba_small', config)


@pytest.mark.slow
def test_pictures_of_a_run(run_with_faces, monkeypatch):
    """All files of assets/ that follow from a run, its networks among them."""
    into = run_with_faces / 'results'
    into.mkdir()
    pictures.main([str(run_with_faces), 'a run of nothing', '--into', str(into)])
    assert sorted(path.name for path in into.iterdir()) == [
        'attributes.csv', 'attributes.png', 'curves.png', 'dcgan-32', 'distance.png',
        'faces.png', 'quality.csv', 'training.csv', 'training.png']
    _, rows = common.read_csv(into / 'quality.csv')
    assert {(row['n_real'], row['provenance']) for row in rows} == {('22', 'a run of nothing')}
    config = helpers.load_pair(into / 'dcgan-32')['config']
    assert config['made_by'] == 'a run of nothing' and 'held out' in config['figures']['protocol']


@pytest.mark.slow
def test_pictures_of_a_pair_made_in_legs(run_with_faces):
    """Each leg adds its epochs; the film of the first, from nothing, stays as it is."""
    into = run_with_faces / 'results'
    into.mkdir()
    run = str(run_with_faces)
    pictures.main([run, 'first', '--passed-on', '--into', str(into)])
    assert [path.name for path in into.iterdir()] == ['training.csv']
    pictures.main([run, 'last', '--leg', '2', '--into', str(into)])
    assert not (into / 'training.png').exists() and (into / 'faces.png').is_file()
    _, rows = common.read_csv(into / 'training.csv')
    latest, best = (helpers.load_checkpoint(best=best) for best in (False, True))
    taken = [(row['leg'], row['epoch'], row['provenance']) for row in rows if row['taken']]
    assert taken == [('1', str(latest['epoch']), 'first'), ('2', str(best['epoch']), 'last')]
    assert len(rows) == 2 * latest['epoch']
    assert float(rows[0]['penalty']) == latest['config']['penalty']


# ------------------------------------------------------------------------------------------ ONNX


def test_onnx_draws_torchs_faces(notebook, folder, capsys):
    """Any number of faces at a time."""
    for name in ('onnx', 'onnxscript', 'onnxruntime'):
        pytest.importorskip(name)
    G = write_large(notebook, folder / 'large')
    export.write_onnx(folder / 'large/model.onnx', G)
    assert capsys.readouterr().out == ''
    data = (folder / 'large/model.onnx').read_bytes()
    assert export.difference_of_onnx(data, G) < export.CLOSE
    G.layers[-2].bias.data += 0.1                    # another generator is told apart
    assert export.difference_of_onnx(data, G) > export.CLOSE


def test_onnx_of_a_run(notebook, folder):
    for name in ('onnx', 'onnxscript'):
        pytest.importorskip(name)
    train_run(notebook)
    export.main(['checkpoints_gan', '--output', 'my_model', '--onnx'])
    assert (folder / 'my_model/model.onnx').is_file()
    assert '`model.onnx` holds' in (folder / 'my_model/README.md').read_text(encoding='utf-8')


def test_onnx_without_its_packages_is_said(notebook, folder, monkeypatch):
    """In one sentence, before anything is written."""
    train_run(notebook)
    monkeypatch.setattr(export.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(SystemExit, match='--onnx needs onnx and onnxscript: pip install'):
        export.main(['checkpoints_gan', '--output', 'my_model', '--onnx'])
    assert not (folder / 'my_model').exists()
