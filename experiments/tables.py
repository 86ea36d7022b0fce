"""Fill the tables of README.md and experiments/README.md from the csv files in assets/.

    python -m experiments.tables             print them
    python -m experiments.tables --write     write them into the documents

A table stands between two marks, which no reader sees: <!-- table NAME --> and <!-- end -->. After
a new measurement, --write brings all of them up to date; a test holds that it changes nothing.
"""
import functools
import itertools
import re

from experiments import common
from experiments.common import ASSETS, PROJECT, grouped, markdown
from experiments.few_images import AS_IT_IS, LONGER, WAYS
from experiments.judge import OTHERS
from experiments.study import N_JUDGED as N_STUDY
from machinery import files

CPU = 'CPU (x86_64), 2 threads'      # whose rows of the speed tables are shown
DOCUMENTS = PROJECT / 'README.md', PROJECT / 'experiments/README.md'
MARKED = re.compile(r'(<!-- table (.+?) -->\n)(.*?)(<!-- end -->)', re.DOTALL)


def rows_of(name):
    """Return the rows of a csv in assets/, as dicts of texts."""
    _, rows = common.read_csv(ASSETS / f'{name}.csv')
    return rows


def by(column, name):
    """Return the rows of a csv as {what they hold in a column: row}."""
    return {row[column]: row for row in rows_of(name)}


def speeds(name, device=CPU):
    """Return the rows of bench_<name>.csv of one device as {setting: {row: row of the csv}}."""
    settings = {}
    for row in rows_of(f'bench_{name}'):
        if row['device'] == device:
            settings.setdefault(row['setting'], {})[row['row']] = row
    return settings


# --------------------------------------------------------------------------------- numbers as texts


def mean(values):
    return sum(values) / len(values)


def floats(rows, column):
    return [float(row[column]) for row in rows]


def between(middle, values, digits=2, unit=''):
    """Return a number with the lowest and the highest of values."""
    lowest, highest = min(values), max(values)
    return f'{middle:.{digits}f}{unit} ({lowest:.{digits}f}–{highest:.{digits}f})'


def spread(summary):
    """Return a mean distance with the lowest and highest over the seeds."""
    lowest, highest = float(summary['lowest']), float(summary['highest'])
    return between(float(summary['ffd']), [lowest, highest], 1)


def rate(result):
    """Return images/s with the ratio to the first row of the table."""
    return f'{float(result["images_per_s"]):,.0f} ({times(result["ratio_baseline"])})'


def times(ratio):
    """Return ×1.35, or ×109 where the digits after the point say nothing."""
    ratio = float(ratio)
    return f'×{ratio:.2f}' if ratio < 10 else f'×{ratio:.0f}'


def short(number):
    """Return a number with two digits after the point, or with none where it is large."""
    number = float(number)
    return f'{number:,.0f}' if number >= 100 else f'{number:.2f}'


def percent(share, digits=0):
    return f'{100 * float(share):.{digits}f} %'


# ------------------------------------------------------------------------------------------- tables

TABLES = {}                  # {name: function that returns its lines}, filled below


def table(name, *arguments):
    """Make a table of the function below, called with these arguments."""
    def decorate(function):
        TABLES[name] = functools.partial(function, *arguments)
        return function
    return decorate


@table('yardsticks')
def yardsticks_table():
    """How many faces are held against how many real ones, of which kind, in each table."""
    fair, search = (rows_of(name)[0] for name in ('fair', 'race_search'))
    few, study = rows_of('few_images')[0], by('row', 'study_summary')['base']
    screen, confirm = (next(row for row in rows_of('search') if row['part'] == part)
                       for part in ('screen', 'confirm'))
    pictures = by('figure', 'quality')['Fréchet face distance']
    training, photographs = 'faces of the training', 'other photographs'
    lines = [
        ['fair', fair['n_generated'], f'{fair["n_real"]} of other people', fair['floor']],
        ['how ours was found', search['n_judged'], f'{search["n_held_out"]} {photographs}',
         search['floor']],
        ['search, screen', screen['n_generated'], f'{screen["n_real"]} of other people',
         screen['floor']],
        ['search, confirm', confirm['n_generated'], f'{confirm["n_real"]} of other people',
         confirm['floor']],
        ['pictures, cards', pictures['n_generated'], f'{pictures["n_real"]} of other people',
         pictures['floor']],
        ['few_images', few['n_judged'], f'{few["n_judges"]} {photographs}', ''],
        ['study, balance', N_STUDY, f'{N_STUDY} {training}', study['floor']]]
    for line in lines:
        line[3] = f'{float(line[3]):.2f}' if line[3] else ''
    return markdown(['in', 'generated', 'held against', 'other real faces come to'],
                    [list(map(str, line)) for line in lines])


