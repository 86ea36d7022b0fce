"""Bad input is met at the first door, and one message says what was found and what to do.

The cases are in bad_input/, a file a kind.
"""
import re
from pathlib import Path

import pytest

from tests.data.bad_input import archives, arguments, caches, folders, pictures, servers

ROOMS = (folders, pictures, caches, archives, servers, arguments)
ROWS = {name: row for room in ROOMS for name, row in room.ROWS.items()}


def may_be_left(path):
    """Say whether a file may lie about afterwards: a cache, a part of a download, SVHN's folder."""
    return '.dcgan_cache' in path or path.endswith('.zip.part') or path == 'data'


@pytest.mark.parametrize('name', ROWS)
def test_bad_input_gets_its_message(notebook, folder, monkeypatch, capsys, name):
    """One message, or one line and good images all the same; and nothing is left lying about."""
    prepare, error, message = ROWS[name]
    action = prepare(folder, monkeypatch)
    before = set(folder.rglob('*'))
    capsys.readouterr()
    if error:
        with pytest.raises(error) as failure:
            action(notebook)
        said = str(failure.value)
    else:
        action(notebook)
        said = capsys.readouterr().out
    assert re.search(message, said), said
    left = {str(path.relative_to(folder)) for path in set(folder.rglob('*')) - before}
    assert all(may_be_left(path) for path in left), left
    assert not (folder.parent / 'outside.jpg').exists()
    assert not Path('/dcgan-outside.jpg').exists()


def test_no_case_hides_another():
    """Each case has a name of its own, and each function that prepares one is in a table."""
    assert len(ROWS) == sum(len(room.ROWS) for room in ROOMS)
    prepared = [prepare for prepare, _, _ in ROWS.values()]
    assert len(set(prepared)) == len(prepared)
    for room in ROOMS:
        for name, value in vars(room).items():
            is_ours = getattr(value, '__module__', None) == room.__name__
            if is_ours and value.__code__.co_varnames[:2] == ('folder', 'monkeypatch'):
                assert value in prepared, f'{name} is in no table'
