"""The CPU's threads: fewer are advised where they are faster, never taken unasked, and kept."""
import pytest
import torch

from machinery import devices, latent
from machinery.drawn import drawn_faces
from machinery.lesson import load_definitions
from machinery.parameters import QUICK, configure
from machinery.run import load_checkpoint
from tests.tools import NOTEBOOK, numbers_of, train_tiny


@pytest.fixture
def two_threads():
    """torch with two threads, however many the machine would give it."""
    with devices.n_threads(2):
        yield


def move(notebook):
    """Move networks to the CPU as the notebook does, with a batch of four; return them."""
    D, G = notebook.Discriminator(4), notebook.Generator(6, 4)
    devices.to_device(D, G, torch.device('cpu'), torch.rand(4, 3, 32, 32), 6)
    return D, G


def plant(monkeypatch, rates):
    """Let so many calls a second be measured: {number of threads: rate}."""
    monkeypatch.setattr(devices, '_per_second', lambda act, number, seconds: rates[number])


@pytest.mark.parametrize('rates, said', [
    ({2: 252, 1: 753}, 'With threads = 1 among the parameters training would go 3.0 times'),
    ({2: 1147, 1: 766}, ''),
    ({2: 100, 1: 129}, ''),
    ({4: 100, 2: 300, 1: 200}, 'With threads = 2 among the parameters training would go 3.0 times'),
    ({1: 100}, '')], ids=str)
def test_fewer_threads_are_advised_where_they_are_faster(notebook, monkeypatch, capsys, rates,
                                                         said):
    """One line before the first step, and only where it is worth it; their number stays."""
    plant(monkeypatch, rates)
    with devices.n_threads(max(rates)):
        move(notebook)
        assert torch.get_num_threads() == max(rates)
    printed = capsys.readouterr().out
    assert said in printed and printed.count('\n') == bool(said)


DROPOUT = 'nn.LeakyReLU(0.2, inplace=True)]                # half as large'


def test_trial_of_threads_changes_nothing(monkeypatch, two_threads):
    """Really taken, with a D that draws random numbers and normalises."""
    noisy = load_definitions(NOTEBOOK, [(DROPOUT, f'nn.Dropout(0.1), {DROPOUT}')])
    calls = []
    measure = devices._per_second

    def measured(act, number, seconds):
        calls.append(number)
        return measure(act, number, 1e-3)

    monkeypatch.setattr(devices, '_per_second', measured)
    D, G = noisy.Discriminator(4), noisy.Generator(6, 4)
    images = torch.rand(4, 3, 32, 32)
    weights, random_numbers = [numbers_of(D), numbers_of(G)], torch.get_rng_state()
    devices.to_device(D, G, torch.device('cpu'), images, 6)
    assert calls == [2, 1] and torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), random_numbers)
    assert all(map(torch.equal, [numbers_of(D), numbers_of(G)], weights))


def test_trial_that_leaves_its_random_numbers_is_seen(monkeypatch, two_threads):
    """The planted bug: without set_random_state the test above fails."""
    monkeypatch.setattr(devices, 'set_random_state', lambda state: None)
    with pytest.raises(AssertionError):
        test_trial_of_threads_changes_nothing(monkeypatch, None)


def test_threads_are_kept_with_the_run(notebook, folder, monkeypatch, two_threads, capsys):
    """The parameter sets them, a checkpoint knows it, and with another number the run goes on."""
    monkeypatch.setenv('DCGAN_PRESET', 'quick threads=1')
    config = configure(dict(QUICK))
    assert config['threads'] == torch.get_num_threads() == 1
    train_tiny(notebook, 1, resume=True)
    train_tiny(notebook, 2, resume=True, threads=1)
    assert 'Continuing checkpoints_gan/ after epoch 1' in capsys.readouterr().out
    train_tiny(notebook, 3, resume=True, threads=2)
    assert 'Continuing checkpoints_gan/ after epoch 2' in capsys.readouterr().out
    assert load_checkpoint()['config']['threads'] == 2


@pytest.mark.parametrize('size, expected', [(32, 1), (64, 2)])
def test_inversion_of_small_pictures_takes_one_thread(notebook, monkeypatch, two_threads, size,
                                                      expected):
    """And gives the others back."""
    taken = []

    def search(G, starts, real, *_):
        taken.append(torch.get_num_threads())
        return starts, torch.zeros(len(starts))

    monkeypatch.setattr(latent, 'search', search)
    G = notebook.Generator(6, 4, size)
    latent.invert(G, drawn_faces(2, size), n_steps=2, features=0)
    assert set(taken) == {expected} and torch.get_num_threads() == 2
