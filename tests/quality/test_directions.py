"""Directions in noise space: planted ones are found, measured ones hold, shuffled ones do not."""
import pytest
import torch
from torch.nn import functional as F

from experiments import common, directions
from machinery import latent as rooms
from machinery.metric import FaceEncoder
from tests.tools import ASSETS

Z_SIZE = 30


def grey(z):
    """Grey pictures, brighter by z[0]."""
    return (0.1 * z[:, 0, None, None, None]).expand(-1, 3, 32, 32)


def test_planted_directions_are_found():
    """Measures that are sums of z and noise: each direction raises its own and no other of CORE."""
    random_numbers = torch.Generator().manual_seed(0)
    z = torch.randn(5000, Z_SIZE, generator=random_numbers)
    planted = torch.randn(Z_SIZE, len(rooms.NAMES), generator=random_numbers)
    measured = z @ planted + torch.randn(5000, len(rooms.NAMES), generator=random_numbers)
    slopes = rooms.fit_slopes(z, measured)
    effects = rooms.without_others(slopes, slopes) @ F.normalize(planted, dim=0)
    for row, name in enumerate(rooms.NAMES):
        assert effects[row, row] > 0.3
        for column, other in enumerate(rooms.CORE):
            assert other == name or effects[row, column].abs() < 0.05


def test_same_seed_same_directions():
    one, other = (rooms.find_directions(grey, Z_SIZE, n_faces=200, seed=3) for _ in range(2))
    assert list(one) == list(rooms.NAMES)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert one['brightness'].norm() == pytest.approx(1, abs=1e-4)


def test_move_keeps_the_length():
    z = torch.randn(5, Z_SIZE, generator=torch.Generator().manual_seed(0))
    direction = F.normalize(torch.ones(Z_SIZE), dim=0)
    moved = rooms.move(z, direction, 3)
    assert torch.allclose(moved.norm(dim=1), z.norm(dim=1))
    assert (moved @ direction > z @ direction).all()
    assert torch.allclose(rooms.move(z, direction, 0), z)
    nowhere = torch.zeros(2, Z_SIZE)
    assert rooms.move(nowhere, direction, 0).equal(nowhere)


def test_measures_see_what_they_are_called():
    picture = torch.zeros(1, 3, 32, 32)
    left, warm, corners, to_the_right = (picture.clone() for _ in range(4))
    left[..., :16] = 1
    warm[:, 0] = 1
    corners[:, :, :12] = 1
    to_the_right[:, 0, :, 20:] = 1
    for name, changed in (('light from left', left), ('warmth', warm), ('background', corners),
                          ('brightness', left), ('turn', to_the_right)):
        assert rooms.PIXELS[name](changed) > rooms.PIXELS[name](picture) + 0.1


def test_measuring_takes_bytes_and_floats(crowd):
    encoder = FaceEncoder.trained()
    as_floats = crowd[:20].float() / 127.5 - 1
    measured = rooms.measure_faces(crowd[:20], encoder)
    assert measured.shape == (20, len(rooms.NAMES))
    assert torch.allclose(measured, rooms.measure_faces(as_floats, encoder))


# ---------------------------------------------------------------------------- which of them hold


def judged(**changes):
    """The rows of one name with three seeds; the last of them may be changed."""
    row = dict(name='smile', moves=2.0, taken_out_by=-0.3, control_largest=0.4)
    return [dict(row), dict(row), row | changes]


@pytest.mark.parametrize('changes, holds', [
    ({}, 'yes'),
    (dict(moves=0.9, taken_out_by=0.1, control_largest=0.1), 'no'),
    (dict(moves=-2.0), 'no'),
    (dict(taken_out_by=-1.1), 'no'),
    (dict(control_largest=1.1), 'no')])
def test_a_direction_holds_with_every_seed_or_not_at_all(changes, holds):
    rows = judged(**changes)
    directions.say_which_hold(rows)
    assert {row['holds'] for row in rows} == {holds}


def test_kept_directions_are_those_of_the_table():
    """assets/: the npz holds what the csv says holds, for the generator that is there now."""
    _, rows = common.read_csv(ASSETS / 'directions.csv')
    generator, held = directions.read_directions(ASSETS / 'directions.npz')
    assert list(held) == [name for name in rooms.NAMES
                          if any(row['name'] == name and row['holds'] == 'yes' for row in rows)]
    assert {row['generator'] for row in rows} == {generator}
    assert generator == directions.fingerprint(directions.load_generator())
    assert {(row['name'], int(row['seed'])) for row in rows} == {
        (name, seed) for name in rooms.NAMES for seed in directions.SEEDS}


def test_shuffled_measurements_move_nothing():
    """Over all names and seeds the controls come out at 0, within three standard errors."""
    _, rows = common.read_csv(ASSETS / 'directions.csv')
    ratios = torch.tensor([float(row['control']) / float(row['moves']) for row in rows])
    assert ratios.mean().abs() < 3 * ratios.std() / len(ratios) ** 0.5
    assert ratios.abs().mean() < 0.2


@pytest.mark.slow
def test_kept_directions_hold_on_faces_of_this_test():
    G = directions.load_generator()
    _, held = directions.read_directions(ASSETS / 'directions.npz')
    z = torch.randn(60, G.z_size, generator=torch.Generator().manual_seed(1234))
    encoder = FaceEncoder.trained()
    spread = rooms.draw_and_measure(G, z, encoder).std(0)
    for name, direction in held.items():
        low, high = (rooms.draw_and_measure(G, rooms.move(z, direction, amount), encoder)
                     for amount in (-directions.AMOUNT, directions.AMOUNT))
        number = rooms.NAMES.index(name)
        moves = (high - low).mean(0)[number] / spread[number]
        assert moves > 0.7 * directions.LEAST, name


@pytest.mark.slow
def test_directions_are_measured_and_kept(tmp_path):
    """The whole command, small, on a generator that draws nothing but noise."""
    G = directions.load_generator()
    with torch.no_grad():
        for parameter in G.parameters():
            parameter.normal_(0, 0.02)
    held, rows = directions.measure(G, seeds=(0, 1), n_fitted=300, n_judged=20, n_controls=1)
    directions.write_directions(tmp_path / 'directions.npz', held, G)
    generator, names = directions.read_directions(tmp_path / 'directions.npz')
    assert generator == directions.fingerprint(G) and list(names) == list(held)
    whence = common.provenance('python -m experiments.directions')
    directions.write_table(tmp_path / 'directions.csv', rows, G, whence)
    directions.draw_figure(tmp_path / 'directions.png', G, held, rows)
    assert len(common.read_csv(tmp_path / 'directions.csv')[1]) == 2 * len(rooms.NAMES)
    assert (tmp_path / 'directions.png').stat().st_size > 1000
