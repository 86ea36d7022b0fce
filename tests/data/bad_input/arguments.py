"""Arguments and presets that are out of range, of the wrong kind, or misspelt."""
import helpers
from machinery.images import decode_folder
from machinery.sources import load_dataset
from tests.tools import train_tiny, write_images

PRESETS = {
    'smoke': dict(n_epochs=2, max_images=4),
    'quick': dict(n_epochs=9, max_images=None),
    'full': dict(n_epochs=50, max_images=None),
}


def image_size_0(folder, monkeypatch):
    """Images of no size."""
    return lambda notebook: load_dataset(image_size=0)


def image_size_below_0(folder, monkeypatch):
    """Images of less than no size."""
    return lambda notebook: load_dataset(image_size=-1)


def image_size_as_text(folder, monkeypatch):
    """A number in quotes."""
    return lambda notebook: load_dataset(image_size='32')


def img_size_33(folder, monkeypatch):
    """A size that no stack of layers arrives at."""
    return lambda notebook: notebook.Generator(9, 4, 33)


def img_size_as_text(folder, monkeypatch):
    """A size that would do, in quotes."""
    return lambda notebook: notebook.Discriminator(4, '64')


def conv_dim_0(folder, monkeypatch):
    """Layers without channels."""
    return lambda notebook: notebook.Discriminator(0)


def conv_dim_broken(folder, monkeypatch):
    """One and a half channels."""
    return lambda notebook: notebook.Generator(9, 1.5)


def batch_size_0(folder, monkeypatch):
    """Empty batches."""
    return lambda notebook: notebook.get_dataloader(0, 32, dataset='drawn')


def batch_size_too_large(folder, monkeypatch):
    """Batches of nine, and three images."""
    return lambda notebook: notebook.get_dataloader(9, 32, dataset='drawn', max_images=3)


def max_images_below_0(folder, monkeypatch):
    """Less than no images."""
    return lambda notebook: load_dataset(max_images=-1)


def max_images_0(folder, monkeypatch):
    """No images: not the same as all of them, which is None."""
    return lambda notebook: load_dataset(dataset='drawn', max_images=0)


def max_images_0_of_a_folder(folder, monkeypatch):
    """No images of a folder."""
    write_images(folder / 'faces', 2)
    return lambda notebook: decode_folder('faces', 32, 0)


def max_images_false(folder, monkeypatch):
    """A truth value for a number."""
    return lambda notebook: load_dataset(dataset='drawn', max_images=False)


def n_epochs_0(folder, monkeypatch):
    """A training of no epochs."""
    return lambda notebook: train_tiny(notebook, n_epochs=0)


def print_every_0(folder, monkeypatch):
    """A line after every zeroth batch."""
    return lambda notebook: train_tiny(notebook, n_epochs=1, print_every=0)


def unknown_data_set(folder, monkeypatch):
    """A data set's name with a slip."""
    return lambda notebook: load_dataset(dataset='shvn')


def preset_of(monkeypatch, wish):
    """Ask for a preset."""
    monkeypatch.setenv('DCGAN_PRESET', wish)
    return lambda notebook: helpers.choose_preset(PRESETS)


def unknown_preset(folder, monkeypatch):
    """A preset's name with a slip."""
    return preset_of(monkeypatch, 'qiuck')


def unknown_value_of_a_preset(folder, monkeypatch):
    """A value that no preset has, but nearly."""
    preset_of(monkeypatch, 'quick epochs=3')
    return lambda notebook: helpers.configure(['seed'], PRESETS['quick'], {})


def value_out_of_range(folder, monkeypatch):
    """A preset of less than no epochs."""
    return preset_of(monkeypatch, 'quick n_epochs=-1')


def value_that_is_no_number(folder, monkeypatch):
    """A word where a number was expected."""
    return preset_of(monkeypatch, 'quick n_epochs=many')


ROWS = {
    'image_size 0':
        (image_size_0, ValueError, 'image_size: found 0, expected a whole number, 1 or'),
    'image_size -1': (image_size_below_0, ValueError, 'image_size: found -1'),
    "image_size '32'": (image_size_as_text, ValueError, "image_size: found '32'"),
    'img_size 33': (img_size_33, ValueError, 'img_size: found 33, expected one of 32, 64, 128'),
    'img_size as text': (img_size_as_text, ValueError, "found '64', .*Did you mean '64'"),
    'conv_dim 0': (conv_dim_0, ValueError, 'conv_dim: found 0'),
    'conv_dim 1.5': (conv_dim_broken, ValueError, 'conv_dim: found 1.5'),
    'batch_size 0': (batch_size_0, ValueError, 'batch_size: found 0'),
    'batch_size too large':
        (batch_size_too_large, None,
         'batch_size: found 9, but there are 3 images: each batch holds them all'),
    'max_images -1': (max_images_below_0, ValueError, 'max_images: found -1'),
    'max_images 0': (max_images_0, ValueError, 'max_images: found 0, expected a whole number'),
    'max_images 0 of a folder': (max_images_0_of_a_folder, ValueError, 'max_images: found 0'),
    'max_images False': (max_images_false, ValueError, 'max_images: found False'),
    'n_epochs 0': (n_epochs_0, ValueError, 'n_epochs: found 0'),
    'print_every 0': (print_every_0, ValueError, 'print_every: found 0'),
    'unknown data set':
        (unknown_data_set, ValueError, "dataset: found 'shvn', .*Did you mean 'svhn'"),
    'unknown preset':
        (unknown_preset, ValueError,
         "found 'qiuck', expected one of 'smoke', 'quick', 'full'. Did you mean 'quick'?"),
    'unknown value of a preset':
        (unknown_value_of_a_preset, ValueError, "Did you mean 'n_epochs'?"),
    'value out of range': (value_out_of_range, ValueError, 'n_epochs: found -1'),
    'value that is no number':
        (value_that_is_no_number, ValueError, "n_epochs: found 'many', expected a whole number"),
}
