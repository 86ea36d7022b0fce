"""Has a generator learnt its training faces by heart, and would we notice it?

    python -m experiments.memorisation --faces processed_celeba_small/ assets/dcgan-64
    python -m experiments.memorisation --faces processed_celeba_small/ --liars

For each folder of a generator, which must have been trained on the faces of --faces: is a face that
it made found again (inversion.csv), and does it come nearer to the faces that it was trained on
than to those held out (memorisation.csv)? The figures go on its card as well. It takes ten minutes
a folder on one core. --liars trains three generators on 100 faces each, for much too long, and asks
the same twice: of those 100 faces, which must be noticed, and of 100 faces that they did not see,
which must not. That takes two minutes a generator.

How small a gap would be noticed (memorisation_gap.csv)? The errors of faces that a generator never
saw are drawn anew, once as they are and once smaller by some per cent. The smallest gap is that
which is noticed in four of five such draws.
"""
import time

import torch
from scipy import stats

import helpers
from experiments import common, runs
from experiments.export import add_figures, images_of_pair
from experiments.settings import BASE, in_words
from machinery import latent

SEEDS = 0, 1, 2
N_FACES = 300        # of each kind, given back by a generator
N_IN_NOTEBOOK = 100  # the same in the notebook
N_OWN = 100          # faces that a generator made, to be found again
SAME = 4             # shades of 255: the eye sees no difference below
N_LEARNT = 100       # faces that a liar learns, and sees so often
TIMES_SEEN = 960
LIAR = dict(conv_dim=16, batch_size=16, lr=8e-4, beta1=0.0, penalty=0.025, ema_decay=0.999,
            lr_decay=True)

INVERSION = ('generator', 'weights', 'seed', 'n', 'found', 'median', 'largest', 'same_below',
             'seconds_a_face', 'command', 'device', 'torch')
MEMORISATION = ('generator', 'weights', 'judged', 'seed', 'n', 'median_training',
                'median_held_out', 'gap', 'p_value', 'caught', 'n_generated', 'twins', 'data',
                'seconds', 'command', 'device', 'torch')
GAP = ('generator', 'weights', 'n', 'smallest_gap', 'noticed', 'n_draws', 'n_errors', 'median',
       'command', 'device', 'torch')
NOTICED = 0.8        # share of draws in which a gap has to be noticed
N_DRAWS = 200
OWN, UNSEEN = 'its training faces', 'faces that it did not see'


def tables(folder):
    """Return the three tables of this experiment in a folder."""
    return (common.Table(folder / 'inversion.csv', INVERSION, ('generator', 'seed')),
            common.Table(folder / 'memorisation.csv', MEMORISATION,
                         ('generator', 'judged', 'seed')),
            common.Table(folder / 'memorisation_gap.csv', GAP, ('generator', 'n')))


def find_again(G, seed, n=N_OWN):
    """Let G make faces, seek their noise, and return how near it comes: a row."""
    random_numbers = torch.Generator().manual_seed(1000 + seed)      # not those of the search
    generate = common.notebook_definitions().generate
    faces = generate(G, torch.randn(n, G.z_size, generator=random_numbers))
    started = time.monotonic()
    z = helpers.invert(G, faces, seed=seed)
    seconds = time.monotonic() - started
    apart = latent.shades_apart(faces, generate(G, z))
    return dict(seed=seed, n=n, found=f'{(apart < SAME).float().mean():.2f}',
                median=f'{apart.median():.2f}', largest=f'{apart.max():.2f}', same_below=SAME,
                seconds_a_face=f'{seconds / n:.2f}')


def judge(G, training, held_out, seed, n=N_FACES):
    """Return what helpers.memorisation finds, as a row."""
    if len(held_out) == 0:
        raise ValueError('no face was held out from the training, so there is nothing to judge by')
    started = time.monotonic()
    found = helpers.memorisation(G, training, held_out, n, seed=seed)
    print(found, flush=True)
    numbers = dict(median_training=found.training.median().item(),
                   median_held_out=found.held_out.median().item(), gap=found.gap)
    return dict(seed=seed, n=len(found.training), p_value=f'{found.p_value:.4g}',
                caught='yes' if found.caught else 'no',
                seconds=f'{time.monotonic() - started:.0f}',
                **{name: f'{value:.4f}' for name, value in numbers.items()})


def smallest_gap(errors, n):
    """Return the smallest gap, in whole per cent, that would be noticed among n faces of each kind.

    errors  those of faces that a generator never saw, a tensor
    """
    random_numbers = torch.Generator().manual_seed(0)
    draws = torch.randint(len(errors), (N_DRAWS, 2, n), generator=random_numbers)
    for per_cent in range(1, 100):
        n_noticed = 0
        for training, held_out in errors[draws]:
            training = training * (1 - per_cent / 100)
            p_value = stats.ks_2samp(training.numpy(), held_out.numpy()).pvalue
            is_smaller = training.median() < held_out.median()
            n_noticed += bool(p_value < latent.SURE and is_smaller)
        if n_noticed >= NOTICED * N_DRAWS:
            return per_cent / 100
    return 1.0


