/**
 * Both sockets as one connection: opens them, brings lost ones back, and keeps the subscriptions.
 *
 * Owns: the sockets, the waits between attempts, which topics are subscribed. Does not own: what frames
 * mean, nor the positions that subscriptions resume from; its host has both.
 */

import type { Position } from './positions';
import {
  judgeEnding,
  Socket,
  type Clock,
  type Ending,
  type OpenWebSocket,
  type Verdict,
} from './socket';
import type { ConnectionState, Why } from './state';
import type { ClientFrame, ServerFrame } from './wire';

const DOORS = ['frontend-api', 'backend-api'] as const;
type Door = (typeof DOORS)[number];

/** The longest wait between two attempts, and the first, each to be multiplied by a random part of 1. */
const MAX_WAIT_MS = 20_000;
const FIRST_WAIT_MS = 500;
/** A connection that lasted so long was a good one: the next wait is short again. */
const HEALTHY_MS = 30_000;
/** Waits are cut short this often at most. */
const HURRY_MS = 1_000;
/** Taken over twice within this time, a tab gives way: another one keeps taking the same identity. */
const RENEW_MS = 10_000;

export interface ConnectionHost {
  changed(connection: ConnectionState): void;
  frame(frame: ServerFrame): void;
  frontendLost(): void;
  backendLost(): void;
  /** A newer connection has this client's id: takes another one. */
  renewIdentity(): void;
  /** From where a topic's events are wanted; `undefined` for a snapshot. */
  position(topic: string): Position | undefined;
  newId(): string;
}

export interface ConnectionDeps {
  open: OpenWebSocket;
  clock: Clock;
  /** In [0, 1). */
  random(): number;
}

export class Connection {
  #state: ConnectionState;
  #sockets = new Map<Door, Socket>();
  #established = new Set<Door>();
  /** The topics wanted, and those asked for on the present frontend socket. */
  #topics: ReadonlySet<string> = new Set();
  #asked = new Set<string>();
  /** The first subscription of the present frontend socket: answered by an ack or by refusals. */
  #first: { id: string; unanswered: Set<string> } | undefined;
  #stopTimer = () => {};
  #hurriedAt = -Infinity;
  #renewedAt = -Infinity;

