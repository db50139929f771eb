// From a file to a grey picture, 0 black and 255 white, as `images.decode_picture` reads it. Nothing leaves this page.
import { decodeDicom, isDicom } from "./dicom.js";
import { decodeDeepPng, isDeep, isOwn } from "./png.js";
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

// Does a row of bytes stand in the last part of the file?
function endsWith(bytes, row, within) {
  for (let i = bytes.length - row.length; i >= Math.max(0, bytes.length - within); i--) {
    if (row.every((value, k) => bytes[i + k] === value)) return true;
  }
  return false;
}

function isWhole(bytes) {
  if (isPng(bytes)) return endsWith(bytes, [0x49, 0x45, 0x4e, 0x44], bytes.length);
  return !isJpeg(bytes) || endsWith(bytes, [0xff, 0xd9], 2 ** 16);
}

// The browser decodes, and turns by the EXIF tag. Colour profiles are left alone.
async function decodeImage(bytes, limits) {
  if (!isWhole(bytes)) refuse("The file is damaged: it has no end.");
  if (isPng(bytes) && isOwn(bytes)) refuse("This picture was written by mura_nb; it is no radiograph.");
  if (isPng(bytes) && isDeep(bytes)) return decodeDeepPng(bytes, limits);
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(new Blob([bytes], { type: kindOf(bytes) }), options).catch(() =>
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

// A file as { data: grey levels, width, height }. Unreadable where it is none, in words.
export async function readPicture(file, limits) {
  if (file.size === 0) refuse("The file is empty.");
  if (file.size > limits.megabytes * 1e6) {
    refuse(`The file has ${Math.round(file.size / 1e6)} MB; at most ${limits.megabytes} are allowed.`);
  }
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (isDicom(bytes)) return decodeDicom(bytes, limits);
  if (kindOf(bytes)) return decodeImage(bytes, limits);
  if (isTiff(bytes)) refuse("This is a TIFF, which browsers do not read. Save it as PNG.");
  return refuse("This is not a picture that this page can read: PNG, JPEG or uncompressed DICOM.");
}
