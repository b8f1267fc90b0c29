import { beforeEach, describe, expect, it } from 'vitest';
import { Connection, type ConnectionHost } from '../../src/client/connection';
import type { Position } from '../../src/client/positions';
import type { ConnectionState } from '../../src/client/state';
import { FakeClock, FakeSocket, seededRandom } from './helpers';

let clock: FakeClock;
let sockets: FakeSocket[];
let connection: Connection;
let state: ConnectionState;
let happened: string[];
let positions: Record<string, Position>;
let random: () => number;

beforeEach(() => {
  clock = new FakeClock();
  sockets = [];
  happened = [];
  positions = {};
  random = () => 0.5;
  let ids = 0;
  const host: ConnectionHost = {
    changed: (to) => (state = to),
    frame: () => {},
    frontendLost: () => happened.push('frontend lost'),
    backendLost: () => happened.push('backend lost'),
    renewIdentity: () => happened.push('renewed'),
    position: (topic) => positions[topic],
    newId: () => `id${ids++}`,
  };
  const open = (path: string) => {
    sockets.push(new FakeSocket(path));
    return sockets.at(-1) as FakeSocket;
  };
  connection = new Connection({ open, clock, random: () => random() }, host);
  connection.follow(new Set(['system']));
});

/** The newest socket of a door. */
function socket(door: 'frontend' | 'backend'): FakeSocket {
  const found = sockets.findLast(({ path }) => path.includes(door));
  if (!found) throw new Error(`no ${door} socket`);
  return found;
}

function becomeReady(): void {
  socket('backend').establish();
  socket('frontend').establish();
  socket('frontend').acknowledge();
}

function start(): void {
  connection.start();
  becomeReady();
}

describe('becoming ready', () => {
  it('needs both sockets and the answer to the subscription', () => {
    connection.start();
    expect(sockets.map(({ path }) => path)).toEqual(['/ws/frontend-api', '/ws/backend-api']);
    socket('frontend').establish();
    socket('frontend').acknowledge();
    expect(state.phase).toBe('connecting');
    socket('backend').establish();
    expect(state.phase).toBe('ready');
  });

  it('waits for the answer about every topic, whether it is yes or no', () => {
    connection.follow(new Set(['system', 'session:a_1', 'session:b_2']));
    connection.start();
    socket('backend').establish();
    socket('frontend').establish();
    const [asked] = socket('frontend').sentOf('subscribe');
    const reply_to = asked?.message_id;
    const error = (topic: string) => ({ code: 'session_not_found', details: { topic } });
    socket('frontend').receive({ type: 'subscribe_error', reply_to, error: error('session:a_1') });
    const topics = [{ topic: 'system' }];
    socket('frontend').receive({ type: 'subscribe_ack', reply_to, data: { topics } });
    expect(state.phase).toBe('connecting');
    socket('frontend').receive({ type: 'subscribe_error', reply_to, error: error('session:b_2') });
    expect(state.phase).toBe('ready');
  });

  it('is not brought about by a subscription that the server made by itself', () => {
    connection.start();
    socket('backend').establish();
    socket('frontend').establish();
    const topics = [{ topic: 'system' }];
    socket('frontend').receive({ type: 'subscribe_ack', data: { topics } });
    expect(state.phase).toBe('connecting');
  });

  it('asks for all topics at once, from their positions', () => {
    positions['session:a_1'] = { epoch: 'e1', seq: 7 };
    connection.follow(new Set(['system', 'session:a_1', 'session:b_2']));
    start();
    expect(socket('frontend').sentOf('subscribe')).toMatchObject([
      {
        data: {
          topics: ['system', 'session:a_1', 'session:b_2'],
          positions: { 'session:a_1': { epoch: 'e1', seq: 7 } },
        },
      },
    ]);
  });
});

