"""Distances and quality: they order crowds of faces as the eye does."""
import contextlib
import math
import urllib.error

import pytest
import torch

from machinery.metric import FaceDistance, answers, quality
from tests.tools import expect_close, raises


def test_face_distance_orders_what_the_eye_orders(crowd):
    """0 to itself, small between halves of one crowd, larger with noise, largest on collapse."""
    distance = FaceDistance(crowd, n=200, seed=None)
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


def test_reference_is_drawn_from_all_folders(crowd):
    """Images come sorted by folder: a mixture of both folders is nearer than the last alone."""
    bright, dark = crowd[:300], crowd[300:] // 4
    images = torch.cat([bright, dark])
    distance = FaceDistance(images, n=150)
    mixture = torch.cat([bright[:150], dark[:150]])
    assert distance(mixture) < distance(dark) / 2
    assert distance.floor < distance(dark) / 2
    expect_close('Drawn again', FaceDistance(images, n=150).real, distance.real, 0)
    overlap = torch.cdist(distance.real.flatten(1).float(), distance.others.flatten(1).float())
    assert overlap.min() > 0


def test_without_a_seed_the_reference_is_the_end(crowd):
    """seed=None keeps the order of the images, which the study's csv was measured in."""
    distance = FaceDistance(crowd, n=150, seed=None)
    assert torch.equal(distance.real, crowd[-150:])
    assert torch.equal(distance.others, crowd[-300:-150])


def test_held_out_faces_judge(crowd):
    """They are the reference, whole; the training faces give the floor, so a copy of them has it.

    Where the reference is a part of the training faces, copies come off better than other faces.
    """
    images, held_out = crowd[:400], crowd[400:600]
    distance = FaceDistance(images, n=500, n_judged=150, held_out=held_out)
    assert torch.equal(distance.real, held_out) and distance.n == 200
    assert abs(distance(held_out)) < 1e-3
    copies = distance(images[:150])
    assert distance.floor / 2 < copies < 2 * distance.floor
    assert 'training does not see' in str(distance)
    few = FaceDistance(crowd, held_out=crowd[:30])
    assert ('trust your eyes' in str(few)) and 'trust your eyes' not in str(distance)
    assert 'of the training' in str(FaceDistance(images, n=100))
    nearer = FaceDistance(images, n=150)
    assert nearer(nearer.real) < nearer.floor / 10


@pytest.mark.parametrize('n_images', [1, 3, 20])
def test_distance_to_a_handful_of_images(crowd, n_images, capsys):
    """One single image must not stop the notebook: figures come, with a word on their worth."""
    distance = FaceDistance(crowd[:n_images], n_judged=2)
    assert math.isfinite(distance(crowd[:10])) and math.isfinite(distance.floor)
    assert len(distance.real) == distance.n == 10
    figures = quality(crowd[:distance.n], distance.real)
    assert all(math.isfinite(value) for value in figures.values())
    assert ('too few' in capsys.readouterr().out) == (n_images < 20)


FRECHET = 'Fréchet face distance'


def test_quality_tells_faces_from_noise(crowd):
    """Other real faces are precise and cover the real ones; noise does neither."""
    real, others = crowd[:200], crowd[200:400]
    faces = quality(others, real)
    noise = quality(torch.rand(200, 3, 32, 32) * 2 - 1, real)
    assert list(faces) == [FRECHET, 'kernel face distance', 'symmetric precision', 'coverage']
    assert faces['symmetric precision'] > 0.5 and faces['coverage'] > 0.5
    assert noise[FRECHET] > 5 * faces[FRECHET]
    distance = FaceDistance(torch.cat([others, real]), n=200, seed=None)
    expect_close('The distance measured both ways', distance(others), faces[FRECHET], 0.01)


def untrained_faces(notebook):
    """What G draws before it has learnt anything."""
    torch.manual_seed(0)
    G = notebook.Generator(z_size=100, conv_dim=32)
    G.apply(notebook.weights_init_normal)
    return notebook.generate(G, torch.randn(200, 100))


LIARS = {
    'grey pictures': lambda notebook, real: (torch.rand(200, 1, 1, 1) * 2 - 1).expand(real.shape),
    'an untrained G': lambda notebook, real: untrained_faces(notebook),
    'zeros': lambda notebook, real: torch.zeros(real.shape),
    'one real face': lambda notebook, real: real[:1].expand(real.shape),
    'noise': lambda notebook, real: torch.rand(real.shape) * 2 - 1,
}


