// Why a picture is not read: words for whoever chose the file.

export class Unreadable extends Error {}

export const refuse = (words) => {
  throw new Unreadable(words);
};

export function checkSize(width, height, limits) {
  const size = `The picture has ${width} x ${height} pixels`;
  if (width * height > limits.megapixels * 1e6) refuse(`${size}; at most ${limits.megapixels} million are allowed.`);
  if (Math.min(width, height) < limits.side) refuse(`${size}, too few: at least ${limits.side} each way are needed.`);
}

// The largest value of 8, 10, 12, 14 or 16 bits, the fewest that hold `largest`, as `dicom_grey.white_of`.
export const whiteOf = (largest) => 2 ** ([8, 10, 12, 14].find((bits) => largest < 2 ** bits) ?? 16) - 1;

// The smallest and the largest of many values.
export function ends(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const v of values) {
    if (v < low) low = v;
    if (v > high) high = v;
  }
  return [low, high];
}

// ITU-R 601-2 luma in Pillow's whole numbers; the pixels lie on black.
export function luma(rgba) {
  const grey = new Uint8Array(rgba.length / 4);
  for (let i = 0; i < grey.length; i++) {
    grey[i] = (rgba[4 * i] * 19595 + rgba[4 * i + 1] * 38470 + rgba[4 * i + 2] * 7471 + 0x8000) >> 16;
  }
  return grey;
}
