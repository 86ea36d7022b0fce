"""The pickle of the grids: every kind that people have opens, and nothing in one is ever run."""
import os
import pickle
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from machinery.files import load_samples, save_samples
from tests.hostile.attacks import HOSTILE, IMAGES, old_pickle, pickle_without_storages

WITH_GRADIENT = [IMAGES.clone().requires_grad_(), IMAGES.clone().requires_grad_() * 1]
CHANNELS_LAST = IMAGES.contiguous(memory_format=torch.channels_last)

OLD_KINDS = {
    'tensors': [IMAGES, IMAGES],
    'a tuple': (IMAGES, IMAGES),
    'with a gradient': WITH_GRADIENT,
    'parameters': [nn.Parameter(IMAGES.clone())] * 2,
    '128 images': [IMAGES.repeat(8, 1, 1, 1)] * 2,
    'arrays': [IMAGES.numpy(), IMAGES.numpy()],
    'one array': IMAGES.numpy()[None].repeat(2, 0),
    'float64': [IMAGES.double(), IMAGES.double()],
    'not contiguous': [CHANNELS_LAST] * 2,
}


def test_samples_come_back(folder):
    """What was saved is read back to the bit, and is a pickle that any old notebook opens."""
    save_samples([IMAGES, -IMAGES], 'new.pkl')
    for epochs in (load_samples('new.pkl'), pickle.loads(Path('new.pkl').read_bytes())):
        assert torch.equal(epochs[0], IMAGES) and torch.equal(epochs[1], -IMAGES)


@pytest.mark.parametrize('protocol', range(6))
@pytest.mark.parametrize('name', OLD_KINDS)
def test_all_kinds_of_old_pickles_open(folder, protocol, name):
    """They open on a machine without a GPU, also where the file says cuda:0."""
    epochs = OLD_KINDS[name]
    pickles = [pickle.dumps(epochs, protocol)]
    if torch.is_tensor(epochs[0]) and epochs[0].dtype == torch.float32:
        pickles.append(old_pickle(epochs, protocol))
    for data in pickles:
        Path('old.pkl').write_bytes(data)
        loaded = load_samples('old.pkl')
        assert len(loaded) == 2
        for images in loaded:
            assert type(images) is torch.Tensor and images.dtype == torch.float32
            assert images.device.type == 'cpu' and not images.requires_grad
            assert torch.equal(images[:16], IMAGES)


@pytest.mark.parametrize('protocol', range(6))
@pytest.mark.parametrize('device', ['cuda:1', 'mps:0', 'hpu:0', 'privateuseone:0', 'xpu:0'])
def test_grids_of_any_device_open(folder, protocol, device):
    """Of Apple, Habana, DirectML and others, whether the device has storages or not."""
    for data in (old_pickle([IMAGES] * 2, protocol, device),
                 pickle_without_storages([IMAGES] * 2, protocol, device)):
        assert device.encode() in data
        Path('old.pkl').write_bytes(data)
        for images in load_samples('old.pkl'):
            assert images.device.type == 'cpu' and not images.requires_grad
            assert torch.equal(images, IMAGES)


@pytest.mark.parametrize('name', ['_rebuild_xla_tensor', '_rebuild_hpu_tensor',
                                  '_rebuild_mlc_tensor'])
def test_grids_of_older_torch_open(folder, name):
    """It called other functions for the same."""
    Path('old.pkl').write_bytes(pickle_without_storages([IMAGES], 2, 'xla:0', name))
    grid, = load_samples('old.pkl')
    assert torch.equal(grid, IMAGES)


@pytest.mark.parametrize('as_array', [False, True])
def test_bytes_are_pictures(folder, as_array):
    """A grid of 0 to 255 is shown as it was, and not white."""
    grid = ((IMAGES + 1) * 127.5).round().to(torch.uint8)
    Path('old.pkl').write_bytes(pickle.dumps([grid.numpy() if as_array else grid]))
    loaded, = load_samples('old.pkl')
    assert loaded.dtype == torch.float32 and (loaded.min(), loaded.max()) == (-1, 1)
    assert (loaded - IMAGES).abs().max() < 0.005


@pytest.mark.parametrize('name', HOSTILE)
def test_hostile_pickles_run_nothing(folder, name):
    """Each is refused at once, in words, and leaves no trace."""
    Path('sent.pkl').write_bytes(HOSTILE[name]())
    started = time.time()
    with pytest.raises(ValueError, match='sent.pkl: expected a pickled list of image tensors'):
        load_samples('sent.pkl')
    assert time.time() - started < 5, 'it took its time, and memory, before it was refused'
    assert os.listdir() == ['sent.pkl']


def test_missing_samples_are_no_damaged_samples(folder):
    """A file that is not there is an error of its own."""
    with pytest.raises(FileNotFoundError):
        load_samples('nowhere.pkl')
