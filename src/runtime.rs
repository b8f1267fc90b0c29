//! Where adapters work that wait for the world outside: threads apart from the actors'.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// Steps of work after which the thread looks for what has come from outside.
const LOOK_UP: u32 = 7;

/// A thread that does TLS, HTTP and JSON, and speaks with programs.
///
/// One thread for all adapters of a kind, so that what a connection brings and what is made of it take turns: a
/// provider that floods does not outrun the deadline that is to stop it.
#[derive(Debug)]
pub struct AdapterRuntime {
    handle: Handle,
    /// There until the drop.
    runtime: Option<Runtime>,
}

impl AdapterRuntime {
    /// `name` is what the thread is called.
    pub fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(name)
            // Deadlines and orders to stop come through while there is always something to read.
            .event_interval(LOOK_UP)
            .global_queue_interval(LOOK_UP)
            .enable_all()
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for AdapterRuntime {
    fn drop(&mut self) {
        // Waiting for it is not allowed inside another runtime, where this may well happen.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
