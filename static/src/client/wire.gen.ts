// Generated from the Rust types in src/doors/wire by `make types`. Do not edit.

export type RunOutcome = 'completed' | 'cancelled' | 'failed' | 'interrupted';

export type SessionStatus = 'idle' | 'running' | 'waiting_approval' | 'closed';

export type TaskStatus = 'pending' | 'running' | 'paused' | 'completed' | 'failed' | 'cancelled';

/** RFC 6902. */
export type PatchOperation = { op: 'add' | 'replace' | 'test', path: string, value: unknown, } | { op: 'remove', path: string, } | { op: 'copy' | 'move', from: string, path: string, };

export type EventBody = { "type": "session_created", "data": SessionCreated } | { "type": "system_message", "data": SystemMessage } | { "type": "seed_message", "data": SeedMessage } | { "type": "user_message", "data": UserMessage } | { "type": "run_started", "data": RunStarted } | { "type": "tool_call.start", "data": ToolCallStart } | { "type": "tool_call.end", "data": ToolCallEnd } | { "type": "approval_requested", "data": ApprovalRequested } | { "type": "approval_resolved", "data": ApprovalResolved } | { "type": "agent_response", "data": AgentResponse } | { "type": "context_update", "data": ContextUpdate } | { "type": "state.patch", "data": StatePatch } | { "type": "suggestions", "data": Suggestions } | { "type": "task_created", "data": TaskCreated } | { "type": "task_started", "data": TaskChanged } | { "type": "task_updated", "data": TaskUpdated } | { "type": "task_paused", "data": TaskChanged } | { "type": "task_resumed", "data": TaskChanged } | { "type": "task_completed", "data": TaskChanged } | { "type": "task_failed", "data": TaskChanged } | { "type": "task_cancelled", "data": TaskChanged } | { "type": "progress_update", "data": ProgressUpdate } | { "type": "confidence_update", "data": ConfidenceUpdate } | { "type": "error", "data": Nothing } | { "type": "run_finished", "data": RunFinished } | { "type": "session_updated", "data": SessionUpdated } | { "type": "session_closed", "data": SessionClosed } | { "type": "message.delta", "data": MessageDelta } | { "type": "message.snapshot", "data": MessageSnapshot } | { "type": "agent_status_change", "data": AgentStatusChange } | { "type": "typing", "data": Typing } | { "type": "session_list_changed", "data": ListChange } | { "type": "agent_list_update", "data": AgentListUpdate };

export type Nothing = Record<symbol, never>;

export type SessionCreated = { session_id: string, agent_name: string, title: string | null, 
/**
 * The past that it began with.
 */
forked_from?: ForkedFrom, };

export type ForkedFrom = { session_id: string, at_seq: number, };

export type SystemMessage = { content: string, };

export type SeedMessage = { role: 'user' | 'assistant', content: string, };

export type UserMessage = { message_id: string, 
/**
 * The `message_id` of the command that brought it.
 */
command_id: string | null, content: string, author: string, 
/**
 * It waits for the run that is going.
 */
queued: boolean, };

export type RunStarted = { trigger: 'user_message' | 'task' | 'resumed', };

export type ToolCallStart = { 
/**
 * Of the step that asked for the call.
 */
message_id: string, tool_call_id: string, tool_name: string, args: unknown, };

export type ToolCallEnd = { message_id: string, tool_call_id: string, tool_name: string, result?: unknown, error?: ErrorBody, duration_ms: number, };

export type ApprovalRequested = { tool_call_id: string, tool_name: string, 
/**
 * Unanswered by then, it counts as denied.
 */
expires_at: string, };

export type ApprovalResolved = { tool_call_id: string, decision: 'approved' | 'denied', 
/**
 * Null where nobody answered in time.
 */
by: string | null, reason?: string, 
/**
 * What the tool is called with in place of the model's arguments.
 */
args?: unknown, };

export type StatePatch = { version: number, 
/**
 * RFC 6902.
 */
patch: PatchOperation[], };

