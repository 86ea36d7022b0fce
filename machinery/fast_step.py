"""The training step made fast from outside: bfloat16, a CUDA graph, a share of the batch."""
import collections
import functools

import torch

from . import devices
from .console import check_choice, setting
from .devices import random_state, set_random_state


def capture(step, D, G, d_optimizer, g_optimizer):
    """Make a training step fast; return it as a function of (real, z, **options).

    step       called as step(D, G, d_optimizer, g_optimizer, real, z, **options), where D and G may
               be wrapped networks; it knows nothing of what follows. What it returns is returned
    A GPU      computes in bfloat16, and one CUDA graph holds the whole step: no kernel waits for
               Python. The last batch of an epoch, where it is smaller, has a graph of its own.
    A CPU      computes in bfloat16 where it has instructions for it (avx512_bf16, amx_bf16), else
               in float32.
    torchrun   each process computes its share of the batch, the gradients are averaged, and the
               figures returned are the mean over all; there is no CUDA graph. See
               devices.distributed

    Weights, gradients and optimizers stay in float32. DCGAN_FAST=0 leaves the step as it is, but
    for the shares. Raises ValueError where it is neither 0 nor 1.
    """
    device = next(G.parameters()).device
    rank, n_processes = devices.world()
    wish = setting('DCGAN_FAST', '1')
    check_choice(('0', '1'), DCGAN_FAST=wish)
    fast = wish == '1'
    if fast and devices.has_bfloat16(device):
        D, G = _BFloat16(D), _BFloat16(G)
    if n_processes > 1:
        D, G = devices.distributed(D, G, device)
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


# --------------------------------------------------------------- a step recorded once, and replayed

# A replay agrees with the plain step if its figures differ by this much at most,
FIGURES_TOLERANCE = 0.05
# and its weights by this share of what the step changed. Adam divides by the size of a gradient, so
# where that is almost nothing, its rounding decides over the sign of a change.
WEIGHTS_TOLERANCE = 0.2


class Replayed:
    """A step that is replayed from recordings: one for each size of batch and set of options.

    step        called as step(real, z, **options)
    networks    all that it changes, but for
    optimizers  the optimizers, two or more
    recorder    warms up and records: CudaGraphs, or a stand-in in a test

    At its first replay a recording has to prove itself: the plain step is taken on the same batch,
    everything is put back, and both must agree. Where they do not, or where recording fails, a
    message says so, and from then on the plain step is taken.
    """

    WARM_UP = 3          # real training steps, taken before one is recorded

    def __init__(self, step, networks, optimizers, recorder):
        self.step = step
        self.networks = networks
        self.optimizers = optimizers
        self.recorder = recorder
        self.broken = False
        self._forget()

    def __call__(self, real, z, **options):
        if self.broken:
            return self.step(real, z, **options)
        if self.replays and self._addresses() != self.addresses:
            self._forget()
        kind = real.shape, *options.items()
        if kind in self.replays:
            return self.replays[kind](real, z)
        if self.counts[kind] < self.WARM_UP:
            self.counts[kind] += 1
            return self.recorder.warm_up(self.step, real, z, options)
        return self._record(kind, real, z, options)

    def _forget(self):
        """Start again, warm-up included: no recording may be used any more, nor its memory."""
        self.replays = {}
        self.counts = collections.Counter()
        self.recorder.forget()

    def _addresses(self):
        """Return where the optimizers keep their state: a recording does not see that it moved."""
        return [value.data_ptr() for value in self._optimizer_tensors()]

    def _optimizer_tensors(self):
        states = [state for each in self.optimizers for state in each.state.values()]
        values = [value for state in states for value in state.values()]
        return [value for value in values if torch.is_tensor(value)]

    def _network_tensors(self):
        return [value for each in self.networks for value in each.state_dict().values()]

    def _record(self, kind, real, z, options):
        """Record a step, check it on this batch, and return the figures of the one step taken."""
        try:
            replay = self.recorder.record(self.step, self.optimizers, real, z, options)
            figures = self._replay_beside_plain(replay, real, z, options)
        except (RuntimeError, AssertionError) as error:
            reason = (str(error) or repr(error)).splitlines()[0]
            print(f'No CUDA graph, hence the plain step from here on: {reason}')
            self.broken = True
            return self.step(real, z, **options)
        self.replays[kind] = replay
        self.addresses = self._addresses()
        return figures

    def _replay_beside_plain(self, replay, real, z, options):
        """Take the step plainly, put all back, replay it, and return its figures.

        Raises RuntimeError where they differ, when all is put back once more.
        """
        tensors = self._network_tensors() + self._optimizer_tensors()
        before = [value.clone() for value in tensors]
        random_before = random_state()

        def put_back():
            for value, kept in zip(tensors, before, strict=True):
                value.copy_(kept)
            set_random_state(random_before)

        start = self._weights()
        plain_figures = self.recorder.warm_up(self.step, real, z, options)
        plain = self._weights()
        put_back()
        figures = replay(real, z)
        difference = _difference(figures, plain_figures, self._weights(), plain, start)
        if difference:
            put_back()
            raise RuntimeError(f'it does not compute what the step computes ({difference})')
        return figures

    def _weights(self):
        weights = [weight for each in self.networks for weight in each.parameters()]
        return torch.cat([weight.detach().flatten() for weight in weights])


