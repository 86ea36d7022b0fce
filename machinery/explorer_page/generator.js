'use strict';
// From noise to a face: the generator of dcgan_faces.ipynb in eval mode, without PyTorch.
//
// A feature map is one Float32Array, pixel after pixel, and within a pixel channel after channel.
// Batch normalisation has been folded into the weights and biases before they came here.

const KERNEL = 4;                   // of every transposed convolution; stride 2, padding 1
const TAPS = KERNEL * KERNEL;
const DIGITS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

// Read the weights: two digits of base 64 each, so 12 bits, in units of their output's scale.
// Their order is input, place (a pixel of the first map, or a tap of the kernel), output.
function readWeights(text, scales) {
  const valueOf = new Uint8Array(128);
  for (let i = 0; i < DIGITS.length; i++) valueOf[DIGITS.charCodeAt(i)] = i;
  const weights = new Float32Array(text.length / 2);
  for (let i = 0; i < weights.length; i++) {
    const high = valueOf[text.charCodeAt(2 * i)];
    const low = valueOf[text.charCodeAt(2 * i + 1)];
    weights[i] = (64 * high + low - 2048) * scales[i % scales.length];
  }
  return weights;
}

// Make a generator of the page's data: the same object, with numbers instead of texts.
function readGenerator(data) {
  const layers = data.layers.map((layer) => ({
    ...layer,
    weights: readWeights(layer.weights, layer.scales),
    biases: Float32Array.from(layer.biases),
  }));
  return { ...data, layers };
}

// Multiply n inputs, from x[start] on, by rows of weights, and put the sum of the rows into sums.
// Inputs that are 0, half of them after a ReLU, cost nothing; four rows at a time halve the traffic.
let used = new Int32Array(0);

function multiply(x, start, n, weights, sums) {
  const width = sums.length;
  if (used.length < n) used = new Int32Array(n);
  let nUsed = 0;
  for (let i = 0; i < n; i++) {
    if (x[start + i] !== 0) used[nUsed++] = i;
  }
  sums.fill(0);
  let k = 0;
  for (; k + 4 <= nUsed; k += 4) {
    const a = x[start + used[k]], rowA = used[k] * width;
    const b = x[start + used[k + 1]], rowB = used[k + 1] * width;
    const c = x[start + used[k + 2]], rowC = used[k + 2] * width;
    const d = x[start + used[k + 3]], rowD = used[k + 3] * width;
    for (let j = 0; j < width; j++) {
      sums[j] += a * weights[rowA + j] + b * weights[rowB + j]
        + c * weights[rowC + j] + d * weights[rowD + j];
    }
  }
  for (; k < nUsed; k++) {
    const a = x[start + used[k]], row = used[k] * width;
    for (let j = 0; j < width; j++) sums[j] += a * weights[row + j];
  }
}

function addBiases(map, biases) {
  const depth = biases.length;
  for (let i = 0; i < map.length; i += depth) {
    for (let channel = 0; channel < depth; channel++) map[i + channel] += biases[channel];
  }
}

function relu(map) {
  for (let i = 0; i < map.length; i++) {
    if (map[i] < 0) map[i] = 0;
  }
}

// The linear layer: noise to a map of 4x4 pixels.
function linear(z, layer) {
  const map = new Float32Array(4 * 4 * layer.out);
  multiply(z, 0, z.length, layer.weights, map);
  addBiases(map, layer.biases);
  return map;
}

// A transposed convolution doubles the sides. Each pixel (y, x) of the small map throws 4x4 pixels
// into the large one, from (2y - 1, 2x - 1) on; what falls outside is lost, and the rest adds up.
function transposedConvolution(map, side, layer) {
  const largeSide = 2 * side, depth = layer.out;
  const large = new Float32Array(largeSide * largeSide * depth);
  const thrown = new Float32Array(TAPS * depth);
  for (let pixel = 0; pixel < side * side; pixel++) {
    multiply(map, pixel * layer.in, layer.in, layer.weights, thrown);
    const top = 2 * Math.floor(pixel / side) - 1, left = 2 * (pixel % side) - 1;
    for (let tap = 0; tap < TAPS; tap++) {
      const y = top + Math.floor(tap / KERNEL), x = left + tap % KERNEL;
      if (y < 0 || y >= largeSide || x < 0 || x >= largeSide) continue;
      const to = (y * largeSide + x) * depth, from = tap * depth;
      for (let channel = 0; channel < depth; channel++) {
        large[to + channel] += thrown[from + channel];
      }
    }
  }
  addBiases(large, layer.biases);
  return large;
}

// Draw a face: z of z_size numbers to size x size pixels of red, green and blue in [-1, 1].
function drawFace(generator, z) {
  const [first, ...others] = generator.layers;
  let map = linear(z, first), side = 4;
  for (const layer of others) {
    relu(map);
    map = transposedConvolution(map, side, layer);
    side *= 2;
  }
  return map.map(Math.tanh);
}

// ---------------------------------------------------------------------------------------- noise

// Normal random numbers, by Box and Muller.
function randomNoise(size) {
  const z = new Float32Array(size);
  for (let i = 0; i < size; i++) {
    const radius = Math.sqrt(-2 * Math.log(1 - Math.random()));
    z[i] = radius * Math.cos(2 * Math.PI * Math.random());
  }
  return z;
}

function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

// The point at t in [0, 1] on the arc from start to end: the notebook's slerp.
function slerp(start, end, t) {
  const cosine = dot(start, end) / Math.sqrt(dot(start, start) * dot(end, end));
  const angle = Math.acos(Math.min(1, Math.max(-1, cosine)));
  const isArc = Math.sin(angle) >= 1e-4;           // not so where a length is 0
  if (!isArc) return start.map((value, i) => (1 - t) * value + t * end[i]);
  const fromStart = Math.sin((1 - t) * angle) / Math.sin(angle);
  const fromEnd = Math.sin(t * angle) / Math.sin(angle);
  return start.map((value, i) => fromStart * value + fromEnd * end[i]);
}

// Go from z along several directions at once, each by its amount, and back to the length of z:
// move() of machinery/latent.py.
function moveAlong(z, directions, amounts) {
  const moved = Float32Array.from(z);
  directions.forEach((direction, number) => {
    for (let i = 0; i < moved.length; i++) moved[i] += amounts[number] * direction.vector[i];
  });
  const ratio = Math.sqrt(dot(z, z) / Math.max(dot(moved, moved), 1e-24));     // z may be 0
  return moved.map((value) => value * ratio);
}
