/** The search in messages: folded from its questions and the answers to them; and what was found in a text. */

import { NO_SEARCH, type MessageSearch } from './state';
import type { SearchHits } from './wire.gen';

/** Shorter queries find too much to be of use. */
const MIN_CHARS = 2;

export type SearchInput =
  | { kind: 'search_asked'; query: string; more: boolean }
  | { kind: 'search_failed'; asked: number; message: string }
  | { kind: 'search_arrived'; asked: number; page: SearchHits };

/** Whether messages can be looked for so: the server looks for words. */
export function isSearchable(query: string): boolean {
  return [...query].length >= MIN_CHARS && wordsOf(query).length > 0;
}

export function foldSearch(search: MessageSearch, input: SearchInput): MessageSearch {
  if (input.kind === 'search_asked') {
    const { query, more } = input;
    const asked = search.asked + 1;
    if (!isSearchable(query)) return { ...NO_SEARCH, asked };
    const cursor = more ? search.cursor : undefined;
    return { ...search, phase: 'loading', asked, query, cursor, error: undefined };
  }
  // The answer to a question that is no longer asked.
  if (input.asked !== search.asked) return search;
  if (input.kind === 'search_failed') return { ...search, phase: 'failed', error: input.message };
  const { hits, next_cursor: cursor, indexed_to: indexedTo } = input.page;
  const before = search.cursor === undefined ? [] : search.hits;
  return {
    ...search,
    phase: 'ready',
    foundBy: search.query,
    hits: [...before, ...hits],
    cursor: cursor ?? undefined,
    indexedTo,
  };
}

export interface Piece {
  /** Where it begins in the text. */
  at: number;
  text: string;
  isFound: boolean;
}

/** A text in pieces, in order: what the query's words found, and what is between. The last may be a beginning. */
export function piecesOf(text: string, query: string): Piece[] {
  const words = wordsOf(query);
  const last = words.at(-1);
  const pieces: Piece[] = [];
  let at = 0;
  const add = (piece: string, isFound: boolean) => {
    const before = pieces.at(-1);
    if (before && !isFound && !before.isFound) before.text += piece;
    else if (piece !== '') pieces.push({ at, text: piece, isFound });
    at += piece.length;
  };
  // Its words, and what is between them.
  for (const part of text.split(/([\p{Alphabetic}\p{N}]+)/u)) {
    const lower = part.toLowerCase();
    const begins = last !== undefined && lower.startsWith(last);
    const isWhole = words.includes(lower);
    // Some letters are longer in lower case: there, the whole word is marked.
    const isCut = begins && !isWhole && lower.length === part.length;
    const found = isCut ? last.length : begins || isWhole ? part.length : 0;
    add(part.slice(0, found), true);
    add(part.slice(found), false);
  }
  return pieces;
}

function wordsOf(query: string): string[] {
  return query.toLowerCase().match(/[\p{Alphabetic}\p{N}]+/gu) ?? [];
}
