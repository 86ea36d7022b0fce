"""The study's settings: each changes one thing of the public recipe.

A setting changes parameters, or it is a variant (study_variants.py), or, where the inside of a
network or of the training step changes, it edits the notebook's own source.
Names, changes, groups and claims are keys of assets/study.csv: a setting whose name or change is
altered counts as a new one, and its old runs no longer count.
"""
import math

from experiments import common, study_variants

BASE = dict(conv_dim=32, batch_size=128, lr=2e-4, beta1=0.5, beta2=0.999, objective='bce',
            img_size=32, z_size=100, penalty=0, penalty_every=4, flip=False, d_batch_norm=True,
            ema_decay=0, lr_decay=False, uniform_z=False, fast=True, budgets=1,
            d_width=1)                               # of D's width to G's
PUBLIC_RECIPE = ('conv_dim', 'batch_size', 'lr', 'beta1', 'objective')   # in the base's own row
RECIPE = dict(batch_size=16, lr=4e-4, beta1=0.0, penalty=0.025, flip=True, ema_decay=0.999,
              lr_decay=True)

HELPS, LITTLE, HURTS = 'said to help', 'said to matter little', 'said to hurt'
WISHED = 'wished for, not tried'


class Setting:
    """One setting of the study.

    group, name   where it stands in the tables, and what it is called there
    claim         what the public solutions say of it
    what          what it changes, in words; by default its changes of BASE
    variant       a function of study_variants that changes the notebook's definitions
    edits         pairs (old, new) of the notebook's source text
    against       the setting that it is held against; by default the base of its image size
    changes       of BASE
    """

    def __init__(self, group, name, claim='', what='', variant=None, edits=(), against='',
                 **changes):
        self.group = group
        self.name = name
        self.claim = claim
        self.change = what or in_words(changes)
        self.variant = variant
        self.edits = edits
        self.config = BASE | changes
        size = self.config['img_size']
        self.base = against or ('base' if size == 32 else f'base {size}')

    def definitions(self):
        """Return the notebook's definitions with this setting's edits and variant."""
        notebook = common.notebook_definitions(self.edits)
        if self.variant:
            self.variant(notebook)
        return notebook


def in_words(changes):
    return ', '.join(f'{name} {value}' for name, value in changes.items())


# ---------------------------------------------------------------------------- edits of the notebook

NORMAL_Z = 'z = torch.randn(len(real), fixed_z.shape[1], device=device)'
UNIFORM_Z = [(NORMAL_Z, NORMAL_Z.replace('randn', 'rand') + ' * 2 - 1')]

# What the new text calls is put into the definitions by the variant of the same name.
FEATURE_MATCHING = [('g_objective(D_real.detach(), D(fake))', 'feature_distance(D, real, fake)')]
LAST_OF_D = 'depths[-1] * 4 * 4, 1)'
MINIBATCH_STDDEV = [('x.flatten(1)', 'with_spread(x.flatten(1))'), (LAST_OF_D, f'1 + {LAST_OF_D}')]

UP = 'nn.ConvTranspose2d(deep, shallow, 4, stride=2, padding=1, bias=False)'
UP_TO_IMAGE = 'nn.ConvTranspose2d(conv_dim, 3, 4, stride=2, padding=1)'
DOUBLED = 'nn.Upsample(scale_factor=2)'
RESIZE_CONVOLUTION = [
    (UP, f'{DOUBLED}, nn.Conv2d(deep, shallow, 3, padding=1, bias=False)'),
    (UP_TO_IMAGE, f'{DOUBLED}, nn.Conv2d(conv_dim, 3, 3, padding=1)')]


def halve_down_to(size):
    """Return edits for networks that halve an image until it is this wide, and not 4 pixels."""
    n_layers = 'int(math.log2(img_size)) - {}'
    edits = [(n_layers.format(2), n_layers.format(int(math.log2(size))))]
    for old in (LAST_OF_D, 'depths[0] * 4 * 4, bias=False)', 'unflatten(1, (-1, 4, 4))'):
        edits.append((old, old.replace('4', str(size))))
    return edits


# ------------------------------------------------------------------------------------- the settings


def base_settings():
    public = in_words({name: BASE[name] for name in PUBLIC_RECIPE})
    return [
        Setting('base', 'base', what=f'the public recipe: {public}'),
        Setting('base', 'recipe', **RECIPE)]


