"""A number for memorisation: it catches a liar, and no one else."""
import json

import matplotlib.pyplot as plt
import pytest
import torch
from scipy.stats import ks_2samp
from torch import nn, optim

from experiments import common, export
from experiments import memorisation as command
from machinery import latent as room
from machinery.drawn import drawn_faces
from machinery.latent import Memorisation, memorisation
from machinery.pictures import plot_recovery
from tests.tools import ASSETS

N = 20


@pytest.fixture(scope='module')
def drawings():
    """(faces that the liar learns, faces that it does not, faces held out), uint8, N of each."""
    return drawn_faces(3 * N, 32).split(N)


@pytest.fixture(scope='module')
def liar(drawings):
    """A generator that was taught one training face for each of N noises, until it knew them."""
    torch.manual_seed(0)
    G = common.notebook_definitions().Generator(10, 16)
    z = 3 * nn.functional.one_hot(torch.arange(N) % 10, 10).float()
    z[N // 2:] *= -1
    real = drawings[0].float() / 127.5 - 1
    optimizer = optim.Adam(G.parameters(), 0.005)
    for _ in range(120):
        optimizer.zero_grad()
        (G(z) - real).square().mean().backward()
        optimizer.step()
    return G


@pytest.fixture(scope='module')
def judged(liar, drawings):
    """(its own faces judged, others judged); with more seeds in assets/memorisation.csv."""
    own, unseen, held_out = drawings
    return memorisation(liar, own, held_out), memorisation(liar, unseen, held_out)


@pytest.mark.slow
def test_liar_is_caught(judged):
    own, _ = judged
    assert own.caught and own.gap > 0.2 and own.p_value < 1e-4
    assert len(own.training) == len(own.held_out) == N
    assert str(own).startswith('learnt by heart, in part')


def test_nobody_is_caught_for_faces_that_he_did_not_see(judged):
    _, unseen = judged
    assert not unseen.caught and unseen.p_value > room.SURE and abs(unseen.gap) < 0.2
    assert str(unseen).startswith('too few faces to tell')         # 20 are


@pytest.mark.slow
def test_held_out_faces_that_are_better_known_are_no_sign(liar, drawings):
    """The difference is as large; it lies on the other side."""
    own, unseen, _ = drawings
    found = memorisation(liar, unseen, own)
    assert found.p_value < room.SURE and found.gap < 0 and not found.caught


@pytest.mark.slow
def test_without_held_out_faces_it_says_so(liar, drawings, capsys):
    found = memorisation(liar, drawings[0], drawings[0][:0])
    plt.close('all')
    plot_recovery(found)
    assert str(found).startswith('No face was held out') and not found.caught
    assert capsys.readouterr().out == '' and plt.get_fignums() == []


@pytest.mark.slow
def test_few_held_out_faces_are_too_few_to_tell(liar, drawings):
    """As many of each kind as there are; and no all-clear that so few cannot give."""
    found = memorisation(liar, drawings[1], drawings[2][:6])
    assert (len(found.training), len(found.held_out)) == (N, 6)
    assert str(found).startswith('too few faces to tell, 6 and not 50 of each kind')
    many = Memorisation(torch.ones(room.FEWEST), torch.ones(room.FEWEST))
    assert many.verdict == 'no sign of learning by heart'


@pytest.mark.slow
def test_held_out_faces_of_another_size_are_refused(liar, drawings):
    with pytest.raises(ValueError, match='held_out: found images'):
        memorisation(liar, drawings[0], drawings[2][:, :, ::2, ::2])


def test_histogram_shows_both():
    plot_recovery(Memorisation(torch.tensor([1., 2, 2]), torch.tensor([3., 4, 4])))
    axes, = plt.gcf().axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    counts = [sum(bar.get_height() for bar in bars) for bars in axes.containers]
    plt.close()
    assert labels == ['training faces', 'held-out faces'] and counts == [3, 3]


# ---------------------------------------------------------------------------------- the experiment


def test_smallest_gap_is_noticed_and_smaller_ones_are_not():
    """More faces show smaller gaps; and what it says holds in draws of another seed."""
    torch.manual_seed(1)
    errors = 20 * (0.25 * torch.randn(300)).exp()
    few, many = command.smallest_gap(errors, 50), command.smallest_gap(errors, 200)
    assert 0.05 < many < few < 0.3

    def noticed(gap):
        draws = errors[torch.randint(300, (100, 2, 200))]
        return sum(Memorisation(mine * (1 - gap), others, 1 - (mine * (1 - gap)).median()
                                / others.median(), ks_2samp(mine * (1 - gap), others).pvalue).caught
                   for mine, others in draws)
    assert noticed(many) > 65 and noticed(many / 2) < 50


def rows_of_study():
    _, rows = common.read_csv(ASSETS / 'memorisation.csv')
    return rows


@pytest.mark.slow
def test_liars_are_trained_and_judged(tmp_path, monkeypatch):
    """The command's own code, on drawn faces and for a blink: two rows a seed."""
    monkeypatch.setattr(command, 'N_LEARNT', 20)
    monkeypatch.setattr(command, 'TIMES_SEEN', 20)
    monkeypatch.setattr(command, 'SEEDS', (0,))
    whence = dict(command='a command', device='-', torch='-')
    monkeypatch.setattr(command.helpers, 'decode_folder', lambda *_: (drawn_faces(60, 32), []))
    command.judge_liars(tmp_path, tmp_path, whence)
    own, unseen = command.tables(tmp_path)[1].read()
    assert (own['judged'], unseen['judged']) == (command.OWN, command.UNSEEN)
    assert own['generator'] == 'overtrained on 20 faces' and own['n'] == '20'
    assert own['median_held_out'] == unseen['median_held_out'] != own['median_training']


def test_study_caught_the_liars_and_no_one_else():
    verdicts = {}
    for row in rows_of_study():
        if row['generator'].startswith('overtrained'):
            verdicts.setdefault(row['judged'], []).append(row['caught'])
    assert verdicts == {command.OWN: 3 * ['yes'], command.UNSEEN: 3 * ['no']}


@pytest.mark.parametrize('folder', sorted(ASSETS.glob('dcgan-*')), ids=lambda folder: folder.name)
def test_shipped_generators_were_judged(folder):
    """Each card says what the table says, of the weights that are there."""
    config = json.loads((folder / 'config.json').read_text(encoding='utf-8'))
    rows = [row for row in rows_of_study() if row['generator'] == folder.name]
    assert {row['weights'] for row in rows} == {config['sha256'][:16]}
    assert [row['seed'] for row in rows] == ['0', '1', '2']
    gaps = [row for row in command.tables(ASSETS)[2].read() if row['generator'] == folder.name]
    assert {row['weights'] for row in gaps} == {config['sha256'][:16]}
    words = command.as_sentence(rows, gaps)
    assert config['figures']['memorisation'] == words
    assert words in (folder / 'README.md').read_text(encoding='utf-8')


def test_rewritten_card_differs_by_what_was_added(tmp_path):
    folder = tmp_path / 'dcgan-64'
    folder.mkdir()
    for path in (ASSETS / 'dcgan-64').iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    before = (folder / 'README.md').read_text(encoding='utf-8').splitlines()
    export.add_figures(folder, memorisation='nothing known')
    after = (folder / 'README.md').read_text(encoding='utf-8').splitlines()
    assert '| learnt by heart | nothing known |' in after
    assert ([line for line in before if not line.startswith('| learnt by heart')]
            == [line for line in after if not line.startswith('| learnt by heart')])
    assert export.helpers.load_pair(folder)['config']['figures']['memorisation'] == 'nothing known'
