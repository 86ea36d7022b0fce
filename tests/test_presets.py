"""DCGAN_PRESET, and the preset that a machine gets without it."""
import pytest
import torch

import helpers

PRESETS = {'smoke': dict(n_epochs=2, max_images=4),
           'quick': dict(n_epochs=9, max_images=None),
           'full': dict(n_epochs=50, max_images=None)}


@pytest.mark.parametrize('wish, expected', [
    ('smoke', dict(n_epochs=2, max_images=4)),
    ('quick n_epochs=3 max_images=10', dict(n_epochs=3, max_images=10)),
    ('smoke max_images=None', dict(n_epochs=2, max_images=None))])
def test_presets(monkeypatch, wish, expected):
    monkeypatch.setenv('DCGAN_PRESET', wish)
    assert helpers.choose_preset(PRESETS) == expected


def test_preset_of_the_machine(monkeypatch):
    """'full' on a GPU, 'quick' on a CPU."""
    monkeypatch.delenv('DCGAN_PRESET', raising=False)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: 'a GPU')
    for has_gpu, name in ((False, 'quick'), (True, 'full')):
        monkeypatch.setattr(torch.cuda, 'is_available', lambda has_gpu=has_gpu: has_gpu)
        assert helpers.choose_preset(PRESETS) == PRESETS[name]
