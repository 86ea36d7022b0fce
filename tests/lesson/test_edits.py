"""A learner's edits of the networks reach the training: what is unlike DCGAN is remarked on."""
import pytest
import torch

import problem_unittests as unittests
from machinery.devices import to_device
from machinery.lesson import call_train, load_definitions
from machinery.pretrained import show_pretrained
from machinery.run import load_checkpoint
from tests.tools import NOTEBOOK, global_names, numbers_of, tiny_training

D_LAYER = 'nn.LeakyReLU(0.2, inplace=True)]                # half as large'
G_LAYER = 'nn.BatchNorm2d(shallow), nn.ReLU(inplace=True)] # twice as large'
G_ARGUMENTS = 'self.arguments = dict(z_size=z_size, conv_dim=conv_dim, img_size=img_size)'
EDITS = {
    'dropout in D': (D_LAYER, 'nn.LeakyReLU(0.2), nn.Dropout(0.3)]'),
    'dropout in G': (G_LAYER, 'nn.BatchNorm2d(shallow), nn.ReLU(), nn.Dropout(0.3)]'),
    'another activation': (D_LAYER, 'nn.SiLU()]'),
    'another slope': (D_LAYER, 'nn.LeakyReLU(0.1)]'),
    'one more layer': (G_LAYER, 'nn.Conv2d(shallow, shallow, 3, padding=1), '
                                'nn.BatchNorm2d(shallow), nn.ReLU()]'),
    'another width': (G_ARGUMENTS, f'{G_ARGUMENTS}\n        conv_dim = 2 * conv_dim'),
}
NOT_SHIPPED = 'No faces of the generator that comes with the project: the weights are not those of'


QUICK = 'dropout in D', 'another width'


@pytest.mark.parametrize('edit', [
    pytest.param(edit, marks=() if edit in QUICK else pytest.mark.slow) for edit in EDITS])
def test_edited_networks_reach_the_training(folder, capsys, edit):
    """Every test above the training passes; the shipped faces are shown, or one line says why."""
    notebook = load_definitions(NOTEBOOK, [EDITS[edit]])
    for name in ('test_discriminator', 'test_discriminator_layers', 'test_generator',
                 'test_generator_layers', 'test_build_network', 'test_train_step',
                 'test_generate', 'test_train'):
        part = name.removeprefix('test_').removesuffix('_layers')
        part = part.capitalize() if part in ('discriminator', 'generator') else part
        getattr(unittests, name)(getattr(notebook, part))
    assert capsys.readouterr().out.count('Tests Passed') == 8
    show_pretrained(notebook.Generator)
    fits = edit in ('dropout in D', 'another activation', 'another slope')
    assert (NOT_SHIPPED in capsys.readouterr().out) == (not fits)


def test_edited_run_gives_faces(folder):
    """A generator of another width is built again from its checkpoint, in this kernel or a new one.
    """
    notebook = load_definitions(NOTEBOOK, [EDITS['another width']])
    D, G, names = tiny_training(vars(notebook))
    with global_names(notebook.train, **names):
        notebook.train(D, G, 1)
    assert notebook.sample_faces(3).shape == (3, 3, 32, 32)
    with pytest.raises(ValueError, match='the weights are not those of Generator.z_size=6, conv'):
        load_definitions(NOTEBOOK).sample_faces(3)


def trained(notebook):
    """Train tiny networks for an epoch by the training cell, in the current folder."""
    D, G, names = tiny_training(vars(notebook))
    with global_names(notebook.train, **names):
        call_train(notebook.train, D, G, 1, 50, None, None, {})


@pytest.mark.parametrize('old, new, what', [
    ('nn.BatchNorm2d(depths[0]), nn.ReLU(inplace=True)',
     'nn.BatchNorm2d(depths[0]), nn.LeakyReLU(0.1)', 'Generator'),
    ('n_layers = int(math.log2(img_size)) - 2', 'n_layers = round(math.log2(img_size)) - 2',
     'layer_depths')])
