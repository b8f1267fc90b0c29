//! The document that a session's agent and its clients share (pure).
//!
//! Changed by JSON Patches (RFC 6902), each whole or not at all. What comes in is hostile: a patch of a few bytes
//! may copy the document into itself again and again, so its growth is bounded before it happens.

use std::sync::Arc;

use json_patch::{Patch, PatchErrorKind, PatchOperation, jsonptr::PointerBuf};
use serde_json::{Value, json};

use super::{
    error::{ErrorCode, Problem},
    event::json_bytes as heap_bytes,
};

/// Bytes of the document as JSON, at most.
pub const MAX_STATE_BYTES: usize = 256 * 1024;
/// Operations of one patch, at most: each may move all elements of the largest list there can be.
pub const MAX_OPERATIONS: usize = 256;
/// Depth of the document, as of every JSON that clients send.
const MAX_DEPTH: usize = 64;

/// The document at one of its versions.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedState {
    /// 0 as long as nobody has changed it; each patch is one more.
    pub version: u64,
    pub value: Arc<Value>,
    bytes: usize,
    weight: usize,
}

impl Default for SharedState {
    fn default() -> Self {
        Self::new(0, json!({}))
    }
}

impl SharedState {
    pub fn new(version: u64, value: Value) -> Self {
        let (bytes, weight) = (json_bytes(&value), heap_bytes(&value));
        Self { version, bytes, weight, value: Arc::new(value) }
    }

    /// Its size as JSON.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Roughly the bytes that it occupies, for limits: a list of small numbers takes many times its JSON.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// The next version, made by a patch to this one.
    ///
    /// # Errors
    /// `conflict` if this is not version `if_version`, or if a `test` of the patch fails; `invalid_field` if the
    /// patch is none, or does not apply; `payload_too_large` if the document would be.
    pub fn patched(&self, patch: &Value, if_version: Option<u64>) -> Result<SharedState, Problem> {
        if let Some(wanted) = if_version
            && wanted != self.version
        {
            let message = format!(
                "the state is at version {}, not {wanted}; look at what has changed and patch that",
                self.version
            );
            let details = json!({ "version": self.version, "if_version": wanted });
            return Err(Problem::new(ErrorCode::Conflict, message).with(details));
        }
        let Patch(operations) = serde_json::from_value(patch.clone()).map_err(|error| {
            // It repeats what it does not know.
            let error = short(&error.to_string());
            Problem::invalid_field("data.patch", format!("a JSON Patch (RFC 6902), a list: {error}"))
        })?;
        if operations.is_empty() || operations.len() > MAX_OPERATIONS {
            return Err(Problem::invalid_field("data.patch", format!("1 to {MAX_OPERATIONS} operations")));
        }
        let next = Self::new(self.version + 1, apply(&self.value, &operations)?);
        if next.bytes > MAX_STATE_BYTES {
            return Err(too_large(next.bytes));
        }
        Ok(next)
    }
}

/// The patch that makes any document this one.
pub fn replacing(value: &Value) -> Value {
    json!([{ "op": "replace", "path": "", "value": value }])
}

fn apply(value: &Value, operations: &[PatchOperation]) -> Result<Value, Problem> {
    let mut value = value.clone();
    // What removals give back is not counted, so that the work is bounded as well.
    let mut bytes = json_bytes(&value);
    for (index, operation) in operations.iter().enumerate() {
        let added = added(&value, operation);
        if let Some((path, added)) = added {
            bytes += json_bytes(added);
            let depth = path.tokens().count() + depth(added);
            if depth > MAX_DEPTH {
                let problem =
                    format!("a document at most {MAX_DEPTH} deep; operation {index} would make it deeper");
                return Err(Problem::invalid_field("data.patch", problem));
            }
            if bytes > 2 * MAX_STATE_BYTES {
                return Err(too_large(bytes));
            }
        }
        json_patch::patch(&mut value, std::slice::from_ref(operation))
            .map_err(|error| does_not_apply(index, &error))?;
    }
    Ok(value)
}

/// What an operation puts into the document, and where.
fn added<'a>(value: &'a Value, operation: &'a PatchOperation) -> Option<(&'a PointerBuf, &'a Value)> {
    match operation {
        PatchOperation::Add(add) => Some((&add.path, &add.value)),
        PatchOperation::Replace(replace) => Some((&replace.path, &replace.value)),
        PatchOperation::Copy(copy) => Some((&copy.path, value.pointer(copy.from.as_str())?)),
        PatchOperation::Move(moving) => Some((&moving.path, value.pointer(moving.from.as_str())?)),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => None,
    }
}

fn does_not_apply(index: usize, error: &json_patch::PatchError) -> Problem {
    let path = short(error.path.as_str());
    let details = json!({ "field": "data.patch", "operation": index, "path": path });
    let (code, why) = match error.kind {
        PatchErrorKind::TestFailed => (ErrorCode::Conflict, "the test fails"),
        PatchErrorKind::InvalidFromPointer => (ErrorCode::InvalidField, "there is nothing at \"from\""),
        PatchErrorKind::CannotMoveInsideItself => {
            (ErrorCode::InvalidField, "nothing can be moved into itself")
        }
        _ => (ErrorCode::InvalidField, "there is no such place in the document"),
    };
    let message =
        format!("the patch does not apply: operation {index}, path {path:?}: {why}; nothing was changed");
    Problem::new(code, message).with(details)
}

/// As much of a patch as goes back in a problem.
fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

