/** What is asked of the server and changes nothing there: agents, the list of sessions, older events. */

import type { Input } from './fold';
import { olderCursor } from './items';
import type { Outcome } from './replies';
import type { State } from './state';
import type { AgentList, History, SessionList } from './wire.gen';

/** Events in a page of history: about two hundred messages. */
const HISTORY_PAGE = 600;
const LIST_PAGE = 50;

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

  async loadOlder(sessionId: string): Promise<void> {
    const view = this.host.state.views.get(sessionId);
    if (!view || view.older === 'none' || view.older === 'loading') return;
    this.host.dispatch({ kind: 'older_asked', sessionId });
    const before = olderCursor(view.items) ?? view.seq + 1;
    const outcome = await this.host.ask<History>({
      type: 'session_management',
      sessionId,
      data: { action: 'history', before, limit: HISTORY_PAGE },
    });
    if (outcome.ok) this.host.dispatch({ kind: 'older_arrived', sessionId, page: outcome.data });
    else this.host.dispatch({ kind: 'older_failed', sessionId });
  }
}
