"""The notebook in a real JupyterLab: seen while it trains, stopped, gone on with, restarted."""
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from tests.tools import ASSETS, NOTEBOOK, PATIENCE

PRESET = 'smoke n_epochs=40 distance_every=40'
SETTINGS = {
    # Cells out of sight are drawn too.
    'notebook-extension/tracker': {'windowingMode': 'none'},
    # Nothing is asked of a network.
    'apputils-extension/notification': {'fetchNews': 'false', 'checkForUpdates': False}}
# The notebook has been read, its cells are on the screen, and its kernel answers.
READY = """async () => {
    const panel = jupyterapp.shell.currentWidget;
    await panel.context.ready;
    await panel.revealed;
    await panel.sessionContext.ready;
    await panel.sessionContext.session.kernel.info;
}"""


def start_lab(project, place, port):
    """Start JupyterLab on a project, with all its own folders in a place; return the process."""
    for name, settings in SETTINGS.items():
        path = place / f'settings/@jupyterlab/{name}.jupyterlab-settings'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))
    environment = dict(os.environ, DCGAN_PRESET=PRESET, DCGAN_DATA='drawn', DCGAN_RUN='')
    for name in ('JUPYTER_CONFIG_DIR', 'JUPYTER_DATA_DIR', 'JUPYTER_RUNTIME_DIR', 'IPYTHONDIR',
                 'JUPYTERLAB_WORKSPACES_DIR'):
        environment[name] = str(place / name.lower())
    environment['JUPYTERLAB_SETTINGS_DIR'] = str(place / 'settings')
    options = dict(ip='127.0.0.1', port=port, port_retries=0, root_dir=project, allow_root=True)
    command = [sys.executable, '-m', 'jupyterlab', '--no-browser', '--expose-app-in-browser',
               '--IdentityProvider.token=']
    command += [f'--ServerApp.{name}={value}' for name, value in options.items()]
    with open(place / 'log', 'w', encoding='utf-8') as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def wait_for_answer(address, process, log):
    """Wait until the server answers."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(f'{address}/api', timeout=5):
                return
        except OSError:
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.1)


@pytest.fixture
def lab(copy_of_project, tmp_path_factory):
    """The address of a JupyterLab on a copy of the project, whose notebook has no outputs yet."""
    pytest.importorskip('jupyterlab')
    path = copy_of_project / NOTEBOOK.name
    content = json.loads(path.read_text(encoding='utf-8'))
    for cell in content['cells']:
        if cell['cell_type'] == 'code':
            cell.update(outputs=[], execution_count=None)
    path.write_text(json.dumps(content), encoding='utf-8')
    shutil.copytree(ASSETS, copy_of_project / 'assets', dirs_exist_ok=True)
    place = tmp_path_factory.mktemp('jupyter')
    port = free_port()
    process = start_lab(copy_of_project, place, port)
    try:
        wait_for_answer(f'http://127.0.0.1:{port}', process, place / 'log')
        yield f'http://127.0.0.1:{port}/lab/tree/{NOTEBOOK.name}?reset'
    finally:
        process.terminate()                              # it ends its kernels
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


class OpenNotebook:
    """A notebook in JupyterLab, and the hands of its reader."""

    def __init__(self, page):
        self.page = page
        all_cells = page.locator('.jp-Notebook .jp-Cell')
        all_cells.first.wait_for()
        page.evaluate(READY)
        self.training, = [number for number, cell in enumerate(self.cells())
                          if 'losses = helpers.call_train(' in cell['source']]
        self.training_cell = all_cells.nth(self.training)
        self.last_cell = all_cells.last
        self.picture = self.training_cell.locator('.jp-OutputArea-output img')

    def cells(self):
        """All cells as they would be saved."""
        return self.page.evaluate('jupyterapp.shell.currentWidget.context.model.toJSON()')['cells']

    def outputs(self):
        return [output for cell in self.cells() for output in cell.get('outputs', [])]

    def errors(self):
        return [output for output in self.outputs() if output['output_type'] == 'error']

    def printed(self):
        """What the training cell has printed."""
        outputs = self.cells()[self.training]['outputs']
        return ''.join(''.join(output.get('text', '')) for output in outputs)

    def wait_for_text(self, text):
        """Wait until the training cell has printed a text."""
        until = time.monotonic() + PATIENCE
        while text not in self.printed():
            assert time.monotonic() < until, f'{text}: {self.printed()}'
            self.page.wait_for_timeout(50)

    def wait_for_prompt(self, cell, pattern):
        """Wait until a cell is waiting or running, '*', or is done, a number."""
        cell.locator('.jp-InputPrompt', has_text=re.compile(rf'\[{pattern}\]')).wait_for()

    def choose(self, menu, item):
        """Choose an item of a menu."""
        self.page.locator('.lm-MenuBar-itemLabel', has_text=menu).click()
        self.page.locator('.lm-Menu-itemLabel').get_by_text(item, exact=True).click()

    def press(self, button):
        """Press a button of the notebook's toolbar."""
        self.page.locator(f'.jp-NotebookPanel-toolbar [data-jp-item-name="{button}"]').click()


@pytest.fixture
def page(browser):
    """A page that waits patiently; at its end the console must hold no error."""
    errors = []
    context = browser.new_context(viewport=dict(width=1300, height=1000))
    context.set_default_timeout(1000 * PATIENCE)
    page = context.new_page()
    page.on('pageerror', lambda error: errors.append(str(error)))
    page.on('console', lambda message: errors.append(f'{message.text} {message.location}')
            if message.type == 'error' else None)
    yield page
    context.close()
    assert errors == []


def test_notebook_in_jupyterlab(lab, page):
    """Run All shows faces while it trains; stop, go on, restart and run all: no error anywhere."""
    page.goto(lab)
    notebook = OpenNotebook(page)

    notebook.choose('Run', 'Run All Cells')
    notebook.picture.wait_for()
    first_picture = notebook.picture.get_attribute('src')
    notebook.wait_for_text('epoch    1/  40')
    notebook.wait_for_prompt(notebook.training_cell, r'\*')          # it is still training
    notebook.press('interrupt')
    notebook.wait_for_text('Interrupted. On disk')
    assert notebook.picture.count() == 1
    assert notebook.picture.get_attribute('src') != first_picture    # renewed in its place
    notebook.wait_for_prompt(notebook.last_cell, r'\d+')
    assert 'epoch   40/  40' not in notebook.printed()

    notebook.training_cell.locator('.jp-InputPrompt').click()
    notebook.press('run')
    notebook.wait_for_text('Continuing checkpoints_gan/ after epoch')
    notebook.picture.wait_for()
    assert notebook.errors() == []

    notebook.choose('Kernel', 'Restart Kernel and Run All Cells…')
    page.locator('.jp-Dialog .jp-mod-accept').click()
    notebook.wait_for_prompt(notebook.last_cell, r'\*')
    notebook.wait_for_prompt(notebook.last_cell, r'\d+')
    assert 'Continuing checkpoints_gan/ after epoch' in notebook.printed()
    assert 'epoch   40/  40' in notebook.printed()
    assert notebook.picture.count() == 1
    assert notebook.errors() == []
    wall = page.frame_locator('.jp-Notebook iframe').locator('#wall canvas[width="128"]')
    wall.nth(35).wait_for()                                          # the page draws its faces
