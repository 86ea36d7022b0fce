"""Put a run's two networks into a folder that can be mailed or uploaded to a hub of models.

    python -m experiments.export checkpoints_gan/ --output my_model/
    python -m experiments.export checkpoints_gan/ --output my_model/ --faces processed_celeba_small/

It holds the run's best epoch: model.safetensors (the averaged generator, the generator and the
discriminator, in half precision), config.json (their arguments, the recipe, figures) and README.md.
That is a card which begins with the metadata that hubs read, and twelve lines of torch in it draw
faces without this project. helpers.load_pair reads the folder again, to train on from there.

The figures on the card are those that the run measured itself. With --faces, the folder of its
images, they are measured anew, which takes minutes: against images that the training did not see,
where the run held some out. --onnx adds model.onnx, for programs without torch; it needs the
packages onnx and onnxscript, and with onnxruntime the file is checked too.
"""
import contextlib
import importlib.util
import json
import re
import string
import sys
import warnings
from pathlib import Path

import safetensors
import torch

import helpers
from experiments import common, runs
from machinery import files, pretrained
from machinery.batches import ImageDataset
from machinery.sources import with_held_out

CLOSE = 2 * 2 / 255          # how far pixels in [-1, 1] may be apart: two of 255 shades
# Of a run's parameters, those that say nothing of the networks, or name folders of its machine.
LEFT_OUT = ('data_dir', 'run_folder', 'start', 'print_every', 'distance_every', 'live_view',
            'resume', 'rescue', 'threads')
ON_THE_CARD = ('d_conv_dim', 'g_conv_dim', 'batch_size', 'epoch_size', 'lr', 'beta1', 'beta2',
               'objective', 'penalty', 'penalty_every', 'flip', 'augmentation', 'balance',
               'ema_decay', 'lr_decay')

CELEBA = dict(
    id='flwrlabs/celeba', words='CelebA',
    license='license: other\n'
            'license_name: celeba-dataset-release-agreement\n'
            'license_link: https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html',
    terms='CelebA is for non-commercial research, so use these weights for nothing else.',
    bias='CelebA shows celebrities, most of them young and light-skinned, and a generator repeats '
         'what it sees, rare things more rarely still. Do not take a generated face for an '
         'anonymous one: a GAN may repeat a face that it was trained on.')
SVHN = dict(
    id='ufldl-stanford/svhn', words='SVHN, the street-view house numbers',
    license='license: unknown',
    terms='SVHN is for non-commercial use only.',
    bias='The digits are those of house numbers in photographs of streets.')
DRAWN = dict(
    id=None, words='faces drawn by code, no photographs',
    license='license: mit',
    terms='The faces that it was trained on were drawn by code.',
    bias='The drawn faces have few shapes and colours; no real face is among them.')
OWN = dict(
    id=None, words='pictures of its maker',
    license='license: unknown',
    terms='Its maker has not said yet under which terms it may be used.',
    bias='It repeats what its training pictures show, and may repeat one of them: do not take a '
         'generated face for an anonymous one.')
DATA = dict(celeba=CELEBA, svhn=SVHN, own=OWN, drawn=DRAWN)      # by kind, the strictest first

TEMPLATE = Path(__file__).with_name('card.md')
# <!-- if NAME --> and <!-- end -->, around what stands on the card only where there is such a thing
OPTIONAL = re.compile(r'<!-- if (\w+) -->\n(.*?)<!-- end -->\n', re.DOTALL)


# ---------------------------------------------------------------------------------------- figures


def images_of_run(folder, config):
    """Return the images that a run was trained on, an ImageDataset, and those that it held out.

    Raises ValueError where the images in the folder are others, FileNotFoundError where the folder
    that judged the run is gone.
    """
    images, names = helpers.decode_folder(folder, config['img_size'], config.get('max_images'))
    # A run that is older than the holding out of people has held out images.
    for people in (helpers.load_people(folder, names), None):
        whole = ImageDataset(images, files=names, people=people)
        dataset = with_held_out(whole, config.get('hold_out', 0))
        if dataset.checksum == config.get('images'):
            return dataset
    raise ValueError(f'{folder.name}/ holds other images than those that the run was trained on.')


def images_of_pair(folder, config):
    """Return the images that a pair was trained on, given all of its config.json: images_of_run."""
    return images_of_run(folder, config['recipe'] | dict(images=config['images']))


