//! Resources under `/api/v1`: one file each. Problems are told as RFC 9457 has it.

pub mod sessions;
