"""Print the tables of experiments/README.md as they follow from the csv files in assets/.

    python -m experiments.tables

After a new measurement, put what this prints in the place of the old tables. A test holds the
README and what is printed here against each other, letter by letter.
"""
import itertools
import statistics

from experiments import common
from experiments.common import ASSETS
from experiments.few_images import AS_IT_IS, LONGER, WAYS

CPU = 'CPU (x86_64), 2 threads'      # whose rows of the speed tables are shown


def rows_of(name):
    """Return the rows of a csv in assets/, as dicts of texts."""
    _, rows = common.read_csv(ASSETS / f'{name}.csv')
    return rows


def by(column, name):
    """Return the rows of a csv as {what they hold in a column: row}."""
    return {row[column]: row for row in rows_of(name)}


def grouped(name, *columns):
    """Return the rows of a csv as {what they hold in some columns, a tuple: [rows]}."""
    found = {}
    for row in rows_of(name):
        found.setdefault(tuple(row[column] for column in columns), []).append(row)
    return found


def speeds(name, device=CPU):
    """Return the rows of bench_<name>.csv of one device as {setting: {row: row of the csv}}."""
    settings = {}
    for row in rows_of(f'bench_{name}'):
        if row['device'] == device:
            settings.setdefault(row['setting'], {})[row['row']] = row
    return settings


def markdown(header, lines):
    """Return the lines of a table, given its cells as texts."""
    rule = '|' + '---|' * len(header)
    return [markdown_row(header), rule, *[markdown_row(cells) for cells in lines]]


def markdown_row(cells):
    return '| ' + ' | '.join(cells) + ' |'


# --------------------------------------------------------------------------------- numbers as texts


def spread(summary):
    """Return a mean distance with the lowest and highest over the seeds."""
    mean, lowest, highest = (float(summary[name]) for name in ('ffd', 'lowest', 'highest'))
    return f'{mean:.1f} ({lowest:.1f}–{highest:.1f})'


def spread_of(values):
    """Return the mean of numbers with the lowest and the highest."""
    return f'{mean(values):.2f} ({min(values):.2f}–{max(values):.2f})'


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
        if name == base or name in ('recipe', 'recipe 64'):
            name = f'**{name}**'
        lines.append([name, result['change'], spread(result), times(result['ratio']),
                      result['verdict'], result['claim']])
    header = ['setting', 'what it changes', 'distance (lowest–highest)', 'to the base', 'verdict',
              'public solutions']
    return markdown(header, lines)


def speed_table(name, settings, header):
    """Images/s and ratios of one bench table: a line for each row, a column for each setting."""
    table = speeds(name)
    lines = []
    for technique in table[settings[0]]:
        results = [table[setting].get(technique) for setting in settings]
        lines.append([technique, *[rate(result) if result else '' for result in results]])
    return markdown([header, *[short_setting(setting) for setting in settings]], lines)


def short_setting(setting):
    """Leave out of a setting what is the same in all of them."""
    for common_part in (', batch 128', 'JPEGs of 64x64 '):
        setting = setting.replace(common_part, '')
    return setting


STEP_SETTINGS = ['32x32, conv_dim 32, batch 128', '32x32, conv_dim 64, batch 128',
                 '64x64, conv_dim 64, batch 128']
LOADER_SETTINGS = ['JPEGs of 64x64 to 32x32, batch 128', 'JPEGs of 64x64 to 64x64, batch 128']


def scaling_table():
    lines = []
    for setting, results in speeds('scaling').items():
        for name, result in results.items():
            lines.append([setting, name, rate(result)])
    return markdown(['varied', 'point', 'images/s'], lines)


def balance_table():
    """Shares of faces, with balance and without: by CelebA's labels, and by the encoder's eyes."""
    means = {}
    for result in rows_of('balance'):
        means[result['figure'], result['training_set'], result['faces']] = result['mean']
    figures = ['Male', 'Young', 'Male and Young', 'Male and not Young', 'not Male and Young',
               'not Male and not Young']
    crowds = ('training, by label', 'training', 'generated')
    columns = list(itertools.product(('as it is', 'balanced'), crowds))
    lines = []
    for figure in figures:
        lines.append([figure, *[percent(means[figure, *column]) for column in columns]])
    for crowd in ('as they are', 'balanced'):
        figure = f'Fréchet face distance to faces {crowd}'
        cells = []
        for column in columns:
            cells.append(f'{float(means[figure, *column]):.1f}' if column[1] == 'generated' else '')
        lines.append([figure, *cells])
    header = ['', *[f'{training_set}: {faces}' for training_set, faces in columns]]
    return markdown(header, lines)


def quality_table():
    lines = []
    for result in rows_of('quality'):
        digits = 4 if 'kernel' in result['figure'] else 2
        cells = [f'{float(result[column]):.{digits}f}' for column in ('generated', 'floor')]
        lines.append([result['figure'], *cells])
    return markdown(['', 'generated', 'other real faces'], lines)


