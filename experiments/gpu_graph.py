"""A stage of experiments.gpu: is the step replayed as one graph, and does it compute the same?"""
import collections
import functools

import torch

import helpers
from experiments.gpu_checks import on_gpu, save
from machinery.fast_step import Replayed

N_COMPARED = 50               # steps over which plain and captured ones are compared
TOLERANCE = 0.1               # of their figures
OWN_KERNELS = 8               # at most so many may a replayed step launch beside its graph


class ByHand:
    """Stands in for CUDA graphs where there is no GPU: its replay takes the plain step."""

    def forget(self):
        pass

    def warm_up(self, step, real, z, options):
        return step(real, z, **options)

    def record(self, step, optimizers, real, z, options):
        return functools.partial(step, **options)


def make_step(notebook, networks):
    """Return (captured step, the same step without a graph) on networks D and G."""
    optimizers = notebook.make_optimizers(*networks)
    captured = helpers.capture(notebook.train_step, *networks, *optimizers)
    if not isinstance(captured, Replayed):
        captured = Replayed(captured, networks, optimizers, ByHand())
    return captured, captured.step


def graph(task):
    """Count what a replayed step launches; compare 50 captured steps with 50 plain ones."""
    from experiments import bench_loops as loops
    size, width, batch = (32, 4, 4) if task.rehearse else (64, 64, 16)
    captured, plain = make_step(loops.notebook, loops.make_networks(size, width))
    real = torch.rand(batch, 3, size, size, device=loops.DEVICE) * 2 - 1
    real = real.contiguous(memory_format=torch.channels_last)
    z = torch.randn(batch, loops.Z_SIZE, device=loops.DEVICE)
    for _ in range(6):
        captured(real, z)
    if captured.broken or len(captured.replays) != 1:
        raise SystemExit('After six steps there is no recording: see the message above.')
    n = 10
    counted = count_launches(functools.partial(captured, real, z), n)
    counted_plain = count_launches(functools.partial(plain, real, z), n)
    save(task, 'graph', [
        dict(what='graphs launched by a replayed step', value=counted['graphs'] / n),
        dict(what='kernels launched beside its graph', value=counted['kernels'] / n),
        dict(what='copies and fills beside its graph', value=counted['copies'] / n),
        dict(what='kernels launched by a plain step', value=counted_plain['kernels'] / n)])
    figures = compare_steps(task, loops, size, width, batch)
    fault = ''
    if on_gpu():
        fault = fault_in_launches(counted, counted_plain, n)
    if not figures <= TOLERANCE:
        fault += f' Over {N_COMPARED} steps figures differ by {figures:.3g}, too much.'
    if fault:
        raise SystemExit(fault.strip())
    launches = (f'a replayed step launches one graph and {counted["kernels"] / n:g} kernels, a '
                f'plain one {counted_plain["kernels"] / n:g}')
    if not on_gpu():
        launches = 'NO GPU: launches were not counted'
    print(f'{launches}; over {N_COMPARED} steps, captured and plain figures differ by at most '
          f'{figures:.2g}')


def count_launches(step, n):
    """Return how many graphs, kernels and copies n calls of step launch, as torch.profiler sees it.

    What a graph launches on the device by itself is not among them. Without a GPU all are 0.
    """
    activities = [torch.profiler.ProfilerActivity.CPU]
    if on_gpu():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(n):
            step()
        if on_gpu():
            torch.cuda.synchronize()
    return kinds_of_launches(event.name for event in profiler.events())


def kinds_of_launches(names):
    """Return a Counter of graphs, kernels and copies among the names of CUDA's calls."""
    starts = dict(graphs=('cudaGraphLaunch', 'cuGraphLaunch'),
                  kernels=('cudaLaunch', 'cuLaunch'),
                  copies=('cudaMemcpy', 'cuMemcpy', 'cudaMemset', 'cuMemset'))
    counted = collections.Counter()
    for name in names:
        for kind, start in starts.items():
            if name.startswith(start):
                counted[kind] += 1
    return counted


def fault_in_launches(counted, counted_plain, n):
    """Return in words why n steps that launched this were not replays of one graph; '' if so."""
    if counted_plain['kernels'] < n:
        return ('The profiler saw no kernels in the plain step, so it proves nothing: may this '
                'user read the counters of the GPU (CUPTI)?')
    if counted['graphs'] != n:
        return f'{n} replayed steps launched {counted["graphs"]} graphs, expected {n}.'
    if counted['kernels'] > OWN_KERNELS * n:
        return (f'A replayed step launches {counted["kernels"] / n:g} kernels beside its graph, '
                f'expected at most {OWN_KERNELS}.')
    return ''


def compare_steps(task, loops, size, width, batch):
    """Train 50 steps captured, plain, and plain again; save how far apart they end.

    Returns the largest difference of figures between captured and plain steps.
    """
    outcomes = {}
    for name in ('captured', 'plain', 'plain again'):
        networks = loops.make_networks(size, width)
        captured, plain = make_step(loops.notebook, networks)
        step = captured if name == 'captured' else plain
        outcomes[name] = take_steps(step, networks, size, batch, loops.Z_SIZE)
    rows = []
    for name, other in (('captured', 'plain'), ('plain again', 'plain')):
        figures, weights = outcomes[name]
        other_figures, other_weights = outcomes[other]
        off = (figures - other_figures).abs().max().item()
        share = ((weights - other_weights).norm() / other_weights.norm()).item()
        what = f'{N_COMPARED} steps, {name} against {other}'
        rows += [dict(what=f'{what}: largest difference of figures', value=off),
                 dict(what=f'{what}: difference of weights, share of their norm', value=share)]
    save(task, 'graph', rows)
    return rows[0]['value']


def take_steps(step, networks, size, batch, z_size):
    """Take 50 steps, each fourth with the penalty; return (figures, weights in one vector)."""
    target = next(networks[0].parameters()).device
    numbers = torch.Generator().manual_seed(0)
    faces = helpers.drawn_faces(4 * batch, size).float() / 127.5 - 1
    figures = []
    for number in range(N_COMPARED):
        chosen = torch.randperm(len(faces), generator=numbers)[:batch]
        real = faces[chosen].to(target, memory_format=torch.channels_last)
        z = torch.randn(batch, z_size, generator=numbers).to(target)
        penalty = 0.1 if number % 4 == 0 else 0
        figures.append(step(real, z, objective='bce', penalty=penalty))
    weights = [weight.detach().flatten() for network in networks for weight in network.parameters()]
    return torch.stack(figures).cpu(), torch.cat(weights).cpu()
