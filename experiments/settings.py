"""The study's settings: each changes one thing of the public recipe.

A setting changes parameters. Where that is not enough, it is a function that is given the
notebook's definitions and puts something of its own in the place of a name (the notebook's
functions look one another up by name when they run), or it edits the notebook's own source.

Names, changes, groups and claims are keys of assets/study.csv: a setting whose name or change is
altered counts as a new one, and its old runs no longer count. They stand in the table's order.
"""
import functools

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

from experiments import common

BASE = dict(conv_dim=32, batch_size=128, lr=2e-4, beta1=0.5, beta2=0.999, objective='bce',
            img_size=32, z_size=100, penalty=0, penalty_every=4, flip=False, d_batch_norm=True,
            ema_decay=0, lr_decay=False, uniform_z=False, fast=True, budgets=1)
PUBLIC_RECIPE = ('conv_dim', 'batch_size', 'lr', 'beta1', 'objective')   # in the base's own row
RECIPE = dict(batch_size=16, lr=4e-4, beta1=0.0, penalty=0.025, flip=True, ema_decay=0.999,
              lr_decay=True)                         # the notebook's earlier recipe
OURS = BASE | RECIPE | dict(lr=8e-4, penalty=0.01, penalty_every=16)        # of quick

# What the public solutions say of a setting
HELPS, LITTLE, HURTS = 'said to help', 'said to matter little', 'said to hurt'
WISHED = 'wished for, not tried'

SETTINGS = {}                # {name: Setting}, filled below


class Setting:
    """One setting of the study.

    group, name   where it stands in the tables, and what it is called there
    claim         what the public solutions say of it
    what          what it changes, in words; by default its changes of BASE
    edits         pairs (old, new) of the notebook's source text
    against       the setting that it is held against; by default the base of its image size
    changes       of BASE
    variant       a function that changes the notebook's definitions; setting() may give it one
    """

    variant = None

    def __init__(self, group, name, claim='', what='', edits=(), against='', **changes):
        self.group = group
        self.name = name
        self.claim = claim
        self.change = what or in_words(changes)
        self.edits = edits
        self.config = BASE | changes
        size = self.config['img_size']
        self.base = against or ('base' if size == 32 else f'base {size}')

    def vary(self, variant):
        """Take a function as the variant, as a decorator does."""
        self.variant = variant
        return variant

    def definitions(self):
        """Return the notebook's definitions with this setting's edits and variant."""
        notebook = common.notebook_definitions(self.edits)
        if self.variant:
            self.variant(notebook)
        return notebook


def in_words(changes):
    return ', '.join(f'{name} {value}' for name, value in changes.items())


def setting(group, name, *words, **options):
    """Add a Setting; as a decorator, one whose variant is the function below it."""
    SETTINGS[name] = Setting(group, name, *words, **options)
    return SETTINGS[name].vary


base = functools.partial(setting, 'base')
public = functools.partial(setting, 'public')            # claims, wishes and faults
technique = functools.partial(setting, 'technique')      # from elsewhere
dear = functools.partial(setting, 'dear')                # left out on CPUs unless asked for

# ------------------------------------------------------------------------------------ what they use


def init_with(fill):
    """Make a weights_init_normal that fills weights by fill(weight); biases are 0 as ever."""
    def weights_init(m):
        if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            fill(m.weight)
            if m.bias is not None:
                nn.init.zeros_(m.bias)
    return weights_init


HOLDS_LAYERS = {'Discriminator': 'features', 'Generator': 'layers'}


def change_layers(notebook, network, change):
    """Build a network with other layers: change(list of its layers) gives the new list.

    Only layers without random weights may be added so, else those after them would be drawn
    otherwise.
    """
    original, attribute = getattr(notebook, network), HOLDS_LAYERS[network]

    class Changed(original):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            layers = list(getattr(self, attribute))
            setattr(self, attribute, nn.Sequential(*change(layers)))

    setattr(notebook, network, Changed)


def drop_after_activations(layers):
    """Add dropout of 0.3 after each activation but the first."""
    changed, n_activations = [], 0
    for layer in layers:
        changed.append(layer)
        if isinstance(layer, (nn.ReLU, nn.LeakyReLU)):
            n_activations += 1
            if n_activations > 1:
                changed.append(nn.Dropout(0.3))
    return changed


def with_rates(notebook, of_D, of_G):
    """Let each network learn at its own multiple of the learning rate."""
    original = notebook.make_optimizers

    def make_optimizers(D, G, lr, *betas):
        d_optimizer, _ = original(D, G, of_D * lr, *betas)
        _, g_optimizer = original(D, G, of_G * lr, *betas)
        return d_optimizer, g_optimizer
    notebook.make_optimizers = make_optimizers


def let_D_see(notebook, change):
    """D sees change(x) of all images, real and generated."""
    class SeeingChanged(notebook.Discriminator):
        def forward(self, x):
            return super().forward(change(x))
    notebook.Discriminator = SeeingChanged


LAST_OF_D = 'depths[-1] * 4 * 4, 1)'


