//! What agents can do besides talking.

pub mod builtin;
pub mod mcp;
mod schema;
