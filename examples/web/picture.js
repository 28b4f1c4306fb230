// SPDX-License-Identifier: Apache-2.0
// From a picture to what the network takes, as the description of an exported file says.

/** Decode an image file. Rejects for anything that the browser does not read. */
export async function decode(file, taken) {
  // Not imageOrientation: "none", which Chromium takes for "from-image" where the picture comes from a file.
  const content = taken.apply_orientation ? file : withoutExif(new Uint8Array(await file.arrayBuffer()));
  return createImageBitmap(content, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
}

/** A JPEG without its EXIF data, which hold the camera orientation; other files as they are. */
function withoutExif(bytes) {
  const parts = [bytes.subarray(0, 2)];
  let at = 2;
  while (bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[at] === 0xff && bytes[at + 1] !== 0xda) {
    const end = at + 2 + bytes[at + 2] * 256 + bytes[at + 3];
    if (bytes[at + 1] !== 0xe1) parts.push(bytes.subarray(at, end));
    at = end;
  }
  return new Blob([...parts, bytes.subarray(at)]);
}

/** The pixels of a decoded picture or of a frame of a video: ImageData. */
export function readPixels(source, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  context.drawImage(source, 0, 0);
  return context.getImageData(0, 0, width, height);
}

/** Short side to what the description says, then the central square: Uint8Array of RGB levels, row by row. */
export function centralSquare({ data, width, height }, taken) {
  const size = taken.image_size;
  const [newWidth, newHeight] = [width, height].map((side) =>
    Math.floor((taken.resize.short_side * side) / Math.min(width, height)),
  );
  const columns = resizeWeights(width, newWidth, size);
  const rows = resizeWeights(height, newHeight, size);
  const [first, end] = [rows[0].start, rows.at(-1).start + rows.at(-1).weights.length];
  const narrow = new Uint8Array((end - first) * size * 3);
  for (let y = first, target = 0; y < end; y++) {
    for (const { start, weights } of columns) {
      for (let channel = 0; channel < 3; channel++, target++) {
        narrow[target] = weightedLevel(data, (y * width + start) * 4 + channel, 4, weights);
      }
    }
  }
  const square = new Uint8Array(size * size * 3);
  rows.forEach(({ start, weights }, y) => {
    for (let x = 0; x < size * 3; x++) {
      square[y * size * 3 + x] = weightedLevel(narrow, (start - first) * size * 3 + x, size * 3, weights);
    }
  });
  return square;
}

function weightedLevel(levels, start, step, weights) {
  let level = 0.5;
  for (let i = 0; i < weights.length; i++) level += weights[i] * levels[start + i * step];
  return Math.min(level, 255);
}

/**
 * For each pixel of the central part of a resized side, which pixels it is made of, and how much of each. Bilinear,
 * over a wider part where the picture is made smaller (antialiased), which drawImage does in another way.
 */
function resizeWeights(side, newSide, size) {
  const scale = side / newSide;
  const support = Math.max(scale, 1);
  const offset = roundHalfToEven((newSide - size) / 2);
  return Array.from({ length: size }, (_, index) => {
    const centre = (offset + index + 0.5) * scale;
    const start = Math.max(0, Math.floor(centre - support + 0.5));
    const end = Math.min(side, Math.floor(centre + support + 0.5));
    const shares = Array.from({ length: end - start }, (_, i) =>
      Math.max(0, 1 - Math.abs(start + i + 0.5 - centre) / support),
    );
    const sum = shares.reduce((a, b) => a + b);
    return { start, weights: Float64Array.from(shares, (share) => share / sum) };
  });
}

function roundHalfToEven(number) {
  const below = Math.floor(number);
  return number - below === 0.5 ? below + (below % 2) : Math.round(number);
}

/** Levels as the network takes them: its data, type and dimensions. */
export function toInput(levels, taken) {
  const size = taken.image_size;
  if (taken.type === "uint8") return ["uint8", levels, [1, size, size, 3]];
  const values = new Float32Array(levels.length); // one channel after the other
  const pixels = size * size;
  for (let channel = 0; channel < 3; channel++) {
    for (let i = 0; i < pixels; i++) {
      values[channel * pixels + i] = (levels[i * 3 + channel] / 255 - taken.mean[channel]) / taken.std[channel];
    }
  }
  return ["float32", values, [1, 3, size, size]];
}
