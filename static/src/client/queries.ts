/** What is asked of the server and changes nothing there: agents, the list of sessions, older events. */

import type { Input } from './fold';
import { cursorOf, moreOf, type Side } from './past';
import type { Outcome } from './replies';
import { isSearchable } from './search';
import type { State } from './state';
import type { AgentList, History, HistoryData, Refusal, SearchHits, SessionList } from './wire.gen';

/** Events in a page of history: about two hundred messages. */
const HISTORY_PAGE = 600;
const LIST_PAGE = 50;
/** Events after one that is jumped to, so that it does not stand at the end: about forty messages. */
const AFTER_TARGET = 100;
/** How far a run's end is looked for, in pages. */
const RUN_PAGE = 200;
const MAX_RUN_PAGES = 20;

export interface Question {
  type: string;
  sessionId?: string;
  data?: Record<string, unknown>;
}

export interface QueryHost {
  readonly state: State;
  /** Fails at once without a connection, and when that is lost before the answer. */
  ask<T>(question: Question): Promise<Outcome<T>>;
  dispatch(input: Input): void;
}

export class Queries {
  constructor(private readonly host: QueryHost) {}

  async listAgents(): Promise<void> {
    const outcome = await this.host.ask<AgentList>({ type: 'get_agents' });
    if (outcome.ok) this.host.dispatch({ kind: 'agents_arrived', agents: outcome.data.agents });
    else this.host.dispatch({ kind: 'agents_failed', message: outcome.error.message });
  }

  /** Asks for the list of sessions from its beginning. */
  async listSessions(query: string): Promise<void> {
    const known = new Set(this.host.state.sessions.keys());
    await this.#askForList(query, undefined, known);
  }

  async listMoreSessions(): Promise<void> {
    const { query, cursor, phase } = this.host.state.list;
    if (cursor === undefined || phase === 'loading') return;
    await this.#askForList(query, cursor, new Set());
  }

  async #askForList(query: string, cursor: string | undefined, known: Set<string>): Promise<void> {
    this.host.dispatch({ kind: 'list_asked', query });
    const outcome = await this.host.ask<SessionList>({
      type: 'session_management',
      data: {
        action: 'list',
        limit: LIST_PAGE,
        ...(query && { query }),
        ...(cursor && { cursor }),
      },
    });
    if (!outcome.ok) return this.host.dispatch({ kind: 'list_failed', query });
    const next = cursor !== undefined;
    this.host.dispatch({ kind: 'list_arrived', page: outcome.data, query, next, known });
  }

  // ---- messages found ----

  /** Looks for messages by their words; a query that is too short for it ends the search. */
  async search(query: string): Promise<void> {
    await this.#search(query, undefined);
  }

  async searchMore(): Promise<void> {
    const { query, cursor, phase } = this.host.state.search;
    if (cursor !== undefined && phase !== 'loading') await this.#search(query, cursor);
  }

  async #search(query: string, cursor: string | undefined): Promise<void> {
    this.host.dispatch({ kind: 'search_asked', query, more: cursor !== undefined });
    if (!isSearchable(query)) return;
    const { asked } = this.host.state.search;
    const outcome = await this.host.ask<SearchHits>({
      type: 'session_management',
      data: { action: 'search', query, ...(cursor && { cursor }) },
    });
    if (outcome.ok) this.host.dispatch({ kind: 'search_arrived', asked, page: outcome.data });
    else this.host.dispatch({ kind: 'search_failed', asked, message: outcome.error.message });
  }

  // ---- the past of a session ----

  /** Brings more of the messages before, or after, those that are shown. */
  async loadMore(sessionId: string, side: Side): Promise<void> {
    const view = this.host.state.views.get(sessionId);
    const more = view && moreOf(view, side);
    if (!view || more === 'none' || more === 'loading') return;
    const at = cursorOf(view, side);
    this.host.dispatch({ kind: 'page_asked', sessionId, side, at });
    const from = side === 'older' ? { before: at } : { after: at };
    const outcome = await this.#history(sessionId, { ...from, limit: HISTORY_PAGE });
    if (outcome.ok) {
      this.host.dispatch({ kind: 'page_arrived', sessionId, side, at, page: outcome.data });
    } else this.host.dispatch({ kind: 'page_failed', sessionId, side, at });
  }

  /** Brings the part of the past in which an event stands, unless it is here. Returns why it cannot be had. */
  async loadAround(sessionId: string, seq: number): Promise<Refusal | undefined> {
    // Messages may be so long that the first page does not reach it; the second ends with it.
    for (const before of [seq + AFTER_TARGET, seq + 1]) {
      // oxlint-disable-next-line no-await-in-loop -- the second is for where the first does not reach it
      const outcome = await this.#history(sessionId, { before, limit: HISTORY_PAGE });
      if (!outcome.ok) return outcome.error;
      if (outcome.data.events.some((event) => event.seq === seq)) {
        this.host.dispatch({ kind: 'part_arrived', sessionId, page: outcome.data });
        return undefined;
      }
    }
    return NO_SUCH_MESSAGE;
  }

  /** Asks what the session began with, which a snapshot does not tell. */
  async loadBeginning(sessionId: string): Promise<void> {
    const outcome = await this.#history(sessionId, { after: 0, limit: 1 });
    if (!outcome.ok) return;
    this.host.dispatch({ kind: 'beginning_arrived', sessionId, page: outcome.data });
  }

  /** Where the run ended that an event is of. */
  async endOfRun(sessionId: string, runId: string, seq: number): Promise<Outcome<number>> {
    let after = seq;
    for (let page = 0; page < MAX_RUN_PAGES; page++) {
      // oxlint-disable-next-line no-await-in-loop -- each begins where the one before ended
      const outcome = await this.#history(sessionId, { after, limit: RUN_PAGE });
      if (!outcome.ok) return outcome;
      const { events, more } = outcome.data;
      const end = events.find(({ type, run_id }) => type === 'run_finished' && run_id === runId);
      if (end?.seq !== undefined) return { ok: true, data: end.seq };
      if (!more) break;
      after = events.at(-1)?.seq ?? after;
    }
    return { ok: false, error: NOT_ENDED };
  }

  #history(sessionId: string, data: HistoryData): Promise<Outcome<History>> {
    const action = { action: 'history', ...data };
    return this.host.ask<History>({ type: 'session_management', sessionId, data: action });
  }
}

const NO_SUCH_MESSAGE: Refusal = {
  code: 'invalid_field',
  message: 'The chat has no such message.',
  details: {},
  retryable: false,
};

const NOT_ENDED: Refusal = {
  code: 'conflict',
  message: 'The answer is not complete yet.',
  details: {},
  retryable: true,
};
