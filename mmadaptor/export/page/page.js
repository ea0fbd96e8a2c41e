// SPDX-License-Identifier: Apache-2.0
// What the page shows and how it is used.

import { ALL, COLORS, drawAll } from './draw.js';
import {
  ARROWS, Sentence, keptAt, load, missingFile, onImage, placesOf, read, run, tokenAt,
} from './model.js';

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

// ---- images

let tickets = 0;
let running; // the runtime runs one image at a time

/** Read a file or an example and run the model on it. What was asked for last wins. */
async function open(file) {
  const ticket = ++tickets;
  try {
    say('Running…');
    const content = file instanceof File ? file : await fetched(file);
    const image = await read(state.model.about, content);
    await running?.catch(() => {});
    if (ticket !== tickets) return;
    running = run(state.model, image.canvas);
    const found = await running;
    if (ticket === tickets) show(image, found);
  } catch (error) {
    if (ticket === tickets) fail(error);
  }
}

function show(image, found) {
  Object.assign(state, image, found, { pinned: false });
  state.pixel = aPixel();
  view.width = view.height = 0; // measured again
  const { width, height } = image.canvas;
  view.style.aspectRatio = `${width} / ${height}`;
  view.style.maxWidth = `${(75 * width) / height}vh`;
  say(told(image, found.seconds));
  showLegend();
  fillLayers();
  measure();
  showPixel();
}

async function fetched(path) {
  const response = await fetch(path).catch(() => null);
  if (!response?.ok) throw missingFile(path);
  return new File([await response.blob()], path.split('/').pop());
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

/** Black is the palettes' color of what is no object; it would hide the image. */
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
    const properties = { type: 'button', title: 'Show this class alone', ariaPressed: 'false' };
    const button = make('button', properties, swatch,
      make('span', { textContent: state.model.about.classes[i] }),
      make('b', { textContent: percent(share) }));
    button.addEventListener('click', () => {
      state.shown = state.shown === i ? ALL : i;
      for (const other of $('legend').querySelectorAll('button')) other.ariaPressed = 'false';
      button.ariaPressed = `${state.shown === i}`;
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
  const alpha = 2.55 * $('opacity').value;
  const image = new ImageData(width, height);
  for (let i = 0; i < classes.length; i++) {
    const value = classes[i];
    if (shown === ALL ? isBlack(value) : shown !== value) continue;
    const border = (i % width && classes[i - 1] !== value)
      || (i >= width && classes[i - width] !== value);
    image.data.set([...colorOf(value), border ? Math.max(alpha, alpha && 200) : alpha], 4 * i);
  }
  state.overlay = make('canvas', { width, height });
  state.overlay.getContext('2d').putImageData(image, 0, 0);
}

// ---- controls

function fillLayers() {
  const { layers } = state;
  const select = $('layer');
  if (!select.options.length) { // the last one of the largest map
    const areas = layers.map(({ height, width }) => height * width);
    state.layer = areas.lastIndexOf(Math.max(...areas));
  }
  select.replaceChildren(...layers.map(({ layer, height, width }, i) =>
    new Option(`${layer} · ${height} × ${width}`, i)));
  select.value = state.layer;
  fillChoices();
}

function fillChoices() {
  const { directions, groups } = state.layers[state.layer];
  choices('directions', 'k', directions.map((name, k) => [ARROWS[name], name, COLORS[k]]));
  const numbers = Array.from({ length: groups }, (_, i) => i + 1);
  choices('groups', 'group', numbers.map((number) => [number, `group ${number}`]));
}

/** Fill a fieldset with a radio button for all, and one for each entry. */
function choices(id, key, entries) {
  if (state[key] >= entries.length) state[key] = ALL;
  const radio = ([text, name, color], value) => {
    const checked = state[key] === value;
    const input = make('input', { type: 'radio', name: id, checked, ariaLabel: name });
    input.addEventListener('change', () => { state[key] = value; showPixel(); });
    const label = make('label', { title: name }, input, make('span', { textContent: text }));
    if (color) label.style.setProperty('--mark', color);
    return label;
  };
  const legend = $(id).querySelector('legend');
  $(id).replaceChildren(legend, radio(['All', 'all'], ALL), ...entries.map(radio));
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
  return kept[clamped(Math.round(row), height) * width + clamped(Math.round(column), width)];
}

function describe(layer) {
  const [row, column] = state.pixel;
  const { classes, canvas, model, places } = state;
  const name = model.about.classes[classes[row * canvas.width + column]];
  const outside = places.filter((place) => place.kept === null).length;
  const [best] = places;
  const [r, c] = [best.row, best.column].map((x) => onImage(layer, x).toFixed(1));
  const where = best.kept === null ? 'outside of the image' : `at row ${r}, column ${c}`;
  const scan = `${layer.directions[best.k]}, group ${best.group + 1}`;
  return `Row ${row}, column ${column}: ${name}. In ${layer.layer}, it looks most ${where}, `
    + `with weight ${best.weight.toFixed(2)} (${scan}).`
    + (outside ? ` ${outside} of ${places.length} places are outside of the image, where it`
      + ' reads zeros.' : '');
}

function rowOf(layer, { k, group, row, column, weight, kept: share }) {
  const title = `${layer.directions[k]}, group ${group + 1}`;
  const mark = make('i', { textContent: `${ARROWS[layer.directions[k]]} ${group + 1}`, title });
  mark.style.setProperty('--mark', COLORS[k]);
  const place = [row, column].map((x) => onImage(layer, x).toFixed(1));
  const cells = [...place, weight.toFixed(3), keptText(share)];
  return make('tr', {}, make('td', {}, mark),
    ...cells.map((textContent) => make('td', { textContent })));
}

function keptText(share) {
  if (share === null) return 'outside';
  if (share === 0) return '—';
  return share < 0.01 ? '< 1 %' : `${(100 * share).toFixed(0)} %`;
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
  if (state.places && view.width) drawAll(view, state, $('heat').checked);
}

// ---- pointing

const clamped = (x, size) => Math.min(size - 1, Math.max(0, x));

function pixelOf(event) {
  const box = view.getBoundingClientRect();
  const { width, height } = state.canvas;
  return [
    clamped(Math.floor(((event.clientY - box.top) / box.height) * height), height),
    clamped(Math.floor(((event.clientX - box.left) / box.width) * width), width),
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
  if (!move || !state.layers || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  state.pinned = true;
  const length = event.shiftKey ? state.layers[state.layer].stride : 1;
  const { width, height } = state.canvas;
  const [row, column] = state.pixel.map((x, i) => x + length * move[i]);
  moveTo([clamped(row, height), clamped(column, width)], true);
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
  $('file').addEventListener('change', () => {
    const [file] = $('file').files;
    if (file) open(file);
    $('file').value = ''; // so that the same file can be chosen again
  });
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
  const { images } = state.model.about;
  $('examples').append(...images.map((path, i) => {
    const image = make('img', { src: path, alt: `Example ${i + 1}` });
    const button = make('button', { type: 'button' }, image);
    button.addEventListener('click', () => open(path));
    return button;
  }));
  if (images.length) return open(images[0]);
  return say('Ready: choose an image, or drop one.');
}

start();
