"""Measure the directions in noise space: what each moves on fresh noise, and what it drags along.

    python -m experiments.directions

Finds the directions of machinery/latent.py with three seeds. Each is then followed from -3 to 3
on fresh noise, beside controls that were fitted to shuffled measurements and must move nothing. A
direction holds if with every seed it moves its own figure by at least one standard deviation, at
least twice as far as any figure that was taken out of it, and at least twice as far as any of its
controls. What it drags along is the figure that moves furthest with it, taken out or not. Writes
directions.csv (a row for each name and seed), directions.png, and those that hold, the mean over
the seeds, into directions.npz. It takes two minutes of one core; seven where others use it too.
"""
import hashlib
import io

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

import helpers
from experiments import common
from experiments.common import plt
from machinery import files, pictures
from machinery import latent as rooms
from machinery.explorer import shares
from machinery.metric import FaceEncoder

SEEDS = 0, 1, 2
AMOUNT = 3           # how far a direction is followed, to both sides
LEAST = 1            # standard deviations that it must move its own figure
MARGIN = 2           # how many times as far as any figure taken out, and as any control
COLUMNS = ('name', 'seed', 'moves', 'lowest_end', 'middle', 'highest_end', 'drags', 'drags_by',
           'taken_out', 'taken_out_by', 'control', 'control_largest', 'holds', 'n_fitted',
           'n_judged', 'n_controls', 'generator', 'command', 'device', 'torch')


def load_generator(run=None):
    """Return the shipped generator, or that of a run's folder, in eval mode on the CPU."""
    notebook = common.notebook_definitions()
    if run:
        return notebook.load_generator(run).eval()
    pair = helpers.load_pair()
    return helpers.rebuild(notebook.Generator, pair, pair['G_average']).eval()


def fingerprint(G):
    """Return 16 hexadecimal digits that tell the weights of generators apart."""
    digest = hashlib.sha256()
    for value in G.state_dict().values():
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()[:16]


def judge(G, seed, n_fitted=10_000, n_judged=250, n_controls=3):
    """Find directions with one seed and follow each on fresh noise.

    Returns (directions (names, z_size), rows without what they have in common).
    """
    encoder = FaceEncoder.trained()
    random_numbers = torch.Generator().manual_seed(seed)
    z = torch.randn(n_fitted, G.z_size, generator=random_numbers)
    measured = rooms.draw_and_measure(G, z, encoder)
    spread = measured.std(0)
    slopes = rooms.fit_slopes(z, measured)
    found = rooms.without_others(slopes, slopes)
    controls = []
    for _ in range(n_controls):
        shuffled = measured[torch.randperm(n_fitted, generator=random_numbers)]
        controls.append(rooms.without_others(rooms.fit_slopes(z, shuffled), slopes))
    fresh = torch.randn(n_judged, G.z_size, generator=random_numbers)

    def follow(direction):
        """Return what is measured at both ends of a direction."""
        ends = [rooms.move(fresh, direction, amount) for amount in (-AMOUNT, AMOUNT)]
        return [rooms.draw_and_measure(G, end, encoder) for end in ends]

    middle = rooms.draw_and_measure(G, fresh, encoder)
    rows = []
    for number, name in enumerate(rooms.NAMES):
        low, high = follow(found[number])
        moved = (high - low).mean(0) / spread
        drags, drags_by = furthest(moved, rooms.NAMES, name)
        taken_out, taken_out_by = furthest(moved, rooms.CORE, name)
        by_controls = []
        for control in controls:
            control_low, control_high = follow(control[number])
            by_controls.append((control_high - control_low).mean(0)[number] / spread[number])
        by_controls = torch.stack(by_controls)
        row = dict(name=name, seed=seed, moves=moved[number].item(),
                   drags=drags, drags_by=drags_by, taken_out=taken_out,
                   taken_out_by=taken_out_by, control=by_controls.mean().item(),
                   control_largest=by_controls.abs().max().item())
        ends = zip(('lowest_end', 'middle', 'highest_end'), (low, middle, high), strict=True)
        for column, values in ends:
            row[column] = summary(name, values[:, number])
        rows.append(row | dict(n_fitted=n_fitted, n_judged=n_judged, n_controls=n_controls))
    return found, rows


def furthest(moved, names, but):
    """Return (name, how far) of the figure among names that moved furthest, one left out."""
    distances = {}
    for name in names:
        if name != but:
            distances[name] = moved[rooms.NAMES.index(name)].item()
    name = max(distances, key=lambda each: abs(distances[each]))
    return name, distances[name]


def summary(name, values):
    """Return the share of faces that the encoder says yes of; of a figure in pixels, the mean."""
    if name in rooms.PIXELS:
        return values.mean().item()
    return (values > 0).float().mean().item()


