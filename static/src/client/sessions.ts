/** The list of sessions, folded from its pages and from what the server tells of changes. */

import { goingSessions } from './commands';
import type { State } from './state';
import { foldTask } from './tasks';
import type { ListChange, Session, SessionList as Page } from './wire.gen';

/** Newest first, and then by id, as the server has it. */
export function byNewest(one: Session, other: Session): number {
  if (one.updated_at !== other.updated_at) return one.updated_at < other.updated_at ? 1 : -1;
  return one.session_id < other.session_id ? -1 : 1;
}

/** The sessions that the list shows now. */
export function listedSessions({
  sessions,
  list: { found },
  pending,
}: Pick<State, 'sessions' | 'list' | 'pending'>): Session[] {
  const going = goingSessions(pending);
  return [...sessions.values()]
    .filter(({ session_id: id }) => !going.has(id) && (found?.has(id) ?? true))
    .toSorted(byNewest);
}

/** A session has changed, or has gone from the list. */
export function foldListChange(state: State, change: ListChange): State {
  if ('removed' in change) return forget(state, [change.session_id]);
  if (change.task) return foldTask(state, change.task);
  const known = state.sessions.get(change.session_id);
  return {
    ...state,
    sessions: new Map(state.sessions).set(change.session_id, newer(known, change)),
    unread: isNews(state, known, change)
      ? new Set(state.unread).add(change.session_id)
      : state.unread,
  };
}

/** Events and pages take two ways: what comes later may be older. */
function newer(known: Session | undefined, record: Session): Session {
  return known && known.epoch === record.epoch && known.head > record.head ? known : record;
}

/** Whether a session that is not looked at has an answer that was not there before. */
function isNews(state: State, known: Session | undefined, record: Session): boolean {
  if (!known || record.session_id === state.open || record.status !== 'idle') return false;
  // A run that ends adds its answer and its end; a new title is one event.
  return record.epoch === known.epoch && record.head > known.head + 1;
}

export interface PageArrived {
  page: Page;
  query: string;
  /** It continues the list; otherwise it begins it. */
  next: boolean;
  /** The sessions that were known when it was asked for. */
  known: ReadonlySet<string>;
}

export function foldPage(state: State, { page, query, next, known }: PageArrived): State {
  // The answer to a question that is no longer asked.
  if (query !== state.list.query) return state;
  // The page may be older than a deletion.
  const sessions = page.sessions.filter(({ session_id: id }) => !state.deleted.has(id));
  const ids = sessions.map((session) => session.session_id);
  const folded = sessions.reduce(foldListChange, state);
  const before = next ? state.list.found : new Set<string>();
  const list = {
    phase: 'ready' as const,
    query,
    found: query === '' ? undefined : new Set([...(before ?? []), ...ids]),
    cursor: page.next_cursor ?? undefined,
  };
  const gone = query === '' && !next ? missingFrom(page, state, known) : [];
  return forget({ ...folded, list }, gone);
}

/** Known sessions that the list's first page would show, were they still there. */
function missingFrom(page: Page, state: State, known: ReadonlySet<string>): string[] {
  const shown = new Set(page.sessions.map((session) => session.session_id));
  const last = page.sessions.at(-1);
  const covered = (session: Session) =>
    page.next_cursor === null || (last !== undefined && byNewest(session, last) < 0);
  return [...state.sessions.values()]
    .filter((session) => known.has(session.session_id))
    .filter((session) => !shown.has(session.session_id) && covered(session))
    .map((session) => session.session_id);
}

export function forget(state: State, ids: readonly string[]): State {
  if (ids.length === 0) return state;
  const sessions = new Map(state.sessions);
  const tasks = new Map(state.tasks);
  const unread = new Set(state.unread);
  for (const id of ids) {
    sessions.delete(id);
    tasks.delete(id);
    unread.delete(id);
  }
  return { ...state, sessions, tasks, unread };
}