def public_settings():
    """What the public solutions claim, or wish that they had tried, and their faults."""
    def public(name, claim='', what='', variant=None, **options):
        return Setting('public', name, claim, what, variant, **options)

    return [
        public('images x 0.2', what='0.2 times the budget', budgets=0.2),
        public('images x 0.4', what='0.4 times the budget', budgets=0.4),
        public('images x 2', HELPS, '2 times the budget', budgets=2),
        public('2 layers', what='one strided layer fewer in D and G: down to 8x8',
               edits=halve_down_to(8)),
        public('4 layers', WISHED, 'one strided layer more in D and G: down to 2x2',
               edits=halve_down_to(2)),
        public('batch 16', HELPS, batch_size=16),
        public('batch 32', HELPS, batch_size=32),
        public('batch 64', batch_size=64),
        public('batch 256', batch_size=256),
        public('batch 512', batch_size=512),
        public('conv_dim 16', conv_dim=16),
        public('conv_dim 64', HELPS, conv_dim=64),
        public('lr 0.01', HURTS, lr=0.01),
        public('lr 0.001', HURTS, lr=0.001),
        public('lr 0.0004', lr=0.0004),
        public('lr 0.0001', lr=0.0001),
        public('beta1 0.1', beta1=0.1),
        public('beta1 0.3', beta1=0.3),
        public('beta1 0.9', HURTS, beta1=0.9),
        public('z 32', z_size=32),
        public('z 256', LITTLE, z_size=256),
        public('label smoothing', HELPS, objective='bce-smooth'),
        public('dropout in D', HELPS, "dropout of 0.3 in D's deeper layers",
               study_variants.dropout_in_D),
        public('dropout in G', '', "dropout of 0.3 in G's deeper layers",
               study_variants.dropout_in_G),
        public('Xavier', LITTLE, 'Xavier normal init in D and G', study_variants.xavier_init),
        public('LeakyReLU in G', WISHED, 'LeakyReLU of 0.2 in G', study_variants.leaky_relu_in_G),
        public('batch norm everywhere', '', "batch norm also in D's first layer and G's last",
               study_variants.batch_norm_everywhere),
        public('uniform z', '', 'z uniform in [-1, 1]', edits=UNIFORM_Z, uniform_z=True),
        public('Wasserstein', WISHED, objective='wasserstein', penalty=10, d_batch_norm=False),
        public('Wasserstein, no penalty', objective='wasserstein'),
        public('least squares', WISHED, objective='least-squares'),
        public('fault: init skips G', '', "ConvTranspose2d keeps torch's init",
               study_variants.init_that_skips_G),
        public('fault: no init', '', "all weights keep torch's init", study_variants.no_init),
        public('fault: real unscaled', '', 'real images stay in [0, 1]', study_variants.unscaled),
        public('fault: eps 0.8', '', "batch norm's eps 0.8", study_variants.eps_for_momentum)]


def technique_settings():
    """Techniques from elsewhere."""
    def technique(name, what='', variant=None, **options):
        return Setting('technique', name, '', what, variant, **options)

    return [
        technique('float32', 'the plain step in float32, without helpers.capture: '
                             'quality must not be its price', fast=False),
        technique('EMA of G', ema_decay=0.999),
        technique('flips', flip=True),
        technique('lr schedule', lr_decay=True),
        technique('two time scales', "D's lr twice G's", study_variants.two_time_scales),
        technique('beta1 0', beta1=0.0),
        technique('SGD for D', 'SGD for D: lr 0.01, momentum 0.9', study_variants.sgd_for_D),
        technique('augmentation', 'all that D sees: shifted by up to 1/8; '
                                  'brightness, saturation, contrast changed',
                  study_variants.augmentation),
        technique('instance noise', 'noise N(0, 0.1) on all that D sees',
                  study_variants.instance_noise),
        technique('label noise', '5% of the labels flipped for D', study_variants.label_noise),
        technique('feature matching', "G matches the means of D's features",
                  study_variants.feature_matching, edits=FEATURE_MATCHING),
        technique('minibatch stddev', "D's last layer is told the batch's spread",
                  study_variants.minibatch_stddev, edits=MINIBATCH_STDDEV),
        technique('no batch norm in D', d_batch_norm=False),
        technique('spectral norm in D', 'spectral norm instead of batch norm in D',
                  study_variants.spectral_norm_in_D, d_batch_norm=False),
        technique('orthogonal init', 'orthogonal init in D and G', study_variants.orthogonal_init),
        technique('resize-convolution', 'in G pixels doubled, then 3x3 convolution',
                  edits=RESIZE_CONVOLUTION),
        technique('hinge', objective='hinge'),
        technique('relativistic, R1 + R2', objective='relativistic', penalty=0.05,
                  d_batch_norm=False),
        technique('R1 penalty', penalty=0.025),
        technique('R1 penalty x 10', penalty=0.25)]


def dear_settings():
    """Too dear for most CPUs, so left out on them unless they are asked for."""
    def dear(name, claim='', what='', **options):
        return Setting('dear', name, claim, what, **options)

    return [
        dear('images x 5', HELPS, '5 times the budget', budgets=5),
        dear('conv_dim 128', HELPS, against='images x 0.2', conv_dim=128, budgets=0.2),
        dear('conv_dim 256', WISHED, against='images x 0.2', conv_dim=256, budgets=0.2),
        dear('base 64', WISHED, img_size=64),
        dear('recipe 64', img_size=64, **RECIPE)]


ALL = [*base_settings(), *public_settings(), *technique_settings(), *dear_settings()]
SETTINGS = {setting.name: setting for setting in ALL}
GROUPS = list(dict.fromkeys(setting.group for setting in ALL))
