"""Read each hostile program as samples, in a fork; say what became of it.

python hostile.py    in an empty folder
"""
import pickle
from pathlib import Path

import torch

from machinery.files import load_samples
from tests.hostile.attacks import IMAGES
from tests.hostile.limits import trial
from tests.hostile.programs import PROGRAMS

SENT = Path('sent.pkl')


def read():
    load_samples(SENT)


torch.set_num_threads(1)
for data in (pickle.dumps([IMAGES]), pickle.dumps([IMAGES.numpy()])):
    SENT.write_bytes(data)
    read()                       # what Python imports at the first use is no trace of a pickle
for name, make in PROGRAMS.items():
    SENT.write_bytes(make())
    print(f'{name}: {trial(read)}', flush=True)
