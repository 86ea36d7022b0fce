"""What the benchmark measures: the public solutions' loop, re-implemented, and ours.

A function called build_... returns run(n), which does n units of work on networks of the same
weights.
"""
import copy
import itertools
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms
from torchvision.datasets import ImageFolder

import helpers
from experiments import common
from experiments.bench_timing import DEVICE, SEED
from experiments.settings import RECIPE

BATCH, Z_SIZE = 128, 100
PRINT_EVERY = 50         # steps between two looks at the losses; each waits for the device
notebook = common.notebook_definitions()
# The public solutions ask for four workers, also where there are fewer cores.
warnings.filterwarnings('ignore', 'This DataLoader will create 4 worker')

# ---------------------------------------------------------------------------------- the public loop


def public_loader(folder, size, n_images, n_workers, batch=BATCH):
    """Open, resize and turn to float32 every image anew in every epoch."""
    transform = transforms.Compose([transforms.Resize(size), transforms.ToTensor()])
    images = Subset(ImageFolder(folder, transform), range(n_images))
    return DataLoader(images, batch, shuffle=True, num_workers=n_workers)


def public_optimizers(D, G, foreach=False):
    options = dict(lr=2e-4, betas=(0.5, 0.999), foreach=foreach)
    return [torch.optim.Adam(network.parameters(), **options) for network in (D, G)]


def public_step(D, G, d_optimizer, g_optimizer, real, detach=False, once=False, on_device=False):
    """Take one training step as the public solutions take it, in our words; return both losses.

    Each flag mends one thing: detach ends D's half at the picture, once makes fakes once for both
    halves (it needs detach), on_device makes noise and labels on the device.
    """
    d_optimizer.zero_grad()
    real_loss = public_loss(D(real), 1.0, on_device)
    fake = G(public_noise(len(real), real.device, on_device))
    d_loss = real_loss + public_loss(D(fake.detach() if detach else fake), 0.0, on_device)
    d_loss.backward()
    d_optimizer.step()

    g_optimizer.zero_grad()
    if not once:
        fake = G(public_noise(len(real), real.device, on_device))
    g_loss = public_loss(D(fake), 1.0, on_device)
    g_loss.backward()
    g_optimizer.step()
    return d_loss, g_loss


def public_loss(logits, label, on_device):
    labels = torch.full((len(logits),), label, device=logits.device if on_device else 'cpu')
    return torch.nn.BCEWithLogitsLoss()(logits.squeeze(), labels.to(logits.device))


def public_noise(n, device, on_device):
    if on_device:
        return torch.rand(n, Z_SIZE, device=device) * 2 - 1
    return torch.from_numpy(np.random.uniform(-1, 1, (n, Z_SIZE))).float().to(device)


def build_public_epochs(size, width, loader, foreach=False):
    """Make the public loop; a unit is an epoch of the loader."""
    D, G = make_networks(size, width, channels_last=False)
    optimizers = public_optimizers(D, G, foreach)

    def run(n_epochs):
        for _ in range(n_epochs):
            for number, (images, _) in enumerate(loader):
                real = notebook.scale(images).to(DEVICE)
                losses = public_step(D, G, *optimizers, real)
                look_at(losses, number)
    return run


# --------------------------------------------------------------------------------------------- ours


def make_networks(size, width, device=DEVICE, channels_last=True):
    """Return D and G, with the same weights at every call."""
    torch.manual_seed(SEED)
    np.random.seed(SEED)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    networks = notebook.Discriminator(width, size), notebook.Generator(Z_SIZE, width, size)
    for network in networks:
        network.apply(notebook.weights_init_normal).to(device, memory_format=memory_format)
    return networks


def look_at(losses, number):
    """Read both losses now and then, as every loop does: it waits for the device."""
    if number % PRINT_EVERY == 0:
        for loss in losses[:2]:
            loss.item()


def captured_step(D, G):
    """Return our training step with our optimizers, made fast."""
    return helpers.capture(notebook.train_step, D, G, *notebook.make_optimizers(D, G))


def make_step(size, width, batch):
    """Return (captured step, a batch of noise in place of images, noise for the generator)."""
    step = captured_step(*make_networks(size, width))
    real = torch.rand(batch, 3, size, size, device=DEVICE)
    real = real.contiguous(memory_format=torch.channels_last)
    return step, real, torch.randn(batch, Z_SIZE, device=DEVICE)


