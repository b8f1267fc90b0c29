import { describe, expect, it } from 'vitest';
import { piecesOf } from '../../src/client/pieces';
import { foldSearch, isSearchable } from '../../src/client/search';
import { NO_SEARCH, type MessageSearch } from '../../src/client/state';
import type { SearchHits } from '../../src/client/wire.gen';

function hits(seqs: number[], more: Partial<SearchHits> = {}): SearchHits {
  const found = seqs.map((seq) => ({
    session_id: 'helper_1',
    title: null,
    seq,
    excerpt: `${seq}`,
  }));
  return { hits: found, next_cursor: null, ...more };
}

function ask(search: MessageSearch, query: string, more = false): MessageSearch {
  return foldSearch(search, { kind: 'search_asked', query, more });
}

function arrive(search: MessageSearch, page: SearchHits, asked = search.asked): MessageSearch {
  return foldSearch(search, { kind: 'search_arrived', asked, page });
}

const seqs = (search: MessageSearch) => search.hits.map(({ seq }) => seq);

describe('the search', () => {
  it('is for words of two characters or more', () => {
    expect(['ab', '犬と', 'a b', '42'].every(isSearchable)).toBe(true);
    expect(['', 'a', '犬', '??', '🙂'].some(isSearchable)).toBe(false);
    expect(ask(arrive(ask(NO_SEARCH, 'trip'), hits([1])), 't')).toMatchObject({
      phase: 'none',
      hits: [],
    });
  });

  it('goes on with the next page', () => {
    const first = arrive(ask(NO_SEARCH, 'trip'), hits([9, 8], { next_cursor: 'c' }));
    expect(first).toMatchObject({ phase: 'ready', cursor: 'c', foundBy: 'trip' });
    const second = arrive(ask(first, 'trip', true), hits([7]));
    expect(seqs(second)).toEqual([9, 8, 7]);
    expect(second.cursor).toBeUndefined();
  });

  it('keeps what was found until something else is', () => {
    const first = arrive(ask(NO_SEARCH, 'trip'), hits([9], { next_cursor: 'c' }));
    const other = ask(first, 'tripod');
    expect(other).toMatchObject({ phase: 'loading', query: 'tripod', foundBy: 'trip' });
    expect(seqs(other)).toEqual([9]);
    expect(seqs(arrive(other, hits([3])))).toEqual([3]);
  });

  it('drops answers to what is no longer asked', () => {
    const first = ask(NO_SEARCH, 'trip');
    const second = ask(first, 'tripod');
    expect(arrive(second, hits([9]), first.asked)).toBe(second);
    const failed = { kind: 'search_failed', asked: first.asked, message: 'no' } as const;
    expect(foldSearch(second, failed)).toBe(second);
    // Not even where the same is asked once more.
    const again = ask(ask(second, 'x'), 'tripod');
    expect(arrive(again, hits([9]), second.asked)).toBe(again);
  });

  it('says why it failed, and how far it looks', () => {
    const asked = ask(NO_SEARCH, 'trip');
    const failed = foldSearch(asked, { kind: 'search_failed', asked: asked.asked, message: 'no' });
    expect(failed).toMatchObject({ phase: 'failed', error: 'no' });
    const behind = arrive(ask(failed, 'trip'), hits([1], { indexed_to: '2026-11-21T10:00:00Z' }));
    expect(behind).toMatchObject({ error: undefined, indexedTo: '2026-11-21T10:00:00Z' });
    expect(arrive(ask(behind, 'trip'), hits([1])).indexedTo).toBeUndefined();
  });
});

describe('what a query found in a text', () => {
  const marked = (text: string, query: string) =>
    piecesOf(text, query)
      .map((piece) => (piece.isFound ? `[${piece.text}]` : piece.text))
      .join('');

  it('is its words, of which the last may be a beginning', () => {
    expect(marked('The trip to Rome, the TRIPOD', 'rome trip')).toBe(
      'The [trip] to [Rome], the [TRIP]OD',
    );
    expect(marked('…romeo and rome', 'rome trip')).toBe('…romeo and [rome]');
    expect(marked('naïve Straße 日本語', 'straße')).toBe('naïve [Straße] 日本語');
  });

  it('leaves the text as it is', () => {
    const text = '<b>trip</b> & "trip" İstanbul';
    const joined = (query: string) =>
      piecesOf(text, query)
        .map((piece) => piece.text)
        .join('');
    for (const query of ['trip', 'b trip', 'i', 'İ', 'ist', '<', ''])
      expect(joined(query)).toBe(text);
  });
});
