"""The small CelebA set from the net: fetched with breaks, and unpacked without litter."""
import shutil
from pathlib import Path

import pytest

from machinery.sources import load_dataset
from tests.data.archives import small_archive
from tests.data.bad_input.servers import headers_without_end
from tests.data.servers import Server
from tests.tools import run_python

ZIP = Path('processed-celeba-small.zip')
PART = Path('processed-celeba-small.zip.part')


def test_zip_lying_about(folder, capsys):
    """An archive in the current folder is unpacked: its images, and nothing else of it."""
    small_archive(ZIP)
    assert len(load_dataset()) == 2
    unpacked = folder / 'processed_celeba_small'
    found = {str(path.relative_to(unpacked)) for path in unpacked.rglob('*.*') if path.is_file()}
    assert 'celeba/New Folder With Items/000002.jpg' in found
    assert not any('MACOSX' in name or 'DS_Store' in name for name in found)
    assert '89,931' in capsys.readouterr().out


@pytest.mark.parametrize('ranges', [True, False])
def test_download_resumes(folder, monkeypatch, capsys, ranges):
    """A download goes on from its last byte, or from the first if the server cannot do that."""
    data = small_archive(folder / 'there.zip').read_bytes()
    with Server(data, ranges, breaks_after=500) as server:
        monkeypatch.setenv('DCGAN_URL', server.url)
        assert len(load_dataset(max_images=5)) == 5
        assert f'broke off after 500 of {len(data):,} bytes' in capsys.readouterr().out
    with Server(data, ranges) as server:
        monkeypatch.setenv('DCGAN_URL', server.url)
        assert len(load_dataset()) == 2
        assert server.asked == ['bytes=500-']
    assert ZIP.read_bytes() == data and not list(folder.glob('*.part'))


def test_download_that_was_whole_already(folder, monkeypatch):
    """Killed between the last byte and the new name: the part is taken if it is a zip archive."""
    data = small_archive(folder / 'there.zip').read_bytes()
    with Server(data) as server:
        monkeypatch.setenv('DCGAN_URL', server.url)
        PART.write_bytes(data)
        assert len(load_dataset()) == 2
        shutil.rmtree('processed_celeba_small')
        ZIP.unlink()
        PART.write_bytes(b'x' * len(data))           # as long, but something else
        assert len(load_dataset(max_images=5)) == 5 and not list(folder.glob('*.part'))
        assert len(load_dataset()) == 2


IMPATIENT = """
from machinery import sources
sources.PATIENCE = .3
assert len(sources.load_dataset(max_images=5)) == 5
"""


@pytest.mark.slow
def test_script_ends_though_a_server_does_not(folder):
    """A server that never ends its headers holds up neither training nor the end of a script."""
    with Server(b'', act=headers_without_end) as server:
        environment = dict(DCGAN_URL=server.url)
        done = run_python(folder, '-c', IMPATIENT, environment=environment, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'did not answer in 0.6 s' in done.stdout
