"""Measure how many seconds of training a recipe needs to a distance from real faces.

    python -m experiments.race --folder FOLDER     train what is not in assets/race.csv yet
    python -m experiments.race --folder FOLDER --search    what else was tried, one seed each
    python -m experiments.race --figure            only the table of times and the figure

Each recipe is trained anew for each length (a number of images), since its learning rates fall
towards the end: a short run is not the beginning of a long one. Then 5,000 faces of the average are
held against real ones that the training did not see. Seconds are those of the passes over the
images, data from memory; building, measuring and saving are left out. On one thread of a CPU they
are processor time, which other work on the machine hardly changes; else they are time on the clock.

race_times.csv says for each recipe and distance how many seconds each seed needs, read off between
the lengths that were run: the lowest and the highest are those of the seeds.
race_search.csv holds the search that led to ours: runs of one length and one seed, a change each.
One run at a time, on one thread unless --threads says otherwise. Ctrl-C keeps finished runs.
"""
import itertools
import math
import statistics
import sys

import helpers
from experiments import common, runs
from experiments.common import plt
from experiments.settings import BASE, RECIPE, in_words
from experiments.steps import STEPS, definitions_with

EARLIER = BASE | RECIPE
OURS = EARLIER | dict(lr=8e-4, penalty=0.01, penalty_every=16)
RECIPES = {
    'public': BASE,
    'earlier': EARLIER,                              # an earlier recipe of the notebook
    'ours': OURS,
    'batches of 8': OURS | dict(batch_size=8, lr=1.2e-3),
    'batches of 8, D twice as wide': OURS | dict(batch_size=8, lr=1.2e-3, d_width=2),
}
CHANGES = (                  # of ours, that were tried
    dict(),
    dict(lr=4e-4),
    dict(lr=1.2e-3),
    dict(lr=1.6e-3),
    dict(beta2=0.99),
    dict(objective='hinge'),
    dict(ema_decay=0.998),
    dict(penalty=0),
    dict(penalty=0.025),
    dict(penalty_every=4),
    dict(batch_size=8),
    dict(batch_size=8, lr=1.2e-3),
    dict(batch_size=8, lr=1.2e-3, penalty_every=4),
    dict(batch_size=8, lr=1.6e-3),
    dict(batch_size=8, lr=1.6e-3, penalty_every=4),
    dict(batch_size=8, lr=2.4e-3, penalty_every=4),
    dict(batch_size=4, lr=1.2e-3),
    *(dict(step=name) for name in STEPS),
)
SEARCH = {in_words(changes) or 'none': OURS | changes for changes in CHANGES}
# whole batches of 128 in each pass
LENGTHS = (2_560, 3_840, 5_120, 10_240, 20_480, 40_960, 89_600)
TARGETS = (20, 10, 5, 3, 2, 1)
HOLD_OUT = 0.1
N_JUDGED = 5_000
COLUMNS = ('recipe', 'image_size', 'conv_dim', 'batch', 'lr', 'penalty', 'penalty_every',
           'images_seen', 'seed', 'seconds', 'ffd', 'floor', 'n_judged', 'n_held_out', 'data',
           'device', 'torch', 'command')
KEY = ('recipe', 'image_size', 'batch', 'lr', 'penalty', 'penalty_every', 'images_seen', 'seed',
       'device')
TIMES = ('recipe', 'image_size', 'distance', 'seconds', 'lowest', 'highest', 'seeds_there', 'seeds',
         'device', 'torch', 'command')


class Race:
    """The faces, and the runs on them.

    faces  an ImageDataset with held-out faces
    """

    def __init__(self, faces):
        self.faces = faces
        self.distance = helpers.FaceDistance(faces.images, helpers.choose_device(),
                                             n_judged=N_JUDGED, held_out=faces.held_out)

    def run(self, planned):
        """Train a recipe on so many images, and measure it: a row for the csv, in a list."""
        name, n_images, seed = planned['recipe'], planned['images_seen'], planned['seed']
        config = (RECIPES | SEARCH)[name] | dict(img_size=self.faces.images.shape[-1])
        notebook = definitions_with(config.get('step'))
        G, seen, seconds = runs.train_timed(notebook, config, self.faces, n_images, seed)
        ffd = self.distance(runs.draw(notebook, G, N_JUDGED, seed))
        asked = ['--recipes', name] if name in RECIPES else ['--search']
        line = common.command('race', '--folder', 'FOLDER', *asked, '--lengths', n_images,
                              '--seeds', seed)
        return [planned | dict(
            images_seen=seen, conv_dim=config['conv_dim'], seconds=f'{seconds:.2f}',
            ffd=f'{ffd:.4f}', floor=f'{self.distance.floor:.4f}', n_judged=N_JUDGED,
            n_held_out=len(self.faces.held_out), data=self.faces.source,
            **common.provenance(line))]


def planned_runs(recipes, size, lengths, seeds):
    """Return all runs of some recipes, {name: config}: a dict for each; short ones first."""
    return [dict(recipe=name, image_size=size, batch=config['batch_size'], lr=config['lr'],
                 penalty=config['penalty'], penalty_every=config['penalty_every'],
                 images_seen=n_images, seed=seed)
            for n_images, seed, (name, config)
            in itertools.product(lengths, seeds, recipes.items())]


# -------------------------------------------------------------------------------- times, the figure


