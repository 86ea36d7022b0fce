"""The tests are tested: a fault is planted in the part under test, and the test has to fail."""
import inspect
from pathlib import Path

import pytest
import torch
from torch.utils.data import WeightedRandomSampler

import problem_unittests as unittests
from machinery import fast_step, sources
from machinery import run as run_room
from machinery.batches import DeviceLoader, ImageDataset
from machinery.lesson import load_definitions
from machinery.metric import FaceEncoder
from machinery.run import Run
from tests.data import test_attributes, test_batches
from tests.quality import test_metric
from tests.run import test_fast_step, test_run
from tests.tools import NOTEBOOK

# ------------------------------------------------------------------------------ two ways to plant


def edit(*pairs):
    """A fault in the notebook: each (old, new) text, of which the old one is there exactly once."""
    return lambda monkeypatch: load_definitions(NOTEBOOK, pairs)


def edit_in(function, *pairs):
    """The same in one function of the notebook; some of its lines may stand in others too."""
    def plant(monkeypatch):
        source = inspect.getsource(getattr(load_definitions(NOTEBOOK), function))
        edited = source
        for old, new in pairs:
            assert edited.count(old) == 1, f'{old} in {function}'
            edited = edited.replace(old, new)
        return load_definitions(NOTEBOOK, [(source.rstrip(), edited.rstrip())])
    return plant


def replace(target, name, replacement):
    """A fault in the machinery: target.name is replaced."""
    def plant(monkeypatch):
        monkeypatch.setattr(target, name, replacement)
        return load_definitions(NOTEBOOK)
    return plant


# ------------------------------------------------------------------------- faults in the machinery


def load_all_but_the_epoch(run, state, path, load=Run._load):
    load(run, state | dict(epoch=0), path)


def load_latest(folder='checkpoints_gan', best=False, load=run_room.load_checkpoint):
    return load(folder)


def step_without_options(step, *parts):
    return lambda real, z, **options: step(*parts, real, z)


def sampler_without_weights(weights, n):
    return WeightedRandomSampler(torch.ones(n), n)


def features_of_anything(encoder, images):
    return encoder.attributes.weight[:, :len(images)].T


def batches_in_order(loader):
    return loader.images.split(loader.loader.batch_size)


def images_of_bytes(dataset, index):
    return dataset.images[index].float(), dataset.labels[index]


# ------------------------------------------------------------------------ places in the notebook


INIT = 'isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))'
PARTS = '''parts = dict(D=D, G=G, G_average=G_average,
                 d_optimizer=d_optimizer, g_optimizer=g_optimizer)'''
REAL_BCE = 'return F.binary_cross_entropy_with_logits(D_out, target)'
BCE_ROW = "'bce': (bce_d_loss, bce_g_loss),"
SUBPLOT = 'fig.add_subplot(2, 8, i + 1)\n        imshow((img'
GRID = 'draw = partial(generate, G_average)'
ANOTHER_GRID = 'draw = lambda z: generate(G_average, torch.randn(z.shape))'
Z = 'z = torch.randn(len(real), noise_size, device=device)'
D_ADAM = 'd_optimizer = optim.Adam(D.parameters(), lr, (beta1, beta2)'
MIX = 'mix = torch.rand(len(real), 1, 1, 1, device=real.device)'
BOTH_SLOPES = 'return slope_penalty(D, real, wanted=0) + slope_penalty(D, fake, wanted=0)'
REAL_SLOPE = 'return slope_penalty(D, real, wanted=0)'
FAKE_SLOPE = 'return slope_penalty(D, fake, wanted=0)'
PENALTY = 'extra = penalty * gradient_penalty(D, real, fake, objective) if penalty else 0'
AVERAGE = 'zip(G_average.state_dict().values(), G.state_dict().values())'
ARC = 'arc = torch.sin((1 - t) * angle) * start + torch.sin(t * angle) * end\n    return arc'

# -------------------------------------------------------------------------------------- the faults

