"""Measure how best to learn from few images.

    python -m experiments.few_images --folder FOLDER     train what is not in the table yet
    python -m experiments.few_images --folder FOLDER --seconds 120 --counts 100    longer runs
    python -m experiments.few_images --folder FOLDER --keep PLACE --memorisation
    python -m experiments.few_images --figure            only summary and figure

100, 300 and 1,000 faces are learnt at 64x64 in five ways: from scratch or from the pair of networks
that comes with the project, with and without augmentation, and with the first two layers of D
frozen (FreezeD; Mo et al., arXiv:2002.10964). The faces are among those that judged the pair, which
it never saw, so FOLDER must hold the images of its training; 800 others of them are the judges.
Where other people judged the pair, their folder must lie in the current one. Each run has the same
seconds: processor time of one thread in the passes over the images.

Such faces are of the kind that the pair knows. So there are moves to other kinds too: to the same
faces cut closer, as other photographers would, to drawn faces, and from a pair that learnt drawn
faces to photographs. Rows of 'the pair as it is' say where each of these begins.

few_images.csv has a row for each run and moment, few_images_summary.csv the spread over the seeds.
--keep PLACE keeps the generators, and the pair that learnt drawn faces. Of those kept there,
--memorisation asks whether they learnt their few faces by heart (few_images_memorisation.csv).
"""
import functools
import statistics
import sys
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from torchvision.transforms.v2.functional import resize

import helpers
from experiments import common, memorisation, runs
from experiments.common import plt
from experiments.export import images_of_pair
from experiments.settings import BASE
from machinery.pretrained import NETWORKS, PRETRAINED, save_networks

SIZE, CONV_DIM, Z_SIZE = 64, 32, 100          # those of the pair
COLOUR_AND_PLACE = ('colour', 'translation', 'cutout')
CONFIG = BASE | dict(conv_dim=CONV_DIM, img_size=SIZE, beta1=0.0, penalty=0.01, penalty_every=16,
                     flip=True, lr_decay=True)       # of all runs
SCRATCH = dict(lr=8e-4, ema_decay=0.999, start=False, augmentation=(), n_frozen=0)
PAIR = dict(lr=2e-4, ema_decay=0.995, start=True, augmentation=(), n_frozen=0)
WAYS = {
    'from scratch': SCRATCH,
    'from scratch, augmented': SCRATCH | dict(augmentation=COLOUR_AND_PLACE),
    'from the pair': PAIR,
    'from the pair, augmented': PAIR | dict(augmentation=COLOUR_AND_PLACE),
    'from the pair, augmented, D frozen': PAIR | dict(augmentation=COLOUR_AND_PLACE, n_frozen=2),
}
LONGER = 'from the pair', 'from the pair, augmented'      # ways that were also given 120 seconds
AUGMENTED = 'from scratch, augmented', 'from the pair, augmented'
# (images, pair, how many images, ways)
TASKS = [('faces', 'faces', n, tuple(WAYS)) for n in (100, 300, 1_000)]
TASKS += [('closer', 'faces', n, ('from scratch', *LONGER)) for n in (100, 300, 1_000)]
TASKS += [('drawn', 'faces', 300, AUGMENTED), ('faces', 'drawn', 300, AUGMENTED)]
AS_IT_IS = 'the pair as it is'
CLOSER = slice(10, 54)                        # rows and columns of a face that is cut closer
N_JUDGES = 800
BATCH = 16
PASSES, SECONDS = 4, 30                       # distances are measured after every second pass
DRAWN_IMAGES = 12_000                         # seen by the pair that learns drawn faces
COLUMNS = ('images', 'pair', 'n_images', 'way', 'seed', 'seconds', 'images_seen', 'ffd', 'n_judged',
           'n_judges', 'lr', 'ema_decay', 'augmentation', 'n_frozen', 'data', 'device', 'torch',
           'command')
KEY = ('images', 'pair', 'n_images', 'way', 'seed', 'seconds', 'device')
LEARNT = ('images', 'pair', 'n_images', 'way', 'seed', 'run_seconds', 'n', 'median_training',
          'median_held_out', 'gap', 'p_value', 'caught', 'n_generated', 'twins', 'data',
          'seconds', 'device', 'torch', 'command')
SHOWN = 'images', 'pair', 'n_images', 'way', 'seed', 'ffd', 'gap', 'caught'
N_LEARNT = 100                                # faces of each kind that a generator gives back
SUMMARY = ('images', 'pair', 'n_images', 'way', 'seconds', 'ffd', 'lowest', 'highest', 'seeds',
           'device', 'torch', 'command')


