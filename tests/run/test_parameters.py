"""Parameters changed in a kernel that has run: what counts is kept, and what to run is said."""
import shutil
import types
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from machinery.batches import DeviceLoader, ImageDataset
from machinery.drawn import drawn_faces
from machinery.lesson import call_train
from machinery.parameters import QUICK, config_of
from machinery.run import load_checkpoint
from tests.tools import Acting, global_names, going_bad_once, numbers_of, raises, tiny_training


class Kernel:
    """A notebook whose cells can be run again, one by one: each makes something of its own."""

    def __init__(self, notebook):
        self.notebook = notebook
        self.names = QUICK | dict(
            batch_size=4, d_conv_dim=4, g_conv_dim=4, z_size=6, lr=4e-4, n_epochs=1,
            distance_every=1, print_every=50, live_view=False, penalty=0, flip=False, rescue=0)
        self.make_loader()
        self.build_network()
        self.make_optimizers()

    def make_loader(self, seed=0):
        faces = ImageDataset(drawn_faces(10, 32, seed), source=f'drawn {seed}')
        loader = DataLoader(faces, self.names['batch_size'], shuffle=True,
                            collate_fn=faces.collate)
        self.names['celeba_train_loader'] = loader
        self.loader = DeviceLoader(loader, 'cpu')

    def build_network(self):
        self.D, self.G, _ = tiny_training(vars(self.notebook))

    def make_optimizers(self):
        lr, beta1, beta2 = (self.names[name] for name in ('lr', 'beta1', 'beta2'))
        optimizers = self.notebook.make_optimizers(self.D, self.G, lr, beta1, beta2)
        self.names['d_optimizer'], self.names['g_optimizer'] = optimizers

    def train(self, distance=None):
        """Run the training cell; return the configuration that its checkpoint has."""
        train = self.notebook.train
        with global_names(train, **self.names):
            call_train(train, self.D, self.G, self.names['n_epochs'], 50, self.loader, distance,
                       config_of(self.names))
        return load_checkpoint()['config']


@pytest.fixture
def kernel(notebook, folder):
    return Kernel(notebook)


def test_parameters_that_were_used_are_kept_as_they_are(kernel, capsys):
    config = kernel.train()
    assert config['lr'] == 4e-4 and config['batch_size'] == 4 and config['data'] == 'drawn 0'
    assert 'that counts' not in capsys.readouterr().out


@pytest.mark.parametrize('name, value, old', [
    ('lr', 8e-4, 4e-4), ('beta1', 0.5, 0.0), ('beta2', 0.9, 0.999), ('batch_size', 8, 4),
    ('z_size', 9, 6), ('g_conv_dim', 8, 4), ('img_size', 64, 32)])
def test_what_was_made_is_what_counts(kernel, capsys, name, value, old):
    """Changed, but the cell that makes something of it was not run again: the same run goes on."""
    kernel.train()
    kernel.names |= {name: value, 'n_epochs': 2}
    capsys.readouterr()
    assert kernel.train()[name] == old
    printed = capsys.readouterr().out
    assert f'{name}: found {value}, but' in printed and f'made with {old}, and that' in printed
    assert f'For {value}, run all cells from the parameters on again.' in printed
    assert 'Continuing checkpoints_gan/ after epoch 1' in printed


def test_parameter_of_which_something_was_made_anew_is_kept(kernel, capsys):
    """As cells from elsewhere do: they set their rate where they make their optimizers."""
    kernel.names['lr'] = 2e-4
    for name, network in (('d_optimizer', kernel.D), ('g_optimizer', kernel.G)):
        kernel.names[name] = torch.optim.Adam(network.parameters(), 2e-4, [0.0, 0.999])
    assert kernel.train()['lr'] == 2e-4
    assert 'that counts' not in capsys.readouterr().out


@pytest.mark.parametrize('start, loaded', [('my_pair', ''), ('', 'my_pair')])
def test_pair_that_was_not_loaded_is_told(kernel, capsys, monkeypatch, start, loaded):
    """The parameter was changed, and the cell with build_network was not run again."""
    monkeypatch.setattr(kernel.notebook.helpers, 'load_pair', lambda folder: dict(
        G_average=kernel.G.state_dict()))
    kernel.names['start'] = start
    kernel.G.start = loaded
    assert kernel.train()['start'] == loaded
    said = f'start: found {start!r}, but what is trained was made with {loaded!r}'
    assert said in capsys.readouterr().out


