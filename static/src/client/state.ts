/** What the client knows. Plain values, never changed in place: whoever holds an old one keeps it. */

import type { StreamedText } from './positions';
import type {
  Agent,
  AgentStatusChange,
  ContextUpdate,
  ErrorBody,
  ForkedFrom,
  Limits,
  Refusal,
  RunFinished,
  RunOutcome,
  Session,
  SearchHit,
  SessionClosed,
  SharedState,
  AgentResponse,
  ApprovalResolved,
  Task,
} from './wire.gen';

export interface State {
  connection: ConnectionState;
  /** What the server takes; known once it has said so. */
  limits: Limits | undefined;
  agents: readonly Agent[] | undefined;
  /** Why the agents could not be had, when last asked for. */
  agentsError: string | undefined;
  sessions: ReadonlyMap<string, Session>;
  /** Tasks that have been heard of, by their sessions, which are not among `sessions`. */
  tasks: ReadonlyMap<string, Task>;
  list: SessionList;
  search: MessageSearch;
  /** Sessions with an answer that has not been looked at. */
  unread: ReadonlySet<string>;
  /** The session that is being looked at. */
  open: string | undefined;
  /** The sessions that were opened last, the newest first. */
  recent: readonly string[];
  /** Of the sessions that are followed. */
  views: ReadonlyMap<string, View>;
  pending: readonly Pending[];
  /** Sessions that are known to be deleted. */
  deleted: ReadonlySet<string>;
}

// ---- the connection ----

export type Phase = 'connecting' | 'ready' | 'waiting' | 'stopped';

export interface ConnectionState {
  phase: Phase;
  /** How often it has been tried since it was last in order. */
  attempt: number;
  /** When it is tried again. */
  nextAt: number | undefined;
  /** Since when it has not been ready; of no meaning while it is. */
  since: number;
  why: Why | undefined;
}

/** Why there is no connection. */
export interface Why {
  kind:
    | 'lost'
    | 'restarting'
    | 'rate_limited'
    | 'outdated'
    | 'unauthenticated'
    | 'forbidden'
    | 'not_found'
    | 'elsewhere'
    | 'refused';
  /** What the server said. */
  reason: string;
}

// ---- the list of sessions ----

export interface SessionList {
  phase: 'loading' | 'ready' | 'failed';
  query: string;
  /** What the query found; `undefined` without a query, when all known sessions are shown. */
  found: ReadonlySet<string> | undefined;
  /** Where the next page begins, if there is one. */
  cursor: string | undefined;
}

/** What a query finds in messages. */
export interface MessageSearch {
  phase: 'none' | 'loading' | 'ready' | 'failed';
  /** Counts the questions: an answer to any but the last is stale. */
  asked: number;
  query: string;
  /** What `hits` were found by: those of the query before stay until others come. */
  foundBy: string;
  hits: readonly SearchHit[];
  cursor: string | undefined;
  /** Newer messages are not found yet. */
  indexedTo: string | undefined;
  error: string | undefined;
}

// ---- one session ----

export interface View {
  sessionId: string;
  /** `undefined` as long as nothing has come of the session. */
  epoch: string | undefined;
  seq: number;
  agentId: string;
  agentName: string | undefined;
  title: string | undefined;
  /** In the order of the log. */
  items: readonly Item[];
  /** Messages that are still streaming, by message id. */
  streaming: ReadonlyMap<string, Streaming>;
  run: Run | undefined;
  stop: StopRequest | undefined;
  /** Runs whose messages wait, in the order of the log. */
  queue: readonly string[];
  context: ContextUpdate | undefined;
  /** What the user may want to say next. */
  suggestions: readonly string[];
  /** The document that the agent and all clients share. */
  shared: SharedState;
  /** The other clients in which somebody is writing. */
  typing: ReadonlySet<string>;
  /** The session was made for a task. */
  isTask: boolean;
  older: More;
  /** A part of the log that is far from the rest, and is looked at instead of it. */
  past: Past | undefined;
  /** The session whose past this one began with; `undefined` as long as that is not known. */
  forkedFrom: ForkedFrom | null | undefined;
  closed: SessionClosed | undefined;
  /** Why the server gives nothing of the session. */
  problem: Refusal | undefined;
  /** What there was when last subscribed. */
  head: number;
  /** All of it has come, on this connection. */
  synced: boolean;
  /** All of it has come at some time: the session can be shown. */
  loaded: boolean;
  /** Nothing is applied until the answer to a subscription comes. */
  awaiting: boolean;
  /** How often in a row continuity was lost: 1 asks again with the position, 2 without. */
  resync: 0 | 1 | 2;
}

