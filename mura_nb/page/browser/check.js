// Is this a picture that a network can say anything about? As room `input_check` measures it.
import { refuse } from "./refuse.js";
import { roundHalfEven } from "./resample.js";

// A copy of at most `side` pixels, means of whole blocks.
export function smallCopy({ data, width, height }, side) {
  const step = Math.ceil(Math.max(width, height) / side);
  const [w, h] = [Math.ceil(width / step), Math.ceil(height / step)];
  const small = new Float64Array(w * h);
  const counts = new Uint32Array(w * h);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = Math.floor(y / step) * w + Math.floor(x / step);
      small[at] += data[y * width + x];
      counts[at]++;
    }
  }
  return { data: small.map((sum, i) => Math.round(sum / counts[i])), width: w, height: h };
}

function median(values) {
  const sorted = Float64Array.from(values).sort();
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// Median of the outer twentieth.
export function borderOf({ data, width, height }) {
  const edge = Math.max(1, roundHalfEven(0.05 * Math.min(width, height)));
  const inside = (i) => {
    const [x, y] = [i % width, Math.floor(i / width)];
    return x >= edge && x < width - edge && y >= edge && y < height - edge;
  };
  return median(data.filter((_, i) => !inside(i)));
}

// Correlation of pixels side by side.
function likeness({ data, width }) {
  const left = data.filter((_, i) => i % width < width - 1);
  const right = data.filter((_, i) => i % width > 0);
  const mean = (values) => values.reduce((sum, v) => sum + v, 0) / values.length;
  const [a, b] = [mean(left), mean(right)];
  const product = (p, q, u, v) => p.reduce((sum, x, i) => sum + (x - u) * (q[i] - v), 0);
  const spread = Math.sqrt(product(left, left, a, a) * product(right, right, b, b));
  return spread ? product(left, right, a, b) / spread : 0;
}

function greysOf(picture) {
  const counts = new Uint32Array(256);
  for (const v of picture.data) counts[v]++;
  const at = (share) => {
    let [sum, grey] = [counts[0], 0];
    while (sum < share * picture.data.length) sum += counts[++grey];
    return grey;
  };
  const small = smallCopy(picture, 128);
  const [darkest, middle, brightest] = [0.01, 0.5, 0.99].map(at);
  const commonest = Math.max(...counts) / picture.data.length;
  const levels = counts.filter((n) => n > 0).length;
  return { darkest, middle, brightest, commonest, levels, border: borderOf(small), alike: likeness(small) };
}

// Why a picture is unlike the radiographs that networks know, "" where it is not; refused where it shows nothing.
export function unusualGreys(picture, limits) {
  const { width, height } = picture;
  if (Math.max(width, height) > limits.times * Math.min(width, height)) {
    refuse(`The picture has ${width} x ${height} pixels: a strip, and no radiograph.`);
  }
  const greys = greysOf(picture);
  if (greys.levels === 1) refuse(`The picture is blank: every pixel has grey ${greys.darkest} of 255.`);
  const { darkest, brightest } = greys;
  const found = [];
  const share = roundHalfEven(100 * greys.commonest);
  if (greys.commonest > limits.commonest) found.push(`nearly blank, ${share} % of it has one grey`);
  if (brightest - darkest < limits.spread) found.push(`little contrast, greys ${darkest} to ${brightest} of 255`);
  if (greys.levels < limits.levels) found.push(`only ${greys.levels} greys`);
  if (greys.border > limits.border && greys.middle > limits.median) {
    found.push("perhaps a negative, its border is bright");
  }
  if (greys.alike < limits.alike) found.push("noise, pixels side by side are not alike");
  return found.join("; ");
}
