/**
 * Runs in the page before its own scripts: looks at every frame that is drawn. What a test sees when it
 * looks from outside is a sample; text that was wrong for one frame only shows here.
 */
export function installProbes() {
  /** Of the last answer to `/count`: the numbers first and last seen, and a text that should not have been. */
  const count = { first: 0, last: 0, wrong: undefined, answers: 0 };
  /** For how many frames in a row, at most, nothing had the focus, once something had had it. */
  const focus = { lost: 0, inARow: 0, had: false };
  Object.assign(globalThis, { probes: { count, focus } });

  const look = () => {
    const answers = [...document.querySelectorAll('.from-agent .markdown')];
    const text = answers.at(-1)?.textContent?.trim() ?? '';
    if (answers.length > count.answers) Object.assign(count, { first: 0, last: 0 });
    count.answers = answers.length;
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
