"""A stage of experiments.gpu: the least time a step can take, and how near ours comes to it."""
import statistics

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from experiments.gpu_checks import REPEATS, on_gpu, save, spread

# The bench is imported within functions: it looks for the GPU as soon as it is imported.


class Traffic(TorchDispatchMode):
    """Counts operations, and the bytes that they read and write, as if there were no caches."""

    def __init__(self):
        super().__init__()
        self.n_operations = 0
        self.n_bytes = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        result = function(*arguments, **options)
        returns = [value.alias_info for value in function._schema.returns]
        is_view = any(alias and not alias.is_write for alias in returns)
        if is_view or 'empty' in function._schema.name:
            return result
        self.n_operations += 1
        read = [*tree_leaves(arguments), *tree_leaves(options)]
        written = []
        if not any(returns):
            written = tree_leaves(result)
        for value, declared in zip(arguments, function._schema.arguments, strict=False):
            if declared.alias_info and declared.alias_info.is_write:
                written += tree_leaves(value)
        self.n_bytes += sum(bytes_of(value) for value in [*read, *written])
        return result


def bytes_of(value):
    """Return how much memory a tensor takes; 0 for anything else."""
    if not torch.is_tensor(value):
        return 0
    # An expanded tensor has more elements than memory.
    return min(value.numel() * value.element_size(), value.untyped_storage().nbytes())


def floor(task):
    """Hold the time of a step against what its arithmetic, its memory and its launches must take.

    The largest of the three is the floor. The bytes are those of a step whose operations pass
    everything through memory; fused ones need fewer. A launch is one operation of such a step.
    """
    from experiments import bench, bench_loops
    from experiments.bench_timing import CUDA, FAST, timed
    points = [(64, 64, 128), (32, 32, 128), (64, 64, 16), (32, 32, 16)]
    if task.rehearse:
        bench.make_tiny()
        points = [(32, 4, 8)]
    peak = bench.peak_of(FAST) * 1e12
    bandwidth = measure_bandwidth(2 ** 29 if CUDA else 2 ** 22)
    launch = seconds_of_launch()
    save(task, 'floor', [
        dict(what=f'large products in {FAST}', value=peak / 1e12, unit='TFLOP/s', repeats=10),
        dict(what='copies of large tensors', value=bandwidth / 1e9, unit='GB/s', repeats=10),
        dict(what='a tiny kernel', value=launch * 1e6, unit='us', repeats=10)])
    for size, width, batch in points:
        D, G = bench_loops.make_networks(size, width)
        step = bench_loops.captured_step(D, G)
        real = torch.rand(batch, 3, size, size, device=bench_loops.DEVICE)
        real = real.contiguous(memory_format=torch.channels_last)
        z = torch.randn(batch, bench_loops.Z_SIZE, device=bench_loops.DEVICE)

        def take(n, step=step, real=real, z=z):
            for _ in range(n):
                step(real, z)
        take(2)
        with Traffic() as traffic:
            getattr(step, 'step', step)(real, z)
        take(10)                 # until it is recorded
        n_steps = max(1, round(0.3 / max(timed(take, 5) / 5, 1e-6)))
        if task.rehearse:
            n_steps = 1
        seconds = [timed(take, n_steps) / n_steps for _ in range(REPEATS)]
        flop = bench_loops.count_mflop(size, width, ours=True) * batch * 1e6
        floors = dict(arithmetic=flop / peak, memory=traffic.n_bytes / bandwidth,
                      launches=traffic.n_operations * launch)
        save_floors(task, bench.describe(size, width, batch), seconds, floors, batch)


def save_floors(task, setting, seconds, floors, batch):
    """Save the time of a step, its three floors, and the share of the highest that it reaches."""
    microseconds = [1e6 * value for value in seconds]
    rows = [dict(spread(microseconds), what=f'{setting}: a step', unit='us')]
    for name, value in floors.items():
        rows.append(dict(what=f'{setting}: floor of {name}', value=1e6 * value, unit='us'))
    limit = max(floors, key=floors.get)
    share = floors[limit] / statistics.median(seconds)
    rows.append(dict(what=f'{setting}: share reached of the floor of {limit}', value=share))
    save(task, 'floor', rows)
    print(f'{setting}: {batch / statistics.median(seconds):,.0f} images/s, {share:.0%} of what '
          f'its {limit} would allow')


def measure_bandwidth(n_floats):
    """Return the bytes/s that a large copy reads and writes: the best of ten."""
    from experiments.bench_timing import DEVICE, timed
    source = torch.ones(n_floats, device=DEVICE)
    target = torch.empty_like(source)
    return 8 * n_floats / min(timed(target.copy_, source) for _ in range(10))


def seconds_of_launch(n=1000):
    """Return what a tiny kernel takes in a row of many: in a CUDA graph, or on a CPU as it is."""
    from experiments.bench_timing import DEVICE, timed
    number = torch.zeros(1, device=DEVICE)

    def add():
        for _ in range(n):
            number.add_(1)
    add()
    if not on_gpu():
        return min(timed(add) for _ in range(10)) / n
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        add()
    return min(timed(graph.replay) for _ in range(10)) / n
