"""Which images to train on: a folder, the small CelebA set, CelebA itself, SVHN, or drawn faces."""
import copy
import itertools
import os
import tempfile
import urllib.parse
import urllib.request
import zipfile
from collections import Counter
from pathlib import Path

import requests
import torch
from torch.utils.data import WeightedRandomSampler

from .batches import ImageDataset
from .console import check_choice, check_whole, progress_bar, setting
from .devices import rank_0_first
from .drawn import drawn_faces
from .images import (
    decode_folder,
    evenly,
    find_images,
    hashes_of,
    is_image,
    passed_over_as,
    say_passed_over,
    shown,
)

FACES_DIR = 'processed_celeba_small/'
FACES_ZIP = 'processed-celeba-small.zip'
FACES_URL = ('https://s3.amazonaws.com/video.udacity-data.com/topher/2018/November/'
             '5be7eb6f_processed-celeba-small/processed-celeba-small.zip')
FACES_COUNT = 89_931                 # images in the small CelebA set
FACES_BYTES = 241_765_423            # in all of them
FACES_OUTER = 32_600                 # those in its celeba/, without the folder inside that
CELEBA_DIRS = ('img_align_celeba', 'celeba/img_align_celeba',
               'data/celeba/img_align_celeba')       # the last one is where torchvision puts it
KAGGLE = '/kaggle/input'             # SET/ lies there, or datasets/OWNER/SET/
DRAWN_COUNT = 18_000
CHUNK = 2 ** 16              # bytes that are written at once; a break loses no more
PARTIAL, NOTHING_AFTER_IT = 206, 416        # answers to the question for the rest of a file
DOWNLOAD_LIMIT = 500_000_000         # bytes; the real archive has less than half of that
UNPACKED_LIMIT = 4 * 2 ** 30         # bytes; the real archive unpacks to 0.24 GB
PATIENCE = 5                         # seconds without a byte before a server is out of reach
ATTRIBUTES = 'list_attr_celeba.txt', 'list_attr_celeba.csv'           # CelebA's own, and Kaggle's
IDENTITIES = 'identity_CelebA.txt', 'identity_CelebA.csv'


def load_dataset(data_dir=FACES_DIR, image_size=32, dataset='faces', max_images=None, hold_out=0):
    """Find the data set, or draw one; return an ImageDataset.

    data_dir    folder of the faces; ~ and file:// are understood
    image_size  pixels a side
    dataset     'faces': those in data_dir. If that is left at its default: what DCGAN_DATA names
                (a folder, 'svhn' or 'drawn'), else the small CelebA set or CelebA itself on disk
                or among Kaggle's inputs, else the download of the small set, else drawn faces.
                'svhn': the street-view house numbers. 'drawn': faces drawn by code
    max_images  at most that many, evenly spaced; None: all
    hold_out    the share of them that is held out; or a folder, whose images are held out instead
    Under torchrun rank 0 finds the images first, and the others read its cache.
    Raises FileNotFoundError for a folder that does not exist, ValueError for one without images and
    for wrong arguments, OSError where SVHN can neither be found nor fetched.
    """
    check_whole(image_size=image_size)
    if max_images is not None:
        check_whole(max_images=max_images)
    check_choice(DATA_SETS, dataset=dataset)
    if dataset == 'faces' and Path(data_dir) == Path(FACES_DIR):
        chosen = setting('DCGAN_DATA')
        word = chosen.strip().lower()
        dataset = word if word in NAMED_SETS else dataset
        data_dir = chosen if word else data_dir
    if isinstance(hold_out, (str, Path)):
        hold_out = folder_of_judges(hold_out)            # told before the images are decoded
    with rank_0_first():
        found = DATA_SETS[dataset](image_size, max_images, data_dir)
        print(found.source)
        return with_held_out(found, hold_out)


def _faces(image_size, max_images, data_dir):
    folder = find_faces(data_dir)
    if folder is None:
        return _drawn(image_size, max_images)
    _say_if_cut(folder, max_images or FACES_COUNT)
    images, paths = decode_folder(folder, image_size, max_images)
    source = f'{_counted(images)}, {shown(folder.absolute().name)}/'
    people = load_people(folder, paths)
    is_celeba = people is not None or 'celeba' in folder.absolute().name.lower()
    kind = 'celeba' if is_celeba else 'own'          # decides the licence on an exported card
    return ImageDataset(images, source=source, files=paths, folder=folder, people=people, kind=kind)


