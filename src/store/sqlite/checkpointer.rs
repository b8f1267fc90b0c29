//! Folds the write-ahead log back into the database, so that it stays short.
//!
//! Owns: a thread for checkpoints that hold up nobody, and the count of pages that decides when one is due.
//! Those alone would never be done under a writer that never rests: past a hard bound the writer itself folds
//! all back, between two commits.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use rusqlite::Connection;

use super::{
    failure::{AbortOnPanic, Complaints},
    open::{Database, connect_to_write},
    queue::{Popped, Queue},
};

/// Pages of 4 KiB after which a checkpoint is worth its while.
const DUE_PAGES: u32 = 4_000;
/// Pages past which the writer stops for one: 64 MiB.
const MAX_PAGES: u32 = 16_000;
/// How long the writer then waits for readers, and after how many pages it tries again.
const TRUNCATE_PATIENCE: Duration = Duration::from_millis(100);
const RETRY_PAGES: u32 = 1_000;

/// The write-ahead log, as the writer sees it.
pub(super) struct WriteAheadLog {
    /// Pages in the log, as of the last commit.
    pages: Arc<AtomicU32>,
    /// Something was written since `after_commit` last looked.
    wrote: Arc<AtomicBool>,
    asked_at: u32,
    truncate_at: u32,
    fold: Fold,
    due: Arc<Queue<()>>,
    /// Held in a checkpoint: SQLite refuses a second one at once, it does not wait.
    in_checkpoint: Arc<Mutex<()>>,
}

/// How far the pages of the log have come on their way back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fold {
    Written,
    /// A checkpoint was asked for since.
    Asked,
    /// There are none.
    Truncated,
}

/// What becomes of the file once all is folded back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is written again from its beginning: giving its room back would hold up the writer.
    Restart,
    Truncate,
}

/// Starts the thread; it ends once the queue is closed.
pub(super) fn start(database: Database) -> std::io::Result<(WriteAheadLog, std::thread::JoinHandle<()>)> {
    let due = Arc::new(Queue::new(1));
    let in_checkpoint = Arc::new(Mutex::new(()));
    let (queue, checkpointing) = (due.clone(), in_checkpoint.clone());
    let thread = std::thread::Builder::new().name("store-checkpoint".to_owned()).spawn(move || {
        let _guard = AbortOnPanic("the store's checkpointer");
        let mut connection = None;
        let mut complaints = Complaints::new("a checkpoint");
        while let Popped::Item(()) = queue.pop(None) {
            let _in_checkpoint = checkpointing.lock().expect("no panic while locked");
            connection = checkpoint(&database, connection).inspect_err(|error| complaints.log(error)).ok();
        }
    })?;
    let log = WriteAheadLog {
        pages: Arc::default(),
        wrote: Arc::default(),
        asked_at: 0,
        truncate_at: MAX_PAGES,
        fold: Fold::Written,
        due,
        in_checkpoint,
    };
    Ok((log, thread))
}

fn checkpoint(database: &Database, connection: Option<Connection>) -> rusqlite::Result<Connection> {
    let connection = match connection {
        Some(connection) => connection,
        None => connect_to_write(database)?,
    };
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
    Ok(connection)
}

impl WriteAheadLog {
    /// Has a connection count the pages that it writes.
    pub(super) fn watch(&mut self, connection: &mut Connection) -> rusqlite::Result<()> {
        let (counter, wrote) = (self.pages.clone(), self.wrote.clone());
        // A crash may have left some.
        self.fold = Fold::Written;
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: std::ffi::c_int| {
            counter.store(pages.try_into().unwrap_or(0), Ordering::Relaxed);
            wrote.store(true, Ordering::Relaxed);
            Ok(())
        }))
    }

    /// After each commit: asks for a checkpoint when one is due, and has the log begin anew when it is too long.
    pub(super) fn after_commit(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if !self.wrote.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let pages = self.pages.load(Ordering::Relaxed);
        self.fold = Fold::Written;
        if pages < self.asked_at {
            // It has begun anew.
            self.asked_at = 0;
            self.truncate_at = MAX_PAGES;
        }
        if pages >= self.asked_at.saturating_add(DUE_PAGES) {
            self.asked_at = pages;
            self.ask();
        }
        if pages >= self.truncate_at && !self.fold_all(connection, End::Restart)? {
            self.truncate_at = pages.saturating_add(RETRY_PAGES);
        }
        Ok(())
    }

    /// Whether there is something to do when nothing else is.
    pub(super) fn is_dirty(&self) -> bool {
        self.fold != Fold::Truncated
    }

    /// When nothing else is to do: first the pages are folded back by the other thread, then the log is cut
    /// off, which is quick by then.
    pub(super) fn when_idle(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        match self.fold {
            Fold::Written => {
                self.fold = Fold::Asked;
                self.ask();
            }
            // While the other thread is at it, the writer has better things to do than to wait for it.
            Fold::Asked if self.in_checkpoint.try_lock().is_err() => {}
            Fold::Asked => drop(self.fold_all(connection, End::Truncate)?),
            Fold::Truncated => {}
        }
        Ok(())
    }

    pub(super) fn close(&self) {
        self.due.close();
    }

    fn ask(&self) {
        // A full queue: it has been asked already.
        let _ = self.due.push(());
    }

    /// Folds all back and has the log begin anew, unless a reader is in the middle of it.
    fn fold_all(&mut self, connection: &Connection, end: End) -> rusqlite::Result<bool> {
        // One that is going does a part of the work.
        let in_checkpoint = self.in_checkpoint.clone();
        let _in_checkpoint = in_checkpoint.lock().expect("no panic while locked");
        connection.busy_timeout(TRUNCATE_PATIENCE)?;
        let checkpoint = match end {
            End::Restart => "PRAGMA wal_checkpoint(RESTART)",
            End::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
        };
        let busy = connection.query_row(checkpoint, [], |row| row.get(0));
        connection.busy_timeout(super::open::BUSY_TIMEOUT)?;
        let busy: bool = busy?;
        if !busy {
            if end == End::Truncate {
                self.fold = Fold::Truncated;
            }
            self.pages.store(0, Ordering::Relaxed);
            self.asked_at = 0;
            self.truncate_at = MAX_PAGES;
        }
        Ok(!busy)
    }
}
