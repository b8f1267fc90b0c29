//! Who is connected, and to which topics each connection is subscribed (pure).

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    command::Caller,
    ids::{ConnectionId, Principal, Topic},
    ports::Subscriber,
};

/// Topics that one connection may be subscribed to.
pub const MAX_TOPICS: usize = 1024;

/// The open connections that take events.
#[derive(Default)]
pub struct Connections {
    by_id: HashMap<ConnectionId, Connection>,
    by_caller: HashMap<Caller, Vec<ConnectionId>>,
    by_principal: HashMap<Principal, HashSet<ConnectionId>>,
}

struct Connection {
    caller: Option<Caller>,
    subscriber: Arc<dyn Subscriber>,
    topics: HashSet<Topic>,
}

/// Why a connection was not subscribed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSubscribed {
    NotConnected,
    TooMany,
}

impl Connections {
    /// Takes a connection in; without a caller it is told of nothing but what it is subscribed to.
    pub fn insert(&mut self, id: ConnectionId, caller: Option<Caller>, subscriber: Arc<dyn Subscriber>) {
        if let Some(caller) = &caller {
            self.by_caller.entry(caller.clone()).or_default().push(id);
            self.by_principal.entry(caller.principal.clone()).or_default().insert(id);
        }
        self.by_id.insert(id, Connection { caller, subscriber, topics: HashSet::new() });
    }

    /// Forgets a connection; what it was subscribed to.
    pub fn remove(&mut self, id: ConnectionId) -> HashSet<Topic> {
        let Some(connection) = self.by_id.remove(&id) else { return HashSet::new() };
        let Some(caller) = &connection.caller else { return connection.topics };
        if let Some(ids) = self.by_caller.get_mut(caller) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_caller.remove(caller);
            }
        }
        if let Some(ids) = self.by_principal.get_mut(&caller.principal) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_principal.remove(&caller.principal);
            }
        }
        connection.topics
    }

    pub fn subscribe(
        &mut self,
        id: ConnectionId,
        topic: &Topic,
    ) -> Result<Arc<dyn Subscriber>, NotSubscribed> {
        let connection = self.by_id.get_mut(&id).ok_or(NotSubscribed::NotConnected)?;
        if connection.topics.len() >= MAX_TOPICS && !connection.topics.contains(topic) {
            return Err(NotSubscribed::TooMany);
        }
        connection.topics.insert(topic.clone());
        Ok(connection.subscriber.clone())
    }

    pub fn unsubscribe(&mut self, id: ConnectionId, topic: &Topic) {
        if let Some(connection) = self.by_id.get_mut(&id) {
            connection.topics.remove(topic);
        }
    }

    /// Takes a connection off all its topics; it stays connected.
    pub fn unsubscribe_all(&mut self, id: ConnectionId) -> HashSet<Topic> {
        self.by_id.get_mut(&id).map(|connection| std::mem::take(&mut connection.topics)).unwrap_or_default()
    }

    pub fn ids_of(&self, caller: &Caller) -> Vec<ConnectionId> {
        self.by_caller.get(caller).cloned().unwrap_or_default()
    }

    pub fn of(&self, caller: &Caller) -> Vec<(ConnectionId, Arc<dyn Subscriber>)> {
        self.resolve(self.by_caller.get(caller).into_iter().flatten())
    }

    /// All connections of a principal, whatever their `client_id`.
    pub fn of_principal(&self, principal: &Principal) -> Vec<(ConnectionId, Arc<dyn Subscriber>)> {
        self.resolve(self.by_principal.get(principal).into_iter().flatten())
    }

    pub fn count(&self) -> usize {
        self.by_id.len()
    }

    fn resolve<'a>(
        &self,
        ids: impl Iterator<Item = &'a ConnectionId>,
    ) -> Vec<(ConnectionId, Arc<dyn Subscriber>)> {
        ids.filter_map(|id| Some((*id, self.by_id.get(id)?.subscriber.clone()))).collect()
    }
}
