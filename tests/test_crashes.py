"""Training killed at random instants: no finished epoch may be lost."""
import re

from tests.tools import LONG, PROJECT, run_python


def crash(folder, times):
    child = PROJECT / 'tests/children/crash.py'
    done = run_python(folder, child, times, timeout=3000)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_killed_at_any_instant(folder):
    """SIGKILL at 50 random instants: checkpoint and samples always load, and no epoch is lost."""
    assert re.search(r'50 crashes, [1-9]', crash(folder, 50))


@LONG
def test_killed_at_many_instants(folder):
    crash(folder, 1000)
