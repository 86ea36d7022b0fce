"""The face encoder: what the distance looks through, and what it sees in a face."""
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from . import devices
from .pretrained import load_shipped

ENCODER = Path(__file__).parent.parent / 'assets/encoder.pt'
FAR_OUTSIDE = 2      # no image in [-1, 1], however noisy, has values like this: those of bytes do


class FaceEncoder(nn.Module):
    """Images (B, 3, s, s) in [-1, 1] to 128 features (B, 128).

    A small convolutional network that experiments/encoder.py trained on CelebA's 40 attributes.
    Images of any size are resized to 64x64 first, as they would be to be looked at side by side.
    """

    LAYERS = (32, 2), (64, 2), (64, 1), (128, 2), (128, 1), (128, 2)     # depth and stride

    def __init__(self, n_attributes=40):
        super().__init__()
        layers, shallow = [], 3
        for deep, stride in self.LAYERS:
            layers += [nn.Conv2d(shallow, deep, 3, stride, padding=1, bias=False),
                       nn.BatchNorm2d(deep),
                       nn.ReLU()]
            shallow = deep
        self.features = nn.Sequential(*layers)           # (B, 128, 4, 4)
        self.attributes = nn.Linear(shallow, n_attributes)

    def forward(self, x):
        x = F.interpolate(x, (64, 64), mode='bilinear', antialias=x.shape[-1] > 64)
        return self.features(x).mean((2, 3))             # (B, 128)

    @classmethod
    def trained(cls, path=None):
        """Return the trained encoder in eval mode; its attribute_names are CelebA's.

        Raises FileNotFoundError where its file is missing, ValueError where it is damaged.
        """
        path = path or ENCODER
        saved = load_shipped(path, ('attributes', 'weights'))
        encoder = cls(len(saved['attributes']))
        try:
            encoder.load_state_dict(saved['weights'])
        except RuntimeError as error:
            raise ValueError(f'{path} is of another version: take it from the project again, or '
                             f'make it with experiments/encoder.py.') from error
        encoder.attribute_names = saved['attributes']
        encoder.eval().requires_grad_(False)
        return encoder.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def embed(self, images):
        """Return features (n, 128), float32 on the CPU, of images: uint8, or float in [-1, 1]."""
        device = self.attributes.weight.device
        fast = devices.has_bfloat16(device)
        features = []
        for batch in images.split(250):
            batch = batch.to(device)
            if batch.dtype == torch.uint8:
                batch = batch.float() / 127.5 - 1
            batch = batch.contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16, enabled=fast):
                features.append(self(batch).float().cpu())
        return torch.cat(features)


def to_bytes(images, at_least=0):
    """Return images in [-1, 1] as uint8, as a file would hold them; uint8 stays as it is.

    Values a little outside are taken for -1 or 1.
    at_least  how many there have to be
    Raises ValueError for what is no images (n, 3, s, s) of this range.
    """
    if not torch.is_tensor(images):
        raise ValueError(f'images: found a {type(images).__name__}, expected a tensor')
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f'images: found {tuple(images.shape)}, expected (n, 3, s, s)')
    if len(images) < at_least:
        raise ValueError(f'images: found {len(images)} of them, expected {at_least} or more')
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise ValueError(f'images: found {images.dtype}, expected uint8, or float in [-1, 1]')
    if not images.isfinite().all():
        raise ValueError('images: found numbers that are not finite, expected values in [-1, 1]')
    if images.numel() > 0 and images.abs().max() > FAR_OUTSIDE:
        raise ValueError(f'images: found values up to {images.abs().max():.4g}, expected uint8, '
                         f'or float in [-1, 1]')
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def nearest_faces(generated, images):
    """Find for each generated image the nearest of images, in the encoder's features.

    A mirrored twin counts too: the nearer of the image as it is and of its mirror image is given.
    Returns (indices (n,), distances (n,)).
    """
    encoder = FaceEncoder.trained().to(devices.choose_device())
    features = encoder.embed(images)
    generated = to_bytes(generated)
    as_it_is = torch.cdist(encoder.embed(generated), features)
    mirrored = torch.cdist(encoder.embed(generated.flip(3)), features)
    nearest, indices = torch.minimum(as_it_is, mirrored).min(1)
    return indices, nearest


def seen_attributes(images):
    """Say which of CelebA's 40 attributes the encoder sees in each image.

    Returns (names, bool tensor (n, 40)), as load_attributes does.
    """
    encoder = FaceEncoder.trained().to(devices.choose_device())
    features = encoder.embed(to_bytes(images)).to(encoder.attributes.weight.device)
    return encoder.attribute_names, (encoder.attributes(features) > 0).cpu()


def attribute_shares(images):
    """Return the share of images in which the encoder sees each attribute: {name: share}."""
    names, seen = seen_attributes(images)
    return dict(zip(names, seen.float().mean(0).tolist(), strict=True))
