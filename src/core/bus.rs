//! Actor `EventBus`: numbers every event, stores the durable ones, and hands all of them on.
//!
//! Owns: per topic its epoch, head, replay window, still streaming messages and subscribers; who is
//! connected. Does not own: storage (`ports::Store`), wire formats (`doors`), conversations (`Agent`).
//! Talks to: subscribers through `ports::Subscriber`, so it never names a door.
//!
//! What a topic publishes goes out in the order it came in. At most one batch of durable events is on
//! its way to the store; what comes after it, durable or not, waits in the topic's release queue. When a
//! batch fails, all that waits behind it fails too, and no number is used up.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    task::{Context as TaskContext, Poll, Waker},
    time::Duration,
};

use actix::{
    Actor, Addr, AsyncContext, Context, Handler, Message, MessageResult, ResponseFuture, prelude::Request,
};
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use self::{
    session_list::{ListChange, ListChanges},
    topic::{TopicState, Waiting},
    waking::{Unwoken, Waking},
};
use super::{
    command::{Caller, Remember},
    completions::{Completes, Completing, Completions},
    connections::{Connections, NotSubscribed},
    end_process_if_panicking,
    event::{Body, Durable, Entry, Ephemeral, Event, TaskChange, Timestamp},
    ids::{ConnectionId, Epoch, MessageId, Position, Principal, RunId, Seq, SessionId, Topic},
    log::{Rest, Window},
    pace::Permits,
    ports::{
        Append, AppendError, Appended, Checkpoint, InvitedFrom, Overflow, Store, StoreError, Subscriber,
    },
    session::{SessionRecord, changes_record},
};

/// An event's encoded form is given up so long, or twice as long, after it was delivered.
const FORGET_INTERVAL: Duration = Duration::from_secs(1);

/// Of so many people it is remembered, while a topic waits for the store, whether they are typing.
const MAX_WAITING_TYPING: usize = 64;

// ---- messages ----

/// Appends a batch of durable events to a topic and delivers it. Sent by [`Bus::publish`].
#[derive(Message)]
#[rtype(result = "()")]
struct Publish {
    topic: Topic,
    batch: Batch,
}

/// Events that are stored together or not at all, with the commands that they carry out.
struct Batch {
    origin: Origin,
    entries: Vec<Entry>,
    commands: Vec<Remember>,
    committed: oneshot::Sender<Result<Committed, Failed>>,
}

/// What a batch continues.
#[derive(Debug, Clone)]
pub enum Origin {
    /// The log that is there.
    Log,
    /// Nothing: it begins a session made by this caller, whose connections are subscribed to it.
    New(Caller),
}

/// A batch is in the log.
#[derive(Debug)]
pub struct Committed {
    pub epoch: Epoch,
    /// Number of the first event, or of the next where there was none.
    pub first_seq: Seq,
    pub events: Vec<Arc<Event>>,
}

/// A batch is not in the log; here it is again.
#[derive(Debug)]
pub struct Failed {
    pub error: AppendError,
    pub entries: Vec<Entry>,
    pub commands: Vec<Remember>,
}

/// Delivers ephemeral events, after all that was published before them. Sent by [`Bus::show`].
#[derive(Message)]
#[rtype(result = "()")]
struct Show {
    topic: Topic,
    run_id: Option<RunId>,
    events: Vec<Ephemeral>,
    permits: Permits,
}

/// Shows that somebody is typing, or no longer is. Sent by [`Bus::show_typing`].
#[derive(Message)]
#[rtype(result = "()")]
struct ShowTyping {
    topic: Topic,
    by: Caller,
    typing: bool,
}

/// An agent is going to publish to the topic: it stays in memory until released. Answered once all that was
/// published before is in the log, or has failed: what is then read of the log is all there is.
#[derive(Message)]
#[rtype(result = "Result<Held, StoreError>")]
pub struct Hold {
    pub topic: Topic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    Quiet,
    NoLog,
}

/// Saves the next piece of a message that is still streaming. Sent by [`Bus::save`].
#[derive(Message)]
#[rtype(result = "()")]
struct Save {
    checkpoint: Checkpoint,
    saved: oneshot::Sender<Result<(), StoreError>>,
}

/// Removes a session's log. Sent by [`Bus::delete`].
#[derive(Message)]
#[rtype(result = "()")]
struct Delete {
    session_id: SessionId,
    deletion: Deletion,
}

