"""Image files that are damaged, of an odd kind or of an odd size, each beside three good ones."""
import io

import numpy as np
from PIL import Image

from tests.data.bad_input.common import FINE, read_faces, three_faces, three_faces_and

LEFT_OUT = '1 of 4 files are unreadable and left out: {}'
GREY = Image.new('L', (64, 64), 100)


def noise_jpeg():
    """Return the bytes of a good JPEG of some length."""
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'jpeg')
    return file.getvalue()


def text_named_jpg(folder, monkeypatch):
    """A text that calls itself an image."""
    return three_faces_and(folder, 'a.jpg', b'text')


def zero_bytes(folder, monkeypatch):
    """An empty file."""
    return three_faces_and(folder, 'a.png', b'')


def truncated(folder, monkeypatch):
    """A JPEG whose end is missing."""
    return three_faces_and(folder, 'a.jpg', noise_jpeg()[:900])


def header_alone(folder, monkeypatch):
    """A JPEG that ends before the first pixel."""
    return three_faces_and(folder, 'a.jpg', noise_jpeg()[:20])


def resource_fork(folder, monkeypatch):
    """What a Mac puts beside an image of the same name."""
    return three_faces_and(folder, '.a.jpg', b'fork')


def jpeg_named_png(folder, monkeypatch):
    """A good image under a wrong ending."""
    return three_faces_and(folder, 'a.png', noise_jpeg())


def animated(folder, monkeypatch):
    """A film of two pictures."""
    picture = GREY.convert('RGB')
    path = three_faces(folder) / 'animated.webp'
    picture.save(path, save_all=True, append_images=[picture])
    return read_faces


def cmyk(folder, monkeypatch):
    """The colours of a printer."""
    return three_faces_and(folder, 'a.jpg', GREY.convert('CMYK'))


def palette(folder, monkeypatch):
    """Numbers of colours."""
    return three_faces_and(folder, 'a.png', GREY.convert('P'))


def black_and_white(folder, monkeypatch):
    """One bit a pixel."""
    return three_faces_and(folder, 'a.png', GREY.convert('1'))


def sixteen_bits(folder, monkeypatch):
    """Sixteen bits a pixel."""
    return three_faces_and(folder, 'a.png', Image.fromarray(np.full((9, 9), 40_000, np.uint16)))


def alpha(folder, monkeypatch):
    """Colours that can be seen through."""
    return three_faces_and(folder, 'a.webp', GREY.convert('RGBA'))


def grey_and_alpha(folder, monkeypatch):
    """Grey that can be seen through."""
    return three_faces_and(folder, 'a.png', GREY.convert('LA'))


def one_by_one(folder, monkeypatch):
    """A single pixel."""
    return three_faces_and(folder, 'a.png', GREY.resize((1, 1)))


def a_line(folder, monkeypatch):
    """20,000 times 2 pixels."""
    return three_faces_and(folder, 'a.png', GREY.resize((20_000, 2)))


def decompression_bomb(folder, monkeypatch):
    """Images of more pixels than Pillow is allowed to decode."""
    three_faces(folder)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    return read_faces


ROWS = {
    'text named jpg': (text_named_jpg, None, LEFT_OUT.format(r'a.jpg \(UnidentifiedImageError\)')),
    'zero bytes': (zero_bytes, None, LEFT_OUT.format('a.png')),
    'truncated': (truncated, None, LEFT_OUT.format(r'a.jpg \(OSError\)')),
    'header alone': (header_alone, None, LEFT_OUT.format('a.jpg')),
    'resource fork': (resource_fork, None, FINE.format(3)),
    'jpeg named png': (jpeg_named_png, None, FINE.format(4)),
    'animated': (animated, None, FINE.format(4)),
    'CMYK': (cmyk, None, FINE.format(4)),
    'palette': (palette, None, FINE.format(4)),
    'black and white': (black_and_white, None, FINE.format(4)),
    '16 bits': (sixteen_bits, None, FINE.format(4)),
    'alpha': (alpha, None, FINE.format(4)),
    'grey and alpha': (grey_and_alpha, None, FINE.format(4)),
    '1 x 1': (one_by_one, None, FINE.format(4)),
    '20,000 x 2': (a_line, None, FINE.format(4)),
    'decompression bomb': (decompression_bomb, ValueError, 'none of its 3 files'),
}
