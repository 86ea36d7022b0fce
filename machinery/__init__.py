"""The rooms behind helpers.py. A room imports only from rooms below it. None calls the notebook.

adopted       a training loop from elsewhere, called with what it takes and kept as a run
parameters    what the parameters say, held against what was made with them
run           a training run: it counts, prints and saves, and goes on where it stopped
checkpoints   the progress of a run on disk: written, read, resumed, set aside
epochs        what each epoch of a run leaves: a file of its own, and a grid in the pickle
lock          one run owns its folder while it lives
report        what a run says of an epoch
failures      what can go wrong in training: told apart, and answered
live_view     a picture of the training under its cell, renewed in place
fast_step     the training step made fast: bfloat16, a CUDA graph, several processes
replay        a step recorded once, replayed, and checked at its first replay
sources       which images to train on: a folder, a zip archive, CelebA, SVHN or drawn faces
attributes    CelebA's list of attributes, and a sampler that balances them
batches       the data set, and its batches made on the device
explorer      a generator in one page, for a browser and for the notebook
memorisation  has a generator learnt its training faces by heart
inversion     from a picture to the noise of its nearest generated face
directions    directions in noise space that change one thing in a face
metric        how far generated faces are from real ones
encoder       the face encoder that the distance looks through
pretrained    networks that come with the project, or are handed on in a folder
identity      is it the same run: its parameters, images, code and parts
pictures      grids of faces, films, curves, bars
download      fetch and unpack an archive
images        files to one tensor of bytes, decoded once and cached
samples       the pickle of grids, read without running anything in it
lesson        the notebook's definitions as a module, for tests and experiments
drawn         faces drawn by code
seeds         all generators of random numbers: seeded, kept, put back
devices       the device, its arithmetic, and the processes of torchrun
files         written whole or not at all, and read safely
pickles       read without running anything in them
calls         functions from elsewhere, called with as much as they take
console       checks of arguments, and the progress bar
"""
ROOMS = ('adopted', 'parameters', 'run', 'checkpoints', 'epochs', 'lock', 'report', 'failures',
         'live_view', 'fast_step', 'replay', 'sources', 'attributes', 'batches', 'explorer',
         'memorisation', 'inversion', 'directions', 'metric', 'encoder', 'pretrained', 'identity',
         'pictures', 'download', 'images', 'samples', 'lesson', 'drawn', 'seeds', 'devices',
         'files', 'pickles', 'calls', 'console')
