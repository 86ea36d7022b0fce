"""Directions in noise space that change one thing in a face: found, and followed."""
import torch
from torch.nn import functional as F

from .encoder import FaceEncoder, to_bytes

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
def measure_faces(images, encoder=None):
    """Measure in each image what the directions are to change: float32 (n, len(NAMES)).

    images   (n, 3, s, s): uint8, or float in [-1, 1]
    encoder  a FaceEncoder; None: the project's own

    What the encoder sees is its logit, above 0 for yes; light hair is the logit of blond less that
    of black. The rest is measured in the pixels, in [0, 1].
    """
    encoder = encoder or FaceEncoder.trained()
    images = to_bytes(images)
    features = encoder.embed(images).to(encoder.attributes.weight.device)
    logits = encoder.attributes(features).cpu()
    x = images.float() / 255
    columns = []
    for name in NAMES:
        if name in PIXELS:
            columns.append(PIXELS[name](x))
            continue
        column = torch.zeros(len(images))
        for attribute, sign in (SEEN | ALSO_SEEN)[name].items():
            column += sign * logits[:, encoder.attribute_names.index(attribute)]
        columns.append(column)
    return torch.stack(columns, 1)


@torch.no_grad()
def draw_and_measure(generate, z, encoder=None):
    """Return what measure_faces says of the faces of z, (n, z_size), drawn 500 at a time."""
    encoder = encoder or FaceEncoder.trained()
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
    slopes = fit_slopes(z, draw_and_measure(generate, z))
    return dict(zip(NAMES, without_others(slopes, slopes), strict=True))


def move(z, direction, amount):
    """Go from z, (n, z_size), by amount along a direction, and back to the length that z had.

    Noise of many dimensions has nearly always the same length, and G has seen no other.
    """
    moved = z + amount * direction
    length = moved.norm(dim=-1, keepdim=True).clamp(min=1e-12)           # z may be 0
    return moved * (z.norm(dim=-1, keepdim=True) / length)