fn too_large(bytes: usize) -> Problem {
    let message = format!("the state would have {bytes} bytes as JSON; the limit is {MAX_STATE_BYTES}");
    let details = json!({ "field": "data.patch", "bytes": bytes, "limit": MAX_STATE_BYTES });
    Problem::new(ErrorCode::PayloadTooLarge, message).with(details)
}

/// Bytes of a value as JSON.
pub fn json_bytes(value: &Value) -> usize {
    /// Counts what is written to it.
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Writing to a count never fails.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

/// How many lists and objects lie within one another.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state(value: Value) -> SharedState {
        SharedState::new(3, value)
    }

    #[test]
    fn a_patch_makes_the_next_version() {
        let patch = json!([
            { "op": "add", "path": "/combatants/-", "value": { "name": "Goblin", "hp": 7 } },
            { "op": "replace", "path": "/round", "value": 2 },
        ]);

        let next = state(json!({ "round": 1, "combatants": [] })).patched(&patch, Some(3)).unwrap();

        assert_eq!(next.version, 4);
        assert_eq!(*next.value, json!({ "round": 2, "combatants": [{ "name": "Goblin", "hp": 7 }] }));
    }

    #[test]
    fn a_patch_to_another_version_is_a_conflict_that_names_the_present_one() {
        let patch = json!([{ "op": "add", "path": "/a", "value": 1 }]);

        let problem = state(json!({})).patched(&patch, Some(2)).unwrap_err();

        assert_eq!(problem.code, ErrorCode::Conflict);
        assert_eq!(problem.details, json!({ "version": 3, "if_version": 2 }));
    }

    #[test]
    fn a_patch_that_does_not_apply_says_which_operation() {
        let before = state(json!({ "a": 1 }));
        let patch = json!([
            { "op": "replace", "path": "/a", "value": 2 },
            { "op": "remove", "path": "/b" },
        ]);

        let problem = before.patched(&patch, None).unwrap_err();

        assert_eq!(problem.code, ErrorCode::InvalidField);
        assert_eq!(problem.details["operation"], 1);
        assert_eq!(problem.details["path"], "/b");
        assert_eq!(*before.value, json!({ "a": 1 }));
    }

    #[test]
    fn a_test_that_fails_is_a_conflict() {
        let patch = json!([{ "op": "test", "path": "/a", "value": 2 }]);

        assert_eq!(state(json!({ "a": 1 })).patched(&patch, None).unwrap_err().code, ErrorCode::Conflict);
    }

    #[test]
    fn what_is_no_patch_is_refused() {
        for patch in [json!({}), json!("x"), json!([{ "op": "grow", "path": "" }]), json!([]), json!(null)] {
            let problem = state(json!({})).patched(&patch, None).unwrap_err();
            assert_eq!(problem.code, ErrorCode::InvalidField, "{patch}");
        }
    }

    #[test]
    fn a_problem_does_not_repeat_what_is_long() {
        let long = format!("/{}", "x".repeat(10_000));
        for patch in [
            json!([{ "op": "remove", "path": long }]),
            json!([{ "op": "move", "from": long, "path": "/a" }]),
            json!([{ "op": "test", "path": long, "value": 1 }]),
            json!([{ "op": "remove", "path": long[1..] }]),
            json!([{ "op": long, "path": "" }]),
            json!([{ "op": "add", "path": "" , "value": 1, long.as_str(): 1 }, long]),
        ] {
            let problem = state(json!({})).patched(&patch, None).unwrap_err();
            let length = problem.message.len() + problem.details.to_string().len();
            assert!(length < 1_000, "{length}: {}", &problem.message[..200]);
        }
    }

    #[test]
    fn a_document_that_copies_itself_is_stopped_before_it_has_grown() {
        let double = json!({ "op": "copy", "from": "", "path": "/again" });
        let state = state(json!({ "text": "x".repeat(1000) }));

        let problem = state.patched(&Value::Array(vec![double; 60]), None).unwrap_err();

        assert_eq!(problem.code, ErrorCode::PayloadTooLarge);
    }

    #[test]
    fn a_document_does_not_get_deep() {
        let deeper = json!({ "op": "move", "from": "/a", "path": "/b/a" });
        let hold = json!({ "op": "add", "path": "/b", "value": {} });
        let back = json!({ "op": "move", "from": "/b", "path": "/a" });
        let patch: Vec<_> = (0..80).flat_map(|_| [hold.clone(), deeper.clone(), back.clone()]).collect();

        let problem = state(json!({ "a": {} })).patched(&Value::Array(patch), None).unwrap_err();

        assert_eq!(problem.code, ErrorCode::InvalidField);
        assert!(problem.message.contains("64 deep"), "{problem}");
    }

    #[test]
    fn a_document_that_is_too_large_is_refused() {
        let patch = json!([{ "op": "add", "path": "/a", "value": "x".repeat(MAX_STATE_BYTES) }]);

        assert_eq!(state(json!({})).patched(&patch, None).unwrap_err().code, ErrorCode::PayloadTooLarge);
    }

    proptest! {
        #[test]
        fn a_patch_between_two_documents_leads_from_one_to_the_other(
            from in proptest::collection::btree_map("[a-c]", 0..5_u8, 0..4),
            to in proptest::collection::btree_map("[a-c]", 0..5_u8, 0..4),
        ) {
            let (from, to) = (json!(from), json!(to));
            let patch = serde_json::to_value(json_patch::diff(&from, &to)).unwrap();
            prop_assume!(patch != json!([]));

            let next = state(from).patched(&patch, Some(3)).unwrap();

            prop_assert_eq!(&*next.value, &to);
        }
    }
}
