"""Race the paper's recipe, plain and tuned, against ours: equal processor time, other people judge.

    python -m experiments.fair --folder FOLDER --people VAL_FACES

It makes what is not in its tables yet, in this order, and --parts names some of it:

rates          images a second of each recipe, measured in turns: fair_rates.csv. From them follows
               how many images a recipe is given for so many seconds: so its learning rates know
               where they end, and other work on the machine changes no distance
search         the paper's recipe tuned, at 82 seconds with one seed: fair_search.csv. It begins
               with START, and goes on with the neighbours of the best until none is better and
               as many runs are made as ours had. A neighbour has half or twice the batch or the
               learning rate, the other beta1, or the other schedule: so an optimum on the edge of
               what was tried extends it
race           the paper's, the tuned one and ours, at 82 and 328 seconds, five seeds: fair.csv
leave-one-out  ours with one part put back to the paper's, at 82 seconds, three seeds: fair.csv. The
               parts for which this leaves it open are asked again at 328 seconds

People who choose are not those who judge: faces of even identities in VAL_FACES choose the settings
of the search, those of odd ones judge all else, and none of them is in FOLDER. CelebA's list of
people, identity_CelebA.txt, lies in VAL_FACES, or one or two folders above. A distance is that of
5,000 generated faces; its floor is that of 5,000 faces of FOLDER.

G is judged as it is and as its average, kept beside it in the same run. Seconds are those of the
passes over the images, processor time on one thread: building, saving and judging are left out.
fair_summary.csv compares by geometric means, fair.png shows them (--figure: no runs, only these).
Ctrl-C keeps finished runs.
"""
import itertools
import math
import statistics
import sys

import scipy.stats

import helpers
from experiments import common, runs
from experiments.common import plt
from experiments.settings import BASE, OURS, RECIPE, in_words
from machinery import files
from machinery.pictures import show_rows

SIZE = 32
SHORT, LONG = 82, 328        # seconds
PASSES = 10                  # of the short one, each over so many images
SEARCH_SEED = 10
RACE_SEEDS = 11, 12, 13, 14, 15
LEAVE_ONE_OUT_SEEDS = RACE_SEEDS[:3]
N_GENERATED = 5_000
KEPT_BESIDE = 0.999          # decay of the average of G: it does not change the training

PAPERS = BASE
START = [dict(batch_size=batch, lr=lr) for batch in (8, 16, 32, 64) for lr in (2e-4, 8e-4)]
TUNED = 'batch_size', 'lr', 'beta1', 'lr_decay'
FEWEST, MOST = 19, 22        # runs of the search; ours had 19
LEFT_OUT = {f'ours, {in_words({name: PAPERS[name]})}': OURS | {name: PAPERS[name]}
            for name in RECIPE if name != 'ema_decay'}   # ours without it is judged in the race
LEFT_OPEN = 'ours, penalty 0', 'ours, flip False', 'ours, lr_decay False'

SETTINGS = 'batch_size', 'lr', 'beta1', 'lr_decay', 'penalty', 'flip'
COLUMNS = ('recipe', 'average', 'budget', 'seed', *SETTINGS, 'images_seen', 'seconds', 'ffd',
           'floor', 'judged_by', 'n_generated', 'n_real', 'image_size', 'conv_dim', 'arithmetic',
           'data', 'device', 'torch', 'command')
KEY = 'recipe', 'average', 'budget', 'seed', 'device'
SPEED = 'batch_size', 'penalty', 'flip'                  # what a recipe's speed depends on
RATES = (*SPEED, 'images_per_second', 'lowest', 'highest', 'n_rounds', 'device', 'torch', 'command')
ROUNDS = 3
N_RATED = 2_048              # images in the pass that warms up, and in the one that counts
SUMMARY = ('recipe', 'average', 'budget', 'n_seeds', 'images_seen', 'seconds', 'ffd', 'lowest',
           'highest', 'floor', 'against', 'ratio', 'ratio_low', 'ratio_high', 'p', 'p_corrected',
           'device', 'torch', 'command')
OURS_AVERAGED = 'ours', 'yes'
PARTS = 'rates', 'search', 'race', 'leave-one-out'
RECIPES = 'paper', 'tuned', 'ours'
SHOWN = 'recipe', 'budget', 'seed', 'ffd', 'seconds'

# -------------------------------------------------------------------------------- who judges, rates


