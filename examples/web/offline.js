// SPDX-License-Identifier: Apache-2.0
// The service worker: this page without a network. The network's files are kept by model.js.

const RUNTIME = "node_modules/onnxruntime-web/dist/";
const CACHE = "page, onnxruntime-web 1.30.0"; // another name for another version of it
const FILES = ["./", "classify.js", "model.js", "picture.js"];
const PINNED = [`${RUNTIME}ort.wasm.bundle.min.mjs`, `${RUNTIME}ort-wasm-simd-threaded.wasm`];

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll([...FILES, ...PINNED])));
});

self.addEventListener("activate", (event) => {
  const isOld = (name) => name.startsWith("page, ") && name !== CACHE;
  event.waitUntil(caches.keys().then((names) => Promise.all(names.filter(isOld).map((name) => caches.delete(name)))));
});

self.addEventListener("fetch", (event) => {
  const path = event.request.url.slice(self.registration.scope.length).split("?")[0].replace("index.html", "") || "./";
  if (PINNED.includes(path)) {
    event.respondWith(findKept(path).then((kept) => kept ?? fetch(event.request)));
  } else if (FILES.includes(path)) {
    event.respondWith(fetchAndKeep(event.request, path).catch(() => findKept(path)));
  }
});

function findKept(path) {
  return caches.match(new URL(path, self.registration.scope));
}

async function fetchAndKeep(request, path) {
  const response = await fetch(request);
  if (response.ok) await (await caches.open(CACHE)).put(new URL(path, self.registration.scope), response.clone());
  return response;
}
