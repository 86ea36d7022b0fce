"""Is it the same run? What is told apart when a run is resumed, and what is not."""
import ast
import json
import runpy
import shutil
import textwrap
import types
from pathlib import Path

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from torch.utils.data import DataLoader

from machinery import identity, lesson
from machinery.lesson import call_train, load_definitions
from machinery.run import load_checkpoint
from machinery.sources import load_dataset
from tests.tools import (
    NOTEBOOK,
    global_names,
    going_bad_once,
    run_training,
    tiny_training,
    train_tiny,
    write_images,
)


def resumed(capsys):
    """What the run that was just started did with the one before: 'continued', or set it aside."""
    printed = capsys.readouterr().out
    if 'Continuing checkpoints_gan/' in printed:
        return 'continued'
    return printed.split('is kept in checkpoints_gan-', 1)[1].split(';')[0]


# ------------------------------------------------------------------------------------------ images


def train_on(notebook, folder, hold_out=0, **config):
    """Train tiny networks on the images of a folder."""
    D, G, names = tiny_training(vars(notebook))
    images = load_dataset(str(folder), 32, hold_out=hold_out)
    config |= dict(hold_out=hold_out)
    names['celeba_train_loader'] = DataLoader(images, 4, collate_fn=images.collate)
    with global_names(notebook.train, **names):
        notebook.train(D, G, 2, config=config)


def test_other_images_of_the_same_words_are_another_run(notebook, folder, capsys):
    """cats/train, then dogs/train: the same count, size and name of the folder."""
    write_images(folder / 'cats/train', 4, seed=1)
    write_images(folder / 'dogs/train', 4, seed=2)
    train_on(notebook, folder / 'cats/train', data_dir='train')
    train_on(notebook, folder / 'dogs/train', data_dir='train', resume=True)
    assert 'it differs in images' in resumed(capsys)


def test_the_same_images_elsewhere_are_the_same_run(notebook, folder, capsys):
    """The folder may be moved, and max_images may be written in another way."""
    write_images(folder / 'faces', 4)
    train_on(notebook, folder / 'faces', max_images=None, data_dir='faces')
    (folder / 'faces').rename(folder / 'people')
    train_on(notebook, folder / 'people', max_images=100, data_dir='people', resume=True)
    assert resumed(capsys) == 'continued'


def test_other_judges_make_another_run(notebook, folder, capsys):
    """They choose its best epoch. The same ones in another place are the same."""
    write_images(folder / 'faces', 4)
    write_images(folder / 'others', 20, seed=1)
    train_on(notebook, folder / 'faces', 'others')
    (folder / 'others').rename(folder / 'people')
    train_on(notebook, folder / 'faces', 'people/', resume=True)
    assert resumed(capsys) == 'continued'
    (folder / 'people/000001.jpg').unlink()
    write_images(folder / 'people/more', 1, seed=2)
    train_on(notebook, folder / 'faces', 'people/', resume=True)
    assert resumed(capsys).endswith('(it differs in held_out)')
    train_on(notebook, folder / 'faces', resume=True)
    assert resumed(capsys).endswith('(it differs in held_out)')


def test_the_same_pair_elsewhere_is_the_same_run():
    """Its checksum tells, not the name of its folder."""
    config = dict(pair='its checksum', start='moved', resume=True)
    assert identity.differences(config, dict(pair='its checksum', start='here')) == []
    another = config | dict(pair='another')
    assert identity.differences(another, dict(pair='its checksum')) == ['pair']
    assert identity.differences(dict(start=''), dict(start='here')) == ['start']


# ------------------------------------------------------------------------------------------- code

