"""The notebook from outside: its definitions as a module, its presets, its progress bar; arguments checked."""
import ast
import collections
import difflib
import json
import numbers
import os
import platform
import sys
import types
from pathlib import Path

import torch
from IPython.display import Pretty, display
from tqdm import tqdm


def load_definitions(notebook='dcgan_faces.ipynb', edits=()):
    """Give the notebook's definitions as a module: imports, functions, classes and UPPER_CASE constants.

    Everything else in the notebook (building, training, plotting) is left out, so importing it costs nothing.
    edits   pairs (old, new) of source to be replaced first: the tests plant bugs so, and the study its variants.
    Raises FileNotFoundError where there is no such notebook, ValueError unless each old is found in it exactly once.
    """
    notebook = Path(notebook)
    cells = json.loads(notebook.read_text(encoding='utf-8'))['cells']
    module = types.ModuleType(notebook.stem)
    module.__file__ = str(notebook)
    found = collections.Counter({old: 0 for old, _ in edits})
    for number, cell in enumerate(cells):
        if cell['cell_type'] == 'code':
            source = ''.join(cell['source'])
            for old, new in edits:
                found[old] += source.count(old)
                source = source.replace(old, new)
            tree = ast.parse(source)
            tree.body = [node for node in tree.body if _is_definition(node)]
            exec(compile(tree, f'{notebook.name}[{number}]', 'exec'), module.__dict__)
    if set(found.values()) - {1}:
        raise ValueError(f'edits: expected each exactly once in {notebook.name}, found {dict(found)}')
    return module


def _is_definition(node):
    if isinstance(node, ast.Assign):
        return all(isinstance(target, ast.Name) and target.id.isupper() for target in node.targets)
    return isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef))


def choose_preset(presets):
    """Pick one of presets (a dict of dicts): what DCGAN_PRESET names, else 'full' on a GPU and 'quick' on a CPU.

    DCGAN_PRESET may also change single values: DCGAN_PRESET='classic n_epochs=25 batch_size=64'.
    Raises ValueError for an unknown preset or value.
    """
    default = 'full' if torch.cuda.is_available() else 'quick'
    name, *changes = os.environ.get('DCGAN_PRESET', '').split() or [default]
    check_choice(presets, DCGAN_PRESET=name)
    preset = dict(presets[name])
    for change in changes:
        key, _, value = change.partition('=')
        check_choice(preset, DCGAN_PRESET=key)
        try:
            preset[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise ValueError(f'DCGAN_PRESET: found {change!r}, expected a change like n_epochs=25') from None
        check_whole(**{key: 1 if preset[key] is None else preset[key]})
    if os.environ.get('RANK', '0') == '0':           # under torchrun each process comes here before they meet
        print(f'Preset {" ".join([name, *changes])!r} on {device_name()}')
    return preset


def check_choice(choices, **values):
    """Raise ValueError, naming the nearest choice, for a value that is not among choices."""
    for name, value in values.items():
        if value not in choices:
            nearest = difflib.get_close_matches(str(value), map(str, choices), n=1)
            hint = f' Did you mean {nearest[0]!r}?' if nearest else ''
            raise ValueError(f'{name}: found {value!r}, expected one of {", ".join(map(repr, choices))}.{hint}')


def check_whole(**values):
    """Raise ValueError for a value that is no whole number above 0."""
    for name, value in values.items():
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
            raise ValueError(f'{name}: found {value!r}, expected a whole number, 1 or more')


def device_name():
    """What the training will run on, in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f'CPU ({platform.machine()}), {torch.get_num_threads()} thread{"s" * (torch.get_num_threads() > 1)}'


def versions():
    """One line of provenance: Python, torch, device."""
    return f'Python {platform.python_version()}, torch {torch.__version__}, {device_name()}'


def progress_bar(total, unit, length=None, **options):
    """A text progress bar over a number or a sequence, for a terminal or a notebook; elsewhere it stays silent."""
    total = dict(total=total or None) if isinstance(total, int) else dict(iterable=total, total=length)
    in_notebook = type(sys.stdout).__module__.startswith('ipykernel')
    return tqdm(**total, unit=unit, file=_DisplayArea() if in_notebook else sys.stdout, leave=False, mininterval=1,
                disable=not in_notebook and not sys.stdout.isatty(), **options)


class _DisplayArea:
    """One line of text under a notebook's cell that each write replaces: a saved notebook keeps the last one alone."""

    def __init__(self):
        self.handle = display(Pretty(''), display_id=True)

    def write(self, text):
        self.handle.update(Pretty(text.strip()))

    def flush(self):
        pass
