/**
 * Runs in the page before its own scripts: looks at every frame that is drawn. What a test sees when it
 * looks from outside is a sample; text that was wrong for one frame only shows here.
 */
export function installProbes() {
  /** Of an answer to `/count`: the numbers first and last seen, and a text that should not have been. */
  const count = { first: 0, last: 0, wrong: undefined };
  /** For how many frames in a row, at most, nothing had the focus, once something had had it. */
  const focus = { lost: 0, inARow: 0, had: false };
  Object.assign(globalThis, { probes: { count, focus } });

  const look = () => {
    const answer = [...document.querySelectorAll('.from-agent .markdown')].at(-1);
    const text = answer?.textContent?.trim() ?? '';
    if (/^1\b/.test(text)) {
      const numbers = text.split(' ');
      const isInOrder = numbers.every((number, index) => number === String(index + 1));
      if (!isInOrder || numbers.length < count.last) count.wrong ??= text;
      if (count.first === 0) count.first = numbers.length;
      count.last = numbers.length;
    }
    focus.had ||= document.activeElement !== document.body;
    focus.inARow = focus.had && document.activeElement === document.body ? focus.inARow + 1 : 0;
    focus.lost = Math.max(focus.lost, focus.inARow);
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);

  document.addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) => {
    console.error(`CSP: ${violatedDirective} ${blockedURI}`);
  });
}
