"""The rooms behind helpers.py: one file for each thing that a user would name.

A room imports only from rooms below it, and none calls the notebook. The *contract* of which some
speak is what notebooks that people already have rely on: the names and shapes of the well-known
face-generation exercise, and its train_samples.pkl.

grades        points for a notebook of any name, part by part
lesson        the notebook's definitions as a module; loops from elsewhere; single faces
checks        what the tests of the notebook's parts are made with
parameters    every parameter once, and the presets
run           a training run: it counts, prints, saves, and goes on where it stopped
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
drawn         faces drawn by code
devices       the device, its arithmetic, random numbers, and the processes of torchrun
files         written whole or not at all, and read safely; the pickle of grids
console       settings from outside, arguments checked or left out, and the progress bar

To add       go to
a loss       the notebook's OBJECTIVES, from the logits; its formula into test_objectives (the
             table is code: earlier runs count as others)
a data set   DATA_SETS in sources.py, which names its kind; its licence into DATA in
             experiments/export.py
a parameter  parameters.py, the notebook's parameters cell, and where it is used; PLAIN if train
             reads it
a file       of a run: Run._save before latest.pt, and the list at the top of run.py
a plot       pictures.py, and a door in helpers.py

After an edit the notebook is run again on real faces, in its place:
jupyter nbconvert --execute --inplace dcgan_faces.ipynb
"""
