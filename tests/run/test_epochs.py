"""What each epoch leaves on disk: it costs the same each time, and outlives crash and damage."""
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from machinery.checkpoints import load_checkpoint, load_history
from machinery.run import Run
from machinery.samples import load_samples
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
    parts = dict(D=D, G=G, d_optimizer=torch.optim.Adam(D.parameters()),
                 g_optimizer=torch.optim.Adam(G.parameters()))
    config = dict(resume=False, rescue=0, distance_every=1, live_view=False)
    batches = [torch.zeros(2, 3, 4, 4)] * 3
    costs = []

    def generate(z):
        return torch.zeros(len(z), 3, 4, 4)

    with Run(parts, torch.zeros(16, 6), config, generate, distance=lambda images: 1.0) as run:
        for _ in run.epochs(n_epochs):
            for _ in run.batches(batches):
                run.record(torch.full((4,), 0.5))
                run.progress.losses.append((0.5, 0.5))
            before = bytes_written()
            run.end_epoch()
            costs.append(bytes_written() - before)
    return costs


@pytest.mark.skipif(not Path('/proc/self/io').exists(), reason='needs Linux, which counts bytes')
def test_every_save_costs_the_same(folder):
    """Over 500 epochs no save writes more than the second one, but for longer numbers."""
    costs = costs_of_saving(500)
    assert max(costs[1:]) < 1.02 * costs[1], f'{costs[1]:,} bytes, then {costs[-1]:,}'
    assert len(load_samples()) == 500


# ----------------------------------------------------------------------------------- the pickle


def watched_pickle(notebook):
    """Return a list that gets the length of the pickle, by both readers, at each picture."""
    generate, lengths = notebook.generate, []

    def counting(G, z):
        if SAMPLES.exists():
            with open(SAMPLES, 'rb') as file:
                lengths.append(len(pickle.load(file)))
            assert len(load_samples()) == lengths[-1]
        return generate(G, z)

    notebook.generate = counting
    return lengths


def test_growing_pickle_is_one_list(notebook, folder):
    """Plain pickle, and our reader, find one list of grids after every epoch, also resumed ones."""
    lengths = watched_pickle(notebook)
    run_training(notebook, 3)
    run = run_training(notebook, 6, resume=True)
    assert lengths == [1, 2, 3, 4, 5]
    with open(SAMPLES, 'rb') as file:
        grids = pickle.load(file)
        assert type(grids) is list and file.read() == b''
    assert len(grids) == 6 and all(map(torch.equal, grids, run['samples']))


@pytest.mark.parametrize('after', range(1, 5))
def test_pickle_cut_off_while_it_grows(notebook, folder, monkeypatch, after):
    """Wherever the disk gives out, readers see a whole list, and the next save mends the file."""
    whole = run_training(notebook, 4)
    fsync, calls = os.fsync, []

    def failing(number):
        name = os.readlink(f'/proc/self/fd/{number}')
        if 'train_samples' in name:
            calls.append(name)
            if len(calls) == after:
                raise OSError(28, 'No space left on device')
        fsync(number)

    monkeypatch.setattr(os, 'fsync', failing)
    lengths = watched_pickle(notebook)
    expect_same_run(whole, run_training(notebook, 4))
    assert all(0 <= number - length <= 1 for number, length in enumerate(lengths, 4 - len(lengths)))


def test_samples_of_somebody_else_are_not_lengthened(notebook, folder):
    """A file put in the place of the run's while it trains is replaced whole, not added to."""
    whole = run_training(notebook, 3)

    def with_another_file(loader):
        return Acting(loader, at=5, act=lambda: SAMPLES.write_bytes(b'mine'))

    train_tiny(notebook, 3, wrap=with_another_file, flip=True, ema_decay=0.9)
    assert all(map(torch.equal, load_samples(), whole['samples']))


# ------------------------------------------------------------------------------ the files of epochs


def test_history_of_a_run_that_was_killed(notebook, folder):
    """The figures of a run are read from its epochs; losses.npz is written at its end only."""
    run_training(notebook, 3)
    history = load_history()
    Path('checkpoints_gan/losses.npz').unlink()
    again = load_history()
    assert set(again) == set(history)
    assert all((again[name] == history[name]).all() for name in history)
    with pytest.raises(FileNotFoundError, match='train for at least one epoch'):
        load_history('elsewhere')


@pytest.mark.parametrize('how', [damage, Path.unlink])
@pytest.mark.parametrize('samples_are_there', [True, False])
def test_damaged_epoch_stops_nothing(notebook, folder, capsys, how, samples_are_there):
    """Its grid comes from the samples, if they are there; its losses are lost, and that is said."""
    whole = run_training(notebook, 3)
    how(EPOCHS / '0002.pt')
    if not samples_are_there:
        SAMPLES.unlink()
    run = run_training(notebook, 4, resume=True)
    assert 'epochs/0002.pt is damaged or gone' in capsys.readouterr().out
    kept = whole['samples'] if samples_are_there else [whole['samples'][0], whole['samples'][2]]
    assert len(run['samples']) == len(kept) + 1
    assert all(map(torch.equal, kept, run['samples']))
    assert load_history()['per_epoch'].tolist() == [3, 0, 3, 3]


@pytest.mark.parametrize('changes', [
    dict(losses=[1.0, 2.0]), dict(losses=[(1.0, 'x')]), dict(losses=5), dict(lines='text'),
    dict(lines=[3]), dict(distance=['x', 1.0]), dict(distance=[float('nan'), 1.0]),
    dict(distance=[1.0]), dict(distance=None), dict(steps=torch.zeros(3, 4).long()),
    dict(steps=[1]), dict(grid=torch.zeros(16, 3, 32)), dict(grid=torch.zeros(16, 1, 32, 32)),
    dict(grid=None)], ids=lambda changes: f'{changes!s:.40}')
