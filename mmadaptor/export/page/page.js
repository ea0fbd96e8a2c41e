// SPDX-License-Identifier: Apache-2.0
// What the page shows and how it is used.

import { ARROWS, Sentence, keptAt, load, onPicture, placesOf, read, run, tokenAt } from './model.js';

const COLORS = ['#e69f00', '#56b4e9', '#009e73', '#cc79a7']; // of Okabe and Ito, a direction each
const MAGMA = [[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]];
const ALL = -1;

const $ = (id) => document.getElementById(id);
const view = $('view');
const state = { k: ALL, group: ALL, shown: ALL, layer: 0, pixel: [0, 0], pinned: false };
globalThis.page = state; // for the console, and for tests

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function say(text, isError = false) {
  $('status').textContent = text;
  $('status').classList.toggle('error', isError);
}

/** Show an error as a sentence; what is no sentence goes to the console too. */
function fail(error) {
  if (!(error instanceof Sentence)) console.error(error);
  say(error instanceof Sentence ? error.message : `Something failed: ${error.message}`, true);
}

// ---- pictures

let tickets = 0;

/** Read a picture and run the model on it. The latest one wins. */
async function open(file) {
  const ticket = ++tickets;
  try {
    say('Running…');
    const picture = await read(state.model.about, file);
    const found = await run(state.model, picture.canvas);
    if (ticket !== tickets) return;
    Object.assign(state, picture, found, { pinned: false });
    state.pixel = aPixel();
    view.width = view.height = 0; // measured again
    const { width, height } = picture.canvas;
    view.style.aspectRatio = `${width} / ${height}`;
    view.style.maxWidth = `${(75 * width) / height}vh`;
    say(told(picture, found.seconds));
    showLegend();
    fillLayers();
    measure();
    showPixel();
  } catch (error) {
    if (ticket === tickets) fail(error);
  }
}

async function example(path) {
  const response = await fetch(path).catch(() => null);
  if (!response?.ok) return fail(new Sentence(`${path} is missing beside this page.`));
  const file = new File([await response.blob()], path.split('/').pop());
  return open(file);
}

function told({ canvas, name, from }, seconds) {
  const size = `${canvas.width} × ${canvas.height}`;
  const before = from.join(' × ');
  const resized = size === before ? `${size} pixels` : `resized from ${before} to ${size} pixels`;
  return `${name}: ${resized}, normalized, and segmented in ${seconds.toFixed(2)} s.`;
}

/** A pixel to begin with: the middle one of those that are not of the commonest class. */
function aPixel() {
  const common = shares().indexOf(Math.max(...shares()));
  const others = [];
  state.classes.forEach((value, i) => { if (value !== common) others.push(i); });
  const i = others.length ? others[others.length >> 1] : state.classes.length >> 1;
  const { width } = state.canvas;
  return [Math.floor(i / width), i % width];
}

// ---- classes

function shares() {
  const counts = new Array(state.model.about.classes.length).fill(0);
  for (const value of state.classes) counts[value]++;
  return counts.map((count) => count / state.classes.length);
}

function colorOf(i) {
  return state.model.about.palette?.[i] ?? hue(i * 137.5); // the golden angle
}

/** Black is the palettes' color of what is no object; it would hide the picture. */
const isBlack = (i) => colorOf(i).every((channel) => channel === 0);

