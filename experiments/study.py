"""Measure what each habit of the public solutions does to the distance from real faces.

    python -m experiments.study --folder FOLDER    train what is not in assets/study.csv yet
    python -m experiments.study --figure           only the summary and the figure, from the csv
    python -m experiments.study --check            every setting on 32 drawn faces, in minutes

Each setting (study_settings.py) changes one thing of the public recipe and trains on the same
budget of images, in whole passes over the folder; settings with another budget say so. Then 5,000
faces of the final generator, averaged where the setting asks for it, are held against the last
5,000 of the folder: the Fréchet face distance. Where numbers go bad the distance is inf, and
images_seen counts up to the last whole epoch.

A finished run is a row of study.csv at once and is not repeated: stop by Ctrl-C, and start again to
go on. All settings get their first seed before any gets its second. On a CPU there is one run a
core at a time, and the group 'dear' is left out; on a GPU one run at a time, of all groups.
"""
import contextlib
import functools
import gc
import math
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import torch

import helpers
from experiments import common, study_summary
from experiments.study_settings import GROUPS, SETTINGS

N_JUDGED = 5_000
TRAINING = ('objective', 'penalty', 'penalty_every', 'flip', 'ema_decay',
            'lr_decay')                                              # for train's config
COLUMNS = ('row', 'group', 'change', 'claim', 'seed', 'ffd', 'floor', 'images_seen', 'budget',
           'image_size', 'conv_dim', 'batch', 'seconds', 'precision_of_arithmetic', 'data',
           'device', 'torch', 'command')
KEY = ('row', 'change', 'seed', 'budget', 'device', 'data')  # a run that agrees in these is done


def results_table(folder):
    """Return the table of runs in a folder of tables."""
    return common.Table(folder / 'study.csv', COLUMNS, KEY)


# ------------------------------------------------------------------------------------------ one run


def get_loader(notebook, folder, batch_size, size):
    """Return the notebook's loader of a folder; for None, of 32 drawn faces."""
    if folder is None:
        return notebook.get_dataloader(batch_size, size, dataset='drawn', max_images=32)
    return notebook.get_dataloader(batch_size, size, folder)


@functools.cache
def face_distance(folder, size):
    """Return the distance from the last 5,000 images of a folder; made once a process."""
    loader = get_loader(common.notebook_definitions(), folder, 1, size)
    # seed=None: the end of the folder, as study.csv was measured
    return helpers.FaceDistance(loader.dataset.images, helpers.choose_device(), N_JUDGED, seed=None)


def build(notebook, config, loader, seed):
    """Build networks and optimizers as the notebook does, for its train; return (D, G)."""
    torch.manual_seed(seed)
    device = helpers.choose_device()
    d_conv_dim = config['d_width'] * config['conv_dim']
    D, G = notebook.build_network(d_conv_dim, config['conv_dim'], config['z_size'],
                                  config['img_size'], config['d_batch_norm'])
    D.to(device, memory_format=torch.channels_last)
    G.to(device, memory_format=torch.channels_last)
    rates = config['lr'], config['beta1'], config['beta2']
    d_optimizer, g_optimizer = notebook.make_optimizers(D, G, *rates)
    vars(notebook).update(celeba_train_loader=loader, z_size=config['z_size'],
                          d_optimizer=d_optimizer, g_optimizer=g_optimizer)
    return D, G


def train(notebook, config, loader, seed, n_images, distance=None, distance_every=1):
    """Build and train as the notebook does, in the current folder.

    distance  a function that is asked every so many epochs; None: no distance is measured
    Returns (G with its averaged weights, images seen); None for G where numbers went bad.
    """
    D, G = build(notebook, config, loader, seed)
    n_epochs = max(1, round(config['budgets'] * n_images / len(loader.dataset)))
    chosen = {name: config[name] for name in TRAINING} | dict(distance_every=distance_every)
    went_bad = False
    try:
        notebook.train(D, G, n_epochs, print_every=10 ** 9,
                       loader=helpers.DeviceLoader(loader, helpers.choose_device()),
                       distance=distance, config=chosen)
    except FloatingPointError:
        went_bad = True
    saved = dict(epoch=0, images_seen=0)
    with contextlib.suppress(FileNotFoundError):
        saved = helpers.load_checkpoint()
    if went_bad:
        return None, saved['images_seen']
    if saved['epoch'] < n_epochs:
        stop_after_interrupt()
    G.load_state_dict(saved['G_average'])
    return G, saved['images_seen']


