"""Reading a file that may crash the process, hang, fill the memory, or leave something behind."""
import os
import random
import resource
import signal
import sys
import types

import numpy as np
import torch

SLOW = 5                     # seconds for one file
GREEDY = 1                   # GiB for one file


def memory():
    """Return the most memory that this process ever had, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20


def state():
    """Return what reading a file must not change: modules, attributes, random numbers, the folder."""
    attributes = {}
    for name, module in list(sys.modules.items()):
        if name.startswith(('machinery', 'torch._utils', 'numpy._core', '_codecs', 'collections')):
            for key, value in vars(module).items():
                if isinstance(value, types.FunctionType):
                    attributes[name, key] = sorted(vars(value))
    folder = {(path, name) for path, _, names in os.walk('.') for name in names}
    numbers = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    return (set(sys.modules), attributes, folder, numbers, torch.get_default_dtype(), os.getcwd(),
            os.environ.copy())


def trial(read):
    """Call read() in a fork of this process; say what became of it: 'taken' or 'refused' is fine."""
    before = state()
    had = memory()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(SLOW)                   # its default action ends the process, whatever it does
        os.write(writing, _outcome(read, before).encode())
        os._exit(0)
    os.close(writing)
    _, status, usage = os.wait4(child, 0)
    with open(reading, encoding='utf-8') as file:
        said = file.read()
    used = usage.ru_maxrss / 2 ** 20 - had
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        said = 'hangs' if number == signal.SIGALRM else signal.Signals(number).name
    if used > GREEDY:
        said += f', {used:.1f} GiB'
    return said


def _outcome(read, before):
    try:
        read()
        said = 'taken'
    except ValueError:
        said = 'refused'
    except BaseException as error:
        said = f'{type(error).__name__}: {error}'[:200]
    return said if state() == before else f'{said}, and leaves something behind'
