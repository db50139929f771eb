// The page without a server: reads a picture, asks the worker, and shows the answer. Nothing is sent anywhere.
import { findBoxes, heatMap } from "./boxes.js";
import { smallCopy, unusualGreys } from "./check.js";
import { readPicture } from "./picture.js";
import { Unreadable } from "./refuse.js";
import { enlarged, evalGeometry, moved, place, shrink, warp } from "./resample.js";

const LARGEST = 1024; // longest side at which the picture is shown, in pixels
const $ = (selector, inside = document) => inside.querySelector(selector);

function say(words, busy = false) {
  $("#status").textContent = words;
  $("#status").classList.toggle("busy", busy);
}

// ---- the worker, and what it needs

async function fetched(name, how = {}) {
  const response = await fetch(name, how);
  if (!response.ok) throw new Error(`${name}: ${response.status}`);
  return response;
}

// A worker that starts from a blob keeps to this page's rules, so it cannot speak to another site either.
function startWorker() {
  const source = `import ${JSON.stringify(new URL("worker.js", import.meta.url).href)};`;
  const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const worker = new Worker(address, { type: "module" });
  const waiting = new Map();
  const failed = new Promise((_, no) => {
    worker.onerror = (event) => no(new Error(event.message || "the worker did not start"));
  });
  failed.catch(() => {}); // whoever waits for an answer hears of it
  worker.onmessage = ({ data: { id, found, error } }) => {
    const { yes, no } = waiting.get(id);
    waiting.delete(id);
    if (error) no(new Error(error));
    else yes(found);
  };
  let last = 0;
  return (task, given, transferred = []) => {
    const answer = new Promise((yes, no) => {
      waiting.set(++last, { yes, no });
      worker.postMessage({ id: last, task, ...given }, transferred);
    });
    return Promise.race([answer, failed]);
  };
}

async function load() {
  say("The network is loading; this takes a moment the first time.", true);
  const settings = await (await fetched("network.json", { cache: "no-cache" })).json();
  const file = `${settings.file}?${settings.sha256.slice(0, 12)}`; // never the file of an earlier network
  const network = new Uint8Array(await (await fetched(file)).arrayBuffer());
  const ask = startWorker();
  await ask("load", { network, sides: [settings.side, settings.map.side] }, [network.buffer]);
  return { settings, ask };
}

// ---- what the network says of a picture

export const calibrated = (probability, platt) =>
  platt
    ? 1 / (1 + Math.exp(-(platt.slope * Math.log(probability / (1 - probability)) + platt.intercept)))
    : probability;

// The views that the network takes one after the other, and the geometries of those that heat maps are made of.
// A map may be made of views that are moved a little, or of a larger view beside the one that gives the logit.
function viewsOf(picture, settings) {
  const { side, map } = settings;
  const whole = evalGeometry(picture.width, picture.height, settings);
  const wide = enlarged(whole, map.side / side);
  const small = shrink(picture, wide);
  const geometries = map.moves.map((move) => moved(wide, move));
  const views = map.moves.map((move) => place({ ...small, rest: moved(small.rest, move) }, map.side));
  const alone = warp(picture, whole, side);
  if (map.side !== side) return { given: views.map((large) => ({ view: alone, large })), wide, geometries };
  if (views.length === 1) return { given: views.map((view) => ({ view })), wide, geometries };
  return { given: [alone, ...views].map((view) => ({ view })), wide, geometries };
}

async function look(picture, { settings, ask }) {
  const { map, level, threshold, platt } = settings;
  const { given, wide, geometries } = viewsOf(picture, settings);
  const found = await ask("look", { given });
  const [{ logit }] = found;
  const probability = 1 / (1 + Math.exp(-logit));
  const called = probability > threshold;
  const seen = found.slice(-geometries.length).map((one, i) => ({ ...one, geometry: geometries[i] }));
  const heat = heatMap(seen, wide, picture, map);
  const boxes = called ? findBoxes(heat, level, picture) : [];
  const shares = { probability, threshold, calibrated: calibrated(probability, platt) };
  return { logit, ...shares, called, boxes, heat };
}

