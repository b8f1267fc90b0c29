import { describe, expect, it } from 'vitest';
import { emptyView, type View } from '../../src/client/state';
import { foldEvent, foldSnapshot, foldSubscribed } from '../../src/client/view';
import type { EventEnvelope, Subscribed } from '../../src/client/wire.gen';
import {
  answer,
  delta,
  EPOCH,
  event,
  runFinished,
  runStarted,
  SESSION,
  snapshot,
  syncedView,
  TOPIC,
  userMessage,
} from './helpers';

function foldAll(view: View, events: EventEnvelope[]): View {
  return events.reduce(foldEvent, view);
}

function ack(more: Partial<Subscribed> = {}): Subscribed {
  return { topic: TOPIC, epoch: EPOCH, head: 3, recovered: true, ...more };
}

describe('a run', () => {
  const begin = [userMessage(4, 'Hi', { run: 'r1' }), runStarted(5, 'r1')];

  it('goes on from its message to its beginning without a gap, and keeps a wish to stop it', () => {
    const asked = foldAll(syncedView(3), begin.slice(0, 1));
    expect(asked.run).toEqual({ id: 'r1', status: 'thinking' });

    const stop = { clearQueue: false, runId: 'r1' };
    expect(foldAll({ ...asked, stop }, begin.slice(1)).stop).toEqual(stop);
  });

  it('goes from its message to its end', () => {
    let view = foldAll(syncedView(3), begin);
    expect(view.run).toEqual({ id: 'r1', status: 'thinking' });

    view = foldAll(view, [
      event('agent_status_change', { status: 'responding' }, { run: 'r1' }),
      delta('a1', 0, 'Hel'),
      delta('a1', 3, 'lo'),
    ]);
    expect(view.run?.status).toBe('responding');
    expect(view.streaming.get('a1')?.text).toBe('Hello');

    view = foldAll(view, [
      answer(6, 'a1', 'Hello!', { run: 'r1' }),
      event(
        'context_update',
        {
          tokens_used: 10,
          context_window: 100,
          percentage: 10,
          omitted_messages: 0,
          source: 'estimate',
        },
        { seq: 7, run: 'r1' },
      ),
      runFinished(8, 'r1'),
    ]);
    expect(view.streaming.size).toBe(0);
    expect(view.items.map((item) => item.kind)).toEqual(['user', 'agent']);
    expect(view.items.at(-1)).toMatchObject({ key: 'a1', content: 'Hello!' });
    expect(view.context?.percentage).toBe(10);
    expect(view.run).toBeUndefined();
    expect(view.seq).toBe(8);
  });

  it.each(['completed', 'cancelled', 'failed', 'interrupted'] as const)(
    'leaves nothing behind when it ends %s, though its text was never completed',
    (outcome) => {
      const stop = { clearQueue: false, runId: 'r1' };
      const going = { ...foldAll(syncedView(3), [...begin, delta('a1', 0, 'Hel')]), stop };

      const view = foldEvent(going, runFinished(6, 'r1', outcome));

      expect(view.run).toBeUndefined();
      expect(view.stop).toBeUndefined();
      expect(view.streaming.size).toBe(0);
    },
  );

  it('is begun and ended only by its own events, whatever the status says', () => {
    const idle = foldEvent(
      syncedView(3),
      event('agent_status_change', { status: 'thinking' }, { run: 'r1' }),
    );
    expect(idle.run).toBeUndefined();

    const going = foldAll(syncedView(3), begin);
    const still = foldEvent(going, event('agent_status_change', { status: 'idle' }));
    expect(still.run?.id).toBe('r1');
  });

  it('shows how it ended, unless all is well or an error says so', () => {
    const endOf = (...args: Parameters<typeof runFinished>) =>
      foldAll(syncedView(3), [...begin, runFinished(...args)]).items.at(-1);
    expect(endOf(6, 'r1')?.kind).toBe('user');
    expect(endOf(6, 'r1', 'failed', 'failed')?.kind).toBe('user');
    expect(endOf(6, 'r1', 'cancelled', 'stopped')).toMatchObject({
      kind: 'end',
      reason: 'stopped',
    });
    expect(endOf(6, 'r1', 'interrupted', 'crashed')).toMatchObject({
      kind: 'end',
      outcome: 'interrupted',
    });
  });

  it('shows an error where it happened', () => {
    const failed = {
      ...event('error', {}, { seq: 6, run: 'r1' }),
      error: { code: 'provider_auth', message: 'no key', details: {} },
    } as EventEnvelope;
    const view = foldAll(syncedView(3), [...begin, failed]);
    expect(view.items.at(-1)).toMatchObject({ kind: 'error', error: { code: 'provider_auth' } });
  });

  it('joins a tool call and its end to one item, where the call stood', () => {
    const call = { message_id: 's1', tool_call_id: 't1', tool_name: 'clock' };
    const view = foldAll(syncedView(3), [
      ...begin,
      event('tool_call.start', { ...call, args: { zone: 'utc' } }, { seq: 6, run: 'r1' }),
      answer(7, 's1', '', { run: 'r1' }),
      event('tool_call.end', { ...call, result: 'noon', duration_ms: 7 }, { seq: 8, run: 'r1' }),
    ]);
    expect(view.items).toHaveLength(2);
    expect(view.items.at(-1)).toMatchObject({
      seq: 6,
      kind: 'tool',
      args: { zone: 'utc' },
      outcome: { result: 'noon', durationMs: 7 },
    });
  });
});

