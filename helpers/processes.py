"""One training on several devices, under torchrun: who this process is, and what all of them have to agree on."""
import atexit
import contextlib
import datetime
import os
import sys
import time

import torch

_alone = False


def choose_device():
    """The device to train on: the GPU if there is one, else the CPU.

    Under torchrun, join the other processes (nccl on GPUs, gloo on CPUs), take a GPU of one's own, and let rank 0 alone
    print. Raises ValueError where there are more processes than GPUs.
    """
    cuda = torch.cuda.is_available()
    if int(os.environ.get('WORLD_SIZE', 1)) > 1 and not torch.distributed.is_initialized():
        if cuda:
            local = int(os.environ['LOCAL_RANK'])
            if local >= torch.cuda.device_count():
                raise ValueError(f'torchrun: found {os.environ["LOCAL_WORLD_SIZE"]} processes, expected at most one for each '
                                 f'of the {torch.cuda.device_count()} GPUs')
            torch.cuda.set_device(local)
        patience = datetime.timedelta(hours=4)           # rank 0 may have to fetch and decode the images first
        torch.distributed.init_process_group('nccl' if cuda else 'gloo', timeout=patience)
        atexit.register(torch.distributed.destroy_process_group)
        atexit.register(time.sleep, .5)                  # first: gloo's threads let go of tensors, for which they need Python
        if torch.distributed.get_rank():
            sys.stdout = open(os.devnull, 'w')
    return torch.device('cuda', torch.cuda.current_device()) if cuda else torch.device('cpu')


def world():
    """(rank, number of processes) of the training; (0, 1) without torchrun."""
    if _alone or not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


@contextlib.contextmanager
def alone():
    """Within it, each process of torchrun works for itself: for tests of the notebook's parts."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


@contextlib.contextmanager
def rank_0_first():
    """Within it, rank 0 works while the others wait; then they work."""
    rank, _ = world()
    if rank:
        shared(None)
    yield
    if not rank:
        shared(None)


def shared(value):
    """Rank 0's value, on every process."""
    values = [value]
    if world()[1] > 1:
        torch.distributed.broadcast_object_list(values)
    return values[0]
