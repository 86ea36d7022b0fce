"""Is it the same run? Its parameters, its images, its code, and the parts that it consists of."""
import ast
import copy
import functools
import hashlib
import inspect
import linecache
import math
import types

import torch

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
    if 'pair' in config and 'pair' in earlier:
        passed_over |= {'start', 'pair_learnt'}          # the checksum is better
    changed = []
    for name in sorted(set(earlier) - passed_over):
        if name not in config or config[name] != earlier[name]:
            changed.append(name)
    code = other_code(earlier.get('code', {}), config.get('code', {}))
    return changed + [f'the code of {name}' for name in code]


def other_code(earlier, code):
    """Return the names that two results of code_of both know, and know otherwise: a list."""
    return [name for name in sorted(set(earlier) & set(code)) if earlier[name] != code[name]]


def unlike(parts, state):
    """Return which parts the state of a checkpoint was not made by: a list of words.

    parts  dict of networks and optimizers
    state  dict that has a state_dict() for each of them, their classes, and whether the run was
           rescued: then its learning rates have been lowered on the way
    """
    changed = []
    for name, part in parts.items():
        if name not in state or not _may_load(part, state[name]):
            changed.append(f'the state of {name}')
        elif state.get('classes', {}).get(name) not in (None, type(part).__name__):
            changed.append(f'the class of {name}')
        elif not state['rescued'] and _start_otherwise(part, state[name]):
            changed.append(f'the learning rates of {name}')
    return changed


def are_trained(parts):
    """Say whether an optimizer has taken a step: then its network is no longer a new one."""
    return any(part.state for part in parts.values() if hasattr(part, 'param_groups'))


def keep_start_rates(parts):
    """Let each group of an optimizer keep the learning rate it starts from, as schedules do."""
    for part in parts.values():
        for group in getattr(part, 'param_groups', ()):
            group.setdefault('initial_lr', group['lr'])


def classes(parts):
    """Return the name of the class of each network and optimizer among parts."""
    return {name: type(part).__name__ for name, part in parts.items()}


def _may_load(part, state):
    """Say whether a state_dict() from a file can be put into a network or an optimizer.

    Without this, a network raises an error of many lines, and a fused optimizer ends the process.
    """
    if not hasattr(part, 'param_groups'):
        wanted = shapes(part.state_dict())
        return isinstance(state, dict) and shapes(state) == wanted
    wanted = _after_a_step(part).state_dict()
    try:
        return (_settings(state) == _settings(wanted)
                and _may_be_averages(state['state'], wanted['state']))
    except Exception:                    # a hostile or damaged state can raise anything
        return False


def shapes(named):
    """Return the shape and type of each tensor in a dict; None for anything else."""
    return {name: (value.shape, value.dtype) if torch.is_tensor(value) else None
            for name, value in named.items()}


def _start_otherwise(part, state):
    """Say whether learning rates start from others than in a checkpoint, where that knows them."""
    groups = zip(getattr(part, 'param_groups', ()), state.get('param_groups', ()), strict=True)
    return any(float(now['initial_lr']) != float(then.get('initial_lr', now['initial_lr']))
               for now, then in groups)


def _after_a_step(optimizer):
    """Return a copy of an optimizer that has taken a step: it has all the state that it can have.

    The copy has parameters of its own; what belongs to the original stays as it is.
    """
    trial = copy.deepcopy(optimizer)
    for group in trial.param_groups:
        for parameter in group['params']:
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
    trial.step()
    return trial


def _settings(state):
    """Return the settings of each group of an optimizer's state_dict().

    Of learning rates, which schedules change, only whether they are any; no switches, which differ
    among versions of torch.
    """
    groups = []
    for group in state['param_groups']:
        rates = [float(group['lr']), float(group.get('initial_lr', 0))]
        settings = {'rates': all(0 <= rate < math.inf for rate in rates)}
        for name, value in group.items():
            if name not in ('lr', 'initial_lr') and not isinstance(value, bool | None):
                settings[name] = value
        groups.append(settings)
    return groups


def _may_be_averages(state, wanted):
    """Compare what an optimizer keeps of each parameter, by number, with what it would keep.

    A parameter that never had a gradient has nothing; that all have nothing is another matter.
    """
    fits = all(number in wanted and shapes(kept) == shapes(wanted[number])
               for number, kept in state.items())
    return fits and bool(state) == bool(wanted)


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
        elif isinstance(member, PLAIN + CONTAINERS) and not name.startswith('__'):
            texts.append(f'{name} = {_spelled(member)}')
            used += [_named(each) for each in _functions_in(member)]
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
