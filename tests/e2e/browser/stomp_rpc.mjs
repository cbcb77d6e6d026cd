// SPDX-License-Identifier: Apache-2.0
// A page that asks as pages have asked since stomp.js 2: no subscription, reply-to:/temp-queue/…, answers in onreceive.
import { withPage } from "./chromium.mjs";

await withPage(async (page, { library, ...args }) => {
  await page.addScriptTag({ path: library });
  return page.evaluate(({ url, destination, questions }) => new Promise((resolve, reject) => {
    const client = StompJs.Stomp.client(url);
    const answers = [];
    client.debug = () => {};
    client.onreceive = (message) => {
      answers.push({ body: message.body, to: message.headers["correlation-id"], subscription: message.headers.subscription });
      if (answers.length === questions.length) {
        client.disconnect(() => resolve(answers));
      }
    };
    client.connect({}, () => {
      questions.forEach((body, i) => {
        client.send(destination, { "reply-to": "/temp-queue/answers", "correlation-id": String(i) }, body);
      });
    }, (frame) => reject(new Error(frame.headers ? frame.headers.message : frame)));
  }), args);
});
