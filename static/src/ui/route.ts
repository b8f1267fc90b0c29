/** What the address shows. Addresses are hashes, so that the server need not know them. */

import { signal } from '@preact/signals';

export type Route =
  { page: 'agents' } | { page: 'session'; sessionId: string } | { page: 'unknown' };

export const AGENTS = '#/';

export function sessionHash(sessionId: string): string {
  return `#/s/${encodeURIComponent(sessionId)}`;
}

export function parseRoute(hash: string): Route {
  if (hash === '' || hash === '#' || hash === AGENTS) return { page: 'agents' };
  const encoded = /^#\/s\/([^/]+)$/.exec(hash)?.[1];
  if (encoded === undefined) return { page: 'unknown' };
  try {
    return { page: 'session', sessionId: decodeURIComponent(encoded) };
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
