"""Train on purpose what goes wrong, and draw its curves and faces: failures of GANs, and bugs.

    python -m experiments.failures --folder FOLDER [--budget 20000] [--seed 0] [--only NAME ...]
                                   [--keep PLACE]

All runs follow the paper's recipe in batches of 16, and each changes one thing of it. A failure is
what every GAN may meet; a bug is a mistake in the notebook's code that still trains, with the test
of problem_unittests.py that tells. Finished runs are kept in PLACE and not repeated; a picture is
drawn when all of its runs are there. Writes failures.png, find-the-bug.png, whose bugs are numbered
as in the table, and failures.csv: of each run the means over its last tenth, its distance, and the
variety and the checkerboards of its faces as multiples of those of photographs.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn as nn
from PIL import Image

import helpers
from experiments import common, runs
from experiments.settings import Setting, change_layers, with_rates
from machinery.pictures import D_COLOUR, G_COLOUR, WIDTH, show_grid

CHANGES = dict(batch_size=16, lr=4e-4)   # of the public recipe, for faces within a minute
N_JUDGED = 2_000
FIGURES = 'd_loss', 'g_loss', 'd_real', 'd_fake'         # of each step
COLUMNS = ('run', 'kind', 'number', 'change', 'tells', *FIGURES, 'ffd', 'floor', 'variety',
           'checkerboards', 'images_seen', 'image_size', 'conv_dim', 'batch', 'seed', 'data',
           'n_judged', 'device', 'torch', 'command')
KEY = 'run', 'seed', 'images_seen', 'device'

RIGHT = 'right'
COMPARISON, FAILURE, BUG = 'comparison', 'failure', 'bug'        # kinds of runs
RUNS = {}                    # {name: Setting}, filled below; its group is the kind
TELLS = {}                   # {name of a bug: the test that tells}


def add(kind, name, what, edits=(), **changes):
    """Add a run; as a decorator, one that the function below brings about."""
    RUNS[name] = Setting(kind, name, what=what, edits=edits, **CHANGES, **changes)
    return RUNS[name].vary


def add_bug(name, test, what, old, new):
    """Add a mistake in the notebook's code: new text in the place of old."""
    add(BUG, name, what, [(old, new)])
    TELLS[name] = test


def names_of(kind):
    return [name for name, chosen in RUNS.items() if chosen.group == kind]


# ------------------------------------------------------------------------- failures and comparisons

add(COMPARISON, RIGHT, "the paper's recipe, but batches of 16 and twice its learning rate")


@add(FAILURE, 'D has won', "G's learning rate 1/50 of D's")
def slow_G(notebook):
    with_rates(notebook, 1, 1 / 50)


@add(FAILURE, 'mode collapse', "D's learning rate 1/8 of G's")
def slow_D(notebook):
    with_rates(notebook, 1 / 8, 1)


add(FAILURE, 'checkerboards', 'a fifth of the images', budgets=0.2)


@add(COMPARISON, 'kernel 3', 'kernel 3 in the transposed convolutions')
def kernel_of_3(notebook):
    def narrow(layers):
        return [narrowed(layer) if isinstance(layer, nn.ConvTranspose2d) else layer
                for layer in layers]
    change_layers(notebook, 'Generator', narrow)


def narrowed(layer):
    """Return a transposed convolution with kernel 3 that doubles the sides as well."""
    return nn.ConvTranspose2d(layer.in_channels, layer.out_channels, 3, stride=2, padding=1,
                              output_padding=1, bias=layer.bias is not None)


@add(COMPARISON, 'no batch norm in G', 'no batch norm in G')
def no_norm_in_G(notebook):
    def drop(layers):
        return [layer for layer in layers if not isinstance(layer, nn.BatchNorm2d)]
    change_layers(notebook, 'Generator', drop)


# --------------------------------------------------------------------- bugs, in the picture's order

AUGMENTED = '''augment(G(z), augmentation)                   # made once, used by both players

'''
add_bug('real images never scaled', 'test_train', 'real = images, without scale',
        'real = scale(images)', 'real = images')
