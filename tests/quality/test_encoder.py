"""The face encoder: its features, nearest faces, attributes, and the generator it looks at."""
import io
import math

import pytest
import torch
import torch.nn.functional as F

from machinery import metric, pretrained
from machinery.checkpoints import load_history
from machinery.metric import (
    ENCODER,
    FaceDistance,
    FaceEncoder,
    attribute_shares,
    nearest_faces,
    quality,
    to_bytes,
)
from machinery.pictures import plot_distance
from machinery.pretrained import PRETRAINED, load_pretrained, show_pretrained
from tests.tools import ASSETS, expect_close, train_tiny


def test_encoder_is_small_and_knows_celebas_attributes():
    """Less than 2 MB, in eval mode, 40 attributes."""
    encoder = FaceEncoder.trained()
    assert ENCODER.stat().st_size < 2 * 2 ** 20 and not encoder.training
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
    files = [*ASSETS.rglob('*.pt'), *ASSETS.rglob('*.safetensors')]
    assert sum(path.stat().st_size for path in files) < 15 * 2 ** 20


SHIPPED = sorted({PRETRAINED, *ASSETS.glob('dcgan-*')})


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.name)
def test_pretrained_generator_draws_faces(notebook, folder, path):
    """It has a card; its faces are of men and women, most of them young."""
    saved = load_pretrained(path)
    G = notebook.Generator(**saved['generator'])
    G.load_state_dict(saved['weights'])
    shares = attribute_shares(notebook.generate(G, torch.randn(64, G.z_size)))
    assert 0.2 < shares['Male'] < 0.7 and shares['Young'] > 0.5 and shares['Bald'] < 0.3
    for word in ('data', 'images seen', 'recipe', 'distance', 'Limits', 'Bias'):
        assert word in saved['card'], word


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


def test_training_goes_on_where_no_distance_can_be_had(notebook, folder, capsys):
    """What the distance refuses is left out, in words, and the epochs are kept."""
    def refuse(images):
        return to_bytes(images * math.nan)

    _, _, losses = train_tiny(notebook, 2, distance=refuse)
    said = capsys.readouterr().out
    assert len(losses) == 6 and len(load_history()['distances']) == 0
    assert said.count('No distance is measured here: images: found numbers that') == 2


# ---------------------------------------------------------------------- files that are no good


def cut(data):
    return data[:len(data) // 2]


def pointer(data):
    return b'version https://git-lfs.github.com/spec/v1\noid sha256:1234\nsize 876273\n'


def generator_in_one_file():
    """The bytes of a generator as an earlier version kept it."""
    file = io.BytesIO()
    weights = dict(weight=torch.rand(3, 3).half(), n_batches=torch.tensor(7))
    torch.save(dict(generator=dict(z_size=3), weights=weights, card='three by three'), file)
    return file.getvalue()


def of_another_version(data):
    file = io.BytesIO()
    torch.save(dict(weights={}, attributes=['Male'], generator=dict(z_size=3), card=''), file)
    return file.getvalue()


def something_else(data):
    file = io.BytesIO()
    torch.save([1, 2, 3], file)
    return file.getvalue()


NO_GOOD = {'missing': (None, 'does not exist'),
           'empty': (lambda data: b'', 'is empty'),
           'cut': (cut, 'is damaged or cut short'),
           'pointer': (pointer, 'is only a pointer to a large file'),
           'something else': (something_else, 'is of another version')}


@pytest.fixture(params=NO_GOOD)
def no_good(request, folder, monkeypatch):
    """The sentence that is due where both shipped files are no good, in one of these ways."""
    spoil, sentence = NO_GOOD[request.param]
    whole = {'encoder.pt': ENCODER.read_bytes(), 'generator-32.pt': generator_in_one_file()}
    for name, data in whole.items():
        if spoil:
            (folder / name).write_bytes(spoil(data))
    monkeypatch.setattr(metric, 'ENCODER', folder / 'encoder.pt')
    monkeypatch.setattr(pretrained, 'PRETRAINED', folder / 'generator-32.pt')
    return sentence


def test_a_file_that_is_no_good_is_named_in_one_sentence(no_good):
    for read, name in ((FaceEncoder.trained, 'encoder.pt'), (load_pretrained, 'generator-32.pt')):
        with pytest.raises((OSError, ValueError), match=f'{name} {no_good}') as failure:
            read()
        assert len(str(failure.value).splitlines()) == 1


def test_training_needs_neither_file(no_good, notebook, crowd, capsys):
    """Their sentences are printed, and the training goes on without a distance."""
    show_pretrained(notebook.Generator)
    distance = FaceDistance(crowd)
    print(distance)
    _, _, losses = train_tiny(notebook, 2, distance=distance)
    said = capsys.readouterr().out
    assert f'generator-32.pt {no_good}' in said and f'encoder.pt {no_good}' in said
    assert len(losses) == 6 and len(distance.real) == distance.n
    plot_distance(load_history(), distance.floor)
    assert 'FFD' not in said and 'No distance' in capsys.readouterr().out


def test_generator_in_one_file_is_still_read(folder):
    """As load_pretrained reads a folder: in full precision, with its card."""
    (folder / 'generator-32.pt').write_bytes(generator_in_one_file())
    saved = load_pretrained('generator-32.pt')
    assert saved['card'] == 'three by three' and saved['generator'] == dict(z_size=3)
    assert [value.dtype for value in saved['weights'].values()] == [torch.float32, torch.int64]


def test_encoder_of_another_version(folder):
    path = folder / 'other.pt'
    path.write_bytes(of_another_version(b''))
    with pytest.raises(ValueError, match='other.pt is of another version'):
        FaceEncoder.trained(path)
