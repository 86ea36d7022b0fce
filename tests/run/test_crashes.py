"""Training killed at random instants: no finished epoch may be lost."""
import re

from tests.tools import LONG, PROJECT, run_python


def crash(folder, times):
    child = PROJECT / 'tests/children/crash.py'
    done = run_python(folder, child, times, timeout=3000)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_killed_at_any_instant(folder):
    """SIGKILL at 50 random instants: all files always load, no epoch is lost, no bit differs."""
    done = re.search(r'50 crashes, (\d+) of them while .*, (\d+) epochs', crash(folder, 50))
    assert int(done[1]) >= 5 and int(done[2]) >= 25


@LONG
def test_killed_at_many_instants(folder):
    crash(folder, 300)
