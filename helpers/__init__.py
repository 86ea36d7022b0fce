"""The mechanics behind dcgan_faces.ipynb: what a reader need not see to understand a DCGAN. One module per concern.

notebook   the notebook's definitions as a module, presets, checks of arguments, versions, the progress bar
data       folder, zip archive, download or SVHN to one tensor of images; attributes; the data set
drawn      faces drawn by code
files      written whole or not at all; read without running anything
running    the record of a run: resume, interrupts, numbers gone bad, memory that is short
metric     the face encoder and what is measured with it
speed      the training step and its batches, made fast from outside
processes  several devices under torchrun
pictures   grids, films, curves
"""
# flake8: noqa: F401
from .data import (FACES_COUNT, FACES_DIR, ImageDataset, balancing_sampler, decode_folder, decode_image, download, find_faces,
                   is_image, list_images, load_attributes, load_images, load_svhn, read_attributes, unpack)
from .drawn import drawn_faces
from .files import (CHECKPOINTS, PRETRAINED, SAMPLES, load_checkpoint, load_history, load_pretrained, load_samples,
                    save_samples, write_atomically)
from .metric import (ENCODER, FaceDistance, FaceEncoder, attribute_shares, nearest_faces, quality, seen_attributes,
                     to_bytes)
from .notebook import check_choice, check_whole, choose_preset, device_name, load_definitions, versions
from .pictures import (film, plot_attributes, plot_distance, plot_losses, show_beside, show_epochs, show_grid,
                       to_array)
from .processes import alone, choose_device, rank_0_first, shared, world
from .running import Run, random_state, set_random_state
from .speed import Feed, capture, has_bfloat16
