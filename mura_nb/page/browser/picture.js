// From a file to a grey picture, 0 black and 255 white, as `images.decode_picture` reads it. Nothing leaves this page.

export class Unreadable extends Error {} // its message is written for whoever chose the file

const refuse = (words) => {
  throw new Unreadable(words);
};

const starts = (bytes, ...first) => first.every((value, i) => bytes[i] === value);
const isPng = (bytes) => starts(bytes, 0x89, 0x50, 0x4e, 0x47);
const isJpeg = (bytes) => starts(bytes, 0xff, 0xd8, 0xff);
const isDicom = (bytes) => bytes.length > 132 && String.fromCharCode(...bytes.subarray(128, 132)) === "DICM";

// Does a row of bytes stand in the last part of the file?
function endsWith(bytes, row, within) {
  for (let i = bytes.length - row.length; i >= Math.max(0, bytes.length - within); i--) {
    if (row.every((value, k) => bytes[i + k] === value)) return true;
  }
  return false;
}

// ITU-R 601-2 luma in Pillow's whole numbers; the pixels lie on black.
function luma(rgba) {
  const grey = new Uint8Array(rgba.length / 4);
  for (let i = 0; i < grey.length; i++) {
    grey[i] = (rgba[4 * i] * 19595 + rgba[4 * i + 1] * 38470 + rgba[4 * i + 2] * 7471 + 0x8000) >> 16;
  }
  return grey;
}

// PNG and JPEG: the browser decodes, turns by the EXIF tag, and keeps 8 of 16 bits. Colour profiles are left alone.
async function decodeImage(bytes, limits) {
  const png = isPng(bytes);
  const whole = png ? endsWith(bytes, [0x49, 0x45, 0x4e, 0x44], bytes.length) : endsWith(bytes, [0xff, 0xd9], 2 ** 16);
  if (!whole) refuse("The file is damaged: it has no end.");
  const blob = new Blob([bytes], { type: png ? "image/png" : "image/jpeg" });
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(blob, options).catch(() =>
    refuse("The file is damaged, or its picture is far too large."),
  );
  const { width, height } = bitmap;
  checkSize(width, height, limits);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.fillRect(0, 0, width, height); // black, below what is transparent
  pen.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { data: luma(pen.getImageData(0, 0, width, height).data), width, height };
}

function checkSize(width, height, limits) {
  const size = `The picture has ${width} x ${height} pixels`;
  if (width * height > limits.megapixels * 1e6) refuse(`${size}; at most ${limits.megapixels} million are allowed.`);
  if (Math.min(width, height) < limits.side) refuse(`${size}, too few: at least ${limits.side} each way are needed.`);
}

const SYNTAX = { "1.2.840.10008.1.2": "implicit", "1.2.840.10008.1.2.1": "explicit" };

// Tells a window function's share of white for a value (PS3.3, C.11.2.1); null where the file gives no window.
function windowOf(set) {
  const [centre, width] = [set.floatString("x00281050", 0), set.floatString("x00281051", 0)];
  const kind = set.string("x00281056") || "LINEAR";
  if (centre === undefined || width === undefined || Number.isNaN(centre + width)) return null;
  if (kind === "LINEAR") {
    if (width < 1) return null;
    return (v) => {
      if (v <= centre - 0.5 - (width - 1) / 2) return 0;
      if (v > centre - 0.5 + (width - 1) / 2) return 1;
      return (v - (centre - 0.5)) / (width - 1) + 0.5;
    };
  }
  if (width <= 0) return null;
  if (kind === "LINEAR_EXACT") return (v) => Math.min(Math.max((v - centre) / width + 0.5, 0), 1);
  if (kind === "SIGMOID") return (v) => 1 / (1 + Math.exp((-4 * (v - centre)) / width));
  return null;
}

