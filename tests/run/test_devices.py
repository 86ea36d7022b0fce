"""Which device is taken; training on a GPU, and by several processes under torchrun.

The programs are in children/. Other devices are planted: nothing here needs one, but for a mark.
"""
import copy
import re

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from machinery import devices
from machinery.batches import DeviceLoader
from machinery.files import load_samples
from machinery.lesson import call_train
from machinery.run import load_checkpoint
from tests.tools import (
    PROJECT,
    expect_close,
    global_names,
    needs_gpu,
    run_python,
    tiny_training,
    torchrun,
)

CHILDREN = PROJECT / 'tests/children'


# ---------------------------------------------------------------------------------- planted devices


class PlantedDevice(TorchFunctionMode):
    """A Mac's GPU that is none: what is sent to it stays on the CPU, and goes wrong from then on.

    fault  a function of (name of a torch function, its result): what the device makes of it
    """

    def __init__(self, fault):
        self.fault = fault
        self.begun = False

    def __torch_function__(self, function, types, arguments=(), options=None):
        def on_the_cpu(value):
            is_here = str(value) == 'mps' if isinstance(value, str | torch.device) else False
            self.begun |= is_here
            return 'cpu' if is_here else value

        if function is torch.device:
            return torch.device(*arguments)
        arguments, options = tree_map(on_the_cpu, (arguments, options or {}))
        result = function(*arguments, **options)
        return self.fault(function.__name__, result) if self.begun else result


def right(name, result):
    """No fault."""
    return result


def nearly_right(name, result):
    """Convolutions rounded to ten bits, as TF32 does."""
    return result * (1 + 2 ** -11) if name.startswith('conv') else result


def wrong_convolutions(name, result):
    """As with weights that are read in another order of memory."""
    return result.flip(1) if name == 'conv2d' else result


def frozen(name, result):
    """An average that does not move."""
    return result.sub_(result) if name == 'lerp_' else result


def no_slope(name, result):
    """A first derivative that cannot be differentiated again."""
    return result.detach() if name == 'square' else result


def no_number(name, result):
    return result * float('nan') if name == 'tanh' else result


def not_there(name, result):
    if name == 'conv_transpose2d':
        raise NotImplementedError("The operator 'aten::x' is not implemented for the MPS device.")
    return result


@pytest.fixture
def mac(folder, monkeypatch):
    """A machine that says it has a Mac's GPU, on which nothing has been tried."""
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: True)
    devices._is_trusted.cache_clear()
    yield
    devices._is_trusted.cache_clear()


@pytest.mark.parametrize('fault', [right, nearly_right])
def test_device_that_agrees_with_the_cpu_is_taken(mac, capsys, fault):
    """Without a word; the random numbers that follow stay the same."""
    before = torch.get_rng_state()
    with PlantedDevice(fault):
        assert devices.choose_device().type == 'mps'
    assert torch.equal(torch.get_rng_state(), before)
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize('fault, message', [
    (wrong_convolutions, 'its slopes differ from those of the CPU by '),
    (frozen, 'its averages differ from those of the CPU by '),
    (no_slope, 'its gradients differ from those of the CPU by '),
    (no_number, 'its images differ from those of the CPU by nan'),
    (not_there, "The operator 'aten::x' is not implemented for the MPS device.")])
@pytest.mark.parametrize('wished', ['', 'mps'])
def test_device_that_errs_is_not_used(mac, monkeypatch, capsys, fault, message, wished):
    """One line says so, once, also where it was asked for by name; the CPU is taken."""
    monkeypatch.setenv('DCGAN_DEVICE', wished)
    with PlantedDevice(fault):
        assert [devices.choose_device().type for _ in range(3)] == ['cpu'] * 3
    line, = capsys.readouterr().out.splitlines()
    assert line.startswith('mps is not used, but the CPU: ') and message in line


