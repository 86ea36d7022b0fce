"""What most cases need: three good images, something beside them, and the way in."""
from PIL import Image

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


def three_faces_and(folder, name, content):
    """Write three good images and one more file, bytes or an image; return what reads them."""
    path = three_faces(folder) / name
    if isinstance(content, Image.Image):
        content.save(path)
    else:
        path.write_bytes(content)
    return read_faces
