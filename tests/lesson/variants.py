"""Right and wrong ways to write each part, in the shapes that public solutions have.

RIGHT  {test: {variant: source}}: the test passes
WRONG  {test: {variant: (source, words of the message)}}: it fails, and says so
Each source is run among the notebook's own definitions.
"""

# ---------------------------------------------------------------------------------- get_dataloader

IMPORTS = '''
import glob
import torchvision
from PIL import Image
from torchvision import datasets, transforms


'''
FOLDER = IMPORTS + '''
def get_dataloader(batch_size, image_size, data_dir='processed_celeba_small/'):
    steps = [transforms.Resize(image_size), transforms.ToTensor()]
    images = datasets.ImageFolder(data_dir, transforms.Compose(steps))
    return DataLoader(images, batch_size=batch_size, shuffle=True)
'''
LOADERS = {
    'ImageFolder': FOLDER,
    'last batch dropped': FOLDER.replace('shuffle=True', 'shuffle=True, drop_last=True'),
    'cropped and mirrored': FOLDER.replace(
        'transforms.ToTensor()',
        'transforms.CenterCrop(image_size), transforms.RandomHorizontalFlip(), '
        'transforms.ToTensor()'),
    'a sampler': FOLDER.replace('shuffle=True', 'sampler=RandomSampler(images)'),
    'a data set of its own': IMPORTS + '''
class Photos(torch.utils.data.Dataset):
    def __init__(self, data_dir, size):
        self.paths = sorted(glob.glob(data_dir + '/**/*.jpg', recursive=True))
        self.size = size

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        image = Image.open(self.paths[index]).convert('RGB').resize((self.size, self.size))
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255, 0


def get_dataloader(batch_size, image_size, data_dir='processed_celeba_small/'):
    return DataLoader(Photos(data_dir, image_size), batch_size, shuffle=True)
''',
    'all in memory': IMPORTS + '''
def get_dataloader(batch_size, image_size, data_dir='processed_celeba_small/'):
    steps = transforms.Compose([transforms.Resize((image_size, image_size)),
                                transforms.ToTensor()])
    images = torch.stack([image for image, _ in datasets.ImageFolder(data_dir, steps)])
    pairs = torch.utils.data.TensorDataset(images, torch.zeros(len(images)))
    return DataLoader(pairs, batch_size, shuffle=True)
''',
}
BAD_LOADERS = {
    'in order': (FOLDER.replace('shuffle=True', ''), 'expected another order'),
    'normalised': (FOLDER.replace('transforms.ToTensor()',
                                  'transforms.ToTensor(), transforms.Normalize(0.5, 0.5)'),
                   'Range: expected .0, 1.'),
    'another size': (FOLDER.replace('image_size)', '28)'), 'Shapes: expected'),
    'another batch': (FOLDER.replace('batch_size=batch_size', 'batch_size=128'),
                      'batch_size: expected 4, found 128'),
    'no loader': (FOLDER.replace('DataLoader(images, batch_size=batch_size, shuffle=True)',
                                 'images'), 'batch_size: expected 4, found none'),
    'a gap': ('def get_dataloader(batch_size, image_size, data_dir="faces/"):\n    pass',
              'get_dataloader returned nothing: write it in the cell above'),
}

# -------------------------------------------------------------------------------------------- scale


def scaled(lines):
    return f'def scale(x, feature_range=(-1, 1)):\n    {lines}'


SCALES = {
    'min and max': scaled('min, max = feature_range\n    return x * (max - min) + min'),
    'by index': scaled('return feature_range[0] + x * (feature_range[1] - feature_range[0])'),
    'a mixture': scaled('return (1 - x) * feature_range[0] + x * feature_range[1]'),
    'a copy in place': scaled('low, high = feature_range\n    x = x.clone()\n'
                              '    x *= high - low\n    x += low\n    return x'),
    'torch.lerp': scaled('low, high = (torch.full_like(x, end) for end in feature_range)\n'
                         '    return torch.lerp(low, high, x)'),
    'a local function': scaled('def f(t):\n        return t * (feature_range[1] - '
                               'feature_range[0]) + feature_range[0]\n    return f(x)'),
}
BAD_SCALES = {
    'one range': (scaled('return x * 2 - 1'), 'Scaled values'),
    'symmetric ranges': (scaled('return x * 2 * feature_range[1] - feature_range[1]'),
                         'Scaled values'),
    'in place': (scaled('low, high = feature_range\n    return x.mul_(high - low).add_(low)'),
                 'The argument afterwards'),
    'stretched to its own ends': (
        scaled('low, high = feature_range\n    x = (x - x.min()) / (x.max() - x.min())\n'
               '    return x * (high - low) + low'), 'Scaled values of a dark image'),
    'a gap': (scaled('pass'), 'scale returned nothing: write it in the cell above'),
}

