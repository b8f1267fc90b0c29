//! Where logs are kept: one contract (`core::ports::Store`), one suite of tests for all that keep it
//! (`tests/it/store_contract.rs`).

use crate::core::session::SessionRecord;

pub mod memory;
pub mod sqlite;

/// Whether a list that is searched for `lower_query` shows the session.
fn matches_query(record: &SessionRecord, lower_query: &str) -> bool {
    let has = |text: &String| text.to_lowercase().contains(lower_query);
    record.session_id.as_str().contains(lower_query)
        || record.title.as_ref().is_some_and(has)
        || record.task.as_ref().is_some_and(|task| has(&task.name))
}
