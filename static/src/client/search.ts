/** The search in messages, folded from its questions and the answers to them. */

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

/** The words of a query, as they are looked for. */
export function wordsOf(query: string): string[] {
  return query.toLowerCase().match(/[\p{Alphabetic}\p{N}]+/gu) ?? [];
}