# ---------------------------------------------------------------------------------------- networks

CONV = '''
def conv(inside, outside, kernel_size=4, stride=2, padding=1, batch_norm=True):
    layers = [nn.Conv2d(inside, outside, kernel_size, stride, padding, bias=not batch_norm)]
    if batch_norm:
        layers.append(nn.BatchNorm2d(outside))
    return nn.Sequential(*layers)


class Discriminator(nn.Module):
    def __init__(self, conv_dim):
        super().__init__()
        self.conv_dim = conv_dim
        self.conv1 = conv(3, conv_dim, batch_norm=False)
        self.conv2 = conv(conv_dim, conv_dim * 2)
        self.conv3 = conv(conv_dim * 2, conv_dim * 4)
        self.fc = nn.Linear(conv_dim * 4 * 4 * 4, 1)

    def forward(self, x):
        x = F.leaky_relu(self.conv1(x), 0.2)
        x = F.leaky_relu(self.conv2(x), 0.2)
        x = F.leaky_relu(self.conv3(x), 0.2)
        x = x.view(-1, self.conv_dim * 4 * 4 * 4)
        return self.fc(x)
'''


def D_of(layers):
    """A Discriminator that is a Sequential of layers; c is its width."""
    return f'''
class Discriminator(nn.Module):
    def __init__(self, conv_dim):
        super().__init__()
        c = conv_dim
        self.main = nn.Sequential({layers})

    def forward(self, x):
        return self.main(x)
'''


FLAT = 'nn.Flatten(), nn.Linear(c * 2 * 8 * 8, 1)'
TWO = 'nn.Conv2d(3, c, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(c, c * 2, 4, 2, 1), nn.LeakyReLU(0.2)'
DISCRIMINATORS = {
    'helper and view': CONV,
    'dropout': CONV.replace('return self.fc(x)',
                            'return self.fc(F.dropout(x, 0.3, self.training))'),
    'Sequential': D_of(f'{TWO}, {FLAT}'),
    'convolutions alone': D_of(f'{TWO}, nn.Conv2d(c * 2, 1, 8), nn.Flatten()'),
    'mean of the features': D_of(
        f'{TWO}, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c * 2, 1)'),
    'kernels of 5 and pooling': D_of(
        f'nn.Conv2d(3, c, 5, padding=2), nn.ELU(), nn.MaxPool2d(2), '
        f'nn.Conv2d(c, c * 2, 5, padding=2), nn.SiLU(), nn.AvgPool2d(2), {FLAT}'),
    'spectral norm': D_of(
        'nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, c, 4, 2, 1)), nn.LeakyReLU(0.1), '
        'nn.utils.parametrizations.spectral_norm(nn.Conv2d(c, c * 2, 4, 2, 1)), nn.LeakyReLU(0.1), '
        'nn.Flatten(), nn.utils.parametrizations.spectral_norm(nn.Linear(c * 2 * 8 * 8, 1))'),
    'a gate within': CONV.replace('x = x.view', 'x = x * torch.sigmoid(x)\n        x = x.view'),
    'layer norm at the end': D_of(f'{TWO}, nn.Flatten(), nn.LayerNorm(c * 2 * 8 * 8), '
                                  f'nn.Linear(c * 2 * 8 * 8, 1)'),
}
BAD_DISCRIMINATORS = {
    'sigmoid in forward': (CONV.replace('return self.fc(x)', 'return torch.sigmoid(self.fc(x))'),
                           'leave out the sigmoid or tanh at the end'),
    'sigmoid as a layer': (D_of(f'{TWO}, {FLAT}, nn.Sigmoid()'), 'leave out the sigmoid or tanh'),
    'tanh': (CONV.replace('return self.fc(x)', 'return self.fc(x).tanh()'),
             'leave out the sigmoid or tanh'),
    'a row': (CONV.replace('return self.fc(x)', 'return self.fc(x).squeeze()'),
              r'expected \(3, 1\), found \(3,\)'),
    'an image': (D_of(f'{TWO}, nn.Conv2d(c * 2, 1, 8)'), r'found \(3, 1, 1, 1\)'),
    'no gradient': (CONV.replace('return self.fc(x)', 'return self.fc(x.detach()) + 0 * x[:, :1]'),
                    'Gradient: expected finite, and not 0 everywhere'),
    'eps for momentum': (CONV.replace('BatchNorm2d(outside)', 'BatchNorm2d(outside, 0.8)'),
                         'eps of a batch normalisation: expected 1e-5'),
    'a gap': ('class Discriminator(nn.Module):\n    def __init__(self, conv_dim):\n'
              '        super().__init__()\n\n    def forward(self, x):\n        pass',
              'Discriminator.forward returned nothing: write it in the cell above'),
    'an argument given back': (
        'class Discriminator(nn.Module):\n    def __init__(self, conv_dim):\n'
        '        super().__init__()\n\n    def forward(self, x):\n        return x',
        r'expected \(3, 1\), found \(3, 3, 32, 32\)'),
}

