// Runs the network beside the page, so that the page stays alive meanwhile. One thread: no special server is needed.
import * as ort from "./ort.wasm.min.mjs";

ort.env.wasm.numThreads = 1;
let session;

// Views are squares of grey levels: one that gives the logit, and where the network takes it a larger one for the map.
async function run(views) {
  const feeds = {};
  for (const name of session.inputNames) {
    const side = Math.sqrt(views[name].length);
    feeds[name] = new ort.Tensor("float32", views[name], [1, side, side]);
  }
  const { logit, heat } = await session.run(feeds);
  return { logit: logit.data[0], data: heat.data, width: heat.dims[2], height: heat.dims[1] };
}

const tasks = {
  async load({ network, sides }) {
    session = await ort.InferenceSession.create(network, { executionProviders: ["wasm"] });
    const [view, large] = sides.map((side) => new Float32Array(side * side));
    await run({ view, large }); // the first pass prepares the later ones
  },
  async look({ given }) {
    const found = [];
    for (const views of given) found.push(await run(views));
    return found;
  },
};

let before = Promise.resolve(); // one task after the other

self.onmessage = ({ data: { id, task, ...given } }) => {
  before = before.then(async () => {
    try {
      self.postMessage({ id, found: await tasks[task](given) });
    } catch (error) {
      self.postMessage({ id, error: String(error) });
    }
  });
};