CHANGES = [
    ('real_loss', '0.9 if smooth else 1.0', '0.9 if smooth else 0.95'),
    ('bce_g_loss', 'return real_loss(fake)', 'return -fake_loss(fake)'),
    ('slope_penalty', '+ 1e-12).sqrt()', '+ 1e-9).sqrt()'),
    ('gradient_penalty', "if objective == 'wasserstein':", "if objective == 'hinge':"),
    ('OBJECTIVES', "'bce': (bce_d_loss, bce_g_loss)", "'bce': (hinge_d_loss, raise_fakes)"),
    ('Discriminator', '[nn.Conv2d(3, conv_dim, 4, stride=2, padding=1),      # (B, c, s/2, s/2)\n'
     '                  nn.LeakyReLU(0.2,', '[nn.Conv2d(3, conv_dim, 4, stride=2, padding=1),\n'
     '                  nn.LeakyReLU(0.3,'),
    ('Generator', 'nn.BatchNorm2d(depths[0]), nn.ReLU(inplace=True)',
     'nn.BatchNorm2d(depths[0]), nn.LeakyReLU(0.1)'),
    ('weights_init_normal', '0.0, 0.02)', '0.0, 0.03)'),
    ('scale', 'x * (high - low) + low', 'x * (high - low) * 0.9 + low'),
    ('random_flip', 'x.flip(3)', 'x.flip(2)'),
    ('update_average', '@torch.no_grad()\ndef update_average', 'def update_average'),
    ('train_step', '(d_loss + extra).backward()', '(d_loss + 2 * extra).backward()'),
    ('train', 'real = scale(images)', 'real = scale(images) * 0'),
    ('build_network', 'G.apply(weights_init_normal)', 'G.apply(nn.Module.float)'),
    ('get_dataloader', 'sampler=sampler, collate_fn=images.collate',
     'sampler=sampler, collate_fn=lambda batch: (1 - batch[0], batch[1])')]


class Begun(Exception):
    """Training would begin now."""


def configuration(notebook):
    """The configuration that a training gives to its run, of which no step is taken."""
    found = {}

    def begin(parts, loader, fixed_z, config, *_):
        found.update(config)
        raise Begun

    D, G, names = tiny_training(vars(notebook))
    names['helpers'] = types.SimpleNamespace(**vars(notebook.helpers) | dict(Run=begin))
    with global_names(notebook.train, **names), pytest.raises(Begun):
        call_train(notebook.train, D, G, 1, 50, None, None, {})
    return found


@pytest.mark.parametrize('name, old, new', CHANGES, ids=[name for name, _, _ in CHANGES])
def test_edited_code_is_told_apart(notebook, name, old, new):
    """What was edited is named, and nothing else."""
    edited = configuration(load_definitions(NOTEBOOK, [(old, new)]))
    changed = identity.differences(edited, configuration(notebook))
    assert changed == [f'the code of {name}']


@pytest.mark.parametrize('old, new', [
    ('(d_loss + extra).backward()', '(d_loss + extra).backward()      # of both'),
    ('augmentation: how all images are changed before D sees them.', 'augmentation: of all.'),
    ('d_loss = d_objective(D_real, D_fake)', 'd_loss = d_objective(D_real,\n'
     '                         D_fake)'),
    ('photos = (faces.held_out if len(faces.held_out) else faces.images)[:8]',
     'photos = faces.images[:8]')])
def test_code_that_does_the_same_is_the_same(notebook, old, new):
    """A comment, a docstring, layout, what comes after training."""
    edited = configuration(load_definitions(NOTEBOOK, [(old, new)]))
    assert identity.differences(edited, configuration(notebook)) == []


def train_and_ask(notebook, capsys):
    """Train an epoch by the training cell; say what became of the run before."""
    D, G, names = tiny_training(vars(notebook))
    capsys.readouterr()
    with global_names(notebook.train, **names):
        call_train(notebook.train, D, G, 1, 50, None, None, dict(resume=True))
    return capsys.readouterr().out


def test_edited_code_is_another_run(notebook, folder, capsys):
    """The run before is kept, and the new one begins; put back, the code is that of the first."""
    train_and_ask(notebook, capsys)
    edited = load_definitions(NOTEBOOK, [('0.9 if smooth else 1.0', '0.9 if smooth else 0.95')])
    printed = train_and_ask(edited, capsys)
    assert 'is kept in checkpoints_gan-1/ (it differs in the code of real_loss)' in printed
    shutil.rmtree('checkpoints_gan')
    shutil.move('checkpoints_gan-1', 'checkpoints_gan')
    assert 'Continuing checkpoints_gan/ after epoch 1' in train_and_ask(notebook, capsys)


