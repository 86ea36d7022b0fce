"""Faces as Kaggle, Colab and Hugging Face keep them, and a small set that is not whole."""
import shutil
import sys
from pathlib import Path

import pytest

from machinery import files, run, sources
from machinery.run import choose_run_folder
from machinery.sources import load_attributes, load_dataset
from tests.tools import raises, write_images

# ----------------------------------------------------------------------------------------- Kaggle


@pytest.fixture
def kaggle(folder, monkeypatch):
    """A Kaggle notebook: input/ can only be read, and working/ is the current folder."""
    place = folder / 'input'
    place.mkdir()
    (folder / 'working').mkdir()
    monkeypatch.chdir(folder / 'working')
    monkeypatch.setattr(sources, 'KAGGLE', str(place))
    write, unlink = files.write_atomically, Path.unlink

    def refusing(act):
        def act_or_refuse(path, *arguments, **options):
            if place in Path(path).absolute().parents:
                raise OSError(30, 'Read-only file system')
            return act(path, *arguments, **options)
        return act_or_refuse

    monkeypatch.setattr(files, 'write_atomically', refusing(write))
    monkeypatch.setattr(Path, 'unlink', refusing(unlink))
    monkeypatch.setattr(sources, 'download', raises(AssertionError('nothing is to be fetched')))
    return place


@pytest.mark.parametrize('place', ['celeba-dataset', 'datasets/somebody/celeba-dataset'])
def test_celeba_on_kaggle(kaggle, capsys, place):
    """Found with nothing set, labels and all; decoded once, for the cache is in working/."""
    inner = kaggle / place / 'img_align_celeba/img_align_celeba'
    write_images(inner, 3, size=(178, 218))
    rows = 'image_id,Smiling', '000001.jpg,1', '000002.jpg,-1', '000003.jpg,1'
    (kaggle / place / 'list_attr_celeba.csv').write_text('\n'.join(rows), encoding='utf-8')
    faces = load_dataset()
    assert len(faces) == 3 and faces.folder == inner.parent
    assert load_attributes(faces)[1].tolist() == [[True], [False], [True]]
    assert f'Found faces in {inner.parent}/' in capsys.readouterr().out
    load_dataset()
    printed = capsys.readouterr().out
    assert 'Read 3 images' in printed and 'Decoded' not in printed
    assert len(list(Path().glob('.dcgan_cache-*'))) == 1
    assert not list(kaggle.rglob('.dcgan_cache-*'))


def test_small_set_on_kaggle(kaggle):
    """It comes before CelebA itself, being cut already."""
    write_images(kaggle / 'celeba-dataset/img_align_celeba/img_align_celeba', 3)
    write_images(kaggle / 'small/processed_celeba_small/celeba', 2)
    assert load_dataset().folder == kaggle / 'small/processed_celeba_small'


def test_a_folder_at_hand_comes_before_kaggles(kaggle):
    write_images(kaggle / 'celeba-dataset/img_align_celeba/img_align_celeba', 3)
    write_images(Path('processed_celeba_small/celeba'), 2)
    assert len(load_dataset()) == 2


# ------------------------------------------------------------------------------------------ Colab


def test_drive_is_recommended_where_it_is_mounted(folder, monkeypatch, capsys):
    """One sentence, unless the run is kept there already."""
    monkeypatch.setattr(run, 'DRIVE', str(folder / 'drive/MyDrive'))
    choose_run_folder()
    assert capsys.readouterr().out == ''
    (folder / 'drive/MyDrive').mkdir(parents=True)
    choose_run_folder()
    sentence, = capsys.readouterr().out.splitlines()
    assert f'to a folder in {folder}/drive/MyDrive/.' in sentence
    monkeypatch.setenv('DCGAN_RUN', 'drive/MyDrive/faces')
    choose_run_folder()
    assert 'Colab' not in capsys.readouterr().out


# ----------------------------------------------------------------------------------- Hugging Face


def parquet_files(folder, names=('000001.jpg', None, '../../x.jpg', '000001.jpg')):
    """Two tables as Hugging Face's: a column of bytes and path, and columns of attributes."""
    arrow = pytest.importorskip('pyarrow')
    from pyarrow import parquet
    (folder / 'data').mkdir(parents=True)
    pictures = [path.read_bytes() for path in write_images(folder.parent / 'pictures', 4)]
    for number in range(2):
        images = [dict(bytes=data, path=name) for data, name in zip(pictures, names, strict=True)]
        columns = dict(image=images, celeb_id=[1, 2, 3, 4], Smiling=[True, False, True, False])
        parquet.write_table(arrow.table(columns), folder / f'data/train-0000{number}.parquet')
    shutil.rmtree(folder.parent / 'pictures')
    return folder


