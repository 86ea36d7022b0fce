"""Feed each of our readers mutated files; say how many it took, and how much memory that needed.

python fuzz.py TIMES SEED    in an empty folder
"""
import contextlib
import dataclasses
import io
import pickle
import random
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from machinery import download
from machinery.checkpoints import load_checkpoint
from machinery.download import unpack
from machinery.images import decode_folder
from machinery.lesson import load_definitions
from machinery.samples import load_samples
from tests.archives import small_archive
from tests.hostile import IMAGES, old_cuda_pickle
from tests.tools import NOTEBOOK, run_training, write_images

SLOW = 5                     # seconds for one file
GREEDY = 1                   # GiB for all files of a kind


@dataclasses.dataclass
class Reader:
    """A reader under test: read() opens path, to which mutations of the seeds are written.

    documented   the errors that it may raise; (): none
    """
    name: str
    seeds: list
    path: Path
    read: Callable
    documented: type | tuple


def samples():
    grids = IMAGES[:2, :, :4, :4].clone()
    both_kinds = [grids, grids.numpy()]
    seeds = [pickle.dumps(both_kinds, 2), pickle.dumps(both_kinds), old_cuda_pickle([grids], 2)]
    path = Path('fuzzed.pkl')
    return Reader('samples', seeds, path, lambda: load_samples(path), ValueError)


def checkpoint():
    run_training(load_definitions(NOTEBOOK), 1)
    whole = Path('checkpoints_gan/latest.pt').read_bytes()
    path = Path('fuzzed/latest.pt')
    path.parent.mkdir()
    return Reader('checkpoint', [whole], path, lambda: load_checkpoint(path.parent), ValueError)


def archive():
    download.UNPACKED_LIMIT = 2 ** 20
    whole = small_archive(Path('good.zip')).read_bytes()
    path = Path('fuzzed.zip')

    def read():
        shutil.rmtree(unpack(path, 'unpacked'))

    return Reader('zip', [whole], path, read, OSError)


def cache():
    """A damaged cache is no error: the images are decoded anew, so they are always right."""
    write_images(Path('faces'), 2)
    images, names = decode_folder('faces', 32)
    path, = Path('faces').glob('.dcgan_cache*')

    def read():
        images_again, names_again = decode_folder('faces', 32)
        assert torch.equal(images, images_again) and names == names_again

    return Reader('cache', [path.read_bytes()], path, read, ())


def mutated(data):
    """Return data with bytes changed, cut out, doubled or put in."""
    data = bytearray(data)
    for _ in range(random.randint(1, 8)):
        at = random.randrange(len(data) + 1)
        length = random.choice([1, 1, 2, 4, 8, 64])
        noise = random.choice([random.randbytes(length), b'\xff' * length, bytes(length),
                               b'\x7f\xff\xff\xff'])
        kind = random.choice(['change', 'cut out', 'put in', 'put in and double'])
        if kind == 'change':
            data[at:at + length] = noise
        elif kind == 'cut out':
            del data[at:at + length]
        else:
            data[at:at] = noise
        if kind == 'put in and double':
            data[at:at] = data[at:at + random.choice([16, 256])]
        if not data:
            data += b'x'
    return bytes(data)


def memory():
    """Return the most memory that this process ever had, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20


def fuzz(reader, times, memory_before):
    n_taken = 0
    for number in range(times):
        reader.path.write_bytes(mutated(random.choice(reader.seeds)))
        started = time.time()
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                reader.read()
            n_taken += 1
        except reader.documented:
            pass
        assert time.time() - started < SLOW, f'{reader.name} {number} hangs'
    grown = memory() - memory_before
    assert grown < GREEDY, f'{reader.name}: {grown:.1f} GiB'
    print(f'{reader.name}: {n_taken} of {times} taken, the others refused; '
          f'memory grew by {grown:.2f} GiB')


def main(times, seed):
    torch.set_num_threads(1)
    random.seed(seed)
    readers = [samples(), checkpoint(), archive(), cache()]
    memory_before = memory()
    for reader in readers:
        fuzz(reader, times, memory_before)
    assert not list(Path().glob('**/owned')) and not list(Path().glob('.unpack*'))


main(int(sys.argv[1]), int(sys.argv[2]))
