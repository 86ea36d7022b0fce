"""Put a generator into one page that needs nothing: assets/explorer.html, or one of your own run.

    python -m experiments.explorer
    python -m experiments.explorer checkpoints_gan/ --output my_faces.html

Without a folder it takes the shipped generator. The page holds the weights and draws the faces in
plain JavaScript, so it can be mailed, and opened by a double click without a network. Its sliders
are the directions of experiments/directions.py. Those of the shipped generator are read from
directions.npz; for any other generator they are measured first, which takes minutes: two of one
core for 32x32 and conv_dim 64. --no-sliders leaves them out.
"""
import html
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

import helpers
from experiments import common
from experiments import directions as measured_directions
from machinery import directions as rooms
from machinery import files

TEMPLATE = Path(__file__).parent / 'explorer_page'
DIGITS = np.frombuffer(
    b'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/', dtype=np.uint8)

TITLES = {           # what a slider is called, where that differs from the direction's name
    'smile': 'smiling', 'open mouth': 'an open mouth', 'glasses': 'eyeglasses',
    'age': 'not young', 'light hair': 'blond hair', 'fringe': 'bangs',
    'hat': 'wearing a hat', 'beard': 'a beard', 'make-up': 'heavy make-up',
    'background': 'bright background', 'warmth': 'warm colours',
    'light from left': 'light from the left', 'turn': 'turned to the left'}

PYTHON = """\
import helpers
numbers = [...]        # paste here
helpers.show_grid(helpers.face(numbers{folder}))"""


def title(name):
    """Return what the page calls a direction."""
    return TITLES.get(name, name)


def fold(G):
    """Return the layers of a generator without batch normalisation, which is folded into them.

    Each is (weights (inputs, places, outputs), biases (outputs,)). Places are the 4x4 pixels that
    the linear layer makes, or the 4x4 taps of a transposed convolution's kernel.
    """
    weight = G.project.weight.T                          # (z_size, 16c)
    weights = weight.unflatten(1, (-1, 16)).transpose(1, 2)
    biases = torch.zeros(weights.shape[2])
    folded = []
    for layer in G.layers:
        if isinstance(layer, nn.ConvTranspose2d):
            folded.append((weights, biases))
            weights = layer.weight.flatten(2).transpose(1, 2)      # (in, out, 4, 4) before
            biases = layer.bias
            if biases is None:
                biases = torch.zeros(weights.shape[2])
        elif isinstance(layer, nn.BatchNorm2d):
            scale = layer.weight / (layer.running_var + layer.eps).sqrt()
            weights = weights * scale
            biases = layer.bias + (biases - layer.running_mean) * scale
    return [*folded, (weights, biases)]


def as_text(weights):
    """Return (text, scales): two digits of base 64 a weight, in units of its output's scale.

    12 bits are enough for the eye and for 2/255; 8 are not, and 16 would make the page too large.
    """
    scales = weights.abs().amax((0, 1)).clamp(min=1e-12) / 2047
    units = (weights / scales).round().to(torch.int64) + 2048      # 1 to 4095
    high, low = np.divmod(units.flatten().numpy(), 64)
    digits = np.stack([DIGITS[high], DIGITS[low]], 1)
    return digits.tobytes().decode('ascii'), scales


def numbers(values, digits=7):
    """Return a tensor as a list of floats with so many significant digits."""
    return [float(f'{value:.{digits}g}') for value in values.tolist()]


@torch.no_grad()
def page_data(G, held, rows):
    """Return all that the page's JavaScript needs, as plain values."""
    layers = []
    for weights, biases in fold(G):
        text, scales = as_text(weights)
        layers.append({'in': weights.shape[0], 'out': weights.shape[2], 'scales': numbers(scales),
                       'biases': numbers(biases), 'weights': text})
    sliders = []
    for name, vector in held.items():
        sliders.append(dict(name=name, title=title(name), note=shares(name, rows),
                            seen=name not in rooms.PIXELS, vector=numbers(vector, 5)))
    img_size = 4 * 2 ** (len(layers) - 1)
    return dict(z_size=G.z_size, img_size=img_size, layers=layers, directions=sliders)


