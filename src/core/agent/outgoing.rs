//! What an agent must get into its log, however long that takes: batches in their order, one at a time.
//!
//! One at a time, because a batch that the store refuses is tried again: another that was sent meanwhile could
//! get in before it, and the end of a run before the end of one of its calls.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use actix::{ActorContext, ActorFuture, AsyncContext, Context};
use futures_util::FutureExt;
use tokio::sync::oneshot;

use super::{Agent, STORE_REFUSES};
use crate::core::{
    bus::{Committed, Failed, Origin},
    command::{Done, Remember, ReplyTo},
    error::Problem,
    event::Entry,
    ports::AppendError,
};

/// How long a batch that the store has refused waits before it is tried again.
const RETRY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);
/// What waits goes out together, so many events at a time.
const MERGED: usize = 64;

#[derive(Default)]
pub(super) struct Outgoing {
    waiting: VecDeque<Batch>,
    in_flight: bool,
    /// The store has refused the first; it waits for so long before it is tried again.
    refused: Option<Duration>,
    pausing: bool,
}

struct Batch {
    entries: Vec<Entry>,
    commands: Vec<Remember>,
    /// Who is answered when it is in the log.
    answers: Vec<(ReplyTo, Done)>,
    then: Vec<Then>,
}

type Then = Box<dyn FnOnce(&mut Agent, &mut Context<Agent>)>;

/// What has been published and not been answered, oldest first: outcomes are taken in the order of the log,
/// whichever the agent hears of first.
#[derive(Default)]
pub(super) struct Published {
    batches: VecDeque<(oneshot::Receiver<Result<Committed, Failed>>, ThenOutcome)>,
    /// Outcomes are being taken.
    taken: bool,
}

type ThenOutcome = Box<dyn FnOnce(&mut Agent, Result<Committed, Failed>, &mut Context<Agent>)>;

/// Takes the outcomes of what was published, until there are none to come.
struct Publishing;

impl ActorFuture<Agent> for Publishing {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        agent: &mut Agent,
        ctx: &mut Context<Agent>,
        task: &mut TaskContext<'_>,
    ) -> Poll<()> {
        while let Some((outcome, _)) = agent.published.batches.front_mut() {
            let Poll::Ready(outcome) = outcome.poll_unpin(task) else { return Poll::Pending };
            if let Some((_, then)) = agent.published.batches.pop_front() {
                agent.take_outcome(outcome.ok(), then, ctx);
            }
        }
        agent.published.taken = false;
        Poll::Ready(())
    }
}

impl Outgoing {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && !self.in_flight
    }

    /// The store does not take what must get in; anything else would overtake it.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// The next batches, as one.
    fn take(&mut self) -> Option<Batch> {
        let mut batch = self.waiting.pop_front()?;
        while let Some(next) =
            self.waiting.pop_front_if(|next| batch.entries.len() + next.entries.len() <= MERGED)
        {
            batch.entries.extend(next.entries);
            batch.commands.extend(next.commands);
            batch.answers.extend(next.answers);
            batch.then.extend(next.then);
        }
        Some(batch)
    }
}

