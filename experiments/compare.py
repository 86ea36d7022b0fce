"""Hold generators of the same images against one another, by faces that they saw and by others.

    python -m experiments.compare --faces FACES assets/dcgan-32 ANOTHER_PAIR

Each is the folder of a pair; the first one knows the images of its run. With three seeds, 5,000
faces of each are held against 5,000 of the training and against those that the first one's run held
out (compare.csv). A minute a generator on one core.
"""
from pathlib import Path

import helpers
from experiments import common, runs
from experiments.export import images_of_run

SEEDS = 0, 1, 2
N_JUDGED = 5_000
COLUMNS = ('generator', 'seed', 'of_training', 'floor_of_training', 'held_out', 'floor_held_out',
           'n_judged', 'n_held_out', 'data', 'images_seen', 'command', 'device', 'torch')


def measure(notebook, G, seed, distances):
    """Return the distances of one crowd of faces of G, as {column: text}.

    distances  {column: FaceDistance}
    """
    faces = runs.draw(notebook, G, N_JUDGED, seed)
    return {column: f'{distance(faces):.4f}' for column, distance in distances.items()}


def main(arguments=None):
    parser = common.command_parser(__doc__)
    parser.add_argument('generators', type=Path, nargs='+', help='folders of pairs')
    parser.add_argument('--faces', type=common.existing_folder, required=True, metavar='FOLDER',
                        help='the images that they were trained on')
    options = parser.parse_args(arguments)
    notebook = common.notebook_definitions()
    config = helpers.load_pair(options.generators[0])['config']
    dataset = images_of_run(options.faces, config['recipe'] | dict(images=config['images']))
    distances = {
        'of_training': helpers.FaceDistance(dataset.images, n_judged=N_JUDGED),
        'held_out': helpers.FaceDistance(dataset.images, n_judged=N_JUDGED,
                                         held_out=dataset.held_out)}
    floors = {f'floor_{column}': f'{distance.floor:.4f}' for column, distance in distances.items()}
    names = [common.name_of(path) for path in options.generators]
    line = common.command('compare', '--faces', f'{options.faces.name}/', *names)
    known = dict(n_judged=N_JUDGED, n_held_out=len(dataset.held_out), data=config['data'])
    table = common.Table(options.into / 'compare.csv', COLUMNS, ('generator', 'seed', 'device'))
    for path in options.generators:
        pair = helpers.load_pair(path)
        G = helpers.rebuild(notebook.Generator, pair, pair['G_average'])
        for seed in SEEDS:
            found = measure(notebook, G, seed, distances)
            print(path.name, seed, found, flush=True)
            table.merge([dict(generator=path.stem, seed=seed,
                              images_seen=pair['config']['images_seen'])
                         | known | floors | found | common.provenance(line)])


if __name__ == '__main__':
    main()
