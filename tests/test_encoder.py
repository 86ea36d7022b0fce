"""The face encoder: its features, nearest faces, attributes, and the generator it looks at."""
import pytest
import torch
import torch.nn.functional as F

from machinery.encoder import ENCODER, FaceEncoder, attribute_shares, nearest_faces
from machinery.pretrained import load_pretrained
from tests.tools import ASSETS, expect_close


def test_encoder_is_small_and_knows_celebas_attributes():
    """Less than 2 MB, in eval mode, 40 attributes; without its file it says where it comes from."""
    encoder = FaceEncoder.trained()
    assert ENCODER.stat().st_size < 2 * 2 ** 20 and not encoder.training
    assert len(encoder.attribute_names) == 40
    assert {'Male', 'Young', 'Eyeglasses'} <= set(encoder.attribute_names)
    with pytest.raises(FileNotFoundError, match='encoder.py'):
        FaceEncoder.trained('nowhere.pt')


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


def test_pretrained_generator_draws_faces(notebook, folder):
    """It is small and has a card; its faces are of men and women, most of them young."""
    assert sum(path.stat().st_size for path in ASSETS.glob('*.pt')) < 15 * 2 ** 20
    saved = load_pretrained()
    G = notebook.Generator(**saved['generator'])
    G.load_state_dict(saved['weights'])
    shares = attribute_shares(notebook.generate(G, torch.randn(64, G.z_size)))
    assert 0.2 < shares['Male'] < 0.7 and shares['Young'] > 0.5 and shares['Bald'] < 0.3
    for word in ('data', 'images seen', 'recipe', 'distance', 'Limits', 'Bias'):
        assert word in saved['card'], word
    with pytest.raises(FileNotFoundError, match='comes with the project'):
        load_pretrained('nowhere.pt')
