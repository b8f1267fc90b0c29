//! What operators do with a server: look at it, stop it, starve it, suspend it, misconfigure it.

use std::{process::Stdio, time::Duration};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    hostile::Raw,
    support::{
        Client, Server, Socket, assert_contiguous, chat, create, duologue, durable, manage, scratch_dir,
        subscribe_from, topic, types, until,
    },
};

// ---- health ----

#[tokio::test]
async fn a_server_says_that_it_lives_and_is_ready() {
    let server = Server::start();

    let (status, body) = server.get("/health").await;
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["status"], "ok");
    let (status, body) = server.get("/ready").await;
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["status"], "ready");
}

// ---- drain ----

#[tokio::test]
async fn a_drain_lets_the_run_end_and_tells_every_socket() {
    let mut server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    let running = client.chat(&session, "/count 20 50").await;
    let queued = client.chat(&session, "/echo next").await;

    server.signal(Signal::SIGTERM);
    until("/ready to fail", async || server.get("/ready").await.0 == 503).await;
    assert_eq!(server.get("/health").await.0, 200, "it still lives");
    assert_eq!(client.error_code(chat(&session, "too late")).await, "unavailable");
    assert!(Socket::try_open(&server.url("/ws/backend-api")).await.is_none(), "no new connections");

    let frames = client
        .frontend
        .collect_until("connection_closed", |frame| frame["type"] == "connection_closed")
        .await;
    let end = frames.iter().find(|frame| frame["type"] == "run_finished").expect("the run's end");
    assert_eq!((&end["run_id"], &end["data"]["outcome"]), (&json!(running), &json!("completed")));
    let begun =
        frames.iter().any(|frame| frame["type"] == "run_started" && frame["run_id"] == queued.as_str());
    assert!(!begun, "what waits does not begin");
    assert_eq!(frames.last().expect("a frame")["data"]["code"], 4004);
    assert_eq!(client.frontend.close_code().await, 4004);
    assert_eq!(client.backend.close_code().await, 4004);
    assert!(server.ended().await.success());
}

#[tokio::test]
async fn a_run_that_outlasts_the_drain_is_interrupted() {
    let mut server = Server::with(&[("DUOLOGUE_DRAIN_SECS", "1")]);
    let mut client = server.client().await;
    let session = client.create("helper").await;
    let run_id = client.chat(&session, "/count 100000 20").await;
    client.frontend.next_where("a delta", |frame| frame["type"] == "message.delta").await;

    server.signal(Signal::SIGTERM);

    let frames = client.until_run_ends(&run_id).await;
    let end: Vec<_> = frames.iter().filter(|frame| frame["seq"].is_u64()).collect();
    let last = &types(&end)[end.len() - 4..];
    assert_eq!(last, ["agent_response", "context_update", "error", "run_finished"]);
    assert_eq!(end[end.len() - 4]["data"]["incomplete"], true);
    assert_eq!(end[end.len() - 2]["error"]["code"], "interrupted");
    assert_eq!(end[end.len() - 1]["data"]["outcome"], "interrupted");
    assert!(server.ended().await.success());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut server = Server::with(&[("DUOLOGUE_DRAIN_SECS", "3600")]);
    let mut client = server.client().await;
    let session = client.create("helper").await;
    client.chat(&session, "/think 3600000").await;

    server.signal(Signal::SIGINT);
    until("/ready to fail", async || server.get("/ready").await.0 == 503).await;
    server.signal(Signal::SIGINT);

    assert_eq!(server.ended().await.code(), Some(1));
}

// ---- restarts ----

#[tokio::test]
async fn a_server_that_lost_its_memory_says_so() {
    let memory = [("DUOLOGUE_STORE", "memory:")];
    let server = Server::with(&memory);
    let mut client = server.client().await;
    let session = client.create("helper").await;
    client.chat(&session, "/count 100000 20").await;
    let event = client.frontend.next_where("an event", |frame| frame["seq"] == 5).await;
    let epoch = event["epoch"].as_str().expect("an epoch").to_owned();
    let dir = server.kill();
    // It died with its process: the connection breaks without a word.
    assert_eq!(client.frontend.close_code().await, 1006);

    let server = Server::start_in(&dir, &memory);
    let mut client = Client::open(&server, &client.id).await;
    let frame = subscribe_from(&topic(&session), &epoch, 5);
    client.frontend.send(&frame).await;

    let answer = client.frontend.next().await;
    assert_eq!(answer["type"], "subscribe_error");
    assert_eq!(answer["error"]["code"], "session_not_found");
    assert_eq!(client.error_code(chat(&session, "hello?")).await, "session_not_found");
    let new = client.create("helper").await;
    assert_eq!(client.run(&new, "/echo hello").await, "completed");
}