def attributes_table(attributes=('Male', 'Young', 'Smiling', 'Eyeglasses', 'Bald')):
    shares = by('attribute', 'attributes')
    accuracies = by('attribute', 'encoder')
    lines = []
    for attribute in attributes:
        share, accuracy = shares[attribute], accuracies[attribute]
        cells = [percent(share[column], 1)
                 for column in ('training_labels', 'training faces', 'generated faces')]
        cells += [percent(accuracy[column], 1) for column in ('right_64', 'majority')]
        lines.append([attribute, *cells])
    header = ['', 'training, by label', 'training, by encoder', 'generated, by encoder',
              "the encoder's answers that are right, at 64×64",
              'always guessing the commoner answer']
    return markdown(header, lines)


def directions_table():
    """How far each direction moves its figure: mean, lowest and highest of the seeds."""
    lines = []
    for (name,), results in grouped('directions', 'name').items():
        moves = [float(result['moves']) for result in results]
        controls = [float(result['control']) for result in results]
        worst = max(results, key=lambda result: abs(float(result['drags_by'])))
        lines.append([name, spread_of(moves),
                      f'{worst["drags"]} {float(worst["drags_by"]):.2f}',
                      f'{mean(controls):.2f}', results[0]['holds']])
    header = ['direction', 'moves its figure by (lowest–highest)', 'drags along most',
              'control', 'holds']
    return markdown(header, lines)


def few_cell(images, pair, n_images, way, seconds=30):
    """Return the spread of distances after so many seconds with few images."""
    place = images, pair, str(n_images), way, str(seconds)
    row, = [row for row in rows_of('few_images_summary')
            if (row['images'], row['pair'], row['n_images'], row['way'], row['seconds']) == place]
    return f'{row["ffd"]} ({row["lowest"]}–{row["highest"]})'


def few_images_table(kind, ways):
    """The distance after each way to learn from few faces of a kind, and before it."""
    counts = 100, 300, 1_000
    start = few_cell(kind, 'faces', 0, AS_IT_IS, 0)
    lines = [[AS_IT_IS, start, '', '']]
    lines += [[way, *(few_cell(kind, 'faces', n, way) for n in counts)] for way in ways]
    return markdown(['way', *(f'{n:,} faces' for n in counts)], lines)


def longer_runs_table():
    """The distance along runs of 30 and of 120 seconds with 100 faces, of two kinds."""
    moments = 15, 30, 60, 120
    lines = [[words, way, *(few_cell(kind, 'faces', 100, way, seconds) for seconds in moments)]
             for kind, words in (('faces', 'of the known kind'), ('closer', 'cut closer'))
             for way in LONGER]
    return markdown(['100 faces', 'way', *(f'{seconds} s' for seconds in moments)], lines)


def learnt_table(images):
    """Has each way learnt its images by heart? For each number of them gap, twins and verdicts."""
    counts = ('100', '300', '1000')
    found = {}
    for result in rows_of('few_images_memorisation'):
        if (result['images'], result['pair']) == (images, 'faces'):
            runs = found.setdefault((result['way'], result['run_seconds']), {})
            runs.setdefault(result['n_images'], []).append(result)
    lines = []
    for way, seconds in sorted(found, key=lambda run: (float(run[1]), list(WAYS).index(run[0]))):
        cells = [learnt_cell(found[way, seconds].get(count, [])) for count in counts]
        lines.append([way, f'{seconds} s', *cells])
    return markdown(['way', 'run', *[f'{int(count):,} faces' for count in counts]], lines)


def learnt_cell(results):
    if not results:
        return ''
    twins, caught = twins_and_caught(results)
    return f'gap {gap_cell(results)}; twins {twins}; {caught} caught'


def gap_cell(results):
    gaps = [100 * float(result['gap']) for result in results]
    return f'{mean(gaps):.1f} % ({min(gaps):.1f}–{max(gaps):.1f})'


def twins_and_caught(results):
    """Return the mean share of twins, and how many of the results caught the generator: cells."""
    twins = mean([float(result['twins']) for result in results])
    n_caught = sum(result['caught'] == 'yes' for result in results)
    return percent(twins), f'{n_caught} of {len(results)}'


def memorisation_table():
    """How near each generator comes to faces that it saw and to others, over the seeds."""
    lines = []
    for (generator, judged), results in grouped('memorisation', 'generator', 'judged').items():
        columns = {name: [float(result[name]) for result in results]
                   for name in ('median_training', 'median_held_out', 'p_value')}
        lines.append([generator, judged, f'{mean(columns["median_training"]):.1f}',
                      f'{mean(columns["median_held_out"]):.1f}', gap_cell(results),
                      f'{min(columns["p_value"]):.2g}–{max(columns["p_value"]):.2g}',
                      *twins_and_caught(results)])
    header = ['generator', 'asked of', 'error', 'of held-out faces', 'gap (lowest–highest)', 'p',
              'twins', 'caught']
    return markdown(header, lines)


def mean(values):
    return sum(values) / len(values)


def race_table(size='32'):
    """The seconds to each distance: a line for each recipe."""
    found = {}
    for result in rows_of('race_times'):
        if result['image_size'] == size:
            found.setdefault(result['recipe'], {})[result['distance']] = race_cell(result)
    distances = list(next(iter(found.values())))
    lines = [[name, *[cells[distance] for distance in distances]] for name, cells in found.items()]
    return markdown(['seconds to a distance of', *distances], lines)