DECONV = '''
def deconv(inside, outside, kernel_size=4, stride=2, padding=1, batch_norm=True):
    layers = [nn.ConvTranspose2d(inside, outside, kernel_size, stride, padding, bias=False)]
    if batch_norm:
        layers.append(nn.BatchNorm2d(outside))
    return nn.Sequential(*layers)


class Generator(nn.Module):
    def __init__(self, z_size, conv_dim):
        super().__init__()
        self.conv_dim = conv_dim
        self.fc = nn.Linear(z_size, conv_dim * 4 * 4 * 4)
        self.t_conv1 = deconv(conv_dim * 4, conv_dim * 2)
        self.t_conv2 = deconv(conv_dim * 2, conv_dim)
        self.t_conv3 = deconv(conv_dim, 3, batch_norm=False)

    def forward(self, x):
        x = self.fc(x)
        x = x.view(-1, self.conv_dim * 4, 4, 4)
        x = F.relu(self.t_conv1(x))
        x = F.relu(self.t_conv2(x))
        return torch.tanh(self.t_conv3(x))
'''
END = 'return torch.tanh(self.t_conv3(x))'


def G_of(layers):
    """A Generator that is a Sequential of layers; c is its width."""
    return f'''
class Generator(nn.Module):
    def __init__(self, z_size, conv_dim):
        super().__init__()
        c = conv_dim
        self.main = nn.Sequential({layers})

    def forward(self, z):
        return self.main(z)
'''


GENERATORS = {
    'helper and view': DECONV,
    'dropout': DECONV.replace('x = self.fc(x)', 'x = F.dropout(self.fc(x), 0.3)'),
    'Sequential': G_of('nn.Linear(z_size, c * 8 * 8), nn.Unflatten(1, (c, 8, 8)), '
                       'nn.ConvTranspose2d(c, c, 4, 2, 1), nn.BatchNorm2d(c), nn.ReLU(), '
                       'nn.ConvTranspose2d(c, 3, 4, 2, 1), nn.Tanh()'),
    'batch norm behind the first layer': G_of(
        'nn.Linear(z_size, c * 8 * 8), nn.BatchNorm1d(c * 8 * 8), nn.ReLU(), '
        'nn.Unflatten(1, (c, 8, 8)), nn.ConvTranspose2d(c, c, 4, 2, 1), nn.ReLU(), '
        'nn.ConvTranspose2d(c, 3, 4, 2, 1), nn.Tanh()'),
    'noise as pixels': G_of(
        'nn.Unflatten(1, (z_size, 1, 1)), nn.ConvTranspose2d(z_size, c * 4, 4, 1, 0), '
        'nn.BatchNorm2d(c * 4), nn.ReLU(), nn.ConvTranspose2d(c * 4, c, 4, 2, 1), '
        'nn.BatchNorm2d(c), nn.ReLU(), nn.ConvTranspose2d(c, c, 4, 2, 1), nn.ReLU(), '
        'nn.ConvTranspose2d(c, 3, 4, 2, 1), nn.Tanh()'),
    'enlarged and convolved': G_of(
        'nn.Linear(z_size, c * 8 * 8), nn.Unflatten(1, (c, 8, 8)), nn.Upsample(scale_factor=2), '
        'nn.Conv2d(c, c, 3, padding=1), nn.LeakyReLU(0.2), nn.Upsample(scale_factor=2), '
        'nn.Conv2d(c, 3, 3, padding=1), nn.Tanh()'),
    'two sigmoids less one': DECONV.replace(END, 'return 2 * torch.sigmoid(self.t_conv3(x)) - 1'),
    'momentum 0.9': DECONV.replace('BatchNorm2d(outside)', 'BatchNorm2d(outside, momentum=0.9)'),
}
BAD_GENERATORS = {
    'no tanh': (DECONV.replace(END, 'return self.t_conv3(x)'), '-1 to 1: let a tanh be the end'),
    'sigmoid': (DECONV.replace(END, 'return torch.sigmoid(self.t_conv3(x))'),
                'let a tanh be the end'),
    'relu': (DECONV.replace(END, 'return F.relu(self.t_conv3(x))'), 'let a tanh be the end'),
    'half a tanh': (DECONV.replace(END, 'return torch.tanh(self.t_conv3(x)) / 2'),
                    'let a tanh be the end'),
    'narrow images': (DECONV.replace(END, f'{END}[..., ::2]'), 'Output: expected'),
    'eps for momentum': (DECONV.replace('BatchNorm2d(outside)', 'BatchNorm2d(outside, 0.8)'),
                         'eps of a batch normalisation: expected 1e-5'),
    'a gap': ('class Generator(nn.Module):\n    def __init__(self, z_size, conv_dim):\n'
              '        super().__init__()\n\n    def forward(self, x):\n        ...',
              'Generator.forward returned nothing: write it in the cell above'),
    'not written': ('class Generator(nn.Module):\n    def __init__(self, z_size, conv_dim):\n'
                    '        raise NotImplementedError', 'Generator is not written yet'),
}

