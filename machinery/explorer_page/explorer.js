'use strict';
// The page: what is on it, and what happens when it is touched.
//
// A face is its noise. The one on the stage is `stage.noise`, moved along the directions by
// `stage.amounts`, one for each slider.

const WIDEST = 384;                 // of the big face, in pixels of the window
const ON_THE_WALL = 64;             // of the faces there; drawn twice as large, for sharp screens
const ON_THE_SHELF = 96;
const WALL_FACES = 36;
const MOST_KEPT = 24;
const WALK_SECONDS = 3;             // from one face to the next
const CHANGE_SECONDS = 0.35;        // to a face that was chosen

const element = (id) => document.getElementById(id);
const generator = readGenerator(JSON.parse(element('data').textContent));
const directions = generator.directions;
const still = matchMedia('(prefers-reduced-motion: reduce)');

const stage = {
  noise: randomNoise(generator.z_size),
  amounts: directions.map(() => 0),
  from: null, to: null,             // where a change of face comes from and goes to
  started: 0, seconds: 0,
  walking: false, smooth: true, waiting: false,
};
const kept = [];                    // {noise, item}: shown on the shelf
const pair = { left: null, right: null };

// -------------------------------------------------------------------------------------- pictures

// Put a face (size x size x 3 numbers in [-1, 1]) on a canvas, enlarged a whole number of times.
const small = document.createElement('canvas');
small.width = small.height = generator.img_size;

function paint(canvas, face, zoom) {
  const size = generator.img_size;
  const image = new ImageData(size, size);
  for (let pixel = 0; pixel < size * size; pixel++) {
    for (let colour = 0; colour < 3; colour++) {
      image.data[4 * pixel + colour] = Math.round((face[3 * pixel + colour] + 1) * 127.5);
    }
    image.data[4 * pixel + 3] = 255;
  }
  small.getContext('2d').putImageData(image, 0, 0);
  const side = Math.max(1, zoom) * size;
  if (canvas.width !== side) canvas.width = canvas.height = side;
  enlarge(small, canvas);
}

// Sharp in one go; smooth by doubling again and again, for one large step leaves stars.
function enlarge(picture, canvas) {
  const context = canvas.getContext('2d');
  context.imageSmoothingEnabled = stage.smooth;
  let current = picture;
  while (stage.smooth && current.width * 2 < canvas.width) {
    const next = document.createElement('canvas');
    next.width = next.height = current.width * 2;
    next.getContext('2d').drawImage(current, 0, 0, next.width, next.height);
    current = next;
  }
  context.drawImage(current, 0, 0, canvas.width, canvas.height);
}

// How many times a face of the generator fits into a width; the canvas is shown at that size.
function zoomFor(width) {
  return Math.max(1, Math.floor(width / generator.img_size));
}

function paintNoise(canvas, noise, zoom) {
  paint(canvas, drawFace(generator, noise), zoom);
}

// ------------------------------------------------------------------------------------- the stage

function shownNoise() {
  return moveAlong(stage.noise, directions, stage.amounts);
}

function showStage() {
  // Where the sliders are below the face, they need the other half of the window.
  const inOneColumn = getComputedStyle(element('face').parentElement).position === 'sticky';
  const highest = inOneColumn ? 0.45 * innerHeight : WIDEST;
  const available = Math.min(element('face').parentElement.clientWidth, highest, WIDEST);
  const started = performance.now();
  const face = drawFace(generator, shownNoise());
  const milliseconds = performance.now() - started;
  paint(element('face'), face, zoomFor(available));
  const size = generator.img_size;
  element('caption').textContent =
    `${size} × ${size} pixels, drawn in ${milliseconds.toFixed(0)} ms`;
}

// Draw the stage with the next picture of the window, however often it is asked for until then.
function redraw() {
  if (stage.waiting) return;
  stage.waiting = true;
  requestAnimationFrame((now) => {
    stage.waiting = false;
    if (stage.to) advance(now);
    showStage();
    if (stage.to) redraw();
  });
}

// Move a change of face on to this moment, and start the next one of a walk.
function advance(now) {
  const t = Math.min(1, Math.max(0, (now - stage.started) / (1000 * stage.seconds)));
  stage.noise = slerp(stage.from, stage.to, t);
  if (t < 1) return;
  stage.to = null;
  if (stage.walking) goTo(randomNoise(generator.z_size), WALK_SECONDS);
}

// Let the face on the stage become another one.
function goTo(noise, seconds) {
  Object.assign(stage, { from: stage.noise, to: noise, started: performance.now(), seconds });
  redraw();
}

function choose(noise) {
  stopWalking();
  moveSliders(() => 0);
  goTo(noise, still.matches ? 0.001 : CHANGE_SECONDS);
}

function another() {
  stopWalking();
  goTo(randomNoise(generator.z_size), still.matches ? 0.001 : CHANGE_SECONDS);
}

function walk() {
  if (stage.walking) return stopWalking();
  stage.walking = true;
  showWalking();
  goTo(randomNoise(generator.z_size), WALK_SECONDS);
}

