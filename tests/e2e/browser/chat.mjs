// SPDX-License-Identifier: Apache-2.0
// Two people at the chat page: Anna speaks, Ben answers, both wait for `expected` messages. Each person's list, as it is on the screen.
import { withPage } from "./chromium.mjs";

async function enter(browser, url, name) {
  const context = await browser.newContext({ viewport: { width: 480, height: 640 } });
  const page = await context.newPage();
  await page.goto(url);
  await page.fill("#name", name);
  await page.waitForSelector("#state[data-state=connected]");
  return page;
}

async function say(page, text) {
  await page.fill("#text", text);
  await page.click("#send");
  await page.waitForFunction(() => document.querySelector("#text").value === ""); // RabbitMQ has it
}

const shows = (page, n) => page.waitForFunction((n) => document.querySelectorAll("#messages li").length >= n, n);
const list = (page) => page.$$eval("#messages li", (items) => items.map((item) => ({
  by: item.querySelector(".by").textContent.split(",")[0], text: item.lastChild.textContent, isMine: item.className === "mine" })));

await withPage(async (unused, { url, expected, screenshot }, browser) => {
  const anna = await enter(browser, url, "Anna");
  const ben = await enter(browser, url, "Ben");
  await say(anna, "Hello Ben, <b>grüße</b> ✓");
  await shows(ben, 1);
  await say(ben, "Hello Anna");
  await Promise.all([shows(anna, expected), shows(ben, expected)]);
  if (screenshot) {
    await ben.screenshot({ path: screenshot });
  }
  return { anna: await list(anna), ben: await list(ben), notice: await ben.textContent("#notice") };
});
