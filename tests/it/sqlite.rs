//! The store in SQLite, seen from outside: what a file survives, what it refuses, and copies of it.

#![expect(clippy::unwrap_used, reason = "these are tests; clippy takes their helpers for something else")]

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path};

use duologue::{
    core::{
        ids::{Seq, Topic},
        ports::{AppendError, ReadFrom, Store},
    },
    store::sqlite::{BackupError, OpenError, SqliteOptions, SqliteReader, SqliteStore, backup},
};

use crate::store_contract::{ALL, Fixture, Scratch, id, remember, remembered, search, session, system};

fn open(path: &Path) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(SqliteOptions { path: path.to_owned(), sync_every_commit: false })
}

/// A store with a bit of everything.
async fn filled(dir: &Scratch) -> SqliteStore {
    let store = dir.open();
    let mut fixture = Fixture::of(store.clone(), None);
    for number in 100..110 {
        let topic = fixture.create(number).await;
        for _ in 0..20 {
            fixture.turn(&topic, "a needle", &"hay ".repeat(200)).await;
        }
    }
    fixture.append_with(&session(100), vec![system("x")], vec![remember("c1")]).await.unwrap();
    fixture.append(&Topic::System, vec![system("x")]).await.unwrap();
    fixture.indexed().await;
    store
}

async fn assert_filled(store: SqliteStore) {
    let fixture = Fixture::of(store, None);
    for number in 100..110 {
        let topic = session(number);
        let events = if number == 100 { 82 } else { 81 };
        let (seqs, more) = fixture.read(&topic, ReadFrom::After(0), ALL).await;
        assert_eq!((seqs, more), ((1..=events).collect::<Vec<Seq>>(), false));
        assert_eq!(fixture.state(&topic).await.unwrap().record.head, events);
    }
    assert_eq!(fixture.store.recall(&remember("c1").key).await, Ok(Some(remembered())));
    assert_eq!(fixture.head(&Topic::System).await.unwrap().last, 1);
    assert_eq!(fixture.search(search("needle")).await.hits.len(), 100);
}

/// All files of a folder but locks, and the index of the write-ahead log, which is not a part of the data.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    });
    files
        .filter(|(name, bytes)| !name.ends_with(".lock") && !name.ends_with("-shm") && !bytes.is_empty())
        .collect()
}

/// Refused, with the file as it was, and words that say what to do.
fn assert_refused(dir: &Scratch, says: &str) -> OpenError {
    let before = files(&dir.0);
    let Err(error) = open(&dir.file()) else { panic!("it was opened") };
    assert!(error.to_string().contains(says), "{error}");
    assert!(!error.to_string().contains('\n'), "{error}");
    assert!(files(&dir.0) == before, "the file was changed: {error}");
    error
}

#[tokio::test]
async fn everything_is_there_when_a_file_is_opened_again() {
    let dir = Scratch::new();
    let store = filled(&dir).await;
    let incarnation = store.incarnation().to_owned();
    // As after a crash: whoever had acknowledged it does not say goodbye.
    drop(store);

    let store = dir.open();
    assert_eq!(store.incarnation(), incarnation);
    assert_filled(store.clone()).await;
    store.close().await;
    drop(store);

    let store = dir.open();
    assert_eq!(store.incarnation(), incarnation);
    assert_filled(store).await;
}

#[tokio::test]
async fn a_new_file_is_for_its_owner_only() {
    let dir = Scratch::new();
    let path = dir.0.join("a/b/store.db");
    let store = open(&path).unwrap();
    Fixture::of(store.clone(), None).create(100).await;

    for suffix in ["", "-wal", "-shm", ".lock"] {
        let file = format!("{}{suffix}", path.display());
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file}");
    }
}

#[tokio::test]
async fn an_empty_file_is_a_new_one() {
    let dir = Scratch::new();
    fs::write(dir.file(), "").unwrap();

    Fixture::of(dir.open(), None).create(100).await;
}