struct Deletion {
    owner: Principal,
    commands: Vec<Remember>,
    deleted: oneshot::Sender<Result<(), AppendError>>,
}

/// A session was made of another one's past: its maker's connections are subscribed to it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Forked {
    pub session_id: SessionId,
    pub caller: Caller,
}

/// The agent is gone.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Release {
    pub topic: Topic,
}

/// The text so far of the topic's message that is still streaming.
#[derive(Message)]
#[rtype(result = "Option<(MessageId, String)>")]
pub struct GetOpenMessage {
    pub topic: Topic,
}

/// A connection is open and may be subscribed to topics.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Connect {
    pub connection: ConnectionId,
    /// Without one it is told of nothing but what it is subscribed to: no list, no session that it created.
    pub caller: Option<Caller>,
    pub subscriber: Arc<dyn Subscriber>,
}

/// A connection is gone, with all its subscriptions.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Disconnect {
    pub connection: ConnectionId,
}

/// Subscribes a connection to what comes after a position, if that is near enough to the head.
#[derive(Message)]
#[rtype(result = "Result<Attached, StoreError>")]
pub struct Attach {
    pub connection: ConnectionId,
    pub topic: Topic,
    pub after: Position,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {
    /// The rest has been handed over; live events follow.
    Live,
    /// More came meanwhile than the window holds: read on from the store, then ask again.
    Behind,
    /// The position is of another numbering: take a snapshot.
    Lost,
    /// There is no such topic, or the connection has gone.
    Gone,
    /// The connection has as many topics as it may have.
    TooMany,
}

/// Ends a subscription. Nothing of the topic is offered once this has been answered.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Detach {
    pub connection: ConnectionId,
    pub topic: Topic,
}

/// Asks the connections of a caller to subscribe to a topic.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Invite {
    pub caller: Caller,
    pub topic: Topic,
    pub from: InvitedFrom,
}

/// Offers an event to the connections of a caller, whatever they are subscribed to.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Tell {
    pub caller: Caller,
    pub event: Ephemeral,
}

/// How much the bus holds.
#[derive(Message)]
#[rtype(result = "BusFigures")]
pub struct GetFigures;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BusFigures {
    pub topics: usize,
    pub subscriptions: usize,
    pub connections: usize,
}

// ---- how others reach it ----

/// The bus's address, with a method for what must never be refused.
#[derive(Clone)]
pub struct Bus(Addr<EventBus>);

impl Bus {
    pub fn new(address: Addr<EventBus>) -> Self {
        Self(address)
    }

    /// Appends a batch to a topic and delivers it; tells when it is in the log.
    #[expect(
        clippy::disallowed_methods,
        reason = "a refused publish would lose an event; what waits is bounded by what each agent and each \
                  socket may have in flight"
    )]
    pub fn publish(
        &self,
        topic: &Topic,
        origin: Origin,
        entries: Vec<Entry>,
        commands: Vec<Remember>,
    ) -> oneshot::Receiver<Result<Committed, Failed>> {
        let (committed, outcome) = oneshot::channel();
        let batch = Batch { origin, entries, commands, committed };
        self.0.do_send(Publish { topic: topic.clone(), batch });
        outcome
    }

    /// Delivers ephemeral events after all that was published before them.
    #[expect(
        clippy::disallowed_methods,
        reason = "bounded by the permits, or by what sockets have in flight"
    )]
    pub fn show(&self, topic: &Topic, run_id: Option<RunId>, events: Vec<Ephemeral>, permits: Permits) {
        self.0.do_send(Show { topic: topic.clone(), run_id, events, permits });
    }

    /// Shows that somebody is typing, or no longer is, after what was published before. Where that waits, only the
    /// last word of each is kept, and of so many at most.
    #[expect(clippy::disallowed_methods, reason = "bounded by what each socket may have in flight")]
    pub fn show_typing(&self, topic: &Topic, by: Caller, typing: bool) {
        self.0.do_send(ShowTyping { topic: topic.clone(), by, typing });
    }

    /// Saves the next piece of a message that is still streaming, after all that was published before it.
    #[expect(clippy::disallowed_methods, reason = "each agent has one at a time")]
    pub fn save(&self, checkpoint: Checkpoint) -> oneshot::Receiver<Result<(), StoreError>> {
        let (saved, outcome) = oneshot::channel();
        self.0.do_send(Save { checkpoint, saved });
        outcome
    }

    /// Removes a session's log, after all that was published to it before.
    #[expect(clippy::disallowed_methods, reason = "bounded by what each socket may have in flight")]
    pub fn delete(
        &self,
        session_id: SessionId,
        owner: Principal,
        commands: Vec<Remember>,
    ) -> oneshot::Receiver<Result<(), AppendError>> {
        let (deleted, outcome) = oneshot::channel();
        self.0.do_send(Delete { session_id, deletion: Deletion { owner, commands, deleted } });
        outcome
    }

    /// Gives a notice that must arrive: one a connection, an agent or a command in flight.
    #[expect(clippy::disallowed_methods, reason = "a lost notice would leak a subscription")]
    pub fn notify<M>(&self, notice: M)
    where
        M: Message<Result = ()> + Send + 'static,
        EventBus: Handler<M>,
    {
        self.0.do_send(notice);
    }

    pub fn ask<M>(&self, question: M) -> Request<EventBus, M>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        EventBus: Handler<M>,
    {
        self.0.send(question)
    }
}

