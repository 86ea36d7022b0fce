"""Images are decoded once: what the cache gives back, when it is used, and where it lies."""
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ImageFile

from machinery import files, images
from machinery.images import decode_folder, decode_image
from tests.tools import write_images


@pytest.fixture
def faces(folder):
    """A folder 'faces' of five images."""
    write_images(folder / 'faces', 5)
    return folder / 'faces'


@pytest.fixture
def decoded(monkeypatch):
    """The paths of the files that were decoded, one by one."""
    paths = []

    def recorded(path, size):
        paths.append(path)
        return decode_image(path, size)

    monkeypatch.setattr(images, 'decode_image', recorded)
    return paths


def expect_its_own_image(folder, size=32):
    """Load the folder; hold each image against the file that it is said to come from."""
    found, names = decode_folder(folder, size)
    assert len(found) == len(names)
    for image, name in zip(found, names, strict=True):
        pixels = torch.tensor(decode_image(folder / name, size)).permute(2, 0, 1)
        assert torch.equal(image, pixels), f'the image of {name} is another'
    return names


def test_cache_is_used_until_the_folder_changes(faces, decoded, capsys):
    """Files are decoded once, and again after a change in the folder or damage to the cache."""
    def decodings():
        decoded.clear()
        expect_its_own_image(faces)
        return len(decoded)

    assert [decodings(), decodings()] == [5, 0]
    write_images(faces, 1, seed=9)                   # the first image is another
    os.utime(faces / '000001.jpg', ns=(1, 1))
    assert [decodings(), decodings()] == [5, 0]
    (faces / '000002.jpg').unlink()
    assert [decodings(), decodings()] == [4, 0]
    decode_folder(faces, 64)
    assert decodings() == 0 and len(list(faces.glob('.dcgan_cache-*.npz'))) == 2
    cache, = faces.glob('.dcgan_cache-32px*')
    cache.write_bytes(cache.read_bytes()[:-7])
    assert [decodings(), decodings()] == [4, 0]
    assert 'is damaged' in capsys.readouterr().out


def test_files_come_back_from_the_cache(faces, decoded):
    """With unreadable files among them too, each image keeps the name of its own file."""
    unreadable = ['000001.jpg', '000003.jpg']
    for name in unreadable:
        (faces / name).write_text('no image')
    whole = ['000002.jpg', '000004.jpg', '000005.jpg']
    assert expect_its_own_image(faces) == whole
    decoded.clear()
    assert expect_its_own_image(faces) == whole
    assert decoded == [str(faces / name) for name in unreadable]


def test_what_was_left_out_is_tried_again(faces, decoded, monkeypatch, capsys):
    """It is said each time; once it can be read, it takes its place, and the cache holds it too."""
    for path in (faces / '000001.jpg', faces / '000004.jpg'):
        path.write_bytes(path.read_bytes()[:-99])
    for _ in ('decoded', 'from the cache'):
        assert expect_its_own_image(faces) == ['000002.jpg', '000003.jpg', '000005.jpg']
        assert ('2 of 5 files are unreadable and left out: 000001.jpg (OSError), 000004.jpg'
                in capsys.readouterr().out)
    monkeypatch.setattr(ImageFile, 'LOAD_TRUNCATED_IMAGES', True)
    decoded.clear()
    assert len(expect_its_own_image(faces)) == 5 and len(decoded) == 2
    assert 'left out' not in capsys.readouterr().out
    decoded.clear()
    assert len(expect_its_own_image(faces)) == 5 and decoded == []


def test_a_cache_without_kept_is_caught(faces, monkeypatch):
    """The planted bug: a cache that forgets which files could be read fails the test above."""
    save = np.savez
    monkeypatch.setattr(np, 'savez', lambda file, images, kept: save(
        file, images=images, kept=np.arange(len(images))))
    with pytest.raises((AssertionError, OSError)):
        test_files_come_back_from_the_cache(faces, [])


def test_caches_of_an_earlier_state_make_room(faces):
    """One file for each size."""
    stale = faces / '.dcgan_cache-32px-0123456789abcdef-5.npz'
    other_size = faces / '.dcgan_cache-64px-0123456789abcdef-5.npz'
    for path in (stale, other_size):
        path.touch()
    decode_folder(faces, 32)
    assert not stale.exists() and other_size.exists()
    assert len(list(faces.glob('.dcgan_cache-32px-*'))) == 1