def judge(best, dataset):
    """Hold faces of a checkpoint's averaged generator against real ones.

    dataset  the images of the run: where it held some out, its judges are the real ones
    Returns (figures, FaceDistance, generated faces); figures are plain values.
    """
    notebook = common.notebook_definitions()
    G = helpers.rebuild(notebook.Generator, best['config'], best['G_average'])
    seed = best['config'].get('seed', 0)
    distance = helpers.FaceDistance(dataset.images, n_judged=runs.N_JUDGED,
                                    held_out=dataset.judges)
    generated = runs.draw(notebook, G, distance.n, seed)
    others = distance.others[:distance.n]                # as many: fewer would be further away
    kind = ('held out, which the training did not see' if distance.are_held_out else
            'of the training, so that repeating them is rewarded')
    protocol = (f'{len(generated):,} generated faces (eval mode, seed {seed}) against '
                f'{distance.n:,} real faces {kind}; the floor is that of {len(others):,} other '
                f'faces of the training')
    figures = dict(protocol=protocol, values=helpers.quality(generated, distance.real),
                   floor=helpers.quality(others, distance.real))
    return figures, distance, generated


def figures_of_run(run, best):
    """Return what the run itself measured of its best epoch, as judge does; {} if nothing."""
    measured = {int(epoch): value for epoch, value, _ in helpers.load_history(run)['distances']}
    if best['epoch'] not in measured:
        return {}
    share = best['config'].get('hold_out', 0)
    what = f'a share of {share} of the images'
    if isinstance(share, str):
        what = f'those of {Path(share).name}/'
    were_held_out = best['config'].get('n_held_out', 0) > 0      # a pasted loader holds none out
    kind = (f'held out ({what}, which the training did not see)'
            if were_held_out else 'of the training, so that repeating them is rewarded')
    protocol = (f'{runs.N_JUDGED:,} generated faces (eval mode), during the training, '
                f'against real faces {kind}')
    return dict(protocol=protocol, values={'Fréchet face distance': measured[best['epoch']]},
                floor={})


# --------------------------------------------------------------------------------- what is known


def describe(best, figures, made_by=''):
    """Return what config.json says of a run's checkpoint, but for the figures of the files.

    made_by  command, device and torch version of the run, in words
    """
    config = best['config']
    discriminator = {}
    for name, kept_as in (('conv_dim', 'd_conv_dim'), ('img_size', 'img_size'),
                          ('batch_norm', 'd_batch_norm')):
        if kept_as in config:
            discriminator[name] = config[kept_as]
    generator = pretrained.arguments_of(config)
    recipe = {name: config[name] for name in helpers.PARAMETERS
              if name in config and name not in LEFT_OUT}
    if isinstance(recipe.get('hold_out'), str):
        recipe['hold_out'] = Path(recipe['hold_out']).name           # no path of its machine
    return dict(model_type='dcgan', generator=generator, discriminator=discriminator,
                z_size=generator['z_size'], data=config.get('data', ''),
                kind=config.get('kind', 'own'),
                images=config.get('images', ''), went_on_from=pair_before(config),
                recipe=recipe, images_seen=best['images_seen'],
                epoch=best['epoch'], seed=config.get('seed'), made_by=made_by,
                exported_with=dict(torch=torch.__version__, safetensors=safetensors.__version__),
                figures=figures)


def pair_before(config):
    """Return what is known of the pair that a run went on from: a dict, empty where none was."""
    start = config.get('start')
    if not start:
        return {}
    return dict(name=Path(start).name, sha256=config.get('pair', ''),
                data=config.get('pair_learnt', [pretrained.UNNAMED]),
                kinds=config.get('pair_kinds', ['own']))


def all_data_of(config):
    """Return what is known of the data of a run and of the pairs before it, as of one.

    All of it binds: the strictest licence holds. Drawn faces bind nobody.
    """
    kind, *earlier = pretrained.kinds_learnt_by(config)
    kinds = [kind, *(each for each in earlier if each != 'drawn')]
    data, *_ = everything = [DATA[each] for each in kinds]
    strictest = DATA[min(kinds, key=list(DATA).index)]

    def together(what):
        return ' '.join(dict.fromkeys(each[what] for each in everything))
    return data | dict(license=strictest['license'], terms=together('terms'),
                       bias=together('bias'))


# ---------------------------------------------------------------------------------------- the card


