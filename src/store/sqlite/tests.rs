//! What cannot be seen from outside: the incarnation, the write-ahead log, failures of the disk, what a crash
//! leaves. The contract is tested in `tests/it/store_contract.rs`, damage and backups in `tests/it/sqlite.rs`.

use std::{
    collections::HashMap,
    fs,
    sync::atomic::AtomicUsize,
    time::{Duration, Instant},
};

use rusqlite::Connection;

use super::{schema::MIGRATIONS, *};
use crate::core::{
    command::{Done, Remember},
    event::{Durable, Entry, Event, Queued, Timestamp},
    ids::{CommandId, Epoch, MessageId, Principal, Seq},
    ports::SessionKind,
    search::Words,
    session::SessionState,
};

const ALL: PageLimit = PageLimit { events: usize::MAX, bytes: usize::MAX };

/// How large files may become, of those that may not become as large as they like.
static MAX_PAGES: Mutex<Option<HashMap<PathBuf, u32>>> = Mutex::new(None);

/// `PRAGMA max_page_count` for connections to a file: a disk that is full.
pub(super) fn max_pages(path: &Path) -> u32 {
    let limits = MAX_PAGES.lock().unwrap();
    limits.as_ref().and_then(|limits| limits.get(path).copied()).unwrap_or(u32::MAX - 1)
}

fn limit_pages(path: &Path, pages: u32) {
    MAX_PAGES.lock().unwrap().get_or_insert_default().insert(path.to_owned(), pages);
}

