"""A notebook of any name is graded: points for each part, a sentence for each failure."""
import json

import pytest

from machinery.grades import as_python, sentence
from tests.tools import NOTEBOOK, PROJECT, run_python

CELLS = {                    # what stands in ours: what stands in theirs
    'def scale(x': 'def scale(x, feature_range=(-1, 1)):\n    pass',
    'def real_loss(D_out': 'def real_loss(D_out):\n    loss = \n    return loss',
    'def imshow(img': '%matplotlib inline\n!ls\nrate = 3',
    'def slerp(start': '',
    'def weights_init_normal(m': '%%time\ndef weights_init_normal(m):\n    no_such_name',
    'def view_samples(epoch': 'import no_such_package\ndef view_samples(epoch, samples):\n    pass',
    'class Generator(nn': 'class Generator(nn.Module):\n    def __init__(self, z_size, conv_dim):'
                          '\n        super().__init__()\n\n    def forward(self, z):'
                          '\n        return z',
}


@pytest.fixture
def theirs(folder):
    """A notebook with gaps and faults, in a folder of its own."""
    notebook = json.loads(NOTEBOOK.read_text(encoding='utf-8'))
    for cell in notebook['cells']:
        source = ''.join(cell['source'])
        for old, new in CELLS.items():
            if cell['cell_type'] == 'code' and old in source:
                cell['source'] = new
    path = folder / 'hand in (1).ipynb'
    path.write_text(json.dumps(notebook), encoding='utf-8')
    return path


def graded(path, *options):
    """Return what pytest prints of a notebook, below the line of its points, and that line."""
    done = run_python(path.parent, '-m', 'pytest', PROJECT / 'problem_unittests.py', '-q', *options,
                      '-p', 'no:cacheprovider', environment=dict(DCGAN_NOTEBOOK=f'"{path}"'))
    _, mark, summary = done.stdout.partition(f'{path.name}: ')
    assert mark, done.stdout + done.stderr
    return summary.splitlines(), done.stdout


@pytest.mark.slow
def test_points_of_a_notebook_with_gaps(theirs):
    """A missing part counts 0, the rest are graded still, and each failure is one line."""
    (points, *lines), printed = graded(theirs)
    failed = {line.split()[1]: line for line in lines if line.startswith('0  ')}
    passed = [line.split()[1] for line in lines if line.startswith('1  ')]
    assert f' {len(passed)} of {len(passed) + len(failed)} points ' in f' {points} '
    assert {'get_dataloader', 'discriminator', 'gradient_penalty', 'make_optimizers',
            'random_flip'} <= set(passed)
    assert 'scale returned nothing: write it in the cell above.' in failed['scale']
    assert 'slerp is missing' in failed['slerp'] and 'real_loss is missing' in failed['losses']
    assert "weights_init_normal uses 'no_such_name'" in failed['weights_init_normal']
    assert 'expected (50, 3, 32, 32), found (50, 25)' in failed['generator']
    assert 'view_samples is missing' in failed['view_samples']
    assert 'The cell "def real_loss(D_out):" does not compile: invalid syntax in line 2' in lines
    assert any("No module named 'no_such_package'" in line for line in lines)
    assert 'Traceback' not in printed and len(printed.splitlines()) < 50
    assert max(map(len, lines)) < 260


@pytest.mark.slow
def test_ours_has_all_points(folder):
    path = folder / 'ours.ipynb'
    path.write_bytes(NOTEBOOK.read_bytes())
    (points, *_), printed = graded(path, '-k', 'scale or generator or losses')
    assert points.startswith('4 of 4 points')


@pytest.mark.parametrize('content', [None, b'{}', b'no notebook', b'{"cells": 3}'])
@pytest.mark.slow
def test_what_is_no_notebook_is_told(folder, content):
    path = folder / 'any.ipynb'
    if content:
        path.write_bytes(content)
    done = run_python(folder, '-m', 'pytest', PROJECT / 'problem_unittests.py', '-q', '-k', 'scale',
                      environment=dict(DCGAN_NOTEBOOK=str(path)))
    assert done.returncode == 4
    assert f'{path} is no notebook that can be read' in done.stdout + done.stderr


def test_what_ipython_alone_understands_is_left_out():
    assert 'def f(): pass' in as_python('%%time\ndef f(): pass')
    compile(as_python('%matplotlib inline\n!ls\nx = 1\nx?'), '', 'exec')


def test_a_sentence_is_one_line():
    assert sentence(AssertionError('Range: found\n1. Test parameters: {}')) == 'Range: found 1.'
    assert sentence(TypeError('x' * 500)) == f'TypeError: {"x" * 149} …'
