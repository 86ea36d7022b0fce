"""Thousands of hostile files, read by a process of its own, which may crash or fill its memory."""
import pytest

from tests.tools import PROJECT, run_python

KINDS = ['samples', 'samples by grammar', 'checkpoint', 'zip', 'cache']


@pytest.mark.slow
def test_fuzzed_files_are_refused(folder):
    """2,000 of each kind: the documented error or none, no hang, and less than 1 GiB."""
    script = PROJECT / 'tests/children/fuzz.py'
    done = run_python(folder, '-W', 'ignore', script, 2000, 0)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(':')[0] for line in lines if 'of 2000 taken' in line] == KINDS