// ---- showing it

export function percent(share) {
  if (share < 0.01) return "<\u00a01\u00a0%";
  if (share > 0.99) return ">\u00a099\u00a0%";
  return `${Math.round(100 * share)}\u00a0%`;
}

function drawPicture(canvas, { data, width, height }) {
  [canvas.width, canvas.height] = [width, height];
  const pixels = new ImageData(width, height);
  for (let i = 0; i < data.length; i++) pixels.data.set([data[i], data[i], data[i], 255], 4 * i);
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

// A copy that is small enough to be shown, means of whole blocks of pixels.
function reduced(picture) {
  if (Math.max(picture.width, picture.height) <= LARGEST) return picture;
  const small = smallCopy(picture, LARGEST);
  return { ...small, data: Uint8Array.from(small.data) };
}

function drawHeat(canvas, { data, width, height }, colours) {
  [canvas.width, canvas.height] = [width, height];
  const pixels = new ImageData(width, height);
  data.forEach((value, i) => {
    const colour = colours[Math.floor(255 * value)];
    pixels.data.set([...colour, Math.floor(255 * Math.min(1.4 * value, 0.62))], 4 * i);
  });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

function drawBoxes(stack, boxes, { width, height }) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  [...boxes].reverse().forEach(({ box: [x0, y0, x1, y1] }, i) => {
    const best = i === boxes.length - 1;
    for (const kind of ["edge", best ? "found" : "found other"]) {
      const rect = document.createElementNS(svg.namespaceURI, "rect");
      const sizes = { class: kind, x: x0, y: y0, width: x1 - x0, height: y1 - y0 };
      for (const [name, value] of Object.entries(sizes)) rect.setAttribute(name, value);
      svg.append(rect);
    }
  });
  stack.append(svg);
}

const rounded = (box) => box.map((v) => Math.round(v));

function boxWords(boxes) {
  if (!boxes.length) return "no box";
  const [x0, y0, x1, y1] = rounded(boxes[0].box);
  const more = boxes.length > 1 ? `, and ${boxes.length - 1} more` : "";
  return `box x ${x0} to ${x1}, y ${y0} to ${y1} px${more}`;
}

function fillVerdict(part, answer, settings) {
  const { called, boxes } = answer;
  const kind = called ? "bad" : "good";
  const cut = calibrated(answer.threshold, settings.platt);
  $(".chip", part).textContent = called ? "abnormal" : "normal";
  $(".chip", part).classList.add(kind);
  $(".probability", part).textContent = percent(answer.calibrated);
  $(".kind", part).textContent = settings.platt ? "calibrated probability" : "probability (not calibrated)";
  $(".bar", part).setAttribute("aria-label", `${percent(answer.calibrated)}, operating point ${percent(cut)}`);
  $(".bar i", part).classList.add(kind);
  $(".bar i", part).style.width = `${100 * answer.calibrated}%`;
  $(".bar u", part).style.left = `${100 * cut}%`;
  $(".scale span", part).style.left = `${Math.min(Math.max(100 * cut, 14), 86)}%`;
  $(".scale span", part).textContent = `operating point ${percent(cut)}`;
  const above = called
    ? "above the operating point, so the picture is called abnormal"
    : "not above the operating point, so the picture is called normal, and gets no heat map and no box";
  $(".sentence", part).textContent = `It is ${above}.`;
  $(".words", part).textContent =
    `where the network sees it${boxes.length > 1 ? ", finely dashed: further places" : ""}`;
  $(".key", part).hidden = !called;
}

function save(record) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(record, null, 1)], { type: "application/json" }));
  link.download = "mura_nb-answer.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function showWarning(part, warning) {
  if (!warning) return;
  const box = document.createElement("p");
  box.className = "problem unusual";
  box.setAttribute("role", "alert");
  const strong = document.createElement("b");
  strong.textContent = "Unlike a radiograph. ";
  const words = `${warning}. The network answers all the same; what it says of such a picture may mean nothing.`;
  box.append(strong, words);
  part.prepend(box);
}