def _say_if_cut(folder, n_wanted):
    """Say so where the small set is not whole, and that is missed: fewer images, or fewer bytes."""
    if not (folder / 'celeba').is_dir():
        return
    files = list(find_images(folder))
    count, size = len(files), sum(size for _, size, _ in files)
    is_small_set = any(os.path.dirname(name) == 'celeba' for name, _, _ in files)
    missed = count < n_wanted or count in (FACES_OUTER, FACES_COUNT)
    if is_small_set and missed and (count, size) != (FACES_COUNT, FACES_BYTES):
        inner = ' The folder inside celeba/ is missing.' if count == FACES_OUTER else ''
        print(f'Note: {folder}/ has {count:,} images of {size:,} bytes in all, the whole small '
              f'CelebA set {FACES_COUNT:,} of {FACES_BYTES:,}.{inner}')


def _svhn(image_size, max_images, *_):
    images, labels = load_svhn(image_size, max_images)
    source = f'{_counted(images)}, SVHN, the street-view house numbers'
    # The mirror image of a digit is no digit.
    return ImageDataset(images, labels, source, may_be_mirrored=False, kind='svhn')


def _drawn(image_size, max_images, *_):
    images = drawn_faces(max_images or DRAWN_COUNT, image_size)
    source = f'{_counted(images)}, drawn by code: these are NOT photographs'
    return ImageDataset(images, source=source, kind='drawn')


def _counted(images):
    return f'{len(images):,} images of {images.shape[3]}x{images.shape[2]}'


# name: a function of (image_size, max_images, data_dir). DCGAN_DATA may name all but faces.
DATA_SETS = {'faces': _faces, 'svhn': _svhn, 'drawn': _drawn}
NAMED_SETS = set(DATA_SETS) - {'faces'}


def count_images(name, most):
    """Return how many images the folder of a name holds, or `most` where there are more.

    It is 0 for 'svhn', 'drawn', and what is no folder.
    """
    folder = _path_meant(name)
    if name.strip().lower() in ('', *NAMED_SETS) or not os.path.isdir(folder):
        return 0
    return sum(1 for _ in itertools.islice(find_images(folder), most))


def find_faces(data_dir=FACES_DIR):
    """Return the folder of faces; unpack or download it if need be.

    Returns None where the default folder is asked for and no photographs can be had within seconds.
    Raises FileNotFoundError for any other folder that does not exist, PermissionError for one that
    cannot be reached.
    """
    meant = _path_meant(data_dir)
    if os.path.isdir(meant):
        return _with_images(meant)
    if Path(data_dir) != Path(FACES_DIR):
        error, what = _what_is_wrong(data_dir, meant)
        raise error(f'data_dir: {str(data_dir)!r} {what} Correct data_dir or DCGAN_DATA.')
    for folder in (*map(Path, CELEBA_DIRS), *_on_kaggle()):      # better than to download 240 MB
        if folder.is_dir():
            print(f'Found faces in {folder}/')
            return folder
    try:
        if not Path(FACES_ZIP).is_file():
            print(f'No {FACES_DIR} here: fetching {FACES_ZIP} (240 MB)')
            download(setting('DCGAN_URL', FACES_URL), FACES_ZIP)
        return unpack(FACES_ZIP, FACES_DIR)
    except OSError as error:
        print(f'No photographs to be had: {error}\n'
              f'*** Training on DRAWN faces instead. For real ones put {FACES_ZIP} here, '
              f'or set DCGAN_DATA. ***')
        return None


def folder_of_judges(name):
    """Return the folder of this name, whose images are to judge a training.

    Raises FileNotFoundError where there is none, PermissionError where it cannot be reached.
    """
    folder = _path_meant(name)
    if not os.path.isdir(folder):
        error, what = _what_is_wrong(name, folder)
        raise error(f'hold_out: {str(name)!r} {what} A share from 0 to 0.5 does as well.')
    return folder


def with_held_out(dataset, hold_out):
    """Return a data set with a share of its images held out, or those of a folder in their place.
    """
    if isinstance(hold_out, (str, Path)):
        return judged_by(dataset, folder_of_judges(hold_out))
    return dataset.hold_out(hold_out)