class Judges:
    """Distances from faces of people whom no training sees: those who choose, those who judge.

    faces  an ImageDataset of the training, for the floors; a folder of others is held out
    Raises ValueError where nobody knows who is on these: the same people would choose and judge.
    """

    def __init__(self, faces):
        if faces.judges is faces.held_out:
            raise ValueError('nobody knows who is on the faces of --people: identity_CelebA.txt '
                             'is expected among them, or one or two folders above')
        self.distances = {
            name: helpers.FaceDistance(faces.images, helpers.choose_device(),
                                       n_judged=N_GENERATED, held_out=images)
            for name, images in (('choosing', faces.held_out), ('judging', faces.judges))}

    def judge(self, name, images):
        """Return what a row says of a distance."""
        distance = self.distances[name]
        return dict(ffd=f'{distance(images):.4f}', floor=f'{distance.floor:.4f}', judged_by=name,
                    n_generated=len(images), n_real=distance.n)


def measure_rates(faces, recipes):
    """Return rows for fair_rates.csv: the images/s of each speed among recipes, in turns.

    The first pass of each run warms up, and is left out.
    """
    speeds = {speed_of(config): config for config in recipes}
    found = {speed: [] for speed in speeds}
    for _, (speed, config) in itertools.product(range(ROUNDS), speeds.items()):
        _, watch = train(faces, config, portion=N_RATED, n_passes=2, seed=0)
        found[speed].append(N_RATED / (watch.seconds_after[2] - watch.seconds_after[1]))
    line = common.command('fair', '--parts', 'rates')
    return [dict(zip(SPEED, speed, strict=True)) | common.provenance(line) | dict(
                images_per_second=f'{statistics.median(rates):.1f}', lowest=f'{min(rates):.1f}',
                highest=f'{max(rates):.1f}', n_rounds=len(rates))
            for speed, rates in found.items()]


def speed_of(config):
    return tuple(str(config[name]) for name in SPEED)


def portion_of(config, rates):
    """Return how many images a pass shows: whole batches of 128, for SHORT / PASSES seconds."""
    row = rates[speed_of(config)]
    return max(1, round(float(row['images_per_second']) * SHORT / PASSES / 128)) * 128


# ------------------------------------------------------------------------------------------ one run


def train(faces, config, portion, n_passes, seed, kept=()):
    """Train a recipe with an average of G beside it; return ((notebook, G), the run's Watch).

    The Watch holds the checkpoints after the passes named by kept, and the last one.
    """
    notebook = common.notebook_definitions()
    watch = runs.Watch(kept)
    loader = runs.loader_of(faces, config['batch_size'], portion)
    config = config | dict(ema_decay=KEPT_BESIDE)
    with common.scratch_folder():
        G, last = runs.train(notebook, config, loader, seed, n_passes, wrap=watch.around)
    watch.checkpoints[n_passes] = last
    return (notebook, G), watch


