//! Opening a file: who may, whether it is sound, and whether it continues the life that clients know.
//!
//! Owns: the lock, the checks, the making of a new file, and the incarnation. Never changes a file that it
//! refuses.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, config::DbConfig, types::FromSql};

use super::{
    OpenError, exists,
    schema::{APPLICATION_ID, MIGRATIONS, VERSION, migrate},
    wal::{self, Left},
};
use crate::core::ids::random_tag;

/// Files up to this size are checked whole each time; larger ones only after an unclean end.
const ALWAYS_CHECKED_BYTES: u64 = 256 * 1024 * 1024;
/// How long a statement waits for a lock that somebody else has, a `sqlite3` shell, say.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
const TRUNCATE_TRIES: usize = 10;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const HEADER_BYTES: usize = 100;

/// How a file is written.
#[derive(Debug, Clone)]
pub(super) struct Database {
    pub(super) path: PathBuf,
    pub(super) sync_every_commit: bool,
}

/// What opening a file has found out.
pub(super) struct Opened {
    /// Held for as long as the store lives.
    pub(super) lock: File,
    pub(super) incarnation: String,
}

/// `path` with something at its end.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// The system's current life, if it tells: what was written in it is there even if it was never synced.
pub(super) fn boot_id() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned())
}

/// Locks a file, checks it, and begins a life of the store with it.
pub(super) fn open(database: &Database, boot_id: Option<&str>) -> Result<Opened, OpenError> {
    let path = &database.path;
    let failed = |what: io::Error| OpenError::Io { path: path.clone(), what: what.to_string() };
    if let Some(folder) = folder(path) {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut lock = lock(path)?;
    let left = check_log(path, &mut lock, boot_id)?;
    let wal_bytes = length(&beside(path, "-wal")).map_err(failed)?.unwrap_or(0);
    match length(path).map_err(failed)? {
        None if wal_bytes > 0 => return Err(damaged(path, "it is gone, while its -wal file is not")),
        None => create(path)?,
        // A new one gets its name when it is whole.
        Some(0) => return Err(damaged(path, "it is empty")),
        Some(_) => check(path, wal_bytes).map_err(|refused| refused.at(path))?,
    }
    let incarnation = begin_life(database, boot_id, &left).map_err(|error| Refusal::from(error).at(path))?;
    set_boot(&mut lock, boot_id).map_err(failed)?;
    // The names of new files are as lasting as what is in them.
    if let Some(folder) = folder(path) {
        sync_folder(folder).map_err(failed)?;
    }
    Ok(Opened { lock, incarnation })
}

/// What is left of the write-ahead log, before SQLite opens it and takes what it finds for all there was.
fn check_log(path: &Path, lock: &mut File, boot_id: Option<&str>) -> Result<Left, OpenError> {
    let failed = |what: io::Error| OpenError::Io { path: path.to_owned(), what: what.to_string() };
    let same_boot = boot_id.is_some() && boot_of(lock).map_err(failed)?.as_deref() == boot_id;
    match wal::examine(path).map_err(failed)? {
        Left::Unreadable => Err(damaged(path, "its -wal file is not readable")),
        Left::Cut { found, of } if same_boot => {
            Err(damaged(path, &format!("its -wal file has {found} of the {of} pages that it had")))
        }
        left if same_boot => Ok(left),
        // What another boot has left may lack its end.
        _ => Ok(Left::Unknown),
    }
}

/// The same for who only reads, where no server has the file: to open it makes the index of the log anew, after which
/// nobody could tell.
pub(super) fn check_log_if_alone(path: &Path) -> Result<(), OpenError> {
    let Ok(mut lock) = OpenOptions::new().read(true).write(true).open(beside(path, ".lock")) else {
        return Ok(());
    };
    if lock.try_lock().is_err() {
        return Ok(());
    }
    if check_log(path, &mut lock, boot_id().as_deref())? == Left::Unknown {
        // Nor can the next server vouch for it.
        let _ = set_boot(&mut lock, None);
    }
    Ok(())
}

/// A connection that reads.
pub(super) fn connect_to_read(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.execute_batch("PRAGMA cache_size = -2000; PRAGMA temp_store = MEMORY;")?;
    Ok(connection)
}

/// A connection that writes. It never makes a file.
pub(super) fn connect_to_write(database: &Database) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        &database.path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(64);
    // Checkpoints are the checkpointer's; one at the end of a connection would hold up whoever reopens it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -4000;
         PRAGMA temp_store = MEMORY;",
    )?;
    #[cfg(test)]
    connection.query_row(
        &format!("PRAGMA max_page_count = {}", super::tests::max_pages(&database.path)),
        [],
        |_| Ok(()),
    )?;
    let application_id: u32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if application_id != APPLICATION_ID {
        return Err(rusqlite::Error::InvalidPath(database.path.clone()));
    }
    sync_commits(&connection, database.sync_every_commit)?;
    Ok(connection)
}

