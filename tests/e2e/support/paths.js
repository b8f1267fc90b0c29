/** Where things are. */

import { fileURLToPath } from 'node:url';

/** @param {string} path from the top of the repository */
export function inRepository(path) {
  return fileURLToPath(new URL(`../../../${path}`, import.meta.url));
}

/** Where screenshots go, and what is worth keeping of a test that failed. */
export const OUTPUT = inRepository('target/e2e');
