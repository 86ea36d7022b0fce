"""The face encoder: its features, nearest faces, attributes, and the generator it looks at."""
import re

import pytest
import torch
import torch.nn.functional as F

from machinery import metric, pretrained
from machinery.metric import (
    ENCODER,
    FaceDistance,
    FaceEncoder,
    attribute_shares,
    nearest_faces,
    quality,
)
from machinery.pictures import plot_distance
from machinery.pretrained import load_pair, show_pretrained
from machinery.run import load_history
from tests.tools import ASSETS, expect_close, train_tiny


def test_encoder_is_small_and_knows_celebas_attributes():
    """Less than 2 MB, in eval mode, 40 attributes."""
    encoder = FaceEncoder.trained()
    assert (ENCODER / 'model.safetensors').stat().st_size < 2 * 2 ** 20 and not encoder.training
    assert len(encoder.attribute_names) == 40
    assert {'Male', 'Young', 'Eyeglasses'} <= set(encoder.attribute_names)


@pytest.mark.parametrize('size', [32, 64, 128])
def test_features_do_not_depend_on_type_or_batch(crowd, size):
    """uint8 and float images, alone and among others, give the same features, at every size."""
    images = F.interpolate(crowd[:3].float(), (size, size)).byte()
    encoder = FaceEncoder.trained()
    together = encoder.embed(images)
    assert together.shape == (3, 128) and not together.requires_grad
    expect_close('From floats', encoder.embed(images.float() / 127.5 - 1), together, 1e-5)
    expect_close('Alone', encoder.embed(images[1:2]), together[1:2], 0.02)


def test_nearest_face_of_a_face_is_itself(crowd):
    """Among others it is found at once; without it, the nearest is far away."""
    indices, distances = nearest_faces(crowd[[7, 3]].float() / 127.5 - 1, crowd[:20])
    assert indices.tolist() == [7, 3] and distances.max() < 0.1
    _, distances = nearest_faces(crowd[[7]], crowd[8:20])
    assert distances > 0.5


def test_attribute_shares_are_shares(crowd):
    """40 numbers between 0 and 1, not all the same."""
    shares = attribute_shares(crowd[:50])
    assert len(shares) == 40 and len(set(shares.values())) > 3
    assert all(0 <= share <= 1 for share in shares.values())


def test_weights_that_come_with_the_project_are_small():
    files = ASSETS.rglob('*.safetensors')
    assert sum(path.stat().st_size for path in files) < 15 * 2 ** 20


SHIPPED = sorted(ASSETS.glob('dcgan-*'))


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.name)
def test_pretrained_generator_draws_faces(notebook, folder, path):
    """It has a card; its faces are of men and women, most of them young."""
    pair = load_pair(path)
    G = notebook.Generator(**pair['generator'])
    G.load_state_dict(pair['G_average'])
    shares = attribute_shares(notebook.generate(G, torch.randn(64, G.z_size)))
    assert 0.2 < shares['Male'] < 0.7 and shares['Young'] > 0.5 and shares['Bald'] < 0.3
    card = (path / 'README.md').read_text(encoding='utf-8')
    for word in ('data', 'images seen', 'recipe', 'distance', 'Limits', 'Bias'):
        assert word in card, word


NO_IMAGES = {
    'no number': (torch.full((8, 3, 32, 32), float('nan')), 'found numbers that are not finite'),
    'without end': (torch.full((8, 3, 32, 32), float('inf')), 'found numbers that are not finite'),
    'int64': (torch.zeros(8, 3, 32, 32).long(), 'found torch.int64, expected'),
    'up to 255': (torch.arange(256.0).expand(8, 3, 32, 256), r'found values up to 255, expected'),
    'grey': (torch.zeros(8, 1, 32, 32), r'found \(8, 1, 32, 32\), expected'),
    'one image': (torch.zeros(3, 32, 32), r'found \(3, 32, 32\), expected'),
    'an array': (torch.zeros(8, 3, 32, 32).numpy(), 'found a ndarray, expected'),
}


@pytest.mark.parametrize('name', NO_IMAGES)
def test_what_is_no_image_gets_no_figure(crowd, name):
    """Refused in words by all that looks at images, and not turned into a number."""
    images, found = NO_IMAGES[name]
    distance = FaceDistance(crowd[:40])
    for look in (distance, attribute_shares, lambda images: quality(images, crowd[:40]),
                 lambda images: nearest_faces(images, crowd[:40])):
        with pytest.raises(ValueError, match=f'images: {found}'):
            look(images)


@pytest.mark.parametrize('n_images', [0, 1])
def test_a_crowd_has_two_images(crowd, n_images):
    """One image has no spread, so it has no distance."""
    distance = FaceDistance(crowd[:40])
    for look in (distance, lambda images: quality(images, crowd[:40]),
                 lambda images: quality(crowd[:40], images)):
        with pytest.raises(ValueError, match=f'images: found {n_images} of them, expected 2 or'):
            look(crowd[:n_images])


def test_training_needs_nothing_that_is_shipped(notebook, folder, monkeypatch, crowd, capsys):
    """What is missing is named, and the training goes on without a distance."""
    monkeypatch.setattr(metric, 'ENCODER', folder / 'encoder')
    monkeypatch.setattr(pretrained, 'PRETRAINED', folder / 'pair')
    with pytest.raises(OSError, match='encoder/.* does not exist'):
        FaceEncoder.trained()
    show_pretrained(notebook.Generator)
    distance = FaceDistance(crowd)
    print(distance)
    _, _, losses = train_tiny(notebook, 2, distance=distance)
    said = capsys.readouterr().out
    assert re.search('pair/.* does not exist', said) and re.search('encoder/.* not exist', said)
    assert len(losses) == 6 and len(distance.real) == distance.n
    plot_distance(load_history(), distance.floor)
    assert 'FFD' not in said and 'No distance' in capsys.readouterr().out