@pytest.mark.parametrize('name', ['mps', 'cuda'])
def test_device_that_is_not_there(folder, monkeypatch, capsys, name):
    """Asked for by name where torch was built without it: the CPU, and a line."""
    if getattr(torch, name).is_available():
        pytest.skip('it is there')
    monkeypatch.setenv('DCGAN_DEVICE', name)
    devices._is_trusted.cache_clear()
    assert devices.choose_device().type == 'cpu'
    assert capsys.readouterr().out.startswith(f'{name} is not used, but the CPU: ')


def test_device_by_name(mac, monkeypatch):
    """The CPU can be asked for, in any letters; a name that nobody knows is refused."""
    monkeypatch.setenv('DCGAN_DEVICE', ' CPU')
    assert devices.choose_device().type == 'cpu'
    monkeypatch.setenv('DCGAN_DEVICE', 'gpu')
    with pytest.raises(ValueError, match="DCGAN_DEVICE: found 'gpu', expected one of 'cpu', "):
        devices.choose_device()


class Watched(TorchDispatchMode):
    """Notes what kinds of numbers are made on which device."""

    def __init__(self):
        self.made = set()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        self.made |= {(each.device.type, each.dtype) for each in tree_leaves(result)
                      if torch.is_tensor(each)}
        return result


def test_no_step_makes_float64(notebook):
    """A Mac's GPU has none: whatever a step makes of float32 stays float32."""
    D, G, _ = tiny_training(vars(notebook))
    optimizers = notebook.make_optimizers(D, G)
    average = copy.deepcopy(G)
    images = torch.rand(8, 3, 32, 32)
    with Watched() as watched:
        real = notebook.random_flip(notebook.scale(images))
        for objective in notebook.OBJECTIVES:
            notebook.train_step(D, G, *optimizers, real, torch.randn(8, 6), objective, 0.1,
                                tuple(notebook.AUGMENTATIONS))
        notebook.update_average(average, G, 0.9)
        notebook.generate(average, torch.randn(3, 6))
        devices._tiny_step('cpu')
    assert ('cpu', torch.float32) in watched.made
    assert ('cpu', torch.float64) not in watched.made


def test_batches_of_float64_are_rounded_before_they_are_moved():
    """As NumPy makes them. The device is one that only knows shapes and types."""
    with FakeTensorMode(), Watched() as watched:
        images = torch.rand(8, 3, 32, 32, dtype=torch.float64)
        batch, = DeviceLoader([(images, 0)], 'cuda')
    assert batch.device.type == 'cuda' and batch.dtype == torch.float32
    assert ('cpu', torch.float64) in watched.made
    assert ('cuda', torch.float64) not in watched.made


def test_float64_on_a_device_is_seen(monkeypatch):
    """The planted bug: batches that are moved as they are fail the test above."""
    monkeypatch.setattr(DeviceLoader, '_read',
                        lambda self: (images.to(self.device) for images, _ in self.loader))
    with pytest.raises(AssertionError):
        test_batches_of_float64_are_rounded_before_they_are_moved()


def test_macs_keep_the_usual_order_of_memory(notebook):
    """With weights in channels_last some versions of torch convolve wrongly there."""
    assert devices.memory_format('mps') == torch.contiguous_format
    assert devices.memory_format('cuda') == devices.memory_format('cpu') == torch.channels_last
    assert not devices.has_bfloat16(torch.device('mps'))


def test_loop_from_elsewhere_on_a_device_that_it_does_not_know(notebook, folder, capsys):
    """It would leave its batches on the CPU: the networks come to them."""
    def train(D, G, n_epochs, print_every):
        assert {next(network.parameters()).device.type for network in (D, G)} == {'cpu'}
        return [(1.0, 2.0)] * n_epochs

    D, G, _ = tiny_training(vars(notebook))
    for network in (D, G):
        network.to('meta')
        network.cpu = lambda network=network: network.to_empty(device='cpu')
    call_train(train, D, G, 2, 1, None, None, dict(z_size=6))
    assert 'This train knows no meta: it runs on the CPU.' in capsys.readouterr().out


# ------------------------------------------------------------------------------ a GPU that is there


