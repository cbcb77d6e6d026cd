// SPDX-License-Identifier: Apache-2.0
// Receives webhooks: checks the signature (Standard Webhooks), leaves out what it has seen, prints the rest. No packages needed.
// node receiver.mjs [PORT]; the secret is in WEBHOOK_SECRET.
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const secret = Buffer.from((process.env.WEBHOOK_SECRET ?? "").replace(/^whsec_/, ""), "base64");
const tolerance = 5 * 60; // seconds
const seen = new Set(); // a real one keeps this where its data is

function isSigned(headers, body) {
  const { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signatures = "" } = headers;
  if (!(Math.abs(Date.now() / 1000 - Number(timestamp)) <= tolerance)) return false;
  const want = createHmac("sha256", secret).update(`${id}.${timestamp}.`).update(body).digest();
  return signatures.split(" ").some((signature) => {
    const [version, base64 = ""] = signature.split(",");
    const got = Buffer.from(base64, "base64");
    return version === "v1" && got.length === want.length && timingSafeEqual(got, want);
  });
}

const server = createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const body = Buffer.concat(parts);
    const id = request.headers["webhook-id"];
    if (!isSigned(request.headers, body)) {
      response.writeHead(401).end("bad signature\n");
      return;
    }
    if (!seen.has(id)) {
      seen.add(id);
      console.log(`${request.headers["amqp-routing-key"]} ${id}: ${body}`);
    }
    response.writeHead(204).end();
  });
});

if (secret.length === 0) {
  console.error("WEBHOOK_SECRET is not set");
  process.exit(1);
}
server.listen(Number(process.argv[2] ?? 8700), "127.0.0.1", () => console.log(`listening on ${server.address().port}`));