# What the public solutions of the exercise were found to do
FOUND = [
    ('init looks for the text Conv2d',
     edit((INIT, "'Conv2d' in type(m).__name__ or isinstance(m, nn.Linear)")),
     unittests.test_weights_init_normal),
    ('init of G never applied',
     edit(('    G.apply(weights_init_normal)\n', '')),
     unittests.test_build_network),
    ('init of D never applied',
     edit(('    D.apply(weights_init_normal)\n', '')),
     unittests.test_build_network),
    ('real images never scaled',
     edit(('real = scale(images)', 'real = images')),
     unittests.test_train),
    ('scale for symmetric ranges only',
     edit(('x * (high - low) + low', 'x * 2 * high - high')),
     unittests.test_scale),
    ('fixed_z drawn anew each epoch',
     edit((GRID, ANOTHER_GRID)),
     unittests.test_train),
    ('samples keep their graph',
     edit(('@torch.no_grad()\ndef generate', 'def generate')),
     unittests.test_generate),
    ('no detach',
     edit_in('train_step', ('D(fake.detach())', 'D(fake)'),
             ('extra).backward()', 'extra).backward(retain_graph=True)')),
     unittests.test_train_step),
    ('grids in train mode',
     edit(('    G.eval()\n', '')),
     unittests.test_generate),
    ('fake batch sized by the loader',
     edit((Z, Z.replace('len(real)', 'batch_size'))),
     unittests.test_train),
    ('eps 0.8 in D',
     edit(('nn.BatchNorm2d(deep) if', 'nn.BatchNorm2d(deep, 0.8) if')),
     unittests.test_discriminator_layers),
    ('eps 0.8 in G',
     edit(('nn.BatchNorm2d(shallow)', 'nn.BatchNorm2d(shallow, 0.8)')),
     unittests.test_generator_layers),
    ('sigmoid, then BCE',
     edit((REAL_BCE, 'return F.binary_cross_entropy(torch.sigmoid(D_out), target)')),
     unittests.test_losses),
    ('checkpoint without optimizers',
     edit((PARTS, PARTS.replace(', g_optimizer=g_optimizer', ''))),
     test_run.test_resume_is_exact),
    ('checkpoint without random state',
     replace(run_room, 'set_random_state', lambda state: None),
     test_run.test_resume_is_exact),
    ('checkpoint without epoch',
     replace(Run, '_load', load_all_but_the_epoch),
     test_run.test_resume_is_exact),
    ('checkpoint needs its folder',
     replace(Path, 'mkdir', lambda *_, **__: None),
     test_run.test_resume_is_exact),
    ('plot_size/2 as an index',
     edit((SUBPLOT, SUBPLOT.replace('8,', '16 / 2,'))),
     unittests.test_view_samples),
    ("plt.style.use('seaborn')",
     edit((SUBPLOT, f"plt.style.use('seaborn')\n        {SUBPLOT}")),
     unittests.test_view_samples),
]

