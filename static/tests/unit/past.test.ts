import { describe, expect, it } from 'vitest';
import { cursorOf, foldPast, moreOf, type Side } from '../../src/client/past';
import type { View } from '../../src/client/state';
import { foldEvent } from '../../src/client/view';
import type { EventEnvelope, History } from '../../src/client/wire.gen';
import { answer, EPOCH, event, SESSION, syncedView, userMessage } from './helpers';

function page(events: EventEnvelope[], more: Partial<History> = {}): History {
  return { events, epoch: EPOCH, head: 900, more: true, ...more };
}

function messages(from: number, to: number): EventEnvelope[] {
  return Array.from({ length: to - from + 1 }, (_, index) =>
    userMessage(from + index, `${from + index}`),
  );
}

/** A long session, of which the messages from 890 on have come. */
const long = foldAll(syncedView(889, { older: 'more' }), messages(890, 900));

function foldAll(view: View, events: EventEnvelope[]): View {
  return events.reduce(foldEvent, view);
}

function arrive(view: View, side: Side, at: number, come: History): View {
  return foldPast(view, { kind: 'page_arrived', sessionId: SESSION, side, at, page: come });
}

function lookAt(view: View, come: History): View {
  return foldPast(view, { kind: 'part_arrived', sessionId: SESSION, page: come });
}

const seqs = (items: readonly { seq: number }[] | undefined) => items?.map(({ seq }) => seq);
const range = (from: number, to: number) => seqs(messages(from, to) as { seq: number }[]);

describe('older events', () => {
  it('are put where they belong, once', () => {
    const shown = foldAll(syncedView(6, { older: 'loading' }), [userMessage(7, 'new')]);
    const events = [userMessage(4, 'one'), answer(5, 'a1', 'two'), userMessage(7, 'new')];
    const view = arrive(shown, 'older', 7, page(events, { more: false }));
    expect(seqs(view.items)).toEqual([4, 5, 7]);
    expect(view.older).toBe('none');
  });

  it('find their tool calls that ended later', () => {
    const call = { message_id: 's1', tool_call_id: 't1', tool_name: 'clock' };
    const end = event('tool_call.end', { ...call, result: 1, duration_ms: 2 }, { seq: 7 });
    const start = event('tool_call.start', { ...call, args: {} }, { seq: 5 });
    const view = arrive(foldEvent(syncedView(6), end), 'older', 7, page([start]));
    expect(view.items).toHaveLength(1);
    expect(view.items[0]).toMatchObject({ seq: 5, args: {}, outcome: { result: 1 } });
  });

  it('of another log are not taken', () => {
    const come = page([userMessage(4, 'one')], { epoch: 'e0' });
    expect(arrive(syncedView(6), 'older', 7, come).items).toEqual([]);
  });

  it('are not joined to what does not follow them any more', () => {
    const view = arrive(long, 'older', 700, page(messages(600, 699)));
    expect(seqs(view.items)).toEqual(range(890, 900));
    expect(view.older).toBe('more');
  });
});

describe('a part of the past', () => {
  const part = lookAt(long, page(messages(100, 120)));

  it('stands by itself', () => {
    expect(seqs(part.past?.items)).toEqual(range(100, 120));
    expect(seqs(part.items)).toEqual(range(890, 900));
    expect([moreOf(part, 'older'), moreOf(part, 'newer')]).toEqual(['more', 'more']);
  });

  it('does not change with what goes on at the end', () => {
    const view = foldEvent(part, userMessage(901, 'new'));
    expect(view.past).toBe(part.past);
    expect(seqs(view.items)).toEqual(range(890, 901));
  });

  it('grows at both ends, and says so meanwhile', () => {
    expect([cursorOf(part, 'older'), cursorOf(part, 'newer')]).toEqual([100, 120]);
    const asked = foldPast(part, {
      kind: 'page_asked',
      sessionId: SESSION,
      side: 'newer',
      at: 120,
    });
    expect(asked).toMatchObject({ older: 'more', past: { older: 'more', newer: 'loading' } });
    const failed = foldPast(asked, {
      kind: 'page_failed',
      sessionId: SESSION,
      side: 'newer',
      at: 120,
    });
    expect(moreOf(failed, 'newer')).toBe('failed');
    const newer = arrive(asked, 'newer', 120, page(messages(121, 140)));
    expect(seqs(newer.past?.items)).toEqual(range(100, 140));
    const older = arrive(newer, 'older', 100, page(messages(1, 99), { more: false }));
    expect(seqs(older.past?.items)).toEqual(range(1, 140));
    expect(moreOf(older, 'older')).toBe('none');
    // The rest has its own past, of which nothing has come.
    expect(older.older).toBe('more');
  });

  it('becomes one with the rest where it reaches it', () => {
    const near = arrive(part, 'newer', 120, page(messages(121, 889)));
    expect(near.past).toBeUndefined();
    expect(seqs(near.items)).toEqual(range(100, 900));
    expect(moreOf(near, 'older')).toBe('more');
    const over = arrive(part, 'newer', 120, page(messages(121, 900), { more: false }));
    expect(seqs(over.items)).toEqual(range(100, 900));
  });

  it('that is near the rest is one with it at once', () => {
    const view = lookAt(long, page(messages(850, 895)));
    expect(view.past).toBeUndefined();
    expect(seqs(view.items)).toEqual(range(850, 900));
  });

  it('takes no page that was asked for before it was looked at', () => {
    const loading = { ...long, older: 'loading' as const };
    const looking = lookAt(loading, page(messages(100, 120)));
    const view = arrive(looking, 'older', 890, page(messages(800, 889)));
    expect(seqs(view.past?.items)).toEqual(range(100, 120));
    expect(seqs(view.items)).toEqual(range(800, 900));
    expect(view.older).toBe('more');
  });

  it('is left for the newest', () => {
    const left = foldPast(part, { kind: 'past_left', sessionId: SESSION });
    expect(left.past).toBeUndefined();
    expect(seqs(left.items)).toEqual(range(890, 900));
    // What was on its way to it is let go.
    expect(arrive(left, 'newer', 120, page(messages(121, 140)))).toEqual(left);
  });

  it('of another log is not shown', () => {
    expect(lookAt(long, page(messages(1, 9), { epoch: 'e0' })).past).toBeUndefined();
  });
});

describe('what a session began with', () => {
  const created = { session_id: SESSION, agent_name: 'Helper', title: null };

  it('is told by its first event, and by no other', () => {
    const from = { session_id: 'helper_100', at_seq: 12 };
    const fork = event('session_created', { ...created, forked_from: from }, { seq: 1 });
    const ask = (events: EventEnvelope[]) =>
      foldPast(syncedView(9), {
        kind: 'beginning_arrived',
        sessionId: SESSION,
        page: page(events),
      });
    expect(ask([fork]).forkedFrom).toEqual(from);
    expect(ask([event('session_created', created, { seq: 1 })]).forkedFrom).toBeNull();
    expect(ask([userMessage(4, 'x')]).forkedFrom).toBeUndefined();
    expect(arrive(long, 'older', 890, page([fork], { more: false })).forkedFrom).toEqual(from);
    expect(foldEvent(syncedView(0), fork).forkedFrom).toEqual(from);
  });
});
