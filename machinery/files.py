"""Files that are written whole or not at all, and torch's files read without running anything."""
import os
from pathlib import Path

from . import pickles


def write_atomically(path, write, keep=None):
    """Call write(file) on a new file; once that is whole and on the disk, put it in path's place.

    keep  where the file that was in path's place goes; None: nowhere
    Raises OSError where the disk is full or nothing may be written; the old file is then as it was.
    """
    path = Path(path)
    fresh = path.with_name(f'{path.name}.part')
    try:
        fresh.unlink(missing_ok=True)        # what a crash has left, or a link to somewhere else
        with open(fresh, 'xb') as file:      # x: a new file, and never through a link
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if keep and path.exists():
            os.replace(path, keep)
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def load_safely(file):
    """Read a file of torch on the CPU: tensors, containers and plain values; nothing in it is run.

    NumPy's numbers come back as Python's own.
    Raises ValueError for a file of anything else, and OSError for one that cannot be read.
    """
    try:
        return pickles.read_archive(file)
    except OSError:
        raise
    except Exception as error:               # a hostile or damaged file can raise anything
        raise ValueError(f'expected a file of torch with tensors and plain values, '
                         f'found {type(error).__name__}: {error!s:.200}') from error