class ForSeconds:
    """A loader whose passes last equally long, in processor time, however many images that is."""

    def __init__(self, loader, seconds):
        self.loader = loader
        self.seconds = seconds

    def __len__(self):
        return 10 ** 9                           # not known

    def __iter__(self):
        started = time.process_time()
        while True:
            for images in self.loader:
                yield images
                if time.process_time() - started > self.seconds:
                    return


class Study:
    """The images, and the runs on them.

    unseen    uint8 (n, 3, s, s), faces that the pair has not seen
    data      what they are, in words
    keep      a folder for the generators that were made; None: they are not kept
    seconds   how long a run trains
    n_judges  how many images are left to judge by

    A run is a dict of images, pair, n_images, way and seed, as in the table.
    """

    def __init__(self, notebook, unseen, data, keep=None, seconds=SECONDS, n_judges=N_JUDGES):
        self.notebook = notebook
        order = torch.randperm(len(unseen), generator=torch.Generator().manual_seed(0))
        self.faces = {'faces': unseen[order], 'closer': cut_closer(unseen[order])}
        self.data = {'faces': data, 'closer': f'{data}, cut closer', 'drawn': 'drawn by code'}
        self.pairs = {'faces': str(PRETRAINED)}      # what it learnt: the folder of a pair
        self.keep = keep
        self.seconds = seconds
        self.n_judges = n_judges

    def images(self, kind, n, seed):
        """Return (n images to learn from, others to judge by).

        Raises ValueError where there are fewer.
        """
        if kind == 'drawn':
            images = helpers.drawn_faces(n + self.n_judges, SIZE, seed)
            return images[:n], images[n:]
        faces = self.faces[kind]
        judges, ours = faces[:self.n_judges], faces[self.n_judges:]
        if len(ours) < n:
            raise ValueError(f'found {len(ours)} faces to learn from, expected {n}')
        order = torch.randperm(len(ours), generator=torch.Generator().manual_seed(seed))
        return ours[order[:n]], judges

    def make(self, run):
        """Train in one way, and measure at two moments: rows for the csv.

        For the way AS_IT_IS, measure the pair, where its runs begin: one row.
        """
        if run['way'] == AS_IT_IS:
            return [self.row(run, 0, 0, self.measure_pair(run))]
        images, judges = self.images(run['images'], run['n_images'], run['seed'])
        distance = self.distance_from(judges, images)
        with common.scratch_folder():
            saved = self.train(helpers.ImageDataset(images), run, distance)
            history = helpers.load_history()
        if self.keep:
            torch.save(saved['G_average'], self.kept(run))
        rows = []
        for epoch, ffd, _ in history['distances']:
            seen = int(BATCH * sum(history['per_epoch'][:int(epoch)]))
            rows.append(self.row(run, self.seconds * epoch / PASSES, seen, ffd))
        return rows

    def distance_from(self, judges, images):
        return helpers.FaceDistance(images, n_judged=runs.N_JUDGED, held_out=judges)

    def row(self, run, seconds, images_seen, ffd):
        """Return a row of a run at a moment."""
        way = WAYS.get(run['way'])
        chosen = {} if way is None else dict(
            lr=way['lr'], ema_decay=way['ema_decay'], n_frozen=way['n_frozen'],
            augmentation='+'.join(way['augmentation']))
        longer = [] if self.seconds == SECONDS else ['--seconds', f'{self.seconds:g}']
        line = common.command('few_images', '--folder', 'FOLDER', '--counts', run['n_images'],
                              '--seeds', run['seed'], *longer)
        return run | chosen | dict(
            seconds=f'{seconds:g}', images_seen=images_seen, ffd=f'{ffd:.4f}',
            n_judged=runs.N_JUDGED, n_judges=self.n_judges, data=self.data[run['images']],
            **common.provenance(line))

    def measure_pair(self, run):
        """Return the distance of a pair that was not trained on."""
        saved = helpers.load_pair(self.pairs[run['pair']])
        G = helpers.rebuild(self.notebook.Generator, saved, saved['G_average'])
        images, judges = self.images(run['images'], 100, run['seed'])
        faces = runs.draw(self.notebook, G, runs.N_JUDGED, run['seed'])
        return self.distance_from(judges, images)(faces)

    def train(self, faces, run, distance):
        """Train in the current folder; return the checkpoint of the end."""
        way = WAYS[run['way']]
        start = self.pairs[run['pair']] if way['start'] else ''

        def prepare(D, G):
            if start:
                with common.silence():
                    helpers.start_from(start, D, G)
            freeze(D, way['n_frozen'])
        config = CONFIG | way | dict(start=start, distance_every=2)
        wrap = functools.partial(ForSeconds, seconds=self.seconds / PASSES)
        loader = runs.loader_of(faces, BATCH, 100 * BATCH)
        _, saved = runs.train(self.notebook, config, loader, run['seed'], PASSES, distance, wrap,
                              prepare)
        return saved

    def kept(self, run):
        """Return the path of the generator that a run leaves."""
        words = [run[name] for name in ('images', 'pair', 'n_images', 'way', 'seed')]
        name = '-'.join(map(str, words)).replace(' ', '_')
        return self.keep / f'{name}-{self.seconds:g}s.pt'

    def judge_memory(self, run):
        """Has the kept generator of a run learnt its images by heart? A row for the csv."""
        G = self.notebook.Generator(Z_SIZE, CONV_DIM, SIZE)
        G.load_state_dict(torch.load(self.kept(run), weights_only=True))
        images, judges = self.images(run['images'], run['n_images'], run['seed'])
        found = memorisation.judge(G.eval(), images, judges, run['seed'], N_LEARNT)
        line = common.command('few_images', '--folder', 'FOLDER', '--keep', 'PLACE',
                              '--memorisation', '--seconds', f'{self.seconds:g}')
        return [found | run | dict(data=self.data[run['images']], **common.provenance(line))]


