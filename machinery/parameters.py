"""What the parameters say, held against what was made with them: what counts is kept."""
import torch

from .batches import ImageDataset
from .identity import MAY_CHANGE

# What cells from elsewhere set on their way, where they make something of it
SET_ANYWHERE = {'data_dir', 'batch_size', 'img_size', 'd_conv_dim', 'g_conv_dim', 'z_size',
                'lr', 'beta1', 'beta2'}


def as_they_count(config, scope, G, loader, distance=None):
    """Return the configuration as it counts for a training that begins now.

    Where a cell was not run again after a parameter was changed, the truth is in what that cell
    made: this is kept, and said in a line.

    scope     the notebook's globals
    loader    of the training; None: the notebook's celeba_train_loader
    distance  a FaceDistance that judges the faces, or any other function
    Raises ValueError for a changed parameter of which nothing was made, while config has the old
    value, and where loader or distance was made of other images than those of the notebook now.
    """
    now = {name: scope[name] for name in scope.get('PARAMETERS', ()) if name in config}
    for name, value in now.items():
        if value != config[name] and name not in MAY_CHANGE | SET_ANYWHERE:
            raise ValueError(f'{name}: found {value!r}, but config was made with {config[name]!r}. '
                             f'Run the notebook from the cell with helpers.configure on.')
    config = config | now
    start, loaded = config.get('start', ''), getattr(G, 'start', '')
    if start != loaded:
        raise ValueError(f'start: found {start!r}, but G has the weights of {loaded or "no pair"}. '
                         f'Run the notebook from the cell with build_network on.')
    loader = scope.get('celeba_train_loader') if loader is None else loader
    loader = getattr(loader, 'loader', loader)               # that in a DeviceLoader
    dataset = getattr(loader, 'dataset', None)
    if isinstance(dataset, ImageDataset):
        config |= dict(data=dataset.source, images=dataset.checksum)
        _check_images(dataset, scope.get('celeba_train_loader'), distance)
    optimizers = [scope[name] for name in ('d_optimizer', 'g_optimizer') if name in scope]
    made = _made_with(loader, G, optimizers)
    for name, (found, what, cell) in made.items():
        asked = config.get(name)
        if asked is None or not found or asked in found:
            continue
        print(f'{name}: found {asked}, but {what} made with {" and ".join(map(str, found))}, and '
              f'that counts. For {asked}, run the notebook from the cell with {cell} on.')
        config[name] = found[0] if len(found) == 1 else found
    return config


def _check_images(dataset, newest, distance):
    """Raise ValueError unless a data set, the newest loader and a distance are of one crowd."""
    newest = getattr(newest, 'dataset', None)
    if isinstance(newest, ImageDataset) and newest.checksum != dataset.checksum:
        raise ValueError('loader: it holds other images than celeba_train_loader does. Run the '
                         'notebook from the cell with get_dataloader on.')
    judged_by = getattr(distance, 'images', dataset.images)
    if judged_by is not dataset.images and not torch.equal(judged_by, dataset.images):
        raise ValueError('distance: it was made with other images than those of the training. Run '
                         'the notebook from the cell with get_dataloader on.')


def _made_with(loader, G, optimizers):
    """Return {name of a parameter: (values, what was made with them, name of what makes it)}.

    Several values are several learning rates: those of two time scales, or one that was made with
    and another that a rescue has lowered. None: it is not known.
    """
    batch_size = getattr(loader, 'batch_size', None)
    made = dict(batch_size=([batch_size] if batch_size else [], 'the loader was', 'get_dataloader'))
    arguments = getattr(G, 'arguments', {})
    for name, argument in (('z_size', 'z_size'), ('g_conv_dim', 'conv_dim'),
                           ('img_size', 'img_size')):
        values = [arguments[argument]] if argument in arguments else []
        made[name] = values, 'G was', 'build_network'
    rates = [optimizer.defaults['lr'] for optimizer in optimizers if 'lr' in optimizer.defaults]
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    rates += [group.get('initial_lr', group['lr']) for group in groups]
    betas = [group['betas'] for group in groups if 'betas' in group]
    for name, values in (('lr', rates), ('beta1', [first for first, _ in betas]),
                         ('beta2', [second for _, second in betas])):
        values = sorted({float(value) for value in values})
        made[name] = values, 'the optimizers were', 'make_optimizers'
    return made