def halve_once_more():
    """Return edits for networks that halve an image until it is 2 pixels wide, and not 4."""
    edits = [('int(math.log2(img_size)) - 2', 'int(math.log2(img_size)) - 1')]
    for old in (LAST_OF_D, 'depths[0] * 4 * 4, bias=False)', 'unflatten(1, (-1, 4, 4))'):
        edits.append((old, old.replace('4', '2')))
    return edits


# ------------------------------------------------------------------------------------------- base

base('base', what='the public recipe: ' + in_words({name: BASE[name] for name in PUBLIC_RECIPE}))
base('recipe', **RECIPE)

# ------------------------------------------------------------------------------------------ public

public('images x 0.2', what='0.2 times the budget', budgets=0.2)
public('images x 2', HELPS, '2 times the budget', budgets=2)
public('4 layers', WISHED, 'one strided layer more in D and G: down to 2x2',
       edits=halve_once_more())
public('batch 16', HELPS, batch_size=16)
public('batch 32', HELPS, batch_size=32)
public('batch 64', batch_size=64)
public('batch 256', batch_size=256)
public('batch 512', batch_size=512)
public('conv_dim 64', HELPS, conv_dim=64)
public('lr 0.01', HURTS, lr=0.01)
public('lr 0.001', HURTS, lr=0.001)
public('lr 0.0001', lr=0.0001)
public('beta1 0.1', beta1=0.1)
public('beta1 0.3', beta1=0.3)
public('z 256', LITTLE, z_size=256)
public('label smoothing', HELPS, objective='bce-smooth')


@public('dropout in D', HELPS, "dropout of 0.3 in D's deeper layers")
def dropout_in_D(notebook):
    change_layers(notebook, 'Discriminator', drop_after_activations)


@public('Xavier', LITTLE, 'Xavier normal init in D and G')
def xavier_init(notebook):
    notebook.weights_init_normal = init_with(nn.init.xavier_normal_)


@public('LeakyReLU in G', WISHED, 'LeakyReLU of 0.2 in G')
def leaky_relu_in_G(notebook):
    def make_leaky(layers):
        changed = []
        for layer in layers:
            is_relu = isinstance(layer, nn.ReLU)
            changed.append(nn.LeakyReLU(0.2, inplace=True) if is_relu else layer)
        return changed
    change_layers(notebook, 'Generator', make_leaky)


@public('batch norm everywhere', '', "batch norm also in D's first layer and G's last")
def batch_norm_everywhere(notebook):
    """Where DCGAN leaves it out."""
    def normalise_first(layers):
        first, *others = layers
        return [first, nn.BatchNorm2d(first.out_channels), *others]

    def normalise_last(layers):
        *others, last, tanh = layers
        return [*others, last, nn.BatchNorm2d(last.out_channels), tanh]
    change_layers(notebook, 'Discriminator', normalise_first)
    change_layers(notebook, 'Generator', normalise_last)


NORMAL_Z = 'z = torch.randn(len(real), noise_size, device=device)'
public('uniform z', '', 'z uniform in [-1, 1]', uniform_z=True,
       edits=[(NORMAL_Z, NORMAL_Z.replace('randn', 'rand') + ' * 2 - 1')])
public('Wasserstein', WISHED, objective='wasserstein', penalty=10, d_batch_norm=False)
public('least squares', WISHED, objective='least-squares')


@public('fault: init skips G', '', "ConvTranspose2d keeps torch's init")
def init_that_skips_G(notebook):
    """The fault of looking for the text Conv2d, which is not in ConvTranspose2d."""
    original = notebook.weights_init_normal

    def weights_init(m):
        if not isinstance(m, nn.ConvTranspose2d):
            original(m)
    notebook.weights_init_normal = weights_init


@public('fault: real unscaled', '', 'real images stay in [0, 1]')
def unscaled(notebook):
    def scale(images):
        return images
    notebook.scale = scale


# --------------------------------------------------------------------------------------- technique

technique('float32', what='the plain step in float32, without helpers.capture: quality must not be '
          'its price', fast=False)
technique('EMA of G', ema_decay=0.999)
technique('flips', flip=True)
technique('lr schedule', lr_decay=True)


@technique('two time scales', '', "D's lr twice G's")
def two_time_scales(notebook):
    """Heusel et al., arXiv:1706.08500."""
    with_rates(notebook, 2, 1)


technique('beta1 0', beta1=0.0)


@technique('SGD for D', '', 'SGD for D: lr 0.01, momentum 0.9')
def sgd_for_D(notebook):
    original = notebook.make_optimizers

    def make_optimizers(D, G, *rates):
        _, g_optimizer = original(D, G, *rates)
        return optim.SGD(D.parameters(), lr=0.01, momentum=0.9, fused=True), g_optimizer
    notebook.make_optimizers = make_optimizers


@technique('augmentation', '', 'all that D sees: shifted by up to 1/8; brightness, saturation, '
           'contrast changed')
def augmentation(notebook):
    let_D_see(notebook, augment)


