"""What all test files share: fixtures, and the mark of what is done in a browser.

    pytest                 the quick tests, in about three minutes on two cores
    pytest -m slow         processes, browsers, whole notebooks, long fuzzing, most planted faults
    pytest tests/data      one folder; tests/__init__.py says what lies where
    pytest -m '' FILE      all of a file, quick and slow
"""
import shutil

import pytest

import problem_unittests
from machinery.drawn import drawn_faces
from machinery.metric import ENCODER
from machinery.pretrained import PRETRAINED
from tests.tools import NOTEBOOK, PROJECT

CHROMIUM = ('chromium', 'chromium-browser', 'google-chrome')
OPTIONS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
           '--disable-background-networking', '--disable-component-update', '--disable-sync']

notebook = problem_unittests.notebook
globals().update(problem_unittests.PART_FIXTURES)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark what is done in a browser as slow."""
    for item in items:
        if 'browser' in item.fixturenames:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder, and none of the project's environment variables."""
    monkeypatch.chdir(tmp_path)
    for name in ('DCGAN_DATA', 'DCGAN_PRESET', 'DCGAN_URL', 'DCGAN_FAST', 'DCGAN_ATTRIBUTES',
                 'DCGAN_RUN', 'DCGAN_START', 'DCGAN_DEVICE'):
        monkeypatch.setenv(name, '')                 # so that it is put back, whoever sets it
        monkeypatch.delenv(name)
    monkeypatch.setenv('no_proxy', '*')
    return tmp_path


@pytest.fixture(scope='session')
def crowd():
    """600 drawn faces, uint8 (600, 3, 32, 32)."""
    return drawn_faces(600, 32)


@pytest.fixture
def copy_of_project(tmp_path):
    """A folder of what a run needs, and nothing else."""
    (tmp_path / 'assets').mkdir()
    for path in (ENCODER, PRETRAINED):
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, tmp_path / 'assets' / path.name)
    shutil.copytree(PROJECT / 'machinery', tmp_path / 'machinery',
                    ignore=shutil.ignore_patterns('__pycache__'))
    for path in (PROJECT / 'helpers.py', PROJECT / 'problem_unittests.py', NOTEBOOK):
        shutil.copy(path, tmp_path)
    return tmp_path


@pytest.fixture(scope='module')
def browser():
    """A Chromium that is there already; the tests that need it are skipped without one."""
    playwright = pytest.importorskip('playwright.sync_api')
    found = [shutil.which(name) for name in CHROMIUM]
    path = next(filter(None, found), None)
    if not path:
        pytest.skip('there is no Chromium here')
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=path, args=OPTIONS)
        yield chromium
        chromium.close()
