"""The mechanics behind dcgan_faces.ipynb: what a reader need not see to understand a DCGAN.

Definitions  load_definitions
Set-up       choose_preset, check_choice, check_whole, device_name, versions
Data         load_images: find_faces, download, unpack, decode_folder, load_svhn, drawn_faces; load_attributes,
             balancing_sampler, ImageDataset
Files        write_atomically, save_samples, load_samples, load_checkpoint, load_pretrained, load_history
Running      Run
Metric       FaceEncoder, FaceDistance, quality, nearest_faces, attribute_shares
Speed        capture, Feed
Processes    choose_device, world, alone, rank_0_first, shared
Pictures     to_array, show_grid, show_epochs, show_beside, film, plot_losses, plot_distance, plot_attributes
"""
import ast
import atexit
import collections
import contextlib
import datetime
import difflib
import functools
import hashlib
import http.client
import io
import itertools
import json
import math
import numbers
import operator
import os
import pickle
import platform
import random
import signal
import socket
import sys
import tempfile
import threading
import time
import types
import urllib.error
import urllib.request
import warnings
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch_fidelity
from IPython.display import Pretty, display
from PIL import Image, ImageOps
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, DataLoader, Dataset, WeightedRandomSampler
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torchvision.utils import make_grid
from tqdm import tqdm

# ------------------------------------------------------------------------------------------------ definitions


def load_definitions(notebook='dcgan_faces.ipynb', edits=()):
    """Give the notebook's definitions as a module: imports, functions, classes and UPPER_CASE constants.

    Everything else in the notebook (building, training, plotting) is left out, so importing it costs nothing.
    edits   pairs (old, new) of source to be replaced first: the tests plant bugs so, and the study its variants.
    Raises FileNotFoundError where there is no such notebook, ValueError unless each old is found in it exactly once.
    """
    notebook = Path(notebook)
    cells = json.loads(notebook.read_text(encoding='utf-8'))['cells']
    module = types.ModuleType(notebook.stem)
    module.__file__ = str(notebook)
    found = collections.Counter({old: 0 for old, _ in edits})
    for number, cell in enumerate(cells):
        if cell['cell_type'] == 'code':
            source = ''.join(cell['source'])
            for old, new in edits:
                found[old] += source.count(old)
                source = source.replace(old, new)
            tree = ast.parse(source)
            tree.body = [node for node in tree.body if _is_definition(node)]
            exec(compile(tree, f'{notebook.name}[{number}]', 'exec'), module.__dict__)
    if set(found.values()) - {1}:
        raise ValueError(f'edits: expected each exactly once in {notebook.name}, found {dict(found)}')
    return module


def _is_definition(node):
    if isinstance(node, ast.Assign):
        return all(isinstance(target, ast.Name) and target.id.isupper() for target in node.targets)
    return isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef))


# ----------------------------------------------------------------------------------------------------- set-up


