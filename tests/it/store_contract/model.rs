//! The two stores side by side: whatever is done to both, both answer the same.

use proptest::{
    collection::vec,
    prelude::{Strategy, any},
    prop_assert_eq, prop_oneof,
    test_runner::{Config, TestCaseError, TestRunner},
};

use super::*;

/// Something done to a session, one of a few.
#[derive(Debug, Clone)]
enum Act {
    Append {
        session: u64,
        entries: Vec<Said>,
        command: Option<u8>,
        off: u8,
        /// Where the session begins with it: it is a task's.
        task: bool,
    },
    Checkpoint {
        session: u64,
        message: u8,
    },
    Fork {
        from: u64,
        to: u64,
        part: u8,
        command: Option<u8>,
    },
    Delete {
        session: u64,
        command: Option<u8>,
    },
    System {
        entries: u8,
    },
    /// The file is opened again: in good order, or as after a crash.
    Reopen {
        clean: bool,
    },
    Compare,
}

/// Something said in a session.
#[derive(Debug, Clone)]
enum Said {
    User { run: u8, words: u8, queue: u8 },
    Started { run: u8 },
    Response { message: u8, words: u8 },
    Finished { run: u8 },
    Renamed { words: u8 },
    System { words: u8 },
    Task { change: u8 },
    Progressed { percent: u8 },
    Patched { field: u8, value: u8 },
    Suggested { words: u8 },
    Asked { run: u8, call: u8 },
    Allowed { run: u8, call: u8 },
    Closed,
}

