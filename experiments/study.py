"""The folklore, measured: what each habit of the public solutions does to the distance from real faces.

    python experiments/study.py --folder FOLDER [--budget 90000] [--seeds 0 1 2] [--rows 'batch 16' hinge]
                                [--groups public technique] [--processes N]
    python experiments/study.py --figure          only the summary and the figure, from the csv as it is
    python experiments/study.py --check           every row on 32 drawn faces, in a minute; nothing is kept

Each of ROWS changes one thing of BASE, the public recipe, by parameters or by an edit of the notebook's own source, and
trains on the same budget of images, in whole passes over the folder; rows of another budget say so. Then 5,000 faces of the
final (averaged) generator are held against the last 5,000 of the folder: Fréchet face distance. Where numbers go bad it is
inf, and images_seen ends with the last whole epoch.

A finished run is a line of assets/study.csv at once and is not repeated: stop by Ctrl-C, start again to go on. All rows get
their first seed before any gets its second. A CPU has a process on each core, of one thread, and leaves out the group
'dear'; a GPU has one process for all. 90,000 images of the base took about two minutes on one core, of the recipe about three.

assets/study_summary.csv and study.png: mean, lowest and highest over the seeds, the ratio to the base of that image size (and
of that budget, for the widest networks; over the seeds that both have), and a verdict. A row helps or hurts where its mean is
further from the base's than twice the standard error, the root of s²/n + s²/n over the seeds of both; else it is within noise.
A run that went bad hurts. The test is weak: with three seeds chance alone passes one row in nine. What it finds deserves more
seeds.
"""
import argparse
import collections
import contextlib
import csv
import functools
import gc
import io
import itertools
import math
import multiprocessing
import os
import shlex
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import matplotlib

matplotlib.use('agg')
import matplotlib.pyplot as plt  # noqa: E402
import torch  # noqa: E402
import torch.nn as nn  # noqa: E402
import torch.nn.functional as F  # noqa: E402

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE))
import helpers  # noqa: E402

RECIPE = dict(batch_size=16, lr=4e-4, beta1=0.0, penalty=0.025, flip=True, ema_decay=0.999, lr_decay=True)
BASE = dict(conv_dim=32, batch_size=128, lr=2e-4, beta1=0.5, objective='bce', img_size=32, z_size=100, penalty=0, flip=False,
            d_batch_norm=True, ema_decay=0, lr_decay=False, uniform_z=False, fast=True, budgets=1)
N_JUDGED = 5_000
RESULTS, SUMMARY, FIGURE = (HERE / 'assets' / name for name in ('study.csv', 'study_summary.csv', 'study.png'))
KEY = 'row', 'change', 'seed', 'budget', 'device', 'data'        # a run that agrees in these is done
VERDICTS = {'helps': 'tab:green', 'hurts': 'tab:red', 'within noise': 'tab:gray', 'fewer than 3 seeds': 'silver'}

# ------------------------------------------------------------------------------------------------------- rows


class Row:
    """A setting: group, name, what is said of it, edits (old, new) of the notebook's source, changes of BASE."""

    def __init__(self, group, name, claim='', *edits, what='', against='', **changes):
        self.group, self.name, self.claim, self.edits, self.config = group, name, claim, edits, BASE | changes
        self.change = what or ', '.join(f'{name} {value}' for name, value in changes.items())
        self.base = against or ('base' if self.config['img_size'] == 32 else f'base {self.config["img_size"]}')


def layers(n_less, size):
    """The edits for networks that halve an image until it is size wide, n_less halvings before 1."""
    return [('int(math.log2(img_size)) - 2)', f'int(math.log2(img_size)) - {n_less})')] + [
        (old, old.replace('4', str(size))) for old in (
            'depths[-1] * 4 * 4, 1)', 'depths[0] * 4 * 4, bias=False)', 'unflatten(1, (-1, 4, 4))')]