function hue(degrees) {
  const channel = (n) => {
    const k = (n + degrees / 30) % 12;
    return Math.round(255 * (0.55 - 0.35 * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return [channel(0), channel(8), channel(4)];
}

function showLegend() {
  const percent = (share) => (share < 0.001 ? '< 0.1 %' : `${(100 * share).toFixed(1)} %`);
  const entries = shares().map((share, i) => ({ share, i })).filter(({ share }) => share > 0);
  state.shown = ALL;
  $('legend').replaceChildren(...entries.sort((a, b) => b.share - a.share).map(({ share, i }) => {
    const swatch = make('i');
    swatch.style.background = `rgb(${colorOf(i)})`;
    const button = make('button', { type: 'button', ariaPressed: 'false', title: 'Show this class alone' },
      swatch, make('span', { textContent: state.model.about.classes[i] }),
      make('b', { textContent: percent(share) }));
    button.addEventListener('click', () => {
      state.shown = state.shown === i ? ALL : i;
      for (const other of $('legend').querySelectorAll('button')) other.ariaPressed = `${other === button && state.shown === i}`;
      colorClasses();
      draw();
    });
    return make('li', {}, button);
  }));
  colorClasses();
}

/** Paint the classes once: full at their borders, and inside as the slider says. */
function colorClasses() {
  const { width, height } = state.canvas;
  const { classes, shown } = state;
  const inside = 2.55 * $('opacity').value;
  const image = new ImageData(width, height);
  for (let i = 0; i < classes.length; i++) {
    const value = classes[i];
    if (shown === ALL ? isBlack(value) : shown !== value) continue;
    const border = (i % width && classes[i - 1] !== value) || (i >= width && classes[i - width] !== value);
    image.data.set([...colorOf(value), border ? Math.max(inside, inside && 200) : inside], 4 * i);
  }
  state.overlay = make('canvas', { width, height });
  state.overlay.getContext('2d').putImageData(image, 0, 0);
}

// ---- controls

function fillLayers() {
  const { layers } = state;
  const area = ({ height, width }) => height * width;
  const options = layers.map(({ layer, height, width }) => `${layer} · ${height} × ${width}`);
  const select = $('layer');
  const isNew = !select.options.length;
  select.replaceChildren(...options.map((text, value) => new Option(text, value)));
  if (isNew) state.layer = layers.findLastIndex((layer) => area(layer) === Math.max(...layers.map(area)));
  select.value = state.layer;
  fillChoices();
}

function fillChoices() {
  const { directions, groups } = state.layers[state.layer];
  choices('directions', 'k', directions.map((name, k) => [`${ARROWS[name]}`, name, COLORS[k]]));
  choices('groups', 'group', Array.from({ length: groups }, (_, s) => [`${s + 1}`, `group ${s + 1}`]));
}

/** Fill a fieldset with a radio button for all, and one for each entry. */
function choices(id, key, entries) {
  if (state[key] >= entries.length) state[key] = ALL;
  const radio = ([text, name, color], value) => {
    const input = make('input', { type: 'radio', name: id, checked: state[key] === value, ariaLabel: name });
    input.addEventListener('change', () => { state[key] = value; showPixel(); });
    const label = make('label', { title: name }, input, make('span', { textContent: text }));
    if (color) label.style.setProperty('--mark', color);
    return label;
  };
  $(id).replaceChildren($(id).querySelector('legend'), radio(['All', 'all'], ALL), ...entries.map(radio));
}

// ---- the pixel

const chosen = (places) => places.filter(({ k, group }) =>
  (state.k === ALL || state.k === k) && (state.group === ALL || state.group === group));

/** Compute and show all of the pixel; `aloud` tells it to a screen reader too. */
function showPixel(aloud = false) {
  if (!state.layers) return;
  const layer = state.layers[state.layer];
  const token = tokenAt(layer, state.pixel);
  const kept = layer.directions.map((_, k) => keptAt(layer, k, token));
  const places = chosen(placesOf(layer, token)).sort((a, b) => b.weight - a.weight);
  for (const place of places) place.kept = shareAt(layer, kept[place.k], place);
  Object.assign(state, { token, kept, places });
  const text = describe(layer);
  $('said').textContent = text;
  if (aloud) $('spoken').textContent = text;
  $('places').replaceChildren(...places.map((place) => rowOf(layer, place)));
  draw();
}

/** What is kept of the token next to a place; null where only zeros are read. */
function shareAt({ height, width }, kept, { row, column }) {
  if (row <= -1 || column <= -1 || row >= height || column >= width) return null;
  const nearest = (x, size) => Math.min(size - 1, Math.max(0, Math.round(x)));
  return kept[nearest(row, height) * width + nearest(column, width)];
}

function describe(layer) {
  const [row, column] = state.pixel;
  const { classes, canvas, model, places } = state;
  const name = model.about.classes[classes[row * canvas.width + column]];
  const outside = places.filter((place) => place.kept === null).length;
  const [best] = places;
  const [r, c] = [best.row, best.column].map((x) => onPicture(layer, x).toFixed(1));
  const where = best.kept === null ? 'outside of the picture' : `at row ${r}, column ${c}`;
  return `Row ${row}, column ${column}: ${name}. In ${layer.layer}, it looks most ${where}, `
    + `with weight ${best.weight.toFixed(2)} (${layer.directions[best.k]}, group ${best.group + 1}).`
    + (outside ? ` ${outside} of ${places.length} places are outside of the picture, where it reads zeros.` : '');
}

function rowOf(layer, { k, group, row, column, weight, kept: share }) {
  const title = `${layer.directions[k]}, group ${group + 1}`;
  const mark = make('i', { textContent: `${ARROWS[layer.directions[k]]} ${group + 1}`, title });
  mark.style.setProperty('--mark', COLORS[k]);
  const told = share === null ? 'outside' : share === 0 ? '—' : share < 0.01 ? '< 1 %' : `${(100 * share).toFixed(0)} %`;
  const cells = [onPicture(layer, row).toFixed(1), onPicture(layer, column).toFixed(1), weight.toFixed(3), told];
  return make('tr', {}, make('td', {}, mark), ...cells.map((textContent) => make('td', { textContent })));
}

// ---- drawing

function measure() {
  const width = Math.round(view.clientWidth * devicePixelRatio);
  const height = Math.round(view.clientHeight * devicePixelRatio);
  if (!state.canvas || (view.width === width && view.height === height)) return;
  Object.assign(view, { width, height });
  draw();
}

function draw() {
  if (!state.places || !view.width) return;
  const context = view.getContext('2d');
  const layer = state.layers[state.layer];
  const scale = view.width / state.canvas.width;
  context.imageSmoothingEnabled = false;
  context.drawImage(state.canvas, 0, 0, view.width, view.height);
  if ($('heat').checked) drawHeat(context, layer, scale);
  else context.drawImage(state.overlay, 0, 0, view.width, view.height);
  drawPlaces(context, layer, scale);
}

/** What is kept, at most over the chosen directions, over the picture. */
function drawHeat(context, layer, scale) {
  const maps = state.kept.filter((_, k) => state.k === ALL || state.k === k);
  const [width, height] = [layer.width + 1, layer.height + 1]; // the edges reach on
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    const row = Math.min(Math.floor(i / width), layer.height - 1);
    const token = row * layer.width + Math.min(i % width, layer.width - 1);
    const x = Math.min(1, Math.max(...maps.map((map) => map[token]))) * (MAGMA.length - 1);
    const low = Math.min(Math.floor(x), MAGMA.length - 2);
    const color = MAGMA[low].map((value, c) => value + (x - low) * (MAGMA[low + 1][c] - value));
    image.data.set([...color, 200], 4 * i);
  }
  const map = make('canvas', { width, height });
  map.getContext('2d').putImageData(image, 0, 0);
  const corner = (layer.first + 0.5 - layer.stride / 2) * scale;
  const side = layer.stride * scale;
  context.drawImage(map, corner, corner, width * side, height * side);
}

function drawPlaces(context, layer, scale) {
  const unit = view.width / view.clientWidth; // a pixel of CSS
  const at = (x) => (onPicture(layer, x) + 0.5) * scale;
  const [y, x] = state.token.map(at);
  const largest = Math.min(15 * unit, view.width / 36); // of weight 1
  const line = (width, color) => Object.assign(context, { lineWidth: width * unit, strokeStyle: color });
  for (const place of [...state.places].reverse()) { // the heaviest on top
    context.globalAlpha = 0.25 + 0.75 * place.weight;
    for (const [width, color] of [[4, '#000a'], [2, COLORS[place.k]]]) {
      line(width, color);
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(at(place.column), at(place.row));
      context.stroke();
    }
  }
  context.globalAlpha = 1;
  for (const place of [...state.places].reverse()) {
    context.beginPath();
    context.arc(at(place.column), at(place.row), largest * Math.sqrt(place.weight), 0, 2 * Math.PI);
    context.fillStyle = COLORS[place.k];
    context.fill();
    line(3, '#000');
    context.stroke();
    line(1.5, '#fff');
    context.stroke();
  }
  const side = layer.stride * scale;
  for (const [width, color] of [[4, '#000'], [2, '#fff']]) {
    line(width, color);
    context.strokeRect(x - side / 2, y - side / 2, side, side);
  }
}

// ---- pointing

function pixelOf(event) {
  const box = view.getBoundingClientRect();
  const { width, height } = state.canvas;
  return [
    Math.min(height - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * height))),
    Math.min(width - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * width))),
  ];
}

