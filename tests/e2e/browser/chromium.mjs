// SPDX-License-Identifier: Apache-2.0
// A page in Debian's Chromium for a browser test: `await withPage(async (page, args) => result)`; result is printed as JSON.
import { chromium } from "playwright-core";

export async function withPage(test) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--headless", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  try {
    const page = await browser.newPage();
    page.on("console", (message) => console.error(`page: ${message.text()}`));
    page.on("pageerror", (error) => console.error(`page: ${error}`));
    const result = await test(page, JSON.parse(process.argv[2] ?? "{}"), browser);
    console.log(JSON.stringify(result ?? null));
  } finally {
    await browser.close();
  }
}
