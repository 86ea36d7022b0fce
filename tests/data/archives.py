"""Zip archives in the layout of the small CelebA set, whole or tampered with."""
import io
import re
import zipfile

from PIL import Image

NAMES = ('celeba/000001.jpg', 'celeba/New Folder With Items/000002.jpg')


def small_archive(path, names=NAMES, extra=()):
    """Write the set with two images instead of 89,931, and extra names; return the path."""
    image = io.BytesIO()
    Image.new('RGB', (64, 64), (200, 100, 50)).save(image, 'jpeg')
    with zipfile.ZipFile(path, 'w') as archive:
        for name in names:
            archive.writestr(f'processed_celeba_small/{name}', image.getvalue())
        for name in extra:
            archive.writestr(name, image.getvalue())
        archive.writestr('processed_celeba_small/.DS_Store', 'x')
        archive.writestr('__MACOSX/processed_celeba_small/celeba/._000001.jpg', 'fork')
    return path


def encrypted(data):
    """Set the flag of an encrypted file in both places where a zip archive keeps it."""
    data = bytearray(data)
    for mark, place in ((b'PK\x03\x04', 6), (b'PK\x01\x02', 8)):
        for hit in re.finditer(re.escape(mark), bytes(data)):
            data[hit.start() + place] |= 1
    return bytes(data)


def zip_of(name, content):
    """Return the bytes of a zip archive of one file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr(name, content)
    return file.getvalue()
