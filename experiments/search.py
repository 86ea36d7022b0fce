"""Search for a better recipe at 64x64: equal processor time from scratch, other people judge.

    python -m experiments.search --folder FOLDER --people VAL_FACES

It makes what is not in its tables yet, in this order, and --parts names some of it:

rates    images a second of each cost, measured in turns: search_rates.csv. From them follows how
         many images a setting is given for ten minutes: so its learning rates know where they end,
         and other work on the machine changes no distance
screen   each setting with two seeds: search.csv
confirm  the setting that came nearest in the screen, and the recipe as it is, with three other
         seeds: search.csv

A setting is one change of the recipe of the first leg of dcgan-64. Faces of even
identities in VAL_FACES judge the screen, those of odd ones the rest, as in the fair race. A
distance is that of 5,000 faces of the averaged G; its floor is that of 5,000 faces of FOLDER.
Seconds are those of the passes over the images, processor time on one thread.
search_summary.csv compares by geometric means (--figure: no runs, only this).
"""
import itertools
import math
import statistics
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

from experiments import common, fair, runs
from experiments.settings import RECIPE, Setting, with_rates

SIZE = 64
SECONDS = 600
PASSES = 10
FEW_FACES = 16_200           # that the first leg learnt
SCREEN_SEEDS = 0, 1
CONFIRM_SEEDS = 2, 3, 4
SHARE_BEFORE = 1 / 3         # of the seconds that going up spends at 32x32

AS_IT_IS, FEWER, GOING_UP = 'as it is', '16,200 faces', 'going up'
RECIPE_64 = RECIPE | dict(img_size=SIZE, batch_size=8, lr=1e-3, penalty=0.01)
SETTINGS = {}                # {name: Setting}, filled below
COLUMNS = ('setting', 'change', 'part', 'seed', 'images_seen', 'seconds', 'ffd', 'floor',
           'judged_by', 'n_generated', 'n_real', 'arithmetic', 'data', 'device', 'torch',
           'command')
KEY = 'setting', 'part', 'seed', 'device'
RATES = ('setting', 'images_per_second', 'lowest', 'highest', 'n_rounds', 'device', 'torch',
         'command')
SUMMARY = ('setting', 'change', 'part', 'n_seeds', 'images_seen', 'seconds', 'ffd', 'lowest',
           'highest', 'floor', 'ratio', 'ratio_low', 'ratio_high', 'p', 'device', 'torch',
           'command')
ROUNDS = 3
N_RATED = 256                # images in the pass that warms up, and in each of two that count
PARTS = 'rates', 'screen', 'confirm'
SHOWN = 'setting', 'seed', 'ffd', 'images_seen', 'seconds'

# ---------------------------------------------------------------------------------------- settings


def setting(name, what, **changes):
    """Add a setting; as a decorator, one whose variant is the function below it."""
    SETTINGS[name] = Setting('search', name, what=what, **RECIPE_64 | changes)
    return SETTINGS[name].vary


def each_pass(notebook, act):
    """Call act(share, optimizers) before each pass; share is of the training that is over."""
    original = notebook.decay_learning_rates

    def decay_learning_rates(optimizers, epoch, n_epochs):
        original(optimizers, epoch, n_epochs)
        act((epoch - 1) / n_epochs, optimizers)
    notebook.decay_learning_rates = decay_learning_rates


setting(AS_IT_IS, 'the recipe of the first leg of dcgan-64')
setting(FEWER, 'as many faces as that leg learnt')


def widen_G(notebook, width):
    original = notebook.build_network

    def build_network(d_conv_dim, g_conv_dim, *others):
        return original(d_conv_dim, width, *others)
    notebook.build_network = build_network


@setting('G 48', 'G 48 wide, D 32')
def G_48(notebook):
    widen_G(notebook, 48)


@setting('G 64', 'G 64 wide, D 32')
def G_64(notebook):
    widen_G(notebook, 64)


@setting('falling penalty', 'penalty from 0.05 to 0.005, beta2 from 0.9 to 0.99', penalty=0.05)
def falling_penalty(notebook):
    """Strong first and weak last, as R3GAN has it (Huang et al., arXiv:2501.05441)."""
    original = notebook.gradient_penalty
    factor = 1.0

    def gradient_penalty(*arguments):
        return factor * original(*arguments)

    def act(share, optimizers):
        nonlocal factor
        factor = 10 ** -share
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group['betas'] = group['betas'][0], 1 - 0.1 * 10 ** -share
    notebook.gradient_penalty = gradient_penalty
    each_pass(notebook, act)


