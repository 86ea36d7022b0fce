"""Read each hostile program as samples and as a checkpoint, in a fork; say what became of it.

python hostile.py    in an empty folder
"""
import contextlib
import io
import pickle
from pathlib import Path

import torch

from machinery.files import load_samples
from machinery.run import load_checkpoint
from tests.hostile.attacks import IMAGES, packed_as_torch_packs
from tests.hostile.limits import trial
from tests.hostile.programs import PROGRAMS

SENT, LATEST = Path('sent.pkl'), Path('sent/latest.pt')


def read_samples():
    load_samples(SENT)


def read_checkpoint():
    with contextlib.redirect_stdout(io.StringIO()):
        load_checkpoint(LATEST.parent)


torch.set_num_threads(1)
LATEST.parent.mkdir()
for data in (pickle.dumps([IMAGES]), pickle.dumps([IMAGES.numpy()])):
    SENT.write_bytes(data)
    read_samples()               # what Python imports at the first use is no trace of a pickle
LATEST.write_bytes(packed_as_torch_packs(pickle.dumps({})))
with contextlib.suppress(ValueError):
    read_checkpoint()
for name, make in PROGRAMS.items():
    data = make()
    SENT.write_bytes(data)
    LATEST.write_bytes(packed_as_torch_packs(data))
    for how, read in (('samples', read_samples), ('checkpoint', read_checkpoint)):
        print(f'{name}, as {how}: {trial(read)}', flush=True)
