"""The lesson's diagrams show what torch and the notebook's own networks say."""
import numpy as np
import pytest
import torch
from PIL import Image
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from experiments import figures
from tests.tools import ASSETS

NAMES = 'networks', 'step', 'transposed', 'clouds'


def shapes_and_weights(network, x):
    found = figures.stages(network, x)
    assert sum(n for _, n, _ in found) == figures.number_of_weights(network)
    return [shape for _, _, shape in found]


def test_networks_mirror_each_other(notebook):
    """Every weight is counted once, and G's shapes are D's from the end."""
    D, G = notebook.Discriminator(8), notebook.Generator(20, 8)
    of_D = shapes_and_weights(D, torch.randn(2, 3, 32, 32))
    of_G = shapes_and_weights(G, torch.randn(2, 20))
    assert of_D == [(8, 16, 16), (16, 8, 8), (32, 4, 4), (1,)]
    assert of_G == [*of_D[-2::-1], (3, 32, 32)]


def test_layers_of_a_stage_are_named(notebook):
    _, middle, _, last = figures.stages(notebook.Discriminator(8), torch.randn(2, 3, 32, 32))
    assert middle[0] == ['convolution', 'batch norm', 'leaky ReLU']
    assert last[0] == ['linear']


def test_kernel_of_4_is_even_and_of_3_is_not():
    """The padding cuts off the edge of what is said in the notebook of a kernel of 4."""
    even = figures.contributions(4, 2, 4)
    assert even.shape == (8, 8) and (even[1:-1, 1:-1] == 4).all()
    uneven = figures.contributions(4, 1, 3, output_padding=1)
    assert uneven.tolist() == [1, 2, 1, 2, 1, 2, 1, 1]


def test_distance_of_clouds_is_that_of_faces():
    clouds = np.random.default_rng(0).standard_normal((2, 50, 2)) * [1, 3]
    statistics = [fid_features_to_statistics(torch.tensor(cloud)) for cloud in clouds]
    wanted = fid_statistics_to_metric(*statistics, False)['frechet_inception_distance']
    means, spreads = figures.frechet(*clouds)
    assert means + spreads == pytest.approx(wanted)


def test_figures_are_drawn(tmp_path):
    """As wide as those that are published, and small."""
    figures.main(['--into', str(tmp_path)])
    for name in NAMES:
        drawn, published = tmp_path / f'{name}.png', ASSETS / f'{name}.png'
        assert Image.open(drawn).size == Image.open(published).size
        assert Image.open(drawn).width == figures.PIXELS
        assert drawn.stat().st_size < 60_000