// ---- the actor ----

pub struct EventBus {
    store: Arc<dyn Store>,
    completions: Completions<Self>,
    topics: HashMap<Topic, TopicState>,
    connections: Connections,
    unwoken: Unwoken,
    list_changes: ListChanges,
    /// Durable events that were delivered in this interval and in the one before.
    delivered: [Vec<Arc<Event>>; 2],
}

/// A batch at the store.
struct InFlight {
    events: Vec<Arc<Event>>,
    commands: Vec<Remember>,
    /// Who made the session that the batch begins.
    creator: Option<Caller>,
    committed: oneshot::Sender<Result<Committed, Failed>>,
}

impl EventBus {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            completions: Completions::default(),
            topics: HashMap::new(),
            connections: Connections::default(),
            unwoken: Unwoken::default(),
            list_changes: ListChanges::default(),
            delivered: Default::default(),
        }
    }

    /// Puts something at the end of a topic's queue, and releases what can be.
    fn enqueue(&mut self, topic: &Topic, item: Waiting, ctx: &mut Context<Self>) {
        if !self.topics.contains_key(topic) {
            let window = match &item {
                Waiting::Batch(Batch { origin: Origin::New(_), .. }) => {
                    Some(Window::new(Epoch::of_new_log(self.store.incarnation()), 0))
                }
                _ => None,
            };
            self.open(topic, window);
        }
        if let Some(state) = self.topics.get_mut(topic) {
            state.waiting.push_back(item);
        }
        self.advance(topic, ctx);
    }

    /// Takes a topic into memory; without a window, where its log stands is read from the store.
    fn open(&mut self, topic: &Topic, window: Option<Window>) {
        let must_load = window.is_none();
        self.topics.insert(topic.clone(), TopicState { window, ..TopicState::default() });
        if must_load {
            let topic = topic.clone();
            let head = self.store.head(&topic);
            self.completions.push(head, move |bus, head, ctx| {
                let window = match head {
                    Ok(Some(head)) => {
                        if let Some(state) = bus.topics.get_mut(&topic) {
                            state.of_task = head.of_task;
                        }
                        Ok(Window::new(head.epoch, head.last))
                    }
                    // Of these there is one log, whether or not anything is in it yet.
                    Ok(None) if topic.session().is_none() => {
                        Ok(Window::new(Epoch::of_only_log(bus.store.incarnation()), 0))
                    }
                    Ok(None) => Err(AppendError::Conflict),
                    Err(error) => Err(AppendError::Failed(error)),
                };
                bus.opened(&topic, window, ctx);
            });
        }
    }

    fn opened(&mut self, topic: &Topic, window: Result<Window, AppendError>, ctx: &mut Context<Self>) {
        match window {
            Ok(window) => {
                if let Some(state) = self.topics.get_mut(topic) {
                    state.window = Some(window);
                }
                self.advance(topic, ctx);
            }
            Err(error) => {
                let waiting = self.topics.remove(topic).map(|state| state.waiting);
                waiting.into_iter().flatten().for_each(|item| item.fail(&error));
            }
        }
    }

    /// Releases what waits in a topic, up to a batch that must wait for the store.
    fn advance(&mut self, topic: &Topic, ctx: &mut Context<Self>) {
        while let Some(state) = self.topics.get_mut(topic) {
            if state.in_flight || state.window.is_none() {
                return;
            }
            match state.waiting.pop_front() {
                Some(Waiting::Batch(batch)) => self.append(topic, batch, ctx),
                Some(Waiting::Show(show)) => self.deliver_ephemeral(show),
                Some(Waiting::Typing(by, typing)) => {
                    let Caller { principal: author, client_id } = by;
                    let events = vec![Ephemeral::Typing { author, client_id, typing }];
                    let (topic, permits) = (topic.clone(), Permits::default());
                    self.deliver_ephemeral(Show { topic, run_id: None, events, permits });
                }
                Some(Waiting::Save(checkpoint, saved)) => self.save(checkpoint, saved),
                // Whoever asked may have gone.
                Some(Waiting::Attach(attach, reply)) => {
                    let _ = reply.send(Ok(self.attach(attach)));
                }
                Some(Waiting::Hold(reply)) => {
                    let _ = reply.send(Ok(Held::Quiet));
                }
                Some(Waiting::Delete(deletion)) => self.delete(topic, deletion, ctx),
                None => return self.forget_if_unused(topic),
            }
        }
    }

    /// Numbers a batch and gives it to the store.
    fn append(&mut self, topic: &Topic, batch: Batch, ctx: &mut Context<Self>) {
        let Some(TopicState { window: Some(window), in_flight, of_task, .. }) = self.topics.get_mut(topic)
        else {
            return batch.fail(AppendError::Conflict);
        };
        if matches!(batch.origin, Origin::New(_)) && window.head() > 0 {
            return batch.fail(AppendError::Conflict);
        }
        let Batch { origin, entries, mut commands, committed } = batch;
        let head = window.head();
        let at = Timestamp::now();
        *of_task |= entries.iter().any(|entry| begins_task(&entry.body));
        let of_task = *of_task;
        let number = |(seq, entry)| {
            let event = Event::durable(topic.clone(), window.epoch().clone(), seq, at, entry);
            Arc::new(event.of_task(of_task))
        };
        let events: Vec<_> = (head + 1..).zip(entries).map(number).collect();
        let place = Position { epoch: window.epoch().clone(), seq: head + 1 };
        commands.iter_mut().for_each(|command| command.done.place(&place));
        let creator = match origin {
            Origin::New(caller) => Some(caller),
            Origin::Log => None,
        };
        *in_flight = true;

        let mut outcome = self.store.append(Append {
            topic: topic.clone(),
            expected_seq: head,
            events: events.clone(),
            commands: commands.clone(),
        });
        let batch = InFlight { events, commands, creator, committed };
        match poll_once(&mut outcome) {
            // A store in memory answers at once, and costs no turn of the executor.
            Some(outcome) => self.settle(topic, batch, outcome, ctx),
            None => {
                let topic = topic.clone();
                self.completions.push(outcome, move |bus, outcome, ctx| {
                    bus.settle(&topic, batch, outcome, ctx);
                    bus.advance(&topic, ctx);
                });
            }
        }
    }

    fn settle(
        &mut self,
        topic: &Topic,
        batch: InFlight,
        outcome: Result<Appended, AppendError>,
        ctx: &mut Context<Self>,
    ) {
        if let Some(state) = self.topics.get_mut(topic) {
            state.in_flight = false;
        }
        match outcome {
            Ok(Appended { removed }) => {
                self.commit(topic, batch, ctx);
                for SessionRecord { session_id, owner, .. } in removed {
                    self.end_topic(&Topic::Session(session_id.clone()));
                    self.list_changed(session_id, ListChange::Removed { owner }, ctx);
                }
            }
            Err(error) => self.roll_back(topic, batch, &error),
        }
    }

    /// Delivers a batch that is in the log.
    fn commit(&mut self, topic: &Topic, batch: InFlight, ctx: &mut Context<Self>) {
        let Some(state) = self.topics.get_mut(topic) else { return };
        let Some(window) = &mut state.window else { return };
        let (epoch, first_seq) = (window.epoch().clone(), window.head() + 1);
        if let Some(creator) = batch.creator {
            for connection in self.connections.ids_of(&creator) {
                if let Ok(subscriber) = self.connections.subscribe(connection, topic) {
                    subscriber.announce(topic, &epoch, window.head());
                    state.subscribers.push((connection, subscriber));
                }
            }
        }
        for event in &batch.events {
            window.push(event.clone());
            match event.as_durable() {
                Some(Durable::AgentResponse(response)) => {
                    state.open.take_if(|open| open.message_id == response.message_id);
                }
                // Nothing of an ended run goes on streaming, whatever became of its text.
                Some(Durable::RunFinished { .. }) => {
                    state.open.take_if(|open| open.run_id == event.run_id);
                }
                _ => {}
            }
        }
        if !state.subscribers.is_empty() {
            self.delivered[0].extend_from_slice(&batch.events);
        }
        self.fan_out(topic, &batch.events);
        if let Some(state) = self.topics.get_mut(topic).filter(|state| !state.held)
            && let Some(window) = &mut state.window
        {
            // Nobody is about to publish more: who has to catch up reads it from the store.
            window.forget_events();
        }
        if let Some(session_id) = topic.session()
            && batch.events.iter().filter_map(|event| event.as_durable()).any(changes_record)
        {
            self.list_changed(session_id.clone(), ListChange::Record, ctx);
        }
        // Whoever published may have gone.
        let _ = batch.committed.send(Ok(Committed { epoch, first_seq, events: batch.events }));
    }

    /// Gives a batch back that is not in the log, and all that waited behind it.
    fn roll_back(&mut self, topic: &Topic, batch: InFlight, error: &AppendError) {
        let InFlight { events, commands, creator, committed } = batch;
        let entries = events.iter().filter_map(|event| {
            let body = event.as_durable()?.clone();
            Some(Entry { run_id: event.run_id, body })
        });
        let entries = entries.collect();
        let _ = committed.send(Err(Failed { error: error.clone(), entries, commands }));

        if creator.is_none() && matches!(error, AppendError::Duplicate(_)) {
            // That says nothing of what waits behind it.
            return;
        }
        let Some(state) = self.topics.get_mut(topic) else { return };
        let waiting = std::mem::take(&mut state.waiting);
        if *error == AppendError::Conflict || creator.is_some() {
            waiting.into_iter().for_each(|item| item.fail(error));
            if creator.is_none() {
                // What was known of the log is wrong: the next use reads it anew, and so must everybody.
                log::error!("{topic}: the store's log is not where the bus left it; subscribers must resume");
                self.cut_off_subscribers(topic);
            }
            self.topics.remove(topic);
            return;
        }
        let behind = AppendError::Failed(StoreError("what was to be stored before it failed".to_owned()));
        for item in waiting {
            match item {
                Waiting::Batch(batch) => batch.fail(behind.clone()),
                // These do not build on it.
                item => state.waiting.push_back(item),
            }
        }
    }

    fn save(&mut self, checkpoint: Checkpoint, saved: oneshot::Sender<Result<(), StoreError>>) {
        let saving = self.store.checkpoint(checkpoint);
        // Whoever asked may have gone.
        self.completions.push(saving, |_, outcome, _| drop(saved.send(outcome)));
    }

    fn delete(&mut self, topic: &Topic, deletion: Deletion, ctx: &mut Context<Self>) {
        let Some((session_id, state)) = topic.session().cloned().zip(self.topics.get_mut(topic)) else {
            return Waiting::Delete(deletion).fail(&AppendError::Conflict);
        };
        state.in_flight = true;
        let Deletion { owner, commands, deleted } = deletion;
        let mut outcome = self.store.delete(&session_id, commands);
        let settle = move |bus: &mut Self, outcome: Result<(), AppendError>, ctx: &mut Context<Self>| {
            let topic = Topic::Session(session_id.clone());
            if let Some(state) = bus.topics.get_mut(&topic) {
                state.in_flight = false;
            }
            if outcome.is_ok() {
                let of_task = bus.topics.get(&topic).is_some_and(|state| state.of_task);
                let event = Event::ephemeral(topic.clone(), None, Ephemeral::SessionDeleted).of_task(of_task);
                bus.fan_out(&topic, &[Arc::new(event)]);
                bus.end_topic(&topic);
                bus.list_changed(session_id, ListChange::Removed { owner }, ctx);
            }
            // Whoever asked may have gone.
            let _ = deleted.send(outcome);
        };
        match poll_once(&mut outcome) {
            Some(outcome) => settle(self, outcome, ctx),
            None => {
                let topic = topic.clone();
                self.completions.push(outcome, move |bus, outcome, ctx| {
                    settle(bus, outcome, ctx);
                    bus.advance(&topic, ctx);
                });
            }
        }
    }

    fn deliver_ephemeral(&mut self, show: Show) {
        let Show { topic, run_id, events, permits } = show;
        let Some(state) = self.topics.get_mut(&topic) else { return };
        let last_text = events.iter().rposition(|body| matches!(body, Ephemeral::MessageDelta { .. }));
        let mut delivered = permits.delivered;
        let events: Vec<_> = events
            .into_iter()
            .enumerate()
            .map(|(at, body)| {
                let event = Event::ephemeral(topic.clone(), run_id, body).of_task(state.of_task);
                let permit = delivered.take_if(|_| Some(at) == last_text);
                Arc::new(event.holding(permit))
            })
            .collect();
        for event in &events {
            match &event.body {
                Body::Ephemeral(Ephemeral::MessageDelta { message_id, text, .. }) => {
                    state.stream(*message_id, run_id, text);
                }
                Body::Ephemeral(Ephemeral::AgentStatus(_)) => state.status = Some(event.clone()),
                _ => {}
            }
        }
        self.fan_out(&topic, &events);
        drop(permits.released);
    }

    /// Logs keep events for long: not what they look like on the wire.
    fn forget_encoded(&mut self) {
        let [lately, before] = &mut self.delivered;
        std::mem::swap(lately, before);
        std::mem::take(lately).iter().for_each(|event| event.forget_encoded());
    }

    /// Offers events to a topic's subscribers.
    ///
    /// One that has no room is let go at once, with all its subscriptions: its connection is being
    /// closed, and its client will resume from what it has.
    fn fan_out(&mut self, topic: &Topic, events: &[Arc<Event>]) {
        let Some(state) = self.topics.get_mut(topic) else { return };
        let mut full = Vec::new();
        for (connection, subscriber) in &state.subscribers {
            match subscriber.offer(events) {
                Ok(()) => self.unwoken.add(*connection, subscriber),
                Err(Overflow) => full.push(*connection),
            }
        }
        for connection in full {
            self.let_go(connection);
        }
    }

    fn attach(&mut self, attach: Attach) -> Attached {
        let Attach { connection, topic, after } = attach;
        let Some(state) = self.topics.get_mut(&topic) else { return Attached::Gone };
        let Some(window) = &state.window else { return Attached::Gone };
        let mut events = match window.rest(&after) {
            Rest::Here(events) => events,
            Rest::Behind => return Attached::Behind,
            Rest::OtherEpoch | Rest::Ahead => return Attached::Lost,
        };
        let subscriber = match self.connections.subscribe(connection, &topic) {
            Ok(subscriber) => subscriber,
            Err(NotSubscribed::NotConnected) => return Attached::Gone,
            Err(NotSubscribed::TooMany) => return Attached::TooMany,
        };
        events.extend(state.open.as_mut().map(|open| open.snapshot(&topic, state.of_task)));
        events.extend(state.status(&topic));
        subscriber.hand_over(&events);
        state.subscribers.retain(|(other, _)| *other != connection);
        state.subscribers.push((connection, subscriber));
        Attached::Live
    }

    fn detach(&mut self, connection: ConnectionId, topic: &Topic) {
        self.connections.unsubscribe(connection, topic);
        if let Some(state) = self.topics.get_mut(topic) {
            state.subscribers.retain(|(other, _)| *other != connection);
            // Nor does one begin that was asked for before.
            let is_its = |item: &Waiting| matches!(item, Waiting::Attach(attach, _) if attach.connection == connection);
            let waiting = std::mem::take(&mut state.waiting).into_iter();
            let (its, others): (VecDeque<_>, VecDeque<_>) = waiting.partition(is_its);
            state.waiting = others;
            its.into_iter().for_each(|item| item.fail(&AppendError::Conflict));
        }
        self.forget_if_unused(topic);
    }

    /// Takes a connection off every topic that it is subscribed to.
    fn let_go(&mut self, connection: ConnectionId) {
        for topic in self.connections.unsubscribe_all(connection) {
            self.detach(connection, &topic);
        }
    }

    fn cut_off_subscribers(&mut self, topic: &Topic) {
        let Some(state) = self.topics.get_mut(topic) else { return };
        for (connection, subscriber) in std::mem::take(&mut state.subscribers) {
            subscriber.cut_off();
            self.let_go(connection);
        }
    }

    /// Forgets a topic whose log is no more: its name may come to stand for another.
    fn end_topic(&mut self, topic: &Topic) {
        let Some(state) = self.topics.remove(topic) else { return };
        for (connection, subscriber) in state.subscribers {
            self.connections.unsubscribe(connection, topic);
            subscriber.end_subscription(topic);
        }
        let gone = AppendError::Conflict;
        state.waiting.into_iter().for_each(|item| item.fail(&gone));
    }

    /// Lets a topic leave memory. Its window is no reason to stay: the store has what it holds.
    fn forget_if_unused(&mut self, topic: &Topic) {
        if self.topics.get(topic).is_some_and(TopicState::is_unused) {
            self.topics.remove(topic);
        }
    }

    fn offer_each(&mut self, to: Vec<(ConnectionId, Arc<dyn Subscriber>)>, event: &Arc<Event>) {
        for (connection, subscriber) in to {
            match subscriber.offer(std::slice::from_ref(event)) {
                Ok(()) => self.unwoken.add(connection, &subscriber),
                Err(Overflow) => self.let_go(connection),
            }
        }
    }
}