impl Agent {
    /// Publishes a batch; `then` is told whether it is in the log.
    pub(super) fn publish(
        &mut self,
        entries: Vec<Entry>,
        commands: Vec<Remember>,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, Result<Committed, Failed>, &mut Context<Self>) + 'static,
    ) {
        self.appending += 1;
        let outcome = self.bus.publish(&self.topic, Origin::Log, entries, commands);
        self.published.batches.push_back((outcome, Box::new(then)));
        if !std::mem::replace(&mut self.published.taken, true) {
            ctx.spawn(Publishing);
        }
    }

    fn take_outcome(
        &mut self,
        outcome: Option<Result<Committed, Failed>>,
        then: ThenOutcome,
        ctx: &mut Context<Self>,
    ) {
        self.appending -= 1;
        // The bus drops nothing unanswered but by its own end, and with it the process ends.
        let Some(outcome) = outcome else { return ctx.stop() };
        if let Ok(Committed { events, .. }) = &outcome {
            for event in events {
                self.conversation.apply(event);
                self.state.apply(event);
            }
        }
        let is_conflict = matches!(&outcome, Err(Failed { error: AppendError::Conflict, .. }));
        then(self, outcome, ctx);
        if is_conflict {
            // Another wrote to this log: what is here is of no use. The manager loads it anew.
            log::error!("session={}: the log is not where it was left", self.session_id);
            return ctx.stop();
        }
        self.move_on(ctx);
    }

    /// Publishes a batch that must get into the log, after those that came before. Those whose commands it carries
    /// out are answered when it is there, or refused when the store refuses it: it is tried again all the same.
    pub(super) fn commit(
        &mut self,
        entries: Vec<Entry>,
        answers: Vec<(ReplyTo, Done)>,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, &mut Context<Self>) + 'static,
    ) {
        let mut batch = Batch { entries, commands: Vec::new(), answers, then: vec![Box::new(then)] };
        if self.outgoing.is_refused() {
            self.refuse_waiting(std::mem::take(&mut batch.answers));
        }
        batch.commands =
            batch.answers.iter().filter_map(|(reply, done)| reply.remember(done.clone())).collect();
        self.outgoing.waiting.push_back(batch);
        self.send_out(ctx);
    }

    fn send_out(&mut self, ctx: &mut Context<Self>) {
        if self.outgoing.in_flight || self.outgoing.pausing {
            return;
        }
        let Some(Batch { entries, commands, answers, then }) = self.outgoing.take() else { return };
        self.outgoing.in_flight = true;
        self.publish(entries, commands, ctx, move |agent, outcome, ctx| {
            agent.outgoing.in_flight = false;
            let Failed { error, entries, .. } = match outcome {
                Ok(_) => {
                    agent.outgoing.refused = None;
                    answers.into_iter().for_each(|(reply, done)| reply.done(done));
                    then.into_iter().for_each(|then| then(agent, ctx));
                    return agent.send_out(ctx);
                }
                Err(failed) => failed,
            };
            let again = |answers| Batch { entries, commands: Vec::new(), answers, then };
            match error {
                // The agent is on its way out.
                AppendError::Conflict => {}
                // One of the commands was carried out before: the rest goes in without them.
                AppendError::Duplicate(_) => {
                    agent.outgoing.waiting.push_front(again(answers));
                    agent.send_out(ctx);
                }
                AppendError::Full | AppendError::Failed(_) => {
                    agent.outgoing.waiting.push_front(again(Vec::new()));
                    agent.refused(&error, answers, ctx);
                }
            }
        });
    }

    fn refused(&mut self, error: &AppendError, mut answers: Vec<(ReplyTo, Done)>, ctx: &mut Context<Self>) {
        for waiting in &mut self.outgoing.waiting {
            answers.append(&mut waiting.answers);
            waiting.commands.clear();
        }
        self.refuse_waiting(answers);
        let waited = self.outgoing.refused.unwrap_or_default();
        let wait = (waited * 2).clamp(*RETRY.start(), *RETRY.end());
        log::error!("session={}: {error}; trying again in {wait:?}", self.session_id);
        self.outgoing.refused = Some(wait);
        self.outgoing.pausing = true;
        ctx.run_later(wait, |agent, ctx| {
            agent.outgoing.pausing = false;
            agent.send_out(ctx);
        });
    }

    /// The store refuses what these wait for: they may try again.
    pub(super) fn refuse_waiting(&mut self, answers: Vec<(ReplyTo, Done)>) {
        let problem = Problem::unavailable(STORE_REFUSES);
        let replies = answers.into_iter().map(|(reply, _)| reply).chain(self.stops.drain(..));
        let closing = self.closing.take().map(|closing| closing.reply);
        let reopens = closing.is_some();
        let changes = self.acting.give_up_changes();
        let replies: Vec<_> =
            replies.chain(changes).chain(closing).chain(self.closing_too.drain(..)).collect();
        replies.into_iter().for_each(|reply| reply.refuse(problem.clone()));
        if reopens {
            self.closed = false;
            self.enqueue_task(true);
        }
    }
}
