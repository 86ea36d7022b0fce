"""Which images to train on: a folder, the small CelebA set, CelebA itself, SVHN, or drawn faces."""
import http.client
import itertools
import os
import queue
import shlex
import socket
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

import torch
from torch.utils.data import WeightedRandomSampler

from .batches import ImageDataset
from .console import check_choice, check_whole, progress_bar
from .devices import broadcast, rank_0_first, world
from .drawn import drawn_faces
from .images import ENDINGS, decode_folder, evenly, find_images, is_image

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
    archive = FACES_ZIP
    try:
        if not Path(archive).is_file():
            print(f'No {FACES_DIR} here: fetching {archive} (240 MB)')
            download(os.environ.get('DCGAN_URL', FACES_URL), archive)
        return unpack(archive, FACES_DIR)
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
        socket.setdefaulttimeout(PATIENCE)
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


# ----------------------------------------------------------------------- the small set from the net

FACES_ZIP = 'processed-celeba-small.zip'
FACES_URL = ('https://s3.amazonaws.com/video.udacity-data.com/topher/2018/November/'
             '5be7eb6f_processed-celeba-small/processed-celeba-small.zip')
FACES_COUNT = 89_931             # images in the small CelebA set
DOWNLOAD_LIMIT = 500_000_000     # bytes; the real archive has less than half of that
UNPACKED_LIMIT = 4 * 2 ** 30     # bytes; the real archive unpacks to 0.24 GB
PATIENCE = 5                     # seconds without a byte before a server counts as out of reach
SLOWEST = 20_000                 # bytes a second; at that rate, the set takes more than three hours


def download(url, path):
    """Fetch a zip archive from url to path with a progress bar.

    What an earlier try left in path + '.part' is continued.
    Raises OSError where the server is out of reach or too slow, where the download breaks off or
    would take more than DOWNLOAD_LIMIT bytes, and where something arrives that is no zip archive.
    """
    part = Path(f'{path}.part')
    if part.is_symlink():
        part.unlink()            # whatever it leads to is not ours to write to
    have = part.stat().st_size if part.exists() else 0
    try:
        total = _fetch(url, part, have)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # 416: nothing comes after our part. It is whole, or a part of another file.
        total = have
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f'{url}: {error!r}') from error
    received = part.stat().st_size
    if received < total:
        raise OSError(f'the download broke off after {received:,} of {total:,} bytes; '
                      f'run again to go on')
    if not _is_whole_zip(part):
        part.unlink()
        raise OSError(f'{url} sent no zip archive, or a damaged one')
    os.replace(part, path)


def _fetch(url, part, have):
    """Append to part what comes after the bytes we have; return how many there should be."""
    started = time.time()
    headers = {'Range': f'bytes={have}-'} if have else {}
    with _open(urllib.request.Request(url, headers=headers)) as reply:
        if reply.status != 206:
            have = 0             # this server cannot go on: it starts again at the first byte
        total = have + _length(reply)
        if total > DOWNLOAD_LIMIT:
            raise OSError(f'{url} sends {total:,} bytes, and {DOWNLOAD_LIMIT:,} are allowed')
        bar = progress_bar(total, 'B', initial=have, unit_scale=True)
        with open(part, 'ab' if have else 'wb') as file, bar:
            while chunk := reply.read1(2 ** 20):
                bar.update(file.write(chunk))
                seconds = time.time() - started
                received = file.tell() - have
                if seconds > PATIENCE and received / seconds < SLOWEST:
                    raise OSError(f'{url} sends less than {SLOWEST:,} bytes a second; '
                                  f'run again to go on')
    return total


def _length(reply):
    """Return how many bytes a reply announces; raise OSError where that is not said.

    A reply without a length may never end. So may one in chunks, each of which has a line of text
    for its length.
    """
    length = int(reply.headers.get('Content-Length', -1))
    if length < 0 or 'Transfer-Encoding' in reply.headers:
        raise OSError(f'{reply.url} does not say how long it is')
    return length


class _RedirectHandler(urllib.request.HTTPRedirectHandler):
    """Follows a redirection without reading the page that comes with it, which may never end."""

    def redirect_request(self, request, reply, *rest):
        reply.close()
        return super().redirect_request(request, reply, *rest)


