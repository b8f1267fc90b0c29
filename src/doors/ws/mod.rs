//! The sockets.
//!
//! `actix-web-actors` is marked deprecated upstream; nothing outside this folder knows of it.

pub mod backend_api;
pub mod body;
pub mod connection;
pub mod frontend_api;
pub mod guard;
pub mod outbox;
pub mod socket;
pub mod tcp;
pub mod watchdog;
