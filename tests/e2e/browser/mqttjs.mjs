// SPDX-License-Identifier: Apache-2.0
// MQTT.js, in a page over a WebSocket or in Node over TCP: the same talk with the gateway, told as JSON.
import { withPage } from "./chromium.mjs";

// Runs in the page too, so it takes all that it needs.
async function talk(connect, { url, version, name, topic }) {
  const options = { protocolVersion: version, clientId: name, reconnectPeriod: 0, clean: false };
  if (version === 5) options.properties = { sessionExpiryInterval: 600, receiveMaximum: 10, topicAliasMaximum: 5 };
  const inbox = [];
  let wake = () => {};
  const arrived = async (n) => {
    while (inbox.length < n) await new Promise((resolve) => { wake = resolve; });
    return inbox.splice(0, n);
  };
  const listen = (client) => client.on("message", (at, payload, packet) => {
    inbox.push({
      topic: at, text: new TextDecoder().decode(payload), qos: packet.qos, retain: packet.retain,
      properties: packet.properties && {
        contentType: packet.properties.contentType, userProperties: { ...packet.properties.userProperties },
        subscriptionIdentifier: packet.properties.subscriptionIdentifier,
      },
    });
    wake();
  });
  const result = {};
  // What is kept may come right behind the CONNACK: so the listener is there before it.
  const open = (more) => new Promise((resolve, reject) => {
    const client = connect(url, { ...options, ...more });
    listen(client);
    client.once("connect", () => resolve(client));
    client.once("error", reject);
  });
  const client = await open();
  const about = version === 5 ? { properties: { subscriptionIdentifier: 7 } } : {};
  result.granted = (await client.subscribeAsync(`${topic}/#`, { qos: 2, ...about })).map((g) => g.qos);
  for (const qos of [0, 1, 2]) {
    await client.publishAsync(`${topic}/q${qos}`, `body ${qos} ✓`, version === 5
      ? { qos, properties: { contentType: "text/plain", userProperties: { from: "mqtt.js" } } } : { qos });
  }
  result.live = await arrived(3);
  await client.publishAsync(`${topic}/kept`, "retained", { qos: 1, retain: true });
  await arrived(1);
  await client.endAsync();
  const other = await open({ clientId: `${name}-other`, clean: true, properties: undefined });
  await other.publishAsync(`${topic}/away`, "while away", { qos: 1 });
  await other.endAsync();
  const again = await open();
  result.away = await arrived(1);
  await again.subscribeAsync(`${topic}/kept`, { qos: 1 });
  result.retained = await arrived(1);
  await again.publishAsync(`${topic}/kept`, "", { qos: 1, retain: true });
  await again.endAsync();
  return result;
}

const args = JSON.parse(process.argv[2] ?? "{}");
if (args.library === undefined) {
  const { default: mqtt } = await import("mqtt");
  console.log(JSON.stringify(await talk(mqtt.connect, args)));
} else {
  await withPage(async (page) => {
    await page.addScriptTag({ path: args.library });
    return page.evaluate(`(${talk})(mqtt.connect, ${JSON.stringify(args)})`);
  });
}
