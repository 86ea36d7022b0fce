"""The rooms behind helpers.py. A room imports only from rooms below it; none knows the notebook.

run           a training run: it counts, prints and saves, and goes on where it stopped
checkpoints   the progress of a run on disk: written, read, resumed, set aside
report        what a run says of an epoch
failures      what can go wrong in training: told apart, and answered
fast_step     the training step made fast: bfloat16, a CUDA graph, several processes
replay        a step recorded once, replayed, and checked at its first replay
sources       which images to train on: a folder, a zip archive, CelebA, SVHN or drawn faces
attributes    CelebA's list of attributes, and a sampler that balances them
batches       the data set, and its batches made on the device
metric        how far generated faces are from real ones
encoder       the face encoder that the distance looks through
pretrained    the generators that come with the project
download      fetch and unpack an archive
images        files to one tensor of bytes, decoded once and cached
samples       the pickle of grids, read without running anything in it
lesson        the notebook's definitions as a module
drawn         faces drawn by code
devices       the device, its arithmetic, and the processes of torchrun
files         written whole or not at all, and read safely
console       checks of arguments, and the progress bar
"""
ROOMS = ('run', 'checkpoints', 'report', 'failures', 'fast_step', 'replay', 'sources',
         'attributes', 'batches', 'metric', 'encoder', 'pretrained', 'download', 'images',
         'samples', 'lesson', 'drawn', 'devices', 'files', 'console')
