/** Commands on their way: what may be sent, what a reply, an event or a lost socket makes of each. */

import type { Pending, View } from './state';
import type { Accepted, EventEnvelope, Refusal, Reply } from './wire.gen';
import type { ClientFrame } from './wire';

/** Chat messages that may wait for their confirmation; more are refused until one of them has it. */
export const MAX_OUTBOX = 64;

/** What the sockets and the log have done to a command. */
type Pendings = readonly Pending[];

/** An id for a command: 128 random bits, which is as good as a UUID. */
export function commandId(randomBytes: (count: number) => Uint8Array): string {
  return Array.from(randomBytes(16), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

export function frameOf(pending: Pending): ClientFrame {
  const { id, type, sessionId, agentId, data } = pending;
  return {
    type,
    message_id: id,
    ...(agentId === undefined ? {} : { agent_id: agentId }),
    ...(sessionId === undefined ? {} : { session_id: sessionId }),
    data,
  };
}

/** The command that is to go out next: in order, and one at a time for each session. */
export function nextToSend(pendings: Pendings): Pending | undefined {
  const busy = new Set<string>();
  return pendings.find((pending) => {
    const lane = laneOf(pending);
    const isFree = lane === undefined || !busy.has(lane);
    const { state } = pending;
    if (lane !== undefined && (state === 'sent' || state === 'unsettled')) busy.add(lane);
    return isFree && (state === 'waiting' || state === 'unknown');
  });
}

/** What keeps order: its session. A stop waits for nothing, nor does a deletion, and nothing waits for them. */
function laneOf(pending: Pending): string | undefined {
  return pending.type === 'stop_run' || isDeletion(pending) ? undefined : pending.sessionId;
}

export function isDeletion({ type, data }: Pending): boolean {
  return type === 'session_management' && data['action'] === 'delete';
}

/** The sessions that are about to go: unless the server refuses, they count as gone. */
export function goingSessions(pendings: Pendings): Set<string> {
  const going = pendings.filter((pending) => isDeletion(pending) && pending.state !== 'refused');
  return new Set(going.flatMap(({ sessionId }) => sessionId ?? []));
}

/** The session that a reply says is deleted; one that is not there need not be. */
export function deletedBy(pendings: Pendings, reply: Reply<unknown>): string | undefined {
  const pending = pendings.find((other) => other.id === reply.reply_to);
  if (!pending || !isDeletion(pending)) return undefined;
  const isGone = reply.ok || reply.error?.code === 'session_not_found';
  return isGone ? pending.sessionId : undefined;
}

function change(pendings: Pendings, id: string, to: Partial<Pending>): Pendings {
  return pendings.map((pending) => (pending.id === id ? { ...pending, ...to } : pending));
}

export function discard(pendings: Pendings, id: string): Pendings {
  return pendings.filter((pending) => pending.id !== id);
}

export function markSent(pendings: Pendings, id: string): Pendings {
  return change(pendings, id, { state: 'sent' });
}

/** A refusal is judged afresh, so the same id will do. */
export function sendAgain(pendings: Pendings, id: string): Pendings {
  const again = pendings.find((pending) => pending.id === id);
  if (!again) return pendings;
  const { error: _, ...rest } = again;
  return [...discard(pendings, id), { ...rest, state: 'waiting' }];
}

/** The socket that commands go over is gone, and with it the replies to those that were sent. */
export function markLost(pendings: Pendings): Pendings {
  if (!pendings.some((pending) => pending.state === 'sent')) return pendings;
  return pendings.map((pending) =>
    pending.state === 'sent' ? { ...pending, state: 'unknown' } : pending,
  );
}

/**
 * This client has a new identity, for which the server does not know the old one's commands: sending a
 * message again could double it. Only the log tells which have arrived; the rest cannot be told.
 */
export function markUnsettled(pendings: Pendings): Pendings {
  return pendings.flatMap((pending): Pending[] => {
    if (pending.type === 'chat_message') {
      return [isUnconfirmed(pending) ? { ...pending, state: 'unsettled' } : pending];
    }
    if (!isDeletion(pending)) return [];
    // What is deleted twice is deleted.
    return [isUnconfirmed(pending) ? { ...pending, state: 'waiting' } : pending];
  });
}

function isUnconfirmed({ state }: Pending): boolean {
  return state === 'waiting' || state === 'sent' || state === 'unknown';
}

const NOT_FOUND: Refusal = {
  code: 'unavailable',
  message: 'This tab was duplicated before the server had confirmed the message.',
  details: {},
  retryable: true,
};

/** The command has been answered. A repeated one (`duplicate`) has been done as well. */
export function settle(pendings: Pendings, reply: Reply<unknown>): Pendings {
  const pending = pendings.find((other) => other.id === reply.reply_to);
  if (!pending) return pendings;
  const isKept = pending.type === 'chat_message' || (isDeletion(pending) && !reply.ok);
  if (!isKept) return discard(pendings, pending.id);
  if (!reply.ok) {
    return change(pendings, pending.id, {
      state: 'refused',
      ...(reply.error && { error: reply.error }),
    });
  }
  // It stays in sight until its event comes, which is on the other socket.
  const { seq, run_id: runId } = reply.data as Accepted;
  return change(pendings, pending.id, { state: 'accepted', seq, runId });
}

/** The event of a message has come: the message stands in the log now. */
export function confirm(pendings: Pendings, events: readonly EventEnvelope[]): Pendings {
  if (pendings.length === 0) return pendings;
  const arrived = new Set(
    events.map((event) => (event.type === 'user_message' ? event.data.command_id : null)),
  );
  return pendings.some(({ id }) => arrived.has(id))
    ? pendings.filter(({ id }) => !arrived.has(id))
    : pendings;
}

/** What a session's log, as far as it has come, says about the messages that were sent to it. */
export function compareWithLog(pendings: Pendings, view: View): Pendings {
  const here = pendings.filter((pending) => pending.sessionId === view.sessionId);
  const passed = here.filter(({ state, seq }) => state === 'accepted' && (seq ?? 0) <= view.seq);
  const known = view.synced || view.problem !== undefined;
  const missing = here.filter(({ state }) => state === 'unsettled' && known);
  if (passed.length + missing.length === 0) return pendings;
  return pendings
    .filter((pending) => !passed.includes(pending))
    .map((pending) =>
      missing.includes(pending) ? { ...pending, state: 'refused', error: NOT_FOUND } : pending,
    );
}

/** The messages that are on their way to a session. */
export function messagesOf(pendings: Pendings, sessionId: string): Pending[] {
  return pendings.filter(
    (pending) => pending.sessionId === sessionId && pending.type === 'chat_message',
  );
}

/** Messages of which it has become known that the server has them. */
export function arrivedBetween(before: Pendings, after: Pendings): Pending[] {
  const open = new Set(outboxOf(after).map(({ id }) => id));
  return outboxOf(before).filter(({ id, state }) => !open.has(id) && state !== 'refused');
}

/** Messages that may not have arrived. */
export function outboxOf(pendings: Pendings): Pending[] {
  return pendings.filter(
    (pending) => pending.type === 'chat_message' && pending.state !== 'accepted',
  );
}

/**
 * What must survive a reload. A deletion that is held does not: whoever leaves the page lets go of it, and
 * a tab that is copied in the meantime must not delete what is kept in this one.
 */
export function storedOf(pendings: Pendings): Pending[] {
  const deletions = pendings.filter(
    (pending) => isDeletion(pending) && pending.state !== 'held' && pending.state !== 'refused',
  );
  return [...outboxOf(pendings), ...deletions];
}
