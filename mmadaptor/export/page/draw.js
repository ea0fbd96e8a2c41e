// SPDX-License-Identifier: Apache-2.0
// What is drawn of a pixel over the image.

import { onImage } from './model.js';

/** A color for each direction, of Okabe and Ito. */
export const COLORS = ['#e69f00', '#56b4e9', '#009e73', '#cc79a7'];
export const ALL = -1;
const MAGMA = [[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]];

/** Draw the image, its classes or what is kept, and the places of the pixel. */
export function drawAll(view, state, heat) {
  const context = view.getContext('2d');
  const layer = state.layers[state.layer];
  const scale = view.width / state.canvas.width;
  context.imageSmoothingEnabled = false;
  context.drawImage(state.canvas, 0, 0, view.width, view.height);
  if (heat) drawHeat(context, state, layer, scale);
  else context.drawImage(state.overlay, 0, 0, view.width, view.height);
  drawPlaces(context, state, layer, scale);
}

/** What is kept, at most over the chosen directions, over the image. */
function drawHeat(context, state, layer, scale) {
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
  const map = Object.assign(document.createElement('canvas'), { width, height });
  map.getContext('2d').putImageData(image, 0, 0);
  const corner = (layer.first + 0.5 - layer.stride / 2) * scale;
  const side = layer.stride * scale;
  context.drawImage(map, corner, corner, width * side, height * side);
}

function drawPlaces(context, state, layer, scale) {
  const view = context.canvas;
  const unit = view.width / view.clientWidth; // a pixel of CSS
  const at = (x) => (onImage(layer, x) + 0.5) * scale;
  const [y, x] = state.token.map(at);
  const largest = Math.min(15 * unit, view.width / 36); // of weight 1
  const line = (width, strokeStyle) =>
    Object.assign(context, { lineWidth: width * unit, strokeStyle });
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
