"""A folder of other people to judge by: nothing is held out of the training folder."""
from pathlib import Path

import pytest
import torch

from machinery.images import decode_folder
from machinery.sources import load_dataset
from tests.tools import write_images


def list_people(folder, names, person_of):
    """Write CelebA's list of people into a folder: who is on each image of these names."""
    lines = [f'{name} {person_of(number)}\n' for number, name in enumerate(names)]
    (folder / 'identity_CelebA.txt').write_text(''.join(lines))


@pytest.fixture
def two_folders(folder):
    """30 images to learn from, 50 others to judge by."""
    write_images(folder / 'faces', 30, size=(32, 32), seed=1)
    for number, path in enumerate(write_images(folder / 'others', 50, size=(32, 32), seed=2)):
        path.rename(path.with_name(f'{900 + number}.jpg'))
    return folder


def test_folder_that_judges(two_folders, capsys, monkeypatch):
    """All of it chooses and judges, all of the other folder is learnt from; one line, and a cache.
    """
    faces = load_dataset('faces', 32, hold_out='others/')
    others, _ = decode_folder('others', 32)
    assert torch.equal(faces.images, decode_folder('faces', 32)[0]) and len(faces) == 30
    assert torch.equal(faces.held_out, others) and torch.equal(faces.judges, others)
    printed = capsys.readouterr().out
    assert 'Held out: 50 images of others/; all of those above are learnt from.\n' in printed
    assert 'Of those held out' not in printed
    load_dataset('faces', 32, hold_out=str(two_folders / 'others'))
    assert 'Decoded' not in capsys.readouterr().out
    for name in ('~/others', Path('others')):
        monkeypatch.setenv('HOME', str(two_folders))
        assert torch.equal(load_dataset('faces', 32, hold_out=name).judges, others)


def test_even_people_choose_and_odd_ones_judge(two_folders, capsys):
    """Where the list of people lies by the folder; nobody is on both sides, and none is lost."""
    names = sorted(path.name for path in (two_folders / 'others').iterdir())
    list_people(two_folders / 'others', names, lambda number: number // 3)
    faces = load_dataset('faces', 32, hold_out='others')
    others, files = decode_folder('others', 32)
    people = torch.tensor([names.index(file) // 3 for file in files])
    assert torch.equal(faces.held_out, others[people % 2 == 0])
    assert torch.equal(faces.judges, others[people % 2 == 1])
    assert ('Held out: 50 images of others/; all of those above are learnt from. 26 (people of '
            'even numbers) choose the best epoch, 24 (odd ones) judge it.'
            ) in capsys.readouterr().out


def test_faces_that_celebas_list_knows_are_celebas(two_folders):
    """Whatever their folder is called: an exported card names their terms."""
    assert load_dataset('others', 32).kind == 'own'
    names = sorted(path.name for path in (two_folders / 'others').glob('*.jpg'))
    list_people(two_folders / 'others', names[1:], lambda number: number)
    assert load_dataset('others', 32).kind == 'own'          # one image is not in the list
    list_people(two_folders / 'others', names, lambda number: number)
    assert load_dataset('others', 32).kind == 'celeba'


def test_people_of_one_kind_choose_and_judge(two_folders, capsys):
    """Where there are too few odd numbers to judge by."""
    names = sorted(path.name for path in (two_folders / 'others').iterdir())
    list_people(two_folders / 'others', names, lambda number: 1 if number < 19 else 2)
    faces = load_dataset('faces', 32, hold_out='others')
    assert len(faces.held_out) == len(faces.judges) == 50
    assert 'all of those above are learnt from.\n' in capsys.readouterr().out


def test_people_in_both_folders_are_counted(two_folders, capsys):
    """With one list above both folders. They are kept."""
    folders = [two_folders / name for name in ('faces', 'others')]
    names = [path.name for each in folders for path in sorted(each.iterdir())]
    list_people(two_folders, names, lambda number: number % 20)
    faces = load_dataset('faces', 32, hold_out='others')
    assert len(faces.held_out) + len(faces.judges) == 50 and len(faces) == 30
    assert ('Of those held out, 20 people are among those to learn from, too. They are kept.'
            in capsys.readouterr().out)


def test_images_in_both_folders_are_counted(two_folders, capsys):
    """Where nobody knows the people: exact copies, as where one folder lies in the other."""
    (two_folders / 'others').rename(two_folders / 'faces/val')
    faces = load_dataset('faces', 32, hold_out='faces/val')
    assert len(faces) == 80 and len(faces.held_out) == 50
    assert 'Of those held out, 50 images are among those to learn from' in capsys.readouterr().out


def test_huge_folder_is_read_evenly(two_folders, monkeypatch):
    """At most 5,000, as of the training folder."""
    monkeypatch.setattr('machinery.batches.ImageDataset.MOST_HELD_OUT', 25)
    faces = load_dataset('faces', 32, hold_out='others')
    assert torch.equal(faces.held_out, decode_folder('others', 32)[0][::2])


@pytest.mark.parametrize('name, message', [
    ('nowhere', "hold_out: 'nowhere' does not exist, a folder of images was expected"),
    ('0.1', "hold_out: '0.1' does not exist.* A share from 0 to 0.5 does as well"),
    ('faces/000001.jpg', 'is a file')])
def test_folder_that_is_none_is_told_before_anything_is_read(two_folders, capsys, name, message):
    with pytest.raises(FileNotFoundError, match=message):
        load_dataset('faces', 32, hold_out=name)
    assert 'Decoded' not in capsys.readouterr().out


def test_handful_of_judges_is_refused(two_folders):
    write_images(two_folders / 'few', 19)
    with pytest.raises(ValueError, match='found 19 images in few/, too few to judge by: .* 20'):
        load_dataset('faces', 32, hold_out='few')


def test_empty_folder_of_judges_says_which_name_to_change(two_folders):
    (two_folders / 'empty').mkdir()
    with pytest.raises(ValueError, match="'empty' holds no images .* hold_out"):
        load_dataset('faces', 32, hold_out='empty')


def test_loader_of_the_notebook_takes_the_folder(notebook, two_folders):
    """Where the images come from code, too."""
    loader = notebook.get_dataloader(5, 32, 'faces', hold_out='others')
    assert len(loader.dataset) == 30 and len(loader.dataset.held_out) == 50
    drawn = notebook.get_dataloader(5, 32, dataset='drawn', max_images=6, hold_out='others').dataset
    assert len(drawn) == 6 and len(drawn.judges) == 50
    assert len(notebook.get_dataloader(5, 32, Path('faces'), hold_out=0.5).dataset) == 30
