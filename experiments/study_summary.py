"""From the runs of the study to its summary, its verdicts and its figure.

study_summary.csv and study.png show the mean, the lowest and the highest distance over the seeds,
the ratio to the setting that each is held against (over the seeds that both have), and a verdict.

Whether a setting helps or hurts is asked of the logarithms of the distances, by Welch's t test
against its base. Many are tested at once, so p is corrected by the procedure of Benjamini and
Hochberg, over all settings of a table: of those that are said to help or hurt, about one in twenty
may do neither. The rest is within noise, which does not mean that it has no effect: with three
seeds only large ones show. A setting that went bad hurts.
"""
import collections
import itertools
import math
import statistics

import scipy.stats

from experiments import common
from experiments.common import plt
from experiments.settings import GROUPS, SETTINGS

COLUMNS = ('row', 'group', 'change', 'claim', 'n_seeds', 'ffd', 'lowest', 'highest', 'ratio',
           'base', 'p', 'p_corrected', 'verdict', 'floor', 'images_seen', 'image_size', 'budget',
           'data', 'device', 'torch')
COLOURS = {'helps': 'tab:green', 'hurts': 'tab:red', 'within noise': 'tab:gray',
           'fewer than 3 seeds': 'silver'}


FEWEST_SEEDS = 3
FALSE_SHARE = 0.05           # of what is said to help or hurt, so much may do neither


def p_value(values, base):
    """Return p of Welch's t test on the logarithms of distances, one a seed; nan: untested.

    What went bad counts as 0, for the table holds it for certain.
    """
    if min(len(values), len(base)) < FEWEST_SEEDS or math.inf in base:
        return math.nan
    if math.inf in values:
        return 0.0
    logs, base_logs = [[math.log(value) for value in each] for each in (values, base)]
    return float(scipy.stats.ttest_ind(logs, base_logs, equal_var=False).pvalue)


def judge(summaries):
    """Add to the summaries of a table their corrected p and the verdicts."""
    tested = [row for row in summaries if not math.isnan(row['p'])]
    if not tested:
        return
    corrected = scipy.stats.false_discovery_control([row['p'] for row in tested])
    for row, p in zip(tested, corrected, strict=True):
        row['p_corrected'] = float(p)
        row['verdict'] = 'within noise'
        if p <= FALSE_SHARE:
            row['verdict'] = 'helps' if row['log_ratio'] < 0 else 'hurts'


def summarise(results):
    """Summarise the rows of study.csv: a list of dicts for each budget, device and data set.

    Rows of settings that have changed since, or are gone, are left out.
    """
    tables = collections.defaultdict(lambda: collections.defaultdict(dict))
    for result in results:
        setting = SETTINGS.get(result['row'])
        if setting is None or setting.change != result['change']:
            continue
        table = tables[result['budget'], result['device'], result['data']]
        table[setting.name][result['seed']] = result
    return [summarise_table(table) for table in tables.values()]


def summarise_table(table):
    measured = [setting for setting in SETTINGS.values() if setting.name in table]
    summaries = [summary_of(setting, table) for setting in measured]
    judge(summaries)
    return summaries


def summary_of(setting, table):
    """Return one row of the summary; table is {name of a setting: {seed: row of study.csv}}."""
    mine = distances(table, setting.name)
    base = distances(table, setting.base)
    values = list(mine.values())
    both = [seed for seed in mine if seed in base]
    ratio = math.nan
    if both:
        ratio = sum(mine[seed] for seed in both) / sum(base[seed] for seed in both)
    p, log_ratio, verdict = math.nan, math.nan, ''
    if setting.name != setting.base:
        p = p_value(values, list(base.values()))
        log_ratio = log_mean(values) - log_mean(base.values())
        verdict = 'the base went bad' if math.inf in base.values() else 'fewer than 3 seeds'
    last = list(table[setting.name].values())[-1]
    copied = ('floor', 'images_seen', 'image_size', 'budget', 'data', 'device', 'torch')
    return dict(row=setting.name, group=setting.group, change=setting.change, claim=setting.claim,
                n_seeds=len(values), ffd=statistics.mean(values), lowest=min(values),
                highest=max(values), ratio=ratio, base=setting.base, p=p, p_corrected=math.nan,
                verdict=verdict, log_ratio=log_ratio, values=values,
                **{name: last[name] for name in copied})