def cut_closer(images):
    """Return the middles of images, uint8 (n, 3, s, s), as large as the whole."""
    middles = images[:, :, CLOSER, CLOSER]
    return resize(middles, list(images.shape[2:]), antialias=True)


def freeze(D, n_layers):
    """Keep the weights of the first convolutions of D, and of what follows each, as they are."""
    n_seen = 0
    for layer in D.features:
        n_seen += isinstance(layer, torch.nn.Conv2d)
        layer.requires_grad_(n_seen > n_layers)


def learn_drawn(notebook, place):
    """Train a pair on drawn faces and keep it in a folder; return the folder."""
    folder = place / 'drawn-pair'
    if (folder / 'model.safetensors').is_file():
        return folder
    faces = helpers.ImageDataset(helpers.drawn_faces(4_000, SIZE, seed=1_000))
    loader = DataLoader(faces, BATCH, shuffle=True, collate_fn=faces.collate)
    config = CONFIG | dict(lr=8e-4, ema_decay=0.999)
    with common.scratch_folder():
        G, saved = runs.train(notebook, config, loader, 0, DRAWN_IMAGES // len(faces))
    folder.mkdir(exist_ok=True)
    discriminator = dict(conv_dim=CONV_DIM, img_size=SIZE, batch_norm=True)
    about = dict(generator=G.arguments, discriminator=discriminator)
    save_networks(folder, about, {name: saved[name] for name in NETWORKS})
    return folder


# ------------------------------------------------------------------------------ summary, the figure


def summarise(rows):
    """Return rows for few_images_summary.csv: median, lowest and highest of the seeds."""
    found = []
    for place, group in common.grouped(rows, *SUMMARY[:5]).items():
        ffd = [float(row['ffd']) for row in group]
        found.append(dict(zip(SUMMARY[:5], place, strict=True)) | dict(
            ffd=f'{statistics.median(ffd):.2f}', lowest=f'{min(ffd):.2f}',
            highest=f'{max(ffd):.2f}', seeds=len(ffd), device=group[0]['device'],
            torch=group[0]['torch'], command=common.command('few_images', '--figure')))
    return found


def write_summary(folder, rows):
    """Write few_images_summary.csv, which follows from rows of few_images.csv."""
    table = common.Table(folder / 'few_images_summary.csv', SUMMARY, SUMMARY[:5])
    table.write(common.by_device(summarise, rows))


def draw(folder, rows, n_images=100):
    """Draw few-images.png: the distance along the runs with so many faces, of two kinds."""
    _, panels = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True, layout='constrained')
    for axes, kind, title in zip(panels, ('faces', 'closer'),
                                 ('faces of the kind that the pair knows', 'faces cut closer'),
                                 strict=True):
        rows_here = [row for row in rows if (row['images'], row['pair']) == (kind, 'faces')]
        start = [(0, float(row['ffd'])) for row in rows_here if row['way'] == AS_IT_IS]
        for number, way in enumerate(WAYS):
            points = [(float(row['seconds']), float(row['ffd'])) for row in rows_here
                      if row['way'] == way and int(row['n_images']) == n_images]
            if points and WAYS[way]['start']:
                points = start + points
            plot_median(axes, points, f'C{number}', way)
        axes.set(yscale='log', xlabel='seconds', title=f'{n_images} {title}')
        axes.yaxis.set_major_formatter('{x:g}')
        axes.grid(alpha=0.2)
    panels[0].set_ylabel('Fréchet face distance')
    panels[0].legend(fontsize='small')
    common.save_figure(folder / 'few-images.png')


