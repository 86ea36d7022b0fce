"""CelebA's attributes, and the sampler that balances a training with them."""
import pytest
import torch

from machinery.batches import ImageDataset
from machinery.sources import load_attributes, load_dataset, read_attributes
from tests.tools import expect_close, write_images

LIST = 'list_attr_celeba.txt'
ROWS = [' 1  1', ' 1  1', ' 1  1', ' 1 -1', '-1  1', '-1  1']


def with_attributes(folder, rows, names='Male Young'):
    """Write six faces, and the list of their attributes beside the folder, a row a face."""
    paths = write_images(folder / 'faces', 6)
    lines = [str(len(rows)), names]
    for path, row in zip(paths, rows, strict=True):
        lines.append(f'{path.name} {row}')
    (folder / LIST).write_text('\n'.join(lines) + '\n')


def as_kaggle_does(folder, true='1', false='-1', mark='', comma=','):
    """Turn the list into Kaggle's form: commas, and a header over all columns."""
    _, names, *rows = (folder / LIST).read_text().splitlines()
    values = {'1': true, '-1': false}
    lines = [['image_id', *names.split()]]
    for file, *row in map(str.split, rows):
        lines.append([file, *(values[value] for value in row)])
    text = ''.join(comma.join(mark + word + mark for word in line) + '\n' for line in lines)
    (folder / LIST).unlink()
    (folder / 'list_attr_celeba.csv').write_text(text, encoding='utf-8-sig')


@pytest.mark.parametrize('form', [{}, dict(false='0'), dict(mark='"'), dict(comma=';')])
def test_kaggles_form(notebook, folder, form):
    """As Kaggle hands the attributes out, balance works with them too."""
    with_attributes(folder, ROWS)
    expected = load_attributes(load_dataset('faces'))
    as_kaggle_does(folder, **form)
    names, labels = load_attributes(load_dataset('faces'))
    assert names == expected[0] and torch.equal(labels, expected[1])
    loader = notebook.get_dataloader(3, 32, 'faces', balance=('Male', 'Young'))
    expect_close('Weights', loader.sampler.weights, torch.tensor([2, 2, 2, 6, 3, 3]) / 6, 1e-6)


def test_kaggles_folders(folder):
    """Its images lie in a folder of a folder of the same name, and the list above both."""
    with_attributes(folder, ROWS)
    as_kaggle_does(folder)
    (folder / 'kaggle/faces').mkdir(parents=True)
    (folder / 'faces').rename(folder / 'kaggle/faces/faces')
    (folder / 'list_attr_celeba.csv').rename(folder / 'kaggle/list_attr_celeba.csv')
    assert load_attributes(load_dataset('kaggle/faces/faces'))[1].shape == (6, 2)


def test_balance_draws_all_groups_equally(notebook, folder):
    """Three combinations occur, one in a single image of six: each gets a third of the draws."""
    with_attributes(folder, ROWS)
    loader = notebook.get_dataloader(3, 32, 'faces', balance=('Male', 'Young'))
    drawn = torch.tensor([index for _ in range(400) for index in loader.sampler])
    shares = torch.bincount(drawn, minlength=6) / len(drawn)
    expect_close('Share of each image', shares, torch.tensor([1, 1, 1, 3, 1.5, 1.5]) / 9, .03)
    assert len(loader.sampler) == 6 and sum(len(images) for images, _ in loader) == 6


@pytest.mark.parametrize('unreadable, expected', [
    ('000001.jpg', [[1, 1], [1, 1], [1, 0], [0, 1], [0, 1]]),
    ('000004.jpg', [[1, 1], [1, 1], [1, 1], [0, 1], [0, 1]])])
