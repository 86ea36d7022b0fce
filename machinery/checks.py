"""What the tests of the notebook's parts are made with: how one fails, remarks and passes.

What a test needs around a part is here too: images in a folder, global names, a tiny training.
"""
import contextlib
import copy
import functools
import inspect
import io
import os
import tempfile
from pathlib import Path
from unittest import mock

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from .batches import ImageDataset
from .console import whole
from .devices import alone, random_state, set_random_state
from .drawn import drawn_faces

MOST = 400               # letters of one value in a message: all of a message fits on a screen
IN_PLACE = {'weights_init_normal', 'decay_learning_rates', 'update_average', 'view_samples'}

# ------------------------------------------------------------------------------- how a test fails


def expect(holds, what, came, expected, **parameters):
    """Raise an AssertionError with all that is known, unless it holds."""
    if not holds:
        with_what = f' Test parameters: {brief(parameters)}' if parameters else ''
        raise AssertionError(f'{what}: expected {brief(expected)}, found {brief(came)}.{with_what}')


def expect_equal(what, came, expected, **parameters):
    """Expect two plain values to be equal."""
    expect(came == expected, what, came, expected, **parameters)


def expect_close(what, came, expected, tolerance=1e-5, **parameters):
    """Expect numbers or tensors of one shape to differ by the tolerance at most."""
    came_shape, expected_shape = (tuple(torch.as_tensor(each).shape) for each in (came, expected))
    expect_equal(f'Shape of {what}', came_shape, expected_shape, **parameters)
    difference = torch.as_tensor(came).double() - torch.as_tensor(expected).double()
    largest = difference.abs().max().item()
    came = f'{brief(came)} (off by {largest:.3g})'
    expect(largest <= tolerance, what, came, expected, **parameters)


def brief(value):
    """Write a value out; of a large tensor its shape and range, and of a long text both ends."""
    if isinstance(value, np.ndarray):
        value = torch.as_tensor(value)
    if isinstance(value, torch.Tensor) and value.numel() > 12:
        low, high = value.min().item(), value.max().item()
        return f'{tuple(value.shape)} with numbers from {low:.4g} to {high:.4g}'
    text = str(value)
    if len(text) > MOST:
        text = f'{text[:MOST // 2]} … {text[-MOST // 3:]}'
    return text


remarks = {}         # of the test that runs: what it is about, and a sentence


def remark_unless(holds, what, came, expected):
    """Remark on what is unlike DCGAN, unless it holds: a part may be another one and work well."""
    if not holds:
        remarks.setdefault(what, f'{what}: expected {brief(expected)}, found {brief(came)}.')


def result_or_error(function, *arguments, **named):
    """Call a function; return (its result, None), or (None, its error in words)."""
    try:
        return function(*arguments, **named), None
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        first_line, *_ = str(error).splitlines() or ['']
        return None, f'{type(error).__name__}: {first_line}'


def part_test(test):
    """Make a test callable from the notebook.

    It is seeded and prints its result and its remarks alone, and it leaves the random numbers of
    the training that follows as they would be without it. Under torchrun each process tests for
    itself.
    """
    @functools.wraps(test)
    def run(*parts, **named_parts):
        names = ' or '.join(inspect.signature(test).parameters)
        before = random_state()
        torch.manual_seed(0)
        remarks.clear()
        parts = [answering(part) for part in parts]
        named_parts = {name: answering(part) for name, part in named_parts.items()}
        failure = None
        try:
            with contextlib.redirect_stdout(io.StringIO()), alone(), whole(names):
                test(*parts, **named_parts)
        except AssertionError as error:
            failure = error
        except NotImplementedError as error:
            failure = AssertionError(f'{names} is not written yet: write it in the cell above. '
                                     f'{brief(error)}'.strip())
        finally:
            set_random_state(before)
        if failure:                              # the message says it all, and a traceback nothing
            raise failure.with_traceback(None) from None
        print('Tests Passed')
        for sentence in remarks.values():
            print(f'  Unlike DCGAN, which is no fault. {sentence}')
    return run


def answering(part):
    """Return a part that fails with a sentence where it returns nothing: a gap left empty."""
    name = getattr(part, '__name__', '')
    if not callable(part) or name in IN_PLACE:
        return part

    @functools.wraps(part, updated=())
    def asked(*arguments, **named):
        return checked_answer(name, part(*arguments, **named))
    return asked


