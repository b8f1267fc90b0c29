//! The server is killed at any moment, and comes back with all that anybody was told.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use nix::sys::signal::Signal;
use rand::{RngExt as _, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    oracle::{
        Logs, Oracle, Witness, all_sessions, assert_no, create_titled, differences, logs_in_file, testimony,
    },
    support::{
        Server, chat, chat_on_busy, duologue, manage, scratch_dir, stop, topic, types, unique, until, within,
    },
};

/// Where each of these servers keeps its logs, in its directory.
pub const FILE: &str = "duologue.db";
pub const STORE: (&str, &str) = ("DUOLOGUE_STORE", "sqlite:duologue.db");

/// The codes that connections end with when their server is killed.
const KILLED: &[u16] = &[1006];

/// Where all that a test does by chance comes from: said, and settable.
pub fn seed() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "only tests read it")]
    let given = std::env::var("DUOLOGUE_TEST_SEED").ok();
    let seed = given.map_or_else(rand::random, |seed| seed.parse().expect("DUOLOGUE_TEST_SEED is a number"));
    println!("to have this again: DUOLOGUE_TEST_SEED={seed}");
    seed
}

// ---- a server that comes back ----

/// A server that may end and be started again; its clients find it each time.
pub struct Phoenix {
    server: Option<Server>,
    pub dir: PathBuf,
    environment: Vec<(&'static str, &'static str)>,
    address: watch::Sender<SocketAddr>,
}

impl Phoenix {
    pub fn start(environment: &[(&'static str, &'static str)]) -> Self {
        Self::start_in(&scratch_dir(), environment)
    }

    pub fn start_in(dir: &Path, environment: &[(&'static str, &'static str)]) -> Self {
        let environment: Vec<_> = [&[STORE], environment].concat();
        let server = Server::start_in(dir, &environment);
        let address = watch::channel(server.addr).0;
        Self { server: Some(server), dir: dir.to_owned(), environment, address }
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs")
    }

    pub fn witness(&self, name: &str) -> Witness {
        Witness::start(name, self.address.subscribe())
    }

    /// Ends as in a crash.
    pub fn kill(&mut self) {
        self.server.take().expect("it runs").kill();
    }

    pub fn rise(&mut self) {
        let server = Server::start_in(&self.dir, &self.environment);
        self.address.send_replace(server.addr);
        self.server = Some(server);
    }

    pub fn crash(&mut self) {
        self.kill();
        self.rise();
    }

    /// Ends in an orderly way, and comes back.
    pub async fn restart(&mut self) {
        self.server().signal(nix::sys::signal::Signal::SIGTERM);
        self.ended().await;
        self.rise();
    }

    /// Waits for the server to end by itself.
    async fn ended(&mut self) {
        let mut server = self.server.take().expect("it runs");
        assert!(server.ended().await.success());
    }

    /// Judges all that these have seen, once all is at rest: against what the server says, and, when it is dead,
    /// against what is in its file.
    pub async fn judge(mut self, oracle: &Oracle, witnesses: Vec<Witness>) -> Logs {
        let (logs, notes) = testimony(self.server(), witnesses).await;
        self.kill();
        oracle.assert(&notes, &logs);
        assert_no(&differences(&logs, &logs_in_file(&self.dir.join(FILE))));
        logs
    }
}

// ---- lives ----

