import { describe, expect, it } from 'vitest';
import { fold, followedSessions, type Input } from '../../src/client/fold';
import { initialState, type State } from '../../src/client/state';
import type { ServerFrame } from '../../src/client/wire';
import {
  answer,
  delta,
  EPOCH,
  event,
  pendingMessage,
  runFinished,
  runStarted,
  SESSION,
  session,
  snapshot,
  stateWith,
  syncedView,
  TOPIC,
  userMessage,
} from './helpers';

function run(state: State, inputs: Input[]): State {
  return inputs.reduce(fold, state);
}

function frame(received: object): Input {
  return { kind: 'frame', frame: received as ServerFrame };
}

function reply(id: string, data: object): Input {
  return frame({ v: 1, type: 'reply', reply_to: id, ok: true, data });
}

function refusal(id: string, code: string): Input {
  const error = { code, message: code, details: {}, retryable: false };
  return frame({ v: 1, type: 'reply', reply_to: id, ok: false, error });
}

function ack(topic: object, replyTo?: string): Input {
  const data = { topics: [{ topic: TOPIC, epoch: EPOCH, recovered: true, ...topic }] };
  return frame({ v: 1, type: 'subscribe_ack', ...(replyTo && { reply_to: replyTo }), data });
}

function subscribeError(code: string): Input {
  const error = { code, message: code, details: { topic: TOPIC }, retryable: false };
  return frame({ v: 1, type: 'subscribe_error', reply_to: 's', error });
}

const viewOf = (state: State) => state.views.get(SESSION);

describe('a message of our own', () => {
  const submitted = run(stateWith(syncedView(3)), [
    { kind: 'submitted', pending: pendingMessage('c1') },
    { kind: 'sent', id: 'c1' },
  ]);
  const replied = reply('c1', { run_id: 'r1', seq: 4, duplicate: false });
  const arrived = frame(userMessage(4, 'text of c1', { commandId: 'c1', run: 'r1' }));

  it.each([
    ['reply, then event', [replied, arrived]],
    ['event, then reply', [arrived, replied]],
    ['event alone', [arrived]],
    ['event twice', [arrived, arrived, replied]],
  ])('is there once after %s', (_, inputs) => {
    const state = run(submitted, inputs);
    expect(state.pending).toEqual([]);
    expect(viewOf(state)?.items.filter((item) => item.kind === 'user')).toHaveLength(1);
  });

  it('is there at every moment in between', () => {
    for (const inputs of [
      [replied, arrived],
      [arrived, replied],
    ]) {
      let state = submitted;
      for (const input of inputs) {
        state = fold(state, input);
        const shown = state.pending.length + (viewOf(state)?.items.length ?? 0);
        expect(shown).toBe(1);
      }
    }
  });

  it('takes the place of the one that was shown while it was sent', () => {
    expect(viewOf(fold(submitted, arrived))?.items[0]?.key).toBe('c1');
  });

  it('is found in a snapshot too', () => {
    const messages = [userMessage(4, 'text of c1', { commandId: 'c1', run: 'r1' })];
    expect(fold(submitted, frame(snapshot({ head: 6, messages }))).pending).toEqual([]);
  });

  it('is confirmed by a snapshot that is further, though it is not among its messages', () => {
    const state = run(submitted, [replied, frame(snapshot({ head: 500 }))]);
    expect(state.pending).toEqual([]);
  });

  it('is in doubt when the socket is lost, and done when the repeated one was a duplicate', () => {
    const doubtful = run(submitted, [{ kind: 'backend_lost' }]);
    expect(doubtful.pending[0]?.state).toBe('unknown');
    const again = run(doubtful, [arrived, reply('c1', { run_id: 'r1', seq: 4, duplicate: true })]);
    expect(again.pending).toEqual([]);
    expect(viewOf(again)?.items).toHaveLength(1);
  });

  it('stays with its reason when it is refused, and ends the wish to stop it', () => {
    const state = run(submitted, [
      { kind: 'stop_wanted', sessionId: SESSION, clearQueue: false },
      refusal('c1', 'session_closed'),
    ]);
    expect(state.pending[0]).toMatchObject({ state: 'refused', error: { code: 'session_closed' } });
    expect(viewOf(state)?.stop).toBeUndefined();
    expect(fold(state, { kind: 'retried', id: 'c1' }).pending[0]?.state).toBe('waiting');
    expect(fold(state, { kind: 'discarded', id: 'c1' }).pending).toEqual([]);
  });

  it('of a lost identity is settled by the log once that is complete', () => {
    const renewed = run(submitted, [{ kind: 'frontend_lost' }, { kind: 'identity_renewed' }]);
    expect(renewed.pending[0]?.state).toBe('unsettled');
    const found = run(renewed, [ack({ head: 4 }, 's'), arrived]);
    expect(found.pending).toEqual([]);
    const notFound = run(renewed, [ack({ head: 3 }, 's')]);
    expect(notFound.pending[0]?.state).toBe('refused');
  });
});

