"""The experiments: what documents say of their results; their commands, tables, small runs."""
import collections
import json
import os
import re
from unittest import mock

import pytest
import torch

from experiments import (
    balance,
    bench,
    bench_loops,
    bench_timing,
    commands,
    common,
    encoder,
    export,
    failures,
    fair,
    few_images,
    figures,
    judge,
    memorisation,
    pictures,
    study,
    study_summary,
    tables,
)
from experiments.settings import SETTINGS
from machinery import files
from tests.experiments import quotes
from tests.tools import ASSETS, NOTEBOOK, PROJECT


@pytest.fixture(autouse=True)
def leave_the_process_as_it_was():
    """Commands set up their process: threads and environment."""
    n_threads = torch.get_num_threads()
    with mock.patch.dict(os.environ):
        yield
    torch.set_num_threads(n_threads)


COMMANDS = [balance, bench, commands, encoder, export, failures, fair, figures,
            judge, memorisation, pictures, study, tables]

# ------------------------------------------------------------------------ documents and csv files


def words_of(text):
    """A text in one line, so that it does not matter where its lines end."""
    return ' '.join(text.split())


def document(name):
    """The words of a document without its tables; of the notebook, those of its cells of prose."""
    path = PROJECT / name
    text = tables.MARKED.sub('', path.read_text(encoding='utf-8'))
    if path.suffix == '.ipynb':
        cells = json.loads(text)['cells']
        prose = [''.join(cell['source']) for cell in cells if cell['cell_type'] == 'markdown']
        text = ' '.join(prose)
    return words_of(text)


def quotes_of(name):
    if name == 'README.md':
        return quotes.readme()
    if name == NOTEBOOK.name:
        return quotes.notebook()
    return quotes.experiments_readme()


@pytest.mark.parametrize('name', ['README.md', 'experiments/README.md', NOTEBOOK.name])
def test_documents_say_what_the_tables_say(name):
    text = document(name)
    missing = [quote for quote in quotes_of(name) if words_of(quote) not in text]
    missing = '\n'.join(missing)
    assert not missing, f'{name} does not say what follows from assets/*.csv:\n{missing}'


@pytest.mark.parametrize('name', ['README.md', 'experiments/README.md'])
def test_no_number_comes_from_nowhere(name):
    """Every number outside of code is in a quote from a csv, or it is listed as no such quote."""
    text = document(name)
    for known in [*quotes_of(name), *quotes.NOT_FROM_CSV[name]]:
        text = text.replace(words_of(known), ' ')
    text = re.sub(r'```.*?```|`[^`]*`|\]\([^)]*\)', ' ', text)
    left = re.findall(r'(?:[^ ]+ )?(?<![\w.])\d[^ ]*(?: [^ ]+)?', text)     # with their neighbours
    assert not left, f'{name}: neither a quote of quotes.py nor in NOT_FROM_CSV: {left}'


def test_listed_numbers_are_in_their_documents():
    """NOT_FROM_CSV is no longer than it has to be."""
    for name, phrases in quotes.NOT_FROM_CSV.items():
        text = document(name)
        assert [phrase for phrase in phrases if words_of(phrase) not in text] == []


def test_a_wrong_number_is_noticed():
    """The same search finds a number that was changed by hand."""
    sentence, *_ = quotes.fair_sentences()
    assert sentence in document('README.md')
    assert sentence not in document('README.md').replace('0.20 (', '0.19 (')


@pytest.mark.parametrize('path', tables.DOCUMENTS, ids=lambda path: path.parent.name)
def test_tables_in_documents_are_those_of_the_csv_files(path):
    """python -m experiments.tables --write changes nothing."""
    text = path.read_text(encoding='utf-8')
    assert tables.filled(text) == text, 'run python -m experiments.tables --write'


