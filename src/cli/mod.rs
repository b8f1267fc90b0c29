//! The command line: one file a command.

pub mod backup;
pub mod bench;
pub mod chat;
pub mod check;
mod client;
pub mod export;
pub mod serve;
mod transcript;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Live sessions with LLM agents, over two WebSockets.
#[derive(Debug, Parser)]
#[command(name = "duologue", version, about, long_about = None)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server (also what happens without a command).
    Serve,
    Chat(chat::Chat),
    Bench(bench::Bench),
    Check(check::Check),
    Export(export::Export),
    Backup(backup::Backup),
}

/// How a command failed: it could not start, or it ran and something failed.
#[derive(Debug)]
pub enum Failure {
    Start(anyhow::Error),
    Run(anyhow::Error),
}

impl Failure {
    /// Exit status: 2 for what could not start, 1 for what ran and failed.
    pub fn status(&self) -> ExitCode {
        match self {
            Failure::Start(_) => ExitCode::from(2),
            Failure::Run(_) => ExitCode::from(1),
        }
    }

    pub fn error(&self) -> &anyhow::Error {
        match self {
            Failure::Start(error) | Failure::Run(error) => error,
        }
    }
}

/// Runs the command that was typed.
pub fn run(args: Args) -> Result<(), Failure> {
    match args.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(),
        Command::Chat(chat) => chat::run(chat),
        Command::Bench(bench) => bench::run(bench),
        Command::Check(check::Check) => check::run(),
        Command::Export(export) => export::run(export),
        Command::Backup(backup) => backup::run(backup),
    }
}