function show(name, picture, answer, settings, after) {
  const part = $("#verdict").content.cloneNode(true);
  const { heat, ...numbers } = answer;
  fillVerdict(part, answer, settings);
  showWarning(part, answer.warning);
  const stack = $(".stack", part);
  stack.style.aspectRatio = `${picture.width} / ${picture.height}`;
  stack.style.maxWidth = `${(30 * picture.width) / picture.height}rem`;
  const canvas = $(".picture", part);
  drawPicture(canvas, reduced(picture));
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Radiograph ${name}, ${boxWords(answer.boxes)}`);
  if (answer.called) drawHeat($(".heat", part), heat, settings.colours);
  else $(".heat", part).remove();
  drawBoxes(stack, answer.boxes, picture);
  $("figcaption", part).textContent = `${name}, ${picture.width} x ${picture.height} px, ${boxWords(answer.boxes)}`;
  const network = { network: settings.name, network_sha256: settings.sha256 };
  const about = { file: name, width: picture.width, height: picture.height, ...network };
  const record = { ...about, ...numbers, seconds: after.seconds, statement: settings.research_only };
  $(".save", part).addEventListener("click", () => save(record));
  $("#answer").replaceChildren(part);
  const words = `Called ${answer.called ? "abnormal" : "normal"}, ${percent(answer.calibrated)}`;
  const only = after.files > 1 ? ` Only the first of ${after.files} files was looked at.` : "";
  say(`${words}. It took ${after.seconds.toFixed(1)} seconds here.${only}`);
}

function showProblem(name, words) {
  const box = document.createElement("p");
  box.className = "problem";
  box.setAttribute("role", "alert");
  box.textContent = `${name}: ${words}`;
  $("#answer").replaceChildren(box);
  say("There is no answer.");
}

// ---- what a visitor does

let latest = 0; // of the pictures that were chosen; an answer to an earlier one is not shown

function showStatus() {
  $("#answer").focus({ preventScroll: true });
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  $("#status").scrollIntoView({ behavior: still ? "auto" : "smooth" });
}

async function answer(name, file, ready, files = 1) {
  const mine = ++latest;
  try {
    const loaded = await ready;
    say("The network is looking.", true);
    const start = performance.now();
    const picture = await readPicture(file, loaded.settings.limits);
    const warning = unusualGreys(picture, loaded.settings.limits.greys);
    const found = { ...(await look(picture, loaded)), warning };
    if (mine !== latest) return;
    show(name, picture, found, loaded.settings, { seconds: (performance.now() - start) / 1000, files });
    showStatus();
  } catch (error) {
    if (mine !== latest) return;
    const known = error instanceof Unreadable;
    showProblem(name, known ? error.message : `Something went wrong in this browser (${error.message || error}).`);
    showStatus();
  }
}

// The pictures of the simulated radiographs are loaded with the page, so that choosing one asks for nothing.
async function offerSamples(ready) {
  for (const button of document.querySelectorAll("[data-sample]")) {
    const blob = await fetched(button.dataset.sample)
      .then((response) => response.blob())
      .catch(() => null);
    button.hidden = !blob;
    if (!blob) continue;
    $("img", button).src = URL.createObjectURL(blob);
    const name = button.textContent.trim();
    button.addEventListener("click", () => answer(name, blob, ready));
  }
}

function takeFiles(ready) {
  const [drop, file] = [$("#drop"), $("#file")];
  const take = (files) => files.length && answer(files[0].name, files[0], ready, files.length);
  file.addEventListener("change", () => {
    take(file.files);
    file.value = ""; // the same file can be chosen again
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop") take(event.dataTransfer.files);
    });
  }
}

async function start() {
  const ready = load();
  takeFiles(ready);
  try {
    await Promise.all([ready, offerSamples(ready)]);
    if (!latest) say("Ready. Choose a picture.");
    document.documentElement.dataset.ready = "yes";
  } catch (error) {
    say(
      `The network could not be loaded (${error.message || error}). A newer browser may help, or loading the page again.`,
    );
  }
}

start();