def checked_answer(name, answer):
    """Return what a part returned; raise an AssertionError where that is None, or holds one."""
    several = answer if isinstance(answer, tuple) else (answer,)
    if any(each is None for each in several):
        raise AssertionError(f'{name} returned nothing: write it in the cell above.')
    for network in several:
        if isinstance(network, nn.Module):
            what = f'{type(network).__name__}.forward'
            network.register_forward_hook(functools.partial(check_output, what))
    return answer


def check_output(what, _, inputs, output):
    """A hook that is pickled with its network, where a loop saves that."""
    checked_answer(what, output)


# ----------------------------------------------------------------------------- what a test needs


@contextlib.contextmanager
def empty_folder():
    """Work in an empty folder that vanishes afterwards."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


def write_images(folder, n, size=(64, 64), ending='jpg', seed=0):
    """Fill a folder with n images, each of noise on a colour of its own; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    paths = [folder / f'{number:06d}.{ending}' for number in range(1, n + 1)]
    for path in paths:
        colour = random.integers(0, 200, 3)
        noise = random.integers(0, 50, (size[1], size[0], 3))
        Image.fromarray((colour + noise).astype(np.uint8)).save(path)
    return paths


def layers_of(network, kinds):
    """All layers of these kinds, in their order."""
    return [layer for layer in network.modules() if isinstance(layer, kinds)]


def numbers_of(network):
    """All weights and statistics of a network in one vector."""
    values = network.state_dict().values()
    return torch.cat([value.detach().flatten().double() for value in values])


@torch.no_grad()
def louder(network):
    """A copy of a network with a hundred times its weights: it shows between which ends it stays.
    """
    network = copy.deepcopy(network)
    for weight in network.parameters():
        weight.mul_(100)
    return network


def seed_again(*_):
    """Let dropout and its like draw the same in each pass, whichever comes first."""
    torch.manual_seed(0)


def watch_passes(G):
    """Two lists: of 'forward' and 'backward' as G is passed through, and of the noise it is given.
    """
    passes, noises = [], []
    G.register_forward_pre_hook(lambda _, inputs: noises.append(inputs[0].detach().clone()))
    G.register_forward_hook(lambda *_: passes.append('forward'))
    next(G.parameters()).register_hook(lambda _: passes.append('backward'))
    return passes, noises


def drawn_by(view, *arguments):
    """Return (the figure that a function draws, its error in words)."""
    before = plt.get_fignums()
    with mock.patch.object(plt, 'show'):               # a notebook shows figures, and closes them
        _, error = result_or_error(view, *arguments)
    new = [plt.figure(number) for number in plt.get_fignums() if number not in before]
    for figure in new:
        plt.close(figure)
    return (new or [plt.Figure()])[-1], error


def scope_of(function):
    """The global names that a function of the notebook sees."""
    return getattr(inspect.unwrap(function), '__globals__', {})


@contextlib.contextmanager
def global_names(function, **names):
    """Lend a function of the notebook other global names for as long as the block runs."""
    scope = scope_of(function)
    before = {name: scope[name] for name in names if name in scope}
    scope.update(names)
    try:
        yield
    finally:
        for name in names:
            del scope[name]
        scope.update(before)


def on_the_cpu(function):
    """Lend a function the global names of a machine without a GPU, for as long as a block runs."""
    return global_names(function, train_on_gpu=False, device=torch.device('cpu'))


def tiny_training(scope, n_images=10, batch_size=4, lr=2e-4, seed=0):
    """Build a training that takes a blink. With the defaults, the last batch of an epoch is short.

    scope  the names of the notebook
    Returns D, G, and a dict of the global names that the notebook's train reads.
    """
    torch.manual_seed(seed)
    D = answering(scope['Discriminator'])(4)
    G = answering(scope['Generator'])(z_size=6, conv_dim=4)
    D.apply(scope['weights_init_normal'])
    G.apply(scope['weights_init_normal'])
    d_optimizer, g_optimizer = scope['make_optimizers'](D, G, lr)
    faces = ImageDataset(drawn_faces(n_images, 32))
    loader = DataLoader(faces, batch_size, shuffle=True, collate_fn=faces.collate)
    names = dict(celeba_train_loader=loader, d_optimizer=d_optimizer, g_optimizer=g_optimizer,
                 batch_size=batch_size, img_size=32, z_size=6, train_on_gpu=False,
                 device=torch.device('cpu'))
    return D, G, names