def judged_by(dataset, folder):
    """Return a data set of the same images, for which those of another folder are held out.

    They are at most 5,000, evenly spaced. Where it is known who is on them, people of even numbers
    choose the best epoch, and those of odd ones judge it.
    Raises ValueError for a folder with fewer than 20 images.
    """
    images, files = decode_folder(folder, dataset.images.shape[-1], dataset.MOST_HELD_OUT)
    name = f'{shown(folder.absolute().name)}/'
    if len(images) < dataset.FEWEST_HELD_OUT:
        raise ValueError(f'hold_out: found {len(images)} images in {name}, too few to judge by: '
                         f'expected {dataset.FEWEST_HELD_OUT} or more')
    people = load_people(folder, files)
    judged = copy.copy(dataset)
    judged.held_out = judged.judges = images
    said = f'Held out: {len(images):,} images of {name}; all of those above are learnt from.'
    if people is not None:
        is_even = people % 2 == 0
        choosing, judging = images[is_even], images[~is_even]
        if min(len(choosing), len(judging)) >= dataset.FEWEST_HELD_OUT:
            judged.held_out, judged.judges = choosing, judging
            said += (f' {len(choosing):,} (people of even numbers) choose the best epoch, '
                     f'{len(judging):,} (odd ones) judge it.')
    print(said)
    _say_who_is_in_both(dataset, images, people)
    return judged


def _say_who_is_in_both(dataset, images, people):
    """Count the people, or where they are not known the images, that are trained on as well."""
    if people is None or dataset.people is None:
        what, n_both = 'images', len(hashes_of(images) & hashes_of(dataset.images))
    else:
        what, n_both = 'people', torch.isin(people.unique(), dataset.people).sum()
    if n_both:
        print(f'Of those held out, {n_both:,} {what} are among those to learn from, too. They are '
              f'kept.')


def _on_kaggle():
    """Yield the folders of CelebA and of the small set among the inputs of a Kaggle notebook."""
    for place in ('*', '*/*', '*/*/*'):
        for name in (Path(FACES_DIR).name, 'img_align_celeba'):
            yield from sorted(Path(KAGGLE).glob(f'{place}/{name}'))


def _with_images(folder):
    """Return a folder; where it holds parquet files alone, that to which their images are unpacked.

    So Hugging Face keeps images. Raises ValueError where they cannot be read.
    """
    if next(find_images(folder), None):
        return folder
    tables = sorted(folder.rglob('*.parquet'))
    unpacked = Path(f'{folder.resolve().name}_images')
    if not tables or unpacked.is_dir():
        return unpacked if tables else folder
    try:
        from pyarrow import parquet
    except ImportError:
        raise ValueError(f'{str(folder)!r} holds parquet files, as Hugging Face keeps images. To '
                         f'read them, run "pip install pyarrow".') from None
    print(f'Unpacking {len(tables):,} parquet files to {unpacked}/')
    with tempfile.TemporaryDirectory(dir='.', prefix='.unpack') as new:
        for table in progress_bar(tables, ' files', desc='Unpacking'):
            try:
                _unpack_table(parquet.ParquetFile(table), Path(new, 'images', table.stem))
            except Exception as error:               # a damaged file can raise anything
                raise ValueError(f'{str(table)!r} cannot be read: {error!s:.200}. Without git-lfs, '
                                 f'git clone fetches no data.') from error
        os.replace(Path(new, 'images'), unpacked)
    return unpacked


def _unpack_table(table, folder):
    """Write the images of an open parquet file into a folder."""
    folder.mkdir(parents=True)
    rows = (row for batch in table.iter_batches(100) for row in batch.to_pylist())
    for number, row in enumerate(rows):
        image = next((value for value in row.values() if isinstance(value, dict)), {})
        if not image.get('bytes'):
            raise ValueError('it has no column of images')
        name = os.path.basename(image.get('path') or '')
        if not is_image(Path(name)) or (folder / name).exists():
            name = f'row-{number:06d}.jpg'           # whatever it is: its bytes tell
        (folder / name).write_bytes(image['bytes'])


def _path_meant(name):
    """Return the path that a name stands for, with ~ and file:// resolved unless it exists."""
    if os.path.exists(name):
        return Path(name)
    name = str(name).strip()
    address = urllib.parse.urlsplit(name)
    if address.scheme == 'file' and address.netloc in ('', 'localhost'):
        return Path(urllib.request.url2pathname(address.path))
    return Path(os.path.expanduser(name))