/// Whether each commit waits until it is on the disk.
pub(super) fn sync_commits(connection: &Connection, each: bool) -> rusqlite::Result<()> {
    connection.execute_batch(if each { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" })
}

pub(super) fn meta<T: FromSql>(connection: &Connection, key: &str) -> rusqlite::Result<Option<T>> {
    let mut find = connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
    find.query_row([key], |row| row.get(0)).optional()
}

pub(super) fn set_meta(
    connection: &Connection,
    key: &str,
    value: impl rusqlite::ToSql,
) -> rusqlite::Result<()> {
    let mut set = connection.prepare_cached(
        "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )?;
    set.execute(rusqlite::params![key, value])?;
    Ok(())
}

/// The end of a life in which nothing can have been lost. The caller has everything else behind it.
pub(super) fn mark_clean_end(connection: &Connection) -> rusqlite::Result<()> {
    sync_commits(connection, true)?;
    set_meta(connection, "clean", 1)?;
    // Leaves one whole file, and syncs it; in vain only while another program reads.
    connection.busy_timeout(Duration::from_millis(100))?;
    for _ in 0..TRUNCATE_TRIES {
        let busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if !busy {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Makes a new file for its owner only, and gives it its name once it is whole.
pub(super) fn create(path: &Path) -> Result<(), OpenError> {
    let failed = |what: String| OpenError::Io { path: path.to_owned(), what };
    let unfinished = beside(path, ".new");
    for leftover in [unfinished.clone(), beside(&unfinished, "-journal")] {
        match fs::remove_file(leftover) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error.to_string())),
            _ => {}
        }
    }
    let file = private(OpenOptions::new().write(true).create_new(true))
        .open(&unfinished)
        .map_err(|error| failed(error.to_string()))?;
    let made = Connection::open(&unfinished).and_then(|connection| {
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
        migrate(&connection)
    });
    made.map_err(|error| failed(error.to_string()))?;
    file.sync_all().and_then(|()| fs::rename(unfinished, path)).map_err(|error| failed(error.to_string()))
}

/// Options of a file that only its owner may read.
pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

pub(super) fn folder(path: &Path) -> Option<&Path> {
    path.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
}

/// Makes the names in a folder lasting.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let lock = private(OpenOptions::new().read(true).write(true).create(true).truncate(false))
        .open(beside(path, ".lock"))
        .map_err(|error| OpenError::Io { path: path.to_owned(), what: error.to_string() })?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(path.to_owned())),
        Err(TryLockError::Error(error)) => {
            Err(OpenError::Io { path: path.to_owned(), what: format!("cannot be locked: {error}") })
        }
    }
}

/// In which boot of the system the file was last in use; the lock tells, as nothing but it is read yet.
fn boot_of(lock: &mut File) -> io::Result<Option<String>> {
    let mut text = String::new();
    lock.take(128).read_to_string(&mut text)?;
    let boot = text.trim();
    Ok((!boot.is_empty()).then(|| boot.to_owned()))
}

fn set_boot(lock: &mut File, boot_id: Option<&str>) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    lock.write_all(boot_id.unwrap_or("").as_bytes())
}

fn length(path: &Path) -> io::Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a file; name another one")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Why a file is not opened, before it is said which.
pub(super) enum Refusal {
    Damaged(String),
    TooNew(u32),
    NotOurs,
    Failed(String),
}