def augment(x):
    """Move images and change their colours (DiffAugment, Zhao et al., arXiv:2006.10738)."""
    n, size = len(x), x.shape[-1]
    unmoved = torch.eye(2, device=x.device).expand(n, 2, 2)
    pixels = torch.randint(-size // 8, size // 8 + 1, (n, 2, 1), device=x.device)
    shift = pixels * 2 / size                                    # whole pixels: no blur
    grid = F.affine_grid(torch.cat([unmoved, shift], 2), x.shape, align_corners=False)
    brightness, saturation, contrast = torch.rand(3, n, 1, 1, 1, device=x.device)
    x = x + brightness - 0.5
    x = torch.lerp(x.mean(1, keepdim=True), x, 2 * saturation)
    x = torch.lerp(x.mean((1, 2, 3), keepdim=True), x, 0.5 + contrast)
    return F.grid_sample(x, grid, 'nearest', align_corners=False)


@technique('instance noise', '', 'noise N(0, 0.1) on all that D sees')
def instance_noise(notebook):
    let_D_see(notebook, lambda x: x + 0.1 * torch.randn_like(x))


@technique('label noise', '', '5% of the labels flipped for D')
def label_noise(notebook):
    _, g_loss = notebook.OBJECTIVES['bce']
    notebook.OBJECTIVES['bce'] = noisy_d_loss, g_loss


def noisy_d_loss(real, fake, share=0.05):
    """BCE for D, a share of its labels flipped."""
    loss = 0
    for logits, chance_of_real in ((real, 1 - share), (fake, share)):
        labels = torch.rand_like(logits) < chance_of_real
        loss = loss + F.binary_cross_entropy_with_logits(logits, labels.float())
    return loss


@technique('feature matching', '', "G matches the means of D's features",
           edits=[('g_objective(D_real.detach(), D(fake))', 'feature_distance(D, real, fake)')])
def feature_matching(notebook):
    """Bring in the loss that the edit calls: a loss of logits cannot say it."""
    notebook.feature_distance = feature_distance


def feature_distance(D, real, fake):
    """How far the means of D's features lie apart (Salimans et al., arXiv:1606.03498)."""
    # helpers.capture wraps D where it computes in bfloat16; here it computes in float32.
    features = getattr(D, 'network', D).features
    difference = features(real).mean(0).detach() - features(fake).mean(0)
    return difference.square().sum()


@technique('minibatch stddev', '', "D's last layer is told the batch's spread",
           edits=[('x.flatten(1)', 'with_spread(x.flatten(1))'), (LAST_OF_D, f'1 + {LAST_OF_D}')])
def minibatch_stddev(notebook):
    """Bring in the function that the edit of D calls; its last layer is one number wider."""
    notebook.with_spread = with_spread


def with_spread(features):
    """Add to the features the mean of their spreads over the batch (Karras, arXiv:1710.10196)."""
    spread = (features.float().var(0, correction=0) + 1e-8).sqrt().mean()
    return torch.cat([features, spread.to(features.dtype).expand(len(features), 1)], 1)


@technique('spectral norm in D', '', 'spectral norm instead of batch norm in D', d_batch_norm=False)
def spectral_norm_in_D(notebook):
    """D's weights divided by their largest singular value (Miyato et al., arXiv:1802.05957)."""
    def normalise_spectrum(m):
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            nn.utils.parametrizations.spectral_norm(m)

    def build_network(d_conv_dim, g_conv_dim, z_size, img_size=32, d_batch_norm=True):
        D = notebook.Discriminator(d_conv_dim, img_size, d_batch_norm)
        G = notebook.Generator(z_size=z_size, conv_dim=g_conv_dim, img_size=img_size)
        D.apply(notebook.weights_init_normal)
        D.apply(normalise_spectrum)                  # after the weights are drawn
        G.apply(notebook.weights_init_normal)
        return D, G
    notebook.build_network = build_network


@technique('orthogonal init', '', 'orthogonal init in D and G')
def orthogonal_init(notebook):
    notebook.weights_init_normal = init_with(nn.init.orthogonal_)


UP = 'nn.ConvTranspose2d(deep, shallow, 4, stride=2, padding=1, bias=False)'
UP_TO_IMAGE = 'nn.ConvTranspose2d(conv_dim, 3, 4, stride=2, padding=1)'
DOUBLED = 'nn.Upsample(scale_factor=2)'
technique('resize-convolution', '', 'in G pixels doubled, then 3x3 convolution',
          edits=[(UP, f'{DOUBLED}, nn.Conv2d(deep, shallow, 3, padding=1, bias=False)'),
                 (UP_TO_IMAGE, f'{DOUBLED}, nn.Conv2d(conv_dim, 3, 3, padding=1)')])
technique('hinge', objective='hinge')
technique('relativistic, R1 + R2', objective='relativistic', penalty=0.05, d_batch_norm=False)
technique('R1 penalty', penalty=0.025)

# -------------------------------------------------------------------------------------------- dear

dear('conv_dim 128', HELPS, against='images x 0.2', conv_dim=128, budgets=0.2)
dear('conv_dim 256', WISHED, against='images x 0.2', conv_dim=256, budgets=0.2)
dear('base 64', WISHED, img_size=64)
dear('recipe 64', img_size=64, **RECIPE)

GROUPS = list(dict.fromkeys(setting.group for setting in SETTINGS.values()))
