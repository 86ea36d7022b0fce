"""The report of experiments.gpu: what each stage found, and which targets are met."""
from experiments import common, gpu_checks, gpu_measures, study
from machinery import files

REPORT = 'gpu_report.md'
TAIL = 25                    # lines of output that are shown of a stage that failed
AT_64 = '64x64, conv_dim 64, batch 128'
AT_32 = '32x32, conv_dim 32, batch 128'
OURS = 'ours: DeviceLoader, mirroring, captured step, average'


class Outcome:
    """What became of a stage: ok, failed, stopped or left out; its seconds and its output."""

    def __init__(self, name, state, seconds=0., output=''):
        self.name = name
        self.state = state
        self.seconds = seconds
        self.lines = [line.rstrip() for line in output.splitlines() if line.strip()]

    def last_line(self):
        return self.lines[-1] if self.lines else ''


def write(task, outcomes, waiting, whence, n_minutes):
    """Write the report anew, into the folder of the tables.

    waiting  names of the stages to come
    whence   the provenance of rows of this device; None where that is not known
    """
    lines = ['# The project on a GPU', '', f'`{task.command}`', '']
    if whence:
        lines += [f'Device: {whence["device"]}, torch {whence["torch"]}.', '']
    if task.rehearse:
        lines += ['**A rehearsal in miniature: none of the numbers means anything.**', '']
    if task.folder is None:
        lines += ['**No folder of faces was given: all faces are drawn by code.** Distances say '
                  'nothing of real ones.', '']
    lines += stages_table(outcomes, waiting, n_minutes)
    device = whence['device'] if whence else None
    lines += ['', '## Targets', '', *targets_table(task, device)]
    lines += ['', '## What was measured', '', *rows_table(task, device)]
    lines += ['', 'Beside it: `bench_*.csv`, `study.csv`, `study_summary.csv`, and in `gpu_logs/` '
              'all that the stages printed.']
    for outcome in outcomes:
        if outcome.state in ('failed', 'stopped'):
            lines += ['', f'## {outcome.name}: {outcome.state}', '', '```',
                      *outcome.lines[-TAIL:], '```']
    content = '\n'.join([*lines, '']).encode()
    files.write_atomically(task.into / REPORT, lambda file: file.write(content))


def markdown(header, rows):
    """Return a table's lines; what would end a cell is replaced."""
    lines = [f'| {" | ".join(header)} |', '|' + '---|' * len(header)]
    for row in rows:
        cells = [str(cell).replace('|', '/') for cell in row]
        lines.append(f'| {" | ".join(cells)} |')
    return lines


def stages_table(outcomes, waiting, n_minutes):
    rows = []
    for outcome in outcomes:
        rows.append([outcome.name, outcome.state, f'{outcome.seconds:.1f}', outcome.last_line()])
    for name in waiting:
        rows.append([name, 'waiting', '', ''])
    good = sum(outcome.state == 'ok' for outcome in outcomes)
    spent = sum(outcome.seconds for outcome in outcomes) / 60
    title = (f'{good} of {len(outcomes) + len(waiting)} stages are ok; {spent:.1f} of '
             f'{n_minutes:g} minutes.')
    return [title, '', *markdown(['stage', '', 'seconds', 'its last line'], rows)]


def rows_table(task, device):
    """Return the rows of gpu.csv that this device has."""
    rows = []
    for row in gpu_checks.results_table(task.into).read():
        if row['device'] == device:
            between = f'{row["lowest"]}–{row["highest"]}'
            rows.append([row['stage'], row['what'], f'{row["value"]} {row["unit"]}', between,
                         row['repeats']])
    return markdown(['stage', '', 'value', 'lowest–highest', 'n'], rows)


# ------------------------------------------------------------------------------------- the targets


def bench_rows(task, table, device):
    """Return {(setting, row): row} of a table of the bench, for this device."""
    path = task.into / f'bench_{table}.csv'
    if not path.exists():
        return {}
    _, rows = common.read_csv(path)
    return {(row['setting'], row['row']): row for row in rows if row['device'] == device}


def targets_table(task, device):
    """Return the targets, each met or not met, or not measured."""
    measured = {}
    for row in gpu_checks.results_table(task.into).read():
        if row['device'] == device:
            measured[row['what']] = float(row['value'])
    epochs = bench_rows(task, 'epoch', device)
    at_64, at_32 = epochs.get((AT_64, OURS), {}), epochs.get((AT_32, OURS), {})
    rows = [
        at_most(f'{gpu_measures.FIFTY} at 32x32, seconds of training', 30, 15,
                measured.get(gpu_measures.FIFTY)),
        at_least('images/s at 64x64, conv_dim 64, batch 128, files to weights', 30_000, 60_000,
                 number(at_64.get('images_per_s'))),
        at_least('times the public loop beside it, at 64x64', 20, 20,
                 number(at_64.get('ratio_baseline'))),
        at_least('times the public loop beside it, at 32x32', 20, 20,
                 number(at_32.get('ratio_baseline'))),
    ]
    rows += [distance_row(task, device, 'base', 'recipe'),
             distance_row(task, device, 'base 64', 'recipe 64')]
    return markdown(['', 'target', 'measured', ''], rows)


def number(text):
    return float(text) if text else None


def at_most(what, target, aim, value):
    if value is None:
        return [what, f'{target} (aim {aim})', '', 'not measured']
    verdict = 'NOT met'
    if value <= target:
        verdict = 'met, and the aim' if value <= aim else 'met, not the aim'
    return [what, f'at most {target} (aim {aim})', f'{value:,.4g}', verdict]


def at_least(what, target, aim, value):
    if value is None:
        return [what, f'{target:,} (aim {aim:,})', '', 'not measured']
    verdict = 'NOT met'
    if value >= target:
        verdict = 'met, and the aim' if value >= aim else 'met, not the aim'
    return [what, f'at least {target:,} (aim {aim:,})', f'{value:,.0f}', verdict]


def distance_row(task, device, base, recipe):
    """Return the distances of the public recipe and of ours, over the seeds that both have."""
    found = {base: {}, recipe: {}}
    for row in study.results_table(task.into).read():
        if row['row'] in found and row['device'] == device:
            found[row['row']][row['seed']] = float(row['ffd'])
    both = [seed for seed in found[base] if seed in found[recipe]]
    what = f'mean distance of {recipe!r}, against that of {base!r}'
    if not both:
        return [what, 'lower', '', 'not measured']
    ours = sum(found[recipe][seed] for seed in both) / len(both)
    public = sum(found[base][seed] for seed in both) / len(both)
    verdict = 'met' if ours < public else 'NOT met'
    return [what, 'lower', f'{ours:.2f} against {public:.2f}, n = {len(both)}', verdict]
