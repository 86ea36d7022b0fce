"""How good the faces are: distances to real ones in the features of an encoder, through torch-fidelity."""
import math
from pathlib import Path

import torch
import torch_fidelity
from torch.utils.data import Dataset
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from . import files, speed
from .processes import choose_device

ENCODER = Path(__file__).parent.parent / 'assets/encoder.pt'
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
        saved = files.load_safely(path)
        encoder = cls(len(saved['attributes']))
        encoder.load_state_dict(saved['weights'])
        encoder.attribute_names = saved['attributes']
        return encoder.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def embed(self, images):
        """Features (n, 128), float32 on the CPU, of images: uint8, or float in [-1, 1]."""
        device, features = self.attributes.weight.device, []
        for batch in images.split(250):
            batch = (batch.to(device).float() / 127.5 - 1 if batch.dtype == torch.uint8 else batch.to(device))
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=speed.has_bfloat16(device)):
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


def seen_attributes(images):
    """Which of CelebA's 40 attributes the encoder sees in each image: (names, bool tensor (n, 40)), as load_attributes."""
    encoder = FaceEncoder.trained().to(choose_device())
    features = encoder.embed(to_bytes(images)).to(encoder.attributes.weight.device)
    return encoder.attribute_names, (encoder.attributes(features) > 0).cpu()


def attribute_shares(images):
    """The share of images in which the encoder sees each of CelebA's 40 attributes: a dict from name to share."""
    names, seen = seen_attributes(images)
    return dict(zip(names, seen.float().mean(0).tolist()))


def to_bytes(images):
    """Images in [-1, 1] as uint8, as a file would hold them; uint8 as it is."""
    return images if images.dtype == torch.uint8 else ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
