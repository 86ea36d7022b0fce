"""From a picture to its noise, the noise whose generated face comes nearest: GAN inversion."""
import copy
import time

import torch
from torch import optim

from . import devices
from .console import check_range, check_whole, progress_bar
from .encoder import FaceEncoder, to_bytes

N_CANDIDATES = 500   # random faces; the searches start from the noise of the nearest of them
TOGETHER = 50        # searches at the same time
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
    n_starts  how many searches for each image
    n_steps   of Adam for each image, those of its other starts not counted
    features  the weight of the encoder's features; 0: pixels alone, in less time
    Random numbers that are drawn afterwards stay the same.
    Says in the end how many seconds an image took. Raises ValueError for what is no such images.
    """
    check_whole(n_starts=n_starts, n_steps=n_steps)
    check_range(1, N_CANDIDATES + 1, f'{N_CANDIDATES} at most', n_starts=n_starts)
    images = to_bytes(images, at_least=1)
    device = devices.choose_device()
    G = frozen(G, device)
    with torch.random.fork_rng(devices=[]):          # new layers draw random numbers
        encoder = FaceEncoder.trained().to(device) if features else None
    random_numbers = torch.Generator().manual_seed(seed)
    candidates = torch.randn(N_CANDIDATES, G.z_size, generator=random_numbers).to(device)
    with torch.no_grad():
        faces = torch.cat([G(part) for part in candidates.split(100)])
    if images.shape[1:] != faces.shape[1:]:
        raise ValueError(f'images: found {tuple(images.shape[1:])} each, expected '
                         f'{tuple(faces.shape[1:])}, as large as those of G')
    started = time.monotonic()
    found = []
    with progress_bar(len(images), 'image', desc='noise of images') as bar:
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
    difference = to_bytes(images).float() - to_bytes(others).float()
    return difference.square().mean((1, 2, 3)).sqrt()
