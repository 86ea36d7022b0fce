"""Put a generator into one page that needs nothing: assets/explorer.html, or one of your own run.

    python -m experiments.explorer
    python -m experiments.explorer checkpoints_gan/ --output my_faces.html

Without a folder it takes the shipped generator. The page is that of machinery/explorer.py, whose
sliders are the directions of experiments/directions.py. Those of the shipped generator are read
from directions.npz; for any other generator they are measured first, which takes minutes: two of
one core for 32x32 and conv_dim 64. --no-sliders leaves them out.
"""
import os
from pathlib import Path

import helpers
from experiments import common
from experiments import directions as measured_directions
from machinery.explorer import make_page
from machinery.files import write_bytes


def sliders_of(G, into=common.ASSETS):
    """Return (held, rows) of a generator: as they were kept in a folder, or measured now."""
    path = into / 'directions.npz'
    if path.is_file():
        generator, held = measured_directions.read_directions(path)
        if generator == measured_directions.fingerprint(G):
            _, rows = common.read_csv(path.with_suffix('.csv'))
            return held, rows
    print('Measuring directions, for some minutes; --no-sliders does without.', flush=True)
    return measured_directions.measure(G)


def main(arguments=None):
    parser = common.command_parser(__doc__)
    parser.add_argument('run', type=common.existing_folder, nargs='?', metavar='FOLDER',
                        help='the checkpoints of a run (default: the shipped generator)')
    parser.add_argument('--output', type=Path, metavar='FILE',
                        help='the page (default: explorer.html in the folder of --into)')
    parser.add_argument('--no-sliders', action='store_true', help='measure no directions')
    options = parser.parse_args(arguments)
    G = measured_directions.load_generator(options.run)
    whose, config = {}, {}
    if options.run:
        config = helpers.load_checkpoint(options.run, best=True)['config']
        whose = dict(data=G.learnt, folder=os.path.relpath(options.run))
    held, rows = {}, []
    if not options.no_sliders and config.get('kind') != 'svhn':          # no faces, no smiles
        held, rows = sliders_of(G)
    page = make_page(G, **whose, held=held, rows=rows)
    path = options.output or options.into / 'explorer.html'
    write_bytes(path, page.encode())
    print(f'{path}: {path.stat().st_size:,} bytes, {len(held)} sliders')


if __name__ == '__main__':
    main()
