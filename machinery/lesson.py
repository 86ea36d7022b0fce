"""The notebook from outside: its definitions; loaders and loops from elsewhere; single faces."""
import ast
import collections
import contextlib
import inspect
import json
import linecache
import math
import os
import shutil
import types
from pathlib import Path

import torch

from .batches import ImageDataset
from .console import call, check_choice, setting, takes, whole
from .files import SAMPLES
from .identity import code_of, images_of
from .parameters import PLAIN, config_of
from .pretrained import load_pair, rebuild
from .run import Epoch, Run
from .sources import NAMED_SETS, find_faces

NOTEBOOK = Path(__file__).parent.parent / 'dcgan_faces.ipynb'


def load_definitions(notebook='dcgan_faces.ipynb', edits=()):
    """Give the notebook's definitions as a module.

    They are its imports, functions, classes and UPPER_CASE constants.

    All else in the notebook (building, training, plotting) is left out, so this costs nothing.
    edits   pairs (old, new) of source text to be replaced first: tests plant faults this way
    Raises FileNotFoundError where there is no such notebook, and ValueError unless each old text is
    found exactly once.
    """
    notebook = Path(notebook)
    module = types.ModuleType(notebook.stem)
    module.__file__ = str(notebook)
    found = collections.Counter({old: 0 for old, _ in edits})
    for number, source in code_cells(notebook):
        for old, new in edits:
            found[old] += source.count(old)
            source = source.replace(old, new)
        define(source, module, number, is_definition)
    if any(times != 1 for times in found.values()):
        raise ValueError(f'edits: expected each exactly once in {notebook.name}, '
                         f'found {dict(found)}')
    return module


def code_cells(notebook):
    """Return [(number, source)] of a notebook's cells of code, numbered among all of its cells."""
    cells = json.loads(notebook.read_text(encoding='utf-8'))['cells']
    return [(number, ''.join(cell['source'])) for number, cell in enumerate(cells)
            if cell['cell_type'] == 'code']


def define(source, module, number, wanted):
    """Run the statements of a cell that are wanted in a module; return the names they define."""
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if wanted(node)]
    path = Path(module.__file__)
    name = f'{path.name}[{number}] {hash(source):x}'     # another one where it was edited
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
    exec(compile(tree, name, 'exec'), module.__dict__)
    return {node.name for node in tree.body if hasattr(node, 'name')} | {
        target.id for node in tree.body for target in getattr(node, 'targets', ())
        if isinstance(target, ast.Name)}


def is_definition(node):
    """Say whether a statement is an import, a function, a class or an UPPER_CASE constant."""
    if isinstance(node, ast.Assign):
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        return len(names) == len(node.targets) and all(name.isupper() for name in names)
    return isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef))


# ------------------------------------------------------------------------------------- a loader


def call_loader(get_dataloader, batch_size, image_size, data_dir, **ours):
    """Call get_dataloader and return its loader.

    One from elsewhere reads a folder: it is given that of the photographs, found or fetched as ours
    does it, and what it does not take is left out, which is said.
    Raises FileNotFoundError where there are no photographs to be had.
    """
    if not takes(get_dataloader, 'dataset'):
        data_dir = _folder_for_others(data_dir)
    with whole('get_dataloader'):
        return call(get_dataloader, batch_size, image_size, data_dir, **ours)


def _folder_for_others(data_dir):
    chosen = setting('DCGAN_DATA')
    if chosen.lower() not in NAMED_SETS:
        folder = find_faces(chosen or data_dir)
    else:
        folder = data_dir if Path(data_dir).is_dir() else None
    if folder is None:
        raise FileNotFoundError(f'This get_dataloader reads photographs, and there is no folder '
                                f"{data_dir}. Make one, or paste the notebook's own get_dataloader "
                                f'over it, which also draws faces.')
    print(f'This get_dataloader reads {folder}')
    return str(folder)


def dataset_of(loader):
    """Return the ImageDataset of a loader; of one from elsewhere, all of its images as bytes."""
    dataset = getattr(loader, 'dataset', None)
    if isinstance(dataset, ImageDataset):
        return dataset
    print('This loader is not of this notebook: all of its images are read once, for what judges '
          'faces. None is held out.')
    batches = [(images * 255).round().to(torch.uint8) for images, *_ in loader]
    images = torch.cat(batches)
    return ImageDataset(images, source=f'{len(images):,} images of a loader from elsewhere')


# ------------------------------------------------------------------------------ a training loop

_kept = None             # the losses of the training that call_train has kept


def call_train(train, D, G, n_epochs, print_every, loader, distance, config):
    """Call train and return its losses, a list of pairs.

    A train(D, G, n_epochs, print_every) from elsewhere, which takes no more than that, keeps no
    checkpoints: its networks, its losses and its pickle are kept as a run, so that all that looks
    at a run finds them. An earlier run is moved aside first.
    Raises ValueError for wrong names in config, and where loader or distance was made of other
    images than those of the notebook now.
    """
    scope = inspect.unwrap(train).__globals__
    if 'OBJECTIVES' in scope and 'objective' in config:
        check_choice(scope['OBJECTIVES'], objective=config['objective'])
    for name in config.get('augmentation', ()):
        check_choice(scope['AUGMENTATIONS'], augmentation=name)
    newest = scope.get('celeba_train_loader')
    check_images(newest if loader is None else loader, newest, distance)
    others = [scope[name] for name in ('get_dataloader', 'build_network') if name in scope]
    config = config | dict(source_code=code_of(train, *others))       # Run adds that of D and G
    global _kept
    if takes(train, 'config'):
        _kept = train(D, G, n_epochs, print_every, loader, distance, config)
    else:
        _kept = _adopt(train, D, G, n_epochs, print_every, loader, config)
    return _kept


