"""The small CelebA set from the net: fetched, and unpacked without litter."""
from pathlib import Path

import pytest

from machinery import sources
from machinery.sources import load_dataset
from tests.data.archives import small_archive
from tests.data.servers import Server

ZIP = Path('processed-celeba-small.zip')


def test_zip_lying_about(folder, capsys):
    """An archive in the current folder is unpacked: its images, and nothing else of it."""
    small_archive(ZIP)
    assert len(load_dataset()) == 2
    unpacked = folder / 'processed_celeba_small'
    found = {str(path.relative_to(unpacked)) for path in unpacked.rglob('*.*') if path.is_file()}
    assert 'celeba/New Folder With Items/000002.jpg' in found
    assert not any('MACOSX' in name or 'DS_Store' in name for name in found)
    assert '89,931' in capsys.readouterr().out


@pytest.mark.parametrize('goes_on, starts', [(True, [500]), (False, [0])])
def test_download_that_broke_off_goes_on(folder, monkeypatch, capsys, goes_on, starts):
    """Drawn faces take its place for once; the next try fetches the rest, or all again."""
    data = small_archive(folder / 'there.zip').read_bytes()
    monkeypatch.setattr(sources, 'CHUNK', 100)
    with Server(data, breaks_after=500) as server:
        monkeypatch.setenv('DCGAN_URL', server.url)
        assert len(load_dataset(max_images=5)) == 5
        assert '500 bytes read' in capsys.readouterr().out
    with Server(data, goes_on=goes_on) as server:
        monkeypatch.setenv('DCGAN_URL', server.url)
        assert len(load_dataset()) == 2
        assert server.starts == starts
    assert ZIP.read_bytes() == data
    assert not list(folder.glob('*.part'))


def test_part_that_is_whole_already(folder, monkeypatch):
    """A server has nothing to send after its last byte, and says so: 416."""
    data = small_archive(folder / 'there.zip').read_bytes()
    Path(f'{ZIP}.part').write_bytes(data)
    with Server(data, status=416, goes_on=False) as server:
        monkeypatch.setenv('DCGAN_URL', server.url)
        assert len(load_dataset()) == 2