function stopWalking() {
  if (!stage.walking) return;
  stage.walking = false;
  stage.to = null;
  showWalking();
}

function showWalking() {
  element('walk').textContent = stage.walking ? 'Stop' : 'Walk';
  element('walk').setAttribute('aria-pressed', stage.walking);
}

function say(text) {
  element('status').textContent = text;
}

// A change of face that is under way is finished first: what is kept is what was asked for.
function arrive() {
  stopWalking();
  if (stage.to) {
    stage.noise = stage.to;
    stage.to = null;
    showStage();
  }
  return shownNoise();
}

function save() {
  const face = drawFace(generator, arrive());
  const picture = document.createElement('canvas');
  paint(picture, face, zoomFor(512));
  picture.toBlob((blob) => {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(blob);
    link.download = 'generated-face.png';
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    say('Saved as generated-face.png.');
  });
}

// The noise as a list that Python reads. Four digits after the point change no pixel visibly.
function asPython(noise) {
  return `[${Array.from(noise, (value) => Number(value.toFixed(4))).join(', ')}]`;
}

async function copy() {
  const text = asPython(arrive());
  try {
    await navigator.clipboard.writeText(text);
    element('copy-by-hand').hidden = true;
    say(`Copied: ${generator.z_size} numbers. In Python, helpers.face([...]) draws this face.`);
  } catch {
    element('copy-by-hand').hidden = false;
    element('numbers').value = text;
    element('numbers').select();
  }
}

function openPaste() {
  const closed = element('paste-here').hidden;
  element('paste-here').hidden = !closed;
  element('paste').setAttribute('aria-expanded', closed);
  if (closed) element('pasted').focus();
}

// Show the face of the numbers in a text, with or without brackets and commas.
function paste(text) {
  const plain = text.replace(/\u2212/g, '-').replace(/\b(device|dtype|grad_fn)=.*/s, '');
  const found = plain.match(/[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?/gi) || [];
  const noise = Float32Array.from(found, Number);
  if (noise.length !== generator.z_size) {
    say(`Found ${noise.length} numbers; a face has ${generator.z_size}.`);
    return;
  }
  if (!noise.every(Number.isFinite)) {
    say('Some of these numbers are too large.');
    return;
  }
  choose(noise);
  say('This is the face of the numbers.');
}

function showSmooth(smooth) {
  stage.smooth = smooth;
  document.body.classList.toggle('sharp', !smooth);
  element('smooth').setAttribute('aria-pressed', smooth);
  element('pixels').setAttribute('aria-pressed', !smooth);
  showStage();
  showPair();
  showWall();
  kept.forEach((one) => paintNoise(one.canvas, one.noise, zoomFor(2 * ON_THE_SHELF)));
}

// --------------------------------------------------------------------------------------- sliders

function makeSliders() {
  directions.forEach((direction, number) => {
    const label = document.createElement('label');
    label.className = 'slider';
    const title = document.createElement('span');
    title.textContent = direction.title;
    const note = document.createElement('small');
    note.textContent = direction.note;
    title.append(note);
    const input = document.createElement('input');
    Object.assign(input, { type: 'range', min: -3, max: 3, step: 0.1, value: 0 });
    input.dataset.name = direction.name;
    input.setAttribute('aria-label', direction.title);
    input.addEventListener('input', () => moveSlider(number, input));
    input.addEventListener('dblclick', () => {
      input.value = 0;
      moveSlider(number, input);
    });
    label.append(title, input);
    const group = direction.seen ? 'seen' : 'measured';
    element(`${group}-sliders`).append(label);
    element(group).hidden = element('sliders').hidden = false;
  });
}

function moveSlider(number, input) {
  stage.amounts[number] = Number(input.value);
  input.parentElement.classList.toggle('moved', stage.amounts[number] !== 0);
  redraw();
}

// Set each slider to valueOf(its name).
function moveSliders(valueOf) {
  directions.forEach((direction, number) => {
    const input = document.querySelector(`input[data-name='${direction.name}']`);
    input.value = valueOf(direction.name);
    moveSlider(number, input);
  });
}

// -------------------------------------------------------------------------------------- the wall

const wall = [];                    // {noise, canvas}
let waitingOnWall = [];             // those that still have to be drawn

function makeWall() {
  for (let i = 0; i < WALL_FACES; i++) {
    const button = document.createElement('button');
    const canvas = document.createElement('canvas');
    const one = { noise: null, canvas };
    button.type = 'button';
    button.tabIndex = i ? -1 : 0;
    button.setAttribute('aria-label', `Face ${i + 1}`);
    button.append(canvas);
    button.addEventListener('click', () => choose(one.noise));
    element('wall').append(button);
    wall.push(one);
  }
  element('wall').addEventListener('keydown', moveOnWall);
  newWall();
}

function newWall() {
  wall.forEach((one) => { one.noise = randomNoise(generator.z_size); });
  showWall();
}

// Draw the wall a few faces at a time, so that the page stays quick to the touch.
function showWall() {
  const idle = waitingOnWall.length === 0;
  waitingOnWall = [...wall];
  if (idle) requestAnimationFrame(drawSome);
}

function drawSome() {
  const until = performance.now() + 12;
  while (waitingOnWall.length > 0 && performance.now() < until) {
    const one = waitingOnWall.shift();
    paintNoise(one.canvas, one.noise, zoomFor(2 * ON_THE_WALL));
  }
  if (waitingOnWall.length > 0) requestAnimationFrame(drawSome);
}

// One face of the wall is in the order of the Tab key; the arrow keys say which.
function moveOnWall(event) {
  const faces = [...element('wall').children].filter((face) => face.offsetParent);
  const nColumns = faces.filter((face) => face.offsetTop === faces[0].offsetTop).length;
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -nColumns, ArrowDown: nColumns };
  const from = faces.indexOf(document.activeElement);
  const to = faces[from + steps[event.key]];
  if (from < 0 || !to) return;
  event.preventDefault();
  faces[from].tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
}

