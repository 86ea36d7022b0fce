"""Distances and quality: they order crowds of faces as the eye does."""
import math
import urllib.error

import pytest
import torch

from machinery.metric import FaceDistance, quality
from tests.tools import expect_close, raises


def test_face_distance_orders_what_the_eye_orders(crowd):
    """0 to itself, small between halves of one crowd, larger with noise, largest on collapse."""
    distance = FaceDistance(crowd, n=200)
    others = crowd[:200].float()
    noise = torch.randn(200, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    clean, noisy, very_noisy = [
        distance((others + level * noise).clamp(0, 255).byte()) for level in (0, 20, 60)]
    collapsed = distance(crowd[:1].expand(200, -1, -1, -1))
    assert distance.n == 200
    assert abs(distance(crowd[-200:])) < 1e-3
    assert distance.floor < 1.5 * clean + 0.5
    assert clean < noisy / 2 < very_noisy / 2
    assert collapsed > 5 * clean
    expect_close('As floats', distance(others / 127.5 - 1), clean, 1e-3)
    features = distance.encoder.embed(crowd).double()
    shift = features[:200].mean(0) - features[-200:].mean(0)
    assert clean >= shift.square().sum()                 # the distance of the means is a part of it


@pytest.mark.parametrize('n_images', [1, 3, 20])
def test_distance_to_a_handful_of_images(crowd, n_images, capsys):
    """One single image must not stop the notebook: figures come, with a word on their worth."""
    distance = FaceDistance(crowd[:n_images], n_judged=2)
    assert math.isfinite(distance(crowd[:10])) and math.isfinite(distance.floor)
    assert len(distance.real) == distance.n == 10
    figures = quality(crowd[:distance.n], distance.real)
    assert all(math.isfinite(value) for value in figures.values())
    assert ('too few' in capsys.readouterr().out) == (n_images < 20)


def test_quality_tells_precision_from_recall(crowd):
    """One face again and again is precise and recalls nothing; noise is neither."""
    real, others = crowd[:200], crowd[200:400]
    faces = quality(others, real)
    one_face = quality(real[:1].expand(200, -1, -1, -1), real)
    noise = quality(torch.rand(200, 3, 32, 32) * 2 - 1, real)
    frechet = 'Fréchet face distance'
    assert list(faces) == [frechet, 'kernel face distance', 'precision', 'recall']
    assert faces['precision'] > 0.5 and faces['recall'] > 0.5
    assert one_face['precision'] > 0.9 and one_face['recall'] < 0.1
    assert noise['precision'] < 0.1 and noise[frechet] > 5 * faces[frechet]
    distance = FaceDistance(torch.cat([others, real]), n=200)
    expect_close('The distance measured both ways', distance(others), faces[frechet], 0.01)


def test_fid_without_its_weights_says_what_to_do(crowd, folder, monkeypatch):
    """Where Inception's weights cannot be fetched, the message says how FID can be had."""
    monkeypatch.setenv('TORCH_HOME', str(folder))
    monkeypatch.setattr(torch.hub, 'urlopen', raises(urllib.error.URLError('no network')))
    with pytest.raises(OSError, match="FID needs Inception's weights .* no network.* weights = "):
        quality(crowd[:20], crowd[20:40], 'inception-v3-compat')