/// The future's output, if it has it now. Otherwise whoever polls it next leaves another waker.
/// Whether the session is made for a task with this.
fn begins_task(body: &Durable) -> bool {
    matches!(body, Durable::Task(change) if matches!(**change, TaskChange::Created { .. }))
}

pub(super) fn poll_once<T>(future: &mut BoxFuture<'static, T>) -> Option<T> {
    match future.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

impl Actor for EventBus {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.spawn(Completing);
        ctx.spawn(Waking);
        ctx.run_interval(FORGET_INTERVAL, |bus, _| bus.forget_encoded());
    }
}

impl Completes for EventBus {
    fn completions(&mut self) -> &mut Completions<Self> {
        &mut self.completions
    }
}

impl Drop for EventBus {
    /// Without its bus the server would be a zombie that accepts commands and shows nothing.
    fn drop(&mut self) {
        end_process_if_panicking("the event bus");
    }
}

impl Handler<Publish> for EventBus {
    type Result = ();

    fn handle(&mut self, Publish { topic, batch }: Publish, ctx: &mut Self::Context) {
        self.enqueue(&topic, Waiting::Batch(batch), ctx);
    }
}

impl Handler<Show> for EventBus {
    type Result = ();

    fn handle(&mut self, show: Show, ctx: &mut Self::Context) {
        // A topic that is not in memory has nobody to show it to.
        if self.topics.contains_key(&show.topic) {
            let topic = show.topic.clone();
            self.enqueue(&topic, Waiting::Show(show), ctx);
        }
    }
}