def test_wrong_types_in_an_epoch_are_damage(notebook, folder, capsys, changes):
    """The run goes on, its history can be read, and the epoch's line says what is lost."""
    run_training(notebook, 1)
    path = EPOCHS / '0001.pt'
    torch.save(torch.load(path) | changes, path)
    capsys.readouterr()
    assert len(run_training(notebook, 2, resume=True)['samples']) == 2
    assert 'epochs/0001.pt is damaged or gone' in capsys.readouterr().out
    assert load_history()['per_epoch'].tolist() == [0, 3]


def test_epoch_that_the_checkpoint_does_not_know(notebook, folder):
    """A crash between an epoch's file and the checkpoint: the epoch is trained and written anew."""
    whole = run_training(notebook, 4)
    run_training(notebook, 2)
    shutil.copy(EPOCHS / '0001.pt', EPOCHS / '0003.pt')
    expect_same_run(whole, run_training(notebook, 4, resume=True))
    history = load_history()
    assert torch.equal(torch.load(EPOCHS / '0003.pt')['grid'], whole['samples'][2])
    assert history['per_epoch'].tolist() == [3, 3, 3, 3]


# ------------------------------------------------------------------------ runs of earlier versions


def as_before():
    """Bring the run into the form of the version before: everything inside its checkpoints."""
    for name in ('previous', 'latest'):
        path = Path(f'checkpoints_gan/{name}.pt')
        state = torch.load(path)
        epochs = [torch.load(EPOCHS / f'{number:04d}.pt') for number in
                  range(1, state['epoch'] + 1)]
        for new in ('format', 'classes'):
            del state[new]
        del state['config']['code']
        del state['config']['sync_batch_norm']
        state |= dict(samples=[epoch['grid'] for epoch in epochs],
                      history=[epoch['steps'] for epoch in epochs],
                      losses=[pair for epoch in epochs for pair in epoch['losses']],
                      lines=[line for epoch in epochs for line in epoch['lines']],
                      distances=[[number, *epoch['distance']]
                                 for number, epoch in enumerate(epochs, 1) if epoch['distance']])
        torch.save(state, path)
    shutil.rmtree(EPOCHS)


@pytest.mark.parametrize('damaged', [False, True])
def test_run_of_the_version_before_is_resumed(notebook, folder, capsys, damaged):
    """Everything was inside the checkpoint then; its configuration knew less than today's."""
    whole = run_training(notebook, 5, distance=lambda images: images.mean())
    distances = load_history()['distances'][:, :2].tolist()
    run_training(notebook, 3, distance=lambda images: images.mean())
    as_before()
    assert load_history()['per_epoch'].tolist() == [3, 3, 3]
    if damaged:
        damage('checkpoints_gan/latest.pt')
    capsys.readouterr()
    options = dict(resume=True, distance=lambda images: images.mean())
    assert len(run_training(notebook, 3, **options)['samples']) == 3
    assert 'epoch    1/   3' in capsys.readouterr().out
    expect_same_run(whole, run_training(notebook, 5, **options))
    assert load_history()['distances'][:, :2].tolist() == distances
    assert 'samples' not in load_checkpoint()


@pytest.mark.parametrize('changes', [
    dict(samples=None), dict(history=[torch.zeros(3)]), dict(losses=[1]), dict(lines=[1]),
    dict(distances=[[9, 1.0, 1.0]]), dict(distances=[[1, 'x', 1.0]])], ids=str)
def test_damage_inside_a_run_of_the_version_before(notebook, folder, capsys, changes):
    """A checkpoint that holds its epochs itself, with impossible ones, is damaged."""
    run_training(notebook, 2)
    as_before()
    path = Path('checkpoints_gan/latest.pt')
    torch.save(torch.load(path) | changes, path)
    capsys.readouterr()
    assert run_training(notebook, 2, resume=True)['epoch'] == 2
    assert 'latest.pt is damaged' in capsys.readouterr().out


def test_run_from_before_there_were_distances(notebook, folder):
    """An even older one."""
    whole = run_training(notebook, 3)
    run_training(notebook, 2)
    as_before()
    path = Path('checkpoints_gan/latest.pt')
    state = torch.load(path)
    del state['distances']
    torch.save(state, path)
    expect_same_run(whole, run_training(notebook, 3, resume=True))


def test_plain_run_of_the_version_before_is_resumed(notebook, folder, capsys):
    """train(D, G, n) knew no sync_batch_norm then: what a checkpoint does not know is no change."""
    whole = run_training(notebook, 3)
    run_training(notebook, 2)
    path = Path('checkpoints_gan/latest.pt')
    state = torch.load(path)
    del state['config']['sync_batch_norm']
    torch.save(state, path)
    capsys.readouterr()
    expect_same_run(whole, run_training(notebook, 3, resume=True))
    assert 'Continuing checkpoints_gan/ after epoch 2' in capsys.readouterr().out


# ---------------------------------------------------------------------------- an end in the middle


def test_interrupt_keeps_the_losses_file(notebook, folder):
    """losses.npz is there after an interrupt, with all finished epochs."""
    def interrupted_at_batch_8(loader):
        return Acting(loader, at=8, act=raises(KeyboardInterrupt()))

    train_tiny(notebook, 4, wrap=interrupted_at_batch_8)
    assert len(load_history()['per_epoch']) == 2
    assert Path('checkpoints_gan/losses.npz').exists()
