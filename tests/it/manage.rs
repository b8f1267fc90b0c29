//! What users do with their sessions: fork, delete, find, export and back them up.

use serde_json::{Value, json};

use crate::support::{
    Client, Server, chat, create, duologue, durable, manage, stop, subscribe, subscribe_from, topic, until,
};

fn fork(session: &str, at_seq: u64) -> Value {
    json!({ "type": "session_management", "session_id": session, "data": { "action": "fork", "at_seq": at_seq } })
}

fn search(query: &str) -> Value {
    json!({ "type": "session_management", "data": { "action": "search", "query": query } })
}

/// What an event says, without what tells its log from another.
fn content(event: &Value) -> Value {
    json!([event["type"], event["seq"], event["message_id"], event["run_id"], event["data"]])
}

// ---- fork ----

#[tokio::test]
async fn a_fork_has_the_past_of_its_session_and_a_future_of_its_own() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("writer").await;
    client.run(&session, "/echo one").await;
    let at_seq = client.history(&session).await.len() as u64;
    client.run(&session, "/echo two").await;
    let past = client.history(&session).await;

    let reply = client.must(fork(&session, at_seq)).await;

    let forked = reply["session_id"].as_str().expect("an id").to_owned();
    let is_its = |frame: &Value| frame["session_id"] == forked.as_str();
    let ack = client.frontend.next_where("an ack", |frame| frame["type"] == "subscribe_ack").await;
    assert_eq!(ack["data"]["topics"][0]["reason"], "new", "{ack}");
    let snapshot =
        client.frontend.next_where("a snapshot", |frame| frame["type"] == "session_snapshot").await;
    assert!(is_its(&snapshot), "{snapshot}");
    assert_eq!((&snapshot["epoch"], &snapshot["data"]["head"]), (&reply["epoch"], &json!(at_seq)));
    let log = client.history(&forked).await;
    assert_eq!(log[0]["data"]["forked_from"], json!({ "session_id": session, "at_seq": at_seq }));
    let copied = past[1..].iter().take_while(|event| event["seq"].as_u64() <= Some(at_seq));
    let (log, copied): (Vec<_>, Vec<_>) =
        (log[1..].iter().map(content).collect(), copied.map(content).collect());
    assert_eq!(log, copied);

    assert_eq!(client.run(&forked, "/echo other").await, "completed");
    assert_eq!(client.history(&session).await.len(), past.len(), "the old one knows nothing of it");
    let list = client.must(manage("", "list")).await;
    let ids: Vec<_> =
        list["sessions"].as_array().expect("a list").iter().map(|one| &one["session_id"]).collect();
    assert_eq!(ids, [forked.as_str(), session.as_str()]);
}

#[tokio::test]
async fn a_fork_in_mid_run_names_the_nearest_point_that_will_do() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("writer").await;
    let run_id = client.chat(&session, "/count 100000 20").await;
    let log = client.history(&session).await;
    let started = log.last().expect("an event")["seq"].as_u64().expect("a number");

    let reply = client.command(fork(&session, started)).await;

    assert_eq!(reply["error"]["code"], "invalid_field", "{reply}");
    assert_eq!(reply["error"]["details"]["field"], "data.at_seq");
    let nearest = reply["error"]["details"]["nearest"].as_u64().expect("a number");
    assert_eq!(nearest, started - 2, "before the message");
    client.must(fork(&session, nearest)).await;
    client.must(stop(&session, json!({ "run_id": run_id }))).await;
    assert_eq!(client.error_code(fork(&session, 1_000)).await, "invalid_field");
    assert_eq!(client.error_code(fork("writer_999999", 1)).await, "session_not_found");
    let no_number =
        json!({ "type": "session_management", "session_id": session, "data": { "action": "fork" } });
    assert_eq!(client.error_code(no_number).await, "invalid_field");
}

// ---- delete ----