def test_every_table_is_in_a_document_once():
    """And a number that was changed in one by hand is put right."""
    texts = [path.read_text(encoding='utf-8') for path in tables.DOCUMENTS]
    names = [name for text in texts for _, name, _, _ in tables.MARKED.findall(text)]
    assert sorted(names) == sorted(tables.TABLES)
    assert tables.filled(texts[0].replace('| 5.12 (', '| 5.21 (')) == texts[0]


@pytest.mark.parametrize('name', ['README.md', 'experiments/README.md', 'experiments/LOG.md'])
def test_links_and_tables_of_documents_are_there(name):
    """Each link leads to a file, and to a heading of it where one is named."""
    path = PROJECT / name
    text = path.read_text(encoding='utf-8')
    for link in re.findall(r'\]\(([^)]+)\)', text):
        if '://' not in link:
            file, _, heading = link.partition('#')
            target = path.parent / file if file else path
            assert target.is_file(), link
            assert not heading or heading in headings(target), link
    for table in re.findall(r'`(\w+\.csv)`', text):
        assert (ASSETS / table).is_file(), table


def headings(path):
    """The headings of a document as links name them."""
    lines = re.findall(r'^#+ (.+)$', path.read_text(encoding='utf-8'), re.MULTILINE)
    return {re.sub(r'[^\w -]', '', line).lower().replace(' ', '-') for line in lines}


@pytest.mark.parametrize('path', sorted(ASSETS.glob('*.csv')), ids=lambda path: path.name)
def test_every_row_says_where_it_comes_from(path):
    columns, rows = common.read_csv(path)
    whence = [name for name in common.Table.WHENCE if name in columns]
    assert whence and rows
    assert all(row[name] for row in rows for name in whence)


def test_published_versions_are_kept():
    """constraints.txt has a version of all that is required, and the torch of the last tables."""
    def packages(path):
        lines = (PROJECT / path).read_text(encoding='utf-8').splitlines()
        found = [re.match(r'([\w-]+)(?:[=>]=(.+))?', line) for line in lines]
        return {match[1]: match[2] for match in found if match}
    kept = packages('experiments/constraints.txt')
    assert set(packages('requirements.txt')) <= set(kept)
    for name in ('fair', 'memorisation_gap'):
        _, rows = common.read_csv(ASSETS / f'{name}.csv')
        assert {row['torch'].split('+')[0] for row in rows} == {kept['torch']}


# --------------------------------------------------------------------------------------- commands


@pytest.mark.parametrize('module', COMMANDS, ids=lambda module: module.__name__)
def test_help_is_the_docstring(module, capsys):
    with pytest.raises(SystemExit) as ended:
        module.main(['--help'])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert module.__doc__.splitlines()[0] in said
    assert '--into' in said and f'python -m {module.__name__}' in said


def test_a_folder_that_is_missing_is_refused(folder, capsys):
    with pytest.raises(SystemExit):
        study.main(['--folder', 'nowhere'])
    assert "'nowhere' is no folder" in capsys.readouterr().err


def test_benchmark_names_its_command():
    """What its tables say of it."""
    parsed = []

    class Stopped(Exception):
        pass

    def stop(*arguments):
        parsed.extend(arguments)
        raise Stopped
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, 'Bench', stop)
        with pytest.raises(Stopped):
            bench.main(['--repeats', '3', '--only', 'step'])
    assert parsed[1] == 'python -m experiments.bench --repeats 3 --only step'


# ----------------------------------------------------------------------------------------- tables

COLUMNS = ('what', 'value', 'device', 'torch', 'command')
WHENCE = dict(device='a CPU', torch='2.11', command='python -m experiments.nothing')


@pytest.fixture
def table(tmp_path):
    return common.Table(tmp_path / 'numbers.csv', COLUMNS, key=('device', 'what'))


def test_table_without_a_file_is_empty(table):
    assert table.read() == []


