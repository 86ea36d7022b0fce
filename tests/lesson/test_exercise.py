"""The exercise for a class: its gaps are the notebook's, nothing gives them away, and it runs."""
import ast
import json
import re

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from experiments import exercise
from experiments.exercise import EXTRAS, GAPS, class_notebook, functions_of, source_of
from tests.lesson.test_notebook import run_notebook
from tests.tools import NOTEBOOK, PROJECT


@pytest.fixture(scope='module')
def given():
    """The notebook with gaps, as a dict."""
    return class_notebook()


@pytest.fixture
def whole():
    """{id: cell} of the notebook itself."""
    cells = json.loads(NOTEBOOK.read_text(encoding='utf-8'))['cells']
    return {cell['id']: cell for cell in cells}


def code_of(notebook):
    return [cell for cell in notebook['cells'] if cell['cell_type'] == 'code']


def filled(source, solution, names):
    """The source of a cell with the notebook's own code in some of its gaps."""
    lines, answers = source.splitlines(), dict(functions_of(solution))
    for name, node in reversed(list(functions_of(source))):
        if name in names:
            first = end_of_what_is_kept(node)
            answer = solution.splitlines()[end_of_what_is_kept(answers[name]):
                                           answers[name].end_lineno]
            last = node.end_lineno
            while last < len(lines) and lines[last].strip().startswith('#'):      # of __init__
                last += 1
            lines[first:last] = answer
    return '\n'.join(lines)


def end_of_what_is_kept(node):
    """The last line of a function's head, docstring or super().__init__()."""
    kept = [statement.end_lineno for statement in node.body if exercise.is_kept(statement)]
    return max(kept, default=node.lineno)


def with_values(source, solution):
    """The source of a cell of parameters with the notebook's own values."""
    own = {line.partition(' = ')[0]: line for line in solution.splitlines()}
    return '\n'.join(own[name] if name in exercise.CHOICES else line for line, name in (
        (line, line.partition(' = ')[0]) for line in source.splitlines()))


def solve(notebook, whole, names):
    """Fill some of the gaps of a notebook in place, and all of its values."""
    for cell in code_of(notebook):
        solution = source_of(whole[cell['id']])
        source = filled(source_of(cell), solution, names)
        cell['source'] = source if names & gaps_in(solution) else with_values(source, solution)


def gaps_in(source):
    return {name for name, _ in functions_of(source)} & set(GAPS | EXTRAS)


# ------------------------------------------------------------------------------------ in step


def test_filled_it_is_the_notebook(given, whole):
    """Cell by cell, in its order; prose is the notebook's where it is not the class's own."""
    notebook = json.loads(json.dumps(given))
    solve(notebook, whole, set(GAPS | EXTRAS))
    ours = [cell for cell in notebook['cells'] if not cell['id'].startswith('before-')]
    assert [cell['id'] for cell in ours] == list(whole)
    own = re.findall('instead of (\\w+)', exercise.CELLS.read_text(encoding='utf-8'))
    for cell in ours:
        solution = source_of(whole[cell['id']])
        if cell['cell_type'] == 'markdown':
            solution = exercise.without_lost_links(solution)
        elif cell['id'] in exercise.SHORTER:
            _, instead = exercise.SHORTER[cell['id']]
            solution = solution[:len(source_of(cell)) - len(instead)] + instead
        assert (source_of(cell) == solution) == (cell['id'] not in own), cell['id']


def test_every_gap_and_every_place_is_there(given, whole):
    """A function that was renamed, or a cell that is gone, must not pass for one with a gap."""
    names = [name for cell in code_of(given) for name, _ in functions_of(source_of(cell))]
    assert [name for name in names if name in GAPS] == list(GAPS)
    assert [name for name in names if name in EXTRAS] == list(EXTRAS)
    places = re.findall(r'<!-- [a-z ]+ (\w+) -->', exercise.CELLS.read_text(encoding='utf-8'))
    assert set(places) <= set(whole) and len(places) == 5
    todo = [line for cell in given['cells'] for line in source_of(cell).splitlines()
            if 'TODO' in line]
    assert len(todo) == len(GAPS | EXTRAS) + len(exercise.CHOICES) + 3