describe('the queue', () => {
  it('holds messages until their run begins, or is cleared', () => {
    let view = foldAll(syncedView(3), [
      userMessage(4, 'one', { run: 'r1' }),
      runStarted(5, 'r1'),
      userMessage(6, 'two', { run: 'r2', queued: true }),
      userMessage(7, 'three', { run: 'r3', queued: true }),
    ]);
    expect(view.queue).toEqual(['r2', 'r3']);

    view = foldEvent(view, runFinished(8, 'r3', 'cancelled', 'cleared'));
    expect(view.queue).toEqual(['r2']);
    expect(view.run?.id).toBe('r1');

    view = foldAll(view, [runFinished(9, 'r1'), runStarted(10, 'r2')]);
    expect(view.queue).toEqual([]);
    expect(view.run?.id).toBe('r2');
  });

  it('lets a wish to stop go with the run that it was for', () => {
    const running = foldAll(syncedView(3), [
      userMessage(4, 'one', { run: 'r1' }),
      runStarted(5, 'r1'),
    ]);
    const stopping = { ...running, stop: { clearQueue: false, runId: 'r1' } };
    const view = foldAll(stopping, [runFinished(6, 'r1', 'cancelled'), runStarted(7, 'r2')]);
    expect(view.stop).toBeUndefined();
  });
});

describe('continuity', () => {
  it('ignores what it has seen', () => {
    const view = foldAll(syncedView(3), [userMessage(4, 'Hi')]);
    expect(foldEvent(view, userMessage(4, 'Hi'))).toBe(view);
    expect(foldEvent(view, userMessage(2, 'older'))).toBe(view);
  });

  it.each([
    ['a gap', userMessage(5, 'too far')],
    ['another epoch', { ...userMessage(4, 'x'), epoch: 'e2' }],
    ['a delta that begins later', delta('a1', 3, 'lo')],
  ])('asks again with the position after %s, and applies nothing meanwhile', (_, bad) => {
    const broken = foldEvent(syncedView(3), bad as EventEnvelope);
    expect(broken).toMatchObject({ resync: 1, awaiting: true, seq: 3 });
    expect(foldEvent(broken, userMessage(4, 'of the old stream'))).toBe(broken);

    const mended = foldAll(foldSubscribed(broken, ack({ head: 4 }), true), [userMessage(4, 'Hi')]);
    expect(mended).toMatchObject({ resync: 0, awaiting: false, seq: 4, synced: true });
  });

  it('asks without a position the second time, and gives up the third', () => {
    const bad = delta('a1', 9, 'x');
    const once = foldEvent(syncedView(3), bad);
    const twice = foldEvent(foldSubscribed(once, ack(), true), bad);
    expect(twice).toMatchObject({ resync: 2, awaiting: true });

    const thrice = foldEvent(foldSnapshot(twice, snapshot()), bad);
    expect(thrice.problem).toBeDefined();
    expect(foldEvent(thrice, userMessage(4, 'x'))).toBe(thrice);
  });

  it('replaces the text that streams by its snapshot', () => {
    const view = foldAll(syncedView(3), [
      delta('a1', 0, 'Hel'),
      event('message.snapshot', { message_id: 'a1', text: 'Hello 🙂' }, { run: 'r1' }),
      delta('a1', 7, '!'),
    ]);
    expect(view.streaming.get('a1')).toMatchObject({ text: 'Hello 🙂!', points: 8 });
  });

  it('does not open a message again that is complete', () => {
    const view = foldAll(syncedView(3), [answer(4, 'a1', 'Hello')]);
    expect(foldEvent(view, delta('a1', 0, 'Hello'))).toBe(view);
    const text = event('message.snapshot', { message_id: 'a1', text: 'Hel' });
    expect(foldEvent(view, text)).toBe(view);
  });

  it('counts a session as loaded once all is there that was there', () => {
    const asked = foldSubscribed(emptyView(SESSION), ack({ head: 3 }), true);
    expect(asked.loaded).toBe(false);
    const created = event(
      'session_created',
      { session_id: SESSION, agent_name: 'Helper', title: null },
      { seq: 1 },
    );
    const system = event('system_message', { content: 'Be kind.' }, { seq: 2 });
    const seed = event('seed_message', { role: 'assistant', content: 'Hello!' }, { seq: 3 });
    const part = foldAll(asked, [created, system]);
    expect(part.loaded).toBe(false);
    const whole = foldEvent(part, seed);
    expect(whole).toMatchObject({ loaded: true, synced: true, agentName: 'Helper' });
    expect(whole.items.map((item) => item.kind)).toEqual(['system', 'seed']);
  });

  it('begins at the first event where the server subscribed by itself', () => {
    const view = foldSubscribed(emptyView(SESSION), ack({ head: 0 }), false);
    expect(view).toMatchObject({ epoch: EPOCH, seq: 0, loaded: false });
    // The explicit subscription that follows tells how much there is.
    const events = [event('system_message', { content: 'x' }, { seq: 1 })];
    const known = foldAll(view, events);
    expect(foldSubscribed(known, ack({ already: true, head: 1 }), true).loaded).toBe(true);
  });

  it('asks again where events of a running subscription were let go', () => {
    const view = foldSubscribed(emptyView(SESSION), ack({ already: true, head: 9 }), true);
    expect(view).toMatchObject({ resync: 1, awaiting: true });
  });

  it('takes over the epoch of a log that it replays from its beginning', () => {
    const fresh = { ...emptyView(SESSION), epoch: 'old' };
    expect(foldSubscribed(fresh, ack({ epoch: 'new' }), true).epoch).toBe('new');
  });
});

