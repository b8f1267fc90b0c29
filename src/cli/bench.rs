//! `duologue bench`: a load run against a server, and what came of it.
//!
//! Opens sessions, has each answer messages, and checks every event on the way as a client may: by numbers
//! and offsets. What it measures is the whole way, from a command sent to its events received. It takes
//! processor time itself: on the server's machine, compare with another server in the same run.
//!
//! - `oracle`, `tally` — what is right, what is counted. No network.
//! - `session` — a client. `watchers`, `reconnect` — what else is done with clients than to talk.
//! - `process`, `report` — what is asked of the system, what is told.

mod oracle;
mod process;
mod reconnect;
mod report;
mod session;
mod tally;
mod watchers;

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::Parser;
use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use self::{
    oracle::Counts,
    process::Meter,
    report::{Report, Watching},
    session::Session,
    tally::Tally,
    watchers::Watchers,
};
use super::{Failure, client::Server};
use crate::config::Environment;

/// Clients that are opened at once.
const OPENING_AT_ONCE: usize = 64;
/// A server from which no event comes for this long will not send another.
const PATIENCE: Duration = Duration::from_secs(30);

/// Puts load on a server and says how it bears it.
#[derive(Debug, Parser)]
pub struct Bench {
    /// Address of the server [default: http:// and DUOLOGUE_BIND]
    #[arg(long)]
    url: Option<String>,
    /// Agent to open sessions with
    #[arg(long, default_value = "helper")]
    agent: String,
    /// Sessions to open, each with both sockets
    #[arg(long, default_value_t = 100)]
    sessions: usize,
    /// Messages to each session, one after the other
    #[arg(long, default_value_t = 5)]
    messages: usize,
    /// Deltas of each answer; with 1 the message is `/echo x`
    #[arg(long, default_value_t = 40)]
    tokens: u64,
    /// Deltas a second of each session; 0 is as fast as they come
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// Sessions begin spread over the time of one answer, so that a paced load does not come in waves
    #[arg(long)]
    steady: bool,
    /// Other clients that watch the first session: measures how far apart they get the same event
    #[arg(long, default_value_t = 0)]
    watchers: usize,
    /// In the end break all connections off, have each session answer a message, and bring all clients back at
    /// once with their positions: measures how long that takes
    #[arg(long)]
    reconnect: bool,
    /// Process id of the server, on this machine: then its memory and processor time are measured
    #[arg(long)]
    pid: Option<u32>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

pub fn run(bench: Bench) -> Result<(), Failure> {
    let start = |error| Failure::Start(error);
    let environment = Environment::read().map_err(|error| start(error.into()))?;
    let server = match &bench.url {
        Some(url) => Server::parse(url).map_err(start)?,
        None => Server::at(environment.bind().map_err(|error| start(error.into()))?),
    };
    process::make_room_for(bench.sockets()).map_err(start)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("no runtime").map_err(start)?;
    let local = tokio::task::LocalSet::new();
    let tally = Rc::new(RefCell::new(Tally::default()));
    let measured = unless_stalled(&tally, measure(&bench, &server, &tally));
    let report = local.block_on(&runtime, measured).map_err(Failure::Run)?;
    if bench.json {
        println!("{}", serde_json::to_string_pretty(&report).expect("a report is JSON"));
    } else {
        print!("{}", report.table());
    }
    let Report { gaps, duplicates, errors, .. } = report;
    if gaps + duplicates + errors > 0 {
        let first =
            tally.borrow().first_error.as_ref().map_or(String::new(), |why| format!(", first: {why}"));
        let why = format!("{gaps} gaps, {duplicates} duplicates, {errors} errors{first}: there must be none");
        return Err(Failure::Run(anyhow::anyhow!(why)));
    }
    Ok(())
}

async fn measure(bench: &Bench, server: &Server, tally: &Rc<RefCell<Tally>>) -> anyhow::Result<Report> {
    let began = Instant::now();
    let meter = Meter(bench.pid);
    let memory_before = meter.memory()?;

    let opening = Instant::now();
    let sessions = open(bench, server, tally).await?;
    let sessions_per_second = bench.sessions as f64 / opening.elapsed().as_secs_f64();
    let memory_idle = meter.memory()?;

    let watchers = match sessions.first() {
        Some(first) if bench.watchers > 0 => {
            Some(Watchers::open(server, first, bench.watchers, bench.messages, tally).await?)
        }
        _ => None,
    };
    let progress = progress(bench.json, (bench.sessions * bench.messages) as u64, "answering messages");
    let cpu_before = meter.cpu()?;
    let answering = Instant::now();
    let sessions =
        answer(sessions, bench.messages, bench.spread_over(), &bench.content(), tally, &progress).await?;
    progress.finish_and_clear();
    // Whoever waits for what has failed would wait for ever.
    let went_well = tally.borrow().errors == 0;
    let spread = match (watchers, sessions.first()) {
        (Some(watchers), Some(first)) if went_well => Some(watchers.end(first).await?),
        _ => None,
    };
    let answering = answering.elapsed().as_secs_f64();
    let cpu = meter.cpu()?.zip(cpu_before).map(|(after, before)| after.saturating_sub(before));
    let memory_after = meter.memory_at_rest().await?;
    let load = tally.borrow().load();

    let reconnecting = if bench.reconnect && went_well {
        Some(reconnect::run(server, sessions, &bench.content(), tally).await?)
    } else {
        None
    };
    let per_session = |now: Option<u64>| {
        // Watchers take memory of no session.
        let grown = now?.saturating_sub(memory_before.filter(|_| bench.watchers == 0)?);
        Some(grown as f64 / bench.sessions.max(1) as f64)
    };
    let Tally { counts: Counts { gaps, duplicates, .. }, errors, .. } = *tally.borrow();
    Ok(Report {
        sessions: bench.sessions,
        messages: load.messages,
        sessions_per_second,
        acknowledged_ms: load.acknowledged,
        first_delta_ms: load.first_delta,
        run_ms: load.run,
        deltas: load.deltas,
        deltas_per_second: load.deltas as f64 / answering.max(f64::EPSILON),
        gaps,
        duplicates,
        errors,
        server_rss_bytes: memory_after,
        bytes_per_session: per_session(memory_after),
        idle_bytes_per_session: per_session(memory_idle),
        server_cpu_us_per_delta: cpu
            .filter(|_| load.deltas > 0)
            .map(|cpu| cpu.as_secs_f64() * 1e6 / load.deltas as f64),
        watching: spread.map(|spread_ms| Watching { watchers: bench.watchers, spread_ms }),
        reconnecting,
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// Opens all sessions, a good many at once.
async fn open(bench: &Bench, server: &Server, tally: &RefCell<Tally>) -> anyhow::Result<Vec<Session>> {
    let progress = progress(bench.json, bench.sessions as u64, "opening sessions");
    let sessions = stream::iter(0..bench.sessions)
        .map(|number| Session::open(server, &bench.agent, number, tally))
        .buffer_unordered(OPENING_AT_ONCE)
        .inspect(|_| progress.inc(1))
        .try_collect()
        .await;
    progress.finish_and_clear();
    sessions
}

/// Has all sessions answer messages, each one after the other. They begin spread over a time. A session that fails is counted, and gets no more.
async fn answer(
    sessions: Vec<Session>,
    messages: usize,
    spread_over: Duration,
    content: &str,
    tally: &Rc<RefCell<Tally>>,
    progress: &ProgressBar,
) -> anyhow::Result<Vec<Session>> {
    let each = u32::try_from(sessions.len()).unwrap_or(u32::MAX).max(1);
    let answer_all = |(number, mut session): (usize, Session)| {
        let (tally, progress, content) = (tally.clone(), progress.clone(), content.to_owned());
        let wait = spread_over / each * u32::try_from(number).unwrap_or(u32::MAX);
        async move {
            tokio::time::sleep(wait).await;
            for _ in 0..messages {
                if let Err(error) = session.chat(&content, &tally).await {
                    tally.borrow_mut().fail(&error);
                    break;
                }
                progress.inc(1);
            }
            session
        }
    };
    let tasks: Vec<_> = sessions
        .into_iter()
        .enumerate()
        .map(|session| tokio::task::spawn_local(answer_all(session)))
        .collect();
    let mut sessions = Vec::with_capacity(tasks.len());
    for task in tasks {
        sessions.push(task.await?);
    }
    Ok(sessions)
}

/// Does something for as long as events come.
async fn unless_stalled<T>(
    tally: &RefCell<Tally>,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let mut work = std::pin::pin!(work);
    loop {
        let events = tally.borrow().counts.events;
        tokio::select! {
            outcome = &mut work => return outcome,
            () = tokio::time::sleep(PATIENCE) => {}
        }
        let still = tally.borrow().counts.events == events;
        ensure!(!still, "no event has come for {PATIENCE:?}: one that clients wait for is lost");
    }
}

impl Bench {
    /// The message that has the demo model answer as asked for.
    fn content(&self) -> String {
        match (self.tokens, self.rate) {
            (1, _) => "/echo x".to_owned(),
            (tokens, 0) => format!("/count {tokens}"),
            (tokens, rate) => format!("/count {tokens} {}", 1000 / rate.min(1000)),
        }
    }

    /// Over how long a time sessions begin to answer.
    fn spread_over(&self) -> Duration {
        match self.rate {
            rate if rate > 0 && self.steady => Duration::from_millis(1000 * self.tokens / rate),
            _ => Duration::ZERO,
        }
    }

    /// Sockets that are open at the same time, at most.
    fn sockets(&self) -> usize {
        let stand_ins = if self.reconnect { OPENING_AT_ONCE } else { 0 };
        self.sessions.saturating_add(stand_ins).saturating_mul(2).saturating_add(self.watchers)
    }
}

fn progress(quiet: bool, length: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:<20} [{bar:40}] {pos}/{len} {eta}");
    let bar = ProgressBar::new(length).with_message(what);
    if quiet {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    match style {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}
