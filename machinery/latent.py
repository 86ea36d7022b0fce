"""What lies in the noise: directions, the noise of a picture, faces learnt by heart."""
import copy
import dataclasses
import time

import torch
from scipy import stats
from torch import optim
from torch.nn import functional as F

from .console import check_whole, progress_bar
from .devices import choose_device, n_threads
from .metric import FaceEncoder, to_uint8

# --------------------------------------------------------------------------------------- directions

# What a person sees, in words: attributes of CelebA, and the sign with which the encoder's answer
# counts. Each of these has all the others taken out of its direction, and those of PIXELS too.
SEEN = {'smile': {'Smiling': 1},
        'open mouth': {'Mouth_Slightly_Open': 1},
        'glasses': {'Eyeglasses': 1},
        'male': {'Male': 1},
        'age': {'Young': -1},
        'light hair': {'Blond_Hair': 1, 'Black_Hair': -1},
        'fringe': {'Bangs': 1},
        'hat': {'Wearing_Hat': 1}}

# Tried as well. They point nearly where one of the above points (beard and male: a cosine of 0.97),
# so they are not taken out of the others, which would leave nothing of those.
ALSO_SEEN = {'beard': {'No_Beard': -1},
             'make-up': {'Heavy_Makeup': 1},
             'grey hair': {'Gray_Hair': 1},
             'wavy hair': {'Wavy_Hair': 1}}

RIDGE = 1.0          # added to the squared lengths of the noise: nothing beside thousands of faces


def brightness(x):
    return x.mean((1, 2, 3))


def background(x):
    """The brightness of the two upper corners."""
    n_rows, n_columns = x.shape[2] * 3 // 8, x.shape[3] // 8
    top = x[:, :, :n_rows]
    return (top[..., :n_columns].mean((1, 2, 3)) + top[..., -n_columns:].mean((1, 2, 3))) / 2


def warmth(x):
    """Red less blue."""
    return (x[:, 0] - x[:, 2]).mean((1, 2))


