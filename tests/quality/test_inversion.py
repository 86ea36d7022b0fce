"""From a picture to its noise: faces that G made are found again, and G is left alone."""
import copy

import pytest
import torch

from experiments import common, directions
from experiments import memorisation as command
from machinery import latent
from machinery.latent import invert, shades_apart
from tests.tools import ASSETS


@pytest.fixture(scope='module')
def G():
    """The shipped generator."""
    return directions.load_generator()


@pytest.fixture(scope='module')
def faces(G):
    """Four faces that it made."""
    generate = common.notebook_definitions().generate
    return generate(G, torch.randn(4, 100, generator=torch.Generator().manual_seed(7)))


@pytest.fixture(scope='module')
def found(G, faces):
    """Their noise, and what G was before and is then."""
    before = copy.deepcopy(G)
    torch.manual_seed(0)
    z = invert(G, faces)
    return z, before, torch.rand(1)


@pytest.mark.slow
def test_made_faces_are_found_again(G, notebook, faces, found):
    """So near that the eye sees no difference; and the noise is as long as G has seen it.

    Three of four: on some processors one search of this seed ends 12 shades beside its face.
    """
    z, _, _ = found
    apart = shades_apart(notebook.generate(G, z), faces)
    assert (apart < command.SAME).sum() >= 3         # a search ends elsewhere now and then
    assert ((z.norm(dim=1) > 7) & (z.norm(dim=1) < 12)).all()


@pytest.mark.slow
def test_order_is_kept(G, notebook, faces, found):
    z, _, _ = found
    apart = torch.cdist(notebook.generate(G, z).flatten(1), faces.flatten(1))
    assert apart.argmin(1).tolist() == [0, 1, 2, 3]


@pytest.mark.slow
def test_generator_and_random_numbers_are_left_alone(G, found):
    _, before, drawn = found
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(1))
    assert G.training == before.training
    for name, then in before.state_dict().items():
        assert torch.equal(G.state_dict()[name], then)
    for now, then in zip(G.parameters(), before.parameters(), strict=True):
        assert now.grad is None and now.requires_grad == then.requires_grad


def test_training_mode_and_no_grad_do_not_matter(notebook, capsys):
    """Nor do bytes instead of numbers in [-1, 1]; the same seed finds the same noise."""
    torch.manual_seed(0)
    G = notebook.Generator(20, 8)
    images = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    one = invert(G.eval(), images, n_steps=4)
    with torch.no_grad():
        other = invert(G.train(), images.float() / 127.5 - 1, n_steps=4)
    assert torch.equal(one, other) and not one.requires_grad and one.shape == (3, 20)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and 'seconds each' in lines[0]


def test_noise_stays_where_the_generator_was_trained(notebook, monkeypatch):
    """A picture that G cannot make does not draw the noise away without end."""
    torch.manual_seed(0)
    G = notebook.Generator(20, 8)
    image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    near = invert(G, image, n_steps=100, features=0).norm()
    monkeypatch.setattr(latent, 'PRIOR', 0)
    assert near < 2 * 20 ** 0.5 < 0.8 * invert(G, image, n_steps=100, features=0).norm()


@pytest.mark.parametrize('images, words', [
    (torch.zeros(2, 3, 64, 64), r'\(3, 64, 64\) each, expected \(3, 32, 32\)'),
    (torch.zeros(3, 32, 32), r'expected \(n, 3, s, s\)'),
    (torch.zeros(0, 3, 32, 32), 'found 0 of them, expected 1 or more'),
    (torch.full((1, 3, 32, 32), 200.), r'expected uint8, or float in \[-1, 1\]')])
def test_other_images_are_refused_in_words(notebook, images, words):
    with pytest.raises(ValueError, match=words):
        invert(notebook.Generator(20, 8), images)


@pytest.mark.parametrize('wrong', [dict(n_starts=0), dict(n_steps=0), dict(n_steps=2.5)])
def test_numbers_of_steps_are_whole(notebook, wrong):
    with pytest.raises(ValueError, match='expected a whole number, 1 or more'):
        invert(notebook.Generator(20, 8), torch.zeros(1, 3, 32, 32), **wrong)


def test_table_says_that_made_faces_are_found_again():
    """At least 95 of 100, by the table that comes with the project."""
    _, rows = common.read_csv(ASSETS / 'inversion.csv')
    assert rows
    for row in rows:
        assert int(row['n']) >= 100 and float(row['found']) >= 0.95
        assert float(row['same_below']) == command.SAME