def choose_preset(presets):
    """Pick one of presets (a dict of dicts): what DCGAN_PRESET names, else 'full' on a GPU and 'quick' on a CPU.

    DCGAN_PRESET may also change single values: DCGAN_PRESET='classic n_epochs=25 batch_size=64'.
    Raises ValueError for an unknown preset or value.
    """
    default = 'full' if torch.cuda.is_available() else 'quick'
    name, *changes = os.environ.get('DCGAN_PRESET', '').split() or [default]
    check_choice(presets, DCGAN_PRESET=name)
    preset = dict(presets[name])
    for change in changes:
        key, _, value = change.partition('=')
        check_choice(preset, DCGAN_PRESET=key)
        try:
            preset[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise ValueError(f'DCGAN_PRESET: found {change!r}, expected a change like n_epochs=25') from None
        check_whole(**{key: 1 if preset[key] is None else preset[key]})
    if os.environ.get('RANK', '0') == '0':           # under torchrun each process comes here before they meet
        print(f'Preset {" ".join([name, *changes])!r} on {device_name()}')
    return preset


def check_choice(choices, **values):
    """Raise ValueError, naming the nearest choice, for a value that is not among choices."""
    for name, value in values.items():
        if value not in choices:
            nearest = difflib.get_close_matches(str(value), map(str, choices), n=1)
            hint = f' Did you mean {nearest[0]!r}?' if nearest else ''
            raise ValueError(f'{name}: found {value!r}, expected one of {", ".join(map(repr, choices))}.{hint}')


def check_whole(**values):
    """Raise ValueError for a value that is no whole number above 0."""
    for name, value in values.items():
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
            raise ValueError(f'{name}: found {value!r}, expected a whole number, 1 or more')


def device_name():
    """What the training will run on, in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f'CPU ({platform.machine()}), {torch.get_num_threads()} thread{"s" * (torch.get_num_threads() > 1)}'


def versions():
    """One line of provenance: Python, torch, device."""
    return f'Python {platform.python_version()}, torch {torch.__version__}, {device_name()}'


# ------------------------------------------------------------------------------------------------------- data

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
            with open(part, 'ab' if have else 'wb') as file, _bar(total, 'B', initial=have, unit_scale=True) as bar:
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
            for member in _bar(members, ' files', desc=f'Unpacking {archive}'):
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
    for where, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        folders[:] = [] if real in seen else [f for f in folders if not f.startswith('.') and f != '__MACOSX']
        files = [] if real in seen else files
        seen.add(real)
        for file in files:
            path = os.path.join(where, file)
            if is_image(Path(file)) and os.path.isfile(path):    # a dead link is no file
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
            return write_atomically(home / f'{name}-{zlib.crc32(images):08x}.npy', lambda file: np.save(file, images))
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
        list(_bar(pool.map(decode_some, range(0, len(paths), 64)), 'x64 images', len(paths) // 64, desc='Decoding'))
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


def drawn_faces(n_faces, image_size=32, seed=0):
    """Draw faces by code: uint8 (n_faces, 3, image_size, image_size), the same for the same seed.

    Skin, hair, eyes, brows, nose, mouth, beard, glasses, pose, light and background all vary.
    """
    random_numbers = torch.Generator().manual_seed(seed)
    batches = torch.arange(n_faces).split(512)
    return torch.cat([_draw(len(batch), image_size, random_numbers) for batch in batches])


SKINS = torch.tensor([[.28, .17, .12], [.45, .29, .20], [.62, .43, .31], [.78, .58, .45], [.90, .72, .60], [.96, .82, .73]])
HAIRS = torch.tensor([[.06, .05, .05], [.16, .10, .07], [.30, .18, .10], [.48, .30, .15], [.78, .60, .32], [.88, .78, .55],
                      [.55, .22, .10], [.62, .62, .62]])
EYES = torch.tensor([[.22, .13, .07], [.35, .22, .10], [.25, .40, .60], [.30, .45, .30]])


def _draw(n, size, random_numbers):
    def uniform(low, high, width=1):
        return low + (high - low) * torch.rand(n, width, 1, 1, generator=random_numbers)

    def chance(probability):
        return (uniform(0, 1) < probability).float()

    def one_of(palette, blend=0.0):
        """A colour of the palette, and up to blend of the way on to its neighbour."""
        place = torch.randint(len(palette), (n,), generator=random_numbers)
        here, there = palette[place], palette[(place + 1).clamp(max=len(palette) - 1)]
        colour = torch.lerp(here, there, blend * torch.rand(n, 1, generator=random_numbers))
        return (colour.view(n, 3, 1, 1) + uniform(-.03, .03, 3)).clamp(0, 1)

    def ellipse(x, y, centre_x, centre_y, width, height):
        """Distance from the rim of an ellipse, about: negative inside."""
        ratio = torch.sqrt(((x - centre_x) / width) ** 2 + ((y - centre_y) / height) ** 2)
        return (ratio - 1) * torch.minimum(torch.as_tensor(width), torch.as_tensor(height))

    def inside(distance, softness=1.0):
        """Share of each pixel that lies inside: edges are a pixel wide."""
        return (.5 - distance / (softness * pixel)).clamp(0, 1)

    def paint(colour, cover):
        image.lerp_(colour.expand_as(image), cover.expand_as(image))

    pixel = 2 / size
    axis = (torch.arange(size) + .5) * pixel - 1
    page_y, page_x = torch.meshgrid(axis, axis, indexing='ij')
    skin, hair = one_of(SKINS, 1.0), one_of(HAIRS)

    # Background: two colours that run into one another
    angle = uniform(0, 2 * math.pi)
    ramp = ((page_x * angle.cos() + page_y * angle.sin()) / 2.8 + .5).clamp(0, 1)
    wall, corner = (torch.lerp(uniform(.05, .95), uniform(.05, .95, 3), uniform(.2, .6)) for _ in range(2))
    image = torch.lerp(wall.expand(n, 3, size, size), corner, ramp)

    # Pose: the head is moved, tilted, turned (features slide sideways) and nods (they slide up or down)
    tilt, zoom, turn, nod = uniform(-.2, .2), uniform(.9, 1.1), uniform(-.13, .13), uniform(-.05, .05)
    moved_x, moved_y = (page_x - uniform(-.08, .08)) / zoom, (page_y - uniform(-.06, .06)) / zoom
    x = moved_x * tilt.cos() + moved_y * tilt.sin()
    y = moved_y * tilt.cos() - moved_x * tilt.sin()
    face_x, face_y = x - turn, y - nod
    width, height = uniform(.50, .60), uniform(.68, .78)
    left_light = uniform(-.35, .35)

    # Hair behind, neck, clothes
    long_hair, volume = chance(.5), uniform(.06, .17)
    paint(hair * .8, inside(ellipse(x, y, 0, -.08 + .3 * long_hair, width + volume, height + volume + .2 * long_hair)))
    paint(skin * .72, inside(torch.maximum(x.abs() - .26, .3 - y)))
    paint(torch.lerp(uniform(.1, .9), uniform(.1, .9, 3), .5), inside(ellipse(x, y, 0, 1.25, .95, .42)))

    # Head: an egg, lit from one side, darker towards its rim
    egg = width * (1 - .16 * (y + .1).clamp(-1, 1))
    head = ellipse(x, y, 0, .04, egg, height)
    across, down = (x / egg).clamp(-1, 1), ((y - .04) / height).clamp(-1, 1)
    depth = (1 - across ** 2 - down ** 2).clamp(min=0).sqrt()
    light = (.62 + .42 * depth + left_light * across - .1 * down).clamp(.3, 1.12)
    lit = (skin * light).clamp(0, 1)
    for side in (-1, 1):
        paint(skin * .8, inside(ellipse(x, y, side * width * 1.01, .02, .07, .14)))      # ears
    paint(lit, inside(head))
    for side in (-1, 1):                                                                 # cheeks
        glow = torch.exp(-((face_x - side * .27) ** 2 + (face_y - .25) ** 2) / .02)
        paint(lit * torch.tensor([1.0, .72, .68]).view(3, 1, 1), .35 * glow * inside(head))

    # Beard, then the fringe of hair over the forehead
    jaw = inside(head) * inside(.37 - .5 * across ** 2 - face_y, 5)
    paint(hair * .9, uniform(.5, .9) * chance(.18) * (1 - long_hair) * jaw)
    parting, bend = uniform(-.35, .35), uniform(.2, .9)
    hairline = uniform(-.56, -.36) + bend * (x - parting) ** 2 * .6
    strands = .88 + .12 * torch.sin(14 * x + uniform(0, 6.3)) + .2 * depth
    bald = chance(.07) * (1 - long_hair)
    paint((hair * strands).clamp(0, 1), inside(torch.maximum(y - hairline, head - .03)) * (1 - bald))

    # Eyes, brows and glasses
    apart, eye_y, open_ = uniform(.20, .25), uniform(-.10, -.04), uniform(.045, .075)
    iris, gaze = one_of(EYES), uniform(-.02, .02)
    glasses, dark_glass, frame = chance(.2), chance(.25), uniform(.0, .35, 3)
    brow_height, brow_slant, brow = uniform(.12, .16), uniform(-.25, .25), uniform(.022, .04)
    for side in (-1, 1):
        eye_x = side * apart
        paint(lit * .72, .6 * inside(ellipse(face_x, face_y, eye_x, eye_y - .01, .135, open_ + .05), 2))
        white = ellipse(face_x, face_y, eye_x, eye_y, .105, open_)
        paint(torch.tensor([.95, .94, .92]).view(3, 1, 1), inside(white))
        paint(iris, inside(torch.maximum(white, ellipse(face_x, face_y, eye_x + gaze, eye_y, .058, .065))))
        paint(iris * .15, inside(torch.maximum(white, ellipse(face_x, face_y, eye_x + gaze, eye_y, .03, .034))))
        lid = ellipse(face_x, face_y, eye_x, eye_y + .012, .115, open_ + .02).abs() - .018
        paint(skin * .3, inside(torch.maximum(lid, face_y - eye_y + .01)))
        arch = face_y - (eye_y - brow_height + side * brow_slant * (face_x - eye_x) + 2 * (face_x - eye_x) ** 2)
        paint(hair * .7, inside(torch.maximum(arch.abs() - brow, (face_x - eye_x).abs() - .13)) * .85)
        glass = ellipse(face_x, face_y, eye_x, eye_y + .02, .17, .135)
        paint(frame, glasses * dark_glass * .85 * inside(glass))
        paint(frame, glasses * inside(glass.abs() - .018))
    paint(frame, glasses * inside(torch.maximum((face_y - eye_y).abs() - .016, face_x.abs() - apart + .16)))

    # Nose: a shaded flank, a bright ridge, two nostrils
    flank = torch.exp(-((face_x - turn - .05 * left_light.sign()) ** 2 / .0025 + (face_y - .1) ** 2 / .02))
    paint(lit * .7, .5 * flank * inside(head))
    nose_y, nose_width = uniform(.20, .25), uniform(.07, .10)
    paint((lit * 1.12).clamp(0, 1), .6 * torch.exp(-((face_x - .7 * turn) ** 2 / .003 + (face_y - nose_y + .05) ** 2 / .006)))
    for side in (-1, 1):
        paint(skin * .35, .8 * inside(ellipse(face_x - .7 * turn, face_y, side * nose_width * .55, nose_y, .032, .02)))

    # Mouth: lips along a curve, teeth in a broad smile
    smile, mouth_y, mouth_width = uniform(-.1, .9), uniform(.40, .46), uniform(.17, .26)
    curve = face_y - mouth_y + smile * (face_x - .2 * turn) ** 2
    lips = torch.maximum(ellipse(face_x - .2 * turn, curve, 0, 0, mouth_width, uniform(.05, .075)), head + .03)
    natural, lipstick = skin * torch.tensor([.85, .5, .5]).view(3, 1, 1), torch.tensor([.7, .15, .2]).view(3, 1, 1)
    paint(torch.lerp(natural, lipstick + uniform(-.08, .08, 3), uniform(.1, .7)), inside(lips))
    paint(skin * .25, inside(torch.maximum(curve.abs() - .012, lips)) * .8)
    teeth = ellipse(face_x - .2 * turn, curve, 0, 0, mouth_width * .8, .038)
    paint(torch.tensor([.96, .95, .92]).view(3, 1, 1), inside(teeth) * (smile > .35).float())
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


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
    files = [os.path.basename(path) for path, *_ in _evenly(list_images(folder), max_images)]
    unknown = [file for file in files if file not in labels]
    if unknown:
        raise ValueError(f'{ATTRIBUTES} has no line for {len(unknown):,} of the {len(files):,} images, {unknown[0]} first')
    return names, torch.stack([labels[file] for file in files])


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


def _bar(total, unit, length=None, **options):
    """A text progress bar over a number or a sequence, for a terminal or a notebook; elsewhere it stays silent."""
    total = dict(total=total or None) if isinstance(total, int) else dict(iterable=total, total=length)
    in_notebook = type(sys.stdout).__module__.startswith('ipykernel')
    return tqdm(**total, unit=unit, file=_DisplayArea() if in_notebook else sys.stdout, leave=False, mininterval=1,
                disable=not in_notebook and not sys.stdout.isatty(), **options)


class _DisplayArea:
    """One line of text under a notebook's cell that each write replaces: a saved notebook keeps the last one alone."""

    def __init__(self):
        self.handle = display(Pretty(''), display_id=True)

    def write(self, text):
        self.handle.update(Pretty(text.strip()))

    def flush(self):
        pass


# ------------------------------------------------------------------------------------------------------ files

CHECKPOINTS = 'checkpoints_gan'
SAMPLES = 'train_samples.pkl'
PRETRAINED = Path(__file__).parent / 'assets/generator-32.pt'


def write_atomically(path, write, keep=None):
    """Call write(file) on a new file; when that is whole and on the disk, put it in path's place.

    keep  where the file that was in path's place goes; None: nowhere
    """
    path = Path(path)
    fresh = path.with_name(f'{path.name}.part')
    try:
        with open(fresh, 'wb') as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if keep and path.exists():
            os.replace(path, keep)
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def save_samples(samples, path=SAMPLES):
    """Write the contract's pickle: a list of one float32 CPU tensor (16, 3, s, s) in [-1, 1] an epoch."""
    write_atomically(path, lambda file: pickle.dump(samples, file))


def load_samples(path=SAMPLES):
    """Read a pickle of samples, also an old one, as a list of float32 CPU tensors (n, 3, s, s).

    CUDA tensors, tensors with a gradient, arrays, tuples and any number of images are understood. Nothing in the
    file is run: tensors, arrays and containers are built, all else is refused.
    Raises ValueError for a file that holds anything else.
    """
    try:
        epochs = _TensorUnpickler(io.BytesIO(Path(path).read_bytes())).load()
        if not all(isinstance(epoch, (torch.Tensor, np.ndarray)) and epoch.ndim == 4 and epoch.shape[1] == 3
                   and math.prod(epoch.shape) <= os.path.getsize(path) for epoch in epochs):
            raise ValueError('something else, or more numbers than the file has bytes')
        epochs = [torch.as_tensor(epoch) for epoch in epochs]
        return [epoch.detach().to('cpu', torch.float32).contiguous() for epoch in epochs]
    except OSError:
        raise
    except Exception as error:                       # a hostile or damaged pickle can raise anything
        raise ValueError(f'{path}: expected a pickled list of image tensors, found {error}') from error


class _TensorUnpickler(pickle._Unpickler):
    """Builds tensors, arrays and containers; every other name in a pickle is refused before it is imported.

    It is the one in Python: the one in C makes room for whatever size or number a file of a few bytes declares.
    """

    def find_class(self, module, name):
        try:
            return _ALLOWED[module.replace('numpy.core', 'numpy._core'), name]
        except KeyError:
            raise pickle.UnpicklingError(f'the name {module}.{name}, which is no part of a tensor') from None

    def load_bytearray8(self):                       # as it is, but for reading first and making room afterwards
        self.append(bytearray(self.read(int.from_bytes(self.read(8), 'little'))))

    dispatch = pickle._Unpickler.dispatch | {pickle.BYTEARRAY8[0]: load_bytearray8}


def _tensor(storage, offset, size, stride, *rest):
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    if min(offset, *size, *stride) < 0 or last >= max(1, storage._size()):    # torch would enlarge the storage
        raise pickle.UnpicklingError('a tensor that leads outside its storage')
    return torch._utils._rebuild_tensor_v2(storage, offset, size, stride, *rest)


def _storage(data):
    if data[:2] == b'PK':                            # a zip archive could unpack to more than the file holds
        raise pickle.UnpicklingError('a storage that is packed')
    return _load(io.BytesIO(data))


_ALLOWED = {
    ('torch._utils', '_rebuild_tensor_v2'): _tensor,
    ('torch._utils', '_rebuild_parameter'): torch._utils._rebuild_parameter,
    ('torch.storage', '_load_from_bytes'): _storage,
    ('collections', 'OrderedDict'): collections.OrderedDict,
    ('numpy._core.multiarray', '_reconstruct'): lambda kind, shape, code: np.empty(0),    # pickle fills it in
    ('numpy._core.numeric', '_frombuffer'): np._core.numeric._frombuffer,
    ('numpy', 'ndarray'): None,                      # named by every array, needed by none of the above
    ('numpy', 'dtype'): np.dtype,
    ('_codecs', 'encode'): lambda text, encoding: text.encode('latin1'),
}


def load_checkpoint(folder=CHECKPOINTS, best=False):
    """Read the latest checkpoint that is whole, on the CPU; a dict. Nothing in the file is run.

    best  True: the one with the lowest distance to real faces instead, where distances were measured
    Raises FileNotFoundError where there is none, ValueError where there are only damaged ones.
    """
    faults = []
    for path in [Path(folder) / f'{name}.pt' for name in ['best'] * best + ['latest', 'previous']]:
        try:
            with zipfile.ZipFile(path) as parts:     # checksums first, and no part may be larger than the file
                if parts.testzip() or sum(part.file_size for part in parts.infolist()) > path.stat().st_size:
                    raise zipfile.BadZipFile('a checksum or a size is wrong')
            state = {'distances': []} | _load(path)      # runs from before there were distances had none
            missing = set(Run.STATE) - set(state)
            if missing:
                raise KeyError(f'no {", ".join(sorted(missing))} in it')
        except FileNotFoundError:
            continue
        except Exception as error:                   # a hostile or damaged file can raise anything
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            faults.append(f'{path} is damaged or no checkpoint of this notebook ({reason:.150})')
            continue
        if faults:
            print(f'{faults[0]}: going on from {path}, epoch {state["epoch"]}')
        return state
    if faults:
        raise ValueError('; '.join(faults) + '. Train with resume = False: it is moved aside.')
    raise FileNotFoundError(f'{Path(folder) / "latest.pt"} does not exist: train first, or name the folder of a run')


def load_pretrained(path=None):
    """A generator that the project trained: a dict of generator (its arguments), weights, and card (what is known of it).

    Raises FileNotFoundError where the file is missing.
    """
    path = Path(path or PRETRAINED)
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist: it comes with the project')
    saved = _load(path)
    return saved | dict(weights={name: value.float() if value.is_floating_point() else value
                                 for name, value in saved['weights'].items()})


def _load(file):
    """A file of torch, on the CPU: tensors, containers and plain values, NumPy's among them; all else is refused."""
    scalars = [np._core.multiarray.scalar, np.dtype, *(type(np.dtype(code)) for code in '?bhilqBHILQefd')]
    with torch.serialization.safe_globals(scalars):
        return torch.load(file, map_location='cpu', weights_only=True)


def load_history(folder=CHECKPOINTS):
    """The figures of a run: a dict of arrays.

    d_loss, g_loss, d_real, d_fake  float32, one number a batch
    per_epoch  batches in each epoch
    distances  (n, 3): epoch, distance to real faces, seconds that measuring it took
    """
    path = Path(folder) / 'losses.npz'
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist: train for at least one epoch first')
    with np.load(path) as arrays:
        return dict(arrays)


# ---------------------------------------------------------------------------------------------------- running

SATURATED, COLLAPSED, YOUNG = .97, .05, 1000         # D(x) - D(G(z)); spread of the grid's pixels; steps before that


def random_state():
    """The state of every random generator in use, as plain values and tensors."""
    kind, keys, *rest = np.random.get_state()
    cuda = [torch.cuda.get_rng_state()] if torch.cuda.is_available() else []     # under torchrun all ranks have the same
    return dict(torch=torch.get_rng_state(), cuda=cuda, python=random.getstate(), numpy=[kind, keys.tolist(), *rest])


def set_random_state(state):
    """Put every random generator back to where random_state() saw it."""
    torch.set_rng_state(state['torch'])
    if state['cuda'] and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'][0])
    random.setstate(state['python'])
    np.random.set_state(tuple(state['numpy']))


class Run:
    """The record of a training run: where it is, what it printed, its losses and its samples; saved every epoch.

    parts   dict of whatever has a state_dict(): networks and optimizers
    config  dict of plain values that describe the run; only MAY_CHANGE may differ when it is resumed
    resume  True: go on from checkpoints_gan/ where that holds this very run. Another run found there is set aside
            (renamed), never deleted or overwritten
    rescue  when losses or weights are no longer finite: go back one epoch, once, with learning rates times this;
            0: stop at once
    distance  a FaceDistance, or any function from images to a number, lower being better: it is asked every
              distance_every epochs, of N_JUDGED images; the best epoch is kept as best.pt. None: not asked
    """

    STATE = ('config', 'fixed_z', 'epoch', 'n_steps', 'images_seen', 'seconds', 'losses', 'samples', 'lines', 'history',
             'distances', 'rescued')
    MAY_CHANGE = 'n_epochs', 'print_every', 'resume', 'rescue', 'distance_every'
    N_JUDGED = 2000

    def __init__(self, parts, fixed_z, config, resume, rescue, distance=None, distance_every=1):
        self.parts, self.fixed_z, self.config, self.resume, self.rescue = parts, fixed_z, config, resume, rescue
        self.folder = Path(CHECKPOINTS)
        self.epoch, self.n_steps, self.images_seen, self.seconds = 0, 0, 0, 0.0
        self.losses, self.samples, self.lines, self.history, self.distances = [], [], [], [], []
        self.distance, self.distance_every = distance, distance_every
        self.rescued, self.saved, self.unsaved, self.bar, self.shape, self.feed = False, 0, None, None, None, None
        self.rank, self.size = world()
        if self.rank == 0 and (any(self.folder.glob('*.pt')) or Path(SAMPLES).exists()):
            self._resume_or_set_aside(resume)
        if shared(self.epoch) and self.rank:             # the others take up what rank 0 has found
            self._restore(load_checkpoint(self.folder))
            self.saved = self.epoch
        self._remember()

    def __enter__(self):
        """From here on the end of a process (SIGTERM) is an interrupt like Ctrl-C: train ends, nothing is lost."""
        self.in_main_thread = threading.current_thread() is threading.main_thread()
        if self.in_main_thread:
            self.before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        return self

    def __exit__(self, kind, error, trace):
        if self.in_main_thread:
            signal.signal(signal.SIGTERM, self.before)
        if self.bar is not None:
            self.bar.close()
        if self.unsaved:
            print(f'NOT ON DISK: what came after epoch {self.saved}. Free some space and train again.')
        if kind is KeyboardInterrupt:
            print(f'Interrupted in epoch {self.epoch + 1}. On disk: all up to the end of epoch {self.saved}. '
                  f'To go on, {"run this cell again" if self.resume else "train with resume=True"}.')
            return True
        said = str(error)
        if kind and self.size > 1 and issubclass(kind, RuntimeError) and any(w in said for w in ('onnection', 'gloo', 'NCCL')):
            raise RuntimeError(f'Rank {self.rank} has lost another process of this job, so it ends. All up to the end of '
                               f'epoch {self.saved} is in {self.folder}/; start torchrun again to go on.') from error
        if kind and self.shape and (issubclass(kind, MemoryError) or 'out of memory' in said or 'allocate memory' in said):
            raise MemoryError(self._what_fits()) from error

    def epochs(self, n_epochs):
        """Yield the number of each epoch still to run, up to n_epochs; one that went bad comes again."""
        self.n_epochs = n_epochs
        if self.epoch >= n_epochs:
            self.say(f'All {n_epochs} epochs are done; to train further, raise n_epochs.', keep=False)
        while self.epoch < n_epochs:
            self.steps, self.started = [], time.perf_counter()
            yield self.epoch + 1

    def batches(self, loader):
        """Yield (number, images) for each batch of the loader, moving the progress bar; stop when losses go bad."""
        if not len(loader):
            raise ValueError('The loader gives no batch: there are fewer images than batch_size, and it drops the rest.')
        if self.bar is None:
            self.bar = _bar((self.n_epochs - self.epoch) * len(loader), ' batches', desc='Training')
        if self.feed is None or self.feed.loader is not loader:
            device, D = next(self.parts['G'].parameters()).device, self.parts['D']
            last = any(p.ndim == 4 and not p.is_contiguous() for p in D.parameters())
            self.feed = Feed(loader, device, torch.channels_last if last else torch.contiguous_format)   # as D has it
        for number, images in enumerate(self.feed):
            self.shape = images.shape
            yield number, images
            self.images_seen += len(images)
            self.bar.update()
            if number % 100 == 99 and not self.steps[-1].isfinite().all():   # waits for the device: not every time
                break

    def record(self, step):
        """Keep the four figures of one step, as they are on the device: no waiting for it."""
        self.steps.append(step)
        self.n_steps += 1

    def say(self, line, keep=True):
        """Print a line above the progress bar; keep it, or not, to be shown again when the run is resumed."""
        tqdm.write(line, file=sys.stdout)
        if keep:
            self.lines.append(line)

    def end_epoch(self, generate):
        """Close the epoch: one line of figures, and everything to disk; or back to its start, if numbers went bad.

        generate  gives images (n, 3, s, s) in [-1, 1] for noise (n, z_size)
        """
        samples = generate(self.fixed_z)
        steps = torch.stack(self.steps).float().cpu()            # the epoch's only wait for the device
        networks = [part for part in self.parts.values() if isinstance(part, torch.nn.Module)]
        weights = [value for network in networks for value in network.state_dict().values()]
        if not all(values.isfinite().all() for values in (steps, samples, *weights)):
            return self._go_back(steps)
        self.seconds, self.epoch = self.seconds + time.perf_counter() - self.started, self.epoch + 1
        self.history.append(steps)
        self.samples.append(samples)
        d_loss, g_loss, d_real, d_fake = steps.mean(0).tolist()
        judged = self._judge(generate) if self.distance else ''
        left = round((self.n_epochs - self.epoch) * self.seconds / self.epoch)
        self.say(f'epoch {self.epoch:4d}/{self.n_epochs:4d} | d_loss {d_loss:6.3f} | g_loss {g_loss:6.3f} | '
                 f'D(x) {d_real:.2f} | D(G(z)) {d_fake:.2f} |{judged} {self.images_seen / self.seconds:8,.0f} images/s | '
                 f'{left // 60:3d}:{left % 60:02d} left')
        if self.n_steps >= YOUNG and d_real - d_fake > SATURATED:
            self.say('  Warning: D tells real from fake almost every time; G has little left to learn from.')
        if self.n_steps >= YOUNG and samples.std(0).mean() < COLLAPSED:
            self.say('  Warning: the sixteen samples are nearly one and the same: G has collapsed.')
        self.save()

    def _judge(self, generate):
        """Ask the distance, if this is an epoch to do so; its column of the epoch's line."""
        if self.epoch % self.distance_every:
            return ' ' * 11 + '|'
        started = time.perf_counter()
        z = torch.randn(self.N_JUDGED, self.fixed_z.shape[1], generator=torch.Generator().manual_seed(0))   # always the same
        value = float(self.distance(torch.cat([generate(part) for part in z.split(250)])))
        if not math.isfinite(value):
            return f' FFD {value:5} |'
        self.distances.append([self.epoch, value, time.perf_counter() - started])
        return f' FFD {value:5.2f} |'

    def save(self):
        """Write latest.pt (the one before it becomes previous.pt), losses.npz and train_samples.pkl, each whole.

        Where this epoch's distance is the lowest so far, best.pt is written too.
        """
        self._remember()
        if self.rank == 0:
            self._write()
        self.saved = shared(self.saved)                  # the others wait: what they read next has been written

    def _write(self):
        figures = dict(zip(('d_loss', 'g_loss', 'd_real', 'd_fake'), torch.cat(self.history).T.numpy()),
                       per_epoch=[len(steps) for steps in self.history],
                       distances=np.array(self.distances, np.float64).reshape(-1, 3))
        try:
            self.folder.mkdir(exist_ok=True)
            write_atomically(self.folder / 'latest.pt', lambda file: torch.save(self._state(), file),
                             keep=self.folder / 'previous.pt')
            if self.distances and self.epoch == min(self.distances, key=operator.itemgetter(1))[0]:
                write_atomically(self.folder / 'best.pt', lambda file: torch.save(self._state(), file))
            write_atomically(self.folder / 'losses.npz', lambda file: np.savez(file, **figures))
            save_samples(self.samples)
        except OSError as error:
            self.unsaved = error
            self.say(f'  NOT SAVED: {error}. Training goes on, and the next epoch is saved again.')
            return
        if self.unsaved:
            self.say('  Saved again, with all that could not be saved before.')
        self.unsaved, self.saved = None, self.epoch

    def _state(self):
        """All of the run: what a checkpoint holds."""
        state = {name: part.state_dict() for name, part in self.parts.items()}
        return state | {name: getattr(self, name) for name in self.STATE} | dict(random_state=random_state())

    def _remember(self):
        """Keep a copy, but for the grids, to go back to when numbers go bad."""
        file = io.BytesIO()
        torch.save(self._state() | dict(samples=None), file)
        self.good = file.getvalue()

    def _restore(self, state):
        for name in self.STATE[1:]:                  # the configuration is today's
            setattr(self, name, state[name])
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        set_random_state(state['random_state'])

    def _go_back(self, steps):
        bad = steps[~steps.isfinite().all(1)]
        d_loss, g_loss = (bad if len(bad) else steps)[0][:2].tolist()
        message = f'Epoch {self.epoch + 1}: numbers went bad (d_loss {d_loss:.4g}, g_loss {g_loss:.4g})'
        if self.rescued or not self.rescue:
            raise FloatingPointError(f'{message}. Epoch {self.epoch} is kept in {self.folder}/. Try a lower lr, or '
                                     f'penalty = 0.1; look for images that are all of one colour.')
        self._restore(_load(io.BytesIO(self.good)) | dict(samples=self.samples))
        self.rescued = True
        for part in self.parts.values():
            for group in getattr(part, 'param_groups', ()):
                for name in {'lr', 'initial_lr'} & set(group):
                    group[name] *= self.rescue
        self._remember()
        self.say(f'  {message}: back to the end of epoch {self.epoch}, learning rates x {self.rescue}.')

    def _what_fits(self):
        """After running out of memory: try a pass of smaller batches, and say which one fits."""
        batch, _, size, _ = self.shape
        if self.size > 1:                                # a pass here would wait for the other processes
            return f'Out of memory with batch_size {batch} at {size}x{size}, on rank {self.rank} of {self.size}. Halve it.'
        D, G = self.parts['D'], self.parts['G']
        device = next(G.parameters()).device
        while batch > 1:
            batch //= 2
            try:
                D(G(self.fixed_z[:1].expand(2 * batch, -1).to(device))).sum().backward()   # real and fake: twice
                break
            except (MemoryError, RuntimeError):
                continue
        else:
            batch = 'none'
        smaller = f'; or take img_size = {size // 2}' if size > 32 else ''
        return (f'Out of memory with batch_size {self.shape[0]} at {size}x{size}. batch_size that fits at this size, by '
                f'trying: {batch}{smaller}. All up to epoch {self.saved} is in {self.folder}/.')

    def _resume_or_set_aside(self, resume):
        why = 'resume is off'
        if resume and not any(self.folder.glob('*.pt')):
            why = f'{SAMPLES} came without a checkpoint'
        elif resume:
            state = load_checkpoint(self.folder)
            changed = [name for name in {**self.config, **state['config']} if name not in self.MAY_CHANGE
                       and self.config.get(name) != state['config'].get(name)]
            if not changed:
                self._restore(state)
                self.saved = self.epoch
                print('\n'.join(self.lines))
                print(f'Continuing {self.folder}/ after epoch {self.epoch} ({self.images_seen:,} images seen).')
                return self._write()                 # makes good what a crash between two files has left undone
            why = 'it differs in ' + ', '.join(sorted(changed))
        numbered = (Path(f'{self.folder}-{number}') for number in itertools.count(1))
        aside = next(path for path in numbered if not path.exists())
        if self.folder.exists():
            os.rename(self.folder, aside)
        aside.mkdir(exist_ok=True)
        if Path(SAMPLES).exists():
            os.rename(SAMPLES, aside / SAMPLES)
        print(f'An earlier run is kept in {aside}/ ({why}); this one starts at epoch 1.')


# ----------------------------------------------------------------------------------------------------- metric

ENCODER = Path(__file__).parent / 'assets/encoder.pt'
INCEPTION = 'weights-inception-2015-12-05-6726825d.pth'  # of torch-fidelity's release 0.2.0


class FaceEncoder(torch.nn.Module):
    """Images (B, 3, s, s) in [-1, 1] to 128 features; what Fréchet face distance looks at.

    A small convolutional network that experiments/encoder.py trained on CelebA's 40 attributes. Images of any size
    are resized to 64x64 first, as they would be to be looked at side by side.
    """

    LAYERS = (32, 2), (64, 2), (64, 1), (128, 2), (128, 1), (128, 2)     # depth and stride

    def __init__(self, n_attributes=40):
        super().__init__()
        layers, depth = [], 3
        for deep, stride in self.LAYERS:
            layers += [torch.nn.Conv2d(depth, deep, 3, stride, padding=1, bias=False), torch.nn.BatchNorm2d(deep),
                       torch.nn.ReLU()]
            depth = deep
        self.features = torch.nn.Sequential(*layers)     # (B, 128, 4, 4)
        self.attributes = torch.nn.Linear(depth, n_attributes)

    def forward(self, x):
        x = torch.nn.functional.interpolate(x, (64, 64), mode='bilinear', antialias=x.shape[-1] > 64)
        return self.features(x).mean((2, 3))             # (B, 128)

    @classmethod
    def trained(cls, path=None):
        """The trained encoder, in eval mode; its attribute_names are CelebA's. Raises FileNotFoundError."""
        path = Path(path or ENCODER)
        if not path.is_file():
            raise FileNotFoundError(f'{path} does not exist: it comes with the project, or from experiments/encoder.py')
        saved = _load(path)
        encoder = cls(len(saved['attributes']))
        encoder.load_state_dict(saved['weights'])
        encoder.attribute_names = saved['attributes']
        return encoder.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def embed(self, images):
        """Features (n, 128), float32 on the CPU, of images: uint8, or float in [-1, 1]."""
        device, features = self.attributes.weight.device, []
        for batch in images.split(250):
            batch = (batch.to(device).float() / 127.5 - 1 if batch.dtype == torch.uint8 else batch.to(device))
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
                features.append(self(batch.contiguous(memory_format=torch.channels_last)).float().cpu())
        return torch.cat(features)


class FaceDistance:
    """Fréchet face distance: how far generated images are from real ones; lower is better.

    The distance between two normal distributions as in FID (Heusel et al., arXiv:1706.08500), over the features of
    FaceEncoder instead of Inception's, hence NOT comparable to any FID. The last n images given are the reference (5,000,
    or half of the images), .real; those before them give .floor, the distance between real faces and real faces. The fewer
    images are judged, the larger the distance of the very same crowd: n_judged of them (all n) give the floor.
    """

    def __init__(self, images, device='cpu', n=5000, n_judged=None):
        if len(images) < 20:
            print(f'{len(images)} images are too few to judge others by: distances will mean little')
            images = images.repeat(math.ceil(20 / len(images)), 1, 1, 1)
        self.n = min(n, len(images) // 2)
        self.real, others = images[-self.n:], images[-2 * self.n:-self.n]
        self.encoder = FaceEncoder.trained().to(device)
        self.reference = self._statistics(self.real)
        self.floor = self(others[:n_judged])

    def __call__(self, images):
        """The distance of images, (n, 3, s, s): uint8, or float in [-1, 1]."""
        return fid_statistics_to_metric(self._statistics(images), self.reference, False)['frechet_inception_distance']

    def _statistics(self, images):
        return fid_features_to_statistics(self.encoder.embed(to_bytes(images)).double())


class _FaceFeatures(FeatureExtractorBase):
    """FaceEncoder in torch-fidelity's terms."""

    def __init__(self, name, features_list, **options):
        super().__init__(name, features_list)
        self.encoder = FaceEncoder.trained()

    @staticmethod
    def get_provided_features_list():
        return ('128',)

    @staticmethod
    def get_default_feature_layer_for_metric(metric):
        return '128'

    @staticmethod
    def can_be_compiled():
        return False

    def forward(self, images):
        return (self.encoder.embed(images).to(images.device),)


if 'face-encoder' not in torch_fidelity.registry.FEATURE_EXTRACTORS_REGISTRY:    # as it is where this module is reloaded
    torch_fidelity.register_feature_extractor('face-encoder', _FaceFeatures)


class _Pictures(Dataset):
    """uint8 images one by one, as torch-fidelity reads them."""

    def __init__(self, images):
        self.images = to_bytes(images)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


def quality(generated, real, extractor='face-encoder', weights=None):
    """Fréchet distance, kernel distance, precision and recall of generated images against real ones, by torch-fidelity.

    extractor  'face-encoder': ours. 'inception-v3-compat': then they are FID (Heusel et al., arXiv:1706.08500) and KID
               (Bińkowski et al., arXiv:1801.01401) proper; its weights are those at the path weights, or downloaded
    Images are (n, 3, s, s): uint8, or float in [-1, 1]. Precision is the share of generated images that lie among the
    real ones, recall the share of real ones that lie among the generated (Kynkäänniemi et al., arXiv:1904.06991).
    Raises OSError where Inception's weights can be had from neither.
    """
    names = ('FID', 'KID') if extractor.startswith('inception') else ('Fréchet face distance', 'kernel face distance')
    n = min(len(generated), len(real))
    try:
        figures = torch_fidelity.calculate_metrics(
            input1=_Pictures(generated), input2=_Pictures(real), cuda=torch.cuda.is_available(), cache=False, verbose=False,
            save_cpu_ram=True,                           # no processes of its own: a script would run again in each
            fid=True, kid=True, prc=True, kid_subset_size=min(1000, n), batch_size=250, feature_extractor=extractor,
            feature_extractor_weights_path=weights)
    except OSError as error:
        if names[0] != 'FID':
            raise
        raise OSError(f"{names[0]} needs Inception's weights (91 MB), which cannot be fetched here ({error}). Where "
                      f'there is a network, or with weights = the path of {INCEPTION}, it can be had.') from error
    return {names[0]: figures['frechet_inception_distance'], names[1]: figures['kernel_inception_distance_mean'],
            'precision': figures['precision'], 'recall': figures['recall']}


def nearest_faces(generated, images):
    """For each generated image the nearest of images in the encoder's features: (indices (n,), distances (n,)).

    A mirrored twin counts: the nearer of the image as it is and of its mirror image is given.
    """
    encoder = FaceEncoder.trained().to(choose_device())
    features, generated = encoder.embed(images), to_bytes(generated)
    both = torch.stack([torch.cdist(encoder.embed(seen), features) for seen in (generated, generated.flip(3))])
    distances, indices = both.amin(0).min(1)
    return indices, distances


def attribute_shares(images):
    """The share of images in which the encoder sees each of CelebA's 40 attributes: a dict from name to share."""
    encoder = FaceEncoder.trained().to(choose_device())
    with torch.no_grad():
        seen = encoder.attributes(encoder.embed(to_bytes(images)).to(encoder.attributes.weight.device)) > 0
    return dict(zip(encoder.attribute_names, seen.float().mean(0).tolist()))


def to_bytes(images):
    """Images in [-1, 1] as uint8, as a file would hold them; uint8 as it is."""
    return images if images.dtype == torch.uint8 else ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


# ------------------------------------------------------------------------------------------------------ speed


def capture(step, D, G, d_optimizer, g_optimizer, sync_batch_norm=False):
    """Wrap a training step for speed; return it as a function of (real, z, **options) that returns what step returns.

    step       called as step(D, G, d_optimizer, g_optimizer, real, z, **options); it knows nothing of what follows
    A GPU      computes in bfloat16, and one CUDA graph holds the whole step: no kernel waits for Python. The last
               batch of an epoch, if it is smaller, has a graph of its own.
    A CPU      computes in bfloat16 where it has instructions for it (avx512_bf16, amx_bf16), else in float32.
    torchrun   each process computes its share of the batch, DistributedDataParallel averages the gradients, and the
               figures returned are the mean over all. sync_batch_norm: G's statistics are those of the whole batch (GPUs only)
    Weights, gradients and optimizers stay in float32. DCGAN_FAST=0 leaves the step as it is, but for its shares.
    """
    device, (rank, size) = next(G.parameters()).device, world()
    fast = os.environ.get('DCGAN_FAST', '1') != '0'
    networks = [_BFloat16(network) if fast and has_bfloat16(device) else network for network in (D, G)]
    if size > 1:
        networks = _shared(*networks, device, sync_batch_norm)
    run = functools.partial(step, *networks, d_optimizer, g_optimizer)
    if size > 1:
        return functools.partial(_step_on_share, run, rank, size)
    if fast and device.type == 'cuda':
        torch.backends.cudnn.benchmark = True            # batches keep their size, so the search for kernels pays
        torch.set_float32_matmul_precision('high')       # TF32 for what is left in float32
        return _Graphed(run, (d_optimizer, g_optimizer))
    return run


def has_bfloat16(device):
    """Whether the device multiplies bfloat16 faster than float32."""
    if device.type == 'cuda':
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return platform.machine() == 'x86_64' and torch.cpu._is_avx512_bf16_supported()


class _BFloat16(torch.nn.Module):
    """A network whose convolutions and products run in bfloat16; what comes out is float32 again."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        with torch.autocast(x.device.type, torch.bfloat16, cache_enabled=False):     # a graph may not hold the cache
            return self.network(x).float()


class _Graphed:
    """A step replayed from CUDA graphs: one for each size of batch and each set of options."""

    WARM_UP = 3                                          # real training steps, run before the graph is recorded

    def __init__(self, step, optimizers):
        self.step, self.optimizers, self.broken, self.stream = step, optimizers, False, torch.cuda.Stream()
        self._forget()                                   # graphs run one after the other, so they can share their memory
        self.rates = [torch.zeros((), device=group['params'][0].device) for group in self._groups()]

    def _groups(self):
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def _addresses(self):
        """Where the optimizers keep what they remember: loading a state puts it elsewhere, which a graph does not notice."""
        return [value.data_ptr() for optimizer in self.optimizers for state in optimizer.state.values()
                for value in state.values() if torch.is_tensor(value)]

    def __call__(self, real, z, **options):
        name = real.shape, *options.items()
        if self.broken:
            return self.step(real, z, **options)
        if self.graphs and self._addresses() != self.addresses:
            self._forget()
        if name not in self.graphs and self.counts[name] < self.WARM_UP:
            self.counts[name] += 1
            return self._beside(real, z, **options)
        if name not in self.graphs:
            try:
                self.graphs[name] = self._record(real, z, options)
            except (RuntimeError, AssertionError) as error:
                self.broken = True
                print(f'No CUDA graph, hence the plain step: {(str(error) or repr(error)).splitlines()[0]}')
                return self.step(real, z, **options)
            self.addresses = self._addresses()
        for rate, group in zip(self.rates, self._groups()):
            rate.fill_(group['lr'])
        graph, graph_real, graph_z, figures = self.graphs[name]
        graph_real.copy_(real)
        graph_z.copy_(z)
        graph.replay()
        return figures.clone()

    def _forget(self):
        """Start again, warm-up included: nothing recorded so far may be used, nor the memory it had."""
        self.graphs, self.counts, self.memory = {}, collections.Counter(), torch.cuda.graph_pool_handle()

    def _beside(self, *arguments, **options):
        """One step on a stream of its own, as graphs ask of the steps before them."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            figures = self.step(*arguments, **options)
        torch.cuda.current_stream().wait_stream(self.stream)
        return figures

    def _record(self, real, z, options):
        graph, real, z = torch.cuda.CUDAGraph(), real.clone(), z.clone()
        before = [group['lr'] for group in self._groups()]
        for optimizer in self.optimizers:
            optimizer.zero_grad()                        # gradients are then made where the graph has its memory
        try:
            for rate, group in zip(self.rates, self._groups()):
                group.update(lr=rate, capturable=True)   # read from the device, so that the rate can change
            with torch.cuda.graph(graph, pool=self.memory, stream=self.stream):
                figures = self.step(real, z, **options)
        finally:
            for rate, group in zip(before, self._groups()):
                group.update(lr=rate, capturable=False)
        return graph, real, z, figures


def _shared(D, G, device, sync_batch_norm):
    """Both networks under DistributedDataParallel: each backward pass averages its gradients over the processes."""
    if sync_batch_norm and device.type != 'cuda':
        print('sync_batch_norm is for GPUs: here each process normalises by its own share of the batch')
    elif sync_batch_norm:
        G = torch.nn.SyncBatchNorm.convert_sync_batchnorm(G)     # not D: it cannot be differentiated twice, for the penalty
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)   # new versions have another word for broadcast_buffers
        return [DistributedDataParallel(network, broadcast_buffers=False) for network in (D, G)]     # rank 0 saves its own


def _step_on_share(step, rank, size, real, z, **options):
    """All processes have the same batch and noise; each computes every size-th of it. Figures are the mean of all."""
    figures = step(real[rank::size], z[rank::size], **options)
    torch.distributed.all_reduce(figures)
    return figures / size


class Feed:
    """A loader's batches, (B, 3, s, s) in [0, 1], made on the device: float32 is made there, from bytes.

    The images of an ImageDataset are put on the device as uint8 if they take less than half of its free memory; else each
    batch is cut out and pinned while the device still computes the one before it. The loader's own sampler, batch_size
    and drop_last hold. Any other loader is read as it is. Under torchrun all processes get the
    same batches, and a remainder that cannot be shared equally is left out.
    """

    def __init__(self, loader, device, memory_format=torch.channels_last):
        self.memory_format = memory_format
        self.loader, self.device, self.images = loader, torch.empty(0, device=device).device, None
        types = type(loader), type(loader.dataset), type(loader.batch_sampler)
        if types == (DataLoader, ImageDataset, BatchSampler) and loader.collate_fn is ImageDataset.collate:
            self.images = loader.dataset.images
            if device.type == 'cuda' and 2 * self.images.nbytes < torch.cuda.mem_get_info(device)[0]:
                self.images = self.images.to(device)

    def __iter__(self):
        size = world()[1]
        for images in self._decoded() if self.images is None else self._cut_out():
            n_images = len(images) // size * size
            if n_images:
                batch = images[:n_images].to(torch.float32, memory_format=self.memory_format)
                yield batch.div_(255) if images.dtype == torch.uint8 else batch

    def _decoded(self):
        for images, *_ in self.loader:
            yield images.to(self.device)

    def _cut_out(self):
        torch.empty((), dtype=torch.int64).random_(generator=self.loader.generator)      # as DataLoader does: for the same
        # seed its batches and these are the same
        order = shared(torch.as_tensor(list(self.loader.sampler))).to(self.images.device)
        for chosen in order.split(self.loader.batch_size)[:len(self.loader)]:    # its length knows of drop_last
            images = self.images[chosen]
            yield images if images.device == self.device else images.pin_memory().to(self.device, non_blocking=True)


# ------------------------------------------------------------------------------------------- several processes

_alone = False


def choose_device():
    """The device to train on: the GPU if there is one, else the CPU.

    Under torchrun, join the other processes (nccl on GPUs, gloo on CPUs), take a GPU of one's own, and let rank 0 alone
    print. Raises ValueError where there are more processes than GPUs.
    """
    cuda = torch.cuda.is_available()
    if int(os.environ.get('WORLD_SIZE', 1)) > 1 and not torch.distributed.is_initialized():
        if cuda:
            local = int(os.environ['LOCAL_RANK'])
            if local >= torch.cuda.device_count():
                raise ValueError(f'torchrun: found {os.environ["LOCAL_WORLD_SIZE"]} processes, expected at most one for each '
                                 f'of the {torch.cuda.device_count()} GPUs')
            torch.cuda.set_device(local)
        patience = datetime.timedelta(hours=4)           # rank 0 may have to fetch and decode the images first
        torch.distributed.init_process_group('nccl' if cuda else 'gloo', timeout=patience)
        atexit.register(torch.distributed.destroy_process_group)
        atexit.register(time.sleep, .5)                  # first: gloo's threads let go of tensors, for which they need Python
        if torch.distributed.get_rank():
            sys.stdout = open(os.devnull, 'w')
    return torch.device('cuda', torch.cuda.current_device()) if cuda else torch.device('cpu')


def world():
    """(rank, number of processes) of the training; (0, 1) without torchrun."""
    if _alone or not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


@contextlib.contextmanager
def alone():
    """Within it, each process of torchrun works for itself: for tests of the notebook's parts."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


@contextlib.contextmanager
def rank_0_first():
    """Within it, rank 0 works while the others wait; then they work."""
    rank, _ = world()
    if rank:
        shared(None)
    yield
    if not rank:
        shared(None)


def shared(value):
    """Rank 0's value, on every process."""
    values = [value]
    if world()[1] > 1:
        torch.distributed.broadcast_object_list(values)
    return values[0]


# --------------------------------------------------------------------------------------------------- pictures

D_COLOUR, G_COLOUR = 'tab:blue', 'tab:orange'


def to_array(images, columns=8):
    """Images (n, 3, s, s) in [-1, 1] as one uint8 picture (height, width, 3), columns of them side by side."""
    grid = make_grid(images.detach().float().cpu(), columns, padding=1, normalize=True, value_range=(-1, 1), pad_value=1)
    return (grid.permute(1, 2, 0) * 255).round().byte().numpy()


def show_grid(images, columns=8, title='', axes=None):
    """Draw images (n, 3, s, s) in [-1, 1] as a grid without axes."""
    picture = to_array(images, columns)
    if axes is None:
        _, axes = plt.subplots(figsize=(10, 10 * picture.shape[0] / picture.shape[1]), layout='constrained')
    axes.imshow(picture, interpolation='nearest')
    axes.set_title(title, fontsize=10, loc='left')
    axes.axis('off')


def show_epochs(samples, n_rows=6, n_faces=12):
    """Draw the same faces at n_rows epochs, evenly spaced in the logarithm: most is learnt at first."""
    epochs = np.unique(np.geomspace(1, len(samples), n_rows).round().astype(int))
    figure, rows = plt.subplots(len(epochs), squeeze=False, figsize=(10, 10 / n_faces * len(epochs)), layout='constrained')
    for epoch, axes in zip(epochs, rows[:, 0]):
        axes.imshow(to_array(samples[epoch - 1][:n_faces], n_faces), interpolation='nearest')
        axes.set(xticks=[], yticks=[], frame_on=False)
        axes.set_ylabel(f'epoch {epoch}', rotation=0, ha='right', va='center')


def show_beside(real, generated, columns=8):
    """Draw real and generated images, each (n, 3, s, s) in [-1, 1], beside each other."""
    _, (left, right) = plt.subplots(1, 2, figsize=(10, 5.3 * math.ceil(len(real) / columns) / columns), layout='constrained')
    show_grid(real, columns, 'real', left)
    show_grid(generated, columns, 'generated', right)


def film(samples, n_frames=18):
    """The fixed-noise grid over the epochs as an animated PNG: its bytes. A saved notebook shows it anywhere."""
    epochs = np.unique(np.linspace(0, len(samples) - 1, n_frames).round().astype(int))
    grids = [to_array(samples[epoch]) for epoch in epochs]
    strip = Image.fromarray(np.concatenate(grids)).quantize(256)             # frames of a PNG share their 256 colours
    frames = [strip.crop((0, i * len(grid), strip.width, (i + 1) * len(grid))) for i, grid in enumerate(grids)]
    file = io.BytesIO()
    times = [300] * (len(frames) - 1) + [2000]       # ms; the last epoch stays in view
    frames[0].save(file, 'png', save_all=True, append_images=frames[1:], duration=times, loop=0)
    return file.getvalue()


def plot_losses(history):
    """Plot what load_history() gives: every batch light, smoothed bold, and dashed the level of a D that can only guess."""
    epochs = np.arange(len(history['d_loss'])) / history['per_epoch'].mean()
    window = max(1, len(epochs) // 100)
    _, (losses, answers) = plt.subplots(1, 2, figsize=(10, 3.2), layout='constrained')
    for axes, name, label, colour in ((losses, 'd_loss', 'loss of D', D_COLOUR), (losses, 'g_loss', 'loss of G', G_COLOUR),
                                      (answers, 'd_real', 'D(x)', D_COLOUR), (answers, 'd_fake', 'D(G(z))', G_COLOUR)):
        smoothed = np.convolve(history[name], np.ones(window) / window, 'valid')
        axes.plot(epochs, history[name], color=colour, alpha=.2, linewidth=.5)
        axes.plot(epochs[window - 1:], smoothed, color=colour, label=label)
    losses.axhline(math.log(4), color=D_COLOUR, linestyle='--', linewidth=1, label='log 4: D guesses')
    losses.axhline(math.log(2), color=G_COLOUR, linestyle='--', linewidth=1, label='log 2: D guesses')
    both = np.concatenate([history['d_loss'], history['g_loss']])
    losses.set_ylim(0, 1.1 * np.quantile(both[np.isfinite(both)], .995))
    answers.axhline(.5, color='grey', linestyle='--', linewidth=1, label='1/2: D guesses')
    answers.set_ylim(0, 1)
    for axes in (losses, answers):
        axes.set_xlabel('epoch')
        axes.legend(fontsize=8, ncols=2)


def plot_distance(history, floor=None):
    """Plot the distance to real faces over the epochs, and dashed the floor: real faces against other real faces."""
    epochs, distances, _ = history['distances'].T
    _, axes = plt.subplots(figsize=(10, 3), layout='constrained')
    axes.plot(epochs, distances, 'o-', color=G_COLOUR, label='generated faces')
    best = distances.argmin()
    axes.annotate(f'best: {distances[best]:.2f}', (epochs[best], distances[best]), xytext=(0, 9), textcoords='offset points',
                  ha='right', fontsize=9)
    if floor:
        axes.axhline(floor, color='grey', linestyle='--', linewidth=1, label=f'floor, other real faces: {floor:.2f}')
    axes.set(yscale='log', xlabel='epoch', ylabel='Fréchet face distance')
    axes.legend(fontsize=8)


def plot_attributes(shares):
    """Plot the shares of attributes: shares is a dict from a label ('training faces', say) to {attribute: share}."""
    attributes = sorted(next(iter(shares.values())), key=lambda name: -next(iter(shares.values()))[name])
    _, axes = plt.subplots(figsize=(10, 3.6), layout='constrained')
    for number, (label, values) in enumerate(shares.items()):
        places = np.arange(len(attributes)) + .8 / len(shares) * (number - (len(shares) - 1) / 2)
        axes.bar(places, [100 * values[name] for name in attributes], .8 / len(shares), label=label)
    axes.set_xticks(range(len(attributes)), [name.replace('_', ' ') for name in attributes], rotation=90, fontsize=8)
    axes.set(ylabel='% of faces', xlim=(-.7, len(attributes) - .3))
    axes.legend(fontsize=8)
