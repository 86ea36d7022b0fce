"""What balance does to whose faces come out: the recipe trained on a folder as it is, and balanced.

    python experiments/balance.py --folder FOLDER [--balance Male Young] [--budget 90000] [--seeds 0 1 2] [--processes N]

FOLDER holds faces of CelebA, with list_attr_celeba.txt in it or beside it. Each seed trains twice, as study.py's row 'recipe'
does; the shares of all 40 attributes are those that the encoder sees in 5,000 generated faces, and in 5,000 of each training set
as the loader draws it. Writes assets/balance.csv (a row for each attribute; mean, lowest and highest over the seeds) and
balance.png (the means). Runs of one thread each: two minutes for 90,000 images, or three.
"""
import argparse
import contextlib
import csv
import functools
import io
import multiprocessing
import os
import tempfile
from pathlib import Path

import study
import torch
from study import HERE, N_JUDGED, ROWS, helpers, plt

BALANCED = 'balanced'


def shares_of_run(item, folder, balance, n_images):
    """Train once: (kind, seed, shares in the training set as drawn, shares in generated faces, distance, images seen)."""
    kind, seed = item
    config, notebook = ROWS['recipe'].config, study.edited_notebook()
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory(dir=os.getcwd()) as here, contextlib.chdir(here):
        loader = notebook.get_dataloader(config['batch_size'], config['img_size'], data_dir=folder,
                                         balance=balance if kind == BALANCED else ())
        torch.manual_seed(seed)
        order = torch.as_tensor(list(loader.sampler))[:N_JUDGED]
        drawn = helpers.attribute_shares(loader.dataset.images[order])
        G, images_seen = study.train(notebook, config, loader, seed, n_images)
        z = torch.randn(N_JUDGED, config['z_size'], generator=torch.Generator().manual_seed(seed))
        generated = torch.cat([notebook.generate(G, part) for part in z.split(250)])
        distance = study.face_distance(folder, config['img_size'])(generated)
    print(f'{kind:10} seed {seed} | FFD to the faces as they are {distance:.2f}', flush=True)
    return kind, seed, drawn, helpers.attribute_shares(generated), distance, images_seen


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--folder', required=True, help="of CelebA's faces")
    parser.add_argument('--balance', nargs='+', default=['Male', 'Young'], help='attributes (default Male Young)')
    parser.add_argument('--budget', type=int, default=90_000, help='images a run (default 90000)')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='(default 0 1 2)')
    parser.add_argument('--processes', type=int, default=torch.get_num_threads(), help='at a time (default: one a core)')
    arguments = parser.parse_args()
    os.environ.pop('DCGAN_DATA', None)               # --folder has the say
    folder, balance = Path(arguments.folder).resolve(), arguments.balance
    helpers.balancing_sampler(len(study.get_loader(folder, 1, 32).dataset), balance, data_dir=folder)    # faults show here
    work = [(kind, seed) for seed in arguments.seeds for kind in ('as it is', BALANCED)]
    call = functools.partial(shares_of_run, folder=folder, balance=balance, n_images=arguments.budget)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, multiprocessing.get_context('spawn').Pool(
            arguments.processes, study.start_worker, [scratch]) as pool:
        runs = pool.map(call, work, chunksize=1)

    series = {}                                      # label: one dict of shares a seed
    for kind, _, drawn, generated, _, _ in runs:
        series.setdefault(f'training set, {kind}', []).append(drawn)
        series.setdefault(f'generated, {kind}', []).append(generated)
    command = f'python experiments/balance.py --folder FOLDER --balance {" ".join(balance)} --budget {arguments.budget}'
    with open(HERE / 'assets/balance.csv', 'w', newline='') as file:
        table = csv.writer(file)
        table.writerow(['figure', *(f'{label}, {what}' for label in series for what in ('mean', 'lowest', 'highest')), 'seeds',
                        'images_seen', 'n_judged', 'data', 'device', 'torch', 'command'])
        said = (' '.join(map(str, arguments.seeds)), runs[0][-1], N_JUDGED, f'{folder.name}/', helpers.device_name(),
                torch.__version__, command)
        for name in next(iter(series.values()))[0]:
            values = [[shares[name] for shares in of_seeds] for of_seeds in series.values()]
            table.writerow([name, *(f'{figure:.4f}' for each in values for figure in (sum(each) / len(each), min(each), max(each))),
                            *said])
        distances = [[distance for kind, _, _, _, distance, _ in runs if label == f'generated, {kind}'] for label in series]
        table.writerow(['Fréchet face distance', *(f'{figure:.4f}' if each else '' for each in distances for figure in (
            (sum(each) / len(each), min(each), max(each)) if each else [0] * 3)), *said])
    helpers.plot_attributes({label: {name: sum(shares[name] for shares in of_seeds) / len(of_seeds) for name in of_seeds[0]}
                             for label, of_seeds in series.items()})
    plt.savefig(HERE / 'assets/balance.png', dpi=80, bbox_inches='tight')


if __name__ == '__main__':
    main()