// --------------------------------------------------------------------------------- what was kept

function keep() {
  if (kept.length === MOST_KEPT) {
    say(`${MOST_KEPT} faces are kept: remove one first.`);
    return;
  }
  putOnShelf(arrive());
  say(kept.length === 1 ? 'Kept, further down. Keep another one to compare them.' : 'Kept.');
}

function putOnShelf(noise) {
  const item = document.createElement('li');
  const canvas = document.createElement('canvas');
  const one = { noise, item, canvas };
  const face = document.createElement('button');
  face.type = 'button';
  face.className = 'face';
  face.setAttribute('aria-label', 'Show this kept face');
  face.append(canvas);
  face.addEventListener('click', () => choose(noise));
  const choice = document.createElement('span');
  choice.className = 'choice';
  choice.append(
    keptButton('left', () => putInPair('left', one)),
    keptButton('right', () => putInPair('right', one)),
    keptButton('×', () => remove(one), 'Remove this face'));
  item.append(face, choice);
  element('kept').append(item);
  paintNoise(canvas, noise, zoomFor(2 * ON_THE_SHELF));
  kept.push(one);
  if (!pair.left) pair.left = one;
  else if (!pair.right) pair.right = one;
  showPair();
}

function keptButton(text, act, label) {
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = text;
  if (label) button.setAttribute('aria-label', label);
  button.addEventListener('click', act);
  return button;
}

function putInPair(side, one) {
  pair[side] = one;
  showPair();
}

function remove(one) {
  kept.splice(kept.indexOf(one), 1);
  one.item.remove();
  for (const side of ['left', 'right']) {
    const other = side === 'left' ? pair.right : pair.left;
    if (pair[side] === one) pair[side] = kept.find((each) => each !== other) || null;
  }
  showPair();
}

function blendedNoise() {
  return slerp(pair.left.noise, pair.right.noise, Number(element('share').value));
}

function showPair() {
  element('nothing-kept').hidden = kept.length > 0;
  element('pair').hidden = !(pair.left && pair.right);
  for (const one of kept) {
    const [left, right] = one.item.querySelectorAll('.choice button');
    left.setAttribute('aria-pressed', pair.left === one);
    right.setAttribute('aria-pressed', pair.right === one);
  }
  if (element('pair').hidden) return;
  const width = Math.min(192, (element('pair').clientWidth - 24) / 3);
  for (const side of ['left', 'right']) {
    paintNoise(element(side), pair[side].noise, zoomFor(width));
  }
  paintNoise(element('blended'), blendedNoise(), zoomFor(width));
}

function showBlend() {
  paintNoise(element('blended'), blendedNoise(), element('left').width / generator.img_size);
}

// ---------------------------------------------------------------------------------------- begin

const KEYS = {
  n: another, w: walk, k: keep, s: save, c: copy, v: openPaste, 0: () => moveSliders(() => 0),
};

function onKey(event) {
  const typing = event.target.matches('textarea');
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const act = KEYS[event.key.toLowerCase()];
  if (!act) return;
  event.preventDefault();            // or the letter goes where the key has led
  act();
}

function begin() {
  makeSliders();
  showStage();
  makeWall();
  generator.kept.forEach((noise) => putOnShelf(Float32Array.from(noise)));
  const onClick = {
    another, walk, keep, save, copy, paste: openPaste, 'new-wall': newWall,
    reset: () => moveSliders(() => 0),
    smooth: () => showSmooth(true),
    pixels: () => showSmooth(false),
    'use-blend': () => choose(blendedNoise()),
  };
  for (const [id, act] of Object.entries(onClick)) element(id).addEventListener('click', act);
  element('pasted').addEventListener('input', (event) => paste(event.target.value));
  element('share').addEventListener('input', showBlend);
  document.addEventListener('keydown', onKey);
  addEventListener('resize', () => {
    redraw();
    showPair();
  });
}

begin();
