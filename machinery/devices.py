"""The device, its arithmetic, its random numbers, and the processes of torchrun."""
import atexit
import contextlib
import copy
import datetime
import functools
import numbers
import os
import platform
import random
import sys
import time
import warnings

import numpy as np
import torch
from torch import distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from .console import check_choice, print_what_can_be_printed, setting

PATIENCE = datetime.timedelta(hours=4)      # rank 0 may have to fetch and decode the images first

_alone = False


def choose_device():
    """Return the device to train on: what DCGAN_DEVICE names, else cuda, else mps, else the CPU.

    Another than the CPU has to prove itself once: a tiny training step on it must agree with the
    CPU's. Where it does not, a line says so, and the CPU is returned.

    It also prepares the process: a print must not end it, whatever the terminal. Under torchrun, it
    joins the others (nccl on GPUs, gloo on CPUs), takes a GPU of its own, and falls silent unless
    it is rank 0.
    Raises ValueError for an unknown name, and where there are more processes than GPUs;
    RuntimeError for a GPU under torchrun that cannot be trusted.
    """
    print_what_can_be_printed()
    kind = _kind_wished()
    several = int(os.environ.get('WORLD_SIZE', 1)) > 1
    if several and kind != 'cuda':
        kind = 'cpu'
    if several and not dist.is_initialized():
        _join_the_others(kind)
    if kind != 'cpu' and not _is_trusted(kind):
        if several:
            raise RuntimeError(f'torchrun: {kind} cannot be trusted on rank {dist.get_rank()}')
        kind = 'cpu'
    if kind == 'cuda':
        return torch.device('cuda', torch.cuda.current_device())
    return torch.device(kind)


def _kind_wished():
    """Return the name of the device to try."""
    found = torch.accelerator.current_accelerator()
    known = list(dict.fromkeys(['cpu', 'cuda', 'mps'] + ([found.type] if found else [])))
    name = setting('DCGAN_DEVICE').lower()
    if name:
        check_choice(known, DCGAN_DEVICE=name)
        return name
    if torch.cuda.is_available():
        return 'cuda'
    return 'mps' if torch.backends.mps.is_available() else 'cpu'


def _join_the_others(kind):
    if kind == 'cuda':
        local_rank = int(os.environ['LOCAL_RANK'])
        n_gpus = torch.cuda.device_count()
        if local_rank >= n_gpus:
            n_processes = os.environ['LOCAL_WORLD_SIZE']
            raise ValueError(f'torchrun: found {n_processes} processes, expected at most one for '
                             f'each of the {n_gpus} GPUs')
        torch.cuda.set_device(local_rank)
        dist.init_process_group('nccl', timeout=PATIENCE)
    else:
        dist.init_process_group('gloo', timeout=PATIENCE)
    # At exit, last in, first out: wait, then part. The threads of gloo need Python to let go of
    # tensors; a process that parts right after its last message was seen to abort.
    atexit.register(dist.destroy_process_group)
    atexit.register(time.sleep, 0.5)
    if dist.get_rank() > 0:
        sys.stdout = open(os.devnull, 'w', encoding='utf-8')


# ------------------------------------------------------------------------- a device proves itself

# Steps agree if each of their parts differs by this share of it at most: TF32 keeps 10 bits.
TRUSTED = 0.05


@functools.cache
def _is_trusted(kind):
    """Say whether a tiny step on a device agrees with the CPU's; print why it does not."""
    try:
        expected, found = _tiny_step('cpu'), _tiny_step(kind)
        off = {part: ((found[part] - value).norm() / value.norm()).item()
               for part, value in expected.items()}
        reasons = [f'its {part} differ from those of the CPU by {share:.2g} of their size'
                   for part, share in off.items() if not share <= TRUSTED]   # also of no number
    except Exception as error:       # whatever a device cannot do, the CPU can
        reasons = [(str(error) or repr(error)).splitlines()[0]]
    if reasons:
        print(f'{kind} is not used, but the CPU: {reasons[0]}')
    return not reasons


