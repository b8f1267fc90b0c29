//! `duologue bench`: a load run against a server, and what came of it.
//!
//! Opens sessions, has each answer messages, and checks every event on the way as a client may: by numbers
//! and offsets. What it measures is the whole way, from a command sent to its events received.

use std::{
    cell::RefCell,
    fs,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use futures_util::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Failure,
    client::{Path, Server, Socket},
};
use crate::config::Environment;

/// Sessions that are being opened at once.
const OPENING_AT_ONCE: usize = 64;

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
    /// Process id of the server, on this machine: then its memory and processor time are measured
    #[arg(long)]
    pid: Option<u32>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// What a run came to.
#[derive(Debug, Serialize)]
struct Report {
    sessions: usize,
    messages: usize,
    sessions_per_second: f64,
    first_delta_ms: Spread,
    run_ms: Spread,
    deltas: u64,
    deltas_per_second: f64,
    gaps: u64,
    duplicates: u64,
    errors: u64,
    server_rss_bytes: Option<u64>,
    /// Memory that the server took since the first session was opened, by session.
    bytes_per_session: Option<f64>,
    /// The same before the first message.
    idle_bytes_per_session: Option<f64>,
    /// Processor time of the server while messages were answered, by delta.
    server_cpu_us_per_delta: Option<f64>,
    seconds: f64,
}

#[derive(Debug, Default, Serialize)]
struct Spread {
    p50: f64,
    p99: f64,
    max: f64,
}

/// What all sessions have seen together.
#[derive(Default)]
struct Tally {
    first_delta: Vec<Duration>,
    run: Vec<Duration>,
    deltas: u64,
    gaps: u64,
    duplicates: u64,
    errors: u64,
}

pub fn run(bench: Bench) -> Result<(), Failure> {
    let start = |error| Failure::Start(error);
    let environment = Environment::read().map_err(|error| start(error.into()))?;
    let server = match &bench.url {
        Some(url) => Server::parse(url).map_err(start)?,
        None => Server::at(environment.bind().map_err(|error| start(error.into()))?),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("no runtime").map_err(start)?;
    let local = tokio::task::LocalSet::new();
    let report = local.block_on(&runtime, measure(&bench, &server)).map_err(Failure::Run)?;
    if bench.json {
        println!("{}", serde_json::to_string_pretty(&report).expect("a report is JSON"));
    } else {
        print!("{}", report.table());
    }
    let Report { gaps, duplicates, errors, .. } = report;
    if gaps + duplicates + errors > 0 {
        let why = format!("{gaps} gaps, {duplicates} duplicates, {errors} errors: there must be none");
        return Err(Failure::Run(anyhow::anyhow!(why)));
    }
    Ok(())
}

async fn measure(bench: &Bench, server: &Server) -> anyhow::Result<Report> {
    let began = Instant::now();
    let before = bench.pid.map(resident_bytes).transpose()?;

    let progress = progress(bench.json, bench.sessions as u64, "opening sessions");
    let opening = Instant::now();
    let mut sessions: Vec<Session> = stream::iter(0..bench.sessions)
        .map(|number| Session::open(server, &bench.agent, number))
        .buffer_unordered(OPENING_AT_ONCE)
        .inspect(|_| progress.inc(1))
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect::<anyhow::Result<_>>()?;
    let sessions_per_second = bench.sessions as f64 / opening.elapsed().as_secs_f64();
    progress.finish_and_clear();
    let idle = bench.pid.map(resident_bytes).transpose()?;

    let progress = self::progress(bench.json, (bench.sessions * bench.messages) as u64, "answering messages");
    let tally = Rc::new(RefCell::new(Tally::default()));
    let cpu_before = bench.pid.map(cpu_time).transpose()?;
    let answering = Instant::now();
    let mut tasks = Vec::new();
    for mut session in sessions.drain(..) {
        let (tally, progress, content) = (tally.clone(), progress.clone(), bench.content());
        let messages = bench.messages;
        tasks.push(tokio::task::spawn_local(async move {
            for _ in 0..messages {
                if let Err(error) = session.chat(&content, &tally).await {
                    log::debug!("{error:#}");
                    tally.borrow_mut().errors += 1;
                    break;
                }
                progress.inc(1);
            }
            session
        }));
    }
    for task in tasks {
        sessions.push(task.await?);
    }
    let answering = answering.elapsed().as_secs_f64();
    let cpu = bench.pid.map(cpu_time).transpose()?;
    progress.finish_and_clear();
    let after = bench.pid.map(resident_bytes).transpose()?;

    let tally = std::mem::take(&mut *tally.borrow_mut());
    let each = |now: Option<u64>| Some(now?.saturating_sub(before?) as f64 / bench.sessions.max(1) as f64);
    let cpu = cpu.zip(cpu_before).map(|(after, before)| after.saturating_sub(before));
    Ok(Report {
        sessions: bench.sessions,
        messages: tally.run.len(),
        sessions_per_second,
        first_delta_ms: Spread::of(tally.first_delta),
        run_ms: Spread::of(tally.run),
        deltas: tally.deltas,
        deltas_per_second: tally.deltas as f64 / answering.max(f64::EPSILON),
        gaps: tally.gaps,
        duplicates: tally.duplicates,
        errors: tally.errors,
        server_rss_bytes: after,
        bytes_per_session: each(after),
        idle_bytes_per_session: each(idle),
        server_cpu_us_per_delta: cpu
            .filter(|_| tally.deltas > 0)
            .map(|cpu| cpu.as_secs_f64() * 1e6 / tally.deltas as f64),
        seconds: began.elapsed().as_secs_f64(),
    })
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
}

// ---- one session ----

struct Session {
    frontend: Socket,
    backend: Socket,
    session_id: String,
    /// Number of the last durable event.
    seq: u64,
    commands: u64,
}

/// As much of a frame as is checked.
#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    seq: Option<u64>,
    session_id: Option<&'a str>,
    #[serde(borrow)]
    data: Option<&'a serde_json::value::RawValue>,
}

