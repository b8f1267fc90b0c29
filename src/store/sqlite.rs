//! The store `sqlite:`: one file, with a write-ahead log beside it.
//!
//! Owns: the file, a thread that writes, two that read, one that folds the write-ahead log back. Does not own:
//! anything that grows with the number of sessions in memory. Every answer comes after the commit that makes
//! it true; after a failure the file is opened again, and nothing that was known of it is believed.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use self::{
    commands::{KnownCommands, MAX_COMMANDS},
    open::{Database, Refusal},
    queue::Queue,
    reader::{Reader, Readers},
    writer::{Parts, Request, Writer},
};
use crate::core::{
    command::{CommandKey, Remember},
    ids::{RunId, SessionId, Topic},
    ports::{
        Append, AppendError, Appended, Checkpoint, Fork, Head, Hits, Page, PageLimit, Partial, ReadFrom,
        Remembered, Search, SessionFilter, SessionTail, Store, StoreError,
    },
    session::{SessionRecord, SessionState},
};

mod backup;
mod checkpointer;
mod commands;
mod failure;
mod fork;
mod log_cache;
mod open;
mod purge;
mod queue;
mod reader;
mod rows;
mod schema;
mod search_index;
mod writer;

pub use backup::{BackupError, backup};

/// Requests that may wait to be written, at most: each topic has one in flight.
const WAITING: usize = 16 * 1024;

#[derive(Debug, Clone)]
pub struct SqliteOptions {
    pub path: PathBuf,
    /// Waits for the disk before each acknowledgement: then not even a power cut loses what was acknowledged.
    pub sync_every_commit: bool,
}

/// Why a file was not opened. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{0} is in use by another server; stop that one, or name another file")]
    Locked(PathBuf),
    #[error(
        "{path} is damaged ({what}); restore a backup in its place, or move it away to begin with an empty one"
    )]
    Damaged { path: PathBuf, what: String },
    #[error(
        "{path} was written by a newer version (format {found}, this one knows {known}); use that version, or name \
         another file"
    )]
    TooNew { path: PathBuf, found: u32, known: u32 },
    #[error("{0} is not a database of this server; name another file")]
    NotOurs(PathBuf),
    #[error("{path} cannot be opened: {what}")]
    Io { path: PathBuf, what: String },
}

/// Cheap to clone. Dropped without `close`, it leaves what a crash would leave.
#[derive(Clone)]
pub struct SqliteStore {
    shared: Arc<Shared>,
}

struct Shared {
    incarnation: String,
    requests: Arc<Queue<Request>>,
    readers: Readers,
    /// One search at a time, so that there is always a reader for the others.
    search_turn: Arc<Semaphore>,
    known: Arc<KnownCommands>,
    closing: Arc<AtomicBool>,
    /// Has no sender once the writer has ended.
    writing: watch::Receiver<()>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    _lock: std::fs::File,
}

/// A file that is read without a store, also beside a running server.
pub struct SqliteReader {
    reader: Reader,
}

/// What tests give another value.
struct Circumstances {
    boot_id: Option<String>,
}

impl SqliteStore {
    /// Opens a file, or makes a new one with its folder. Blocks, for seconds if a large file has to be checked.
    pub fn open(options: SqliteOptions) -> Result<Self, OpenError> {
        Self::open_in(options, Circumstances { boot_id: open::boot_id() })
    }

    fn open_in(options: SqliteOptions, circumstances: Circumstances) -> Result<Self, OpenError> {
        let SqliteOptions { path, sync_every_commit } = options;
        let database = Database { path, sync_every_commit };
        let opened = open::open(&database, circumstances.boot_id.as_deref())?;
        let path = database.path.clone();
        let io = |error: std::io::Error| OpenError::Io { path: path.clone(), what: error.to_string() };

        let (readers, mut threads) = Readers::start(&path, &opened.incarnation).map_err(io)?;
        let (wal, checkpointer) = checkpointer::start(database.clone()).map_err(io)?;
        threads.push(checkpointer);
        let requests = Arc::new(Queue::new(WAITING));
        let known = Arc::new(KnownCommands::new(MAX_COMMANDS));
        let closing = Arc::new(AtomicBool::new(false));
        let (ended, writing) = watch::channel(());
        let shared = Shared {
            incarnation: opened.incarnation.clone(),
            requests: requests.clone(),
            readers,
            search_turn: Arc::new(Semaphore::new(1)),
            known: known.clone(),
            closing: closing.clone(),
            writing,
            threads: Mutex::new(threads),
            _lock: opened.lock,
        };
        // From here on, dropping it ends its threads.
        let store = Self { shared: Arc::new(shared) };
        let parts = Parts { queue: requests, database, incarnation: opened.incarnation, known, wal, closing };
        let writer = Writer::open(parts).map_err(|error| Refusal::from(error).at(&path))?;
        let thread = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || {
            let _ended = ended;
            writer.run();
        });
        store.shared.threads.lock().expect("no panic while locked").push(thread.map_err(io)?);
        Ok(store)
    }
}

