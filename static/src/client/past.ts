/**
 * Pages of a session's past: what comes before its newest messages, or lies far from them.
 *
 * What is far away stands by itself, so that nobody takes it for the whole, and grows at both ends until it
 * reaches the rest. Pages carry the place that they were asked for: what has changed since, drops them.
 */

import { addEvents, addItem, olderCursor } from './items';
import type { More, Past, View } from './state';
import type { History } from './wire.gen';

export type Side = 'older' | 'newer';

/** `at`: before, or after, which event the page is. */
export type PastInput =
  | { kind: 'page_asked'; sessionId: string; side: Side; at: number }
  | { kind: 'page_failed'; sessionId: string; side: Side; at: number }
  | { kind: 'page_arrived'; sessionId: string; side: Side; at: number; page: History }
  /** From anywhere in the log, to be looked at. */
  | { kind: 'part_arrived'; sessionId: string; page: History }
  | { kind: 'beginning_arrived'; sessionId: string; page: History }
  | { kind: 'past_left'; sessionId: string };

/** What is known of there being more on a side of what is shown. */
export function moreOf({ older, past }: View, side: Side): More {
  return past ? past[side] : side === 'older' ? older : 'none';
}

/** Where the next page of a side begins. */
export function cursorOf(view: View, side: Side): number {
  const { items } = view.past ?? view;
  return (side === 'older' ? olderCursor(items) : items.at(-1)?.seq) ?? view.seq + 1;
}

export function foldPast(view: View, input: PastInput): View {
  if (input.kind === 'past_left') return view.past ? { ...view, past: undefined } : view;
  if (input.kind === 'page_asked' || input.kind === 'page_failed') {
    const more = input.kind === 'page_asked' ? 'loading' : 'failed';
    return note(view, input.side, input.at, more);
  }
  const { page } = input;
  // Of another life of the log: it has nothing to do with what is shown.
  const isOther = page.epoch !== view.epoch;
  if (input.kind === 'page_arrived') {
    const { side, at } = input;
    if (isOther) return note(view, side, at, 'more');
    const next = add(withOrigin(view, page), side, at, page);
    return side === 'newer' ? joined(next, page.more ? reach(page) : Infinity) : next;
  }
  if (isOther) return view;
  const known = withOrigin(view, page);
  if (input.kind === 'beginning_arrived') return known;
  const items = addEvents([], page.events);
  const past: Past = { items, older: page.more ? 'more' : 'none', newer: 'more' };
  // A page that is still to come belongs to what is not shown now.
  const older = view.older === 'loading' ? 'more' : view.older;
  return joined({ ...known, older, past }, reach(page));
}

function note(view: View, side: Side, at: number, more: More): View {
  const { past } = view;
  if (past && isEdge(past, side, at)) return { ...view, past: { ...past, [side]: more } };
  return side === 'older' ? { ...view, older: more } : view;
}

function add(view: View, side: Side, at: number, { events, more }: History): View {
  const { past } = view;
  const next = more ? 'more' : 'none';
  if (past && isEdge(past, side, at)) {
    return { ...view, past: { ...past, items: addEvents(past.items, events), [side]: next } };
  }
  if (side === 'newer') return view;
  // Messages have been let go in the meantime, and what has come does not join the rest.
  if ((olderCursor(view.items) ?? at) !== at) return { ...view, older: 'more' };
  return { ...view, items: addEvents(view.items, events), older: next };
}

function isEdge({ items }: Past, side: Side, at: number): boolean {
  return at === (side === 'older' ? olderCursor(items) : items.at(-1)?.seq);
}

function reach({ events }: History): number {
  return events.at(-1)?.seq ?? 0;
}

/** The past and the rest as one, if nothing is missing between them: a page has reached so far. */
function joined(view: View, reached: number): View {
  const { past } = view;
  if (!past || reached + 1 < (olderCursor(view.items) ?? view.seq + 1)) return view;
  const items = view.items.reduce(addItem, past.items);
  return { ...view, items, older: past.older, past: undefined };
}

/** A page may have the log's first event, which tells what the session began with. */
function withOrigin(view: View, { events: [first] }: History): View {
  if (first?.type !== 'session_created') return view;
  const { agent_name: agentName, forked_from: forkedFrom = null } = first.data;
  return { ...view, agentName, forkedFrom };
}
