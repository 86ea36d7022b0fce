"""A generator in one page that needs nothing: faces, walks and sliders, in plain JavaScript.

The page holds the weights, so it can be mailed, and opened by a double click without a network.
"""
import copy
import html
import json
from pathlib import Path

import numpy as np
import torch
from IPython.display import HTML, display
from torch import nn
from torch.nn import functional as F

from . import files, latent
from .console import in_notebook
from .devices import world

TEMPLATE = Path(__file__).parent / 'explorer_page'
LARGEST_INLINE = 500_000     # bytes: a saved notebook holds the page, and viewers show 2 MB at most
MOST_KEPT = 24               # faces on the shelf, as explorer.js has it
HEIGHT = 720                 # of the frame in a notebook, in pixels
TOLERANCE = 1e-3             # of pixels in [-1, 1]: the arithmetic is the same, in another order
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


# ------------------------------------------------------------------------------------- the weights


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


def draw(folded, z):
    """Draw faces (n, 3, s, s) of noise (n, z_size) as the page does, from what fold returns."""
    (weights, biases), *others = folded
    x = torch.einsum('ni,ipo->nop', z, weights).unflatten(2, (4, 4)) + biases[:, None, None]
    for weights, biases in others:
        kernels = weights.transpose(1, 2).unflatten(2, (4, 4))
        x = F.conv_transpose2d(x.relu(), kernels, biases, stride=2, padding=1)
    return x.tanh()


def fold_checked(G):
    """Return what fold does; raise ValueError, in one sentence, for a G that the page cannot draw.

    The page knows the layers of the notebook's Generator alone, so a few faces are compared.
    In float64, for float32 is rounded otherwise by other processors, and the page would differ.
    """
    G = copy.deepcopy(G).cpu().double().eval()
    z = torch.randn(4, G.z_size, generator=torch.Generator().manual_seed(0)).double()
    try:
        folded = fold(G)
        if (draw(folded, z) - G(z)).abs().max() < TOLERANCE:
            return folded
    except (AttributeError, RuntimeError):               # other layers, or other shapes
        pass
    raise ValueError("the page can draw the notebook's Generator alone, and this one is another.")


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


# ---------------------------------------------------------------------------------------- the page


@torch.no_grad()
def page_data(G, held, rows, kept=()):
    """Return all that the page's JavaScript needs, as plain values."""
    layers = []
    for weights, biases in fold_checked(G):
        text, scales = as_text(weights)
        layers.append({'in': weights.shape[0], 'out': weights.shape[2], 'scales': numbers(scales),
                       'biases': numbers(biases), 'weights': text})
    sliders = []
    for name, vector in held.items():
        sliders.append(dict(name=name, title=title(name), note=shares(name, rows),
                            seen=name not in latent.PIXELS, vector=numbers(vector, 5)))
    img_size = 4 * 2 ** (len(layers) - 1)
    return dict(z_size=G.z_size, img_size=img_size, layers=layers, directions=sliders,
                kept=[numbers(z, 5) for z in kept])


def shares(name, rows):
    """Return '11 · 44 · 87 %': how many faces are seen so at a slider's ends and in its middle."""
    if name in latent.PIXELS or not rows:
        return ''
    means = []
    for column in ('lowest_end', 'middle', 'highest_end'):
        values = [float(row[column]) for row in rows if row['name'] == name]
        means.append(f'{100 * sum(values) / len(values):.0f}')
    return ' · '.join(means) + ' %'


def measured_text(held, rows):
    """Return the page's section on how its sliders were found; '' where there are none."""
    if not held:
        return ''
    if not rows:
        return part_of_page('found.html')
    failed = [title(name) for name in latent.NAMES if name not in held]
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


def make_page(G, data='', folder='', held=None, rows=(), kept=()):
    """Return the page of a generator as text.

    data    words that say what it was trained on; '': it is the shipped generator
    folder  of its run's checkpoints, for the lines of Python on the page; '': likewise
    held    {name: (z_size,)}, the directions that get sliders; None: there are none
    rows    what experiments.directions measured of them; (): they were found, and not measured
    kept    noise (n, z_size) of faces that lie on the page's shelf from the beginning
    Raises ValueError, in one sentence, for any other than the notebook's Generator, and for noise
    that is not its own.
    """
    held = held or {}
    if len(kept) > MOST_KEPT:
        raise ValueError(f'kept: found {len(kept)} faces, and {MOST_KEPT} have a place')
    if any(len(z) != G.z_size for z in kept):
        raise ValueError(f'kept: found noise of another size, expected {G.z_size} numbers a face')
    content = page_data(G, held, rows, kept)
    about = part_of_page('about_own.html' if data else 'about_shipped.html')
    about = about.format(z_size=G.z_size, size=content['img_size'], data=html.escape(data))
    python = PYTHON.format(folder=f', {str(folder)!r}' if folder else '')
    found = part_of_page('kept.html') if len(kept) > 0 else ''
    parts = dict(about=f'{about}\n{found}', measured=measured_text(held, rows),
                 python=html.escape(python))
    parts['shares'] = part_of_page('shares.html') if rows else ''
    for name in ('explorer.css', 'generator.js', 'explorer.js'):
        parts[name] = part_of_page(name)
    parts['data'] = json.dumps(content, separators=(',', ':')).replace('</', '<\\/')
    page = part_of_page('index.html') + '\n'
    for name, text in parts.items():
        page = page.replace('{{' + name + '}}', text)
    return page


# ----------------------------------------------------------------------------------- in a notebook


def show_page(G, found, data, folder, largest=LARGEST_INLINE, kept=()):
    """Write the page of a run's generator into its folder, and show it under the cell if it fits.

    found   what find_directions returned; those that are taken out of each other get sliders
    data    words that say what G was trained on
    folder  of the run's checkpoints: explorer.html goes there
    largest bytes of a page that is shown under the cell
    kept    noise (n, z_size), as invert finds it, of faces on the page's shelf
    A generator that the page cannot draw, and a full disk, are told in one line.
    """
    rank, _ = world()
    if rank > 0:
        return
    sliders = {name: found[name] for name in latent.CORE if name in found}
    folder = Path(folder)
    path = folder / 'explorer.html'
    try:
        page = make_page(G, data, folder, sliders, kept=kept)
        files.write_bytes(path, page.encode())
    except (OSError, ValueError) as error:
        print(f'No page: {error}')
        return
    n_bytes = path.stat().st_size
    print(f'{path}: {n_bytes:,} bytes. Open it with a double click, or mail it.')
    if n_bytes > largest:
        print(f'It is not shown here, for the notebook would grow by it. To see it here too, '
              f'add this to the call of helpers.show_page: largest={n_bytes}')
    elif in_notebook():
        display(HTML(framed(page)))


def framed(page):
    """Return HTML that shows a page in a frame of its own, shut off from what is around it.

    The page is inside the text: it needs no file, and works in a saved notebook too.
    """
    return (f'<div><iframe srcdoc="{html.escape(page)}" title="Faces from noise" '
            f'sandbox="allow-scripts allow-downloads" allow="clipboard-write" '
            f'style="width: 100%; height: {HEIGHT}px; border: 1px solid #ddd8ce"></iframe></div>')