# ------------------------------------------------------------------------------ given away


class WithoutNames(ast.NodeTransformer):
    """So that a step of first_D tells as much as one of D."""

    def visit_Name(self, node):
        return ast.Name('_', node.ctx)


def statements_of(source):
    """The simple statements in a source, whatever their names are, as one line each."""
    return {ast.unparse(WithoutNames().visit(node)) for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.stmt) and not hasattr(node, 'body')}


def answers(whole):
    """The statements that students write, but for those that say nothing."""
    found = set()
    for cell in whole.values():
        source = source_of(cell)
        if cell['cell_type'] == 'code':
            for name, node in functions_of(source):
                if name in GAPS | EXTRAS:
                    first, last = exercise.lines_to_write(node)
                    lines = source.splitlines()[first - 1:last]
                    indent = len(lines[0]) - len(lines[0].lstrip())
                    found |= statements_of('\n'.join(line[indent:] for line in lines))
    return {answer for answer in found if len(answer) > 20}


def told(notebook, whole):
    """What a notebook tells of the answers, anywhere in its code or in its outputs."""
    source = '\n'.join(source_of(cell) for cell in code_of(notebook))
    shown = ''.join(json.dumps(cell['outputs']) for cell in code_of(notebook))
    said = statements_of(source)
    return sorted(answer for answer in answers(whole) if answer in said or answer in shown)


def test_nothing_gives_a_gap_away(given, whole):
    assert told(given, whole) == []
    assert not any(cell['outputs'] or cell['execution_count'] for cell in code_of(given))


@pytest.mark.parametrize('gap', ['train_step', 'scale', 'Generator.__init__'])
def test_an_answer_that_is_left_is_noticed(given, whole, gap):
    """The notebook's train_step, for one, has the lines of plain_step."""
    notebook = json.loads(json.dumps(given))
    solve(notebook, whole, {gap})
    assert len(told(notebook, whole)) > 0


def test_a_cell_that_is_not_made_shorter_is_noticed(whole, monkeypatch):
    """One step by hand is one step."""
    monkeypatch.setattr(exercise, 'SHORTER', {})
    assert len(told(class_notebook(), whole)) > 0


# -------------------------------------------------------------------------------- a student's way


def test_each_gap_left_empty_is_told_in_a_sentence(given, whole, folder, monkeypatch):
    """Run from the top, it stops at the first gap that is left; then that one is written."""
    monkeypatch.setenv('DCGAN_PRESET', 'smoke')
    monkeypatch.setenv('DCGAN_DATA', 'drawn')
    scope, missed, to_write = {'__name__': '__main__'}, [], []
    for cell in code_of(given):
        source, solution = source_of(cell), source_of(whole[cell['id']])
        if gaps_in(solution):
            to_write.append(solution)
        missed += missed_by(source, scope, to_write)
        if 'first_steps' in source and 'plain_step(' in source:
            break                                # that was the first training
    nothing = [f'{name} returned nothing' for name in (
        'get_dataloader', 'scale', 'Discriminator.forward', 'Generator.forward', 'real_loss',
        'make_optimizers', 'plain_step')]
    assert missed == [*nothing[:4], 'Weights of Conv2d', *nothing[4:]]


def missed_by(source, scope, to_write):
    """Run a cell, and again with one gap written after the other; yield what it said before."""
    while True:
        try:
            exec(source, scope)
            return
        except AssertionError as error:
            yield str(error).split(':')[0]
            exec(to_write.pop(0), scope)


@pytest.fixture
def hand_out(tmp_path):
    """The folder that students get."""
    exercise.main(['--into', str(tmp_path)])
    return tmp_path / 'for-students'


@pytest.mark.slow
def test_left_empty_it_stops_at_the_first_gap(hand_out):
    notebook = nbformat.read(hand_out / NOTEBOOK.name, as_version=4)
    with pytest.raises(CellExecutionError) as stopped:
        run_notebook(notebook, hand_out, PYTHONPATH='')
    assert stopped.value.ename == 'AssertionError'
    assert stopped.value.evalue == 'get_dataloader returned nothing: write it in the cell above.'
    assert stopped.value.traceback.count('---->') <= 1, 'a traceback of internals'


