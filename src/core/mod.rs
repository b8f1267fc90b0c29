//! The product, without any wire format or vendor.
//!
//! How the actors here behave:
//!
//! - **Order.** What one sender sends to one actor is handled in that order. A topic's events are released
//!   in the order in which they were published, whatever the store's pace.
//! - **Death.** A panic ends one actor. If it was an [`agent::Agent`], [`manager::AgentManager`] makes
//!   another from the log, at once if a run was open; that run ends `interrupted`. If it was
//!   the manager or [`bus::EventBus`], the process ends: better no server than one that only seems to work.
//!   What a process leaves undone, the next one's manager takes up when it starts.
//! - **Stopping.** An agent stops when it is idle (its manager asks), when its session is closed, and when the
//!   server drains; never in the middle of a run.
//! - **Waiting.** Requests go down the ring and are awaited there; nobody awaits upwards.
//! - **Late results.** Everything that outlives a handler is tied to its run, and dropped with it.

pub mod agent;
pub mod bus;
pub mod command;
pub mod completions;
pub mod connections;
pub mod conversation;
pub mod error;
pub mod event;
pub mod fork;
pub mod ids;
pub mod log;
pub mod manager;
pub mod pace;
pub mod ports;
pub mod profile;
pub mod restore;
pub mod run;
pub mod search;
pub mod session;
pub mod shared_state;
pub mod tasks;
#[cfg(test)]
mod testing;
pub mod toolbox;

/// Ends the process if an actor that it cannot do without is dropped by a panic.
///
/// A failing unit test drops its actors so too, and must go on to say why it failed.
fn end_process_if_panicking(who: &str) {
    if std::thread::panicking() && !cfg!(test) {
        ::log::error!("{who} panicked; the process ends, so that it can be started anew");
        std::process::abort();
    }
}
