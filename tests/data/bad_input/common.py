"""What most cases need: three good images and the way in."""
from machinery.sources import load_dataset
from tests.tools import write_images

FINE = '{} images of 32x32, faces/'


def read_faces(notebook):
    """Load the images of the folder 'faces'."""
    load_dataset('faces')


def read_default(notebook):
    """Load what is found without a name: photographs, or else five drawn faces."""
    load_dataset(max_images=5)


def three_faces(folder):
    """Write three good images; return their folder."""
    write_images(folder / 'faces', 3)
    return folder / 'faces'
