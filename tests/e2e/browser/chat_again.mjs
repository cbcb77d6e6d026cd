// SPDX-License-Identifier: Apache-2.0
// Stays at the chat page while the gateway goes and comes, until the first message. The states that the page showed.
import { withPage } from "./chromium.mjs";

await withPage(async (page, { url }) => {
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
  await page.waitForSelector("#messages li");
  await page.waitForSelector("#state[data-state=connected]");
  return { states: await page.evaluate(() => window.states), text: await page.$eval("#messages li", (item) => item.lastChild.textContent) };
});
