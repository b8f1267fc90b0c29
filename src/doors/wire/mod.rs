//! Protocol 1: JSON text frames, one object each. Here and nowhere else core values become JSON that
//! clients see, and their JSON becomes commands.
//!
//! The types of the web UI are generated from the types here: `static/src/client/wire.gen.ts`.

pub mod commands;
pub mod events;
pub mod export;
pub mod frames;
pub mod json;
pub mod task_export;
pub mod tasks;
#[cfg(test)]
mod typescript;

/// Version of the protocol, the `v` of each frame.
pub const VERSION: u8 = 1;
