"""Image files of every layout, format and size become one tensor of bytes."""
import os
import struct
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image, features
from PIL.PngImagePlugin import PngInfo

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
    """Their content tells, not their name; what to install is said each time, until it is there."""
    write_images(folder / 'faces', 2)
    for name in ('IMG_1.HEIC', 'IMG_2.JPG'):
        (folder / 'faces' / name).write_bytes(b'\0\0\0\x18ftypheic' + bytes(99))
    Image.new('RGB', (40, 40), RED).save(folder / 'faces/IMG_3.HEIC', 'JPEG')
    (folder / 'faces/film.jpg').write_bytes(b'\0\0\0\x18ftypisom' + bytes(99))
    monkeypatch.setitem(sys.modules, 'pillow_heif', None)
    for _ in ('decoded', 'from the cache'):
        images, names = decode_folder('faces', 32)
        printed = capsys.readouterr().out
        assert names == ['000001.jpg', '000002.jpg', 'IMG_3.HEIC']
        assert ('3 of 6 files are unreadable and left out: IMG_1.HEIC (ModuleNotFoundError), '
                'IMG_2.JPG (ModuleNotFoundError), film.jpg (UnidentifiedImageError)') in printed
        assert '2 of them are HEIF photos' in printed and 'pip install pillow-heif' in printed
    monkeypatch.setitem(sys.modules, 'pillow_heif', heif_stand_in(monkeypatch))
    images, names = decode_folder('faces', 32)
    assert names == ['000001.jpg', '000002.jpg', 'IMG_1.HEIC', 'IMG_2.JPG', 'IMG_3.HEIC']
    assert torch.equal(images[2], images[3]) and images[2, 2].float().mean() > 250
    assert 'HEIF' not in capsys.readouterr().out


def heif_stand_in(monkeypatch):
    """A module like pillow-heif, which sees blue in every photo."""
    def register():
        entry = lambda *_: Image.new('RGB', (40, 40), 'blue'), lambda prefix: True
        monkeypatch.setitem(Image.OPEN, 'HEIF', entry)
    return types.SimpleNamespace(register_heif_opener=register)


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
    ('a.jpg', True), ('b/c.JPEG', True), ('d.webp', True), ('IMG_1.HEIC', True), ('IMG.HIF', True),
    ('a.jfif', True), ('a.TIF', True), ('a.jp2', True), ('a.pgm', True), ('#cat/@anna.jpg', True),
    ('e.txt', False), ('f', False), ('.g.png', False), ('.h/i.png', False),
    ('a.eps', False), ('a.pdf', False), ('a.psd', False), ('a.mpg', False), ('a.h5', False),
    ('__MACOSX/j.png', False), ('._k.jpg', False), ('a/@eaDir/b.jpg/thumb.jpg', False),
    ('$Recycle.Bin/a.jpg', False), ('.Trash-1000/files/a.jpg', False)])
def test_what_is_named_like_an_image(tmp_path, name, expected):
    """The name decides, hidden files and resource forks are none."""
    assert is_image((tmp_path / name).relative_to(tmp_path)) == expected


WAYS_TO_SAVE = {
    '.jpg': {}, '.jpe': {}, '.jfif': {}, '.png': {}, '.apng': dict(format='PNG'), '.webp': {},
    '.bmp': {}, '.gif': {}, '.tif': {}, '.tiff': dict(compression='jpeg'), '.ppm': {}, '.avif': {},
    '.jp2': {}, '.j2k': {}}
OPTIONAL = {'.avif': 'avif', '.jp2': 'jpg_2000', '.j2k': 'jpg_2000', '.tiff': 'libtiff'}


