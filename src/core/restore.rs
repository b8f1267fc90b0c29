//! What an agent begins with, read from the store: as much of the session's log as its model can be told of.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use super::{
    conversation::{Conversation, event_tokens},
    event::{Durable, Event, TaskChange, Trigger},
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
    restore_by(store, id, max_tokens, PAGE).await
}

async fn restore_by(
    store: Arc<dyn Store>,
    id: SessionId,
    max_tokens: u64,
    page: PageLimit,
) -> Result<Option<Restored>, StoreError> {
    let topic = Topic::Session(id.clone());
    let Some(state) = store.session(&id).await? else { return Ok(None) };
    let mut conversation = Conversation::for_window(max_tokens);
    let Some((preamble_end, beginning)) = read_beginning(&*store, &topic, &mut conversation, page).await?
    else {
        return Ok(None);
    };
    let end = match beginning {
        Beginning::All(events) => events,
        Beginning::More => {
            let result_bytes = conversation.result_bytes();
            let wanted = Wanted { preamble_end, max_tokens, result_bytes };
            let end = read_end(&*store, &topic, &state, wanted, page).await?;
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
    page: PageLimit,
) -> Result<Option<(u64, Beginning)>, StoreError> {
    let mut last = 0;
    loop {
        let Some(page) = store.read(topic, ReadFrom::After(last), page).await? else { return Ok(None) };
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
    let begins = |body: &Durable| match body {
        Durable::SessionCreated { .. } => true,
        // Its input is needed for as long as the task goes on.
        Durable::Task(change) => matches!(**change, TaskChange::Created { .. }),
        body => is_preamble(body),
    };
    event.as_durable().is_some_and(begins)
}

/// How much of a log's end is wanted.
struct Wanted {
    preamble_end: u64,
    max_tokens: u64,
    result_bytes: usize,
}

/// Reads a log's last events, oldest first: more than `max_tokens` of them, and further back to the messages of
/// the runs among them, and of the one that is open.
async fn read_end(
    store: &dyn Store,
    topic: &Topic,
    state: &SessionState,
    wanted: Wanted,
    page: PageLimit,
) -> Result<VecDeque<Arc<Event>>, StoreError> {
    let Wanted { preamble_end, max_tokens, result_bytes } = wanted;
    let mut end: VecDeque<Arc<Event>> = VecDeque::new();
    let mut tokens = 0;
    let mut needed: HashSet<RunId> = state.run.into_iter().collect();
    let mut before = state.record.head + 1;
    while before > preamble_end + 1 && (tokens <= max_tokens || !needed.is_empty()) {
        let Some(page) = store.read(topic, ReadFrom::Before(before), page).await? else { break };
        for event in page.events.into_iter().rev().take_while(|event| event.seq() > preamble_end) {
            before = event.seq();
            match (event.as_durable(), event.run_id) {
                // It has no message of its own.
                (Some(Durable::RunStarted { trigger: Trigger::Resumed }), Some(run_id)) => {
                    needed.remove(&run_id);
                    tokens += event_tokens(&event, result_bytes);
                }
                (Some(Durable::RunStarted { .. }), Some(run_id)) if tokens <= max_tokens => {
                    needed.insert(run_id);
                }
                // One whose run has not begun is no part of the conversation.
                (Some(Durable::UserMessage { .. }), Some(run_id)) if !needed.remove(&run_id) => {}
                _ => tokens += event_tokens(&event, result_bytes),
            }
            end.push_front(event);
        }
        if !page.more {
            break;
        }
    }
    Ok(end)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        core::{
            conversation::Extra,
            event::{
                AgentResponse, EndReason, Entry, FinishReason, Outcome, Queued, Timestamp, Trigger, Usage,
            },
            ids::Principal,
            ports::Append,
        },
        store::memory::MemoryStore,
    };

    /// What happens next in a session that proptest makes up.
    #[derive(Debug, Clone)]
    enum Step {
        /// A message; if a run is open, it waits.
        Say(usize),
        Answer(usize),
        Call,
        EndCall,
        Finish,
        /// The run that has waited longest begins.
        Next,
        /// The one that has waited longest is cleared.
        Clear,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..200_usize).prop_map(Step::Say),
            4 => (0..200_usize).prop_map(Step::Answer),
            2 => Just(Step::Call),
            2 => Just(Step::EndCall),
            4 => Just(Step::Finish),
            3 => Just(Step::Next),
            1 => Just(Step::Clear),
        ]
    }

    /// A log that could be: what waits begins when the run before it has ended.
    fn log(steps: Vec<Step>) -> Vec<Entry> {
        let created = Durable::SessionCreated {
            owner: Principal::local(),
            agent_name: String::new(),
            title: None,
            forked_from: None,
        };
        let mut log = vec![created.into(), Durable::SystemMessage { content: "be brief".into() }.into()];
        let (mut open, mut waiting) = (None, VecDeque::new());
        let mut open_call = None;
        let start = |run_id| Entry::of_run(run_id, Durable::RunStarted { trigger: Trigger::UserMessage });
        let finish = |run_id, outcome, reason| {
            let usage = Usage::default();
            Entry::of_run(run_id, Durable::RunFinished { outcome, reason, usage, duration_ms: 0 })
        };
        for step in steps {
            match step {
                Step::Say(bytes) => {
                    let run_id = RunId::new();
                    let queue = if open.is_some() { Queued::Last } else { Queued::No };
                    let message = Durable::UserMessage {
                        message_id: MessageId::new(),
                        command_id: None,
                        content: "q".repeat(bytes),
                        author: Principal::local(),
                        queue,
                    };
                    log.push(Entry::of_run(run_id, message));
                    if open.is_some() {
                        waiting.push_back(run_id);
                    } else {
                        log.push(start(run_id));
                        open = Some(run_id);
                    }
                }
                Step::Answer(bytes) => log.extend(open.map(|run_id| {
                    let response = AgentResponse {
                        message_id: MessageId::new(),
                        content: "a".repeat(bytes),
                        model: String::new(),
                        finish_reason: FinishReason::Stop,
                        usage: None,
                        incomplete: false,
                        provider_state: None,
                    };
                    Entry::of_run(run_id, Durable::AgentResponse(Box::new(response)))
                })),
                Step::Call => {
                    if let (Some(run_id), None) = (open, &open_call) {
                        let message_id = MessageId::new();
                        open_call = Some(message_id);
                        let (tool_call_id, tool_name) = ("c".into(), "clock".into());
                        let args = Box::default();
                        let started = Durable::ToolCallStarted {
                            message_id,
                            tool_call_id,
                            tool_name,
                            args,
                            provider_state: None,
                        };
                        log.push(Entry::of_run(run_id, started));
                    }
                }
                Step::EndCall => {
                    if let (Some(run_id), Some(message_id)) = (open, open_call.take()) {
                        let (tool_call_id, tool_name) = ("c".into(), "clock".into());
                        let outcome = Ok(Box::default());
                        let ended = Durable::ToolCallEnded {
                            message_id,
                            tool_call_id,
                            tool_name,
                            outcome,
                            duration_ms: 0,
                        };
                        log.push(Entry::of_run(run_id, ended));
                    }
                }
                Step::Finish if open_call.is_none() => {
                    log.extend(open.take().map(|run_id| finish(run_id, Outcome::Completed, None)));
                }
                Step::Finish => {}
                Step::Next => {
                    if open.is_none() {
                        open = waiting.pop_front();
                        log.extend(open.map(start));
                    }
                }
                Step::Clear => log.extend(
                    waiting
                        .pop_front()
                        .map(|run_id| finish(run_id, Outcome::Cancelled, Some(EndReason::Cleared))),
                ),
            }
        }
        log
    }

    async fn check(mut steps: Vec<Step>, window: u64, page: usize) {
        // A prompt is made for a run that is open.
        steps.push(Step::Say(1));
        let store = Arc::new(MemoryStore::new(usize::MAX));
        let id: SessionId = "helper_417".parse().unwrap();
        let topic = Topic::Session(id.clone());
        let mut whole = Conversation::default();
        let events: Vec<_> = (1..)
            .zip(log(steps))
            .map(|(seq, entry)| Arc::new(Event::durable(topic.clone(), "e".into(), seq, Timestamp(0), entry)))
            .collect();
        events.iter().for_each(|event| whole.apply(event));
        let append = Append { topic, expected_seq: 0, events, commands: Vec::new() };
        store.append(append).await.unwrap();

        let page = PageLimit { events: page, bytes: usize::MAX };
        let restored = restore_by(store, id, window, page).await.unwrap().unwrap();

        let expected = whole.prompt(window, 0, &Extra::default());
        let prompt = restored.conversation.prompt(window, 0, &Extra::default());
        match (&prompt, &expected) {
            (Ok((prompt, size)), Ok((expected, expected_size))) => {
                assert_eq!(prompt.messages(), expected.messages());
                assert_eq!(size, expected_size);
            }
            _ => assert_eq!(prompt.is_err(), expected.is_err()),
        }
        assert_eq!(restored.conversation.open_calls(), whole.open_calls());
        for queued in &restored.state.queue {
            let bytes = whole.waiting_bytes(&queued.run_id);
            assert_eq!(restored.conversation.waiting_bytes(&queued.run_id), bytes);
        }

        // Nor does it matter that what no prompt has room for is let go.
        whole.trim(window, 0);
        let trimmed = whole.prompt(window, 0, &Extra::default());
        assert_eq!(trimmed.map(|(_, size)| size), expected.map(|(_, size)| size));
    }

    #[tokio::test]
    async fn a_run_that_was_not_read_whole_leaves_no_hole() {
        use Step::{Answer, Finish, Next, Say};
        let mut steps = vec![Say(0); 6];
        steps.extend([Finish, Next, Finish]);
        steps.extend(vec![Say(0); 6]);
        steps.extend([Finish, Next]);
        steps.extend(vec![Answer(190); 8]);
        steps.extend([Finish, Next, Say(0)]);

        for (window, page) in (0..60).flat_map(|window| (1..12).map(move |page| (window, page))) {
            check(steps.clone(), window, page).await;
        }
    }

    proptest! {
        #[test]
        fn the_end_of_a_log_is_as_good_as_all_of_it(
            steps in proptest::collection::vec(step(), 0..60),
            window in 0..400_u64,
            page in 1..8_usize,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(check(steps, window, page));
        }
    }
}