add_bug('G stays in eval mode', 'test_generate', 'generate does not set the mode back',
        '    G.train(training)\n', '')
add_bug('sigmoid before the loss', 'test_discriminator_layers', 'D ends in a sigmoid',
        'nn.Linear(depths[-1] * 4 * 4, 1)',
        'nn.Sequential(nn.Linear(depths[-1] * 4 * 4, 1), nn.Sigmoid())')
add_bug('fakes labelled real', 'test_losses', 'fake_loss wants 1',
        'torch.zeros_like(D_out)', 'torch.ones_like(D_out)')
add_bug('gradients of D add up', 'test_train_step', 'no d_optimizer.zero_grad()',
        AUGMENTED + '    d_optimizer.zero_grad()\n', AUGMENTED)

# -------------------------------------------------------------------------------------------- runs


def make(chosen, faces, seed, budget):
    """Train; return the figures of each step (n, 4), the last grid, N_JUDGED faces, images seen."""
    notebook = chosen.definitions()
    portion = round(chosen.config['budgets'] * budget / runs.PASSES)
    loader = runs.loader_of(faces, chosen.config['batch_size'], portion)
    with common.scratch_folder():
        G, saved = runs.train(notebook, chosen.config, loader, seed, runs.PASSES)
        history, samples = helpers.load_history(), helpers.load_samples()
    steps = torch.stack([torch.from_numpy(history[name]) for name in FIGURES], 1)
    images = runs.draw(common.notebook_definitions(), G, N_JUDGED, seed)
    return dict(steps=steps, grid=samples[-1], images=images, images_seen=saved['images_seen'])


def kept_or_made(chosen, faces, seed, budget, keep):
    """Make a run, or take it from the folder where finished ones are kept."""
    path = keep and keep / f'{chosen.name} {seed} {budget}.pt'
    if path and path.exists():
        return torch.load(path)
    run = make(chosen, faces, seed, budget)
    if path:
        torch.save(run, path)
    return run


# ----------------------------------------------------------------------------------------- figures


def variety(images, n=500):
    """Return how far the nearest other one of n images is, on average: few faces are near."""
    pixels = images[:n].flatten(1)
    distances = torch.cdist(pixels, pixels).fill_diagonal_(torch.inf)
    return distances.amin(1).mean().item()


def checkerboards(images):
    """Return how much pixels differ from their neighbours as the fields of a checkerboard do."""
    sign = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).expand(3, 1, 2, 2)
    return nn.functional.conv2d(images, sign, groups=3).abs().mean().item()


