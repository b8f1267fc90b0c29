//! Duologue: a server for live sessions with LLM agents.
//!
//! A client sends commands on one WebSocket and watches what happens on another. Data goes one way round a
//! ring of actors, and nothing goes against the arrows:
//!
//! ```text
//!             commands                                              events
//!  client ──▶ BackendApi ──▶ AgentManager ──▶ Agent ──▶ EventBus ──▶ FrontendApi ──▶ client
//!             (one per        name_NNN ->      (one per   numbers,     (one per
//!              socket)        Agent            session)   stores,       socket)
//!                                                 │       fans out
//!                                                 ▼
//!                                          ModelProvider, Tool
//! ```
//!
//! Every durable event of a session is in its log before any client sees it. The conversation, the list of
//! sessions, snapshots and replays are all read from logs; there is no second truth.
//!
//! - [`core`] — the product: the actors, the run as a state machine, the ports. No wire format, no vendor.
//! - [`doors`] — the ways in and out: two sockets, exports, health, the web UI.
//! - [`providers`], [`tools`], [`store`] — adapters of the core's ports.
//! - [`access`] — who may come in.
//! - [`config`] — settings, checked; the only reader of the environment.
//! - [`app`] — the wiring; the only place that names concrete adapters.
//! - [`cli`] — the command line.
//! - [`runtime`] — the threads that adapters work on.
//! - [`telemetry`] — logging.
//!
//! `core` imports none of the others. `tests/it/architecture.rs` holds us to that.

pub mod access;
pub mod app;
pub mod cli;
pub mod config;
pub mod core;
pub mod doors;
pub mod providers;
pub mod runtime;
pub mod store;
pub mod telemetry;
pub mod tools;
