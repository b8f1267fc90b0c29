/** Colours for code. The highlighter is large and comes when the first code does. */

import type { HLJSApi } from 'highlight.js';

/** Longer code is coloured up to here: highlighting is not free, and begins anew with each line. */
const MAX_CHARS = 20_000;

let highlighter: HLJSApi | undefined;
let loading: Promise<unknown> | undefined;
const waiting = new Set<() => void>();

/** The colouring of an open fence, which changes only when a line is complete. */
let last = { key: '', html: '' };

/** Calls back, once, when code can be coloured that could not be before. */
export function whenHighlighterLoads(call: () => void): () => void {
  waiting.add(call);
  return () => waiting.delete(call);
}

/**
 * HTML of `code` in colours; the rest, from where it is not coloured, as plain text. A last line that is
 * not `complete` is still being written: colours would change with each of its letters.
 */
export function highlight(code: string, language: string, complete: boolean): Coloured | undefined {
  if (!highlighter) {
    load();
    return undefined;
  }
  if (!highlighter.getLanguage(language)) return undefined;
  const end = complete && code.length <= MAX_CHARS ? code.length : lastLineEnd(code);
  const coloured = code.slice(0, end);
  const key = `${language}\n${coloured}`;
  if (key !== last.key) {
    const { value } = highlighter.highlight(coloured, { language, ignoreIllegals: true });
    last = { key, html: value };
  }
  return { html: last.html, rest: code.slice(end) };
}

export interface Coloured {
  html: string;
  rest: string;
}

function lastLineEnd(code: string): number {
  return code.slice(0, MAX_CHARS).lastIndexOf('\n') + 1;
}

function load(): void {
  loading ??= import('./languages').then(
    ({ createHighlighter }) => {
      highlighter = createHighlighter();
      const calls = [...waiting];
      waiting.clear();
      for (const call of calls) call();
    },
    // Offline, perhaps: the code stays plain, and the next code tries again.
    () => (loading = undefined),
  );
}