#[derive(Deserialize)]
struct Delta {
    offset: u64,
    text: String,
}

#[derive(Deserialize)]
struct Response {
    content: String,
}

#[derive(Deserialize)]
struct Finished {
    outcome: String,
}

impl Session {
    /// Opens both sockets and a session, up to its `session_created`.
    async fn open(server: &Server, agent: &str, number: usize) -> anyhow::Result<Self> {
        let client_id = format!("bench-{}-{number}", std::process::id());
        let (frontend, backend) =
            tokio::join!(server.open(Path::Frontend, &client_id), server.open(Path::Backend, &client_id));
        let (mut frontend, mut backend) = (frontend?, backend?);
        let (one, other) = tokio::join!(frontend.next_text(), backend.next_text());
        for frame in [one?, other?] {
            ensure!(frame.contains("connection_established"), "the first frame is another one: {frame}");
        }
        backend
            .send(&json!({
                "type": "session_management", "message_id": "create", "agent_id": agent,
                "data": { "action": "create" },
            }))
            .await?;
        let reply = backend.next_json().await?;
        let Some(session_id) = reply["data"]["session_id"].as_str() else {
            bail!("no session could be opened: {}", reply["error"]["message"])
        };
        let mut session = Self { frontend, backend, session_id: session_id.to_owned(), seq: 0, commands: 0 };
        // Up to `session_created`, and the events that come with it.
        while session.seq == 0 {
            let text = session.frontend.next_text().await?;
            session.take(&serde_json::from_str(&text)?, &mut Tally::default());
        }
        Ok(session)
    }

    /// Sends a message and follows its run to the end.
    async fn chat(&mut self, content: &str, tally: &RefCell<Tally>) -> anyhow::Result<()> {
        self.commands += 1;
        let command = json!({
            "type": "chat_message", "message_id": format!("m{}", self.commands),
            "session_id": self.session_id, "data": { "content": content },
        });
        let sent = Instant::now();
        self.backend.send(&command).await?;
        let mut text = String::new();
        let mut points = 0;
        let mut first_delta = None;
        loop {
            let frame = tokio::select! {
                frame = self.frontend.next_text() => frame?,
                reply = self.backend.next_json() => {
                    check_reply(&reply?)?;
                    continue;
                }
            };
            let frame: Frame<'_> = serde_json::from_str(&frame)?;
            let data = frame.data.map_or("{}", |data| data.get());
            let mut tally = tally.borrow_mut();
            match frame.kind {
                "message.delta" => {
                    let delta: Delta = serde_json::from_str(data)?;
                    first_delta.get_or_insert_with(|| sent.elapsed());
                    tally.deltas += 1;
                    tally.gaps += u64::from(delta.offset > points);
                    tally.duplicates += u64::from(delta.offset < points);
                    points += delta.text.chars().count() as u64;
                    text.push_str(&delta.text);
                }
                "agent_response" => {
                    let response: Response = serde_json::from_str(data)?;
                    ensure!(response.content == text, "the answer is not what was streamed");
                    self.take(&frame, &mut tally);
                }
                "run_finished" => {
                    let finished: Finished = serde_json::from_str(data)?;
                    ensure!(finished.outcome == "completed", "a run ended {}", finished.outcome);
                    self.take(&frame, &mut tally);
                    tally.run.push(sent.elapsed());
                    tally.first_delta.extend(first_delta);
                    return Ok(());
                }
                _ => self.take(&frame, &mut tally),
            }
        }
    }

