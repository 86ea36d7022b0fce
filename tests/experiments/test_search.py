"""The search at 64x64: each setting changes what it says, and the rows are compared as they should.
"""
import pytest
import torch
import torch.nn as nn

from experiments import common, search
from experiments.pictures import RECIPE
from experiments.tables import rows_of as published
from machinery.pretrained import load_pair
from tests.experiments.crowds import write_crowds
from tests.tools import ASSETS


def networks_of(name, **changes):
    """Return (the setting's definitions, D, G), built as a run builds them."""
    which = search.SETTINGS[name]
    notebook = which.definitions()
    config = which.config | changes
    torch.manual_seed(0)
    D, G = notebook.build_network(config['conv_dim'], config['conv_dim'], config['z_size'],
                                  config['img_size'], config['d_batch_norm'])
    return notebook, D, G


def batch_norms(network):
    return [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]


def test_the_recipe_is_that_of_the_first_leg():
    """As training.csv has it; in all else the legs were alike, and config.json has it."""
    first = published('training')[0]
    config = search.SETTINGS[search.AS_IT_IS].config
    for name in RECIPE:
        assert config[name] == float(first[name]), name
    shipped = load_pair('assets/dcgan-64')['config']['recipe']
    for name in ('img_size', 'flip', 'beta1', 'lr_decay', 'ema_decay', 'objective', 'z_size',
                 'd_batch_norm'):
        assert config[name] == shipped[name], name
    assert config['conv_dim'] == shipped['d_conv_dim'] == shipped['g_conv_dim']


@pytest.mark.parametrize('width', [48, 64])
def test_only_G_is_wider(width):
    _, D, G = networks_of(f'G {width}')
    assert G.arguments['conv_dim'] == width
    assert D.features[0].out_channels == 32


def test_the_penalty_falls_tenfold_and_beta2_rises():
    notebook, D, G = networks_of('falling penalty', conv_dim=4)
    optimizers = notebook.make_optimizers(D, G, 1e-3, 0.0, 0.9)
    real = torch.randn(2, 3, 64, 64)
    penalties, betas = [], []
    for epoch in (1, 11):
        notebook.decay_learning_rates(optimizers, epoch, 10)
        penalties.append(notebook.gradient_penalty(D, real, real, 'bce').item())
        betas.append([group['betas'] for each in optimizers for group in each.param_groups])
    assert penalties[1] == pytest.approx(penalties[0] / 10, rel=1e-4)
    assert betas[0] == [(0.0, pytest.approx(0.9))] * 2
    assert betas[1] == [(0.0, pytest.approx(0.99))] * 2


def test_lecam_pulls_answers_to_the_mean_of_the_others():
    """From step 101 on, D pays for real answers above the mean of fake ones, and the reverse."""
    notebook, *_ = networks_of('LeCam', conv_dim=4)
    plain, _ = notebook.OBJECTIVES['hinge']
    bce = notebook.bce_d_loss
    d_loss, g_loss = notebook.OBJECTIVES['bce']
    assert g_loss is notebook.bce_g_loss and plain is notebook.hinge_d_loss
    real, fake = torch.full((4, 1), 2.0), torch.full((4, 1), -1.0)
    for _ in range(100):
        assert d_loss(real, fake) == bce(real, fake)
    for _ in range(2_000):
        d_loss(real, fake)
    # the means are 2 and -1 by now, so both answers are 3 away from the other kind's
    assert (d_loss(real, fake) - bce(real, fake)).item() == pytest.approx(0.01 * 18, rel=1e-3)
    real.requires_grad_()
    d_loss(real, fake).backward()
    of_bce = torch.autograd.grad(bce(real, fake), real)[0]
    assert (real.grad > of_bce).all()            # it lowers them


