// PNG of 16 bits, of which a browser would keep eight: decoded here, and scaled as `images.to_grey` does.
import { ends, luma, refuse, whiteOf } from "./refuse.js";

const CHANNELS = { 0: 1, 2: 3, 4: 2, 6: 4 }; // of a PNG's colour types that may have 16 bits

// The parts of a PNG: { head, data, exif }, each as bytes; data is compressed.
function chunksOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found = { IDAT: [], tEXt: [] };
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    const name = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const content = bytes.subarray(at + 8, at + 8 + length);
    if (name === "IDAT" || name === "tEXt") found[name].push(content);
    else if (!(name in found)) found[name] = content;
    at += length + 12;
  }
  return found;
}

// Was a PNG written by this project? As `headers.png_mark`.
export const isOwn = (bytes) =>
  chunksOf(bytes).tEXt.some((text) => new TextDecoder("latin1").decode(text) === "Software\0mura_nb");

export function pngSize(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return { width: view.getUint32(16), height: view.getUint32(20) };
}

// Does a PNG hold 16 bits a channel?
export const isDeep = (bytes) => bytes[24] === 16 && bytes[25] in CHANNELS;

async function inflated(parts, length) {
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  const data = new Uint8Array(length);
  let at = 0;
  const reader = stream.getReader();
  try {
    for (let part = await reader.read(); !part.done && at < length; part = await reader.read()) {
      data.set(part.value.subarray(0, length - at), at);
      at += part.value.length;
    }
  } catch {
    refuse("The file is damaged: its pixels cannot be unpacked.");
  }
  if (at < length) refuse("The file is damaged: pixels are missing.");
  return data;
}

function paeth(a, b, c) {
  const [da, db, dc] = [Math.abs(b - c), Math.abs(a - c), Math.abs(a + b - 2 * c)];
  if (da <= db && da <= dc) return a;
  return db <= dc ? b : c;
}

// Undo the filter of each row, in place (PNG, 9.2); step: bytes a pixel.
function unfilter(data, rows, width, step) {
  for (let y = 0; y < rows; y++) {
    const start = y * (width + 1) + 1;
    const kind = data[start - 1];
    for (let x = 0; x < width; x++) {
      const a = x >= step ? data[start + x - step] : 0;
      const b = y ? data[start + x - width - 1] : 0;
      const c = y && x >= step ? data[start + x - width - 1 - step] : 0;
      const guess = [0, a, b, (a + b) >> 1, paeth(a, b, c)][kind];
      if (guess === undefined) refuse("The file is damaged: a row of pixels makes no sense.");
      data[start + x] = (data[start + x] + guess) & 255;
    }
  }
}

// Passes of an interlaced PNG: first column and row, and steps (PNG, 8.2); one pass where it is not.
const WHOLE = [[0, 0, 1, 1]];
const ADAM7 = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
];

// All values of a PNG of 16 bits, channel beside channel.
async function valuesOf(parts, { width, height, channels, interlaced }) {
  const passes = (interlaced ? ADAM7 : WHOLE)
    .map(([x0, y0, dx, dy]) => ({ x0, y0, dx, dy, w: Math.ceil((width - x0) / dx), h: Math.ceil((height - y0) / dy) }))
    .filter(({ w, h }) => w > 0 && h > 0);
  const step = 2 * channels;
  const data = await inflated(
    parts,
    passes.reduce((sum, { w, h }) => sum + h * (w * step + 1), 0),
  );
  const values = new Uint16Array(width * height * channels);
  let at = 0;
  for (const { x0, y0, dx, dy, w, h } of passes) {
    const rows = data.subarray(at, at + h * (w * step + 1));
    unfilter(rows, h, w * step, step);
    for (let y = 0; y < h; y++) {
      for (let x = 0; x < w; x++) {
        for (let k = 0; k < channels; k++) {
          const from = y * (w * step + 1) + 1 + x * step + 2 * k;
          values[((y0 + y * dy) * width + x0 + x * dx) * channels + k] = 256 * rows[from] + rows[from + 1];
        }
      }
    }
    at += rows.length;
  }
  return values;
}

const scaled = (value, white) => Math.floor((value * 255 + (white >> 1)) / white);

// 8-bit greys of 16-bit values. In colour, where all 16 bits are used, the upper eight count, as in the package.
function greysOf(values, channels) {
  if (channels === 1) {
    const white = whiteOf(ends(values)[1]);
    return Uint8Array.from(values, (v) => scaled(v, white));
  }
  const colours = channels > 2 ? 3 : 1;
  const of = (wanted) => ends(values.filter((_, i) => i % channels < colours === wanted))[1];
  const white = whiteOf(of(true));
  const opaque = channels === colours ? 65535 : whiteOf(of(false));
  const whole = white === 65535; // a value that uses 16 bits has its upper byte
  const byte = (v, top) => (whole ? v >> 8 : scaled(v, top));
  const rgba = new Uint8Array((values.length / channels) * 4);
  for (let i = 0; i < rgba.length / 4; i++) {
    const alpha = channels === colours ? 255 : byte(values[i * channels + colours], opaque);
    for (let k = 0; k < 3; k++) {
      const value = byte(values[i * channels + (colours === 3 ? k : 0)], white);
      rgba[4 * i + k] = Math.round((value * alpha) / 255);
    }
  }
  return luma(rgba);
}

// Black where a pixel is of the colour that the file calls transparent (tRNS, in grey and RGB), in place.
function blackenClear(values, channels, tRNS) {
  if (!tRNS || tRNS.length !== 2 * channels) return;
  const clear = Array.from({ length: channels }, (_, k) => 256 * tRNS[2 * k] + tRNS[2 * k + 1]);
  for (let i = 0; i < values.length; i += channels) {
    if (clear.every((v, k) => values[i + k] === v)) values.fill(0, i, i + channels);
  }
}

// EXIF's orientation (tag 274), 1 to 8; 1 where there is none.
function orientationOf(exif) {
  if (!exif || exif.length < 14) return 1;
  const view = new DataView(exif.buffer, exif.byteOffset, exif.byteLength);
  const little = exif[0] === 0x49;
  const first = view.getUint32(4, little);
  for (let i = 0, at = first + 2; at + 12 <= exif.length && i < view.getUint16(first, little); i++, at += 12) {
    if (view.getUint16(at, little) === 274) return view.getUint16(at + 8, little);
  }
  return 1;
}

// A picture as EXIF says that it is to be shown: 2 to 4 mirror or turn it, 5 to 8 exchange its sides too.
function turned({ data, width, height }, orientation) {
  if (!(orientation >= 2 && orientation <= 8)) return { data, width, height };
  const swapped = orientation >= 5;
  const [w, h] = swapped ? [height, width] : [width, height];
  const [right, down] = [[2, 3, 7, 8].includes(orientation), [3, 4, 6, 7].includes(orientation)];
  const out = new Uint8Array(data.length);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      const [u, v] = swapped ? [y, x] : [x, y];
      out[y * w + x] = data[(down ? height - 1 - v : v) * width + (right ? width - 1 - u : u)];
    }
  }
  return { data: out, width: w, height: h };
}

export async function decodeDeepPng(bytes) {
  const chunks = chunksOf(bytes);
  const { width, height } = pngSize(bytes);
  const channels = CHANNELS[bytes[25]];
  const values = await valuesOf(chunks.IDAT, { width, height, channels, interlaced: bytes[28] === 1 });
  if (channels % 2) blackenClear(values, channels, chunks.tRNS);
  return turned({ data: greysOf(values, channels), width, height }, orientationOf(chunks.eXIf));
}
