// From a grey picture to what the network reads: the same arithmetic as `geometry.warp`, which is Pillow's.

// Python's round: halves go to the even neighbour.
export function roundHalfEven(value) {
  const down = Math.floor(value);
  const rest = value - down;
  if (rest !== 0.5) return Math.round(value);
  return down % 2 === 0 ? down : down + 1;
}

// Pixels of a picture to pixels of the evaluation view, as scale and shift of x and of y (`geometry.eval_geometry`).
export function evalGeometry(width, height, { fit, resize, side }) {
  const offset = Math.floor((resize - side) / 2);
  if (fit !== "letterbox") return { sx: resize / width, sy: resize / height, tx: -offset, ty: -offset };
  const scale = Math.min(resize / height, resize / width);
  const [w, h] = [width, height].map((n) => Math.max(1, roundHalfEven(n * scale)));
  const [left, top] = [w, h].map((n) => Math.floor((resize - n) / 2) - offset);
  return { sx: w / width, sy: h / height, tx: left, ty: top };
}

// The same map for a view that is moved by (dx, dy) pixels.
export function moved(geometry, [dx, dy]) {
  return { ...geometry, tx: geometry.tx - dx, ty: geometry.ty - dy };
}

// The same map for a view that is `times` as large.
export function enlarged({ sx, sy, tx, ty }, times) {
  return { sx: sx * times, sy: sy * times, tx: tx * times, ty: ty * times };
}

// First pixel and weights of every new pixel of a row: Pillow's triangle, as wide as the row shrinks.
function triangles(before, after) {
  const scale = before / after;
  const support = Math.max(scale, 1);
  return Array.from({ length: after }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(before, Math.trunc(centre + support + 0.5));
    const raw = Array.from({ length: last - first }, (_, k) =>
      Math.max(0, 1 - Math.abs((k + first - centre + 0.5) / support)),
    );
    const sum = raw.reduce((a, b) => a + b, 0);
    return { first, weights: raw.map((w) => w / sum) };
  });
}

function shrinkRows({ data, width, height }, newWidth) {
  const out = new Float32Array(newWidth * height);
  const cells = triangles(width, newWidth);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < newWidth; x++) {
      const { first, weights } = cells[x];
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * data[y * width + first + k];
      out[y * newWidth + x] = sum;
    }
  }
  return { data: out, width: newWidth, height };
}

function shrinkColumns({ data, width, height }, newHeight) {
  const out = new Float32Array(width * newHeight);
  const cells = triangles(height, newHeight);
  for (let y = 0; y < newHeight; y++) {
    const { first, weights } = cells[y];
    const sums = new Float64Array(width);
    for (let k = 0; k < weights.length; k++) {
      const row = (first + k) * width;
      for (let x = 0; x < width; x++) sums[x] += weights[k] * data[row + x];
    }
    out.set(sums, y * width);
  }
  return { data: out, width, height: newHeight };
}

// The axes that become smaller are shrunk with the weights above; gives the picture and the rest of the map.
export function shrink(picture, { sx, sy, tx, ty }) {
  const { width, height } = picture;
  const w = sx < 1 ? Math.max(1, roundHalfEven(width * sx)) : width;
  const h = sy < 1 ? Math.max(1, roundHalfEven(height * sy)) : height;
  let small = picture;
  if (w !== width) small = shrinkRows(small, w);
  if (h !== height) small = shrinkColumns(small, h);
  return { picture: small, rest: { sx: (sx * width) / w, sy: (sy * height) / h, tx, ty } };
}

const close = (a, b, least) => Math.abs(a - b) <= least + 1e-5 * Math.abs(b); // numpy.allclose

// A cut at whole pixels; 0 where the picture does not reach.
function cut({ data, width, height }, left, top, side) {
  const out = new Float32Array(side * side);
  for (let y = Math.max(0, -top); y < Math.min(side, height - top); y++) {
    for (let x = Math.max(0, -left); x < Math.min(side, width - left); x++) {
      out[y * side + x] = data[(y + top) * width + x + left];
    }
  }
  return out;
}

// Bilinear values between the middles of pixels, as Pillow's transform makes them; 0 outside the picture.
function between({ data, width, height }, { sx, sy, tx, ty }, side) {
  const out = new Float32Array(side * side);
  const inside = (v, n) => Math.min(Math.max(v, 0), n - 1);
  for (let i = 0; i < side; i++) {
    const y = (i + 0.5 - ty) / sy;
    if (y < 0 || y >= height) continue;
    const [top, down] = [Math.floor(y - 0.5), y - 0.5 - Math.floor(y - 0.5)];
    const [first, second] = [inside(top, height) * width, inside(top + 1, height) * width];
    for (let j = 0; j < side; j++) {
      const x = (j + 0.5 - tx) / sx;
      if (x < 0 || x >= width) continue;
      const [left, across] = [Math.floor(x - 0.5), x - 0.5 - Math.floor(x - 0.5)];
      const [a, b] = [inside(left, width), inside(left + 1, width)];
      const upper = data[first + a] + (data[first + b] - data[first + a]) * across;
      const lower = data[second + a] + (data[second + b] - data[second + a]) * across;
      out[i * side + j] = upper + (lower - upper) * down;
    }
  }
  return out;
}

// The square view of a picture that `shrink` gave, grey levels 0 to 255 that are not rounded.
export function place({ picture, rest }, side) {
  const [left, top] = [-rest.tx / rest.sx, -rest.ty / rest.sy];
  const same = close(1 / rest.sx, 1, 1e-9) && close(1 / rest.sy, 1, 1e-9);
  const [x, y] = [roundHalfEven(left), roundHalfEven(top)];
  if (same && close(left, x, 1e-6) && close(top, y, 1e-6)) return cut(picture, x, y, side);
  return between(picture, rest, side);
}

// `geometry.warp` for maps that do not turn.
export function warp(picture, geometry, side) {
  return place(shrink(picture, geometry), side);
}
