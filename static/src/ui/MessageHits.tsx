/** Messages that have the words that are searched for. */

import { useEffect } from 'preact/hooks';
import { goingSessions } from '../client/commands';
import { piecesOf } from '../client/pieces';
import type { SearchHit } from '../client/wire.gen';
import { sessionTitle } from './names';
import { announce } from './notices';
import { followAgain, route, sessionHash } from './route';
import { useSelect, useStore } from './store';
import { shortTime } from './time';

export function MessageHits() {
  const { client } = useStore();
  const search = useSelect((state) => state.search);
  const pending = useSelect((state) => state.pending);
  const deleted = useSelect((state) => state.deleted);
  const { phase, query, foundBy, cursor, indexedTo } = search;
  const going = goingSessions(pending);
  const hits = search.hits.filter(({ session_id: id }) => !going.has(id) && !deleted.has(id));

  useEffect(() => {
    if (phase === 'ready') announce(`${hits.length}${cursor ? ' or more' : ''} found in messages`);
  }, [search.hits, phase]);

  const again = () => void (cursor ? client.queries.searchMore() : client.queries.search(query));
  return (
    <section aria-label="In messages" aria-busy={phase === 'loading'}>
      <h2>In messages</h2>
      <ul>
        {hits.map((hit) => (
          <Hit key={`${hit.session_id} ${hit.seq}`} hit={hit} query={foundBy} />
        ))}
      </ul>
      {phase === 'failed' && (
        <p class="hint">
          Messages could not be searched: {search.error}{' '}
          <button type="button" class="link" onClick={again}>
            Try again
          </button>
        </p>
      )}
      {hits.length === 0 && phase === 'loading' && <p class="hint">Searching…</p>}
      {hits.length === 0 && phase === 'ready' && <p class="hint">No message has “{foundBy}”</p>}
      {indexedTo !== undefined && phase === 'ready' && (
        <p class="hint">Messages since {shortTime(new Date(indexedTo))} are not searched yet.</p>
      )}
      {cursor !== undefined && phase !== 'failed' && (
        <button type="button" class="button more" disabled={phase === 'loading'} onClick={again}>
          More
        </button>
      )}
    </section>
  );
}

function Hit({ hit, query }: { hit: SearchHit; query: string }) {
  const { session_id: sessionId, seq, excerpt } = hit;
  const title = useSelect(
    (state) => (state.sessions.has(sessionId) ? null : hit.title) ?? sessionTitle(state, sessionId),
    hit,
  );
  const hash = sessionHash(sessionId, seq);
  const shown = route.value;
  const isShown = shown.page === 'session' && shown.sessionId === sessionId && shown.at === seq;
  return (
    <li class={isShown ? 'session is-open' : 'session'}>
      <a href={hash} aria-current={isShown || undefined} onClick={() => followAgain(hash)}>
        <span class="session-title" dir="auto">
          {title}
        </span>
        <span class="excerpt" dir="auto">
          {piecesOf(excerpt, query).map(({ at, text, isFound }) =>
            isFound ? <mark key={at}>{text}</mark> : text,
          )}
        </span>
      </a>
    </li>
  );
}