def _what_is_wrong(name, path):
    """Say why a name, which stands for path, is no folder of images: (an error, words)."""
    if '://' in str(name) and ':/' in str(path):     # a file:// of this machine is a path by now
        return FileNotFoundError, ('is an address, and a folder on this machine was expected. '
                                   'DCGAN_URL can name the address of a zip archive.')
    if zipfile.is_zipfile(path):
        command = f'python -m zipfile -e "{path}" "{path.stem}"'
        return FileNotFoundError, (f'is an archive. Unpack it ({command}) and name the folder '
                                   f'{path.stem}.')
    seen_from = '' if path.is_absolute() else f' (from {Path.cwd().name}/)'
    error, what = FileNotFoundError, 'is a file'
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        what = 'does not exist'
    except OSError as fault:
        error, what = type(fault), f'cannot be reached: {fault.strerror}'
    return error, f'{what}, a folder of images was expected{seen_from}.'


def load_svhn(image_size, max_images=None):
    """Load SVHN's 73,257 training digits from data/, or fetch them there; return (images, labels).

    images  uint8 (N, 3, image_size, image_size)
    labels  int64 (N,): the digits
    Raises OSError where they can neither be found nor fetched.
    """
    # Imported here: torchvision asks for scipy for this data set alone.
    from torchvision.datasets import SVHN
    from torchvision.transforms.v2.functional import resize
    try:
        digits = SVHN('data', split='train', download=True)
    except (OSError, RuntimeError) as error:
        raise OSError(f'SVHN is neither in data/ nor to be fetched ({error}). Put its '
                      f'train_32x32.mat into data/, or choose another dataset: DCGAN_DATA=drawn, '
                      f'or a folder of images.') from error
    chosen = evenly(range(len(digits)), max_images)
    images = torch.tensor(digits.data[chosen])
    if image_size != 32:
        size = [image_size, image_size]
        images = torch.cat([resize(part, size, antialias=True) for part in images.split(4096)])
    return images, torch.tensor(digits.labels[chosen])


# ----------------------------------------------------------------------------- the small CelebA set


def download(url, path):
    """Fetch a zip archive from url to path, with a progress bar.

    What an earlier try left in path + '.part' is continued, if the server can.
    Raises OSError where the server is out of reach, where the download breaks off or has more than
    DOWNLOAD_LIMIT bytes, and where something arrives that is no zip archive.
    """
    part = Path(f'{path}.part')
    if part.is_symlink():
        part.unlink()            # whatever it leads to is not ours to write to
    have = part.stat().st_size if part.exists() else 0
    headers = {'Range': f'bytes={have}-'} if have else {}
    with requests.get(url, headers=headers, stream=True, timeout=PATIENCE) as reply:
        if reply.status_code != NOTHING_AFTER_IT:
            reply.raise_for_status()
            _receive(reply, part, have if reply.status_code == PARTIAL else 0)
    if not _is_whole_zip(part):
        part.unlink()
        raise OSError(f'{url} sent no zip archive, or a damaged one')
    os.replace(part, path)


def _receive(reply, part, have):
    """Write what a server sends behind the first bytes of a file, which we have."""
    left = reply.raw.length_remaining or 0
    with (open(part, 'ab' if have else 'wb') as file,
          progress_bar(have + left, 'B', initial=have, unit_scale=True) as bar):
        for chunk in reply.iter_content(CHUNK):
            bar.update(file.write(chunk))
            if file.tell() > DOWNLOAD_LIMIT:
                raise OSError(f'{reply.url} sends more than {DOWNLOAD_LIMIT:,} bytes')


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
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _safe_members(opened)
            _extract(opened, members, folder)
    except OSError:              # a full disk, for example: the archive is not to blame
        raise
    except Exception as error:   # a hostile or damaged archive can raise anything
        raise OSError(f'{archive} cannot be unpacked: {error}. Delete it and run again to fetch it '
                      f'anew.') from error
    print(f'Unpacked {len(members):,} images')
    return folder


def _safe_members(opened):
    """Return the images of an open archive; raise BadZipFile if it is not safe to unpack them."""
    expected = 'expected are images inside one folder'
    for name in opened.namelist():
        if '..' in Path(name).parts or Path(name).is_absolute():
            raise zipfile.BadZipFile(f'it holds the name {name!r}; {expected}')
    members, passed_over = [], Counter()
    for member in opened.infolist():
        path = Path(member.filename)
        if is_image(path):
            members.append(member)
        elif not member.is_dir():
            passed_over[passed_over_as(path)] += 1
    say_passed_over(passed_over)
    size = sum(member.file_size for member in members)
    if not members or size > UNPACKED_LIMIT:
        found = f'{len(members):,} images of {size:,} bytes'
        raise zipfile.BadZipFile(f'it holds {found}; {expected}')
    return members


