"""How good faces are: the encoder that looks at them, distances to real ones in its features, and
what D makes of faces that it has not learnt.
"""
import math

import torch
import torch_fidelity
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric

from .devices import choose_device, has_bfloat16, memory_format
from .files import as_float
from .pretrained import ASSETS, load_networks

ENCODER = ASSETS / 'encoder'
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
    def trained(cls, device='cpu'):
        """Return the trained encoder in eval mode, on a device; its attribute_names are CelebA's.

        Raises FileNotFoundError where a file of its is missing, ValueError where one is damaged.
        """
        config, networks = load_networks(ENCODER, ('attributes',))
        encoder = cls(len(config['attributes']))
        encoder.load_state_dict(networks['encoder'])
        encoder.attribute_names = config['attributes']
        encoder.eval().requires_grad_(False)
        return encoder.to(device, memory_format=memory_format(device))

    @torch.no_grad()
    def embed(self, images):
        """Return features (n, 128), float32 on the CPU, of images: uint8, or float in [-1, 1]."""
        device = self.attributes.weight.device
        fast = has_bfloat16(device)
        features = []
        for batch in images.split(250):
            batch = batch.to(device)
            if batch.dtype == torch.uint8:
                batch = batch.float() / 127.5 - 1
            batch = batch.contiguous(memory_format=memory_format(device))
            with torch.autocast(device.type, torch.bfloat16, enabled=fast):
                features.append(self(batch).float().cpu())
        return torch.cat(features)

    @torch.no_grad()
    def logits(self, images):
        """Return how sure it is of each attribute in images, above 0 for yes: (n, 40), on the CPU.
        """
        features = self.embed(images).to(self.attributes.weight.device)
        return self.attributes(features).cpu()


def to_uint8(images, at_least=0):
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
    encoder = FaceEncoder.trained(choose_device())
    features = encoder.embed(images)
    generated = to_uint8(generated)
    as_it_is = torch.cdist(encoder.embed(generated), features)
    mirrored = torch.cdist(encoder.embed(generated.flip(3)), features)
    nearest, indices = torch.minimum(as_it_is, mirrored).min(1)
    return indices, nearest


def seen_attributes(images):
    """Say which of CelebA's 40 attributes the encoder sees in each image.

    Returns (names, bool tensor (n, 40)), as load_attributes does.
    """
    encoder = FaceEncoder.trained(choose_device())
    return encoder.attribute_names, encoder.logits(to_uint8(images)) > 0


def attribute_shares(images):
    """Return the share of images in which the encoder sees each attribute: {name: share}."""
    names, seen = seen_attributes(images)
    return dict(zip(names, seen.float().mean(0).tolist(), strict=True))


# ---------------------------------------------------------------------------------------- distances

# of torch-fidelity's release 0.2.0
INCEPTION = 'weights-inception-2015-12-05-6726825d.pth'
FEW = 20             # images: with fewer, distances mean little
ROUGH = 100          # real faces: held against fewer, distances are large and rough
NEIGHBOURS = 3       # how far an image's neighbourhood reaches: to the third nearest of its crowd


