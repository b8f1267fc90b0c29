/** Frames as a server sends them, and a clock and sockets that do only what a test says. */

import { Client } from '../../src/client/client';
import type { Clock, Ending, WebSocketLike } from '../../src/client/socket';
import { DraftStorage, TabStorage } from '../../src/client/storage';
import {
  emptyView,
  initialState,
  type Pending,
  type State,
  type View,
} from '../../src/client/state';
import type { ClientFrame } from '../../src/client/wire';
import type {
  EventEnvelope,
  Session,
  SnapshotFrame,
  Snapshot,
  Task,
} from '../../src/client/wire.gen';

export const SESSION = 'helper_417';
export const TOPIC = `session:${SESSION}`;
export const EPOCH = 'e1';

type Body<T extends EventEnvelope['type']> = Extract<EventEnvelope, { type: T }>['data'];

interface Where {
  seq?: number;
  run?: string;
  epoch?: string;
  sessionId?: string;
}

/** An event of a session's topic; durable when it has a `seq`. */
export function event<T extends EventEnvelope['type']>(
  type: T,
  data: Body<T>,
  { seq, run, epoch = EPOCH, sessionId = SESSION }: Where = {},
): EventEnvelope {
  return {
    v: 1,
    type,
    topic: `session:${sessionId}`,
    ...(seq === undefined ? {} : { epoch, seq }),
    ...(run === undefined ? {} : { run_id: run }),
    message_id: `event-${seq ?? 'ephemeral'}`,
    timestamp: '2026-11-21T10:00:00.000Z',
    session_id: sessionId,
    agent_id: 'helper',
    data,
  } as unknown as EventEnvelope;
}

export function userMessage(seq: number, content: string, more: Partial<Where> & MessageMore = {}) {
  const { commandId = null, queued = false, ...where } = more;
  const data = {
    message_id: `m-${seq}`,
    command_id: commandId,
    content,
    author: 'local',
    queued,
  };
  return event('user_message', data, { seq, ...where });
}

interface MessageMore {
  commandId?: string;
  queued?: boolean;
}

export function answer(seq: number, id: string, content: string, more: Where & AnswerMore = {}) {
  const { finish = 'stop', ...where } = more;
  const data = {
    message_id: id,
    content,
    model: 'demo',
    finish_reason: finish,
    usage: null,
    incomplete: finish !== 'stop',
  };
  return event('agent_response', data, { seq, ...where });
}

interface AnswerMore {
  finish?: Body<'agent_response'>['finish_reason'];
}

export function runStarted(seq: number, run: string) {
  return event('run_started', { trigger: 'user_message' }, { seq, run });
}

export function runFinished(
  seq: number,
  run: string,
  outcome: Body<'run_finished'>['outcome'] = 'completed',
  reason: Body<'run_finished'>['reason'] = null,
) {
  const usage = { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 };
  return event('run_finished', { outcome, reason, usage, duration_ms: 5 }, { seq, run });
}

export function delta(id: string, offset: number, text: string, run = 'r1') {
  return event('message.delta', { message_id: id, offset, text }, { run });
}

export function session(more: Partial<Session> = {}): Session {
  return {
    session_id: SESSION,
    agent_id: 'helper',
    title: null,
    status: 'idle',
    created_at: '2026-11-21T10:00:00.000Z',
    updated_at: '2026-11-21T10:00:00.000Z',
    epoch: EPOCH,
    head: 3,
    ...more,
  };
}

export function task(more: Partial<Task> = {}): Task {
  return {
    task_id: 'worker_200',
    session_id: 'worker_200',
    agent_id: 'worker',
    name: 'Sort the post',
    input: 'all of it',
    status: 'pending',
    pausing: false,
    waiting_approval: false,
    progress: null,
    message: null,
    confidence: null,
    created_at: '2026-11-21T10:00:00.000Z',
    updated_at: '2026-11-21T10:00:00.000Z',
    started_at: null,
    ended_at: null,
    error: null,
    result: null,
    ...more,
  };
}

