// SPDX-License-Identifier: Apache-2.0
// A page of ours with stomp.js: subscribes, sends a text and every byte there is, and waits for `expected` messages.
import { withPage } from "./chromium.mjs";

await withPage(async (page, { url, ...args }) => {
  await page.goto(url);
  return page.evaluate(({ destination, text, expected }) => new Promise((resolve, reject) => {
    const messages = [];
    const hex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
    const client = new StompJs.Client({ brokerURL: location.origin.replace(/^http/, "ws") + "/ws", reconnectDelay: 0 });
    client.onStompError = (frame) => reject(new Error(frame.headers.message));
    client.onWebSocketError = () => reject(new Error("the WebSocket failed"));
    client.onConnect = () => {
      client.watchForReceipt("subscribed", () => {
        client.publish({ destination, body: text, headers: { "content-type": "text/plain", "x-from": "the page", persistent: "true" } });
        client.publish({ destination, binaryBody: Uint8Array.from({ length: 256 }, (_, i) => i) });
      });
      client.subscribe(destination, (message) => {
        messages.push({ destination: message.headers.destination, hex: hex(message.binaryBody), headers: message.headers });
        if (messages.length === expected) {
          const version = client.connectedVersion;
          client.deactivate().then(() => resolve({ messages, version }));
        }
      }, { receipt: "subscribed" });
    };
    client.activate();
  }), args);
});
