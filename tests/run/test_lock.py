"""One run owns its folder while it lives; and where nothing can be written, none begins."""
import errno
import os
import signal
from pathlib import Path

import pytest
import torch

from machinery.devices import random_state, set_random_state
from machinery.files import load_samples
from machinery.run import Run, own
from tests.tools import (
    PROJECT,
    Acting,
    expect_same_run,
    raises,
    run_python,
    run_training,
    train_tiny,
)

OWNED = 'belongs to a run that is still going on'


def training_with(notebook, n_epochs, act, at=8):
    """Train as run_training does, and call act() in the third epoch; compare with whole runs."""
    def acting(loader):
        return Acting(loader, at=at, act=act)

    return train_tiny(notebook, n_epochs, wrap=acting, flip=True, ema_decay=0.9)


def second_run_is_refused(notebook):
    """Try to train beside a run that is going on, resuming and not; leave the random numbers."""
    before = random_state()
    for resume in (True, False):
        with pytest.raises(RuntimeError, match=OWNED):
            train_tiny(notebook, 1, resume=resume)
    set_random_state(before)


def test_second_run_in_a_folder_is_refused(notebook, folder):
    """It says so, and changes nothing of the first one."""
    whole = run_training(notebook, 4)
    _, G, losses = training_with(notebook, 4, lambda: second_run_is_refused(notebook))
    assert losses == whole['losses']
    assert all(map(torch.equal, load_samples(), whole['samples']))
    assert [path.name for path in folder.glob('checkpoints_gan-*')] == ['checkpoints_gan-1']


def test_links_to_one_folder_are_one_folder(tmp_path):
    """Two working folders whose checkpoints_gan lead to the same drive."""
    drive, *links = (tmp_path / name for name in ('drive', 'one', 'other'))
    drive.mkdir()
    for link in links:
        link.symlink_to(drive)
    lock = own(links[0])
    for folder in (links[1], drive):
        with pytest.raises(RuntimeError, match=OWNED):
            own(folder)
    lock.release()


@pytest.mark.parametrize('end', [KeyboardInterrupt, ValueError, FloatingPointError])
def test_folder_is_free_after_any_end(notebook, folder, end):
    """Also while the error is still held, as a notebook holds the last one."""
    try:
        training_with(notebook, 4, raises(end('the end')))
    except Exception as error:
        held = error                                         # noqa: F841
    assert len(run_training(notebook, 4, resume=True)['samples']) == 4


def test_folder_is_free_after_a_second_interrupt(notebook, folder, monkeypatch):
    """Ctrl-C twice: the second one comes while the run ends, and the notebook holds it."""
    with monkeypatch.context() as patch:
        patch.setattr(Run, '_write_end', raises(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt) as held:       # noqa: F841
            training_with(notebook, 4, raises(KeyboardInterrupt()))
    assert len(run_training(notebook, 4, resume=True)['samples']) == 4


def test_folder_is_free_after_a_failed_start(notebook, folder):
    """Nothing but damaged checkpoints: the next try must not meet the lock of the first."""
    Path('checkpoints_gan').mkdir()
    Path('checkpoints_gan/latest.pt').write_bytes(b'damaged')
    try:
        run_training(notebook, 1, resume=True)
    except ValueError as error:
        held = error                                         # noqa: F841
    assert len(run_training(notebook, 1)['samples']) == 1


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs processes that fork: no Windows')
def test_forked_processes_hold_nothing(notebook, folder):
    """Workers of a loader may outlive the training: its end frees the folder all the same."""
    children = []

    def fork():
        children.append(os.fork())
        if children[-1] == 0:
            signal.pause()

    training_with(notebook, 3, fork)
    try:
        assert len(run_training(notebook, 3, resume=True)['samples']) == 3
    finally:
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)


@pytest.mark.parametrize('number', [errno.ENOLCK, errno.ENOSYS])
def test_file_system_without_locks(notebook, folder, monkeypatch, number):
    """There training works as it does without."""
    fcntl = pytest.importorskip('fcntl')
    monkeypatch.setattr(fcntl, 'flock', raises(OSError(number, 'No locks available')))
    whole = run_training(notebook, 2)
    run_training(notebook, 1)
    expect_same_run(whole, run_training(notebook, 2, resume=True))


@pytest.mark.slow
def test_read_only_folder_is_told_before_training(folder):
    """Where nothing could be kept at the end, the first step is not taken."""
    done = run_python(folder, PROJECT / 'tests/children/read_only.py')
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for line, closed in zip(lines, ('project', 'checkpoints'), strict=True):
        assert line.startswith(f'{closed}: 0 steps, PermissionError: ')
