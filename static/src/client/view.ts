/** One session's topic, folded: `(View, frame) -> View`, pure and total. */

import { addEvents, addItem, awaitsApproval, callPart, itemOf } from './items';
import { patched } from './patch';
import { appendDelta, countPoints, judge, NO_TEXT, type Position } from './positions';
import type { Item, Run, Streaming, View } from './state';
import type {
  EventEnvelope,
  MessageDelta,
  MessageSnapshot,
  Refusal,
  SnapshotFrame,
  SnapshotRun,
  Subscribed,
} from './wire.gen';

/** From where the session's events are wanted; `undefined` where nothing of it has come. */
export function positionOf(view: View | undefined): Position | undefined {
  return view?.epoch === undefined ? undefined : { epoch: view.epoch, seq: view.seq };
}

/** Takes in an event of the session's topic. */
export function foldEvent(view: View, event: EventEnvelope): View {
  // What still comes of a broken stream must not be joined to what the new one brings.
  if (view.awaiting || view.problem) return view;
  if (event.seq === undefined) return foldEphemeral(view, event);
  switch (judge({ epoch: view.epoch ?? '', seq: view.seq }, event.epoch, event.seq)) {
    case 'ignore':
      return view;
    case 'gap':
      return lostContinuity(view);
    case 'apply': {
      const next = foldDurable({ ...view, seq: event.seq, resync: 0 }, event);
      // What is here is not what the patch was made for: only a snapshot helps.
      return next ? caughtUp(next) : lostContinuity({ ...view, resync: view.resync || 1 });
    }
  }
}

/** `undefined` where the event does not fit on what is here. */
function foldDurable(view: View, event: EventEnvelope): View | undefined {
  const item = itemOf(event);
  const next = item ? { ...view, items: addItem(view.items, item) } : view;
  switch (event.type) {
    case 'session_created':
      return {
        ...next,
        agentName: event.data.agent_name,
        title: event.data.title ?? undefined,
        forkedFrom: event.data.forked_from ?? null,
      };
    case 'session_updated':
      return { ...next, title: event.data.title };
    case 'session_closed':
      return { ...next, closed: event.data };
    case 'user_message':
      if (event.run_id === undefined) return next;
      if (event.data.queued) return { ...next, queue: [...next.queue, event.run_id] };
      // Its run begins with it, even if the event that says so comes a frame later.
      return beginRun(next, event.run_id);
    case 'run_started': {
      const answered = { ...next, suggestions: [] };
      return event.run_id === undefined ? answered : beginRun(answered, event.run_id);
    }
    case 'approval_requested':
    case 'approval_resolved': {
      // Of several calls at once, others may wait still.
      const waits = next.items.some((other) => awaitsApproval(other, next.run?.id));
      return inRun(next, waits ? 'waiting_approval' : 'calling_tool');
    }
    case 'suggestions':
      return { ...next, suggestions: event.data.items };
    case 'state.patch': {
      const { version, patch } = event.data;
      const { shared } = next;
      const value = version === shared.version + 1 ? patched(shared.value, patch) : undefined;
      return value === undefined ? undefined : { ...next, shared: { version, value } };
    }
    case 'task_created':
      return { ...next, isTask: true };
    case 'agent_response':
      return { ...next, streaming: without(next.streaming, event.data.message_id) };
    case 'context_update':
      return { ...next, context: event.data };
    case 'run_finished':
      return endRun(next, event.run_id);
    default:
      return next;
  }
}

function beginRun(view: View, runId: string): View {
  if (view.run?.id === runId) return view;
  const { stop } = view;
  return {
    ...withoutQueued(view, runId),
    run: { id: runId, status: 'thinking' },
    // A wish to stop what came before is not one to stop this.
    stop: stop?.runId === undefined || stop.runId === runId ? stop : undefined,
  };
}

/** Nothing of a run outlives its end: not its state, not a wish to stop it, not text in the open. */
function endRun(view: View, runId: string | undefined): View {
  const current = view.run === undefined || view.run.id === runId;
  const streaming = new Map([...view.streaming].filter(([, text]) => text.runId !== runId));
  const next = withoutQueued(view, runId);
  return current ? { ...next, streaming, run: undefined, stop: undefined } : { ...next, streaming };
}

function withoutQueued(view: View, runId: string | undefined): View {
  return { ...view, queue: view.queue.filter((queued) => queued !== runId) };
}

function foldEphemeral(view: View, event: EventEnvelope): View {
  switch (event.type) {
    case 'message.delta':
      return foldDelta(view, event.data, event);
    case 'message.snapshot':
      return foldText(view, event.data, event);
    case 'agent_status_change':
      // Only `run_started` begins a run and only `run_finished` ends it.
      return event.data.status === 'idle' ? view : inRun(view, event.data.status);
    case 'typing': {
      const { author, client_id: clientId, typing } = event.data;
      return foldTyping(view, clientId ?? author, typing);
    }
    default:
      return view;
  }
}

function inRun(view: View, status: Run['status']): View {
  if (view.run === undefined || status === view.run.status) return view;
  return { ...view, run: { ...view.run, status } };
}

/** Somebody writes in another client, or does no more. */
export function foldTyping(view: View, who: string, isTyping: boolean): View {
  if (view.typing.has(who) === isTyping) return view;
  const typing = new Set(view.typing);
  if (isTyping) typing.add(who);
  else typing.delete(who);
  return { ...view, typing };
}

