"""The notebook: its definitions, the committed state, and runs from top to bottom."""
import contextlib
import json
import os
import re
import runpy
import statistics
import subprocess
import sys

import matplotlib.pyplot as plt
import nbformat
import pytest
import torch
from nbclient import NotebookClient

import problem_unittests
from machinery import lesson
from machinery.files import load_samples
from machinery.lesson import load_definitions
from problem_unittests import PARTS
from tests.tools import NOTEBOOK, PATIENCE, PROJECT, run_python

# ---------------------------------------------------------------------------------- the definitions


def test_definitions_have_no_side_effect(notebook, capsys):
    """Reading them prints nothing, builds nothing, and gives every part."""
    assert capsys.readouterr().out == ''
    assert all(hasattr(notebook, name) for name in PARTS)
    for name in ('celeba_train_loader', 'D', 'G', 'losses', 'config'):
        assert not hasattr(notebook, name), name


@pytest.mark.parametrize('old, times', [('no such line', 0), ('nn.BatchNorm2d(', 3)])
def test_definitions_are_edited_in_one_place_or_not_at_all(old, times):
    """A fault or variant whose place is gone, or is not the only one, must not pass for planted."""
    with pytest.raises(ValueError, match=rf'expected each exactly once .* found .*{times}'):
        load_definitions(NOTEBOOK, [(old, old)])


# ------------------------------------------------------------------------------ the committed state


def source_of(cell):
    return ''.join(cell['source'])


def committed_text():
    """The notebook as committed: to run it in place, on drawn faces say, is no fault.

    Where there is no git, it is taken as it lies here.
    """
    with contextlib.suppress(FileNotFoundError, subprocess.CalledProcessError):
        return subprocess.run(['git', 'show', f'HEAD:./{NOTEBOOK.name}'], cwd=PROJECT, check=True,
                              capture_output=True, encoding='utf-8').stdout
    return NOTEBOOK.read_text(encoding='utf-8')


def part_tests():
    """The names of the tests that the notebook calls."""
    return [name for name, test in vars(problem_unittests).items()
            if name.startswith('test_') and hasattr(test, '__wrapped__')]


UNWANTED = {'iterator.next()': r'\.next\(\)',
            'a division as an index': r'subplot\([^)]*/',
            'a style that is gone': 'seaborn',
            'shell or magic': r'^\s*[!%]',
            'a star import': r'import \*',
            'an absolute path': r'''['"]/(?:\w)'''}
SOMEBODYS_PATH = r'(?<![\w.])/(?:tmp|home|root|work|mnt|Users)/'


def faults_of(text):
    """What is wrong with a stored notebook, given its text: a list of sentences."""
    code = [cell for cell in json.loads(text)['cells'] if cell['cell_type'] == 'code']
    return faults_of_source(code) + faults_of_outputs(code) + faults_of_size(text, code)


def faults_of_source(code):
    source = '\n'.join(source_of(cell) for cell in code)
    called = called_tests(code)
    faults = [f'uses {name}' for name, pattern in UNWANTED.items()
              if re.search(pattern, source, re.MULTILINE)]
    faults += [f'{name} is not tested under its cell' for name in part_tests()
               if name not in called]
    return faults


def faults_of_outputs(code):
    faults = []
    if [cell['execution_count'] for cell in code] != list(range(1, len(code) + 1)):
        faults.append('has not been run from top to bottom')
    outputs = [output for cell in code for output in cell['outputs']]
    faults += [f'shows an error: {output["ename"]}' for output in outputs
               if output['output_type'] == 'error']
    if json.dumps(outputs).count('Tests Passed') != len(called_tests(code)):
        faults.append('has a test that did not pass')
    if re.search(SOMEBODYS_PATH, json.dumps(outputs)):
        faults.append("shows a path of somebody's machine")
    return faults


def faults_of_size(text, code):
    faults = []
    n_bytes = len(text.encode())
    if n_bytes > 2_000_000:
        faults.append(f'has {n_bytes:,} bytes')
    lengths = [sum(bool(line.strip()) for line in source_of(cell).splitlines()) for cell in code]
    median, largest = statistics.median(lengths), max(lengths)
    if median > 7 or largest > 60:
        faults.append(f'has cells of {median} lines (median) and {largest} (largest)')
    return faults


def called_tests(code):
    source = '\n'.join(source_of(cell) for cell in code)
    return re.findall(r'tests\.(test_\w+)\(', source)


def test_committed_notebook():
    """Run from top to bottom on real faces, no error, all tests passed, within its sizes."""
    text = committed_text()
    assert faults_of(text) == []
    outputs = [output for cell in json.loads(text)['cells'] for output in cell.get('outputs', [])]
    printed = ''.join(''.join(output.get('text', '')) for output in outputs)
    if not (PROJECT / '.git').exists() and 'NOT photographs' in printed:
        pytest.skip('this copy was run again, on drawn faces, and there is no git to show another')
    assert re.search(r'images of \d+x\d+, processed_celeba_small/', printed)
    assert 'NOT photographs' not in printed


