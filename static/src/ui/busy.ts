/** What is going on in a session, in words and as a fact. */

import { messagesOf } from '../client/commands';
import type { State } from '../client/state';

/** From the moment a message is sent until its run has ended. */
export function isBusy({ views, pending }: State, sessionId: string): boolean {
  const view = views.get(sessionId);
  // Between two runs there is a moment without one, as long as a message waits.
  if (view?.run || (view && view.queue.length > 0)) return true;
  return messagesOf(pending, sessionId).some(({ state }) => state !== 'refused');
}

const ACTIVITIES = {
  thinking: 'thinking',
  responding: 'responding',
  calling_tool: 'using a tool',
  waiting_approval: 'waiting for approval',
} as const;

/** What an agent does in a session, if it does anything. */
export function activityOf({ views, sessions }: State, sessionId: string): string | undefined {
  const view = views.get(sessionId);
  if (view?.run) return ACTIVITIES[view.run.status];
  const isFollowed = view?.synced ?? false;
  const status = isFollowed ? undefined : sessions.get(sessionId)?.status;
  if (status === 'waiting_approval') return ACTIVITIES[status];
  return status === 'running' ? 'working' : undefined;
}
