// Uncompressed DICOM, in the greys in which the file asks to be shown (PS3.3, C.11), as room `dicom_grey` reads it.
import { checkSize, ends, refuse, whiteOf } from "./refuse.js";

const IMPLICIT = "1.2.840.10008.1.2";
const EXPLICIT = "1.2.840.10008.1.2.1";
const DIRECTORY = "1.2.840.10008.1.3.10";
const OTHER_SYNTAX = { "1.2.840.10008.1.2.2": "big-endian", "1.2.840.10008.1.2.1.99": "deflated" };
const RAW_CLASSES = ["1.2.840.10008.5.1.4.1.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1.2.1", "1.2.840.10008.5.1.4.1.1.1.3.1"];
const VRS = "AE AS CS DA DS DT IS LO LT OB OW PN SH SL SQ SS ST TM UI UL UN US UT".split(" ");

const letters = (bytes, from, to) => String.fromCharCode(...bytes.subarray(from, to));
const hasHead = (bytes) => bytes.length > 132 && letters(bytes, 128, 132) === "DICM";

// Do bytes begin with an attribute of group 0002 or 0008, and do attributes of that group follow?
function beginsWithAttribute(bytes) {
  if (bytes.length < 16 || bytes[1] || (bytes[0] !== 2 && bytes[0] !== 8)) return false;
  if (VRS.includes(letters(bytes, 4, 6))) return true;
  const end = 8 + new DataView(bytes.buffer, bytes.byteOffset).getUint32(4, true);
  const same = (a, b) => bytes[a] === bytes[b] && bytes[a + 1] === bytes[b + 1];
  return end % 2 === 0 && end + 4 <= bytes.length && same(end, 0) && !same(end + 2, 2);
}

export const isDicom = (bytes) => hasHead(bytes) || beginsWithAttribute(bytes);

// The same file with the head that dicomParser expects.
function withHead(bytes) {
  if (hasHead(bytes)) return bytes;
  const syntax = VRS.includes(letters(bytes, 4, 6)) ? `${EXPLICIT}\0` : `${IMPLICIT}\0`;
  const meta = bytes[0] === 2 ? "" : `\x02\0\x10\0UI${String.fromCharCode(syntax.length)}\0${syntax}`;
  const head = Uint8Array.from(`${"\0".repeat(128)}DICM${meta}`, (letter) => letter.charCodeAt(0));
  const whole = new Uint8Array(head.length + bytes.length);
  whole.set(head);
  whole.set(bytes, head.length);
  return whole;
}

// The file from behind its group 0002, whose elements are explicit and little-endian.
function withoutMeta(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 132;
  while (at + 12 <= bytes.length && view.getUint16(at, true) === 2) {
    const long = ["OB", "OW", "SQ", "UN", "UT"].includes(letters(bytes, at + 4, at + 6));
    at += long ? 12 + view.getUint32(at + 8, true) : 8 + view.getUint16(at + 6, true);
  }
  return bytes.subarray(at);
}

// Where the transfer syntax is missing it is guessed, as where there is no head; what follows the pixels may be broken.
function parsed(whole) {
  const { parseDicom } = globalThis.dicomParser;
  try {
    return parseDicom(whole);
  } catch (error) {
    if (String(error).includes("required meta header")) return parseDicom(withHead(withoutMeta(whole)));
    const pixels = error.dataSet?.elements.x7fe00010;
    if (!pixels) throw error;
    return parseDicom(whole.subarray(0, pixels.dataOffset + pixels.length));
  }
}

function parse(bytes) {
  if (!globalThis.dicomParser) throw new Error("dicomParser.min.js did not load");
  try {
    return parsed(withHead(bytes));
  } catch (error) {
    const deflated = String(error).includes("inflate");
    return refuse(
      deflated
        ? "This DICOM file is deflated, which this page cannot read. Save it uncompressed, or as PNG."
        : "The DICOM file is damaged.",
    );
  }
}

const textOf = (set, tag) => (set.string(tag) ?? "").replaceAll("\0", "").trim();
const wordOf = (set, tag) => textOf(set, tag).toUpperCase();

// The values of a text as numbers; null where one of them is none.
function numbersOf(set, tag) {
  const values = textOf(set, tag)
    .split("\\")
    .map((v) => (v.trim() ? Number(v) : Number.NaN));
  return values.every(Number.isFinite) ? values : null;
}

const numberOf = (set, tag) => {
  const values = numbersOf(set, tag);
  return values?.length === 1 ? values[0] : null;
};

