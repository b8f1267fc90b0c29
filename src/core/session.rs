//! What a session's log says about the session itself: the fold behind lists and snapshots (pure).
//!
//! A store keeps one beside each session's log, brought up to date in the transaction of each append,
//! so that a list or a snapshot never reads a log from its beginning.

use serde::{Deserialize, Serialize};

use super::{
    error::Problem,
    event::{ContextUse, Durable, Event, Progress, Queued, TaskChange, Timestamp, Trigger, json_bytes},
    ids::{Epoch, MessageId, Principal, RunId, Seq, SessionId},
    shared_state::SharedState,
};

/// What a list shows of a task's input, and of its result.
const TASK_INPUT_CHARS: usize = 1_000;
const TASK_RESULT_CHARS: usize = 4_000;

/// A session as lists show it.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionRecord {
    pub session_id: SessionId,
    pub owner: Principal,
    pub title: Option<String>,
    pub status: SessionStatus,
    pub created_at: Timestamp,
    /// When the session last began, ended or changed something.
    pub updated_at: Timestamp,
    pub epoch: Epoch,
    pub head: Seq,
    /// What the session was made for, where that is a task.
    pub task: Option<Box<TaskRecord>>,
}

/// A task as lists show it. Its id is that of its session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    pub name: String,
    /// The beginning of it.
    pub input: String,
    pub status: TaskStatus,
    /// It is to be paused at its next step.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pausing: bool,
    /// Its newest run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    #[serde(default)]
    pub progress: Progress,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// The beginning of its agent's last answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    Pending,
    Running,
    Paused,
    Completed,
    Failed,
    Cancelled,
}

impl TaskStatus {
    pub const fn name(self) -> &'static str {
        match self {
            TaskStatus::Pending => "pending",
            TaskStatus::Running => "running",
            TaskStatus::Paused => "paused",
            TaskStatus::Completed => "completed",
            TaskStatus::Failed => "failed",
            TaskStatus::Cancelled => "cancelled",
        }
    }

    /// Nothing more will become of it.
    pub fn has_ended(self) -> bool {
        matches!(self, TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Cancelled)
    }

    /// It runs, or will as soon as it is its turn.
    pub fn is_active(self) -> bool {
        matches!(self, TaskStatus::Pending | TaskStatus::Running)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionStatus {
    Idle,
    Running,
    /// Its run goes on once somebody has allowed or denied a call.
    WaitingApproval,
    Closed,
}

/// The whole fold: the record, and what a snapshot needs beside the messages.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionState {
    pub record: SessionRecord,
    /// The run that has begun and not ended.
    pub run: Option<RunId>,
    /// What will run next, in this order.
    pub queue: Vec<QueuedRun>,
    pub context: Option<ContextUse>,
    /// Calls of the open run that somebody must allow.
    pub approvals: Vec<Approval>,
    /// What the user may want to say next.
    pub suggestions: Vec<String>,
    pub shared: SharedState,
    /// Messages that a model would be told of, were there room for all.
    pub messages: u64,
}

/// A call that waits for somebody to allow it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    pub run_id: RunId,
    pub tool_call_id: String,
    pub tool_name: String,
    pub expires_at: Timestamp,
}

/// A user's message that waits for its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedRun {
    pub run_id: RunId,
    pub message_id: MessageId,
    /// Of its `user_message`.
    pub seq: Seq,
    /// It goes before the others: it interrupted a run.
    pub first: bool,
}

impl SessionState {
    /// The fold of a log that begins with `event`; `None` unless that is a `session_created`.
    pub fn begin(event: &Event) -> Option<Self> {
        let session_id = event.topic.session()?.clone();
        let position = event.position.as_ref()?;
        let Durable::SessionCreated { owner, title, .. } = event.as_durable()? else { return None };
        Some(Self {
            record: SessionRecord {
                session_id,
                owner: owner.clone(),
                title: title.clone(),
                status: SessionStatus::Idle,
                created_at: event.at,
                updated_at: event.at,
                epoch: position.epoch.clone(),
                head: position.seq,
                task: None,
            },
            run: None,
            queue: Vec::new(),
            context: None,
            approvals: Vec::new(),
            suggestions: Vec::new(),
            shared: SharedState::default(),
            messages: 0,
        })
    }