function foldDelta(view: View, delta: MessageDelta, event: EventEnvelope): View {
  const known = view.streaming.get(delta.message_id);
  if (!known && isSettled(view, delta.message_id)) return view;
  const text = appendDelta(known ?? NO_TEXT, delta.offset, delta.text);
  if (text === undefined) return lostContinuity(view);
  if (text === known) return view;
  return stream({ ...view, resync: 0 }, delta.message_id, { ...begun(known, event), ...text });
}

function foldText(view: View, snapshot: MessageSnapshot, event: EventEnvelope): View {
  if (isSettled(view, snapshot.message_id)) return view;
  const known = view.streaming.get(snapshot.message_id);
  const { text } = snapshot;
  const points = countPoints(text);
  return stream(view, snapshot.message_id, { ...begun(known, event), text, points });
}

function begun(known: Streaming | undefined, event: EventEnvelope) {
  return { runId: known?.runId ?? event.run_id, at: known?.at ?? event.timestamp };
}

function stream(view: View, messageId: string, text: Streaming): View {
  return { ...view, streaming: new Map(view.streaming).set(messageId, text) };
}

function isSettled(view: View, messageId: string): boolean {
  return view.items.some((item) => item.key === messageId);
}

function without<V>(map: ReadonlyMap<string, V>, key: string): ReadonlyMap<string, V> {
  if (!map.has(key)) return map;
  const rest = new Map(map);
  rest.delete(key);
  return rest;
}

// ---- continuity ----

const BROKEN: Refusal = {
  code: 'internal',
  message: 'The server sends this chat with gaps, even after asking again.',
  details: {},
  retryable: true,
};

/** Something is missing: asks again with the position, then without one, then gives up. */
function lostContinuity(view: View): View {
  if (view.resync === 2) return { ...view, problem: BROKEN };
  return { ...view, awaiting: true, synced: false, resync: view.resync === 0 ? 1 : 2 };
}

function caughtUp(view: View): View {
  if (view.synced || view.seq < view.head) return view;
  return { ...view, synced: true, loaded: true };
}

/** The server has answered a subscription; `asked` tells whether this client asked for it. */
export function foldSubscribed(view: View, ack: Subscribed, asked: boolean): View {
  if (ack.already) {
    // Whatever came of it before has been let go, if it is not here.
    return view.seq < ack.head ? lostContinuity(view) : caughtUp({ ...view, head: ack.head });
  }
  if (!ack.recovered) {
    // A snapshot follows, and until then what is shown stays.
    return asked ? { ...view, problem: undefined, awaiting: true } : view;
  }
  const epoch = view.seq === 0 ? ack.epoch : view.epoch;
  const next = { ...view, epoch };
  // Made by the server with a new session, of which everything is still to come.
  if (!asked) return next;
  return caughtUp({ ...next, problem: undefined, awaiting: false, head: ack.head });
}

/** Everything anew, as of the snapshot. */
export function foldSnapshot(view: View, frame: SnapshotFrame): View {
  const { session, messages, run, queue, context, head, truncated } = frame.data;
  const items = withApprovals(addEvents([], messages), frame);
  const runId = run?.run_id;
  // Text of the run that is still going stays until its own snapshot replaces it.
  const streaming = [...view.streaming].filter(([, text]) => runId && text.runId === runId);
  return {
    ...view,
    epoch: frame.epoch,
    seq: head,
    agentId: session.agent_id,
    title: session.title ?? undefined,
    items,
    streaming: new Map(streaming),
    run: run ? { id: run.run_id, status: statusOf(run) } : undefined,
    stop: view.stop?.runId === runId ? view.stop : undefined,
    queue: queue.map((queued) => queued.run_id),
    context: context ?? undefined,
    suggestions: frame.data.suggestions,
    shared: frame.data.state,
    isTask: session.task !== undefined,
    older: truncated ? 'more' : 'none',
    // Of another life of the log, it has nothing to do with what comes.
    past: frame.epoch === view.epoch ? view.past : undefined,
    closed:
      session.status === 'closed'
        ? (view.closed ?? { reason: 'closed', replaced_by: null })
        : undefined,
    problem: undefined,
    head,
    synced: true,
    loaded: true,
    awaiting: false,
  };
}

function statusOf({ status }: SnapshotRun): Run['status'] {
  return status === 'waiting_approval' ? status : 'thinking';
}

/** A question may be older than the messages that a snapshot has room for. */
function withApprovals(items: readonly Item[], { data, timestamp: at }: SnapshotFrame) {
  return data.approvals.reduce((sum, approval) => {
    const { run_id: runId, tool_call_id: callId, expires_at: expiresAt } = approval;
    const isHere = sum.some(
      (item) => item.kind === 'tool' && item.callId === callId && item.approval !== undefined,
    );
    const body = callPart(approval, data.head, { approval: { expiresAt } });
    return isHere
      ? sum
      : addItem(sum, { key: `approval:${callId}`, seq: data.head, at, runId, ...body });
  }, items);
}

/** The session is no more; what has come of it can still be read. */
export function foldDeletion(view: View): View {
  const closed = { reason: 'deleted', replaced_by: null } as const;
  return { ...view, closed, run: undefined, stop: undefined, queue: [] };
}
