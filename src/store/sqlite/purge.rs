//! Rows of logs that are no more: hidden at once, removed in small pieces.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use rusqlite::{Connection, params};

use super::{rows::number, schema::is_searched};

/// What one transaction removes, at most, whichever comes first.
const SLICE_ROWS: usize = 256;
const SLICE_TIME: Duration = Duration::from_millis(2);

/// Takes a log's name away: from now on nobody finds it.
pub(super) fn hide(connection: &Connection, log: i64) -> rusqlite::Result<()> {
    let mut hide = connection.prepare_cached(
        "UPDATE logs SET topic = NULL, owner = NULL, title = NULL, status = NULL, created_at = NULL,
             updated_at = NULL, unfinished = 0, state = NULL, task = NULL, task_status = NULL
         WHERE id = ?1",
    )?;
    hide.execute([log])?;
    Ok(())
}

/// Logs that were hidden and not removed when the file was last closed; forks that were never finished.
pub(super) fn left_over(connection: &Connection) -> rusqlite::Result<VecDeque<i64>> {
    let mut hidden = connection.prepare("SELECT id FROM logs WHERE topic IS NULL")?;
    hidden.query_map([], |row| row.get(0))?.collect()
}

/// Removes some of a log's rows; whether that was all of it.
pub(super) fn slice(connection: &Connection, log: i64) -> rusqlite::Result<bool> {
    let started = Instant::now();
    // What asked for it may have been rolled back since, or the number given to another log.
    let is_hidden =
        connection.prepare_cached("SELECT 1 FROM logs WHERE id = ?1 AND topic IS NULL")?.exists([log])?;
    if !is_hidden {
        return Ok(true);
    }
    let rows: Vec<(i64, i64)> = connection
        .prepare_cached("SELECT id, kind FROM events WHERE log_id = ?1 ORDER BY seq LIMIT ?2")?
        .query_map(params![log, number(SLICE_ROWS)], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    if rows.is_empty() {
        connection.prepare_cached("DELETE FROM chunks WHERE log_id = ?1")?.execute([log])?;
        connection.prepare_cached("DELETE FROM shared_states WHERE log_id = ?1")?.execute([log])?;
        connection.prepare_cached("DELETE FROM logs WHERE id = ?1")?.execute([log])?;
        return Ok(true);
    }
    let mut remove = connection.prepare_cached("DELETE FROM events WHERE id = ?1")?;
    let mut unindex = connection.prepare_cached("DELETE FROM search WHERE rowid = ?1")?;
    for (id, kind) in rows {
        if is_searched(kind) {
            // Nothing happens if the index has not come to it yet.
            unindex.execute([id])?;
        }
        remove.execute([id])?;
        if started.elapsed() > SLICE_TIME {
            break;
        }
    }
    Ok(false)
}
