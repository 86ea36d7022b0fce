"""Folders that are missing, empty or odd, and images under difficult names."""
import os

from machinery import images
from machinery.sources import load_dataset
from tests.data.archives import small_archive
from tests.data.bad_input.common import FINE, read_default, read_faces, three_faces
from tests.tools import write_images


def no_such_folder(folder, monkeypatch):
    """A folder that does not exist, named by hand."""
    return lambda notebook: load_dataset('nowhere')


def file_for_a_folder(folder, monkeypatch):
    """An image where its folder was meant."""
    three_faces(folder)
    return lambda notebook: load_dataset('faces/000001.jpg')


def archive_for_a_folder(folder, monkeypatch):
    """A zip archive of images where a folder was meant."""
    small_archive(folder / 'mine.zip')
    monkeypatch.setenv('DCGAN_DATA', 'mine.zip')
    return read_default


def address_of_nothing(folder, monkeypatch):
    """The address of a folder on this machine that is not there."""
    monkeypatch.setenv('DCGAN_DATA', f'file://{folder}/nowhere')
    return read_default


def empty_folder(folder, monkeypatch):
    """Nothing at all."""
    (folder / 'faces').mkdir()
    return read_faces


def folder_of_text(folder, monkeypatch):
    """Files, but no image among them."""
    (folder / 'faces/b').mkdir(parents=True)
    (folder / 'faces/a.txt').touch()
    (folder / 'faces/b/c.csv').touch()
    return read_faces


def only_macosx(folder, monkeypatch):
    """What a Mac leaves in an archive beside the images, without the images."""
    (folder / 'faces/__MACOSX/b').mkdir(parents=True)
    for name in ('__MACOSX/a.jpg', '__MACOSX/b/._c.jpg', '.DS_Store'):
        (folder / 'faces' / name).touch()
    return read_faces


def nothing_readable(folder, monkeypatch):
    """Two texts that call themselves images."""
    (folder / 'faces').mkdir()
    for name in ('a.jpg', 'b.png'):
        (folder / 'faces' / name).write_text('text')
    return read_faces


def links_in_a_circle(folder, monkeypatch):
    """A link, deep inside the folder, to the folder itself."""
    inner = three_faces(folder) / 'a'
    inner.mkdir()
    (inner / 'b').symlink_to(folder / 'faces')
    return read_faces


def dead_link(folder, monkeypatch):
    """A link named like an image, to a file that is gone."""
    (three_faces(folder) / 'a.jpg').symlink_to('gone')
    return read_faces


def folder_named_jpg(folder, monkeypatch):
    """A folder that is named like an image."""
    (three_faces(folder) / 'a.jpg').mkdir()
    return read_faces


def folder_that_changes(folder, monkeypatch):
    """One of five images disappears while the others are decoded."""
    paths = write_images(folder / 'faces', 5)
    decode = images.decode_image

    def decode_and_remove(path, size):
        paths[4].unlink(missing_ok=True)
        return decode(path, size)

    monkeypatch.setattr(images, 'decode_image', decode_and_remove)
    return read_faces


def more_files_than_memory(folder, monkeypatch):
    """1,200,000 files, and memory for a tenth of them."""
    (folder / 'faces').mkdir()
    listing = [(f'{number}.jpg', 1, 1) for number in range(1_200_000)]
    monkeypatch.setattr(images, 'list_images', lambda folder: listing)
    monkeypatch.setattr(images, 'IMAGES_LIMIT', 120_000 * 3 * 32 * 32)
    return read_faces


def one_face(name):
    """One good image under this name."""
    def prepare(folder, monkeypatch):
        path, = write_images(folder / 'faces', 1)
        new = folder / 'faces' / name
        new.parent.mkdir(parents=True, exist_ok=True)
        path.rename(new)
        return read_faces
    return prepare


def named(address):
    """A data set that DCGAN_DATA names."""
    def prepare(folder, monkeypatch):
        monkeypatch.setenv('DCGAN_DATA', address)
        return read_default
    return prepare


ROWS = {
    'no such folder':
        (no_such_folder, FileNotFoundError, "'nowhere' does not exist.*DCGAN_DATA"),
    'no such folder in DCGAN_DATA':
        (named('nowhere'), FileNotFoundError, "'nowhere' does not exist"),
    'a file for a folder':
        (file_for_a_folder, FileNotFoundError, 'is a file, a folder of .* was expected'),
    'archive for a folder':
        (archive_for_a_folder, FileNotFoundError,
         "'mine.zip' is an archive.*python -m zipfile -e .mine.zip. .mine..*name the folder mine"),
    'address for a folder':
        (named('https://faces.example/faces.zip'), FileNotFoundError,
         "'https://faces.example/faces.zip' is an address.*DCGAN_URL"),
    'address of nothing': (address_of_nothing, FileNotFoundError, "nowhere' does not exist"),
    'address of another machine':
        (named('file://elsewhere/faces'), FileNotFoundError,
         "'file://elsewhere/faces' is an address"),
    'empty folder': (empty_folder, ValueError, "'faces' holds no images .*jpg.*Fill it"),
    'folder of text': (folder_of_text, ValueError, 'holds no images'),
    'only __MACOSX': (only_macosx, ValueError, 'holds no images'),
    'nothing readable': (nothing_readable, ValueError, 'none of its 2 files can be read'),
    'links in a circle': (links_in_a_circle, None, FINE.format(3)),
    'dead link': (dead_link, None, FINE.format(3)),
    'folder named jpg': (folder_named_jpg, None, FINE.format(3)),
    'folder that changes':
        (folder_that_changes, None, r'1 of 5 files .* left out: 000005.jpg \(FileNotFoundError\)'),
    'more files than memory':
        (more_files_than_memory, ValueError,
         '1,200,000 images: at 32x32 they take 3.7 GB, .*Set max_images'),
    'name with spaces and quotes': (one_face('it\'s "a" face .jpg'), None, FINE.format(1)),
    'name in Unicode': (one_face('gesicht/лицо/脸😀.jpg'), None, FINE.format(1)),
    'name of 250 letters': (one_face('x' * 246 + '.jpg'), None, FINE.format(1)),
    'name that is not UTF-8':
        (one_face(os.fsdecode(b'face\xff\xfe.jpg')), None, FINE.format(1)),
}