export type Suggestions = { items: Array<string>, };

export type TaskCreated = { task_id: string, status: TaskStatus, name: string, input: string, };

export type TaskChanged = { task_id: string, status: TaskStatus, };

export type TaskUpdated = { task_id: string, name?: string, 
/**
 * It is to be paused at its next step.
 */
pausing?: boolean, };

export type ProgressUpdate = { task_id: string, 
/**
 * 0 to 1.
 */
progress: number | null, message: string | null, 
/**
 * 0 to 1.
 */
confidence: number | null, };

export type ConfidenceUpdate = { task_id: string, 
/**
 * 0 to 1.
 */
confidence: number, message: string | null, };

export type AgentResponse = { message_id: string, content: string, model: string, finish_reason: 'stop' | 'length' | 'tool_calls' | 'content_filter' | 'cancelled' | 'error', usage: TokenUsage | null, 
/**
 * The text is a part of what the model would have said.
 */
incomplete: boolean, };

export type TokenUsage = { prompt_tokens: number, completion_tokens: number, total_tokens: number, };

export type ContextUpdate = { 
/**
 * Prompt and answer, as the next prompt would start.
 */
tokens_used: number, context_window: number, 
/**
 * 0 to 100.
 */
percentage: number, omitted_messages: number, source: 'provider' | 'estimate', };

export type RunFinished = { outcome: RunOutcome, reason: 'stopped' | 'replaced' | 'closed' | 'cleared' | 'shutdown' | 'crashed' | 'failed' | null, usage: TokenUsage, duration_ms: number, };

export type SessionUpdated = { title: string, };

export type SessionClosed = { reason: 'closed' | 'refreshed' | 'deleted', replaced_by: string | null, };

export type MessageDelta = { message_id: string, 
/**
 * Unicode code points of the message that came before `text`.
 */
offset: number, text: string, };

export type MessageSnapshot = { message_id: string, text: string, };

export type AgentStatusChange = { status: 'idle' | 'thinking' | 'responding' | 'calling_tool' | 'waiting_approval', };

export type Typing = { author: string, client_id: string | null, typing: boolean, 
/**
 * Not said again within this time, it is over.
 */
expires_in_ms: number, };

export type ListChange = Session | { session_id: string, removed: boolean, };

export type Session = { session_id: string, agent_id: string, title: string | null, status: SessionStatus, created_at: string, updated_at: string, epoch: string, head: number, 
/**
 * What the session was made for, where that is a task.
 */
task?: Task, };

export type Task = { 
/**
 * That of its session.
 */
task_id: string, session_id: string, agent_id: string, name: string, 
/**
 * The first 1,000 characters of it; all where it is asked for by its id, and in exports.
 */
input: string, status: TaskStatus, 
/**
 * It is to be paused at its next step.
 */
pausing: boolean, 
/**
 * It goes on once somebody has allowed or denied a call.
 */
waiting_approval: boolean, 
/**
 * 0 to 1.
 */
progress: number | null, message: string | null, 
/**
 * 0 to 1.
 */
confidence: number | null, created_at: string, updated_at: string, started_at: string | null, ended_at: string | null, 
/**
 * Why it failed.
 */
error: ErrorBody | null, 
/**
 * The first 4,000 characters of its agent's last answer, or all of it as of the input.
 */
result: string | null, };

export type AgentListUpdate = { agents: Array<Agent>, };

export type Agent = { id: string, name: string, description: string, model: string, context_window: number, };

export type ErrorBody = { code: string, message: string, details: Record<string, unknown>, };