# ------------------------------------------------------------------------------------------ weights


def init(lines):
    return f'def weights_init_normal(m):\n    {lines}'


BY_NAME = init('''classname = m.__class__.__name__
    if hasattr(m, 'weight') and ('Conv' in classname or 'Linear' in classname):
        m.weight.data.normal_(0.0, 0.02)
        if hasattr(m, 'bias') and m.bias is not None:
            m.bias.data.zero_()''')
INITS = {
    'by name': BY_NAME,
    'find': BY_NAME.replace("'Conv' in classname", "classname.find('Conv') != -1"),
    'bias as it was': init('if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):\n'
                           '        nn.init.normal_(m.weight, std=0.02)'),
    'kinds in a list': init('if type(m) in [nn.Conv2d, nn.ConvTranspose2d, nn.Linear]:\n'
                            '        m.weight.data = torch.randn_like(m.weight) * 0.02'),
    'by dimensions': init("if getattr(m, 'weight', None) is not None and m.weight.ndim > 1:\n"
                          '        nn.init.normal_(m.weight, 0, 0.02)'),
    'batch norm around 1': BY_NAME + '\n    elif "BatchNorm" in classname:\n'
                                     '        m.weight.data.normal_(1.0, 0.02)\n'
                                     '        m.bias.data.fill_(0)',
}
BAD_INITS = {
    'Conv2d in the name': (BY_NAME.replace("'Conv'", "'Conv2d'"),
                           'Weights of ConvTranspose2d: expected drawn anew'),
    'no linear layers': (BY_NAME.replace(" or 'Linear' in classname", ''), 'Weights of Linear'),
    '0.2': (BY_NAME.replace('0.02', '0.2'), 'of the weights of Conv2d'),
    'uniform': (BY_NAME.replace('normal_(0.0, 0.02)', 'uniform_(-0.0346, 0.0346)'),
                'Largest weight of Conv2d'),
    'batch norm around 0': (BY_NAME.replace("('Conv' in classname or 'Linear' in classname)",
                                            'm.weight is not None'),
                            'Scale of batch normalisation: expected 1'),
    'a gap': (init('pass'), 'Weights of Conv2d: expected drawn anew, found those of before'),
}

BUILD = '''
def build_network(d_conv_dim, g_conv_dim, z_size):
    D = Discriminator(d_conv_dim)
    G = Generator(z_size=z_size, conv_dim=g_conv_dim)
    D.apply(weights_init_normal)
    G.apply(weights_init_normal)
    print(D)
    print()
    print(G)
    return D, G
'''
BUILDS = {
    'as asked': BUILD,
    'says nothing': BUILD.replace('print(D)', '').replace('print(G)', ''),
    'in a loop': BUILD.replace('    G.apply(weights_init_normal)\n', '').replace(
        'D.apply(weights_init_normal)', 'for network in (D, G):\n'
        '        for m in network.modules():\n            weights_init_normal(m)'),
    'with a name for each': BUILD.replace('print(D)', "print('D:', D)"),
    'defaults': BUILD.replace('z_size):', 'z_size=100):'),
}
BAD_BUILDS = {
    'G not initialised': (BUILD.replace('    G.apply(weights_init_normal)\n', ''),
                          'G is not initialised'),
    'G, D': (BUILD.replace('return D, G', 'return G, D'), 'to return .D, G. in this order'),
    'a gap': ('def build_network(d_conv_dim, g_conv_dim, z_size):\n    D = None\n    G = None\n'
              '    return D, G', 'build_network returned nothing'),
}

# ------------------------------------------------------------------------------------------- losses

