// SPDX-License-Identifier: Apache-2.0
// Speaks at the chat page, and again after the gateway has gone and come back. What the page showed: its states and messages.
import { withPage } from "./chromium.mjs";

await withPage(async (page, { url }) => {
  const say = async (text) => {
    await page.fill("#text", text);
    await page.click("#send"); // enabled while connected
  };
  await page.addInitScript(() => {
    window.states = [];
    const look = () => {
      const state = document.querySelector("#state")?.dataset.state;
      if (state !== undefined && state !== window.states.at(-1)) {
        window.states.push(state);
      }
    };
    new MutationObserver(look).observe(document, { subtree: true, childList: true, attributeFilter: ["data-state"] });
  });
  await page.goto(url);
  await say("here");
  await page.waitForFunction(() => window.states.length === 4);
  await say("here again");
  await page.waitForSelector("#messages li:nth-child(2)");
  return {
    states: await page.evaluate(() => window.states),
    texts: await page.$$eval("#messages li", (items) => items.map((item) => item.lastChild.textContent)),
  };
});