def plot_median(axes, points, colour, label):
    """Plot points (x, y), and a line through the median of each x."""
    if not points:
        return
    axes.plot(*zip(*points, strict=True), 'o', color=colour, markersize=4, alpha=0.6)
    middle = [(x, statistics.median(y for other, y in points if other == x))
              for x in sorted({x for x, _ in points})]
    axes.plot(*zip(*middle, strict=True), color=colour, label=label)


# ------------------------------------------------------------------------------------- the command


def planned_runs(options):
    """Return all runs that the command asks for."""
    return [dict(images=kind, pair=pair, n_images=n, way=way, seed=seed)
            for kind, pair, n, ways in TASKS if n in options.counts
            for way in ways if way in options.ways
            for seed in options.seeds]


def planned_starts(options):
    """Return what is measured before the runs that are asked for; --counts 0 asks for that alone.
    """
    starts = []
    for kind, pair, n, _ in TASKS:
        for seed in options.seeds:
            start = dict(images=kind, pair=pair, n_images=0, way=AS_IT_IS, seed=seed, seconds='0')
            if start not in starts and {0, n} & set(options.counts):
                starts.append(start)
    return starts


def train_all(table, contest, options, place):
    """Make the runs that the table does not hold yet; return how many failed."""
    work = planned_starts(options)
    work += [run | dict(seconds=f'{options.seconds:g}') for run in planned_runs(options)]
    if any(run['pair'] == 'drawn' for run in work):
        contest.pairs['drawn'] = str(learn_drawn(contest.notebook, place))
    return runs.make_missing(table, work, contest.make, SHOWN)


def judge_all(table, contest, options):
    """Judge the generators that were kept, unless the table holds them; return how many failed."""
    work = [run | dict(run_seconds=f'{options.seconds:g}') for run in planned_runs(options)
            if contest.kept(run).is_file()]
    return runs.make_missing(table, work, contest.judge_memory, SHOWN)


def prepare_study(options):
    """Return the Study of what the command asks for, on faces that judged the pair."""
    notebook = common.notebook_definitions()
    config = helpers.load_pair(PRETRAINED)['config']
    dataset = images_of_pair(options.folder, config)
    data = f'judges of the pair that learnt {config["data"]}'
    return Study(notebook, dataset.judges, data, options.keep, options.seconds)


def measure(contest, options):
    """Do what the command asks for, in the current folder; return how many runs failed."""
    if options.memorisation:
        return judge_all(learnt_table(options.into), contest, options)
    return train_all(results_table(options.into), contest, options, options.keep or Path.cwd())


def results_table(folder):
    return common.Table(folder / 'few_images.csv', COLUMNS, KEY)


def learnt_table(folder):
    return common.Table(folder / 'few_images_memorisation.csv', LEARNT, LEARNT[:6])


def main(arguments=None):
    parser = runs.command_parser(__doc__)
    runs.add_figure_option(parser)
    parser.add_argument('--seconds', type=float, default=SECONDS, help=f'a run (default {SECONDS})')
    parser.add_argument('--keep', type=common.existing_folder, metavar='PLACE',
                        help='keep the generators there')
    parser.add_argument('--ways', nargs='+', default=list(WAYS), choices=WAYS)
    parser.add_argument('--counts', type=int, nargs='+', default=[100, 300, 1_000],
                        help='of images (default 100 300 1000)')
    parser.add_argument('--memorisation', action='store_true', help='judge what --keep has kept')
    options = parser.parse_args(arguments)
    if options.memorisation and not options.keep:
        parser.error('--keep is missing: where are the generators?')
    runs.begin(parser, options)
    n_failed = 0
    if not options.figure:
        contest = prepare_study(options)
        with common.scratch_folder():
            n_failed = measure(contest, options)
    rows = results_table(options.into).read()
    if not rows:
        sys.exit('few_images.csv: no finished run')
    write_summary(options.into, rows)
    draw(options.into, rows)
    sys.exit(f'{n_failed} runs failed' if n_failed else 0)


if __name__ == '__main__':
    main()