HELPS, LITTLE, HURTS, WISHED = 'said to help', 'said to matter little', 'said to hurt', 'wished for, not tried'
INIT, KINDS = 'nn.init.normal_(m.weight, 0.0, 0.02)', '(nn.Conv2d, nn.ConvTranspose2d, nn.Linear)'
RELU, LEAKY = 'nn.ReLU(inplace=True)', 'nn.LeakyReLU(0.2, inplace=True)'
DROPOUT, DOUBLE = 'nn.Dropout(0.3)', 'nn.Upsample(scale_factor=2)'
D_FIRST, D_DEEP = 'nn.Conv2d(3, conv_dim, 4, stride=2, padding=1), ', f'nn.Identity(), {LEAKY}'
D_SEES, D_FEATURES, D_LAST = 'self.features(x)', 'self.features(x).flatten(1)', 'depths[-1] * 4 * 4, 1)'
G_FIRST, G_DEEP = f'nn.BatchNorm2d(depths[0]), {RELU}', f'nn.BatchNorm2d(shallow), {RELU}'
G_UP = 'nn.ConvTranspose2d(deep, shallow, 4, stride=2, padding=1, bias=False)'
G_LAST = 'nn.ConvTranspose2d(conv_dim, 3, 4, stride=2, padding=1)'
D_INIT, D_ADAM = 'D.apply(weights_init_normal)', 'optim.Adam(D.parameters(), lr, (beta1, beta2), fused=True)'
D_BCE = "'bce':           (lambda real, fake: real_loss(real) + fake_loss(fake)"
G_LOSS = 'g_objective(D_real.detach(), D(fake))'
Z = "z = torch.randn(len(real), arguments['z_size'], device=where)"