impl Refusal {
    pub(super) fn at(self, path: &Path) -> OpenError {
        let path = path.to_owned();
        match self {
            Refusal::Damaged(what) => OpenError::Damaged { path, what },
            Refusal::TooNew(found) => OpenError::TooNew { path, found, known: VERSION },
            Refusal::NotOurs => OpenError::NotOurs(path),
            Refusal::Failed(what) => OpenError::Io { path, what },
        }
    }
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

fn damaged(path: &Path, what: &str) -> OpenError {
    Refusal::Damaged(what.to_owned()).at(path)
}

/// Looks at a file without changing it.
fn check(path: &Path, wal_bytes: u64) -> Result<(), Refusal> {
    let bytes = check_header(path, wal_bytes)?;
    if exists(&beside(path, "-journal")) {
        // It was cut short while it began to have a log: that must be taken back, which readers cannot do.
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        check_version(&connection)?;
    }
    let connection = connect_to_read(path)?;
    check_version(&connection)?;
    let clean = meta::<i64>(&connection, "clean")? == Some(1);
    if clean && bytes > ALWAYS_CHECKED_BYTES {
        return Ok(());
    }
    quick_check(&connection)
}

/// Whether a file is one of ours, as its header tells; its length.
pub(super) fn check_header(path: &Path, wal_bytes: u64) -> Result<u64, Refusal> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut header = Vec::with_capacity(HEADER_BYTES);
    (&file).take(HEADER_BYTES as u64).read_to_end(&mut header)?;
    if !header.starts_with(MAGIC) {
        return Err(Refusal::NotOurs);
    }
    let field = |at: usize| {
        let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u32::from_be_bytes).ok_or_else(|| Refusal::Damaged("its header is cut off".to_owned()))
    };
    if field(68)? != APPLICATION_ID {
        return Err(Refusal::NotOurs);
    }
    let page_bytes = match field(16)? >> 16 {
        // 65,536 does not fit.
        1 => 65_536,
        bytes => u64::from(bytes),
    };
    let expected = page_bytes * u64::from(field(28)?);
    // While there is a log, pages that the file lacks may be in it.
    if wal_bytes == 0 && bytes < expected {
        return Err(Refusal::Damaged(format!("it has {bytes} of its {expected} bytes")));
    }
    Ok(bytes)
}

pub(super) fn check_version(connection: &Connection) -> Result<(), Refusal> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match u32::try_from(found) {
        Ok(found) if found as usize <= MIGRATIONS.len() => Ok(()),
        Ok(found) => Err(Refusal::TooNew(found)),
        Err(_) => Err(Refusal::Damaged(format!("its format is said to be {found}"))),
    }
}

/// Whether all pages are what they should be.
pub(super) fn quick_check(connection: &Connection) -> Result<(), Refusal> {
    let result: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    // All in the first line of what is said.
    let result =
        result.lines().map(str::trim).filter(|line| !line.starts_with("***")).collect::<Vec<_>>().join("; ");
    if result == "ok" { Ok(()) } else { Err(Refusal::Damaged(result)) }
}

/// Brings a sound file up to date, and decides whether its life goes on. From here on it is marked as in use.
fn begin_life(database: &Database, boot_id: Option<&str>, left: &Left) -> rusqlite::Result<String> {
    let connection = connect_to_write(database)?;
    // What follows must last: the mark of a clean end must not come back.
    sync_commits(&connection, true)?;
    migrate(&connection)?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let incarnation = match meta(&connection, "incarnation")? {
        Some(incarnation) if nothing_was_lost(&connection, boot_id, left)? => incarnation,
        Some(_) => {
            log::warn!(
                "store: the file is a backup, or was moved, or the system went down while it was in use: it may \
                 lack what clients saw, so they begin with it anew"
            );
            random_tag()
        }
        None => random_tag(),
    };
    set_meta(&connection, "incarnation", &incarnation)?;
    set_meta(&connection, "boot_id", boot_id)?;
    set_meta(&connection, "clean", 0)?;
    set_meta(&connection, "synced", i64::from(database.sync_every_commit))?;
    set_meta(&connection, "backup", 0)?;
    connection.execute_batch("COMMIT")?;
    // Should the log be lost, the file itself says that it was in use. In vain while another program reads.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(incarnation)
}

/// Whether the file has everything that its last life told clients.
fn nothing_was_lost(connection: &Connection, boot_id: Option<&str>, left: &Left) -> rusqlite::Result<bool> {
    let is_set = |key| Ok::<_, rusqlite::Error>(meta::<i64>(connection, key)? == Some(1));
    if is_set("backup")? {
        return Ok(false);
    }
    let boot_before: Option<Option<String>> = meta(connection, "boot_id")?;
    let same_boot = boot_id.is_some() && boot_before.flatten().as_deref() == boot_id;
    if same_boot && *left != Left::Whole {
        // The file was moved, and not with all that lay beside it.
        return is_set("clean");
    }
    Ok(is_set("clean")? || is_set("synced")? || same_boot)
}
