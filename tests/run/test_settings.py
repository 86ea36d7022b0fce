"""The environment variables of the project: quotes and blanks around them change nothing."""
import re

import pytest

from machinery.console import setting
from machinery.parameters import wish
from machinery.run import choose_run_folder
from tests.tools import PROJECT


@pytest.mark.parametrize('value', ['runs/one two', '"runs/one two"', "'runs/one two'",
                                   ' "runs/one two" ', '" runs/one two "', 'runs/one two '])
def test_quotes_and_blanks_around_a_folder(folder, monkeypatch, value):
    """As %env and a .env file hand them on: the run goes to the folder that was meant."""
    monkeypatch.setenv('DCGAN_RUN', value)
    assert choose_run_folder() == 'runs/one two'
    assert [path.name for path in folder.iterdir()] == ['runs']


@pytest.mark.parametrize('value, meant', [
    ('', 'other'), ('""', 'other'), (' ', 'other'), ('"', '"'), ('\'"x"\'', '"x"'),
    ('"a" and "b', '"a" and "b'), ("it's", "it's")])
def test_one_pair_is_taken_off(monkeypatch, value, meant):
    """And what is empty then is as if it were not there."""
    monkeypatch.setenv('DCGAN_ANY', value)
    assert setting('DCGAN_ANY', 'other') == meant


def test_wishes_in_quotes(monkeypatch):
    """Those of a value among them stay."""
    monkeypatch.setenv('DCGAN_PRESET', '"quick run_folder=\'a\' lr=0.001"')
    assert wish() == ('quick', dict(run_folder='a', lr=0.001))


def test_there_is_one_door():
    """Nothing else in the project reads one of its variables from the environment."""
    direct = re.compile(r"""environ(\.get\(|\[)['"]DCGAN_\w+['"](\)|,|\](?! = ))""")
    paths = [*PROJECT.glob('*.py'), *PROJECT.glob('*.ipynb'),
             *(PROJECT / 'machinery').glob('*.py'), *(PROJECT / 'experiments').glob('*.py')]
    assert [path.name for path in paths if direct.search(path.read_text('utf-8'))] == []
