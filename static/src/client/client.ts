/**
 * The client: holds the state, folds what happens into it, and does what the change asks for.
 *
 * Knows neither a DOM nor a framework. Effects follow from comparing the state before and after an input
 * (`#react`); what users do are the public methods.
 */

import {
  arrivedBetween,
  commandId,
  frameOf,
  isDeletion,
  MAX_OUTBOX,
  messagesOf,
  outboxOf,
  nextToSend,
  storedOf,
} from './commands';
import { Connection, type ConnectionDeps, type ConnectionHost } from './connection';
import { fold, followedSessions, type Input } from './fold';
import { Queries, type Question } from './queries';
import { NOT_CONNECTED, Replies, type Outcome } from './replies';
import { initialState, type Pending, type State, type View } from './state';
import type { DraftStorage, TabStorage } from './storage';
import { forkTitle, messageProblem, titleFrom } from './text';
import { positionOf } from './view';
import { Typing } from './typing';
import type { TasksArrived } from './tasks';
import type {
  ApprovalData,
  Created,
  ForkedFrom,
  Noted,
  PatchOperation,
  StateUpdated,
} from './wire.gen';
import { sessionOfTopic, sessionTopic, type ServerFrame } from './wire';

export interface ClientDeps extends Omit<ConnectionDeps, 'open'> {
  open(path: string, clientId: string): ReturnType<ConnectionDeps['open']>;
  randomBytes(count: number): Uint8Array;
  tab: TabStorage;
  drafts: DraftStorage;
}

export class Client {
  readonly drafts: DraftStorage;
  readonly queries: Queries;
  #state: State;
  #clientId: string;
  readonly #connection: Connection;
  readonly #replies = new Replies();
  readonly #typing: Typing;
  readonly #listeners = new Set<() => void>();

