//! Resources under `/api/v1`: one file each. Problems are told as RFC 9457 has it.

mod download;
mod request;
pub mod sessions;
pub mod tasks;

pub use request::only;
