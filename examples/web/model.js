// SPDX-License-Identifier: Apache-2.0
// Gets an exported file and its description, and keeps them for when there is no network.

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";

const KEPT = "exported";

ort.env.wasm.wasmPaths = {
  wasm: new URL("node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm", import.meta.url),
};

/** NAME.json and NAME.onnx, ready to run. Rejects with a message for people. */
export async function loadModel(name) {
  const kept = await globalThis.caches?.open(KEPT); // there is none without https, but on localhost
  const description = await loadDescription(name, kept);
  const hash = description.files[`${name}.onnx`];
  const session = await ort.InferenceSession.create(await loadBytes(`${name}.onnx?sha256=${hash}`, hash, kept));
  const run = async (input) => {
    const outputs = await session.run({ [description.input.name]: new ort.Tensor(...input) });
    const values = outputs[description.output.name].data;
    return description.output.name === "probabilities" ? values : softmax(values);
  };
  return { description, run };
}

async function loadDescription(name, kept) {
  const url = `${name}.json`;
  const response = await fetch(url).catch(() => kept?.match(url));
  if (!response?.ok) throw new Error(`${url} is missing: copy it and ${name}.onnx here from results/.../export`);
  const copy = response.clone();
  const description = await response.json().catch(() => ({}));
  if (description.format !== "onnx") throw new Error(`${url} is not what \`scripts/export.py onnx\` writes`);
  if (description.int8) {
    throw new Error(`${name} is int8, which is slower than float in a browser: export it without --int8`);
  }
  await kept?.put(url, copy);
  return description;
}

/** The bytes that have the hash in the description: an export of another day must not run with it. */
async function loadBytes(url, hash, kept) {
  const before = await kept?.match(url);
  if (before) return before.arrayBuffer();
  const response = await fetch(url).catch(() => undefined);
  if (!response?.ok) throw new Error(`${url.split("?")[0]} cannot be loaded`);
  const bytes = await response.arrayBuffer();
  if (globalThis.crypto.subtle) {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (found !== hash) throw new Error(`${url.split("?")[0]} is not the file of its description: copy both again`);
  }
  await kept?.delete(url, { ignoreSearch: true }); // earlier exports
  await kept?.put(url, new Response(bytes));
  return bytes;
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}
