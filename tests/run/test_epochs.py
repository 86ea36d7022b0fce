"""What each epoch leaves on disk, and what becomes of it in a crash."""
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from machinery.files import load_samples
from machinery.parameters import PLAIN
from machinery.run import Run, load_history
from tests.tools import Acting, damage, expect_same_run, raises, run_training, train_tiny

SAMPLES = Path('train_samples.pkl')
EPOCHS = Path('checkpoints_gan/epochs')


# ------------------------------------------------------------------------------- what a save costs


def bytes_written():
    """All bytes that this process has written to files, as Linux counts them."""
    counts = dict(line.split(': ') for line in Path('/proc/self/io').read_text().splitlines())
    return int(counts['wchar'])


def costs_of_saving(n_epochs):
    """The bytes that each save writes, in a run of stand-ins that trains nothing."""
    D, G = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
    parts = dict(D=D, G=G, G_average=G, d_optimizer=torch.optim.Adam(D.parameters()),
                 g_optimizer=torch.optim.Adam(G.parameters()))
    batches = [torch.zeros(2, 3, 4, 4)] * 3
    costs = []

    def draw(z):
        return torch.zeros(len(z), 3, 4, 4)

    with Run(parts, batches, torch.zeros(16, 6), PLAIN, draw, distance=lambda images: 1.0) as run:
        for _ in run.epochs(n_epochs):
            for _ in run.batches():
                run.log(torch.full((4,), 0.5))
            before = bytes_written()
            run.end_epoch()
            costs.append(bytes_written() - before)
    return costs


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/io').exists(), reason='needs Linux, which counts bytes')
def test_cost_of_saving_grows_with_the_epochs_and_no_faster(folder):
    """The pickle is written whole each time a tenth more epochs have come: twice as many epochs
    cost twice as much, and most saves write no pickle at all."""
    costs = costs_of_saving(500)
    assert sum(costs) < 2.5 * sum(costs[:250])
    without_pickle = sorted(costs)[250]
    assert sum(cost > 1.05 * without_pickle for cost in costs) < 60
    assert len(load_samples()) == 500


# ----------------------------------------------------------------------------------- the pickle


def test_pickle_is_one_list_all_the_time(notebook, folder):
    """Plain pickle, and our reader, find one list of grids after every epoch, also resumed ones."""
    generate, lengths = notebook.generate, []

    def counting(G, z):
        if SAMPLES.exists():
            lengths.append(len(pickle.loads(SAMPLES.read_bytes())))
            assert len(load_samples()) == lengths[-1]
        return generate(G, z)

    notebook.generate = counting
    run_training(notebook, 3)
    run = run_training(notebook, 6, resume=True)
    assert lengths == [1, 2, 3, 4, 5]
    grids = pickle.loads(SAMPLES.read_bytes())
    assert type(grids) is list and len(grids) == 6
    assert all(map(torch.equal, grids, run['samples']))


@pytest.mark.parametrize('end', [KeyboardInterrupt(), ValueError('my own')])
def test_pickle_is_whole_after_any_end(notebook, folder, end):
    """In epoch 15 the pickle on disk may lack the last one; the end writes it."""
    def ending_in_epoch_15(loader):
        return Acting(loader, at=14 * 3 + 2, act=raises(end))

    try:
        train_tiny(notebook, 20, wrap=ending_in_epoch_15)
    except ValueError:
        pass
    assert len(load_samples()) == len(load_history()['per_epoch']) == 14


# ------------------------------------------------------------------------------ the files of epochs


def test_history_of_a_run_that_was_killed(notebook, folder):
    """The figures of a run are read from its epochs."""
    run_training(notebook, 3)
    SAMPLES.unlink()
    assert load_history()['per_epoch'].tolist() == [3, 3, 3]
    with pytest.raises(FileNotFoundError, match='train first'):
        load_history('elsewhere')


def test_epoch_that_the_checkpoint_does_not_know(notebook, folder):
    """A crash between an epoch's file and the checkpoint: it has not happened, and is trained anew.
    """
    whole = run_training(notebook, 4)
    run_training(notebook, 2)
    shutil.copy(EPOCHS / '0001.pt', EPOCHS / '0003.pt')
    assert load_history()['per_epoch'].tolist() == [3, 3]
    expect_same_run(whole, run_training(notebook, 4, resume=True))
    assert torch.equal(torch.load(EPOCHS / '0003.pt')['grid'], whole['samples'][2])


# ------------------------------------------------------------------------ runs of earlier versions


def as_before():
    """Bring the checkpoints into the form of the version before."""
    for name in ('previous', 'latest'):
        path = Path(f'checkpoints_gan/{name}.pt')
        state = torch.load(path)
        parts = state['config'].pop('parts')
        state['config'] |= dict(sync_batch_norm=True, code=dict(train='01234567'))
        del state['config']['source_code'], state['config']['held_out']
        state |= dict(format=2, classes={name: part['the class'] for name, part in parts.items()})
        torch.save(state, path)
    for path in EPOCHS.iterdir():                        # D was asked nothing then
        epoch = torch.load(path)
        del epoch['answers']
        torch.save(epoch, path)


def test_run_of_the_version_before_is_resumed(notebook, folder, capsys):
    """Its code was compared in another way, and it knew a parameter that is gone."""
    whole = run_training(notebook, 3)
    run_training(notebook, 2)
    as_before()
    capsys.readouterr()
    expect_same_run(whole, run_training(notebook, 3, resume=True))
    assert 'Continuing checkpoints_gan/ after epoch 2' in capsys.readouterr().out


@pytest.mark.parametrize('how', [damage, Path.unlink])
def test_damaged_epoch_stops_nothing(notebook, folder, capsys, how):
    """Its figures and its grid are lost, and that is said; the run goes on."""
    whole = run_training(notebook, 3)
    how(EPOCHS / '0002.pt')
    run = run_training(notebook, 4, resume=True)
    assert 'epochs/0002.pt is damaged or gone' in capsys.readouterr().out
    kept = [whole['samples'][0], whole['samples'][2]]
    assert len(run['samples']) == 3 and all(map(torch.equal, kept, run['samples']))
    assert load_history()['per_epoch'].tolist() == [3, 0, 3, 3]


def test_interrupt_keeps_the_losses_file(notebook, folder):
    """losses.npz is there after an interrupt, with all finished epochs."""
    def interrupted_at_batch_8(loader):
        return Acting(loader, at=8, act=raises(KeyboardInterrupt()))

    train_tiny(notebook, 4, wrap=interrupted_at_batch_8)
    assert len(load_history()['per_epoch']) == 2
    assert Path('checkpoints_gan/losses.npz').exists()
