"""The habits of the house: which room may import which, names, line lengths, what lies where."""
import ast
import inspect
import re
import subprocess
from collections import defaultdict

import pytest

import helpers
import machinery
from machinery.lesson import code_cells
from tests.tools import NOTEBOOK, PROJECT

ROOMS = re.findall(r'^(\w+)  +\S', machinery.__doc__, re.MULTILINE)      # from top to bottom
TOP_LEVEL = {'dcgan_faces.ipynb', 'helpers.py', 'problem_unittests.py', 'requirements.txt',
             'assets', 'README.md', 'machinery', 'tests', 'experiments', 'pyproject.toml',
             'LICENSE', 'CITATION.cff', '.ci', '.gitignore'}


def python_files():
    """Every Python file of the project."""
    folders = [PROJECT / name for name in ('machinery', 'tests', 'experiments')]
    return sorted(PROJECT.glob('*.py')) + [path for folder in folders
                                           for path in sorted(folder.rglob('*.py'))]


def notebook_cells():
    """The source of every code cell."""
    return [source for _, source in code_cells(NOTEBOOK)]


def sources():
    """(where, source) of everything that is Python: the notebook counts as one file."""
    found = [(str(path.relative_to(PROJECT)), path.read_text(encoding='utf-8'))
             for path in python_files()]
    return found + [(NOTEBOOK.name, '\n'.join(notebook_cells()))]


# -------------------------------------------------------------------------------------- the rooms


def modules_imported(path):
    """The full names of the modules that a room imports, anywhere in its file."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ['machinery'] if node.level else []          # from .files import, from . import
            end = [node.module] if node.module else []
            module = '.'.join(start + end)
            if module == 'machinery':
                yield from (f'machinery.{alias.name}' for alias in node.names)
            else:
                yield module


def test_every_room_has_its_place():
    """The docstring of machinery says what each of them holds."""
    files = {path.stem for path in (PROJECT / 'machinery').glob('*.py')} - {'__init__'}
    assert sorted(ROOMS) == sorted(files)


def test_rooms_import_only_rooms_below():
    """So there is no circle; and no room knows helpers, the tests, or the notebook."""
    outside = {'helpers', 'problem_unittests', 'tests', 'experiments', 'dcgan_faces'}
    wrong = []
    for number, room in enumerate(ROOMS):
        below = ROOMS[number + 1:]
        for module in modules_imported(PROJECT / 'machinery' / f'{room}.py'):
            top, *rest = module.split('.')
            if top in outside or (top == 'machinery' and rest[0] not in below):
                wrong.append(f'{room} imports {module}')
    assert wrong == []


# ------------------------------------------------------------------------------------- the toolbox


def names_of_helpers_in_use():
    """{(where, name)} for each helpers.name in the notebook, the README and the experiments."""
    in_use = set()
    for where, source in sources():
        if where != NOTEBOOK.name and not where.startswith('experiments'):
            continue
        for node in ast.walk(ast.parse(source)):
            if (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
                    and node.value.id == 'helpers'):
                in_use.add((where, node.attr))
            elif isinstance(node, ast.ImportFrom) and node.module == 'helpers':
                in_use |= {(where, alias.name) for alias in node.names}
    readme = (PROJECT / 'README.md').read_text(encoding='utf-8')
    in_use |= {('README.md', name) for name in re.findall(r'\bhelpers\.(\w+)', readme)}
    return in_use - {('README.md', 'py')}


def test_names_of_helpers_exist():
    """Notebook, README and experiments name nothing in helpers that is not there."""
    missing = [(where, name) for where, name in sorted(names_of_helpers_in_use())
               if not hasattr(helpers, name)]
    assert missing == []


def test_helpers_offers_what_is_used():
    """Nothing is offered that nobody uses, and nothing used that is not offered."""
    used = {name for _, name in names_of_helpers_in_use()}
    assert len(used) > 20
    offered = {name for name, thing in vars(helpers).items()
               if not name.startswith('_') and not inspect.ismodule(thing)}
    assert sorted(offered) == sorted(used)


# ------------------------------------------------------------------------------ names, lines, files


def test_classes_have_names_of_their_own():
    """Two classes of one name in two files are taken for each other."""
    places = defaultdict(set)
    for where, source in sources():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef):
                places[node.name].add(where)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_lines_fit_the_window():
    """100 characters in a file and 96 in a cell of code: nothing is scrolled sideways."""
    too_long = []
    for where, source in sources():
        limit = 96 if where == NOTEBOOK.name else 100
        too_long += [f'{where}: {line}' for line in source.splitlines() if len(line) > limit]
    assert too_long == []


def test_top_level_is_as_agreed():
    """What is tracked at the top level, and nothing else."""
    try:
        done = subprocess.run(['git', 'ls-files'], cwd=PROJECT, check=True, capture_output=True,
                              text=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip('there is no git here')
    assert {path.split('/')[0] for path in done.stdout.splitlines()} == TOP_LEVEL


def test_readme_and_ci_agree():
    """.ci/run has the README's test command, letter by letter, and then all of the slow tests."""
    readme = (PROJECT / 'README.md').read_text(encoding='utf-8')
    commands = re.findall(r'^.*requirements\.txt && .*pytest.*$', readme, re.MULTILINE)
    assert len(commands) == 1
    slow = '.venv/bin/pytest -m slow'
    _, _, after = (PROJECT / '.ci/run').read_text(encoding='utf-8').partition(f'\n{commands[0]}\n')
    assert f'\n{slow} tests/lesson & lesson=$!\n' in after
    assert after.endswith(f'\n{slow} --ignore=tests/lesson\nwait $lesson\n')
    assert slow in readme