def log_mean(values):
    return statistics.mean(map(math.log, values))


def distances(table, name):
    """Return {seed: distance} of a setting."""
    return {seed: float(result['ffd']) for seed, result in table.get(name, {}).items()}


def write(folder, tables):
    """Write study_summary.csv, without the single values and with four decimals."""
    rows = []
    for summary in itertools.chain.from_iterable(tables):
        row = {name: summary[name] for name in COLUMNS}
        for name, value in row.items():
            if isinstance(value, float):
                row[name] = '' if math.isnan(value) else f'{value:.4f}'
        rows.append(row)
    key = ('row', 'budget', 'device', 'data')
    common.Table(folder / 'study_summary.csv', COLUMNS, key).write(rows)


# --------------------------------------------------------------------------------------- the figure


def draw(folder, rows):
    """Draw study.png from one table of summaries.

    A dot is a seed, a bar their mean, a cross a run that went bad. Dashed is the setting that each
    is held against, dotted the floor.
    """
    rows = sorted(rows, key=lambda row: (GROUPS.index(row['group']), row['ffd']))
    means = {row['row']: row['ffd'] for row in rows}
    finite = [value for row in rows for value in row['values'] if value < math.inf]
    edge = 1.3 * max(finite, default=1)
    height = 1 + 0.165 * (len(rows) + len(GROUPS))
    _, axes = plt.subplots(figsize=(10, height), layout='constrained')
    labels = []
    for group, members in itertools.groupby(rows, lambda row: row['group']):
        labels.append(group.upper())
        for row in members:
            draw_row(axes, len(labels), row, means.get(row['base'], math.nan), edge)
            labels.append(row['row'])
    draw_legend(axes)
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.grid(axis='y', alpha=0.2)
    axes.set(xscale='log', ylim=(len(labels) - 0.4, -0.6))
    axes.xaxis.set_major_locator(plt.LogLocator(subs=(1, 2, 3, 5)))
    axes.xaxis.set_major_formatter('{x:g}')
    axes.minorticks_off()
    first = rows[0]
    what = 'Fréchet face distance, lower is better; dashed: base, dotted: other real faces'
    whence = f'{int(first["budget"]):,} images a run, {first["data"]}, {first["device"]}'
    axes.set_xlabel(f'{what}\n{whence}', fontsize=8)
    common.save_figure(folder / 'study.png', dpi=100)


def draw_row(axes, y, row, base, edge):
    """Draw one setting at height y; what lies beyond the edge is drawn on it."""
    colour = COLOURS.get(row['verdict'], 'black')
    for value in row['values']:
        marker = 'o' if value < math.inf else 'x'
        axes.plot(min(value, edge), y, marker, color=colour, markersize=4, alpha=0.6)
    axes.plot(min(row['ffd'], edge), y, '|', color=colour, markersize=11, markeredgewidth=2)
    for x, style in ((base, '--'), (float(row['floor']), ':')):
        axes.plot([x, x], [y - 0.5, y + 0.5], style, color='black', linewidth=0.8, zorder=0)
    axes.text(1.01, y, row['claim'], transform=axes.get_yaxis_transform(), fontsize=8, va='center',
              color='dimgray')


def draw_legend(axes):
    for verdict, colour in COLOURS.items():
        axes.plot([], [], 'o', color=colour, markersize=4, label=verdict)
    axes.legend(fontsize=8, ncols=4, loc='lower center', bbox_to_anchor=(0.5, 1))
