//! What agents can do besides talking.

pub mod builtin;
mod schema;