def test_network_of_another_name_is_another_run(notebook, folder, capsys):
    """A class of another name is told apart, though the shapes are the same."""
    run_training(notebook, 1)

    class Faint(notebook.Generator):
        def forward(self, z):
            return super().forward(z) * 0.1

    notebook.Generator = Faint
    run_training(notebook, 1, resume=True)
    assert 'it differs in the class of G' in resumed(capsys)


CELL = '''
    import torch
    from torch import nn

    SLOPE = 0.2
    PAIR = {{'one': (lambda x: x {sign}
                     1, abs)}}

    class Network(nn.Module):
        """A network."""

        width = 3
        slopes = {slopes}

        @staticmethod
        def twice(x):
            return helper(x) * 2   # {comment}

        @property
        def wide(self):
            return self.width > SLOPE

    def helper(x):
        return PAIR['one'][0](x)
'''


def code_in_a_notebook(**words):
    """The code of a class that is defined in a notebook's cell."""
    shell = InteractiveShell()
    words = dict(slopes=(1, 2)) | words
    shell.run_cell(textwrap.dedent(CELL.format(**words)))
    return identity.code_of(shell.user_ns['Network'])


def test_code_of_cells_of_a_notebook():
    """There Python has no source of a class as a whole."""
    code = code_in_a_notebook(sign='+', comment='one')
    assert set(code) == {'Network', 'helper', 'SLOPE', 'PAIR'}
    assert code == code_in_a_notebook(sign='+', comment='two')
    other = code_in_a_notebook(sign='-', comment='one')
    assert {name for name in code if code[name] != other[name]} == {'PAIR'}
    other = code_in_a_notebook(sign='+', comment='one', slopes=(1, 3))
    assert {name for name in code if code[name] != other[name]} == {'Network'}