setting('strong penalty', 'penalty 0.05, beta2 0.99, all the time', penalty=0.05, beta2=0.99)


@setting('LeCam', "D's answers pulled to their running means, weight 0.01")
def lecam(notebook, weight=0.01):
    """Tseng et al., arXiv:2104.03310; from step 100 on, when the means say something."""
    d_loss, g_loss = notebook.OBJECTIVES['bce']
    means = torch.zeros(2)                   # of D's answers to real and to generated images
    n_steps = 0

    def pulled(real, fake):
        nonlocal n_steps
        n_steps += 1
        now = torch.stack([real.detach().mean(), fake.detach().mean()])
        means.lerp_(now.float().cpu(), 0.01)
        of_real, of_fake = means.tolist()
        pull = F.relu(real - of_fake).square().mean() + F.relu(of_real - fake).square().mean()
        return d_loss(real, fake) + weight * (n_steps > 100) * pull
    notebook.OBJECTIVES['bce'] = pulled, g_loss


def normalise_weights(notebook, rate):
    """D without batch normalisation, its weights normalised, at its own multiple of the rate."""
    original = notebook.build_network

    def normalise(m):
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            nn.utils.parametrizations.weight_norm(m)

    def build_network(*arguments):
        D, G = original(*arguments)
        D.apply(normalise)                   # after the weights are drawn
        return D, G
    notebook.build_network = build_network
    with_rates(notebook, rate, 1)


@setting('weight norm', 'D weight-normalised, without batch normalisation', d_batch_norm=False)
def weight_norm(notebook):
    normalise_weights(notebook, 1)


@setting('weight norm, slow D', "the same, D's rate 0.3 times G's", d_batch_norm=False)
def weight_norm_slow(notebook):
    normalise_weights(notebook, 0.3)


class Modulated(nn.Module):
    """Batch normalisation whose scale and shift come from the noise that the image is made of."""

    def __init__(self, depth, z_size):
        super().__init__()
        self.normalise = nn.BatchNorm2d(depth, affine=False)
        self.from_noise = nn.Sequential(nn.Linear(z_size, 32), nn.ReLU(inplace=True),
                                        nn.Linear(32, 2 * depth))
        self.z = None                        # the Generator hands it in

    def forward(self, x):
        scale, shift = self.from_noise(self.z)[:, :, None, None].chunk(2, 1)
        return self.normalise(x) * (1 + scale) + shift


@setting('self-modulation', "scale and shift of G's batch normalisation come from the noise")
def self_modulation(notebook):
    """Chen et al., arXiv:1810.01365."""
    class SelfModulated(notebook.Generator):
        def __init__(self, z_size, *arguments, **options):
            super().__init__(z_size, *arguments, **options)
            for position, layer in enumerate(self.layers):
                if isinstance(layer, nn.BatchNorm2d):
                    self.layers[position] = Modulated(layer.num_features, z_size)

        def forward(self, z):
            for layer in self.layers:
                if isinstance(layer, Modulated):
                    layer.z = z
            return super().forward(z)
    notebook.Generator = SelfModulated


@setting('late augmentation', 'colours and places of what D sees change in the second half')
def late_augmentation(notebook):
    original = notebook.augment
    names = ()

    def augment(x, _):
        return original(x, names)

    def act(share, _):
        nonlocal names
        names = ('colour', 'translation') if share >= 0.5 else ()
    notebook.augment = augment
    each_pass(notebook, act)


setting(GOING_UP, 'a third of the time at 32x32; all layers but those next to the image go on')
AT_32 = Setting('search', 'at 32x32', **RECIPE_64 | dict(img_size=32, conv_dim=64))


# Settings whose step costs as much as another's: the rate of that one counts for both.
COSTS_AS = {FEWER: AS_IT_IS, 'falling penalty': AS_IT_IS, 'strong penalty': AS_IT_IS,
            'LeCam': AS_IT_IS, 'weight norm, slow D': 'weight norm', GOING_UP: AS_IT_IS}


