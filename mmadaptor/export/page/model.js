// SPDX-License-Identifier: Apache-2.0
// The model: its files, its preprocessing, and what its outputs say of a pixel.

const SMALLEST = 33; // pixels, of a file whose metadata do not say it
const LARGEST = [1024, 1024]; // rows and columns, where the test has no size
const NEGLIGIBLE = 1e-6; // of a state; the scan back ends there
export const ARROWS = {
  rows: '→', columns: '↓', 'rows reversed': '←', 'columns reversed': '↑',
};

/** An error whose message is meant for the reader of the page. */
export class Sentence extends Error {}

export const missingFile = (name) =>
  new Sentence(`${name} is missing beside this page: make it again.`);

async function existing(name) {
  const response = await fetch(name, { method: 'HEAD' }).catch(() => null);
  if (!response?.ok) throw missingFile(name);
}

/** Load what describes the model, the runtime, and the model itself. */
export async function load() {
  const response = await fetch('page.json').catch(() => null);
  if (!response?.ok) throw missingFile('page.json');
  const about = await response.json();
  await Promise.all([...about.runtime, about.model].map(existing));
  const ort = await import(`./${about.runtime[0]}`);
  Object.assign(ort.env.wasm, { numThreads: 1, proxy: true });
  const session = await ort.InferenceSession.create(about.model).catch((error) => {
    throw new Sentence(`The model could not be loaded: ${error.message}`);
  });
  const needed = ['classes'];
  for (const { places, weights, decays } of about.memory) needed.push(places, weights, decays);
  const missing = needed.filter((name) => !session.outputNames.includes(name));
  if (missing.length) {
    throw new Sentence(
      `${about.model} has no output ${missing.join(', ')}: `
      + 'export it with --classes --with-memory.');
  }
  return { about, ort, session };
}

/** Width and height at which the model sees an image, as its test has them. */
export function seenSize(about, width, height) {
  const [rows, columns] = about.size ?? LARGEST;
  if (about.resize === 'stretch') return [columns, rows];
  let factor = Math.min(
    Math.max(rows, columns) / Math.max(width, height),
    Math.min(rows, columns) / Math.min(width, height));
  if (about.resize !== 'keep_ratio') factor = Math.min(1, factor); // only what is too large
  return [width, height].map((side) => Math.floor(side * factor + 0.5));
}

/** Resize an image as the test does, by OpenCV; a canvas would smooth it. */
function bilinear({ data, width: before, height: rows }, width, height) {
  const image = new ImageData(width, height);
  const between = (size, from) => Array.from({ length: size }, (_, i) => {
    const x = Math.min(Math.max(((i + 0.5) * from) / size - 0.5, 0), from - 1);
    return [Math.floor(x), Math.ceil(x), x % 1];
  });
  const columns = between(width, before);
  between(height, rows).forEach(([top, bottom, down], i) => {
    columns.forEach(([left, right, aside], j) => {
      for (let c = 0; c < 4; c++) {
        const at = (row, column) => data[4 * (row * before + column) + c];
        const upper = (1 - aside) * at(top, left) + aside * at(top, right);
        const lower = (1 - aside) * at(bottom, left) + aside * at(bottom, right);
        image.data[4 * (i * width + j) + c] = (1 - down) * upper + down * lower;
      }
    });
  });
  return image;
}

/** Read an image and resize it; a canvas of the pixels that the model sees. */
export async function read(about, file) {
  const name = file.name ?? 'The file';
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: 'none' }).catch(() => {
    throw new Sentence(`${name} is not an image that this browser can read.`);
  });
  const [width, height] = seenSize(about, bitmap.width, bitmap.height);
  const smallest = about.smallest ?? SMALLEST;
  if (Math.min(width, height) < smallest) {
    throw new Sentence(
      `${name} has ${bitmap.width} × ${bitmap.height} pixels, ${width} × ${height} for the `
      + `model, which needs ${smallest} or more on both sides.`);
  }
  const [across, down] = about.resize ? [bitmap.width, bitmap.height] : [width, height];
  const canvas = Object.assign(document.createElement('canvas'), { width: across, height: down });
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.fillStyle = 'white'; // behind what is transparent
  context.fillRect(0, 0, across, down);
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, 0, 0, across, down);
  if (about.resize) {
    const image = bilinear(context.getImageData(0, 0, across, down), width, height);
    Object.assign(canvas, { width, height });
    context.putImageData(image, 0, 0);
  }
  return { canvas, name, from: [bitmap.width, bitmap.height] };
}