describe('stopping', () => {
  const running = stateWith(
    run(stateWith(syncedView(3)), [frame(runStarted(4, 'r1'))]).views.get(SESSION) ?? syncedView(3),
  );
  const wanted: Input = { kind: 'stop_wanted', sessionId: SESSION, clearQueue: false };
  const stop = pendingMessage('s1', { type: 'stop_run', data: { run_id: 'r1' } });

  it('lasts until the run has ended, not until the reply', () => {
    let state = run(running, [wanted, { kind: 'submitted', pending: stop }]);
    expect(viewOf(state)?.stop).toEqual({ clearQueue: false, runId: 'r1' });
    state = fold(state, reply('s1', { outcome: 'cancelled', duplicate: false }));
    expect(viewOf(state)?.stop).toBeDefined();
    state = fold(state, frame(runFinished(5, 'r1', 'cancelled', 'stopped')));
    expect(viewOf(state)?.stop).toBeUndefined();
  });

  it('is over when it is refused', () => {
    const state = run(running, [
      wanted,
      { kind: 'submitted', pending: stop },
      refusal('s1', 'conflict'),
    ]);
    expect(viewOf(state)?.stop).toBeUndefined();
  });
});

describe('subscriptions', () => {
  it('begin a view where the server subscribed by itself', () => {
    const created = event(
      'session_created',
      { session_id: SESSION, agent_name: 'Helper', title: null },
      { seq: 1 },
    );
    const state = run(initialState(0), [ack({ head: 0 }), frame(created)]);
    expect(viewOf(state)).toMatchObject({ seq: 1, agentName: 'Helper' });
  });

  it('that are refused leave what is shown, with nothing going on in it', () => {
    const going = run(stateWith(syncedView(3)), [
      frame(userMessage(4, 'Hi', { run: 'r1' })),
      frame(runStarted(5, 'r1')),
      frame(delta('a1', 0, 'Hel')),
      { kind: 'frontend_lost' },
      subscribeError('session_not_found'),
    ]);
    expect(viewOf(going)).toMatchObject({
      problem: { code: 'session_not_found' },
      loaded: true,
      run: undefined,
    });
    expect(viewOf(going)?.items).toHaveLength(1);
    expect(viewOf(going)?.streaming.get('a1')?.text).toBe('Hel');
  });

  it('come back after another try', () => {
    const state = run(stateWith(syncedView(3)), [
      subscribeError('unavailable'),
      { kind: 'asked_again', sessionId: SESSION },
      ack({ recovered: false, head: 3 }, 's'),
      frame(snapshot()),
    ]);
    expect(viewOf(state)).toMatchObject({ problem: undefined, synced: true });
  });

  it('of sessions that were opened last, and of those that wait for something', () => {
    const ids = Array.from({ length: 12 }, (_, index) => `helper_${100 + index}`);
    const opened = ids.map((sessionId): Input => ({ kind: 'opened', sessionId }));
    const waiting = pendingMessage('c1', { sessionId: 'helper_100' });
    const state = run(initialState(0), [{ kind: 'submitted', pending: waiting }, ...opened]);
    expect([...followedSessions(state)].toSorted()).toEqual(
      ['helper_100', ...ids.slice(-9)].toSorted(),
    );
    expect(state.views.has('helper_101')).toBe(false);
    expect(state.recent[0]).toBe('helper_111');
  });

  it('carry no events of sessions that are not followed', () => {
    const state = initialState(0);
    expect(fold(state, frame(userMessage(1, 'x', { sessionId: 'writer_100' })))).toBe(state);
  });
});

