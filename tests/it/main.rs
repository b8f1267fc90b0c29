//! The integration tests: real sockets, a server in a process of its own, nothing stubbed. One binary, because
//! each links the whole server.

mod acting;
mod aimock;
mod architecture;
mod cli;
mod clock;
mod crash;
mod disk;
mod errors;
mod examples;
mod hostile;
mod idempotency;
mod installed;
mod load;
mod manage;
mod models;
mod operations;
mod oracle;
mod providers;
mod sessions;
mod sqlite;
mod store_contract;
mod subscriptions;
mod support;
mod tasks;
mod tools;