def _tiny_step(kind):
    """Take a step of two tiny networks on a device: {part: vector on the CPU} of what it makes.

    It is made of what the notebook's step is made of, in the same order of memory.
    """
    numbers = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):      # what is drawn afterwards stays the same
        D = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1, bias=False), nn.BatchNorm2d(8),
                          nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(8 * 4 * 4, 1))
        G = nn.Sequential(nn.Linear(6, 8 * 4 * 4, bias=False), nn.Unflatten(1, (8, 4, 4)),
                          nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, 2, 1))
    for weight in (*D.parameters(), *G.parameters()):
        nn.init.normal_(weight, 0, 0.3, generator=numbers)
    real, z = (torch.randn(shape, generator=numbers) for shape in ((8, 3, 8, 8), (8, 6)))
    for network in (D, G):
        network.to(kind, memory_format=memory_format(kind))
    before, average = copy.deepcopy(D), copy.deepcopy(G)
    d_adam, g_adam = (torch.optim.Adam(network.parameters(), fused=True) for network in (D, G))

    real = real.to(kind, memory_format=memory_format(kind)).requires_grad_()
    fake = G(z.to(kind)).tanh()
    D_real, D_fake = D(real), D(fake.detach())
    slope, = torch.autograd.grad(D_real.sum(), real, create_graph=True)
    bce, ones = F.binary_cross_entropy_with_logits, torch.ones_like(D_real)
    d_loss = bce(D_real, ones) + bce(D_fake, 0 * ones)
    (d_loss + slope.square().sum()).backward()
    d_adam.step()
    g_loss = bce(D(fake), ones)
    g_loss.backward(inputs=list(G.parameters()))
    g_adam.step()
    with torch.no_grad():
        for mean, current in zip(average.parameters(), G.parameters(), strict=True):
            mean.lerp_(current, 0.5)
    made = dict(images=[fake], slopes=[slope], losses=[d_loss, g_loss],
                gradients=[weight.grad for weight in (*D.parameters(), *G.parameters())],
                changes=_apart(D, before), averages=_apart(G, average))
    return {part: torch.cat([value.detach().cpu().flatten() for value in values])
            for part, values in made.items()}


def _apart(network, other):
    """Return the differences between the weights of two networks."""
    return [one - two for one, two in zip(network.parameters(), other.parameters(), strict=True)]


def memory_format(device):
    """Return the order in memory in which convolutions are fast, and right.

    On a Mac's GPU it is the usual one: with weights in channels_last, some versions of torch
    convolve wrongly there, without a word (pytorch/pytorch issue 192212).
    """
    mac = torch.device(device).type == 'mps'
    return torch.contiguous_format if mac else torch.channels_last


def to_device(D, G, device, images, z_size):
    """Move both networks to the device, in channels_last if both work in that order of memory.

    A network that reads its features with view() does not: then both keep the usual order, as they
    do on a Mac's GPU. They are tried on copies, which changes nothing in them and draws no random
    numbers. So is the number of threads: see advice_on_threads.

    images  (n, 3, s, s), a batch of real ones: D has to give (n, 1) for them, and G images of their
            size
    Raises ValueError where they do not.
    """
    batch_size = len(images)
    images = images[:2].float().cpu()
    z = torch.zeros(len(images), z_size)
    for order in (memory_format(device), torch.contiguous_format):
        trials = [_try(D, images, (len(images), 1), order),
                  _try(G, z, tuple(images.shape), order)]
        if not any(trials):
            break
    if any(trials):
        raise ValueError(' '.join(trials).strip())
    D.to(device, memory_format=order)
    G.to(device, memory_format=order)
    if torch.device(device).type == 'cpu':
        print(advice_on_threads(D, G, batch_size, z_size), end='')


def _try(network, example, wanted, order):
    """Say what is wrong with the output of a copy of the network; '' if its shape is as wanted."""
    trial = copy.deepcopy(network).to('cpu', memory_format=order).eval()
    if example.ndim == 4:
        example = example.contiguous(memory_format=order)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            found = tuple(trial(example).shape)
    except RuntimeError as error:
        found = f'an error ({str(error).splitlines()[0]})'
    if found == wanted:
        return ''
    return (f'{type(network).__name__}: expected {wanted} for an input of {tuple(example.shape)}, '
            f'found {found}. Does it suit img_size and z_size?')


def device_name():
    """Return what the training will run on, in words."""
    device = choose_device()
    if device.type == 'cuda':
        return torch.cuda.get_device_name()
    if device.type != 'cpu':
        return f'{device.type} ({platform.machine()})'
    number = torch.get_num_threads()
    threads = 'thread' if number == 1 else 'threads'
    return f'CPU ({platform.machine()}), {number} {threads}'


def versions():
    """Return one line of provenance: Python, torch, device."""
    return f'Python {platform.python_version()}, torch {torch.__version__}, {device_name()}'


def has_bfloat16(device):
    """Say whether the device multiplies bfloat16 faster than float32."""
    if device.type == 'cuda':
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != 'cpu':
        return False
    return platform.machine() == 'x86_64' and torch.cpu._is_avx512_bf16_supported()