it('is not up to date without a frontend socket', () => {
  const state = fold(stateWith(syncedView(3)), { kind: 'frontend_lost' });
  expect(viewOf(state)).toMatchObject({ synced: false, loaded: true });
});

it('marks older pages as asked for, come, and failed', () => {
  const at = { sessionId: SESSION, side: 'older', at: 10 } as const;
  const asked = fold(stateWith(syncedView(9, { older: 'more' })), {
    kind: 'page_asked',
    ...at,
  });
  expect(viewOf(asked)?.older).toBe('loading');
  const failed = fold(asked, { kind: 'page_failed', ...at });
  expect(viewOf(failed)?.older).toBe('failed');
  const page = { events: [userMessage(4, 'x')], epoch: EPOCH, head: 9, more: true };
  const come = fold(asked, { kind: 'page_arrived', ...at, page });
  expect(viewOf(come)).toMatchObject({ older: 'more', items: [{ seq: 4 }] });
});

it('keeps the beginning and the newest when it is trimmed', () => {
  const seed = event('seed_message', { role: 'assistant', content: 'Hello' }, { seq: 1 });
  const messages = [2, 3, 4, 5].map((seq) => frame(userMessage(seq, `${seq}`)));
  const full = run(stateWith(syncedView(0)), [frame(seed), ...messages]);
  const trimmed = fold(full, { kind: 'trimmed', sessionId: SESSION, keep: 2 });
  expect(viewOf(trimmed)?.items.map((item) => item.seq)).toEqual([1, 4, 5]);
  expect(viewOf(trimmed)?.older).toBe('more');
  expect(viewOf(fold(full, { kind: 'trimmed', sessionId: SESSION, keep: 4 }))).toBe(viewOf(full));
});

it('knows agents and limits as they were told last', () => {
  const agent = { id: 'helper', name: 'Helper', description: '', model: 'demo', context_window: 1 };
  const failed = fold(initialState(0), { kind: 'agents_failed', message: 'no' });
  expect(failed.agentsError).toBe('no');
  const pushed = fold(failed, frame(event('agent_list_update', { agents: [agent] })));
  expect(pushed).toMatchObject({ agents: [agent], agentsError: undefined });
  expect(fold(failed, { kind: 'agents_arrived', agents: [] }).agents).toEqual([]);
});

it('changes only the view that an event is of', () => {
  const other = { ...syncedView(3), sessionId: 'writer_100' };
  const base = stateWith(syncedView(3));
  const state = { ...base, views: new Map([...base.views, ['writer_100', other]]) };
  const next = fold(state, frame(delta('a1', 0, 'x')));
  expect(next.views.get('writer_100')).toBe(other);
  expect(next.sessions).toBe(state.sessions);
  expect(next.views.get(SESSION)?.items).toBe(viewOf(state)?.items);
});

it('leaves the state before it as it was', () => {
  const state = stateWith(syncedView(3));
  const copy = structuredClone(state);
  run(state, [
    frame(userMessage(4, 'Hi', { run: 'r1' })),
    frame(runStarted(5, 'r1')),
    frame(delta('a1', 0, 'x')),
    frame(answer(6, 'a1', 'xy', { run: 'r1' })),
    frame(snapshot({ session: session({ title: 'x' }) })),
    { kind: 'frontend_lost' },
  ]);
  expect(state).toEqual(copy);
});
