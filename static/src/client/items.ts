/** A log's events as the items of a conversation. Items stand in the order of the log. */

import type { Item, ItemBody } from './state';
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
    case 'tool_call.start': {
      const { tool_call_id, tool_name: name, args } = event.data;
      return item(`tool:${tool_call_id}`, { kind: 'tool', name, args, outcome: undefined });
    }
    case 'tool_call.end': {
      const { tool_call_id, tool_name: name, result, error, duration_ms: durationMs } = event.data;
      const outcome = { result, error, durationMs };
      return item(`tool:${tool_call_id}`, { kind: 'tool', name, args: undefined, outcome });
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
  const known = items.findIndex((other) => other.key === item.key);
  const same = items[known];
  if (same) return items.with(known, joinToolCall(same, item));
  const place = items.findLastIndex((other) => other.seq < item.seq) + 1;
  return items.toSpliced(place, 0, item);
}

/** A tool's call and its end are one item, where the call stands. */
function joinToolCall(known: Item, item: Item): Item {
  if (known.kind !== 'tool' || item.kind !== 'tool' || known.seq === item.seq) return item;
  const [start, end] = known.seq < item.seq ? [known, item] : [item, known];
  return { ...start, outcome: end.outcome };
}

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
