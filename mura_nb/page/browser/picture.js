// From a file to a grey picture, 0 black and 255 white, as `images.decode_picture` reads it. Nothing leaves this page.
import { decodeDicom, isDicom } from "./dicom.js";
import { decodeDeepPng, isDeep, isOwn, pngSize } from "./png.js";
import { checkSize, luma, refuse } from "./refuse.js";

const starts = (bytes, ...first) => first.every((value, i) => bytes[i] === value);
const isPng = (bytes) => starts(bytes, 0x89, 0x50, 0x4e, 0x47);
const isJpeg = (bytes) => starts(bytes, 0xff, 0xd8, 0xff);
const isTiff = (bytes) => starts(bytes, 0x49, 0x49, 42, 0) || starts(bytes, 0x4d, 0x4d, 0, 42);

// What a browser reads, by its first bytes.
function kindOf(bytes) {
  if (isPng(bytes)) return "image/png";
  if (isJpeg(bytes)) return "image/jpeg";
  if (starts(bytes, 0x42, 0x4d)) return "image/bmp";
  if (starts(bytes, 0x47, 0x49, 0x46, 0x38)) return "image/gif";
  return starts(bytes.subarray(8), 0x57, 0x45, 0x42, 0x50) ? "image/webp" : "";
}

// Does a row of bytes stand in a file, from a place on?
function holds(bytes, row, from = 0) {
  for (let i = bytes.length - row.length; i >= from; i--) {
    if (row.every((value, k) => bytes[i + k] === value)) return true;
  }
  return false;
}

// What a JPEG says of itself before its pixels: bits and size (null where it does not say), and where the pixels begin.
function jpegHead(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let [at, size] = [2, null];
  while (at + 9 < bytes.length && bytes[at] === 0xff && bytes[at + 1] !== 0xda) {
    const kind = bytes[at + 1];
    const frame = kind >= 0xc0 && kind <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(kind);
    if (frame) size = { bits: bytes[at + 4], width: view.getUint16(at + 7), height: view.getUint16(at + 5) };
    at += kind === 0xff ? 1 : 2 + view.getUint16(at + 2);
  }
  return { size, at };
}

function isWhole(bytes) {
  if (isPng(bytes)) return holds(bytes, [0x49, 0x45, 0x4e, 0x44]);
  return !isJpeg(bytes) || holds(bytes, [0xff, 0xd9], jpegHead(bytes).at);
}

// Before anything is unpacked.
function checkSaid(bytes, limits) {
  const size = isPng(bytes) ? pngSize(bytes) : isJpeg(bytes) ? jpegHead(bytes).size : null;
  if (size) checkSize(size.width, size.height, limits);
  if (size && isJpeg(bytes) && size.bits !== 8) {
    refuse(`This JPEG has ${size.bits} bits, which browsers do not read. Save it as PNG.`);
  }
}

// The browser decodes, and turns by the EXIF tag. Colour profiles are left alone.
async function decodeImage(bytes, limits) {
  if (!isWhole(bytes)) refuse("The file is damaged: it has no end.");
  if (isPng(bytes) && isOwn(bytes)) refuse("This picture was written by mura_nb; it is no radiograph.");
  checkSaid(bytes, limits);
  if (isPng(bytes) && isDeep(bytes)) return decodeDeepPng(bytes);
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(new Blob([bytes], { type: kindOf(bytes) }), options).catch(() =>
    refuse("The file is damaged: its picture cannot be unpacked."),
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

// A file as { data: grey levels, width, height }. Unreadable where it is none, in words.
export async function readPicture(file, limits) {
  if (file.size === 0) refuse("The file is empty.");
  if (file.size > limits.megabytes * 1e6) {
    refuse(`The file has ${(file.size / 1e6).toFixed(2)} MB; at most ${limits.megabytes} are allowed.`);
  }
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (isDicom(bytes)) return decodeDicom(bytes, limits);
  if (kindOf(bytes)) return decodeImage(bytes, limits);
  if (isTiff(bytes)) refuse("This is a TIFF, which browsers do not read. Save it as PNG.");
  return refuse("This is not a picture that this page can read: PNG, JPEG or uncompressed DICOM.");
}
