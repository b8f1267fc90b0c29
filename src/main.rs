use std::process::ExitCode;

use clap::Parser;
use duologue::cli::{self, Args};

fn main() -> ExitCode {
    match cli::run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("duologue: {:#}", failure.error());
            failure.status()
        }
    }
}