    /// Takes in the next event of the log.
    pub fn apply(&mut self, event: &Event) {
        let Some(body) = event.as_durable() else { return };
        self.record.head = event.seq();
        if changes_record(body) {
            // However the clock was set meanwhile.
            self.record.updated_at = self.record.updated_at.max(event.at);
        }
        match body {
            // Its run begins with it.
            Durable::UserMessage { queue: Queued::No, .. } => self.run = event.run_id,
            Durable::UserMessage { message_id, queue, .. } => {
                if let Some(run_id) = event.run_id {
                    let first = *queue == Queued::First;
                    let queued = QueuedRun { run_id, message_id: *message_id, seq: event.seq(), first };
                    enqueue(&mut self.queue, queued);
                }
            }
            Durable::RunStarted { trigger } => {
                if let Some(task) = self.record.task.as_mut().filter(|_| *trigger != Trigger::UserMessage) {
                    task.run = event.run_id;
                }
                self.run = event.run_id;
                self.queue.retain(|queued| Some(queued.run_id) != event.run_id);
                self.record.status = SessionStatus::Running;
                self.suggestions.clear();
                self.messages += 1;
            }
            Durable::RunFinished { .. } => {
                self.queue.retain(|queued| Some(queued.run_id) != event.run_id);
                if self.run == event.run_id {
                    self.run = None;
                    self.approvals.clear();
                    self.record.status = SessionStatus::Idle;
                }
            }
            Durable::ContextUpdated(context) => self.context = Some(*context),
            Durable::SessionUpdated { title } => {
                self.record.title = Some(title.clone());
                if let Some(task) = &mut self.record.task {
                    task.name.clone_from(title);
                }
            }
            Durable::SessionClosed { .. } => self.record.status = SessionStatus::Closed,
            Durable::AgentResponse(response) => {
                self.messages += 1;
                if let Some(task) = self.task_of(event) {
                    task.result = Some(beginning(&response.content, TASK_RESULT_CHARS));
                }
            }
            Durable::ToolCallStarted { .. } => self.messages += 1,
            Durable::ApprovalRequested { tool_call_id, tool_name, expires_at } => {
                if let Some(run_id) = event.run_id {
                    self.approvals.push(Approval {
                        run_id,
                        tool_call_id: tool_call_id.clone(),
                        tool_name: tool_name.clone(),
                        expires_at: *expires_at,
                    });
                    self.record.status = SessionStatus::WaitingApproval;
                }
            }
            Durable::ApprovalResolved { tool_call_id, .. } | Durable::ToolCallEnded { tool_call_id, .. } => {
                self.settled(tool_call_id);
            }
            Durable::StatePatched { version, patch } => {
                // Whoever wrote it has tried it: it makes this version.
                if let Ok(patched) = self.shared.patched(patch, None) {
                    debug_assert_eq!(patched.version, *version);
                    self.shared = patched;
                }
            }
            Durable::Suggested { items } => self.suggestions.clone_from(items),
            Durable::Task(change) => self.task_changed(change, event.at),
            Durable::Progressed(news) => {
                if let Some(task) = self.task_of(event) {
                    task.progress.take_in(news);
                }
            }
            Durable::SessionCreated { .. }
            | Durable::SystemMessage { .. }
            | Durable::SeedMessage { .. }
            | Durable::Error { .. } => {}
        }
    }

    /// A call waits for nobody any more.
    fn settled(&mut self, tool_call_id: &str) {
        // Some models give two calls of a step the same id: they are settled in turn.
        if let Some(at) = self.approvals.iter().position(|approval| approval.tool_call_id == tool_call_id) {
            self.approvals.remove(at);
        }
        if self.approvals.is_empty() && self.record.status == SessionStatus::WaitingApproval {
            self.record.status = SessionStatus::Running;
        }
    }

    /// The task, if the event is of its run and it has not ended.
    fn task_of(&mut self, event: &Event) -> Option<&mut Box<TaskRecord>> {
        let is_its = |task: &&mut Box<TaskRecord>| event.run_id.is_some() && task.run == event.run_id;
        self.record.task.as_mut().filter(|task| !task.status.has_ended()).filter(is_its)
    }

