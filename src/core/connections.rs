//! Who is connected, and to which topics each connection is subscribed (pure).

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use super::{
    command::Caller,
    ids::{ConnectionId, Principal, Topic},
    ports::Subscriber,
};

/// Topics that one connection may be subscribed to.
pub const MAX_TOPICS: usize = 1024;
/// Connections of one principal that are told of changes in its session list. Where there are more,
/// those that asked for the list last, or connected last, are told: nobody has more tabs than that.
const MAX_LIST_FOLLOWERS: usize = 16;

/// The open connections that take events.
#[derive(Default)]
pub struct Connections {
    by_id: HashMap<ConnectionId, Connection>,
    by_caller: HashMap<Caller, Vec<ConnectionId>>,
    list_followers: HashMap<Principal, VecDeque<ConnectionId>>,
}

struct Connection {
    caller: Caller,
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
    pub fn insert(&mut self, id: ConnectionId, caller: Caller, subscriber: Arc<dyn Subscriber>) {
        self.by_caller.entry(caller.clone()).or_default().push(id);
        self.follow_list(&caller.principal, id);
        self.by_id.insert(id, Connection { caller, subscriber, topics: HashSet::new() });
    }

    /// Forgets a connection; what it was subscribed to.
    pub fn remove(&mut self, id: ConnectionId) -> HashSet<Topic> {
        let Some(connection) = self.by_id.remove(&id) else { return HashSet::new() };
        let Caller { principal, .. } = &connection.caller;
        if let Some(ids) = self.by_caller.get_mut(&connection.caller) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_caller.remove(&connection.caller);
            }
        }
        if let Some(followers) = self.list_followers.get_mut(principal) {
            followers.retain(|other| *other != id);
            if followers.is_empty() {
                self.list_followers.remove(principal);
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

    /// The caller shows the list: its connections come before others that only might.
    pub fn prefer_in_list(&mut self, caller: &Caller) {
        for id in self.ids_of(caller) {
            if let Some(followers) = self.list_followers.get_mut(&caller.principal) {
                followers.retain(|other| *other != id);
            }
            self.follow_list(&caller.principal, id);
        }
    }

    pub fn list_followers(&self, principal: &Principal) -> Vec<(ConnectionId, Arc<dyn Subscriber>)> {
        self.resolve(self.list_followers.get(principal).into_iter().flatten())
    }

    pub fn count(&self) -> usize {
        self.by_id.len()
    }

    fn follow_list(&mut self, principal: &Principal, id: ConnectionId) {
        let followers = self.list_followers.entry(principal.clone()).or_default();
        followers.push_back(id);
        if followers.len() > MAX_LIST_FOLLOWERS {
            followers.pop_front();
        }
    }

    fn resolve<'a>(
        &self,
        ids: impl Iterator<Item = &'a ConnectionId>,
    ) -> Vec<(ConnectionId, Arc<dyn Subscriber>)> {
        ids.filter_map(|id| Some((*id, self.by_id.get(id)?.subscriber.clone()))).collect()
    }
}