// The stored values as numbers, and those of them that are not padding.
function storedValues(set, size) {
  const [bits, signed] = [set.uint16("x00280100"), set.uint16("x00280103") === 1];
  const { dataOffset, length } = set.elements.x7fe00010;
  const bytes = set.byteArray.slice(dataOffset, dataOffset + length);
  if (bits !== 8 && bits !== 16) refuse(`This DICOM file holds ${bits} bits a pixel; this page reads 8 or 16.`);
  if (bytes.length < (size * bits) / 8) refuse("The DICOM file is damaged: pixels are missing.");
  const Kind = bits === 8 ? (signed ? Int8Array : Uint8Array) : signed ? Int16Array : Uint16Array;
  const values = new Kind(bytes.buffer, 0, size);
  const padding = signed ? set.int16("x00280120") : set.uint16("x00280120");
  return { values, inside: padding === undefined ? values : values.filter((v) => v !== padding) };
}

// The smallest and the largest of many values.
function ends(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const v of values) {
    if (v < low) low = v;
    if (v > high) high = v;
  }
  return [low, high];
}

// The share of white for a value: by the file's window, by 8 bits, or between the smallest and the largest value.
function greyScale(set, { values, inside }) {
  const slope = set.floatString("x00281053");
  const shift = set.floatString("x00281052") ?? 0;
  const rescaled = slope === undefined ? (v) => v : (v) => v * slope + shift;
  const shown = windowOf(set);
  if (shown) return (v) => shown(rescaled(v));
  const unsigned = set.uint16("x00280103") !== 1;
  const bytes = unsigned && set.uint16("x00280101") === 8 && slope === undefined;
  const [a, b] = bytes ? [0, 255] : ends(inside.length ? inside : values).map(rescaled);
  const [black, white] = [Math.min(a, b), Math.max(a, b)];
  return (v) => (white > black ? Math.min(Math.max((rescaled(v) - black) / (white - black), 0), 1) : 0);
}

// What this page cannot read, in words.
function checkDicom(set) {
  const syntax = (set.string("x00020010") || "").trim();
  if (!set.elements.x7fe00010) refuse("This DICOM file holds no picture.");
  if (!(syntax in SYNTAX)) {
    refuse(
      `This DICOM file is compressed (transfer syntax ${syntax || "not given"}), which this page cannot read. Save it uncompressed, or as PNG.`,
    );
  }
  if (Number(set.string("x00280008") || 1) > 1) refuse("This DICOM file holds several frames; a radiograph has one.");
  const kind = (set.string("x00280004") || "").trim();
  const colour = (set.uint16("x00280002") ?? 1) > 1 || !kind.startsWith("MONOCHROME");
  if (colour) refuse("This DICOM file is in colour; a radiograph is grey.");
  if (set.elements.x00283010 || set.elements.x00283000) {
    refuse("This DICOM file brings a table of greys of its own, which this page cannot read. Save it as PNG.");
  }
  return kind === "MONOCHROME1";
}

// Uncompressed DICOM, in the greys in which the file asks to be shown (PS3.3, C.11).
function decodeDicom(bytes, limits) {
  let set;
  try {
    set = globalThis.dicomParser.parseDicom(bytes);
  } catch {
    refuse("The DICOM file is damaged.");
  }
  const inverted = checkDicom(set);
  const [height, width] = [set.uint16("x00280010"), set.uint16("x00280011")];
  if (!height || !width) refuse("This DICOM file holds no picture.");
  checkSize(width, height, limits);
  const stored = storedValues(set, width * height);
  const share = greyScale(set, stored);
  const grey = Uint8Array.from(stored.values, (v) => Math.round(255 * (inverted ? 1 - share(v) : share(v))));
  return { data: grey, width, height };
}

// A file as { data: grey levels, width, height }. Unreadable where it is none, in words.
export async function readPicture(file, limits) {
  if (file.size === 0) refuse("The file is empty.");
  if (file.size > limits.megabytes * 1e6) {
    refuse(`The file has ${Math.round(file.size / 1e6)} MB; at most ${limits.megabytes} are allowed.`);
  }
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (isDicom(bytes)) return decodeDicom(bytes, limits);
  if (isPng(bytes) || isJpeg(bytes)) return decodeImage(bytes, limits);
  return refuse("This is not a picture that this page can read: PNG, JPEG or uncompressed DICOM.");
}