def say_which_hold(rows):
    """Write into the rows of all seeds, in column 'holds', whether the direction holds."""
    for name in {row['name'] for row in rows}:
        of_name = [row for row in rows if row['name'] == name]
        moves = min(row['moves'] for row in of_name)
        side_effect = max(abs(row['taken_out_by']) for row in of_name)
        by_control = max(row['control_largest'] for row in of_name)
        holds = moves >= LEAST and moves >= MARGIN * max(side_effect, by_control)
        for row in of_name:
            row['holds'] = 'yes' if holds else 'no'


def measure(G, seeds=SEEDS, **sizes):
    """Judge the directions of G with several seeds.

    Returns (directions that hold {name: (z_size,)}, rows). sizes are handed on to judge.
    """
    found, rows = [], []
    for seed in seeds:
        directions, rows_of_seed = judge(G, seed, **sizes)
        found.append(directions)
        rows += rows_of_seed
    say_which_hold(rows)
    held = {row['name'] for row in rows if row['holds'] == 'yes'}
    means = F.normalize(torch.stack(found).mean(0), dim=1)
    pairs = zip(rooms.NAMES, means, strict=True)
    return {name: direction for name, direction in pairs if name in held}, rows


def write_directions(path, held, G):
    """Keep the directions that hold: an npz of names, vectors and the generator's fingerprint."""
    file = io.BytesIO()
    vectors = torch.stack(list(held.values())).numpy() if held else np.zeros((0, G.z_size))
    np.savez(file, names=np.array(list(held), dtype=str), generator=np.array(fingerprint(G)),
             vectors=vectors.astype(np.float32))
    files.write_bytes(path, file.getvalue())


def read_directions(path):
    """Return (fingerprint of the generator, {name: (z_size,)}) of a file of write_directions."""
    with np.load(path) as arrays:
        vectors = torch.from_numpy(arrays['vectors'])
        names = arrays['names'].tolist()
        return arrays['generator'].item(), dict(zip(names, vectors, strict=True))


@torch.no_grad()
def draw_figure(path, G, held, rows):
    """Draw for each direction that holds the same two faces along it, and once along a random one.

    The faces are the first two of seed 0, not picked.
    """
    random_numbers = torch.Generator().manual_seed(0)
    z = torch.randn(2, G.z_size, generator=random_numbers)
    by_chance = F.normalize(torch.randn(G.z_size, generator=random_numbers), dim=0)
    shown = held | {'a random direction': by_chance}
    _, all_axes = plt.subplots(len(shown), squeeze=False, layout='constrained',
                               figsize=(0.7 * pictures.WIDTH, 0.86 * len(shown)))
    for axes, (name, direction) in zip(all_axes[:, 0], shown.items(), strict=True):
        faces = []
        for each in z[:, None]:
            for amount in (-AMOUNT, 0, AMOUNT):
                faces.append(G(rooms.move(each, direction, amount)))
        axes.imshow(pictures.to_array(torch.cat(faces), 6), interpolation='nearest')
        axes.set(xticks=[], yticks=[], frame_on=False)
        axes.set_ylabel(label(name, rows), rotation=0, ha='right', va='center', fontsize=9)
    file = io.BytesIO()
    common.save_figure(file, bbox_inches='tight')
    Image.open(file).convert('RGB').quantize(256).save(path, optimize=True)   # a third of the size


def label(name, rows):
    """Return a direction's name with the shares of faces at its ends, where the encoder counts."""
    found = shares(name, [row for row in rows if row['name'] == name])
    return f'{name}\n{found.replace("·", "→")}'.strip()


def write_table(path, rows, G, whence):
    """Write directions.csv."""
    lines = []
    for row in rows:
        line = dict(row)
        for name, value in row.items():
            if isinstance(value, float):
                line[name] = f'{value:.4f}'
        lines.append(line | dict(generator=fingerprint(G), **whence))
    common.Table(path, COLUMNS, key=('name', 'seed')).write(lines)


def main(arguments=None):
    options = common.command_parser(__doc__).parse_args(arguments)
    G = load_generator()
    held, rows = measure(G)
    whence = common.provenance(common.command('directions'))
    write_table(options.into / 'directions.csv', rows, G, whence)
    write_directions(options.into / 'directions.npz', held, G)
    draw_figure(options.into / 'directions.png', G, held, rows)
    for row in rows:
        print(f'{row["name"]:16} seed {row["seed"]}: moves {row["moves"]:5.2f}, '
              f'drags {row["drags"]} by {row["drags_by"]:5.2f}, control {row["control"]:5.2f} '
              f'(largest {row["control_largest"]:.2f}), holds: {row["holds"]}')


if __name__ == '__main__':
    main()
