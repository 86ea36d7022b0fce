"""Training on a GPU, and by several processes under torchrun: the programs are in children/."""
import re

import numpy as np
import pytest
import torch

from machinery.files import load_samples
from machinery.run import load_checkpoint
from tests.tools import (
    PROJECT,
    expect_close,
    global_names,
    needs_gpu,
    run_python,
    tiny_training,
    torchrun,
)

CHILDREN = PROJECT / 'tests/children'


@needs_gpu
def test_training_on_a_gpu(notebook, folder):
    """Everything on the GPU but the grids and files, which come back; resuming works there."""
    for n_epochs in (1, 2):
        D, G, names = tiny_training(vars(notebook))
        for network in (D, G):
            network.to('cuda', memory_format=torch.channels_last)
        names['d_optimizer'], names['g_optimizer'] = notebook.make_optimizers(D, G)
        names['train_on_gpu'] = True
        config = dict(flip=True, ema_decay=0.9, resume=True)
        with global_names(notebook.train, **names):
            losses = notebook.train(D, G, n_epochs, 1, config=config)
    assert len(losses) == 6 and np.isfinite(losses).all()
    assert all(grid.device.type == 'cpu' for grid in load_samples())


@pytest.mark.slow
def test_two_processes_train_as_one(folder):
    """Without batch normalisation, two processes give weights and figures of one, to rounding."""
    run_python(folder, CHILDREN / 'ranks.py', environment=dict(CUDA_VISIBLE_DEVICES=''))
    done = torchrun(folder, CHILDREN / 'ranks.py')
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('printed by one') == 1
    figures, weights = torch.load('out-0-of-1.pt')
    assert len(figures) == 6
    for rank in (0, 1):
        figures_of_rank, weights_of_rank = torch.load(f'out-{rank}-of-2.pt')
        expect_close('Figures', figures_of_rank, figures, 1e-4, rank=rank)
        expect_close('Weights', weights_of_rank, weights, 1e-4, rank=rank)


@pytest.mark.slow
def test_processes_end_in_peace(folder):
    """A script that ends right after its last message: gloo's threads end before Python does."""
    done = torchrun(folder, CHILDREN / 'brief.py', processes=4)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_dead_process_ends_the_job(folder):
    """One of two processes dies: the job ends by itself, with a failure that says which."""
    done = torchrun(folder, CHILDREN / 'ranks.py', '--rank-1-dies-at', 4)
    assert done.returncode != 0 and not list(folder.glob('out-*'))
    assert re.search(r'exitcode *: 3 ', done.stderr), done.stderr
    assert re.search(r'rank *: 1 ', done.stderr), done.stderr


@pytest.mark.slow
def test_notebook_under_torchrun(copy_of_project):
    """The exported notebook by two processes: one prints and writes; a second start goes on."""
    run_python(copy_of_project, '-m', 'nbconvert', '--to', 'script', 'dcgan_faces.ipynb')
    for n_epochs in (1, 2):
        environment = dict(DCGAN_PRESET=f'smoke n_epochs={n_epochs}', DCGAN_DATA='drawn',
                           MPLBACKEND='agg')
        done = torchrun(copy_of_project, 'dcgan_faces.py', environment=environment)
        assert done.returncode == 0, done.stderr
        assert len(re.findall(r'^epoch +\d+/', done.stdout, re.M)) == n_epochs
        continued = done.stdout.count('Continuing checkpoints_gan/ after epoch 1')
        assert continued == n_epochs - 1
        assert done.stdout.count("Preset 'smoke") == 1
        assert not list(copy_of_project.glob('checkpoints_gan-*'))
    saved = load_checkpoint(copy_of_project / 'checkpoints_gan')
    assert (saved['epoch'], saved['n_steps'], saved['images_seen']) == (2, 8, 128)


@pytest.mark.slow
def test_name_that_is_not_in_utf_8_ends_no_program(folder):
    """It stands in what is printed of a folder; a question mark is shown for it."""
    program = """import os; from machinery.devices import choose_device
choose_device()
print(os.fsdecode(b'caf\\xe9'))"""
    done = run_python(folder, '-c', program, environment=dict(PYTHONIOENCODING='utf-8:strict'))
    assert done.stdout == 'caf?\n' and done.returncode == 0, done.stderr