#[tokio::test]
async fn a_server_that_was_killed_has_all_that_it_acknowledged() {
    let server = Server::start();
    let mut client = server.client().await;
    let created = client.must(create("helper")).await;
    let (session, epoch) = (created["session_id"].as_str().unwrap(), created["epoch"].as_str().unwrap());
    let mut command = chat(session, "/count 100000 20");
    command["message_id"] = "once".into();
    let first = client.backend.ask(&command).await;
    let queued = client.chat(session, "/echo next").await;
    let mut shown = String::new();
    while shown.len() < 500 {
        let delta = client.frontend.next_where("a delta", |frame| frame["type"] == "message.delta").await;
        shown.push_str(delta["data"]["text"].as_str().expect("a text"));
    }
    let id = client.id.clone();
    let dir = server.kill();

    let server = Server::start_in(&dir, &[]);
    let mut client = server.client().await;
    client.frontend.send(&subscribe_from(&topic(session), epoch, 1)).await;
    let ack = client.frontend.next_where("an ack", |frame| frame["type"] == "subscribe_ack").await;
    assert_eq!(ack["data"]["topics"][0]["recovered"], true, "{ack}");
    let frames = client.until_run_ends(&queued).await;

    let log = durable(&frames, session);
    assert_contiguous(&log, 1);
    let cut = log.iter().find(|event| event["type"] == "agent_response").expect("what was said is kept");
    let kept = cut["data"]["content"].as_str().expect("a text");
    assert_eq!(cut["data"]["incomplete"], true);
    assert!(kept.starts_with(&shown) || shown.starts_with(kept), "{kept}");
    assert!(shown.len().saturating_sub(kept.len()) <= 2048, "{} of {}", kept.len(), shown.len());
    let outcomes: Vec<_> = log
        .iter()
        .filter(|event| event["type"] == "run_finished")
        .map(|event| (event["run_id"].clone(), event["data"]["outcome"].clone()))
        .collect();
    let run_id = first["data"]["run_id"].clone();
    assert_eq!(outcomes, [(run_id.clone(), json!("interrupted")), (json!(queued), json!("completed"))]);

    let mut same = Socket::open(&server.url(&format!("/ws/backend-api?client_id={id}"))).await;
    let again = same.ask(&command).await;
    assert_eq!((&again["data"]["duplicate"], &again["data"]["run_id"]), (&json!(true), &run_id));
}

// ---- suspension ----

/// The process stands still for 15 s, as a machine that sleeps: nobody is dropped for that, and nothing comes
/// in a burst.
#[tokio::test]
async fn a_suspended_server_goes_on_where_it_was() {
    let server = Server::with(&[("DUOLOGUE_HEARTBEAT_SECS", "2")]);
    let mut client = server.client().await;
    let session = client.create("helper").await;
    let run_id = client.chat(&session, "/count 40 100").await;
    client.frontend.next_where("a delta", |frame| frame["type"] == "message.delta").await;
    let mut silent = Raw::upgrade(&server).await;

    server.signal(Signal::SIGSTOP);
    // The length of the suspension is what is tested.
    tokio::time::sleep(Duration::from_secs(15)).await;
    server.signal(Signal::SIGCONT);

    let frames = client.until_run_ends(&run_id).await;
    let text = frames.iter().rev().find(|frame| frame["type"] == "agent_response").expect("an answer");
    let expected = (1..=40).map(|number| number.to_string()).collect::<Vec<_>>().join(" ");
    assert_eq!(text["data"]["content"], expected);
    assert_eq!(server.connections().await, 3, "all connections are still there");
    // One every two seconds while it ran; those that fell into the suspension do not follow.
    let mut heartbeats = 0;
    while let Ok(Some((_, payload))) =
        tokio::time::timeout(Duration::from_millis(500), silent.read_frame()).await
    {
        heartbeats += usize::from(String::from_utf8_lossy(&payload).contains("\"heartbeat\""));
    }
    assert!((1..=4).contains(&heartbeats), "{heartbeats} heartbeats");
}

// ---- scarcity ----

#[tokio::test]
async fn a_server_out_of_files_keeps_what_it_has_and_recovers() {
    const FILES: u64 = 64;
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    limit_files(&server, FILES);

    let mut others = Vec::new();
    for _ in 0..FILES {
        others.push(tokio::net::TcpStream::connect(server.addr).await.expect("the kernel queues it"));
    }
    until("all files to be in use", async || server.open_files() as u64 >= FILES).await;
    assert_eq!(client.run(&session, "/count 20").await, "completed", "those connected notice nothing");
    drop(others);

    let mut late = server.client().await;
    let session = late.create("helper").await;
    assert_eq!(late.run(&session, "/echo hello").await, "completed");
}

/// Sets how many files a running process may have open.
fn limit_files(server: &Server, files: u64) {
    let status = std::process::Command::new("prlimit")
        .args([format!("--pid={}", server.pid()), format!("--nofile={files}:{files}")])
        .status()
        .expect("util-linux is there");
    assert!(status.success());
}

