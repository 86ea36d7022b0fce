"""Arguments and presets that are out of range, of the wrong kind, or misspelt."""
from machinery.images import decode_folder
from machinery.parameters import QUICK, configure
from machinery.sources import load_dataset
from tests.tools import train_tiny, write_images


def call(action):
    """Nothing to prepare: a function of the notebook's definitions."""
    return lambda folder, monkeypatch: action


def load(**arguments):
    """Load images with these arguments."""
    return call(lambda notebook: load_dataset(**arguments))


def preset(wish):
    """Ask for a preset."""
    def prepare(folder, monkeypatch):
        monkeypatch.setenv('DCGAN_PRESET', wish)
        return lambda notebook: configure(dict(QUICK))
    return prepare


def unknown_value_of_a_preset(folder, monkeypatch):
    """A value that no preset has, but nearly."""
    monkeypatch.setenv('DCGAN_PRESET', 'quick epochs=3')
    return lambda notebook: configure(dict(QUICK))


def max_images_0_of_a_folder(folder, monkeypatch):
    """No images: not the same as all of them, which is None."""
    write_images(folder / 'faces', 2)
    return lambda notebook: decode_folder('faces', 32, 0)


REFUSED = {
    'image_size 0':
        (load(image_size=0), 'image_size: found 0, expected a whole number, 1 or'),
    'image_size -1': (load(image_size=-1), 'image_size: found -1'),
    "image_size '32'": (load(image_size='32'), "image_size: found '32'"),
    'img_size 33':
        (call(lambda notebook: notebook.Generator(9, 4, 33)),
         'img_size: found 33, expected one of 32, 64, 128'),
    'img_size as text':
        (call(lambda notebook: notebook.Discriminator(4, '64')),
         "found '64', .*Did you mean '64'"),
    'conv_dim 0': (call(lambda notebook: notebook.Discriminator(0)), 'conv_dim: found 0'),
    'conv_dim 1.5': (call(lambda notebook: notebook.Generator(9, 1.5)), 'conv_dim: found 1.5'),
    'batch_size 0':
        (call(lambda notebook: notebook.get_dataloader(0, 32, dataset='drawn')),
         'batch_size: found 0'),
    'max_images -1': (load(max_images=-1), 'max_images: found -1'),
    'max_images 0':
        (load(dataset='drawn', max_images=0), 'max_images: found 0, expected a whole number'),
    'max_images 0 of a folder': (max_images_0_of_a_folder, 'max_images: found 0'),
    'max_images False': (load(dataset='drawn', max_images=False), 'max_images: found False'),
    'n_epochs 0':
        (call(lambda notebook: train_tiny(notebook, n_epochs=0)), 'n_epochs: found 0'),
    'print_every 0':
        (call(lambda notebook: train_tiny(notebook, n_epochs=1, print_every=0)),
         'print_every: found 0'),
    'unknown data set':
        (load(dataset='shvn'), "dataset: found 'shvn', .*Did you mean 'svhn'"),
    'unknown preset':
        (preset('qiuck'),
         "found 'qiuck', expected one of 'quick', .*Did you mean 'quick'?"),
    'unknown value of a preset': (unknown_value_of_a_preset, "Did you mean 'n_epochs'?"),
    'value out of range': (preset('quick n_epochs=-1'), 'n_epochs: found -1'),
    'value that is no number':
        (preset('quick n_epochs=many'), "n_epochs: found 'many', expected a whole number"),
}
ROWS = {name: (prepare, ValueError, said) for name, (prepare, said) in REFUSED.items()}
ROWS['batch_size too large'] = (
    call(lambda notebook: notebook.get_dataloader(9, 32, dataset='drawn', max_images=3)),
    None, 'batch_size: found 9, but there are 3 images: each batch holds them all')