export function snapshot(more: Partial<Snapshot> = {}, epoch = EPOCH): SnapshotFrame {
  const head = more.head ?? 3;
  const data: Snapshot = {
    session: session({ epoch, head }),
    messages: [],
    run: null,
    queue: [],
    approvals: [],
    context: null,
    suggestions: [],
    state: { version: 0, value: {} },
    head,
    truncated: false,
    ...more,
  };
  const ids = { agent_id: 'helper', session_id: data.session.session_id };
  const topic = `session:${data.session.session_id}`;
  const timestamp = '2026-11-21T10:00:00.000Z';
  return { v: 1, type: 'session_snapshot', topic, epoch, message_id: 'x', timestamp, ...ids, data };
}

/** A session that is up to date at `seq`. */
export function syncedView(seq: number, more: Partial<View> = {}): View {
  const at = { epoch: EPOCH, seq, head: seq };
  return { ...emptyView(SESSION), ...at, synced: true, loaded: true, ...more };
}

export function stateWith(view: View, more: Partial<State> = {}): State {
  const views = new Map([[view.sessionId, view]]);
  return { ...initialState(0), views, open: view.sessionId, recent: [view.sessionId], ...more };
}

export function pendingMessage(id: string, more: Partial<Pending> = {}): Pending {
  return {
    id,
    type: 'chat_message',
    sessionId: SESSION,
    agentId: undefined,
    data: { content: `text of ${id}` },
    at: 0,
    state: 'waiting',
    ...more,
  };
}

// ---- time ----

export class FakeClock implements Clock {
  #now = 0;
  #timers = new Map<symbol, { at: number; call: () => void }>();

  now(): number {
    return this.#now;
  }

  after(ms: number, call: () => void): () => void {
    const timer = Symbol();
    this.#timers.set(timer, { at: this.#now + ms, call });
    return () => this.#timers.delete(timer);
  }

  /** Lets so much time pass; what falls due happens at its own time. */
  pass(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, timer]) => timer.at <= end);
      const next = due.toSorted(([, one], [, other]) => one.at - other.at)[0];
      if (!next) break;
      const [timer, { at, call }] = next;
      this.#timers.delete(timer);
      this.#now = Math.max(this.#now, at);
      call();
    }
    this.#now = end;
  }

  /** When the next timer falls due. */
  get nextAt(): number | undefined {
    const times = [...this.#timers.values()].map(({ at }) => at);
    return times.length === 0 ? undefined : Math.min(...times);
  }
}

// ---- sockets ----

type OnMessage = (event: { data: unknown }) => void;
type OnClose = (event: Ending) => void;

export class FakeSocket implements WebSocketLike {
  readonly sent: ClientFrame[] = [];
  closedWith: number | undefined;
  isClosed = false;
  #onMessage: OnMessage = () => {};
  #onClose: OnClose = () => {};

  constructor(
    readonly path: string,
    readonly clientId = '',
  ) {}

  addEventListener(type: 'message' | 'close', listener: unknown): void {
    if (type === 'message') this.#onMessage = listener as OnMessage;
    else this.#onClose = listener as OnClose;
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text) as ClientFrame);
  }

  close(code?: number): void {
    this.isClosed = true;
    this.closedWith = code;
  }

  // What the server does.

  receive(frame: object): void {
    this.#onMessage({ data: JSON.stringify(frame) });
  }

  receiveText(data: unknown): void {
    this.#onMessage({ data });
  }

  establish(): void {
    const limits = {
      max_frame_bytes: 262_144,
      max_message_bytes: 1_048_576,
      max_content_bytes: 262_144,
      outbox_bytes: 1_048_576,
      max_topics: 1024,
      max_commands_in_flight: 64,
    };
    const data = { connection_id: 'c', client_id: this.clientId, heartbeat_secs: 25, limits };
    this.receive({ v: 1, type: 'connection_established', message_id: 'e', timestamp: '', data });
  }

  end(code: number, reason = ''): void {
    this.isClosed = true;
    this.#onClose({ code, reason });
  }

  /** Answers the newest subscription: all of its topics are accepted. */
  acknowledge(more: Record<string, object> = {}): void {
    const asked = this.sent.findLast((frame) => frame.type === 'subscribe');
    const asks = (asked?.data?.['topics'] ?? []) as string[];
    const topics = asks.map((topic) => ({
      topic,
      epoch: EPOCH,
      head: 0,
      recovered: true,
      ...more[topic],
    }));
    this.receive({ v: 1, type: 'subscribe_ack', reply_to: asked?.message_id, data: { topics } });
  }

  reply(to: string, data: object = {}): void {
    this.receive({ v: 1, type: 'reply', reply_to: to, ok: true, data });
  }

  refuse(to: string, code: string, message = code): void {
    const error = { code, message, details: {}, retryable: false };
    this.receive({ v: 1, type: 'reply', reply_to: to, ok: false, error });
  }

  sentOf(type: string): ClientFrame[] {
    return this.sent.filter((frame) => frame.type === type);
  }
}

