"""Measure how long the README's commands take on this machine, into measured.csv.

    python -m experiments.commands

The whole notebook on drawn faces, in the preset that suits the machine; and the tests. Installing
is left out. Rows of other machines are kept. It takes as long as the commands do: about ten minutes
on two cores.
"""
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import helpers
from experiments import common
from experiments.common import PROJECT

COLUMNS = ('what', 'value', 'lowest', 'highest', 'unit', 'repeats', 'seeds', 'images_seen',
           'command', 'device', 'torch')
NOTEBOOK_SEED = 42
RUN_NOTEBOOK = ('-m', 'nbconvert', '--to', 'notebook', '--execute',
                '--output', 'my_faces.ipynb', 'dcgan_faces.ipynb')
RUN_TESTS = ('-m', 'pytest', '-q')


def seconds_of(arguments, **options):
    """Run Python with these arguments, silently; return the seconds it took."""
    started = time.time()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, **options)
    return time.time() - started


def copy_project(place):
    """Copy what the notebook needs, and no images: no data set of a former run is found there."""
    for name in ('dcgan_faces.ipynb', 'helpers.py', 'problem_unittests.py'):
        shutil.copy(PROJECT / name, place)
    for name in ('machinery', 'assets'):
        shutil.copytree(PROJECT / name, Path(place) / name)


def run_notebook():
    """Run the whole notebook on drawn faces; return (seconds, images seen)."""
    environment = dict(os.environ, DCGAN_DATA='drawn', DCGAN_PRESET='', DCGAN_RUN='')
    with tempfile.TemporaryDirectory() as copy:
        copy_project(copy)
        seconds = seconds_of(RUN_NOTEBOOK, cwd=copy, env=environment)
        saved = helpers.load_checkpoint(Path(copy) / helpers.CHECKPOINTS)
    return seconds, saved['images_seen']


def peak_memory():
    """Return the peak memory of the largest process run so far, in GiB."""
    import resource  # Windows has none
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2 ** 20


def measurements():
    """Yield rows without their provenance, one as soon as it is measured."""
    seconds, images_seen = run_notebook()
    of_run = dict(seeds=NOTEBOOK_SEED, images_seen=images_seen)
    yield dict(of_run, what="the whole notebook on drawn faces, this machine's own preset",
               value=seconds, unit='s')
    yield dict(of_run, what='peak memory of the largest process of the run on drawn faces',
               value=peak_memory(), unit='GiB')
    yield dict(what='the tests', value=seconds_of(RUN_TESTS, cwd=PROJECT), unit='s', seeds='',
               images_seen='')


def main(arguments=None):
    parser = common.command_parser(__doc__)
    options = parser.parse_args(arguments)
    whence = common.provenance(common.command('commands'))
    table = common.Table(options.into / 'measured.csv', COLUMNS, key=('device', 'what'))
    rows = []
    for row in measurements():
        print(f'{row["what"]:70} {row["value"]:10,.2f} {row["unit"]}', flush=True)
        value = f'{row["value"]:.2f}'
        rows.append(row | whence | dict(value=value, lowest=value, highest=value, repeats=1))
    table.merge(rows)            # not before the tests have run: they hold it against the README


if __name__ == '__main__':
    main()