@pytest.mark.parametrize('ending', WAYS_TO_SAVE)
def test_formats(folder, ending):
    """Whatever Pillow reads, and is a picture, is read; of a film the first picture."""
    if ending in OPTIONAL and not features.check(OPTIONAL[ending]):
        pytest.skip(f'this Pillow does not write {ending}')
    path = folder / f'faces/a{ending.upper()}'
    path.parent.mkdir()
    picture = Image.new('RGB', (64, 64), RED)
    if ending in ('.gif', '.tif', '.apng', '.webp', '.avif'):
        next_one = Image.new('RGB', (64, 64), 'blue')
        picture.save(path, save_all=True, append_images=[next_one], **WAYS_TO_SAVE[ending])
    else:
        picture.save(path, **WAYS_TO_SAVE[ending])
    images, _ = decode_folder('faces', 32)
    assert images.shape == (1, 3, 32, 32)
    seen = images[0].float().mean((1, 2))
    assert (seen - torch.tensor(RED)).abs().max() < 6, seen


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


def turned(red, name='image.jpg', note=None):
    """White above red; a note in the file says: turn me by 90 degrees."""
    red.paste((255, 255, 255), (0, 0, 64, 32))
    if note is None:
        note = Image.Exif()
        note[0x0112] = 6
    red.save(name, exif=note)
    expected = np.full((32, 32, 3), RED)
    expected[:, 16:] = 255
    return name, expected


def turned_behind_the_pixels(red):
    """The same note in a PNG, which some programs write behind the pixels."""
    name, expected = turned(red, 'image.png')
    data = Path(name).read_bytes()
    start = data.index(b'eXIf') - 4
    end = start + 12 + int.from_bytes(data[start:start + 4])
    tail = data.index(b'IEND') - 4
    Path(name).write_bytes(data[:start] + data[end:tail] + data[start:end] + data[tail:])
    return name, expected


def turned_tiff(red):
    """The same note in a TIFF."""
    return turned(red, 'image.tif')


def turned_beside_an_odd_note(red):
    """The same note, and one of a width that is a word: it can be read, but not written again."""
    notes = struct.pack('<HHI4s', 0x0100, 2, 4, b'odd'), struct.pack('<HHII', 0x0112, 3, 1, 6)
    exif = b'Exif\0\0II*\0\x08\0\0\0\2\0' + b''.join(notes) + bytes(4)
    return turned(red, note=exif)


def damaged_notes(red):
    """Notes that cannot be read say nothing."""
    red.save('image.png', exif=b'Exif\0\0no notes at all')
    return 'image.png', RED


def much_text(red):
    """More than a megabyte of text, packed."""
    text = PngInfo()
    text.add_text('workflow', 'x' * 3_000_000, zip=True)
    red.save('image.png', pnginfo=text)
    return 'image.png', RED


def large_profile(red):
    """Two megabytes that describe a printer."""
    red.save('image.png', icc_profile=bytes(2_000_000))
    return 'image.png', RED


def large(red):
    """3000 x 2000 pixels, decoded at an eighth of that."""
    red.resize((3000, 2000)).save('image.jpg')
    return 'image.jpg', RED


KINDS = [grey, grey_and_transparent, black_and_white, cmyk, palette, transparent,
         palette_transparent, sixteen_bits, one_pixel, a_line, turned, turned_behind_the_pixels,
         turned_tiff, turned_beside_an_odd_note, damaged_notes, much_text, large_profile, large]


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


# ----------------------------------------------------------------------- nothing is left out unsaid

def test_thumbnails_and_deleted_photos_are_passed_over(folder, capsys):
    """What a server, a Mac or a dustbin keeps is no photo of the folder, and is counted."""
    write_images(folder / 'faces', 4)
    for place in ('@eaDir/000001.jpg', '@eaDir/000002.jpg', 'inner/#recycle', '$RECYCLE.BIN/S-1-5',
                  '.Trash-1000/files', 'lost+found', '__MACOSX'):
        write_images(folder / 'faces' / place, 2)
    for name in ('._000001.jpg', '.000002.jpg.icloud', '.DS_Store', 'a.psd', 'b.CR2', 'c.cr2',
                 'd.jpg_large', 'e', '__MACOSX/.DS_Store'):
        (folder / 'faces' / name).touch()
    for _ in ('decoded', 'from the cache'):
        images, _ = decode_folder('faces', 32)
        printed = capsys.readouterr().out
        assert len(images) == 4
        line, = [line for line in printed.splitlines() if line.startswith('Passed over')]
        assert line.startswith('Passed over: 4 in @eaDir/, 2 ')
        for kind in ('2 in #recycle/', '2 in $RECYCLE.BIN/', '2 in .Trash-1000/', '2 in __MACOSX/',
                     '2 in lost+found/', '2 .cr2', '2 hidden', '1 .psd', ', 2 others'):
            assert kind in line


