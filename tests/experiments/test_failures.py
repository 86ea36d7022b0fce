"""What goes wrong on purpose: each bug is told by its test, each failure changes what it says."""
import inspect

import pytest
import torch
import torch.nn as nn

import problem_unittests as unittests
from experiments import common, failures
from machinery.batches import ImageDataset
from machinery.drawn import drawn_faces


@pytest.mark.parametrize('name', failures.TELLS)
def test_bugs_are_told_by_their_tests(name, notebook, folder):
    """And without the bug that test passes."""
    test = getattr(unittests, failures.TELLS[name])
    parts = inspect.signature(test).parameters
    test(*[getattr(notebook, part) for part in parts])
    with_bug = failures.RUNS[name].definitions()
    with pytest.raises(AssertionError):
        test(*[getattr(with_bug, part) for part in parts])


def test_failures_change_what_they_say():
    found = {name: chosen.definitions() for name, chosen in failures.RUNS.items()}
    D, G = nn.Linear(1, 1), nn.Linear(1, 1)
    for name, wanted in (('D has won', [1.0, 0.02]), ('mode collapse', [0.125, 1.0])):
        optimizers = found[name].make_optimizers(D, G, 1.0, 0.5, 0.9)
        assert [optimizer.param_groups[0]['lr'] for optimizer in optimizers] == wanted
    layers = [*found['no batch norm in G'].Generator(10, 8).modules()]
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in layers)
    G = found['kernel 3'].Generator(10, 8)
    assert G(torch.randn(2, 10)).shape == (2, 3, 32, 32)
    kernels = {layer.kernel_size for layer in G.modules() if isinstance(layer, nn.ConvTranspose2d)}
    assert kernels == {(3, 3)}


def test_variety_and_checkerboards():
    """A checkerboard differs from field to field, stripes and single faces do not."""
    one = torch.ones(1, 3, 8, 8)
    stripes, board = one.clone(), one.clone()
    stripes[:, :, ::2] = board[:, :, ::2, ::2] = board[:, :, 1::2, 1::2] = -1
    assert failures.checkerboards(board) == 4
    assert failures.checkerboards(stripes) == failures.checkerboards(one) == 0
    assert failures.variety(torch.cat([board, board, one, one])) == 0        # two faces, twice each
    assert failures.variety(torch.cat([board, stripes, one, -one])) > 1


def test_a_run_is_kept_and_drawn(folder, monkeypatch):
    """A tiny one, by the code of a long one; kept, it is not made again."""
    faces = ImageDataset(drawn_faces(40, 32))
    chosen = failures.RUNS['checkerboards']
    tiny = chosen.config | dict(conv_dim=4, batch_size=2, budgets=1)
    monkeypatch.setattr(chosen, 'config', tiny)
    monkeypatch.setattr(failures, 'N_JUDGED', 8)
    run = failures.kept_or_made(chosen, faces, 0, 40, folder)
    assert run['steps'].shape == (20, 4) and run['images_seen'] == 40
    monkeypatch.setattr(failures, 'make', None)
    again = failures.kept_or_made(chosen, faces, 0, 40, folder)
    assert torch.equal(run['images'], again['images'])
    failures.draw_pictures(folder, dict.fromkeys(failures.names_of(failures.FAILURE), run))
    assert (folder / 'failures.png').is_file() and not (folder / 'find-the-bug.png').exists()


def test_published_runs_are_all_runs():
    """And their numbers and tests are those of the picture and of the code."""
    rows = common.Table(common.ASSETS / 'failures.csv', failures.COLUMNS, failures.KEY).read()
    by_name = {row['run']: row for row in rows}
    assert by_name.keys() == failures.RUNS.keys()
    bugs = [name for name, row in sorted(by_name.items(), key=lambda item: item[1]['number'])
            if row['kind'] == failures.BUG]
    assert bugs == failures.names_of(failures.BUG) == list(failures.TELLS)
    assert all(by_name[name]['tells'] == failures.TELLS[name] for name in bugs)
