"""Checkpoints that an attacker would send: refused in words, and nothing in them is run."""
import os
import zipfile
from pathlib import Path

import pytest

from machinery.run import load_checkpoint
from tests.hostile.attacks import HOSTILE, packed_as_torch_packs
from tests.tools import run_training

LATEST = Path('checkpoints_gan/latest.pt')
NAMES = ['os.system', 'exec', 'eval in a tuple', 'getattr', 'an object of its own', 'half a file',
         'nothing', 'text']


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('as_torch', [True, False])
def test_hostile_checkpoints_run_nothing(folder, name, as_torch):
    """A pickle in place of the checkpoint, bare or packed as torch packs it, leaves no trace."""
    data = HOSTILE[name]()
    LATEST.parent.mkdir()
    LATEST.write_bytes(packed_as_torch_packs(data) if as_torch else data)
    with pytest.raises(ValueError, match='latest.pt is damaged, or no file of torch'):
        load_checkpoint()
    assert os.listdir() == ['checkpoints_gan'] and os.listdir('checkpoints_gan') == ['latest.pt']


def test_checkpoint_that_unpacks_to_more_than_itself(notebook, folder):
    """A part of zeros, squeezed a thousandfold, is refused before it is unpacked."""
    run_training(notebook, 1)
    LATEST.with_name('previous.pt').unlink()
    with zipfile.ZipFile(LATEST, 'a', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/data/999', bytes(50_000_000))
    with pytest.raises(ValueError, match='unpacks to more than itself'):
        load_checkpoint()
