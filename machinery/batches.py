"""The data set, and its batches made on the device."""
import hashlib
from functools import cached_property
from itertools import chain

import torch
from torch.utils.data import DataLoader, Dataset

from .devices import world


class ImageDataset(Dataset):
    """Decoded images as a data set; a batch is cut out of one tensor of bytes in one go.

    images   uint8 (N, 3, s, s)
    labels   int64 (N,); None: all 0
    source   where the images come from, in words, to be printed
    kind     'celeba', 'svhn', 'drawn', or 'own': anybody's
    files    the path of each image below folder; empty where they come from no files
    folder   the folder of the files, or None
    may_be_mirrored   whether the mirror image of one of them belongs to the same crowd
    people            int64 (N,), a number for whoever is on each image, or None
    held_out          uint8 (M, 3, s, s), images of the same crowd that are not among them: they
                      choose the best epoch. M may be 0
    judges            images that judge it at the end: those held out, or yet others
    """

    FEWEST_HELD_OUT = 20
    MOST_HELD_OUT = 5_000

    def __init__(self, images, labels=None, source='', files=(), folder=None, may_be_mirrored=True,
                 people=None, held_out=None, kind='own'):
        if labels is None:
            labels = torch.zeros(len(images), dtype=torch.int64)
        self.images = images
        self.labels = labels
        self.source = source
        self.kind = kind
        self.files = files
        self.folder = folder
        self.may_be_mirrored = may_be_mirrored
        self.people = people
        self.held_out = images[:0] if held_out is None else held_out
        self.judges = self.held_out

    def hold_out(self, share):
        """Return a data set without a share of the images; they are its .held_out, to judge by.

        They are drawn at random, the same ones each time, and at most 5,000. Where they would be
        fewer than 20, too few to judge by, none is held out, and the data set itself is returned.
        Where it is known who is on them, whole people are drawn: nobody is on both sides.
        share  from 0 to 1/2; raises ValueError for another one
        """
        if not 0 <= share <= 0.5:
            raise ValueError(f'hold_out: found {share}, expected a share from 0 to 0.5')
        n_held_out = min(round(share * len(self)), self.MOST_HELD_OUT)
        if n_held_out < self.FEWEST_HELD_OUT:
            return self
        chosen = self._draw_people(n_held_out)
        if len(chosen) >= self.FEWEST_HELD_OUT:
            print(f'Held out: {len(chosen):,} images of {len(self.people[chosen].unique()):,} '
                  f'people, who are on none of the others.')
        else:                                        # nobody knows the people, or they are too few
            order = torch.randperm(len(self), generator=torch.Generator().manual_seed(0))
            chosen = order[:n_held_out].sort().values
        is_other = torch.ones(len(self), dtype=torch.bool)
        is_other[chosen] = False
        others = is_other.nonzero().flatten()
        files = [self.files[index] for index in others] if self.files else ()
        people = None if self.people is None else self.people[others]
        return ImageDataset(self.images[others], self.labels[others], self.source, files,
                            self.folder, self.may_be_mirrored, people,
                            self.images[chosen], self.kind)

    def _draw_people(self, most):
        """Draw people at random; return the indices of all their images, at most so many."""
        if self.people is None:
            return []
        people, sizes = self.people.unique(return_counts=True)
        drawn = []
        for number in torch.randperm(len(people), generator=torch.Generator().manual_seed(0)):
            if sizes[number] <= most:
                most -= sizes[number]
                drawn.append(people[number])
        return torch.isin(self.people, torch.tensor(drawn)).nonzero().flatten()

    @cached_property
    def checksum(self):
        """The first 16 hex digits of the SHA-256 of the images' bytes: it tells data sets apart."""
        return _checksum(self.images)

    @property
    def held_out_checksum(self):
        """The same of those held out."""
        return _checksum(self.held_out)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        """Return (image, label): float32 (3, s, s) in [0, 1], or (B, 3, s, s) for B indices."""
        return self.images[index].float().div_(255), self.labels[index]

    def __getitems__(self, indices):
        """Return a whole batch: DataLoader asks for it at once where this method exists."""
        return self[torch.as_tensor(indices)]

    @staticmethod
    def collate(batch):
        """Give the batch as it is, for DataLoader's collate_fn: it is whole already."""
        return batch


def _checksum(images):
    return hashlib.sha256(images.cpu().contiguous().numpy()).hexdigest()[:16]


class DeviceLoader:
    """The batches of a DataLoader, made on the device: (B, 3, s, s), float32 in [0, 1].

    The images of an ImageDataset stay bytes until a batch of them is needed, and live on the device
    if they take less than half of its free memory. The loader's own sampler, batch_size and
    drop_last hold, and the same seed gives the same batches as the loader itself.

    Any other loader, one with a collate_fn of its own, and more images than fit are read as they
    are. Under torchrun, the same seed gives all processes the same batches, less a remainder that
    cannot be shared equally.

    like  a network whose order in memory the batches take; None: channels_last
    """

    def __init__(self, loader, device, like=None):
        self.loader = loader
        self.device = torch.empty(0, device=device).device       # 'cuda' becomes 'cuda:0'
        self.memory_format = memory_format_of(like)
        self.images = None
        if _gives_rows(loader) and _fit(loader.dataset.images, self.device):
            self.images = loader.dataset.images.to(self.device)

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        _, n_processes = world()
        for images in self._read() if self.images is None else self._cut_out():
            n_images = len(images) // n_processes * n_processes
            if n_images == 0:
                continue
            batch = images[:n_images].to(torch.float32, memory_format=self.memory_format)
            if images.dtype == torch.uint8:
                batch.div_(255)
            yield batch

    def _read(self):
        for images, *_ in self.loader:
            if images.is_floating_point():
                images = images.float()          # here: not every device knows float64
            yield images.to(self.device)

    def _cut_out(self):
        # DataLoader draws a number before it asks its sampler: without it, batches would differ.
        torch.empty((), dtype=torch.int64).random_(generator=self.loader.generator)
        batches = list(self.loader.batch_sampler)
        order = torch.as_tensor(list(chain.from_iterable(batches)), dtype=torch.int64)
        for chosen in order.to(self.device).split([len(batch) for batch in batches]):
            yield self.images[chosen]


def _gives_rows(loader):
    """Say whether batches are rows of the data set's images, with nothing done to them."""
    dataset = getattr(loader, 'dataset', None)
    return (isinstance(dataset, ImageDataset)
            and type(loader).__iter__ is DataLoader.__iter__
            and type(dataset).__getitem__ is ImageDataset.__getitem__
            and loader.collate_fn is ImageDataset.collate)


def _fit(images, device):
    return device.type != 'cuda' or images.nbytes < torch.cuda.mem_get_info(device)[0] / 2


def memory_format_of(network):
    """Return the order in memory of a network's convolutions; channels_last for None."""
    if network is None:
        return torch.channels_last
    kernels = [weight for weight in network.parameters() if weight.ndim == 4]
    if all(kernel.is_contiguous() for kernel in kernels):
        return torch.contiguous_format
    return torch.channels_last
