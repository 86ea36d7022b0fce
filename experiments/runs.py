"""What all experiments that train have in common: a run, many runs, and the faces that come out."""
import functools
import gc
import multiprocessing
import os
import signal
import sys
import time

import torch
from torch.utils.data import DataLoader, Sampler

import helpers
from experiments import common

# Of a setting's config, what the notebook's train is told; the networks are built with the rest.
OF_THE_RUN = 'run_folder', 'live_view', 'resume', 'rescue'
TRAINING = [name for name in helpers.PLAIN if name not in OF_THE_RUN]
N_JUDGED = helpers.N_JUDGED          # faces that the distance of a run itself is asked of
PASSES = 10          # in which a run of so many images shows them; learning rates fall in between

# ------------------------------------------------------------------------------------------ one run


def build(notebook, config, loader, seed):
    """Build networks and optimizers as the notebook does, for its train; return (D, G)."""
    torch.manual_seed(seed)
    with common.silence():
        D, G = notebook.build_network(config['conv_dim'], config['conv_dim'], config['z_size'],
                                      config['img_size'], config['d_batch_norm'])
    for network in (D, G):
        network.to(helpers.choose_device(), memory_format=torch.channels_last)
    rates = config['lr'], config['beta1'], config['beta2']
    d_optimizer, g_optimizer = notebook.make_optimizers(D, G, *rates)
    vars(notebook).update(celeba_train_loader=loader, z_size=config['z_size'],
                          d_optimizer=d_optimizer, g_optimizer=g_optimizer)
    return D, G


def train(notebook, config, loader, seed, n_epochs, distance=None, wrap=None, prepare=None):
    """Build and train as the notebook does, in the current folder.

    distance  a function of images, asked every config['distance_every'] epochs; None: never
    wrap      is given the batches on the device, and returns those that train takes
    prepare   is given D and G before the training
    Returns (G with its averaged weights, the run's last checkpoint).
    Raises FloatingPointError where numbers go bad.
    """
    D, G = build(notebook, config, loader, seed)
    if prepare:
        prepare(D, G)
    batches = helpers.DeviceLoader(loader, helpers.choose_device())
    chosen = {name: config[name] for name in TRAINING if name in config}
    with common.silence():
        notebook.train(D, G, n_epochs, print_every=10 ** 9, distance=distance, config=chosen,
                       loader=wrap(batches) if wrap else batches)
    saved = helpers.load_checkpoint()
    if saved['epoch'] < n_epochs:            # train returns when it is interrupted
        raise KeyboardInterrupt
    G.load_state_dict(saved['G_average'])
    return G, saved


def images_seen():
    """Return how many images the run in the current folder has seen, up to its last whole epoch."""
    try:
        return helpers.load_checkpoint()['images_seen']
    except FileNotFoundError:
        return 0


class Portions(Sampler):
    """All images in random order, a portion of them in each pass; when all are shown, anew."""

    def __init__(self, n_images, portion):
        self.n_images = n_images
        self.portion = portion
        self.order = []

    def __len__(self):
        return self.portion

    def __iter__(self):
        while len(self.order) < self.portion:
            self.order += torch.randperm(self.n_images).tolist()
        chosen, self.order = self.order[:self.portion], self.order[self.portion:]
        yield from chosen


def loader_of(faces, batch_size, portion):
    """Return a loader that shows a portion of an ImageDataset in each pass."""
    return DataLoader(faces, batch_size, sampler=Portions(len(faces), portion),
                      collate_fn=faces.collate)


class Watch:
    """Keeps the time of a loader's passes, with all that is done to the batches; see around.

    kept           the numbers of passes after which the run's checkpoint is kept too, when the next
                   pass begins
    checkpoints    {passes: what the run had saved}
    seconds_after  {passes: seconds so far}
    """

    def __init__(self, kept=()):
        on_one_thread = torch.get_num_threads() == 1 and not torch.cuda.is_available()
        self.clock = time.process_time if on_one_thread else time.perf_counter
        self.kept = kept
        self.seconds = 0.0
        self.checkpoints = {}
        self.seconds_after = {}

    def around(self, loader):
        """Return itself, as the loader whose passes are timed."""
        self.loader = loader
        return self

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        n_passes = len(self.seconds_after)
        if n_passes in self.kept:
            self.checkpoints[n_passes] = helpers.load_checkpoint()
        started = self.clock()
        yield from self.loader
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds += self.clock() - started
        self.seconds_after[n_passes + 1] = self.seconds


