"""Measure what balance does to whose faces come out: the recipe on a folder as it is, and balanced.

    python -m experiments.balance --folder FOLDER [--balance Male Young] [--budget 90000]
                                  [--seeds 0 1 2] [--processes N]

FOLDER holds faces of CelebA; list_attr_celeba.txt lies in it, beside it, or where DCGAN_ATTRIBUTES
says. Each seed trains twice, as the study's setting 'recipe' does. Then 5,000 faces of each
generator, and 5,000 of each training set as its loader draws them, are shown to the encoder: the
share of each of the 40 attributes, and of each combination of the balanced ones. For the training
sets CelebA's own labels are given too; the encoder sees rare things too rarely, so compare it with
itself alone. Each generator is held against 5,000 training faces as they are, and against 5,000 of
a balanced draw: the two distances differ by the mix alone.

Writes balance.csv (over the seeds: mean, lowest, highest) and balance.png (the means).
"""
import functools
import itertools
import os
import sys

import torch

import helpers
from experiments import common, runs, study
from experiments.settings import SETTINGS
from experiments.study import N_JUDGED
from machinery.console import setting

AS_IT_IS, BALANCED = 'as it is', 'balanced'              # training sets
FACES = LABELS, TRAINING, GENERATED = 'training, by label', 'training', 'generated'
COLUMNS = ('figure', 'training_set', 'faces', 'mean', 'lowest', 'highest', 'n_runs', 'seeds',
           'images_a_run', 'faces_judged', 'data', 'device', 'torch', 'command')


def shares(names, seen, balance):
    """Return the shares of images with each attribute, and with each combination of the balanced.

    seen     bool (n, number of names)
    balance  some of the names
    """
    columns = {name: seen[:, number] for number, name in enumerate(names)}
    for truths in itertools.product((True, False), repeat=len(balance)):
        words, combined = [], torch.ones(len(seen), dtype=torch.bool)
        for attribute, truth in zip(balance, truths, strict=True):
            words.append(attribute if truth else f'not {attribute}')
            combined &= columns[attribute] == truth
        columns[' and '.join(words)] = combined
    return {name: column.float().mean().item() for name, column in columns.items()}


def run(item, folder, balance, n_images):
    """Train once, in a folder that vanishes.

    item  (training set, seed)
    Returns (item, {(faces, figure): value}, images seen); no values where numbers went bad.
    """
    training_set, seed = item
    config = SETTINGS['recipe'].config
    notebook = common.notebook_definitions()
    size = config['img_size']
    load = functools.partial(notebook.get_dataloader, config['batch_size'], size, folder)
    with common.silence():
        balanced = load(balance=balance)
        loader = balanced if training_set == BALANCED else load()
        torch.manual_seed(0)             # the same draw for all runs
        references = {'as they are': study.face_distance(folder, size),
                      'balanced': distance_from_draw(balanced)}
        torch.manual_seed(seed)
        drawn = list(loader.sampler)[:N_JUDGED]
        G, images_seen = study.train(notebook, config, loader, seed, n_images)
        if G is None:
            return item, {}, images_seen
        generated = runs.draw(notebook, G, N_JUDGED, seed)
    names, labels = helpers.load_attributes(loader.dataset)
    crowds = {LABELS: (names, labels[drawn]),
              TRAINING: helpers.seen_attributes(loader.dataset.images[drawn]),
              GENERATED: helpers.seen_attributes(generated)}
    values = {(faces, figure): value for faces, (names, seen) in crowds.items()
              for figure, value in shares(names, seen, balance).items()}
    for name, distance in references.items():
        values[GENERATED, f'Fréchet face distance to faces {name}'] = distance(generated)
    return item, values, images_seen


def distance_from_draw(loader):
    """Return the distance from 5,000 images as a loader draws them; 5,000 more give its floor."""
    drawn = list(loader.sampler)[:2 * N_JUDGED]
    images = loader.dataset.images[drawn]            # in the order of the draw, hence no seed
    return helpers.FaceDistance(images, helpers.choose_device(), N_JUDGED, seed=None)


def write(folder, values, whence):
    """Write balance.csv; values is {(training set, faces, figure): a list, one a run}."""
    rows = []
    for (training_set, faces, figure), each in values.items():
        numbers = dict(mean=sum(each) / len(each), lowest=min(each), highest=max(each))
        rows.append(whence | dict(figure=figure, training_set=training_set, faces=faces,
                                  n_runs=len(each))
                    | {name: f'{value:.4f}' for name, value in numbers.items()})
    rows.sort(key=lambda row: (row['training_set'], FACES.index(row['faces'])))
    common.Table(folder / 'balance.csv', COLUMNS, COLUMNS[:3]).write(rows)


def draw(folder, values):
    """Draw the mean shares of the 40 attributes, as the encoder sees them, in balance.png."""
    attributes = helpers.FaceEncoder.trained().attribute_names
    means = {}
    for (training_set, faces, figure), each in values.items():
        if faces != LABELS and figure in attributes:
            means.setdefault(f'{faces}, {training_set}', {})[figure] = sum(each) / len(each)
    helpers.plot_attributes(means)
    common.save_figure(folder / 'balance.png', bbox_inches='tight')


def main(arguments=None):
    parser = runs.command_parser(__doc__)
    parser.add_argument('--balance', nargs='+', default=['Male', 'Young'], metavar='ATTRIBUTE',
                        help='(default Male Young)')
    parser.add_argument('--budget', type=int, default=90_000, help='images a run (default 90000)')
    runs.add_processes_option(parser)
    options = parser.parse_args(arguments)
    folder, balance, seeds = options.folder, options.balance, options.seeds
    n_processes = runs.number_of_processes(options.processes)
    runs.begin(parser, options)
    if setting('DCGAN_ATTRIBUTES'):                  # the runs have other folders of their own
        os.environ['DCGAN_ATTRIBUTES'] = os.path.abspath(setting('DCGAN_ATTRIBUTES'))
    values, n_bad = {}, 0
    with common.scratch_folder():
        dataset = common.notebook_definitions().get_dataloader(1, 32, folder).dataset
        helpers.balancing_sampler(dataset, balance)          # what is wrong with them shows here
        call = functools.partial(run, folder=folder, balance=balance, n_images=options.budget)
        work = list(itertools.product((AS_IT_IS, BALANCED), seeds))
        for item, found, images_seen in runs.in_parallel(call, work, n_processes):
            training_set, seed = item
            n_bad += not found
            print(f'{training_set:9} seed {seed} | {images_seen:,} images seen'
                  f'{"" if found else ", then numbers went bad: left out"}', flush=True)
            for key, value in found.items():
                values.setdefault((training_set, *key), []).append(value)
    command = common.command('balance', '--folder', 'FOLDER', '--balance', *balance,
                             '--budget', options.budget, '--seeds', *seeds)
    whence = dict(seeds=' '.join(map(str, seeds)), images_a_run=images_seen, faces_judged=N_JUDGED,
                  data=f'{folder.name}/', **common.provenance(command))
    if values:
        write(options.into, values, whence)
        draw(options.into, values)
    sys.exit(f'{n_bad} runs went bad' if n_bad else 0)


if __name__ == '__main__':
    main()
