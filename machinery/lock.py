"""One run owns its folder while it lives: two in one folder would overwrite each other's files."""
import contextlib
import errno
import os
import platform
import tempfile
import time
from pathlib import Path

try:
    import fcntl
except ImportError:                  # Windows has other locks: there, runs are not kept apart
    fcntl = None

FULL = errno.ENOSPC, errno.EDQUOT


@contextlib.contextmanager
def refusing():
    """Within this block a folder that cannot be written is a PermissionError, in one sentence.

    A disk that is full is none: it can be mended while training goes on.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise PermissionError(
                f'Nothing of a run could be kept: {error}. Start Jupyter in a folder that you may '
                f'write to, or name one as run_folder or in DCGAN_RUN.') from error


def make_folder(folder):
    """Make a folder if need be; raise OSError where no file can be written in it."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def choose_run_folder(run_folder='.'):
    """Return the folder that a run's files go to, as text; make it if it does not exist.

    That is what DCGAN_RUN names, else run_folder; ~ stands for the home folder.
    Raises PermissionError, in one sentence, where nothing can be written there.
    """
    folder = Path(os.path.expanduser(os.environ.get('DCGAN_RUN') or run_folder))
    with refusing():
        make_folder(folder)
    if folder != Path('.'):
        print(f'The run is kept in {folder}/')
    return str(folder)


class Lock:
    """A lock on a file, which the system frees when the process ends, however it ends.

    Where the file system knows no locks, every run gets one. Within a with-block, the lock is held.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.file = None

    def take(self):
        """Own the file; also anew, where it was deleted or moved away with its folder.

        Raises RuntimeError, saying who owns it, if another run does; OSError where it cannot be
        written.
        """
        if self.is_held():
            return
        self.release()
        self.path.parent.mkdir(exist_ok=True)
        file = open(self.path, 'a+', encoding='utf-8')
        try:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or 'another process'
            file.close()
            raise RuntimeError(
                f'{self.path.parent}/ belongs to a run that is still going on: {owner}. Interrupt '
                f'that one or wait for its end, or train in another folder.') from None
        except OSError:
            pass                     # a file system without locks
        self.file = file
        file.truncate(0)
        file.write(f'process {os.getpid()} on {platform.node()}, '
                   f'since {time.strftime("%Y-%m-%d %H:%M:%S")}\n')
        file.flush()

    def is_held(self):
        """Say whether the file is ours, and still where it was."""
        if self.file is None:
            return False
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self.file.fileno()), self.path.stat())
        return False

    def release(self):
        """Let others own the file, also if processes that were forked meanwhile still live."""
        if self.file is None:
            return
        with contextlib.suppress(OSError), self.file:
            if fcntl:
                fcntl.flock(self.file, fcntl.LOCK_UN)
        self.file = None

    def __enter__(self):
        """Own the file, or raise RuntimeError; PermissionError where nothing can be written."""
        with refusing():
            make_folder(self.path.parent.parent)
            self.take()
        return self

    def __exit__(self, *_):
        self.release()