impl Handler<ShowTyping> for EventBus {
    type Result = ();

    fn handle(&mut self, ShowTyping { topic, by, typing }: ShowTyping, ctx: &mut Self::Context) {
        let Some(state) = self.topics.get_mut(&topic) else { return };
        state.waiting.retain(|item| !item.is_typing_of(|person| *person == by));
        if state.waiting.iter().filter(|item| item.is_typing_of(|_| true)).count() < MAX_WAITING_TYPING {
            self.enqueue(&topic, Waiting::Typing(by, typing), ctx);
        }
    }
}

impl Handler<Save> for EventBus {
    type Result = ();

    fn handle(&mut self, Save { checkpoint, saved }: Save, ctx: &mut Self::Context) {
        let topic = Topic::Session(checkpoint.session_id.clone());
        self.enqueue(&topic, Waiting::Save(checkpoint, saved), ctx);
    }
}

impl Handler<Delete> for EventBus {
    type Result = ();

    fn handle(&mut self, Delete { session_id, deletion }: Delete, ctx: &mut Self::Context) {
        self.enqueue(&Topic::Session(session_id), Waiting::Delete(deletion), ctx);
    }
}

impl Handler<Forked> for EventBus {
    type Result = ();

    fn handle(&mut self, Forked { session_id, caller }: Forked, ctx: &mut Self::Context) {
        let topic = Topic::Session(session_id.clone());
        for (_, subscriber) in self.connections.of(&caller) {
            subscriber.invite(&topic, InvitedFrom::Snapshot);
        }
        self.list_changed(session_id, ListChange::Record, ctx);
    }
}

