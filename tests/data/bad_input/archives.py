"""Zip archives that were tampered with, lying where the small CelebA set is looked for."""
from machinery import sources
from tests.data.archives import encrypted, small_archive, zip_of
from tests.data.bad_input.common import read_default

NOT_ZIP = 'No photographs to be had: .*cannot be unpacked: .*Delete it and run again'


def whole(folder, **options):
    """Write an archive that is as it should be; return its path."""
    return small_archive(folder / 'processed-celeba-small.zip', **options)


def cut_short(folder, monkeypatch):
    """The first half of it."""
    path = whole(folder)
    data = path.read_bytes()
    path.write_bytes(data[:len(data) // 2])
    return read_default


def page_for_a_zip(folder, monkeypatch):
    """The page that a server sends in place of a missing file."""
    whole(folder).write_bytes(b'<html>404</html>')
    return read_default


def with_a_password(folder, monkeypatch):
    """All files in it are encrypted."""
    path = whole(folder)
    path.write_bytes(encrypted(path.read_bytes()))
    return read_default


def zip_in_a_zip(folder, monkeypatch):
    """The archive, packed once more."""
    path = whole(folder)
    path.write_bytes(zip_of('faces.zip', path.read_bytes()))
    return read_default


def zip_bomb(folder, monkeypatch):
    """It would take more room than is allowed."""
    whole(folder)
    monkeypatch.setattr(sources, 'UNPACKED_LIMIT', 1000)
    return read_default


def leads_upwards(folder, monkeypatch):
    """One of its names leads out of the folder."""
    whole(folder, extra=['../../outside.jpg'])
    return read_default


def absolute_path(folder, monkeypatch):
    """One of its names begins at the root of the disk."""
    whole(folder, extra=['/dcgan-outside.jpg'])
    return read_default


def flipped_bit(folder, monkeypatch):
    """One bit of the first image is another."""
    path = whole(folder)
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    return read_default


ROWS = {
    'zip cut short': (cut_short, None, NOT_ZIP),
    'page for a zip': (page_for_a_zip, None, NOT_ZIP),
    'zip encrypted': (with_a_password, None, NOT_ZIP),
    'zip in a zip': (zip_in_a_zip, None, 'it holds 0 images'),
    'zip bomb': (zip_bomb, None, 'it holds 2 images of [0-9,]+ bytes'),
    'zip with ../': (leads_upwards, None, "it holds the name '../../outside.jpg'"),
    'zip with an absolute path': (absolute_path, None, "holds the name '/dcgan-outside.jpg'"),
    'zip with a flipped bit': (flipped_bit, None, NOT_ZIP),
}
