"""Is it the same run? A run is told by plain values: parameters, images, code and parts.

What was wished is in its config; what was really made is asked of the objects, once, when the
training begins.
"""
import bisect
import dis
import hashlib
import inspect
import platform
import sys
import types

import numpy as np

# when a run goes on
MAY_CHANGE = {'n_epochs', 'print_every', 'resume', 'rescue', 'distance_every', 'live_view',
              'run_folder', 'sync_batch_norm'}
BETTER_TOLD = {'images': {'data', 'data_dir', 'dataset', 'max_images'},      # by their checksums
               'pair': {'start', 'pair_learnt'}}

# --------------------------------------------------------------------------------------- comparing


def differences(config, earlier, rescued=False):
    """Return what today's configuration differs in from that of a checkpoint: a list of words.

    What the checkpoint does not know is not compared: it is of an earlier version.
    rescued  whether the learning rates of the earlier one have been lowered on the way
    """
    passed_over = MAY_CHANGE | {'code', 'parts'}
    for name, others in BETTER_TOLD.items():
        if name in config and name in earlier:
            passed_over |= others
    changed = [name for name in sorted(set(earlier) - passed_over)
               if name not in config or config[name] != earlier[name]]
    code = other_code(earlier.get('code', {}), config.get('code', {}))
    changed += [f'the code of {name}' for name in code]
    parts, before = config.get('parts', {}), earlier.get('parts', {})
    for name in sorted(parts) if before else ():
        if rescued and 'optimizer' in name:
            continue
        changed += [f'{what} of {name}' for what, value in parts[name].items()
                    if value != before.get(name, {}).get(what)]
    return changed


def other_code(earlier, code):
    """Return the names that two results of code_of both know, and know otherwise: a list.

    Another version of Python compiles otherwise: then no code is compared.
    """
    if earlier.get('python') != code.get('python'):
        return []
    return [name for name in sorted(set(earlier) & set(code)) if earlier[name] != code[name]]


# ----------------------------------------------------------------------------- what was really made


def as_made(config, parts, loader, z_size):
    """Return a configuration with what is known of networks, optimizers and loader in it.

    Where a cell was not run again after a parameter was changed, the truth is in what that cell
    made: this is kept, and said in a line.
    """
    config = {name: value.item() if isinstance(value, np.generic) else value
              for name, value in config.items()}
    G = parts['G']
    for name, (found, what, cell) in made_with(parts, loader).items():
        asked = config.get(name)
        if asked is None or not found or asked in found:
            continue
        print(f'{name}: found {asked!r}, but {what} made with {" and ".join(map(repr, found))}, '
              f'and that counts. For {asked!r}, run the notebook from the cell with {cell} on.')
        config[name] = found[0] if len(found) == 1 else found
    config['generator'] = getattr(G, 'arguments', None) or dict(z_size=z_size)
    images = images_of(loader)
    if images is not None:
        known = dict(data=images.source, images=images.checksum,
                     n_held_out=len(images.held_out))
        config = known | config
    code = code_of(type(parts['D']), type(G)) | config.get('code', {})
    return config | getattr(G, 'pair', {}) | dict(code=code, parts=describe(parts))


def made_with(parts, loader):
    """Return {name of a parameter: (values, what was made with them, name of what makes it)}.

    Several values are several learning rates: those of two time scales, or one that was made with
    and another that a rescue has lowered. None: it is not known.
    """
    G = parts['G']
    batch_size = getattr(getattr(loader, 'loader', loader), 'batch_size', None)
    made = dict(batch_size=([batch_size] if batch_size else [], 'the loader was', 'get_dataloader'))
    arguments = getattr(G, 'arguments', {})
    for name, argument in (('z_size', 'z_size'), ('g_conv_dim', 'conv_dim'),
                           ('img_size', 'img_size')):
        values = [arguments[argument]] if argument in arguments else []
        made[name] = values, 'G was', 'build_network'
    if arguments:                            # a G of this notebook, which knows its pair
        made['start'] = [getattr(G, 'start', '')], 'G was', 'build_network'
    optimizers = [part for part in parts.values() if hasattr(part, 'param_groups')]
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    rates = [optimizer.defaults['lr'] for optimizer in optimizers if 'lr' in optimizer.defaults]
    rates += [group.get('initial_lr', group['lr']) for group in groups]
    betas = [group['betas'] for group in groups if 'betas' in group]
    for name, values in (('lr', rates), ('beta1', [first for first, _ in betas]),
                         ('beta2', [second for _, second in betas])):
        values = sorted({float(value) for value in values})
        made[name] = values, 'the optimizers were', 'make_optimizers'
    return made


def images_of(loader):
    """Return the data set of a loader if it is one of ours, which has a checksum; else None."""
    dataset = getattr(getattr(loader, 'loader', loader), 'dataset', None)
    return dataset if hasattr(dataset, 'checksum') else None


def describe(parts):
    """Return what tells networks and optimizers from others, in words: {name: {what: value}}."""
    return {name: settings(part) if hasattr(part, 'param_groups') else {
        'the class': type(part).__name__, 'the state': shapes(part.state_dict())}
        for name, part in parts.items()}


def shapes(named):
    """Return the shape and type of each tensor in a dict, in words."""
    return {name: f'{tuple(value.shape)} {value.dtype}' for name, value in named.items()}