def stop_after_interrupt():
    """End this process: train returns when it is interrupted, but the study has to end too."""
    if multiprocessing.parent_process():
        raise SystemExit
    raise KeyboardInterrupt


def measure(notebook, G, config, distance, seed, n):
    """Return the distance of n new faces, made in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    if config['uniform_z']:
        z = 2 * torch.rand(n, config['z_size'], generator=generator) - 1
    else:
        z = torch.randn(n, config['z_size'], generator=generator)
    images = notebook.generate(G, z)
    if not images.isfinite().all():
        return math.inf
    return distance(images)


def tiny_config(config):
    """Return the config with tiny networks and batches, and a higher learning rate."""
    return config | dict(conv_dim=config['conv_dim'] // 8, batch_size=config['batch_size'] // 16,
                         lr=10 * config['lr'])


def run(setting, seed, n_images, folder=None, tiny=False):
    """Train a setting in a folder of its own, which vanishes, and measure it: a row for the csv."""
    config = dict(setting.config)
    if tiny:
        config = tiny_config(config)
    os.environ['DCGAN_FAST'] = '1' if config['fast'] else '0'
    with common.silence():
        notebook = setting.definitions()
        loader = get_loader(notebook, folder, config['batch_size'], config['img_size'])
        distance = face_distance(folder, config['img_size'])
        with common.scratch_folder(os.getcwd()):
            started = time.perf_counter()
            G, images_seen = train(notebook, config, loader, seed, n_images)
            seconds = time.perf_counter() - started
    ffd = math.inf
    if G is not None:
        ffd = measure(notebook, G, config, distance, seed, 250 if tiny else N_JUDGED)
    in_bfloat16 = config['fast'] and helpers.has_bfloat16(helpers.choose_device())
    command = common.command('study', '--folder', 'FOLDER', '--budget', n_images, '--seeds', seed,
                             '--rows', setting.name, *(['--tiny'] if tiny else []))
    return dict(row=setting.name, group=setting.group, change=setting.change, claim=setting.claim,
                seed=seed, ffd=f'{ffd:.4f}', floor=f'{distance.floor:.4f}', images_seen=images_seen,
                budget=n_images, image_size=config['img_size'], conv_dim=config['conv_dim'],
                batch=config['batch_size'], seconds=f'{seconds:.1f}',
                precision_of_arithmetic='bfloat16' if in_bfloat16 else 'float32',
                data=describe(folder, loader), **common.provenance(command))


def describe(folder, loader):
    name = 'drawn' if folder is None else Path(folder).name
    return f'{len(loader.dataset)} images of {name}/'


def attempt(item, **options):
    """Run a (name, seed); return them with the row, or with a sentence why there is none."""
    name, seed = item
    try:
        return name, seed, run(SETTINGS[name], seed, **options)
    except Exception as error:                       # one fault does not end the study
        return name, seed, f'{type(error).__name__}: {error}'
    finally:
        gc.collect()     # a notebook's functions and its networks hold on to each other


# ---------------------------------------------------------------------------------------- many runs


def check(names):
    """Train settings on drawn faces with tiny networks; return what is wrong, one line a fault.

    Wrong is a setting that fails, or one that comes out exactly as another: it changes nothing.
    """
    faults, seen = [], {}
    for name in names:
        _, _, result = attempt((name, 0), n_images=128, tiny=True)
        if isinstance(result, str):
            faults.append(f'{name}: {result}')
            continue
        ffd = result['ffd']
        print(f'{name:24} {ffd:>9}', flush=True)
        if ffd in seen and ffd != 'inf':
            faults.append(f'{name}: comes out as {seen[ffd]} does')
        seen.setdefault(ffd, name)
    return '\n'.join(faults)


def study(table, names, seeds, budget, folder, n_processes, tiny=False):
    """Make the runs that the table does not hold yet; return how many of them failed."""
    notebook = common.notebook_definitions()
    for size in {SETTINGS[name].config['img_size'] for name in names}:
        # Decoded here, once, before all processes ask for it.
        data = describe(folder, get_loader(notebook, folder, 1, size))
    here = dict(budget=budget, device=helpers.device_name(), data=data)
    done = {table.key_of(row) for row in table.read()}
    work = []
    for seed in seeds:
        for name in names:
            row = dict(here, row=name, change=SETTINGS[name].change, seed=seed)
            if table.key_of(row) not in done:
                work.append((name, seed))
    print(f'{len(work)} of {len(names) * len(seeds)} runs are left, {n_processes} at a time; '
          f'{helpers.versions()}')
    call = functools.partial(attempt, n_images=budget, folder=folder, tiny=tiny)
    started, n_failed = time.time(), 0
    for number, outcome in enumerate(common.in_parallel(call, work, n_processes), 1):
        name, seed, result = outcome
        if isinstance(result, str):
            n_failed += 1
            said = f'FAILED: {result}'
        else:
            table.merge([result])
            said = f'FFD {result["ffd"]:>9}, floor {result["floor"]} | {result["seconds"]:>7} s'
        minutes_left = (time.time() - started) / number * (len(work) - number) / 60
        print(f'{number:4}/{len(work)} | {name:24} seed {seed} | {said} | '
              f'{minutes_left:5.0f} min left', flush=True)
    return n_failed


def chosen_names(rows, groups):
    """Return the names of the settings to be run, each after the one that it is held against."""
    for name in rows or ():
        helpers.check_choice(SETTINGS, rows=name)
    for group in groups or ():
        helpers.check_choice(GROUPS, groups=group)
    if rows:
        names = rows
    else:
        on_gpu = helpers.choose_device().type == 'cuda'
        affordable = [group for group in GROUPS if on_gpu or group != 'dear']
        groups = ['base', *groups] if groups else affordable
        names = [name for name, setting in SETTINGS.items() if setting.group in groups]
    bases = [SETTINGS[name].base for name in names]
    return list(dict.fromkeys([*bases, *names]))


def main(arguments=None):
    parser = common.command_parser(__doc__)
    parser.add_argument('--folder', type=common.existing_folder, help='of the faces')
    parser.add_argument('--budget', type=int, default=90_000, help='images a run (default 90000)')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='(default 0 1 2)')
    parser.add_argument('--rows', nargs='+', metavar='ROW', help='only these settings')
    parser.add_argument('--groups', nargs='+', metavar='GROUP',
                        help=f'only base and these of {", ".join(GROUPS)}')
    common.add_processes_option(parser)
    parser.add_argument('--tiny', action='store_true',
                        help='tiny networks, to rehearse; nothing is measured')
    parser.add_argument('--figure', action='store_true', help='no runs: only summary and figure')
    parser.add_argument('--check', action='store_true',
                        help='try the settings on drawn faces; keep nothing')
    options = parser.parse_args(arguments)
    if not (options.folder or options.figure or options.check):
        parser.error('--folder is missing: where are the faces?')
    helpers.check_whole(budget=options.budget)
    names = chosen_names(options.rows, options.groups)
    table = results_table(options.into)
    n_processes = common.number_of_processes(options.processes)
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ.pop('DCGAN_DATA', None)               # --folder has the say
    n_failed = 0
    # In scratch are the files of the runs, and the cache of a folder that takes none.
    with common.scratch_folder():
        if options.check:
            asked = options.rows or options.groups
            sys.exit(check(names if asked else SETTINGS) or 0)
        if not options.figure:
            try:
                n_failed = study(table, names, options.seeds, options.budget,
                                 options.folder, n_processes, options.tiny)
            except KeyboardInterrupt:
                sys.exit('Stopped. Finished runs are kept; start again to go on.')
    tables = study_summary.summarise(table.read())
    if not tables:
        sys.exit(f'{table.path.name}: no finished run')
    study_summary.write(options.into, tables)
    study_summary.draw(options.into, max(tables, key=len))
    sys.exit(f'{n_failed} runs failed' if n_failed else 0)


if __name__ == '__main__':
    main()
