"""From the image files of a folder to one tensor of bytes, decoded once and kept in a cache."""
import contextlib
import hashlib
import os
import stat
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, PngImagePlugin

from . import files
from .console import check_whole, progress_bar

# The content decides, not the name: Pillow would hand some other formats to other programs.
FORMATS = 'JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'TIFF', 'AVIF', 'JPEG2000', 'PPM'
HEIF_BRANDS = b'heic', b'heix', b'heim', b'heis', b'hevc', b'hevx', b'mif1', b'msf1'
ENDINGS = {ending for ending, kind in Image.registered_extensions().items() if kind in FORMATS}
ENDINGS |= {'.heic', '.heif', '.hif'}
FORMATS = [kind for kind in FORMATS if kind in Image.OPEN]       # an old Pillow has not all of them
# Folders of thumbnails, deleted files and a Mac's resource forks; .Trash and the like are hidden.
NO_PHOTOS = ('__macosx', '@eadir', '#recycle', '@recycle', '#snapshot', '$recycle.bin', 'recycler',
             'lost+found')
# As much as Pillow allows all texts of an image together; a profile of 2 MB is no reason to stop.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
UPRIGHT = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
           4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
           6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
           8: Image.Transpose.ROTATE_90}
CELEBA_SIZE = (178, 218)             # width and height of a CelebA original
CELEBA_CROP = (35, 55, 143, 163)     # the box that the small set was cut to: 108 x 108
IMAGES_LIMIT = 16 * 2 ** 30          # bytes; 90,000 images of 64x64 take 1.1 GB
CACHE = '.dcgan_cache'
AT_ONCE = 64                         # images that one thread decodes before it asks for more


def is_image(path):
    """Say whether path is named like an image, and neither it nor a folder of it is passed over."""
    return path.suffix.lower() in ENDINGS and not any(map(_is_passed_over, path.parts))


def passed_over_as(path):
    """Return as what a path that is no image is counted; '' for what nobody misses."""
    passed_over = next(filter(_is_passed_over, path.parts), None)
    if passed_over is None:
        return path.suffix.lower() or 'without an ending'
    if not any(suffix.lower() in ENDINGS for suffix in path.suffixes):
        return ''
    return 'hidden' if passed_over == path.name else f'in {passed_over}/'


def _is_passed_over(name):
    return name.startswith('.') or name.lower() in NO_PHOTOS


def list_images(folder):
    """Return (relative path, bytes, time of change in ns) of every image below folder, sorted.

    What was passed over is counted, and what could not be looked at is named.
    """
    passed_over, faults = Counter(), {}
    listing = sorted(find_images(folder, passed_over, faults))
    say_passed_over(passed_over)
    if faults:
        print(f'Could not be looked at, {len(faults):,} in all: {_some(faults)}')
    return listing