// What this page cannot read, and what is no radiograph of a bone that networks know, in words.
function checkDicom(set, limits) {
  const { elements } = set;
  if (textOf(set, "x00020002") === DIRECTORY) {
    refuse("This is the table of contents of a patient's CD (DICOMDIR). The pictures lie beside it, in its folders.");
  }
  if (elements.x7fe00008 || elements.x7fe00009) {
    refuse("This DICOM file has floating-point pixels, which have no defined white.");
  }
  if (!elements.x7fe00010) refuse("This DICOM file holds no picture.");
  checkWhat(set, limits);
  const frames = textOf(set, "x00280008") ? numberOf(set, "x00280008") : 1;
  if (frames === null) refuse("This DICOM file does not say how many frames it has.");
  if (frames > 1) refuse("This DICOM file holds several frames; a radiograph has one.");
  const syntax = textOf(set, "x00020010");
  if (![IMPLICIT, EXPLICIT].includes(syntax)) {
    const how = `${OTHER_SYNTAX[syntax] ?? "compressed"} (transfer syntax ${syntax || "not given"})`;
    refuse(`This DICOM file is ${how}, which this page cannot read. Save it uncompressed, or as PNG.`);
  }
  const kind = wordOf(set, "x00280004");
  if (!kind || !set.uint16("x00280100") || !set.uint16("x00280101")) {
    refuse("This DICOM file does not say what its pixels mean (photometric interpretation, bits).");
  }
  const colour = (set.uint16("x00280002") ?? 1) > 1 || !kind.startsWith("MONOCHROME");
  if (colour) refuse("This DICOM file is in colour, which this page does not read. Save it as PNG.");
}

function checkWhat(set, limits) {
  const intent = wordOf(set, "x00080068");
  const raw = !intent && RAW_CLASSES.includes(textOf(set, "x00080016"));
  if (raw || intent === "FOR PROCESSING") {
    refuse("This DICOM file holds raw pixels (FOR PROCESSING), not made to be looked at.");
  }
  if (textOf(set, "x00080070") === "mura_nb") refuse("This DICOM file was written by mura_nb; it is no radiograph.");
  const modality = wordOf(set, "x00080060");
  if (!limits.modalities.includes(modality)) {
    refuse(`This DICOM file is of modality ${modality}, which shows no bone of an arm.`);
  }
  const part = wordOf(set, "x00180015");
  if (isOtherPart(part, limits)) refuse(`This is a ${part}, on which the network was not trained.`);
}

// As `headers.is_other_part`.
export function isOtherPart(part, { arm, others }) {
  const found = part.toUpperCase().match(/[A-Z]+/g) ?? [];
  const words = [...found, found.join("")];
  if (words.some((word) => arm.includes(word))) return false;
  return words.some((word) => others.includes(word) || word.endsWith("SPINE"));
}

// The stored values as numbers.
function storedValues(set, size) {
  const [bits, signed] = [set.uint16("x00280100"), set.uint16("x00280103") === 1];
  const { dataOffset, length } = set.elements.x7fe00010;
  const bytes = set.byteArray.slice(dataOffset, dataOffset + length);
  if (bits !== 8 && bits !== 16) refuse(`This DICOM file holds ${bits} bits a pixel; this page reads 8 or 16.`);
  if (bytes.length < (size * bits) / 8) refuse("The DICOM file is damaged: pixels are missing.");
  const Kind = bits === 8 ? (signed ? Int8Array : Uint8Array) : signed ? Int16Array : Uint16Array;
  const values = new Kind(bytes.buffer, 0, size);
  const unused = 32 - Math.min(set.uint16("x00280101"), bits); // above those that hold the value
  return unused === 32 - bits
    ? values
    : values.map((v) => (signed ? (v << unused) >> unused : (v << unused) >>> unused));
}

// Which values are padding, 1 or 0 each; null where none are, or all.
function paddingOf(set, values) {
  const limits = ["x00280120", "x00280121"].map((tag) => set.uint16(tag)).filter((v) => v !== undefined);
  if (set.uint16("x00280120") === undefined) return null;
  const [low, high] = ends(values.constructor.from(limits)); // 65535 is -1 of a signed picture
  const padded = Uint8Array.from(values, (v) => (v >= low && v <= high ? 1 : 0));
  const [least, most] = ends(padded);
  return most && !least ? padded : null;
}

