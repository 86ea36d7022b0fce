"""Has a generator learnt its training faces by heart? Two numbers that tell."""
import dataclasses

import torch
from scipy import stats

from .encoder import nearest_faces, to_bytes
from .inversion import frozen, invert, shades_apart

N_STEPS = 100        # of the search: what G knows by heart is found soon
SURE = 0.01          # a p-value below it is no accident
RARE = 0.05          # share of held-out faces that count as near to a training face


@dataclasses.dataclass
class Memorisation:
    """What memorisation found. Errors are in shades of 255; shares are from 0 to 1.

    training, held_out    the errors at which G comes nearest to each face, tensors (n,)
    gap                   how much larger the median of held_out is, as a share of it
    p_value               of Kolmogorov and Smirnov: how often such a difference is an accident
    near_training         share of generated faces as near to a training face as few real ones are
    near_held_out         the same for as many held-out faces: what comes of it by accident
    n_generated           how many faces that was counted in
    """

    training: torch.Tensor
    held_out: torch.Tensor
    gap: float = 0.0
    p_value: float = 1.0
    near_training: float = 0.0
    near_held_out: float = 0.0
    n_generated: int = 0

    @property
    def caught(self):
        """Whether the training faces are found again so much better that it is no accident."""
        return self.p_value < SURE and self.gap > 0

    def __str__(self):
        if len(self.held_out) == 0:
            return 'No face was held out, so nothing tells whether faces were learnt by heart.'
        verdict = 'learnt by heart, in part' if self.caught else 'no sign of learning by heart'
        return (f'{verdict}: median error {self.training.median():.1f} for {len(self.training)} '
                f'training faces, {self.held_out.median():.1f} for {len(self.held_out)} held-out '
                f'ones (gap {100 * self.gap:.1f} %, p = {self.p_value:.2g}); '
                f'{100 * self.near_training:.0f} % of {self.n_generated} generated faces are near '
                f'a training face, {100 * self.near_held_out:.0f} % a held-out one')


def memorisation(G, training, held_out, n=100, n_near=500, seed=0):
    """Ask whether G has learnt its training faces by heart: a Memorisation.

    Faces that G was trained on and faces that it never saw are given back as well as it can (see
    invert), in pixels alone. A G that has learnt faces and not pictures by heart comes equally
    near to both, so the errors are spread alike (Webster et al., CVPR 2019, arXiv:1901.03396).
    Beside it, twins are counted: generated faces that are nearer to a training face, or to its
    mirror image, than 95 % of the held-out faces are to theirs.

    G         as for invert
    training  faces that G was trained on, (N, 3, s, s): uint8, or float in [-1, 1]
    held_out  faces that it was not trained on, likewise; without any, nothing is measured
    n         how many of each kind are given back, at most
    n_near    how many faces of each kind, and generated ones, the twins are counted in, at most
    seed      draws them
    Raises ValueError for what is no such images.
    """
    if len(held_out) == 0:
        return Memorisation(torch.empty(0), torch.empty(0))
    random_numbers = torch.Generator().manual_seed(seed)
    n_near = min(n_near, len(training), len(held_out))
    training = draw(training, n_near, random_numbers)
    held_out = draw(held_out, n_near, random_numbers)
    n = min(n, n_near)
    both = torch.cat([training[:n], held_out[:n]])
    z = invert(G, both, n_starts=1, n_steps=N_STEPS, seed=seed, features=0)
    errors = shades_apart(generated_by(G, z), both).split(n)
    medians = [each.median().item() for each in errors]
    z = torch.randn(n_near, z.shape[1], generator=random_numbers)
    generated = generated_by(G, z)
    _, usual = nearest_faces(held_out, training)
    near = usual.quantile(RARE)
    shares = []
    for faces in (training, held_out):
        _, distances = nearest_faces(generated, faces)
        shares.append((distances < near).float().mean().item())
    return Memorisation(*errors, gap=1 - medians[0] / max(medians[1], 1e-6),
                        p_value=float(stats.ks_2samp(*[each.numpy() for each in errors]).pvalue),
                        near_training=shares[0], near_held_out=shares[1], n_generated=n_near)


def draw(images, n, random_numbers):
    """Return n of the images at random, as bytes."""
    return to_bytes(images)[torch.randperm(len(images), generator=random_numbers)[:n]]


@torch.no_grad()
def generated_by(G, z):
    """Return the faces of z, (n, z_size), as bytes."""
    G = frozen(G, 'cpu')
    return to_bytes(torch.cat([G(part) for part in z.split(250)]))