def hand_up(small, large, shift=0):
    """Give a network those weights of a smaller one that have their place and shape in it.

    small  the smaller one's state dict
    shift  how many places later a layer stands in the larger one: D has its new layers first,
           and the smaller one's own first layer has no place in it
    """
    wanted = large.state_dict()
    for name, value in small.items():
        first, *others = name.split('.')
        if shift and first == 'features':
            if others[0] == '0':
                continue
            others[0] = str(int(others[0]) + shift)
        name = '.'.join([first, *others])
        if name in wanted and wanted[name].shape == value.shape:
            wanted[name] = value
    large.load_state_dict(wanted)


# ------------------------------------------------------------------------------------------- a run


class Search:
    """The runs on some faces.

    faces, few    ImageDatasets: all of them, and FEW_FACES
    rates         {name of a setting: images a second}
    """

    def __init__(self, faces, few, judges, rates):
        self.faces = faces
        self.few = few
        self.judges = judges
        self.rates = rates

    def train(self, which, portion, n_passes, seed, **hooks):
        """Train a Setting; return (notebook, G, its last checkpoint, the run's Watch)."""
        notebook = which.definitions()
        watch = runs.Watch()

        def wrap(batches):
            return watch.around(Halved(batches) if which is AT_32 else batches)
        loader = runs.loader_of(self.faces_of(which), which.config['batch_size'], portion)
        with common.scratch_folder():
            G, saved = runs.train(notebook, which.config, loader, seed, n_passes, wrap=wrap,
                                  **hooks)
        return notebook, G, saved, watch

    def faces_of(self, which):
        return self.few if which.name == FEWER else self.faces

    def portion(self, name, share=1.0):
        """Return how many images a pass shows: whole batches, for a share of the seconds."""
        images = self.rates[COSTS_AS.get(name, name)] * share * SECONDS / PASSES
        return max(1, round(images / 64)) * 64

    def run(self, planned):
        """Train one setting; return its row, in a list."""
        which, seed = SETTINGS[planned['setting']], planned['seed']
        hooks, share, images_before, seconds_before = {}, 1.0, 0, 0.0
        if which.name == GOING_UP:
            portion = self.portion(AT_32.name, SHARE_BEFORE)
            *_, small, watch = self.train(AT_32, portion, PASSES, seed)
            images_before, seconds_before = small['images_seen'], watch.seconds
            share = 1 - SHARE_BEFORE

            def prepare(D, G):
                hand_up(small['G'], G)
                hand_up(small['D'], D, shift=3)
            hooks = dict(prepare=prepare)
        portion = self.portion(which.name, share)
        notebook, G, saved, watch = self.train(which, portion, PASSES, seed, **hooks)
        images = runs.draw(notebook, G, fair.N_GENERATED, seed)
        line = common.command('search', '--folder', 'FOLDER', '--people', 'VAL_FACES',
                              '--parts', planned['part'])
        return [planned | dict(
            change=which.change, images_seen=saved['images_seen'] + images_before,
            seconds=f'{watch.seconds + seconds_before:.1f}', arithmetic=fair.arithmetic(),
            data=self.faces_of(which).source, **self.judges.judge(planned['judged_by'], images),
            **common.provenance(line))]


class Halved:
    """A loader whose images have half the pixels a side."""

    def __init__(self, loader):
        self.loader = loader

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        for images in self.loader:
            yield F.avg_pool2d(images, 2)


def measure_rates(search):
    """Return rows for search_rates.csv: the images/s of each cost, in turns."""
    measured = [AT_32, *(which for name, which in SETTINGS.items() if name not in COSTS_AS)]
    found = {which.name: [] for which in measured}
    for _, which in itertools.product(range(ROUNDS), measured):
        *_, watch = search.train(which, N_RATED, n_passes=3, seed=0)
        rated = watch.seconds_after[3] - watch.seconds_after[1]      # the first pass warms up
        found[which.name].append(2 * N_RATED / rated)
    line = common.command('search', '--parts', 'rates')
    return [dict(setting=name, images_per_second=f'{statistics.median(rates):.1f}',
                 lowest=f'{min(rates):.1f}', highest=f'{max(rates):.1f}', n_rounds=len(rates),
                 **common.provenance(line)) for name, rates in found.items()]


# ----------------------------------------------------------------------------------- the summary