@table('study, 32x32', 'base')
@table('study, 64x64', 'base 64')
@table('study, the widest networks', 'images x 0.2')
def study_table(base):
    """The settings that are held against one base, the base among them, best first."""
    chosen = []
    for result in rows_of('study_summary'):
        if result['row'] == base:
            chosen.append(result | dict(ratio=1, verdict=''))
        elif result['base'] == base:
            chosen.append(result)
    chosen.sort(key=lambda result: float(result['ffd']))
    lines = []
    for result in chosen:
        name = result['row']
        if name in (base, 'recipe', 'recipe 64'):
            name = f'**{name}**'
        change = result['change'].replace('the public recipe', "the paper's recipe")
        lines.append([name, change, spread(result), times(result['ratio']),
                      result['verdict'], result['claim']])
    header = ['setting', 'what it changes', 'distance (lowest–highest)', 'to the base', 'verdict',
              'public solutions']
    return markdown(header, lines)


STEP_SETTINGS = ['32x32, conv_dim 32, batch 128', '32x32, conv_dim 64, batch 128',
                 '64x64, conv_dim 64, batch 128']
LOADER_SETTINGS = ['JPEGs of 64x64 to 32x32, batch 128', 'JPEGs of 64x64 to 64x64, batch 128']


@table('bench, step', 'step', STEP_SETTINGS, 'training step, images/s')
@table('bench, loader', 'loader', LOADER_SETTINGS, 'loading, images/s')
@table('bench, epoch', 'epoch', STEP_SETTINGS, 'files to weights, images/s')
def speed_table(name, settings, header):
    """Images/s and ratios of one bench table: a line for each row, a column for each setting."""
    found = speeds(name)
    lines = []
    for technique in found[settings[0]]:
        results = [found[setting].get(technique) for setting in settings]
        lines.append([technique, *[rate(result) if result else '' for result in results]])
    return markdown([header, *[short_setting(setting) for setting in settings]], lines)


def short_setting(setting):
    """Leave out of a setting what is the same in all of them."""
    return setting.replace(', batch 128', '').replace('JPEGs of 64x64 ', '')


@table('bench, scaling')
def scaling_table():
    lines = [[setting, name, rate(result)] for setting, results in speeds('scaling').items()
             for name, result in results.items()]
    return markdown(['varied', 'point', 'images/s'], lines)


FAIR = {('paper', 'no'): "the paper's",                  # {(recipe, average): its name}
        ('paper', 'yes'): "the paper's, with an average of G",
        ('tuned', 'yes'): "the paper's, tuned, with an average of G",
        ('ours', 'yes'): 'ours'}


def fair_summary(*columns):
    """Return fair_summary.csv as {what rows hold in some columns: row}; of two, the first."""
    return {key: rows[0] for key, rows in grouped(rows_of('fair_summary'), *columns).items()}


@table('fair, race')
def fair_table():
    """Each recipe of the fair race after each length: distance, ratio to the paper's, images."""
    found = fair_summary('recipe', 'average', 'budget')
    budgets = sorted({budget for *_, budget in found}, key=int)
    lines = []
    for (recipe, average), name in FAIR.items():
        cells = []
        for budget in budgets:
            row = found.get((recipe, average, budget))
            cells += fair_cells(row) if row else ['', '', '']
        lines.append([name, *cells])
    header = ['recipe']
    for budget in budgets:
        header += [f'{budget} s: distance', "to the paper's (95 %)", 'images']
    return markdown(header, lines)