@pytest.mark.parametrize('old, new, fault', [
    ('next(iter(celeba_train_loader))', 'iter(celeba_train_loader).next()', 'iterator.next()'),
    ('fig.add_subplot(2, 8, i + 1)', 'fig.add_subplot(2, 16/2, i + 1)', 'a division'),
    ('import copy', '!pip install torch', 'shell'),
    ("data_dir = 'processed_celeba_small/'", "data_dir = '/data/faces'", 'absolute'),
    ('tests.test_generator(Generator)', '', 'test_generator is not tested'),
    ('"execution_count": 3,', '"execution_count": 33,', 'top to bottom'),
    ('Tests Passed', 'Tests Failed', 'did not pass')])
def test_faults_in_the_committed_notebook_are_caught(old, new, fault):
    text = committed_text()
    assert old in text
    assert any(fault in sentence for sentence in faults_of(text.replace(old, new)))


# --------------------------------------------------------------------------------- its first cells


def code_cells():
    return [source for _, source in lesson.code_cells(NOTEBOOK)]


@pytest.mark.parametrize('strangers_package, found', [
    (False, "No module named 'helpers'"), (True, "cannot import name 'configure'")])
def test_notebook_alone_says_what_it_misses(folder, strangers_package, found):
    """Also where a package called helpers, somebody else's, is installed."""
    if strangers_package:
        (folder / 'helpers').mkdir()
        (folder / 'helpers/__init__.py').write_text('')
    first, *_ = code_cells()
    environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    done = subprocess.run([sys.executable, '-c', first], cwd=folder, env=environment,
                          capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f'ImportError: {found}')
    assert 'beside it helpers.py, problem_unittests.py, machinery/ and assets/' in last
    assert f'The current folder is {folder}: start this notebook in its own.' in last


def test_parameters_can_be_injected(monkeypatch):
    """As papermill does, in a cell behind that of the parameters; DCGAN_PRESET sets others."""
    monkeypatch.setenv('DCGAN_PRESET', 'smoke lr=0.001 conv_dim=4')
    imports, folded, parameters, configuration, *_ = code_cells()
    scope = {}
    for source in (imports, folded, parameters, 'n_epochs = 1\nseed = 7', configuration):
        exec(source, scope)
    assert (scope['n_epochs'], scope['seed'], scope['lr']) == (1, 7, 0.001)
    assert scope['g_conv_dim'] == 4 and scope['max_images'] == 64


# ---------------------------------------------------------------------------------------- its tests


def test_a_failure_tells_what_came_and_with_what():
    """The message has what was expected, what came and the parameters; nothing has passed."""
    with contextlib.redirect_stdout(None), pytest.raises(AssertionError) as failure:
        problem_unittests.test_discriminator(lambda conv_dim: torch.nn.Flatten())
    message = str(failure.value)
    assert '(50, 1)' in message and '(50, 3072)' in message and "'conv_dim': 10" in message


def test_a_success_prints_and_leaves_the_random_state(notebook, capsys):
    before = torch.get_rng_state()
    problem_unittests.test_generator(notebook.Generator)
    assert capsys.readouterr().out == 'Tests Passed\n'
    assert torch.equal(torch.get_rng_state(), before)


# --------------------------------------------------------------------------------------- whole runs


class CountingClient(NotebookClient):
    """Runs a notebook, and counts how often a picture is put in the place of an earlier one."""
    n_renewed = 0

    def process_message(self, message, *arguments):
        data = message['content'].get('data', {})
        if message['msg_type'] == 'update_display_data' and 'image/png' in data:
            self.n_renewed += 1
        return super().process_message(message, *arguments)


def run_notebook(notebook, folder, **environment):
    """Run a notebook in a folder, in the smoke preset on drawn faces; outputs are put into it.

    Returns (all that it printed, the number of its pictures).
    """
    environment = dict(os.environ, DCGAN_PRESET='smoke', DCGAN_DATA='drawn',
                       DCGAN_RUN='') | environment
    resources = {'metadata': {'path': str(folder)}}
    client = CountingClient(notebook, timeout=PATIENCE, kernel_name='python3', resources=resources)
    client.execute(env=environment)
    assert client.n_renewed <= 4, 'renewed by time and not by batch: there are eight'
    outputs = [output for cell in notebook.cells for output in cell.get('outputs', [])]
    pictures = [output for output in outputs if 'image/png' in output.get('data', {})]
    return ''.join(output.get('text', '') for output in outputs), len(pictures)


def outputs_of(notebook, call):
    """The outputs of the one cell whose source has this call in it."""
    outputs, = [cell.outputs for cell in notebook.cells
                if cell.cell_type == 'code' and call in cell.source and 'def ' not in cell.source]
    return outputs