def card(name, config, draws=True, onnx=False):
    """Return the card of a folder as text: card.md, filled in with what config.json says.

    draws  whether the lines of torch on it draw what the notebook draws
    onnx   whether there is a model.onnx
    """
    data, figures, size = all_data_of(config), config['figures'], config['img_size']
    rows = '\n'.join(f'| {title} | {in_a_cell(words)} |'
                     for title, words in facts(config, data).items())
    known = data | dict(
        name=name, quoted_name=json.dumps(name, ensure_ascii=False), size=size, rows=rows,
        z_size=config['z_size'], type=data['id'] or 'imagefolder', other_code=not draws, onnx=onnx,
        blocks='', metrics='\n'.join(metrics(figures.get('values', {}))))
    if draws:
        depths = [config['generator']['conv_dim']]
        while 4 * 2 ** len(depths) < size:
            depths.insert(0, 2 * depths[0])
        pairs = zip(depths, depths[1:], strict=False)
        known |= dict(blocks=', '.join(f'({deep}, {half})' for deep, half in pairs),
                      last=depths[-1], n_features=16 * depths[0])
    template = OPTIONAL.sub(lambda found: found[2] if known[found[1]] else '',
                            TEMPLATE.read_text(encoding='utf-8'))
    return string.Template(template).substitute(known)


def facts(config, data):
    """Return the rows of the card's table, {title: words}."""
    figures = config['figures']
    recipe = {name: tuple(value) if isinstance(value, list) else value      # as it was before json
              for name, value in config['recipe'].items()}
    rows = {'data': f'{data["words"]}: {config["data"] or "not named"}',
            'images seen': f'{config["images_seen"]:,} (best epoch: {config["epoch"]} of '
                           f'{recipe.get("n_epochs", "?")}), seed {config["seed"]}',
            'recipe': ', '.join(f'{name} {recipe[name]}' for name in ON_THE_CARD if name in recipe)}
    before = config.get('went_on_from')
    if before:
        _, *learnt = pretrained.learnt_by(config)
        rows['went on from'] = f'{before["name"]}, which learnt {pretrained.THEN.join(learnt)}'
    rows |= {'made by': config['made_by'], 'judged by': figures.get('protocol')}
    for figure, value in figures.get('values', {}).items():
        floor = figures['floor'].get(figure)
        rows[figure] = f'{value:.4f}' + (f' (floor: {floor:.4f})' if floor is not None else '')
    rows['learnt by heart'] = figures.get('memorisation')
    return {title: words for title, words in rows.items() if words}


def metrics(values):
    """Return the lines of the card's head that say the figures, for hubs of models."""
    lines = []
    for figure, value in values.items():
        kind = figure.replace('é', 'e').replace(' ', '-').lower()
        lines += [f'    - type: {kind}', f'      name: {figure}', f'      value: {value:.4f}']
    return lines


def in_a_cell(words):
    """Return words as a cell of a table in Markdown can hold them."""
    return ' '.join(str(words).replace('|', '\\|').split())


# -------------------------------------------------------------------------------------- the folder


def check_place(folder):
    """Raise ValueError where a folder holds something else than an earlier export."""
    if folder.is_dir() and any(folder.iterdir()):
        try:
            config = json.loads((folder / 'config.json').read_text(encoding='utf-8'))
            is_ours = config['model_type'] == 'dcgan'
        except (OSError, ValueError, KeyError, TypeError):
            is_ours = False
        if not is_ours:
            raise ValueError(f'{folder} holds other files: name a folder that is empty, new, or '
                             f'an earlier export.')


def write_folder(folder, best, figures, made_by='', onnx=False):
    """Write a run's checkpoint as a folder of files; each is written whole or not at all.

    best     what helpers.load_checkpoint returns
    figures  what judge or figures_of_run returns
    Returns its config. Raises ValueError where the notebook's networks are others than the run's
    and where the folder holds something else than an earlier export,
    ImportError where a package for ONNX is missing, OSError where the disk is full.
    """
    if onnx:
        check_onnx()
    check_place(folder)
    notebook = common.notebook_definitions()
    config = describe(best, figures, made_by)
    pretrained.build(notebook.Discriminator, config['discriminator'], best['D'])
    G = helpers.rebuild(notebook.Generator, best['config'], best['G_average'])
    config['img_size'] = notebook.generate(G, torch.zeros(1, G.z_size)).shape[-1]
    folder.mkdir(parents=True, exist_ok=True)
    pretrained.save_networks(folder, config, {name: best[name] for name in pretrained.NETWORKS})
    write_card(folder, config, G, onnx)
    return config


def write_card(folder, config, G, onnx):
    """Write the card of a folder that holds the weights of G; onnx: write model.onnx as well."""
    name = folder.resolve().name.encode(errors='replace').decode()
    text = card(name, config, onnx=onnx) if draws_the_same(folder, config, G) else None
    if text is None:
        print('The class Generator is not the one of this project: its card cannot say how to draw '
              'faces without it.')
        text = card(name, config, draws=False, onnx=onnx)
    if onnx:
        write_onnx(folder / 'model.onnx', G)
    else:
        (folder / 'model.onnx').unlink(missing_ok=True)      # that of another generator
    files.write_bytes(folder / 'README.md', text.encode())


