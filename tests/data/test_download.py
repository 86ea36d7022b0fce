"""The small CelebA set from the net: fetched, and unpacked without litter."""
from pathlib import Path

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


def test_download_that_broke_off_begins_again(folder, monkeypatch, capsys):
    """Drawn faces take its place for once; nothing of it is left."""
    data = small_archive(folder / 'there.zip').read_bytes()
    with Server(data, breaks_after=500) as server:
        monkeypatch.setenv('DCGAN_URL', server.url)
        assert len(load_dataset(max_images=5)) == 5
        assert '500 bytes read' in capsys.readouterr().out
        assert not list(folder.glob('*.part'))
    with Server(data) as server:
        monkeypatch.setenv('DCGAN_URL', server.url)
        assert len(load_dataset()) == 2
    assert ZIP.read_bytes() == data
