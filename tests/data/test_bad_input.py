"""Bad input is met at the first door, and one message says what was found and what to do.

The cases are in bad_input/, a file a kind.
"""
import re
from pathlib import Path

import pytest

from tests.data.bad_input import archives, arguments, caches, folders, pictures, servers

ROOMS = (folders, pictures, caches, archives, servers, arguments)
ROWS = [pytest.param(*row, id=name) for room in ROOMS for name, row in room.ROWS.items()]


def may_be_left(path):
    """Say whether a file may lie about afterwards: a cache, a part of a download, SVHN's folder."""
    return '.dcgan_cache' in path or path.endswith('.zip.part') or path == 'data'


@pytest.mark.parametrize('prepare, error, message', ROWS)
def test_bad_input_gets_its_message(notebook, folder, monkeypatch, capsys,
                                    prepare, error, message):
    """One message, or one line and good images all the same; and nothing is left lying about."""
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
