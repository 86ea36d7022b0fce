"""The training step and its batches, made fast from outside: bfloat16, CUDA graphs, images on the device."""
import collections
import functools
import os
import platform
import warnings

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, DataLoader

from .data import ImageDataset
from .processes import shared, world


def capture(step, D, G, d_optimizer, g_optimizer, sync_batch_norm=False):
    """Wrap a training step for speed; return it as a function of (real, z, **options) that returns what step returns.

    step       called as step(D, G, d_optimizer, g_optimizer, real, z, **options); it knows nothing of what follows
    A GPU      computes in bfloat16, and one CUDA graph holds the whole step: no kernel waits for Python. The last
               batch of an epoch, if it is smaller, has a graph of its own.
    A CPU      computes in bfloat16 where it has instructions for it (avx512_bf16, amx_bf16), else in float32.
    torchrun   each process computes its share of the batch, DistributedDataParallel averages the gradients, and the
               figures returned are the mean over all. sync_batch_norm: G's statistics are those of the whole batch (GPUs only)
    Weights, gradients and optimizers stay in float32. DCGAN_FAST=0 leaves the step as it is, but for its shares.
    """
    device, (rank, size) = next(G.parameters()).device, world()
    fast = os.environ.get('DCGAN_FAST', '1') != '0'
    networks = [_BFloat16(network) if fast and has_bfloat16(device) else network for network in (D, G)]
    if size > 1:
        networks = _shared(*networks, device, sync_batch_norm)
    run = functools.partial(step, *networks, d_optimizer, g_optimizer)
    if size > 1:
        return functools.partial(_step_on_share, run, rank, size)
    if fast and device.type == 'cuda':
        torch.backends.cudnn.benchmark = True            # batches keep their size, so the search for kernels pays
        torch.set_float32_matmul_precision('high')       # TF32 for what is left in float32
        return _Graphed(run, (d_optimizer, g_optimizer))
    return run


def has_bfloat16(device):
    """Whether the device multiplies bfloat16 faster than float32."""
    if device.type == 'cuda':
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return platform.machine() == 'x86_64' and torch.cpu._is_avx512_bf16_supported()


class _BFloat16(torch.nn.Module):
    """A network whose convolutions and products run in bfloat16; what comes out is float32 again."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        with torch.autocast(x.device.type, torch.bfloat16, cache_enabled=False):     # a graph may not hold the cache
            return self.network(x).float()


class _Graphed:
    """A step replayed from CUDA graphs: one for each size of batch and each set of options."""

    WARM_UP = 3                                          # real training steps, run before the graph is recorded

    def __init__(self, step, optimizers):
        self.step, self.optimizers, self.broken, self.stream = step, optimizers, False, torch.cuda.Stream()
        self._forget()                                   # graphs run one after the other, so they can share their memory
        self.rates = [torch.zeros((), device=group['params'][0].device) for group in self._groups()]

    def _groups(self):
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def _addresses(self):
        """Where the optimizers keep what they remember: loading a state puts it elsewhere, which a graph does not notice."""
        return [value.data_ptr() for optimizer in self.optimizers for state in optimizer.state.values()
                for value in state.values() if torch.is_tensor(value)]

    def __call__(self, real, z, **options):
        name = real.shape, *options.items()
        if self.broken:
            return self.step(real, z, **options)
        if self.graphs and self._addresses() != self.addresses:
            self._forget()
        if name not in self.graphs and self.counts[name] < self.WARM_UP:
            self.counts[name] += 1
            return self._beside(real, z, **options)
        if name not in self.graphs:
            try:
                self.graphs[name] = self._record(real, z, options)
            except (RuntimeError, AssertionError) as error:
                self.broken = True
                print(f'No CUDA graph, hence the plain step: {(str(error) or repr(error)).splitlines()[0]}')
                return self.step(real, z, **options)
            self.addresses = self._addresses()
        for rate, group in zip(self.rates, self._groups()):
            rate.fill_(group['lr'])
        graph, graph_real, graph_z, figures = self.graphs[name]
        graph_real.copy_(real)
        graph_z.copy_(z)
        graph.replay()
        return figures.clone()

    def _forget(self):
        """Start again, warm-up included: nothing recorded so far may be used, nor the memory it had."""
        self.graphs, self.counts, self.memory = {}, collections.Counter(), torch.cuda.graph_pool_handle()

    def _beside(self, *arguments, **options):
        """One step on a stream of its own, as graphs ask of the steps before them."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            figures = self.step(*arguments, **options)
        torch.cuda.current_stream().wait_stream(self.stream)
        return figures

    def _record(self, real, z, options):
        graph, real, z = torch.cuda.CUDAGraph(), real.clone(), z.clone()
        before = [group['lr'] for group in self._groups()]
        for optimizer in self.optimizers:
            optimizer.zero_grad()                        # gradients are then made where the graph has its memory
        try:
            for rate, group in zip(self.rates, self._groups()):
                group.update(lr=rate, capturable=True)   # read from the device, so that the rate can change
            with torch.cuda.graph(graph, pool=self.memory, stream=self.stream):
                figures = self.step(real, z, **options)
        finally:
            for rate, group in zip(before, self._groups()):
                group.update(lr=rate, capturable=False)
        return graph, real, z, figures


