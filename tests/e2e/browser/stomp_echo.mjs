// SPDX-License-Identifier: Apache-2.0
// A page with stomp.js: connects, subscribes, sends one message with a receipt and waits for both to come back.
import { withPage } from "./chromium.mjs";

await withPage(async (page, { library, ...args }) => {
  await page.addScriptTag({ path: library });
  return page.evaluate(({ url, destination, body }) => new Promise((resolve, reject) => {
    const result = {};
    const client = new StompJs.Client({ brokerURL: url, reconnectDelay: 0 });
    const done = () => {
      if (result.receipt && result.body !== undefined) {
        client.deactivate().then(() => resolve(result));
      }
    };
    client.onStompError = (frame) => reject(new Error(frame.headers.message));
    client.onWebSocketError = () => reject(new Error("the WebSocket failed"));
    client.onConnect = () => {
      client.watchForReceipt("sub", () => {
        client.watchForReceipt("sent", () => { result.receipt = true; done(); });
        client.publish({ destination, body, headers: { receipt: "sent" } });
      });
      client.subscribe(destination, (message) => {
        result.body = message.body;
        result.destination = message.headers.destination;
        done();
      }, { receipt: "sub" });
    };
    client.activate();
  }), args);
});
