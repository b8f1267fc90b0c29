import { beforeEach, describe, expect, it } from 'vitest';
import { judgeEnding, Socket, type Ending } from '../../src/client/socket';
import type { ServerFrame } from '../../src/client/wire';
import { FakeClock, FakeSocket } from './helpers';

let clock: FakeClock;
let raw: FakeSocket;
let endings: Ending[];
let frames: ServerFrame[];
let established: number;

const events = {
  established: () => established++,
  frame: (frame: ServerFrame) => frames.push(frame),
  ended: (ending: Ending) => endings.push(ending),
};

beforeEach(() => {
  clock = new FakeClock();
  raw = new FakeSocket('/ws/frontend-api');
  endings = [];
  frames = [];
  established = 0;
});

const open = () => new Socket(() => raw, clock, events);

describe('what a close code asks for', () => {
  it.each([
    [1000, 'retry', 'lost'],
    [1001, 'retry', 'lost'],
    [1006, 'retry', 'lost'],
    [1011, 'retry', 'lost'],
    [1012, 'retry', 'restarting'],
    [4001, 'retry', 'lost'],
    [4002, 'retry', 'lost'],
    [4003, 'retry', 'lost'],
    [4004, 'retry', 'restarting'],
    [4399, 'retry', 'lost'],
    [1002, 'stop', 'outdated'],
    [1003, 'stop', 'outdated'],
    [1007, 'stop', 'outdated'],
    [1009, 'stop', 'outdated'],
    [4400, 'stop', 'outdated'],
    [4401, 'stop', 'unauthenticated'],
    [4403, 'stop', 'forbidden'],
    [4404, 'stop', 'not_found'],
    [4409, 'renew', 'elsewhere'],
    [4410, 'stop', 'refused'],
    [4999, 'stop', 'refused'],
  ])('%i: %s, %s', (code, does, kind) => {
    expect(judgeEnding({ code, reason: 'why' })).toMatchObject({
      does,
      why: { kind, reason: 'why' },
    });
  });

  it('4429 waits at least 20 s', () => {
    const verdict = judgeEnding({ code: 4429, reason: '' });
    expect(verdict).toMatchObject({ does: 'retry', atLeastMs: 20_000 });
  });
});

describe('a socket', () => {
  it('is given up when nothing comes within the heartbeat and its grace', () => {
    open();
    raw.establish();
    expect(established).toBe(1);
    clock.pass(34_999);
    expect(endings).toEqual([]);
    clock.pass(1);
    expect(endings).toEqual([{ code: 1006, reason: '' }]);
    expect(raw.isClosed).toBe(true);
  });

  it('lives on with any frame', () => {
    open();
    raw.establish();
    for (let minute = 0; minute < 10; minute++) {
      clock.pass(25_000);
      raw.receive({ v: 1, type: 'heartbeat', data: {} });
    }
    expect(endings).toEqual([]);
    clock.pass(35_000);
    expect(endings).toHaveLength(1);
  });

  it('is given up when it does not come about', () => {
    open();
    clock.pass(10_000);
    expect(endings).toEqual([{ code: 1006, reason: '' }]);
  });

  it('must answer quickly when it is doubted', () => {
    const socket = open();
    raw.establish();
    socket.probe('p1');
    expect(raw.sent).toEqual([{ type: 'ping', message_id: 'p1' }]);
    clock.pass(2_999);
    raw.receive({ v: 1, type: 'pong', reply_to: 'p1' });
    clock.pass(30_000);
    expect(endings).toEqual([]);

    socket.probe('p2');
    clock.pass(3_000);
    expect(endings).toHaveLength(1);
  });

  it('is not doubted before it has come about', () => {
    open().probe('p1');
    expect(raw.sent).toEqual([]);
  });

  it('ends with what the server said last, should the close itself be lost', () => {
    open();
    raw.establish();
    raw.receive({ v: 1, type: 'connection_closed', data: { code: 4004, reason: 'drain' } });
    raw.end(1006);
    expect(endings).toEqual([{ code: 4004, reason: 'drain' }]);
  });

  it('tells its end once, and after that nothing', () => {
    const socket = open();
    raw.establish();
    raw.end(4002, 'slow');
    raw.end(1006);
    raw.receive({ v: 1, type: 'heartbeat', data: {} });
    clock.pass(60_000);
    expect(endings).toEqual([{ code: 4002, reason: 'slow' }]);
    expect(frames).toHaveLength(1);
    expect(() => socket.send({ type: 'ping', message_id: 'x' })).not.toThrow();
  });

  it('tells nothing of an end that was asked for', () => {
    const socket = open();
    raw.establish();
    socket.close();
    raw.end(1000);
    clock.pass(60_000);
    expect(raw.closedWith).toBe(1000);
    expect(endings).toEqual([]);
  });

  it('that cannot be made ends like one that was lost, but not at once', () => {
    const failing = () => {
      throw new Error('blocked');
    };
    const socket = new Socket(failing, clock, events);
    expect(endings).toEqual([]);
    clock.pass(0);
    expect(endings).toEqual([{ code: 1006, reason: '' }]);
    expect(socket).toBeDefined();
  });

  it('passes over what is no frame', () => {
    open();
    raw.establish();
    for (const data of ['{', '[]', '1', 'null', '{"v":1}', new ArrayBuffer(1)]) {
      raw.receiveText(data);
    }
    expect(frames).toHaveLength(1);
  });
});
