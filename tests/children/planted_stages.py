"""Stages with faults, for the rehearsal of experiments.gpu."""
import os
import subprocess
import sys
import time


def fail(task):
    print('so far all is well')
    raise ValueError('a planted fault')


def hang(task):
    """Hang beyond the end of the test, together with a child that no interrupt reaches."""
    wait = 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(900)'
    child = subprocess.Popen([sys.executable, '-c', wait])
    (task.scratch / 'child.txt').write_text(str(child.pid))
    print('it hangs from here on', flush=True)
    time.sleep(900)


def die(task):
    """End without a word, as a process does that the system kills."""
    os.kill(os.getpid(), 9)


def pass_well(task):
    print('a stage after the faults')