/** Normalize pixels: `(1, 3, height, width)`. */
function normalized({ about, ort }, canvas) {
  const { width, height } = canvas;
  const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);
  const area = width * height;
  const values = new Float32Array(3 * area);
  for (let c = 0; c < 3; c++) {
    const from = about.channel_order === 'bgr' ? 2 - c : c;
    for (let i = 0; i < area; i++) {
      values[c * area + i] = (data[4 * i + from] - about.mean[c]) / about.std[c];
    }
  }
  return new ort.Tensor('float32', values, [1, 3, height, width]);
}

/** Run the model: the class of each pixel, and the memory of each layer. */
export async function run(model, canvas) {
  const start = performance.now();
  const outputs = await model.session.run({ images: normalized(model, canvas) });
  const layers = model.about.memory.map((layer) => {
    const [, height, width, , groups, points] = outputs[layer.places].dims;
    return {
      ...layer, height, width, groups, points,
      channels: outputs[layer.decays].dims[4],
      places: outputs[layer.places].data,
      weights: outputs[layer.weights].data,
      decays: outputs[layer.decays].data,
    };
  });
  const seconds = (performance.now() - start) / 1000;
  return { classes: Uint16Array.from(outputs.classes.data, Number), layers, seconds };
}

/** The token of a layer at a pixel of the image, [row, column]. */
export function tokenAt(layer, [row, column]) {
  const nearest = (x, size) =>
    Math.min(size - 1, Math.max(0, Math.round((x - layer.first) / layer.stride)));
  return [nearest(row, layer.height), nearest(column, layer.width)];
}

/** The row or column of the image of one of a layer's map. */
export const onImage = (layer, x) => x * layer.stride + layer.first;

/** The places of a token: direction, group, row and column on the map, and weight. */
export function placesOf(layer, [row, column]) {
  const found = [];
  const { directions, groups, points } = layer;
  let i = (row * layer.width + column) * directions.length * groups * points;
  for (let k = 0; k < directions.length; k++) {
    for (let group = 0; group < groups; group++) {
      for (let p = 0; p < points; p++, i++) {
        found.push({
          k, group, weight: layer.weights[i],
          row: layer.places[2 * i], column: layer.places[2 * i + 1],
        });
      }
    }
  }
  return found;
}

/**
 * What the plain scan of direction k has kept of each pixel of the map at a token: the
 * product of the decays in between, averaged over channels. 0 at pixels that come later.
 */
export function keptAt(layer, k, [row, column]) {
  const { height, width, channels, decays } = layer;
  const name = layer.directions[k];
  const alongRows = name.startsWith('rows');
  const back = name.endsWith('reversed');
  const last = height * width - 1;
  const kept = new Float32Array(last + 1);
  const sums = new Float64Array(channels);
  let step = alongRows ? row * width + column : column * height + row;
  for (step = back ? last - step : step; step >= 0; step--) {
    const place = back ? last - step : step;
    const pixel = alongRows ? place : (place % height) * width + Math.floor(place / height);
    const base = (pixel * layer.directions.length + k) * channels;
    let total = 0;
    for (let c = 0; c < channels; c++) {
      total += Math.exp(sums[c]);
      sums[c] += decays[base + c];
    }
    kept[pixel] = total / channels;
    if (kept[pixel] < NEGLIGIBLE) break;
  }
  return kept;
}