export type EventEnvelope = { v: number, topic?: string, epoch?: string, 
/**
 * Number of a durable event in its topic and epoch; ephemeral events have none.
 */
seq?: number, 
/**
 * Names this event.
 */
message_id: string, timestamp: string, agent_id?: string, session_id?: string, 
/**
 * Of the task that the session was made for.
 */
task_id?: string, 
/**
 * The event's `type` once more, where its session is a task's.
 */
event_type?: string, run_id?: string, error?: ErrorBody, } & ({ "type": "session_created", "data": SessionCreated } | { "type": "system_message", "data": SystemMessage } | { "type": "seed_message", "data": SeedMessage } | { "type": "user_message", "data": UserMessage } | { "type": "run_started", "data": RunStarted } | { "type": "tool_call.start", "data": ToolCallStart } | { "type": "tool_call.end", "data": ToolCallEnd } | { "type": "approval_requested", "data": ApprovalRequested } | { "type": "approval_resolved", "data": ApprovalResolved } | { "type": "agent_response", "data": AgentResponse } | { "type": "context_update", "data": ContextUpdate } | { "type": "state.patch", "data": StatePatch } | { "type": "suggestions", "data": Suggestions } | { "type": "task_created", "data": TaskCreated } | { "type": "task_started", "data": TaskChanged } | { "type": "task_updated", "data": TaskUpdated } | { "type": "task_paused", "data": TaskChanged } | { "type": "task_resumed", "data": TaskChanged } | { "type": "task_completed", "data": TaskChanged } | { "type": "task_failed", "data": TaskChanged } | { "type": "task_cancelled", "data": TaskChanged } | { "type": "progress_update", "data": ProgressUpdate } | { "type": "confidence_update", "data": ConfidenceUpdate } | { "type": "error", "data": Nothing } | { "type": "run_finished", "data": RunFinished } | { "type": "session_updated", "data": SessionUpdated } | { "type": "session_closed", "data": SessionClosed } | { "type": "message.delta", "data": MessageDelta } | { "type": "message.snapshot", "data": MessageSnapshot } | { "type": "agent_status_change", "data": AgentStatusChange } | { "type": "typing", "data": Typing } | { "type": "session_list_changed", "data": ListChange } | { "type": "agent_list_update", "data": AgentListUpdate });

export type Refusal = { code: string, message: string, details: Record<string, unknown>, 
/**
 * Whether the same command may succeed later, unchanged.
 */
retryable: boolean, };

export type Reply<D> = { v: number, type: 'reply', 
/**
 * The command's `message_id`; null where it had none, or could not be read.
 */
reply_to: string | null, ok: boolean, data?: D, error?: Refusal, };

export type Created = { session_id: string, epoch: string, seq: number, duplicate: boolean, };

export type Accepted = { run_id: string, 
/**
 * Of its `user_message`.
 */
seq: number, duplicate: boolean, };

export type Stopped = { outcome: RunOutcome, duplicate: boolean, };

export type StateUpdated = { version: number, duplicate: boolean, };

export type ToolList = { tools: Array<Tool>, };

export type Tool = { name: string, description: string, 
/**
 * JSON Schema of its arguments.
 */
parameters: unknown, 
/**
 * `builtin`, or `mcp:` and the server's name.
 */
source: string, 
/**
 * A person must allow each call.
 */
needs_approval: boolean, 
/**
 * It can be called now.
 */
available: boolean, agent_id: string, };

export type PendingApproval = { run_id: string, tool_call_id: string, tool_name: string, expires_at: string, };

export type Noted = { duplicate: boolean, };

export type SessionList = { sessions: Array<Session>, next_cursor: string | null, };

export type History = { events: Array<EventEnvelope>, epoch: string, head: number, 
/**
 * There are more in the direction that was read.
 */
more: boolean, };

export type SearchHits = { hits: Array<SearchHit>, next_cursor: string | null, 
/**
 * Messages after this time are not found yet; absent where all are.
 */
indexed_to?: string, };

export type SearchHit = { session_id: string, 
/**
 * Of the session.
 */
title: string | null, seq: number, 
/**
 * A piece of its text, on one line.
 */
excerpt: string, };

export type AgentList = { agents: Array<Agent>, };

export type ModelList = { models: Array<Model>, };