def fair_cells(row):
    """Return distance, ratio to the paper's and images of a recipe after one length."""
    ratio = ratio_cell(row) if row['ratio'] else ''
    return [seeds_cell(row), ratio, f'{int(row["images_seen"]):,}']


def seeds_cell(row):
    """Return a geometric mean with the lowest and the highest of the seeds, and their number."""
    if row['n_seeds'] == '1':
        return f'{float(row["ffd"]):.2f}, 1 seed'
    return f'{fair_spread(row)}, {row["n_seeds"]} seeds'


def fair_spread(row):
    """Return a geometric mean with the lowest and the highest of the seeds."""
    return between(float(row['ffd']), [float(row['lowest']), float(row['highest'])])


def ratio_cell(row):
    """Return a ratio with its 95 % interval."""
    ends = [float(row['ratio_low']), float(row['ratio_high'])]
    return f'×{between(float(row["ratio"]), ends)}'


@table('readme, fair')
def readme_fair_table():
    """The recipes of the fair race: the distance after each length."""
    found = fair_summary('recipe', 'average', 'budget')
    lines = [[name, *[fair_spread(found[*which, budget]) for budget in ('82', '328')]]
             for which, name in FAIR.items()]
    header = ['recipe']
    for budget in ('82', '328'):
        n_seeds = found['ours', 'yes', budget]['n_seeds']
        header.append(f'after {budget} seconds ({n_seeds} seeds, lowest–highest)')
    return markdown(header, lines)


@table('fair, left out')
def left_out_table():
    """Ours with one part put back to the paper's: its distance, and its ratio to ours."""
    rows = [row for row in rows_of('fair_summary') if row['against'] == 'ours, average yes']
    rows.sort(key=lambda row: (int(row['budget']), -float(row['ratio'])))
    lines = []
    for row in rows:
        what = row['recipe'].removeprefix('ours').strip(', ') or 'no average of G'
        p = float(row['p_corrected'])
        lines.append([f'{row["budget"]} s', what, seeds_cell(row), ratio_cell(row),
                      f'{p:.2g}' if p else '< 0.0001'])
    return markdown(['after', 'put back', 'distance', 'to ours (95 %)', 'p, corrected'], lines)


@table('search')
def search_table():
    """Settings at 64x64 after equal seconds, nearest first: distance, ratio to the recipe's."""
    rows = sorted(rows_of('search_summary'),
                  key=lambda row: (row['part'] == 'screen', float(row['ffd'])))
    lines = [[row['part'], row['setting'], row['change'], seeds_cell(row),
              ratio_cell(row) if row['ratio'] else '', f'{int(row["images_seen"]):,}']
             for row in rows]
    return markdown(['part', 'setting', 'what it changes', 'distance', 'to the recipe (95 %)',
                     'images'], lines)


@table('fair, how ours was found')
def how_ours_was_found_table():
    """What was tried before ours was chosen: the distance and the seconds of each."""
    lines = [[result['recipe'], f'{float(result["ffd"]):.2f}', f'{float(result["seconds"]):.0f} s']
             for result in rows_of('race_search')]
    return markdown(['change of ours', 'distance', 'seconds'], lines)


@table('step_time, where', 'where')
@table('step_time, what if', 'what if')
def step_time_table(kind):
    """One kind of rows of step_time.csv: a line for each name, a column for each batch."""
    rows = [row for row in rows_of('step_time') if row['kind'] == kind]
    batches = list(dict.fromkeys(row['batch'] for row in rows))
    lines = [[name, *map(step_time_cell, results)]
             for (name,), results in grouped(rows, 'name').items()]
    return markdown(['', *[f'batch {batch}' for batch in batches]], lines)


def step_time_cell(result):
    if result['ratio']:
        return f'×{result["ratio"]} ({result["lowest"]}–{result["highest"]})'
    return f'{result["ms_a_step"]} ms, {percent(result["share"])}'


