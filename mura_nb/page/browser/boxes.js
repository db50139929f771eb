// From the network's maps to a heat map of the picture and boxes: `maps.file_map`, `maps.map_boxes` and `boxes.file_boxes`.

const FINEST = 200; // pixels of the shorter side, at least, that boxes are found on

// The pixels of a row that are looked at: every step-th.
function sampled(n, step) {
  const first = Math.min(Math.floor(step / 2), n - 1);
  return Array.from({ length: Math.ceil((n - first) / step) }, (_, i) => first + i * step);
}

// Where pixels of a row lie in a map of n cells: the cell before, the share of the next one, and whether the view reaches.
function onCells(pixels, { scale, shift, start, stride, side }, n) {
  return pixels.map((k) => {
    const point = scale * (k + 0.5) + shift;
    const at = Math.min(Math.max((point - start) / stride, 0), n - 1);
    const cell = Math.min(Math.floor(at), Math.max(n - 2, 0));
    return { cell, next: Math.min(cell + 1, n - 1), share: at - cell, seen: point >= 0 && point <= side };
  });
}

// The mean of the maps of moved views at the pixels that are looked at.
// heats: [{ data, width, height, geometry }]; whole: geometry of the view itself, outside of which the map is 0.
export function heatMap(heats, whole, { width, height }, { side, start, stride }) {
  const step = Math.max(1, Math.floor(Math.min(width, height) / FINEST));
  const [columns, rows] = [sampled(width, step), sampled(height, step)];
  const sums = new Float64Array(columns.length * rows.length);
  const counts = new Uint8Array(sums.length);
  for (const { data, width: w, height: h, geometry } of heats) {
    const across = onCells(columns, { scale: geometry.sx, shift: geometry.tx, start: start[0], stride, side }, w);
    const down = onCells(rows, { scale: geometry.sy, shift: geometry.ty, start: start[1], stride, side }, h);
    down.forEach((r, i) => {
      if (!r.seen) return;
      across.forEach((c, j) => {
        if (!c.seen) return;
        const upper = data[r.cell * w + c.cell] * (1 - c.share) + data[r.cell * w + c.next] * c.share;
        const lower = data[r.next * w + c.cell] * (1 - c.share) + data[r.next * w + c.next] * c.share;
        sums[i * columns.length + j] += upper * (1 - r.share) + lower * r.share;
        counts[i * columns.length + j] += 1;
      });
    });
  }
  const reach = (pixels, scale, shift) => pixels.map((k) => scale * (k + 0.5) + shift).map((p) => p >= 0 && p <= side);
  const [inX, inY] = [reach(columns, whole.sx, whole.tx), reach(rows, whole.sy, whole.ty)];
  const data = sums.map((sum, n) => {
    const reached = inY[Math.floor(n / columns.length)] && inX[n % columns.length];
    return reached && counts[n] ? Math.max(0, sum / counts[n]) : 0;
  });
  return { data: divided(data), width: columns.length, height: rows.length, step };
}

// A map divided by its maximum.
function divided(data) {
  const most = data.reduce((a, b) => Math.max(a, b), 0);
  return most > 0 ? data.map((v) => v / most) : data;
}

// Otsu's threshold in 256 bins, as scikit-image takes it.
export function otsu(data) {
  const [low, high] = [data.reduce((a, b) => Math.min(a, b)), data.reduce((a, b) => Math.max(a, b))];
  if (low === high) return 0;
  const width = (high - low) / 256;
  const counts = new Float64Array(256);
  for (const v of data) counts[Math.min(255, Math.floor((v - low) / width))] += 1;
  const middle = (k) => low + (k + 0.5) * width;
  const total = data.length;
  const sum = counts.reduce((a, n, k) => a + n * middle(k), 0);
  let [below, part, best, at] = [0, 0, -1, 0];
  for (let k = 0; k < 255; k++) {
    below += counts[k];
    part += counts[k] * middle(k);
    if (!below || below === total) continue;
    const spread = below * (total - below) * (part / below - (sum - part) / (total - below)) ** 2;
    if (spread > best) [best, at] = [spread, k];
  }
  return middle(at);
}

// The 8-connected regions above a level: bounds in map pixels, and the sum of the map inside.
function regions({ data, width, height }, level) {
  const done = new Uint8Array(data.length);
  const found = [];
  for (let start = 0; start < data.length; start++) {
    if (done[start] || !(data[start] > level)) continue;
    const region = { x0: width, y0: height, x1: 0, y1: 0, sum: 0 };
    const waiting = [start];
    done[start] = 1;
    while (waiting.length) {
      const n = waiting.pop();
      const [x, y] = [n % width, Math.floor(n / width)];
      region.x0 = Math.min(region.x0, x);
      region.y0 = Math.min(region.y0, y);
      region.x1 = Math.max(region.x1, x + 1);
      region.y1 = Math.max(region.y1, y + 1);
      region.sum += data[n];
      for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++) {
        for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++) {
          const other = v * width + u;
          if (done[other] || !(data[other] > level)) continue;
          done[other] = 1;
          waiting.push(other);
        }
      }
    }
    found.push(region);
  }
  return found;
}

// At most five boxes, best first: { box: [x0, y0, x1, y1] in pixels of the picture, score: share of the map's evidence }.
export function findBoxes(map, level, picture, { atMost = 5, least = 0.05 } = {}) {
  const total = map.data.reduce((a, b) => a + b, 0);
  if (!(total > 0)) return [];
  const found = regions(map, level === "otsu" ? otsu(map.data) : level)
    .map(({ x0, y0, x1, y1, sum }) => ({ bounds: [x0, y0, x1, y1], score: sum / total }))
    .sort((a, b) => b.score - a.score)
    .slice(0, atMost)
    .filter(({ score }, i) => i === 0 || score >= least);
  const end = [picture.width, picture.height, picture.width, picture.height];
  return found.map(({ bounds, score }) => ({ box: bounds.map((v, i) => Math.min(v * map.step, end[i])), score }));
}
