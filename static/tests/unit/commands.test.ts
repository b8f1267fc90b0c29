import { describe, expect, it } from 'vitest';
import {
  commandId,
  compareWithLog,
  confirm,
  frameOf,
  markLost,
  markSent,
  markUnsettled,
  outboxOf,
  nextToSend,
  sendAgain,
  settle,
} from '../../src/client/commands';
import type { Pending } from '../../src/client/state';
import type { Reply } from '../../src/client/wire.gen';
import { pendingMessage, syncedView, userMessage } from './helpers';

function accepted(id: string, seq: number, duplicate = false): Reply<unknown> {
  const data = { run_id: `run-of-${id}`, seq, duplicate };
  return { v: 1, type: 'reply', reply_to: id, ok: true, data };
}

function refused(id: string, code: string): Reply<unknown> {
  const error = { code, message: code, details: {}, retryable: false };
  return { v: 1, type: 'reply', reply_to: id, ok: false, error };
}

const ids = (pendings: readonly Pending[]) => pendings.map(({ id }) => id);
const states = (pendings: readonly Pending[]) => pendings.map(({ state }) => state);

it('makes ids of 128 random bits', () => {
  expect(commandId((count) => new Uint8Array(count).fill(10))).toBe('0a'.repeat(16));
});

it('sends the same frame whenever it sends a command', () => {
  const pending = pendingMessage('c1');
  const again = { ...pending, state: 'unknown' as const };
  expect(frameOf(again)).toEqual(frameOf(pending));
  expect(frameOf(pending)).toEqual({
    type: 'chat_message',
    message_id: 'c1',
    session_id: pending.sessionId,
    data: { content: 'text of c1' },
  });
});

describe('what is sent next', () => {
  const next = (...pendings: Pending[]) => nextToSend(pendings)?.id;
  const one = pendingMessage('c1');
  const two = pendingMessage('c2');

  it('is the first of a session that waits for no reply', () => {
    const other = pendingMessage('c3', { sessionId: 'writer_100' });
    expect(next(one, two)).toBe('c1');
    expect(next({ ...one, state: 'sent' }, two)).toBeUndefined();
    expect(next({ ...one, state: 'sent' }, two, other)).toBe('c3');
    expect(next({ ...one, state: 'accepted' }, two)).toBe('c2');
    expect(next({ ...one, state: 'refused' }, two)).toBe('c2');
  });

  it('is what is not confirmed, before what came after it', () => {
    expect(next({ ...one, state: 'unknown' }, two)).toBe('c1');
  });

  it('may be a stop, which waits for nothing, and for which nothing waits', () => {
    const stop = pendingMessage('s', { type: 'stop_run', data: { run_id: 'r1' } });
    expect(next({ ...one, state: 'sent' }, stop)).toBe('s');
    expect(next({ ...stop, state: 'sent' }, one)).toBe('c1');
  });

  it('is nothing that only the log can settle, nor what comes after that', () => {
    expect(next({ ...one, state: 'unsettled' }, two)).toBeUndefined();
  });
});

describe('a lost socket', () => {
  it('leaves in doubt what was sent, and nothing else', () => {
    const pendings = [
      pendingMessage('c1', { state: 'sent' }),
      pendingMessage('c2', { state: 'waiting' }),
      pendingMessage('c3', { state: 'refused' }),
      pendingMessage('c4', { state: 'accepted' }),
    ];
    expect(states(markLost(pendings))).toEqual(['unknown', 'waiting', 'refused', 'accepted']);
    const [, ...rest] = pendings;
    expect(markLost(rest)).toBe(rest);
  });
});

describe('a reply', () => {
  const sent = markSent([pendingMessage('c1')], 'c1');

  it('keeps an accepted message in sight until its event comes', () => {
    const [message] = settle(sent, accepted('c1', 9));
    expect(message).toMatchObject({ state: 'accepted', seq: 9, runId: 'run-of-c1' });
  });

  it('counts a repeated message as done', () => {
    expect(states(settle(sent, accepted('c1', 9, true)))).toEqual(['accepted']);
  });

  it('keeps a refused message, with the reason', () => {
    const [message] = settle(sent, refused('c1', 'session_closed'));
    expect(message).toMatchObject({ state: 'refused', error: { code: 'session_closed' } });
    const [again] = sendAgain([message as Pending], 'c1');
    expect(again).toMatchObject({ id: 'c1', state: 'waiting' });
    expect(again?.error).toBeUndefined();
  });

  it('ends every other command', () => {
    const rename = pendingMessage('c2', { type: 'session_management', state: 'sent' });
    expect(settle([rename], refused('c2', 'invalid_field'))).toEqual([]);
  });

  it('to something else changes nothing', () => {
    expect(settle(sent, accepted('c9', 1))).toBe(sent);
  });
});

describe('the log', () => {
  it('confirms a message by its command id, in whatever state it is', () => {
    for (const state of ['sent', 'unknown', 'accepted', 'unsettled', 'refused'] as const) {
      const pendings = [pendingMessage('c1', { state }), pendingMessage('c2')];
      expect(ids(confirm(pendings, [userMessage(9, 'x', { commandId: 'c1' })]))).toEqual(['c2']);
    }
  });

  it('is not confused by the messages of others', () => {
    const pendings = [pendingMessage('c1')];
    expect(confirm(pendings, [userMessage(9, 'x'), userMessage(10, 'y', { commandId: 'z' })])).toBe(
      pendings,
    );
  });

  it('has an accepted message when it has come so far', () => {
    const pendings = [pendingMessage('c1', { state: 'accepted', seq: 9 })];
    expect(compareWithLog(pendings, syncedView(8))).toBe(pendings);
    expect(compareWithLog(pendings, syncedView(9))).toEqual([]);
  });
});

describe('a new identity', () => {
  const pendings = markUnsettled([
    pendingMessage('c1', { state: 'sent' }),
    pendingMessage('c2', { state: 'waiting' }),
    pendingMessage('c3', { state: 'accepted', seq: 5 }),
    pendingMessage('c4', { type: 'session_management' }),
  ]);

  it('sends nothing again that might be done twice', () => {
    expect(states(pendings)).toEqual(['unsettled', 'unsettled', 'accepted']);
    expect(nextToSend(pendings)).toBeUndefined();
  });

  it('leaves it to the log, and then to the user', () => {
    const behind = syncedView(3, { synced: false });
    expect(states(compareWithLog(pendings, behind))).toEqual([
      'unsettled',
      'unsettled',
      'accepted',
    ]);
    const found = confirm(pendings, [userMessage(4, 'x', { commandId: 'c1' })]);
    const settled = compareWithLog(found, syncedView(6));
    expect(settled).toMatchObject([{ id: 'c2', state: 'refused', error: { retryable: true } }]);
  });
});

it('keeps only messages that may not have arrived', () => {
  const pendings = [
    pendingMessage('c1', { state: 'unknown' }),
    pendingMessage('c2', { state: 'accepted' }),
    pendingMessage('c3', { state: 'refused' }),
    pendingMessage('c4', { type: 'stop_run' }),
  ];
  expect(ids(outboxOf(pendings))).toEqual(['c1', 'c3']);
});
