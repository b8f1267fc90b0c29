//! `duologue backup`: a copy of the store, made beside a server that may be running.

use std::path::PathBuf;

use clap::Parser;

use super::Failure;
use crate::{app, config::Environment, telemetry};

/// Copies the store to a file, as it is at one moment.
///
/// The server may be running. The copy can be opened by a server in its place: clients then take what they have
/// anew, as what came after the copy is lost.
#[derive(Debug, Parser)]
pub struct Backup {
    /// The file to write. One that is there is not overwritten.
    file: PathBuf,
}

pub fn run(Backup { file }: Backup) -> Result<(), Failure> {
    let environment = Environment::read().map_err(|error| Failure::Start(error.into()))?;
    telemetry::init("error");
    let settings = environment.store().map_err(|error| Failure::Start(error.into()))?;
    app::back_up(&settings, &file).map_err(Failure::Run)?;
    println!("{}", file.display());
    Ok(())
}
