"""Caches that were decoded before, and then changed: three faces come back all the same."""
import os
import pickle
import zipfile

import numpy as np

from machinery.images import decode_folder
from tests.data.bad_input.common import FINE, read_faces, three_faces
from tests.hostile.attacks import Calls
from tests.tools import damage, write_images

ANEW = 'is damaged .*decoding anew(.|\n)*' + FINE.format(3)


def cache_of_three_faces(folder):
    """Write three images and let them be decoded; return the path of the cache."""
    faces = three_faces(folder)
    decode_folder(faces, 32)
    path, = faces.glob('.dcgan_cache*')
    return path


def cut_short(folder, monkeypatch):
    """The first 99 bytes of it."""
    path = cache_of_three_faces(folder)
    path.write_bytes(path.read_bytes()[:99])
    return read_faces


def flipped_bit(folder, monkeypatch):
    """One bit of one pixel is another."""
    damage(cache_of_three_faces(folder))
    return read_faces


def another_size(folder, monkeypatch):
    """The cache of 32 x 32 under the name of one of 64 x 64."""
    path = cache_of_three_faces(folder)
    path.rename(path.with_name(path.name.replace('32px', '64px')))
    return read_faces


def images_of_another_size(folder, monkeypatch):
    """A cache of 64 x 64 under the name of this one."""
    path = cache_of_three_faces(folder)
    path.unlink()
    decode_folder(path.parent, 64)
    other, = path.parent.glob('.dcgan_cache-64px*')
    other.rename(path)
    return read_faces


def another_folder(folder, monkeypatch):
    """A cache whose name says that it belongs to other files."""
    path = cache_of_three_faces(folder)
    path.rename(path.with_name('.dcgan_cache-32px-0123456789abcdef.npz'))
    return read_faces


def images_of_another_folder(folder, monkeypatch):
    """The cache of five images under the name of this one."""
    path = cache_of_three_faces(folder)
    write_images(folder / 'others', 5)
    decode_folder(folder / 'others', 32)
    other, = (folder / 'others').glob('.dcgan_cache*')
    other.replace(path)
    return read_faces


def a_pickle(folder, monkeypatch):
    """A command for the shell where the arrays were."""
    cache_of_three_faces(folder).write_bytes(pickle.dumps(Calls(os.system, 'touch owned')))
    return read_faces


def a_pickle_inside(folder, monkeypatch):
    """A command for the shell among the arrays."""
    hostile = np.array([Calls(os.system, 'touch owned')], object)
    np.savez(cache_of_three_faces(folder), images=hostile, kept=np.arange(3))
    return read_faces


def packed(folder, monkeypatch):
    """An archive that unpacks to more than itself, and could fill the memory."""
    with zipfile.ZipFile(cache_of_three_faces(folder), 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('images.npy', bytes(1_000_000))
    return read_faces


def planted(**changes):
    """Other arrays in the cache, all else being right."""
    def prepare(folder, monkeypatch):
        path = cache_of_three_faces(folder)
        with np.load(path) as arrays:
            arrays = dict(arrays)
        for name, change in changes.items():
            arrays[name] = change(arrays[name])
        np.savez(path, **arrays)
        return read_faces
    return prepare


def link_to_nowhere(folder, monkeypatch):
    """A link in the cache's place: it is replaced, and nothing is written to where it leads."""
    path = cache_of_three_faces(folder)
    path.unlink()
    path.symlink_to(folder / 'outside.jpg')
    return read_faces


def link_for_a_part(folder, monkeypatch):
    """A link where the cache's unfinished file will be."""
    path = cache_of_three_faces(folder)
    path.unlink()
    path.with_name(f'{path.name}.part').symlink_to('../../outside.jpg')
    return read_faces


ROWS = {
    'cache cut short': (cut_short, None, ANEW),
    'cache with a flipped bit': (flipped_bit, None, 'Bad CRC-32.*decoding anew'),
    'cache of another size': (another_size, None, FINE.format(3)),
    'cache that holds another size': (images_of_another_size, None, ANEW),
    'cache of another folder': (another_folder, None, FINE.format(3)),
    'cache that holds another folder': (images_of_another_folder, None, ANEW),
    'cache that is a pickle': (a_pickle, None, ANEW),
    'cache that holds a pickle': (a_pickle_inside, None, ANEW),
    'cache of floats': (planted(images=np.float32), None, ANEW),
    'cache of four channels':
        (planted(images=lambda images: images[:, [0, 1, 2, 0]]), None, ANEW),
    'cache of fewer images': (planted(images=lambda images: images[:2]), None, ANEW),
    'cache of no images':
        (planted(images=lambda images: images[:0], kept=lambda kept: kept[:0]), None, ANEW),
    'cache with fractions for places': (planted(kept=np.float64), None, ANEW),
    'cache of one file only': (planted(kept=lambda kept: 0 * kept), None, ANEW),
    'cache with a place before the first': (planted(kept=lambda kept: kept - 1), None, ANEW),
    'link to nowhere for a cache': (link_to_nowhere, None, FINE.format(3)),
    'link for an unfinished cache': (link_for_a_part, None, FINE.format(3)),
    'cache that unpacks to more': (packed, None, 'it unpacks to more than itself.*decoding anew'),
}
