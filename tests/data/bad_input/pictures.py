"""Image files that are damaged or of an odd kind, each beside three good ones.

Odd colours and sizes: test_images.py.
"""
import io

import numpy as np
from PIL import Image

from tests.data.bad_input.common import FINE, read_faces, three_faces


def noise_jpeg():
    """Return the bytes of a good JPEG of some length."""
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'jpeg')
    return file.getvalue()


def header_alone(folder, monkeypatch):
    """A JPEG that ends before the first pixel."""
    (three_faces(folder) / 'a.jpg').write_bytes(noise_jpeg()[:20])
    return read_faces


def jpeg_named_png(folder, monkeypatch):
    """A good image under a wrong ending."""
    (three_faces(folder) / 'a.png').write_bytes(noise_jpeg())
    return read_faces


def animated(folder, monkeypatch):
    """A film of two pictures."""
    picture = Image.new('RGB', (64, 64))
    path = three_faces(folder) / 'animated.webp'
    picture.save(path, save_all=True, append_images=[picture])
    return read_faces


def decompression_bomb(folder, monkeypatch):
    """Images of more pixels than Pillow is allowed to decode."""
    three_faces(folder)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    return read_faces


ROWS = {
    'header alone': (header_alone, None, '1 of 4 files are unreadable and left out: a.jpg'),
    'jpeg named png': (jpeg_named_png, None, FINE.format(4)),
    'animated': (animated, None, FINE.format(4)),
    'decompression bomb': (decompression_bomb, ValueError, 'none of its 3 files'),
}