def _open(request):
    """Open an address, and give up in time.

    The timeout alone is not enough: it does not cover the look-up of a name, and it starts anew for
    each address of a server and each byte of a header. A thread asks, and the end of Python does
    not wait for that thread, as it would for those of a pool.
    """
    answers = queue.SimpleQueue()

    def ask():
        try:
            opener = urllib.request.build_opener(_RedirectHandler)
            answers.put(opener.open(request, timeout=PATIENCE))
        except Exception as error:           # whatever it is, it is raised below
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=2 * PATIENCE)
    except queue.Empty:
        raise OSError(f'{request.host} did not answer in {2 * PATIENCE} s') from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _is_whole_zip(path):
    """Say whether path is a zip archive in which every checksum is right."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:            # a hostile or damaged archive can raise anything
        return False


def unpack(archive, folder):
    """Unpack the images of a zip archive into folder, all of them or none; return the folder.

    Nothing but images is written, and nothing outside folder.
    Raises OSError where the archive is damaged or encrypted, would take more than UNPACKED_LIMIT
    bytes, holds no images, or has names that lead outside folder.
    """
    folder = Path(folder)
    started = time.time()
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _safe_members(opened)
            bar = progress_bar(members, ' files', desc=f'Unpacking {archive}')
            _extract(opened, bar, folder)
    except OSError:              # a full disk, for example: the archive is not to blame
        raise
    except Exception as error:   # a hostile or damaged archive can raise anything
        raise OSError(f'{archive} cannot be unpacked: {error}. Delete it and run again to fetch it '
                      f'anew.') from error
    print(f'Unpacked {len(members):,} images in {time.time() - started:.0f} s')
    if len(members) != FACES_COUNT:
        print(f'Note: the small CelebA set has {FACES_COUNT:,} images, '
              f'this archive {len(members):,}')
    return folder


def _safe_members(opened):
    """Return the images of an open archive; raise BadZipFile if it is not safe to unpack them."""
    expected = 'expected are images inside one folder'
    for name in opened.namelist():
        if '..' in Path(name).parts or Path(name).is_absolute():
            raise zipfile.BadZipFile(f'it holds the name {name!r}; {expected}')
    members = [member for member in opened.infolist() if is_image(Path(member.filename))]
    size = sum(member.file_size for member in members)
    if not members or size > UNPACKED_LIMIT:
        found = f'{len(members):,} images of {size:,} bytes'
        raise zipfile.BadZipFile(f'it holds {found}; {expected}')
    return members


def _extract(opened, members, folder):
    """Extract members beside folder first, and move them into its place once all are there."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix='.unpack') as new:
        for member in members:
            opened.extract(member, new)
        inner = Path(new) / folder.name
        os.replace(inner if inner.is_dir() else new, folder)
        folder.chmod(0o755)                  # a temporary folder can be read by its owner alone
        os.makedirs(new, exist_ok=True)      # TemporaryDirectory wants something to remove


# ------------------------------------------------------------------------------ CelebA's attributes

ATTRIBUTES = 'list_attr_celeba.txt'


def read_attributes(path):
    """Read CelebA's list_attr_celeba.txt; return (names, labels).

    names   the names of the attributes, 40 in CelebA's own list
    labels  a dict from the name of an image file to a bool tensor (40,)
    Raises FileNotFoundError where there is no such file, ValueError where it has another format.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{str(path)!r} does not exist: expected CelebA's {ATTRIBUTES}, "
                                f'the 40 attributes of each image. Put it beside the folder of '
                                f'images, or name it in DCGAN_ATTRIBUTES.')
    names = ()
    labels = {}
    try:
        _, header, *rows = Path(path).read_text(encoding='utf-8').splitlines()
        names = header.split()
        for row in rows:
            file, *values = row.split()
            if len(values) != len(names):
                raise ValueError
            labels[file] = torch.tensor([value == '1' for value in values])
        if not labels:
            raise ValueError
    except ValueError:
        raise ValueError(f'{str(path)!r}: expected a number, a line of names, then on each line a '
                         f'file and {len(names)} times 1 or -1') from None
    return names, labels


def load_attributes(dataset):
    """Return the attributes of the images of an ImageDataset: (names, bool tensor (N, 40)).

    They are read from CelebA's list_attr_celeba.txt: the one that DCGAN_ATTRIBUTES names, else one
    in the folder of the images, beside it, in the current folder, or in celeba/.
    Raises FileNotFoundError where there is none, ValueError where the images are not CelebA's.
    """
    if dataset.folder is None:
        raise ValueError('attributes: only the faces of CelebA have them, and these are others')
    names, labels = read_attributes(_find_list(dataset.folder))
    listed = [os.path.basename(file) for file in dataset.files]
    unknown = [file for file in listed if file not in labels]
    if unknown:
        raise ValueError(f'{ATTRIBUTES} has no line for {len(unknown):,} of the {len(listed):,} '
                         f'images, {unknown[0]} first')
    return names, torch.stack([labels[file] for file in listed])


def _find_list(folder):
    """Return where the list is, or where it is missed most."""
    if 'DCGAN_ATTRIBUTES' in os.environ:
        return Path(os.environ['DCGAN_ATTRIBUTES'])
    here = Path(ATTRIBUTES)
    beside = folder.resolve().parent / ATTRIBUTES
    for path in (folder / ATTRIBUTES, beside, here, Path('celeba') / ATTRIBUTES):
        if path.is_file():
            return path
    return here


def balancing_sampler(dataset, balance, n_samples=None):
    """Make a sampler that draws all combinations of the attributes named in balance equally often.

    dataset    an ImageDataset of CelebA's faces
    balance    names of attributes, such as ('Male', 'Young'), or a single one
    n_samples  how many images it draws; None: as many as there are
    Raises ValueError for an unknown attribute, and whatever load_attributes raises.
    """
    names, labels = load_attributes(dataset)
    if isinstance(balance, str):
        balance = [balance]
    for attribute in balance:
        check_choice(names, balance=attribute)
    chosen = labels[:, [names.index(attribute) for attribute in balance]]
    _, group, sizes = chosen.unique(dim=0, return_inverse=True, return_counts=True)
    print(f'Balanced over {", ".join(balance)}: '
          f'{len(sizes)} groups of {sizes.min():,} to {sizes.max():,} images')
    weights = (1 / sizes.double())[group]
    return WeightedRandomSampler(weights, n_samples or len(dataset))
