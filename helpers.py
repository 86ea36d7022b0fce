"""The doors that dcgan_faces.ipynb goes through: what it calls, by topic.

Nothing here is needed to understand a GAN: the method is in the notebook, all of it. What each room
behind these doors holds is said in machinery/__init__.py.
"""
# The parameters, and where it all runs
from machinery.console import call, check_choice, check_whole
from machinery.devices import (
    choose_device,
    device_name,
    has_bfloat16,
    set_seed,
    to_device,
    versions,
)
from machinery.parameters import PARAMETERS, PLAIN, config_of, configure

# The data
from machinery.batches import DeviceLoader, ImageDataset
from machinery.drawn import drawn_faces
from machinery.images import decode_folder
from machinery.sources import (
    FACES_COUNT,
    balancing_sampler,
    load_attributes,
    load_dataset,
    load_people,
    read_attributes,
)

# Training
from machinery.fast_step import capture
from machinery.files import SAMPLES, load_samples
from machinery.lesson import (
    call_loader,
    call_train,
    dataset_of,
    face,
    keep_run,
    load_definitions,
)
from machinery.run import (
    CHECKPOINTS,
    N_JUDGED,
    Run,
    choose_run_folder,
    load_checkpoint,
    load_history,
)

# Trained networks
from machinery.pretrained import (
    choose_start,
    load_pair,
    rebuild,
    show_pretrained,
    start_from,
)

# How good they are, and what they have learnt
from machinery.latent import find_directions, invert, memorisation, move
from machinery.metric import (
    ENCODER,
    FaceDistance,
    FaceEncoder,
    attribute_shares,
    nearest_faces,
    quality,
    seen_attributes,
)

# Pictures
from machinery.explorer import show_page
from machinery.pictures import (
    film,
    layer_table,
    plot_attributes,
    plot_distance,
    plot_losses,
    plot_recovery,
    show_beside,
    show_epochs,
    show_grid,
    show_rows,
)