    /// Checks a durable event's number.
    fn take(&mut self, frame: &Frame<'_>, tally: &mut Tally) {
        let Some(seq) = frame.seq.filter(|_| frame.session_id == Some(&self.session_id)) else { return };
        if seq <= self.seq {
            tally.duplicates += 1;
            return;
        }
        tally.gaps += u64::from(seq > self.seq + 1);
        self.seq = seq;
    }
}

fn check_reply(reply: &Value) -> anyhow::Result<()> {
    // Heartbeats come here as well.
    ensure!(reply["ok"] != Value::Bool(false), "a command was refused: {}", reply["error"]["message"]);
    Ok(())
}

// ---- the server's process ----

/// Memory of a process that is in RAM.
fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = read_proc(pid, "status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kib.context("no VmRSS in /proc")? * 1024)
}

/// Processor time of a process, its own and the kernel's for it.
fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    /// Ticks of /proc a second; the same on all Linux systems that programs see.
    const TICKS: u64 = 100;
    let stat = read_proc(pid, "stat")?;
    // The second field is a name in brackets that may hold anything; utime and stime are 14 and 15.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: Vec<u64> =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    ensure!(ticks.len() == 2, "no processor time in /proc");
    Ok(Duration::from_millis((ticks[0] + ticks[1]) * 1000 / TICKS))
}

fn read_proc(pid: u32, file: &str) -> anyhow::Result<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}")).with_context(|| {
        format!("process {pid} cannot be measured; --pid needs Linux and the server's own id")
    })
}

// ---- the report ----

impl Spread {
    fn of(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        let at = |part: f64| {
            let last = durations.len().saturating_sub(1);
            let index = (part * last as f64).ceil() as usize;
            durations.get(index.min(last)).map_or(0.0, |duration| duration.as_secs_f64() * 1e3)
        };
        Self { p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

impl Report {
    fn table(&self) -> String {
        let kib = |bytes: Option<f64>| bytes.map_or("-".to_owned(), |bytes| format!("{:.1}", bytes / 1024.0));
        let spread = |Spread { p50, p99, max }: &Spread| format!("{p50:.3} / {p99:.3} / {max:.3}");
        let rows = [
            ("sessions", self.sessions.to_string()),
            ("messages answered", self.messages.to_string()),
            ("sessions opened a second", format!("{:.0}", self.sessions_per_second)),
            ("first delta, ms p50 / p99 / max", spread(&self.first_delta_ms)),
            ("whole run, ms p50 / p99 / max", spread(&self.run_ms)),
            ("deltas", self.deltas.to_string()),
            ("deltas a second", format!("{:.0}", self.deltas_per_second)),
            ("gaps", self.gaps.to_string()),
            ("duplicates", self.duplicates.to_string()),
            ("errors", self.errors.to_string()),
            ("server memory, KiB", kib(self.server_rss_bytes.map(|bytes| bytes as f64))),
            ("KiB a session, idle", kib(self.idle_bytes_per_session)),
            ("KiB a session, at the end", kib(self.bytes_per_session)),
            (
                "server processor time a delta, us",
                self.server_cpu_us_per_delta.map_or("-".to_owned(), |us| format!("{us:.2}")),
            ),
            ("seconds", format!("{:.1}", self.seconds)),
        ];
        rows.iter().map(|(name, value)| format!("{name:<36}{value}\n")).collect()
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
