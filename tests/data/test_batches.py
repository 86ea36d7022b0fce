"""The device's loader gives the batches of the loader behind it."""
import hashlib

import pytest
import torch
from torch.utils.data import DataLoader, Subset, WeightedRandomSampler

from machinery.batches import DeviceLoader, ImageDataset
from machinery.drawn import drawn_faces
from tests.tools import DEVICES, expect_close, needs_gpu


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('drop_last', [False, True])
def test_device_loader_gives_the_batches_of_the_loader(device, drop_last):
    """For the same seed, the same values in the same order; a sampler of one's own holds too."""
    faces = ImageDataset(drawn_faces(10, 32))
    weighted = WeightedRandomSampler(torch.eye(10)[3], 7)
    for options in (dict(shuffle=True), dict(shuffle=False), dict(sampler=weighted)):
        loader = DataLoader(faces, 4, drop_last=drop_last, collate_fn=faces.collate, **options)
        device_loader = DeviceLoader(loader, torch.device(device))
        for _ in range(2):
            torch.manual_seed(3)
            expected = [images for images, _ in loader]
            torch.manual_seed(3)
            came = list(device_loader)
            assert len(came) == len(expected) == len(loader) == len(device_loader)
            for batch, wanted in zip(came, expected, strict=True):
                assert batch.device.type == device
                assert batch.is_contiguous(memory_format=torch.channels_last)
                expect_close('Batch', batch.cpu(), wanted, 1e-7, options=options)


def test_device_loader_reads_other_loaders():
    """A loader of other images is read as it is, and any way to choose among ours holds."""
    batches = [torch.rand(2, 3, 8, 8) for _ in range(3)]
    loader = DataLoader([(image, 0) for batch in batches for image in batch], 2)
    for batch, wanted in zip(DeviceLoader(loader, 'cpu'), batches, strict=True):
        expect_close('Batch', batch, wanted, 0)

    faces = ImageDataset(drawn_faces(6, 32))
    chosen = [4, 2]
    for loader in (DataLoader(Subset(faces, chosen), 2, collate_fn=faces.collate),
                   DataLoader(faces, batch_sampler=[chosen], collate_fn=faces.collate),
                   DataLoader(faces, 2, sampler=chosen, collate_fn=faces.collate)):
        batch, = DeviceLoader(loader, 'cpu')
        wanted, _ = next(iter(loader))
        expect_close('Batch', batch, wanted, 1e-7)
        expect_close('Batch', batch, faces[chosen][0], 1e-7)


def test_device_loader_leaves_augmentation_to_the_data_set():
    """A data set of one's own that changes images on their way out is asked for them."""
    class Darkened(ImageDataset):
        def __getitem__(self, index):
            images, labels = super().__getitem__(index)
            return images / 2, labels

    faces = Darkened(drawn_faces(6, 32))
    loader = DataLoader(faces, 6, collate_fn=faces.collate)
    batch, = DeviceLoader(loader, 'cpu')
    expect_close('Batch', batch, faces.images / 510, 1e-6)


@needs_gpu
def test_device_loader_of_more_images_than_fit(monkeypatch):
    """Images that do not fit on the GPU give the same batches."""
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda device: (0, 0))
    test_device_loader_gives_the_batches_of_the_loader('cuda', False)


def test_images_that_are_held_out():
    """None is lost, none is on both sides; files and labels go with their images; drawn anew."""
    images = torch.arange(300, dtype=torch.int32)[:, None, None, None].expand(-1, 3, 2, 2)
    names = [f'{number}.jpg' for number in range(300)]
    everything = ImageDataset(images, torch.arange(300), 'faces/', names, may_be_mirrored=False,
                              kind='svhn')
    faces = everything.hold_out(0.1)
    numbers, held_out = faces.images[:, 0, 0, 0].tolist(), faces.held_out[:, 0, 0, 0].tolist()
    assert len(held_out) == 30 and len(faces) == 270
    assert sorted(numbers + held_out) == list(range(300))
    assert faces.labels.tolist() == numbers
    assert faces.files == [f'{number}.jpg' for number in numbers]
    assert (faces.source, faces.may_be_mirrored, faces.kind) == ('faces/', False, 'svhn')
    assert held_out[:3] != [0, 1, 2] and held_out[-1] > 250       # from everywhere, not one end
    torch.manual_seed(1)                                          # not that of the run
    assert torch.equal(everything.hold_out(0.1).held_out, faces.held_out)
    assert faces.checksum != everything.checksum


def test_too_few_and_too_many_to_hold_out(monkeypatch):
    """Fewer than 20 judge nobody, so that all are learnt from; more than 5,000 are not needed."""
    few = ImageDataset(drawn_faces(64, 32))
    assert few.hold_out(0.1) is few and len(few.held_out) == 0
    assert len(few.hold_out(0.5).held_out) == 32
    assert few.hold_out(0) is few
    monkeypatch.setattr(ImageDataset, 'MOST_HELD_OUT', 25)
    assert len(few.hold_out(0.5)) == 39
    for share in (-0.1, 0.6):
        with pytest.raises(ValueError, match='hold_out: found .*, expected a share'):
            few.hold_out(share)


def test_checksum_tells_images_apart():
    """It is that of the bytes of the images, whatever they are called, and is computed once."""
    images = drawn_faces(5, 32)
    faces = ImageDataset(images, source='cats/')
    assert faces.checksum == hashlib.sha256(images.numpy().tobytes()).hexdigest()[:16]
    others = ImageDataset(images.clone(), labels=torch.ones(5), source='dogs/')
    assert others.checksum == faces.checksum
    by_channels = images.contiguous(memory_format=torch.channels_last)
    assert ImageDataset(by_channels).checksum == faces.checksum
    other = images.clone()
    other[4, 2, 31, 31] ^= 1
    assert ImageDataset(other).checksum != faces.checksum
    assert ImageDataset(images[[1, 0, 2, 3, 4]]).checksum != faces.checksum
    before = faces.checksum
    faces.images = other
    assert faces.checksum is before