/// Does what users do, until it is told to stop: opens sessions, talks, does not wait for the end, interrupts,
/// stops, renames.
pub async fn live(witness: &Witness, mut random: StdRng, going: &AtomicBool) {
    let mut session = witness.create("helper").await;
    let mut run = None::<String>;
    while going.load(Ordering::Relaxed) {
        match random.random_range(0..14) {
            0 => session = witness.create(["helper", "writer"][random.random_range(0..2)]).await,
            1..6 => {
                let data = witness.must(chat(&session, something(&mut random))).await;
                let run_id = data["run_id"].as_str().expect("a run").to_owned();
                if random.random() {
                    witness.until_ended(&run_id).await;
                }
                run = Some(run_id);
            }
            6 => {
                let said = ["/echo one", "/count 20 10", "/echo three"]
                    .map(|text| witness.send(chat(&session, text)));
                for answer in said {
                    answer.await.expect("the witness lives").expect("there is room in the queue");
                }
            }
            7 => drop(witness.ask(chat_on_busy(&session, something(&mut random), "interrupt")).await),
            8 | 9 => {
                if let Some(run_id) = &run {
                    // It may have ended, or wait for others.
                    drop(witness.ask(stop(&session, json!({ "run_id": run_id }))).await);
                }
            }
            10 => {
                if let Some(run_id) = &run {
                    drop(witness.ask(stop(&session, json!({ "run_id": run_id, "clear_queue": true }))).await);
                    witness.until_ended(run_id).await;
                }
            }
            11 => drop(witness.must(rename(&session)).await),
            // The last run is behind us; the queue does not grow without end.
            12 => {
                if let Some(run_id) = &run {
                    witness.until_ended(run_id).await;
                }
            }
            _ => tokio::time::sleep(Duration::from_millis(random.random_range(0..200))).await,
        }
    }
}

/// Commands without a pause, so that some are under way at any moment.
async fn hurry(witness: &Witness, going: &AtomicBool) {
    let session = witness.create("helper").await;
    while going.load(Ordering::Relaxed) {
        let mut answers: Vec<_> = (0..10).map(|_| witness.send(rename(&session))).collect();
        answers.push(witness.send(chat(&session, "/echo in a hurry")));
        for answer in answers {
            within("an answer", answer).await.expect("the witness lives").expect("it is accepted");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Has an agent act: allows some calls and denies others, stops some that wait, and changes the document.
async fn act(witness: &Witness, mut random: StdRng, going: &AtomicBool) {
    let clerk = witness.create("clerk").await;
    let tracker = witness.create("tracker").await;
    let (mut runs, mut version) = (0, 1);
    while going.load(Ordering::Relaxed) {
        let run = witness.must(chat(&clerk, "/tool clock")).await;
        let run_id = run["run_id"].as_str().expect("a run").to_owned();
        runs += 1;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..100))).await;
        // A crash may have cut the run before it asked: the demo model counts its calls.
        let mut settled = false;
        for call in (1..=runs).rev() {
            let decision = if random.random() { "approve" } else { "deny" };
            let reason = unique("because");
            let data = json!({
                "tool_call_id": format!("call_clock_{call}"), "decision": decision, "reason": reason,
            });
            let approval = json!({ "type": "tool_approval", "session_id": clerk, "data": data });
            settled = witness.ask(approval).await.is_ok();
            if settled {
                break;
            }
        }
        if !settled {
            drop(witness.ask(stop(&clerk, json!({ "run_id": run_id }))).await);
        }
        witness.until_ended(&run_id).await;

        let patch = json!([{ "op": "add", "path": "/note", "value": unique("note") }]);
        let data = json!({ "patch": patch, "if_version": version });
        match witness.ask(json!({ "type": "update_state", "session_id": tracker, "data": data })).await {
            Ok(data) => version = data["version"].as_u64().expect("a version"),
            Err(error) => {
                assert_eq!(error["code"], "conflict", "{error}");
                version = error["details"]["version"].as_u64().expect("the present version");
            }
        }
        let said = ["/fight", "/hit Goblin 1", "/next"][random.random_range(0..3)];
        let run = witness.must(chat(&tracker, said)).await;
        if random.random() {
            witness.until_ended(run["run_id"].as_str().expect("a run")).await;
        }
    }
}

pub fn rename(session: &str) -> Value {
    let mut rename = manage(session, "rename");
    rename["data"]["title"] = unique("renamed").into();
    rename
}

fn something(random: &mut StdRng) -> &'static str {
    [
        "/echo äöü 😀 and more",
        "/count 100 10",
        "/count 400 2",
        "/count 3000",
        "/lorem 200",
        "/think 100",
        "/tool clock",
        "/fail cut",
    ][random.random_range(0..8)]
}