  constructor(private readonly deps: ClientDeps) {
    this.drafts = deps.drafts;
    this.#state = initialState(deps.clock.now());
    this.#clientId = deps.tab.clientId() ?? this.#newId();
    deps.tab.setClientId(this.#clientId);
    const open = (path: string) => deps.open(path, this.#clientId);
    this.#connection = new Connection({ ...deps, open }, this.#connectionHost());
    this.queries = new Queries(this.#queryHost());
    this.#typing = new Typing({
      clock: deps.clock,
      tell: (sessionId, typing) => void this.#ask({ type: 'typing', sessionId, data: { typing } }),
      over: (sessionId, who) => this.#dispatch({ kind: 'typing_over', sessionId, who }),
    });
  }

  get state(): State {
    return this.#state;
  }

  /** Calls back after every change; returns how to end that. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  // ---- the life of the page ----

  start(): void {
    const { tab } = this.deps;
    this.#dispatch({ kind: 'restored', views: tab.views(), pending: tab.outbox() });
    this.#connection.start();
  }

  /** The page is left, perhaps to come back from the browser's cache. */
  suspend(): void {
    // There is nobody left who could take them back.
    this.commitDeletions();
    this.keep();
    this.#connection.suspend();
  }

  resume(): void {
    this.#connection.start();
  }

  /** The page is looked at again, or the network is back. */
  wake(): void {
    this.#connection.wake();
    if (this.#isReady()) void this.queries.listSessions(this.#state.list.query);
  }

  retryConnection(): void {
    this.#connection.retry();
  }

  /** Keeps what a reload is to begin with. */
  keep(): void {
    const { recent, views, deleted } = this.#state;
    const kept = recent.filter((id) => !deleted.has(id));
    this.deps.tab.setViews(kept.flatMap((id) => views.get(id) ?? []));
  }

  // ---- sessions ----

  createSession(agentId: string): Promise<Outcome<Created>> {
    return this.#submit({ type: 'session_management', agentId, data: { action: 'create' } });
  }

  /** Closes the session and opens another with the same agent. */
  refreshSession(sessionId: string): Promise<Outcome<Created>> {
    const agentId = this.#agentOf(sessionId);
    return this.#submit({ type: 'agent_refresh', agentId, sessionId });
  }

  renameSession(sessionId: string, title: string): Promise<Outcome<Noted>> {
    const data = { action: 'rename', title };
    return this.#submit({ type: 'session_management', sessionId, data });
  }

  closeSession(sessionId: string): Promise<Outcome<Noted>> {
    return this.#submit({ type: 'session_management', sessionId, data: { action: 'close' } });
  }

  /** Takes a session out of sight; it is deleted once that can no longer be taken back. */
  deleteSession(sessionId: string): void {
    const data = { action: 'delete' };
    const command = { type: 'session_management', sessionId, data, state: 'held' } as const;
    this.#dispatch({ kind: 'submitted', pending: this.#pending(command) });
  }

  /** Nothing has been deleted. */
  undoDeletions(): void {
    for (const { id } of this.#heldDeletions()) this.#dispatch({ kind: 'discarded', id });
  }

  /** They can no longer be taken back. */
  commitDeletions(): void {
    for (const { id } of this.#heldDeletions()) this.#dispatch({ kind: 'retried', id });
  }

  #heldDeletions(): Pending[] {
    return this.#state.pending.filter((other) => isDeletion(other) && other.state === 'held');
  }

  /** A new session with the past of this one, as it was when the run had ended that an item is of. */
  async forkSession(sessionId: string, runId: string, seq: number): Promise<Outcome<Created>> {
    const end = await this.queries.endOfRun(sessionId, runId, seq);
    if (!end.ok) return end;
    const outcome = await this.#fork(sessionId, end.data);
    // Another message may have waited there; the server knows a place near by where none did.
    const nearest = outcome.ok ? undefined : outcome.error.details['nearest'];
    return typeof nearest === 'number' ? this.#fork(sessionId, nearest) : outcome;
  }

  async #fork(sessionId: string, atSeq: number): Promise<Outcome<Created>> {
    const title = this.#titleOf(sessionId);
    const data = { action: 'fork', at_seq: atSeq, ...(title && { title: forkTitle(title) }) };
    const outcome = await this.#submit<Created>({ type: 'session_management', sessionId, data });
    if (outcome.ok) {
      const from: ForkedFrom = { session_id: sessionId, at_seq: atSeq };
      this.#dispatch({ kind: 'forked', sessionId: outcome.data.session_id, from });
    }
    return outcome;
  }

  /**
   * A new session with the agent of one that takes no more; what was not sent there goes along, and what
   * is still being written.
   */
  async continueElsewhere(sessionId: string, draft?: string): Promise<Outcome<Created>> {
    const outcome = await this.createSession(this.#agentOf(sessionId));
    if (!outcome.ok) return outcome;
    const unsent = messagesOf(this.#state.pending, sessionId);
    const texts = unsent.map(({ data }) => String(data['content']));
    // The draft may be the same text as a message that was not confirmed.
    const written = draft?.trim() || this.drafts.draft(sessionId);
    const all = new Set([...texts, written].filter(Boolean));
    this.drafts.setDraft(outcome.data.session_id, [...all].join('\n\n'));
    this.drafts.setDraft(sessionId, '');
    for (const { id } of unsent) this.#dispatch({ kind: 'discarded', id });
    return outcome;
  }

  // ---- one session ----

  /** Looks at a session, or at none. */
  open(sessionId: string | undefined): void {
    this.#dispatch({ kind: 'opened', sessionId });
    if (sessionId !== undefined && this.#state.views.get(sessionId)?.problem)
      this.askAgain(sessionId);
  }

  /** Subscribes to a session that was refused, or that came with gaps. */
  askAgain(sessionId: string): void {
    this.#dispatch({ kind: 'asked_again', sessionId });
    this.#connection.resubscribe(sessionTopic(sessionId), 'snapshot');
  }

  /** Sends a message; what is returned says why it is not even tried. */
  sendMessage(sessionId: string, content: string): string | undefined {
    // What becomes of it during a run is the agent's own setting, unless it says so itself.
    const pending = this.#pending({ type: 'chat_message', sessionId, data: { content } });
    const problem = messageProblem(frameOf(pending), content, this.#state.limits);
    if (problem) return problem;
    if (outboxOf(this.#state.pending).length >= MAX_OUTBOX) {
      return `${MAX_OUTBOX} messages wait to be confirmed by the server; no more can be added yet.`;
    }
    const view = this.#state.views.get(sessionId);
    this.#dispatch({ kind: 'submitted', pending });
    const isFirst = view?.loaded && !view.items.some((item) => item.kind === 'user');
    if (isFirst && view.title === undefined) void this.renameSession(sessionId, titleFrom(content));
    return undefined;
  }

  resendMessage(id: string): void {
    this.#dispatch({ kind: 'retried', id });
  }

  /** Takes back a message that was refused. */
  discardMessage(id: string): void {
    this.#dispatch({ kind: 'discarded', id });
  }

  /** Back from a part of the past to the newest messages. */
  leavePast(sessionId: string): void {
    this.#dispatch({ kind: 'past_left', sessionId });
  }

  stop(sessionId: string, clearQueue: boolean): void {
    this.#dispatch({ kind: 'stop_wanted', sessionId, clearQueue });
  }

  /** Allows a call, or does not; each is settled once, by whoever comes first. */
  settleApproval(sessionId: string, answer: ApprovalData): Promise<Outcome<Noted>> {
    return this.#submit({ type: 'tool_approval', sessionId, data: { ...answer } });
  }

  /** Changes the shared document, if it is still what the patch was made for. */
  updateState(
    sessionId: string,
    patch: readonly PatchOperation[],
    version: number,
  ): Promise<Outcome<StateUpdated>> {
    const data = { patch, if_version: version };
    return this.#submit({ type: 'update_state', sessionId, data });
  }

  /** Something is being written here, or nothing any more. */
  tellTyping(sessionId: string, typing: boolean): void {
    this.#typing.tell(sessionId, typing);
  }

  /** Takes in tasks that were asked for. */
  takeTasks(arrived: TasksArrived): void {
    this.#dispatch({ kind: 'tasks_arrived', ...arrived });
  }

  /** Lets go of old messages; they come back by `loadOlder`. */
  trim(sessionId: string, keep: number): void {
    this.#dispatch({ kind: 'trimmed', sessionId, keep });
  }

  // ---- the machinery ----

  #dispatch(input: Input): void {
    const before = this.#state;
    this.#state = fold(before, input);
    if (this.#state === before) return;
    this.#react(before, this.#state);
    for (const listener of this.#listeners) listener();
  }

  #react(before: State, after: State): void {
    if (before.views !== after.views) {
      for (const view of after.views.values()) this.#repair(before.views.get(view.sessionId), view);
    }
    if (before.pending !== after.pending) {
      this.deps.tab.setOutbox(storedOf(after.pending));
      for (const { sessionId, data } of arrivedBetween(before.pending, after.pending)) {
        this.drafts.dropSent(sessionId ?? '', String(data['content']));
      }
    }
    if (before.deleted !== after.deleted || before.open !== after.open) {
      this.#forgetDeleted(before, after);
    }
    if (before.recent !== after.recent || before.pending !== after.pending) {
      const topics = [...followedSessions(after)].map(sessionTopic);
      this.#connection.follow(new Set(['system', ...topics]));
    }
    const becameReady = before.connection.phase !== 'ready' && this.#isReady();
    if (becameReady || before.pending !== after.pending) this.#sendNext();
    if (becameReady) {
      void this.queries.listSessions(after.list.query);
      void this.queries.listAgents();
      if (after.search.phase === 'failed') void this.queries.search(after.search.query);
    }
    if (before.views !== after.views || before.pending !== after.pending) this.#stopWanted();
  }

  /** Keeps nothing of what is deleted, but for what is still being looked at. */
  #forgetDeleted(before: State, after: State): void {
    for (const id of after.deleted) {
      if (!before.deleted.has(id)) this.deps.tab.dropView(id);
      const isNews = !before.deleted.has(id) || before.open === id;
      if (isNews && after.open !== id) this.drafts.setDraft(id, '');
    }
  }

  /** Subscribes again where a view has lost continuity. */
  #repair(before: View | undefined, view: View): void {
    if (view === before || view.resync <= (before?.resync ?? 0)) return;
    const from = view.resync === 1 ? 'position' : 'snapshot';
    this.#connection.resubscribe(sessionTopic(view.sessionId), from);
  }

  #sendNext(): void {
    const next = nextToSend(this.#state.pending);
    if (!this.#isReady() || !next) return;
    this.#connection.send(frameOf(next));
    // Which in turn sends the one after it.
    this.#dispatch({ kind: 'sent', id: next.id });
  }

  /** Asks the server for the stops that users wish, once the run has a name. */
  #stopWanted(): void {
    for (const { sessionId, stop, run } of this.#state.views.values()) {
      if (!stop || stop.runId !== undefined) continue;
      const accepted = this.#state.pending.find(
        (pending) => pending.sessionId === sessionId && pending.state === 'accepted',
      );
      const runId = run?.id ?? accepted?.runId;
      if (runId === undefined) continue;
      const data = { run_id: runId, clear_queue: stop.clearQueue };
      void this.#submit({ type: 'stop_run', sessionId, data });
    }
  }

  #connectionHost(): ConnectionHost {
    return {
      changed: (connection) => this.#dispatch({ kind: 'connection', connection }),
      frame: (frame) => this.#onFrame(frame),
      frontendLost: () => this.#dispatch({ kind: 'frontend_lost' }),
      backendLost: () => {
        this.#dispatch({ kind: 'backend_lost' });
        this.#replies.giveUp();
      },
      renewIdentity: () => {
        this.#clientId = this.#newId();
        this.deps.tab.setClientId(this.#clientId);
        this.#dispatch({ kind: 'identity_renewed' });
        this.#replies.giveUp('all');
      },
      position: (topic) => positionOf(this.#state.views.get(sessionOfTopic(topic) ?? '')),
      newId: () => this.#newId(),
    };
  }

  #queryHost() {
    const stateNow = () => this.#state;
    return {
      get state() {
        return stateNow();
      },
      ask: <T>(question: Question) => this.#ask<T>(question),
      dispatch: (input: Input) => this.#dispatch(input),
    };
  }

  #onFrame(frame: ServerFrame): void {
    if (frame.type === 'typing') {
      if (frame.data.client_id === this.#clientId) return;
      this.#typing.heard(frame);
    }
    this.#dispatch({ kind: 'frame', frame });
    if (frame.type === 'reply') this.#replies.take(frame);
  }

  #submit<T>(command: Partial<Pending> & Pick<Pending, 'type'>): Promise<Outcome<T>> {
    const pending = this.#pending(command);
    const outcome = this.#replies.expect<T>(pending.id, 'command');
    this.#dispatch({ kind: 'submitted', pending });
    return outcome;
  }

  async #ask<T>({ type, sessionId, data = {} }: Question): Promise<Outcome<T>> {
    if (!this.#isReady()) return { ok: false, error: NOT_CONNECTED };
    const message_id = this.#newId();
    const session = sessionId === undefined ? {} : { session_id: sessionId };
    this.#connection.send({ type, message_id, ...session, data });
    return this.#replies.expect<T>(message_id, 'question');
  }

  #pending(command: Partial<Pending> & Pick<Pending, 'type'>): Pending {
    const at = this.deps.clock.now();
    const ids = { sessionId: undefined, agentId: undefined };
    return { id: this.#newId(), ...ids, data: {}, at, state: 'waiting', ...command };
  }

  #titleOf(sessionId: string): string | null | undefined {
    const view = this.#state.views.get(sessionId);
    return view?.title ?? this.#state.sessions.get(sessionId)?.title;
  }

  #agentOf(sessionId: string): string {
    const view = this.#state.views.get(sessionId);
    return this.#state.sessions.get(sessionId)?.agent_id ?? view?.agentId ?? sessionId;
  }

  #isReady(): boolean {
    return this.#state.connection.phase === 'ready';
  }

  #newId(): string {
    return commandId(this.deps.randomBytes);
  }
}
