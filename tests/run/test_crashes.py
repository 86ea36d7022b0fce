"""Training killed at random instants: no finished epoch may be lost."""
import pytest

from tests.tools import PROJECT, run_python


@pytest.mark.parametrize('times', [3, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_at_any_instant(folder, times):
    """SIGKILL at random instants: all files always load, no epoch is lost, no bit differs."""
    done = run_python(folder, PROJECT / 'tests/children/crash.py', times)
    assert done.returncode == 0, done.stderr
    assert f'{times} crashes' in done.stdout