  constructor(
    private readonly deps: ConnectionDeps,
    private readonly host: ConnectionHost,
  ) {
    this.#state = {
      phase: 'connecting',
      attempt: 0,
      nextAt: undefined,
      since: deps.clock.now(),
      why: undefined,
    };
  }

  // ---- what others may ask ----

  /** Opens what is not open, at once. */
  start(): void {
    this.#stopTimer();
    this.#update({ phase: 'connecting', nextAt: undefined });
    for (const door of DOORS) if (!this.#sockets.has(door)) this.#open(door);
  }

  /** Lets go of both sockets, as the page is left. */
  suspend(): void {
    this.#stopTimer();
    for (const door of DOORS) this.#drop(door)?.close();
    this.#update({ phase: 'waiting' });
  }

  /** The user asks for it: also where it had been given up. */
  retry(): void {
    if (this.#state.phase === 'stopped') {
      this.#update({ attempt: 0 });
      this.start();
    } else if (this.#state.phase !== 'ready') this.#hurry();
  }

  /** Something has changed for the better: no use in waiting longer, nor in trusting an old socket. */
  wake(): void {
    if (this.#state.phase === 'waiting') this.#hurry();
    for (const socket of this.#sockets.values()) socket.probe(this.host.newId());
  }

  /** Sends a command; only while ready. */
  send(frame: ClientFrame): void {
    this.#sockets.get('backend-api')?.send(frame);
  }

  /** The topics that are wanted from now on. */
  follow(topics: ReadonlySet<string>): void {
    this.#topics = topics;
    if (!this.#established.has('frontend-api')) return;
    const dropped = [...this.#asked].filter((topic) => !topics.has(topic));
    if (dropped.length > 0) this.#unsubscribe(dropped);
    const added = [...topics].filter((topic) => !this.#asked.has(topic));
    if (added.length > 0) this.#subscribe(added);
  }

  /** Subscribes once more: from the position, or without one, for a snapshot. */
  resubscribe(topic: string, from: 'position' | 'snapshot'): void {
    if (!this.#established.has('frontend-api')) return;
    // A topic that is subscribed already brings no snapshot.
    if (from === 'snapshot') this.#unsubscribe([topic]);
    this.#subscribe([topic], from);
  }

  // ---- sockets ----

  #open(door: Door): void {
    const events = {
      established: () => this.#onEstablished(door),
      frame: (frame: ServerFrame) => this.#onFrame(frame),
      ended: (ending: Ending) => this.#onEnded(door, ending),
    };
    this.#sockets.set(
      door,
      new Socket(() => this.deps.open(`/ws/${door}`), this.deps.clock, events),
    );
  }

  #onEstablished(door: Door): void {
    this.#established.add(door);
    if (door === 'frontend-api') {
      const id = this.#subscribe([...this.#topics]);
      this.#first = { id, unanswered: new Set(this.#topics) };
    }
  }

  #onFrame(frame: ServerFrame): void {
    this.host.frame(frame);
    const first = this.#first;
    if (frame.type === 'subscribe_ack' && frame.reply_to === first?.id) {
      for (const { topic, requested } of frame.data.topics) {
        first?.unanswered.delete(requested ?? topic);
      }
    } else if (frame.type === 'subscribe_error' && frame.reply_to === first?.id) {
      first?.unanswered.delete(String(frame.error.details['topic']));
    }
    this.#readyIfComplete();
  }

  #readyIfComplete(): void {
    const complete = this.#established.size === DOORS.length && this.#first?.unanswered.size === 0;
    if (!complete || this.#state.phase === 'ready') return;
    this.#stopTimer = this.deps.clock.after(HEALTHY_MS, () => this.#update({ attempt: 0 }));
    this.#update({ phase: 'ready', nextAt: undefined, why: undefined });
  }

  #onEnded(door: Door, ending: Ending): void {
    this.#drop(door);
    const verdict = judgeEnding(ending);
    if (verdict.does === 'retry') this.#wait(verdict);
    else if (verdict.does === 'renew') this.#renew(verdict.why);
    else this.#stop(verdict.why);
  }

  #drop(door: Door): Socket | undefined {
    const socket = this.#sockets.get(door);
    if (!socket) return undefined;
    this.#sockets.delete(door);
    this.#established.delete(door);
    // Nobody may take it for ready while they hear of the loss.
    if (this.#state.phase === 'ready') this.#update({ phase: 'connecting' });
    if (door === 'frontend-api') {
      this.#asked.clear();
      this.#first = undefined;
      this.host.frontendLost();
    } else {
      this.host.backendLost();
    }
    return socket;
  }

  // ---- after an end ----

  #wait({ atLeastMs, why }: Extract<Verdict, { does: 'retry' }>): void {
    const { attempt, nextAt, phase, why: known } = this.#state;
    const { clock, random } = this.deps;
    const now = clock.now();
    const waiting = phase === 'waiting' && nextAt !== undefined;
    // The other socket has begun the wait; this one can only make it longer.
    if (waiting && now + atLeastMs <= nextAt) return;
    // Full jitter: clients that lost the same server must not come back together.
    const wait = random() * Math.min(MAX_WAIT_MS, FIRST_WAIT_MS * 2 ** attempt);
    const ms = Math.max(waiting ? 0 : wait, atLeastMs);
    this.#stopTimer();
    this.#stopTimer = clock.after(ms, () => this.start());
    this.#update({
      phase: 'waiting',
      attempt: waiting ? attempt : attempt + 1,
      nextAt: now + ms,
      // That nobody answers is what a restart is like.
      why: known?.kind === 'restarting' && why.kind === 'lost' ? known : why,
    });
  }

  #stop(why: Why): void {
    this.#stopTimer();
    for (const door of DOORS) this.#drop(door)?.close();
    this.#update({ phase: 'stopped', nextAt: undefined, why });
  }

  #renew(why: Why): void {
    const now = this.deps.clock.now();
    const again = now - this.#renewedAt < RENEW_MS;
    this.#renewedAt = now;
    if (again) return this.#stop(why);
    // The other socket has the lost identity too.
    for (const door of DOORS) this.#drop(door)?.close();
    this.host.renewIdentity();
    this.start();
  }

  #hurry(): void {
    const now = this.deps.clock.now();
    if (now - this.#hurriedAt < HURRY_MS) return;
    this.#hurriedAt = now;
    this.start();
  }

  #update(to: Partial<ConnectionState>): void {
    const left = this.#state.phase === 'ready' && to.phase !== undefined && to.phase !== 'ready';
    const since = left ? this.deps.clock.now() : this.#state.since;
    this.#state = { ...this.#state, since, ...to };
    this.host.changed(this.#state);
  }

  // ---- subscriptions ----

  #subscribe(topics: string[], from: 'position' | 'snapshot' = 'position'): string {
    const id = this.host.newId();
    const known = topics.flatMap((topic) => {
      const position = from === 'position' ? this.host.position(topic) : undefined;
      return position ? [[topic, position] as const] : [];
    });
    for (const topic of topics) this.#asked.add(topic);
    const data = { topics, positions: Object.fromEntries(known) };
    this.#sockets.get('frontend-api')?.send({ type: 'subscribe', message_id: id, data });
    return id;
  }

  #unsubscribe(topics: string[]): void {
    for (const topic of topics) this.#asked.delete(topic);
    const message_id = this.host.newId();
    const frame = { type: 'unsubscribe', message_id, data: { topics } };
    this.#sockets.get('frontend-api')?.send(frame);
  }
}
