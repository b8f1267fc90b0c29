//! A copy of a file as of one moment, made beside a running server.
//!
//! The copy is marked: whoever opens it may lack what clients of the original saw since, so that its life is
//! another one.

use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{
    Connection,
    backup::{Backup, StepResult},
};

use super::{
    OpenError, SqliteReader, exists,
    open::{beside, connect_to_read, folder, private, set_meta, sync_folder},
};

/// How often, and how long after, a copy is tried again that another program has kept from beginning.
const TRIES: usize = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{0} is there already; name a file that is not")]
    Exists(PathBuf),
    #[error("{0} is not there; name the file of a store")]
    NothingToCopy(PathBuf),
    #[error(transparent)]
    Source(#[from] OpenError),
    #[error("{path} cannot be written: {what}")]
    Io { path: PathBuf, what: String },
}

/// Copies the store in the file `from` to a new file `to`. Blocks for as long as that takes.
pub fn backup(from: &Path, to: &Path) -> Result<(), BackupError> {
    if exists(to) {
        return Err(BackupError::Exists(to.to_owned()));
    }
    if !exists(from) {
        return Err(BackupError::NothingToCopy(from.to_owned()));
    }
    // It says what is wrong with a file that is not ours.
    drop(SqliteReader::open(from)?);
    let unfinished = beside(to, ".part");
    let made = copy(from, &unfinished).and_then(|()| give_name(&unfinished, to));
    if made.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    made.map_err(|what| match what {
        Failure::Exists => BackupError::Exists(to.to_owned()),
        Failure::Other(what) => BackupError::Io { path: to.to_owned(), what },
    })
}

enum Failure {
    Exists,
    Other(String),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Other(error.to_string())
    }
}

/// Copies everything, as of one moment, to a file that is whole and synced at the end.
fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let file = private(OpenOptions::new().write(true).create_new(true)).open(to)?;
    let source = connect_to_read(from)?;
    let mut copy = Connection::open(to)?;
    let mut done = false;
    for _ in 0..TRIES {
        // All in one step: a moment's copy, however much is written meanwhile.
        done = matches!(Backup::new(&source, &mut copy)?.step(-1)?, StepResult::Done);
        if done {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    if !done {
        return Err(Failure::Other("another program has locked the source".to_owned()));
    }
    // One file without a log beside it.
    copy.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    set_meta(&copy, "backup", 1)?;
    copy.close().map_err(|(_, error)| error)?;
    file.sync_all()?;
    Ok(())
}

/// Names a whole file, unless the name was taken meanwhile.
fn give_name(unfinished: &Path, name: &Path) -> Result<(), Failure> {
    match fs::hard_link(unfinished, name) {
        Ok(()) => fs::remove_file(unfinished)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(Failure::Exists),
        // Some file systems have no links.
        Err(_) => fs::rename(unfinished, name)?,
    }
    if let Some(folder) = folder(name) {
        sync_folder(folder)?;
    }
    Ok(())
}