describe('a lost socket', () => {
  it('comes back alone', () => {
    start();
    socket('frontend').end(4002);
    expect(happened).toEqual(['frontend lost']);
    expect(state.phase).toBe('waiting');
    clock.pass(250);
    expect(sockets).toHaveLength(3);
    socket('frontend').establish();
    socket('frontend').acknowledge();
    expect(state.phase).toBe('ready');
    expect(socket('backend').isClosed).toBe(false);
  });

  it('waits with full jitter, longer each time, 20 s at most', () => {
    random = () => 0.999_999;
    connection.start();
    const waits = Array.from({ length: 9 }, () => {
      socket('backend').end(1006);
      socket('frontend').end(1006);
      const wait = (state.nextAt ?? 0) - clock.now();
      clock.pass(wait);
      return Math.round(wait);
    });
    expect(waits).toEqual([500, 1000, 2000, 4000, 8000, 16_000, 20_000, 20_000, 20_000]);
    expect(state.attempt).toBe(9);

    random = () => 0;
    socket('backend').end(1006);
    expect((state.nextAt ?? 0) - clock.now()).toBe(0);
  });

  it('spreads those who lost the same server', () => {
    random = seededRandom(1);
    connection.start();
    const waits = Array.from({ length: 400 }, () => {
      socket('frontend').end(1006);
      const wait = (state.nextAt ?? 0) - clock.now();
      clock.pass(wait);
      return wait;
    }).slice(10);
    const mean = waits.reduce((sum, wait) => sum + wait, 0) / waits.length;
    expect(mean).toBeGreaterThan(8_000);
    expect(mean).toBeLessThan(12_000);
  });

  it('counts one attempt when both go', () => {
    start();
    socket('frontend').end(1006);
    socket('backend').end(1006);
    expect(state.attempt).toBe(1);
    clock.pass(250);
    expect(sockets).toHaveLength(4);
  });

  it('waits long again only after a short life', () => {
    const lose = () => {
      socket('frontend').end(1006);
      const wait = (state.nextAt ?? 0) - clock.now();
      clock.pass(wait);
      socket('frontend').establish();
      socket('frontend').acknowledge();
      return wait;
    };
    start();
    expect([lose(), lose(), lose()]).toEqual([250, 500, 1000]);
    const heartbeat = () => {
      socket('frontend').receive({ type: 'heartbeat', data: {} });
      socket('backend').receive({ type: 'heartbeat', data: {} });
    };
    clock.pass(29_000);
    heartbeat();
    expect(lose()).toBe(2000);
    clock.pass(30_000);
    heartbeat();
    expect(lose()).toBe(250);
  });

  it('is not awaited longer when the network is back, but once a second at most', () => {
    random = () => 1;
    connection.start();
    socket('frontend').end(1006);
    connection.wake();
    expect(sockets).toHaveLength(3);
    socket('frontend').end(1006);
    connection.wake();
    connection.retry();
    expect(sockets).toHaveLength(3);
    clock.pass(1000);
    connection.wake();
    expect(sockets.length).toBeGreaterThan(3);
  });

  it('tells since when, and that the server restarts', () => {
    start();
    clock.pass(5_000);
    socket('frontend').end(4004, 'drain');
    expect(state).toMatchObject({ since: 5_000, why: { kind: 'restarting' } });
    clock.pass(250);
    expect(state.since).toBe(5_000);
    // Until it is back, nobody answers.
    socket('frontend').end(1006);
    expect(state).toMatchObject({ phase: 'waiting', why: { kind: 'restarting' } });
  });

  it('waits 20 s after 4429, whichever socket ends first', () => {
    start();
    socket('backend').end(1006);
    socket('frontend').end(4429);
    clock.pass(19_999);
    expect(sockets).toHaveLength(2);
    clock.pass(1);
    expect(sockets).toHaveLength(4);
  });

  it('lets go of sockets that do not answer when it wakes', () => {
    start();
    connection.wake();
    socket('backend').receive({ type: 'pong', reply_to: 'x' });
    clock.pass(3_000);
    expect(happened).toEqual(['frontend lost']);
  });
});

