//! The wall clock jumps: time that is counted goes on as if nothing had happened.

use std::{collections::BTreeMap, fs, path::Path, sync::atomic::AtomicBool, time::Duration};

use futures_util::future::join_all;
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use crate::{
    crash::{Phoenix, live, seed},
    oracle::{Oracle, all_sessions},
    support::{Client, assert_well_formed, chat, scratch_dir, until},
};

const JUMPS: [&str; 4] = ["+3600", "+0", "-3600", "+0"];

/// A library that stands between a program and the clock: the Debian package `faketime` has it.
fn library() -> String {
    let folders = fs::read_dir("/usr/lib").expect("a directory").flatten().map(|entry| entry.path());
    let mut places =
        folders.chain(["/usr/lib".into()]).map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    let found = places.find(|path| path.exists());
    let found = found.expect("libfaketimeMT.so.1 is below /usr/lib: apt-get install faketime");
    found.display().to_string()
}

/// How far the clock is off, from now on.
fn set_clock(dir: &Path, offset: &str) {
    let (clock, next) = (dir.join("clock"), dir.join("clock.new"));
    fs::write(&next, format!("{offset}\n")).expect("a file");
    fs::rename(next, clock).expect("it takes its place");
}

fn start_with_clock(settings: &[(&'static str, &'static str)]) -> Phoenix {
    let dir = scratch_dir();
    set_clock(&dir, "+0");
    let leak = |text: String| &*Box::leak(text.into_boxed_str());
    let library = leak(library());
    let clock = leak(dir.join("clock").display().to_string());
    let environment = [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", clock),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("NO_FAKE_STAT", "1"),
    ];
    Phoenix::start_in(&dir, &[&environment[..], settings].concat())
}

/// What the server takes the time to be, in seconds.
async fn server_time(client: &mut Client, session: &str) -> i64 {
    let run_id = client.chat(session, "/echo what time is it?").await;
    let frames = client.until_run_ends(&run_id).await;
    let end = frames.last().expect("an end")["timestamp"].as_str().expect("a time");
    end.parse::<jiff::Timestamp>().expect("RFC 3339").as_second()
}

/// When each session was last changed; and that lists are in order, and pages of them leave nothing out.
async fn checked_list(client: &mut Client) -> BTreeMap<String, String> {
    let whole = all_sessions(client).await;
    let text = |session: &Value, key: &str| session[key].as_str().expect("a text").to_owned();
    let key = |session: &Value| (text(session, "updated_at"), text(session, "session_id"));
    for pair in whole.windows(2) {
        let ((newer, first), (older, second)) = (key(&pair[0]), key(&pair[1]));
        assert!(newer > older || (newer == older && first != second), "{pair:?}");
    }
    for session in &whole {
        assert!(text(session, "created_at") <= text(session, "updated_at"), "{session}");
    }
    whole.iter().map(|session| (text(session, "session_id"), text(session, "updated_at"))).collect()
}

