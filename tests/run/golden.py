"""Train tiny runs by a project's notebook and keep all their numbers, to compare two versions.

python -m tests.run.golden PROJECT OUT       trains; do so with both versions, on one machine
python -m tests.run.golden ONE OTHER         compares two such files, to the bit
"""
import contextlib
import io
import os
import sys
from pathlib import Path

import torch

CASES = {
    'plain': {},
    'ours': dict(flip=True, ema_decay=0.9, lr_decay=True, penalty=0.01, penalty_every=2),
    'augmented': dict(flip=True, ema_decay=0.99,
                      augmentation=('colour', 'translation', 'cutout')),
    'relativistic': dict(objective='relativistic', penalty=0.05, penalty_every=1),
    'few': dict(ema_decay=0.9, start='assets/dcgan-32', augmentation=('translation',)),
}


def train(notebook, config):
    """Train three epochs; return all that a run leaves."""
    import helpers
    from machinery.checks import global_names, numbers_of, tiny_training
    D, G, names = tiny_training(vars(notebook))
    if 'start' in config:
        D, G = notebook.Discriminator(64), notebook.Generator(100, 64)
        helpers.start_from(config['start'], D, G)
        names['d_optimizer'], names['g_optimizer'] = notebook.make_optimizers(D, G)
        names['z_size'] = 100
    printed = io.StringIO()
    with global_names(notebook.train, **names), contextlib.redirect_stdout(printed):
        losses = notebook.train(D, G, 3, 2, distance=lambda x: x.mean().item() + 1, config=config)
    state, history = helpers.load_checkpoint(), helpers.load_history()
    optimizers = [value for name in ('d_optimizer', 'g_optimizer')
                  for each in state[name]['state'].values() for value in each.values()]
    lines = [line for line in printed.getvalue().splitlines() if line.startswith('Epoch [')]
    return dict(losses=losses, D=numbers_of(D), G=numbers_of(G), optimizers=optimizers,
                average=list(state['G_average'].values()), grids=helpers.load_samples(),
                history=history['d_loss'].tolist(), lines=lines,
                distances=history['distances'][:, :2].tolist(),
                best=helpers.load_checkpoint(best=True)['epoch'])


def train_all(project, out):
    sys.path.insert(0, str(project))
    torch.set_num_threads(1)
    from machinery.checks import empty_folder
    from machinery.lesson import load_definitions
    notebook = load_definitions(project / 'dcgan_faces.ipynb')
    results = {}
    for fast in ('0', '1'):
        os.environ['DCGAN_FAST'] = fast
        for name, config in CASES.items():
            with empty_folder():
                results[name, fast] = train(notebook, config)
    torch.save(results, out)


def same(one, other):
    if torch.is_tensor(one):
        return torch.equal(one, other)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def compare(one, other):
    one, other = torch.load(one, weights_only=False), torch.load(other, weights_only=False)
    checks = [(case, name, same(value, other[case][name]))
              for case, values in one.items() for name, value in values.items()]
    for case, name, equal in checks:
        if not equal:
            print('differs:', *case, name)
    print(f'{sum(equal for *_, equal in checks)} of {len(checks)} equal to the bit')


if __name__ == '__main__':
    first, second = map(Path, sys.argv[1:])
    if first.is_dir():
        train_all(first.resolve(), second)
    else:
        compare(first, second)