describe('an end that is not to be tried again', () => {
  it.each([
    [4400, 'outdated'],
    [4401, 'unauthenticated'],
    [4403, 'forbidden'],
    [4404, 'not_found'],
    [4450, 'refused'],
    [1009, 'outdated'],
  ])('%i stops both sockets', (code, kind) => {
    start();
    socket('frontend').end(code, 'because');
    expect(state).toMatchObject({ phase: 'stopped', why: { kind, reason: 'because' } });
    expect(socket('backend').isClosed).toBe(true);
    clock.pass(600_000);
    connection.wake();
    expect(sockets).toHaveLength(2);
  });

  it('is tried again when the user asks for it', () => {
    start();
    socket('frontend').end(4450);
    connection.retry();
    becomeReady();
    expect(state.phase).toBe('ready');
    // Refused again, and asked for again, both within a second.
    socket('frontend').end(4450);
    connection.retry();
    becomeReady();
    expect(state.phase).toBe('ready');
  });
});

describe('another connection with our identity (4409)', () => {
  it('makes us take a new one, and come back at once with both sockets', () => {
    start();
    socket('frontend').end(4409);
    expect(happened).toEqual(['frontend lost', 'backend lost', 'renewed']);
    expect(sockets).toHaveLength(4);
    becomeReady();
    expect(state.phase).toBe('ready');
  });

  it('makes us give way when it happens again within 10 s, until the user takes over', () => {
    start();
    socket('frontend').end(4409);
    becomeReady();
    clock.pass(9_999);
    socket('backend').end(4409);
    expect(state).toMatchObject({ phase: 'stopped', why: { kind: 'elsewhere' } });
    connection.retry();
    becomeReady();
    expect(state.phase).toBe('ready');
  });

  it('may happen again later', () => {
    start();
    socket('frontend').end(4409);
    becomeReady();
    clock.pass(10_000);
    socket('frontend').end(4409);
    expect(state.phase).toBe('connecting');
  });
});

describe('following topics', () => {
  it('asks for what is new and lets go of what is not wanted', () => {
    start();
    connection.follow(new Set(['system', 'session:a_1']));
    connection.follow(new Set(['system', 'session:a_1']));
    connection.follow(new Set(['system', 'session:b_2']));
    const sent = socket('frontend').sent.slice(1);
    expect(sent.map(({ type, data }) => [type, data?.['topics']])).toEqual([
      ['subscribe', ['session:a_1']],
      ['unsubscribe', ['session:a_1']],
      ['subscribe', ['session:b_2']],
    ]);
  });

  it('asks again from the position, or for a snapshot, for which it must let go first', () => {
    positions['session:a_1'] = { epoch: 'e1', seq: 7 };
    connection.follow(new Set(['system', 'session:a_1']));
    start();
    connection.resubscribe('session:a_1', 'position');
    connection.resubscribe('session:a_1', 'snapshot');
    const sent = socket('frontend').sent.slice(1);
    expect(sent).toMatchObject([
      { type: 'subscribe', data: { positions: { 'session:a_1': { seq: 7 } } } },
      { type: 'unsubscribe' },
      { type: 'subscribe', data: { topics: ['session:a_1'], positions: {} } },
    ]);
  });

  it('leaves it to the next socket while there is none', () => {
    connection.follow(new Set(['system', 'session:a_1']));
    connection.resubscribe('session:a_1', 'position');
    start();
    expect(socket('frontend').sentOf('subscribe')).toHaveLength(1);
  });
});

it('closes with 1000 when the page is left, and opens when it is back', () => {
  start();
  connection.suspend();
  expect(sockets.map(({ closedWith }) => closedWith)).toEqual([1000, 1000]);
  clock.pass(600_000);
  expect(sockets).toHaveLength(2);
  start();
  expect(state.phase).toBe('ready');
});
