//! Where a session can be forked: the fold of its log up to there.

use std::sync::Arc;

use super::{
    error::{ErrorCode, Problem},
    event::{Durable, Event},
    ids::{Principal, Seq, SessionId, Topic},
    ports::{PageLimit, ReadFrom, Store, StoreError},
    session::{SessionState, SessionStatus},
};

/// What is read from a log at once.
const PAGE: PageLimit = PageLimit { events: 1024, bytes: 1024 * 1024 };

/// A log's past, being read up to a point.
struct Past {
    state: Option<SessionState>,
    at_seq: Seq,
    /// Points at which it could be forked: the last at most at the one asked for, and the next after it.
    before: Option<Seq>,
    after: Option<Seq>,
}

/// The state of a session as it was at `at_seq`, if a fork can begin there.
///
/// # Errors
/// `session_not_found` also where it is somebody else's; `invalid_field` names the nearest point that will do.
pub async fn state_at(
    store: Arc<dyn Store>,
    id: SessionId,
    owner: Principal,
    at_seq: Seq,
) -> Result<SessionState, Problem> {
    let not_found = || Problem::session_not_found(id.as_str());
    let now = store.session(&id).await.map_err(StoreError::unreadable)?.ok_or_else(not_found)?;
    if now.record.owner != owner {
        return Err(not_found());
    }
    if now.record.head == at_seq && may_fork(&now) {
        return Ok(now);
    }
    let topic = Topic::Session(id.clone());
    let mut past = Past { state: None, at_seq, before: None, after: None };
    let mut last = 0;
    while past.after.is_none() {
        let page = store.read(&topic, ReadFrom::After(last), PAGE).await.map_err(StoreError::unreadable)?;
        let page = page.ok_or_else(not_found)?;
        for event in &page.events {
            past.take_in(event);
            last = event.seq();
            if last == at_seq && past.before == Some(at_seq) {
                return past.state.ok_or_else(not_found);
            }
        }
        if !page.more {
            break;
        }
    }
    Err(past.wrong_point(now.record.head))
}

impl Past {
    fn take_in(&mut self, event: &Event) {
        match &mut self.state {
            Some(state) => state.apply(event),
            None => self.state = SessionState::begin(event),
        }
        if self.state.as_ref().is_some_and(may_fork) {
            if event.seq() <= self.at_seq {
                self.before = Some(event.seq());
            } else {
                self.after.get_or_insert(event.seq());
            }
        }
    }

    fn wrong_point(&self, head: Seq) -> Problem {
        let nearest = match (self.before, self.after) {
            (Some(before), Some(after)) if after - self.at_seq < self.at_seq - before => Some(after),
            (before, after) => before.or(after),
        };
        let expected = match nearest {
            Some(nearest) => format!(
                "the number of an event of this session (1 to {head}) after which no run is open and no message \
                 waits; the nearest is {nearest}"
            ),
            None => "an event after which no run is open and no message waits; there is none yet".to_owned(),
        };
        let details = serde_json::json!({ "field": "data.at_seq", "expected": expected, "nearest": nearest });
        Problem::new(ErrorCode::InvalidField, format!("data.at_seq: expected {expected}")).with(details)
    }
}

fn may_fork(state: &SessionState) -> bool {
    !state.is_unfinished() && state.record.status != SessionStatus::Closed
}

/// The state that a fork begins with.
pub fn forked(mut past: SessionState, created: &Event) -> Option<SessionState> {
    let new = SessionState::begin(created)?.record;
    let Durable::SessionCreated { title, .. } = created.as_durable()? else { return None };
    past.record.session_id = new.session_id;
    past.record.owner = new.owner;
    past.record.title = title.clone();
    past.record.created_at = new.created_at;
    past.record.updated_at = new.updated_at;
    past.record.epoch = new.epoch;
    // The task itself stays where it is.
    past.record.task = None;
    Some(past)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::{
            event::{CloseReason, Entry, Outcome, Queued, Timestamp, Trigger, Usage},
            ids::{MessageId, RunId},
            ports::Append,
        },
        store::memory::MemoryStore,
    };

    /// A session of two runs, of which the second waited for the first, and that was closed.
    async fn store() -> (Arc<dyn Store>, SessionId) {
        let (first, second) = (RunId::new(), RunId::new());
        let message = |queue| Durable::UserMessage {
            message_id: MessageId::new(),
            command_id: None,
            content: "hi".to_owned(),
            author: Principal::local(),
            queue,
        };
        let start = Durable::RunStarted { trigger: Trigger::UserMessage };
        let end = Durable::RunFinished {
            outcome: Outcome::Completed,
            reason: None,
            usage: Usage::default(),
            duration_ms: 0,
        };
        let entries = [
            Entry::from(Durable::SessionCreated {
                owner: Principal::local(),
                agent_name: "Helper".to_owned(),
                title: Some("old".to_owned()),
                forked_from: None,
            }),
            Entry::of_run(first, message(Queued::No)),
            Entry::of_run(first, start.clone()),
            Entry::of_run(second, message(Queued::Last)),
            Entry::of_run(first, end.clone()),
            Entry::of_run(second, start),
            Entry::of_run(second, end),
            Entry::from(Durable::SessionUpdated { title: "renamed".to_owned() }),
            Entry::from(Durable::SessionClosed { reason: CloseReason::Closed, replaced_by: None }),
        ];
        let id: SessionId = "helper_417".parse().unwrap();
        let topic = Topic::Session(id.clone());
        let events = (1..).zip(entries).map(|(seq, entry)| {
            Arc::new(Event::durable(topic.clone(), "e".into(), seq, Timestamp(0), entry))
        });
        let events = events.collect();
        let store = MemoryStore::new(usize::MAX);
        store.append(Append { topic, expected_seq: 0, events, commands: Vec::new() }).await.unwrap();
        (Arc::new(store), id)
    }

    #[tokio::test]
    async fn a_point_with_nothing_under_way_will_do_and_others_name_the_nearest() {
        let (store, id) = store().await;
        for (at_seq, nearest) in
            [(0, 1), (1, 0), (2, 1), (3, 1), (4, 1), (5, 7), (6, 7), (7, 0), (8, 0), (9, 8), (1_000, 8)]
        {
            let state = state_at(store.clone(), id.clone(), Principal::local(), at_seq).await;
            match state {
                Ok(state) => assert_eq!((nearest, state.record.head), (0, at_seq)),
                Err(problem) => {
                    assert_eq!(problem.code, ErrorCode::InvalidField, "{at_seq}");
                    assert_eq!(problem.details["nearest"], nearest, "{at_seq}: {}", problem.message);
                }
            }
        }
        let other = state_at(store.clone(), id, "other".parse().unwrap(), 1).await.unwrap_err();
        assert_eq!(other.code, ErrorCode::SessionNotFound);
    }

    #[tokio::test]
    async fn a_fork_is_as_its_past_was_under_a_name_of_its_own() {
        let (store, id) = store().await;
        let past = state_at(store, id, Principal::local(), 8).await.unwrap();
        let new: SessionId = "helper_500".parse().unwrap();
        let created = Durable::SessionCreated {
            owner: Principal::local(),
            agent_name: "Helper".to_owned(),
            title: Some("new".to_owned()),
            forked_from: None,
        };
        let created =
            Event::durable(Topic::Session(new.clone()), "f".into(), 1, Timestamp(5), created.into());

        let state = forked(past, &created).unwrap();

        assert_eq!((state.record.session_id, state.record.title), (new, Some("new".to_owned())));
        assert_eq!((state.record.head, state.messages, state.record.created_at), (8, 2, Timestamp(5)));
    }
}