@pytest.mark.slow
@pytest.mark.parametrize('extras', [EXTRAS, {}], ids=['all', 'without extras'])
def test_filled_it_runs_to_its_end(hand_out, whole, extras):
    """And with the extras left, their tests fail and the others pass."""
    notebook = nbformat.read(hand_out / NOTEBOOK.name, as_version=4)
    solve(notebook, whole, set(GAPS | extras))
    printed, n_pictures = run_notebook(notebook, hand_out, PYTHONPATH='')
    code = code_of(notebook)
    n_tests = sum(source_of(cell).count('tests.test_') for cell in code)
    failed = [output.ename for cell in code for output in cell.outputs
              if output.output_type == 'error']
    assert failed == ['AssertionError'] * (0 if extras else len(EXTRAS))
    assert printed.count('Tests Passed') == n_tests - len(failed)
    assert 'explorer.html: ' in printed and n_pictures >= 6


# ----------------------------------------------------------------------------- what is handed out


def test_hand_out_has_what_the_notebook_names(hand_out, capsys):
    """Each picture and each linked file is there; no card and no number that tells an answer."""
    notebook = json.loads((hand_out / NOTEBOOK.name).read_text(encoding='utf-8'))
    text = '\n'.join(source_of(cell) for cell in notebook['cells']
                     if cell['cell_type'] == 'markdown')
    for link in re.findall(r'\]\(([^)]+)\)', text):
        if (PROJECT / link).exists():
            assert (hand_out / link).is_file(), link
    names = {path.name for path in hand_out.rglob('*')}
    assert {'helpers.py', 'problem_unittests.py', 'machinery', 'requirements.txt'} <= names
    assert not names & {'README.md', '__pycache__', 'study_summary.csv', 'tests', 'experiments'}
    exercise.main(['--into', str(hand_out.parent)])              # once more, over it
    page = (hand_out.parent / 'teacher.md').read_text(encoding='utf-8')
    assert '$' not in page.replace('"$each"', '')


def test_teachers_page_says_what_was_measured(monkeypatch):
    """Its numbers are those of the tables, and a table that changes changes them."""
    page = exercise.teachers_page()
    base = exercise.by('row', 'study_summary')['base']
    assert f'comes to **{exercise.spread(base)}**' in page
    changed = {row: result | dict(ffd='77.7') for row, result
               in exercise.by('row', 'study_summary').items()}
    by = exercise.by
    monkeypatch.setattr(exercise, 'by', lambda column, name: (
        changed if name == 'study_summary' else by(column, name)))
    assert exercise.teachers_page().count('77.7 (') > 10
    rows = re.findall(r'^\| `(\w+)`.* \| (\d+) \| (.+) \|$', page, re.MULTILINE)
    assert {'scale', 'plain_step', 'slerp'} <= {part for part, _, _ in rows}
    assert all(int(number) and lines.strip() for _, number, lines in rows)


def test_teachers_page_takes_what_was_run(monkeypatch, whole):
    """The bugs of the picture in their order, and what the step by hand printed."""
    bug = dict(kind='bug', tells='test_losses', d_real='0.91', d_fake='0.88', ffd='123.42',
               change='torch.ones_like for torch.zeros_like')
    rows = [bug | dict(number='2', run='fakes labelled real'), bug | dict(number='1', run='other'),
            bug | dict(kind='failure', number='', run='mode collapse')]
    monkeypatch.setattr(exercise, 'rows_of', lambda name: rows)
    section = exercise.find_the_bug()
    assert '![curves and faces](find-the-bug.png)' in section and 'mode collapse' not in section
    assert section.index('| 1 | other |') < section.index('| 2 | fakes labelled real |')
    assert '0.91, 0.88 | 123.4 |' in section

    cell = whole['newhand03'] | dict(outputs=[dict(text=['untrained D(x) 0.500\n', 'after\n'])])
    answer = exercise.notebook_answer([cell])
    assert '  untrained D(x) 0.500\n  after\n  ```' in answer