#[tokio::test]
async fn a_full_store_refuses_new_work_and_takes_it_again_when_there_is_room() {
    let server = Server::with(&[("DUOLOGUE_STORE", "memory:"), ("DUOLOGUE_MEMORY_STORE_BYTES", "1048576")]);
    let mut client = server.client().await;
    let old = client.create("writer").await;
    let mut current = client.create("writer").await;
    let long = "x".repeat(100_000);
    let mut answers = 0;
    let refusal = loop {
        let reply = client.command(chat(&current, &format!("/echo {long}"))).await;
        if reply["ok"] == false {
            break reply["error"].clone();
        }
        client.until_run_ends(reply["data"]["run_id"].as_str().expect("a run")).await;
        answers += 1;
        assert!(answers < 20, "the store has a bound");
        if answers == 1 {
            current = client.create("writer").await;
        }
    };
    assert_eq!((&refusal["code"], &refusal["retryable"]), (&json!("unavailable"), &json!(true)));

    // A closed session makes room, and its going is told to whoever shows the list.
    client.must(manage(&current, "close")).await;
    let run_id = client.chat(&old, &format!("/echo {long}")).await;
    let is_end = |frame: &Value| frame["type"] == "run_finished" && frame["run_id"] == run_id;
    let end = client.frontend.next_where("the run's end", is_end).await;
    assert_eq!(end["data"]["outcome"], "completed", "open sessions stay");
    let removed = client.frontend.next_where("the removal", |frame| frame["data"]["removed"] == true).await;
    assert_eq!(
        (&removed["type"], &removed["data"]["session_id"]),
        (&json!("session_list_changed"), &json!(current))
    );
}

// ---- the page ----

#[tokio::test]
async fn the_page_is_served_with_its_policy_or_says_how_to_build_it() {
    let server = Server::start();
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", server.addr);

    let (head, body) = server.request(&request).await;

    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/static/dist/index.html");
    if std::path::Path::new(built).exists() && head.starts_with("HTTP/1.1 200") {
        assert!(head.to_lowercase().contains("content-security-policy: default-src 'none'"), "{head}");
        assert!(head.to_lowercase().contains("cache-control: no-cache"), "{head}");
    } else {
        assert!(head.starts_with("HTTP/1.1 404"), "{head}");
        assert!(body.contains("npm run build"), "{body}");
    }
    let (of_head, nothing) = server.request(&request.replacen("GET", "HEAD", 1)).await;
    let length = |head: &str| head.lines().find(|line| line.starts_with("content-length")).map(str::to_owned);
    assert_eq!((length(&of_head), nothing.as_str()), (length(&head), ""), "as a GET's, without the body");
    assert_eq!(server.get("/no/such/file").await.0, 404);
    assert_eq!(server.get("/../Cargo.toml").await.0, 404);
}

// ---- mistakes in the settings ----

/// What a server that cannot start says, and its exit status.
fn refusal(environment: &[(&str, &str)], files: &[(&str, &str)]) -> (String, Option<i32>) {
    let dir = scratch_dir();
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/agents.toml"), dir.join("agents.toml"))
        .expect("a copy");
    for (name, text) in files {
        std::fs::write(dir.join(name), text).expect("a file can be written");
    }
    let output = duologue(&dir, environment).arg("serve").stdin(Stdio::null()).output().expect("it runs");
    let error = String::from_utf8(output.stderr).expect("text");
    (error.lines().next().unwrap_or_default().to_owned(), output.status.code())
}

#[test]
fn a_server_that_cannot_start_says_why_in_its_first_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().expect("an address").to_string();
    let typo = "[[agents]]\nid = \"a\"\nname = \"A\"\nmodle = \"demo\"\n";
    for (environment, files, expected) in [
        (vec![("DUOLOGUE_BIND", "0.0.0.0:0")], vec![], "DUOLOGUE_BIND: 0.0.0.0:0 can be reached"),
        (vec![("DUOLOGUE_BIND", taken.as_str())], vec![], "cannot listen on"),
        (
            vec![("DUOLOGUE_STORE", "redis://localhost")],
            vec![],
            "DUOLOGUE_STORE: the store \"redis://localhost\" is not built yet",
        ),
        (vec![("DUOLOGUE_AGENTS", "none.toml")], vec![], "none.toml: there is no such file"),
        (
            vec![],
            vec![("agents.toml", typo)],
            "agents.toml line 4: there is no key \"modle\"; did you mean \"model\"?",
        ),
        (
            vec![],
            vec![(".env", "# a comment\n\nDUOLOGUE_WORKERS=many\n")],
            ".env line 3: DUOLOGUE_WORKERS: expected a number",
        ),
        (vec![], vec![(".env", "DUOLOGUE_WORKERS\n")], ".env line 1: expected KEY=value"),
    ] {
        let (line, status) = refusal(&environment, &files);

        assert!(line.starts_with(&format!("duologue: {expected}")), "{line}");
        assert_eq!(status, Some(2), "{line}");
    }
}
