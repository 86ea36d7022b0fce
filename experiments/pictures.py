"""Draw the pictures in assets/ from a finished run, and keep its generator.

    python -m experiments.pictures FOLDER PROVENANCE [list_attr_celeba.txt]
    python -m experiments.pictures FOLDER PROVENANCE [list_attr_celeba.txt] --leg 3
    python -m experiments.pictures FOLDER PROVENANCE --leg 2 --passed-on

FOLDER holds checkpoints_gan/, train_samples.pkl and the run's images as processed_celeba_small/.
PROVENANCE (command, device, torch version) stands in each row of the tables. Writes faces.png (the
grid of the best epoch), curves.png, training.png (a film of eight faces), distance.png and
attributes.png; training.csv (a row an epoch), quality.csv and attributes.csv; and the networks of
the best epoch as a folder, dcgan-32 or dcgan-64 after their size (see experiments/export.py).
Generated faces are held against those that the run held out; a run that held none out is judged by
faces that it was trained on.

A pair may be made in legs, runs that each go on from the networks of the one before. The first leg
shows a training from nothing: curves.png, training.png and distance.png are its. training.csv has
the epochs of all. --passed-on adds those of a leg whose last epoch the next one took up, no more.
"""
from pathlib import Path

import torch

import helpers
from experiments import common, export

RECIPE = 'batch_size', 'lr', 'penalty', 'penalty_every', 'beta2'      # where legs differ


def save_figure(into, name):
    common.save_figure(into / f'{name}.png', bbox_inches='tight')


def draw_training(into, samples, history, floor):
    """Draw a training from nothing: its losses, its distance, and a film."""
    helpers.plot_losses(history)
    save_figure(into, 'curves')
    helpers.plot_distance(history, floor)
    save_figure(into, 'distance')
    eight = [grid[:8] for grid in samples]           # a whole grid of 64x64 is too large a film
    (into / 'training.png').write_bytes(helpers.film(eight, n_frames=10))


def write_attributes(into, images, generated, labels, provenance):
    """Draw attributes.png and write attributes.csv; labels is {attribute: share}, or empty."""
    shares = {'training faces': helpers.attribute_shares(images),
              'generated faces': helpers.attribute_shares(generated)}
    by_label = {'training faces, by CelebA': labels} if labels else {}
    helpers.plot_attributes(by_label | shares)
    save_figure(into, 'attributes')
    rows = []
    for name in shares['training faces']:
        row = dict(attribute=name, n_training=len(images), n_generated=len(generated),
                   provenance=provenance)
        row['training_labels'] = f'{labels[name]:.4f}' if labels else ''
        row |= {crowd: f'{values[name]:.4f}' for crowd, values in shares.items()}
        rows.append(row)
    columns = ['attribute', 'training_labels', *shares, 'n_training', 'n_generated', 'provenance']
    common.Table(into / 'attributes.csv', columns, key=('attribute',)).write(rows)


def shares_of_labels(path, image_files):
    """Return {attribute: share of the images} by CelebA's own list."""
    names, labels_of = helpers.read_attributes(path)
    labels = torch.stack([labels_of[Path(file).name] for file in image_files])
    return dict(zip(names, labels.float().mean(0).tolist(), strict=True))


def write_quality(into, generated, real, figures, best, provenance):
    config = best['config']
    ours, floor = figures['values'], figures['floor']
    rows = []
    for name in ours:
        rows.append(dict(figure=name, generated=f'{ours[name]:.4f}', floor=f'{floor[name]:.4f}',
                         n_generated=len(generated), n_real=len(real),
                         images_seen=best['images_seen'], data=config['data'], seed=config['seed'],
                         provenance=provenance))
    common.Table(into / 'quality.csv', rows[0], key=('figure',)).write(rows)


def write_training(into, latest, history, leg, taken, provenance):
    """Write a leg into training.csv: for each epoch its mean figures, and its distance if measured.

    taken   the epoch whose networks the next leg took up, or that ship
    """
    config = latest['config']
    images_an_epoch = latest['images_seen'] // latest['epoch']
    measured = {int(epoch): value for epoch, value, _ in history['distances']}
    columns = {'d_loss': 'd_loss', 'g_loss': 'g_loss', 'D(x)': 'd_real', 'D(G(z))': 'd_fake'}
    ends = history['per_epoch'].cumsum()
    rows = []
    for epoch, (n_steps, end) in enumerate(zip(history['per_epoch'], ends, strict=True), 1):
        row = dict(leg=leg, epoch=epoch, images_seen=epoch * images_an_epoch)
        for column, name in columns.items():
            row[column] = f'{history[name][end - n_steps:end].mean():.4f}'
        row['FFD'] = f'{measured[epoch]:.4f}' if epoch in measured else ''
        row |= {name: config.get(name, '') for name in RECIPE}
        row |= dict(taken='yes' if epoch == taken else '', seconds_of_run=round(latest['seconds']),
                    data=config['data'], seed=config['seed'], provenance=provenance)
        rows.append(row)
    common.Table(into / 'training.csv', rows[0], key=('leg', 'epoch')).merge(rows)


def main(arguments=None):
    parser = common.command_parser(__doc__)
    parser.add_argument('folder', type=common.existing_folder, help='of the run')
    parser.add_argument('provenance', help='command, device and torch version of the run')
    parser.add_argument('attributes', type=Path, nargs='?', help="CelebA's list_attr_celeba.txt")
    parser.add_argument('--leg', type=int, default=1, help='which of the runs that made the pair')
    parser.add_argument('--passed-on', action='store_true', help='a leg that others follow')
    options = parser.parse_args(arguments)
    folder, into, provenance = options.folder, options.into, options.provenance

    history = helpers.load_history(folder / helpers.CHECKPOINTS)
    latest = helpers.load_checkpoint(folder / helpers.CHECKPOINTS)
    if options.passed_on:
        write_training(into, latest, history, options.leg, latest['epoch'], provenance)
        return
    samples = helpers.load_samples(folder / helpers.SAMPLES)
    best = helpers.load_checkpoint(folder / helpers.CHECKPOINTS, best=True)
    config = best['config']
    dataset = export.images_of_run(folder / 'processed_celeba_small', config)
    figures, distance, generated = export.judge(best, dataset)
    labels = {}
    if options.attributes:
        labels = shares_of_labels(options.attributes, dataset.files)

    helpers.show_grid(samples[best['epoch'] - 1])
    save_figure(into, 'faces')
    if options.leg == 1:
        draw_training(into, samples, history, distance.floor)
    write_attributes(into, dataset.images, generated, labels, provenance)
    write_quality(into, generated, distance.real, figures, best, provenance)
    write_training(into, latest, history, options.leg, best['epoch'], provenance)
    export.write_folder(into / f'dcgan-{config["img_size"]}', best, figures, provenance)


if __name__ == '__main__':
    main()