SMOOTHED = '''
def real_loss(D_out, smooth=False):
    batch_size = D_out.size(0)
    if smooth:
        labels = torch.ones(batch_size) * 0.9
    else:
        labels = torch.ones(batch_size)
    if train_on_gpu:
        labels = labels.cuda()
    criterion = nn.BCEWithLogitsLoss()
    return criterion(D_out.squeeze(), labels)


def fake_loss(D_out):
    labels = torch.zeros(D_out.size(0))
    if train_on_gpu:
        labels = labels.cuda()
    criterion = nn.BCEWithLogitsLoss()
    return criterion(D_out.squeeze(), labels)
'''
ONE_ARGUMENT = SMOOTHED.replace('D_out, smooth=False', 'D_out').replace(
    '    if smooth:\n        labels = torch.ones(batch_size) * 0.9\n    else:\n'
    '        labels = torch.ones(batch_size)\n', '    labels = torch.ones(batch_size)\n')
ALWAYS = ONE_ARGUMENT.replace('torch.ones(batch_size)', 'torch.ones(batch_size) * 0.9')
OF_A_SIGMOID = SMOOTHED.replace('BCEWithLogitsLoss', 'BCELoss').replace(
    'D_out.squeeze()', 'torch.sigmoid(D_out.squeeze())')
SIX_FORMS = {                # as the exercise's template and its solvers have them
    'squeeze, one argument': ONE_ARGUMENT,
    'squeeze, smooth=False': SMOOTHED,
    'squeeze, always 0.9': ALWAYS,
    'view, one argument': ONE_ARGUMENT.replace('squeeze()', 'view(-1)'),
    'view, always 0.9': ALWAYS.replace('squeeze()', 'view(-1)'),
    'BCELoss of a sigmoid': OF_A_SIGMOID,
}


def two(real, fake):
    return (f'def real_loss(D_out, smooth=False):\n    {real}\n\n\n'
            f'def fake_loss(D_out):\n    {fake}')


SQUARES = two('return torch.mean((D_out.squeeze() - (0.9 if smooth else 1)) ** 2)',
              'return torch.mean(D_out.squeeze() ** 2)')
LOSSES = SIX_FORMS | {
    'labels (B, 1)': two(
        'target = torch.ones(len(D_out), 1) * (0.9 if smooth else 1)\n'
        '    return F.binary_cross_entropy_with_logits(D_out, target)',
        'return F.binary_cross_entropy_with_logits(D_out, torch.zeros(len(D_out), 1))'),
    'softplus': two('smoothing = 0.1 * D_out.mean() if smooth else 0\n'
                    '    return F.softplus(-D_out).mean() + smoothing',
                    'return F.softplus(D_out).mean()'),
    'least squares': SQUARES,
    'hinge': two('return F.relu((0.9 if smooth else 1) - D_out).mean()',
                 'return F.relu(1 + D_out).mean()'),
}
BAD_LOSSES = {
    'swapped': (two('return F.softplus(D_out).mean()', 'return F.softplus(-D_out).mean()'),
                'real_loss of logits -3.0 and -2.0'),
    'fakes against 1': (SMOOTHED.replace('torch.zeros', 'torch.ones'), 'fake_loss of logits'),
    'smoothing of 0.8': (SMOOTHED.replace('0.9', '0.8'),
                         'Target of real_loss, smooth: expected 0.9, found 0.8'),
    'smoothing forgotten': (SMOOTHED.replace(' * 0.9', ''),
                            'Target of real_loss, smooth: expected 0.9, found 1'),
    'a sum': (SMOOTHED.replace('BCEWithLogitsLoss()', "BCEWithLogitsLoss(reduction='sum')"),
              'of the same logits four times'),
    'a number': (SMOOTHED.replace('criterion(D_out.squeeze(), labels)',
                                  'criterion(D_out.squeeze(), labels).item()'),
                 'real_loss: expected a tensor with a gradient'),
    'logarithms of a sigmoid': (two('return -torch.log(torch.sigmoid(D_out)).mean()',
                                    'return -torch.log(1 - torch.sigmoid(D_out)).mean()'),
                                'expected finite'),
    'a gap': (two('pass', 'pass'), 'real_loss returned nothing: write it in the cell above'),
}

# --------------------------------------------------------------------------------------- optimizers


def optimizers(d_line, g_line, arguments='D, G, lr=2e-4, beta1=0.5, beta2=0.999'):
    return (f'def make_optimizers({arguments}):\n    d_optimizer = {d_line}\n'
            f'    g_optimizer = {g_line}\n    return d_optimizer, g_optimizer')