/** Storage in memory, of a size. */
export class FakeStorage implements Storage {
  #values = new Map<string, string>();

  constructor(private readonly capacity = Infinity) {}

  get length(): number {
    return this.#values.size;
  }

  key(index: number): string | null {
    return [...this.#values.keys()][index] ?? null;
  }

  getItem(key: string): string | null {
    return this.#values.get(key) ?? null;
  }

  setItem(key: string, value: string): void {
    const others = [...this.#values].filter(([other]) => other !== key);
    const used = others.reduce((sum, [, text]) => sum + text.length, 0);
    if (used + value.length > this.capacity) throw new Error('full');
    this.#values.set(key, value);
  }

  removeItem(key: string): void {
    this.#values.delete(key);
  }

  clear(): void {
    this.#values.clear();
  }
}

/** A client in a tab, and the server's ends of its sockets. */
export class FakePage {
  readonly clock = new FakeClock();
  readonly sockets: FakeSocket[] = [];
  readonly client: Client;

  /** With the storage of another page, it is that page after a reload. */
  constructor(
    readonly tab = new FakeStorage(),
    readonly shared = new FakeStorage(),
  ) {
    this.client = new Client({
      open: (path, clientId) => {
        const socket = new FakeSocket(path, clientId);
        this.sockets.push(socket);
        return socket;
      },
      clock: this.clock,
      random: () => 0.5,
      randomBytes: (count) => crypto.getRandomValues(new Uint8Array(count)),
      tab: new TabStorage(() => tab),
      drafts: new DraftStorage(
        () => shared,
        () => 0,
      ),
    });
    this.client.start();
  }

  get frontend(): FakeSocket {
    return this.#newest('frontend');
  }

  get backend(): FakeSocket {
    return this.#newest('backend');
  }

  #newest(door: string): FakeSocket {
    const socket = this.sockets.findLast(({ path }) => path.includes(door));
    if (!socket) throw new Error(`no ${door} socket`);
    return socket;
  }

  connect(heads: Record<string, object> = {}): void {
    this.backend.establish();
    this.frontend.establish();
    this.frontend.acknowledge(heads);
  }

  /** Opens a session that is up to date, with its first words. */
  openSession(title: string | null = null): void {
    this.connect();
    this.client.open(SESSION);
    this.frontend.acknowledge({ [TOPIC]: { head: 2 } });
    const created = { session_id: SESSION, agent_name: 'Helper', title };
    this.frontend.receive(event('session_created', created, { seq: 1 }));
    const seed = { role: 'assistant', content: 'Hello!' } as const;
    this.frontend.receive(event('seed_message', seed, { seq: 2 }));
  }

  /** What was sent as `session_management` with this action. */
  managed(action: string): ClientFrame[] {
    return this.backend.sent.filter(({ data }) => data?.['action'] === action);
  }
}

/** Numbers that repeat with each run, evenly spread over [0, 1). */
export function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32;
    return state / 2 ** 32;
  };
}
