"""Networks as the public solutions write them work with our tests and our training."""
import pickle
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

import problem_unittests
from tests.tools import global_names, tiny_training


class PublicD(nn.Module):
    """A discriminator with one argument, and layers by name."""

    def __init__(self, conv_dim):
        super().__init__()
        self.conv_dim = conv_dim
        self.conv1 = nn.Conv2d(3, conv_dim, 4, 2, 1, bias=False)
        self.conv2 = nn.Conv2d(conv_dim, conv_dim * 2, 4, 2, 1, bias=False)
        self.fc = nn.Linear(conv_dim * 2 * 8 * 8, 1)

    def forward(self, x):
        x = F.leaky_relu(self.conv1(x), 0.2)
        x = F.leaky_relu(self.conv2(x), 0.2)
        return self.fc(x.view(-1, self.conv_dim * 2 * 8 * 8))


class PublicG(nn.Module):
    """Its generator: it does not tell its z_size; the notebook's own global name does."""

    def __init__(self, z_size, conv_dim):
        super().__init__()
        self.fc = nn.Linear(z_size, conv_dim * 8 * 8)
        self.up1 = nn.ConvTranspose2d(conv_dim, conv_dim, 4, 2, 1)
        self.up2 = nn.ConvTranspose2d(conv_dim, 3, 4, 2, 1)

    def forward(self, z):
        x = self.fc(z).view(len(z), -1, 8, 8)
        return torch.tanh(self.up2(F.relu(self.up1(x))))


def test_networks_of_public_solutions_work(notebook, folder):
    """They pass the original tests and train in our loop, with the loader they came with."""
    problem_unittests.test_discriminator(PublicD)
    problem_unittests.test_generator(PublicG)
    _, _, names = tiny_training(vars(notebook))
    images, labels = next(iter(names['celeba_train_loader']))
    pairs = list(zip(images, labels, strict=True))
    names['celeba_train_loader'] = DataLoader(pairs, 3, shuffle=True)
    D, G = PublicD(4), PublicG(z_size=6, conv_dim=4)
    names['d_optimizer'], names['g_optimizer'] = notebook.make_optimizers(D, G)
    with global_names(notebook.train, **names):
        losses = notebook.train(D, G, n_epochs=2, print_every=1)
    assert len(losses) == 4
    assert len(pickle.loads(Path('train_samples.pkl').read_bytes())) == 2
