"""Train a D without batch normalisation by one process, or by several under torchrun.

python ranks.py [--rank-1-dies-at STEP]    writes out-RANK-of-SIZE.pt into the current folder
"""
import argparse
import os

import torch
from torch import nn
from torch.utils.data import DataLoader

from machinery import devices
from machinery.batches import DeviceLoader, ImageDataset
from machinery.drawn import drawn_faces
from machinery.fast_step import capture
from machinery.lesson import load_definitions
from tests.tools import NOTEBOOK, numbers_of


def networks(notebook):
    torch.manual_seed(0)
    D = notebook.Discriminator(4, batch_norm=False)
    G = nn.Sequential(nn.Linear(6, 256), nn.Unflatten(1, (16, 4, 4)),
                      nn.ConvTranspose2d(16, 3, 8, 8), nn.Tanh())
    return D, G


def main(dies_at):
    notebook = load_definitions(NOTEBOOK)
    devices.has_bfloat16 = lambda device: False          # its rounding would hide differences
    device = devices.choose_device()
    rank, n_processes = devices.world()
    D, G = networks(notebook)
    d_optimizer, g_optimizer = notebook.make_optimizers(D, G, 1e-3)
    step = capture(notebook.train_step, D, G, d_optimizer, g_optimizer)
    faces = ImageDataset(drawn_faces(11, 32))
    loader = DataLoader(faces, 4, shuffle=True, collate_fn=faces.collate)
    device_loader = DeviceLoader(loader, device)
    figures = []
    number = 0
    for _ in range(3):
        for images in device_loader:
            if rank == 1 and number == dies_at:
                os._exit(3)
            if len(images) == 4:                         # not the last one: it cannot be shared
                penalty = 0.1 if number % 2 else 0
                figures.append(step(images * 2 - 1, torch.randn(4, 6), penalty=penalty))
            number += 1
    weights = torch.cat([numbers_of(D), numbers_of(G)])
    torch.save((torch.stack(figures), weights), f'out-{rank}-of-{n_processes}.pt')
    print('printed by one')


parser = argparse.ArgumentParser()
parser.add_argument('--rank-1-dies-at', type=int)
main(parser.parse_args().rank_1_dies_at)