def test_unreadable_images_do_not_shift_the_attributes(folder, unreadable, expected):
    """Each image keeps its own attributes, decoded and from the cache."""
    with_attributes(folder, ROWS)
    (folder / 'faces' / unreadable).write_bytes(b'no image')
    for _ in ('decoded', 'from the cache'):
        names, labels = load_attributes(load_dataset('faces'))
        assert names == ['Male', 'Young'] and labels.int().tolist() == expected


def test_balance_keeps_the_size_of_an_epoch(notebook, folder):
    """Few images come again, balanced or not."""
    with_attributes(folder, ROWS)
    loader = notebook.get_dataloader(3, 32, 'faces', balance=('Male', 'Young'), epoch_size=30)
    assert sum(len(images) for images, _ in loader) == 30


def test_balance_with_unreadable_images(notebook, folder):
    """The only old man cannot be read: two groups are left, and each gets half of the draws."""
    with_attributes(folder, ROWS)
    (folder / 'faces/000004.jpg').write_bytes(b'no image')
    for _ in ('decoded', 'from the cache'):
        loader = notebook.get_dataloader(3, 32, 'faces', balance=('Male', 'Young'))
        expect_close('Weights', loader.sampler.weights, torch.tensor([2, 2, 2, 3, 3]) / 6, 1e-6)


def test_balance_over_a_plain_word(notebook, folder):
    """balance = 'Male' is one attribute, not four letters."""
    with_attributes(folder, ROWS)
    loader = notebook.get_dataloader(3, 32, 'faces', balance='Male')
    expect_close('Weights', loader.sampler.weights, torch.tensor([2, 2, 2, 2, 4, 4]) / 8, 1e-6)


def test_attributes_of_an_even_choice(folder):
    """max_images takes every third image here, and the attributes are theirs."""
    with_attributes(folder, ROWS)
    _, labels = load_attributes(load_dataset('faces', max_images=2))
    assert labels.int().tolist() == [[1, 1], [1, 0]]


def test_list_is_found_where_the_environment_says(folder, monkeypatch):
    """DCGAN_ATTRIBUTES goes before a list that lies beside the images."""
    with_attributes(folder, ROWS)
    (folder / LIST).rename(folder / 'mine.txt')
    with_attributes(folder, ['-1 -1'] * 6)
    dataset = load_dataset('faces')
    assert not load_attributes(dataset)[1].any()
    monkeypatch.setenv('DCGAN_ATTRIBUTES', 'mine.txt')
    assert load_attributes(dataset)[1].any()


@pytest.mark.parametrize('place', ['faces', '.', 'celeba'])
def test_list_is_found_where_people_put_it(folder, place):
    """It may lie in the folder of the images, beside it, or in celeba/."""
    with_attributes(folder, ROWS)
    (folder / place).mkdir(exist_ok=True)
    (folder / LIST).rename(folder / place / LIST)
    assert load_attributes(load_dataset('faces'))[1].shape == (6, 2)


# ----------------------------------------------------------------------------------------- people

def with_people(folder, n_people=30, n_each=5, ending='txt'):
    """Write images of some people, and the list of who is on them; return {file: person}."""
    paths = write_images(folder / 'faces', n_people * n_each, size=(8, 8))
    people = {path.name: str(7 * number % n_people) for number, path in enumerate(paths)}
    blank, header = {'txt': (' ', ''), 'csv': (',', 'image_id,identity\n')}[ending]
    lines = [f'{file}{blank}{person}\n' for file, person in people.items()]
    (folder / f'identity_CelebA.{ending}').write_text(header + ''.join(lines))
    return people