/// Several live and watch each other, while something happens; then they are judged.
async fn under(
    mut phoenix: Phoenix,
    seed: u64,
    oracle: &Oracle,
    what: impl AsyncFnOnce(&mut Phoenix, StdRng),
) -> Logs {
    const LIVES: u64 = 4;
    let witnesses: Vec<_> = (0..LIVES).map(|number| phoenix.witness(&format!("w{number}"))).collect();
    let (hasty, bystander) = (phoenix.witness("hasty"), phoenix.witness("bystander"));
    let actor = phoenix.witness("actor");
    let going = AtomicBool::new(true);
    let random = |number| StdRng::seed_from_u64(seed.wrapping_add(number));
    let living = join_all(
        (0..LIVES).zip(&witnesses).map(|(number, witness)| live(witness, random(1 + number), &going)),
    );
    // Follows what the others open as they open it.
    let following = async {
        while going.load(Ordering::Relaxed) {
            for witness in witnesses.iter().chain([&actor]) {
                let topics: Vec<_> = witness
                    .notes()
                    .topics
                    .iter()
                    .map(|(topic, seen)| (topic.clone(), seen.epoch.clone()))
                    .collect();
                for (topic, epoch) in topics {
                    if !bystander.notes().topics.contains_key(&topic) {
                        bystander.follow(&topic, &epoch);
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let happening = async {
        what(&mut phoenix, random(0)).await;
        going.store(false, Ordering::Relaxed);
    };
    let acting = act(&actor, random(1 + LIVES), &going);
    tokio::join!(happening, living, following, hurry(&hasty, &going), acting);
    phoenix.judge(oracle, witnesses.into_iter().chain([hasty, bystander, actor]).collect()).await
}

// ---- crashes ----

async fn killed_again_and_again(rounds: usize, environment: &[(&'static str, &'static str)]) {
    let phoenix = Phoenix::start(environment);
    let oracle = Oracle::expecting(KILLED);
    let logs = under(phoenix, seed(), &oracle, async |phoenix, mut random| {
        for _ in 0..rounds {
            // Any moment is as good.
            tokio::time::sleep(Duration::from_millis(random.random_range(20..2500))).await;
            phoenix.crash();
        }
    })
    .await;
    let crashed = logs.values().flatten().filter(|event| event["data"]["reason"] == "crashed").count();
    assert!(crashed > 0, "no run was cut");
    println!("{crashed} runs were cut by {rounds} crashes");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_by_twenty_crashes() {
    // What nobody uses leaves memory soon, and is read again.
    killed_again_and_again(20, &[("DUOLOGUE_SESSION_IDLE_SECS", "1")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_by_crashes_with_full_durability() {
    killed_again_and_again(5, &[("DUOLOGUE_DURABILITY", "full")]).await;
}

/// Killed again before it can have recovered what the crash before has left.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_during_recovery_is_one_like_any_other() {
    let phoenix = Phoenix::start(&[]);
    under(phoenix, seed(), &Oracle::expecting(KILLED), async |phoenix, mut random| {
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(random.random_range(500..1500))).await;
            for _ in 0..4 {
                phoenix.crash();
                tokio::time::sleep(Duration::from_millis(random.random_range(0..150))).await;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_are_being_created_in_a_crash_are_there_once_or_not_at_all() {
    const SESSIONS: usize = 400;
    let mut phoenix = Phoenix::start(&[]);
    let mut random = StdRng::seed_from_u64(seed());
    let witnesses = [phoenix.witness("w0"), phoenix.witness("w1")];
    let mut answers = Vec::new();
    for number in 0..SESSIONS {
        answers.push(witnesses[number % 2].send(create_titled("helper", &unique("many"))));
    }
    let first = answers.remove(0);
    first.await.expect("the witness lives").expect("it is accepted");
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(random.random_range(0..100))).await;
        phoenix.crash();
    }
    let done = within("all to be created", join_all(answers)).await;

    assert_eq!(done.iter().filter(|answer| matches!(answer, Ok(Ok(_)))).count(), SESSIONS - 1);
    let mut client = phoenix.server().client().await;
    assert_eq!(all_sessions(&mut client).await.len(), SESSIONS);
    phoenix.judge(&Oracle::expecting(KILLED), witnesses.into()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_is_sent_again_after_a_crash_ends_with_one_fresh_session() {
    const ROUNDS: usize = 60;
    let mut phoenix = Phoenix::start(&[]);
    let mut random = StdRng::seed_from_u64(seed());
    let witness = phoenix.witness("w0");
    let mut session = witness.create("helper").await;
    for _ in 0..ROUNDS {
        let running = witness.must(chat(&session, "/count 100000 10")).await;
        witness.until_streaming(running["run_id"].as_str().expect("a run"), 1).await;
        let refresh = json!({ "type": "agent_refresh", "agent_id": "helper", "session_id": session });
        let moment = Duration::from_micros(random.random_range(0..10_000));
        let answer = answered_across_a_crash(&mut phoenix, &witness, refresh, moment).await;
        let fresh = answer["session_id"].as_str().expect("an id").to_owned();
        assert_ne!(fresh, session);
        session = fresh;
    }

    let mut client = phoenix.server().client().await;
    let sessions = all_sessions(&mut client).await;
    assert_eq!(sessions.len(), ROUNDS + 1, "{sessions:?}");
    let open: Vec<_> = sessions.iter().filter(|other| other["status"] != "closed").collect();
    assert_eq!(open.len(), 1, "{open:?}");
    assert_eq!(open[0]["session_id"], session.as_str());
    phoenix.judge(&Oracle::expecting(KILLED), vec![witness]).await;
}

/// Killed at any moment of its first start, it starts the next time.
#[tokio::test]
async fn a_server_that_is_killed_while_it_makes_its_file_can_be_started() {
    const ROUNDS: usize = 80;
    let mut random = StdRng::seed_from_u64(seed());
    let mut refusals = Vec::new();
    for _ in 0..ROUNDS {
        let dir = scratch_dir();
        let agents = concat!(env!("CARGO_MANIFEST_DIR"), "/agents.toml");
        std::fs::copy(agents, dir.join("agents.toml")).expect("a copy");
        let mut command = duologue(&dir, &[STORE]);
        command.arg("serve").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut first = command.spawn().expect("it starts");
        tokio::time::sleep(Duration::from_micros(random.random_range(0..20_000))).await;
        first.kill().expect("it runs");
        first.wait().expect("it ends");

        let left: Vec<_> =
            std::fs::read_dir(&dir).expect("a directory").flatten().map(|file| file.file_name()).collect();
        let mut second = command.spawn().expect("it starts");
        let mut said = String::new();
        BufReader::new(second.stdout.take().expect("a pipe")).read_line(&mut said).expect("text");
        second.kill().expect("it can be killed");
        let output = second.wait_with_output().expect("it ends");
        if said.is_empty() {
            refusals.push(format!("{left:?}: {}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    assert_no(&refusals);
}

/// Forks and deletions that are sent again after a crash.
#[tokio::test(flavor = "multi_thread")]
async fn forks_and_deletions_across_a_crash_are_done_once() {
    const ROUNDS: usize = 20;
    let mut phoenix = Phoenix::start(&[]);
    let mut random = StdRng::seed_from_u64(seed());
    let witness = phoenix.witness("w0");
    let past = witness.create("helper").await;
    for text in ["/count 3000", "/echo two"] {
        let data = witness.must(chat(&past, text)).await;
        witness.until_ended(data["run_id"].as_str().expect("a run")).await;
    }
    // A past that takes several transactions to copy and to remove.
    let renamed = join_all((0..1500).map(|_| witness.send(rename(&past))));
    for answer in within("all to be renamed", renamed).await {
        answer.expect("the witness lives").expect("it is accepted");
    }
    let mut client = phoenix.server().client().await;
    let log = client.history(&past).await;
    for round in 0..ROUNDS {
        let title = unique("fork");
        let mut fork = manage(&past, "fork");
        (fork["data"]["at_seq"], fork["data"]["title"]) = (log.len().into(), title.as_str().into());
        let moment = Duration::from_micros(random.random_range(0..30_000));
        let forked = answered_across_a_crash(&mut phoenix, &witness, fork, moment).await;
        let session = forked["session_id"].as_str().expect("an id").to_owned();
        let mut client = phoenix.server().client().await;
        let sessions = all_sessions(&mut client).await;
        let forks: Vec<_> = sessions.iter().filter(|other| other["title"] == title.as_str()).collect();
        assert_eq!(forks.len(), 1, "round {round}: {forks:?}");
        assert_eq!(forks[0]["session_id"], session.as_str());
        let copy = client.history(&session).await;
        assert_eq!(copy.len(), log.len());
        for (seq, (event, original)) in (1_u64..).zip(copy.iter().zip(&log)).skip(1) {
            assert_eq!((&event["seq"], &event["data"]), (&json!(seq), &original["data"]));
        }

        let moment = Duration::from_micros(random.random_range(0..30_000));
        answered_across_a_crash(&mut phoenix, &witness, manage(&session, "delete"), moment).await;
        let mut client = phoenix.server().client().await;
        let sessions = all_sessions(&mut client).await;
        assert_eq!(sessions.len(), 1, "round {round}: {sessions:?}");
        let error = client.error_code(chat(&session, "hello?")).await;
        assert_eq!(error, "session_not_found");
        assert_eq!(client.history(&past).await, log, "the past is as it was");
    }
}

/// Sends a command, and kills the server a moment later; what the command is answered in the end.
async fn answered_across_a_crash(
    phoenix: &mut Phoenix,
    witness: &Witness,
    command: Value,
    moment: Duration,
) -> Value {
    let answer = witness.send(command);
    tokio::time::sleep(moment).await;
    phoenix.crash();
    within("an answer", answer).await.expect("the witness lives").expect("it is accepted")
}

// ---- what a crash leaves of a run ----

/// A slow answer is saved by the clock: at 20 pieces a second 2 KiB would take half a minute.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_takes_a_second_of_a_slow_answer_at_most() {
    const SHOWN: usize = 300;
    /// A piece is four bytes, and there are twenty of them a second; a busy machine gets a second more.
    const TWO_SECONDS: usize = 2 * 20 * 4;
    let mut phoenix = Phoenix::start(&[]);
    let witness = phoenix.witness("w0");
    let session = witness.create("helper").await;
    let data = witness.must(chat(&session, "/count 100000 50")).await;
    let run_id = data["run_id"].as_str().expect("a run");
    witness.until_streaming(run_id, SHOWN).await;
    phoenix.crash();

    witness.until_ended(run_id).await;
    let shown = witness.notes().texts.values().map(|streamed| streamed.text.len()).max().unwrap_or_default();
    let oracle = Oracle { lost_bytes: TWO_SECONDS, lost_time: Duration::ZERO, ..Oracle::expecting(KILLED) };
    let logs = phoenix.judge(&oracle, vec![witness]).await;
    let log = &logs[&topic(&session)];
    let of_run: Vec<_> = log.iter().filter(|event| event["run_id"] == run_id).collect();
    let kept = of_run.iter().find(|event| event["type"] == "agent_response").expect("an answer");
    println!("{shown} bytes shown, {} kept", kept["data"]["content"].as_str().map_or(0, str::len));
    assert_eq!(kept["data"]["incomplete"], true);
    assert_eq!(types(&of_run)[..2], ["user_message", "run_started"]);
    assert_eq!(types(&of_run)[of_run.len() - 2..], ["error", "run_finished"]);
    assert_eq!(of_run[of_run.len() - 2]["error"]["code"], "interrupted");
    assert_eq!(of_run[of_run.len() - 1]["data"]["outcome"], "interrupted");
    assert_eq!(of_run[of_run.len() - 1]["data"]["reason"], "crashed");
}

/// Nobody comes back to it: it is found all the same, and what waited runs.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_runs_in_order_after_a_crash_though_nobody_comes() {
    let mut phoenix = Phoenix::start(&[]);
    let witness = phoenix.witness("w0");
    let session = witness.create("helper").await;
    let mut runs = Vec::new();
    for text in ["/count 100000 10", "/echo one", "/echo two", "/count 30 5", "/echo three"] {
        let data = witness.must(chat(&session, text)).await;
        runs.push(data["run_id"].as_str().expect("a run").to_owned());
    }
    witness.until_streaming(&runs[0], 1).await;
    let notes = witness.leave().await;
    phoenix.crash();

    // The list touches no session. Of the run that was cut, an answer need not have been kept.
    const EVENTS: u64 = 3 + 4 + 4 * 5;
    let mut client = phoenix.server().client().await;
    until("the session to be at rest", async || {
        let sessions = all_sessions(&mut client).await;
        sessions[0]["status"] == "idle" && sessions[0]["head"].as_u64() >= Some(EVENTS)
    })
    .await;
    let log = client.history(&session).await;
    let ends: Vec<_> = log.iter().filter(|event| event["type"] == "run_finished").collect();
    let ended: Vec<_> = ends.iter().map(|end| end["run_id"].as_str().expect("a run")).collect();
    assert_eq!(ended, runs, "in order");
    let outcomes: Vec<_> =
        ends.iter().map(|end| end["data"]["outcome"].as_str().expect("an outcome")).collect();
    assert_eq!(outcomes, ["interrupted", "completed", "completed", "completed", "completed"]);
    let logs = Logs::from([(topic(&session), log)]);
    Oracle::expecting(KILLED).assert(&[notes], &logs);
}

// ---- stops ----

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_and_a_start_lose_nothing_and_what_waits_runs_then() {
    const DRAINED: &[u16] = &[4004, 1006];
    let mut phoenix = Phoenix::start(&[("DUOLOGUE_DRAIN_SECS", "1")]);
    let witness = phoenix.witness("w0");
    let session = witness.create("helper").await;
    let mut runs = Vec::new();
    for text in ["/count 100000 20", "/echo one", "/echo two"] {
        let data = witness.must(chat(&session, text)).await;
        runs.push(data["run_id"].as_str().expect("a run").to_owned());
    }
    witness.until_streaming(&runs[0], 20).await;

    phoenix.server().signal(Signal::SIGTERM);
    until("/ready to fail", async || phoenix.server().get("/ready").await.0 == 503).await;
    // Comes in while nothing new is taken on: it is done by the next server, once.
    let late = witness.send(chat(&session, "/echo late"));
    phoenix.ended().await;
    phoenix.rise();

    let late = within("the answer", late).await.expect("the witness lives").expect("it is accepted");
    runs.push(late["run_id"].as_str().expect("a run").to_owned());
    for run_id in &runs {
        witness.until_ended(run_id).await;
    }
    let logs = phoenix.judge(&Oracle::expecting(DRAINED), vec![witness]).await;
    let ends: Vec<_> =
        logs[&topic(&session)].iter().filter(|event| event["type"] == "run_finished").collect();
    let outcomes: Vec<_> =
        ends.iter().map(|end| end["data"]["outcome"].as_str().expect("an outcome")).collect();
    assert_eq!(outcomes, ["interrupted", "completed", "completed", "completed"]);
    assert_ne!(ends[0]["data"]["reason"], "crashed", "it was ended in an orderly way");
}

#[tokio::test(flavor = "multi_thread")]
async fn drains_and_crashes_by_turns_lose_nothing() {
    let phoenix = Phoenix::start(&[("DUOLOGUE_DRAIN_SECS", "0")]);
    under(phoenix, seed(), &Oracle::expecting(&[1006, 4004]), async |phoenix, mut random| {
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(random.random_range(100..1500))).await;
            phoenix.server().signal(Signal::SIGTERM);
            phoenix.ended().await;
            phoenix.rise();
            tokio::time::sleep(Duration::from_millis(random.random_range(0..500))).await;
            phoenix.crash();
        }
    })
    .await;
}
