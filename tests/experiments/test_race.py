"""The race of recipes: whole passes, fair clocks, and a table that hides no seed."""
import math

import pytest
import torch

from experiments import bench_loops, common, race, runs
from machinery.parameters import PAPERS, PRESETS, QUICK


def test_portions_show_every_image_before_any_comes_again():
    """Three passes of four images out of six: the first six that come are all of them."""
    torch.manual_seed(0)
    portions = runs.Portions(6, 4)
    passes = [list(portions) for _ in range(3)]
    assert [len(each) for each in passes] == [4, 4, 4] == [len(portions)] * 3
    shown = sum(passes, [])
    assert sorted(shown[:6]) == sorted(shown[6:]) == list(range(6))
    assert shown[:6] != shown[6:]


def test_stopwatch_counts_the_passes_alone(monkeypatch):
    """What is done to a batch counts; what happens between two passes does not."""
    now = iter([10.0, 13.0, 50.0, 54.0])
    timed = runs.Stopwatch(['a batch', 'another'])
    timed.clock = lambda: next(now)
    assert list(timed) == list(timed) == ['a batch', 'another']
    assert timed.seconds == 3 + 4
    assert len(timed) == 2


def rows_of(recipe, **runs):
    """Rows of race.csv: runs are lists of (seconds, distance), one a seed."""
    return [dict(recipe=recipe, image_size=32, device='CPU', torch='2', seed=seed, seconds=seconds,
                 ffd=ffd) for seed, pairs in runs.items() for seconds, ffd in pairs]


def test_times_to_a_distance():
    """Each seed's seconds are read off between its runs; no figure unless all seeds get there."""
    rows = rows_of('ours', a=[(1, 20.0), (16, 2.5), (4, 5.0)], b=[(2, 9.0), (9, 2.5)],
                   c=[(3, 10.0), (8, math.inf), (12, 5.0)])
    by_target = {row['distance']: row for row in race.times(rows)}
    assert list(by_target) == list(race.TARGETS)
    assert by_target[10] == dict(recipe='ours', image_size=32, distance=10, seeds_there=3, seeds=3,
                                 seconds='2.0', lowest='2.0', highest='3.0', device='CPU',
                                 torch='2', command='python -m experiments.race --figure')
    assert by_target[5]['seconds'] == '4.0' and by_target[5]['highest'] == '12.0'
    assert by_target[3]['seeds_there'] == 2 and 'seconds' not in by_target[3]
    assert by_target[1]['seeds_there'] == 0


def test_recipes_are_those_of_the_notebook():
    """'ours' is what the notebook trains by, and 'public' what its preset classic does."""
    for name, preset in (('ours', 'quick'), ('public', 'classic')):
        parameters = QUICK | PRESETS[preset]
        wanted = {key: parameters[key] for key in PAPERS}
        assert {key: race.RECIPES[name][key] for key in wanted} == wanted, name


@pytest.mark.slow
def test_race_runs_once_and_draws(tmp_path, monkeypatch, capsys):
    """Rows, times and figure come; a second call finds all runs made; a table has its whence."""
    bench_loops.write_faces(tmp_path / 'faces', 400)
    options = ['--folder', str(tmp_path / 'faces'), '--lengths', '640', '1280', '--seeds', '0',
               '--recipes', 'ours', '--into', str(tmp_path)]
    monkeypatch.setattr(race, 'N_JUDGED', 100)
    monkeypatch.setattr(torch, 'set_num_threads', lambda n: None)    # of the process of all tests
    monkeypatch.setenv('DCGAN_DATA', '')
    with pytest.raises(SystemExit) as ended:
        race.main(options)
    assert ended.value.code == 0
    _, row = common.Table(tmp_path / 'race.csv', race.COLUMNS, race.KEY).read()
    assert (row['images_seen'], row['n_held_out'], row['batch']) == ('1280', '40', '16')
    assert float(row['ffd']) > float(row['floor']) and float(row['seconds']) > 0
    assert (tmp_path / 'race-32.png').stat().st_size > 10_000
    monkeypatch.setattr(race.Race, 'run', None)          # a run would fail
    with pytest.raises(SystemExit):
        race.main(options)
    assert '0 of 2 runs are left' in capsys.readouterr().out
    assert len(common.read_csv(tmp_path / 'race_times.csv')[1]) == len(race.TARGETS)
    with pytest.raises(SystemExit) as ended:
        race.main(['--into', str(tmp_path)])
    assert ended.value.code == 2
