"""Points for a notebook of any name: a plugin of pytest, which problem_unittests.py asks for.

    DCGAN_NOTEBOOK=theirs.ipynb pytest problem_unittests.py

Each test is a point. A part that is missing, or whose cell cannot be read, counts 0, and the others
are graded still. What they need beside themselves and theirs has not is taken from our notebook.
"""
import ast
from pathlib import Path

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from .console import setting
from .lesson import NOTEBOOK, code_cells, define, is_definition, load_definitions

MOST = 160               # letters of one line in the summary
points = {}              # {test: None for a point, else the sentence that says why there is none}
unread = {}              # {first line of a cell: that it does not compile, or cannot be run}


class Submission:
    """Somebody's notebook: its parts are attributes, and a test that wants a missing one fails."""

    def __init__(self, path):
        self._module = load_definitions(NOTEBOOK)
        self._module.__file__ = str(path)
        self._names = set()
        for number, source in code_cells(path):
            try:
                self._names |= define(as_python(source), self._module, number, may_run)
            except Exception as error:           # a stranger's cell can raise anything
                first = next(filter(None, map(str.strip, source.splitlines())), '')
                unread[first] = what_is_wrong(error)

    def __getattr__(self, name):
        if name not in self._names:
            pytest.fail(f'{name} is missing, or its cell cannot be read', pytrace=False)
        return getattr(self._module, name)


def as_python(source):
    """Return a cell without what IPython alone understands."""
    first, _, rest = source.partition('\n')
    if first.startswith(('%%time', '%%capture')):
        source = rest
    return TransformerManager().transform_cell(source)


def may_run(node):
    """Say whether a statement may run: a definition, or a name for a plain value or a layer."""
    if is_definition(node) or not isinstance(node, ast.Assign):
        return is_definition(node)
    return (isinstance(node.value, ast.Constant)
            or ast.unparse(node.value).startswith(('nn.', 'torch.cuda.is_')))


def submission():
    """Return the Submission that DCGAN_NOTEBOOK names; end pytest where it is no notebook."""
    path = Path(setting('DCGAN_NOTEBOOK')).expanduser()
    try:
        return Submission(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        pytest.exit(f'DCGAN_NOTEBOOK: {path} is no notebook that can be read. {sentence(error)}', 4)


def sentence(error):
    """Return an error as one line: the first sentence of an assertion; of others their kind too."""
    text, *_ = str(error).split(' Test parameters: ')
    if not isinstance(error, AssertionError | pytest.fail.Exception):
        text = f'{type(error).__name__}: {text}'
    return shortened(' '.join(text.split()))


def what_is_wrong(error):
    """Say why a cell cannot be run."""
    if isinstance(error, SyntaxError):
        return f'does not compile: {error.msg} in line {error.lineno}'
    return f'cannot be run: {sentence(error)}'


def shortened(text):
    return text if len(text) <= MOST else f'{text[:MOST]} …'


# -------------------------------------------------------------------------------- hooks of pytest


def pytest_collection_finish(session):
    """Leave the tracebacks out, unless they are asked for: the summary says why."""
    if setting('DCGAN_NOTEBOOK') and session.config.option.tbstyle == 'auto':
        session.config.option.tbstyle = 'no'
        session.config.pluginmanager.get_plugin('terminalreporter').reportchars = ''


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    if item.path.name == 'problem_unittests.py' and not points.get(item.name):
        points[item.name] = sentence(call.excinfo.value) if call.excinfo else None
    return (yield)


def pytest_terminal_summary(terminalreporter):
    """Print the points, and why there are none."""
    if not setting('DCGAN_NOTEBOOK') or not points:
        return
    n_points = list(points.values()).count(None)
    name = Path(setting('DCGAN_NOTEBOOK')).name
    terminalreporter.section(f'{name}: {n_points} of {len(points)} points')
    for test, why in points.items():
        point = '0' if why else '1'
        terminalreporter.line(f'{point}  {test.removeprefix("test_"):22} {why or ""}'.rstrip())
    for first, why in unread.items():
        terminalreporter.line(f'The cell "{shortened(first)}" {why}')
