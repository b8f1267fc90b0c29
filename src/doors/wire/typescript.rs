//! Writes the wire's types down for the web UI, and checks that what is written down is true.

use super::{commands, events, frames, tasks};

/// Where the web UI finds them, from the root of the repository.
const FILE: &str = "static/src/client/wire.gen.ts";

fn generated() -> String {
    let config = ts_rs::Config::new().with_large_int("number");
    let names = [
        "export type RunOutcome = 'completed' | 'cancelled' | 'failed' | 'interrupted';".to_owned(),
        "export type SessionStatus = 'idle' | 'running' | 'waiting_approval' | 'closed';".to_owned(),
        "export type TaskStatus = 'pending' | 'running' | 'paused' | 'completed' | 'failed' | 'cancelled';".to_owned(),
        "/** RFC 6902. */\nexport type PatchOperation = { op: 'add' | 'replace' | 'test', path: string, value: unknown, } | \
         { op: 'remove', path: string, } | { op: 'copy' | 'move', from: string, path: string, };"
            .to_owned(),
    ];
    let declarations = events::typescript(&config)
        .into_iter()
        .chain(frames::typescript(&config))
        .chain(commands::typescript(&config))
        .chain(tasks::typescript(&config))
        .map(|declaration| format!("export {declaration}"));
    let header = "// Generated from the Rust types in src/doors/wire by `make types`. Do not edit.";
    let parts: Vec<_> = [header.to_owned()].into_iter().chain(names).chain(declarations).collect();
    parts.join("\n\n") + "\n"
}

/// Fails where a type of the wire has changed and the web UI has not been told: then run `make types`.
#[test]
fn the_web_ui_has_the_types_of_the_wire() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let expected = generated();
    if option_env!("UPDATE_TYPES").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).unwrap();
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{FILE} is not what the types of src/doors/wire say; run `make types`");
}
