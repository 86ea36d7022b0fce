"""What Windows does otherwise, as far as it can be played on another system.

None of the project has run there. What is open can be neither moved, replaced nor removed there, a
name that is taken is no new name, and text is not in UTF-8 unless one says so.
"""
import ast
import json
import os
from pathlib import Path

import pytest
import torch

from machinery import files
from machinery.files import load_samples
from machinery.pretrained import save_networks
from machinery.run import load_checkpoint, load_history
from machinery.sources import load_dataset, unpack
from tests.data.archives import small_archive
from tests.tools import NOTEBOOK, PROJECT, run_training, write_images

OPEN = Path('/proc/self/fd')
needs_linux = pytest.mark.skipif(not OPEN.is_dir(), reason='needs Linux, which tells what is open')


def is_open(path):
    """Say whether a file, or a file in a folder, is open in this process."""
    path = os.path.realpath(path)
    held = [os.path.realpath(link) for link in OPEN.iterdir()]
    return any(name == path or name.startswith(path + os.sep) for name in held)


@pytest.fixture
def windows(monkeypatch):
    """Move, replace and remove files as Windows does."""
    def strict(act, name):
        def act_or_refuse(*paths, **options):
            if any(is_open(path) for path in paths if 'dir_fd' not in options):
                raise PermissionError(13, 'The file is being used by another process', *paths)
            if name == 'rename' and os.path.exists(paths[1]):
                raise FileExistsError(17, 'The file is there already', *paths)
            return act(*paths, **options)
        return act_or_refuse

    for name in ('replace', 'rename', 'unlink', 'remove'):
        monkeypatch.setattr(os, name, strict(getattr(os, name), name))


def a_day_at_work(notebook):
    """All that moves files: unpacking, the cache, a run, its going on, another run, its pickle."""
    small_archive('small.zip')
    unpack('small.zip', 'faces')
    for number in (3, 4):
        write_images(Path('faces/more'), number, seed=number)
        load_dataset('faces')                            # the first cache makes room
    run_training(notebook, 1)
    run_training(notebook, 2, resume=True)
    run_training(notebook, 1, seed=1)                    # the first run is set aside
    assert len(load_samples('checkpoints_gan-1/train_samples.pkl')) == 2
    assert load_checkpoint('checkpoints_gan-1')['epoch'] == 2
    assert load_history()['per_epoch'].tolist() == [3]
    Path('pair').mkdir()
    for _ in range(2):
        save_networks(Path('pair'), dict(z_size=6), dict(G=torch.nn.Linear(1, 1).state_dict()))


@needs_linux
def test_nothing_open_is_moved(notebook, folder, windows, capsys):
    """And nothing had to be done without: no cache left out, no epoch not saved."""
    a_day_at_work(notebook)
    printed = capsys.readouterr().out
    assert 'NOT' not in printed and 'No cache' not in printed


@needs_linux
def test_a_file_left_open_is_seen(notebook, folder, windows, monkeypatch):
    """The planted bug: whoever reads a checkpoint and keeps it open fails the test above."""
    load, held = files.load_safely, []

    def careless(path):
        held.append(open(path, 'rb'))
        return load(path)

    monkeypatch.setattr(files, 'load_safely', careless)
    try:
        with pytest.raises((AssertionError, OSError)):
            a_day_at_work(notebook)
    finally:
        for file in held:
            file.close()


# ------------------------------------------------------------------------------------- the encoding


def text_without_encoding(source):
    """The lines that open, read or write text and do not say in which encoding."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, 'attr', getattr(node.func, 'id', ''))
        said = {keyword.arg for keyword in node.keywords}
        modes = [each.value for argument in node.args for each in ast.walk(argument)
                 if isinstance(each, ast.Constant)]
        is_bytes = name == 'open' and any('b' in str(mode) for mode in modes)
        is_other = isinstance(node.func, ast.Attribute) and name == 'open'     # of Pillow and zip
        if name in ('open', 'read_text', 'write_text') and not (
                'encoding' in said or 'utf-8' in modes or is_bytes or is_other):
            yield node.lineno


def test_encodings_are_named():
    """In all that a user runs; Windows takes another one otherwise."""
    cells = json.loads(NOTEBOOK.read_text(encoding='utf-8'))['cells']
    code = [''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code']
    sources = {NOTEBOOK.name: '\n'.join(code)}
    for path in (*PROJECT.glob('*.py'), *(PROJECT / 'machinery').glob('*.py'),
                 *(PROJECT / 'experiments').glob('*.py')):
        sources[path.name] = path.read_text(encoding='utf-8')
    found = {name: list(text_without_encoding(source)) for name, source in sources.items()}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize('source, expected', [
    ("open('a')", 1), ("open('a', 'w')", 1), ("path.read_text()", 1), ("path.write_text('x')", 1),
    ("open('a', 'rb')", 0), ("path.read_text('utf-8')", 0), ("open('a', encoding='utf-8')", 0)])
def test_missing_encoding_is_seen(source, expected):
    assert len(list(text_without_encoding(source))) == expected