def test_merging_replaces_rows_of_the_same_key(table):
    table.merge([WHENCE | dict(what='speed', value=1), WHENCE | dict(what='memory', value=2)])
    table.merge([WHENCE | dict(what='speed', value=3),
                 WHENCE | dict(what='speed', value=4, device='a GPU')])
    found = [(row['what'], row['value'], row['device']) for row in table.read()]
    assert found == [('speed', '3', 'a CPU'), ('memory', '2', 'a CPU'), ('speed', '4', 'a GPU')]


@pytest.mark.parametrize('name', common.Table.WHENCE[:3])
def test_a_row_without_provenance_is_refused(table, name):
    table.merge([WHENCE | dict(what='speed', value=1)])
    with pytest.raises(ValueError, match=f'without {name}'):
        table.merge([WHENCE | {'what': 'memory', name: ''}])
    assert len(table.read()) == 1


def test_a_table_without_provenance_is_refused(tmp_path):
    with pytest.raises(ValueError, match='no column says'):
        common.Table(tmp_path / 'numbers.csv', ('what', 'value'), key=('what',))


def test_a_file_with_other_columns_is_refused(table):
    table.path.write_text('what,colour\nface,red\n')
    with pytest.raises(ValueError, match='expected the columns'):
        table.merge([WHENCE | dict(what='speed', value=1)])


def test_a_table_is_written_whole_or_not_at_all(table, monkeypatch):
    """A crash in the middle of writing leaves the old rows, and no other file."""
    table.merge([WHENCE | dict(what='speed', value=1)])
    before = table.path.read_bytes()

    def crash(path, write, keep=None):
        with open(path.with_name(f'{path.name}.part'), 'wb') as file:
            write(file)
        raise OSError('no space left')
    monkeypatch.setattr(files, 'write_atomically', crash)
    with pytest.raises(OSError):
        table.merge([WHENCE | dict(what='speed', value=2)])
    assert table.path.read_bytes() == before


def test_published_tables_stay_byte_for_byte(tmp_path):
    """A table of assets/ that is read and written again is the same file."""
    published = ASSETS / 'study.csv'
    copy = tmp_path / 'study.csv'
    copy.write_bytes(published.read_bytes())
    study.results_table(tmp_path).merge([])
    assert copy.read_bytes() == published.read_bytes()


# ------------------------------------------------------------------------------------------ study


def test_summary_follows_from_the_runs(tmp_path):
    """study_summary.csv is what study.csv gives, byte for byte."""
    summaries = study_summary.summarise(study.results_table(ASSETS).read())
    study_summary.write(tmp_path, summaries)
    summary = tmp_path / 'study_summary.csv'
    assert summary.read_bytes() == (ASSETS / 'study_summary.csv').read_bytes()


def test_summary_of_few_images_follows_from_the_runs(tmp_path):
    """few_images_summary.csv, byte for byte."""
    few_images.write_summary(tmp_path, few_images.results_table(ASSETS).read())
    summary = tmp_path / 'few_images_summary.csv'
    assert summary.read_bytes() == (ASSETS / 'few_images_summary.csv').read_bytes()


def verdict_on(values, base):
    """The verdict on a setting's distances, one a seed, where nothing else is tested."""
    setting = SETTINGS['batch 16']
    table = {name: {seed: collections.defaultdict(str, ffd=ffd) for seed, ffd in enumerate(each)}
             for name, each in ((setting.name, values), (setting.base, base))}
    summary, = [row for row in study_summary.summarise_table(table) if row['row'] == setting.name]
    return summary['verdict']


@pytest.mark.parametrize(('values', 'base', 'verdict'), [
    ([1, 2, 3], [11, 12, 13], 'helps'),
    ([11, 12, 13], [1, 2, 3], 'hurts'),
    ([1, 2, 3], [2, 3, 4], 'within noise'),
    ([1, 2, float('inf')], [1, 2, 3], 'hurts'),
    ([1, 2, 3], [1, 2, float('inf')], 'the base went bad'),
    ([1, 2], [11, 12, 13], 'fewer than 3 seeds')])