@table('balance')
def balance_table():
    """Shares of faces, with balance and without: by CelebA's labels, and by the encoder's eyes."""
    means = {key: row['mean'] for key, (row,) in
             grouped(rows_of('balance'), 'figure', 'training_set', 'faces').items()}
    figures = ['Male', 'Young', 'Male and Young', 'Male and not Young', 'not Male and Young',
               'not Male and not Young']
    crowds = ('training, by label', 'training', 'generated')
    columns = list(itertools.product(('as it is', 'balanced'), crowds))
    lines = [[figure, *[percent(means[figure, *column]) for column in columns]]
             for figure in figures]
    for crowd in ('as they are', 'balanced'):
        figure = f'Fréchet face distance to faces {crowd}'
        cells = [means.get((figure, *column)) for column in columns]
        lines.append([figure, *[f'{float(cell):.1f}' if cell else '' for cell in cells]])
    header = ['', *[f'{training_set}: {faces}' for training_set, faces in columns]]
    return markdown(header, lines)


@table('pictures, quality')
def quality_table():
    lines = []
    for result in rows_of('quality'):
        digits = 4 if 'kernel' in result['figure'] else 2
        cells = [f'{float(result[column]):.{digits}f}' for column in ('generated', 'floor')]
        lines.append([result['figure'], *cells])
    return markdown(['', 'generated', 'other real faces'], lines)


def legs():
    """Return for each run that made the pair the row of the epoch that was taken up."""
    return [row for row in rows_of('training') if row['taken']]


@table('pictures, legs')
def legs_table():
    """The runs that made the pair, each from the networks of the one before."""
    lines = []
    for taken in legs():
        lines.append([taken['leg'], taken['data'].split()[0], taken['batch_size'], taken['lr'],
                      taken['penalty'], taken['beta2'], f'{int(taken["images_seen"]):,}',
                      f'{float(taken["FFD"]):.2f}',
                      str(round(int(taken['seconds_of_run']) / 60))])
    return markdown(['leg', 'images in the folder', 'batch', 'rate', 'penalty', 'β₂',
                     'images seen when it was taken up', 'its distance then', 'minutes'], lines)


@table('pictures, attributes')
def attributes_table(attributes=('Male', 'Young', 'Smiling', 'Eyeglasses', 'Bald')):
    shares, accuracies = by('attribute', 'attributes'), by('attribute', 'encoder')
    lines = []
    for attribute in attributes:
        row = shares[attribute] | accuracies[attribute]
        columns = ('training_labels', 'training faces', 'generated faces', 'right_64', 'majority')
        lines.append([attribute, *[percent(row[column], 1) for column in columns]])
    header = ['', 'training, by label', 'training, by encoder', 'generated, by encoder',
              "the encoder's answers that are right, at 64×64",
              'always guessing the answer commoner in its training']
    return markdown(header, lines)


@table('directions')
def directions_table():
    """How far each direction moves its figure: mean, lowest and highest of the seeds."""
    lines = []
    for (name,), results in grouped(rows_of('directions'), 'name').items():
        moves = floats(results, 'moves')
        worst = max(results, key=lambda result: abs(float(result['drags_by'])))
        lines.append([name, between(mean(moves), moves),
                      f'{worst["drags"]} {float(worst["drags_by"]):.2f}',
                      f'{mean(floats(results, "control")):.2f}', results[0]['holds']])
    header = ['direction', 'moves its figure by (lowest–highest)', 'drags along most',
              'control', 'holds']
    return markdown(header, lines)


def few_cell(images, pair, n_images, way, seconds=30):
    """Return the spread of distances after so many seconds with few images."""
    found = grouped(rows_of('few_images_summary'), 'images', 'pair', 'n_images', 'way', 'seconds')
    row, = found[images, pair, str(n_images), way, str(seconds)]
    return f'{row["ffd"]} ({row["lowest"]}–{row["highest"]})'


@table('few_images, known kind', 'faces', WAYS)
@table('few_images, cut closer', 'closer', ['from scratch', *LONGER])
def few_images_table(kind, ways):
    """The distance after each way to learn from few faces of a kind, and before it."""
    counts = 100, 300, 1_000
    lines = [[AS_IT_IS, few_cell(kind, 'faces', 0, AS_IT_IS, 0), '', '']]
    lines += [[way, *[few_cell(kind, 'faces', n, way) for n in counts]] for way in ways]
    return markdown(['way', *[f'{n:,} faces' for n in counts]], lines)