def world():
    """Return (rank, number of processes) of the training; (0, 1) without torchrun."""
    if _alone or not dist.is_initialized():
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


@contextlib.contextmanager
def alone():
    """Within this block each process of torchrun works for itself: for tests of single parts."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


@contextlib.contextmanager
def rank_0_first():
    """Within this block rank 0 works while the others wait; then the others work."""
    rank, _ = world()
    if rank > 0:
        broadcast(None)
    yield
    if rank == 0:
        broadcast(None)


def broadcast(value):
    """Return rank 0's value, on every process."""
    values = [value]
    if world()[1] > 1:
        dist.broadcast_object_list(values)
    return values[0]


def distributed(D, G, device):
    """Wrap both networks so that each backward pass averages its gradients over the processes.

    On GPUs G normalises over the whole batch, on CPUs over each process's share.
    """
    if device.type == 'cuda':
        # Not D: synchronised normalisation cannot be differentiated twice, as the penalty asks.
        G = torch.nn.SyncBatchNorm.convert_sync_batchnorm(G)
    with warnings.catch_warnings():
        # New versions of torch have another word for broadcast_buffers.
        warnings.simplefilter('ignore', FutureWarning)
        return [DistributedDataParallel(network, broadcast_buffers=False) for network in (D, G)]


# ----------------------------------------------------------------------------------------- threads

SECONDS_OF_TRIAL = 1.0
FASTER = 1.3         # times as fast: on a busy machine, less means nothing


@contextlib.contextmanager
def n_threads(number):
    """Within this block the CPU works with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def advice_on_threads(D, G, batch_size, z_size):
    """Return a line of advice where a training is clearly faster with fewer threads; else ''.

    A thread that waits for another one keeps its core busy. So where something else takes a core,
    where two cores are one, or where there are fewer than they seem, all of them wait for the last.
    The passes of a step are tried on copies. Nothing that the training sees is changed: neither
    networks, nor random numbers, nor the number of threads, which changes the last bits.
    """
    number = torch.get_num_threads()
    if number == 1 or world()[1] > 1:
        return ''
    D, G = copy.deepcopy((D, G))
    z = torch.randn(batch_size, z_size, generator=torch.Generator().manual_seed(0))

    def take_passes():
        fake = G(z)
        (D(fake.detach()).sum() + D(fake).sum()).backward()

    numbers = [number >> halvings for halvings in range(number.bit_length())]
    random_before = random_state()
    rates = {each: _per_second(take_passes, each, SECONDS_OF_TRIAL / len(numbers))
             for each in numbers}
    set_random_state(random_before)
    best = max(rates, key=rates.get)
    times = rates[best] / rates[number]
    if times <= FASTER:
        return ''
    return (f'With threads = {best} among the parameters training would go {times:.1f} times as '
            f'fast: the networks are small, or the cores busy, or fewer than they seem. Interrupt, '
            f'set it and run again; a run goes on.\n')


def _per_second(act, number, seconds):
    """Return how often act() can be called in a second with so many threads."""
    with n_threads(number):
        act()                                    # not counted: the first time is slower
        started = time.perf_counter()
        n_calls, passed = 0, 0
        while passed < seconds:
            act()
            n_calls += 1
            passed = time.perf_counter() - started
    return n_calls / passed


# ----------------------------------------------------------------------------------- random numbers

def set_seed(seed):
    """Seed the generators of torch, NumPy and Python: the same seed, the same run.

    Raises ValueError for what is no whole number.
    """
    if not isinstance(seed, numbers.Integral) or not -2 ** 63 <= seed < 2 ** 64:
        raise ValueError(f'seed: found {seed!r}, expected a whole number')
    torch.manual_seed(seed)
    np.random.seed(seed % 2 ** 32)
    random.seed(int(seed))


def random_state():
    """Return the state of every random generator in use, as plain values and tensors."""
    kind, keys, *rest = np.random.get_state()
    state = dict(torch=torch.get_rng_state(), cuda=[], python=random.getstate())
    state['numpy'] = [kind, keys.tolist(), *rest]
    device = choose_device()
    if device.type != 'cpu':                             # under torchrun the same on all ranks
        state[device.type] = [torch.get_device_module(device).get_rng_state()]
    return state


def set_random_state(state):
    """Put every random generator back to where random_state() saw it."""
    torch.set_rng_state(state['torch'])
    device = choose_device()
    if state.get(device.type):
        torch.get_device_module(device).set_rng_state(state[device.type][0])
    random.setstate(state['python'])
    np.random.set_state(tuple(state['numpy']))
