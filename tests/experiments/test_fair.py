"""The fair race: who chooses and who judges, the search, the seconds, and what is compared."""
import math
import statistics

import pytest
import scipy.stats
import torch

from experiments import common, fair, runs
from machinery import files
from machinery.batches import ImageDataset
from machinery.drawn import drawn_faces
from machinery.parameters import PAPERS, PRESETS, QUICK
from tests.experiments.crowds import write_crowds
from tests.tools import ASSETS


def row_of(config, ffd, **columns):
    settings = {name: str(config[name]) for name in fair.SETTINGS}
    return settings | dict(ffd=str(ffd)) | columns


def test_portions_show_every_image_before_any_comes_again():
    """Three passes of four images out of six: the first six that come are all of them."""
    torch.manual_seed(0)
    portions = runs.Portions(6, 4)
    passes = [list(portions) for _ in range(3)]
    assert [len(each) for each in passes] == [4, 4, 4] == [len(portions)] * 3
    shown = sum(passes, [])
    assert sorted(shown[:6]) == sorted(shown[6:]) == list(range(6))
    assert shown[:6] != shown[6:]


def test_watch_counts_the_passes_alone(monkeypatch):
    """What is done to a batch counts; what happens between two passes does not."""
    now = iter([10.0, 13.0, 50.0, 54.0])
    timed = runs.Watch().around(['a batch', 'another'])
    timed.clock = lambda: next(now)
    assert list(timed) == list(timed) == ['a batch', 'another']
    assert timed.seconds == 3 + 4
    assert len(timed) == 2


def test_recipes_are_those_of_the_notebook():
    """'ours' is what the notebook trains by, and the paper's what its preset classic does."""
    for config, preset in ((fair.OURS, 'quick'), (fair.PAPERS, 'classic')):
        parameters = QUICK | PRESETS[preset]
        wanted = {key: parameters[key] for key in PAPERS}
        assert {key: config[key] for key in wanted} == wanted, preset


def test_people_who_choose_do_not_judge():
    """Those held out choose, and others judge; where they are the same, there is no race."""
    faces = ImageDataset(drawn_faces(60, 32))
    faces.held_out, faces.judges = faces.images[:20], faces.images[20:50]
    judges = fair.Judges(faces).distances
    assert (judges['choosing'].n, judges['judging'].n) == (20, 30)
    faces.judges = faces.held_out
    with pytest.raises(ValueError, match='nobody knows who'):
        fair.Judges(faces)


@pytest.mark.parametrize(('batch_size', 'lr'), [(4, 16e-4), (16, 4e-4), (64, 1e-4)])
def test_search_finds_an_optimum_beyond_its_start(monkeypatch, batch_size, lr):
    """It climbs to settings that it did not begin with, and makes as many runs as ours had."""
    monkeypatch.setattr(fair, 'MOST', 50)
    best = fair.PAPERS | dict(batch_size=batch_size, lr=lr, beta1=0.0, lr_decay=True)

    def distance(config):
        steps = [abs(math.log2(config[name] / best[name])) for name in ('batch_size', 'lr')]
        return 1 + sum(steps) + (config['beta1'] > 0) + (not config['lr_decay'])
    rows = []
    while wanted := fair.next_of_search(rows):
        rows += [row_of(config, distance(config)) for config in wanted]
    assert fair.name_of(fair.best_of(rows)) == fair.name_of(best)
    assert len(rows) >= fair.FEWEST
    assert len({fair.name_of(fair.config_in(row)) for row in rows}) == len(rows)


def test_each_part_of_ours_is_left_out_once():
    changed = []
    assert set(fair.LEFT_OPEN) < set(fair.LEFT_OUT)
    for config in fair.LEFT_OUT.values():
        name, = [name for name in config if config[name] != fair.OURS[name]]
        assert config[name] == fair.PAPERS[name]
        changed.append(name)
    without_average = {name for name in fair.PAPERS if fair.PAPERS[name] != fair.OURS[name]}
    assert set(changed) == without_average - {'ema_decay', 'penalty_every'}


def test_a_ratio_has_the_interval_of_welchs_test_on_logs():
    values, base = [4, 9, 16, 17], [1, 2, 4]
    figures = fair.ratio_of(values, base, fair.spread_of([values]), fair.spread_of([base]))
    logs, base_logs = [[math.log(value) for value in each] for each in (values, base)]
    test = scipy.stats.ttest_ind(logs, base_logs, equal_var=False)
    low, high = test.confidence_interval(0.95)
    ratio = statistics.geometric_mean(values) / statistics.geometric_mean(base)
    assert figures == pytest.approx((ratio, math.exp(low), math.exp(high), test.pvalue))


def test_a_common_spread_is_that_of_all_groups():
    """Two groups of one seed each have an interval from what the others spread."""
    spread = fair.spread_of([[1, 2, 4], [10], [3, 6, 12]])
    assert spread == (pytest.approx(math.log(2) ** 2), 4)
    ratio, low, high, _ = fair.ratio_of([10], [5], spread, spread)
    assert ratio == pytest.approx(2)
    # t of 4 degrees of freedom is 2.776
    assert math.log(high / low) == pytest.approx(2 * 2.7764 * math.log(2) * math.sqrt(2), 1e-4)


