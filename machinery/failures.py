"""What can go wrong in training: told apart, and answered."""
import contextlib
import signal
import threading

import torch
from torch import distributed as dist


class Terminated(KeyboardInterrupt):
    """The process was told to end (SIGTERM)."""

    STATUS = 128 + signal.SIGTERM            # what a shell gives for it


def _terminate(*_):
    raise Terminated


@contextlib.contextmanager
def termination_as_interrupt():
    """Within this block the end of the process (SIGTERM) is an interrupt like Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield                                # only the main thread may handle signals
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def check_optimizers(parts):
    """Raise ValueError unless each network's optimizer holds all of its parameters."""
    for network, optimizer in (('D', 'd_optimizer'), ('G', 'g_optimizer')):
        if optimizer not in parts:
            continue
        held = {id(parameter) for group in parts[optimizer].param_groups
                for parameter in group['params']}
        wanted = [parameter for parameter in parts[network].parameters() if parameter.requires_grad]
        if any(id(parameter) not in held for parameter in wanted):
            raise ValueError(f'{optimizer} does not hold the parameters of {network}: training '
                             f'would not change them. Run the cell with make_optimizers again.')


def check_figures(figures):
    """Raise TypeError for what a training step must not return; this does not wait for a GPU."""
    if torch.is_tensor(figures) and figures.shape == (4,):
        return
    found = f'a tensor of shape {tuple(figures.shape)}' if torch.is_tensor(figures) else figures
    raise TypeError(f'train_step: expected a tensor of four figures: d_loss, g_loss, and the means '
                    f'of D(x) and D(G(z)); found {found!s:.100}. End it with: return '
                    f'torch.stack([d_loss, g_loss, *judged]).detach()')


def all_finite(parts, *tensors):
    """Say whether the tensors and all numbers of the networks among parts are finite."""
    networks = [part for part in parts.values() if isinstance(part, torch.nn.Module)]
    weights = [value for network in networks for value in network.state_dict().values()]
    return all(values.isfinite().all() for values in (*tensors, *weights))


def in_our_words(error, run):
    """Return what a user is told instead of an error that we understand; None for any other."""
    saved, folder = run.checkpoints.saved, run.checkpoints.folder
    if run.n_processes > 1 and has_lost_a_process(error):
        return RuntimeError(
            f'Rank {run.rank} has lost another process of this job, so it ends. All up to the end '
            f'of epoch {saved} is in {folder}/; start torchrun again to go on.')
    if is_out_of_memory(error) and run.batch_shape:
        batch_size, _, size, _ = run.batch_shape
        message = f'Out of memory with batch_size {batch_size} at {size}x{size}'
        if run.n_processes > 1:              # to try would be to wait for the other processes
            return MemoryError(f'{message}, on rank {run.rank} of {run.n_processes}. Halve it.')
        fits = batch_that_fits(run.parts['D'], run.parts['G'], run.progress.fixed_z, batch_size)
        smaller = f'; or take img_size = {size // 2}' if size > 32 else ''
        return MemoryError(f'{message}. batch_size that fits at this size, by trying: {fits}'
                           f'{smaller}. All up to epoch {saved} is in {folder}/.')
    return None


def is_out_of_memory(error):
    """Tell by its type; the CPU's allocator alone raises a RuntimeError like any other."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def has_lost_a_process(error):
    """Tell, under torchrun, by its type; gloo alone raises a RuntimeError like any other."""
    if isinstance(error, dist.DistError):
        return True
    gloo = 'gloo' in str(error) or 'Connection' in str(error)
    return isinstance(error, RuntimeError) and gloo


def batch_that_fits(D, G, z, batch_size):
    """After running out of memory, find by trying the batch size that fits, or say 'none'.

    z  (n, z_size), of which one is repeated
    """
    z = z[:1].to(next(G.parameters()).device)
    while batch_size > 1:
        batch_size //= 2
        try:
            images = G(z.expand(2 * batch_size, -1))     # as many as real and fake ones together
            D(images).sum().backward()
            return batch_size
        except (MemoryError, RuntimeError):
            continue
    return 'none'


def optimizers_among(parts):
    return [part for part in parts.values() if hasattr(part, 'param_groups')]


def highest_learning_rate(parts):
    """Return the highest learning rate of the optimizers among parts."""
    optimizers = optimizers_among(parts)
    return max(float(group['lr']) for each in optimizers for group in each.param_groups)


def lower_learning_rates(parts, factor):
    """Multiply all learning rates, and those that a schedule starts from."""
    for optimizer in optimizers_among(parts):
        for group in optimizer.param_groups:
            for name in ('lr', 'initial_lr'):
                if name in group:
                    group[name] *= factor


def what_went_bad(steps):
    """Return the losses of the first step whose figures are not finite, in words.

    steps  (n, 4), figures of an epoch; where only weights went bad, the first step is named
    """
    bad = steps[~steps.isfinite().all(1)]
    first = bad[0] if len(bad) > 0 else steps[0]
    d_loss, g_loss = first[:2].tolist()
    return f'numbers went bad (d_loss {d_loss:.4g}, g_loss {g_loss:.4g})'