class FaceDistance:
    """Fréchet face distance: how far generated images are from real ones; lower is better.

    The distance between two normal distributions, as in FID (Heusel et al., arXiv:1706.08500), over
    the features of FaceEncoder instead of Inception's; hence NOT comparable to any FID.

    images    real ones, uint8 (N, 3, s, s), that the training sees
    n         size of the reference, .real; others, .others, give .floor, the distance between real
              faces and real faces
    n_judged  how many images give the floor (None: n). The fewer images are judged, the larger the
              distance of the very same crowd, so let it be as many as will be judged later
    held_out  real ones that the training does not see, uint8 (M, 3, s, s): the reference is n of
              them, and the others are of images. Without any, both are of images, at most a half
              each, and a generator that repeats training faces comes off too well
    seed      draws from images, since folders may sort them by kind. None: the reference is the
              last n, and the others are those before them

    Where the encoder's file cannot be read, nothing is measured: str() says why, and the distance
    counts as false, so that a run leaves it out.
    """

    def __init__(self, images, device='cpu', n=5000, n_judged=None, seed=0, held_out=()):
        self.images = images
        if len(images) < FEW:
            print(f'{len(images)} images are too few to judge others by: '
                  f'distances will mean little')
            images = images.repeat(math.ceil(FEW / len(images)), 1, 1, 1)
        order = torch.arange(len(images))
        if seed is not None:
            order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
        self.are_held_out = len(held_out) > 0
        if self.are_held_out:
            self.real = held_out[:n]
            self.others = images[order[-n:]]
        else:
            n = min(n, len(images) // 2)
            self.real = images[order[-n:]]
            self.others = images[order[-2 * n:-n]]
        self.n = len(self.real)
        self.encoder = None
        self.floor = math.nan
        try:
            self.encoder = FaceEncoder.trained(device)
        except (OSError, ValueError) as error:
            self.why_not = str(error)
            return
        self.reference = self.encoder.embed(self.real)
        self.floor = self(self.others[:n_judged])

    def __bool__(self):
        return self.encoder is not None

    def __str__(self):
        if not self:
            return f'No distance to real faces will be measured: {self.why_not}'
        kind = 'that training does not see' if self.are_held_out else 'of the training'
        few = '. So few faces judge badly: trust your eyes' if self.n < ROUGH else ''
        return (f'Fréchet face distance to {self.n:,} real faces {kind}; '
                f'floor, from other real faces: {self.floor:.2f}{few}')

    def __call__(self, images):
        """Return the distance of images, (n, 3, s, s): uint8, or float in [-1, 1].

        Raises ValueError for what is no such images, and for fewer than two of them.
        """
        return frechet(self.encoder.embed(to_uint8(images, 2)), self.reference)


def frechet(features, real_features):
    """Return the Fréchet distance between two crowds by their features, (n, f) and (m, f)."""
    statistics = [fid_features_to_statistics(each.double()) for each in (features, real_features)]
    return fid_statistics_to_metric(*statistics, False)['frechet_inception_distance']


def quality(generated, real, extractor='face-encoder', weights=None):
    """Measure generated images against real ones: a dict of four figures.

    Fréchet distance, kernel distance (Bińkowski et al., arXiv:1801.01401), and two shares that
    neither one repeated image nor grey pictures can win: see precision_and_coverage. Images are
    (n, 3, s, s): uint8, or float in [-1, 1].

    extractor  'face-encoder' is ours. With 'inception-v3-compat' the distances are FID (Heusel et
               al., arXiv:1706.08500) and KID proper; the shares stay those of the face encoder
    weights    the path of Inception's weights; None: they are downloaded
    Raises OSError where Inception's weights can be had from neither, ValueError for what is no such
    images or fewer than two of them, and what FaceEncoder.trained raises.
    """
    generated, real = to_uint8(generated, 2), to_uint8(real, 2)
    encoder = FaceEncoder.trained(choose_device())
    features, real_features = encoder.embed(generated), encoder.embed(real)
    n_subset = min(1000, len(generated), len(real))
    if extractor == 'face-encoder':
        kernel = kid_features_to_metric(features, real_features, verbose=False,
                                        kid_subset_size=n_subset)
        figures = {'Fréchet face distance': frechet(features, real_features),
                   'kernel face distance': kernel['kernel_inception_distance_mean']}
    else:
        figures = _inception_distances(generated, real, n_subset, extractor, weights)
    precision, coverage = precision_and_coverage(features, real_features)
    return figures | {'symmetric precision': precision, 'coverage': coverage}


def _inception_distances(generated, real, n_subset, extractor, weights):
    try:
        figures = torch_fidelity.calculate_metrics(
            input1=_Pictures(generated), input2=_Pictures(real),
            fid=True, kid=True, kid_subset_size=n_subset, batch_size=250,
            feature_extractor=extractor, feature_extractor_weights_path=weights,
            cuda=choose_device().type == 'cuda', cache=False, verbose=False,
            save_cpu_ram=True)       # no processes of its own: each would run a script again
    except OSError as error:
        raise OSError(f"FID needs Inception's weights (91 MB), which cannot be fetched here "
                      f'({error}). Where there is a network, or with weights = the path of '
                      f'{INCEPTION}, it can be had.') from error
    return {'FID': figures['frechet_inception_distance'],
            'KID': figures['kernel_inception_distance_mean']}


class _Pictures(Dataset):
    """uint8 images one by one, as torch-fidelity reads them."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


def precision_and_coverage(generated, real):
    """Return two shares, for the features (n, f) of generated and (m, f) of real images.

    The neighbourhood of an image reaches to the third nearest image of its own crowd.

    symmetric precision  how many generated images lie in the neighbourhood of a real one, or have
                         a real one in their own, whichever is less (Khayatkhoei and AbdAlmageed,
                         arXiv:2306.09618). The first half alone, the usual precision, is 1 for grey
                         pictures: a stray real image has a neighbourhood that holds anything
    coverage             how many real images have a generated one in their neighbourhood (Naeem et
                         al., arXiv:2002.09797)
    """
    reach, real_reach = _reach(generated), _reach(real)
    near_real, has_real, covered = [], [], []
    for part, part_reach in zip(generated.split(1000), reach.split(1000), strict=True):
        distances = torch.cdist(part, real)
        near_real.append((distances < real_reach).any(1))
        has_real.append((distances < part_reach[:, None]).any(1))
        covered.append((distances < real_reach).any(0))
    precision = min(_share(torch.cat(near_real)), _share(torch.cat(has_real)))
    return precision, _share(torch.stack(covered).any(0))


def _reach(features):
    """Return how far each neighbourhood reaches: 0 for an image that comes again and again."""
    rank = 1 + min(NEIGHBOURS, len(features) - 1)        # the nearest of all is the image itself
    parts = [torch.cdist(part, features).kthvalue(rank, 1).values for part in features.split(1000)]
    return torch.cat(parts)


def _share(truths):
    return truths.float().mean().item()


# ------------------------------------------------------------------ does D know its training faces

N_ASKED = 500        # images of each kind that D is asked about


@torch.no_grad()
def answers(D, training, held_out, fakes):
    """Ask D about images that it learns from, about others and about fakes: a list of five figures.

    Images are uint8, or float in [-1, 1]; 500 of each kind are asked about, evenly spaced. D judges
    as in its training, each batch normalised by itself, and stays as it is. Without others the list
    is empty.

    Three means of its answers as probabilities, then those of Karras et al. (arXiv:2006.06676):
    r_v  how far the held-out images lie on D's way from those of the training to the fakes. 0: it
         knows none by heart; 1: it takes the held-out ones for fakes
    r_t  the mean sign of its answers to images of the training
    """
    if len(held_out) == 0:
        return []
    modes = {layer: layer.training for layer in D.modules()}         # some may be frozen
    norms = [layer for layer in D.eval().modules()
             if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.track_running_stats]
    try:
        for layer in norms:
            layer.train()
            layer.track_running_stats = False            # none of these images is to be remembered
        logits = [_logits(D, images) for images in (training, held_out, fakes)]
    finally:
        for layer in norms:
            layer.track_running_stats = True
        for layer, mode in modes.items():
            layer.training = mode
    real, other, fake = (each.mean() for each in logits)
    ratio = (real - other) / (real - fake)
    means = [each.sigmoid().mean() for each in logits]
    return [figure.item() for figure in (*means, ratio, logits[0].sign().mean())]


def _logits(D, images):
    chosen = torch.linspace(0, len(images) - 1, min(N_ASKED, len(images))).long()
    device = next(D.parameters()).device
    parts = as_float(images[chosen]).tensor_split(math.ceil(len(chosen) / 100))
    return torch.cat([D(part.to(device)).flatten() for part in parts]).float().cpu()
