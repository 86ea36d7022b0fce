"""From a folder, a zip archive, a download or SVHN to one uint8 tensor (N, 3, s, s), kept in a cache beside the images."""
import contextlib
import hashlib
import http.client
import os
import socket
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import Dataset, WeightedRandomSampler

from . import files
from .drawn import drawn_faces
from .notebook import check_choice, check_whole, progress_bar
from .processes import rank_0_first, shared, world

FACES_DIR = 'processed_celeba_small/'
FACES_ZIP = 'processed-celeba-small.zip'
FACES_URL = ('https://s3.amazonaws.com/video.udacity-data.com/topher/2018/November/5be7eb6f_processed-celeba-small/'
             'processed-celeba-small.zip')
FACES_COUNT, FACES_OUTER = 89_931, 32_600            # in all; in celeba/ without the folder inside it
CELEBA_DIRS = ('img_align_celeba', 'celeba/img_align_celeba', 'data/celeba/img_align_celeba')   # torchvision's last
CELEBA_SIZE, CELEBA_CROP = (178, 218), (35, 55, 143, 163)
ENDINGS = ('.jpg', '.jpeg', '.png', '.webp')
DRAWN_COUNT = 18_000
UNPACKED_LIMIT = 4 * 2 ** 30                         # bytes; the real archive unpacks to 0.24 GB
IMAGES_LIMIT = 16 * 2 ** 30                          # bytes; 1.1 GB are 90,000 images of 64x64
ATTRIBUTES = 'list_attr_celeba.txt'
CACHE = '.dcgan_cache'
PATIENCE = 5                                         # seconds without a byte before a server counts as out of reach
SLOWEST = 20_000                                     # bytes a second: slower than that, the set takes hours


def load_images(data_dir=FACES_DIR, image_size=32, dataset='faces', max_images=None, seed=0):
    """Find the data set, or draw it; return (images, labels, source).

    images   uint8 tensor (N, 3, image_size, image_size). Under torchrun rank 0 finds them and the others read its cache
    labels   int64 tensor (N,): SVHN's digits; 0 for faces
    source   where they come from, in words
    dataset  'faces': data_dir; where that is left at its default, what DCGAN_DATA names (a folder, 'svhn' or
             'drawn'), else the CelebA faces on disk or in the zip, else its download, else drawn faces;
             'svhn': the street-view house numbers; 'drawn': faces drawn by code from seed
    max_images  an evenly spaced choice of that many at most; None for all
    Raises FileNotFoundError for a folder that is not there, ValueError for one without images and for wrong
    arguments, OSError where SVHN can neither be found nor fetched.
    """
    check_whole(image_size=image_size, max_images=max_images or 1)
    check_choice(('faces', 'svhn', 'drawn'), dataset=dataset)
    with rank_0_first():
        images, labels, source = _load_images(data_dir, image_size, dataset, max_images, seed)
    if source != shared(source):
        raise ValueError(f'Rank {world()[0]} found other images than rank 0: {source}')
    return images, labels, source


def _chosen(dataset, data_dir):
    """What to read when DCGAN_DATA has its say: (dataset, data_dir)."""
    chosen = os.environ.get('DCGAN_DATA')
    if dataset == 'faces' and chosen and Path(data_dir) == Path(FACES_DIR):
        return (chosen, None) if chosen in ('svhn', 'drawn') else ('faces', chosen)
    return dataset, data_dir


def _load_images(data_dir, image_size, dataset, max_images, seed):
    dataset, data_dir = _chosen(dataset, data_dir)
    folder = find_faces(data_dir) if dataset == 'faces' else None
    labels = None
    if folder:
        images, source = decode_folder(folder, image_size, max_images), f'{folder.absolute().name}/'
        if len(images) == FACES_OUTER:
            print(f'Note: {FACES_OUTER:,} is what celeba/ of the small set holds without the folder inside it. '
                  f'With that, it is {FACES_COUNT:,}.')
    elif dataset == 'svhn':
        (images, labels), source = load_svhn(image_size, max_images), 'SVHN, the street-view house numbers'
    else:
        images = drawn_faces(max_images or DRAWN_COUNT, image_size, seed)
        source = f'drawn by code, seed {seed}: these are NOT photographs'
    source = f'{len(images):,} images of {image_size}x{image_size}, {source}'
    print(source)
    return images, torch.zeros(len(images), dtype=torch.int64) if labels is None else labels, source