def expect_one_picture_of_the_training(notebook):
    """The live view leaves one picture under its cell, and nothing that only Jupyter can show."""
    shown = [output.get('data', {}) for output in outputs_of(notebook, 'helpers.call_train(')]
    assert sum('image/png' in data for data in shown) == 1
    assert 'widgets' not in notebook.metadata
    kinds = {kind for cell in notebook.cells for output in cell.get('outputs', [])
             for kind in output.get('data', {})}
    assert kinds <= {'image/png', 'text/html', 'text/plain'}


def expect_page_in_a_frame(notebook):
    """The run's page is under the last cell, inside the notebook, and shut off from the rest."""
    line, frame = outputs_of(notebook, 'helpers.show_page(')
    assert line.text.startswith('checkpoints_gan/explorer.html: ')
    assert '<iframe srcdoc="&lt;!DOCTYPE html&gt;' in frame.data['text/html']
    assert 'sandbox="allow-scripts allow-downloads"' in frame.data['text/html']


def expect_readme_draws_faces(folder):
    """The README's three lines, literally: faces of the shipped generator, and of the run here."""
    readme = (PROJECT / 'README.md').read_text(encoding='utf-8')
    block, = re.findall(r'```\n(import helpers, torch\n.+?)```', readme, re.DOTALL)
    assert len(block.splitlines()) == 3
    own, = re.findall(r'`(helpers\.face\(z, .+?\))`', readme)
    of_the_run = block.replace('helpers.face(z)', own)
    sizes = {block: '(261, 521, 3)', of_the_run: '(133, 265, 3)'}    # 4 rows of 8: 64x64, 32x32
    for block, size in sizes.items():
        shown = 'import matplotlib.pyplot as plt\nprint(plt.gca().images[0].get_array().shape)'
        done = run_python(folder, '-c', block + shown,
                          environment=dict(MPLBACKEND='agg', PYTHONPATH=''))
        assert done.stdout == f'{size}\n', done.stderr


def test_cells_run_from_top_to_bottom(folder, monkeypatch, capsys):
    """In one namespace, an epoch of the smoke preset, and a short search for the photos' noise."""
    monkeypatch.setenv('DCGAN_PRESET', 'smoke n_epochs=1')
    monkeypatch.setenv('DCGAN_DATA', 'drawn')
    source = '\n\n'.join(code_cells())
    assert source.count('invert(G_best, photos)') == 1
    source = source.replace('invert(G_best, photos)', 'invert(G_best, photos, n_steps=20)')
    path = folder / 'cells.py'
    path.write_text(source, encoding='utf-8')
    runpy.run_path(str(path), run_name='__main__')
    plt.close('all')
    printed = capsys.readouterr().out
    assert printed.count('Tests Passed') == len(part_tests())
    assert 'epoch    1/   1' in printed and 'explorer.html: ' in printed


@pytest.mark.slow
def test_notebook_runs_from_top_to_bottom(copy_of_project):
    """By a kernel, in the smoke preset, then again: the second run picks up the first."""
    for run in (1, 2):
        notebook = nbformat.read(copy_of_project / NOTEBOOK.name, as_version=4)
        printed, n_pictures = run_notebook(notebook, copy_of_project)
        assert printed.count('Tests Passed') == len(part_tests())
        assert 'NOT photographs' in printed and 'epoch    2/   2' in printed
        assert ('All 2 epochs are done' in printed) == (run == 2)
        assert n_pictures >= 6
        expect_one_picture_of_the_training(notebook)
        expect_page_in_a_frame(notebook)
    expect_readme_draws_faces(copy_of_project)
    assert len(load_samples(copy_of_project / 'train_samples.pkl')) == 2


@pytest.mark.slow
def test_notebook_runs_as_a_script(copy_of_project):
    """Exported by nbconvert, it trains in a terminal, even in one that knows no é.

    And all that the run writes goes to a folder of its own.
    """
    run_python(copy_of_project, '-m', 'nbconvert', '--to', 'script', NOTEBOOK.name)
    environment = dict(DCGAN_PRESET='smoke n_epochs=1', DCGAN_DATA='drawn', MPLBACKEND='agg',
                       DCGAN_RUN='~/drive', HOME=str(copy_of_project), LC_ALL='C', PYTHONUTF8='0')
    before = set(os.listdir(copy_of_project))
    done = run_python(copy_of_project, 'dcgan_faces.py', environment=environment)
    assert done.returncode == 0, done.stderr
    assert 'epoch    1/   1' in done.stdout and 'Fr?chet face distance' in done.stdout
    assert '<IPython' not in done.stdout
    new = set(os.listdir(copy_of_project)) - before - {'__pycache__'}
    assert {name for name in new if not name.startswith('.')} == {'drive'}
    assert (copy_of_project / 'drive/train_samples.pkl').exists()
    assert (copy_of_project / 'drive/checkpoints_gan/explorer.html').exists()