def light_from_left(x):
    """The brightness of the face's left half in the picture, less that of its right half."""
    size = x.shape[3]
    face = x[:, :, size * 5 // 16:size * 7 // 8, size // 4:size * 3 // 4]
    left, right = face.chunk(2, 3)
    return left.mean((1, 2, 3)) - right.mean((1, 2, 3))


def turn(x):
    """How far to the right the colour of skin lies in the lower part of the picture, -1 to 1."""
    size = x.shape[3]
    skin = (x[:, 0] - x[:, 2]).clamp(min=0)[:, size * 3 // 8:size * 7 // 8]
    places = torch.linspace(-1, 1, size)
    return (skin * places).sum((1, 2)) / skin.sum((1, 2)).clamp(min=1e-3)


PIXELS = {'brightness': brightness, 'background': background, 'warmth': warmth,
          'light from left': light_from_left, 'turn': turn}

NAMES = (*SEEN, *PIXELS, *ALSO_SEEN)
CORE = (*SEEN, *PIXELS)


@torch.no_grad()
def measure_faces(images, encoder):
    """Measure in each image what the directions are to change: float32 (n, len(NAMES)).

    images  (n, 3, s, s): uint8, or float in [-1, 1]

    What the encoder sees is its logit, above 0 for yes; light hair is the logit of blond less that
    of black. The rest is measured in the pixels, in [0, 1].
    """
    images = to_uint8(images)
    logits = dict(zip(encoder.attribute_names, encoder.logits(images).T, strict=True))
    measured = {name: sum(sign * logits[attribute] for attribute, sign in signs.items())
                for name, signs in (SEEN | ALSO_SEEN).items()}
    x = images.float() / 255
    measured |= {name: measure(x) for name, measure in PIXELS.items()}
    return torch.stack([measured[name] for name in NAMES], 1)


@torch.no_grad()
def draw_and_measure(generate, z, encoder):
    """Return what measure_faces says of the faces of z, (n, z_size), drawn 500 at a time."""
    return torch.cat([measure_faces(generate(part), encoder) for part in z.split(500)])


def fit_slopes(z, measured):
    """Fit each column of measured, in its own standard deviations, to z by ridge regression.

    Returns (z_size, columns): how much each number of the noise raises each column.
    """
    measured = (measured - measured.mean(0)) / measured.std(0).clamp(min=1e-6)
    squares = z.T @ z + RIDGE * torch.eye(z.shape[1])
    return torch.linalg.solve(squares, z.T @ measured)


def without_others(slopes, others):
    """Return unit directions (len(NAMES), z_size): each column of slopes, the others taken out.

    What is left of a column is at right angles to the columns of others, those of CORE but its own.
    """
    directions = []
    for number, name in enumerate(NAMES):
        taken_out = [NAMES.index(other) for other in CORE if other != name]
        basis, _ = torch.linalg.qr(others[:, taken_out])
        slope = slopes[:, number]
        directions.append(F.normalize(slope - basis @ (basis.T @ slope), dim=0))
    return torch.stack(directions)


def find_directions(generate, z_size, n_faces=10_000, seed=0):
    """Find directions in noise space that change one thing in a face: {name: (z_size,)}.

    Draws n_faces fresh faces, measures them (measure_faces), fits each measure to the noise, and
    takes the others out of it, as for the hyperplanes of InterFaceGAN (Shen et al.,
    arXiv:1907.10786). A name promises nothing: experiments/directions.py tells which of them hold.

    generate  a function from noise (n, z_size) to images (n, 3, s, s) in [-1, 1], on the CPU
    """
    random_numbers = torch.Generator().manual_seed(seed)
    z = torch.randn(n_faces, z_size, generator=random_numbers)
    slopes = fit_slopes(z, draw_and_measure(generate, z, FaceEncoder.trained()))
    return dict(zip(NAMES, without_others(slopes, slopes), strict=True))


def move(z, direction, amount):
    """Go from z, (n, z_size), by amount along a direction, and back to the length that z had.

    Noise of many dimensions has nearly always the same length, and G has seen no other.
    """
    moved = z + amount * direction
    length = moved.norm(dim=-1, keepdim=True).clamp(min=1e-12)           # z may be 0
    return moved * (z.norm(dim=-1, keepdim=True) / length)


# ---------------------------------------------------------------------- from a picture to its noise

N_CANDIDATES = 500   # random faces; the searches start from the noise of the nearest of them
TOGETHER = 50        # searches at the same time
SMALL = 32           # pixels a side up to which one thread works: more only wait for each other
LR, BETAS = 0.3, (0.9, 0.99)         # of Adam; LR falls in the second half of a search
PRIOR = 0.01         # weight of how far the noise is longer than G has seen it, beside the pixels
FEATURES = 0.02      # weight of the squared error in the encoder's features, likewise


def invert(G, images, n_starts=2, n_steps=800, seed=0, features=FEATURES):
    """Find for each image the noise whose face comes nearest: (n, z_size), on the CPU.

    Of 500 random faces those that are nearest to the image are where the search starts. From there
    Adam moves the noise to smaller errors in the pixels. The best end goes on for as many steps,
    with the errors in the encoder's features as well. The noise may not become much longer than
    normal random numbers are, for G has seen no other. It is known as GAN inversion, by
    optimisation of the latent code (Creswell and Bharath, 2018, arXiv:1802.05701).

    G         a generator with z_size, noise (B, z_size) to images in [-1, 1]; itself left alone
    images    (n, 3, s, s) as large as G's: uint8, or float in [-1, 1]
    n_starts  how many searches for each image, 500 at most
    n_steps   of Adam for each image, those of its other starts not counted
    features  the weight of the encoder's features; 0: pixels alone, in less time
    Random numbers that are drawn afterwards stay the same. Small pictures take one CPU thread.
    Says in the end how many seconds an image took. Raises ValueError for what is no such images.
    """
    check_whole(n_starts=n_starts, n_steps=n_steps)
    images = to_uint8(images, at_least=1)
    device = choose_device()
    G = frozen(G, device)
    with torch.random.fork_rng(devices=[]):          # new layers draw random numbers
        encoder = FaceEncoder.trained(device) if features else None
    random_numbers = torch.Generator().manual_seed(seed)
    candidates = torch.randn(N_CANDIDATES, G.z_size, generator=random_numbers).to(device)
    with torch.no_grad():
        faces = torch.cat([G(part) for part in candidates.split(100)])
    if images.shape[1:] != faces.shape[1:]:
        raise ValueError(f'images: found {tuple(images.shape[1:])} each, expected '
                         f'{tuple(faces.shape[1:])}, as large as those of G')
    started = time.monotonic()
    found = []
    number = 1 if images.shape[-1] <= SMALL else torch.get_num_threads()
    with n_threads(number), progress_bar(len(images), 'image', desc='noise of images') as bar:
        for part in images.split(TOGETHER):
            real = part.to(device).float() / 127.5 - 1
            apart = torch.cdist(real.flatten(1), faces.flatten(1))
            nearest = apart.topk(n_starts, largest=False).indices        # (n, n_starts)
            ends, errors = search(G, candidates[nearest.flatten()],
                                  real.repeat_interleave(n_starts, 0), n_steps // 2)
            best = errors.unflatten(0, (-1, n_starts)).argmin(1)
            ends = ends.unflatten(0, (-1, n_starts))[torch.arange(len(part)), best]
            ends, _ = search(G, ends, real, n_steps - n_steps // 2, encoder, features)
            found.append(ends.cpu())
            bar.update(len(part))
    seconds = (time.monotonic() - started) / len(images)
    print(f'The noise of {len(images)} images: {seconds:.2f} seconds each.')
    return torch.cat(found)


def frozen(G, device):
    """Return a copy of G on the device, in eval mode, whose weights ask for no gradients."""
    z_size = getattr(G, 'z_size', None)
    if z_size is None:
        raise ValueError('G: it does not say how many numbers its noise has; set G.z_size')
    G = copy.deepcopy(G).to(device).eval().requires_grad_(False)
    G.z_size = z_size
    return G


@torch.enable_grad()
def search(G, starts, real, n_steps, encoder=None, features=0):
    """Move starts, (n, z_size), to the noise of real, (n, 3, s, s).

    Returns (the noise, its errors (n,)).
    """
    z = starts.clone().requires_grad_()
    optimizer = optim.Adam([z], LR, BETAS)
    wanted = encoder(real) if encoder else None

    def errors():
        made = G(z)
        squared = (made - real).square().mean((1, 2, 3))
        too_long = (z.square().mean(1) - 1).clamp(min=0)
        if encoder is None:
            return squared + PRIOR * too_long
        seen = (encoder(made) - wanted).square().mean(1)
        return squared + PRIOR * too_long + features * seen

    for step in range(n_steps):
        optimizer.param_groups[0]['lr'] = LR * min(1, 2 * (1 - step / n_steps))
        optimizer.zero_grad()
        errors().sum().backward()        # the sum: each image has noise of its own
        optimizer.step()
    with torch.no_grad():
        return z.detach(), errors()


@torch.no_grad()
def shades_apart(images, others):
    """Return how far each image is from its other: root mean square, of 255 shades, (n,).

    Both are (n, 3, s, s): uint8, or float in [-1, 1]. Below 4 the eye sees no difference.
    """
    difference = to_uint8(images).float() - to_uint8(others).float()
    return difference.square().mean((1, 2, 3)).sqrt()


# ---------------------------------------------------------------------------------- learnt by heart

N_STEPS = 100        # of the search: what G knows by heart is found soon
SURE = 0.01          # level of significance: chance alone gives a p-value below it this often
FEWEST = 50          # faces of each kind: with fewer, a G that knows faces by heart may pass


@dataclasses.dataclass
class Memorisation:
    """What memorisation found. Errors are in shades of 255; shares are from 0 to 1.

    training, held_out    the errors at which G comes nearest to each face, tensors (n,)
    gap                   how much larger the median of held_out is, as a share of it
    p_value               of the two-sample test of Kolmogorov and Smirnov: how often chance alone
                          makes a difference at least as large
    """

    training: torch.Tensor
    held_out: torch.Tensor
    gap: float = 0.0
    p_value: float = 1.0

    @property
    def caught(self):
        """Whether the training faces are found again better, by more than chance explains."""
        return self.p_value < SURE and self.gap > 0

    @property
    def verdict(self):
        """What follows from the errors, in words."""
        if self.caught:
            return 'learnt by heart, in part'
        n = min(len(self.training), len(self.held_out))
        if n < FEWEST:
            return (f'too few faces to tell, {n} and not {FEWEST} of each kind (a larger hold_out '
                    f'holds out more)')
        return 'no sign of learning by heart'

    def __str__(self):
        if len(self.held_out) == 0:
            return 'No face was held out, so nothing tells whether faces were learnt by heart.'
        return (f'{self.verdict}: median error {self.training.median():.1f} for '
                f'{len(self.training)} training faces, {self.held_out.median():.1f} for '
                f'{len(self.held_out)} held-out ones (gap {100 * self.gap:.1f} %, '
                f'p = {self.p_value:.2g})')


def memorisation(G, training, held_out, n=100, seed=0):
    """Ask whether G has learnt its training faces by heart: a Memorisation.

    Faces that G was trained on and faces that it never saw are given back as well as it can (see
    invert), in pixels alone. A G that has learnt faces and not pictures by heart comes equally
    near to both, so the errors are spread alike (Webster et al., CVPR 2019, arXiv:1901.03396).
    A small gap is not seen: assets/memorisation_gap.csv.

    G         as for invert
    training  faces that G was trained on, (N, 3, s, s): uint8, or float in [-1, 1]
    held_out  faces that it was not trained on, likewise; without any, nothing is measured
    n         how many of each kind are given back, at most
    seed      draws them
    Raises ValueError for what is no such images.
    """
    check_whole(n=n)
    if len(held_out) == 0:
        return Memorisation(torch.empty(0), torch.empty(0))
    random_numbers = torch.Generator().manual_seed(seed)
    known = sample(training, n, random_numbers)
    new = sample(held_out, n, random_numbers)
    if known.shape[1:] != new.shape[1:]:
        raise ValueError(f'held_out: found images {tuple(new.shape[1:])}, expected '
                         f'{tuple(known.shape[1:])}, as those of the training')
    both = torch.cat([known, new])
    z = invert(G, both, n_starts=1, n_steps=N_STEPS, seed=seed, features=0)
    errors_known, errors_new = shades_apart(generated_by(G, z), both).split([len(known), len(new)])
    gap = 1 - errors_known.median().item() / max(errors_new.median().item(), 1e-6)
    test = stats.ks_2samp(errors_known.numpy(), errors_new.numpy())
    return Memorisation(errors_known, errors_new, gap, float(test.pvalue))


def sample(images, n, random_numbers):
    """Return n of the images at random, as bytes; all of them where they are fewer."""
    return to_uint8(images, at_least=1)[torch.randperm(len(images), generator=random_numbers)[:n]]


@torch.no_grad()
def generated_by(G, z):
    """Return the faces of z, (n, z_size), as bytes."""
    G = frozen(G, 'cpu')
    return to_uint8(torch.cat([G(part) for part in z.split(250)]))