def test_verdicts(values, base, verdict):
    assert verdict_on(values, base) == verdict


def test_chance_alone_gives_few_verdicts():
    """Of 400 settings that are their base, nearly none helps or hurts; uncorrected, one in 30."""
    torch.manual_seed(0)
    distances = torch.randn(400, 6).exp().tolist()
    rows = [dict(p=study_summary.p_value(each[:3], each[3:]), log_ratio=-1.0) for each in distances]
    study_summary.judge(rows)
    assert sum(row['p'] <= 0.05 for row in rows) >= 8
    assert sum(row['verdict'] != 'within noise' for row in rows) <= 1


@pytest.mark.parametrize('name', SETTINGS)
def test_every_setting_builds_and_computes(name):
    """The edits are found in the notebook, and the networks give images and logits."""
    setting = SETTINGS[name]
    notebook = setting.definitions()
    size = setting.config['img_size']
    with common.silence():
        D, G = notebook.build_network(4, 4, 10, size, setting.config['d_batch_norm'])
    images = G(torch.randn(4, 10))
    assert images.shape == (4, 3, size, size)
    assert D(images).shape == (4, 1)


def write_drawn_folder(folder, n_images):
    bench_loops.write_faces(folder / 'faces', n_images)
    return folder / 'faces'


@pytest.mark.slow
def test_a_small_study(folder, monkeypatch, capsys):
    """One setting and its base, from a folder of images to the figure; then nothing is left."""
    monkeypatch.setattr(study, 'N_JUDGED', 20)
    study.face_distance.cache_clear()
    faces = write_drawn_folder(folder, 40)
    into = folder / 'results'
    into.mkdir()
    command = ['--folder', str(faces), '--into', str(into), '--rows', 'two time scales',
               '--budget', '40', '--seeds', '0', '--processes', '1']
    with pytest.raises(SystemExit) as ended:
        study.main(command)
    assert ended.value.code == 0
    assert 'FAILED' not in capsys.readouterr().out
    runs = study.results_table(into).read()
    assert [run['row'] for run in runs] == ['base', 'two time scales']
    assert runs[0]['data'] == '40 images of faces/' and runs[0]['images_seen'] == '40'
    assert str(folder) not in (into / 'study.csv').read_text()
    _, summaries = common.read_csv(into / 'study_summary.csv')
    assert [summary['verdict'] for summary in summaries] == ['', 'fewer than 3 seeds']
    assert (into / 'study.png').stat().st_size > 10_000

    with pytest.raises(SystemExit):
        study.main(command)
    assert '0 of 2 runs are left' in capsys.readouterr().out
    study.face_distance.cache_clear()


# ------------------------------------------------------------------------------------------ bench


@pytest.fixture
def small_bench(tmp_path, monkeypatch):
    """A benchmark of networks and blocks that are as small as they get."""
    for module in (bench, bench_loops):
        monkeypatch.setattr(module, 'BATCH', 8)
    monkeypatch.setattr(bench, 'SIZES', [(32, 4)])
    small = bench_timing.Bench(tmp_path, common.command('bench'), repeats=2, seconds=0.01)
    small.peaks = {'float32': 1, 'tf32': 1, 'bfloat16': 1}
    return small


@pytest.mark.slow
def test_the_ladder_of_steps(small_bench, capsys):
    bench.step_tables(small_bench, mock.Mock(compile=False))
    columns, rows = common.read_csv(small_bench.into / 'bench_step.csv')
    assert columns == common.read_csv(ASSETS / 'bench_step.csv')[0]
    assert [row['row'] for row in rows] == [name for name, _ in bench.ladder(compiled=False)]
    assert float(rows[0]['ratio_baseline']) == 1
    assert all(float(row['images_per_s']) > 0 for row in rows)
    arithmetic = [float(row['mflop_per_image']) for row in rows]
    assert arithmetic == sorted(arithmetic, reverse=True)
    assert 'the public step' in capsys.readouterr().out
