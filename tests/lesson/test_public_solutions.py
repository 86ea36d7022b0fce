"""Networks as the public solutions write them work with our tests and our training."""
import pickle
from pathlib import Path

import nbformat
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

import problem_unittests
from machinery.devices import to_device
from machinery.files import load_samples, save_samples
from machinery.lesson import call_train
from machinery.pictures import plot_distance, plot_losses
from machinery.run import load_history
from tests.lesson.test_notebook import called_tests, run_notebook
from tests.tools import (
    NOTEBOOK,
    PROJECT,
    global_names,
    numbers_of,
    run_training,
    tiny_training,
)


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


@pytest.mark.parametrize('whose_loader', ['theirs', 'ours'])
def test_networks_of_public_solutions_work(notebook, folder, whose_loader):
    """They pass the original tests, train in our loop, and draw faces from its checkpoints."""
    problem_unittests.test_discriminator(PublicD)
    problem_unittests.test_generator(PublicG)
    _, _, names = tiny_training(vars(notebook), n_images=4)
    if whose_loader == 'theirs':
        images, labels = next(iter(names['celeba_train_loader']))
        pairs = list(zip(images, labels, strict=True))
        names['celeba_train_loader'] = DataLoader(pairs, 3, shuffle=True)
    D, G = PublicD(4), PublicG(z_size=6, conv_dim=4)
    images, _ = next(iter(names['celeba_train_loader']))
    to_device(D, G, torch.device('cpu'), images, z_size=6)
    names['d_optimizer'], names['g_optimizer'] = notebook.make_optimizers(D, G)
    with global_names(notebook.train, **names):
        losses = notebook.train(D, G, 2, 1, config=dict(g_conv_dim=4, img_size=32))
    assert len(losses) == 2 * len(names['celeba_train_loader'])
    assert len(pickle.loads(Path('train_samples.pkl').read_bytes())) == 2
    notebook.Generator = PublicG
    assert notebook.sample_faces(3, seed=1).shape == (3, 3, 32, 32)


# -------------------------------------------------------------------------------------- losses


def least_squares(target, reduce=torch.mean):
    """A loss that asks for this logit; a smooth one asks for a little less."""
    def loss(D_out, smooth=False):
        return reduce((D_out - target * (0.9 if smooth else 1.0)) ** 2)
    return loss


def test_other_losses_are_losses(capsys):
    """Least squares pass, and the test says what they are not; wrong ones fail by name."""
    problem_unittests.test_losses(least_squares(1), least_squares(0))
    problem_unittests.test_losses(least_squares(1), least_squares(-1))
    said = capsys.readouterr().out
    assert said.count('Tests Passed') == said.count('The losses are not cross-entropy') == 2
    with pytest.raises(AssertionError, match='real_loss of logits -3.0 and -2.0'):
        problem_unittests.test_losses(least_squares(-5), least_squares(0))
    with pytest.raises(AssertionError, match='fake_loss of logits 3.0 and 2.0'):
        problem_unittests.test_losses(least_squares(1), least_squares(4))
    with pytest.raises(AssertionError, match='fake_loss of the same logits four times'):
        problem_unittests.test_losses(least_squares(1), least_squares(0, torch.sum))


# ---------------------------------------------------------------------------------------- a loop


def test_loop_from_elsewhere_is_kept_as_a_run(notebook, folder, capsys):
    """What looks at a run finds its losses and its generator, and not those of an earlier run."""
    run_training(notebook, 3)
    D, G, names = tiny_training(vars(notebook), seed=5)

    def train(D, G, n_epochs, print_every=50):
        save_samples([notebook.generate(G, torch.randn(16, 6)) for _ in range(n_epochs)])
        return [(1.5, 0.5)] * 2 * n_epochs

    config = dict(z_size=6, g_conv_dim=4, img_size=32)
    losses = call_train(train, D, G, 2, 1, None, None, config)
    history = load_history()
    assert losses == [(1.5, 0.5)] * 4 and history['d_loss'].tolist() == [1.5] * 4
    assert len(history['distances']) == 0 and history['per_epoch'].tolist() == [2, 2]
    assert torch.equal(numbers_of(notebook.load_generator()), numbers_of(G))
    assert len(load_history('checkpoints_gan-1')['d_loss']) == 9
    assert len(load_samples('checkpoints_gan-1/train_samples.pkl')) == 3
    plot_losses(history)
    plot_distance(history, 0.1)
    assert 'No distance to real faces was measured' in capsys.readouterr().out


# ---------------------------------------------------------------------------------- a whole set


def public_cells():
    """{id of a cell: source} of what people paste over it."""
    text = (PROJECT / 'tests/lesson/public_set.txt').read_text(encoding='utf-8')
    _, *parts = text.split('\n# %% ')
    return dict(part.split('\n', 1) for part in parts)


@pytest.mark.slow
def test_public_set_runs_from_top_to_bottom(copy_of_project):
    """Pasted over ours, every cell runs, and those after the training show what it made."""
    cells = public_cells()
    notebook = nbformat.read(copy_of_project / NOTEBOOK.name, as_version=4)
    for cell in notebook.cells:
        cell.source = cells.get(cell.id, cell.source)
    printed, pictures = run_notebook(notebook, copy_of_project)
    assert set(cells) <= {cell.id for cell in notebook.cells}
    code = [cell for cell in notebook.cells if cell.cell_type == 'code']
    assert printed.count('Tests Passed') == len(called_tests(code)) and pictures >= 6
    assert 'build_network takes no img_size, d_batch_norm: left out.' in printed
    assert 'its networks and losses are in checkpoints_gan/' in printed
    assert len(load_samples(copy_of_project / 'train_samples.pkl')) == 2