ROWS = {row.name: row for row in (
    Row('base', 'base', what='the public recipe: ' + ', '.join(f'{name} {BASE[name]}' for name in list(BASE)[:5])),
    Row('base', 'recipe', **RECIPE),
    # what the public solutions claim, or wish that they had tried
    *(Row('public', f'images x {budgets}', claim, what=f'{budgets} times the budget', budgets=budgets)
      for budgets, claim in ((.2, ''), (.4, ''), (2, HELPS))),
    Row('public', '2 layers', '', *layers(3, 8), what='one strided layer fewer in D and G: down to 8x8'),
    Row('public', '4 layers', WISHED, *layers(1, 2), what='one strided layer more in D and G: down to 2x2'),
    *(Row('public', f'batch {size}', HELPS if size < 64 else '', batch_size=size) for size in (16, 32, 64, 256, 512)),
    Row('public', 'conv_dim 16', conv_dim=16),
    Row('public', 'conv_dim 64', HELPS, conv_dim=64),
    *(Row('public', f'lr {lr}', HURTS if lr > 5e-4 else '', lr=lr) for lr in (.01, .001, .0004, .0001)),
    *(Row('public', f'beta1 {beta1}', claim, beta1=beta1) for beta1, claim in ((.1, ''), (.3, ''), (.9, HURTS))),
    Row('public', 'z 32', z_size=32),
    Row('public', 'z 256', LITTLE, z_size=256),
    Row('public', 'label smoothing', HELPS, objective='bce-smooth'),
    Row('public', 'dropout in D', HELPS, (D_DEEP, f'{D_DEEP}, {DROPOUT}'), what="dropout of 0.3 in D's deeper layers"),
    Row('public', 'dropout in G', '', (G_DEEP, f'{G_DEEP}, {DROPOUT}'), what="dropout of 0.3 in G's deeper layers"),
    Row('public', 'Xavier', LITTLE, (INIT, 'nn.init.xavier_normal_(m.weight)'), what='Xavier normal init in D and G'),
    Row('public', 'LeakyReLU in G', WISHED, *((old, old.replace(RELU, LEAKY)) for old in (G_FIRST, G_DEEP)),
        what='LeakyReLU of 0.2 in G'),
    Row('public', 'batch norm everywhere', '', (D_FIRST, f'{D_FIRST}nn.BatchNorm2d(conv_dim), '),
        (G_LAST, f'{G_LAST}, nn.BatchNorm2d(3)'), what="batch norm also in D's first layer and G's last"),
    Row('public', 'uniform z', '', (Z, Z.replace('randn', 'rand') + ' * 2 - 1'), what='z uniform in [-1, 1]',
        uniform_z=True),
    Row('public', 'Wasserstein', WISHED, objective='wasserstein', penalty=10, d_batch_norm=False),
    Row('public', 'Wasserstein, no penalty', '', objective='wasserstein'),
    Row('public', 'least squares', WISHED, objective='least-squares'),
    Row('public', 'fault: init skips G', '', (KINDS, '(nn.Conv2d, nn.Linear)'), what="ConvTranspose2d keeps torch's init"),
    Row('public', 'fault: no init', '', (INIT, 'pass'), what="all weights keep torch's init"),
    Row('public', 'fault: real unscaled', '', ('real = scale(images)', 'real = images'), what='real images stay in [0, 1]'),
    Row('public', 'fault: eps 0.8', '', *((f'BatchNorm2d({depth})', f'BatchNorm2d({depth}, 0.8)') for depth in (
        'deep', 'depths[0]', 'shallow')), what="batch norm's eps 0.8"),
    # techniques from elsewhere
    Row('technique', 'float32', fast=False,
        what='the plain step in float32, without helpers.capture: quality must not be its price'),
    Row('technique', 'EMA of G', ema_decay=.999),
    Row('technique', 'flips', flip=True),
    Row('technique', 'lr schedule', lr_decay=True),
    Row('technique', 'two time scales', '', (D_ADAM, D_ADAM.replace(' lr,', ' 2 * lr,')), what="D's lr twice G's"),
    Row('technique', 'beta1 0', beta1=0.0),
    Row('technique', 'SGD for D', '', (D_ADAM, 'optim.SGD(D.parameters(), 0.01, 0.9, fused=True)'),
        what='SGD for D: lr 0.01, momentum 0.9'),
    Row('technique', 'augmentation', '', (D_SEES, 'self.features(study.augment(x))'),
        what='all that D sees: shifted by up to 1/8; brightness, saturation, contrast changed'),
    Row('technique', 'instance noise', '', (D_SEES, 'self.features(x + 0.1 * torch.randn_like(x))'),
        what='noise N(0, 0.1) on all that D sees'),
    Row('technique', 'label noise', '', (D_BCE, D_BCE.split('real_')[0] + 'study.noisy(real, fake)'),
        what='5% of the labels flipped for D'),
    Row('technique', 'feature matching', '', (G_LOSS, 'study.matching(D, real, fake)'),
        what="G matches the means of D's features"),
    Row('technique', 'minibatch stddev', '', (D_FEATURES, f'study.with_spread({D_FEATURES})'), (D_LAST, '1 + ' + D_LAST),
        what="D's last layer is told the batch's spread"),
    Row('technique', 'no batch norm in D', d_batch_norm=False),
    Row('technique', 'spectral norm in D', '', (D_INIT, f'{D_INIT}.apply(study.spectral)'), d_batch_norm=False,
        what='spectral norm instead of batch norm in D'),
    Row('technique', 'orthogonal init', '', (INIT, 'nn.init.orthogonal_(m.weight)'), what='orthogonal init in D and G'),
    Row('technique', 'resize-convolution', '',
        (G_UP, f'{DOUBLE}, nn.Conv2d(deep, shallow, 3, padding=1, bias=False)'),
        (G_LAST, f'{DOUBLE}, nn.Conv2d(conv_dim, 3, 3, padding=1)'), what='in G pixels doubled, then 3x3 convolution'),
    Row('technique', 'hinge', objective='hinge'),
    Row('technique', 'relativistic, R1 + R2', objective='relativistic', penalty=.05, d_batch_norm=False),
    Row('technique', 'R1 penalty', penalty=.025),
    Row('technique', 'R1 penalty x 10', penalty=.25),
    # too dear for most CPUs
    Row('dear', 'images x 5', HELPS, what='5 times the budget', budgets=5),
    *(Row('dear', f'conv_dim {width}', claim, conv_dim=width, budgets=.2, against='images x 0.2')
      for width, claim in ((128, HELPS), (256, WISHED))),
    Row('dear', 'base 64', WISHED, img_size=64),
    Row('dear', 'recipe 64', img_size=64, **RECIPE))}
GROUPS = list(dict.fromkeys(row.group for row in ROWS.values()))

# What the edits call by the name of study


