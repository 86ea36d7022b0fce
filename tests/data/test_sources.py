"""Which data set is taken, and what is known of it."""
import hashlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
import torchvision

from machinery.sources import load_dataset, unpack
from tests.data.archives import small_archive
from tests.tools import write_images


def six_digits(monkeypatch):
    """Put six digits of noise into data/ as SVHN; return their pixels."""
    Path('data').mkdir()
    path = Path('data/train_32x32.mat')
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 6), dtype=np.uint8)
    scipy.io.savemat(path, {'X': pixels, 'y': np.array([[1, 2, 10, 4, 5, 6]], np.uint8).T})
    checksum = hashlib.md5(path.read_bytes()).hexdigest()
    files = {'train': [f'http://127.0.0.1:9/{path.name}', path.name, checksum]}
    monkeypatch.setattr(torchvision.datasets.SVHN, 'split_list', files)
    return pixels


def test_dataset_knows_where_its_images_come_from(folder):
    """The images of a folder come with their files; drawn faces have none."""
    write_images(folder / 'faces/inner', 2)
    write_images(folder / 'faces', 1)
    found = load_dataset('faces', 64)
    assert found.images.shape == (3, 3, 64, 64) and found.images.dtype == torch.uint8
    assert found.labels.tolist() == [0, 0, 0] and found.labels.dtype == torch.int64
    assert found.files == ['000001.jpg', 'inner/000001.jpg', 'inner/000002.jpg']
    assert found.folder == Path('faces') and found.may_be_mirrored
    assert found.source == '3 images of 64x64, faces/' and found.kind == 'own'
    drawn = load_dataset(dataset='drawn', max_images=4)
    assert len(drawn.files) == 0 and drawn.folder is None and drawn.may_be_mirrored
    assert drawn.kind == 'drawn'
    assert drawn.source == '4 images of 32x32, drawn by code: these are NOT photographs'


def test_what_an_archive_holds_beside_images_is_said(folder, capsys):
    """The same is an image, and the same is passed over, as in a folder."""
    place = 'processed_celeba_small'
    archive = small_archive(folder / 'faces.zip', extra=[
        f'{place}/a.tif', f'{place}/b.HEIC', f'{place}/@eaDir/a.tif/thumb.jpg', f'{place}/.c.jpg',
        f'{place}/d.psd', f'{place}/$RECYCLE.BIN/e.jpg'])
    unpack(archive, place)
    found = [path.name for path in Path(place).rglob('*') if path.is_file()]
    assert sorted(found) == ['000001.jpg', '000002.jpg', 'a.tif', 'b.HEIC']
    printed = capsys.readouterr().out
    for kind in ('1 in @eaDir/', '1 in $RECYCLE.BIN/', '1 in __MACOSX/', '1 hidden', '1 .psd'):
        assert kind in printed


def test_environment_chooses_the_data(folder, monkeypatch, capsys):
    """DCGAN_DATA takes the place of the default folder, not of one that is named by hand."""
    write_images(folder / 'mine', 3)
    write_images(folder / 'other', 4)
    monkeypatch.setenv('DCGAN_DATA', 'mine')
    assert len(load_dataset()) == 3 and len(load_dataset('other')) == 4
    monkeypatch.setenv('DCGAN_DATA', 'drawn')
    assert len(load_dataset(max_images=7)) == 7
    assert 'NOT photographs' in capsys.readouterr().out
    monkeypatch.setenv('DCGAN_DATA', 'nowhere')
    with pytest.raises(FileNotFoundError, match='DCGAN_DATA'):
        load_dataset()


HOME = 'home with blank'
WAYS = {
    '~': '~/mine',
    'blanks around it': '  mine \t',
    'a slash behind it': 'mine/',
    'the whole path': '{home}/mine',
    'an address': 'file://{home}/mine',
    'an address with %20': 'file://{quoted}/mine',
    'an address of this machine': 'file://localhost{home}/mine',
}


@pytest.mark.parametrize('by_hand', [False, True])
@pytest.mark.parametrize('way', WAYS)
def test_ways_to_name_a_folder(folder, monkeypatch, way, by_hand):
    """DCGAN_DATA, and data_dir as well, are taken as they are meant."""
    home = folder / HOME
    write_images(home / 'mine', 3)
    monkeypatch.chdir(home)
    monkeypatch.setenv('HOME', str(home))
    name = WAYS[way].format(home=home, quoted=str(home).replace(' ', '%20'))
    if by_hand:
        assert load_dataset(name).source == '3 images of 32x32, mine/'
    else:
        monkeypatch.setenv('DCGAN_DATA', name)
        assert load_dataset().source == '3 images of 32x32, mine/'


@pytest.mark.parametrize('name', ['DRAWN', 'Drawn ', ' drawn'])
def test_names_of_data_sets_in_any_letters(folder, monkeypatch, name):
    """A data set is meant, and not a folder of that name."""
    monkeypatch.setenv('DCGAN_DATA', name)
    assert 'drawn by code' in load_dataset(max_images=2).source


def test_svhn_in_capitals(folder, monkeypatch):
    """So it is written everywhere."""
    six_digits(monkeypatch)
    monkeypatch.setenv('DCGAN_DATA', 'SVHN')
    assert len(load_dataset()) == 6


def test_a_name_of_blanks_is_none(folder, monkeypatch):
    """As if DCGAN_DATA were not set: not the current folder."""
    write_images(folder, 2)
    small_archive(folder / 'processed-celeba-small.zip')
    monkeypatch.setenv('DCGAN_DATA', ' ')
    found = load_dataset()
    assert found.source == '2 images of 32x32, processed_celeba_small/' and found.kind == 'celeba'


def test_a_folder_that_is_named_oddly(folder):
    """What exists is meant as it is written."""
    write_images(folder / '~' / 'a ', 2)
    assert load_dataset('~/a ').source == '2 images of 32x32, a /'


def test_celeba_itself_on_disk(folder, capsys):
    """torchvision's own folder is found before anything is downloaded."""
    write_images(folder / 'data/celeba/img_align_celeba', 3, size=(178, 218))
    assert len(load_dataset()) == 3
    assert 'Found faces in data/celeba/img_align_celeba/' in capsys.readouterr().out


def test_svhn(folder, monkeypatch, notebook):
    """The digits come through the very same loader, with their labels, at any size."""
    pixels = six_digits(monkeypatch)
    for size in (32, 64):
        loader = notebook.get_dataloader(6, size, dataset='svhn')
        images, labels = next(iter(loader))
        assert images.shape == (6, 3, size, size)
        assert sorted(labels.tolist()) == [0, 1, 2, 4, 5, 6]
        assert abs(images.mean().item() - pixels.mean() / 255) < .01


def test_digits_may_not_be_mirrored(folder, monkeypatch):
    """The mirror image of a digit is no digit, however SVHN was asked for."""
    six_digits(monkeypatch)
    found = load_dataset(dataset='svhn')
    assert not found.may_be_mirrored and found.kind == 'svhn'
    monkeypatch.setenv('DCGAN_DATA', 'svhn')
    found = load_dataset(max_images=3)
    assert not found.may_be_mirrored and found.labels.tolist() == [1, 0, 5]