@pytest.mark.parametrize('liar', LIARS)
def test_no_figure_is_won_by_a_liar(crowd, notebook, liar):
    """Nothing that draws no faces, or always the same one, comes near other real faces."""
    real, others = crowd[:200], crowd[200:400]
    torch.manual_seed(0)
    faces, lies = quality(others, real), quality(LIARS[liar](notebook, real), real)
    assert lies['symmetric precision'] < 0.05
    assert lies['coverage'] < 0.05
    assert lies[FRECHET] > 5 * faces[FRECHET]


def test_grey_pictures_among_faces_cost_precision(crowd):
    """Where half of the crowd are grey pictures, at most half of it is precise."""
    real, others = crowd[:200], crowd[200:400]
    half_grey = others.clone()
    half_grey[::2] = 128
    faces, mixed = quality(others, real), quality(half_grey, real)
    assert mixed['symmetric precision'] < 0.6 * faces['symmetric precision']


def test_fid_without_its_weights_says_what_to_do(crowd, folder, monkeypatch):
    """Where Inception's weights cannot be fetched, the message says how FID can be had."""
    monkeypatch.setenv('TORCH_HOME', str(folder))
    monkeypatch.setattr(torch.hub, 'urlopen', raises(urllib.error.URLError('no network')))
    with pytest.raises(OSError, match="FID needs Inception's weights .* no network.* weights = "):
        quality(crowd[:20], crowd[20:40], 'inception-v3-compat')


# --------------------------------------------------------------- does D know its training faces


class Brightness(torch.nn.Module):
    """A D whose logit is the mean of an image, after a normalisation that keeps running means."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(3)
        self.dropout = torch.nn.Dropout()
        self.scale = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        self.norm(x)
        return self.scale * self.dropout(x).mean((1, 2, 3), keepdim=True).flatten(1)


def test_answers_of_d():
    """Means of probabilities, and the two figures of Karras et al.: uint8 and floats, any count."""
    training = torch.full((7, 3, 8, 8), 255, dtype=torch.uint8)
    held_out = torch.full((601, 3, 8, 8), 0.5)
    fakes = torch.cat([torch.full((300, 3, 8, 8), -1.0), torch.full((300, 3, 8, 8), 0.0)])
    found = answers(Brightness(), training, held_out, fakes)
    means = [torch.tensor(logits).sigmoid().mean().item() for logits in ([1.0], [0.5], [-1.0, 0])]
    assert found == pytest.approx([*means, (1 - 0.5) / (1 + 0.5), 1], abs=1e-5)
    assert answers(Brightness(), fakes, training, held_out)[3:] == pytest.approx([1.5, -0.5])
    assert answers(Brightness(), training[:1], training[:2], fakes)[3] == 0
    assert answers(Brightness(), training, training[:0], fakes) == []


def test_asking_d_changes_nothing(crowd):
    """Neither its mode, nor its running means, nor the random numbers; also where it is cut short.
    """
    D = Brightness()
    before = {name: value.clone() for name, value in D.state_dict().items()}
    for fakes in (crowd[:50], crowd[:50, :2]):
        torch.manual_seed(3)
        state = torch.get_rng_state()
        with contextlib.suppress(RuntimeError):
            answers(D, crowd[:90], crowd[90:180], fakes)
        assert D.training and all(layer.training for layer in D.modules())
        assert torch.equal(torch.get_rng_state(), state)
        for name, value in D.state_dict().items():
            assert torch.equal(value, before[name])
    D(crowd[:50] / 255)
    assert D.norm.num_batches_tracked == 1               # in its training it remembers again


def test_frozen_layer_stays_frozen(crowd):
    """A D may keep a layer in eval mode while it learns."""
    D = Brightness()
    D.norm.eval()
    answers(D, crowd[:50], crowd[50:90], crowd[:50])
    assert D.training and D.dropout.training and not D.norm.training


def test_d_judges_as_in_its_training(crowd):
    """Each batch is normalised by itself, as when D learnt, and not by the running means."""
    D = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.Flatten(), torch.nn.Linear(3072, 1))
    images = crowd[:300]
    expected = torch.cat([D(part / 127.5 - 1) for part in images.split(100)]).sigmoid().mean()
    assert answers(D, images, images, images)[0] == pytest.approx(expected.item(), abs=1e-4)