ADAM = 'optim.Adam({}.parameters(), lr, (beta1, beta2))'
OPTIMIZERS = {
    'plain': optimizers(ADAM.format('D'), ADAM.format('G')),
    'lists': optimizers('optim.Adam(list(D.parameters()), lr=lr, betas=[beta1, beta2])',
                        'optim.Adam(list(G.parameters()), lr=lr, betas=[beta1, beta2])'),
    'groups': optimizers(
        "optim.Adam([{'params': [p]} for p in D.parameters()], lr, (beta1, beta2))",
        ADAM.format('G')),
    'two arguments': optimizers('optim.Adam(D.parameters(), 0.0002, [0.5, 0.999])',
                                'optim.Adam(G.parameters(), 0.0002, [0.5, 0.999])', 'D, G'),
    'no beta2': optimizers('optim.Adam(D.parameters(), lr, (beta1, 0.999))',
                           'optim.Adam(G.parameters(), lr, (beta1, 0.999))',
                           'D, G, lr=2e-4, beta1=0.5'),
    'AdamW': optimizers(ADAM.replace('Adam', 'AdamW').format('D'),
                        ADAM.replace('Adam', 'AdamW').format('G')),
    'SGD for D': optimizers('optim.SGD(D.parameters(), 0.01, 0.9)', ADAM.format('G')),
}
BAD_OPTIMIZERS = {
    'beta1 of 0.9': (optimizers('optim.Adam(D.parameters(), lr)', ADAM.format('G')),
                     'lr and betas of D: expected'),
    'G holds D': (optimizers(ADAM.format('D'), ADAM.format('D')), 'Weights of the optimizer of G'),
    'G, D': (optimizers(ADAM.format('G'), ADAM.format('D')), 'Weights of the optimizer of D'),
    'a layer left out': (optimizers('optim.Adam([next(D.parameters())], lr, (beta1, beta2))',
                                    ADAM.format('G')), 'Weights of the optimizer of D'),
    'lr of 0.002': (optimizers(ADAM.format('D'), ADAM.format('G'),
                               'D, G, lr=2e-3, beta1=0.5, beta2=0.999'), 'lr and betas of D'),
    'a gap': ('def make_optimizers(D, G, lr=2e-4, beta1=0.5, beta2=0.999):\n    pass',
              'make_optimizers returned nothing: write it in the cell above'),
}

# ----------------------------------------------------------------------------------------- the step

TEXTBOOK = '''
def plain_step(D, G, d_optimizer, g_optimizer, real, z):
    fake = G(z)
    d_optimizer.zero_grad()
    D_real = D(real)
    D_fake = D(fake.detach())
    d_loss = real_loss(D_real) + fake_loss(D_fake)
    d_loss.backward()
    d_optimizer.step()

    g_optimizer.zero_grad()
    g_loss = real_loss(D(fake))
    g_loss.backward()
    g_optimizer.step()
    answers = D_real.sigmoid().mean(), D_fake.sigmoid().mean()
    return torch.stack([d_loss, g_loss, *answers]).detach()
'''
INPUTS = TEXTBOOK.replace('g_loss.backward()', 'g_loss.backward(inputs=list(G.parameters()))')
ANEW = TEXTBOOK.replace('real_loss(D(fake))', 'real_loss(D(G(torch.randn_like(z))))')
STEPS = {
    'inputs=': INPUTS,
    'g_loss.backward()': TEXTBOOK,
    'fakes anew': ANEW,
    'fakes anew, no detach': ANEW.replace('fake.detach()', 'fake'),
    'the same noise again': TEXTBOOK.replace('real_loss(D(fake))', 'real_loss(D(G(z)))'),
    'networks zeroed': TEXTBOOK.replace('d_optimizer.zero_grad()', 'D.zero_grad()').replace(
        'g_optimizer.zero_grad()', 'D.zero_grad()\n    G.zero_grad()'),
    'two backward passes': TEXTBOOK.replace(
        'd_loss.backward()', 'real_loss(D_real).backward()\n    fake_loss(D_fake).backward()'),
    'D frozen in between': TEXTBOOK.replace(
        'g_loss = ', 'D.requires_grad_(False)\n    g_loss = ').replace(
        'g_optimizer.step()', 'g_optimizer.step()\n    D.requires_grad_(True)'),
    'without gradients': INPUTS.replace(
        'fake = G(z)\n', 'fake = G(z)\n    with torch.no_grad():\n        shown = fake.clone()\n'
        ).replace('D(fake.detach())', 'D(shown)'),
}
BAD_STEPS = {
    'no detach': (TEXTBOOK.replace('fake.detach()', 'fake').replace(
        'd_loss.backward()', 'd_loss.backward(retain_graph=True)'), "D's step must not run back"),
    'gradients add up': (TEXTBOOK.replace('d_optimizer.zero_grad()', 'pass'), 'd_loss, g_loss'),
    "G's gradients add up": (TEXTBOOK.replace('g_optimizer.zero_grad()', 'pass'), 'Weights of G'),
    'G wants to be found out': (TEXTBOOK.replace('real_loss(D(fake))', 'fake_loss(D(fake))'),
                                'd_loss, g_loss'),
    'losses swapped': (TEXTBOOK.replace('[d_loss, g_loss', '[g_loss, d_loss'), 'd_loss, g_loss'),
    'D does not learn': (TEXTBOOK.replace('    d_optimizer.step()\n', ''), 'd_loss, g_loss'),
    'D left frozen': (STEPS['D frozen in between'].replace('D.requires_grad_(True)', 'pass'),
                      "D's weights after the step: expected trainable"),
    'real images twice': (TEXTBOOK.replace('D(fake.detach())', 'D(real)'), 'd_loss, g_loss'),
    'plain numbers': (TEXTBOOK.replace('torch.stack([d_loss, g_loss, *answers]).detach()',
                                       'd_loss.item(), g_loss.item()'),
                      'The result: expected a tensor'),
    'a gap': ('def plain_step(D, G, d_optimizer, g_optimizer, real, z):\n    pass',
              'plain_step returned nothing: write it in the cell above'),
}