def shares(name, rows):
    """Return '11 · 44 · 87 %': how many faces are seen so at a slider's ends and in its middle."""
    if name in rooms.PIXELS:
        return ''
    means = []
    for column in ('lowest_end', 'middle', 'highest_end'):
        values = [float(row[column]) for row in rows if row['name'] == name]
        means.append(f'{100 * sum(values) / len(values):.0f}')
    return ' · '.join(means) + ' %'


def measured_text(held, rows):
    """Return the page's section on how the sliders were measured; '' where there are none."""
    if not held:
        return ''
    failed = [title(name) for name in rooms.NAMES if name not in held]
    sentence = f'These were tried and have no slider: {", ".join(failed)}.' if failed else ''
    seeds = {row['seed'] for row in rows}
    text = part_of_page('measured.html')
    return text.format(n_fitted=int(rows[0]['n_fitted']), n_seeds=len(seeds), failed=sentence,
                       dragged=side_effects(held, rows))


def side_effects(held, rows):
    """Return a sentence on what moves at least half as far as the figure of a slider itself."""
    found = []
    for name in held:
        for row in rows:
            far = abs(float(row['drags_by'])) >= abs(float(row['moves'])) / 2
            words = f'“{title(name)}” also moves “{title(row["drags"])}”'
            if row['name'] == name and far and words not in found:
                found.append(words)
    return f'Not everything is left alone: {", ".join(found)}.' if found else ''


def part_of_page(name):
    """Return the text of a file of the template."""
    return (TEMPLATE / name).read_text(encoding='utf-8').strip()


def make_page(G, data='', folder='', held=None, rows=()):
    """Return the page of a generator as text.

    data        words that say what it was trained on; '': it is the shipped generator
    folder      of its run, for the lines of Python on the page; '': likewise
    held, rows  what experiments.directions.measure returns; without them there are no sliders
    """
    held = held or {}
    content = page_data(G, held, rows)
    about = part_of_page('about_own.html' if data else 'about_shipped.html')
    about = about.format(z_size=G.z_size, size=content['img_size'], data=html.escape(data))
    python = PYTHON.format(folder=f', {str(folder)!r}' if folder else '')
    parts = dict(about=about, measured=measured_text(held, rows), python=html.escape(python))
    for name in ('explorer.css', 'generator.js', 'explorer.js'):
        parts[name] = part_of_page(name)
    parts['data'] = json.dumps(content, separators=(',', ':')).replace('</', '<\\/')
    page = part_of_page('index.html') + '\n'
    for name, text in parts.items():
        page = page.replace('{{' + name + '}}', text)
    return page


def sliders_of(G, into=common.ASSETS):
    """Return (held, rows) of a generator: as they were kept in a folder, or measured now."""
    path = into / 'directions.npz'
    if path.is_file():
        generator, held = measured_directions.read_directions(path)
        if generator == measured_directions.fingerprint(G):
            _, rows = common.read_csv(path.with_suffix('.csv'))
            return held, rows
    print('Measuring directions, for some minutes; --no-sliders does without.', flush=True)
    return measured_directions.measure(G)


def main(arguments=None):
    parser = common.command_parser(__doc__)
    parser.add_argument('run', type=common.existing_folder, nargs='?', metavar='FOLDER',
                        help='the checkpoints of a run (default: the shipped generator)')
    parser.add_argument('--output', type=Path, metavar='FILE',
                        help='the page (default: explorer.html in the folder of --into)')
    parser.add_argument('--no-sliders', action='store_true', help='measure no directions')
    options = parser.parse_args(arguments)
    G = measured_directions.load_generator(options.run)
    whose, config = {}, {}
    if options.run:
        config = helpers.load_checkpoint(options.run, best=True)['config']
        data = config.get('data') or 'Pictures that the run does not name'
        whose = dict(data=data, folder=options.run.name)
    held, rows = {}, []
    if not options.no_sliders and config.get('dataset') != 'svhn':       # no faces, no smiles
        held, rows = sliders_of(G)
    page = make_page(G, **whose, held=held, rows=rows).encode()
    path = options.output or options.into / 'explorer.html'
    files.write_atomically(path, lambda file: file.write(page))
    print(f'{path}: {len(page):,} bytes, {len(held)} sliders')


if __name__ == '__main__':
    main()
