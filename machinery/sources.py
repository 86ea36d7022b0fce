"""Which data set it is: a folder, the small CelebA set, CelebA itself, SVHN, or drawn faces."""
import itertools
import os
import shlex
import socket
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

import torch

from . import download
from .batches import ImageDataset
from .console import check_choice, check_whole
from .devices import broadcast, rank_0_first, world
from .download import FACES_COUNT
from .drawn import drawn_faces
from .images import ENDINGS, decode_folder, evenly, find_images

FACES_DIR = 'processed_celeba_small/'
NO_FOLDERS = 'svhn', 'drawn'         # what DCGAN_DATA may name instead of a folder
FACES_OUTER = 32_600         # images in celeba/ of the small set, without the folder inside it
CELEBA_DIRS = ('img_align_celeba', 'celeba/img_align_celeba',
               'data/celeba/img_align_celeba')       # the last one is where torchvision puts it
DRAWN_COUNT = 18_000


def load_dataset(data_dir=FACES_DIR, image_size=32, dataset='faces', max_images=None, seed=0):
    """Find the data set, or draw one; return an ImageDataset.

    data_dir    folder of the faces; ~ and file:// are understood
    image_size  pixels a side
    dataset     'faces': those in data_dir. If that is left at its default: what DCGAN_DATA names
                (a folder, 'svhn' or 'drawn'), else the small CelebA set or CelebA itself on disk,
                else the download of the small set, else drawn faces.
                'svhn': the street-view house numbers. 'drawn': faces drawn by code from seed
    max_images  at most that many, evenly spaced; None: all
    Under torchrun rank 0 finds the images first, and the others read its cache.
    Raises FileNotFoundError for a folder that does not exist, ValueError for one without images and
    for wrong arguments, OSError where SVHN can neither be found nor fetched.
    """
    check_whole(image_size=image_size)
    if max_images is not None:
        check_whole(max_images=max_images)
    check_choice(('faces', 'svhn', 'drawn'), dataset=dataset)
    with rank_0_first():
        found = _find_dataset(data_dir, image_size, dataset, max_images, seed)
    if found.source != broadcast(found.source):
        rank, _ = world()
        raise ValueError(f'Rank {rank} found other images than rank 0: {found.source}')
    return found


def load_images(data_dir=FACES_DIR, image_size=32, dataset='faces', max_images=None, seed=0):
    """Find the data set as load_dataset does; return (images, labels, source), as older code asks.

    images  uint8 (N, 3, image_size, image_size)
    labels  int64 (N,): SVHN's digits, 0 for faces
    source  where the images come from, in words
    """
    found = load_dataset(data_dir, image_size, dataset, max_images, seed)
    return found.images, found.labels, found.source


def _find_dataset(data_dir, image_size, dataset, max_images, seed):
    dataset, data_dir = _heed_environment(dataset, data_dir)
    folder = find_faces(data_dir) if dataset == 'faces' else None
    labels = None
    files = ()
    if folder:
        images, files = decode_folder(folder, image_size, max_images)
        origin = f'{folder.absolute().name}/'
        if len(images) == FACES_OUTER:
            print(f'Note: {FACES_OUTER:,} is what celeba/ of the small set holds without the '
                  f'folder inside it. With that, it is {FACES_COUNT:,}.')
    elif dataset == 'svhn':
        images, labels = load_svhn(image_size, max_images)
        origin = 'SVHN, the street-view house numbers'
    else:
        images = drawn_faces(max_images or DRAWN_COUNT, image_size, seed)
        origin = f'drawn by code, seed {seed}: these are NOT photographs'
    source = f'{len(images):,} images of {image_size}x{image_size}, {origin}'
    print(source)
    # The mirror image of a digit is no digit.
    return ImageDataset(images, labels, source, files, folder, may_be_mirrored=dataset != 'svhn')


def _heed_environment(dataset, data_dir):
    """Let DCGAN_DATA take the place of the default folder; return (dataset, data_dir).

    SVHN and drawn faces may be written in any letters. A folder of that name is ./svhn.
    """
    chosen = os.environ.get('DCGAN_DATA', '')
    word = chosen.strip().lower()
    is_default = dataset == 'faces' and Path(data_dir) == Path(FACES_DIR)
    if not word or not is_default:
        return dataset, data_dir
    if word in NO_FOLDERS:
        return word, None
    return 'faces', chosen


