"""What goes wrong on purpose: each bug is told by its test, each failure changes what it says."""
import inspect

import pytest
import torch
import torch.nn as nn

import problem_unittests as unittests
from experiments import failures
from machinery.batches import ImageDataset
from machinery.drawn import drawn_faces


@pytest.mark.parametrize('name', failures.BUGS)
def test_bugs_are_told_by_their_tests(name, notebook, folder):
    """And without the bug that test passes."""
    setting, test = failures.BUGS[name]
    test = getattr(unittests, test)
    parts = inspect.signature(test).parameters
    test(*[getattr(notebook, part) for part in parts])
    with_bug = setting.definitions()
    with pytest.raises(AssertionError):
        test(*[getattr(with_bug, part) for part in parts])


def test_failures_change_what_they_say(notebook):
    found = {name: setting.definitions() for name, setting in failures.FAILURES.items()}
    D, G = nn.Linear(1, 1), nn.Linear(1, 1)
    for name, wanted in (('D has won', [1.0, 0.02]), ('mode collapse', [1.0, 10.0])):
        optimizers = found[name].make_optimizers(D, G, 1.0, 0.5, 0.9)
        assert [optimizer.param_groups[0]['lr'] for optimizer in optimizers] == wanted
    G = found['checkerboards'].Generator(10, 8)
    assert G(torch.randn(2, 10)).shape == (2, 3, 32, 32)
    kernels = {layer.kernel_size for layer in G.modules() if isinstance(layer, nn.ConvTranspose2d)}
    assert kernels == {(3, 3)}


def test_spread_and_checkerboards():
    """A checkerboard differs from field to field, stripes and single faces do not."""
    one = torch.ones(1, 3, 8, 8)
    stripes, board = one.clone(), one.clone()
    stripes[:, :, ::2] = board[:, :, ::2, ::2] = board[:, :, 1::2, 1::2] = -1
    assert failures.checkerboards(board) == 4
    assert failures.checkerboards(stripes) == failures.checkerboards(one) == 0
    assert failures.spread(torch.cat([board, board])) == 0
    assert failures.spread(torch.cat([one, -one])) > 1


def test_a_run_is_kept_and_drawn(folder, monkeypatch):
    """A tiny one, by the code of a long one; kept, it is not made again."""
    faces = ImageDataset(drawn_faces(40, 32))
    chosen = failures.settings()[failures.RIGHT]
    chosen.config = chosen.config | dict(conv_dim=4, batch_size=2)
    monkeypatch.setattr(failures, 'N_JUDGED', 8)
    run = failures.kept_or_made(chosen, faces, 0, 40, folder)
    assert run['steps'].shape == (20, 4) and run['images_seen'] == 40
    monkeypatch.setattr(failures, 'make', None)
    again = failures.kept_or_made(chosen, faces, 0, 40, folder)
    assert torch.equal(run['images'], again['images'])
    failures.draw_pictures(folder, {name: run for name in failures.settings()})
    assert (folder / 'failures.png').is_file() and (folder / 'find-the-bug.png').is_file()
