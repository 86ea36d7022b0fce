"""Feed each of our readers hostile files; say how many it took, and how much memory that needed.

python fuzz.py TIMES SEED    in an empty folder
"""
import contextlib
import dataclasses
import functools
import io
import pickle
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from machinery import sources
from machinery.files import load_samples
from machinery.images import decode_folder
from machinery.lesson import load_definitions
from machinery.run import load_checkpoint
from machinery.sources import unpack
from tests.data.archives import small_archive
from tests.hostile import grammar
from tests.hostile.attacks import IMAGES, old_pickle
from tests.hostile.limits import GREEDY, SLOW, memory, state
from tests.tools import NOTEBOOK, run_training, write_images


@dataclasses.dataclass
class Target:
    """A function under test: read() opens path, to which what make() gives is written each time.

    documented   the errors that it may raise; (): none
    """
    name: str
    make: Callable
    path: Path
    read: Callable
    documented: type | tuple


def samples():
    """The pickle of grids: bytes changed, and steps changed."""
    grids = IMAGES[:2, :, :4, :4].clone()
    both_kinds = [grids, grids.numpy()]
    seeds = [pickle.dumps(both_kinds, protocol) for protocol in (0, 2, 4, 5)]
    seeds.append(old_pickle([grids], 2))
    path = Path('fuzzed.pkl')
    for name, make in (('samples', mutated), ('samples by grammar', grammar.program)):
        yield Target(name, functools.partial(make, seeds), path, lambda: load_samples(path),
                     ValueError)


def checkpoint():
    """A checkpoint: bytes changed. What its pickle may do is torch's to say."""
    run_training(load_definitions(NOTEBOOK), 1)
    whole = Path('checkpoints_gan/latest.pt').read_bytes()
    path = Path('fuzzed/latest.pt')
    path.parent.mkdir()

    def read():
        load_checkpoint(path.parent)

    yield Target('checkpoint', lambda: mutated([whole]), path, read, ValueError)


def archive():
    sources.UNPACKED_LIMIT = 2 ** 20
    whole = small_archive(Path('good.zip')).read_bytes()
    path = Path('fuzzed.zip')

    def read():
        shutil.rmtree(unpack(path, 'unpacked'))

    yield Target('zip', lambda: mutated([whole]), path, read, OSError)


def cache():
    """A damaged cache is no error: the images are decoded anew, so they are always right."""
    write_images(Path('faces'), 2)
    images, names = decode_folder('faces', 32)
    path, = Path('faces').glob('.dcgan_cache*')
    whole = path.read_bytes()

    def read():
        images_again, names_again = decode_folder('faces', 32)
        assert torch.equal(images, images_again) and names == names_again

    yield Target('cache', lambda: mutated([whole]), path, read, ())


def mutated(seeds):
    """Return one of the seeds with bytes changed, cut out, doubled or put in."""
    data = bytearray(random.choice(seeds))
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


def fuzz(target, times, memory_before):
    n_taken = 0
    before = None
    for number in range(times):
        target.path.write_bytes(target.make())
        numbers = random.getstate()
        random.seed(0)
        signal.setitimer(signal.ITIMER_PROF, 10 * SLOW)      # ends the process, whatever it is at
        started = time.process_time()
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                target.read()
            n_taken += 1
        except target.documented:
            pass
        assert time.process_time() - started < SLOW, f'{target.name} {number} hangs'
        if number % 100 == 50:               # by then, all is imported that is needed at all
            now = state()
            changed = [what for what in now if before and now[what] != before[what]]
            assert not changed, f'{target.name} {number} or one before: other {changed}'
            before = now
        random.setstate(numbers)
    grown = memory() - memory_before
    assert grown < GREEDY, f'{target.name}: {grown:.1f} GiB'
    print(f'{target.name}: {n_taken} of {times} taken, the others refused; '
          f'memory grew by {grown:.2f} GiB', flush=True)


def main(times, seed):
    torch.set_num_threads(1)
    random.seed(seed)
    targets = [*samples(), *checkpoint(), *archive(), *cache()]
    memory_before = memory()
    for target in targets:
        fuzz(target, times, memory_before)
    assert not list(Path().glob('**/owned')) and not list(Path().glob('.unpack*'))


main(int(sys.argv[1]), int(sys.argv[2]))