/// A folder with a file in it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let name = format!("duologue-sqlite-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join("store.db")
    }

    fn wal_bytes(&self) -> u64 {
        fs::metadata(self.0.join("store.db-wal")).map_or(0, |metadata| metadata.len())
    }

    fn open(&self) -> SqliteStore {
        self.open_as(Some("boot"), false)
    }

    fn open_as(&self, boot_id: Option<&str>, sync_every_commit: bool) -> SqliteStore {
        let options = SqliteOptions { path: self.file(), sync_every_commit };
        SqliteStore::open_in(options, Circumstances { boot_id: boot_id.map(str::to_owned) }).unwrap()
    }

    fn look(&self) -> Connection {
        open::connect_to_read(&self.file()).unwrap()
    }

    fn count(&self, what: &str) -> i64 {
        self.look().query_row(&format!("SELECT count(*) FROM {what}"), [], |row| row.get(0)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn session(number: u64) -> Topic {
    Topic::Session(SessionId::new(&"helper".parse().unwrap(), number))
}

fn created() -> Entry {
    let owner = Principal::local();
    Durable::SessionCreated { owner, agent_name: "Helper".to_owned(), title: None, forked_from: None }.into()
}

fn said(text: &str) -> Entry {
    let message = Durable::UserMessage {
        message_id: MessageId::new(),
        command_id: None,
        content: text.to_owned(),
        author: Principal::local(),
        queue: Queued::No,
    };
    Entry::of_run(RunId::new(), message)
}

fn append(topic: &Topic, after: Seq, entries: Vec<Entry>) -> Append {
    let events = (after + 1..).zip(entries).map(|(seq, entry)| {
        Arc::new(Event::durable(topic.clone(), "log.x".into(), seq, Timestamp::now(), entry))
    });
    Append { topic: topic.clone(), expected_seq: after, events: events.collect(), commands: Vec::new() }
}

async fn append_many(store: &SqliteStore, topic: &Topic, after: Seq, count: usize, text: &str) {
    let mut after = after;
    for _ in 0..count.div_ceil(256) {
        store.append(append(topic, after, vec![said(text); 256])).await.unwrap();
        after += 256;
    }
}

async fn create(store: &SqliteStore, number: u64) -> Topic {
    let topic = session(number);
    store.append(append(&topic, 0, vec![created()])).await.unwrap();
    topic
}

fn remember(id: &str) -> Remember {
    let command_id: CommandId = id.parse().unwrap();
    let key = CommandKey { principal: Principal::local(), client_id: None, command_id };
    Remember { key, digest: [7; 16], done: Done::Noted }
}

/// Asks again and again until the answer is yes.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition().await {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

// ---- incarnations ----

#[tokio::test]
async fn a_clean_end_keeps_the_incarnation() {
    let folder = Folder::new();
    let store = folder.open_as(Some("one"), false);
    let before = store.incarnation().to_owned();
    let topic = create(&store, 100).await;
    let epoch = store.head(&topic).await.unwrap().unwrap().epoch;
    store.close().await;
    assert_eq!(folder.wal_bytes(), 0, "one whole file is left");
    drop(store);

    for boot_id in [Some("two"), None] {
        let store = folder.open_as(boot_id, false);
        assert_eq!(store.incarnation(), before);
        assert_eq!(store.head(&topic).await.unwrap().unwrap().epoch, epoch);
        store.close().await;
    }
}

#[tokio::test]
async fn a_crash_keeps_the_incarnation_only_where_nothing_can_be_lost() {
    // Of the lives before and after a crash: boot id, whether commits were synced; whether the incarnation stays.
    let cases = [
        (Some("one"), false, Some("one"), true),
        (Some("one"), false, Some("two"), false),
        (Some("one"), false, None, false),
        (None, false, None, false),
        (Some("one"), true, Some("two"), true),
        (None, true, None, true),
    ];
    for (boot_before, synced, boot_after, stays) in cases {
        let folder = Folder::new();
        let store = folder.open_as(boot_before, synced);
        let before = store.incarnation().to_owned();
        let topic = create(&store, 100).await;
        drop(store);

        let store = folder.open_as(boot_after, false);

        assert_eq!(store.incarnation() == before, stays, "{boot_before:?} {synced} {boot_after:?}");
        // All epochs go with it, in lists and states too.
        let epoch = Epoch::of_log("log", store.incarnation());
        let state = store.session(topic.session().unwrap()).await.unwrap().unwrap();
        assert_eq!(state.record.epoch, epoch);
        assert_eq!(store.head(&topic).await.unwrap().unwrap().epoch, epoch);
        store.append(append(&topic, 1, vec![said("x")])).await.unwrap();
        let state = store.session(topic.session().unwrap()).await.unwrap().unwrap();
        assert_eq!((state.record.epoch, state.record.head), (epoch.clone(), 2));
        let page = store.read(&topic, ReadFrom::After(0), ALL).await.unwrap().unwrap();
        assert!(page.events.iter().all(|event| event.position.as_ref().unwrap().epoch == epoch));
    }
}

#[tokio::test]
async fn the_mark_of_a_clean_end_counts_once() {
    let folder = Folder::new();
    let store = folder.open_as(Some("one"), false);
    let before = store.incarnation().to_owned();
    store.close().await;
    drop(store);
    drop(folder.open_as(Some("one"), false));

    assert_ne!(folder.open_as(Some("two"), false).incarnation(), before);
}

// ---- versions ----

/// What a file of each version may hold.
const CONTENT: [&str; MIGRATIONS.len()] = [
    "
    INSERT INTO meta (key, value) VALUES ('incarnation', 'abc123'), ('clean', 1);
    INSERT INTO logs (id, topic, epoch_part, first, head, owner, title, status, created_at, updated_at, state)
    VALUES (7, 'session:helper_100', 'log', 1, 1, 'local', 'Old', 0, 5, 5,
            '{\"run\":null,\"queue\":[],\"context\":null,\"messages\":0}');
    INSERT INTO events (log_id, seq, kind, at, event_id, body)
    VALUES (7, 1, 0, 5, randomblob(16),
            '{\"type\":\"session_created\",\"owner\":\"local\",\"agent_name\":\"Helper\",\"title\":\"Old\"}');
",
    "
    INSERT INTO meta (key, value) VALUES ('incarnation', 'abc123'), ('clean', 1);
    INSERT INTO logs (id, topic, epoch_part, first, head, owner, title, status, created_at, updated_at, state)
    VALUES (7, 'session:helper_100', 'log', 1, 1, 'local', 'Old', 0, 5, 5,
            '{\"run\":null,\"queue\":[],\"context\":null,\"messages\":0}');
    INSERT INTO logs (id, topic, epoch_part, first, head, owner, title, status, created_at, updated_at, unfinished,
                      state, task, task_status)
    VALUES (8, 'session:helper_101', 'log', 1, 1, 'local', 'Count', 0, 5, 5, 1,
            '{\"run\":null,\"queue\":[],\"context\":null,\"messages\":0}',
            '{\"name\":\"Count\",\"input\":\"x\",\"status\":\"pending\"}', 0);
    INSERT INTO shared_states (log_id, version, value) VALUES (7, 3, '{\"round\":1}');
    INSERT INTO events (log_id, seq, kind, at, event_id, body)
    VALUES (7, 1, 0, 5, randomblob(16),
            '{\"type\":\"session_created\",\"owner\":\"local\",\"agent_name\":\"Helper\",\"title\":\"Old\"}');
",
];

#[tokio::test]
async fn files_of_all_versions_are_opened() {
    for version in 1..=MIGRATIONS.len() {
        let folder = Folder::new();
        make_file(&folder, version, CONTENT[version - 1]);

        let store = folder.open();

        assert_eq!(store.incarnation(), "abc123", "version {version}");
        let topic = session(100);
        store.append(append(&topic, 1, vec![said("new")])).await.unwrap();
        let state = store.session(topic.session().unwrap()).await.unwrap().unwrap();
        assert_eq!((state.record.title.as_deref(), state.record.head), (Some("Old"), 2));
        if version >= 2 {
            assert_eq!((state.shared.version, &*state.shared.value), (3, &serde_json::json!({ "round": 1 })));
            let task = store.session(session(101).session().unwrap()).await.unwrap().unwrap().record.task;
            assert_eq!(task.unwrap().name, "Count");
            assert_eq!(store.unfinished(None, 9).await.unwrap().len(), 2, "it, and what was just said");
        }
        let page = store.read(&topic, ReadFrom::After(0), ALL).await.unwrap().unwrap();
        assert_eq!(page.events.len(), 2);
        let found: u32 = folder.look().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(found, schema::VERSION);
    }
}

/// The first version's file of a server that was used, as that server left it.
const USED: &str = r#"
    INSERT INTO meta (key, value) VALUES ('incarnation', 'abc123'), ('clean', 1);
    INSERT INTO logs VALUES
    (1, 'session:helper_100', 'one', 1, 7, 'local', 'Harbours', 0, 1000, 3000, 0,
        '{"run":null,"queue":[],"context":{"tokens_used":50,"context_window":8192,"omitted_messages":0,"source":"estimate"},"messages":2}'),
    (2, 'session:helper_101', 'two', 1, 2, 'local', NULL, 2, 2000, 4000, 0,
        '{"run":null,"queue":[],"context":null,"messages":0}'),
    (3, 'session:helper_102', 'three', 1, 3, 'local', NULL, 1, 2500, 2500, 1,
        '{"run":"01890000-0000-7000-8000-000000000002","queue":[],"context":null,"messages":1}');
    INSERT INTO events (log_id, seq, kind, at, event_id, run_id, body) VALUES
    (1, 1, 0, 1000, randomblob(16), NULL,
        '{"type":"session_created","owner":"local","agent_name":"Helper","title":"Harbours"}'),
    (1, 2, 1, 1000, randomblob(16), NULL, '{"type":"system_message","content":"You are helpful."}'),
    (1, 3, 3, 2000, randomblob(16), x'01890000000070008000000000000001',
        '{"type":"user_message","message_id":"01890000-0000-7000-8000-00000000000a","command_id":"c-1","content":"where is the harbour?","author":"local","queue":"no"}'),
    (1, 4, 4, 2000, randomblob(16), x'01890000000070008000000000000001',
        '{"type":"run_started","trigger":"user_message"}'),
    (1, 5, 7, 3000, randomblob(16), x'01890000000070008000000000000001',
        '{"type":"agent_response","message_id":"01890000-0000-7000-8000-00000000000b","content":"by the sea","model":"demo","finish_reason":"stop","incomplete":false}'),
    (1, 6, 8, 3000, randomblob(16), x'01890000000070008000000000000001',
        '{"type":"context_updated","tokens_used":50,"context_window":8192,"omitted_messages":0,"source":"estimate"}'),
    (1, 7, 10, 3000, randomblob(16), x'01890000000070008000000000000001',
        '{"type":"run_finished","outcome":"completed","usage":{"prompt_tokens":0,"completion_tokens":0},"duration_ms":3}'),
    (2, 1, 0, 2000, randomblob(16), NULL, '{"type":"session_created","owner":"local","agent_name":"Helper"}'),
    (2, 2, 12, 4000, randomblob(16), NULL, '{"type":"session_closed","reason":"closed"}'),
    (3, 1, 0, 2500, randomblob(16), NULL, '{"type":"session_created","owner":"local","agent_name":"Helper"}'),
    (3, 2, 3, 2500, randomblob(16), x'01890000000070008000000000000002',
        '{"type":"user_message","message_id":"01890000-0000-7000-8000-00000000000c","content":"and?","author":"local","queue":"no"}'),
    (3, 3, 4, 2500, randomblob(16), x'01890000000070008000000000000002',
        '{"type":"run_started","trigger":"user_message"}');
"#;

/// A file as that version made it.
fn make_file(folder: &Folder, version: usize, content: &str) {
    let old = Connection::open(folder.file()).unwrap();
    old.pragma_update(None, "application_id", schema::APPLICATION_ID).unwrap();
    old.execute_batch(&MIGRATIONS[..version].concat()).unwrap();
    old.pragma_update(None, "user_version", version as u32).unwrap();
    old.execute_batch(content).unwrap();
}

#[tokio::test]
async fn a_used_file_of_the_first_version_has_all_that_it_had() {
    let folder = Folder::new();
    make_file(&folder, 1, USED);

    let store = folder.open();

    let list = async |kind| {
        let (owner, limit) = (Principal::local(), 10);
        let filter = SessionFilter { owner, kind, agent_id: None, query: None, after: None, limit };
        let records = store.sessions(filter).await.unwrap();
        records.into_iter().map(|record| record.session_id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(list(SessionKind::Chats).await, ["helper_101", "helper_100", "helper_102"]);
    assert!(list(SessionKind::Tasks { status: None }).await.is_empty());
    assert_eq!(store.unfinished(None, 9).await.unwrap(), [session(102).session().unwrap().clone()]);

    let one = session(100);
    let state = store.session(one.session().unwrap()).await.unwrap().unwrap();
    assert_eq!((state.record.title.as_deref(), state.record.head, state.messages), (Some("Harbours"), 7, 2));
    assert_eq!(state.context.unwrap().tokens_used, 50);
    assert_eq!((state.shared.version, state.record.task), (0, None));
    let page = store.read(&one, ReadFrom::After(0), ALL).await.unwrap().unwrap();
    assert_eq!(page.events.len(), 7);
    assert!(page.events.iter().all(|event| !event.of_task));
    let waits = store.session(session(102).session().unwrap()).await.unwrap().unwrap();
    assert_eq!(waits.run, "01890000-0000-7000-8000-000000000002".parse().ok());

    until("its messages to be indexed", async || {
        let words = Words::of("harbour").unwrap();
        let search = Search { owner: Principal::local(), words, after: None, limit: 10 };
        store.search(search).await.unwrap().hits.iter().map(|hit| hit.seq).eq([3])
    })
    .await;

    let mut fork = fork_of(&one, &session(200), 7);
    fork.state = SessionState { record: fork.state.record.clone(), ..state };
    fork.state.record.head = 7;
    store.fork(fork).await.unwrap();
    let page = store.read(&session(200), ReadFrom::After(0), ALL).await.unwrap().unwrap();
    assert_eq!((page.events.len(), page.head.of_task), (7, false));

    // It goes on, with what is new.
    let patch = Box::new(serde_json::json!([{ "op": "add", "path": "/x", "value": 1 }]));
    store.append(append(&one, 7, vec![Durable::StatePatched { version: 1, patch }.into()])).await.unwrap();
    drop(store);
    let store = folder.open();
    let state = store.session(one.session().unwrap()).await.unwrap().unwrap();
    assert_eq!((state.record.head, state.shared.version), (8, 1));
}

#[tokio::test]
async fn a_deleted_session_takes_its_document_with_it() {
    let folder = Folder::new();
    let store = folder.open();
    let topic = create(&store, 100).await;
    let patch = Box::new(serde_json::json!([{ "op": "add", "path": "/x", "value": 1 }]));
    let patched = Durable::StatePatched { version: 1, patch };
    store.append(append(&topic, 1, vec![patched.into()])).await.unwrap();
    assert_eq!(folder.count("shared_states"), 1);

    store.delete(topic.session().unwrap(), Vec::new()).await.unwrap();

    until("the document to be removed", async || folder.count("logs") == 0).await;
    assert_eq!(folder.count("shared_states"), 0);
}

// ---- failures ----

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let folder = Folder::new();
    limit_pages(&folder.file(), 200);
    let store = folder.open();
    let topic = create(&store, 100).await;
    let text = "x".repeat(10_000);
    let mut head = 1;
    let refused = loop {
        match store.append(append(&topic, head, vec![said(&text)])).await {
            Ok(_) => head += 1,
            Err(error) => break error,
        }
    };

    assert!(
        matches!(&refused, AppendError::Failed(error) if error.0.contains("disk is full")),
        "{refused:?}"
    );
    let mut with_command = append(&topic, head, vec![said(&text)]);
    with_command.commands.push(remember("c1"));
    assert!(store.append(with_command).await.is_err());
    assert_eq!(store.recall(&remember("c1").key).await, Ok(None));
    // What was acknowledged is there, and can be read.
    assert_eq!(store.head(&topic).await.unwrap().unwrap().last, head);

    limit_pages(&folder.file(), u32::MAX - 1);
    until("the disk to be used again", async || {
        store.append(append(&topic, head, vec![said(&text)])).await.is_ok()
    })
    .await;
    assert_eq!(store.head(&topic).await.unwrap().unwrap().last, head + 1);
    let page = store.read(&topic, ReadFrom::After(0), ALL).await.unwrap().unwrap();
    assert!(page.events.iter().map(|event| event.seq()).eq(1..=head + 1));
}

#[tokio::test]
async fn a_file_that_goes_away_is_not_made_anew_and_is_found_when_it_is_back() {
    let folder = Folder::new();
    let store = folder.open();
    let topic = create(&store, 100).await;
    let away = folder.0.join("away.db");
    // A failure, so that the file has to be opened again: and then it is not there.
    let other = Connection::open(folder.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = store.append(append(&topic, 1, vec![said("x")])).await;
    assert!(matches!(&refused, Err(AppendError::Failed(error)) if error.0.contains("locked")), "{refused:?}");
    fs::rename(folder.file(), &away).unwrap();
    other.execute_batch("ROLLBACK").unwrap();

    for _ in 0..3 {
        assert!(matches!(
            store.append(append(&topic, 1, vec![said("x")])).await,
            Err(AppendError::Failed(_))
        ));
        assert!(!folder.file().exists());
    }

    fs::rename(&away, folder.file()).unwrap();
    until("the file to be found", async || store.append(append(&topic, 1, vec![said("x")])).await.is_ok())
        .await;
    assert_eq!(store.head(&topic).await.unwrap().unwrap().last, 2);
}

#[tokio::test]
async fn what_was_in_one_transaction_with_a_conflict_is_written() {
    let folder = Folder::new();
    let store = folder.open();
    let mut answers = Vec::new();
    for number in 100..400 {
        let topic = session(number);
        answers.push(store.append(append(&topic, 0, vec![created()])));
        answers.push(store.append(append(&topic, 7, vec![said("conflict")])));
        answers.push(store.append(append(&topic, 1, vec![said("x")])));
    }

    let mut written = 0;
    for (at, answer) in answers.into_iter().enumerate() {
        match answer.await {
            Ok(_) => written += 1,
            Err(error) => assert_eq!((at % 3, error), (1, AppendError::Conflict)),
        }
    }
    assert_eq!(written, 600);
    assert_eq!(folder.count("events"), 600);
}

// ---- the write-ahead log ----

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_the_file_stays_bounded_under_a_writer_and_readers_that_never_rest() {
    const BOUND: u64 = (64 + 8) * 1024 * 1024;
    let folder = Folder::new();
    let store = folder.open();
    let topic = create(&store, 100).await;
    let reading = tokio::spawn({
        let (store, topic) = (store.clone(), topic.clone());
        async move {
            let limit = PageLimit { events: 100, bytes: 64 * 1024 };
            loop {
                store.read(&topic, ReadFrom::Before(Seq::MAX), limit).await.unwrap();
                store.tail(topic.session().unwrap(), limit).await.unwrap();
            }
        }
    });
    let entry = said(&"x".repeat(250_000));
    let mut largest = 0;
    for head in 1..=800 {
        store.append(append(&topic, head, vec![entry.clone()])).await.unwrap();
        largest = largest.max(folder.wal_bytes());
    }
    reading.abort();

    assert!(largest < BOUND, "{largest} bytes");
    assert!(largest > 8 * 1024 * 1024, "{largest} bytes: too few for this to show anything");
    until("an idle store to cut its log off", async || folder.wal_bytes() == 0).await;
}

// ---- what a crash leaves ----

fn fork_of(from: &Topic, to: &Topic, head: Seq) -> Fork {
    let created = append(to, 0, vec![created()]).events.remove(0);
    let mut state = SessionState::begin(&created).unwrap();
    state.record.head = head;
    let commands = vec![remember(&to.to_string())];
    Fork { from: from.session().unwrap().clone(), created, state, commands }
}

#[tokio::test]
async fn a_fork_cut_short_leaves_nothing() {
    let folder = Folder::new();
    let store = folder.open();
    let topic = create(&store, 100).await;
    append_many(&store, &topic, 1, 10_240, "x").await;

    let mut store = store;
    let mut target = 200;
    loop {
        let forked = store.fork(fork_of(&topic, &session(target), 10_000));
        drop(store);
        if matches!(forked.await, Err(AppendError::Failed(_))) {
            break;
        }
        // It was done before it could be cut short: once more.
        store = folder.open();
        store.delete(session(target).session().unwrap(), Vec::new()).await.unwrap();
        target += 1;
    }

    assert!(folder.count("logs WHERE topic IS NULL") > 0, "there is something to remove");
    let store = folder.open();
    assert_eq!(store.head(&session(target)).await, Ok(None));
    until("the rest to be removed", async || folder.count("logs") == 1).await;
    assert_eq!(folder.count("events"), 10_241);
    // And it can be had after all.
    store.fork(fork_of(&topic, &session(target), 10_000)).await.unwrap();
    assert_eq!(store.head(&session(target)).await.unwrap().unwrap().last, 10_000);
}

#[tokio::test]
async fn a_fork_is_finished_before_the_store_is_closed() {
    let folder = Folder::new();
    let store = folder.open();
    let topic = create(&store, 100).await;
    append_many(&store, &topic, 1, 2_048, "x").await;

    let forked = store.fork(fork_of(&topic, &session(200), 2_000));
    store.close().await;

    assert_eq!(forked.await, Ok(()));
    drop(store);
    assert_eq!(folder.open().head(&session(200)).await.unwrap().unwrap().last, 2_000);
}

#[tokio::test]
async fn only_a_log_that_is_hidden_is_removed() {
    let folder = Folder::new();
    let store = folder.open();
    create(&store, 100).await;
    let database = open::Database { path: folder.file(), sync_every_commit: false };
    let connection = open::connect_to_write(&database).unwrap();
    let id: i64 = connection.query_row("SELECT id FROM logs", [], |row| row.get(0)).unwrap();

    // As when the transaction that hid it was taken back.
    assert!(purge::slice(&connection, id).unwrap(), "there is nothing to do");

    assert_eq!(folder.count("events"), 1);
    assert!(store.head(&session(100)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_deleted_log_is_removed_after_all() {
    let folder = Folder::new();
    let store = folder.open();
    let topic = create(&store, 100).await;
    append_many(&store, &topic, 1, 5_120, "needle").await;
    create(&store, 101).await;
    until("all to be indexed", async || indexed(&store).await).await;
    let mut store = store;
    let mut number = 100;
    loop {
        let deleted = store.delete(session(number).session().unwrap(), Vec::new());
        drop(store);
        deleted.await.unwrap();
        if folder.count("logs WHERE topic IS NULL") > 0 {
            break;
        }
        // It was removed before the end: once more.
        store = folder.open();
        number += 1_000;
        append_many(&store, &create(&store, number).await, 1, 5_120, "needle").await;
    }

    let store = folder.open();

    assert_eq!(store.head(&session(number)).await, Ok(None));
    until("the rows to be removed", async || folder.count("logs") == 1).await;
    assert_eq!((folder.count("events"), folder.count("chunks")), (1, 0));
    assert_eq!(folder.count("search WHERE search MATCH 'needle'"), 0);
    // Ids of events are never used twice, or the index would miss some.
    create(&store, 102).await;
    store.append(append(&session(102), 1, vec![said("needle")])).await.unwrap();
    until("it to be found", async || search(&store).await.hits.len() == 1).await;
}

async fn search(store: &SqliteStore) -> Hits {
    let words = Words::of("needle").unwrap();
    store.search(Search { owner: Principal::local(), words, after: None, limit: 10 }).await.unwrap()
}

async fn indexed(store: &SqliteStore) -> bool {
    search(store).await.indexed_to.is_none()
}

#[tokio::test]
async fn the_index_lags_says_so_and_catches_up() {
    let folder = Folder::new();
    let store = folder.open();
    let topic = create(&store, 100).await;
    let mut seen_behind = false;
    let mut after = 1;
    while !seen_behind {
        append_many(&store, &topic, after, 1_024, "hay").await;
        after += 1_024;
        seen_behind = search(&store).await.indexed_to.is_some_and(|at| at <= Timestamp::now());
    }
    store.append(append(&topic, after, vec![said("the needle")])).await.unwrap();
    // A crash loses nothing of it.
    drop(store);

    let store = folder.open();

    until("all to be indexed", async || indexed(&store).await).await;
    assert_eq!(search(&store).await.hits[0].seq, after + 1);
}

#[tokio::test]
async fn a_search_that_finds_little_ends_its_page_early() {
    let folder = Folder::new();
    let store = folder.open();
    let (mine, theirs) = (create(&store, 100).await, session(101));
    store.append(append(&mine, 1, vec![said("my needle")])).await.unwrap();
    let owner: Principal = "other".parse().unwrap();
    let by_other =
        Durable::SessionCreated { owner, agent_name: "Helper".to_owned(), title: None, forked_from: None };
    store.append(append(&theirs, 0, vec![by_other.into()])).await.unwrap();
    append_many(&store, &theirs, 1, 5_120, "needle").await;
    until("all to be indexed", async || indexed(&store).await).await;

    let mut pages = 0;
    let mut after = None;
    let hit = loop {
        let words = Words::of("needle").unwrap();
        let search = Search { owner: Principal::local(), words, after, limit: 10 };
        let mut page = store.search(search).await.unwrap();
        pages += 1;
        match page.hits.pop() {
            Some(hit) => break hit,
            None => after = Some(page.next.expect("there is more to look at")),
        }
    };

    assert!(pages > 1);
    assert_eq!(hit.excerpt, "my needle");
}

// ---- commands ----

#[tokio::test]
async fn commands_are_remembered_for_a_day_and_survive_a_crash() {
    const HOUR: i64 = 60 * 60 * 1000;
    let folder = Folder::new();
    let store = folder.open();
    let topic = create(&store, 100).await;
    for id in ["old", "young", "new"] {
        let commands = vec![remember(id)];
        store.append(Append { commands, ..append(&topic, 1, Vec::new()) }).await.unwrap();
    }
    drop(store);
    let other = Connection::open(folder.file()).unwrap();
    let age = |id: &str, hours: i64| {
        let key = commands::hash(&remember(id).key);
        let at = Timestamp::now().0 - hours * HOUR;
        other.execute("UPDATE commands SET at = ?1 WHERE key = ?2", rusqlite::params![at, key]).unwrap();
    };
    age("old", 26);
    age("young", 24);

    let connection =
        open::connect_to_write(&Database { path: folder.file(), sync_every_commit: false }).unwrap();
    assert_eq!(commands::forget_slice(&connection, 3, MAX_COMMANDS).unwrap(), 1);
    assert_eq!(commands::forget_slice(&connection, 2, MAX_COMMANDS).unwrap(), 0);

    let store = folder.open();
    let known = async |id: &str| store.recall(&remember(id).key).await.unwrap().is_some();
    assert!(!known("old").await);
    assert!(known("young").await && known("new").await);
    // Too many: the oldest go, by their order.
    assert_eq!(commands::forget_slice(&connection, 2, 1).unwrap(), 1);
    assert!(!known("young").await);
    assert!(known("new").await);
}

#[tokio::test]
async fn a_key_that_is_not_known_is_answered_at_once() {
    let folder = Folder::new();
    let store = folder.open();
    let topic = create(&store, 100).await;

    assert_eq!(store.recall(&remember("c1").key).now_or_never(), Some(Ok(None)));

    let commands = vec![remember("c1")];
    store.append(Append { commands, ..append(&topic, 1, Vec::new()) }).await.unwrap();
    assert!(store.recall(&remember("c1").key).await.unwrap().is_some());
}