def nearest_setting(rows):
    """Return the name of the setting, none but the recipe itself, that came nearest in the screen.
    """
    groups = common.grouped([row for row in rows if row['part'] == 'screen'], 'setting')
    means = {name: fair.log_mean(fair.distances(group)) for (name,), group in groups.items()
             if name != AS_IT_IS}
    return min(means, key=means.get)


def summarise(rows):
    """Return rows for search_summary.csv: each setting, held against the recipe as it is.

    The spread over the seeds is taken to be a common one, on logarithms, in each part; p of the
    screen is for each setting alone: what it finds is what the other part confirms or not.
    """
    groups = common.grouped(rows, 'setting', 'part')
    found = []
    for (name, part), group in groups.items():
        kin = [fair.distances(each) for key, each in groups.items() if key[1] == part]
        spread = fair.spread_of(kin)
        values = fair.distances(group)
        first = {column: group[0][column] for column in ('setting', 'change', 'part', 'floor',
                                                         'images_seen', 'device', 'torch')}
        row = first | dict(
            n_seeds=len(group), ffd=f'{math.exp(fair.log_mean(values)):.4f}',
            seconds=f'{statistics.median(float(each["seconds"]) for each in group):.1f}',
            lowest=f'{min(values):.4f}', highest=f'{max(values):.4f}',
            command=common.command('search', '--figure'))
        base = groups.get((AS_IT_IS, part))
        if name != AS_IT_IS and base and spread[1]:
            figures = fair.ratio_of(values, fair.distances(base), spread, spread)
            row |= {column: f'{figure:.4f}' for column, figure
                    in zip(('ratio', 'ratio_low', 'ratio_high', 'p'), figures, strict=True)}
        found.append(row)
    return found


# ----------------------------------------------------------------------------------- the command


def main(arguments=None):
    parser = runs.race_parser(__doc__, PARTS)
    parser.add_argument('--settings', nargs='+', default=list(SETTINGS), choices=SETTINGS,
                        metavar='NAME', help='of the screen')
    parser.add_argument('--seeds', type=int, nargs='+', default=SCREEN_SEEDS,
                        help='of the screen')
    options = parser.parse_args(arguments)
    runs.begin(parser, options)
    tables = SearchTables(options.into)
    n_failed = 0
    if not options.figure:
        with common.scratch_folder():
            n_failed = make_parts(options, tables)
    tables.summary.write(common.by_device(summarise, tables.runs.read()))
    sys.exit(f'{n_failed} runs failed' if n_failed else 0)


class SearchTables:
    """The csv files of the search, in a folder."""

    def __init__(self, folder):
        self.rates = common.Table(folder / 'search_rates.csv', RATES, ('setting', 'device'))
        self.runs = common.Table(folder / 'search.csv', COLUMNS, KEY)
        self.summary = common.Table(folder / 'search_summary.csv', SUMMARY,
                                    ('setting', 'part', 'device'))


def make_parts(options, tables):
    """Make what is missing of the wanted parts; return how many runs failed."""
    notebook = common.notebook_definitions()
    faces = notebook.get_dataloader(1, SIZE, options.folder,
                                    hold_out=str(options.people)).dataset
    few = notebook.get_dataloader(1, SIZE, options.folder, max_images=FEW_FACES).dataset
    search = Search(faces, few, fair.Judges(faces), rates={})
    if 'rates' in options.parts and not tables.rates.read_here():
        tables.rates.merge(measure_rates(search))
    search.rates = {row['setting']: float(row['images_per_second'])
                     for row in tables.rates.read_here()}
    n_failed = 0
    if 'screen' in options.parts:
        n_failed += runs.make_missing(
            tables.runs, plan('screen', options.settings, options.seeds, 'choosing'),
            search.run, SHOWN)
    if 'confirm' in options.parts:
        names = AS_IT_IS, nearest_setting(tables.runs.read_here())
        n_failed += runs.make_missing(
            tables.runs, plan('confirm', names, CONFIRM_SEEDS, 'judging'), search.run, SHOWN)
    return n_failed


def plan(part, names, seeds, judged_by):
    """Return all runs of some settings, a dict for each, seed by seed."""
    return [dict(part=part, setting=name, seed=seed, judged_by=judged_by)
            for seed, name in itertools.product(seeds, names)]


if __name__ == '__main__':
    main()
