"""Measure what each habit of the public solutions does to the distance from real faces.

    python -m experiments.study --folder FOLDER    train what is not in assets/study.csv yet
    python -m experiments.study --figure           only the summary and the figure, from the csv

Each setting (settings.py) changes one thing of the public recipe and trains on the same budget of
images, in whole passes over the folder; settings with another budget say so. Then 5,000 faces of
the final generator, averaged where the setting asks for it, are held against the last 5,000 of the
folder: the Fréchet face distance. Where numbers go bad the distance is inf, and images_seen counts
up to the last whole epoch.

A finished run is a row of study.csv at once and is not repeated: stop by Ctrl-C, and start again to
go on. All settings get their first seed before any gets its second. On a CPU there is one run a
core at a time, and the group 'dear' is left out; on a GPU one run at a time, of all groups.
"""
import functools
import math
import os
import sys
import time

import torch

import helpers
from experiments import common, runs, study_summary
from experiments.settings import SETTINGS

N_JUDGED = 5_000
COLUMNS = ('row', 'group', 'change', 'claim', 'seed', 'ffd', 'floor', 'images_seen', 'budget',
           'image_size', 'conv_dim', 'batch', 'seconds', 'precision_of_arithmetic', 'data',
           'device', 'torch', 'command')
KEY = ('row', 'change', 'seed', 'budget', 'device', 'data')  # a run that agrees in these is done


def results_table(folder):
    """Return the table of runs in a folder of tables."""
    return common.Table(folder / 'study.csv', COLUMNS, KEY)


# ------------------------------------------------------------------------------------------ one run


@functools.cache
def face_distance(folder, size):
    """Return the distance from the last 5,000 images of a folder; made once a process."""
    loader = common.notebook_definitions().get_dataloader(1, size, folder)
    # seed=None: the end of the folder, as study.csv was measured
    return helpers.FaceDistance(loader.dataset.images, helpers.choose_device(), N_JUDGED, seed=None)


def train(notebook, config, loader, seed, n_images):
    """Train on so many images, in whole passes, in a folder that vanishes.

    Returns (G with its averaged weights, images seen); None for G where numbers went bad.
    """
    n_epochs = max(1, round(config['budgets'] * n_images / len(loader.dataset)))
    with common.scratch_folder(os.getcwd()):
        try:
            G, saved = runs.train(notebook, config, loader, seed, n_epochs)
            return G, saved['images_seen']
        except FloatingPointError:
            return None, runs.images_seen()


def measure(notebook, G, config, distance, seed, n):
    """Return the distance of n new faces, made in eval mode."""
    if config['uniform_z']:
        random_numbers = torch.Generator().manual_seed(seed)
        z = 2 * torch.rand(n, config['z_size'], generator=random_numbers) - 1
        images = notebook.generate(G, z)
    else:
        images = runs.draw(notebook, G, n, seed)
    if not images.isfinite().all():
        return math.inf
    return distance(images)


def run(planned, folder):
    """Train a setting and measure it: a row for the csv, in a list.

    planned  names the setting as 'row', and the 'seed' and 'budget'
    """
    setting, seed, budget = SETTINGS[planned['row']], planned['seed'], planned['budget']
    config = setting.config
    os.environ['DCGAN_FAST'] = '1' if config['fast'] else '0'
    with common.silence():
        notebook = setting.definitions()
        loader = notebook.get_dataloader(config['batch_size'], config['img_size'], folder)
        distance = face_distance(folder, config['img_size'])
        started = time.perf_counter()
        G, images_seen = train(notebook, config, loader, seed, budget)
        seconds = time.perf_counter() - started
    ffd = math.inf
    if G is not None:
        ffd = measure(notebook, G, config, distance, seed, N_JUDGED)
    in_bfloat16 = config['fast'] and helpers.has_bfloat16(helpers.choose_device())
    command = common.command('study', '--folder', 'FOLDER', '--budget', budget, '--seeds', seed,
                             '--rows', setting.name)
    return [dict(row=setting.name, group=setting.group, change=setting.change, claim=setting.claim,
                 seed=seed, ffd=f'{ffd:.4f}', floor=f'{distance.floor:.4f}',
                 images_seen=images_seen, budget=budget, image_size=config['img_size'],
                 conv_dim=config['conv_dim'], batch=config['batch_size'], seconds=f'{seconds:.1f}',
                 precision_of_arithmetic='bfloat16' if in_bfloat16 else 'float32',
                 data=describe(folder, loader), **common.provenance(command))]


def describe(folder, loader):
    return f'{len(loader.dataset)} images of {folder.name}/'


# ---------------------------------------------------------------------------------------- many runs


def planned_runs(names, seeds, budget, folder):
    """Return all runs of these settings: a dict for each."""
    notebook = common.notebook_definitions()
    for size in {SETTINGS[name].config['img_size'] for name in names}:
        # Decoded here, once, before all processes ask for it.
        data = describe(folder, notebook.get_dataloader(1, size, folder))
    return [dict(row=name, change=SETTINGS[name].change, seed=seed, budget=budget, data=data)
            for seed in seeds for name in names]


def chosen_names(rows):
    """Return the names of the settings to be run, each after the one that it is held against."""
    for name in rows or ():
        helpers.check_choice(SETTINGS, rows=name)
    on_gpu = helpers.choose_device().type == 'cuda'
    affordable = [name for name, setting in SETTINGS.items() if on_gpu or setting.group != 'dear']
    names = rows or affordable
    bases = [SETTINGS[name].base for name in names]
    return list(dict.fromkeys([*bases, *names]))


def main(arguments=None):
    parser = runs.command_parser(__doc__)
    runs.add_figure_option(parser)
    parser.add_argument('--budget', type=int, default=90_000, help='images a run (default 90000)')
    parser.add_argument('--rows', nargs='+', metavar='ROW', help='only these settings')
    runs.add_processes_option(parser)
    options = parser.parse_args(arguments)
    helpers.check_whole(budget=options.budget)
    names = chosen_names(options.rows)
    table = results_table(options.into)
    n_processes = runs.number_of_processes(options.processes)
    runs.begin(parser, options)
    n_failed = 0
    # In scratch are the files of the runs, and the cache of a folder that takes none.
    with common.scratch_folder():
        if not options.figure:
            work = planned_runs(names, options.seeds, options.budget, options.folder)
            n_failed = runs.make_missing(table, work, functools.partial(run, folder=options.folder),
                                         ('row', 'seed', 'ffd', 'seconds'), n_processes)
    tables = study_summary.summarise(table.read())
    if not tables:
        sys.exit(f'{table.path.name}: no finished run')
    study_summary.write(options.into, tables)
    study_summary.draw(options.into, max(tables, key=len))
    sys.exit(f'{n_failed} runs failed' if n_failed else 0)


if __name__ == '__main__':
    main()
