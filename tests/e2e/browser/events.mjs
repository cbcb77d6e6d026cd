// SPDX-License-Identifier: Apache-2.0
// A page with an EventSource: collects the events of these names until there are `expected`.
import { withPage } from "./chromium.mjs";

await withPage(async (page, { url, ...args }) => {
  await page.goto(url);
  return page.evaluate(({ target, names, expected }) => new Promise((resolve) => {
    const events = [];
    let opened = 0;
    const source = new EventSource(target);
    source.onopen = () => { opened += 1; };
    for (const name of names) {
      source.addEventListener(name, (event) => {
        events.push({ name: event.type, data: event.data, id: event.lastEventId });
        if (events.length === expected) {
          source.close();
          resolve({ events, opened });
        }
      });
    }
  }), args);
});
