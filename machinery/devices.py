"""The device, its arithmetic, its random numbers, and the processes of torchrun."""
import atexit
import contextlib
import copy
import datetime
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
from torch.nn.parallel import DistributedDataParallel

from .console import print_what_can_be_printed

PATIENCE = datetime.timedelta(hours=4)      # rank 0 may have to fetch and decode the images first

_alone = False


def choose_device():
    """Return the device to train on: the GPU if there is one, else the CPU.

    It also prepares the process: a print must not end it, whatever the terminal. Under torchrun, it
    joins the others (nccl on GPUs, gloo on CPUs), takes a GPU of its own, and falls silent unless
    it is rank 0.
    Raises ValueError where there are more processes than GPUs.
    """
    print_what_can_be_printed()
    if int(os.environ.get('WORLD_SIZE', 1)) > 1 and not dist.is_initialized():
        _join_the_others()
    if torch.cuda.is_available():
        return torch.device('cuda', torch.cuda.current_device())
    return torch.device('cpu')


def _join_the_others():
    if torch.cuda.is_available():
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


def to_device(D, G, device, images, z_size):
    """Move both networks to the device, in channels_last if both work in that order of memory.

    A network that reads its features with view() does not: then both keep the usual order. They are
    tried on copies, which changes nothing in them and draws no random numbers.

    images  (n, 3, s, s), real ones: D has to give (n, 1) for them, and G images of their size
    Raises ValueError where they do not.
    """
    images = images[:2].float().cpu()
    z = torch.zeros(len(images), z_size)
    for memory_format in (torch.channels_last, torch.contiguous_format):
        trials = [_try(D, images, (len(images), 1), memory_format),
                  _try(G, z, tuple(images.shape), memory_format)]
        if not any(trials):
            break
    if any(trials):
        raise ValueError(' '.join(trials).strip())
    D.to(device, memory_format=memory_format)
    G.to(device, memory_format=memory_format)


def _try(network, example, wanted, memory_format):
    """Say what is wrong with the output of a copy of the network; '' if its shape is as wanted."""
    trial = copy.deepcopy(network).to('cpu', memory_format=memory_format).eval()
    if example.ndim == 4:
        example = example.contiguous(memory_format=memory_format)
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
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    n_threads = torch.get_num_threads()
    threads = 'thread' if n_threads == 1 else 'threads'
    return f'CPU ({platform.machine()}), {n_threads} {threads}'


def versions():
    """Return one line of provenance: Python, torch, device."""
    return f'Python {platform.python_version()}, torch {torch.__version__}, {device_name()}'


def has_bfloat16(device):
    """Say whether the device multiplies bfloat16 faster than float32."""
    if device.type == 'cuda':
        return torch.cuda.is_bf16_supported(including_emulation=False)
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
    if torch.cuda.is_available():
        state['cuda'] = [torch.cuda.get_rng_state()]     # under torchrun the same on all ranks
    return state


def set_random_state(state):
    """Put every random generator back to where random_state() saw it."""
    torch.set_rng_state(state['torch'])
    if state['cuda'] and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'][0])
    random.setstate(state['python'])
    np.random.set_state(tuple(state['numpy']))