def test_two_time_scales_are_nobodys_fault(kernel, capsys):
    """D learns four times as fast: by hand, by other optimizers, or by rates without lr."""
    kernel.names['d_optimizer'].param_groups[0]['lr'] = 16e-4
    assert kernel.train()['lr'] == 4e-4
    kernel.build_network()
    kernel.names['d_optimizer'] = torch.optim.SGD(kernel.D.parameters(), 16e-4)
    kernel.names['g_optimizer'] = torch.optim.Adam(kernel.G.parameters(), 4e-4, (0.0, 0.999))
    assert kernel.train()['lr'] == 4e-4
    assert 'that counts' not in capsys.readouterr().out
    kernel.build_network()
    kernel.names['d_optimizer'] = torch.optim.SGD(kernel.D.parameters(), 0.1)
    kernel.names['g_optimizer'] = torch.optim.RMSprop(kernel.G.parameters(), 0.01)
    assert kernel.train()['lr'] == [0.01, 0.1]
    assert 'lr: found 0.0004, but what is trained was made with 0.01 and 0.1' in (
        capsys.readouterr().out)


def test_parameter_changed_before_training_counts(kernel):
    """The parameters' cell and the training cell alone: what is set now is trained with."""
    kernel.names['objective'] = 'hinge'
    assert kernel.train()['objective'] == 'hinge'


@pytest.mark.parametrize('name, value, message', [
    ('objective', 'hinges', "objective: found 'hinges', .* Did you mean 'hinge'?"),
    ('augmentation', ('blur',), "augmentation: found 'blur', expected one of 'colour'")])
def test_names_that_nothing_has_are_refused(kernel, name, value, message):
    """Before the run begins."""
    kernel.names[name] = value
    with pytest.raises(ValueError, match=message):
        kernel.train()
    assert not Path('checkpoints_gan').exists()


def test_more_epochs_need_no_other_cell(kernel):
    kernel.train()
    kernel.names['n_epochs'] = 2
    assert kernel.train()['n_epochs'] == 2


@pytest.mark.parametrize('changes, why', [(dict(objective='hinge'), 'it differs in objective'),
                                          (dict(resume=False), 'resume is off')])
def test_trained_networks_start_no_other_run(kernel, changes, why):
    """What stands there as epoch 1 would be epoch 2 of something else. The earlier run stays."""
    kernel.train()
    kernel.names |= changes
    with pytest.raises(ValueError, match=f'trained already, .*{why}.* cell with build_network on'):
        kernel.train()
    assert load_checkpoint()['config']['objective'] == 'bce'
    kernel.build_network()
    kernel.make_optimizers()
    assert kernel.train()['objective'] == kernel.names['objective']


def test_other_images_are_told_where_their_cells_were_not_run(kernel):
    """The loader of the old images, or a distance from those, would train or judge by them."""
    old, old_images = kernel.loader, kernel.names['celeba_train_loader'].dataset.images
    kernel.make_loader(seed=1)
    new, kernel.loader = kernel.loader, old
    with pytest.raises(ValueError, match='loader: it holds other images .* get_dataloader on'):
        kernel.train()
    kernel.loader = new
    with pytest.raises(ValueError, match='distance: it was made with other images'):
        kernel.train(types.SimpleNamespace(images=old_images))
    same_images = kernel.names['celeba_train_loader'].dataset.images.clone()

    def distance(images):
        return 1.0

    distance.images = same_images
    assert kernel.train(distance)['data'] == 'drawn 1'


def test_trained_networks_start_no_run_where_the_earlier_one_was_deleted(kernel):
    """To start afresh, somebody deletes the folder, and runs the training cell alone."""
    kernel.train()
    shutil.rmtree('checkpoints_gan')
    Path('train_samples.pkl').unlink()
    with pytest.raises(ValueError, match='trained already, .*cell with build_network on'):
        kernel.train()
    assert not Path('checkpoints_gan/latest.pt').exists()
    kernel.build_network()
    kernel.make_optimizers()
    kernel.train()


def test_interrupt_in_the_first_epoch(notebook, folder, capsys):
    """The same cell begins anew, as it says, and not half trained: as if nothing had happened."""
    whole = Kernel(notebook)
    torch.manual_seed(7)
    whole.train()
    shutil.rmtree('checkpoints_gan')
    Path('train_samples.pkl').unlink()

    kernel = Kernel(notebook)
    loader, kernel.loader = kernel.loader, Acting(kernel.loader, 2, raises(KeyboardInterrupt()))
    torch.manual_seed(7)
    with pytest.raises(FileNotFoundError, match='no epoch yet'):
        kernel.train()
    assert 'To go on, run this cell, or the same command, again' in capsys.readouterr().out
    kernel.loader = loader
    kernel.train()
    assert 'Continuing checkpoints_gan/ after epoch 0' in capsys.readouterr().out
    assert torch.equal(numbers_of(kernel.D), numbers_of(whole.D))
    assert torch.equal(numbers_of(kernel.G), numbers_of(whole.G))


def test_rescued_run_goes_on_in_the_same_kernel(kernel, capsys):
    """Its rates have been lowered, which is nothing that the parameters should say."""
    kernel.notebook.train_step = going_bad_once(kernel.notebook.train_step)
    kernel.names['rescue'] = 0.5
    kernel.train()
    kernel.names['n_epochs'] = 2
    assert kernel.train()['lr'] == 4e-4
    printed = capsys.readouterr().out
    assert 'Continuing' in printed and 'that counts' not in printed
