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

# when a run goes on; sync_batch_norm is a parameter of earlier versions
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
    config = {name: plain(value) for name, value in config.items()}
    G = parts['G']
    for name, what, cell, values in made_with(parts, loader):
        asked = config.get(name)
        found = sorted(set(values) - {None})
        if asked is None or not found or asked in found:
            continue
        print(f'{name}: found {asked!r}, but {what} made with {" and ".join(map(repr, found))}, '
              f'and that counts. For {asked!r}, run the notebook from the cell with {cell} on.')
        config[name] = found[0] if len(found) == 1 else found
    config['generator'] = getattr(G, 'arguments', None) or dict(z_size=z_size)
    images = images_of(loader)
    if images is not None:
        known = dict(data=images.source, images=images.checksum, n_held_out=len(images.held_out))
        config = known | config
    code = code_of(type(parts['D']), type(G)) | config.get('code', {})
    return config | getattr(G, 'pair', {}) | dict(code=code, parts=describe(parts))


def plain(value):
    """Return a number of NumPy as Python's own, as checkpoints hold it; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def made_with(parts, loader):
    """Return a list of (parameter, what was made with it, name of what makes it, values).

    Several values are several learning rates: those of two time scales, or one that was made with
    and another that a rescue has lowered. None: it is not known.
    """
    batch_size = getattr(inner(loader), 'batch_size', None)
    arguments = getattr(parts['G'], 'arguments', {})
    start = getattr(parts['G'], 'start', '') if arguments else None      # of a G of this notebook
    groups = groups_among(parts)
    betas = [group['betas'] for group in groups if 'betas' in group]
    rates = [group.get('initial_lr', group['lr']) for group in groups]
    rates += [each.defaults['lr'] for each in optimizers_among(parts) if 'lr' in each.defaults]
    loader_was = 'the loader was', 'get_dataloader'
    G_was = 'G was', 'build_network'
    optimizers_were = 'the optimizers were', 'make_optimizers'
    return [('batch_size', *loader_was, [batch_size]),
            ('z_size', *G_was, [arguments.get('z_size')]),
            ('g_conv_dim', *G_was, [arguments.get('conv_dim')]),
            ('img_size', *G_was, [arguments.get('img_size')]),
            ('start', *G_was, [start]),
            ('lr', *optimizers_were, map(float, rates)),
            ('beta1', *optimizers_were, [float(first) for first, _ in betas]),
            ('beta2', *optimizers_were, [float(second) for _, second in betas])]


def optimizers_among(parts):
    return [part for part in parts.values() if hasattr(part, 'param_groups')]


def groups_among(parts):
    """Return the groups of parameters of all optimizers, each with learning rates of its own."""
    return [group for optimizer in optimizers_among(parts) for group in optimizer.param_groups]


def inner(loader):
    """Return the DataLoader in a DeviceLoader; any other loader as it is."""
    return getattr(loader, 'loader', loader)


def images_of(loader):
    """Return the data set of a loader if it is one of ours, which has a checksum; else None."""
    dataset = getattr(inner(loader), 'dataset', None)
    return dataset if hasattr(dataset, 'checksum') else None


def describe(parts):
    """Return what tells networks and optimizers from others: {name: {what: plain value}}."""
    described = {}
    for name, part in parts.items():
        if hasattr(part, 'param_groups'):
            facts = settings(part)
        else:
            facts = {'the state': {key: f'{tuple(value.shape)} {value.dtype}'
                                   for key, value in part.state_dict().items()}}
        described[name] = {'the class': type(part).__name__} | facts
    return described


def settings(optimizer):
    """Return settings and first learning rates; no switches: they differ with torch's version."""
    left_out = 'params', 'lr', 'initial_lr'
    groups = [{name: value for name, value in group.items()
               if name not in left_out and not isinstance(value, bool | None)}
              for group in optimizer.param_groups]
    rates = [float(group.setdefault('initial_lr', group['lr']))      # as schedules do
             for group in optimizer.param_groups]
    return {'the settings': groups, 'the learning rates': rates}


def check_optimizers(parts):
    """Raise ValueError unless each network's optimizer holds all of its parameters."""
    for network, optimizer in (('D', 'd_optimizer'), ('G', 'g_optimizer')):
        if optimizer not in parts:               # a loop from elsewhere may leave none
            continue
        held = {id(value) for group in parts[optimizer].param_groups for value in group['params']}
        learning = [value for value in parts[network].parameters() if value.requires_grad]
        if any(id(value) not in held for value in learning):
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
        words = _spell(thing, waiting, whole=True)
        hashes[name] = hashlib.sha256(repr(words).encode()).hexdigest()[:8]
    return hashes


def _named(thing):
    return getattr(thing, '__qualname__', type(thing).__name__), thing


def _is_installed(thing):
    module = sys.modules.get(getattr(thing, '__module__', None) or '')
    file = getattr(module, '__file__', None) or ''
    return '-packages' in file or isinstance(thing, types.BuiltinFunctionType)


def _spell(thing, uses, whole=False):
    """Write a thing out as plain values; add (name, thing) to uses for whatever it uses.

    whole  a function or class is written out too, instead of by its name
    """
    if isinstance(thing, types.CodeType):
        return _spell(_steps(thing), uses)
    if isinstance(thing, FUNCTIONS) and (whole or thing.__name__ == '<lambda>'):
        return _spell_function(thing, uses)
    if isinstance(thing, type) and whole:
        return _spell_class(thing, uses)
    if isinstance(thing, NAMED):
        uses.append(_named(thing))
        return _named(thing)[0]
    if isinstance(thing, frozenset):
        return sorted(map(repr, thing))
    if isinstance(thing, dict):
        thing = list(thing.items())
    if isinstance(thing, list | tuple):
        return [_spell(each, uses) for each in thing]
    return thing if isinstance(thing, VALUES) else type(thing).__name__


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


def _spell_function(wrapper, uses):
    function = inspect.unwrap(wrapper)           # a decorator counts by its name
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    words = _spell([wrapper.__code__.co_name, function.__code__, function.__defaults__,
                    function.__kwdefaults__, cells], uses)
    for name in sorted(_global_names(function.__code__)):
        value = function.__globals__.get(name)
        if isinstance(value, NAMED) and value.__module__ == function.__module__:
            uses.append(_named(value))
        elif name.isupper() and isinstance(value, VALUES):
            uses.append((name, value))
    return words


def _global_names(code):
    found = {step.argval for step in dis.get_instructions(code) if step.opname == 'LOAD_GLOBAL'}
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return found.union(*map(_global_names, inner))


def _spell_class(kind, uses):
    words = [base.__qualname__ for base in kind.__bases__]
    uses += [_named(base) for base in kind.__bases__ if base.__module__ == kind.__module__]
    for name, member in vars(kind).items():
        member = getattr(member, '__func__', getattr(member, 'fget', member))
        is_own = not name.startswith('__') or name == '__init__'
        if is_own and isinstance(member, FUNCTIONS + VALUES):
            words.append((name, _spell(member, uses, whole=True)))
    return words
