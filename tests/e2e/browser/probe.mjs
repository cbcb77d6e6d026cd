// SPDX-License-Identifier: Apache-2.0
// Shows that the browser itself works: evaluates an expression in an empty page.
import { withPage } from "./chromium.mjs";

await withPage((page, { expression }) => page.evaluate(expression));
