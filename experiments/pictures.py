"""Draw the pictures in assets/ from a finished run, and keep its generator: what the README and the notebook show of it.

    python experiments/pictures.py FOLDER PROVENANCE [list_attr_celeba.txt]

FOLDER holds checkpoints_gan/, train_samples.pkl and the run's images as processed_celeba_small/. PROVENANCE (command, device,
torch version) stands in each row of the tables. Writes faces.png (the last fixed-noise grid), curves.png, epochs.png,
training.png (a film), distance.png, attributes.png, training.csv (a row an epoch), quality.csv, attributes.csv, and the
averaged generator of the best epoch, in half precision, as generator-32.pt with its card in generator-32.md.
"""
import csv
import sys
from pathlib import Path

import matplotlib

matplotlib.use('agg')
import matplotlib.pyplot as plt  # noqa: E402
import torch  # noqa: E402

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE))
import helpers  # noqa: E402

ASSETS = HERE / 'assets'
CARD = """# generator-32

A DCGAN generator: 100 normal random numbers to a face of 32x32. `helpers.load_pretrained()` reads it; nothing in it is run.

| | |
|---|---|
| data | {data}; CelebA, ids 000001 to 018000, central 108x108, non-commercial research only |
| images seen | {images_seen:,} (best epoch: {epoch} of {n_epochs}), seed {seed} |
| recipe | {recipe} |
| made by | {provenance} |
| weights | generator averaged over steps (EMA), float16, {n_weights:,} numbers |
| Frechet face distance | {distance:.2f}; floor (real against real) {floor:.2f}. 5,000 generated, 5,000 real, 32x32, eval mode. Not an FID |
| kernel face distance | {kernel:.4f} |
| precision, recall | {precision:.3f}, {recall:.3f} (real against real: {floor_precision:.3f}, {floor_recall:.3f}) |

**Limits.** 32x32 pixels, near-frontal celebrity faces. The reference faces are among the training faces, so the distance rewards
memorising as much as learning; the nearest training faces are shown in the notebook. Do not take a generated face for an anonymous one.

**Bias.** It repeats what CelebA shows: mostly young faces, rare things more rarely still. attributes.csv has the share of each of 40
attributes in training and in generated faces, as the encoder of this project sees them (its accuracy: encoder.csv).
"""


def write_rows(name, columns, rows):
    with open(ASSETS / name, 'w', newline='') as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(rows)


def save(name):
    plt.savefig(ASSETS / f'{name}.png', dpi=80, bbox_inches='tight')
    plt.close()


def main(folder, provenance, attributes=None):
    folder = Path(folder)
    notebook = helpers.load_definitions(HERE / 'dcgan_faces.ipynb')
    samples = helpers.load_samples(folder / helpers.SAMPLES)
    history = helpers.load_history(folder / helpers.CHECKPOINTS)
    latest = helpers.load_checkpoint(folder / helpers.CHECKPOINTS)
    best = helpers.load_checkpoint(folder / helpers.CHECKPOINTS, best=True)
    config = best['config']
    seen = latest['images_seen'] // latest['epoch']              # an epoch

    images = helpers.decode_folder(folder / 'processed_celeba_small', config['img_size'])
    face_distance = helpers.FaceDistance(images, n_judged=helpers.Run.N_JUDGED)
    real, other = face_distance.real, images[-2 * face_distance.n:-face_distance.n]
    generated = notebook.sample_faces(face_distance.n, folder / helpers.CHECKPOINTS, seed=config['seed'])
    ours, floor = helpers.quality(generated, real), helpers.quality(other, real)

    for name, draw in (('faces', lambda: helpers.show_grid(samples[-1])),
                       ('curves', lambda: helpers.plot_losses(history)),
                       ('epochs', lambda: helpers.show_epochs(samples, n_faces=8)),
                       ('distance', lambda: helpers.plot_distance(history, face_distance.floor))):
        draw()
        save(name)
    (ASSETS / 'training.png').write_bytes(helpers.film(samples))

    shares = {'training faces': helpers.attribute_shares(images), 'generated faces': helpers.attribute_shares(generated)}
    labels = {}
    if attributes:
        names, by_file = helpers.read_attributes(attributes)
        files = [Path(path).name for path, *_ in helpers.list_images(folder / 'processed_celeba_small')]
        labels = dict(zip(names, torch.stack([by_file[file] for file in files]).float().mean(0).tolist()))
    helpers.plot_attributes(({'training faces, by CelebA': labels} if labels else {}) | shares)
    save('attributes')
    write_rows('attributes.csv', ['attribute', 'training_labels', *shares, 'n_training', 'n_generated', 'provenance'],
               [[name, f'{labels[name]:.4f}' if labels else '', *(f'{shares[of][name]:.4f}' for of in shares), len(images),
                 len(generated), provenance] for name in shares['training faces']])
    write_rows('quality.csv', ['figure', 'generated', 'floor', 'n_generated', 'n_real', 'images_seen', 'data', 'seed', 'provenance'],
               [[name, f'{ours[name]:.4f}', f'{floor[name]:.4f}', len(generated), len(real), best['images_seen'], config['data'],
                 config['seed'], provenance] for name in ours])
    distances = {int(epoch): value for epoch, value, _ in history['distances']}
    write_rows('training.csv', ['epoch', 'images_seen', 'd_loss', 'g_loss', 'D(x)', 'D(G(z))', 'FFD', 'data', 'seed', 'provenance'],
               [[epoch, epoch * seen, *(f'{mean:.4f}' for mean in steps.mean(0).tolist()),
                 f'{distances[epoch]:.4f}' if epoch in distances else '', config['data'], config['seed'], provenance]
                for epoch, steps in enumerate(latest['history'], 1)])

    weights = {name: value.half() if value.is_floating_point() else value for name, value in best['G_average'].items()}
    recipe = ', '.join(f'{name} {config[name]}' for name in (
        'g_conv_dim', 'batch_size', 'lr', 'beta1', 'beta2', 'objective', 'penalty', 'flip', 'ema_decay', 'lr_decay'))
    card = CARD.format(
        **config, epoch=best['epoch'], images_seen=best['images_seen'], recipe=recipe, provenance=provenance,
        n_weights=sum(value.numel() for value in weights.values()), distance=ours['Fréchet face distance'],
        kernel=ours['kernel face distance'], precision=ours['precision'], recall=ours['recall'],
        floor=floor['Fréchet face distance'], floor_precision=floor['precision'], floor_recall=floor['recall'])
    card = card.replace('Frechet', 'Fréchet').replace('32x32', '32×32')
    helpers.PRETRAINED.with_suffix('.md').write_text(card, encoding='utf-8')
    helpers.write_atomically(helpers.PRETRAINED, lambda file: torch.save(
        dict(generator=config['generator'], weights=weights, card=card), file))


if __name__ == '__main__':
    main(*sys.argv[1:])
