//! Actor `TaskRunner`: gives tasks their turn, so many at a time, in the order in which they came.
//!
//! Owns: who waits for a turn and who has it. Does not own: the tasks, which live in their sessions' logs; what
//! waits here is found there again after a restart.
//! Talks to: the manager, which passes the turn to the session's agent; the answer is that the task needs its
//! place no longer.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix::{Actor, AsyncContext, Context, Handler, Message, Recipient};
use tokio::sync::oneshot;

use super::{
    command::{Answer, ReplyTo},
    completions::{Completes, Completing, Completions},
    end_process_if_panicking,
    error::{ErrorCode, Problem},
    ids::{Principal, SessionId},
};

/// Tasks that wait, at most; more are refused when they are created.
pub const MAX_WAITING: usize = 10_000;
/// A task whose session cannot be read now gets its next turn after this time.
const RETRY: Duration = Duration::from_secs(1);

/// A task is to have its turn.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Enqueue {
    pub session_id: SessionId,
    pub owner: Principal,
    /// Somebody has asked for it just now; otherwise it was found in the log, perhaps by who has its turn.
    pub anew: bool,
}

/// It is a task's turn. Answered when it needs its place no longer.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RunTask {
    pub session_id: SessionId,
    pub owner: Principal,
    pub reply: ReplyTo,
}

/// How many tasks wait, for whoever would add one.
#[derive(Debug, Clone, Default)]
pub struct WaitingTasks(Arc<AtomicUsize>);

impl WaitingTasks {
    /// # Errors
    /// `busy` where there are too many.
    pub fn admit(&self) -> Result<(), Problem> {
        let waiting = self.0.load(Ordering::Relaxed);
        if waiting < MAX_WAITING {
            return Ok(());
        }
        let message = format!("{waiting} tasks wait for their turn; create more when some have ended");
        Err(Problem::new(ErrorCode::Busy, message).with(serde_json::json!({ "waiting": waiting })))
    }
}

pub struct TaskRunner {
    manager: Recipient<RunTask>,
    completions: Completions<Self>,
    at_once: usize,
    running: usize,
    queue: VecDeque<SessionId>,
    tasks: HashMap<SessionId, Place>,
    waiting: WaitingTasks,
    /// Sessions cannot be read now: nobody gets a turn for a while.
    pausing: bool,
}

struct Place {
    owner: Principal,
    has_turn: bool,
    /// It was to have another turn while it had this one.
    again: bool,
}

impl TaskRunner {
    pub fn new(manager: Recipient<RunTask>, at_once: usize, waiting: WaitingTasks) -> Self {
        Self {
            manager,
            completions: Completions::default(),
            at_once,
            running: 0,
            queue: VecDeque::new(),
            tasks: HashMap::new(),
            waiting,
            pausing: false,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "one a place")]
    fn fill_places(&mut self) {
        while self.running < self.at_once
            && !self.pausing
            && let Some(session_id) = self.queue.pop_front()
        {
            let Some(place) = self.tasks.get_mut(&session_id) else { continue };
            place.has_turn = true;
            self.running += 1;
            let (to, answer) = oneshot::channel();
            let (owner, reply) = (place.owner.clone(), ReplyTo::new(to, None));
            self.manager.do_send(RunTask { session_id: session_id.clone(), owner, reply });
            self.completions.push(answer, move |runner, answer, ctx| {
                // What is dropped unanswered was not carried out.
                let result = answer.map_or_else(|_| Err(Problem::internal()), |answer: Answer| answer.result);
                runner.running -= 1;
                runner.left(&session_id, result.err(), ctx);
                runner.fill_places();
            });
        }
        self.waiting.0.store(self.queue.len(), Ordering::Relaxed);
    }

    /// A task has left its place, or could not take it.
    fn left(&mut self, session_id: &SessionId, problem: Option<Problem>, ctx: &mut Context<Self>) {
        let Some(Place { owner, again, .. }) = self.tasks.remove(session_id) else { return };
        match problem {
            // It keeps its place in the order; what holds it up holds up the others as well.
            Some(problem) if matches!(problem.code, ErrorCode::Unavailable | ErrorCode::Busy) => {
                let place = Place { owner, has_turn: false, again: false };
                self.tasks.insert(session_id.clone(), place);
                self.queue.push_front(session_id.clone());
                self.pause(&problem, ctx);
            }
            _ if again => self.enqueue(Enqueue { session_id: session_id.clone(), owner, anew: true }),
            _ => {}
        }
    }

    fn pause(&mut self, problem: &Problem, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.pausing, true) {
            log::warn!("tasks wait for {RETRY:?}: {problem}");
            ctx.run_later(RETRY, |runner, _| {
                runner.pausing = false;
                runner.fill_places();
            });
        }
    }

    fn enqueue(&mut self, Enqueue { session_id, owner, anew }: Enqueue) {
        match self.tasks.get_mut(&session_id) {
            Some(place) => place.again |= place.has_turn && anew,
            None => {
                self.tasks.insert(session_id.clone(), Place { owner, has_turn: false, again: false });
                self.queue.push_back(session_id);
            }
        }
    }
}

impl Actor for TaskRunner {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.spawn(Completing);
    }
}

impl Completes for TaskRunner {
    fn completions(&mut self) -> &mut Completions<Self> {
        &mut self.completions
    }
}

impl Drop for TaskRunner {
    /// Without it no task would ever run again.
    fn drop(&mut self) {
        end_process_if_panicking("the task runner");
    }
}

impl Handler<Enqueue> for TaskRunner {
    type Result = ();

    fn handle(&mut self, enqueue: Enqueue, _ctx: &mut Self::Context) {
        self.enqueue(enqueue);
        self.fill_places();
    }
}
