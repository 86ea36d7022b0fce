"""Few images: the ways to learn from them, and who is judged."""
import argparse

import pytest
import torch

import helpers
from experiments import common, few_images
from machinery.checks import tiny_training
from tests.experiments.crowds import write_crowds


def test_frozen_layers_stay(notebook):
    """The first convolutions keep their weights in training, and the others do not."""
    D, G, names = tiny_training(vars(notebook))
    few_images.freeze(D, 1)
    before = {key: value.clone() for key, value in D.named_parameters()}
    notebook.train_step(D, G, names['d_optimizer'], names['g_optimizer'],
                        torch.rand(4, 3, 32, 32) * 2 - 1, torch.randn(4, 6))
    changed = {key for key, value in D.named_parameters() if not torch.equal(value, before[key])}
    assert changed == {key for key in before if not key.startswith('features.0.')}


@pytest.mark.slow
def test_study_of_few_images(folder, monkeypatch):
    """One run of a blink on real code, and the summary and the figure that follow from it."""
    notebook = common.notebook_definitions()
    contest = few_images.Study(notebook, torch.zeros(30, 3, 64, 64, dtype=torch.uint8), 'black',
                               seconds=0.2, n_judges=25)
    monkeypatch.setattr(helpers, 'N_JUDGED', 30)
    monkeypatch.setattr(few_images.runs, 'N_JUDGED', 30)
    run = dict(images='drawn', pair='faces', n_images=20, way='from the pair', seed=0)
    rows = contest.make(run)
    assert [row['seconds'] for row in rows] == ['0.1', '0.2']
    assert 0 < rows[0]['images_seen'] < rows[1]['images_seen']
    start, = contest.make(run | dict(n_images=0, way=few_images.AS_IT_IS))
    assert float(start['ffd']) > 1 and start['seconds'] == '0' and 'lr' not in start
    summary, _ = few_images.summarise(rows)
    assert summary['ffd'] == summary['lowest'] == f'{float(rows[0]["ffd"]):.2f}'
    few_images.draw(folder, [row | dict(images='faces') for row in rows], n_images=20)
    assert (folder / 'few-images.png').is_file()


def test_published_runs_are_planned():
    """What the command plans by itself is what the table holds; --counts 0 asks for the starts."""
    options = argparse.Namespace(counts=[100, 300, 1_000], ways=list(few_images.WAYS),
                                 seeds=[0, 1, 2])
    names = few_images.KEY[:5]
    rows = few_images.results_table(common.ASSETS).read()
    for counts, planned in (([100, 300, 1_000], few_images.planned_runs),
                            ([0], few_images.planned_starts)):
        options.counts = counts
        wanted = {tuple(str(run[name]) for name in names) for run in planned(options)}
        published = {tuple(row[name] for name in names) for row in rows
                     if (row['n_images'] == '0') == (counts == [0])}
        assert wanted == published


def test_images_of_each_kind(notebook):
    """As many as were asked for or none, never a judge; cut closer, the middle fills it all."""
    faces = torch.arange(50, dtype=torch.uint8)[:, None, None, None].repeat(1, 3, 64, 64)
    faces[:, :, :10] = faces[:, :, :, 54:] = 255
    contest = few_images.Study(notebook, faces, 'numbers', n_judges=20)
    for kind in ('faces', 'closer', 'drawn'):
        images, judges = contest.images(kind, 30, seed=1)
        assert len(images) == 30 and len(judges) == 20, kind
        assert images.shape[1:] == judges.shape[1:] == (3, 64, 64), kind
    images, judges = contest.images('closer', 30, seed=1)
    numbers = torch.cat([images, judges])[:, 0].flatten(1)
    assert (numbers == numbers[:, :1]).all()
    assert sorted(numbers[:, 0].tolist()) == list(range(50))
    with pytest.raises(ValueError, match='found 30 faces to learn from, expected 31'):
        contest.images('faces', 31, seed=1)


def test_kept_generators_are_judged_once(folder, monkeypatch):
    """The command asks for what was kept of those runs, and of other lengths for nothing."""
    notebook = common.notebook_definitions()
    contest = few_images.Study(notebook, torch.zeros(130, 3, 64, 64, dtype=torch.uint8), 'black',
                               folder, seconds=30, n_judges=20)
    G = notebook.Generator(100, few_images.CONV_DIM, few_images.SIZE)
    run = dict(images='faces', pair='faces', n_images=100, way='from scratch')
    for seconds, seed in ((30, 0), (120, 1)):
        contest.seconds = seconds
        torch.save(G.half().state_dict(), contest.kept(run | dict(seed=seed)))
    contest.seconds = 30
    judged = []

    def judge(G, training, held_out, seed, n):
        judged.append((len(training), len(held_out), seed, n))
        return dict.fromkeys(few_images.LEARNT[6:14], 0) | dict(seed=seed, seconds=1)

    monkeypatch.setattr(few_images.memorisation, 'judge', judge)
    options = argparse.Namespace(counts=[100, 300], ways=['from scratch'], seeds=[0, 1], seconds=30)
    table = few_images.learnt_table(folder)
    assert few_images.judge_all(table, contest, options) == 0
    few_images.judge_all(table, contest, options)
    assert judged == [(100, 20, 0, few_images.N_LEARNT)]
    row, = table.read()
    assert (row['way'], row['n_images'], row['run_seconds']) == ('from scratch', '100', '30')


def test_faces_are_those_that_judged_the_pair(folder, monkeypatch):
    """Odd people in a folder that its recipe names, which lies where the command is run."""
    write_crowds(folder)
    faces = helpers.load_dataset('faces', 64, hold_out='people')
    config = dict(recipe=dict(img_size=64, hold_out='people'), images=faces.checksum, data='faces')
    monkeypatch.setattr(helpers, 'load_pair', lambda path: dict(config=config))
    found = []
    monkeypatch.setattr(few_images, 'measure', lambda contest, options: found.append(contest))
    monkeypatch.setattr(torch, 'set_num_threads', lambda n: None)    # of the process of all tests
    with pytest.raises(SystemExit, match='no finished run'):
        few_images.main(['--folder', 'faces', '--into', str(folder)])
    unseen = found[0].faces['faces']
    assert sums(unseen) == sums(faces.judges) != sums(faces.held_out)


def sums(images):
    """What tells crowds of images apart, in whatever order."""
    return images.flatten(1).sum(1).sort()[0].tolist()