#[tokio::test]
async fn a_file_has_one_store_at_a_time() {
    let dir = Scratch::new();
    let store = filled(&dir).await;

    assert!(matches!(open(&dir.file()), Err(OpenError::Locked(_))));
    store.close().await;
    assert!(
        matches!(open(&dir.file()), Err(OpenError::Locked(_))),
        "it is locked as long as the store is there"
    );
    drop(store);

    assert_filled(open(&dir.file()).unwrap()).await;
}

#[tokio::test]
async fn after_close_nothing_is_written() {
    let dir = Scratch::new();
    let store = dir.open();
    let mut fixture = Fixture::of(store.clone(), None);
    let topic = fixture.create(100).await;
    store.close().await;

    let refused = fixture.append(&topic, vec![system("x")]).await;

    assert!(matches!(refused, Err(AppendError::Failed(_))), "{refused:?}");
    assert_eq!(fixture.head(&topic).await.unwrap().last, 1, "it can still be read");
}

// ---- what is refused ----

#[tokio::test]
async fn a_file_cut_short_is_refused() {
    for part in [3, 2] {
        let dir = Scratch::new();
        let store = filled(&dir).await;
        store.close().await;
        drop(store);
        let file = fs::OpenOptions::new().write(true).open(dir.file()).unwrap();
        let bytes = file.metadata().unwrap().len();
        file.set_len(bytes * (part - 1) / part).unwrap();

        let error = assert_refused(&dir, "restore a backup");
        assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_file_with_a_page_of_rubbish_is_refused() {
    let dir = Scratch::new();
    let store = filled(&dir).await;
    store.close().await;
    drop(store);
    let sound = fs::read(dir.file()).unwrap();
    let mut refused = 0;
    for page in 1..sound.len() / 4096 {
        let mut damaged = sound.clone();
        for byte in &mut damaged[page * 4096..page * 4096 + 64] {
            *byte = !*byte;
        }
        fs::write(dir.file(), &damaged).unwrap();
        let before = files(&dir.0);
        match open(&dir.file()) {
            Err(error) => {
                assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
                assert!(files(&dir.0) == before, "the file was changed");
                refused += 1;
            }
            // Bits of texts are not seen, nor those of pages that are free.
            Ok(store) => drop(store),
        }
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{suffix}", dir.file().display()));
        }
    }
    assert!(refused * 10 > sound.len() / 4096 * 8, "only {refused} of {} were seen", sound.len() / 4096);
}

#[tokio::test]
async fn a_file_that_is_not_ours_is_refused() {
    let dir = Scratch::new();
    fs::write(dir.file(), "Dear diary, ".repeat(1_000)).unwrap();
    assert!(matches!(assert_refused(&dir, "name another file"), OpenError::NotOurs(_)));

    fs::remove_file(dir.file()).unwrap();
    let other = rusqlite::Connection::open(dir.file()).unwrap();
    other.execute_batch("CREATE TABLE logs (id); INSERT INTO logs VALUES (1);").unwrap();
    drop(other);
    assert!(matches!(assert_refused(&dir, "name another file"), OpenError::NotOurs(_)));

    fs::remove_file(dir.file()).unwrap();
    fs::create_dir(dir.file()).unwrap();
    assert!(matches!(open(&dir.file()), Err(OpenError::Io { .. })));
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let dir = Scratch::new();
    let store = filled(&dir).await;
    store.close().await;
    drop(store);
    let newer = rusqlite::Connection::open(dir.file()).unwrap();
    newer.pragma_update(None, "user_version", 1_000).unwrap();
    drop(newer);

    let error = assert_refused(&dir, "newer version");
    assert!(matches!(error, OpenError::TooNew { found: 1_000, .. }), "{error:?}");
}

#[tokio::test]
async fn a_write_ahead_log_without_its_file_is_refused() {
    let dir = Scratch::new();
    let store = dir.open();
    Fixture::of(store.clone(), None).create(100).await;
    // Copied while it is in use, the way one should not.
    let copy = Scratch::new();
    let suffixed = |dir: &Scratch| format!("{}-wal", dir.file().display());
    fs::copy(suffixed(&dir), suffixed(&copy)).unwrap();

    let error = assert_refused(&copy, "restore a backup");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
}

// ---- beside a running server ----

#[tokio::test]
async fn a_reader_needs_no_lock() {
    let dir = Scratch::new();
    let store = filled(&dir).await;
    let topic = session(100);

    let reader = SqliteReader::open(&dir.file()).unwrap();

    let state = store.session(id(&topic)).await.unwrap();
    assert_eq!(reader.session(id(&topic)).unwrap(), state);
    let page = reader.read(&topic, ReadFrom::After(80), ALL).unwrap().unwrap();
    assert_eq!(page.events.len(), 2);
    assert_eq!(page.head, store.head(&topic).await.unwrap().unwrap());
    assert!(reader.read(&session(999), ReadFrom::After(0), ALL).unwrap().is_none());
    reader.verify().unwrap();
    // It sees what is written meanwhile.
    Fixture::of(store, None).create(300).await;
    assert!(reader.session(id(&session(300))).unwrap().is_some());

    let elsewhere = Scratch::new();
    assert!(matches!(SqliteReader::open(&elsewhere.file()), Err(OpenError::Io { .. })));
    fs::write(elsewhere.file(), "x").unwrap();
    assert!(matches!(SqliteReader::open(&elsewhere.file()), Err(OpenError::NotOurs(_))));
}

#[tokio::test]
async fn a_backup_has_everything_and_another_life() {
    let dir = Scratch::new();
    let store = filled(&dir).await;
    let to = Scratch::new();
    // While it is being written to.
    let writing = tokio::spawn({
        let mut fixture = Fixture::of(store.clone(), None);
        async move {
            let topic = fixture.create(500).await;
            loop {
                fixture.turn(&topic, "x", "y").await;
            }
        }
    });
    let (from, target) = (dir.file(), to.file());
    tokio::task::spawn_blocking(move || backup(&from, &target)).await.unwrap().unwrap();
    writing.abort();

    assert_eq!(files(&to.0).keys().collect::<Vec<_>>(), ["store.db"], "one file, and nothing else");
    let mode = fs::metadata(to.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0);
    let copy = to.open();
    assert_ne!(copy.incarnation(), store.incarnation());
    let (one, two) = (store.head(&session(100)).await, copy.head(&session(100)).await);
    let (one, two) = (one.unwrap().unwrap().epoch, two.unwrap().unwrap().epoch);
    assert_eq!(one.log_part(), two.log_part());
    assert_ne!(one, two);
    assert_filled(copy.clone()).await;

    // The mark counts once.
    let incarnation = copy.incarnation().to_owned();
    copy.close().await;
    drop(copy);
    assert_eq!(to.open().incarnation(), incarnation);
}

#[tokio::test]
async fn a_backup_spares_what_is_there() {
    let dir = Scratch::new();
    let store = dir.open();
    let to = Scratch::new();
    fs::write(to.file(), "precious").unwrap();

    assert!(matches!(backup(&dir.file(), &to.file()), Err(BackupError::Exists(_))));
    assert_eq!(fs::read(to.file()).unwrap(), b"precious");
    let nothing = to.0.join("nothing.db");
    assert!(matches!(backup(&nothing, &to.0.join("b.db")), Err(BackupError::NothingToCopy(_))));
    assert!(matches!(
        backup(&to.file(), &to.0.join("b.db")),
        Err(BackupError::Source(OpenError::NotOurs(_)))
    ));
    assert!(matches!(backup(&dir.file(), &to.0.join("no/b.db")), Err(BackupError::Io { .. })));
    assert_eq!(files(&to.0).len(), 1);
    drop(store);
}
