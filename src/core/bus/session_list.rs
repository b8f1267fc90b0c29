//! Changes of the session list, told to every connection of the sessions' owner.
//!
//! Everybody is told of everything, so with many connections and many sessions this could cost more than all
//! else. Changes are therefore gathered, a session that changes twice is told once, and so many are told at a
//! time: the list of a busy server is up to date a little later, and nothing waits for it.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use actix::{AsyncContext, Context};

use super::EventBus;
use crate::core::{
    event::{Ephemeral, Event},
    ids::{Principal, SessionId, Topic},
};

/// Changes are gathered for this long.
pub(super) const LIST_INTERVAL: Duration = Duration::from_millis(100);
/// Then connections are told this often, all together, before the next interval: about a hundredth of a core.
pub(super) const TOLD_AT_ONCE: usize = 512;

/// Changes that have not been told yet.
#[derive(Default)]
pub(super) struct ListChanges {
    waiting: HashMap<SessionId, ListChange>,
    /// In the order in which they came up.
    order: VecDeque<SessionId>,
    telling: bool,
}

/// What has become of a session's place in the list.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ListChange {
    /// Its record is another.
    Record,
    /// It had to make room: its owner cannot be looked up any more.
    Removed { owner: Principal },
}

impl ListChanges {
    fn push(&mut self, session_id: SessionId, change: ListChange) {
        if self.waiting.insert(session_id.clone(), change).is_none() {
            self.order.push_back(session_id);
        }
    }

    fn pop(&mut self) -> Option<(SessionId, ListChange)> {
        let session_id = self.order.pop_front()?;
        let change = self.waiting.remove(&session_id)?;
        Some((session_id, change))
    }
}

impl EventBus {
    pub(super) fn list_changed(
        &mut self,
        session_id: SessionId,
        change: ListChange,
        ctx: &mut Context<Self>,
    ) {
        self.list_changes.push(session_id, change);
        if !self.list_changes.telling {
            self.list_changes.telling = true;
            ctx.run_later(LIST_INTERVAL, |bus, ctx| bus.tell_list_changes(0, ctx));
        }
    }

    /// Tells changes until so many have been told; the rest after another interval.
    fn tell_list_changes(&mut self, mut told: usize, ctx: &mut Context<Self>) {
        while told < TOLD_AT_ONCE {
            let Some((session_id, change)) = self.list_changes.pop() else {
                self.list_changes.telling = false;
                return;
            };
            match change {
                ListChange::Removed { owner } => {
                    told +=
                        self.tell_list(&owner, Ephemeral::SessionListRemoved(session_id.clone()), session_id);
                }
                ListChange::Record => {
                    let record = self.store.session(&session_id);
                    self.completions.push(record, move |bus, state, ctx| {
                        // One that cannot be read now is in the list that clients ask for.
                        let record = state.ok().flatten().map(|state| state.record);
                        let now_told = record.map_or(1, |record| {
                            let owner = record.owner.clone();
                            bus.tell_list(&owner, Ephemeral::SessionListChanged(Box::new(record)), session_id)
                        });
                        bus.tell_list_changes(told + now_told, ctx);
                    });
                    return;
                }
            }
        }
        let intervals = u32::try_from(told / TOLD_AT_ONCE).unwrap_or(u32::MAX);
        ctx.run_later(LIST_INTERVAL * intervals, |bus, ctx| bus.tell_list_changes(0, ctx));
    }

    /// Tells the connections of a principal; how many there are, looking it up counted as one.
    fn tell_list(&mut self, owner: &Principal, change: Ephemeral, session_id: SessionId) -> usize {
        let connections = self.connections.of_principal(owner);
        let told = connections.len().max(1);
        let event = Arc::new(Event::ephemeral(Topic::Session(session_id), None, change));
        self.offer_each(connections, &event);
        told
    }
}