def _shared(D, G, device, sync_batch_norm):
    """Both networks under DistributedDataParallel: each backward pass averages its gradients over the processes."""
    if sync_batch_norm and device.type != 'cuda':
        print('sync_batch_norm is for GPUs: here each process normalises by its own share of the batch')
    elif sync_batch_norm:
        G = torch.nn.SyncBatchNorm.convert_sync_batchnorm(G)     # not D: it cannot be differentiated twice, for the penalty
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)   # new versions have another word for broadcast_buffers
        return [DistributedDataParallel(network, broadcast_buffers=False) for network in (D, G)]     # rank 0 saves its own


def _step_on_share(step, rank, size, real, z, **options):
    """All processes have the same batch and noise; each computes every size-th of it. Figures are the mean of all."""
    figures = step(real[rank::size], z[rank::size], **options)
    torch.distributed.all_reduce(figures)
    return figures / size


class Feed:
    """A loader's batches, (B, 3, s, s) in [0, 1], made on the device: float32 is made there, from bytes.

    The images of an ImageDataset are put on the device as uint8 if they take less than half of its free memory; else each
    batch is cut out and pinned while the device still computes the one before it. The loader's own sampler, batch_size
    and drop_last hold. Any other loader is read as it is. Under torchrun all processes get the
    same batches, and a remainder that cannot be shared equally is left out.
    """

    def __init__(self, loader, device, memory_format=torch.channels_last):
        self.memory_format = memory_format
        self.loader, self.device, self.images = loader, torch.empty(0, device=device).device, None
        types = type(loader), type(loader.dataset), type(loader.batch_sampler)
        if types == (DataLoader, ImageDataset, BatchSampler) and loader.collate_fn is ImageDataset.collate:
            self.images = loader.dataset.images
            if device.type == 'cuda' and 2 * self.images.nbytes < torch.cuda.mem_get_info(device)[0]:
                self.images = self.images.to(device)

    def __iter__(self):
        size = world()[1]
        for images in self._decoded() if self.images is None else self._cut_out():
            n_images = len(images) // size * size
            if n_images:
                batch = images[:n_images].to(torch.float32, memory_format=self.memory_format)
                yield batch.div_(255) if images.dtype == torch.uint8 else batch

    def _decoded(self):
        for images, *_ in self.loader:
            yield images.to(self.device)

    def _cut_out(self):
        torch.empty((), dtype=torch.int64).random_(generator=self.loader.generator)      # as DataLoader does: for the same
        # seed its batches and these are the same
        order = shared(torch.as_tensor(list(self.loader.sampler))).to(self.images.device)
        for chosen in order.split(self.loader.batch_size)[:len(self.loader)]:    # its length knows of drop_last
            images = self.images[chosen]
            yield images if images.device == self.device else images.pin_memory().to(self.device, non_blocking=True)
