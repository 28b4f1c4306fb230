// SPDX-License-Identifier: Apache-2.0
// The page: takes pictures, shows answers.

import { loadModel } from "./model.js";
import { centralSquare, decode, readPixels, toInput } from "./picture.js";

const NAME = new URLSearchParams(location.search).get("model") ?? "mobilenet_v2-onnx"; // of the files, before the dot
const part = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));

let stream; // of the camera while it is used
let watched = Promise.resolve(); // ends with the last answer for the camera
let done = Promise.resolve(); // ends with the last of the actions: the network computes one picture at a time

function showError(error) {
  part.error.textContent = error?.message ?? "";
  part.error.hidden = !error;
}

async function start() {
  if (!/^[\w.-]+$/.test(NAME)) throw new Error("?model= takes the name of a file beside this page, without .onnx");
  const isKept = keepPage();
  const model = await loadModel(NAME);
  part.file.disabled = part.camera.disabled = false;
  part.file.onclick = () => (part.file.value = ""); // the same file again is a choice, too
  part.file.onchange = () => part.file.files.length && report(() => classifyFile(model, part.file.files[0]));
  part.camera.onclick = () => report(() => (stream ? stopCamera() : useCamera(model)));
  takeDrops(model);
  part.status.textContent = (await isKept) ? "Ready, also without a network." : "Ready.";
}

/** Do something after what came before it, and show what goes wrong. */
function report(action) {
  done = done.then(() => {
    showError(null);
    return action().catch(showError);
  });
}

/** Whether this page will open without a network. */
async function keepPage() {
  if (!navigator.serviceWorker) return false;
  try {
    await navigator.serviceWorker.register("offline.js");
    await navigator.serviceWorker.ready;
    return true;
  } catch {
    return false; // as in private windows of some browsers
  }
}

function takeDrops(model) {
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault(); // else the browser leaves the page for the picture
      part.drop.classList.toggle("over", kind === "dragover");
      const [file] = event.dataTransfer?.files ?? [];
      if (kind === "drop" && file) report(() => classifyFile(model, file));
    });
  }
}

async function classifyFile(model, file) {
  await stopCamera();
  const picture = await decode(file, model.description.input).catch(() => {
    part.answers.replaceChildren();
    part.shown.hidden = true;
    part.status.textContent = "";
    throw new Error(`${file.name} is not a picture that this browser can read`);
  });
  URL.revokeObjectURL(part.shown.src);
  part.shown.src = URL.createObjectURL(file);
  part.shown.hidden = false;
  await classify(model, picture, picture.width, picture.height);
  picture.close();
}

async function useCamera(model) {
  if (!navigator.mediaDevices) throw new Error("Browsers give the camera to https and localhost alone");
  stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } }).catch((error) => {
    throw new Error(`The camera cannot be used: ${error.message}`);
  });
  part.video.srcObject = stream;
  part.shown.hidden = true;
  part.video.hidden = false;
  part.camera.textContent = "Stop the camera";
  part.status.setAttribute("aria-live", "off"); // a screen reader would never end
  await part.video.play();
  watched = watch(model).catch(showError);
}

async function watch(model) {
  while (stream) {
    await classify(model, part.video, part.video.videoWidth, part.video.videoHeight);
    await new Promise(requestAnimationFrame);
  }
}

async function stopCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = undefined;
  await watched;
  part.video.hidden = true;
  part.camera.textContent = "Use the camera";
  part.status.removeAttribute("aria-live");
}

async function classify({ description, run }, source, width, height) {
  const started = performance.now();
  const input = toInput(centralSquare(readPixels(source, width, height), description.input), description.input);
  const prepared = performance.now();
  const probabilities = await run(input);
  const ended = performance.now();
  const order = Array.from(probabilities.keys()).sort((a, b) => probabilities[b] - probabilities[a]);
  part.answers.replaceChildren(
    ...order.slice(0, 5).map((index) => createAnswer(description.labels[index], probabilities[index])),
  );
  const [picture, network] = [prepared - started, ended - prepared].map((time) => time.toFixed(0));
  part.status.textContent = `${network} ms for the network, ${picture} ms for the picture`;
}

function createAnswer(label, probability) {
  const answer = document.createElement("li");
  const name = Object.assign(document.createElement("span"), { className: "label", textContent: label });
  const share = document.createElement("span");
  share.textContent = `${(100 * probability).toFixed(2)} %`;
  const bar = Object.assign(document.createElement("meter"), { value: probability });
  bar.setAttribute("aria-hidden", "true"); // the number beside it says the same
  answer.append(name, share, bar);
  return answer;
}

start().catch((error) => {
  part.status.textContent = "";
  showError(error);
});
