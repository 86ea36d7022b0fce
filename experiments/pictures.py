"""Draw the pictures in assets/ from a finished run: the folder that holds checkpoints_gan/ and train_samples.pkl.

    python experiments/pictures.py FOLDER PROVENANCE

Writes faces.png (the last fixed-noise grid), curves.png, epochs.png, training.png, and training.csv, a row an epoch;
PROVENANCE (command, device, torch version) stands in each row.
"""
import csv
import sys
from pathlib import Path

import matplotlib

matplotlib.use('agg')
import matplotlib.pyplot as plt  # noqa: E402

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE))
import helpers  # noqa: E402


def main(folder, provenance):
    assets = HERE / 'assets'
    samples = helpers.load_samples(Path(folder) / helpers.SAMPLES)
    history = helpers.load_history(Path(folder) / helpers.CHECKPOINTS)
    saved = helpers.load_checkpoint(Path(folder) / helpers.CHECKPOINTS)
    for name, draw in (('faces', lambda: helpers.show_grid(samples[-1])),
                       ('curves', lambda: helpers.plot_losses(history)),
                       ('epochs', lambda: helpers.show_epochs(samples, n_faces=8))):
        draw()
        plt.savefig(assets / f'{name}.png', dpi=80, bbox_inches='tight')
    (assets / 'training.png').write_bytes(helpers.film(samples))
    with open(assets / 'training.csv', 'w', newline='') as file:
        table = csv.writer(file)
        config = saved['config']
        table.writerow(['epoch', 'images_seen', 'd_loss', 'g_loss', 'D(x)', 'D(G(z))', 'data', 'seed', 'provenance'])
        per_epoch = saved['images_seen'] // saved['epoch']
        for epoch, steps in enumerate(saved['history'], 1):
            means = [f'{mean:.4f}' for mean in steps.mean(0).tolist()]
            table.writerow([epoch, epoch * per_epoch, *means, config['data'], config['seed'], provenance])


if __name__ == '__main__':
    main(*sys.argv[1:])