# Others that tests of shapes and short runs do not see, in the order of the notebook
UNSEEN = [
    ('loader does not shuffle',
     edit(('sampler = RandomSampler(images, num_samples=times * len(images))', 'sampler = None')),
     unittests.test_get_dataloader),
    ('loader gives bytes',
     replace(ImageDataset, '__getitem__', images_of_bytes),
     unittests.test_get_dataloader),
    ('in-place scale',
     edit(('return x * (high - low) + low', 'return x.mul_(high - low).add_(low)')),
     unittests.test_scale),
    ('every image mirrored',
     edit(('device=x.device) < 0.5', 'device=x.device) < 1.5')),
     unittests.test_random_flip),
    ('mirrored upside down',
     edit(('x.flip(3)', 'x.flip(2)')),
     unittests.test_random_flip),
    ('one coin for the batch',
     edit(('mirrored = torch.rand(len(x), 1', 'mirrored = torch.rand(1, 1')),
     unittests.test_random_flip),
    ('never mirrored',
     edit(('real = random_flip(real)', 'pass')),
     test_run.test_mirrors_when_asked),
    ('last layer of D too narrow',
     edit(('nn.Conv2d(shallow, deep, 4', 'nn.Conv2d(shallow, deep, 3')),
     unittests.test_discriminator_layers),
    ('LeakyReLU of 0.01',
     edit(('nn.LeakyReLU(0.2, inplace=True)]                # half',
           'nn.LeakyReLU(0.01, inplace=True)]                # half')),
     unittests.test_discriminator_layers),
    ('no batch normalisation in G',
     edit(('nn.BatchNorm2d(shallow), ', '')),
     unittests.test_generator_layers),
    ('ReLU at the end of G',
     edit(('nn.Tanh()', 'nn.ReLU()')),
     unittests.test_generator_layers),
    ('init of 0.2',
     edit(('0.0, 0.02)', '0.0, 0.2)')),
     unittests.test_weights_init_normal),
    ('BatchNorm initialised too',
     edit((INIT, 'getattr(m, "weight", None) is not None')),
     unittests.test_weights_init_normal),
    ('networks returned as G, D',
     edit(('return D, G', 'return G, D')),
     unittests.test_build_network),
    ('smoothing of 0.8',
     edit(('0.9 if smooth else', '0.8 if smooth else')),
     unittests.test_losses),
    ('fake_loss against 1',
     edit(('torch.zeros_like(D_out)', 'torch.ones_like(D_out)')),
     unittests.test_losses),
    ('saturating loss',
     edit(('return real_loss(fake)', 'return -fake_loss(fake)')),
     unittests.test_objectives),
    ('smoothing forgotten',
     edit(('real_loss(real, smooth=True)', 'real_loss(real)')),
     unittests.test_objectives),
    ('hinge the wrong way round',
     edit(('F.relu(1 - real) + F.relu(1 + fake)', 'F.relu(1 + real) + F.relu(1 - fake)')),
     unittests.test_objectives),
    ("own objective, D's sign flipped for real images",
     edit((BCE_ROW, f"'own': (lambda real, fake: fake_loss(real) + fake_loss(fake), bce_g_loss),"
                    f'\n    {BCE_ROW}')),
     unittests.test_objectives),
    ("own objective, D's sign flipped for fakes",
     edit((BCE_ROW, f"'own': (lambda real, fake: real_loss(real) + real_loss(fake), bce_g_loss),"
                    f'\n    {BCE_ROW}')),
     unittests.test_objectives),
    ("own objective, G's sign flipped",
     edit((BCE_ROW, f"'own': (bce_d_loss, lambda real, fake: fake.mean()),\n    {BCE_ROW}")),
     unittests.test_objectives),
    ('always the same objective',
     edit(('OBJECTIVES[objective]', "OBJECTIVES['bce']")),
     unittests.test_train_step),
    ('penalty reaches G',
     edit(('x = x.detach().requires_grad_()', 'x = x if x.requires_grad else x.requires_grad_()')),
     unittests.test_gradient_penalty),
    ('penalty not differentiable',
     edit(('D(x).sum(), x, create_graph=True)', 'D(x).sum(), x)')),
     unittests.test_gradient_penalty),
    ('penalty on real images alone',
     edit((BOTH_SLOPES, REAL_SLOPE)),
     unittests.test_gradient_penalty),
    ('R1 on fakes',
     edit((f'{BOTH_SLOPES}\n    {REAL_SLOPE}', f'{BOTH_SLOPES}\n    {FAKE_SLOPE}')),
     unittests.test_gradient_penalty),
    ('Wasserstein penalty on real images',
     edit(('mix * real + (1 - mix) * fake', 'real')),
     unittests.test_gradient_penalty),
    ('Wasserstein penalty in one place for all',
     edit((MIX, MIX.replace('len(real)', '1'))),
     unittests.test_gradient_penalty),
    ('fakes not augmented',
     edit(('fake = augment(G(z), augmentation)', 'fake = G(z)')),
     unittests.test_train_step),
    ('real images not augmented',
     edit(('    real = augment(real, augmentation)\n', '')),
     unittests.test_train_step),
    ('augmentation never reaches the step',
     edit(("augmentation=config['augmentation']", 'augmentation=()')),
     test_run.test_augments_when_asked),
    ('augmentation without gradient',
     edit(('x = AUGMENTATIONS[name](x)', 'x = AUGMENTATIONS[name](x.detach())')),
     unittests.test_augment),
    ('one colour for the batch',
     edit(('(high - low) * torch.rand(len(x), 1', '(high - low) * torch.rand(1, 1')),
     unittests.test_augment),
    ('saturation about black',
     edit(('x = grey + uniform(x, 0, 2) * (x - grey)', 'x = uniform(x, 0, 2) * x')),
     unittests.test_augment),
    ('shifted by half of what was asked',
     edit(('= 2 * pixels / side', '= pixels / side')),
     unittests.test_augment),
    ('never shifted left or up',
     edit(('torch.randint(-side // 8, side', 'torch.randint(0, side')),
     unittests.test_augment),
    ('squares of a quarter',
     edit(('(place < side // 2)', '(place < side // 4)')),
     unittests.test_augment),
    ('Adam without beta1',
     edit((D_ADAM, D_ADAM.replace('beta1', '0.9'))),
     unittests.test_make_optimizers),
    ("G's optimizer holds D",
     edit(('optim.Adam(G.parameters()', 'optim.Adam(D.parameters()')),
     unittests.test_make_optimizers),
    ('learning rate decays from where it is',
     edit(("group.setdefault('initial_lr', group['lr'])", "group['lr']")),
     unittests.test_decay_learning_rates),
    ('gradients of D add up',
     edit_in('train_step', ('d_optimizer.zero_grad()', 'pass')),
     unittests.test_train_step),
    ("D's gradient from G's step",
     edit_in('train_step',
             ('g_loss.backward(inputs=list(G.parameters()))', 'g_loss.backward()')),
     unittests.test_train_step),
    ('plain step without detach',
     edit_in('plain_step', ('D(fake.detach())', 'D(fake)'),
             ('d_loss.backward()', 'd_loss.backward(retain_graph=True)')),
     unittests.test_plain_step),
    ('plain step that adds gradients up',
     edit_in('plain_step', ('g_optimizer.zero_grad()', 'pass')),
     unittests.test_plain_step),
    ('penalty forgotten',
     edit((PENALTY, 'extra = 0')),
     unittests.test_train_step),
    ('penalty counted as loss',
     edit_in('train_step', ('torch.stack([d_loss,', 'torch.stack([d_loss + extra,')),
     unittests.test_train_step),
    ("average without BatchNorm's statistics",
     edit((AVERAGE, 'zip(G_average.parameters(), G.parameters())')),
     unittests.test_update_average),
    ('average the wrong way round',
     edit(('average.lerp_(current, 1 - decay)', 'average.lerp_(current, decay)')),
     unittests.test_update_average),
    ('G left in eval mode',
     edit(('    G.train(training)\n', '')),
     unittests.test_generate),
    ('noise drawn once',
     edit((Z, 'z = fixed_z[:len(real)].to(device)')),
     unittests.test_train),
    ('uniform noise',
     edit((Z, Z.replace('randn', 'rand'))),
     unittests.test_train),
    ('losses swapped',
     edit_in('train_step', ('torch.stack([d_loss, g_loss,', 'torch.stack([g_loss, d_loss,')),
     unittests.test_train_step),
    ('line at every batch',
     edit(('config, draw, distance, print_every)', 'config, draw, distance, 1)')),
     unittests.test_train),
    ('straight walk',
     edit((f'{ARC} / torch.sin(angle)', 'return (1 - t) * start + t * end')),
     unittests.test_slerp),
    ('batches in the order of the files',
     replace(DeviceLoader, '_cut_out', batches_in_order),
     test_batches.test_device_loader_gives_the_batches_of_the_loader),
    ('captured step loses its options',
     replace(fast_step, 'capture', step_without_options),
     test_fast_step.test_captured_step_agrees_in_float32),
    ('no bfloat16 after all',
     replace(fast_step._BFloat16, 'forward', lambda wrapper, x: wrapper.network(x)),
     test_fast_step.test_captured_step_agrees_in_bfloat16),
    ('best checkpoint is the latest',
     replace(test_run, 'load_checkpoint', load_latest),
     test_run.test_best_epoch_is_kept),
    ('distance draws from the training',
     replace(Run, '_measure', lambda run: ([torch.randn(()).item(), 0.0], [])),
     test_run.test_distance_changes_nothing),
    ('balance changes nothing',
     replace(sources, 'WeightedRandomSampler', sampler_without_weights),
     test_attributes.test_balance_draws_all_groups_equally),
    ('distance blind to noise',
     replace(FaceEncoder, 'embed', features_of_anything),
     test_metric.test_face_distance_orders_what_the_eye_orders),
]



def all_faults():
    """Each fault of the lists; the first that is planted for a test is quick, the others slow."""
    tested = set()
    for name, plant, test in FOUND + UNSEEN:
        marks = [pytest.mark.slow] if test in tested else []
        tested.add(test)
        yield pytest.param(plant, test, id=name, marks=marks)


@pytest.mark.parametrize('plant, test', list(all_faults()))
def test_planted_faults_are_caught(request, monkeypatch, folder, capsys, plant, test):
    """With the fault in place, its test fails, or remarks on what is unlike DCGAN."""
    notebook = plant(monkeypatch)
    given = dict(notebook=notebook, device='cpu', drop_last=False)
    arguments = {}
    for argument in inspect.signature(test).parameters:
        if argument in given:
            arguments[argument] = given[argument]
        elif argument in unittests.PARTS:
            arguments[argument] = getattr(notebook, argument)
        else:
            arguments[argument] = request.getfixturevalue(argument)
    capsys.readouterr()
    try:
        test(**arguments)
    except (AssertionError, OSError, ValueError, RuntimeError, KeyError) as error:
        assert len(str(error)) < 25 * 100, 'more than a screen'
        return
    assert 'Unlike DCGAN' in capsys.readouterr().out
