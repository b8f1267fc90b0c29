/** All that the client knows, folded from all that happens: `(State, Input) -> State`, pure and total. */

import * as commands from './commands';
import { foldPast, type PastInput } from './past';
import { foldSearch, type SearchInput } from './search';
import { foldListChange, foldPage, forget, type PageArrived } from './sessions';
import { foldTasks, type TasksArrived } from './tasks';
import { emptyView, type ConnectionState, type Pending, type State, type View } from './state';
import { trimItems } from './items';
import { foldDeletion, foldEvent, foldSnapshot, foldSubscribed, foldTyping } from './view';
import type {
  Agent,
  EventEnvelope,
  ForkedFrom,
  ListChange,
  Reply,
  SubscribeAck,
  SubscribeError,
} from './wire.gen';
import { sessionOfTopic, type ServerFrame } from './wire';

export type Input =
  | { kind: 'frame'; frame: ServerFrame }
  | { kind: 'connection'; connection: ConnectionState }
  | { kind: 'frontend_lost' }
  | { kind: 'backend_lost' }
  | { kind: 'identity_renewed' }
  | { kind: 'restored'; views: readonly View[]; pending: readonly Pending[] }
  | { kind: 'opened'; sessionId: string | undefined }
  | { kind: 'submitted'; pending: Pending }
  | { kind: 'sent'; id: string }
  | { kind: 'retried'; id: string }
  | { kind: 'discarded'; id: string }
  | { kind: 'stop_wanted'; sessionId: string; clearQueue: boolean }
  | { kind: 'agents_arrived'; agents: readonly Agent[] }
  | { kind: 'agents_failed'; message: string }
  | { kind: 'list_asked'; query: string }
  | { kind: 'list_failed'; query: string }
  | ({ kind: 'list_arrived' } & PageArrived)
  | SearchInput
  | PastInput
  | { kind: 'forked'; sessionId: string; from: ForkedFrom }
  | { kind: 'trimmed'; sessionId: string; keep: number }
  | { kind: 'asked_again'; sessionId: string }
  | { kind: 'typing_over'; sessionId: string; who: string }
  | ({ kind: 'tasks_arrived' } & TasksArrived);

/** Sessions that are kept up to date: the open one and the eight before it. */
const MAX_RECENT = 9;

export function fold(state: State, input: Input): State {
  switch (input.kind) {
    case 'frame':
      return foldFrame(state, input.frame);
    case 'connection':
      return { ...state, connection: input.connection };
    case 'frontend_lost':
      return eachView(state, (view) => ({
        ...view,
        synced: false,
        awaiting: false,
        typing: new Set<string>(),
      }));
    case 'backend_lost':
      return withPending(state, commands.markLost(state.pending));
    case 'identity_renewed':
      return withPending(state, commands.markUnsettled(state.pending));
    case 'restored': {
      const views = new Map(input.views.map((view) => [view.sessionId, view]));
      return { ...state, views, recent: [...views.keys()], pending: input.pending };
    }
    case 'opened':
      return foldOpened(state, input.sessionId);
    case 'submitted':
      return foldSubmitted(state, input.pending);
    case 'sent':
      return withPending(state, commands.markSent(state.pending, input.id));
    case 'retried':
      return withPending(state, commands.sendAgain(state.pending, input.id));
    case 'discarded':
      return withPending(state, commands.discard(state.pending, input.id));
    case 'stop_wanted':
      return inView(state, input.sessionId, (view) => ({
        ...view,
        stop: { clearQueue: input.clearQueue, runId: undefined },
      }));
    case 'agents_arrived':
      return withAgents(state, input.agents);
    case 'agents_failed':
      return { ...state, agentsError: input.message };
    case 'list_asked': {
      const { found, cursor } = state.list;
      return { ...state, list: { phase: 'loading', query: input.query, found, cursor } };
    }
    case 'list_failed':
      if (input.query !== state.list.query) return state;
      return { ...state, list: { ...state.list, phase: 'failed' } };
    case 'list_arrived':
      return foldPage(state, input);
    case 'search_asked':
    case 'search_failed':
    case 'search_arrived':
      return { ...state, search: foldSearch(state.search, input) };
    case 'page_asked':
    case 'page_failed':
    case 'page_arrived':
    case 'part_arrived':
    case 'beginning_arrived':
    case 'past_left':
      return inView(state, input.sessionId, (view) => foldPast(view, input));
    case 'forked':
      return inView(state, input.sessionId, (view) => ({ ...view, forkedFrom: input.from }));
    case 'trimmed':
      return inView(state, input.sessionId, (view) => {
        const items = trimItems(view.items, input.keep);
        return items === view.items ? view : { ...view, items, older: 'more' };
      });
    case 'asked_again':
      return inView(state, input.sessionId, (view) => ({
        ...view,
        problem: undefined,
        awaiting: true,
      }));
    case 'typing_over':
      return inView(state, input.sessionId, (view) => foldTyping(view, input.who, false));
    case 'tasks_arrived':
      return foldTasks(state, input);
  }
}

