"""Measure what the README states, on the machine at hand, into assets/measured.csv (rows of other machines are kept).

    python experiments/measure.py [--folder FOLDER_OF_IMAGES] [--no-commands]

Takes about ten minutes on two cores, most of them for runs of the whole notebook in the machine's own preset.
"""
import argparse
import csv
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE))
import helpers  # noqa: E402

COLUMNS = 'what', 'value', 'lowest', 'highest', 'unit', 'repeats', 'seeds', 'images_seen', 'command', 'device', 'torch'


def data_rows(folder):
    """Decoding for the first time and reading the cache, through a link so that no cache is there yet."""
    rates, reads = [], []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as fresh:
            os.symlink(Path(folder).resolve(), Path(fresh) / 'faces')
            started = time.time()
            n = len(helpers.decode_folder(fresh, 32))
            rates.append(n / (time.time() - started))
            started = time.time()
            helpers.decode_folder(fresh, 32)
            reads.append(time.time() - started)
    yield 'decode a folder for the first time, to 32x32', rates, 'images/s', n, ''
    yield 'read the same from the cache', reads, 's', n, ''


def drawing_rows():
    seconds = []
    for seed in range(3):
        started = time.time()
        helpers.drawn_faces(18_000, 32, seed)
        seconds.append(time.time() - started)
    yield 'draw 18,000 faces of 32x32', seconds, 's', 18_000, '0 1 2'


def training_rows(notebook):
    """Training steps alone, as helpers.capture runs them, warm-up apart, for the networks of each preset."""
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    for name in ('quick', 'classic', 'full'):
        preset = notebook.PRESETS[name]
        size, width, batch = preset['img_size'], preset['conv_dim'], preset['batch_size']
        torch.manual_seed(0)
        D, G = notebook.Discriminator(width, size), notebook.Generator(100, width, size)
        for network in (D, G):
            network.apply(notebook.weights_init_normal)
            network.to(device, memory_format=torch.channels_last)
        step = helpers.capture(notebook.train_step, D, G, *notebook.make_optimizers(D, G))
        real = (torch.rand(batch, 3, size, size, device=device) * 2 - 1).contiguous(memory_format=torch.channels_last)
        steps = 1000 if device.type == 'cuda' else 80 if size == 32 else 16

        def run(n_steps):
            for number in range(n_steps):            # as the notebook trains: every fourth step with the penalty
                penalty = .1 if number % 4 == 0 else 0
                figures = step(real, torch.randn(batch, 100, device=device), penalty=penalty)
            figures.tolist()                         # waits for the device

        run(16)                                      # on a GPU each of the two kinds of step is recorded in its fourth
        rates = []
        for _ in range(5):
            started = time.time()
            run(steps)
            rates.append(steps * batch / (time.time() - started))
        yield f'training step, preset {name}: {size}x{size}, conv_dim {width}, batch {batch}', rates, 'images/s', 5 * steps * batch, '0'


def command_rows(folder):
    """The README's commands, installation apart: the notebook on drawn faces and on a folder, and the tests."""
    for data, of in (('drawn', 'on drawn faces'), (folder, 'on a folder of real faces')):
        if not data:
            continue
        with tempfile.TemporaryDirectory() as clone:
            for name in ('problem_unittests.py', 'dcgan_faces.ipynb'):
                shutil.copy(HERE / name, clone)
            for name in ('helpers', 'assets'):
                shutil.copytree(HERE / name, Path(clone) / name)
            if data == folder:
                os.symlink(Path(folder).resolve(), Path(clone) / 'faces')
                data = 'faces'
            seconds = timed(['-m', 'nbconvert', '--to', 'notebook', '--execute', '--inplace', 'dcgan_faces.ipynb'],
                            cwd=clone, env=dict(os.environ, DCGAN_DATA=data, DCGAN_PRESET=''))
            seen = helpers.load_checkpoint(Path(clone) / 'checkpoints_gan')['images_seen']
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2 ** 20
        yield f"the whole notebook {of}, this machine's own preset", [seconds], 's', seen, '42'
        if data == 'drawn':                          # later on it would be the largest of both
            yield f'peak memory of the largest process of the run {of}', [peak], 'GiB', seen, '42'
    yield 'the tests', [timed(['-m', 'pytest', '-q', 'problem_unittests.py'], cwd=HERE)], 's', '', ''


def timed(command, **options):
    started = time.time()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL, **options)
    return time.time() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--folder', help='a folder of images to decode; without it that part is left out')
    parser.add_argument('--no-commands', action='store_true', help='leave out whole runs of the notebook and the tests')
    arguments = parser.parse_args()
    notebook = helpers.load_definitions(HERE / 'dcgan_faces.ipynb')
    path = HERE / 'assets/measured.csv'
    rows = {}
    if path.exists():
        with open(path, newline='') as file:
            rows = {(row['device'], row['what']): row for row in csv.DictReader(file)}
    processor = helpers.device_name()
    parts = [drawing_rows(), training_rows(notebook)]
    parts += [data_rows(arguments.folder)] if arguments.folder else []
    parts += [] if arguments.no_commands else [command_rows(arguments.folder)]
    for part in parts:
        for what, values, unit, images_seen, seeds in part:
            value = statistics.median(values)
            print(f'{what:80} {value:12,.2f} {unit}  [{min(values):,.2f}, {max(values):,.2f}]', flush=True)
            rows[processor, what] = dict(zip(COLUMNS, (
                what, f'{value:.2f}', f'{min(values):.2f}', f'{max(values):.2f}', unit, len(values), seeds,
                images_seen, 'python ' + ' '.join(sys.argv), processor, torch.__version__)))
            with open(path, 'w', newline='') as file:
                table = csv.DictWriter(file, COLUMNS)
                table.writeheader()
                table.writerows(rows.values())


if __name__ == '__main__':
    main()
