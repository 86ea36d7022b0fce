"""The study's variants: each puts something of its own in the place of a name of the notebook.

The notebook's functions look one another up by name at the moment they run. So it is enough to set
an attribute of the module that holds its definitions: that is what each function here does with the
module it is given. Four parts: initialisations, optimizers and losses, images, networks.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

# ---------------------------------------------------------------------------------- initialisations


def init_with(draw):
    """Make a weights_init_normal that fills weights by draw(weight); biases are 0 as ever."""
    def weights_init(m):
        if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            draw(m.weight)
            if m.bias is not None:
                nn.init.zeros_(m.bias)
    return weights_init


def xavier_init(notebook):
    notebook.weights_init_normal = init_with(nn.init.xavier_normal_)


def orthogonal_init(notebook):
    notebook.weights_init_normal = init_with(nn.init.orthogonal_)


def no_init(notebook):
    """All weights stay as torch has drawn them; biases are 0 as ever."""
    def leave_alone(weight):
        pass
    notebook.weights_init_normal = init_with(leave_alone)


def init_that_skips_G(notebook):
    """The fault of looking for the text Conv2d, which is not in ConvTranspose2d."""
    original = notebook.weights_init_normal

    def weights_init(m):
        if not isinstance(m, nn.ConvTranspose2d):
            original(m)
    notebook.weights_init_normal = weights_init


# ---------------------------------------------------------------------------- optimizers and losses


def two_time_scales(notebook):
    """D learns at twice G's rate (Heusel et al., arXiv:1706.08500)."""
    original = notebook.make_optimizers

    def make_optimizers(D, G, lr, *betas):
        d_optimizer, _ = original(D, G, 2 * lr, *betas)
        _, g_optimizer = original(D, G, lr, *betas)
        return d_optimizer, g_optimizer
    notebook.make_optimizers = make_optimizers


def sgd_for_D(notebook):
    original = notebook.make_optimizers

    def make_optimizers(D, G, *rates):
        _, g_optimizer = original(D, G, *rates)
        return optim.SGD(D.parameters(), lr=0.01, momentum=0.9, fused=True), g_optimizer
    notebook.make_optimizers = make_optimizers


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


def feature_matching(notebook):
    """Bring in the loss that an edit of the training step calls: a loss of logits cannot say it."""
    notebook.feature_distance = feature_distance


def feature_distance(D, real, fake):
    """How far the means of D's features lie apart (Salimans et al., arXiv:1606.03498)."""
    # helpers.capture wraps D where it computes in bfloat16; here it computes in float32.
    features = getattr(D, 'network', D).features
    difference = features(real).mean(0).detach() - features(fake).mean(0)
    return difference.square().sum()


# ------------------------------------------------------------------------------------------- images


def unscaled(notebook):
    """The fault of leaving real images in [0, 1]."""
    def scale(images):
        return images
    notebook.scale = scale


def let_D_see(notebook, change):
    """D sees change(x) of all images, real and generated."""
    class SeeingChanged(notebook.Discriminator):
        def forward(self, x):
            return super().forward(change(x))
    notebook.Discriminator = SeeingChanged


def augmentation(notebook):
    let_D_see(notebook, augment)


def instance_noise(notebook):
    let_D_see(notebook, add_noise)


def add_noise(x):
    return x + 0.1 * torch.randn_like(x)


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


# ----------------------------------------------------------------------------------------- networks

HOLDS_LAYERS = {'Discriminator': 'features', 'Generator': 'layers'}
ACTIVATIONS = nn.ReLU, nn.LeakyReLU


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


def dropout_in_D(notebook):
    change_layers(notebook, 'Discriminator', drop_after_activations)


def dropout_in_G(notebook):
    change_layers(notebook, 'Generator', drop_after_activations)


def drop_after_activations(layers):
    """Add dropout of 0.3 after each activation but the first."""
    changed, n_activations = [], 0
    for layer in layers:
        changed.append(layer)
        if isinstance(layer, ACTIVATIONS):
            n_activations += 1
            if n_activations > 1:
                changed.append(nn.Dropout(0.3))
    return changed


def leaky_relu_in_G(notebook):
    change_layers(notebook, 'Generator', make_leaky)


def make_leaky(layers):
    """Put a leaky ReLU of 0.2 in the place of each ReLU."""
    changed = []
    for layer in layers:
        is_relu = isinstance(layer, nn.ReLU)
        changed.append(nn.LeakyReLU(0.2, inplace=True) if is_relu else layer)
    return changed


def batch_norm_everywhere(notebook):
    """Batch normalisation also in D's first layer and in G's last, where DCGAN leaves it out."""
    change_layers(notebook, 'Discriminator', normalise_first)
    change_layers(notebook, 'Generator', normalise_last)


def normalise_first(layers):
    first, *others = layers
    return [first, nn.BatchNorm2d(first.out_channels), *others]


def normalise_last(layers):
    *others, last, tanh = layers
    return [*others, last, nn.BatchNorm2d(last.out_channels), tanh]


def eps_for_momentum(notebook):
    """The fault of writing batch normalisation's eps where its momentum was meant."""
    change_layers(notebook, 'Discriminator', raise_eps)
    change_layers(notebook, 'Generator', raise_eps)


def raise_eps(layers):
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = 0.8
    return layers


def spectral_norm_in_D(notebook):
    """D's weights divided by their largest singular value (Miyato et al., arXiv:1802.05957)."""
    def build_network(d_conv_dim, g_conv_dim, z_size, img_size=32, d_batch_norm=True):
        D = notebook.Discriminator(d_conv_dim, img_size, d_batch_norm)
        G = notebook.Generator(z_size=z_size, conv_dim=g_conv_dim, img_size=img_size)
        D.apply(notebook.weights_init_normal)
        D.apply(normalise_spectrum)                  # after the weights are drawn
        G.apply(notebook.weights_init_normal)
        return D, G
    notebook.build_network = build_network


def normalise_spectrum(m):
    if isinstance(m, (nn.Conv2d, nn.Linear)):
        nn.utils.parametrizations.spectral_norm(m)


def minibatch_stddev(notebook):
    """Bring in the function that an edit of D calls; its last layer is one number wider."""
    notebook.with_spread = with_spread


def with_spread(features):
    """Add to the features the mean of their spreads over the batch (Karras, arXiv:1710.10196)."""
    spread = (features.float().var(0, correction=0) + 1e-8).sqrt().mean()
    return torch.cat([features, spread.to(features.dtype).expand(len(features), 1)], 1)
