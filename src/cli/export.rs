//! `duologue export`: a session as a file, read beside a server that may be running.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use anyhow::Context;
use clap::{Parser, ValueEnum};

use super::Failure;
use crate::{
    app::stored_sessions,
    config::Environment,
    core::{
        ids::{SessionId, Topic},
        ports::{PageLimit, ReadFrom},
    },
    doors::wire::export::Format,
    telemetry,
};

/// What is read of the log at once.
const PAGE: PageLimit = PageLimit { events: 1024, bytes: 1024 * 1024 };

/// Writes a session to a file, or to standard output.
///
/// Reads the store that DUOLOGUE_STORE names, beside a server that may be running.
#[derive(Debug, Parser)]
pub struct Export {
    /// The session's id, as helper_417.
    session: SessionId,
    /// JSON Lines: every event as clients get it. Markdown: what was said.
    #[arg(long, value_enum, default_value = "jsonl")]
    format: FormatName,
    /// The file to write; standard output where left out. One that is there is not overwritten.
    #[arg(long, short)]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormatName {
    Jsonl,
    Markdown,
}

pub fn run(export: Export) -> Result<(), Failure> {
    let Export { session, format, output } = export;
    let format = match format {
        FormatName::Jsonl => Format::JsonLines,
        FormatName::Markdown => Format::Markdown,
    };
    let environment = Environment::read().map_err(|error| Failure::Start(error.into()))?;
    telemetry::init("error");
    let settings = environment.store().map_err(|error| Failure::Start(error.into()))?;
    let sessions = stored_sessions(&settings).map_err(Failure::Start)?;
    let state = sessions.session(&session).map_err(|error| Failure::Run(error.into()))?;
    let record = state.map(|state| state.record).with_context(|| format!("there is no session {session}"));
    let record = record.map_err(Failure::Run)?;
    let mut out = open(output).map_err(Failure::Start)?;
    let write = || -> anyhow::Result<()> {
        out.write_all(format.head(&record).as_bytes())?;
        let (topic, mut after) = (Topic::Session(session), 0);
        // What comes meanwhile is not part of it.
        while after < record.head {
            let page = sessions.read(&topic, ReadFrom::After(after), PAGE)?;
            let page = page.filter(|page| page.head.epoch == record.epoch);
            let page = page.context("the session was deleted meanwhile")?;
            for event in page.events.iter().filter(|event| event.seq() <= record.head) {
                out.write_all(format.event(event).as_bytes())?;
            }
            after =
                page.events.last().context("the session's log lacks events: duologue check says more")?.seq();
        }
        Ok(out.flush()?)
    };
    write().map_err(Failure::Run)
}

fn open(output: Option<PathBuf>) -> anyhow::Result<Box<dyn Write>> {
    Ok(match output {
        Some(path) => {
            let file = File::create_new(&path);
            Box::new(BufWriter::new(file.with_context(|| format!("cannot write {}", path.display()))?))
        }
        None => Box::new(BufWriter::new(io::stdout().lock())),
    })
}