def _extract(opened, members, folder):
    """Extract members beside folder first, and move them into its place once all are there."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix='.unpack') as new:
        unpacked = Path(new, 'images')
        for member in progress_bar(members, ' files', desc=f'Unpacking {opened.filename}'):
            opened.extract(member, unpacked)
        inner = unpacked / folder.name
        os.replace(inner if inner.is_dir() else unpacked, folder)


# ------------------------------------------------------------------ CelebA's attributes and people


def read_attributes(path):
    """Read CelebA's list_attr_celeba.txt, or Kaggle's list_attr_celeba.csv; return (names, labels).

    names   the names of the attributes, 40 in CelebA's own list
    labels  a dict from the name of an image file to a bool tensor (40,)
    Raises FileNotFoundError where there is no such file, ValueError where it has another format.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{str(path)!r} does not exist: expected CelebA's "
                                f"{' or '.join(ATTRIBUTES)}, the 40 attributes of each image. Put "
                                f'it beside the folder of images, or name it in DCGAN_ATTRIBUTES.')
    rows = _rows(path)
    names = next(rows, [])
    if len(names) == 1 and names[0].isdecimal():     # CelebA's own begins with a count
        names = next(rows, [])
    else:
        names = names[1:]                            # a column of file names
    meaning = {'1': True, '-1': False, '0': False}
    other_format = ValueError(f'{str(path)!r}: expected a number, a line of names, then on each '
                              f'line a file and {len(names)} times 1 or -1; or the same as csv')
    labels = {}
    for file, *values in rows:
        if len(values) != len(names) or not meaning.keys() >= set(values):
            raise other_format
        labels[file] = torch.tensor([meaning[value] for value in values])
    if not names or not labels:
        raise other_format
    return names, labels


def _rows(path):
    """Yield the rows of a list: words between blanks, as CelebA's own, or commas, as Kaggle's."""
    text = Path(path).read_text(encoding='utf-8-sig', errors='replace')
    for line in text.replace(';', ',').splitlines():         # so some spreadsheets separate
        words = [word.strip(' "') for word in line.split(',')] if ',' in line else line.split()
        if words:
            yield words


def _find_list(folder, names):
    """Return the path of a list by one of these names, or None.

    It may lie in the folder of the images, one or two above it, in the current one or in celeba/.
    """
    folders = folder, *folder.resolve().parents[:2], Path(), Path('celeba')
    paths = [place / name for place in folders for name in names]
    return next(filter(os.path.isfile, paths), None)


def load_attributes(dataset):
    """Return the attributes of the images of an ImageDataset: (names, bool tensor (N, 40)).

    They are read from CelebA's list_attr_celeba.txt, or Kaggle's csv: the one that DCGAN_ATTRIBUTES
    names, else one in the folder of the images, one or two above it, in the current one or celeba/.
    Raises FileNotFoundError where there is none, ValueError where the images are not CelebA's.
    """
    if dataset.folder is None:
        raise ValueError('attributes: only the faces of CelebA have them, and these are others')
    found = _find_list(dataset.folder, ATTRIBUTES) or ATTRIBUTES[0]
    path = Path(setting('DCGAN_ATTRIBUTES', found))
    names, labels = read_attributes(path)
    listed = [os.path.basename(file) for file in dataset.files]
    unknown = [file for file in listed if file not in labels]
    if unknown:
        raise ValueError(f'{path.name} has no line for {len(unknown):,} of the {len(listed):,} '
                         f'images, {unknown[0]} first')
    return names, torch.stack([labels[file] for file in listed])


def load_people(folder, files):
    """Return whom each image below a folder of CelebA's shows, int64 (N,); None if nobody knows.

    It is read from identity_CelebA.txt, or a csv of that name, found as the attributes are.
    """
    path = _find_list(folder, IDENTITIES)
    if path is None:
        return None
    person_of = read_people(path)
    people = [person_of.get(os.path.basename(file), -1) for file in files]
    n_unknown = people.count(-1)
    if n_unknown:
        print(f'{path.name} has no line for {n_unknown:,} of the {len(files):,} images: nobody '
              f'knows who is on them, and people are not told apart.')
        return None
    return torch.tensor(people)


def read_people(path):
    """Read CelebA's list of people, or a csv of that form: {name of a file: number of a person}."""
    return {row[0]: int(row[1]) for row in _rows(path) if len(row) == 2 and row[1].isdecimal()}


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
