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
    Some(past)
}