def find_images(folder, passed_over=None, faults=None):
    """Yield what list_images returns, in the order of the disk.

    Links are followed, and each real folder is entered once, so links in a circle do no harm.
    passed_over   a Counter, to which what is no image is added, as passed_over_as calls it
    faults        a dict, to which what could not be looked at is added, with the reason
    Raises an OSError where folder itself cannot be read.
    """
    passed_over = Counter() if passed_over is None else passed_over
    faults = {} if faults is None else faults

    def note(error):
        faults[os.path.relpath(error.filename or folder, folder)] = error.strerror or str(error)

    try:
        os.scandir(folder).close()
    except OSError as error:
        raise type(error)(f'{str(folder)!r} cannot be read: {error.strerror or error}. Let it be '
                          f'read, or name another folder (data_dir, DCGAN_DATA, '
                          f'hold_out).') from error
    seen = set()
    for place, folders, names in os.walk(folder, onerror=note, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        for name in filter(_is_passed_over, list(folders)):
            folders.remove(name)
            path = os.path.join(place, name)
            if not os.path.islink(path):             # it may lead to the whole disk
                for _, _, hidden in os.walk(path):
                    passed_over.update(passed_over_as(Path(name, each)) for each in hidden)
        for name in names:
            path = os.path.join(place, name)
            if not is_image(Path(name)):
                passed_over[passed_over_as(Path(name))] += 1
                continue
            try:
                status = os.stat(path)
            except OSError as error:                 # a dead link, for example
                note(error)
                continue
            if stat.S_ISREG(status.st_mode):         # reading a pipe would never end
                yield os.path.relpath(path, folder), status.st_size, status.st_mtime_ns
            else:
                passed_over['pipe or device'] += 1


def say_passed_over(counts):
    """Print how many files were passed over, as what passed_over_as calls them."""
    counts = Counter({kind: count for kind, count in counts.items() if kind})
    most = counts.most_common(9)
    kinds = [f'{count:,} {shown(kind, 40)}' for kind, count in most]
    n_others = counts.total() - sum(count for _, count in most)
    if n_others:
        kinds.append(f'{n_others:,} others')
    if kinds:
        print(f'Passed over: {", ".join(kinds)}')


def _some(faults):
    """Name the first five of a dict from paths to reasons."""
    names = [f'{shown(path)} ({faults[path]})' for path in sorted(faults)]
    return ', '.join(names if len(names) <= 5 else [*names[:5], '...'])


def shown(name, length=80):
    """Return a name that fits a line: ? for what cannot be printed, and of a long one its end."""
    name = ''.join(letter if letter.isprintable() else '?' for letter in name)
    return name if len(name) <= length else f'...{name[3 - length:]}'


def evenly(items, count):
    """Return at most count of the items, evenly spaced; all of them where count is None."""
    if count is None or count >= len(items):
        return items
    return [items[i * len(items) // count] for i in range(count)]


def decode_image(path, size):
    """Decode one file to a uint8 array (size, size, 3): upright, its central square, on white.

    A CelebA original (178 x 218) gets the crop of the small set instead: its central 108 x 108. Of
    a film, the first picture is taken.
    Raises whatever Pillow raises for a file that is no image, and ModuleNotFoundError for a HEIF
    photo where pillow-heif is not installed.
    """
    with _open(path) as image:
        if image.size == CELEBA_SIZE:
            box = CELEBA_CROP
        else:
            # Large JPEGs are decoded at a half, a quarter or an eighth of their size.
            image.draft('RGB', (2 * size, 2 * size))
            image = _upright(image)
            box = _central_square(*image.size)
        if image.mode == 'F':
            raise ValueError('floats: which of them is white?')
        if image.mode.startswith('I'):               # 16 bits a pixel
            pixels = np.asarray(image) / 257
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert('RGBA')
            white = Image.new('RGBA', image.size, 'white')
            image = Image.alpha_composite(white, image)
        image = image.convert('RGB').crop(box)
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def _open(path):
    try:
        return Image.open(path, formats=FORMATS)
    except Exception:
        with open(path, 'rb') as file:
            start = file.read(12)
        if start[4:8] != b'ftyp' or start[8:] not in HEIF_BRANDS:
            raise
    try:                         # optional: it reads the photos of many phones
        import pillow_heif
    except ImportError:
        raise ModuleNotFoundError('pillow-heif') from None
    pillow_heif.register_heif_opener()
    return Image.open(path, formats=['HEIF'])


def _upright(image):
    """Turn an image as a note in its file says. ImageOps would write all notes anew, and may fail.
    """
    image.load()                 # a TIFF turns itself; a PNG may have its notes behind its pixels
    if 'exif' not in image.info:
        return image
    try:
        how = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:            # notes that cannot be read say nothing
        return image
    return image if how is None else image.transpose(how)


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
    Files that cannot be read are counted, named and left out. The others are kept as a hidden file
    in the folder (where that cannot be written to: in the current one), and read from there until
    the name, the size or the time of change of a file in the folder differs. Those left out are
    tried again each time, for they may be readable by now: a package is there, or a drive again.
    Raises ValueError where there is no image, where none can be read, where they would take more
    than IMAGES_LIMIT bytes, and for wrong arguments; OSError where the folder cannot be read.
    """
    check_whole(image_size=image_size)
    if max_images is not None:
        check_whole(max_images=max_images)
    listing = list_images(folder)
    paths = evenly([path for path, _, _ in listing], max_images)
    _check_amount(folder, len(paths), image_size)
    caches = _places_of_caches(folder, listing, len(paths), image_size)
    images, kept = _read_cache(caches, len(paths), image_size)
    missing = sorted(set(range(len(paths))).difference(kept))
    if missing:
        new, read = _decode(folder, paths, missing, image_size)
        images, kept = _merged(images, kept, new, read)
        if read:
            _say_copies(images)
            _write_cache(caches, images, kept)
    if not kept:
        raise ValueError(f'{str(folder)!r}: none of its {len(paths):,} files can be read as an '
                         f'image')
    return torch.from_numpy(images), [paths[number] for number in kept]


def _check_amount(folder, n_images, image_size):
    if n_images == 0:
        endings = ', '.join(sorted(ENDINGS))
        raise ValueError(f'{str(folder)!r} holds no images ({endings}), nor do the folders in it. '
                         f'Fill it, or name another folder (data_dir, DCGAN_DATA, hold_out).')
    size = n_images * 3 * image_size ** 2
    if size > IMAGES_LIMIT:
        raise ValueError(f'{str(folder)!r} holds {n_images:,} images: at {image_size}x{image_size} '
                         f'they take {size / 1e9:.1f} GB, and {IMAGES_LIMIT / 1e9:.1f} GB are '
                         f'allowed. Set max_images.')


def _decode(folder, paths, numbers, image_size):
    """Decode the files of these numbers on all cores; return (images, numbers of those read)."""
    started = time.time()
    images = np.empty((len(numbers), 3, image_size, image_size), np.uint8)
    faults = {}

    def decode_some(first):
        for place in range(first, min(first + AT_ONCE, len(numbers))):
            path = paths[numbers[place]]
            try:
                pixels = decode_image(os.path.join(folder, path), image_size)
                images[place] = pixels.transpose(2, 0, 1)
            except Exception as error:       # whatever is wrong with a file, it is named below
                faults[path] = type(error).__name__

    # Threads are enough: the decoders of Pillow let go of Python's lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = pool.map(decode_some, range(0, len(numbers), AT_ONCE))
        n_parts = len(numbers) // AT_ONCE
        for _ in progress_bar(parts, f'x{AT_ONCE} images', n_parts, desc='Decoding'):
            pass
    if faults:
        _say_faults(len(paths), faults)
    read = [place for place, number in enumerate(numbers) if paths[number] not in faults]
    for place, found in enumerate(read):             # in place: no second copy of a gigabyte
        images[place] = images[found]
    if read:
        seconds = time.time() - started
        print(f'Decoded {len(read):,} images in {seconds:.1f} s '
              f'({len(numbers) / seconds:,.0f} images/s)')
    return images[:len(read)], [numbers[place] for place in read]


def _say_faults(n_files, faults):
    print(f'{len(faults):,} of {n_files:,} files are unreadable and left out: {_some(faults)}')
    n_heif = list(faults.values()).count('ModuleNotFoundError')
    if n_heif:
        print(f'{n_heif:,} of them are HEIF photos, as phones make them. To read them, run '
              f'".venv/bin/pip install pillow-heif", or save them as JPEG.')


def _merged(images, kept, new, read):
    """Put newly decoded images between those of the cache, in the order of the files."""
    if not kept or not read:             # no second copy of a gigabyte
        return (images, kept) if kept else (new, read)
    numbers = np.concatenate([kept, read])
    order = numbers.argsort()
    return np.concatenate([images, new])[order], numbers[order].tolist()


def _say_copies(images):
    n_copies = len(images) - len(hashes_of(images))
    if n_copies:
        print(f'Exact copies of others among the images: {n_copies:,}. They are kept.')


def hashes_of(images):
    """Return the set of the images' hashes: copies have the same."""
    return {hash(image.tobytes()) for image in np.asarray(images)}


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
    """Return (images, indices of the files) from the first cache that is whole, or none at all.

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
    return np.empty((0, 3, image_size, image_size), np.uint8), []


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
