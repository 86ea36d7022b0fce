"""Cells as people paste them, one or some over ours: the notebook runs on, or says what is missing.
"""
import json
import re

import pytest

from machinery.checks import write_images
from tests.lesson.test_public_solutions import public_cells
from tests.lesson.variants import FOLDER, IMPORTS, LOOP, SIX_FORMS, STEPS
from tests.tools import NOTEBOOK, run_python

D, G, BUILD, LOSSES = 'dd8fb6fe', '0bef1885', '876486a8', '2ef5af36'
LOADER, TRAIN, CALL, PLAIN = '334c44ae', '094802a9', 'e3a6e6ab', 'newplain1'
THEIRS = public_cells()

SHORTER = {                  # what takes long and shows nothing of the pasted cells
    'invert(G_best, photos)': 'invert(G_best, photos, n_steps=5)',
    'n_faces=2000': 'n_faces=200',
    'helpers.memorisation(G_best, faces.images, faces.held_out)':
        'helpers.memorisation(G_best, faces.images[:9], faces.held_out[:9])',
}


PART_TEST = re.compile(r'^tests\.test_\w+\((.*)\)$', re.MULTILINE)


def kept_test(match, pasted):
    """Return the call of a part's test where the part was pasted; other tests only take time."""
    theirs = '\n'.join(pasted.values())
    parts = match[1].split(', ')
    return match[0] if any(re.search(rf'(def|class) {part}\b', theirs) for part in parts) else ''


def run_pasted(folder, pasted, **environment):
    """Run the notebook with cells pasted over its own, as a script; return what was printed."""
    sources = []
    unknown = set(pasted)
    for cell in json.loads(NOTEBOOK.read_text(encoding='utf-8'))['cells']:
        if cell['cell_type'] == 'code':
            sources.append(pasted.get(cell['id'], ''.join(cell['source'])))
            unknown.discard(cell['id'])
    assert not unknown
    source = PART_TEST.sub(lambda match: kept_test(match, pasted), '\n\n'.join(sources))
    for old, new in SHORTER.items():
        source = source.replace(old, new)
    (folder / 'pasted.py').write_text(source, encoding='utf-8')
    environment = dict(DCGAN_PRESET='smoke n_epochs=1 first_steps=2', DCGAN_DATA='drawn',
                       DCGAN_RUN='', MPLBACKEND='agg', PYTHONPATH='') | environment
    return run_python(folder, 'pasted.py', environment=environment)


def expect_the_end(done):
    """The last cell has made the page, or said that it cannot draw this generator."""
    assert done.returncode == 0, done.stderr[-2000:]
    assert 'explorer.html: ' in done.stdout or 'No page: ' in done.stdout
    return done.stdout


# --------------------------------------------------------------------------------- usual portions

THEIR_CALL = 'n_epochs = 2\n\nlosses = train(D, G, n_epochs=n_epochs)'

PORTIONS = {                 # cells, and what is said of them
    'D': ({D}, 'Discriminator takes no img_size, batch_norm: left out.'),
    'G': ({G}, 'Generator takes no img_size: left out.'),
    'D and G': ({D, G}, 'Generator takes no img_size: left out.'),
    'D, G and build_network': ({D, G, BUILD}, 'build_network takes no img_size, d_batch_norm'),
    'the loop': ({TRAIN}, 'its networks and losses are in checkpoints_gan/'),
}


@pytest.mark.slow
@pytest.mark.parametrize('portion', PORTIONS)
def test_a_portion_of_a_public_set(copy_of_project, portion):
    """Networks without build_network, or with it, and the loop with our call."""
    ids, said = PORTIONS[portion]
    assert said in expect_the_end(run_pasted(copy_of_project, {id: THEIRS[id] for id in ids}))


@pytest.mark.slow
def test_the_loop_with_its_own_call(copy_of_project):
    """It is kept as a run all the same, and an earlier run is not taken for it."""
    pasted = {TRAIN: LOOP, CALL: THEIR_CALL}
    for earlier in (0, 1):
        printed = expect_the_end(run_pasted(copy_of_project, pasted))
        assert 'its networks and losses are in checkpoints_gan/' in printed
        assert (copy_of_project / 'checkpoints_gan-1').exists() == (earlier == 1)


@pytest.mark.slow
def test_our_loop_with_their_call(copy_of_project):
    expect_the_end(run_pasted(copy_of_project, {CALL: THEIR_CALL}))


@pytest.mark.slow
@pytest.mark.parametrize('data', ['', 'drawn'])
def test_the_loader(copy_of_project, data):
    """It reads the folder; all that judges faces reads its images, too."""
    write_images(copy_of_project / 'processed_celeba_small/celeba', 64)
    done = run_pasted(copy_of_project, {LOADER: FOLDER}, DCGAN_DATA=data)
    printed = expect_the_end(done)
    assert 'This get_dataloader reads processed_celeba_small' in printed
    assert 'takes no dataset, max_images, balance, hold_out, epoch_size: left out.' in printed
    assert '64 images to learn from, 0 held out' in printed


@pytest.mark.slow
@pytest.mark.parametrize('pasted, sentence', [
    ({LOADER: FOLDER}, 'FileNotFoundError: This get_dataloader reads photographs, and'),
    ({D: THEIRS[D].partition('\n\n\n')[2]},
     "NameError: Discriminator uses 'conv', which no cell above defines: paste the one that does"),
    ({LOADER: FOLDER.removeprefix(IMPORTS)},
     "NameError: get_dataloader uses 'transforms', which no cell above"),
    ({TRAIN: LOOP, CALL: 'train(D, G, 1)'}, 'ValueError: losses: expected those'),
], ids=['loader without photographs', 'D without conv', 'loader without imports', 'no losses'])
def test_what_is_missing_is_told(copy_of_project, pasted, sentence):
    """In the last line, which is the only one that a reader of a traceback reads."""
    if 'uses' in sentence and LOADER in pasted:
        write_images(copy_of_project / 'processed_celeba_small/celeba', 20)
    done = run_pasted(copy_of_project, pasted)
    assert done.stderr.strip().splitlines()[-1].startswith(sentence), done.stderr[-1000:]


# ---------------------------------------------------------------------------- losses and the step

@pytest.mark.slow
@pytest.mark.parametrize('form', SIX_FORMS)
def test_losses_as_people_write_them(copy_of_project, form):
    """One-armed, squeezed, always smoothed, or of a sigmoid: each trains to the end."""
    expect_the_end(run_pasted(copy_of_project, {LOSSES: SIX_FORMS[form]}))


@pytest.mark.slow
@pytest.mark.parametrize('form', ['g_loss.backward()', 'fakes anew, no detach'])
def test_steps_as_people_write_them(copy_of_project, form):
    """The textbook's, and that of most public loops; with losses of one argument."""
    pasted = {PLAIN: STEPS[form], LOSSES: SIX_FORMS['squeeze, one argument']}
    assert 'Unlike DCGAN' in expect_the_end(run_pasted(copy_of_project, pasted))