#[tokio::test]
async fn a_deleted_session_is_told_to_all_and_is_no_more() {
    let server = Server::start();
    let mut client = server.client().await;
    let mut other = server.client().await;
    let created = client.must(create("writer")).await;
    let (session, epoch) = (created["session_id"].as_str().unwrap(), created["epoch"].as_str().unwrap());
    other.frontend.send(&subscribe(&[&topic(session)])).await;
    other.frontend.next_where("a snapshot", |frame| frame["type"] == "session_snapshot").await;
    client.chat(session, "/count 100000 20").await;

    client.must(manage(session, "delete")).await;

    for frontend in [&mut client.frontend, &mut other.frontend] {
        let frames = frontend
            .collect_until("the deletion", |frame| {
                frame["type"] == "session_closed" && frame["data"]["reason"] == "deleted"
            })
            .await;
        let deleted = frames.last().expect("a frame");
        assert!(deleted.get("seq").is_none(), "it is in no log: {deleted}");
        let end = durable(&frames, session);
        let end = end.iter().find(|event| event["type"] == "run_finished").expect("its run has ended");
        assert_eq!(end["data"]["outcome"], "cancelled");
        frontend
            .next_where("its removal from the list", |frame| {
                frame["type"] == "session_list_changed" && frame["data"]["removed"] == true
            })
            .await;
    }
    for command in [chat(session, "hello?"), manage(session, "delete"), manage(session, "history")] {
        assert_eq!(client.error_code(command).await, "session_not_found");
    }
    client.frontend.send(&subscribe_from(&topic(session), epoch, 1)).await;
    let refused = client.frontend.next_where("a refusal", |frame| frame["type"] == "subscribe_error").await;
    assert_eq!(refused["error"]["code"], "session_not_found");
    assert_eq!(client.must(manage("", "list")).await["sessions"], json!([]));
    assert_eq!(server.ready().await["topics_in_memory"], 0);
}

#[tokio::test]
async fn a_closed_session_can_be_deleted_and_a_deletion_is_done_once() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("writer").await;
    client.must(manage(&session, "close")).await;
    let mut command = manage(&session, "delete");
    command["message_id"] = "once".into();

    let first = client.backend.ask(&command).await;
    let again = client.backend.ask(&command).await;

    assert_eq!((&first["ok"], &first["data"]["duplicate"]), (&json!(true), &json!(false)), "{first}");
    assert_eq!((&again["ok"], &again["data"]["duplicate"]), (&json!(true), &json!(true)), "{again}");
}

// ---- search ----

#[tokio::test]
async fn messages_are_found_by_their_words_in_the_store_of_each_kind() {
    for store in ["memory:", "sqlite:data/duologue.db"] {
        let server = Server::with(&[("DUOLOGUE_STORE", store)]);
        let mut client = server.client().await;
        let (first, second) = (client.create("writer").await, client.create("writer").await);
        client.run(&first, "/echo the quick brown fox").await;
        client.run(&second, "/echo a slow brown bear").await;
        let hits = async |client: &mut Client, query: &str| {
            let reply = client.must(search(query)).await;
            let hits = reply["hits"].as_array().expect("hits").clone();
            hits.iter().map(|hit| hit["session_id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
        };
        // What was just said is found a moment later: the index comes after the log.
        until("all to be indexed", async || client.must(search("brown")).await.get("indexed_to").is_none())
            .await;

        // The message and the answer, newest first.
        assert_eq!(
            hits(&mut client, "brown").await,
            [&second, &second, &first, &first].map(String::clone),
            "{store}"
        );
        assert_eq!(hits(&mut client, "quick FO").await, [&first, &first].map(String::clone));
        assert_eq!(hits(&mut client, "brown OR bear\"*").await, [] as [String; 0], "no operator is meant");
        let hit = client.must(search("bear")).await["hits"][0].clone();
        assert!(hit["excerpt"].as_str().is_some_and(|text| text.contains("slow brown bear")), "{hit}");
        let event = &client.history(&second).await[hit["seq"].as_u64().expect("a number") as usize - 1];
        assert_eq!(event["type"], "agent_response");

        client.must(manage(&second, "delete")).await;
        assert_eq!(hits(&mut client, "brown").await, [&first, &first].map(String::clone), "{store}");
        for wrong in [search(" - "), search("")] {
            assert_eq!(client.error_code(wrong).await, "invalid_field");
        }
    }
}

#[tokio::test]
async fn a_search_is_read_page_by_page() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("writer").await;
    for number in 0..40 {
        client.run(&session, &format!("/echo needle {number}")).await;
    }
    until("all to be indexed", async || client.must(search("needle")).await.get("indexed_to").is_none())
        .await;

    let mut seqs = Vec::new();
    let mut command = search("needle");
    loop {
        let page = client.must(command.clone()).await;
        seqs.extend(page["hits"].as_array().expect("hits").iter().filter_map(|hit| hit["seq"].as_u64()));
        match page["next_cursor"].as_str() {
            Some(cursor) => command["data"]["cursor"] = cursor.into(),
            None => break,
        }
    }

    assert_eq!(seqs.len(), 80);
    assert!(seqs.is_sorted_by(|one, next| one > next), "newest first, each once: {seqs:?}");
    command["data"]["cursor"] = "%".into();
    assert_eq!(client.error_code(command).await, "invalid_field");
}

// ---- export, backup ----

#[tokio::test]
async fn an_export_is_the_log_by_http_and_on_the_command_line() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    for _ in 0..3 {
        client.run(&session, "/count 20000").await;
    }
    client.must(json!({
        "type": "session_management", "session_id": session, "data": { "action": "rename", "title": "Trip *plan*" },
    })).await;
    let log = client.history(&session).await;
    let path = format!("/api/v1/sessions/{session}/export");

    let (status, lines) = server.get(&path).await;
    assert_eq!(status, 200);
    let exported: Vec<Value> =
        unchunked(&lines).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(exported, log);
    let (_, markdown) = server.get(&format!("{path}?format=markdown")).await;
    let markdown = unchunked(&markdown);
    assert!(markdown.starts_with("# Trip *plan*\n"), "{markdown}");
    let answers = log.iter().filter(|event| event["type"] == "agent_response");
    for answer in answers {
        assert!(markdown.contains(answer["data"]["content"].as_str().expect("a text")));
    }

    // Beside the running server.
    for (format, expected) in [("jsonl", unchunked(&lines)), ("markdown", markdown)] {
        let output = duologue(&server.dir, &[])
            .args(["export", &session, "--format", format])
            .output()
            .expect("it runs");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert_eq!(String::from_utf8(output.stdout).expect("text"), expected);
    }
}

