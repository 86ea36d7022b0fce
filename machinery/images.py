"""From the image files of a folder to one tensor of bytes, decoded once and kept in a cache."""
import contextlib
import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from . import files
from .console import check_whole, progress_bar

try:                                 # optional: it reads the photos of many phones
    import pillow_heif
    pillow_heif.register_heif_opener()
except ImportError:
    pillow_heif = None

HEIF_ENDINGS = '.heic', '.heif'
ENDINGS = '.jpg', '.jpeg', '.png', '.webp', *HEIF_ENDINGS
# Whatever the name says: Pillow would hand some other formats to other programs.
FORMATS = ['JPEG', 'PNG', 'WEBP', 'GIF', 'BMP'] + ['HEIF'] * bool(pillow_heif)
CELEBA_SIZE = (178, 218)             # width and height of a CelebA original
CELEBA_CROP = (35, 55, 143, 163)     # the box that the small set was cut to: 108 x 108
IMAGES_LIMIT = 16 * 2 ** 30          # bytes; 90,000 images of 64x64 take 1.1 GB
CACHE = '.dcgan_cache'
AT_ONCE = 64                         # images that one thread decodes before it asks for more


def is_image(path):
    """Say whether path is named like an image, and is neither hidden nor a Mac's resource fork."""
    return path.suffix.lower() in ENDINGS and not any(map(_is_hidden, path.parts))


def _is_hidden(name):
    return name.startswith('.') or name == '__MACOSX'


def list_images(folder):
    """Return (relative path, bytes, time of change in ns) of every image below folder, sorted."""
    return sorted(find_images(folder))


def find_images(folder):
    """Yield what list_images returns, in the order of the disk.

    Links are followed, and each real folder is entered once, so links in a circle do no harm.
    """
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not _is_hidden(name)]
        for name in names:
            path = os.path.join(place, name)
            if is_image(Path(name)) and os.path.isfile(path):        # a dead link is no file
                status = os.stat(path)
                yield os.path.relpath(path, folder), status.st_size, status.st_mtime_ns