def test_generator_edited_after_training_is_told(notebook, folder, old, new, what):
    """Its weights fit, but would draw other faces: one sentence, and not those faces."""
    trained(notebook)
    edited = load_definitions(NOTEBOOK, [(old, new)])
    with pytest.raises(ValueError, match=f'trained with other code of {what} than') as failure:
        edited.sample_faces(3)
    assert len(str(failure.value).splitlines()) == 1
    assert notebook.sample_faces(3).shape == (3, 3, 32, 32)


def test_generator_that_does_the_same_is_the_same(notebook, folder):
    """Another comment, another D, and a checkpoint of the version before, which knows no code."""
    trained(notebook)
    faces = notebook.sample_faces(3, seed=1)
    for old, new in (('# half as deep,', '# half'), EDITS['another slope']):
        edited = load_definitions(NOTEBOOK, [(old, new)])
        assert torch.equal(edited.sample_faces(3, seed=1), faces)
    state = load_checkpoint()
    del state['config']['source_code']
    torch.save(state, 'checkpoints_gan/latest.pt')
    edited = load_definitions(NOTEBOOK, [(G_LAYER, G_LAYER.replace('ReLU', 'SiLU'))])
    assert edited.sample_faces(3).shape == (3, 3, 32, 32)


def test_configuration_without_a_generator_is_told(notebook, folder):
    """Also one that is none: in a sentence."""
    trained(notebook)
    for generator in (None, [1], dict(conv_dim=4)):
        state = load_checkpoint()
        state['config']['generator'] = generator
        torch.save(state, 'checkpoints_gan/latest.pt')
        with pytest.raises(ValueError, match='does not say how its generator was built'):
            notebook.sample_faces(3)


def test_what_is_unlike_dcgan_is_said(notebook, capsys):
    """Ours is like DCGAN; of another slope the test says so, and passes."""
    unittests.test_discriminator_layers(notebook.Discriminator)
    unittests.test_generator_layers(notebook.Generator)
    assert capsys.readouterr().out == 'Tests Passed\n' * 2
    notebook = load_definitions(NOTEBOOK, [EDITS['another slope']])
    unittests.test_discriminator_layers(notebook.Discriminator)
    assert 'Unlike DCGAN, which is no fault. Slopes' in capsys.readouterr().out


# ------------------------------------------------------------------------- their order in memory


def order_of(network):
    """The order in memory of a network's kernels."""
    kernels = [weight for weight in network.parameters() if weight.ndim == 4]
    if all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels):
        return 'channels_last'
    return 'as usual'


@pytest.mark.parametrize('flatten, order', [('flatten(1)', 'channels_last'),
                                            ('view(len(x), -1)', 'as usual')])
def test_order_in_memory_suits_the_networks(flatten, order):
    """The fast one if both work in it, else the usual; nothing in them changes, nor is drawn."""
    edit = ('self.logit(x.flatten(1))', f'self.logit(x.{flatten})')
    notebook = load_definitions(NOTEBOOK, [edit])
    D, G, _ = tiny_training(vars(notebook))
    before = [numbers_of(network) for network in (D, G)]
    random_before = torch.get_rng_state()
    to_device(D, G, torch.device('cpu'), torch.rand(4, 3, 32, 32, generator=torch.Generator()), 6)
    assert torch.equal(torch.get_rng_state(), random_before)
    for network, numbers in zip((D, G), before, strict=True):
        assert torch.equal(numbers_of(network), numbers) and network.training
        assert order_of(network) == order
    assert D(G(torch.randn(4, 6))).shape == (4, 1)


def test_networks_of_another_size_are_refused(notebook):
    """D of 32x32 would take an image of 64x64 for four: one sentence says what is wrong."""
    D, G, _ = tiny_training(vars(notebook))
    with pytest.raises(ValueError, match=r'Discriminator: expected \(2, 1\) for .*64, 64'):
        to_device(D, G, torch.device('cpu'), torch.rand(4, 3, 64, 64), z_size=6)
    with pytest.raises(ValueError, match='Generator: expected .* found an error'):
        to_device(D, G, torch.device('cpu'), torch.rand(4, 3, 32, 32), z_size=7)
