//! The integration tests: real sockets, a server in a process of its own, nothing stubbed. One binary, because
//! each links the whole server.

mod examples;
mod hostile;
mod support;
