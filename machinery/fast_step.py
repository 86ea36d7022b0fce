"""The training step made fast from outside: bfloat16, a CUDA graph, a share of the batch."""
import functools
import os

import torch

from . import devices
from .replay import CudaGraphs, Replayed


def capture(step, D, G, d_optimizer, g_optimizer, sync_batch_norm=False):
    """Make a training step fast; return it as a function of (real, z, **options).

    step       called as step(D, G, d_optimizer, g_optimizer, real, z, **options), where D and G may
               be wrapped networks; it knows nothing of what follows. What it returns is returned
    A GPU      computes in bfloat16, and one CUDA graph holds the whole step: no kernel waits for
               Python. The last batch of an epoch, where it is smaller, has a graph of its own.
    A CPU      computes in bfloat16 where it has instructions for it (avx512_bf16, amx_bf16), else
               in float32.
    torchrun   each process computes its share of the batch, the gradients are averaged, and the
               figures returned are the mean over all; there is no CUDA graph. sync_batch_norm: see
               devices.distributed

    Weights, gradients and optimizers stay in float32. DCGAN_FAST=0 leaves the step as it is, but
    for the shares.
    """
    device = next(G.parameters()).device
    rank, n_processes = devices.world()
    fast = os.environ.get('DCGAN_FAST', '1') != '0'
    if fast and devices.has_bfloat16(device):
        D, G = _BFloat16(D), _BFloat16(G)
    if n_processes > 1:
        D, G = devices.distributed(D, G, device, sync_batch_norm)
    run = functools.partial(step, D, G, d_optimizer, g_optimizer)
    if n_processes > 1:
        return functools.partial(_step_on_share, run, rank, n_processes)
    if fast and device.type == 'cuda':
        torch.backends.cudnn.benchmark = True            # batches keep their size: the search pays
        torch.set_float32_matmul_precision('high')       # TF32 for what is left in float32
        return Replayed(run, (D, G), (d_optimizer, g_optimizer), CudaGraphs())
    return run


class _BFloat16(torch.nn.Module):
    """A network whose convolutions and products run in bfloat16; its output is float32 again."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        # No cache of the cast weights: a CUDA graph may not hold it.
        with torch.autocast(x.device.type, torch.bfloat16, cache_enabled=False):
            return self.network(x).float()


def _step_on_share(step, rank, n_processes, real, z, **options):
    """Take this process's share of the batch that all have; return the mean of all figures."""
    figures = step(real[rank::n_processes], z[rank::n_processes], **options)
    torch.distributed.all_reduce(figures)
    return figures / n_processes