@pytest.mark.parametrize(('name', 'rate'), [('weight norm', 1), ('weight norm, slow D', 0.3)])
def test_normalised_weights_stand_for_batch_normalisation_in_D(name, rate):
    notebook, D, G = networks_of(name, conv_dim=4)
    assert not batch_norms(D) and batch_norms(G)
    convolutions = [layer for layer in D.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    assert all(hasattr(layer, 'parametrizations') for layer in convolutions)
    d_optimizer, g_optimizer = notebook.make_optimizers(D, G, 1e-3, 0.0, 0.999)
    assert d_optimizer.param_groups[0]['lr'] == pytest.approx(rate * 1e-3)
    assert g_optimizer.param_groups[0]['lr'] == 1e-3


def test_noise_modulates_each_layer_of_G():
    """The same features under other noise come out otherwise, and the small networks learn."""
    _, _, G = networks_of('self-modulation', conv_dim=4)
    modulated = [layer for layer in G.layers if isinstance(layer, search.Modulated)]
    assert len(modulated) == len(batch_norms(G)) == 4
    G(torch.randn(3, 100)).sum().backward()
    assert all(layer.from_noise[0].weight.grad.abs().sum() > 0 for layer in modulated)
    first, features = modulated[0], torch.randn(1, 32, 4, 4).expand(2, -1, -1, -1)
    first.z = torch.stack([torch.zeros(100), 100 * torch.ones(100)])
    one, other = first(features)
    assert not torch.allclose(one, other)


def test_augmentation_comes_in_the_second_half():
    notebook, D, G = networks_of('late augmentation', conv_dim=4)
    optimizers = notebook.make_optimizers(D, G)
    x = torch.rand(2, 3, 64, 64)
    for epoch, is_changed in ((1, False), (5, False), (6, True), (10, True)):
        notebook.decay_learning_rates(optimizers, epoch, 10)
        assert torch.equal(notebook.augment(x, ()), x) != is_changed, epoch


def test_going_up_hands_on_all_layers_but_those_next_to_the_image():
    notebook, D, G = networks_of(search.GOING_UP, conv_dim=4)
    small_D, small_G = notebook.build_network(8, 8, 100, 32, True)
    nn.init.ones_(small_D.features[0].bias)      # has the shape of the next layer's
    first, last = D.features[0].weight.clone(), G.layers[-2].weight.clone()
    search.hand_up(small_D.state_dict(), D, shift=3)
    search.hand_up(small_G.state_dict(), G)
    assert torch.equal(D.features[0].weight, first) and torch.equal(G.layers[-2].weight, last)
    assert not D.features[3].bias.any()
    for mine, handed in ((G.project, small_G.project), (G.layers[2], small_G.layers[2]),
                         (G.layers[5], small_G.layers[5]), (D.logit, small_D.logit),
                         (D.features[5], small_D.features[2]),
                         (D.features[8], small_D.features[5])):
        assert torch.equal(mine.weight, handed.weight)


def rows_of(part, distances):
    whence = dict(part=part, change='a change', images_seen='640', seconds='600', floor='0.5',
                  device='a CPU', torch='2')
    return [dict(setting=name, seed=str(seed), ffd=str(ffd), **whence)
            for name, values in distances.items() for seed, ffd in enumerate(values)]


def test_what_came_nearest_is_confirmed_by_other_people():
    """The recipe itself is no candidate; each setting is held against it, within its part."""
    screen = rows_of('screen', {search.AS_IT_IS: (2, 2), 'LeCam': (3, 6), 'G 48': (4, 5)})
    assert search.nearest_setting(screen) == 'LeCam'             # geometric means: 4.2 and 4.5
    rows = screen + rows_of('confirm', {search.AS_IT_IS: (8, 8, 8), 'LeCam': (4, 4, 4.1)})
    found = {(row['setting'], row['part']): row for row in search.summarise(rows)}
    assert 'ratio' not in found[search.AS_IT_IS, 'screen']
    assert float(found['LeCam', 'screen']['ratio']) == pytest.approx(18 ** 0.5 / 2, rel=1e-3)
    confirmed = found['LeCam', 'confirm']
    assert confirmed['n_seeds'] == 3 and float(confirmed['ratio']) == pytest.approx(0.504, abs=2e-3)
    assert {run['judged_by'] for run in search.plan('confirm', ['LeCam'], [2], 'judging')} == {
        'judging'}


def test_machines_are_not_mixed(tmp_path):
    """Each has a summary of its own, and only its own rates say how many images it is given."""
    rows = rows_of('screen', {search.AS_IT_IS: (2, 2), 'LeCam': (3, 6)})
    others = [row | dict(device='a GPU', ffd=f'1{row["ffd"]}') for row in rows]
    apart = common.by_device(search.summarise, rows + others)
    assert apart == search.summarise(rows) + search.summarise(others)
    table = search.SearchTables(tmp_path).rates
    rate = dict(setting='G 48', images_per_second=1, lowest=1, highest=1, n_rounds=1)
    here = rate | common.provenance('a command')
    table.write([rate | dict(device='a GPU', torch='2', command='a command'), here])
    assert [row['device'] for row in table.read_here()] == [here['device']]


def test_the_published_summary_follows_from_the_runs(tmp_path):
    """search_summary.csv, byte for byte."""
    rows = search.SearchTables(ASSETS).runs.read()
    search.SearchTables(tmp_path).summary.write(search.summarise(rows))
    written = tmp_path / 'search_summary.csv'
    assert written.read_bytes() == (ASSETS / 'search_summary.csv').read_bytes()


@pytest.mark.slow
def test_a_small_search(tmp_path, monkeypatch, capsys):
    """Rates, screen and what confirms, from folders of images to the summary; once."""
    write_crowds(tmp_path)
    settings = {name: search.SETTINGS[name]
                for name in (search.AS_IT_IS, search.FEWER, search.GOING_UP)}
    for name, value in dict(SECONDS=0.01, N_RATED=16, ROUNDS=1, FEW_FACES=20,
                            PASSES=2, SETTINGS=settings, CONFIRM_SEEDS=(1,)).items():
        monkeypatch.setattr(search, name, value)
    for which in settings.values():
        monkeypatch.setitem(which.config, 'conv_dim', 4)
    monkeypatch.setitem(search.AT_32.config, 'conv_dim', 8)
    monkeypatch.setattr(search.fair, 'N_GENERATED', 30)
    monkeypatch.setattr(torch, 'set_num_threads', lambda n: None)    # of the process of all tests
    monkeypatch.setenv('DCGAN_FAST', '1')
    options = ['--folder', tmp_path / 'faces', '--people', tmp_path / 'people', '--into', tmp_path,
               '--seeds', '0']
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            search.main(list(map(str, options)))
        assert ended.value.code == 0
    out = capsys.readouterr().out.replace('\n', ' ')
    assert ' 0 of 3 runs' in out and ' 0 of 2 runs' in out
    rows = search.SearchTables(tmp_path).runs.read()
    assert len(rows) == 3 + 2
    assert {row['part']: row['judged_by'] for row in rows} == dict(screen='choosing',
                                                                   confirm='judging')
    learnt = {row['setting']: row['data'].split()[0] for row in rows}
    assert learnt[search.FEWER] == '20' and learnt[search.AS_IT_IS] == '64'
    seen = {row['setting']: int(row['images_seen']) for row in rows}
    assert seen[search.GOING_UP] == 2 * seen[search.AS_IT_IS] == 256