    fn task_changed(&mut self, change: &TaskChange, at: Timestamp) {
        if let TaskChange::Created { name, input } = change {
            self.record.task = Some(Box::new(TaskRecord::new(name, input)));
        }
        let Some(task) = &mut self.record.task else { return };
        if task.status.has_ended() && !matches!(change, TaskChange::Renamed { .. }) {
            return;
        }
        match change {
            TaskChange::Created { .. } => {}
            TaskChange::Started => {
                task.status = TaskStatus::Running;
                task.started_at.get_or_insert(at);
            }
            TaskChange::Renamed { name } => task.name.clone_from(name),
            TaskChange::Pausing => task.pausing = task.status == TaskStatus::Running,
            TaskChange::Paused => task.status = TaskStatus::Paused,
            TaskChange::Resumed => task.status = TaskStatus::Pending,
            TaskChange::Completed => task.status = TaskStatus::Completed,
            TaskChange::Failed { problem } => {
                task.status = TaskStatus::Failed;
                task.problem = Some(problem.clone());
            }
            TaskChange::Cancelled => task.status = TaskStatus::Cancelled,
        }
        if task.status.has_ended() {
            task.ended_at.get_or_insert(at);
        }
        if task.status != TaskStatus::Running {
            task.pausing = false;
        }
    }

    /// Roughly the bytes that it occupies beside the events that it is the fold of, for limits.
    pub fn weight(&self) -> usize {
        const ITEM: usize = 64;
        let approvals = self.approvals.iter().map(|a| ITEM + a.tool_call_id.len() + a.tool_name.len());
        let suggestions = self.suggestions.iter().map(|item| ITEM + item.len());
        self.record.weight()
            + self.shared.weight()
            + approvals.sum::<usize>()
            + suggestions.sum::<usize>()
            + ITEM * self.queue.len()
    }

    /// Something is left to do: a run is open, messages wait for theirs, or a task for its turn.
    pub fn is_unfinished(&self) -> bool {
        let has_active_task = || self.record.task.as_ref().is_some_and(|task| task.status.is_active());
        self.run.is_some() || !self.queue.is_empty() || has_active_task()
    }
}

impl SessionRecord {
    /// Roughly the bytes of its texts, for limits.
    pub fn weight(&self) -> usize {
        let title = self.title.as_ref().map_or(0, String::len);
        title + self.task.as_ref().map_or(0, |task| task.weight())
    }
}

impl TaskRecord {
    fn new(name: &str, input: &str) -> Self {
        Self {
            name: name.to_owned(),
            input: beginning(input, TASK_INPUT_CHARS),
            status: TaskStatus::Pending,
            pausing: false,
            run: None,
            progress: Progress::default(),
            started_at: None,
            ended_at: None,
            problem: None,
            result: None,
        }
    }

    /// Whether `input` is all of it.
    pub fn has_whole_input(&self) -> bool {
        is_whole(&self.input, TASK_INPUT_CHARS)
    }

    /// Whether `result` is all of it.
    pub fn has_whole_result(&self) -> bool {
        self.result.as_ref().is_none_or(|result| is_whole(result, TASK_RESULT_CHARS))
    }

    /// Roughly the bytes that it occupies, for limits.
    fn weight(&self) -> usize {
        let problem = |problem: &Problem| problem.message.len() + json_bytes(&problem.details);
        let texts = [&self.result, &self.progress.message];
        let texts = texts.into_iter().flatten().map(String::len).sum::<usize>();
        size_of::<Self>()
            + self.name.len()
            + self.input.len()
            + texts
            + self.problem.as_ref().map_or(0, problem)
    }
}

impl Progress {
    /// What was not said again stays as it was.
    pub fn take_in(&mut self, news: &Progress) {
        self.progress = news.progress.or(self.progress);
        self.confidence = news.confidence.or(self.confidence);
        if news.message.is_some() {
            self.message.clone_from(&news.message);
        }
    }
}

