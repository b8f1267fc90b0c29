/** One WebSocket, from its opening to its one end, with the rules for what each end means. */

import { decodeFrame, type ClientFrame, type ServerFrame } from './wire';
import type { Why } from './state';

/** What is needed of a browser's `WebSocket`. */
export interface WebSocketLike {
  addEventListener(type: 'message', listener: (event: { data: unknown }) => void): void;
  addEventListener(type: 'close', listener: (event: Ending) => void): void;
  send(text: string): void;
  close(code?: number): void;
}

export type OpenWebSocket = (path: string) => WebSocketLike;

export interface Clock {
  now(): number;
  /** Calls back once, after so many milliseconds; returns how to prevent it. */
  after(ms: number, call: () => void): () => void;
}

/** How long a connection may take from its beginning to the server's first frame. */
const OPENING_MS = 10_000;
/** What the server grants beyond its heartbeat interval, and so do we. */
const GRACE_MS = 10_000;
/** How soon a living connection answers. */
const PROBE_MS = 3_000;

/** What is to be done after an end. */
export type Verdict =
  | { does: 'retry'; atLeastMs: number; why: Why }
  | { does: 'renew'; why: Why }
  | { does: 'stop'; why: Why };

export interface Ending {
  code: number;
  reason: string;
}

/** Ended without a word: a lost connection, a refused upgrade, a constructor that throws. */
const NO_WORD: Ending = { code: 1006, reason: '' };

/** What a close code asks of a client. */
export function judgeEnding({ code, reason }: Ending): Verdict {
  const retry = (kind: Why['kind'], atLeastMs = 0): Verdict => ({
    does: 'retry',
    atLeastMs,
    why: { kind, reason },
  });
  const stop = (kind: Why['kind']): Verdict => ({ does: 'stop', why: { kind, reason } });
  switch (code) {
    case 1002:
    case 1003:
    case 1007:
    case 1009:
    case 4400:
      // We broke the protocol, and would again.
      return stop('outdated');
    case 1012:
    case 4004:
      return retry('restarting');
    case 4401:
      return stop('unauthenticated');
    case 4403:
      return stop('forbidden');
    case 4404:
      return stop('not_found');
    case 4409:
      return { does: 'renew', why: { kind: 'elsewhere', reason } };
    case 4429:
      return retry('rate_limited', 20_000);
    default:
      return code >= 4400 && code <= 4999 ? stop('refused') : retry('lost');
  }
}

export interface SocketEvents {
  established(): void;
  frame(frame: ServerFrame): void;
  ended(ending: Ending): void;
}

export class Socket {
  #socket: WebSocketLike | undefined;
  #established = false;
  /** What the server said before it closed; the close itself may be lost on the way. */
  #announced: Ending | undefined;
  #silenceMs = OPENING_MS;
  /** When the other side is given up, unless a frame comes before. */
  #deadline = 0;
  #timerAt = Infinity;
  #stopTimer = () => {};

  constructor(
    open: () => WebSocketLike,
    private readonly clock: Clock,
    private readonly events: SocketEvents,
  ) {
    try {
      const socket = open();
      this.#socket = socket;
      // One that was let go is not listened to any more.
      const isOurs = () => this.#socket === socket;
      socket.addEventListener('message', ({ data }) => isOurs() && this.#received(data));
      socket.addEventListener('close', (ending) => isOurs() && this.#end(ending));
      this.#expectFrameWithin(OPENING_MS);
    } catch {
      // Told later, as every other end is: whoever opens a socket is not ready for its end.
      this.#stopTimer = clock.after(0, () => this.#end(NO_WORD));
    }
  }

  send(frame: ClientFrame): void {
    this.#socket?.send(JSON.stringify(frame));
  }

  /** Makes sure that the other side is there: a machine that slept may hold a dead connection. */
  probe(id: string): void {
    if (!this.#established) return;
    this.send({ type: 'ping', message_id: id });
    this.#expectFrameWithin(PROBE_MS);
  }

  /** Ends it from this side; nothing is told of it any more. */
  close(): void {
    this.#detach()?.close(1000);
  }

  #received(data: unknown): void {
    const frame = typeof data === 'string' ? decodeFrame(data) : undefined;
    if (frame?.type === 'connection_established') {
      this.#established = true;
      this.#silenceMs = frame.data.heartbeat_secs * 1000 + GRACE_MS;
    }
    // Whatever comes is a sign of life.
    this.#expectFrameWithin(this.#silenceMs);
    if (!frame) return;
    if (frame.type === 'connection_closed') this.#announced = frame.data;
    if (frame.type === 'connection_established') this.events.established();
    this.events.frame(frame);
  }

  /** Moving the deadline back costs nothing: frames come thousands a second, timers should not. */
  #expectFrameWithin(ms: number): void {
    this.#deadline = this.clock.now() + ms;
    if (this.#deadline < this.#timerAt) this.#arm();
  }

  #arm(): void {
    this.#stopTimer();
    this.#timerAt = this.#deadline;
    this.#stopTimer = this.clock.after(this.#deadline - this.clock.now(), () => {
      if (this.clock.now() < this.#deadline) return this.#arm();
      this.#socket?.close();
      this.#end(NO_WORD);
    });
  }

  #end(ending: Ending): void {
    this.#detach();
    const { code, reason } = ending;
    const isWordless = code === 1005 || code === 1006;
    this.events.ended(isWordless && this.#announced ? this.#announced : { code, reason });
  }

  #detach(): WebSocketLike | undefined {
    this.#stopTimer();
    const socket = this.#socket;
    this.#socket = undefined;
    return socket;
  }
}