def times(rows):
    """Return rows for race_times.csv: the seconds to each distance, over seeds.

    Where some seed never gets there, 'seeds_there' says how many did, and there are no seconds.
    """
    found = []
    recipes = list(RECIPES)
    groups = common.grouped(rows, 'recipe', 'image_size', 'device')
    in_order = sorted(groups, key=lambda group: (recipes.index(group[0]), *group[1:]))
    for name, size, device in in_order:
        group = groups[name, size, device]
        seeds = {row['seed'] for row in group}
        if len(group) <= len(seeds):             # of one length, which may be none too short
            continue
        for target in TARGETS:
            there = [needed for seed in seeds if (needed := seconds_to(group, seed, target))]
            row = dict(recipe=name, image_size=size, distance=target, seeds_there=len(there),
                       seeds=len(seeds), device=device, torch=group[0]['torch'],
                       command=common.command('race', '--figure'))
            if len(there) == len(seeds):
                row |= dict(seconds=f'{statistics.median(there):.1f}', lowest=f'{min(there):.1f}',
                            highest=f'{max(there):.1f}')
            found.append(row)
    return found


def seconds_to(rows, seed, target):
    """Return the seconds in which a seed comes within a distance; None where it never does.

    Between its first run that is near enough and the one before, a line is drawn on logarithms.
    Where the shortest run is near enough already, its own seconds are returned.
    """
    mine = [(float(row['seconds']), float(row['ffd'])) for row in rows if row['seed'] == seed]
    before = None
    for seconds, distance in sorted(mine):
        if distance == math.inf:
            continue
        if distance <= target:
            return between(before, (seconds, distance), target) if before else seconds
        before = seconds, distance
    return None


def between(before, after, target):
    """Return the seconds at a distance on the line from one (seconds, distance) to another."""
    (start, far), (end, near) = before, after
    share = math.log(far / target) / math.log(far / near)
    return start * (end / start) ** share


def draw(folder, rows, size):
    """Draw race-SIZE.png: the distance against seconds and against images, a line a recipe."""
    rows = [row for row in rows if row['image_size'] == size]
    _, panels = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True, layout='constrained')
    for axes, column, label in zip(panels, ('seconds', 'images_seen'),
                                   ('seconds of training', 'images seen'), strict=True):
        for number, name in enumerate(RECIPES):
            mine = [row for row in rows if row['recipe'] == name]
            if mine:
                draw_line(axes, f'C{number}', name, mine, column)
        axes.axhline(float(rows[0]['floor']), color='black', linestyle='--', linewidth=0.8)
        axes.set(xscale='log', yscale='log', xlabel=label)
        axes.yaxis.set_major_formatter('{x:g}')
        axes.grid(alpha=0.2)
    panels[0].set_ylabel('Fréchet face distance')
    panels[0].legend()
    common.save_figure(folder / f'race-{size}.png')


def draw_line(axes, colour, name, rows, column):
    """Draw a dot for each run of a recipe, and a line through the medians of each length."""
    points = [(float(row[column]), float(row['ffd'])) for row in rows]
    axes.plot(*zip(*points, strict=True), 'o', color=colour, markersize=4, alpha=0.6)
    middle = []
    for _, group in sorted(common.grouped(rows, 'images_seen').items(),
                           key=lambda pair: int(*pair[0])):
        middle.append([statistics.median(float(row[name]) for row in group)
                       for name in (column, 'ffd')])
    axes.plot(*zip(*middle, strict=True), color=colour, label=name)


# ------------------------------------------------------------------------------------- the command


def main(arguments=None):
    parser = runs.command_parser(__doc__)
    runs.add_figure_option(parser)
    parser.add_argument('--size', type=int, default=32, help='pixels a side (default 32)')
    parser.add_argument('--recipes', nargs='+', default=list(RECIPES), choices=RECIPES)
    parser.add_argument('--lengths', type=int, nargs='+', help='images a run')
    parser.add_argument('--threads', type=int, default=1, help='(default 1)')
    parser.add_argument('--search', action='store_true', help='what else was tried')
    options = parser.parse_args(arguments)
    runs.begin(parser, options, options.threads)
    table = common.Table(options.into / 'race.csv', COLUMNS, KEY)
    if options.search:
        table = common.Table(options.into / 'race_search.csv', COLUMNS, KEY)
        work = planned_runs(SEARCH, options.size, options.lengths or LENGTHS[-1:], seeds=[0])
    else:
        recipes = {name: RECIPES[name] for name in options.recipes}
        work = planned_runs(recipes, options.size, options.lengths or LENGTHS, options.seeds)
    n_failed = 0
    if not options.figure:
        with common.scratch_folder():
            loader = common.notebook_definitions().get_dataloader(1, options.size, options.folder,
                                                                  hold_out=HOLD_OUT)
            contest = Race(loader.dataset)
            n_failed = runs.make_missing(table, work, contest.run,
                                         ('recipe', 'images_seen', 'seed', 'ffd', 'seconds'))
    if not options.search:
        summarise(options.into, table.read())
    sys.exit(f'{n_failed} runs failed' if n_failed else 0)


def summarise(folder, rows):
    """Write the table of times that follows from rows of race.csv, and draw a figure a size."""
    if not rows:
        sys.exit('race.csv: no finished run')
    common.Table(folder / 'race_times.csv', TIMES,
                 ('recipe', 'image_size', 'distance', 'device')).write(times(rows))
    for size in {row['image_size'] for row in rows}:
        draw(folder, rows, size)


if __name__ == '__main__':
    main()
