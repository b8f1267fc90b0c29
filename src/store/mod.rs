//! Where logs are kept.

pub mod memory;
