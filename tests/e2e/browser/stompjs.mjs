// SPDX-License-Identifier: Apache-2.0
// stomp.js or webstomp-client, in a page or in Node: the same talk with the server, told as JSON.
import { createRequire } from "node:module";
import { withPage } from "./chromium.mjs";

// Runs in the page too, so it takes all that it needs.
async function talk(library, { url, host, topic, queue, own, isWebstomp, withBinary }) {
  const inbox = [];
  let wake = () => {};
  const take = async (where) => {
    for (;;) {
      const at = inbox.findIndex((message) => message.headers.subscription === where);
      if (at >= 0) return inbox.splice(at, 1)[0];
      await new Promise((resolve) => { wake = resolve; });
    }
  };
  const onMessage = (message) => { inbox.push(message); wake(); };
  const waiting = new Map();
  let last = 0;
  // What both libraries can do, by the same names.
  const adapt = {
    stompjs: () => {
      const client = new library.Client({ brokerURL: url, connectHeaders: { login: "guest", passcode: "guest", host }, reconnectDelay: 0,
        heartbeatIncoming: 10000, heartbeatOutgoing: 10000 });
      return {
        connect: () => new Promise((resolve, reject) => {
          client.onConnect = (frame) => resolve(frame.headers.version);
          client.onStompError = (frame) => reject(new Error(frame.headers.message));
          client.onWebSocketError = () => reject(new Error("the WebSocket failed"));
          client.activate();
        }),
        receipted: (act) => new Promise((resolve) => {
          const receipt = `r${++last}`;
          client.watchForReceipt(receipt, resolve);
          act(receipt);
        }),
        subscribe: (destination, headers) => client.subscribe(destination, onMessage, headers),
        send: (destination, body, headers) => client.publish(
          { destination, headers, ...(typeof body === "string" ? { body } : { binaryBody: body }) }),
        client,
        leave: () => client.deactivate(),
      };
    },
    webstomp: () => {
      const client = library.client(url, { debug: false, protocols: ["v10.stomp", "v11.stomp", "v12.stomp"] });
      return {
        connect: () => new Promise((resolve, reject) => {
          client.connect({ login: "guest", passcode: "guest", host }, (frame) => resolve(frame.headers.version),
            (error) => reject(new Error(error.headers ? error.headers.message : error.reason)));
          client.onreceipt = (frame) => waiting.get(frame.headers["receipt-id"])();
        }),
        receipted: (act) => new Promise((resolve) => {
          const receipt = `r${++last}`;
          waiting.set(receipt, resolve);
          act(receipt);
        }),
        subscribe: (destination, headers) => client.subscribe(destination, onMessage, headers),
        send: (destination, body, headers) => client.send(destination, body, headers),
        client,
        leave: () => new Promise((resolve) => client.disconnect(resolve)),
      };
    },
  };
  const it = adapt[isWebstomp ? "webstomp" : "stompjs"]();
  const result = { version: await it.connect() };
  await it.receipted((receipt) => it.subscribe(topic, { id: "topic", receipt }));
  await it.receipted((receipt) => it.send(topic, "grüße ✓", { receipt, "x-own": own, "content-type": "text/plain" }));
  const text = await take("topic");
  result.text = { body: text.body, own: text.headers["x-own"], type: text.headers["content-type"], destination: text.headers.destination };
  if (withBinary) {
    it.send(topic, Uint8Array.from({ length: 256 }, (_, i) => i), { "content-type": "application/octet-stream" });
    result.binary = Array.from((await take("topic")).binaryBody);
  }
  const queued = it.subscribe(queue, { id: "queue", ack: "client-individual" });
  it.send(queue, "again", {});
  const first = await take("queue");
  first.nack();
  const second = await take("queue");
  result.again = { body: second.body, redelivered: second.headers.redelivered };
  second.ack();
  const transaction = it.client.begin();
  it.send(topic, "in a transaction", { transaction: transaction.id });
  transaction.commit();
  result.committed = (await take("topic")).body;
  queued.unsubscribe();
  await it.receipted((receipt) => it.send(topic, "last", { receipt }));
  await it.leave();
  return result;
}

const { library, ...args } = JSON.parse(process.argv[2] ?? "{}");
if (args.inNode) {
  const require = createRequire(import.meta.url);
  globalThis.WebSocket ??= require("ws");
  console.log(JSON.stringify(await talk(require(library), args)));
  process.exit(0);
} else {
  await withPage(async (page) => {
    await page.goto(new URL("/", args.url.replace("ws:", "http:")).href); // whatever is there: a page of this host's
    await page.addScriptTag({ path: library });
    return page.evaluate(`(${talk})(${args.isWebstomp ? "webstomp" : "StompJs"}, ${JSON.stringify(args)})`);
  });
}