def test_each_max_images_has_its_cache(faces, decoded):
    """Two people who take different shares of one folder do not decode it again and again."""
    for _ in range(2):
        for max_images in (None, 3):
            found, _ = decode_folder(faces, 32, max_images)
            assert len(found) == (max_images or 5)
    assert len(decoded) == 5 + 3
    (faces / '000001.jpg').unlink()
    decode_folder(faces, 32)
    assert len(list(faces.glob('.dcgan_cache-*'))) == 1      # both were of the state before


def test_faults_of_a_disk_are_not_cached(faces, monkeypatch):
    """A file that could not be opened this time is tried again the next time."""
    def denied(path, size):
        if path.endswith('3.jpg'):
            raise PermissionError(13, 'Permission denied')
        return decode_image(path, size)

    with monkeypatch.context() as patch:
        patch.setattr(images, 'decode_image', denied)
        found, names = decode_folder(faces, 32)
        assert len(found) == len(names) == 4
    assert len(expect_its_own_image(faces)) == 5


@pytest.fixture
def read_only(monkeypatch):
    """Let nothing be written to 'faces', nor removed from it."""
    write, unlink = files.write_atomically, Path.unlink

    def guarded_write(path, *arguments):
        if path.parent.name == 'faces':
            raise PermissionError(13, 'Permission denied')
        write(path, *arguments)

    def guarded_unlink(path, *arguments, **options):
        if path.parent.name == 'faces':
            raise PermissionError(13, 'Permission denied')
        unlink(path, *arguments, **options)

    monkeypatch.setattr(files, 'write_atomically', guarded_write)
    monkeypatch.setattr(Path, 'unlink', guarded_unlink)


def of_other_files(faces):
    """A colleague's cache of the folder as it was."""
    (faces / '.dcgan_cache-32px-0123456789abcdef-5.npz').touch()


def of_fewer_files(faces):
    """A colleague's cache of a share of the folder."""
    decode_folder(faces, 32, 2)


def damaged(faces):
    """A colleague's cache that cannot be read, and cannot be replaced either."""
    decode_folder(faces, 32)
    cache, = faces.glob('.dcgan_cache*')
    cache.write_bytes(b'damaged')


def nothing(faces):
    """No cache."""


@pytest.mark.parametrize('colleague', [nothing, of_other_files, of_fewer_files, damaged])
def test_cache_finds_another_place(faces, request, capsys, decoded, colleague):
    """Where the images' folder takes no cache, the current one does, and it is read from there."""
    colleague(faces)
    request.getfixturevalue('read_only')
    expect_its_own_image(faces)
    assert len(list(faces.parent.glob('.dcgan_cache-*.npz'))) == 1
    assert 'No cache in faces/: Permission denied' in capsys.readouterr().out
    decoded.clear()
    expect_its_own_image(faces)
    assert decoded == []


def test_caches_in_the_current_folder_make_room(faces, read_only, decoded):
    """They know their folder: a new one replaces that of the same folder, and no other."""
    others = write_images(faces.parent / 'more/faces', 2)[0].parent
    for folder in (faces, others):
        expect_its_own_image(folder)
    for number in range(2, 5):
        write_images(faces.parent / 'new', number, seed=number)
        (faces.parent / f'new/00000{number}.jpg').rename(faces / f'{number}.jpg')
        expect_its_own_image(faces)
    assert len(list(faces.parent.glob('.dcgan_cache*'))) == 2
    decoded.clear()
    for folder in (others, faces.resolve(), Path('more/../faces')):
        expect_its_own_image(folder)
    assert decoded == []


def test_cache_is_no_class_of_images(folder):
    """torchvision's ImageFolder, which older notebooks use, must not take the cache for a class."""
    from torchvision.datasets import ImageFolder
    write_images(folder / 'faces/celeba', 3)
    decode_folder(folder / 'faces', 32)
    assert len(ImageFolder(folder / 'faces')) == 3