# ----------------------------------------------------------------------------------------- the loop

LOOP = '''
def train(D, G, n_epochs, print_every=50):
    samples, losses = [], []
    fixed_z = torch.from_numpy(np.random.uniform(-1, 1, size=(16, z_size))).float()
    for epoch in range(n_epochs):
        for batch_i, (real_images, _) in enumerate(celeba_train_loader):
            batch_size = real_images.size(0)
            real_images = scale(real_images)

            d_optimizer.zero_grad()
            z = torch.from_numpy(np.random.uniform(-1, 1, size=(batch_size, z_size))).float()
            d_loss = real_loss(D(real_images)) + fake_loss(D(G(z)))
            d_loss.backward()
            d_optimizer.step()

            g_optimizer.zero_grad()
            z = torch.from_numpy(np.random.uniform(-1, 1, size=(batch_size, z_size))).float()
            g_loss = real_loss(D(G(z)))
            g_loss.backward()
            g_optimizer.step()

            if batch_i % print_every == 0:
                losses.append((d_loss.item(), g_loss.item()))
                print('Epoch [{:5d}/{:5d}] | d_loss: {:6.4f} | g_loss: {:6.4f}'.format(
                    epoch + 1, n_epochs, d_loss.item(), g_loss.item()))
        G.eval()
        samples_z = G(fixed_z)
        samples.append(samples_z)
        G.train()
    with open('train_samples.pkl', 'wb') as f:
        pkl.dump(samples, f)
    return losses
'''
LOOPS = {
    'as in the exercise': LOOP,
    'normal noise': LOOP.replace('torch.from_numpy(np.random.uniform(-1, 1, size=(16, z_size)))',
                                 'torch.randn(16, z_size)'),
    'no graph of the grids': LOOP.replace(
        'samples_z = G(fixed_z)',
        'with torch.no_grad():\n            samples_z = G(fixed_z).cpu()'),
    'counted from 1': LOOP.replace('batch_i % print_every == 0',
                                   '(batch_i + 1) % print_every == 0'),
    'an f-string': LOOP.replace(
        "'Epoch [{:5d}/{:5d}] | d_loss: {:6.4f} | g_loss: {:6.4f}'.format(\n"
        '                    epoch + 1, n_epochs, d_loss.item(), g_loss.item())',
        "f'Epoch [{epoch + 1:5d}/{n_epochs:5d}] | d_loss: {d_loss.item():6.4f} | '\n"
        "                      f'g_loss: {g_loss.item():6.4f}'"),
    'lines of its own': LOOP.replace('Epoch [{:5d}/{:5d}]', '{}/{}'),
    'grids of 32, networks kept': LOOP.replace('size=(16, z_size)', 'size=(32, z_size)').replace(
        '        G.train()\n', "        G.train()\n        torch.save(G.state_dict(), 'G.pt')\n"),
    'noise by the loader': LOOP.replace('batch_size = real_images.size(0)',
                                        'batch_size = celeba_train_loader.batch_size'),
    'written after each epoch': LOOP.replace(
        "    with open('train_samples.pkl', 'wb') as f:\n        pkl.dump(samples, f)\n",
        '').replace('        G.train()\n',
                    "        G.train()\n        with open('train_samples.pkl', 'wb') as f:\n"
                    '            pkl.dump(samples, f)\n'),
}
BAD_LOOPS = {
    'unscaled': (LOOP.replace('real_images = scale(real_images)', 'scaled = scale(real_images)'),
                 'real images want scale'),
    'another fixed_z each time': (LOOP.replace('G(fixed_z)', 'G(torch.randn(16, z_size))'),
                                  'noise of a grid is that of the first'),
    'grids in train mode': (LOOP.replace('        G.eval()\n', ''), 'in eval mode for a grid'),
    'each batch printed': (LOOP.replace('batch_i % print_every == 0', 'True'), 'Epochs printed'),
    'tensors as losses': (LOOP.replace('(d_loss.item(), g_loss.item()))\n                print',
                                       '(d_loss, g_loss))\n                print'),
                          'Losses: expected pairs of plain numbers'),
    'nothing written': (LOOP.replace('pkl.dump(samples, f)', 'pass').replace(
        'train_samples.pkl', 'other.pkl'), 'train_samples.pkl: expected a grid for each epoch'),
    'the last grid alone': (LOOP.replace('samples.append(samples_z)', 'samples = [samples_z]'),
                            'Samples: expected'),
    'nothing returned': (LOOP.replace('    return losses\n', ''), 'train returned nothing'),
    'a gap': ('def train(D, G, n_epochs, print_every=50):\n    pass', 'train returned nothing'),
}

