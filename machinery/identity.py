"""Is it the same run? A run is told by plain values: parameters, images, code and parts.

What was wished is in its config; what was really made is asked of the objects, once, when the
training begins.
"""
import ast
import hashlib
import inspect
import sys
import textwrap
import types

import numpy as np

# when a run goes on; sync_batch_norm and code are known to earlier versions alone
MAY_CHANGE = {'n_epochs', 'first_steps', 'print_every', 'resume', 'rescue', 'distance_every',
              'live_view', 'run_folder', 'threads', 'sync_batch_norm', 'code'}
BETTER_TOLD = {'images': {'data', 'kind', 'data_dir', 'dataset', 'max_images'},    # by checksums
               'held_out': {'hold_out', 'n_held_out'},
               'pair': {'start', 'pair_learnt', 'pair_kinds'}}

# --------------------------------------------------------------------------------------- comparing


def differences(config, earlier, rescued=False):
    """Return what today's configuration differs in from that of a checkpoint: a list of words.

    What the checkpoint does not know is not compared: it is of an earlier version.
    rescued  whether the learning rates of the earlier one have been lowered on the way
    """
    passed_over = MAY_CHANGE | {'source_code', 'parts'}
    for name, others in BETTER_TOLD.items():
        if name in config and name in earlier:
            passed_over |= others
    changed = [name for name in sorted(set(earlier) - passed_over)
               if name not in config or config[name] != earlier[name]]
    code = other_code(earlier, config)
    changed += [f'the code of {name}' for name in code]
    parts, before = config.get('parts', {}), earlier.get('parts', {})
    for name in sorted(parts) if before else ():
        if rescued and 'optimizer' in name:
            continue
        changed += [f'{what} of {name}' for what, value in parts[name].items()
                    if value != before.get(name, {}).get(what)]
    return changed


def other_code(earlier, config):
    """Return the names whose code two configurations both know, and know otherwise: a list."""
    before, code = earlier.get('source_code', {}), config.get('source_code', {})
    return [name for name in sorted(set(before) & set(code)) if before[name] != code[name]]


# ----------------------------------------------------------------------------- what was really made


def as_made(config, parts, loader, z_size):
    """Return a configuration with what is known of networks, optimizers and loader in it.

    Where a parameter was changed, and the cell that makes something of it was not run again, what
    was made counts, and that is said in a line.
    """
    config = {name: plain(value) for name, value in config.items()}
    for name, values in made_with(parts, loader).items():
        made, asked = sorted(set(values) - {None}), config.get(name)
        if asked is None or not made or asked in made:
            continue
        print(f'{name}: found {asked!r}, but what is trained was made with '
              f'{" and ".join(map(repr, made))}, and that counts. For {asked!r}, run all cells '
              f'from the parameters on again.')
        config[name] = made[0] if len(made) == 1 else made
    G = parts['G']
    config['generator'] = getattr(G, 'arguments', None) or dict(z_size=z_size)
    images = images_of(loader)
    if images is not None:
        known = dict(data=images.source, kind=images.kind, images=images.checksum,
                     n_held_out=len(images.held_out), held_out=images.held_out_checksum)
        config = known | config
    code = code_of(type(parts['D']), type(G)) | config.get('source_code', {})
    return config | getattr(G, 'pair', {}) | dict(source_code=code, parts=describe(parts))


def plain(value):
    """Return a number of NumPy as Python's own, as checkpoints hold it; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def made_with(parts, loader):
    """Return {parameter: the values that loader, G and optimizers were made with, None: unknown}.

    Several learning rates are those of two time scales.
    """
    arguments = getattr(parts['G'], 'arguments', {})
    defaults = [optimizer.defaults for optimizer in optimizers_among(parts)]
    betas = [each['betas'] for each in defaults if 'betas' in each]
    return dict(batch_size=[getattr(inner(loader), 'batch_size', None)],
                z_size=[arguments.get('z_size')],
                g_conv_dim=[arguments.get('conv_dim')],
                img_size=[arguments.get('img_size')],
                start=[getattr(parts['G'], 'start', '')],
                lr=[float(each['lr']) for each in defaults if 'lr' in each],
                beta1=[float(first) for first, _ in betas],
                beta2=[float(second) for _, second in betas])


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
VALUES = str, int, float, bool, bytes, type(None), dict, list, tuple


def code_of(*things):
    """Return {name: hash} of functions and classes, and of all that they use of their module.

    That is functions, classes and CONSTANTS. Comments, docstrings and layout do not count. What
    comes with an installed package is left out.
    """
    hashes = {}
    waiting = [(thing.__qualname__, thing) for thing in things]
    while waiting:
        name, thing = waiting.pop()
        if name in hashes or _is_installed(thing):
            continue
        words = _spell(thing, waiting, whole=True)
        hashes[name] = hashlib.sha256(repr(words).encode()).hexdigest()[:8]
    return hashes


def _is_installed(thing):
    module = sys.modules.get(getattr(thing, '__module__', None) or '')
    file = getattr(module, '__file__', None) or ''
    return '-packages' in file or isinstance(thing, types.BuiltinFunctionType)


def _spell(thing, uses, whole=False):
    """Write a thing out as plain values; add (name, thing) to uses for whatever it uses.

    whole  a function or class is written out too, instead of by its name
    """
    if isinstance(thing, FUNCTIONS) and (whole or thing.__name__ == '<lambda>'):
        return _spell_function(inspect.unwrap(thing), uses)
    if isinstance(thing, type) and whole:
        return _spell_class(thing, uses)
    if isinstance(thing, NAMED):
        uses.append((thing.__qualname__, thing))
        return thing.__qualname__
    if isinstance(thing, dict):
        thing = list(thing.items())
    if isinstance(thing, list | tuple):
        return [_spell(each, uses) for each in thing]
    return thing if isinstance(thing, VALUES) else type(thing).__name__


def _spell_function(function, uses):
    for name in sorted(_names_in(function.__code__) & set(function.__globals__)):
        value = function.__globals__[name]
        if isinstance(value, NAMED) and value.__module__ == function.__module__:
            uses.append((name, value))
        elif name.isupper() and isinstance(value, VALUES):
            uses.append((name, value))
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    values = function.__defaults__, function.__kwdefaults__, cells
    return [_text(function), _spell(values, uses)]


def _names_in(code):
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return set(code.co_names).union(*map(_names_in, inner))


def _text(function):
    """Return a function's source without comments, docstrings and layout."""
    try:
        text = textwrap.dedent(inspect.getsource(function))
        tree = ast.parse(text)
    except OSError:                  # there is none: nothing is known of it
        return ''
    except SyntaxError:              # the line in which a lambda stands
        return text
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
            del node.body[0]
    return ast.unparse(tree)


def _spell_class(kind, uses):
    words = [base.__qualname__ for base in kind.__bases__]
    uses += [(base.__qualname__, base) for base in kind.__bases__
             if base.__module__ == kind.__module__]
    for name, member in vars(kind).items():
        member = getattr(member, '__func__', getattr(member, 'fget', member))
        is_own = not name.startswith('__') or name == '__init__'
        if is_own and isinstance(member, FUNCTIONS + VALUES):
            words.append((name, _spell(member, uses, whole=True)))
    return words