@pytest.mark.parametrize('ending', ['txt', 'csv'])
def test_nobody_is_on_both_sides(folder, capsys, ending):
    """Where it is known who is on the images, whole people are held out, and that is said."""
    people = with_people(folder, ending=ending)
    whole = load_dataset('faces', 32)
    left = whole.hold_out(.2)
    held_out = set(whole.files) - set(left.files)
    assert len(left.held_out) == len(held_out) == 30 and len(left) == 120
    assert len(whole.hold_out(.22).held_out) == 30       # 33 less a part of a person
    assert {people[file] for file in held_out}.isdisjoint(people[file] for file in left.files)
    assert left.people.tolist() == [int(people[file]) for file in left.files]
    assert ('Held out: 30 images of 6 people, who are on none of the others.'
            in capsys.readouterr().out)
    places = [whole.files.index(file) for file in sorted(held_out)]
    assert torch.equal(left.held_out, whole.images[places])
    assert torch.equal(left.held_out, load_dataset('faces', 32).hold_out(.2).held_out)


def test_images_are_held_out_where_nobody_knows_the_people(folder, capsys):
    """The same ones as ever: without a list, with one of other images, with a single person."""
    with_people(folder)
    path = folder / 'identity_CelebA.txt'
    text = path.read_text()
    for changed, said in ((text.replace('000009.jpg', 'x.jpg'), 'has no line for 1 of the 150'),
                          ('no list', 'has no line for 150 of the 150'),
                          (''.join(f'{line.split()[0]} 1\n' for line in text.splitlines()), '')):
        path.write_text(changed)
        left = load_dataset('faces', 32).hold_out(.2)
        order = torch.randperm(150, generator=torch.Generator().manual_seed(0))
        assert left.files == [f'{number + 1:06d}.jpg' for number in order[30:].sort().values]
        printed = capsys.readouterr().out
        assert 'Held out' not in printed and said in printed
    path.unlink()
    again = load_dataset('faces', 32).hold_out(.2)
    assert again.files == left.files and 'identity' not in capsys.readouterr().out


# ------------------------------------------------------------------------ what can be wrong with it

def no_list(folder):
    """The list is missing."""
    (folder / LIST).unlink()


def short_row(folder):
    """A row has one number for two names."""
    (folder / LIST).write_text('2\nMale Young\na.jpg 1')


def other_files(folder):
    """The list is one of other images."""
    (folder / LIST).write_text('1\nMale Young\na.jpg 1 1')


def other_names(folder):
    """The list has no attribute of that name."""
    with_attributes(folder, ['1 1'] * 6, 'Male Old')


@pytest.mark.parametrize('change, message', [
    (no_list, "CelebA's list_attr_celeba.txt"),
    (short_row, 'expected a number, a line of names'),
    (other_files, 'has no line for 6 of the 6 images'),
    (other_names, "found 'Young', expected one of 'Male', 'Old'"),
])
def test_balance_says_what_is_missing(notebook, folder, change, message):
    """One message says what was found and what was expected."""
    with_attributes(folder, ['1 1'] * 6)
    change(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        notebook.get_dataloader(3, 32, 'faces', balance=('Male', 'Young'))


@pytest.mark.parametrize('text', [
    '', '1', '1\nMale Young', '1\nMale Young\n\n', 'image_id,Male\n', 'image_id,Male\na.jpg,maybe',
    'image_id,Male\na.jpg,1,1', 'image_id\na.jpg', 'Male Young\na.jpg 1 1', '1\nMale\na.jpg 2',
    '\0\xff'])
def test_list_without_rows_is_refused(folder, text):
    """A list that was cut short says what it should hold."""
    (folder / LIST).write_text(text)
    with pytest.raises(ValueError, match='expected a number, a line of names'):
        read_attributes(folder / LIST)


def test_balance_of_drawn_faces_is_refused(notebook, folder):
    """Nobody knows the attributes of faces that code drew."""
    with pytest.raises(ValueError, match='only the faces of CelebA have them'):
        notebook.get_dataloader(3, 32, dataset='drawn', max_images=6, balance=('Male',))


def test_attributes_of_other_images_are_refused():
    """Neither does anybody know those of images without a folder."""
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    with pytest.raises(ValueError, match='only the faces of CelebA have them, and these are other'):
        load_attributes(ImageDataset(images, torch.zeros(2, dtype=torch.int64)))
