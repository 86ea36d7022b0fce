"""Reading a file that may crash the process, hang, fill the memory, or leave something behind."""
import os
import random
import signal
import sys
import types

import numpy as np
import pytest
import torch

resource = pytest.importorskip('resource', reason='needs processes that fork: no Windows')

SLOW = 5                     # seconds for one file, of the processor: others may be at work
ASLEEP = 60                  # seconds by the clock
GREEDY = 1                   # GiB for one file


def memory():
    """Return the most memory that this process ever had, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20


def state():
    """Return what reading a file must not change, as a dict of values to be compared."""
    attributes = {}
    for name, module in list(sys.modules.items()):
        if name.startswith(('machinery', 'torch._utils', 'numpy._core', '_codecs', 'collections')):
            for key, value in vars(module).items():
                if isinstance(value, types.FunctionType):
                    attributes[name, key] = sorted(vars(value))
    files = {os.path.join(place, name) for place, _, names in os.walk('.') for name in names}
    numbers = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    # Python imports an encoding when it meets the first text that is written in it, and torch parts
    # of its own when it is first asked for them.
    modules = {name for name in sys.modules if not name.startswith(('encodings.', 'torch.'))}
    return {'modules': modules, 'attributes of functions': attributes, 'files': files,
            'random numbers': numbers, 'default dtype': torch.get_default_dtype(),
            'folder': os.getcwd(), 'environment': dict(os.environ)}


def trial(read):
    """Call read() in a fork of this process; return what became of it."""
    had = memory()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        # What these two do by default ends the process, whatever it is at.
        signal.setitimer(signal.ITIMER_PROF, SLOW)
        signal.alarm(ASLEEP)
        os.write(writing, _outcome(read).encode())
        os._exit(0)
    os.close(writing)
    _, status, usage = os.wait4(child, 0)
    with open(reading, encoding='utf-8') as file:
        said = file.read()
    used = usage.ru_maxrss / 2 ** 20 - had
    if os.WIFSIGNALED(status):
        ended_by = signal.Signals(os.WTERMSIG(status))
        said = 'hangs' if ended_by in (signal.SIGPROF, signal.SIGALRM) else ended_by.name
    if used > GREEDY:
        said += f', {used:.1f} GiB'
    return said


def _outcome(read):
    before = state()                         # here: a fork draws other random numbers by itself
    try:
        read()
        said = 'taken'
    except ValueError:
        said = 'refused'
    except BaseException as error:
        said = f'{type(error).__name__}: {error}'[:200]
    changed = [what for what, value in state().items() if value != before[what]]
    return f'{said}, with other {", other ".join(changed)}' if changed else said
