"""CelebA's attributes of each face, and a sampler that balances the training with them."""
import os
from pathlib import Path

import torch
from torch.utils.data import WeightedRandomSampler

from .console import check_choice

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