def measure_gap(G, held_out):
    """Return rows that say how small a gap of a generator would be noticed."""
    held_out = latent.sample(held_out, N_FACES, torch.Generator().manual_seed(0))
    z = helpers.invert(G, held_out, n_starts=1, n_steps=latent.N_STEPS, features=0)
    errors = latent.shades_apart(latent.generated_by(G, z), held_out)
    return [dict(n=n, smallest_gap=smallest_gap(errors, n), noticed=NOTICED, n_draws=N_DRAWS,
                 n_errors=len(errors), median=f'{errors.median():.2f}')
            for n in (N_IN_NOTEBOOK, N_FACES)]


def as_sentence(rows, gaps):
    """Return a generator's rows of memorisation.csv as a sentence for its card.

    gaps  its rows of memorisation_gap.csv
    """
    smallest, = [float(row['smallest_gap']) for row in gaps if int(row['n']) == N_FACES]
    def column(name):
        return [float(row[name]) for row in rows]

    def mean(name):
        return sum(column(name)) / len(rows)
    lowest, highest = min(column('gap')), max(column('gap'))
    return (f'it comes as near as {mean("median_training"):.1f} shades of 255 to {rows[0]["n"]} '
            f'faces of its training and {mean("median_held_out"):.1f} to as many that it never '
            f'saw; the gap is {100 * lowest:.1f} to {100 * highest:.1f} %, p at least '
            f'{min(column("p_value")):.2g}, over {len(rows)} seeds. A gap of less '
            f'than {100 * smallest:.0f} % might go unnoticed')


def judge_folder(folder, faces, into, line):
    """Measure the generator of a folder, and put the figures on its card."""
    notebook = common.notebook_definitions()
    pair = helpers.load_pair(folder)
    G = helpers.rebuild(notebook.Generator, pair, pair['G_average'])
    config = pair['config']
    dataset = images_of_pair(faces, config)
    weights = config['sha256'][:16]
    whose = dict(generator=folder.name, weights=weights, **common.provenance(line))
    inverted, memorised, gaps = tables(into)
    gaps.merge([row | whose for row in measure_gap(G, dataset.judges)])
    inverted.merge([find_again(G, SEEDS[0]) | whose])
    for seed in SEEDS:
        row = judge(G, dataset.images, dataset.judges, seed)
        memorised.merge([row | whose | dict(judged=OWN, data=config['data'])])
    mine = [[row for row in table.read() if row['weights'] == weights]
            for table in (memorised, gaps)]
    add_figures(folder, memorisation=as_sentence(*mine))


def train_liar(images, seed):
    """Train a generator on few images for much too long, as the notebook trains; return it."""
    faces, config = helpers.ImageDataset(images), BASE | LIAR
    loader = runs.loader_of(faces, config['batch_size'], len(faces) * TIMES_SEEN // runs.PASSES)
    with common.scratch_folder():
        G, _ = runs.train(common.notebook_definitions(), config, loader, seed, runs.PASSES)
    return G


def judge_liars(faces, into, whence):
    """Train a liar with each seed, and ask of its own faces and of others."""
    images, _ = helpers.decode_folder(faces, BASE['img_size'])
    whose = dict(generator=f'overtrained on {N_LEARNT} faces', weights='not kept', **whence)
    whose['data'] = f'each face seen {TIMES_SEEN} times; {in_words(LIAR)}'
    _, memorised, _ = tables(into)
    for seed in SEEDS:
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
        own, unseen, held_out = images[order[:3 * N_LEARNT]].split(N_LEARNT)
        G = train_liar(own, seed)
        memorised.merge([judge(G, own, held_out, seed) | whose | dict(judged=OWN),
                         judge(G, unseen, held_out, seed) | whose | dict(judged=UNSEEN)])


def main(arguments=None):
    parser = common.command_parser(__doc__)
    parser.add_argument('folders', type=common.existing_folder, nargs='*', metavar='FOLDER',
                        help='of a generator, as experiments.export writes it')
    parser.add_argument('--faces', type=common.existing_folder, required=True, metavar='FOLDER',
                        help='the images that the generators were trained on')
    parser.add_argument('--liars', action='store_true', help='train the liars, and judge them')
    options = parser.parse_args(arguments)
    asked = ['--faces', options.faces.name + '/']
    for folder in options.folders:
        line = common.command('memorisation', *asked, common.name_of(folder))
        judge_folder(folder, options.faces, options.into, line)
    if options.liars:
        whence = common.provenance(common.command('memorisation', *asked, '--liars'))
        judge_liars(options.faces, options.into, whence)


if __name__ == '__main__':
    main()
