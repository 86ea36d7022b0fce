"""Has a generator learnt its training faces by heart? Errors of recovery, and twins."""
import dataclasses

import torch
from scipy import stats

from .console import check_whole
from .encoder import nearest_faces, to_bytes
from .inversion import frozen, invert, shades_apart

N_STEPS = 100        # of the search: what G knows by heart is found soon
SURE = 0.01          # level of significance: chance alone gives a p-value below it this often
FEWEST = 50          # faces of each kind: with fewer, a G that knows faces by heart may pass
RARE = 0.05          # share of held-out faces that count as twins of a training face


@dataclasses.dataclass
class Memorisation:
    """What memorisation found. Errors are in shades of 255; shares are from 0 to 1.

    training, held_out    the errors at which G comes nearest to each face, tensors (n,)
    gap                   how much larger the median of held_out is, as a share of it
    p_value               of the two-sample test of Kolmogorov and Smirnov: how often chance alone
                          makes a difference at least as large
    twins                 share of generated faces as near to a training face as few real ones are
    n_generated           how many faces that was counted in
    """

    training: torch.Tensor
    held_out: torch.Tensor
    gap: float = 0.0
    p_value: float = 1.0
    twins: float = 0.0
    n_generated: int = 0

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
                f'p = {self.p_value:.2g}); {100 * self.twins:.0f} % of {self.n_generated} '
                f'generated faces are as near to a training face as {100 * RARE:.0f} % of the '
                f'held-out ones')


def memorisation(G, training, held_out, n=100, n_generated=500, seed=0):
    """Ask whether G has learnt its training faces by heart: a Memorisation.

    Faces that G was trained on and faces that it never saw are given back as well as it can (see
    invert), in pixels alone. A G that has learnt faces and not pictures by heart comes equally
    near to both, so the errors are spread alike (Webster et al., CVPR 2019, arXiv:1901.03396).
    Beside it, twins are counted: generated faces that are nearer to some training face, or to its
    mirror image, than 95 % of the held-out faces are.

    G            as for invert
    training     faces that G was trained on, (N, 3, s, s): uint8, or float in [-1, 1]
    held_out     faces that it was not trained on, likewise; without any, nothing is measured
    n            how many of each kind are given back, at most
    n_generated  how many generated faces, and at most how many held-out ones, seek their twins
    seed         draws them
    Raises ValueError for what is no such images.
    """
    check_whole(n=n, n_generated=n_generated)
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
    z = torch.randn(n_generated, z.shape[1], generator=random_numbers)
    real = sample(held_out, n_generated, random_numbers)
    _, apart = nearest_faces(torch.cat([real, generated_by(G, z)]), training)
    near = apart[:len(real)].quantile(RARE)
    twins = (apart[len(real):] < near).float().mean().item()
    return Memorisation(errors_known, errors_new, gap, float(test.pvalue), twins, n_generated)


def sample(images, n, random_numbers):
    """Return n of the images at random, as bytes; all of them where they are fewer."""
    return to_bytes(images, at_least=1)[torch.randperm(len(images), generator=random_numbers)[:n]]


@torch.no_grad()
def generated_by(G, z):
    """Return the faces of z, (n, z_size), as bytes."""
    G = frozen(G, 'cpu')
    return to_bytes(torch.cat([G(part) for part in z.split(250)]))
