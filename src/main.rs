use std::process::ExitCode;

use clap::Parser;
use duologue::cli::{self, Args};
use mimalloc::MiMalloc;

/// Events are made on the core's thread and dropped on the workers'. An allocator that minds who frees costs
/// more than twice as much processor time in a burst: `docs/performance.md` has the figures.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    match cli::run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("duologue: {:#}", failure.error());
            failure.status()
        }
    }
}