def test_nothing_is_said_where_nothing_is_passed_over(folder, capsys):
    """Files of the system alone are no news, nor are our caches."""
    write_images(folder / 'faces', 2)
    (folder / 'faces/.DS_Store').touch()
    for _ in ('decoded', 'from the cache'):
        decode_folder('faces', 32)
    assert 'Passed' not in capsys.readouterr().out


def locked(monkeypatch, name, *places):
    """Let os.scandir or os.stat be denied these places, also for those who may do anything."""
    function = getattr(os, name)

    def guarded(path='.', *arguments, **options):
        if str(path) in places:
            raise PermissionError(13, 'Permission denied', str(path))
        return function(path, *arguments, **options)

    monkeypatch.setattr(os, name, guarded)


def test_what_cannot_be_looked_at_is_named(folder, monkeypatch, capsys):
    """A locked folder, a locked file, a dead link; and a pipe, which would never end."""
    write_images(folder / 'faces', 3)
    write_images(folder / 'faces/private', 2)
    (folder / 'faces/gone.jpg').symlink_to('nowhere')
    os.mkfifo(folder / 'faces/pipe.jpg')
    locked(monkeypatch, 'scandir', 'faces/private')
    locked(monkeypatch, 'stat', 'faces/000002.jpg')
    for _ in ('decoded', 'from the cache'):
        _, names = decode_folder('faces', 32)
        printed = capsys.readouterr().out
        assert names == ['000001.jpg', '000003.jpg']
        assert ('Could not be looked at, 3 in all: 000002.jpg (Permission denied), '
                'gone.jpg (No such file or directory), private (Permission denied)\n') in printed
        assert 'Passed over: 1 pipe or device\n' in printed
    monkeypatch.undo()
    assert len(decode_folder(folder / 'faces', 32)[1]) == 5


def test_locked_folder_is_said(folder, monkeypatch):
    """It is not called empty, nor missing."""
    write_images(folder / 'faces', 3)
    locked(monkeypatch, 'scandir', 'faces')
    with pytest.raises(PermissionError, match="'faces' cannot be read: Permission denied.*DCGAN_"):
        load_dataset('faces')
    locked(monkeypatch, 'stat', 'faces')
    with pytest.raises(PermissionError, match="'faces' cannot be reached: Permission denied"):
        load_dataset('faces')


def test_copies_are_counted(folder, capsys):
    """Exact copies under other names are kept, and said."""
    path, *_ = write_images(folder / 'faces', 3)
    for name in ('copy.jpg', 'inner/copy.jpg'):
        write_images(folder / 'faces/inner', 1, seed=5)
        (folder / 'faces' / name).write_bytes(path.read_bytes())
    images, _ = decode_folder('faces', 32)
    assert len(images) == 6
    assert 'Exact copies of others among the images: 2.' in capsys.readouterr().out


@pytest.mark.parametrize('name', ['two\nlines.jpg', 'escape\x1b[2J.jpg', 'x' * 110 + '.jpg',
                                  '\udcff.jpg'])
def test_odd_names_fit_a_line(folder, capsys, name):
    """What is printed of them stays in its line, and can be printed, also into a notebook."""
    write_images(folder / name, 1)
    (folder / name / name).touch()
    (folder / name / f'{name}.{name}psd').touch()
    load_dataset(name)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and all(line.isprintable() and len(line) < 180 for line in lines)
    assert lines[0].startswith('Passed over: 1 .') and '.jpg (Unid' in lines[1]
