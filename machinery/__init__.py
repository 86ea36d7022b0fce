"""The rooms behind helpers.py. A room imports only from rooms below it. None calls the notebook.

adopted       a training loop from elsewhere, called with what it takes and kept as a run
parameters    what the parameters say, held against what was made with them
run           a training run: it counts, prints and saves, and goes on where it stopped
checkpoints   the progress of a run on disk: written, read, resumed, set aside
epochs        what each epoch of a run leaves: a file of its own, and a grid in the pickle
lock          one run owns its folder while it lives
report        what a run says of an epoch
failures      what can go wrong in training: told apart, and answered
fast_step     the training step made fast: bfloat16, and a CUDA graph with its check
sources       which images to train on: a folder, a zip archive, CelebA, SVHN or drawn faces
batches       the data set, and its batches made on the device
explorer      a generator in one page, for a browser and for the notebook
latent        directions in the noise, the noise of a picture, faces learnt by heart
metric        the face encoder, and how far generated faces are from real ones
pretrained    networks that come with the project, or are handed on in a folder
identity      is it the same run: its parameters, images, code and parts
pictures      grids of faces, films, curves, bars, and the view of a training
images        files to one tensor of bytes, decoded once and cached
samples       the pickle of grids, read without running anything in it
drawn         faces drawn by code
devices       the device, its arithmetic, random numbers, and the processes of torchrun
files         written whole or not at all, and read safely
pickles       read without running anything in them
lesson        the notebook's definitions as a module; functions called as they like it
console       checks of arguments, and the progress bar
"""
ROOMS = ('adopted', 'parameters', 'run', 'checkpoints', 'epochs', 'lock', 'report', 'failures',
         'fast_step', 'sources', 'batches', 'explorer', 'latent', 'metric', 'pretrained',
         'identity', 'pictures', 'images', 'samples', 'drawn', 'devices', 'files', 'pickles',
         'lesson', 'console')
