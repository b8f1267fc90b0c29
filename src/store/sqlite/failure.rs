//! What went wrong, for the log, for whoever asked, and for whoever can do something about it.

use std::time::{Duration, Instant};

use rusqlite::ErrorCode;

use super::queue::Refused;
use crate::core::ports::StoreError;

/// How often the log is told of failures of one thread.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// What a failure means and what to do, in words that clients may see.
pub(super) fn explain(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "the disk is full; it goes on by itself once there is room",
        Some(ErrorCode::ReadOnly) => "the database is read-only; it goes on by itself once it can be written",
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            "the database cannot be opened; it goes on by itself once it can"
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "the database is damaged; stop the server, then restore a backup or move the file away"
        }
        Some(ErrorCode::SystemIoFailure) => "the disk fails; it goes on by itself once it works again",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another program has locked the database; it goes on by itself once that ends"
        }
        _ => "the database failed",
    }
}

/// Whether the failure is one of the disk, or of the whole file, and not of one place in it.
pub(super) fn concerns_everything(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::NotADatabase
                | ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
        )
    )
}

impl Refused {
    pub(super) fn to_error(self) -> StoreError {
        let why = match self {
            Refused::Full => "too much waits for the disk; try again",
            Refused::Closed => "it is closed",
        };
        StoreError(why.to_owned())
    }
}

/// Tells the log of failures, not of each.
pub(super) struct Complaints {
    who: &'static str,
    last: Option<Instant>,
    untold: u64,
}

impl Complaints {
    pub(super) fn new(who: &'static str) -> Self {
        Self { who, last: None, untold: 0 }
    }

    pub(super) fn log(&mut self, error: &rusqlite::Error) {
        self.untold += 1;
        if self.last.is_some_and(|last| last.elapsed() < LOG_EVERY) {
            return;
        }
        let Self { who, untold, .. } = self;
        log::error!(
            "store: {who} failed ({untold} times since this was last said): {}: {error}",
            explain(error)
        );
        self.last = Some(Instant::now());
        self.untold = 0;
    }
}

/// Ends the process if a thread that it cannot do without panics: better no server than one that only seems
/// to work.
pub(super) struct AbortOnPanic(pub(super) &'static str);

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        // A failing unit test must go on to say why it failed.
        if std::thread::panicking() && !cfg!(test) {
            log::error!("{} panicked; the process ends, so that it can be started anew", self.0);
            std::process::abort();
        }
    }
}