function foldFrame(state: State, frame: ServerFrame): State {
  switch (frame.type) {
    case 'connection_established':
      return { ...state, limits: frame.data.limits };
    case 'reply':
      return foldReply(state, frame);
    case 'subscribe_ack':
      return foldAck(state, frame);
    case 'subscribe_error':
      return foldRefusal(state, frame);
    case 'session_snapshot': {
      const { session_id, data } = frame;
      const listed = foldListChange(state, data.session);
      const next = inView(listed, session_id, (view) => foldSnapshot(view, frame));
      return settleWith(next, session_id, data.messages);
    }
    case 'session_list_changed':
      return foldListChange(existing(state, frame.data), frame.data);
    case 'agent_list_update':
      return withAgents(state, frame.data.agents);
    default:
      return 'topic' in frame ? foldTopicEvent(state, frame) : state;
  }
}

function foldTopicEvent(state: State, event: EventEnvelope): State {
  const sessionId = sessionOfTopic(event.topic ?? '');
  if (sessionId === undefined || !state.views.has(sessionId)) return state;
  if (event.type === 'session_closed' && event.data.reason === 'deleted') {
    return foldDeleted(state, sessionId);
  }
  const next = inView(state, sessionId, (view) => foldEvent(view, event));
  // A delta changes nothing but text: by far the most events are done here.
  return event.seq === undefined ? next : settleWith(next, sessionId, [event]);
}

function foldReply(state: State, reply: Reply<unknown>): State {
  const deleted = commands.deletedBy(state.pending, reply);
  if (deleted !== undefined) return foldDeleted(state, deleted);
  const pending = state.pending.find(({ id }) => id === reply.reply_to);
  if (!pending) return state;
  const next = withPending(state, commands.settle(state.pending, reply));
  if (pending.sessionId === undefined) return next;
  const wasStop = pending.type === 'stop_run';
  const unstopped =
    !reply.ok && (wasStop || pending.type === 'chat_message')
      ? inView(next, pending.sessionId, (view) =>
          wasStop || !view.run ? { ...view, stop: undefined } : view,
        )
      : next;
  return settleWith(unstopped, pending.sessionId, []);
}

function foldAck(state: State, ack: SubscribeAck): State {
  const asked = ack.reply_to !== undefined;
  return ack.data.topics.reduce((sum, topic) => {
    const sessionId = sessionOfTopic(topic.topic);
    if (sessionId === undefined) return sum;
    const next = inView(sum, sessionId, (view) => foldSubscribed(view, topic, asked));
    return settleWith(next, sessionId, []);
  }, state);
}

function foldRefusal(state: State, { error }: SubscribeError): State {
  const topic = error.details['topic'];
  const sessionId = typeof topic === 'string' ? sessionOfTopic(topic) : undefined;
  if (sessionId === undefined) return state;
  const next = inView(state, sessionId, (view) => ({
    ...view,
    problem: error,
    awaiting: false,
    // Nothing can be going on in a session that the server does not have.
    run: undefined,
    stop: undefined,
    queue: [],
  }));
  return settleWith(next, sessionId, []);
}