impl Handler<Hold> for EventBus {
    type Result = ResponseFuture<Result<Held, StoreError>>;

    fn handle(&mut self, Hold { topic }: Hold, ctx: &mut Self::Context) -> Self::Result {
        if !self.topics.contains_key(&topic) {
            self.open(&topic, None);
        }
        if let Some(state) = self.topics.get_mut(&topic) {
            state.held = true;
        }
        let (reply, held) = oneshot::channel();
        self.enqueue(&topic, Waiting::Hold(reply), ctx);
        Box::pin(async move { held.await.unwrap_or(Ok(Held::NoLog)) })
    }
}

impl Handler<Release> for EventBus {
    type Result = ();

    fn handle(&mut self, Release { topic }: Release, _ctx: &mut Self::Context) {
        if let Some(state) = self.topics.get_mut(&topic) {
            state.held = false;
            state.status = None;
            // Nothing more is coming: who still has to catch up reads it from the store.
            if let Some(window) = state.window.as_mut().filter(|_| !state.in_flight) {
                window.forget_events();
            }
        }
        self.forget_if_unused(&topic);
    }
}

impl Handler<GetOpenMessage> for EventBus {
    type Result = Option<(MessageId, String)>;

    fn handle(&mut self, GetOpenMessage { topic }: GetOpenMessage, _ctx: &mut Self::Context) -> Self::Result {
        let open = self.topics.get(&topic)?.open.as_ref()?;
        Some((open.message_id, open.text.clone()))
    }
}

