// SPDX-License-Identifier: Apache-2.0
// A headless Chromium that answers lines of JSON: each is [method of this file, argument], each answer is one line.

import readline from "node:readline";

import chromium from "@sparticuz/chromium";
import puppeteer from "puppeteer-core";

const ours = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"];
const browser = await puppeteer.launch({
  args: puppeteer.defaultArgs({ args: [...chromium.args, ...ours], headless: "shell" }),
  executablePath: await chromium.executablePath(),
  headless: "shell",
});
const page = await browser.newPage();
const troubles = [];
page.on("pageerror", (error) => troubles.push(error.message));
const requests = [];
page.on("request", (request) => requests.push(request.url()));
page.on("console", (message) => message.type() === "error" && troubles.push(message.text()));

const methods = {
  open: async (url) => void (await page.goto(url)),
  upload: async (path) => void (await (await page.$("#file")).uploadFile(path)),
  evaluate: (code) => page.evaluate(code),
  wait: async (code) => void (await page.waitForFunction(code, { timeout: 60_000 })),
  troubles: async () => troubles.splice(0),
  requests: async () => requests.splice(0),
};

console.log(JSON.stringify({ value: await browser.version() }));
for await (const line of readline.createInterface({ input: process.stdin })) {
  const [method, argument] = JSON.parse(line);
  const answer = await methods[method](argument).then(
    (value) => ({ value }),
    (error) => ({ error: error.message }),
  );
  console.log(JSON.stringify(answer));
}
process.exit(); // which kills the browser: asked to close, it now and then waits for ever
