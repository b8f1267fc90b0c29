/** Waiting for what a test expects: never for a time, and never for ever. */

/** Nothing that a test waits for takes longer, on however busy a machine. */
export const PATIENCE_MS = 30_000;

const BETWEEN_LOOKS_MS = 30;

/**
 * Asks again and again until the answer is yes, and returns that answer.
 *
 * @template T
 * @param {string} what is waited for, for the message when it does not come
 * @param {() => T | Promise<T>} condition
 * @returns {Promise<NonNullable<T>>}
 */
export async function until(what, condition) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const answer = await condition();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`waited ${PATIENCE_MS / 1000} s in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, BETWEEN_LOOKS_MS));
  }
}