export type Model = { id: string, provider: string, context_window: number, 
/**
 * Its provider needs no key, or has one.
 */
available: boolean, };

export type Subscribed = { topic: string, 
/**
 * The name that was asked for, where that is another one of the topic.
 */
requested?: string, epoch: string, head: number, 
/**
 * Every event after the position follows; otherwise a snapshot does.
 */
recovered: boolean, 
/**
 * Events between the position and `head`.
 */
replayed?: number, reason?: 'new' | 'epoch' | 'trimmed' | 'ahead', 
/**
 * The connection was subscribed before; nothing has changed.
 */
already?: boolean, };

export type Subscriptions = { topics: Array<Subscribed>, };

export type SubscribeAck = { v: number, type: 'subscribe_ack', 
/**
 * Absent where the server subscribed the connection by itself.
 */
reply_to?: string, data: Subscriptions, };

export type SubscribeError = { v: number, type: 'subscribe_error', reply_to?: string, error: Refusal, };

export type Unsubscribed = { topics: Array<string>, };

export type UnsubscribeAck = { v: number, type: 'unsubscribe_ack', reply_to?: string, data: Unsubscribed, };

export type SnapshotRun = { run_id: string, status: SessionStatus, };

export type SnapshotQueued = { run_id: string, message_id: string, seq: number, };

export type SharedState = { version: number, value: unknown, };

export type Snapshot = { session: Session, 
/**
 * The newest, oldest first; system and seed messages always. Older ones by `history`.
 */
messages: Array<EventEnvelope>, run: SnapshotRun | null, queue: Array<SnapshotQueued>, approvals: Array<PendingApproval>, context: ContextUpdate | null, suggestions: Array<string>, state: SharedState, head: number, 
/**
 * There are older messages than these.
 */
truncated: boolean, };

export type SnapshotFrame = { v: number, type: 'session_snapshot', topic: string, epoch: string, message_id: string, timestamp: string, agent_id: string, session_id: string, data: Snapshot, };

export type Limits = { max_frame_bytes: number, 
/**
 * Over all fragments of a message.
 */
max_message_bytes: number, max_content_bytes: number, outbox_bytes: number, max_topics: number, max_commands_in_flight: number, };

export type Established = { connection_id: string, client_id: string | null, heartbeat_secs: number, limits: Limits, };

export type Closed = { code: number, reason: string, };

export type Empty = Record<symbol, never>;

export type SocketBody = { "type": "connection_established", "data": Established } | { "type": "connection_closed", "data": Closed } | { "type": "heartbeat", "data": Empty };

export type SocketFrame<D> = { v: number, message_id: string, timestamp: string, } & D;

export type Pong = { v: number, type: 'pong', reply_to: string | null, };

export type CreateData = { title?: string, };

export type ListData = { query?: string, cursor?: string, limit?: number, };

export type HistoryData = { after?: number, before?: number, limit?: number, };

export type RenameData = { title: string, };

export type SearchData = { query: string, cursor?: string, };

export type ForkData = { at_seq: number, title?: string, };

export type ChatData = { content: string, on_busy?: 'queue' | 'reject' | 'interrupt', };

export type StopData = { run_id?: string, clear_queue?: boolean, };

export type TypingData = { typing: boolean, };

export type ApprovalData = { tool_call_id: string, decision: 'approve' | 'deny', 
/**
 * For the model.
 */
reason?: string, 
/**
 * What the tool is called with in place of the model's arguments.
 */
args?: Record<string, unknown>, };

export type StateData = { patch: PatchOperation[], 
/**
 * The version that the patch was made for.
 */
if_version: number, };

export type PositionData = { epoch?: string, seq: number, };

export type SubscribeData = { topics: Array<string>, positions?: { [key in string]: PositionData }, };

export type CreateTaskData = { agent_id: string, name: string, 
/**
 * What its agent is told.
 */
input: string, };

export type RenameTaskData = { name: string, };

export type TaskList = { tasks: Array<Task>, next_cursor: string | null, };
