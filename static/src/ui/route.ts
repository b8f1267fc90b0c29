/** What the address shows. Addresses are hashes, so that the server need not know them. */

import { signal } from '@preact/signals';

export type Route = { page: 'agents' | 'tasks' | 'unknown' } | SessionRoute;

export interface SessionRoute {
  page: 'session';
  sessionId: string;
  /** Number of the event that is wanted in view; otherwise it is the newest. */
  at: number | undefined;
}

export const AGENTS = '#/';
export const TASKS = '#/tasks';

export function sessionHash(sessionId: string, at?: number): string {
  return `#/s/${encodeURIComponent(sessionId)}${at === undefined ? '' : `?at=${at}`}`;
}

export function parseRoute(hash: string): Route {
  if (hash === '' || hash === '#' || hash === AGENTS) return { page: 'agents' };
  if (hash === TASKS) return { page: 'tasks' };
  const [, encoded, query] = /^#\/s\/([^/?]+)(?:\?(.*))?$/.exec(hash) ?? [];
  if (encoded === undefined) return { page: 'unknown' };
  const at = new URLSearchParams(query).get('at') ?? '';
  try {
    const sessionId = decodeURIComponent(encoded);
    return { page: 'session', sessionId, at: /^\d+$/.test(at) ? Number(at) : undefined };
  } catch {
    return { page: 'unknown' };
  }
}

export const route = signal(parseRoute(location.hash));

addEventListener('hashchange', () => {
  route.value = parseRoute(location.hash);
});

export function goTo(hash: string): void {
  location.hash = hash;
}

/** Shows what a link leads to, even where it is the address already. */
export function followAgain(hash: string): void {
  if (location.hash === hash) route.value = parseRoute(hash);
}

/** The reader has gone on from the message that the address names. */
export function leaveMessage(): void {
  const shown = route.peek();
  if (shown.page !== 'session' || shown.at === undefined) return;
  history.replaceState(null, '', sessionHash(shown.sessionId));
  route.value = parseRoute(location.hash);
}