describe('a snapshot', () => {
  it('replaces everything, and only then', () => {
    const shown = foldAll(syncedView(3), [userMessage(4, 'old')]);
    const asked = foldSubscribed(shown, ack({ recovered: false, reason: 'epoch' }), true);
    expect(asked.items).toBe(shown.items);

    const view = foldSnapshot(
      asked,
      snapshot(
        {
          head: 50,
          messages: [userMessage(48, 'new', { run: 'r9', epoch: 'e2' })],
          run: { run_id: 'r9', status: 'running' },
          queue: [{ run_id: 'r10', message_id: 'm', seq: 49 }],
          truncated: true,
        },
        'e2',
      ),
    );
    expect(view).toMatchObject({
      epoch: 'e2',
      seq: 50,
      older: 'more',
      run: { id: 'r9' },
      queue: ['r10'],
      synced: true,
      loaded: true,
      awaiting: false,
    });
    expect(view.items.map((item) => item.seq)).toEqual([48]);
  });

  it('keeps the text of the run that goes on, until that has its own', () => {
    const going = foldAll(syncedView(3), [runStarted(4, 'r1'), delta('a1', 0, 'Hel')]);
    const run = { run_id: 'r1', status: 'running' } as const;
    expect(foldSnapshot(going, snapshot({ head: 9, run })).streaming.get('a1')?.text).toBe('Hel');
    expect(foldSnapshot(going, snapshot({ head: 9 })).streaming.size).toBe(0);
  });

  it('tells of a session that is closed', () => {
    const closed = snapshot();
    closed.data.session.status = 'closed';
    expect(foldSnapshot(emptyView(SESSION), closed).closed?.reason).toBe('closed');
  });
});

it('follows the title and the end of the session', () => {
  const view = foldAll(syncedView(3), [
    event('session_updated', { title: 'Trip plan' }, { seq: 4 }),
    event('session_closed', { reason: 'refreshed', replaced_by: 'helper_500' }, { seq: 5 }),
  ]);
  expect(view.title).toBe('Trip plan');
  expect(view.closed?.replaced_by).toBe('helper_500');
});

it('passes over types that it does not know', () => {
  const unknown = event('x.new' as 'typing', {} as never, { seq: 4 });
  const view = foldEvent(syncedView(3), unknown);
  expect(view.seq).toBe(4);
  expect(view.items).toEqual([]);
  const ephemeral = event('x.new' as 'typing', {} as never);
  expect(foldEvent(view, ephemeral)).toBe(view);
});