def keep_run(scope):
    """Keep what a train from elsewhere has made as a run, where a cell of its own has called it.

    scope  the notebook's globals(), with D, G, n_epochs, and losses, a list of pairs
    Where call_train has called it, or train keeps a run itself, all is done already.
    Raises ValueError where there are no losses.
    """
    losses, train = scope.get('losses'), scope['train']
    if takes(train, 'config') or losses is _kept and losses is not None:
        return
    if not losses:
        raise ValueError('losses: expected those that train returns. Call it in the cell above, '
                         'as losses = train(D, G, n_epochs), and let it return them.')
    config = config_of(scope) | dict(source_code=code_of(train))
    with _apart(Path(SAMPLES)) as samples, _run(scope['D'], scope['G'], scope.get('loader'),
                                                config) as run:
        _keep(run, samples, losses, scope['n_epochs'])


def check_images(loader, newest, distance):
    """Raise ValueError unless a loader, the newest one and a distance are of the same images."""
    images, new = images_of(loader), images_of(newest)
    if images is None:
        return
    if new is not None and new.checksum != images.checksum:
        raise ValueError('loader: it holds other images than celeba_train_loader does. Run the '
                         'notebook from the cell with get_dataloader on.')
    judged_by = getattr(distance, 'images', images.images)
    if judged_by is not images.images and not torch.equal(judged_by, images.images):
        raise ValueError('distance: it was made with other images than those of the training. Run '
                         'the notebook from the cell with get_dataloader on.')


def _adopt(train, D, G, n_epochs, print_every, loader, config):
    """Call a train from elsewhere, and keep what it leaves as a run."""
    kind = next(G.parameters()).device.type
    if kind not in ('cpu', 'cuda'):
        print(f'This train knows no {kind}: it runs on the CPU.')
        D.cpu()
        G.cpu()
    with _run(D, G, loader, config) as run, _apart(Path(SAMPLES)):
        losses = train(D, G, n_epochs, print_every)
        _keep(run, SAMPLES, losses, n_epochs)
    return losses


def _run(D, G, loader, config):
    config = PLAIN | config | dict(resume=False, live_view=False)     # there is nothing to draw
    parts, fixed_z = dict(D=D, G=G, G_average=G), torch.zeros(0, config['z_size'])
    return Run(parts, loader, fixed_z, config, draw=None)


def _keep(run, samples, losses, n_epochs):
    """Keep losses and the pickle of grids as those of a run."""
    if Path(samples).exists():
        shutil.move(samples, run.samples)
    run.adopt(_epochs_of(losses, n_epochs))
    print(f'This train keeps no checkpoints: its networks and losses are in {run.folder}/ now. '
          f'What follows draws faces with G as it is, from normal noise.')


@contextlib.contextmanager
def _apart(path):
    """Within this block a file that is another run's has another name."""
    apart = path.with_name(f'{path.name}.earlier')
    if path.exists():
        os.replace(path, apart)
    try:
        yield apart
    finally:
        if apart.exists():
            os.replace(apart, path)


def _epochs_of(losses, n_epochs):
    """Spread the printed losses over the epochs; D(x) and D(G(z)) are not known.

    The grids are in the loop's own pickle.
    """
    figures = torch.full((len(losses), 4), math.nan)
    figures[:, :2] = torch.tensor(losses, dtype=torch.float32).view(-1, 2)
    return [Epoch(part.clone()) for part in figures.tensor_split(n_epochs)]


# -------------------------------------------------------------------------- faces without training


def face(numbers, folder=None):
    """Draw faces from their noise: images (n, 3, s, s) in [-1, 1].

    numbers  z_size numbers, as the page assets/explorer.html copies them, or n lists of them
    folder   the checkpoints of a run: 'checkpoints_gan', behind the run_folder if it has one.
             None: the generator that comes with the project
    Raises ValueError for anything else, FileNotFoundError where there is no run.
    """
    notebook = load_definitions(NOTEBOOK)
    if folder:
        G = notebook.load_generator(Path(folder).expanduser())
    else:
        pair = load_pair()
        G = rebuild(notebook.Generator, pair, pair['G_average'])
    try:
        z = torch.as_tensor(numbers, dtype=torch.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f'numbers: {error}, expected {G.z_size} for each face') from error
    if z.ndim not in (1, 2) or z.shape[-1] != G.z_size:
        raise ValueError(f'numbers: found {tuple(z.shape)}, expected {G.z_size} for each face')
    if not z.isfinite().all():
        raise ValueError('numbers: found some that are not finite')
    return notebook.generate(G, z.reshape(-1, G.z_size))
