"""The notebook's definitions as a module, and functions from elsewhere called as they like it."""
import ast
import collections
import inspect
import json
import linecache
import types
from pathlib import Path


def load_definitions(notebook='dcgan_faces.ipynb', edits=()):
    """Give the notebook's definitions as a module.

    They are its imports, functions, classes and UPPER_CASE constants.

    All else in the notebook (building, training, plotting) is left out, so this costs nothing.
    edits   pairs (old, new) of source text to be replaced first: tests plant faults this way
    Raises FileNotFoundError where there is no such notebook, and ValueError unless each old text is
    found exactly once.
    """
    notebook = Path(notebook)
    module = types.ModuleType(notebook.stem)
    module.__file__ = str(notebook)
    found = collections.Counter({old: 0 for old, _ in edits})
    cells = json.loads(notebook.read_text(encoding='utf-8'))['cells']
    for number, cell in enumerate(cells):
        if cell['cell_type'] != 'code':
            continue
        source = ''.join(cell['source'])
        for old, new in edits:
            found[old] += source.count(old)
            source = source.replace(old, new)
        tree = ast.parse(source)
        tree.body = [node for node in tree.body if _is_definition(node)]
        name = f'{notebook.name}[{number}] {hash(source):x}'     # another one where it was edited
        linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
        code = compile(tree, name, 'exec')
        exec(code, module.__dict__)
    if any(times != 1 for times in found.values()):
        raise ValueError(f'edits: expected each exactly once in {notebook.name}, '
                         f'found {dict(found)}')
    return module


def _is_definition(node):
    if isinstance(node, ast.Assign):
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        return len(names) == len(node.targets) and all(name.isupper() for name in names)
    return isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef))


# ------------------------------------------------------------------------- functions from elsewhere

def takes(function, name):
    """Say whether a function, or a class when it is built, takes an argument of this name."""
    parameters = inspect.signature(function).parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    return takes_any or name in parameters


def fitting(function, named):
    """Return those of the named arguments that a function takes: a dict."""
    return {name: value for name, value in named.items() if takes(function, name)}


def call(function, *arguments, **named):
    """Call a function; named arguments that it does not take are left out, and that is said."""
    taken = fitting(function, named)
    left_out = [name for name in named if name not in taken]
    if left_out:
        print(f'{function.__name__} takes no {", ".join(left_out)}: left out.')
    return function(*arguments, **taken)