def settings(optimizer):
    """Return class, settings and first learning rates of an optimizer; no switches, which differ
    among versions of torch."""
    groups = []
    for group in optimizer.param_groups:
        group.setdefault('initial_lr', group['lr'])          # as schedules do
        groups.append({name: value for name, value in group.items()
                       if name not in ('params', 'lr', 'initial_lr')
                       and not isinstance(value, bool | None)})
    rates = [float(group['initial_lr']) for group in optimizer.param_groups]
    return {'the class': type(optimizer).__name__, 'the settings': groups,
            'the learning rates': rates}


def check_optimizers(parts):
    """Raise ValueError unless each network's optimizer holds all of its parameters."""
    for network, optimizer in (('D', 'd_optimizer'), ('G', 'g_optimizer')):
        if optimizer not in parts:               # a loop from elsewhere may leave none
            continue
        held = {id(parameter) for group in parts[optimizer].param_groups
                for parameter in group['params']}
        wanted = [parameter for parameter in parts[network].parameters() if parameter.requires_grad]
        if any(id(parameter) not in held for parameter in wanted):
            raise ValueError(f'{optimizer} does not hold the parameters of {network}: training '
                             f'would not change them. Run the cell with make_optimizers again.')


# -------------------------------------------------------------------------------- the code of a run

FUNCTIONS = types.FunctionType, types.MethodType
NAMED = *FUNCTIONS, type
JUMPS = {*dis.hasjrel, *dis.hasjabs}     # of the steps that Python compiles code to
VALUES = str, int, float, bool, bytes, type(None), dict, list, tuple


def code_of(*things):
    """Return {name: hash} of functions and classes, and of all that they use of their module.

    That is functions, classes and CONSTANTS. What Python has compiled counts, so comments,
    docstrings and layout do not. What comes with an installed package is left out.
    """
    hashes = {'python': '.'.join(platform.python_version_tuple()[:2])}
    waiting = [_named(thing) for thing in things]
    while waiting:
        name, thing = waiting.pop()
        if name in hashes or _is_installed(thing):
            continue
        words, used = _class(thing) if isinstance(thing, type) else _spell(thing, deep=True)
        hashes[name] = hashlib.sha256(repr(words).encode()).hexdigest()[:8]
        waiting += used
    return hashes


def _named(thing):
    return getattr(thing, '__qualname__', type(thing).__name__), thing


def _is_installed(thing):
    module = sys.modules.get(getattr(thing, '__module__', None) or '')
    file = getattr(module, '__file__', None) or ''
    return '-packages' in file or isinstance(thing, types.BuiltinFunctionType)


def _spell(thing, deep=False):
    """Return (thing written out as plain values, [(name, what it uses)]).

    deep  a function is written out too, instead of by its name
    """
    if isinstance(thing, types.CodeType):
        return _spell(_steps(thing))
    if isinstance(thing, FUNCTIONS) and (deep or thing.__name__ == '<lambda>'):
        return _function(thing)
    if isinstance(thing, NAMED):
        return _named(thing)[0], [_named(thing)]
    if isinstance(thing, frozenset):
        return sorted(map(repr, thing)), []
    if isinstance(thing, dict):
        thing = list(thing.items())
    if isinstance(thing, list | tuple):
        spelled = [_spell(each) for each in thing]
        return [words for words, _ in spelled], [each for _, used in spelled for each in used]
    return thing if isinstance(thing, VALUES) else type(thing).__name__, []


def _steps(code):
    """Return (operation, what it is about) for each step of code.

    A function reads alike in a notebook and in a script: a method of what the same text imports is
    called in other steps than that of what another cell imported.
    """
    steps = [step for step in dis.get_instructions(code)
             if step.opname not in ('NOP', 'PUSH_NULL', 'EXTENDED_ARG')]
    offsets = [step.offset for step in steps]
    found = []
    for step in steps:
        about = step.argval
        if step.opcode in JUMPS:                         # to a step, wherever that stands
            about = bisect.bisect_left(offsets, about)
        elif step.opcode in dis.hasconst or step.opname == 'KW_NAMES':
            about = code.co_consts[step.arg]
        found.append((step.opname.replace('LOAD_METHOD', 'LOAD_ATTR'), about))
    return found


def _function(function):
    wrapper, function = function, inspect.unwrap(function)       # a decorator has a name
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    code, names = function.__code__, _global_names(function.__code__)
    words, used = _spell([wrapper.__code__.co_name, code, function.__defaults__,
                          function.__kwdefaults__, cells])
    for name in sorted(names):
        value = function.__globals__.get(name)
        if isinstance(value, NAMED) and value.__module__ == function.__module__:
            used.append(_named(value))
        elif name.isupper() and isinstance(value, VALUES):
            used.append((name, value))
    return words, used


def _global_names(code):
    found = {step.argval for step in dis.get_instructions(code) if step.opname == 'LOAD_GLOBAL'}
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return found.union(*map(_global_names, inner))


def _class(kind):
    words, used = _spell([base.__qualname__ for base in kind.__bases__])
    used += [_named(base) for base in kind.__bases__ if base.__module__ == kind.__module__]
    for name, member in vars(kind).items():
        member = getattr(member, '__func__', getattr(member, 'fget', member))
        is_own = not name.startswith('__') or name == '__init__'
        if is_own and isinstance(member, FUNCTIONS + VALUES):
            spelled, more = _spell(member, deep=True)
            words.append((name, spelled))
            used += more
    return words, used
