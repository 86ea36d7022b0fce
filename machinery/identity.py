"""Is it the same run? Its parameters, its images, its code, and the parts that it consists of."""
import ast
import functools
import hashlib
import inspect
import linecache
import types

# when resuming
MAY_CHANGE = {'n_epochs', 'print_every', 'resume', 'rescue', 'distance_every', 'live_view',
              'run_folder'}
NAMES_OF_IMAGES = {'data', 'data_dir', 'dataset', 'max_images'}  # the checksum 'images' is better

# --------------------------------------------------------------------------------------- comparing


def differences(config, earlier):
    """Return what today's configuration differs in from that of a checkpoint: a list of words.

    What the checkpoint does not know is not compared: it is of an earlier version.
    """
    passed_over = MAY_CHANGE | {'code'}
    if 'images' in config and 'images' in earlier:
        passed_over |= NAMES_OF_IMAGES
    changed = []
    for name in sorted(set(earlier) - passed_over):
        if name not in config or config[name] != earlier[name]:
            changed.append(name)
    code, earlier_code = config.get('code', {}), earlier.get('code', {})
    for name in sorted(set(code) & set(earlier_code)):
        if code[name] != earlier_code[name]:
            changed.append(f'the code of {name}')
    return changed


def unlike(parts, state):
    """Return which parts the state of a checkpoint was not made by: a list of words.

    parts  dict of networks and optimizers
    state  dict that has a state_dict() for each of them, and their classes
    """
    changed = []
    for name, part in parts.items():
        if name not in state or _outline(part.state_dict()) != _outline(state[name]):
            changed.append(f'the state of {name}')
        elif state.get('classes', {}).get(name) not in (None, type(part).__name__):
            changed.append(f'the class of {name}')
    return changed


def classes(parts):
    """Return the name of the class of each network and optimizer among parts."""
    return {name: type(part).__name__ for name, part in parts.items()}


def _outline(state):
    """Return what a state_dict() has to have in common with another one that is put in its place.

    That is the shape of each tensor of a network. Of an optimizer it is the settings of each group,
    but for learning rates, which schedules change, and for switches, which differ among versions of
    torch.
    """
    if 'param_groups' not in state:
        return {name: getattr(value, 'shape', None) for name, value in state.items()}
    groups = []
    for group in state['param_groups']:
        settings = {'n_parameters': len(group['params'])}
        for name, value in group.items():
            if name not in ('params', 'lr', 'initial_lr') and not isinstance(value, bool | None):
                settings[name] = value
        groups.append(settings)
    return groups


# -------------------------------------------------------------------------------- the code of a run

FUNCTIONS = types.FunctionType, types.MethodType
DEFINITIONS = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef
PLAIN = str, int, float, bool, type(None)
CONTAINERS = dict, list, tuple


def code_of(*things):
    """Return {name: hash} of functions and classes, and of all that they use of their module.

    That is functions, classes, and CONSTANTS, such as a dict of functions. Comments, docstrings and
    layout do not count. What has no source, or comes with an installed package, is left out.
    """
    hashes = {}
    waiting = [_named(thing) for thing in things]
    while waiting:
        name, thing = waiting.pop()
        if name in hashes:
            continue
        text, used = _text_and_used(thing)
        if text:
            hashes[name] = hashlib.sha256(text.encode()).hexdigest()[:8]
            waiting += used
    return hashes


def _named(thing):
    return getattr(thing, '__qualname__', type(thing).__name__), thing


def _text_and_used(thing):
    """Return what a thing does, as a text, and a list of (name, thing) that it uses for that."""
    if isinstance(thing, type):
        return _class_and_used(thing)
    if isinstance(thing, FUNCTIONS):
        return _function_and_used(inspect.unwrap(thing))
    if isinstance(thing, PLAIN + CONTAINERS):
        return _spelled(thing), [_named(function) for function in _functions_in(thing)]
    return '', []


def _function_and_used(function):
    code = function.__code__
    tree = _parsed(''.join(linecache.getlines(code.co_filename)))
    if '-packages' in code.co_filename or tree is None:
        return '', []
    definitions = [node for node in ast.walk(tree) if _is_of(node, code)]
    text = '\n'.join(ast.unparse(node) for node in definitions)
    names = {node.id for definition in definitions for node in ast.walk(definition)
             if isinstance(node, ast.Name)}
    return text, _globals_among(names, function)


@functools.lru_cache(200)                # cells; a script is one text, asked for again and again
def _parsed(source):
    """Return the syntax tree of a file or cell without docstrings; None where it is no Python."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, DEFINITIONS) and ast.get_docstring(node) is not None:
            del node.body[0]
    return tree


def _is_of(node, code):
    """Say whether a node of a syntax tree is the definition that a function's code comes from."""
    if isinstance(node, ast.Lambda):
        return code.co_name == '<lambda>' and code.co_firstlineno == node.lineno
    if not isinstance(node, DEFINITIONS) or node.name != code.co_name:
        return False
    first_line = min([node.lineno] + [decorator.lineno for decorator in node.decorator_list])
    return code.co_firstlineno == first_line


def _globals_among(names, function):
    """Return (name, value) of the functions, classes and CONSTANTS of a function's own module."""
    found = []
    for name in sorted(names):
        value = function.__globals__.get(name)
        if isinstance(value, FUNCTIONS + (type,)):
            if value.__module__ == function.__module__:
                found.append(_named(value))
        elif name.isupper() and isinstance(value, PLAIN + CONTAINERS):
            found.append((name, value))
    return found


def _class_and_used(kind):
    """Take the methods one by one: a notebook has no source of a class as a whole."""
    texts = [base.__qualname__ for base in kind.__bases__]
    used = []
    for name, member in vars(kind).items():
        function = getattr(member, '__func__', getattr(member, 'fget', member))
        if isinstance(function, FUNCTIONS):
            text, used_there = _function_and_used(inspect.unwrap(function))
            if not text:
                return '', []            # of an installed package
            texts.append(text)
            used += used_there
        elif isinstance(member, PLAIN) and not name.startswith('__'):
            texts.append(f'{name} = {member!r}')
    used += [_named(base) for base in kind.__bases__ if base.__module__ == kind.__module__]
    return '\n'.join(texts), used


def _spelled(value):
    """Write out a constant, with functions by their names."""
    if isinstance(value, dict):
        return str({key: _spelled(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return str([_spelled(item) for item in value])
    if isinstance(value, FUNCTIONS) and value.__name__ == '<lambda>':
        return _function_and_used(value)[0]
    return repr(value) if isinstance(value, PLAIN) else _named(value)[0]


def _functions_in(value):
    """Yield the functions in a constant."""
    if isinstance(value, FUNCTIONS):
        yield value
    elif isinstance(value, CONTAINERS):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _functions_in(item)