class Contest:
    """The runs on some faces.

    rates    {speed: row of fair_rates.csv}
    recipes  {name: config}; those that were tuned are added
    keep     a folder for the weights of the judged generators, or None
    """

    def __init__(self, faces, judges, rates, keep=None):
        self.faces = faces
        self.judges = judges
        self.rates = rates
        self.recipes = {'paper': PAPERS, 'ours': OURS, **LEFT_OUT}
        self.keep = keep

    def run(self, planned):
        """Train one recipe; return its rows."""
        config = self.recipes[planned['recipe']]
        portion = portion_of(config, self.rates)
        n_passes = PASSES * planned['budget'] // SHORT
        also_short = planned['budget'] == LONG and not config['lr_decay']
        (notebook, G), watch = train(self.faces, config, portion, n_passes, planned['seed'],
                                     kept=[PASSES] if also_short else [])
        rows = []
        for passes, saved in sorted(watch.checkpoints.items()):
            for average in planned['averages']:
                G.load_state_dict(saved['G_average' if average == 'yes' else 'G'])
                row = planned | dict(budget=SHORT * passes // PASSES, average=average)
                if self.keep:
                    self.keep_weights(G, row)
                rows.append(self.row(row, config, saved['images_seen'],
                                     watch.seconds_after[passes],
                                     runs.draw(notebook, G, N_GENERATED, planned['seed'])))
        return rows

    def row(self, planned, config, images_seen, seconds, images):
        line = common.command('fair', '--folder', 'FOLDER', '--people', 'VAL_FACES',
                              '--parts', planned['part'])
        columns = {name: planned[name] for name in KEY if name in planned}
        return columns | {name: config[name] for name in SETTINGS} | dict(
            images_seen=images_seen, seconds=f'{seconds:.2f}', image_size=SIZE,
            conv_dim=config['conv_dim'], arithmetic=arithmetic(),
            data=self.faces.source, **self.judges.judge(planned['judged_by'], images),
            **common.provenance(line))

    def keep_weights(self, G, row):
        path = kept(self.keep, row['recipe'], row['average'], row['budget'], row['seed'])
        files.write_bytes(path, files.to_bytes(G.state_dict()))


def arithmetic():
    """Return the numbers that runs on this device compute with, in words."""
    return 'bfloat16' if helpers.has_bfloat16(helpers.choose_device()) else 'float32'


def kept(folder, recipe, average, budget, seed):
    """Return the path of a generator that was kept."""
    return folder / f'{recipe}, average {average}, {budget} s, {seed}.pt'


# -------------------------------------------------------------------------------------- the search


def name_of(config):
    return 'tuned: ' + in_words({name: config[name] for name in TUNED})


def neighbours(config):
    """Return the settings next to one: each differs in one thing."""
    return [config | change for change in (
        dict(batch_size=config['batch_size'] // 2),
        dict(batch_size=config['batch_size'] * 2),
        dict(lr=config['lr'] / 2),
        dict(lr=config['lr'] * 2),
        dict(beta1=0.5 - config['beta1']),
        dict(lr_decay=not config['lr_decay']))]


def config_in(row):
    """Return the setting of a row of fair_search.csv."""
    return PAPERS | dict(batch_size=int(row['batch_size']), lr=float(row['lr']),
                         beta1=float(row['beta1']), lr_decay=row['lr_decay'] == 'True')


def best_of(rows):
    """Return the setting of the row that comes nearest to the faces that choose."""
    return config_in(min(rows, key=lambda row: float(row['ffd'])))


def next_of_search(rows):
    """Return the settings that the search tries next, given the rows it has: none when it is over.

    With fewer runs than FEWEST it goes on with the neighbours of the second best, and so on.
    """
    tried = {name_of(config_in(row)) for row in rows}
    nearest_first = sorted(rows, key=lambda row: float(row['ffd']))
    rounds = [[PAPERS | change for change in START]]
    rounds += [neighbours(config_in(row)) for row in nearest_first]
    for number, wanted in enumerate(rounds):
        left = [config for config in wanted if name_of(config) not in tried]
        is_over = number > 1 and len(rows) >= FEWEST
        if left and not is_over:
            return left[:MOST - len(rows)]
    return []


# ------------------------------------------------------------------------------------- the summary


def log_mean(values):
    return statistics.mean(map(math.log, values))


def log_variance(values):
    return statistics.variance(map(math.log, values))


def spread_of(groups):
    """Return the spread that lists of distances have in common: (variance of their logarithms,
    degrees of freedom).
    """
    freedom = sum(len(values) - 1 for values in groups)
    squares = sum(log_variance(values) * (len(values) - 1) for values in groups if len(values) > 1)
    return squares / max(freedom, 1), freedom


def ratio_of(values, base, spread, base_spread):
    """Return (ratio of geometric means, its 95 % interval's ends, p), by a t test on logarithms.

    The spreads are those of spread_of: two make it Welch's test, one for both makes it Student's.
    """
    spreads = spread, base_spread
    parts = [variance / len(each)
             for (variance, _), each in zip(spreads, (values, base), strict=True)]
    squared_error = sum(parts)
    freedom = spread[1]
    if spread is not base_spread:
        freedom = squared_error ** 2 / sum(part ** 2 / own_freedom for part, (_, own_freedom)
                                           in zip(parts, spreads, strict=True))
    difference = log_mean(values) - log_mean(base)
    error = math.sqrt(squared_error)
    reach = scipy.stats.t.ppf(0.975, freedom) * error
    p_value = 2 * scipy.stats.t.sf(abs(difference) / error, freedom)
    return (*map(math.exp, (difference, difference - reach, difference + reach)), float(p_value))


def summarise(rows):
    """Return rows for fair_summary.csv: each recipe, and its ratio to the one it is held against.

    The tuned recipe and ours are held against the paper's, ours also against the tuned one. The
    spread of each over the seeds is taken to be the same, on logarithms, after both lengths.

    What is left out of ours is held against ours. These have few seeds each, so their spread is
    taken to be a common one; and p is corrected for their number, by the procedure of Benjamini and
    Hochberg, after each length for itself.
    """
    groups = common.grouped(rows, 'recipe', 'average', 'budget')
    spreads = {which: spread_of([distances(group) for key, group in groups.items()
                                 if key[:2] == which])
               for which in {key[:2] for key in groups}}
    found = []
    for key, group in groups.items():
        for base in bases_of(*key[:2]):
            row = facts_of(group)
            against = groups.get((*base, key[2])) if base else None
            if against and base != OURS_AVERAGED and min(spreads[each][1]
                                                         for each in (key[:2], base)):
                row |= held_against(group, against, spreads[key[:2]], spreads[base])
            found.append(row)
    compared = {}
    for budget in {key[2] for key in groups}:
        compared |= held_against_ours(groups, budget)
    for row in found:
        row |= compared.get((row['recipe'], row['average'], row['budget']), {})
    return found


def held_against_ours(groups, budget):
    """Return what rows say of ours with a part left out, after one length: {key: columns}."""
    kin = {key: group for key, group in groups.items()
           if key[0].startswith('ours') and key[2] == budget}
    ours = kin.pop((*OURS_AVERAGED, budget), None)
    if not (ours and kin):
        return {}
    spread = spread_of([distances(group) for group in (ours, *kin.values())])
    compared = {key: held_against(group, ours, spread, spread) for key, group in kin.items()}
    corrected = scipy.stats.false_discovery_control([float(each['p'])
                                                     for each in compared.values()])
    for each, p in zip(compared.values(), corrected, strict=True):
        each['p_corrected'] = f'{p:.4f}'
    return compared


def bases_of(recipe, average):
    """Return what a recipe is held against: pairs (recipe, average); None where against nothing."""
    if recipe == 'paper':
        return [None] if average == 'no' else [('paper', 'no')]
    if recipe == 'tuned':
        return [('paper', 'no')]
    if recipe == 'ours' and average == 'yes':
        return [('paper', 'no'), ('paper', 'yes'), ('tuned', 'yes')]
    return [OURS_AVERAGED]


def distances(rows):
    return [float(row['ffd']) for row in rows]


def facts_of(group):
    """Return what a row says of the runs of one recipe and length."""
    values = distances(group)
    first = {name: group[0][name] for name in ('recipe', 'average', 'budget', 'images_seen',
                                               'floor', 'device', 'torch')}
    seconds = statistics.median(float(row['seconds']) for row in group)
    return first | dict(
        n_seeds=len(group), seconds=f'{seconds:.1f}',
        ffd=f'{math.exp(log_mean(values)):.4f}', lowest=f'{min(values):.4f}',
        highest=f'{max(values):.4f}', command=common.command('fair', '--figure'))


def held_against(group, base, spread, base_spread):
    """Return what a row says of two groups of runs."""
    figures = ratio_of(distances(group), distances(base), spread, base_spread)
    names = 'ratio', 'ratio_low', 'ratio_high', 'p'
    against = f'{base[0]["recipe"]}, average {base[0]["average"]}'
    return dict(against=against) | {name: f'{figure:.4f}'
                                    for name, figure in zip(names, figures, strict=True)}


# -------------------------------------------------------------------------------------- the figure

LINES = {                    # {(recipe, average): words}
    ('paper', 'no'): "the paper's recipe",
    ('paper', 'yes'): 'with an average of G',
    ('tuned', 'yes'): "the paper's, tuned, with an average",
    ('ours', 'yes'): 'ours'}


def draw(path, rows):
    """Draw the distance after each length: a dot for each seed, a line for each recipe's mean."""
    _, axes = plt.subplots(figsize=(7, 3.6), layout='constrained')
    groups = common.grouped(rows, 'recipe', 'average')
    for (which, words), colour in zip(LINES.items(), ('C0', 'C9', 'C1', 'C2'), strict=True):
        mine = groups.get(which, [])
        points = [(int(row['budget']), float(row['ffd'])) for row in mine]
        axes.plot(*zip(*points, strict=True), 'o', color=colour, markersize=4, alpha=0.6)
        budgets = sorted({budget for budget, _ in points})
        means = [math.exp(log_mean([distance for budget, distance in points if budget == each]))
                 for each in budgets]
        axes.plot(budgets, means, color=colour, label=words)
    axes.axhline(float(rows[0]['floor']), color='black', linestyle='--', linewidth=0.8,
                 label='other real faces')
    axes.set(xscale='log', yscale='log', xlabel='processor seconds',
             ylabel='Fréchet face distance')
    axes.set_xticks([SHORT, LONG], [str(SHORT), str(LONG)])
    axes.minorticks_off()
    axes.yaxis.set_major_locator(plt.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter('{x:g}')
    axes.grid(alpha=0.2)
    axes.legend()
    common.save_figure(path)


def draw_faces(path, keep, seed=RACE_SEEDS[0]):
    """Draw fair-faces.png: the first faces of kept generators, after equal seconds; none picked.
    """
    notebook = common.notebook_definitions()
    rows = {}
    for budget in (SHORT, LONG):
        for recipe, average, words in (('paper', 'no', 'paper'), ('ours', 'yes', 'ours')):
            state = files.load_safely(kept(keep, recipe, average, budget, seed))
            G = notebook.Generator(PAPERS['z_size'], PAPERS['conv_dim'], SIZE)
            G.load_state_dict(state)
            rows[f'{words} {budget} s'] = runs.draw(notebook, G, 12, seed)
    show_rows(rows)
    common.save_figure(path, bbox_inches='tight')      # with the whole of each label


# ------------------------------------------------------------------------------------- the command


def main(arguments=None):
    parser = runs.race_parser(__doc__, PARTS)
    parser.add_argument('--keep', type=common.existing_folder,
                        help='a folder for the generators; with --figure, their faces are drawn')
    options = parser.parse_args(arguments)
    runs.begin(parser, options)
    tables = Tables(options.into)
    n_failed = 0
    if not options.figure:
        with common.scratch_folder():
            n_failed = make_parts(options, tables)
    rows = tables.race.read()
    tables.summary.write(common.by_device(summarise, rows))
    if options.figure and options.keep:
        draw_faces(options.into / 'fair-faces.png', options.keep)
    if all(which in common.grouped(rows, 'recipe', 'average') for which in LINES):
        draw(options.into / 'fair.png', rows)
    sys.exit(f'{n_failed} runs failed' if n_failed else 0)


class Tables:
    """The csv files of the race, in a folder."""

    def __init__(self, folder):
        self.rates = common.Table(folder / 'fair_rates.csv', RATES, (*SPEED, 'device'))
        self.search = common.Table(folder / 'fair_search.csv', COLUMNS, KEY)
        self.race = common.Table(folder / 'fair.csv', COLUMNS, KEY)
        self.summary = common.Table(folder / 'fair_summary.csv', SUMMARY,
                                    ('recipe', 'average', 'budget', 'against', 'device'))


def make_parts(options, tables):
    """Make what is missing of the wanted parts; return how many runs failed."""
    notebook = common.notebook_definitions()
    faces = notebook.get_dataloader(1, SIZE, options.folder,
                                    hold_out=str(options.people)).dataset
    if 'rates' in options.parts and not tables.rates.read_here():
        tables.rates.merge(measure_rates(faces, all_speeds()))
    judges = Judges(faces)
    rates = {speed_of(row): row for row in tables.rates.read_here()}
    contest = Contest(faces, judges, rates, options.keep)
    n_failed = 0
    if 'search' in options.parts:
        n_failed += search(contest, tables.search)
    work = []
    if 'race' in options.parts:
        contest.recipes['tuned'] = best_of(tables.search.read_here())
        for budget in (SHORT, LONG):         # with level rates, the long run passes by the short
            racing = [name for name in RECIPES
                      if budget == LONG or contest.recipes[name]['lr_decay']]
            work += plan('race', racing, budget, RACE_SEEDS, ['no', 'yes'])
    if 'leave-one-out' in options.parts:
        for names, budget in ((LEFT_OUT, SHORT), (LEFT_OPEN, LONG)):
            work += plan('leave-one-out', names, budget, LEAVE_ONE_OUT_SEEDS, ['yes'])
    return n_failed + runs.make_missing(tables.race, work, contest.run, SHOWN)


def all_speeds():
    """Return recipes of all speeds: those of the search need no other batches than these."""
    tuned = [PAPERS | dict(batch_size=batch) for batch in (4, 8, 16, 32, 64)]
    return [PAPERS, *tuned, OURS, *LEFT_OUT.values()]


def search(contest, table):
    """Make the runs of the search; return how many failed."""
    n_failed = 0
    while not n_failed and (wanted := next_of_search(table.read_here())):
        contest.recipes |= {name_of(config): config for config in wanted}
        work = plan('search', map(name_of, wanted), SHORT, [SEARCH_SEED], ['yes'], 'choosing')
        n_failed = runs.make_missing(table, work, contest.run, SHOWN)
    return n_failed


def plan(part, names, budget, seeds, averages, judged_by='judging'):
    """Return all runs of some recipes, a dict for each, seed by seed.

    averages  whether G itself is judged ('no'), its average ('yes'), or both. The last one tells
              whether the run was made
    """
    return [dict(part=part, recipe=name, average=averages[-1], averages=averages, budget=budget,
                 seed=seed, judged_by=judged_by)
            for seed, name in itertools.product(seeds, names)]


if __name__ == '__main__':
    main()