def test_parquet_files_of_hugging_face(folder, monkeypatch, capsys):
    """Unpacked once, under their own names where they have some, and nowhere else."""
    parquet_files(folder / 'celeba-hub')
    monkeypatch.setenv('DCGAN_DATA', 'celeba-hub')
    faces = load_dataset()
    expected = ['000001.jpg', 'row-000001.jpg', 'row-000003.jpg', 'x.jpg']
    assert sorted(Path(file).name for file in faces.files[:4]) == expected
    assert len(faces) == 8 and faces.folder == Path('celeba-hub_images')
    assert 'Unpacking 2 parquet files' in capsys.readouterr().out
    assert len(load_dataset()) == 8
    assert 'Unpacking' not in capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == ['celeba-hub', 'celeba-hub_images']


def test_parquet_files_without_pyarrow(folder, monkeypatch):
    """A sentence says what reads them."""
    (folder / 'hub').mkdir()
    (folder / 'hub/a.parquet').touch()
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    with pytest.raises(ValueError, match='holds parquet files.* run "pip install pyarrow"'):
        load_dataset('hub')


@pytest.mark.parametrize('content', [b'version https://git-lfs.github.com/spec/v1', b''])
def test_parquet_file_that_is_none(folder, content):
    """As git clone leaves it without git-lfs; nothing half done stays behind."""
    pytest.importorskip('pyarrow')
    (folder / 'hub').mkdir()
    (folder / 'hub/a.parquet').write_bytes(content)
    with pytest.raises(ValueError, match='a.parquet. cannot be read: .* Without git-lfs'):
        load_dataset('hub')
    assert [path.name for path in folder.iterdir()] == ['hub']


def test_parquet_files_without_images(folder):
    arrow = pytest.importorskip('pyarrow')
    from pyarrow import parquet
    (folder / 'hub').mkdir()
    parquet.write_table(arrow.table(dict(text=['a'])), folder / 'hub/a.parquet')
    with pytest.raises(ValueError, match='it has no column of images'):
        load_dataset('hub')


# ------------------------------------------------------------------------- a small set that is cut


def small_set(monkeypatch, outer=2, inner=3, n_missing=0):
    """A small set in its layout, of so many images; the whole one has some more."""
    write_images(Path('set/celeba'), outer)
    paths = write_images(Path('set/celeba/New Folder With Items'), inner) if inner else []
    size = sum(path.stat().st_size for path in Path('set').rglob('*.jpg'))
    monkeypatch.setattr(sources, 'FACES_COUNT', outer + inner + n_missing)
    monkeypatch.setattr(sources, 'FACES_BYTES', size + 1000 * n_missing)
    return paths


def note(capsys, **options):
    """The line that is printed of a set that is not whole, or ''."""
    load_dataset('set', **options)
    lines = capsys.readouterr().out.splitlines()
    return ''.join(line for line in lines if line.startswith('Note: set/ has'))


def test_whole_small_set_is_not_commented_on(folder, monkeypatch, capsys):
    small_set(monkeypatch)
    assert note(capsys) == note(capsys, max_images=2) == ''


def test_cut_small_set_is_told_from_a_whole_one(folder, monkeypatch, capsys):
    """By its images, where fewer are there than the training would take."""
    small_set(monkeypatch, n_missing=4)
    line = note(capsys)
    assert line.startswith('Note: set/ has 5 images of ') and 'set 9 of ' in line
    assert note(capsys, max_images=7) == line
    assert note(capsys, max_images=5) == ''


def test_damaged_small_set_is_told_from_a_whole_one(folder, monkeypatch, capsys):
    """By the sum of their bytes, however many are taken."""
    path, *_ = small_set(monkeypatch)
    path.write_bytes(path.read_bytes()[:-10])
    assert note(capsys, max_images=2).startswith('Note: set/ has 5 images of ')


def test_missed_nested_folder_is_said(folder, monkeypatch, capsys):
    """However many are taken."""
    small_set(monkeypatch, inner=0, n_missing=3)
    monkeypatch.setattr(sources, 'FACES_OUTER', 2)
    assert note(capsys, max_images=2).endswith('The folder inside celeba/ is missing.')


def test_other_folders_are_not_commented_on(folder, monkeypatch, capsys):
    """torchvision's has a celeba/ too."""
    write_images(Path('set/celeba/img_align_celeba'), 2)
    assert note(capsys) == ''