def _difference(figures, plain_figures, weights, plain, start):
    """Return in words where a replay differs from the plain step; '' if it does not."""
    off = (figures - plain_figures).abs().max().item()
    if not off <= FIGURES_TOLERANCE:                 # also where it is not a number
        return f'figures differ by {off:.3g}, {FIGURES_TOLERANCE} is allowed'
    change = (plain - start).norm()
    share = ((weights - plain).norm() / change.clamp(min=1e-12)).item()
    if not share <= WEIGHTS_TOLERANCE:
        return (f'weights differ by {share:.3g} of what the step changes, '
                f'{WEIGHTS_TOLERANCE} is allowed')
    return ''


class CudaGraphs:
    """Records a step as one CUDA graph, so that no kernel waits for Python."""

    def __init__(self):
        self.stream = torch.cuda.Stream()
        self.rates = {}              # id of a parameter group: its learning rate on the device
        self.forget()

    def forget(self):
        """Give up the memory that the graphs share; they can, for they run one after the other."""
        self.memory = torch.cuda.graph_pool_handle()

    def warm_up(self, step, real, z, options):
        """Take one step on a stream of its own, as graphs ask of the steps before them."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            figures = step(real, z, **options)
        torch.cuda.current_stream().wait_stream(self.stream)
        return figures

    def record(self, step, optimizers, real, z, options):
        """Record one step, without taking it; return a function of (real, z) that replays it."""
        graph = torch.cuda.CUDAGraph()
        graph_real, graph_z = real.clone(), z.clone()
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        rates = [self._rate_on_device(group) for group in groups]
        rates_before = [group['lr'] for group in groups]
        for optimizer in optimizers:
            optimizer.zero_grad()            # gradients are then made in the memory of the graph
        try:
            for rate, group in zip(rates, groups, strict=True):
                group.update(lr=rate, capturable=True)   # read on the device: it may change
            with torch.cuda.graph(graph, pool=self.memory, stream=self.stream):
                figures = step(graph_real, graph_z, **options)
        finally:
            for rate, group in zip(rates_before, groups, strict=True):
                group.update(lr=rate, capturable=False)

        def replay(real, z):
            for rate, group in zip(rates, groups, strict=True):
                rate.fill_(group['lr'])
            graph_real.copy_(real)
            graph_z.copy_(z)
            graph.replay()
            return figures.clone()
        return replay

    def _rate_on_device(self, group):
        if id(group) not in self.rates:
            self.rates[id(group)] = torch.zeros((), device=group['params'][0].device)
        return self.rates[id(group)]