/** Compares what was sent to a session with what its log, and these of its events, tell. */
function settleWith(state: State, sessionId: string, events: readonly EventEnvelope[]): State {
  if (state.pending.length === 0) return state;
  const view = state.views.get(sessionId);
  const confirmed = commands.confirm(state.pending, events);
  return withPending(state, view ? commands.compareWithLog(confirmed, view) : confirmed);
}

/** A session is gone for good. Who looks at it may go on reading; otherwise nothing of it is kept. */
function foldDeleted(state: State, sessionId: string): State {
  const deleted = new Set(state.deleted).add(sessionId);
  const pending = state.pending.filter(
    (other) => !(commands.isDeletion(other) && other.sessionId === sessionId),
  );
  const next = forget({ ...state, deleted, pending }, [sessionId]);
  return state.open === sessionId
    ? inView(next, sessionId, foldDeletion)
    : withoutSession(next, sessionId);
}

/** The id has been given to another session since. */
function existing(state: State, change: ListChange): State {
  if ('removed' in change || !state.deleted.has(change.session_id)) return state;
  const deleted = new Set(state.deleted);
  deleted.delete(change.session_id);
  return { ...state, deleted };
}

function withoutSession(state: State, sessionId: string): State {
  const views = new Map(state.views);
  views.delete(sessionId);
  const recent = state.recent.filter((id) => id !== sessionId);
  const pending = state.pending.filter((other) => other.sessionId !== sessionId);
  return { ...state, views, recent, pending };
}

function foldOpened(before: State, sessionId: string | undefined): State {
  const { open: left, deleted } = before;
  const isOver = left !== undefined && left !== sessionId && deleted.has(left);
  const state = isOver ? withoutSession(before, left) : before;
  if (sessionId === undefined) return { ...state, open: undefined };
  const unread = new Set(state.unread);
  unread.delete(sessionId);
  const others = state.recent.filter((id) => id !== sessionId);
  const recent = [sessionId, ...others].slice(0, MAX_RECENT);
  const opened = { ...state, open: sessionId, recent, unread };
  const kept = followedSessions(opened);
  const views = new Map([...state.views].filter(([id]) => kept.has(id)));
  return inView({ ...opened, views }, sessionId, (view) => view);
}

/** The sessions whose events this client wants: those opened last, and those it has sent something to. */
export function followedSessions({
  recent,
  pending,
}: Pick<State, 'recent' | 'pending'>): Set<string> {
  const sent = pending.flatMap((other) =>
    commands.isDeletion(other) ? [] : (other.sessionId ?? []),
  );
  return new Set([...recent, ...sent]);
}

function foldSubmitted(state: State, pending: Pending): State {
  const next = withPending(state, [...state.pending, pending]);
  if (pending.type !== 'stop_run' || pending.sessionId === undefined) return next;
  const runId = pending.data['run_id'] as string;
  return inView(next, pending.sessionId, (view) => ({
    ...view,
    stop: view.stop && { ...view.stop, runId },
  }));
}

function withAgents(state: State, agents: readonly Agent[]): State {
  return { ...state, agents, agentsError: undefined };
}

function withPending(state: State, pending: readonly Pending[]): State {
  return pending === state.pending ? state : { ...state, pending };
}

/** Changes a session's view, which begins here if there is none. */
function inView(state: State, sessionId: string, change: (view: View) => View): State {
  const view = state.views.get(sessionId);
  const next = change(view ?? emptyView(sessionId));
  return next === view ? state : { ...state, views: new Map(state.views).set(sessionId, next) };
}

function eachView(state: State, change: (view: View) => View): State {
  return { ...state, views: new Map([...state.views].map(([id, view]) => [id, change(view)])) };
}