impl Handler<Connect> for EventBus {
    type Result = ();

    fn handle(&mut self, connect: Connect, _ctx: &mut Self::Context) {
        let Connect { connection, caller, subscriber } = connect;
        self.connections.insert(connection, caller, subscriber);
    }
}

impl Handler<Disconnect> for EventBus {
    type Result = ();

    fn handle(&mut self, Disconnect { connection }: Disconnect, _ctx: &mut Self::Context) {
        self.let_go(connection);
        self.connections.remove(connection);
    }
}

impl Handler<Attach> for EventBus {
    type Result = ResponseFuture<Result<Attached, StoreError>>;

    fn handle(&mut self, attach: Attach, ctx: &mut Self::Context) -> Self::Result {
        // What is in the store can be read before the bus is told that it is there.
        let may_attach = self.topics.get(&attach.topic).is_some_and(|state| {
            let is_coming = |window: &Window| state.in_flight && window.is_behind(&attach.after);
            state.window.as_ref().is_some_and(|window| !is_coming(window))
        });
        if may_attach {
            let attached = Ok(self.attach(attach));
            return Box::pin(std::future::ready(attached));
        }
        let (reply, attached) = oneshot::channel();
        let topic = attach.topic.clone();
        self.enqueue(&topic, Waiting::Attach(attach, reply), ctx);
        Box::pin(async move { attached.await.unwrap_or(Ok(Attached::Gone)) })
    }
}