/// A list in pages of three, of sessions that are at rest: the ids in order.
async fn paged(client: &mut Client) -> Vec<String> {
    let (mut ids, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let mut list = json!({ "type": "session_management", "data": { "action": "list", "limit": 3 } });
        if cursor.is_string() {
            list["data"]["cursor"] = cursor;
        }
        let page = client.must(list).await;
        for session in page["sessions"].as_array().expect("sessions") {
            ids.push(session["session_id"].as_str().expect("an id").to_owned());
        }
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            return ids;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_by_an_hour_disturbs_nobody() {
    const LIVES: u64 = 3;
    // An hour is longer than any of these, and than what a connection may be silent.
    let settings = [("DUOLOGUE_SESSION_IDLE_SECS", "600"), ("DUOLOGUE_HEARTBEAT_SECS", "1")];
    let phoenix = start_with_clock(&settings);
    let (seed, going) = (seed(), AtomicBool::new(true));
    let witnesses: Vec<_> = (0..LIVES).map(|number| phoenix.witness(&format!("w{number}"))).collect();
    let silent = phoenix.witness("silent");
    let idle = silent.create("helper").await;
    let streaming = silent.create("helper").await;
    let run = silent.must(chat(&streaming, "/count 100000 20")).await;
    let mut client = phoenix.server().client().await;
    let clock = client.create("helper").await;
    let server = phoenix.server();
    // Sent before any jump, and again after each.
    let mut early = chat(&clock, "/echo early");
    early["message_id"] = "sent early".into();
    let accepted = client.backend.ask(&early).await;
    assert_eq!(accepted["data"]["duplicate"], false, "{accepted}");

    let jumping = async {
        let mut changed = checked_list(&mut client).await;
        let mut offset = 0;
        for jump in JUMPS {
            let mut fresh = chat(&clock, "/echo fresh");
            fresh["message_id"] = format!("sent before {jump}").into();
            assert_eq!(client.backend.ask(&fresh).await["ok"], true);
            let (before, loaded) = (server_time(&mut client, &clock).await, agents(server).await);
            set_clock(&phoenix.dir, jump);
            let now: i64 = jump.parse().expect("a number of seconds");
            let after = server_time(&mut client, &clock).await;
            let moved = after - before - (now - offset);
            assert!((0..600).contains(&moved), "the clock does not jump: {before} became {after} by {jump}");
            offset = now;

            // Heartbeats and looks for what is idle come several times in the meantime.
            tokio::time::sleep(Duration::from_secs(3)).await;
            assert!(agents(server).await >= loaded, "a session was let go");
            for again in [&early, &fresh] {
                let reply = client.backend.ask(again).await;
                assert_eq!(
                    (&reply["ok"], &reply["data"]["duplicate"]),
                    (&json!(true), &json!(true)),
                    "{reply}"
                );
            }
            let now_changed = checked_list(&mut client).await;
            for (session, at) in &changed {
                assert!(
                    &now_changed[session] >= at,
                    "{session} was changed at {at}, and now at {}",
                    now_changed[session]
                );
            }
            changed = now_changed;
        }
        going.store(false, std::sync::atomic::Ordering::Relaxed);
    };
    let random = |number| StdRng::seed_from_u64(seed.wrapping_add(number));
    let living =
        join_all((0..LIVES).zip(&witnesses).map(|(number, witness)| live(witness, random(number), &going)));
    tokio::join!(jumping, living);

    let run_id = run["run_id"].as_str().expect("a run");
    let stop = crate::support::stop(&streaming, json!({ "run_id": run_id }));
    assert_eq!(silent.must(stop).await["outcome"], "cancelled");
    let after = silent.must(chat(&idle, "/echo still here")).await;
    silent.until_ended(after["run_id"].as_str().expect("a run")).await;
    let mut whole = Vec::new();
    until("every session to be at rest", async || {
        whole = all_sessions(&mut client).await;
        whole.iter().all(|session| session["status"] != "running")
    })
    .await;
    let ids: Vec<_> = whole.iter().map(|session| session["session_id"].as_str().expect("an id")).collect();
    assert_eq!(paged(&mut client).await, ids);
    // This client is none of the witnesses; what it said is no concern of theirs.
    client.must(crate::support::manage(&clock, "delete")).await;
    drop(client);
    phoenix.judge(&Oracle::expecting(&[]), witnesses.into_iter().chain([silent]).collect()).await;
}

/// Sessions that are in memory.
async fn agents(server: &crate::support::Server) -> u64 {
    server.ready().await["agents_in_memory"].as_u64().expect("a number")
}

/// Ten minutes are ten minutes while the server is up, however its clock is set; over a restart only the clock knows.
#[tokio::test]
async fn a_call_that_nobody_allows_waits_by_the_time_that_passes_and_over_a_restart_by_the_clock() {
    let mut phoenix = start_with_clock(&[]);
    let mut client = phoenix.server().client().await;
    let session = client.create("clerk").await;
    let run_id = client.chat(&session, "/tool clock").await;
    client.frontend.next_where("a request", |frame| frame["type"] == "approval_requested").await;
    set_clock(&phoenix.dir, "+3600");
    let other = client.create("helper").await;
    server_time(&mut client, &other).await;
    let state = all_sessions(&mut client).await;
    let clerk = state.iter().find(|other| other["session_id"] == session.as_str()).expect("it is there");
    assert_eq!(clerk["status"], "waiting_approval");

    phoenix.crash();

    let mut client = phoenix.server().client().await;
    let mut log = Vec::new();
    until("the end of the run", async || {
        log = client.history(&session).await;
        log.last().is_some_and(|event| event["type"] == "run_finished")
    })
    .await;
    let resolved = log.iter().find(|event| event["type"] == "approval_resolved").expect("it is denied");
    assert_eq!((&resolved["data"]["decision"], &resolved["data"]["by"]), (&json!("denied"), &Value::Null));
    let answer = log.iter().find(|event| event["type"] == "agent_response").expect("an answer");
    assert!(answer["data"]["content"].as_str().expect("a text").contains("in time"), "{answer}");
    let end = log.last().expect("an end");
    assert_eq!((&end["run_id"], &end["data"]["outcome"]), (&json!(run_id), &json!("completed")));
    assert_well_formed(&log);
}