def row_of(chosen, run, distance, photographs):
    """Return a run's row of the table, without where it comes from."""
    last = run['steps'][-len(run['steps']) // 10:].mean(0).tolist()
    row = {name: f'{value:.4f}' for name, value in zip(FIGURES, last, strict=True)}
    for measure in (variety, checkerboards):
        ratio = measure(run['images']) / measure(photographs)
        row[measure.__name__] = f'{ratio:.4f}'
    bugs = names_of(BUG)
    number = 1 + bugs.index(chosen.name) if chosen.name in bugs else ''
    return row | dict(run=chosen.name, kind=chosen.group, number=number, change=chosen.change,
                      tells=TELLS.get(chosen.name, ''), ffd=f'{distance(run["images"]):.4f}',
                      floor=f'{distance.floor:.4f}', images_seen=run['images_seen'],
                      image_size=chosen.config['img_size'], conv_dim=chosen.config['conv_dim'],
                      batch=chosen.config['batch_size'], n_judged=len(run['images']))


# ---------------------------------------------------------------------------------------- pictures


def draw(path, found):
    """Draw runs, a row each: eight faces, the losses, and what D says. found is {title: run}."""
    _, rows = plt.subplots(len(found), 3, figsize=(WIDTH, 1.6 * len(found) + 0.4),
                           layout='constrained')
    for (title, run), (faces, losses, answers) in zip(found.items(), rows, strict=True):
        show_grid(run['grid'][:8], 4, title, faces)
        seen = np.linspace(0, run['images_seen'] / 1000, len(run['steps']))
        for axes, first, words in ((losses, 0, ('loss of D', 'loss of G')),
                                   (answers, 2, ('D(x)', 'D(G(z))'))):
            for number, colour in enumerate((D_COLOUR, G_COLOUR)):
                plot(axes, seen, run['steps'][:, first + number].numpy(), colour, words[number])
            axes.tick_params(labelsize=8)
            axes.locator_params(nbins=5)
        top = highest(run['steps'][:, :2])
        losses.set_ylim(-0.03 * top, top)
        answers.set_ylim(-0.03, 1.03)
    for axes in rows[0, 1:]:
        axes.legend(fontsize=9, ncols=2, loc='lower center', bbox_to_anchor=(0.5, 1),
                    frameon=False)
    for axes in rows[-1, 1:]:
        axes.set_xlabel('thousand images seen', fontsize=9)
    common.save_figure(path)
    Image.open(path).quantize(256).save(path, optimize=True)     # noise is large


def plot(axes, seen, values, colour, label):
    """Plot a figure of each step light, and the means of a 25th of all steps bold."""
    window = max(1, len(values) // 25)
    smoothed = np.convolve(values, np.ones(window) / window, 'valid')
    axes.plot(seen, values, color=colour, alpha=0.2, linewidth=0.5)
    axes.plot(seen[window - 1:], smoothed, color=colour, label=label)


def highest(losses):
    """Return where the axis of two losses ends: above nearly all of them, and at 2 at least."""
    return max(2, 1.1 * np.quantile(losses, 0.99))


def draw_pictures(into, found):
    """Draw the pictures of which all runs are there."""
    failures, bugs = names_of(FAILURE), names_of(BUG)
    if found.keys() >= {*failures}:
        draw(into / 'failures.png', {name: found[name] for name in failures})
    if found.keys() >= {RIGHT, *bugs}:
        numbered = {f'bug {number}': found[name] for number, name in enumerate(bugs, 1)}
        draw(into / 'find-the-bug.png', {'as it should be': found[RIGHT]} | numbered)


def main(arguments=None):
    parser = common.command_parser(__doc__)
    parser.add_argument('--folder', type=common.existing_folder, required=True, help='of the faces')
    parser.add_argument('--budget', type=int, default=20_000, help='images a run (default 20000)')
    parser.add_argument('--seed', type=int, default=0, help='(default 0)')
    parser.add_argument('--only', nargs='+', choices=RUNS, metavar='NAME', help='these runs')
    parser.add_argument('--keep', type=common.existing_folder, metavar='PLACE',
                        help='of finished runs')
    options = parser.parse_args(arguments)
    seed, budget = options.seed, options.budget
    runs.begin(parser, options)
    command = common.command('failures', '--folder', 'FOLDER', '--budget', budget, '--seed', seed)
    found, rows = {}, []
    with common.scratch_folder():
        notebook = common.notebook_definitions()
        faces = notebook.get_dataloader(16, 32, options.folder).dataset
        distance = helpers.FaceDistance(faces.images, helpers.choose_device(), N_JUDGED, seed=None)
        photographs = notebook.scale(distance.real / 255)
        for name in options.only or RUNS:
            run = kept_or_made(RUNS[name], faces, seed, budget, options.keep)
            found[name] = run
            row = row_of(RUNS[name], run, distance, photographs)
            rows.append(row | dict(seed=seed, data=f'{len(faces)} images of {options.folder.name}/')
                        | common.provenance(command))
            print(', '.join(f'{name} {row[name]}' for name in ('run', *FIGURES, 'ffd', 'variety',
                                                               'checkerboards')), flush=True)
    common.Table(options.into / 'failures.csv', COLUMNS, KEY).merge(rows)
    draw_pictures(options.into, found)


if __name__ == '__main__':
    main()