def test_what_each_recipe_is_held_against():
    """The paper's against nothing; parts of ours against ours, with p corrected for their number.
    """
    whence = dict(device='a CPU', torch='2', command='a command', budget='82', images_seen='640',
                  seconds='82', floor='1')
    distances = {'ours': (1, 2, 4), 'ours, beta1 0.5': (2, 4), 'ours, flip False': (1, 2, 4),
                 'paper': (8, 7, 8)}
    rows = [row_of(fair.OURS, ffd, recipe=name, seed=str(seed),
                   average='no' if name == 'paper' else 'yes', **whence)
            for name, values in distances.items() for seed, ffd in enumerate(values)]
    found = {row['recipe']: row for row in fair.summarise(rows)
             if row.get('against') in (None, 'ours, average yes')}
    assert found['paper']['n_seeds'] == 3 and 'ratio' not in found['paper']
    beta1, flip = found['ours, beta1 0.5'], found['ours, flip False']
    assert float(beta1['ratio']) == pytest.approx(2 ** 0.5, 1e-3) and float(flip['ratio']) == 1
    assert float(beta1['p_corrected']) == pytest.approx(min(1, 2 * float(beta1['p'])), 1e-3)


def test_the_published_search_is_over_and_its_choice_raced():
    """The best of fair_search.csv is the recipe 'tuned' of fair.csv; nobody who chose judged it."""
    tables = fair.Tables(ASSETS)
    search, race = tables.search.read(), tables.race.read()
    assert fair.next_of_search(search) == []
    assert {row['judged_by'] for row in search} == {'choosing'}
    assert {row['judged_by'] for row in race} == {'judging'}
    tuned = fair.name_of(fair.best_of(search))
    raced = [row for row in race if row['recipe'] == 'tuned']
    assert {fair.name_of(fair.config_in(row)) for row in raced} == {tuned}
    assert {row['seed'] for row in search}.isdisjoint({row['seed'] for row in race})


def test_the_published_summary_follows_from_the_runs(tmp_path):
    """fair_summary.csv, byte for byte."""
    rows = fair.Tables(ASSETS).race.read()
    fair.Tables(tmp_path).summary.write(fair.summarise(rows))
    written = tmp_path / 'fair_summary.csv'
    assert written.read_bytes() == (ASSETS / 'fair_summary.csv').read_bytes()


@pytest.mark.slow
def test_a_small_race(tmp_path, monkeypatch, capsys):
    """Rates, search, race and what is left out, from folders of images to the summary; once."""
    write_crowds(tmp_path)
    monkeypatch.setattr(fair, 'N_GENERATED', 30)
    monkeypatch.setattr(fair, 'ROUNDS', 1)
    monkeypatch.setattr(fair, 'N_RATED', 128)
    monkeypatch.setattr(fair, 'PASSES', 2)
    monkeypatch.setattr(fair, 'SHORT', 1)
    monkeypatch.setattr(fair, 'LONG', 2)
    monkeypatch.setattr(fair, 'START', fair.START[:2])
    monkeypatch.setattr(fair, 'LEFT_OUT', {'ours, beta1 0.5': fair.LEFT_OUT['ours, beta1 0.5']})
    monkeypatch.setattr(fair, 'LEFT_OPEN', tuple(fair.LEFT_OUT))
    monkeypatch.setattr(fair, 'FEWEST', 2)
    monkeypatch.setattr(fair, 'MOST', 3)
    monkeypatch.setattr(fair, 'RACE_SEEDS', (1, 2))
    monkeypatch.setattr(fair, 'LEAVE_ONE_OUT_SEEDS', (1, 2))
    monkeypatch.setattr(fair, 'portion_of', lambda config, rates: 128)
    monkeypatch.setattr(torch, 'set_num_threads', lambda n: None)    # of the process of all tests
    monkeypatch.setenv('DCGAN_FAST', '1')
    options = ['--folder', tmp_path / 'faces', '--people', tmp_path / 'people', '--into',
               tmp_path]
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            fair.main(list(map(str, options)))
        assert ended.value.code == 0
    assert ' 0 of ' in capsys.readouterr().out.replace('\n', ' ')
    tables = fair.Tables(tmp_path)
    assert len(tables.search.read()) == 3
    rows = common.grouped(tables.race.read(), 'recipe', 'average', 'budget')
    assert len(rows['paper', 'no', '1']) == len(rows['paper', 'no', '2']) == 2
    short, long = rows['paper', 'no', '1'][0], rows['paper', 'no', '2'][0]
    assert (short['images_seen'], long['images_seen']) == ('256', '512')
    assert float(short['seconds']) < float(long['seconds'])
    left_out = [rows['ours, beta1 0.5', 'yes', budget] for budget in ('1', '2')]
    assert [len(each) for each in left_out] == [2, 2]
    assert (short['n_generated'], short['n_real']) == ('30', '40')
    assert any(row['ratio'] for row in tables.summary.read())


def test_faces_of_kept_generators_are_drawn(notebook, folder):
    """Four rows, each of a generator as it was kept under its name."""
    for recipe, average in (('paper', 'no'), ('ours', 'yes')):
        for budget in (fair.SHORT, fair.LONG):
            path = fair.kept(folder, recipe, average, budget, 11)
            files.write_bytes(path, files.to_bytes(notebook.Generator(100, 32).state_dict()))
    fair.draw_faces(folder / 'faces.png', folder)
    assert (folder / 'faces.png').stat().st_size > 1_000