def augment(x):
    """Translation and colour, for D's two turns and G's (DiffAugment, Zhao et al., arXiv:2006.10738)."""
    n, size = len(x), x.shape[-1]
    shift = torch.randint(-size // 8, size // 8 + 1, (n, 2, 1), device=x.device) * 2 / size      # whole pixels: no blur
    grid = F.affine_grid(torch.cat([torch.eye(2, device=x.device).expand(n, 2, 2), shift], 2), x.shape, align_corners=False)
    brightness, saturation, contrast = torch.rand(3, n, 1, 1, 1, device=x.device)
    x = x + brightness - .5
    x = torch.lerp(x.mean(1, keepdim=True), x, 2 * saturation)
    x = torch.lerp(x.mean((1, 2, 3), keepdim=True), x, .5 + contrast)
    return F.grid_sample(x, grid, 'nearest', align_corners=False)


def noisy(real, fake, share=.05):
    """BCE for D, a share of its labels flipped."""
    return sum(F.binary_cross_entropy_with_logits(logits, (torch.rand_like(logits) < truth).float())
               for logits, truth in ((real, 1 - share), (fake, share)))


def matching(D, real, fake):
    """How far the means of D's features lie apart (Salimans et al., arXiv:1606.03498)."""
    features = getattr(D, 'network', D).features     # capture wraps D where it computes in bfloat16; here it is float32
    return (features(real).mean(0).detach() - features(fake).mean(0)).square().sum()


def with_spread(features):
    """The features, and the mean of their spreads over the batch (Karras et al., arXiv:1710.10196)."""
    spread = (features.float().var(0, correction=0) + 1e-8).sqrt().mean()
    return torch.cat([features, spread.to(features.dtype).expand(len(features), 1)], 1)


def spectral(m):
    """For .apply, once the weights are drawn (Miyato et al., arXiv:1802.05957)."""
    if isinstance(m, (nn.Conv2d, nn.Linear)):
        nn.utils.parametrizations.spectral_norm(m)


# ------------------------------------------------------------------------------------------------------- runs


def edited_notebook(edits=()):
    """The notebook's definitions, each (old, new) put in, which call this module study."""
    notebook = helpers.load_definitions(HERE / 'dcgan_faces.ipynb', edits)
    notebook.study = sys.modules[__name__]
    return notebook


def get_loader(folder, batch_size, size, notebook=None):
    """The notebook's loader of a folder; of 32 drawn faces for None."""
    where = dict(data_dir=folder) if folder else dict(dataset='drawn', max_images=32)
    return (notebook or edited_notebook()).get_dataloader(batch_size, size, **where)


@functools.cache
def face_distance(folder, size):
    return helpers.FaceDistance(get_loader(folder, 1, size).dataset.images, helpers.choose_device(), N_JUDGED)


def train(notebook, config, loader, seed, n_images):
    """Build and train as the notebook does: (G with its averaged weights, images seen); None for G if numbers went bad."""
    torch.manual_seed(seed)
    c = argparse.Namespace(**config)
    networks = notebook.build_network(c.conv_dim, c.conv_dim, c.z_size, c.img_size, c.d_batch_norm)
    D, G = [network.to(helpers.choose_device(), memory_format=torch.channels_last) for network in networks]
    d_optimizer, g_optimizer = notebook.make_optimizers(D, G, c.lr, c.beta1)
    vars(notebook).update(celeba_train_loader=loader, d_optimizer=d_optimizer, g_optimizer=g_optimizer, z_size=c.z_size)
    n_epochs, saved = max(1, round(c.budgets * n_images / len(loader.dataset))), dict(epoch=0, images_seen=0)
    try:
        notebook.train(D, G, n_epochs, 10 ** 9, objective=c.objective, penalty=c.penalty, flip=c.flip, ema_decay=c.ema_decay,
                       lr_decay=c.lr_decay)
    except FloatingPointError:
        G = None
    with contextlib.suppress(FileNotFoundError):
        saved = helpers.load_checkpoint()
    if G is not None:
        if saved['epoch'] < n_epochs:                # train returns when it is interrupted; the study has to end then
            raise SystemExit if multiprocessing.parent_process() else KeyboardInterrupt
        G.load_state_dict(saved['G_average'])
    return G, saved['images_seen']


def measure(notebook, G, config, distance, seed, n):
    """The distance of n new faces, in eval mode."""
    draw_z = torch.rand if config['uniform_z'] else torch.randn
    z = draw_z(n, config['z_size'], generator=torch.Generator().manual_seed(seed))
    images = torch.cat([notebook.generate(G, part) for part in (2 * z - 1 if config['uniform_z'] else z).split(250)])
    return distance(images) if images.isfinite().all() else math.inf


def run(row, seed, n_images, folder=None, tiny=False):
    """Train a row in a folder of its own, which vanishes, and measure it: a dict for the csv."""
    config, device = dict(row.config), helpers.choose_device()
    if tiny:
        config.update(conv_dim=config['conv_dim'] // 8, batch_size=config['batch_size'] // 16, lr=10 * config['lr'])
    os.environ['DCGAN_FAST'] = str(int(config['fast']))
    with contextlib.redirect_stdout(io.StringIO()):
        notebook = edited_notebook(row.edits)
        loader = get_loader(folder, config['batch_size'], config['img_size'], notebook)
        distance = face_distance(folder, config['img_size'])
        with tempfile.TemporaryDirectory(dir=os.getcwd()) as here, contextlib.chdir(here):
            started = time.perf_counter()
            G, images_seen = train(notebook, config, loader, seed, n_images)
            seconds = time.perf_counter() - started
    ffd = math.inf if G is None else measure(notebook, G, config, distance, seed, 250 if tiny else N_JUDGED)
    fast = helpers.has_bfloat16(device) and config['fast']
    command = f'python experiments/study.py --folder FOLDER --budget {n_images} --seeds {seed} --rows '
    return dict(row=row.name, group=row.group, change=row.change, claim=row.claim, seed=seed, ffd=f'{ffd:.4f}',
                floor=f'{distance.floor:.4f}', images_seen=images_seen, budget=n_images, image_size=config['img_size'],
                conv_dim=config['conv_dim'], batch=config['batch_size'], seconds=f'{seconds:.1f}',
                precision_of_arithmetic='bfloat16' if fast else 'float32', data=describe(folder, loader),
                device=helpers.device_name(), torch=torch.__version__, command=command + shlex.quote(row.name))


def describe(folder, loader):
    return f'{len(loader.dataset)} images of {Path(folder or "drawn").name}/'


def attempt(item, **options):
    """The result of a (name, seed), or the sentence that says why there is none: one fault does not end the study."""
    name, seed = item
    try:
        return name, seed, run(ROWS[name], seed, **options)
    except Exception as error:
        return name, seed, f'{type(error).__name__}: {error}'
    finally:
        gc.collect()                                 # a notebook's functions and its networks hold on to each other


def start_worker(scratch):
    torch.set_num_threads(1)
    os.chdir(scratch)


def outcomes(work, n_processes, **options):
    """Yield the outcome of each (name, seed) of work as it comes."""
    call = functools.partial(attempt, **options)
    if n_processes == 1:
        yield from map(call, work)
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)    # workers inherit it: the parent alone answers Ctrl-C
    with multiprocessing.get_context('spawn').Pool(n_processes, start_worker, [os.getcwd()]) as pool:
        signal.signal(signal.SIGINT, before)
        yield from pool.imap_unordered(call, work)
        pool.close()
        pool.join()


def check():
    """Run every row on drawn faces with tiny networks; return what is wrong: rows that fail, or come out alike."""
    faults, seen = [], {}
    for name, _, result in outcomes([(name, 0) for name in ROWS], 1, n_images=128, tiny=True):
        if isinstance(result, str):
            faults.append(f'{name}: {result}')
            continue
        print(f'{name:24} {result["ffd"]:>9}', flush=True)
        if seen.setdefault(result['ffd'], name) != name and result['ffd'] != 'inf':
            faults.append(f'{name}: comes out as {seen[result["ffd"]]} does')
    return '\n'.join(faults)


def study(names, seeds, budget, folder, n_processes):
    """Run what is not in the csv yet; return how many runs failed."""
    for size in {ROWS[name].config['img_size'] for name in names}:       # decoded once, before all processes ask for it
        data = describe(folder, get_loader(folder, 1, size))
    done = {key_of(line) for line in read_results()}
    same = dict(budget=budget, device=helpers.device_name(), data=data)
    work = [(name, seed) for seed in seeds for name in names
            if key_of(same | dict(row=name, change=ROWS[name].change, seed=seed)) not in done]
    print(f'{len(work)} of {len(names) * len(seeds)} runs are left, {n_processes} at a time; {helpers.versions()}')
    started, n_failed = time.time(), 0
    for number, (name, seed, result) in enumerate(outcomes(work, n_processes, n_images=budget, folder=folder), 1):
        if isinstance(result, str):
            n_failed, said = n_failed + 1, f'FAILED: {result}'
        else:
            append_result(result)
            said = f'FFD {result["ffd"]:>9}, floor {result["floor"]} | {result["seconds"]:>7} s'
        left = (time.time() - started) / number * (len(work) - number) / 60
        print(f'{number:4}/{len(work)} | {name:24} seed {seed} | {said} | {left:5.0f} min left', flush=True)
    return n_failed


# ---------------------------------------------------------------------------------------------------- results


def key_of(line):
    return tuple(str(line[name]) for name in KEY)


def whole_lines():
    """The csv up to its last line break: what a crash cut off is no result."""
    content = RESULTS.read_bytes() if RESULTS.exists() else b''
    return content[:content.rfind(b'\n') + 1]


def read_results():
    return list(csv.DictReader(io.StringIO(whole_lines().decode(), newline='')))


def append_result(result):
    """Add a line, on the disk before the next run counts; the parent process alone writes."""
    before, line = whole_lines(), io.StringIO(newline='')
    table = csv.DictWriter(line, list(result))
    if not before:
        table.writeheader()
    table.writerow(result)
    with open(RESULTS, 'ab') as file:
        file.truncate(len(before))
        file.write(line.getvalue().encode())
        file.flush()
        os.fsync(file.fileno())


def judge(values, base):
    """The verdict on a row's distances, given the base's: see the top of this file."""
    if min(len(values), len(base)) < 3:
        return 'fewer than 3 seeds'
    if math.inf in base:
        return 'the base went bad'
    if math.inf in values:
        return 'hurts'
    error = math.sqrt(sum(statistics.variance(each) / len(each) for each in (values, base)))
    difference = statistics.mean(values) - statistics.mean(base)
    return 'within noise' if abs(difference) <= 2 * error else 'helps' if difference < 0 else 'hurts'


def summarise(results):
    """A list of dicts for each budget, device and data set; lines of rows that have changed since are left out."""
    tables = collections.defaultdict(lambda: collections.defaultdict(dict))
    for line in results:
        if line['row'] in ROWS and ROWS[line['row']].change == line['change']:
            tables[line['budget'], line['device'], line['data']][line['row']][line['seed']] = line
    return [[summary_of(row, table) for row in ROWS.values() if row.name in table] for table in tables.values()]


def summary_of(row, table):
    mine, base = ({seed: float(line['ffd']) for seed, line in table.get(name, {}).items()} for name in (row.name, row.base))
    values, both = list(mine.values()), [seed for seed in mine if seed in base]
    last = list(table[row.name].values())[-1]
    ratio = sum(mine[seed] for seed in both) / sum(base[seed] for seed in both) if both else math.nan
    return dict(row=row.name, group=row.group, change=row.change, claim=row.claim, n_seeds=len(values), values=values,
                ffd=statistics.mean(values), lowest=min(values), highest=max(values), ratio=ratio, base=row.base,
                verdict='' if row.name == row.base else judge(values, list(base.values())), **{name: last[name] for name in (
                    'floor', 'images_seen', 'image_size', 'budget', 'data', 'device', 'torch')})


def write_summary(rows):
    with open(SUMMARY, 'w', newline='') as file:
        table = csv.DictWriter(file, [name for name in rows[0] if name != 'values'], extrasaction='ignore')
        table.writeheader()
        for row in rows:
            table.writerow({name: f'{value:.4f}' if isinstance(value, float) else value for name, value in row.items()})


def draw(rows):
    """A dot a seed, a bar their mean, a cross what went bad; dashed the base of that image size, dotted the floor."""
    rows = sorted(rows, key=lambda row: (GROUPS.index(row['group']), row['ffd']))
    means = {row['row']: row['ffd'] for row in rows}
    edge = 1.3 * max((value for row in rows for value in row['values'] if value < math.inf), default=1)
    _, axes = plt.subplots(figsize=(10, 1 + .165 * (len(rows) + len(GROUPS))), layout='constrained')
    labels = []
    for group, members in itertools.groupby(rows, lambda row: row['group']):
        labels.append(group.upper())
        for row in members:
            y, colour = len(labels), VERDICTS.get(row['verdict'], 'black')
            labels.append(row['row'])
            for value in row['values']:
                axes.plot(min(value, edge), y, 'o' if value < math.inf else 'x', color=colour, markersize=4, alpha=.6)
            axes.plot(min(row['ffd'], edge), y, '|', color=colour, markersize=11, markeredgewidth=2)
            for x, style in ((means.get(row['base'], math.nan), '--'), (float(row['floor']), ':')):
                axes.plot([x, x], [y - .5, y + .5], style, color='black', linewidth=.8, zorder=0)
            axes.text(1.01, y, row['claim'], transform=axes.get_yaxis_transform(), fontsize=8, va='center', color='dimgray')
    for verdict, colour in VERDICTS.items():
        axes.plot([], [], 'o', color=colour, markersize=4, label=verdict)
    axes.legend(fontsize=8, ncols=4, loc='lower center', bbox_to_anchor=(.5, 1))
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.grid(axis='y', alpha=.2)
    axes.set(xscale='log', ylim=(len(labels) - .4, -.6))
    axes.xaxis.set_major_locator(plt.LogLocator(subs=(1, 2, 3, 5)))
    axes.xaxis.set_major_formatter('{x:g}')
    axes.minorticks_off()
    axes.set_xlabel('Fréchet face distance, lower is better; dashed: base, dotted: other real faces\n'
                    f'{int(rows[0]["budget"]):,} images a run, {rows[0]["data"]}, {rows[0]["device"]}', fontsize=8)
    plt.savefig(FIGURE, dpi=100)
    plt.close()


# ------------------------------------------------------------------------------------------------------- main


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--folder', help='of the faces')
    parser.add_argument('--budget', type=int, default=90_000, help='images a run (default 90000)')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='(default 0 1 2)')
    parser.add_argument('--rows', nargs='+', metavar='ROW', help='only these')
    parser.add_argument('--groups', nargs='+', help=f'only base and these of {", ".join(GROUPS)}')
    parser.add_argument('--processes', type=int, help='at a time (default: one a core; on a GPU one)')
    parser.add_argument('--figure', action='store_true', help='no runs: only the summary and the figure')
    parser.add_argument('--check', action='store_true', help='try every row on drawn faces; keep nothing')
    arguments = parser.parse_args()
    if not (arguments.folder or arguments.figure or arguments.check):
        parser.error('--folder is missing: where are the faces?')
    helpers.check_whole(budget=arguments.budget)
    for name in arguments.rows or ():
        helpers.check_choice(ROWS, rows=name)
    for group in arguments.groups or ():
        helpers.check_choice(GROUPS, groups=group)
    cuda = helpers.choose_device().type == 'cuda'
    groups = ['base', *arguments.groups] if arguments.groups else [group for group in GROUPS if cuda or group != 'dear']
    names = arguments.rows or [row.name for row in ROWS.values() if row.group in groups]
    names = list(dict.fromkeys([*(ROWS[name].base for name in names), *names]))      # what they are held against
    n_processes = arguments.processes or (1 if cuda else torch.get_num_threads())
    folder = Path(arguments.folder or '.').resolve()
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ.pop('DCGAN_DATA', None)               # --folder has the say
    n_failed = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, contextlib.chdir(scratch):
        if arguments.check:                          # in scratch: the runs' files, and the cache of a folder that takes none
            sys.exit(check() or 0)
        if not arguments.figure:
            try:
                n_failed = study(names, arguments.seeds, arguments.budget, folder, n_processes)
            except KeyboardInterrupt:
                sys.exit('Stopped. Finished runs are kept; start again to go on.')
    tables = summarise(read_results())
    if not tables:
        sys.exit(f'{RESULTS.name}: no finished run')
    write_summary(list(itertools.chain.from_iterable(tables)))
    draw(max(tables, key=len))
    sys.exit(f'{n_failed} runs failed' if n_failed else 0)


if __name__ == '__main__':
    main()
