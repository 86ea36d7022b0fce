"""Thousands of hostile files, read by a process of its own, which may crash or fill its memory."""
import pytest

from tests.tools import LONG, PROJECT, run_python


def fuzz(folder, times, seed):
    """Make so many files of each kind; return what children/fuzz.py printed."""
    script = PROJECT / 'tests/children/fuzz.py'
    done = run_python(folder, '-W', 'ignore', script, times, seed, timeout=3600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_fuzzed_files_are_refused(folder):
    """2,000 of each kind: the documented error or none, no hang, and less than 1 GiB."""
    printed = fuzz(folder, 2000, 0)
    assert [line.split(':')[0] for line in printed.splitlines() if 'of 2000 taken' in line] == [
        'samples', 'samples by grammar', 'checkpoint', 'checkpoint by grammar', 'zip', 'cache']


@LONG
@pytest.mark.parametrize('seed', range(1, 6))
def test_many_fuzzed_files_are_refused(folder, seed):
    """10,000 of each kind, five times."""
    fuzz(folder, 10_000, seed)
