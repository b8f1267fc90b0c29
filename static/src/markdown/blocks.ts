/**
 * Splits Markdown that is still being written into its top-level blocks, again and again, at the cost of
 * the last few. Pure.
 *
 * More text can change what came before it, but not far back: a line makes the paragraph above it a
 * heading or a table, an indented one continues a list across a blank line. All but the last three blocks
 * are therefore settled, and are not read again. With two, rare documents come out otherwise than when
 * read as a whole; with three, none did in a few thousand awkward ones.
 */

import { Lexer, type Token, type TokensList } from 'marked';

const UNSETTLED = 3;

export interface Block {
  /** Its source. Blocks of equal source, with the same links around them, look the same. */
  raw: string;
  token: Token;
}

export interface Split {
  settled: readonly Block[];
  settledLength: number;
  open: readonly Block[];
  /** Definitions that links in later blocks may refer to. */
  links: TokensList['links'];
}

export const NOTHING_SPLIT: Split = { settled: [], settledLength: 0, open: [], links: {} };

/** The blocks of `text`, of which `before` has the split of a beginning. */
export function splitMore(before: Split, text: string): Split {
  // The lexer does the same; the lengths of its tokens are of what it has read.
  const source = text.replaceAll(/\r\n?/g, '\n');
  const lexer = new Lexer();
  Object.assign(lexer.tokens.links, before.links);
  const tokens = lexer.lex(source.slice(before.settledLength));
  const firstOpen = settledCount(tokens);
  const newlySettled = tokens.slice(0, firstOpen);
  const length = newlySettled.reduce((sum, token) => sum + token.raw.length, 0);
  return {
    settled: firstOpen === 0 ? before.settled : [...before.settled, ...blocksOf(newlySettled)],
    settledLength: before.settledLength + length,
    open: blocksOf(tokens.slice(firstOpen)),
    links: firstOpen === 0 ? before.links : { ...before.links, ...linksOf(newlySettled, tokens) },
  };
}

/** The blocks of a text that is complete. */
export function splitWhole(text: string): Block[] {
  return blocksOf(new Lexer().lex(text));
}

function settledCount(tokens: readonly Token[]): number {
  let unsettled = 0;
  for (let index = tokens.length - 1; index >= 0; index--) {
    if (tokens[index]?.type !== 'space' && ++unsettled === UNSETTLED) return index;
  }
  return 0;
}

function blocksOf(tokens: readonly Token[]): Block[] {
  return tokens
    .filter((token) => token.type !== 'space')
    .map((token) => ({ raw: token.raw, token }));
}

function linksOf(settled: readonly Token[], { links }: TokensList): TokensList['links'] {
  const tags = settled.flatMap((token) => (token.type === 'def' ? [token['tag'] as string] : []));
  return Object.fromEntries(tags.flatMap((tag) => (links[tag] ? [[tag, links[tag]]] : [])));
}

/**
 * `text` without a last line that may become a fence: half a fence would flash up as text, and the
 * closing one as a line of the code.
 */
export function withoutFormingFence(text: string): string {
  return text.replace(/(^|\n) {0,3}(`+|~+)$/, '$1');
}