fn said() -> impl Strategy<Value = Said> {
    let run = || 0..6_u8;
    prop_oneof![
        4 => (run(), any::<u8>(), 0..3_u8).prop_map(|(run, words, queue)| Said::User { run, words, queue }),
        3 => run().prop_map(|run| Said::Started { run }),
        4 => (0..12_u8, any::<u8>()).prop_map(|(message, words)| Said::Response { message, words }),
        3 => run().prop_map(|run| Said::Finished { run }),
        1 => any::<u8>().prop_map(|words| Said::Renamed { words }),
        2 => any::<u8>().prop_map(|words| Said::System { words }),
        3 => (0..8_u8).prop_map(|change| Said::Task { change }),
        1 => (0..101_u8).prop_map(|percent| Said::Progressed { percent }),
        2 => (0..4_u8, any::<u8>()).prop_map(|(field, value)| Said::Patched { field, value }),
        1 => any::<u8>().prop_map(|words| Said::Suggested { words }),
        1 => (run(), 0..4_u8).prop_map(|(run, call)| Said::Asked { run, call }),
        1 => (run(), 0..4_u8).prop_map(|(run, call)| Said::Allowed { run, call }),
        1 => proptest::prelude::Just(Said::Closed),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let session = || 100..106_u64;
    let command = || proptest::option::weighted(0.3, 0..20_u8);
    prop_oneof![
        20 => (session(), vec(said(), 0..12), command(), 0..12_u8, any::<bool>()).prop_map(
            |(session, entries, command, off, task)| Act::Append { session, entries, command, off, task }
        ),
        4 => (session(), 0..12_u8).prop_map(|(session, message)| Act::Checkpoint { session, message }),
        2 => (session(), session(), any::<u8>(), command())
            .prop_map(|(from, to, part, command)| Act::Fork { from, to, part, command }),
        2 => (session(), command()).prop_map(|(session, command)| Act::Delete { session, command }),
        1 => any::<u8>().prop_map(|entries| Act::System { entries }),
        1 => any::<bool>().prop_map(|clean| Act::Reopen { clean }),
        3 => proptest::prelude::Just(Act::Compare),
    ]
}

/// Some of a few words, in several forms.
fn text(words: u8) -> String {
    let all = ["apple", "Banana", "cherry", "DATE", "elder-berry", "fig.", "grape", "apples"];
    let chosen = all.iter().enumerate().filter(|(at, _)| words & (1 << at) != 0);
    chosen.map(|(_, word)| *word).collect::<Vec<_>>().join(" ")
}

/// The same id for the same number, in each case anew.
struct Names {
    runs: Vec<RunId>,
    messages: Vec<MessageId>,
}

impl Names {
    /// A message and its run.
    fn message(&self, number: u8) -> (RunId, MessageId) {
        (self.runs[usize::from(number / 2)], self.messages[usize::from(number)])
    }

    /// `version` is that of the shared document before it.
    fn entry(&self, said: &Said, version: &mut u64) -> Entry {
        let run = |run: &u8| self.runs[usize::from(*run)];
        match said {
            Said::User { run: of, words, queue } => {
                let queue = [Queued::No, Queued::Last, Queued::First][usize::from(*queue)];
                user(run(of), &text(*words), queue)
            }
            Said::Started { run: of } => started(run(of)),
            Said::Response { message, words } => {
                let (run_id, message_id) = self.message(*message);
                response_as(run_id, message_id, &text(*words))
            }
            Said::Finished { run: of } => finished(run(of)),
            Said::Renamed { words } => renamed(&text(*words)),
            Said::System { words } => system(&text(*words)),
            Said::Task { change } => {
                let changes = [
                    TaskChange::Started,
                    TaskChange::Renamed { name: text(*change) },
                    TaskChange::Pausing,
                    TaskChange::Paused,
                    TaskChange::Resumed,
                    TaskChange::Completed,
                    failed(),
                    TaskChange::Cancelled,
                ];
                task(changes[usize::from(*change)].clone())
            }
            Said::Progressed { percent } => progressed(Some(f64::from(*percent) / 100.0), Some("so far")),
            Said::Patched { field, value } => {
                *version += 1;
                patched(*version, &format!("field{field}"), &text(*value).into())
            }
            Said::Suggested { words } => {
                let text = text(*words);
                suggested(&text.split_whitespace().collect::<Vec<_>>())
            }
            Said::Asked { run: of, call } => asked(run(of), &format!("call{call}")),
            Said::Allowed { run: of, call } => allowed(run(of), &format!("call{call}")),
            Said::Closed => closed(),
        }
    }
}

fn commands(command: Option<u8>) -> Vec<Remember> {
    command.map(|number| remember(&format!("c{number}"))).into_iter().collect()
}

/// The two, which say the same but for the second part of their epochs.
struct Pair {
    memory: Fixture,
    sqlite: Option<SqliteStore>,
    dir: Scratch,
    names: Names,
}

impl Pair {
    fn new() -> Self {
        let dir = Scratch::new();
        let names = Names {
            runs: (0..6).map(|_| RunId::new()).collect(),
            messages: (0..12).map(|_| MessageId::new()).collect(),
        };
        Self { memory: Fixture::memory(), sqlite: Some(dir.open()), dir, names }
    }

    fn sqlite(&self) -> &SqliteStore {
        self.sqlite.as_ref().expect("it is only away while it is opened")
    }

    /// Appends the same to both; the same answer from both.
    async fn append(
        &mut self,
        topic: &Topic,
        entries: Vec<Entry>,
        commands: Vec<Remember>,
        wrong: bool,
    ) -> Result<(), TestCaseError> {
        let head = self.memory.head(topic).await.map_or(0, |head| head.last);
        let expected_seq = if wrong { head + 1 } else { head };
        let events = self.memory.events(topic, expected_seq, entries);
        let append =
            |events| Append { topic: topic.clone(), expected_seq, events, commands: commands.clone() };
        let one = self.memory.store.append(append(events.clone())).await;
        let two = self.sqlite().append(append(events)).await;
        prop_assert_eq!(one, two);
        Ok(())
    }

    async fn act(&mut self, act: &Act) -> Result<(), TestCaseError> {
        match act {
            Act::Append { session: number, entries, command, off, task } => {
                let topic = session(*number);
                let state = self.memory.state(&topic).await;
                let mut version = state.as_ref().map_or(0, |state| state.shared.version);
                let mut entries: Vec<_> =
                    entries.iter().map(|said| self.names.entry(said, &mut version)).collect();
                if state.is_none() && !entries.is_empty() {
                    let begun = [created(Some("title")), task_created("a task", &"x".repeat(1_500))];
                    entries.splice(0..0, begun.into_iter().take(1 + usize::from(*task)));
                }
                self.append(&topic, entries, commands(*command), *off == 0).await
            }
            Act::System { entries } => {
                let entries = vec![system("x"); usize::from(*entries) + 1];
                self.append(&Topic::System, entries, Vec::new(), false).await
            }
            Act::Checkpoint { session: number, message } => {
                let (run, message) = self.names.message(*message);
                let checkpoint = checkpoint(&session(*number), run, message, "piece");
                let one = self.memory.store.checkpoint(checkpoint.clone()).await;
                let two = self.sqlite().checkpoint(checkpoint).await;
                prop_assert_eq!(one, two);
                Ok(())
            }
            Act::Fork { from, to, part, command } => self.fork(*from, *to, *part, *command).await,
            Act::Delete { session: number, command } => {
                let topic = session(*number);
                let one = self.memory.store.delete(id(&topic), commands(*command)).await;
                let two = self.sqlite().delete(id(&topic), commands(*command)).await;
                prop_assert_eq!(one, two);
                Ok(())
            }
            Act::Reopen { clean } => {
                if *clean {
                    self.sqlite().close().await;
                }
                // The file is locked for as long as the store lives.
                self.sqlite = None;
                self.sqlite = Some(self.dir.open());
                Ok(())
            }
            Act::Compare => self.compare().await,
        }
    }

    async fn fork(&mut self, from: u64, to: u64, part: u8, command: Option<u8>) -> Result<(), TestCaseError> {
        let (from, to) = (session(from), session(to));
        let Some(head) = self.memory.head(&from).await else { return Ok(()) };
        // Now and then past the end.
        let head = (head.last * u64::from(part) / 250).max(1);
        let epoch_before = self.memory.epochs.get(&to).cloned();
        let was_task = self.memory.tasks.contains(&to);
        let fork = self.memory.fork_of(&from, &to, head).await;
        let forks = [0, 1].map(|_| Fork {
            from: fork.from.clone(),
            created: fork.created.clone(),
            state: fork.state.clone(),
            commands: commands(command),
        });
        let [one, two] = forks;
        let one = self.memory.store.fork(one).await;
        let two = self.sqlite().fork(two).await;
        if let (Err(_), Some(epoch)) = (&one, epoch_before) {
            self.memory.epochs.insert(to.clone(), epoch);
            if was_task {
                self.memory.tasks.insert(to);
            }
        }
        prop_assert_eq!(one, two);
        Ok(())
    }

    async fn compare(&self) -> Result<(), TestCaseError> {
        let (one, two) = (&self.memory.store, self.sqlite());
        for topic in (100..106).map(session).chain([Topic::System]) {
            let heads = (one.head(&topic).await.unwrap(), two.head(&topic).await.unwrap());
            let plain = |head: Option<Head>| {
                head.map(|head| (head.epoch.log_part().to_owned(), head.first, head.last, head.of_task))
            };
            let last = heads.0.as_ref().map_or(0, |head| head.last);
            prop_assert_eq!(plain(heads.0), plain(heads.1));
            for events in [1, 3, usize::MAX] {
                for bytes in [1_000, usize::MAX] {
                    for from in [ReadFrom::After(last / 2), ReadFrom::Before(last / 2), ReadFrom::After(0)] {
                        let limit = PageLimit { events, bytes };
                        let pages =
                            (one.read(&topic, from, limit).await, two.read(&topic, from, limit).await);
                        let plain = |page: Option<duologue::core::ports::Page>| {
                            page.map(|page| {
                                (page.events.iter().map(plain_event).collect::<Vec<_>>(), page.more)
                            })
                        };
                        prop_assert_eq!(plain(pages.0.unwrap()), plain(pages.1.unwrap()));
                    }
                    let Some(session_id) = topic.session() else { continue };
                    let limit = PageLimit { events, bytes };
                    let tails = (one.tail(session_id, limit).await, two.tail(session_id, limit).await);
                    let plain = |tail: Option<duologue::core::ports::SessionTail>| {
                        tail.map(|tail| {
                            let messages: Vec<_> = tail.messages.iter().map(plain_event).collect();
                            (plain_state(tail.state), messages, tail.truncated)
                        })
                    };
                    prop_assert_eq!(plain(tails.0.unwrap()), plain(tails.1.unwrap()));
                }
            }
            let Some(session_id) = topic.session() else { continue };
            let states = (one.session(session_id).await.unwrap(), two.session(session_id).await.unwrap());
            prop_assert_eq!(states.0.map(plain_state), states.1.map(plain_state));
            prop_assert_eq!(one.partial(session_id).await, two.partial(session_id).await);
            for run_id in &self.names.runs {
                prop_assert_eq!(
                    one.has_ended(session_id, *run_id).await,
                    two.has_ended(session_id, *run_id).await
                );
            }
        }
        self.compare_lists().await
    }

    async fn compare_lists(&self) -> Result<(), TestCaseError> {
        let (one, two) = (&self.memory.store, self.sqlite());
        for number in 0..20 {
            let key = remember(&format!("c{number}")).key;
            prop_assert_eq!(one.recall(&key).await, two.recall(&key).await);
        }
        for limit in [2, 100] {
            let after = Some("helper_102".parse().unwrap());
            prop_assert_eq!(one.unfinished(None, limit).await, two.unfinished(None, limit).await);
            prop_assert_eq!(one.unfinished(after.clone(), limit).await, two.unfinished(after, limit).await);
        }
        let queries = [None, Some("banana".to_owned()), Some("_10".to_owned())];
        let statuses = [
            None,
            Some(TaskStatus::Pending),
            Some(TaskStatus::Running),
            Some(TaskStatus::Paused),
            Some(TaskStatus::Completed),
            Some(TaskStatus::Failed),
            Some(TaskStatus::Cancelled),
        ];
        let tasks = statuses.map(|status| SessionKind::Tasks { status });
        let kinds = || tasks.into_iter().chain([SessionKind::Chats]);
        for (query, kind) in queries.iter().flat_map(|query| kinds().map(move |kind| (query, kind))) {
            let mut after = None;
            loop {
                let filter = SessionFilter { query: query.clone(), kind, after, limit: 2, ..all_sessions() };
                let lists =
                    (one.sessions(filter.clone()).await.unwrap(), two.sessions(filter).await.unwrap());
                after = lists.0.last().map(|record| (record.updated_at, record.session_id.clone()));
                let plain = |records: Vec<duologue::core::session::SessionRecord>| {
                    records.into_iter().map(plain_record).collect::<Vec<_>>()
                };
                prop_assert_eq!(plain(lists.0), plain(lists.1));
                if after.is_none() {
                    break;
                }
            }
        }
        until("all messages to be indexed", async || {
            two.search(search("x")).await.unwrap().indexed_to.is_none()
        })
        .await;
        for query in ["apple", "banana cherry", "date elder", "berry", "fig gra", "d", "grape a"] {
            let mut after = (None, None);
            loop {
                let page = |after| Search { after, limit: 7, ..search(query) };
                let pages =
                    (one.search(page(after.0)).await.unwrap(), two.search(page(after.1)).await.unwrap());
                prop_assert_eq!(pages.0.hits, pages.1.hits, "{}", query);
                prop_assert_eq!(pages.0.next.is_some(), pages.1.next.is_some());
                after = (pages.0.next, pages.1.next);
                if after.0.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }
}

fn plain_event(event: &Arc<Event>) -> (String, Timestamp, Option<RunId>, Seq, String, Durable, bool) {
    let position = event.position.as_ref().expect("a stored event");
    let part = position.epoch.log_part().to_owned();
    let body = event.as_durable().expect("a stored event").clone();
    (event.id.to_string(), event.at, event.run_id, position.seq, part, body, event.of_task)
}

fn plain_state(mut state: SessionState) -> SessionState {
    state.record = plain_record(state.record);
    state
}

fn plain_record(
    mut record: duologue::core::session::SessionRecord,
) -> duologue::core::session::SessionRecord {
    record.epoch = record.epoch.log_part().into();
    record
}

#[test]
fn both_stores_answer_the_same() {
    let mut runner = TestRunner::new(Config { cases: 32, failure_persistence: None, ..Config::default() });
    let acts = vec(act(), 1..60);
    let outcome = runner.run(&acts, |acts| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let mut pair = Pair::new();
            for act in &acts {
                pair.act(act).await?;
            }
            pair.compare().await
        })
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