def count_images(name, most):
    """Return how many images the folder of a name holds, or `most` where there are more.

    Where the name is that of no folder, it is 0, and for 'svhn' and 'drawn'.
    """
    word = name.strip().lower()
    folder = _path_meant(name)
    if not word or word in NO_FOLDERS or not folder.is_dir():
        return 0
    return sum(1 for _ in itertools.islice(find_images(folder), most))


def find_faces(data_dir=FACES_DIR):
    """Return the folder of faces; unpack or download it if need be.

    Returns None where the default folder is asked for and no photographs can be had within seconds.
    Raises FileNotFoundError for any other folder that does not exist.
    """
    meant = _path_meant(data_dir)
    if meant.is_dir():
        return meant
    if Path(data_dir) != Path(FACES_DIR):
        raise FileNotFoundError(f'data_dir: {str(data_dir)!r} {_what_is_wrong(data_dir, meant)} '
                                f'Correct data_dir or DCGAN_DATA.')
    for folder in map(Path, CELEBA_DIRS):            # better than a download of 240 MB
        if folder.is_dir():
            print(f'Found CelebA itself in {folder}/')
            return folder
    archive = download.FACES_ZIP
    try:
        if not Path(archive).is_file():
            print(f'No {FACES_DIR} here: fetching {archive} (240 MB)')
            download.download(os.environ.get('DCGAN_URL', download.FACES_URL), archive)
        return download.unpack(archive, FACES_DIR)
    except OSError as error:
        print(f'No photographs to be had: {error}\n'
              f'*** Training on DRAWN faces instead. For real ones put {archive} here, '
              f'or set DCGAN_DATA. ***')
        return None


def _path_meant(name):
    """Return the path that a name stands for, with ~ and file:// resolved unless it exists."""
    if Path(name).exists():
        return Path(name)
    name = str(name).strip()
    address = urllib.parse.urlsplit(name)
    if address.scheme == 'file' and address.netloc in ('', 'localhost'):
        return Path(urllib.request.url2pathname(address.path))
    return Path(os.path.expanduser(name))


def _what_is_wrong(name, path):
    """Say why a name, which stands for path, is no folder of images."""
    if '://' in str(name) and ':/' in str(path):     # a file:// of this machine is a path by now
        return ('is an address, and a folder on this machine was expected. DCGAN_URL can name the '
                'address of a zip archive.')
    if zipfile.is_zipfile(path):
        command = f'python -m zipfile -e {shlex.quote(str(path))} {shlex.quote(path.stem)}'
        return f'is an archive. Unpack it ({command}) and name the folder {path.stem}.'
    what = 'is a file' if path.exists() else 'does not exist'
    endings = ', '.join(ENDINGS)
    seen_from = '' if path.is_absolute() else f' (from {Path.cwd().name}/)'
    return f'{what}, a folder of {endings} images was expected{seen_from}.'


def load_svhn(image_size, max_images=None):
    """Load SVHN's 73,257 training digits from data/, or fetch them there; return (images, labels).

    images  uint8 (N, 3, image_size, image_size)
    labels  int64 (N,): the digits
    Raises OSError where they can neither be found nor fetched.
    """
    # Imported here: torchvision asks for scipy for this data set alone.
    from torchvision.datasets import SVHN
    from torchvision.transforms.v2.functional import resize
    before = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(download.PATIENCE)
        digits = SVHN('data', split='train', download=True)
    except (OSError, RuntimeError) as error:
        raise OSError(f'SVHN is neither in data/ nor to be fetched ({error}). Put its '
                      f'train_32x32.mat into data/, or choose another dataset: DCGAN_DATA=drawn, '
                      f'or a folder of images.') from error
    finally:
        socket.setdefaulttimeout(before)
    chosen = evenly(range(len(digits)), max_images)
    images = torch.tensor(digits.data[chosen])
    if image_size != 32:
        size = [image_size, image_size]
        images = torch.cat([resize(part, size, antialias=True) for part in images.split(4096)])
    return images, torch.tensor(digits.labels[chosen])
