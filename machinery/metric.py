"""How good the faces are: distances to real ones in the encoder's features, by torch-fidelity."""
import math

import torch
import torch_fidelity
from torch.utils.data import Dataset
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from .encoder import FaceEncoder, to_bytes

# of torch-fidelity's release 0.2.0
INCEPTION = 'weights-inception-2015-12-05-6726825d.pth'
FEW = 20             # images: with fewer, distances mean little


class FaceDistance:
    """Fréchet face distance: how far generated images are from real ones; lower is better.

    The distance between two normal distributions, as in FID (Heusel et al., arXiv:1706.08500), over
    the features of FaceEncoder instead of Inception's; hence NOT comparable to any FID.

    images    real ones, uint8 (N, 3, s, s). The last n are the reference, .real; those before them
              give .floor, the distance between real faces and real faces
    n         size of the reference; at most half of the images
    n_judged  how many images give the floor (None: n). The fewer images are judged, the larger the
              distance of the very same crowd, so let it be as many as will be judged later
    """

    def __init__(self, images, device='cpu', n=5000, n_judged=None):
        if len(images) < FEW:
            print(f'{len(images)} images are too few to judge others by: '
                  f'distances will mean little')
            images = images.repeat(math.ceil(FEW / len(images)), 1, 1, 1)
        self.n = min(n, len(images) // 2)
        self.real = images[-self.n:]
        others = images[-2 * self.n:-self.n]
        self.encoder = FaceEncoder.trained().to(device)
        self.reference = self._statistics(self.real)
        self.floor = self(others[:n_judged])

    def __call__(self, images):
        """Return the distance of images, (n, 3, s, s): uint8, or float in [-1, 1]."""
        statistics = self._statistics(images)
        metric = fid_statistics_to_metric(statistics, self.reference, False)
        return metric['frechet_inception_distance']

    def _statistics(self, images):
        return fid_features_to_statistics(self.encoder.embed(to_bytes(images)).double())


def quality(generated, real, extractor='face-encoder', weights=None):
    """Measure generated images against real ones by torch-fidelity: a dict of four figures.

    Fréchet distance, kernel distance, precision (the share of generated images that lie among the
    real ones) and recall (the share of real ones that lie among the generated; Kynkäänniemi et al.,
    arXiv:1904.06991). Images are (n, 3, s, s): uint8, or float in [-1, 1].

    extractor  'face-encoder' is ours. With 'inception-v3-compat' the distances are FID (Heusel et
               al., arXiv:1706.08500) and KID (Bińkowski et al., arXiv:1801.01401) proper
    weights    the path of Inception's weights; None: they are downloaded
    Raises OSError where Inception's weights can be had from neither.
    """
    names = 'Fréchet face distance', 'kernel face distance'
    if extractor.startswith('inception'):
        names = 'FID', 'KID'
    n = min(len(generated), len(real))
    try:
        figures = torch_fidelity.calculate_metrics(
            input1=_Pictures(generated), input2=_Pictures(real),
            fid=True, kid=True, prc=True, kid_subset_size=min(1000, n), batch_size=250,
            feature_extractor=extractor, feature_extractor_weights_path=weights,
            cuda=torch.cuda.is_available(), cache=False, verbose=False,
            save_cpu_ram=True)       # no processes of its own: each would run a script again
    except OSError as error:
        if names[0] != 'FID':
            raise
        raise OSError(f"FID needs Inception's weights (91 MB), which cannot be fetched here "
                      f'({error}). Where there is a network, or with weights = the path of '
                      f'{INCEPTION}, it can be had.') from error
    values = [figures['frechet_inception_distance'], figures['kernel_inception_distance_mean'],
              figures['precision'], figures['recall']]
    return dict(zip((*names, 'precision', 'recall'), values, strict=True))


class _Pictures(Dataset):
    """uint8 images one by one, as torch-fidelity reads them."""

    def __init__(self, images):
        self.images = to_bytes(images)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


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


# The name is taken already where this module is loaded a second time.
if 'face-encoder' not in torch_fidelity.registry.FEATURE_EXTRACTORS_REGISTRY:
    torch_fidelity.register_feature_extractor('face-encoder', _FaceFeatures)
