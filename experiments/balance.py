"""What balance does to whose faces come out: the recipe trained on a folder as it is, and balanced.

    python experiments/balance.py --folder FOLDER [--balance Male Young] [--budget 90000] [--seeds 0 1 2] [--processes N]

FOLDER holds faces of CelebA; list_attr_celeba.txt lies in it, beside it, or where DCGAN_ATTRIBUTES says. Each seed trains twice, as
study.py's row 'recipe' does. Then 5,000 faces of each generator, and 5,000 of each training set as its loader draws them, are
shown to the encoder: the share of each of the 40 attributes, and of each combination of the balanced ones. For the training
sets CelebA's own labels are given too; the encoder sees rare things too rarely, so compare it with itself alone. Each generator is
held against 5,000 training faces as they are, and against 5,000 of a balanced draw: the distances differ by the mix alone.

Writes assets/balance.csv (over the seeds: mean, lowest, highest) and balance.png (the means). A run is one thread and two or three
minutes for 90,000 images.
"""
import argparse
import contextlib
import csv
import functools
import io
import itertools
import multiprocessing
import os
import sys
import tempfile
from pathlib import Path

import study
import torch
from study import HERE, N_JUDGED, ROWS, helpers, plt

KINDS = AS_IT_IS, BALANCED = 'as it is', 'balanced'
LABELS, TRAINING, GENERATED = 'training, by label', 'training', 'generated'


def shares(names, seen, balance):
    """{what: share of images} for each attribute, and for each combination of those in balance."""
    columns = {name: seen[:, names.index(name)] for name in names}
    for truths in itertools.product((True, False), repeat=len(balance)):
        name = ' and '.join(attribute if truth else f'not {attribute}' for attribute, truth in zip(balance, truths))
        columns[name] = torch.stack([columns[each] == truth for each, truth in zip(balance, truths)]).all(0)
    return {name: column.float().mean().item() for name, column in columns.items()}


def run(item, folder, balance, n_images):
    """Train once: (kind, seed, {faces: {what: figure}}, images seen); None for the figures if numbers went bad."""
    kind, seed = item
    config, notebook = ROWS['recipe'].config, study.edited_notebook()
    load = functools.partial(notebook.get_dataloader, config['batch_size'], config['img_size'], data_dir=folder)
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory(dir=os.getcwd()) as here, contextlib.chdir(here):
        even, loader = load(balance=balance), load(balance=balance if kind == BALANCED else ())
        images, (names, labels) = loader.dataset.images, helpers.load_attributes(folder)
        torch.manual_seed(0)                         # the same draw for all: 5,000 to be held against, 5,000 for a floor
        references = {'as they are': study.face_distance(folder, config['img_size']),
                      'balanced': helpers.FaceDistance(images[list(even.sampler)[:2 * N_JUDGED]], helpers.choose_device(), N_JUDGED)}
        torch.manual_seed(seed)
        drawn = list(loader.sampler)[:N_JUDGED]
        G, images_seen = study.train(notebook, config, loader, seed, n_images)
        if G is None:
            return kind, seed, None, images_seen
        z = torch.randn(N_JUDGED, config['z_size'], generator=torch.Generator().manual_seed(seed))
        generated = torch.cat([notebook.generate(G, part) for part in z.split(250)])
        distances = {f'Fréchet face distance to faces {name}': distance(generated) for name, distance in references.items()}
    return kind, seed, {LABELS: shares(names, labels[drawn], balance),
                        TRAINING: shares(*helpers.seen_attributes(images[drawn]), balance),
                        GENERATED: shares(*helpers.seen_attributes(generated), balance) | distances}, images_seen


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--folder', required=True, help="of CelebA's faces")
    parser.add_argument('--balance', nargs='+', default=['Male', 'Young'], help='attributes (default Male Young)')
    parser.add_argument('--budget', type=int, default=90_000, help='images a run (default 90000)')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='(default 0 1 2)')
    parser.add_argument('--processes', type=int, help='at a time (default: one a core; on a GPU one)')
    arguments = parser.parse_args()
    n_processes = arguments.processes or (1 if helpers.choose_device().type == 'cuda' else torch.get_num_threads())
    folder, balance, seeds = Path(arguments.folder).resolve(), arguments.balance, arguments.seeds
    torch.set_num_threads(1)
    os.environ.pop('DCGAN_DATA', None)               # --folder has the say
    os.environ['DCGAN_FAST'] = '1'
    if 'DCGAN_ATTRIBUTES' in os.environ:
        os.environ['DCGAN_ATTRIBUTES'] = str(Path(os.environ['DCGAN_ATTRIBUTES']).resolve())
    finished, n_bad = {kind: [] for kind in KINDS}, 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, contextlib.chdir(scratch):
        helpers.balancing_sampler(len(study.get_loader(folder, 1, 32).dataset), balance, data_dir=folder)    # faults show here
        call = functools.partial(run, folder=folder, balance=balance, n_images=arguments.budget)
        with multiprocessing.get_context('spawn').Pool(n_processes, study.start_worker, [scratch]) as pool:
            for kind, seed, figures, images_seen in pool.imap_unordered(call, itertools.product(KINDS, seeds)):
                print(f'{kind:9} seed {seed} | {images_seen:,} images seen'
                      + ('' if figures else ', then numbers went bad: left out'), flush=True)
                finished[kind] += [figures] if figures else []
                n_bad += not figures
            pool.close()
            pool.join()
    said = (' '.join(map(str, seeds)), images_seen, N_JUDGED, f'{folder.name}/', helpers.device_name(), torch.__version__,
            f'python experiments/balance.py --folder FOLDER --balance {" ".join(balance)} --budget {arguments.budget} '
            f'--seeds {" ".join(map(str, seeds))}')
    means = {}
    with open(HERE / 'assets/balance.csv', 'w', newline='') as file:
        table = csv.writer(file)
        table.writerow(['figure', 'training_set', 'faces', 'mean', 'lowest', 'highest', 'n_runs', 'seeds', 'images_a_run',
                        'faces_judged', 'data', 'device', 'torch', 'command'])
        for kind, faces in itertools.product(KINDS, (LABELS, TRAINING, GENERATED)):
            runs = [figures[faces] for figures in finished[kind]]
            for name in runs[0] if runs else ():
                values = [each[name] for each in runs]
                means.setdefault(f'{faces}, {kind}', {})[name] = sum(values) / len(values)
                table.writerow([name, kind, faces, *(f'{value:.4f}' for value in (sum(values) / len(values), min(values), max(values))),
                                len(values), *said])
    if means:
        names = helpers.FaceEncoder.trained().attribute_names
        helpers.plot_attributes({label: {name: mean[name] for name in names} for label, mean in means.items()
                                 if not label.startswith(LABELS)})
        plt.savefig(HERE / 'assets/balance.png', dpi=80, bbox_inches='tight')
    sys.exit(f'{n_bad} runs went bad' if n_bad else 0)


if __name__ == '__main__':
    main()