@needs_gpu
def test_gpu_agrees_with_the_cpu(folder):
    """A tiny step of both, TF32 and all."""
    assert devices.choose_device().type == 'cuda'


@needs_gpu
def test_training_on_a_gpu(notebook, folder):
    """Everything on the GPU but the grids and files, which come back; resuming works there."""
    for n_epochs in (1, 2):
        D, G, names = tiny_training(vars(notebook))
        for network in (D, G):
            network.to('cuda', memory_format=torch.channels_last)
        names['d_optimizer'], names['g_optimizer'] = notebook.make_optimizers(D, G)
        names['train_on_gpu'] = True
        config = dict(flip=True, ema_decay=0.9, resume=True)
        with global_names(notebook.train, **names):
            losses = notebook.train(D, G, n_epochs, 1, config=config)
    assert len(losses) == 6 and np.isfinite(losses).all()
    assert all(grid.device.type == 'cpu' for grid in load_samples())


@pytest.mark.slow
def test_two_processes_train_as_one(folder):
    """Without batch normalisation, two processes give weights and figures of one, to rounding."""
    run_python(folder, CHILDREN / 'ranks.py', environment=dict(CUDA_VISIBLE_DEVICES=''))
    done = torchrun(folder, CHILDREN / 'ranks.py')
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('printed by one') == 1
    figures, weights = torch.load('out-0-of-1.pt')
    assert len(figures) == 6
    for rank in (0, 1):
        figures_of_rank, weights_of_rank = torch.load(f'out-{rank}-of-2.pt')
        expect_close('Figures', figures_of_rank, figures, 1e-4, rank=rank)
        expect_close('Weights', weights_of_rank, weights, 1e-4, rank=rank)


@pytest.mark.slow
def test_processes_end_in_peace(folder):
    """A script that ends right after its last message: gloo's threads end before Python does."""
    done = torchrun(folder, CHILDREN / 'brief.py', processes=4)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_dead_process_ends_the_job(folder):
    """One of two processes dies: the job ends by itself, with a failure that says which."""
    done = torchrun(folder, CHILDREN / 'ranks.py', '--rank-1-dies-at', 4)
    assert done.returncode != 0 and not list(folder.glob('out-*'))
    assert re.search(r'exitcode *: 3 ', done.stderr), done.stderr
    assert re.search(r'rank *: 1 ', done.stderr), done.stderr


@pytest.mark.slow
def test_notebook_under_torchrun(copy_of_project):
    """The exported notebook by two processes: one prints and writes; a second start goes on."""
    run_python(copy_of_project, '-m', 'nbconvert', '--to', 'script', 'dcgan_faces.ipynb')
    for n_epochs in (1, 2):
        environment = dict(DCGAN_PRESET=f'smoke n_epochs={n_epochs}', DCGAN_DATA='drawn',
                           MPLBACKEND='agg')
        done = torchrun(copy_of_project, 'dcgan_faces.py', environment=environment)
        assert done.returncode == 0, done.stderr
        assert len(re.findall(r'^epoch +\d+/', done.stdout, re.M)) == n_epochs
        continued = done.stdout.count('Continuing checkpoints_gan/ after epoch 1')
        assert continued == n_epochs - 1
        assert done.stdout.count("Preset 'smoke") == 1
        assert not list(copy_of_project.glob('checkpoints_gan-*'))
    saved = load_checkpoint(copy_of_project / 'checkpoints_gan')
    assert (saved['epoch'], saved['n_steps'], saved['images_seen']) == (2, 8, 128)


@pytest.mark.slow
def test_name_that_is_not_in_utf_8_ends_no_program(folder):
    """It stands in what is printed of a folder; a question mark is shown for it."""
    program = """import os; from machinery.devices import choose_device
choose_device()
print(os.fsdecode(b'caf\\xe9'))"""
    done = run_python(folder, '-c', program, environment=dict(PYTHONIOENCODING='utf-8:strict'))
    assert done.stdout == 'caf?\n' and done.returncode == 0, done.stderr