def _evenly(items, count):
    """At most count of the items, evenly spaced; all for None."""
    return items if count is None or count >= len(items) else [items[i * len(items) // count] for i in range(count)]


def find_faces(data_dir=FACES_DIR):
    """Return the folder of faces, unpacking or downloading it if need be; None where none can be had in seconds."""
    if Path(data_dir).is_dir():
        return Path(data_dir)
    if Path(data_dir) != Path(FACES_DIR):
        what = 'is a file' if Path(data_dir).exists() else 'does not exist'
        raise FileNotFoundError(f'data_dir: {str(data_dir)!r} {what}, a folder of {", ".join(ENDINGS)} images was '
                                f'expected (from {Path.cwd().name}/). Correct data_dir or DCGAN_DATA.')
    for folder in map(Path, CELEBA_DIRS):            # what is on disk goes before 240 MB of download
        if folder.is_dir():
            print(f'Found CelebA itself in {folder}/')
            return folder
    try:
        if not Path(FACES_ZIP).is_file():
            print(f'No {FACES_DIR} here: fetching {FACES_ZIP} (240 MB)')
            download(os.environ.get('DCGAN_URL', FACES_URL), FACES_ZIP)
        return unpack(FACES_ZIP, FACES_DIR)
    except OSError as error:
        print(f'No photographs to be had: {error}\n'
              f'*** Training on DRAWN faces instead. For real ones put {FACES_ZIP} here, or set DCGAN_DATA. ***')
        return None


def download(url, path):
    """Fetch url to path with a progress bar; a part left by an earlier try (path + '.part') is continued.

    Raises OSError where the server is out of reach, too slow, breaks off or sends something that is no zip archive.
    """
    part, started = Path(f'{path}.part'), time.time()
    have = part.stat().st_size if part.exists() else 0
    try:
        request = urllib.request.Request(url, headers={'Range': f'bytes={have}-'} if have else {})
        with _open(request) as reply:
            have = have if reply.status == 206 else 0            # 200: this server starts again from the first byte
            total = have + int(reply.headers.get('Content-Length', 0))
            with open(part, 'ab' if have else 'wb') as file, progress_bar(total, 'B', initial=have, unit_scale=True) as bar:
                while chunk := reply.read1(2 ** 20):
                    bar.update(file.write(chunk))
                    seconds = time.time() - started
                    if seconds > PATIENCE and (file.tell() - have) / seconds < SLOWEST:
                        raise OSError(f'{url} sends less than {SLOWEST:,} bytes a second; run again to go on')
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        total = have                                 # 416: there is nothing after the part; it is whole, or not ours
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f'{url}: {error!r}') from error
    if part.stat().st_size < total:
        raise OSError(f'the download broke off after {part.stat().st_size:,} of {total:,} bytes; run again to go on')
    with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(part) as archive:
        if archive.testzip() is None:
            return os.replace(part, path)
    part.unlink()
    raise OSError(f'{url} sent no zip archive, or a damaged one')


def _open(request):
    """urlopen that gives up in time, even where names are never resolved or one address after another is silent."""
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(urllib.request.urlopen, request, timeout=PATIENCE).result(2 * PATIENCE)
    except TimeoutError as error:
        raise OSError(f'{request.host} did not answer in {2 * PATIENCE} s') from error
    finally:
        pool.shutdown(wait=False)


def unpack(archive, folder):
    """Unpack the images of a zip archive into folder, all or nothing, and return the folder.

    Only images are written, and only inside folder. Raises OSError for an archive that is damaged, encrypted, too
    large (UNPACKED_LIMIT), or has names that lead outside it.
    """
    folder = Path(folder)
    started = time.time()
    try:
        with zipfile.ZipFile(archive) as opened, tempfile.TemporaryDirectory(dir=folder.parent, prefix='.unpack') as new:
            members = [member for member in opened.infolist() if is_image(Path(member.filename))]
            size = sum(member.file_size for member in members)
            outside = [name for name in opened.namelist() if '..' in Path(name).parts or Path(name).is_absolute()]
            if outside or size > UNPACKED_LIMIT or not members:
                found = f'the name {outside[0]!r}' if outside else f'{len(members):,} images of {size:,} bytes'
                raise zipfile.BadZipFile(f'it holds {found}; expected are images inside one folder')
            for member in progress_bar(members, ' files', desc=f'Unpacking {archive}'):
                opened.extract(member, new)
            inner = Path(new) / folder.name
            os.replace(inner if inner.is_dir() else new, folder)
            folder.chmod(0o755)                      # temporary folders are their owner's alone
            os.makedirs(new, exist_ok=True)          # TemporaryDirectory removes what is left of it
    except OSError:                                  # a full disk, say: no fault of the archive's
        raise
    except Exception as error:                       # a hostile or damaged archive can raise anything
        raise OSError(f'{archive} cannot be unpacked: {error}. Delete it and run again to fetch it anew.') from error
    print(f'Unpacked {len(members):,} images in {time.time() - started:.0f} s')
    if len(members) != FACES_COUNT:
        print(f'Note: the small CelebA set has {FACES_COUNT:,} images, this archive {len(members):,}')
    return folder


def is_image(path):
    """Whether path looks like a picture of ours: a known ending, not hidden, no resource fork of a Mac."""
    hidden = any(part.startswith('.') or part == '__MACOSX' for part in path.parts)
    return path.suffix.lower() in ENDINGS and not hidden


def list_images(folder):
    """All images below folder as a sorted list of (relative path, bytes, time of change); each real folder once."""
    found, seen = [], set()
    for where, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        folders[:] = [] if real in seen else [f for f in folders if not f.startswith('.') and f != '__MACOSX']
        names = [] if real in seen else names
        seen.add(real)
        for name in names:
            path = os.path.join(where, name)
            if is_image(Path(name)) and os.path.isfile(path):    # a dead link is no file
                stat = os.stat(path)
                found.append((os.path.relpath(path, folder), stat.st_size, stat.st_mtime_ns))
    return sorted(found)


def decode_folder(folder, image_size, max_images=None):
    """Decode the images below folder into a uint8 tensor (N, 3, image_size, image_size).

    The result is kept in the folder (or in this one) as a hidden file and used again until a file's name, size or time
    of change differs. Files that cannot be read are counted, named and left out.
    Raises ValueError where no image is found, none can be read, or they would take more than IMAGES_LIMIT bytes.
    """
    listing = _evenly(list_images(folder), max_images)
    size = len(listing) * 3 * image_size ** 2
    if not listing:
        raise ValueError(f'{str(folder)!r} holds no images ({", ".join(ENDINGS)}), nor do the folders in it. '
                         f'Fill it, or point data_dir or DCGAN_DATA at another folder.')
    if size > IMAGES_LIMIT:
        raise ValueError(f'{str(folder)!r} holds {len(listing):,} images: at {image_size}x{image_size} they take '
                         f'{size / 1e9:.1f} GB, and {IMAGES_LIMIT / 1e9:.1f} GB are allowed. Set max_images.')
    homes = [Path(folder), Path()]                   # a file: torchvision's ImageFolder takes folders for classes
    name = f'{CACHE}-{image_size}px-{hashlib.sha256(repr(listing).encode()).hexdigest()[:16]}'
    started = time.time()
    images = _read_cache(homes, name)
    if images is not None:
        print(f'Read {len(images):,} images, decoded from {len(listing):,} files, in {time.time() - started:.2f} s')
    else:
        images, faults = _decode_all(folder, [path for path, *_ in listing], image_size)
        if not any(isinstance(fault, MemoryError) or getattr(fault, 'errno', None) for fault in faults):
            _write_cache(homes, name, images)        # else a disk or a right was at fault, and may be better next time
    return torch.from_numpy(images)


def _read_cache(homes, name):
    """The array of the cache file called name in one of the homes; None where there is none, or it is damaged."""
    for path in [path for home in homes for path in home.glob(f'{name}-*.npy')]:
        try:
            images = np.load(path, mmap_mode='c')
            if path.stem == f'{name}-{zlib.crc32(images):08x}':
                return images
            fault = 'its checksum is another'
        except Exception as error:                   # a damaged file can raise anything
            fault = error
        print(f'Cache {path.name} is damaged ({fault}): decoding anew')


def _write_cache(homes, name, images):
    """Keep images in the first of the homes that takes them; beside the images, those of an earlier state make room."""
    for home in homes:
        try:
            for stale in homes[0].glob(f'{name.rpartition("-")[0]}-*.npy'):
                stale.unlink(missing_ok=True)
            return files.write_atomically(home / f'{name}-{zlib.crc32(images):08x}.npy', lambda file: np.save(file, images))
        except OSError as error:
            print(f'No cache in {home.name or "."}/: {error.strerror}')


def _decode_all(folder, paths, image_size):
    started = time.time()
    images = np.empty((len(paths), 3, image_size, image_size), np.uint8)
    faults = {}

    def decode_some(first, count=64):
        for number in range(first, min(first + count, len(paths))):
            try:
                images[number] = decode_image(os.path.join(folder, paths[number]), image_size).transpose(2, 0, 1)
            except Exception as error:               # whatever is wrong with a file: it is named below
                faults[number] = error

    with ThreadPoolExecutor(os.cpu_count()) as pool:             # the decoders leave Python's lock, so threads do
        list(progress_bar(pool.map(decode_some, range(0, len(paths), 64)), 'x64 images', len(paths) // 64, desc='Decoding'))
    if faults:
        names = ', '.join(f'{paths[number]} ({type(faults[number]).__name__})' for number in sorted(faults)[:5])
        print(f'{len(faults):,} of {len(paths):,} files are unreadable and left out: {names}{", ..." * (len(faults) > 5)}')
        whole = [number for number in range(len(paths)) if number not in faults]
        for place, number in enumerate(whole):       # move up in place: no second copy of a gigabyte
            images[place] = images[number]
        images = images[:len(whole)]
    if not len(images):
        raise ValueError(f'{str(folder)!r}: none of its {len(paths):,} files can be read as an image')
    seconds = time.time() - started
    print(f'Decoded {len(images):,} images in {seconds:.1f} s ({len(paths) / seconds:,.0f} images/s)')
    return images, list(faults.values())


def decode_image(path, size):
    """One image file as a uint8 array (size, size, 3): upright, cropped to its central square, on white.

    A CelebA original (178x218) gets the crop of the small set instead: its central 108x108.
    """
    with Image.open(path) as image:
        if image.size == CELEBA_SIZE:
            box = CELEBA_CROP
        else:
            image.draft('RGB', (2 * size, 2 * size))             # large JPEGs are decoded at half, a quarter, an eighth
            image = ImageOps.exif_transpose(image) if 'exif' in image.info else image
            width, height = image.size
            side = min(width, height)
            left, top = (width - side) // 2, (height - side) // 2
            box = (left, top, left + side, top + side)
        if image.mode.startswith('I') or image.mode == 'F':      # 16 bits a pixel
            image = Image.fromarray((np.asarray(image) / 257).clip(0, 255).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert('RGBA')
            image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image)
        return np.asarray(image.convert('RGB').crop(box).resize((size, size), Image.Resampling.BILINEAR))


def load_svhn(image_size, max_images=None):
    """SVHN's 73,257 training digits by torchvision, from data/ or fetched there; return (images, labels)."""
    from torchvision.datasets import SVHN            # needs scipy, for this data set alone
    from torchvision.transforms.v2.functional import resize
    before = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(PATIENCE)
        digits = SVHN('data', split='train', download=True)
    except (OSError, RuntimeError) as error:
        raise OSError(f'SVHN is neither in data/ nor to be fetched ({error}). Put its train_32x32.mat into data/, or '
                      f"choose another dataset: DCGAN_DATA=drawn, or a folder of images.") from error
    finally:
        socket.setdefaulttimeout(before)
    chosen = _evenly(range(len(digits)), max_images)
    images = torch.tensor(digits.data[chosen])
    if image_size != 32:
        images = torch.cat([resize(part, [image_size, image_size], antialias=True) for part in images.split(4096)])
    return images, torch.tensor(digits.labels[chosen])


def read_attributes(path):
    """CelebA's list_attr_celeba.txt: (names, labels), labels a dict from file name to a bool tensor (40,).

    Raises FileNotFoundError where there is no such file, ValueError where it is of another format.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{str(path)!r} does not exist: expected CelebA's list_attr_celeba.txt, the 40 attributes "
                                f'of each image. Put it beside the folder of images, or name it in DCGAN_ATTRIBUTES.')
    names = ()
    try:
        _, names, *rows = Path(path).read_text(encoding='utf-8').splitlines()
        names = names.split()
        labels = {file: torch.tensor([value == '1' for value in values]) for file, *values in map(str.split, rows)}
        if {len(values) for values in labels.values()} != {len(names)}:
            raise ValueError
    except ValueError:
        raise ValueError(f'{str(path)!r}: expected a number, a line of names, then on each line a file and {len(names)} times '
                         f'1 or -1') from None
    return names, labels


def load_attributes(data_dir=FACES_DIR, dataset='faces', max_images=None):
    """The attributes of the images that load_images gives for the same arguments: (names, bool tensor (N, 40)).

    They come from CelebA's list_attr_celeba.txt, looked for where DCGAN_ATTRIBUTES says, else in the folder of the images,
    beside it, here, and in celeba/. Raises FileNotFoundError where it is in none of them, ValueError where images are
    not in it.
    """
    dataset, data_dir = _chosen(dataset, data_dir)
    folder = find_faces(data_dir) if dataset == 'faces' else None
    if folder is None:
        raise ValueError('attributes: only the faces of CelebA have them, and these are others')
    places = [Path(place) / ATTRIBUTES for place in (folder, folder.resolve().parent, '.', 'celeba')]
    places = [Path(os.environ['DCGAN_ATTRIBUTES'])] if 'DCGAN_ATTRIBUTES' in os.environ else places
    names, labels = read_attributes(next((place for place in places if place.is_file()), places[-2:][0]))
    listed = [os.path.basename(path) for path, *_ in _evenly(list_images(folder), max_images)]
    unknown = [file for file in listed if file not in labels]
    if unknown:
        raise ValueError(f'{ATTRIBUTES} has no line for {len(unknown):,} of the {len(listed):,} images, {unknown[0]} first')
    return names, torch.stack([labels[file] for file in listed])


def balancing_sampler(n_images, balance, **arguments):
    """A sampler under which all combinations of the attributes named in balance are drawn equally often.

    arguments  those of load_attributes
    """
    names, labels = load_attributes(**arguments)
    for attribute in balance:
        check_choice(names, balance=attribute)
    if len(labels) != n_images:
        raise ValueError(f'balance: {len(labels) - n_images:,} images could not be read, so it is not known whose '
                         f'attributes are whose. Remove them.')
    chosen = labels[:, [names.index(attribute) for attribute in balance]]
    _, group, sizes = chosen.unique(dim=0, return_inverse=True, return_counts=True)
    print(f'Balanced over {", ".join(balance)}: {len(sizes)} groups of {sizes.min():,} to {sizes.max():,} images')
    return WeightedRandomSampler((1 / sizes.double())[group], n_images)


class ImageDataset(Dataset):
    """Decoded images as a data set: whole batches are cut out of one uint8 tensor and turned to float32 in [0, 1]."""

    def __init__(self, images, labels, source=''):
        self.images, self.labels, self.source = images, labels, source

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index].float().div_(255), self.labels[index]

    def __getitems__(self, indices):                 # DataLoader asks for a batch at once where this is defined
        return self[torch.as_tensor(indices)]

    @staticmethod
    def collate(batch):
        """For DataLoader's collate_fn: the batch is whole already."""
        return batch