/** Whether there is more than is here. */
export type More = 'more' | 'loading' | 'failed' | 'none';

export interface Past {
  items: readonly Item[];
  older: More;
  newer: More;
}

export interface Streaming extends StreamedText {
  runId: string | undefined;
  at: string;
}

export interface Run {
  id: string;
  status: Exclude<AgentStatusChange['status'], 'idle'>;
}

/** The user wants the run stopped. */
export interface StopRequest {
  clearQueue: boolean;
  /** The run that the server was asked to stop; unknown until it has a number. */
  runId: string | undefined;
}

/** Something that stands in a conversation for good. */
export type Item = {
  /** Stays the same from a message's first letter on. */
  key: string;
  seq: number;
  at: string;
  runId: string | undefined;
} & ItemBody;

export type ItemBody =
  | { kind: 'system'; content: string }
  | { kind: 'seed'; role: 'user' | 'assistant'; content: string }
  | {
      kind: 'user';
      content: string;
      author: string;
      commandId: string | undefined;
      queued: boolean;
    }
  | {
      kind: 'agent';
      content: string;
      model: string;
      finish: AgentResponse['finish_reason'];
      incomplete: boolean;
    }
  | ({ kind: 'tool' } & ToolCall)
  | { kind: 'error'; error: ErrorBody }
  | { kind: 'end'; outcome: RunOutcome; reason: RunFinished['reason'] };

/** What has been heard of a tool's call. */
export interface ToolCall {
  /** The model's name for it, which it may give to several calls. */
  callId: string;
  name: string;
  /** `undefined` as long as its beginning is not here. */
  args: unknown;
  /** `undefined` where nobody need allow it. */
  approval: Approval | undefined;
  outcome: ToolOutcome | undefined;
  /** Number of the last event that told of it. */
  last: number;
}

/** A question to whoever sees the session, and what was decided. */
export interface Approval {
  expiresAt?: string;
  settled?: Pick<ApprovalResolved, 'decision' | 'by' | 'reason' | 'args'> & { at: string };
}

export interface ToolOutcome {
  result: unknown;
  error: ErrorBody | undefined;
  durationMs: number;
}

// ---- commands ----

/** A command that is not known to be done. */
export interface Pending {
  /** Its `message_id`: the same whenever it is sent. */
  id: string;
  type:
    | 'chat_message'
    | 'session_management'
    | 'agent_refresh'
    | 'stop_run'
    | 'tool_approval'
    | 'update_state';
  sessionId: string | undefined;
  agentId: string | undefined;
  data: Record<string, unknown>;
  at: number;
  /**
   * `held` until the user can no longer take it back; `waiting` to be sent; `sent`; `unknown` whether it arrived, so it will be sent again; `accepted`,
   * but its event has not come; `unsettled`: only the log can tell; `refused`.
   */
  state: 'held' | 'waiting' | 'sent' | 'unknown' | 'accepted' | 'unsettled' | 'refused';
  /** Number of its event, and its run, once accepted. */
  seq?: number;
  runId?: string;
  error?: Refusal;
}

export const NO_SEARCH: MessageSearch = {
  phase: 'none',
  asked: 0,
  query: '',
  foundBy: '',
  hits: [],
  cursor: undefined,
  indexedTo: undefined,
  error: undefined,
};

export function initialState(now: number): State {
  return {
    connection: { phase: 'connecting', attempt: 0, nextAt: undefined, since: now, why: undefined },
    limits: undefined,
    agents: undefined,
    agentsError: undefined,
    sessions: new Map(),
    tasks: new Map(),
    list: { phase: 'loading', query: '', found: undefined, cursor: undefined },
    unread: new Set(),
    open: undefined,
    recent: [],
    views: new Map(),
    pending: [],
    deleted: new Set(),
    search: NO_SEARCH,
  };
}

/** A session of which nothing has come. */
export function emptyView(sessionId: string): View {
  return {
    sessionId,
    epoch: undefined,
    seq: 0,
    // A session's id begins with its agent's.
    agentId: sessionId.replace(/_[^_]*$/, ''),
    agentName: undefined,
    title: undefined,
    items: [],
    streaming: new Map(),
    run: undefined,
    stop: undefined,
    queue: [],
    context: undefined,
    suggestions: [],
    shared: { version: 0, value: {} },
    typing: new Set(),
    isTask: false,
    older: 'none',
    past: undefined,
    forkedFrom: undefined,
    closed: undefined,
    problem: undefined,
    head: 0,
    synced: false,
    loaded: false,
    awaiting: false,
    resync: 0,
  };
}
