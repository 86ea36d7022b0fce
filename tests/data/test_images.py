"""Image files of every layout, format and size become one tensor of bytes."""
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image

from machinery import images as room
from machinery.images import decode_folder, decode_image, is_image
from machinery.sources import load_dataset
from tests.tools import write_images

RED = (200, 20, 20)


def test_folder_of_any_layout(folder, capsys):
    """Folders in folders and three formats are found, the rest is passed over, faults are named."""
    faces = folder / 'faces'
    places = [('.', 'jpg'), ('celeba', 'png'), ('celeba/New Folder With Items', 'webp'),
              ('über "all"', 'JPEG')]
    for number, (place, ending) in enumerate(places):
        write_images(faces / place, 3, ending=ending, seed=number)
    write_images(faces / '__MACOSX/celeba', 2)
    for name in ('__MACOSX/celeba/._000001.jpg', '._000001.jpg', '.DS_Store', 'celeba/.hidden.png',
                 'notes.txt'):
        (faces / name).write_bytes(b'fork')
    (faces / 'circle').symlink_to(faces)
    (faces / 'renamed.jpg').write_text('This is no picture.')
    (faces / 'empty.png').touch()
    whole = (faces / '000001.jpg').read_bytes()
    (faces / 'truncated.jpg').write_bytes(whole[:len(whole) // 2])
    found = load_dataset('faces')
    assert found.images.shape == (12, 3, 32, 32)
    printed = capsys.readouterr().out
    assert ('3 of 15 files are unreadable and left out: empty.png (UnidentifiedImageError), '
            'renamed.jpg') in printed
    assert 'truncated.jpg (OSError)' in printed and '12 images of 32x32, faces/' in printed


def test_only_the_first_unreadable_files_are_named(folder, capsys):
    """Five names are enough to find the fault; three dots say that there are more."""
    write_images(folder / 'faces', 1)
    for number in range(7):
        (folder / f'faces/bad{number}.jpg').touch()
    load_dataset('faces')
    printed = capsys.readouterr().out
    assert '7 of 8 files are unreadable' in printed
    assert 'bad4.jpg (UnidentifiedImageError), ...\n' in printed and 'bad5.jpg' not in printed


def test_phone_photos_that_cannot_be_read_are_told(folder, monkeypatch, capsys):
    """What to install is said, and once it is there, no cache stands in the way."""
    write_images(folder / 'faces', 2)
    Image.new('RGB', (40, 40), RED).save(folder / 'faces/IMG_1.HEIC', 'PNG')     # for once
    monkeypatch.setattr(room, 'pillow_heif', None)
    images, _ = decode_folder('faces', 32)
    printed = capsys.readouterr().out
    assert '1 of 3 files are unreadable and left out: IMG_1.HEIC' in printed and len(images) == 2
    assert '1 of them are HEIF photos' in printed and 'pip install pillow-heif' in printed
    monkeypatch.setattr(room, 'pillow_heif', 'installed')
    images, _ = decode_folder('faces', 32)
    assert len(images) == 3 and 'HEIF' not in capsys.readouterr().out


def test_phone_photo(folder):
    """A real one, where the package is there: upright, its central square."""
    pillow_heif = pytest.importorskip('pillow_heif')
    pixels = np.zeros((60, 40, 3), np.uint8)
    pixels[10:30] = RED                                  # the upper half of the central square
    exif = Image.Exif()
    exif[0x0112] = 8                                     # it lies on its left side
    lying = Image.fromarray(np.rot90(pixels, -1).copy())
    pillow_heif.from_pillow(lying).save('photo.heic', quality=-1, exif=exif.tobytes())
    seen = decode_image('photo.heic', 32).astype(int)
    assert abs(seen[:12] - RED).max() < 40 and seen[20:].max() < 40


@pytest.mark.parametrize('name, expected', [
    ('a.jpg', True), ('b/c.JPEG', True), ('d.webp', True), ('IMG_1.HEIC', True),
    ('e.txt', False), ('f', False), ('.g.png', False), ('.h/i.png', False),
    ('__MACOSX/j.png', False), ('._k.jpg', False)])
def test_what_is_named_like_an_image(tmp_path, name, expected):
    """The name decides, hidden files and resource forks are none."""
    assert is_image((tmp_path / name).relative_to(tmp_path)) == expected


def test_celeba_originals_get_the_crop_of_the_small_set(folder):
    """178 x 218: the central 108 x 108. Other sizes: the central square."""
    pixels = np.zeros((218, 178, 3), np.uint8)
    pixels[55:163, 35:143] = 200
    Image.fromarray(pixels).save('original.png')
    assert (decode_image('original.png', 32) == 200).all()
    pixels = np.zeros((40, 100, 3), np.uint8)
    pixels[:, 30:70] = 200
    Image.fromarray(pixels).save('wide.png')
    assert (decode_image('wide.png', 32) == 200).all()


def test_images_stay_within_their_bytes(folder):
    """uint8: 90,000 images of 64 x 64 are 1.1 GB; max_images takes an even choice."""
    write_images(folder / 'faces', 9)
    whole = load_dataset('faces', 64)
    assert whole.images.dtype == torch.uint8
    assert whole.images.numel() / len(whole) * 90_000 < 1.2e9
    some = load_dataset('faces', 64, max_images=3)
    assert torch.equal(some.images, whole.images[[0, 3, 6]])
    assert some.files == [whole.files[number] for number in (0, 3, 6)]


# ------------------------------------------------------ each of these becomes 32 x 32 RGB on white

def grey(red):
    """Lightness alone."""
    Image.new('L', (64, 64), 90).save('image.png')
    return 'image.png', (90, 90, 90)


def grey_and_transparent(red):
    """Lightness, half of which is to be seen."""
    Image.new('LA', (64, 64), (90, 128)).save('image.png')
    return 'image.png', (172, 172, 172)


def black_and_white(red):
    """One bit a pixel."""
    Image.new('1', (64, 64), 0).save('image.png')
    return 'image.png', (0, 0, 0)


def cmyk(red):
    """The colours of a printer."""
    red.convert('CMYK').save('image.jpg')
    return 'image.jpg', RED


def palette(red):
    """Numbers of colours."""
    red.convert('P', palette=Image.Palette.ADAPTIVE).save('image.png')
    return 'image.png', RED


def transparent(red):
    """Nearly black, and not to be seen."""
    Image.new('RGBA', (64, 64), (9, 9, 9, 0)).save('image.png')
    return 'image.png', (255, 255, 255)


def palette_transparent(red):
    """Numbers of colours, one of which is not to be seen."""
    numbers = red.convert('P', palette=Image.Palette.ADAPTIVE)
    numbers.save('image.png', transparency=0)
    return 'image.png', (255, 255, 255)


def sixteen_bits(red):
    """Lightness from 0 to 65,535."""
    Image.fromarray(np.full((64, 64), 40_000, np.uint16)).save('image.png')
    return 'image.png', (155, 155, 155)


def one_pixel(red):
    """As small as an image can be."""
    red.resize((1, 1)).save('image.png')
    return 'image.png', RED


def a_line(red):
    """20,000 times 2 pixels."""
    red.resize((20_000, 2)).save('image.png')
    return 'image.png', RED


def turned(red):
    """White above red; a note in the file says: turn me by 90 degrees."""
    red.paste((255, 255, 255), (0, 0, 64, 32))
    note = Image.Exif()
    note[0x0112] = 6
    red.save('image.jpg', exif=note)
    expected = np.full((32, 32, 3), RED)
    expected[:, 16:] = 255
    return 'image.jpg', expected


def large(red):
    """3000 x 2000 pixels, decoded at an eighth of that."""
    red.resize((3000, 2000)).save('image.jpg')
    return 'image.jpg', RED


KINDS = [grey, grey_and_transparent, black_and_white, cmyk, palette, transparent,
         palette_transparent, sixteen_bits, one_pixel, a_line, turned, large]


@pytest.mark.parametrize('kind', KINDS, ids=lambda kind: kind.__name__)
def test_every_colour_mode_and_size(folder, kind):
    """Each becomes 32 x 32 RGB of the right colours, upright, on white."""
    name, colour = kind(Image.new('RGB', (64, 64), RED))
    expected = np.broadcast_to(colour, (32, 32, 3))
    pixels = decode_image(name, 32)
    assert pixels.dtype == np.uint8 and pixels.shape == (32, 32, 3)
    difference = np.abs(pixels.astype(int) - expected)
    assert np.median(difference) <= 3 and (difference > 12).mean() < .07, difference.max()


def test_file_that_would_start_another_program_is_left_out(folder, monkeypatch, capsys):
    """Encapsulated PostScript is a program, which Pillow hands to Ghostscript: it may never end."""
    started = []
    monkeypatch.setattr(EpsImagePlugin, 'Ghostscript', lambda *_, **__: started.append(1))
    write_images(folder / 'faces', 1)
    eps = '%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n'
    Path('faces/hostile.jpg').write_text(eps)
    images, _ = decode_folder('faces', 32)
    assert len(images) == 1 and started == []
    assert 'hostile.jpg' in capsys.readouterr().out
