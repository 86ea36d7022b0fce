"""Tables and rows of pictures; and those of a training that has little to show."""
import copy

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import helpers
from machinery.pictures import layer_table, show_rows
from tests.tools import Acting, raises, train_tiny


def test_distance_that_was_never_measured_is_said(notebook, folder, capsys):
    """One epoch, and a distance every second one: no picture, one line."""
    train_tiny(notebook, 1)
    helpers.plot_distance(helpers.load_history(), floor=1.0)
    assert capsys.readouterr().out.endswith('No distance to real faces was measured in this '
                                            'training.\n')


def test_losses_without_answers_are_drawn(notebook, folder):
    """A training from elsewhere keeps no D(x): its losses are drawn all the same."""
    train_tiny(notebook, 1)
    history = helpers.load_history()
    history['d_real'] = history['d_fake'] = np.full(3, np.nan)
    helpers.plot_losses(history)


def test_interrupt_in_the_first_epoch_leaves_one_line(notebook, folder, capsys):
    """It says what is on disk, and each later cell what it misses."""
    def interrupted(loader):
        return Acting(loader, 2, raises(KeyboardInterrupt()))

    train_tiny(notebook, 2, wrap=interrupted)
    assert 'On disk: all up to the end of epoch 0.' in capsys.readouterr().out
    for later_cell in (helpers.load_history, notebook.load_generator):
        with pytest.raises(FileNotFoundError, match='train .*first') as failure:
            later_cell()
        assert len(str(failure.value).splitlines()) == 1


def test_losses_below_zero_are_in_the_picture():
    """Wasserstein's losses are: the axis reaches down to them, and no level of BCE is drawn."""
    losses = np.linspace(-3, -1, 200, dtype=np.float32)
    history = dict(d_loss=losses, g_loss=losses, d_real=losses, d_fake=losses,
                   per_epoch=np.array([100, 100]))
    helpers.plot_losses(history, 'wasserstein')
    axes = plt.gcf().axes[0]
    lowest, highest = axes.get_ylim()
    assert lowest < -2.9 and lowest < highest
    assert not [line for line in axes.lines if 'guesses' in str(line.get_label())]
    plt.close()


def test_layer_table():
    """A line for each layer that has weights, its output, and how many; the network stays."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 4, stride=2, padding=1),
                                  torch.nn.BatchNorm2d(8), torch.nn.ReLU())
    before = copy.deepcopy(network.state_dict())
    heading, convolution, normalisation = layer_table(network, torch.rand(2, 3, 8, 8)).splitlines()
    assert heading == 'Sequential: 408 weights' and network.training
    assert convolution.split() == ['Conv2d', '4×4', '8', '×', '4', '×', '4', '392']
    assert normalisation.split() == ['BatchNorm2d', '8', '×', '4', '×', '4', '16']
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(layer._forward_hooks for layer in network.modules())


def test_rows_have_labels_and_bytes_are_shown_as_they_are():
    rows = {'black': torch.zeros(3, 3, 4, 4, dtype=torch.uint8), 'white': torch.ones(2, 3, 4, 4)}
    show_rows(rows)
    first, second = plt.gcf().axes
    plt.close()
    assert (first.get_ylabel(), second.get_ylabel()) == ('black', 'white')
    assert first.images[0].get_array()[1:5, 1:5].max() == 0
    assert second.images[0].get_array().min() == 255