// The padding that is joined to the edge of the picture, side by side, becomes black, in place.
function blackenEdge(grey, padded, width, height) {
  const left = padded.slice(); // to be looked at
  const todo = [];
  const look = (x, y) => {
    if (x < 0 || y < 0 || x >= width || y >= height || !left[y * width + x]) return;
    left[y * width + x] = 0;
    todo.push(y * width + x);
  };
  for (let x = 0; x < width; x++) for (const y of [0, height - 1]) look(x, y);
  for (let y = 0; y < height; y++) for (const x of [0, width - 1]) look(x, y);
  while (todo.length) {
    const at = todo.pop();
    grey[at] = 0;
    const [x, y] = [at % width, Math.floor(at / width)];
    look(x - 1, y);
    look(x + 1, y);
    look(x, y - 1);
    look(x, y + 1);
  }
}

// The first table of a sequence: { first, entries }; null where there is none that can be used.
function tableOf(set, tag) {
  const item = set.elements[tag]?.items?.[0]?.dataSet;
  const [descriptor, data] = [item?.elements.x00283002, item?.elements.x00283006];
  if (!descriptor || !data?.length || descriptor.length < 4) return null;
  const n = item.uint16("x00283002", 0) || 2 ** 16;
  const signed = descriptor.vr ? descriptor.vr === "SS" : set.uint16("x00280103") === 1;
  const first = signed ? item.int16("x00283002", 1) : item.uint16("x00283002", 1);
  const wide = data.length >= 2 * n || data.vr === "US";
  const bytes = item.byteArray.slice(data.dataOffset, data.dataOffset + data.length);
  const all = wide ? new Uint16Array(bytes.buffer, 0, bytes.length >> 1) : bytes;
  return all.length ? { first, entries: all.subarray(0, n) } : null;
}

function lookUp(values, { first, entries }) {
  const start = first >= 2 ** 15 && ends(values)[0] < 0 ? first - 2 ** 16 : first;
  const last = entries.length - 1;
  return Uint16Array.from(values, (v) => entries[Math.min(Math.max(Math.floor(v) - start, 0), last)]);
}

// The values that a window applies to, and whether they are whole and not negative (PS3.3, C.11.1).
function modalityValues(set, stored) {
  const table = tableOf(set, "x00283000");
  if (table) return { values: lookUp(stored, table), whole: true };
  const [slope, shift] = [numberOf(set, "x00281053") || null, numberOf(set, "x00281052")];
  const plain = !shift && (slope === null || slope === 1);
  if (plain) return { values: stored, whole: stored instanceof Uint8Array || stored instanceof Uint16Array };
  return { values: Float64Array.from(stored, (v) => v * (slope ?? 1) + (shift ?? 0)), whole: false };
}

// Tells a window function's share of white for a value (PS3.3, C.11.2.1); null where the file gives no window.
function windowOf(set) {
  const [centre, width] = ["x00281050", "x00281051"].map((tag) => numbersOf(set, tag)?.[0]);
  const kind = wordOf(set, "x00281056") || "LINEAR";
  if (centre === undefined || width === undefined) return null;
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

// Values, and the share of white for each: by table, window, 8 bits, or between the smallest and the largest of them.
function shares(set, { values, whole }, padded) {
  const between = (black, white) => (v) =>
    white > black ? Math.min(Math.max((v - black) / (white - black), 0), 1) : 0;
  const table = tableOf(set, "x00283010");
  if (table) return { values: lookUp(values, table), share: between(0, whiteOf(ends(table.entries)[1])) };
  const shown = windowOf(set);
  if (shown) return { values, share: shown };
  if (whole && set.uint16("x00280101") === 8 && ends(values)[1] < 256) return { values, share: between(0, 255) };
  const inside = padded ? values.filter((_, i) => !padded[i]) : values;
  return { values, share: between(...ends(inside)) };
}

export function decodeDicom(bytes, limits) {
  const set = parse(bytes);
  checkDicom(set, limits);
  const [height, width] = [set.uint16("x00280010"), set.uint16("x00280011")];
  if (!height || !width) refuse("This DICOM file holds no picture.");
  checkSize(width, height, limits);
  const stored = storedValues(set, width * height);
  const padded = paddingOf(set, stored);
  const { values, share } = shares(set, modalityValues(set, stored), padded);
  const negative = wordOf(set, "x00280004") === "MONOCHROME1" || wordOf(set, "x20500020") === "INVERSE";
  const grey = Uint8Array.from(values, (v) => Math.round(255 * (negative ? 1 - share(v) : share(v))));
  if (padded) blackenEdge(grey, padded, width, height);
  return { data: grey, width, height };
}