/// As much of a text as a list shows.
fn beginning(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Whether a text that a list shows is all there is: what was cut is longer by its mark.
fn is_whole(text: &str, max_chars: usize) -> bool {
    text.len() <= max_chars || text.chars().count() <= max_chars
}

/// Puts a run where it will go: those that interrupt before the others, each kind in its order.
pub fn enqueue(queue: &mut Vec<QueuedRun>, queued: QueuedRun) {
    let place = if queued.first { queue.iter().take_while(|other| other.first).count() } else { queue.len() };
    queue.insert(place, queued);
}

/// Whether what a list shows of the session changes with this event.
pub fn changes_record(body: &Durable) -> bool {
    matches!(
        body,
        Durable::SessionCreated { .. }
            | Durable::UserMessage { .. }
            | Durable::RunStarted { .. }
            | Durable::RunFinished { .. }
            | Durable::SessionUpdated { .. }
            | Durable::SessionClosed { .. }
            | Durable::ApprovalRequested { .. }
            | Durable::ApprovalResolved { .. }
            | Durable::Task(_)
            | Durable::Progressed(_)
    )
}

/// Whether the event is one that a conversation is shown from.
pub fn is_message(body: &Durable) -> bool {
    is_preamble(body)
        || matches!(
            body,
            Durable::UserMessage { .. }
                | Durable::AgentResponse(_)
                | Durable::ToolCallStarted { .. }
                | Durable::ToolCallEnded { .. }
                | Durable::ApprovalRequested { .. }
                | Durable::ApprovalResolved { .. }
                | Durable::Error { .. }
        )
}

/// Whether the event is one that a conversation begins with, and that is always shown.
pub fn is_preamble(body: &Durable) -> bool {
    matches!(body, Durable::SystemMessage { .. } | Durable::SeedMessage { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{event::Entry, ids::Topic};

    /// The fold of a task's log.
    fn fold(bodies: impl IntoIterator<Item = Durable>) -> SessionState {
        let topic = Topic::Session("worker_417".parse().unwrap());
        let owner = Principal::local();
        let created =
            Durable::SessionCreated { owner, agent_name: String::new(), title: None, forked_from: None };
        let mut state: Option<SessionState> = None;
        for (seq, body) in (1..).zip([created].into_iter().chain(bodies)) {
            let event =
                Event::durable(topic.clone(), "e".into(), seq, Timestamp(seq as i64), Entry::from(body));
            match &mut state {
                Some(state) => state.apply(&event),
                None => state = SessionState::begin(&event),
            }
        }
        state.unwrap()
    }

    fn task(change: TaskChange) -> Durable {
        Durable::Task(Box::new(change))
    }

    #[test]
    fn nothing_becomes_of_a_task_that_has_ended() {
        let created = TaskChange::Created { name: "One".into(), input: "x".into() };
        let state = fold([
            task(created),
            task(TaskChange::Started),
            task(TaskChange::Cancelled),
            task(TaskChange::Resumed),
            task(TaskChange::Started),
            task(TaskChange::Renamed { name: "Two".into() }),
        ]);

        let task = state.record.task.as_ref().unwrap();
        assert_eq!((task.status, task.name.as_str()), (TaskStatus::Cancelled, "Two"));
        assert_eq!(task.ended_at, Some(Timestamp(4)));
        assert!(!state.is_unfinished());
    }

    #[test]
    fn what_is_said_in_a_tasks_session_beside_its_run_is_no_result_of_it() {
        let (run_id, other) = (RunId::new(), RunId::new());
        let mut state = fold([task(TaskChange::Created { name: "One".into(), input: "x".into() })]);
        let mut seq = state.record.head;
        let mut apply = |run_id: RunId, body: Durable| {
            seq += 1;
            let topic = Topic::Session("worker_417".parse().unwrap());
            let entry = Entry::of_run(run_id, body);
            state.apply(&Event::durable(topic, "e".into(), seq, Timestamp(0), entry));
        };
        let news = |progress| {
            Durable::Progressed(Box::new(Progress { progress: Some(progress), ..Progress::default() }))
        };
        apply(run_id, Durable::RunStarted { trigger: Trigger::Task });
        apply(run_id, news(0.5));
        apply(other, news(0.9));

        assert_eq!(state.record.task.unwrap().progress.progress, Some(0.5));
    }
}
