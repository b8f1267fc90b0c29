//! What an agent begins with, read from the store: as much of the session's log as its model can be told of.

use std::{collections::VecDeque, sync::Arc};

use super::{
    conversation::{Conversation, event_tokens},
    event::{Durable, Event},
    ids::{MessageId, RunId, SessionId, Topic},
    ports::{PageLimit, ReadFrom, Store, StoreError},
    session::{QueuedRun, SessionState, is_preamble},
};

/// What is read from a log at once.
const PAGE: PageLimit = PageLimit { events: 1024, bytes: 1024 * 1024 };

/// A session as its log left it.
#[derive(Debug)]
pub struct Restored {
    pub state: SessionState,
    pub conversation: Conversation,
    /// What was saved of the message that the open run was streaming.
    pub partial: Option<(MessageId, String)>,
}

/// Reads a session; `None` if there is no such session. Nobody may be writing to it.
///
/// The beginning of the log is read, then its end, backwards, until there is more than `max_tokens`: a session of
/// any length takes about as long.
pub async fn restore(
    store: Arc<dyn Store>,
    id: SessionId,
    max_tokens: u64,
) -> Result<Option<Restored>, StoreError> {
    let topic = Topic::Session(id.clone());
    let Some(state) = store.session(&id).await? else { return Ok(None) };
    let mut conversation = Conversation::default();
    let Some((preamble_end, beginning)) = read_beginning(&*store, &topic, &mut conversation).await? else {
        return Ok(None);
    };
    let end = match beginning {
        Beginning::All(events) => events,
        Beginning::More => {
            let end = read_end(&*store, &topic, &state, preamble_end, max_tokens).await?;
            let first = end.front().map_or(0, |event| event.seq());
            for queued in state.queue.iter().filter(|queued| queued.seq < first) {
                let message = read_queued(&*store, &topic, queued).await?;
                message.iter().for_each(|event| conversation.apply(event));
            }
            end
        }
    };
    end.iter().for_each(|event| conversation.apply(event));
    conversation.count_messages(state.messages);
    let partial = match state.run {
        Some(run_id) => store.partial(&id).await?.filter(|partial| partial.run_id == run_id),
        None => None,
    };
    let partial = partial.map(|partial| (partial.message_id, partial.text));
    Ok(Some(Restored { state, conversation, partial }))
}

/// What comes after a log's preamble.
enum Beginning {
    /// So little that it has been read.
    All(VecDeque<Arc<Event>>),
    More,
}

/// Reads the system and seed messages; the number of the last event before what follows them.
async fn read_beginning(
    store: &dyn Store,
    topic: &Topic,
    conversation: &mut Conversation,
) -> Result<Option<(u64, Beginning)>, StoreError> {
    let mut last = 0;
    loop {
        let Some(page) = store.read(topic, ReadFrom::After(last), PAGE).await? else { return Ok(None) };
        let mut events = VecDeque::from(page.events);
        while let Some(event) = events.pop_front_if(|event| is_beginning(event)) {
            last = event.seq();
            conversation.apply(&event);
        }
        match (page.more, events.is_empty()) {
            (false, _) => return Ok(Some((last, Beginning::All(events)))),
            (true, false) => return Ok(Some((last, Beginning::More))),
            (true, true) => {}
        }
    }
}

fn is_beginning(event: &Event) -> bool {
    event.as_durable().is_some_and(|body| is_preamble(body) || matches!(body, Durable::SessionCreated { .. }))
}

/// Reads a log's last events, oldest first: more than `max_tokens` of them, and all of the run that is open.
async fn read_end(
    store: &dyn Store,
    topic: &Topic,
    state: &SessionState,
    preamble_end: u64,
    max_tokens: u64,
) -> Result<VecDeque<Arc<Event>>, StoreError> {
    let mut end: VecDeque<Arc<Event>> = VecDeque::new();
    let mut tokens = 0;
    let mut needed = state.run;
    let mut before = state.record.head + 1;
    while before > preamble_end + 1 && (tokens <= max_tokens || needed.is_some()) {
        let Some(page) = store.read(topic, ReadFrom::Before(before), PAGE).await? else { break };
        for event in page.events.into_iter().rev().take_while(|event| event.seq() > preamble_end) {
            before = event.seq();
            tokens += event_tokens(&event);
            // Its message is the first event of a run.
            needed.take_if(|run_id| is_message_of(&event, *run_id));
            end.push_front(event);
        }
        if !page.more {
            break;
        }
    }
    Ok(end)
}

fn is_message_of(event: &Event, run_id: RunId) -> bool {
    event.run_id == Some(run_id) && matches!(event.as_durable(), Some(Durable::UserMessage { .. }))
}

async fn read_queued(
    store: &dyn Store,
    topic: &Topic,
    queued: &QueuedRun,
) -> Result<Option<Arc<Event>>, StoreError> {
    let one = PageLimit { events: 1, bytes: PAGE.bytes };
    let page = store.read(topic, ReadFrom::After(queued.seq - 1), one).await?;
    Ok(page.and_then(|page| page.events.into_iter().next()))
}