def draw(notebook, G, n, seed):
    """Return n faces of G (n, 3, s, s), in eval mode, from the noise of a seed."""
    z = torch.randn(n, G.z_size, generator=torch.Generator().manual_seed(seed))
    return notebook.generate(G, z)


# ---------------------------------------------------------------------------------------- many runs


def command_parser(doc):
    """Return the parser of a command that trains on --folder, with each of --seeds."""
    parser = common.command_parser(doc)
    parser.add_argument('--folder', type=common.existing_folder, help='of the faces')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='(default 0 1 2)')
    return parser


def race_parser(doc, parts):
    """Return the parser of a command that trains on --folder, judged by --people; or by a table."""
    parser = common.command_parser(doc)
    parser.add_argument('--folder', type=common.existing_folder, help='of the faces to train on')
    parser.add_argument('--people', type=common.existing_folder, help='a folder of other people')
    parser.add_argument('--parts', nargs='+', default=parts, choices=parts)
    add_figure_option(parser)
    return parser


def add_figure_option(parser):
    parser.add_argument('--figure', action='store_true',
                        help='no runs: only what follows from the table')


def begin(parser, options):
    """Prepare the process for runs on --folder; without one, only --figure can be asked for.

    The same holds for --people, where a command has it.
    """
    if not vars(options).get('figure'):
        if not options.folder:
            parser.error('--folder is missing: where are the faces?')
        if not vars(options).get('people', True):
            parser.error('--people is missing: who judges?')
    torch.set_num_threads(1)
    os.environ['DCGAN_FAST'] = '1'                   # the step that users have


def add_processes_option(parser):
    """Add --processes, whose value number_of_processes understands."""
    parser.add_argument('--processes', type=int, metavar='N',
                        help='runs at a time (default: one a core; on a GPU one)')


def number_of_processes(asked):
    """Return how many runs to make at a time: as many as asked for, else what suits the device."""
    if asked:
        return asked
    return 1 if helpers.choose_device().type == 'cuda' else torch.get_num_threads()


def make_missing(table, work, make, shown, n_processes=1):
    """Make the runs that a table does not hold yet, and keep the rows of each at once.

    work   the runs, dicts of the columns that tell them apart, but for the device
    make   a function from such a dict to the run's rows
    shown  names of the columns that are printed
    Returns how many runs failed: one fault does not end the others. Ctrl-C ends the process.
    """
    here = dict(device=helpers.device_name())
    done = {table.key_of(row) for row in table.read()}
    left = [run for run in work if table.key_of(run | here) not in done]
    print(f'{len(left)} of {len(work)} runs are left, {n_processes} at a time; '
          f'{helpers.versions()}', flush=True)
    started, n_failed = time.time(), 0
    attempts = in_parallel(functools.partial(attempt, make), left, n_processes)
    try:
        for number, (run, rows, fault) in enumerate(attempts, 1):
            n_failed += bool(fault)
            if not fault:
                table.merge(rows)
            last = rows[-1] if rows else run
            said = ', '.join(f'{name} {last[name]}' for name in shown if name in last)
            minutes_left = (time.time() - started) / number * (len(left) - number) / 60
            print(f'{number:4}/{len(left)} | {said} {fault}| {minutes_left:5.0f} min left',
                  flush=True)
    except KeyboardInterrupt:
        sys.exit('Stopped. Finished runs are kept; start again to go on.')
    return n_failed


def attempt(make, run):
    """Make a run; return (run, its rows, '' or a sentence why there are none)."""
    try:
        return run, make(run), ''
    except Exception as error:
        return run, [], f'FAILED: {type(error).__name__}: {error} '
    finally:
        gc.collect()         # a notebook's functions and its networks hold on to each other


def in_parallel(function, work, n_processes):
    """Yield function(item) for each item of work, as they come; each process has one thread.

    With one process all is done here. Ctrl-C reaches this process alone, which then ends the
    others.
    """
    if n_processes == 1:
        yield from map(function, work)
        return
    context = multiprocessing.get_context('spawn')
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)        # workers inherit it
    with context.Pool(n_processes, _start_worker, [os.getcwd()]) as pool:
        signal.signal(signal.SIGINT, before)
        yield from pool.imap_unordered(function, work)
        pool.close()
        pool.join()


def _start_worker(folder):
    torch.set_num_threads(1)
    os.chdir(folder)