function moveTo(pixel, aloud) {
  if (`${pixel}` === `${state.pixel}` && !aloud) return;
  state.pixel = pixel;
  showPixel(aloud);
}

const KEYS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

function onKey(event) {
  if (event.key === 'Escape') state.pinned = false;
  const move = KEYS[event.key];
  if (!move || !state.layers) return;
  event.preventDefault();
  state.pinned = true;
  const length = event.shiftKey ? state.layers[state.layer].stride : 1;
  const { width, height } = state.canvas;
  const clamp = (x, size) => Math.min(size - 1, Math.max(0, x));
  const [row, column] = state.pixel;
  moveTo([clamp(row + length * move[0], height), clamp(column + length * move[1], width)], true);
}

function listen() {
  view.addEventListener('keydown', onKey);
  view.addEventListener('pointermove', (event) => {
    if (state.layers && !state.pinned) moveTo(pixelOf(event));
  });
  view.addEventListener('click', (event) => {
    if (!state.layers) return;
    const pixel = pixelOf(event);
    state.pinned = !(state.pinned && `${pixel}` === `${state.pixel}`);
    moveTo(pixel, true);
  });
  $('opacity').addEventListener('input', () => { if (state.classes) { colorClasses(); draw(); } });
  $('heat').addEventListener('change', () => { $('scale').hidden = !$('heat').checked; draw(); });
  $('layer').addEventListener('change', () => {
    state.layer = Number($('layer').value);
    fillChoices();
    showPixel(true);
  });
  $('file').addEventListener('change', () => { if ($('file').files[0]) open($('file').files[0]); });
  addEventListener('dragover', (event) => event.preventDefault());
  addEventListener('drop', (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0] && state.model) open(event.dataTransfer.files[0]);
  });
  new ResizeObserver(measure).observe(view);
}

async function start() {
  $('file').disabled = true;
  listen();
  try {
    say('Loading the runtime and the model…');
    state.model = await load();
  } catch (error) {
    return fail(error);
  }
  $('file').disabled = false;
  const { pictures } = state.model.about;
  $('examples').append(...pictures.map((path, i) => {
    const button = make('button', { type: 'button', ariaLabel: `Example ${i + 1}` }, make('img', { src: path, alt: '' }));
    button.addEventListener('click', () => example(path));
    return button;
  }));
  if (pictures.length) return example(pictures[0]);
  return say('Ready: choose a picture, or drop one.');
}

start();