def evenly(items, count):
    """Return at most count of the items, evenly spaced; all of them where count is None."""
    if count is None or count >= len(items):
        return items
    return [items[i * len(items) // count] for i in range(count)]


def decode_image(path, size):
    """Decode one file to a uint8 array (size, size, 3): upright, its central square, on white.

    A CelebA original (178 x 218) gets the crop of the small set instead: its central 108 x 108.
    Raises whatever Pillow raises for a file that is no image, and ModuleNotFoundError for a HEIF
    photo where pillow-heif is not installed.
    """
    if pillow_heif is None and Path(path).suffix.lower() in HEIF_ENDINGS:
        raise ModuleNotFoundError('pillow-heif')
    with Image.open(path, formats=FORMATS) as image:
        if image.size == CELEBA_SIZE:
            box = CELEBA_CROP
        else:
            # Large JPEGs are decoded at a half, a quarter or an eighth of their size.
            image.draft('RGB', (2 * size, 2 * size))
            if 'exif' in image.info:
                image = ImageOps.exif_transpose(image)
            box = _central_square(*image.size)
        if image.mode.startswith('I') or image.mode == 'F':          # 16 bits a pixel
            pixels = np.asarray(image) / 257
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert('RGBA')
            white = Image.new('RGBA', image.size, 'white')
            image = Image.alpha_composite(white, image)
        image = image.convert('RGB').crop(box)
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def _central_square(width, height):
    side = min(width, height)
    left = (width - side) // 2
    top = (height - side) // 2
    return left, top, left + side, top + side


def decode_folder(folder, image_size, max_images=None):
    """Decode the images below folder; return (images, files).

    images      uint8 tensor (N, 3, image_size, image_size)
    files       the path of each image relative to folder, N of them
    max_images  at most that many, evenly spaced over the sorted files; None: all
    Files that cannot be read are counted, named and left out. The result is kept as a hidden file
    in the folder (where that cannot be written to: in the current one), and read from there until
    the name, the size or the time of change of a file in the folder differs.
    Raises ValueError where there is no image, where none can be read, where they would take more
    than IMAGES_LIMIT bytes, and for wrong arguments.
    """
    check_whole(image_size=image_size)
    if max_images is not None:
        check_whole(max_images=max_images)
    listing = list_images(folder)
    paths = evenly([path for path, _, _ in listing], max_images)
    _check_amount(folder, len(paths), image_size)
    caches = _places_of_caches(folder, listing, len(paths), image_size)
    cached = _read_cache(caches, len(paths), image_size)
    images, kept = cached or _decode_all(folder, paths, image_size, caches)
    return torch.from_numpy(images), [paths[number] for number in kept]


def _check_amount(folder, n_images, image_size):
    if n_images == 0:
        endings = ', '.join(ENDINGS)
        raise ValueError(f'{str(folder)!r} holds no images ({endings}), nor do the folders in it. '
                         f'Fill it, or point data_dir or DCGAN_DATA at another folder.')
    size = n_images * 3 * image_size ** 2
    if size > IMAGES_LIMIT:
        raise ValueError(f'{str(folder)!r} holds {n_images:,} images: at {image_size}x{image_size} '
                         f'they take {size / 1e9:.1f} GB, and {IMAGES_LIMIT / 1e9:.1f} GB are '
                         f'allowed. Set max_images.')


def _decode_all(folder, paths, image_size, caches):
    """Decode files on all cores, and cache them; return (images, indices of the files read)."""
    started = time.time()
    images = np.empty((len(paths), 3, image_size, image_size), np.uint8)
    faults = {}

    def decode_some(first):
        for number in range(first, min(first + AT_ONCE, len(paths))):
            try:
                pixels = decode_image(os.path.join(folder, paths[number]), image_size)
                images[number] = pixels.transpose(2, 0, 1)
            except Exception as error:       # whatever is wrong with a file, it is named below
                faults[number] = error

    # Threads are enough: the decoders of Pillow let go of Python's lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = pool.map(decode_some, range(0, len(paths), AT_ONCE))
        n_parts = len(paths) // AT_ONCE
        for _ in progress_bar(parts, f'x{AT_ONCE} images', n_parts, desc='Decoding'):
            pass
    if faults:
        _name_faults(paths, faults)
    kept = [number for number in range(len(paths)) if number not in faults]
    if not kept:
        raise ValueError(f'{str(folder)!r}: none of its {len(paths):,} files can be read as an '
                         f'image')
    for place, number in enumerate(kept):            # in place: no second copy of a gigabyte
        images[place] = images[number]
    images = images[:len(kept)]
    seconds = time.time() - started
    print(f'Decoded {len(kept):,} images in {seconds:.1f} s ({len(paths) / seconds:,.0f} images/s)')
    if not any(map(_may_pass, faults.values())):
        _write_cache(caches, images, kept)
    return images, kept


def _may_pass(fault):
    """Say whether the machine was at fault (its memory, disk, packages) and not the file."""
    is_passing = isinstance(fault, (MemoryError, ModuleNotFoundError))
    return is_passing or bool(getattr(fault, 'errno', None))


def _name_faults(paths, faults):
    names = [f'{paths[number]} ({type(faults[number]).__name__})' for number in sorted(faults)]
    if len(names) > 5:
        names[5:] = ['...']
    print(f'{len(faults):,} of {len(paths):,} files are unreadable and left out: '
          f'{", ".join(names)}')
    n_heif = sum(isinstance(fault, ModuleNotFoundError) for fault in faults.values())
    if n_heif:
        print(f'{n_heif:,} of them are HEIF photos, as phones make them. To read them, run '
              f'".venv/bin/pip install pillow-heif", or save them as JPEG.')


# -------------------------------------------------------------------------------------- the cache


def _places_of_caches(folder, listing, n_files, image_size):
    """Return where the cache of n_files of a folder may lie: beside the images, or else here.

    The name ends in -STATE-COUNT.npz: the state is that of all files in the folder, whichever of
    them are taken. In the current folder it begins with the place of the images. The cache is a
    file: torchvision's ImageFolder would take a folder for a class of images.
    """
    state = hashlib.sha256(repr(listing).encode()).hexdigest()[:16]
    place = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:8]
    ending = f'{image_size}px-{state}-{n_files}.npz'
    return [Path(folder) / f'{CACHE}-{ending}', Path(f'{CACHE}-{place}-{ending}')]


def _read_cache(caches, n_files, image_size):
    """Return (images, indices of the files) from the first cache that is whole, or None.

    It is read whole and not mapped into memory: cutting a mapped file short ends the process.
    """
    started = time.time()
    for path in filter(Path.is_file, caches):
        try:
            with np.load(path) as arrays:            # zip's own checksums are compared on the way
                stored = sum(member.file_size for member in arrays.zip.infolist())
                if stored > path.stat().st_size:     # it was packed, and could fill the memory
                    raise ValueError('it unpacks to more than itself')
                images, kept = arrays['images'], arrays['kept']
            if not _suit(images, kept, n_files, image_size):
                raise ValueError(f'it holds {images.dtype} {images.shape} of other files')
        except Exception as error:                   # a damaged file can raise anything
            print(f'Cache {path.name} is damaged ({error}): decoding anew')
            continue
        print(f'Read {len(images):,} images, decoded from {n_files:,} files, '
              f'in {time.time() - started:.2f} s')
        return images, kept.tolist()
    return None


def _suit(images, kept, n_files, image_size):
    """Say whether arrays of a cache are images of this size, and rising indices of the files."""
    if kept.dtype.kind != 'i' or kept.ndim != 1 or len(kept) == 0:
        return False
    rising = (np.diff(kept) > 0).all() and kept[0] >= 0 and kept[-1] < n_files
    shape = len(kept), 3, image_size, image_size
    return rising and images.dtype == np.uint8 and images.shape == shape


def _write_cache(caches, images, kept):
    """Keep the arrays in the first place that takes them; caches of an earlier state make room."""
    for path in caches:
        family, state, _ = path.name.rsplit('-', 2)
        for other in path.parent.glob(f'{family}-*.npz'):
            if not other.name.startswith(f'{family}-{state}-'):
                with contextlib.suppress(OSError):
                    other.unlink()
    for path in caches:
        try:
            files.write_atomically(path, lambda file: np.savez(file, images=images, kept=kept))
            return
        except OSError as error:
            print(f'No cache in {path.parent.name or "."}/: {error.strerror}')