#[tokio::test]
async fn an_export_that_cannot_be_says_why() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("writer").await;
    for (path, status, code) in [
        ("/api/v1/sessions/writer_999999/export".to_owned(), 404, "session_not_found"),
        ("/api/v1/sessions/nonsense/export".to_owned(), 404, "session_not_found"),
        (format!("/api/v1/sessions/{session}/export?format=pdf"), 422, "invalid_field"),
        (format!("/api/v1/sessions/{session}/export?format=jsonl&format=pdf"), 422, "invalid_field"),
    ] {
        let (found, body) = server.get(&path).await;
        let problem: Value = serde_json::from_str(&body).expect("problem details");
        assert_eq!((found, problem["code"].as_str()), (status, Some(code)), "{body}");
    }
    let request = format!(
        "GET /api/v1/sessions/{session}/export HTTP/1.1\r\nHost: {}\r\nOrigin: http://evil.example\r\n\
         Connection: close\r\n\r\n",
        server.addr
    );
    let (head, _) = server.request(&request).await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");

    for (environment, arguments, expected, status) in [
        (vec![], vec!["export", "writer_999999"], "there is no session writer_999999", 1),
        (vec![("DUOLOGUE_STORE", "memory:")], vec!["export", &session], "DUOLOGUE_STORE is memory:", 2),
        (vec![("DUOLOGUE_STORE", "sqlite:none.db")], vec!["export", &session], "none.db", 2),
        (vec![], vec!["export", &session, "--output", "agents.toml"], "cannot write agents.toml", 2),
        (vec![], vec!["backup", "agents.toml"], "agents.toml", 1),
    ] {
        let output = duologue(&server.dir, &environment).args(arguments).output().expect("it runs");
        let error = String::from_utf8(output.stderr).expect("text");
        assert!(error.lines().next().is_some_and(|line| line.contains(expected)), "{error}");
        assert_eq!(output.status.code(), Some(status), "{error}");
    }
}

#[tokio::test]
async fn a_backup_is_made_beside_a_busy_server_and_takes_its_place() {
    let server = Server::start();
    let mut client = server.client().await;
    let created = client.must(create("helper")).await;
    let (session, epoch) = (created["session_id"].as_str().unwrap(), created["epoch"].as_str().unwrap());
    client.run(session, "/echo kept").await;
    client.chat(session, "/count 100000 5").await;

    let output = duologue(&server.dir, &[]).args(["backup", "copy.db"]).output().expect("it runs");

    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
    let dir = server.kill();
    let copy = [("DUOLOGUE_STORE", "sqlite:copy.db")];
    let server = Server::start_in(&dir, &copy);
    let mut client = server.client().await;
    client.frontend.send(&subscribe_from(&topic(session), epoch, 3)).await;
    let ack = client.frontend.next_where("an ack", |frame| frame["type"] == "subscribe_ack").await;
    assert_eq!(ack["data"]["topics"][0]["reason"], "epoch", "what came after the copy is lost: {ack}");
    until("its run to be ended", async || {
        let log = client.history(session).await;
        log.last().is_some_and(|event| event["data"]["outcome"] == "interrupted")
    })
    .await;
    assert_eq!(client.run(session, "/echo on").await, "completed");
}

/// A body without the lengths of its chunks (RFC 9112, section 7.1).
fn unchunked(body: &str) -> String {
    let (mut rest, mut text) = (body.as_bytes(), Vec::new());
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let length = std::str::from_utf8(&rest[..end]).expect("a length");
        let length = usize::from_str_radix(length, 16).expect("a length");
        text.extend_from_slice(&rest[end + 2..end + 2 + length]);
        rest = &rest[end + 2 + length + 2..];
    }
    String::from_utf8(text).expect("text")
}