impl Handler<Detach> for EventBus {
    type Result = ();

    fn handle(&mut self, Detach { connection, topic }: Detach, _ctx: &mut Self::Context) {
        self.detach(connection, &topic);
    }
}

impl Handler<Invite> for EventBus {
    type Result = ();

    fn handle(&mut self, Invite { caller, topic, from }: Invite, _ctx: &mut Self::Context) {
        for (_, subscriber) in self.connections.of(&caller) {
            subscriber.invite(&topic, from);
        }
    }
}

impl Handler<Tell> for EventBus {
    type Result = ();

    fn handle(&mut self, Tell { caller, event }: Tell, _ctx: &mut Self::Context) {
        let event = Arc::new(Event::ephemeral(Topic::System, None, event));
        self.offer_each(self.connections.of(&caller), &event);
    }
}

impl Handler<GetFigures> for EventBus {
    type Result = MessageResult<GetFigures>;

    fn handle(&mut self, _: GetFigures, _ctx: &mut Self::Context) -> Self::Result {
        MessageResult(BusFigures {
            topics: self.topics.len(),
            subscriptions: self.topics.values().map(|state| state.subscribers.len()).sum(),
            connections: self.connections.count(),
        })
    }
}

mod session_list;
#[cfg(test)]
mod tests;
mod topic;
mod waking;