def test_a_script_and_the_notebook_have_the_same_code(folder):
    """All in one text or a cell at a time: a run of the one goes on in the other."""
    notebook = load_definitions(NOTEBOOK)
    cells = json.loads(NOTEBOOK.read_text(encoding='utf-8'))['cells']
    text = '\n\n'.join(''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code')
    kept = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    body = [node for node in ast.parse(text).body
            if isinstance(node, kept) or lesson.is_definition(node)]
    Path('script.py').write_text(ast.unparse(ast.Module(body, [])), encoding='utf-8')
    script = runpy.run_path('script.py')
    names = 'train', 'get_dataloader', 'build_network', 'Discriminator', 'Generator'
    assert identity.code_of(*[script[name] for name in names]) == identity.code_of(
        *[getattr(notebook, name) for name in names])


@pytest.mark.parametrize('one, other', [('f(a=1)', 'f(b=1)'), ('[x for x in y]', '[x for z in y]'),
                                        ('a if b else c', 'c if b else a')])
def test_small_edits_are_told_apart(one, other):
    """Among them the name of an argument."""
    codes = []
    for text in (one, other):
        shell = InteractiveShell()
        shell.run_cell(f'def function(f, x, y, a, b, c):\n    return {text}')
        codes.append(identity.code_of(shell.user_ns['function']))
    assert codes[0] != codes[1]


def test_code_of_installed_packages_is_not_compared():
    """It changes with their version."""
    assert set(identity.code_of(torch.nn.Sequential, len, torch.relu)) == set()


# ------------------------------------------------------------------------------------------- parts


def test_edited_architecture_is_another_run(notebook, folder, capsys):
    """Also where the source is not to be had: the shapes tell, before anything is loaded."""
    run_training(notebook, 1)
    Generator = notebook.Generator

    def with_another_layer(**arguments):
        G = Generator(**arguments)
        G.layers.append(torch.nn.Conv2d(3, 3, 1))
        return G

    with global_names(notebook.train, Generator=with_another_layer):
        run_training(notebook, 1, resume=True)
    assert 'the state of G, the state of G_average' in resumed(capsys)


@pytest.mark.parametrize('make, what', [
    (lambda D: torch.optim.SGD(D.parameters(), 0.1, momentum=0.9), 'the class of d_optimizer'),
    (lambda D: torch.optim.Adam(D.parameters(), 2e-4, (0.1, 0.9)), 'the settings of d_optimizer')])
def test_another_optimizer_is_another_run(notebook, folder, capsys, make, what):
    """Its kind and settings; the learning rate itself is changed by schedules."""
    def train(resume):
        D, G, names = tiny_training(vars(notebook))
        if resume:
            names['d_optimizer'] = make(D)
        with global_names(notebook.train, **names):
            notebook.train(D, G, 1, config=dict(resume=resume))

    train(False)
    train(True)
    assert f'it differs in {what}' in resumed(capsys)


def test_optimizers_of_other_networks_are_refused(notebook, folder):
    """Networks built anew, or optimizers swapped: training would change nothing, and says so."""
    D, G, names = tiny_training(vars(notebook))
    new_D, new_G, _ = tiny_training(vars(notebook))
    swapped = dict(d_optimizer=names['g_optimizer'], g_optimizer=names['d_optimizer'])
    message = 'does not hold the parameters of [DG].* Run the cell with make_optimizers again'
    for networks, changes in (((new_D, G), {}), ((D, new_G), {}), ((D, G), swapped)):
        with (global_names(notebook.train, **names | changes),
              pytest.raises(ValueError, match=message)):
            notebook.train(*networks, 1)


def test_frozen_parameters_need_no_optimizer(notebook, folder):
    """A layer that is not to learn may be left out of the optimizer."""
    D, G, names = tiny_training(vars(notebook))
    D.logit.requires_grad_(False)
    learning = [value for value in D.parameters() if value.requires_grad]
    names['d_optimizer'] = torch.optim.Adam(learning)
    with global_names(notebook.train, **names):
        assert notebook.train(D, G, 1)


def test_numbers_and_words_that_may_change(notebook, folder, capsys):
    """What does not change what is learnt, and what a checkpoint does not know, is not compared."""
    train_tiny(notebook, 1, lr=1)
    train_tiny(notebook, 1, resume=True, rescue=0.5, distance_every=3, print_every=7, lr=1, new=1)
    assert resumed(capsys) == 'continued'


# ----------------------------------------------------------------------------------- learning rates


def train_at(notebook, n_epochs, d_rate, g_rate, spoil=None, **config):
    """Train at two learning rates that were set by hand."""
    D, G, names = tiny_training(vars(notebook))
    for optimizer, rate in ((names['d_optimizer'], d_rate), (names['g_optimizer'], g_rate)):
        optimizer.param_groups[0]['lr'] = rate
    if spoil:
        names['train_step'] = spoil(notebook.train_step)
    with global_names(notebook.train, **names):
        notebook.train(D, G, n_epochs, config=config)


@pytest.mark.parametrize('lr_decay', [False, True])
def test_rates_set_by_hand_are_part_of_the_run(notebook, folder, capsys, lr_decay):
    """Two time scales: the same two go on, also from where a schedule is; another one is told."""
    train_at(notebook, 3, 4e-4, 1e-4, lr_decay=lr_decay)
    capsys.readouterr()
    train_at(notebook, 4, 4e-4, 1e-4, lr_decay=lr_decay, resume=True)
    assert resumed(capsys) == 'continued'
    train_at(notebook, 4, 4e-4, 2e-4, lr_decay=lr_decay, resume=True)
    assert resumed(capsys).endswith('(it differs in the learning rates of g_optimizer)')


def test_rates_of_a_rescued_run_are_its_own(notebook, folder, capsys):
    """They were lowered on the way: the run goes on with what it has."""
    train_at(notebook, 1, 4e-4, 1e-4, spoil=going_bad_once, rescue=0.5)
    capsys.readouterr()
    train_at(notebook, 2, 4e-4, 1e-4, rescue=0.5, resume=True)
    assert resumed(capsys) == 'continued'
    assert load_checkpoint()['d_optimizer']['param_groups'][0]['lr'] == 2e-4