@table('few_images, longer')
def longer_runs_table():
    """The distance along runs of 30 and of 120 seconds with 100 faces, of two kinds."""
    moments = 15, 30, 60, 120
    lines = [[words, way, *[few_cell(kind, 'faces', 100, way, seconds) for seconds in moments]]
             for kind, words in (('faces', 'of the known kind'), ('closer', 'cut closer'))
             for way in LONGER]
    return markdown(['100 faces', 'way', *[f'{seconds} s' for seconds in moments]], lines)


def gap_cell(results):
    gaps = [100 * gap for gap in floats(results, 'gap')]
    return between(mean(gaps), gaps, 1, unit=' %')


def caught(results):
    """Return how many of the results caught the generator."""
    n_caught = sum(result['caught'] == 'yes' for result in results)
    return f'{n_caught} of {len(results)}'


@table('memorisation')
def memorisation_table():
    """How near each generator comes to faces that it saw and to others, over the seeds."""
    noticed = {(row['generator'], row['n']): percent(row['smallest_gap'])
               for row in rows_of('memorisation_gap')}
    lines = []
    for (generator, judged), results in grouped(rows_of('memorisation'), 'generator',
                                                'judged').items():
        errors = [f'{mean(floats(results, column)):.1f}'
                  for column in ('median_training', 'median_held_out')]
        p = floats(results, 'p_value')
        lines.append([generator, judged, *errors, gap_cell(results),
                      f'{min(p):.2g}–{max(p):.2g}', caught(results),
                      noticed.get((generator, results[0]['n']), '')])
    header = ['generator', 'asked of', 'error', 'of held-out faces', 'gap (lowest–highest)', 'p',
              'caught', 'smallest gap that is noticed']
    return markdown(header, lines)


@table('judge')
def judge_table():
    """What dlib says of generators and of real faces: mean, lowest and highest of the seeds."""
    by_size = grouped(rows_of('judge'), 'image_size', 'generator')
    lines = []
    for (size, name), rows in sorted(by_size.items(), key=lambda item: int(item[0][0])):
        floor, = floats(by_size[size, OTHERS], 'distance')
        ratio = mean(floats(rows, 'distance')) / floor
        lines.append([
            name, f'{size}×{size}', judge_cell(rows, 'found', 100, 0, ' %'),
            judge_cell(rows, 'distance', 1_000), times(ratio),
            judge_cell(rows, 'nearest', 1, 3), judge_cell(rows, 'training', 1, 3),
            judge_cell(rows, 'sharpness'), judge_cell(rows, 'ffd')])
    header = ['', 'size', 'a face is found', "dlib's distance × 1,000", 'to the floor',
              'nearest other face', 'nearest of the training', 'sharpness', 'our distance']
    return markdown(header, lines)


def judge_cell(rows, column, factor=1, digits=2, unit=''):
    """Return a figure of one seed or several, '' where it was not asked."""
    values = [factor * float(row[column]) for row in rows if row[column]]
    if len(values) > 1:
        return between(mean(values), values, digits, unit)
    return f'{values[0]:.{digits}f}{unit}' if values else ''


@table('commands')
def commands_table():
    lines = []
    for result in rows_of('measured'):
        value = f'{short(result["value"])} {result["unit"]}'
        if result['repeats'] != '1':
            value += f' ({short(result["lowest"])}–{short(result["highest"])})'
        lines.append([result['what'], value])
    return markdown(['', 'median (lowest–highest)'], lines)


# ------------------------------------------------------------------------------------ the documents


def filled(text):
    """Return a document with each table between its marks as it follows from the csv files."""
    def fill(found):
        start, name, _, end = found.groups()
        lines = '\n'.join(TABLES[name]())
        return f'{start}{lines}\n{end}'
    return MARKED.sub(fill, text)


def main(arguments=None):
    parser = common.command_parser(__doc__)
    parser.add_argument('--write', action='store_true', help='into the documents')
    options = parser.parse_args(arguments)
    if not options.write:
        for name, lines in TABLES.items():
            print(name, '', *lines(), '', sep='\n')
        return
    for path in DOCUMENTS:
        files.write_bytes(path, filled(path.read_text(encoding='utf-8')).encode())


if __name__ == '__main__':
    main()