def build_steps(size, width, real, adam='loop', detach=False, once=False, on_device=False,
                ours=False, channels_last=False, bfloat16=False, graph=False, compiled=False):
    """Make training steps on one batch; a unit is a step. Each flag is a rung of the ladder."""
    D, G = make_networks(size, width, real.device, channels_last)
    if adam == 'fused':
        optimizers = notebook.make_optimizers(D, G)
    else:
        optimizers = public_optimizers(D, G, foreach=adam == 'foreach')
    if compiled:
        D.compile(dynamic=False)
        G.compile(dynamic=False)
    if channels_last:
        real = real.contiguous(memory_format=torch.channels_last)
    captured = None
    if bfloat16 or graph:
        captured = helpers.capture(notebook.train_step, D, G, *optimizers)

    def step():
        if not ours:
            return public_step(D, G, *optimizers, real, detach, once, on_device)
        z = torch.randn(len(real), Z_SIZE, device=real.device)
        if captured is None:
            return notebook.train_step(D, G, *optimizers, real, z)
        if graph:
            return captured(real, z)
        return getattr(captured, 'step', captured)(real, z)      # .step: what a graph would record

    numbers = itertools.count()

    def run(n_steps):
        for number in itertools.islice(numbers, n_steps):
            look_at(step(), number)

    run.captured = captured if graph else None
    return run


def build_epochs(size, width, loader):
    """Make our loop without its files; a unit is an epoch of the loader.

    It mirrors images and averages weights, which the public loop does not.
    """
    D, G = make_networks(size, width)
    average = copy.deepcopy(G)
    step = captured_step(D, G)
    batches = helpers.DeviceLoader(loader, DEVICE)

    def run(n_epochs):
        for _ in range(n_epochs):
            for number, images in enumerate(batches):
                z = torch.randn(len(images), Z_SIZE, device=DEVICE)
                figures = step(notebook.random_flip(notebook.scale(images)), z)
                notebook.update_average(average, G, RECIPE['ema_decay'])
                look_at(figures, number)
    return run


def build_fed_steps(size, width, batch, images):
    """Make our steps on what DeviceLoader gives, epoch after epoch; a unit is a step."""
    D, G = make_networks(size, width)
    step = captured_step(D, G)
    epochs = itertools.repeat(helpers.DeviceLoader(loader_of(images, batch), DEVICE))
    batches = itertools.chain.from_iterable(epochs)

    def run(n_steps):
        for real in itertools.islice(batches, n_steps):
            step(notebook.scale(real), torch.randn(batch, Z_SIZE, device=DEVICE))
    return run


def count_mflop(size, width, batch=4, **changes):
    """Return a step's arithmetic for one image, in millions of operations.

    A multiplication and its addition are two. changes are those of build_steps; most of them leave
    the arithmetic as it is.
    """
    chosen = {name: changes[name] for name in ('detach', 'once', 'ours') if name in changes}
    run = build_steps(size, width, torch.rand(batch, 3, size, size), **chosen)
    with FlopCounterMode(display=False) as counter:
        run(1)
    return counter.get_total_flops() / batch / 1e6


# ----------------------------------------------------------------------------------------- the data


def write_faces(folder, n_images):
    """Write drawn faces as JPEGs of 64x64, in the layout that ImageFolder asks for."""
    (folder / 'celeba').mkdir(parents=True)
    images = helpers.drawn_faces(n_images, 64, SEED).permute(0, 2, 3, 1).numpy()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f'celeba/{number:06}.jpg', quality=92)


def loader_of(images, batch, drop_last=True):
    """Return a shuffling loader of images, uint8 (N, 3, s, s), such as the notebook makes."""
    dataset = helpers.ImageDataset(images)
    return DataLoader(dataset, batch, shuffle=True, drop_last=drop_last, collate_fn=dataset.collate)


def notebook_loader(size, folder, n_images=None):
    with common.silence():
        return notebook.get_dataloader(BATCH, size, folder, 'faces', n_images)


def build_passes(batches):
    """Make passes over a loader that do nothing with its batches."""
    def run(n_passes):
        for _ in range(n_passes):
            for _ in batches:
                pass
    return run


def build_calls(function, *arguments):
    """Make calls of a function, whose printing is left out."""
    def run(n_calls):
        for _ in range(n_calls):
            with common.silence():
                function(*arguments)
    return run


def build_decoding(folder, size):
    """Return {row: run} of the first decoding of a folder, and of reading its cache."""
    return {'ours: the first decoding, cache written': build_calls(decode_first, folder, size),
            'ours: opening the cache': build_calls(helpers.decode_folder, folder, size)}


def decode_first(folder, size):
    """Decode all images of a folder and write the cache."""
    with tempfile.TemporaryDirectory() as fresh:      # a link in a new folder, which has no cache
        os.symlink(folder, Path(fresh) / 'faces')
        helpers.decode_folder(fresh, size)