def race_cell(result):
    if result['seconds']:
        return f'{result["seconds"]} ({result["lowest"]}–{result["highest"]})'
    if result['seeds_there'] == '0':
        return 'not reached'
    return f'{result["seeds_there"]} of {result["seeds"]} seeds'


def race_lengths_table(size='32'):
    """The distance after each length of a run: a line for each recipe."""
    found = {}
    for result in rows_of('race'):
        if result['image_size'] == size:
            runs = found.setdefault(result['recipe'], {})
            runs.setdefault(int(result['images_seen']), []).append(result)
    lengths = sorted({length for runs in found.values() for length in runs})
    lines = []
    for name, runs in found.items():
        lines.append([name, *[length_cell(runs.get(length)) for length in lengths]])
    return markdown(['images seen', *[f'{length:,}' for length in lengths]], lines)


def compare_table():
    """The distances of generators of the same images: mean, lowest and highest of the seeds."""
    found = grouped('compare', 'generator')
    lines = []
    for (generator,), results in found.items():
        cells = [spread_of([float(result[column]) for result in results])
                 for column in ('of_training', 'held_out')]
        lines.append([generator, *cells])
    first = next(iter(found.values()))[0]
    floors = [f'{float(first[column]):.2f}' for column in ('floor_of_training', 'floor_held_out')]
    lines.append(['other real faces', *floors])
    return markdown(['', 'from faces of the training', 'from those held out'], lines)


def search_table():
    """What was tried before a recipe was chosen: the distance and the seconds of each."""
    lines = [[result['recipe'], f'{float(result["ffd"]):.2f}', f'{float(result["seconds"]):.0f} s']
             for result in rows_of('race_search')]
    return markdown(['change of ours', 'distance', 'seconds'], lines)


def length_cell(runs):
    if not runs:
        return ''
    distances = [float(run['ffd']) for run in runs]
    seconds = statistics.median(float(run['seconds']) for run in runs)
    return (f'{statistics.median(distances):.2f} ({min(distances):.2f}–{max(distances):.2f}) '
            f'in {seconds:.0f} s')


def step_time_table(kind, column):
    """One kind of rows of step_time.csv: a line for each name, a column for each batch."""
    found = {}
    for result in rows_of('step_time'):
        if result['kind'] == kind:
            found.setdefault(result['name'], {})[result['batch']] = result
    batches = list(next(iter(found.values())))
    lines = []
    for name, results in found.items():
        cells = [step_time_cell(results[batch], column) for batch in batches if batch in results]
        lines.append([name, *cells])
    return markdown(['', *[f'batch {batch}' for batch in batches]], lines)


def step_time_cell(result, column):
    if column == 'ratio':
        return f'×{result["ratio"]} ({result["lowest"]}–{result["highest"]})'
    return f'{result["ms_a_step"]} ms, {percent(result["share"])}'


def commands_table():
    lines = []
    for result in rows_of('measured'):
        value = f'{short(result["value"])} {result["unit"]}'
        if result['repeats'] != '1':
            value += f' ({short(result["lowest"])}–{short(result["highest"])})'
        lines.append([result['what'], value])
    return markdown(['', 'median (lowest–highest)'], lines)


def all_tables():
    """Return {title: lines} of all tables, in the order of the README."""
    return {
        'study, 32x32': study_table('base'),
        'study, 64x64': study_table('base 64'),
        'study, the widest networks': study_table('images x 0.2'),
        'bench, step': speed_table('step', STEP_SETTINGS, 'training step, images/s'),
        'bench, loader': speed_table('loader', LOADER_SETTINGS, 'loading, images/s'),
        'bench, epoch': speed_table('epoch', STEP_SETTINGS, 'files to weights, images/s'),
        'bench, scaling': scaling_table(),
        'race, seconds': race_table(),
        'race, lengths': race_lengths_table(),
        'race, seconds at 64x64': race_table('64'),
        'race, lengths at 64x64': race_lengths_table('64'),
        'race, search': search_table(),
        'compare': compare_table(),
        'step_time, where': step_time_table('where', 'share'),
        'step_time, what if': step_time_table('what if', 'ratio'),
        'step_time, torch': step_time_table('torch', 'ratio'),
        'balance': balance_table(),
        'pictures, quality': quality_table(),
        'pictures, attributes': attributes_table(),
        'directions': directions_table(),
        'few_images, known kind': few_images_table('faces', WAYS),
        'few_images, cut closer': few_images_table('closer', ['from scratch', *LONGER]),
        'few_images, longer': longer_runs_table(),
        'few_images, known kind, learnt by heart': learnt_table('faces'),
        'few_images, cut closer, learnt by heart': learnt_table('closer'),
        'memorisation': memorisation_table(),
        'commands': commands_table()}


def main(arguments=None):
    common.command_parser(__doc__).parse_args(arguments)
    for title, lines in all_tables().items():
        print(f'{title}\n')
        print('\n'.join(lines), end='\n\n')


if __name__ == '__main__':
    main()
