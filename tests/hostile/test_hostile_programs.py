"""Pickles written by hand against our readers: no crash, no hang, no gigabyte, and no trace."""
import pytest

from tests.hostile.programs import PROGRAMS
from tests.tools import PROJECT, run_python


@pytest.fixture(scope='module')
def outcomes(tmp_path_factory):
    """What became of each program; children/hostile.py reads it in a process of its own."""
    script = PROJECT / 'tests/children/hostile.py'
    done = run_python(tmp_path_factory.mktemp('hostile'), '-W', 'ignore', script)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(line.split(': ') for line in done.stdout.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize('name', PROGRAMS)
def test_hostile_programs_are_refused(outcomes, name):
    """Within 5 seconds of the processor and 1 GiB, by the documented error."""
    assert outcomes[name] == 'refused'
