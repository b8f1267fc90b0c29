/** A log's events as the items of a conversation. Items stand in the order of the log. */

import type { Item, ItemBody, ToolCall } from './state';
import type { EventEnvelope } from './wire.gen';

/** A durable event, by its types. Others show nothing by themselves. */
export function itemOf(event: EventEnvelope): Item | undefined {
  const seq = event.seq;
  if (seq === undefined) return undefined;
  const item = (key: string, body: ItemBody): Item => ({
    key,
    seq,
    at: event.timestamp,
    runId: event.run_id,
    ...body,
  });
  const part = (of: CallName, told: Partial<ToolCall>) =>
    item(`tool:${seq}`, callPart(of, seq, told));
  switch (event.type) {
    case 'system_message':
      return item(`seq:${seq}`, { kind: 'system', content: event.data.content });
    case 'seed_message':
      return item(`seq:${seq}`, { kind: 'seed', ...event.data });
    case 'user_message': {
      const { message_id, command_id, content, author, queued } = event.data;
      const commandId = command_id ?? undefined;
      // Its command's id, so that it takes the place of the message shown while that was sent.
      const key = commandId ?? message_id;
      return item(key, { kind: 'user', content, author, commandId, queued });
    }
    case 'agent_response': {
      const { message_id, content, model, finish_reason: finish, incomplete } = event.data;
      // A step that only calls tools says nothing.
      if (content === '') return undefined;
      return item(message_id, { kind: 'agent', content, model, finish, incomplete });
    }
    case 'tool_call.start':
      return part(event.data, { args: event.data.args });
    case 'approval_requested':
      return part(event.data, { approval: { expiresAt: event.data.expires_at } });
    case 'approval_resolved':
      return part(event.data, { approval: { settled: { ...event.data, at: event.timestamp } } });
    case 'tool_call.end': {
      const { result, error, duration_ms: durationMs } = event.data;
      return part(event.data, { outcome: { result, error, durationMs } });
    }
    case 'error':
      return event.error && item(`seq:${seq}`, { kind: 'error', error: event.error });
    case 'run_finished': {
      const { outcome, reason } = event.data;
      // A failure has its own event before it.
      if (outcome === 'completed' || outcome === 'failed') return undefined;
      return item(`seq:${seq}`, { kind: 'end', outcome, reason });
    }
    default:
      return undefined;
  }
}

/** `items` with one more, which may come in any order and more than once. */
export function addItem(items: readonly Item[], item: Item): readonly Item[] {
  const last = items.at(-1);
  if (item.kind !== 'tool' && (last === undefined || last.seq < item.seq)) return [...items, item];
  const known = items.findIndex((other) =>
    item.kind === 'tool' ? isSameCall(other, item) : other.key === item.key,
  );
  const same = items[known];
  if (!same) return insert(items, item);
  const both = joined(same, item);
  // A call whose beginning comes after its end belongs where it began.
  return both.seq === same.seq ? items.with(known, both) : insert(items.toSpliced(known, 1), both);
}

function insert(items: readonly Item[], item: Item): readonly Item[] {
  const place = items.findLastIndex((other) => other.seq < item.seq) + 1;
  return items.toSpliced(place, 0, item);
}

// ---- tool calls ----

export type ToolItem = Extract<Item, { kind: 'tool' }>;

interface CallName {
  tool_call_id: string;
  tool_name?: string;
}

/** What one event tells of a call. All that is told of it becomes one item, where the call began. */
export function callPart(of: CallName, seq: number, told: Partial<ToolCall>): ItemBody {
  const nothing = { args: undefined, approval: undefined, outcome: undefined };
  const name = of.tool_name ?? '';
  return { kind: 'tool', callId: of.tool_call_id, name, ...nothing, last: seq, ...told };
}

/**
 * Whether both tell of the same call. A model may give one id to several calls of a step: then each thing
 * that is told is of the first call of which it has not been told yet.
 */
function isSameCall(known: Item, item: ToolItem): boolean {
  if (known.kind !== 'tool' || known.callId !== item.callId || known.runId !== item.runId) {
    return false;
  }
  const [one, other] = inOrder(known, item);
  if (one.args !== undefined && other.args !== undefined) return one.seq === other.seq;
  // Told before, by another page.
  if (other.seq <= one.last) return true;
  const asks = other.approval?.expiresAt !== undefined;
  const isToldAgain = one.approval && (asks || (one.approval.settled && other.approval));
  return !one.outcome && !isToldAgain;
}

function joined(known: Item, item: Item): Item {
  if (known.kind !== 'tool' || item.kind !== 'tool') return item;
  const [one, other] = inOrder(known, item);
  const isAsked = one.approval ?? other.approval;
  return {
    ...one,
    key: known.key,
    name: one.name || other.name,
    args: one.args === undefined ? other.args : one.args,
    approval: isAsked && { ...one.approval, ...other.approval },
    outcome: other.outcome ?? one.outcome,
    last: Math.max(one.last, other.last),
  };
}

function inOrder(known: ToolItem, item: ToolItem): [ToolItem, ToolItem] {
  return known.seq < item.seq ? [known, item] : [item, known];
}

/** Whether the call waits for somebody to allow it; nothing does once its run has ended. */
export function awaitsApproval(item: Item, currentRun: string | undefined): item is ToolItem {
  if (item.kind !== 'tool' || item.runId !== currentRun) return false;
  return item.approval !== undefined && !item.approval.settled && !item.outcome;
}

// ---- lists of items ----

export function addEvents(
  items: readonly Item[],
  events: readonly EventEnvelope[],
): readonly Item[] {
  return events.reduce((sum, event) => {
    const item = itemOf(event);
    return item ? addItem(sum, item) : sum;
  }, items);
}

/** Whether the item is one that a conversation begins with, and that every snapshot has. */
export function isPreamble(item: Item): boolean {
  return item.kind === 'system' || item.kind === 'seed';
}

/** Before which event the next older page ends. */
export function olderCursor(items: readonly Item[]): number | undefined {
  return items.find((item) => !isPreamble(item))?.seq;
}

/** The beginning and the newest `keep` items. */
export function trimItems(items: readonly Item[], keep: number): readonly Item[] {
  const rest = items.findIndex((item) => !isPreamble(item));
  if (rest < 0 || items.length - rest <= keep) return items;
  return [...items.slice(0, rest), ...items.slice(items.length - keep)];
}
