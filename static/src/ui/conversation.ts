/** A session as it is read: its items, what is being written, what waits, what is on its way. Pure. */

import type { Item, Pending, View } from '../client/state';
import type { ForkedFrom } from '../client/wire.gen';

export type Entry = { key: string } & (
  | { kind: 'item'; item: Item; waits: boolean }
  | { kind: 'streaming'; runId: string | undefined; at: string }
  | { kind: 'pending'; pending: Pending }
  | { kind: 'note'; text: string }
  | { kind: 'fork'; sessionId: string; at: number | undefined }
  | { kind: 'thinking' }
);

const THINKING: Entry = { kind: 'thinking', key: 'thinking' };

type Conversation = Pick<View, 'items' | 'queue' | 'streaming'> & { runId: string | undefined };

export function conversationOf(view: Conversation, pending: readonly Pending[]): Entry[] {
  const { read, waiting } = inOrderOfRuns(view);
  const streaming = [...view.streaming].map(([key, { runId, at }]): Entry => ({
    kind: 'streaming',
    key,
    runId,
    at,
  }));
  const ended = new Set(
    read.flatMap((item) =>
      item.kind === 'end' || item.kind === 'error' ? (item.runId ?? []) : [],
    ),
  );
  return [
    ...read.filter((item) => !isToldBefore(item, read)).flatMap((item) => withNote(item, ended)),
    ...streaming,
    // A run goes on, and nothing of it is being written.
    ...(view.runId !== undefined && streaming.length === 0 ? [THINKING] : []),
    ...waiting.map((item): Entry => ({ kind: 'item', key: item.key, item, waits: true })),
    ...pending.map((waits): Entry => ({ kind: 'pending', key: waits.id, pending: waits })),
  ];
}

/**
 * A message that came during another run is answered after it, and so it is read there: before the first
 * that its own run brought, or at the end while it waits.
 */
function inOrderOfRuns({ items, queue, runId: current }: Conversation): {
  read: Item[];
  waiting: Item[];
} {
  const answered = new Set(
    items.flatMap((item) => (item.kind === 'user' ? [] : (item.runId ?? []))),
  );
  const held = new Map<string, Item>();
  const read: Item[] = [];
  for (const item of items) {
    const { runId } = item;
    if (runId === undefined) {
      read.push(item);
      continue;
    }
    const isMoved = answered.has(runId) || current === runId || queue.includes(runId);
    if (item.kind === 'user' && item.queued && isMoved) {
      held.set(runId, item);
      continue;
    }
    const question = held.get(runId);
    held.delete(runId);
    read.push(...(question ? [question, item] : [item]));
  }
  const question = current === undefined ? undefined : held.get(current);
  if (question && current !== undefined) {
    held.delete(current);
    read.push(question);
  }
  return { read, waiting: [...held.values()] };
}

function withNote(item: Item, ended: ReadonlySet<string>): Entry[] {
  const entry: Entry = { kind: 'item', key: item.key, item, waits: false };
  const text = noteOf(item, ended);
  if (text === undefined) return [entry];
  return [entry, { kind: 'note', key: `${item.key}:note`, text }];
}

/** Entries with a mark where what they share with another session ends; `isOpen` if more follow them. */
export function withFork(
  entries: readonly Entry[],
  from: ForkedFrom | null | undefined,
  isOpen: boolean,
): readonly Entry[] {
  if (!from) return entries;
  const last = entries.findLastIndex(
    (entry) => entry.kind === 'item' && entry.item.seq <= from.at_seq,
  );
  // It is not here.
  if (last < 0 || (isOpen && last === entries.length - 1)) return entries;
  const shared = entries.slice(0, last + 1);
  const message = shared.findLast((entry) => entry.kind === 'item' && isMessage(entry.item));
  const at = message?.kind === 'item' ? message.item.seq : undefined;
  const mark: Entry = { kind: 'fork', key: 'fork', sessionId: from.session_id, at };
  return [...shared, mark, ...entries.slice(last + 1)];
}

/** A crash is an error and the end of a run: it is told once. */
function isToldBefore(item: Item, items: readonly Item[]): boolean {
  if (item.kind !== 'end' || item.outcome !== 'interrupted') return false;
  return items.some((other) => other.kind === 'error' && other.runId === item.runId);
}

export function isMessage(item: Item): boolean {
  return item.kind === 'user' || item.kind === 'agent';
}

/** Why an answer is not what it could have been, where no other item says so. */
function noteOf(item: Item, ended: ReadonlySet<string>): string | undefined {
  if (item.kind !== 'agent') return undefined;
  if (item.finish === 'length') return 'Cut: length limit';
  if (item.finish === 'content_filter') return "Cut: the provider's content filter";
  // A snapshot has no ends of runs, but an answer tells how it ended itself.
  if (!item.incomplete || (item.runId !== undefined && ended.has(item.runId))) return undefined;
  return item.finish === 'cancelled' ? 'Stopped' : INTERRUPTED;
}

export const INTERRUPTED = 'Interrupted: the server restarted';

/** How the end of a run reads. */
export function endText({ outcome, reason }: Extract<Item, { kind: 'end' }>): string {
  if (outcome === 'interrupted') return INTERRUPTED;
  if (reason === 'replaced') return 'Stopped: a newer message took its place';
  if (reason === 'closed') return 'Stopped: the chat was closed';
  if (reason === 'cleared') return 'Not answered: taken from the queue';
  return 'Stopped';
}

/** The message that a run was to answer. */
export function questionOf(items: readonly Item[], runId: string | undefined): string | undefined {
  const question = items.find((item) => item.kind === 'user' && item.runId === runId);
  return question?.kind === 'user' ? question.content : undefined;
}