impl Shared {
    /// Hands a request to the writer; the answer comes after its commit.
    fn write<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, E>>) -> Request,
    ) -> BoxFuture<'static, Result<T, E>> {
        let (to, answer) = oneshot::channel();
        match self.requests.push(request(to)) {
            Ok(()) => {
                let closed = || Err(queue::Refused::Closed.to_error().into());
                answer.map(move |answer| answer.unwrap_or_else(|_| closed())).boxed()
            }
            Err(refused) => now(Err(refused.to_error().into())),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.requests.close();
        self.readers.close();
        for thread in self.threads.get_mut().expect("no panic while locked").drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Store for SqliteStore {
    fn incarnation(&self) -> &str {
        &self.shared.incarnation
    }

    fn append(&self, append: Append) -> BoxFuture<'static, Result<Appended, AppendError>> {
        self.shared.write(|reply| Request::Append(append, reply))
    }

    fn checkpoint(&self, checkpoint: Checkpoint) -> BoxFuture<'static, Result<(), StoreError>> {
        self.shared.write(|reply| Request::Checkpoint(checkpoint, reply))
    }

    fn fork(&self, fork: Fork) -> BoxFuture<'static, Result<(), AppendError>> {
        self.shared.write(|reply| Request::Fork(Box::new(fork), reply))
    }

    fn delete(&self, id: &SessionId, commands: Vec<Remember>) -> BoxFuture<'static, Result<(), AppendError>> {
        self.shared.write(|reply| Request::Delete(id.clone(), commands, reply))
    }

    fn recall(&self, key: &CommandKey) -> BoxFuture<'static, Result<Option<Remembered>, StoreError>> {
        let key = commands::hash(key);
        if !self.shared.known.may_know(&key) {
            return now(Ok(None));
        }
        self.shared.readers.ask(move |reader| reader.recall(&key))
    }

    fn head(&self, topic: &Topic) -> BoxFuture<'static, Result<Option<Head>, StoreError>> {
        let topic = topic.clone();
        self.shared.readers.ask(move |reader| reader.head(&topic))
    }

    fn read(
        &self,
        topic: &Topic,
        from: ReadFrom,
        limit: PageLimit,
    ) -> BoxFuture<'static, Result<Option<Page>, StoreError>> {
        let topic = topic.clone();
        self.shared.readers.ask(move |reader| reader.read(&topic, from, limit))
    }

    fn session(&self, id: &SessionId) -> BoxFuture<'static, Result<Option<SessionState>, StoreError>> {
        let id = id.clone();
        self.shared.readers.ask(move |reader| reader.session(&id))
    }

    fn tail(
        &self,
        id: &SessionId,
        limit: PageLimit,
    ) -> BoxFuture<'static, Result<Option<SessionTail>, StoreError>> {
        let id = id.clone();
        self.shared.readers.ask(move |reader| reader.tail(&id, limit))
    }

    fn partial(&self, id: &SessionId) -> BoxFuture<'static, Result<Option<Partial>, StoreError>> {
        let id = id.clone();
        self.shared.readers.ask(move |reader| reader.partial(&id))
    }

    fn has_ended(&self, id: &SessionId, run_id: RunId) -> BoxFuture<'static, Result<bool, StoreError>> {
        let id = id.clone();
        self.shared.readers.ask(move |reader| reader.has_ended(&id, run_id))
    }

    fn sessions(&self, filter: SessionFilter) -> BoxFuture<'static, Result<Vec<SessionRecord>, StoreError>> {
        let readers = self.shared.readers.clone();
        let ask = move |filter: SessionFilter| readers.ask(move |reader| reader.list_slice(&filter));
        let first = ask(filter.clone());
        let mut rest = filter;
        async move {
            let mut records = Vec::new();
            let mut slice = first.await?;
            loop {
                slice.records.truncate(rest.limit);
                rest.limit -= slice.records.len();
                records.append(&mut slice.records);
                rest.after = slice.next.filter(|_| rest.limit > 0);
                if rest.after.is_none() {
                    return Ok(records);
                }
                // Others have their turn between the slices.
                slice = ask(rest.clone()).await?;
            }
        }
        .boxed()
    }

    fn unfinished(
        &self,
        after: Option<SessionId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<SessionId>, StoreError>> {
        self.shared.readers.ask(move |reader| reader.unfinished(after.as_ref(), limit))
    }

    fn search(&self, search: Search) -> BoxFuture<'static, Result<Hits, StoreError>> {
        let (readers, turn) = (self.shared.readers.clone(), self.shared.search_turn.clone());
        let ask = move |permit: OwnedSemaphorePermit| {
            readers.ask(move |reader| {
                let _permit = permit;
                reader.search(&search)
            })
        };
        match turn.clone().try_acquire_owned() {
            Ok(permit) => ask(permit),
            Err(_) => async move {
                let permit = turn.acquire_owned().await.expect("it is never closed");
                ask(permit).await
            }
            .boxed(),
        }
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.requests.close();
        let mut writing = self.shared.writing.clone();
        async move { while writing.changed().await.is_ok() {} }.boxed()
    }
}

fn now<T: Send + 'static>(answer: T) -> BoxFuture<'static, T> {
    std::future::ready(answer).boxed()
}

/// Whether there is something at `path`, a broken link included.
fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

#[cfg(test)]
mod tests;