# ----------------------------------------------------------------------------------- a sample view

VIEW = '''
def view_samples(epoch, samples):
    fig, axes = plt.subplots(figsize=(16, 4), nrows=2, ncols=8, sharey=True, sharex=True)
    for ax, img in zip(axes.flatten(), samples[epoch]):
        img = img.detach().cpu().numpy()
        img = np.transpose(img, (1, 2, 0))
        img = ((img + 1) * 255 / 2).astype(np.uint8)
        ax.xaxis.set_visible(False)
        ax.yaxis.set_visible(False)
        im = ax.imshow(img)
'''
VIEWS = {
    'bytes': VIEW,
    '32x32 alone': VIEW.replace('ax.imshow(img)', 'ax.imshow(img.reshape((32, 32, 3)))'),
    'plt.show': VIEW + '    plt.show()\n',
    'numbers': VIEW.replace('((img + 1) * 255 / 2).astype(np.uint8)', '(img + 1) / 2'),
    'scale': VIEW.replace('img = img.detach()', 'img = scale(img, (0.5, 1)).detach()').replace(
        '((img + 1) * 255 / 2).astype(np.uint8)', 'img'),
    'subplots one by one': '''
def view_samples(epoch, samples):
    plt.figure(figsize=(16, 4))
    for number in range(16):
        plt.subplot(2, 8, number + 1)
        plt.axis('off')
        plt.imshow(samples[epoch][number].detach().permute(1, 2, 0) * 0.5 + 0.5)
''',
}
BAD_VIEWS = {
    'still from -1': (VIEW.replace('((img + 1) * 255 / 2).astype(np.uint8)', 'img'),
                      'Fourth picture'),
    'always the last epoch': (VIEW.replace('samples[epoch]', 'samples[-1]'), 'Fourth picture'),
    'four by four': (VIEW.replace('nrows=2, ncols=8', 'nrows=4, ncols=4'), 'Rows and columns'),
    'eight': (VIEW.replace('nrows=2', 'nrows=1'), 'Pictures: expected 16, found 8'),
    'colours first': (VIEW.replace('np.transpose(img, (1, 2, 0))', 'img.reshape(32, 32, 3)'),
                      'Fourth picture'),
    'a gap': ('def view_samples(epoch, samples):\n    pass', 'Pictures: expected 16, found 0'),
}

# --------------------------------------------------------------------------------------------- all

NORM = '''
def slope_penalty(D, x, wanted):
    x = x.detach().clone().requires_grad_(True)
    gradient = torch.autograd.grad(D(x).sum(), x, create_graph=True)[0]
    slope = gradient.view(len(x), -1).norm(dim=1)
    return ((slope - wanted) ** 2).mean()
'''
RIGHT = {
    'test_get_dataloader': LOADERS,
    'test_scale': SCALES,
    'test_discriminator_layers': DISCRIMINATORS,
    'test_generator_layers': GENERATORS,
    'test_weights_init_normal': INITS,
    'test_build_network': BUILDS,
    'test_losses': LOSSES,
    'test_make_optimizers': OPTIMIZERS,
    'test_plain_step': STEPS,
    'test_gradient_penalty': {'norm': NORM},
    'test_train_step': {'norm in the penalty': NORM},
    'test_train': LOOPS,
    'test_view_samples': VIEWS,
}
WRONG = {
    'test_get_dataloader': BAD_LOADERS,
    'test_scale': BAD_SCALES,
    'test_discriminator_layers': BAD_DISCRIMINATORS,
    'test_generator_layers': BAD_GENERATORS,
    'test_weights_init_normal': BAD_INITS,
    'test_build_network': BAD_BUILDS,
    'test_losses': BAD_LOSSES,
    'test_make_optimizers': BAD_OPTIMIZERS,
    'test_plain_step': BAD_STEPS,
    'test_train': BAD_LOOPS,
    'test_view_samples': BAD_VIEWS,
}