def draws_the_same(folder, config, G):
    """Do the card's lines of torch, run in the folder, draw what G draws from the same noise?"""
    names = {}
    try:
        lines, = re.findall(r'```python\n(.*?)```', card('', config), re.DOTALL)
        with torch.random.fork_rng(devices=[]), contextlib.chdir(folder):
            exec(lines, names)
        faces = common.notebook_definitions().generate(G, names['z'])
        return bool((names['faces'] - faces).abs().max() < CLOSE)
    except (KeyError, RuntimeError):         # another class: other arguments, other weights
        return False


def add_figures(folder, **figures):
    """Add figures to those in a folder's config.json, and write its card anew."""
    pair = helpers.load_pair(folder)
    config = pair['config'] | dict(figures=pair['config']['figures'] | figures)
    pretrained.write_config(folder, config)
    G = helpers.rebuild(common.notebook_definitions().Generator, pair, pair['G_average'])
    write_card(folder, config, G, (folder / 'model.onnx').is_file())


# -------------------------------------------------------------------------------------------- ONNX


def check_onnx():
    """Raise ImportError, in one sentence, where a package is missing that ONNX needs."""
    missing = [name for name in ('onnx', 'onnxscript') if not importlib.util.find_spec(name)]
    if missing:
        raise ImportError(f'--onnx needs {" and ".join(missing)}: pip install onnx onnxscript '
                          f'onnxruntime')


def write_onnx(path, G):
    """Write G as a file of ONNX, z (n, z_size) to faces (n, 3, s, s), and check it.

    It is checked where onnxruntime is there. Raises ValueError where its faces are others.
    """
    G.eval()
    z = torch.randn(2, G.z_size, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings(), common.silence():
        warnings.simplefilter('ignore')              # what it says of its own insides
        program = torch.onnx.export(G, (z,), input_names=['z'], output_names=['faces'],
                                    dynamic_shapes=({0: torch.export.Dim('n')},), dynamo=True)
    data = program.model_proto.SerializeToString()
    difference = difference_of_onnx(data, G)
    if difference is None:
        print('model.onnx is not checked: there is no onnxruntime.')
    elif difference > CLOSE:
        raise ValueError(f'the faces of model.onnx are others than those of torch: '
                         f'{127.5 * difference:.1f} of 255 shades apart')
    files.write_bytes(path, data)


def difference_of_onnx(data, G):
    """Return how far the faces of ONNX and torch are apart at most; None without onnxruntime."""
    if not importlib.util.find_spec('onnxruntime'):
        return None
    import onnxruntime
    session = onnxruntime.InferenceSession(data, providers=['CPUExecutionProvider'])
    z = torch.randn(5, G.z_size, generator=torch.Generator().manual_seed(1))
    faces, = session.run(['faces'], {'z': z.numpy()})
    with torch.no_grad():
        return (G(z) - torch.from_numpy(faces)).abs().max().item()


def main(arguments=None):
    parser = common.command_parser(__doc__)
    parser.add_argument('run', type=common.existing_folder, metavar='FOLDER',
                        help='the checkpoints of a run')
    parser.add_argument('--output', type=Path, metavar='FOLDER',
                        help='the folder to write (default: dcgan-SIZE in the current folder)')
    parser.add_argument('--faces', type=common.existing_folder, metavar='FOLDER',
                        help='the images of the run, to measure the figures with')
    parser.add_argument('--made-by', default='', metavar='WORDS',
                        help='command, device and torch version of the run, for the card')
    parser.add_argument('--onnx', action='store_true', help='write model.onnx as well')
    options = parser.parse_args(arguments)
    try:
        best = helpers.load_checkpoint(options.run, best=True)
        config = best['config']
        if options.faces:
            figures, _, _ = judge(best, images_of_run(options.faces, config))
        else:
            figures = figures_of_run(options.run, best)
        size = pretrained.arguments_of(config).get('img_size', 'run')
        folder = options.output or Path(f'dcgan-{size}')
        written = write_folder(folder, best, figures, options.made_by, options.onnx)
    except (OSError, ValueError, ImportError) as error:
        sys.exit(f'{error}')
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f'{folder}: {size:,} bytes, {written["img_size"]}x{written["img_size"]}, '
          f'epoch {written["epoch"]}')


if __name__ == '__main__':
    main()
