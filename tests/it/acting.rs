//! Agents that act: calls of tools, people who allow them, the document that a session shares.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    crash::Phoenix,
    support::{
        Bystander, Client, Server, assert_contiguous, assert_well_formed, durable, manage, of_run,
        scratch_dir, stop, subscribe, topic, types, until, within,
    },
};

fn approval(session: &str, call: &str, decision: &str) -> Value {
    let data = json!({ "tool_call_id": call, "decision": decision });
    json!({ "type": "tool_approval", "session_id": session, "data": data })
}

fn update(session: &str, patch: Value, if_version: u64) -> Value {
    json!({ "type": "update_state", "session_id": session, "data": { "patch": patch, "if_version": if_version } })
}

/// Sends a message that has the clerk ask; the run, and the call that waits.
async fn ask_clerk(client: &mut Client, session: &str, message: &str) -> (String, String) {
    let run_id = client.chat(session, message).await;
    let asked = client.frontend.next_where("a request", |frame| frame["type"] == "approval_requested").await;
    (run_id, asked["data"]["tool_call_id"].as_str().expect("an id").to_owned())
}

async fn snapshot(client: &mut Client, session: &str) -> Value {
    client.frontend.send(&subscribe(&[&topic(session)])).await;
    let frame = client.frontend.next_where("a snapshot", |frame| frame["type"] == "session_snapshot").await;
    frame["data"].clone()
}

fn error_codes<'a>(events: &[&'a Value]) -> Vec<&'a str> {
    events.iter().filter_map(|event| event["data"]["error"]["code"].as_str()).collect()
}

// ---- tools ----

#[tokio::test]
async fn parallel_calls_are_answered_in_their_order_and_a_failure_is_told_to_the_model() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    let message =
        "/tool clock {\"timezone\":\"Europe/Berlin\"}\n/tool clock {\"timezone\":7}\n/tool no_such_tool";

    let run_id = client.chat(&session, message).await;
    let frames = client.until_run_ends(&run_id).await;

    let events = of_run(&frames, &run_id);
    assert_eq!(events.last().unwrap()["data"]["outcome"], "completed");
    let ends: Vec<_> = events.iter().filter(|event| event["type"] == "tool_call.end").collect();
    assert_eq!(ends[0]["data"]["result"]["timezone"], "Europe/Berlin");
    assert!(ends.iter().all(|end| end["data"]["duration_ms"].is_u64()));
    assert_eq!(error_codes(&events), ["invalid_field", "tool_error"]);
    assert!(ends[1]["data"]["error"]["message"].as_str().unwrap().contains("/timezone"));
    assert!(ends[2]["data"]["error"]["message"].as_str().unwrap().contains("no_such_tool"));
    let answer = events.iter().rev().find(|event| event["type"] == "agent_response").unwrap();
    let answer = answer["data"]["content"].as_str().unwrap();
    // In the order in which the model asked, whichever ended first.
    let at = |part: &str| answer.find(part).unwrap_or_else(|| panic!("{part:?} in {answer}"));
    assert!(at("Europe/Berlin") < at("`clock` failed") && at("`clock` failed") < at("no_such_tool"));
    let ids: Vec<_> = ends.iter().map(|end| end["data"]["tool_call_id"].as_str().unwrap()).collect();
    assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), 3);
    assert_well_formed(&client.history(&session).await);
}

#[tokio::test]
async fn a_model_that_goes_on_calling_is_ended_at_max_steps() {
    const AGENTS: &str = "
        [[agents]]
        id = \"short\"
        name = \"Short\"
        model = \"demo\"
        max_steps = 3
        tools = [\"clock\"]
    ";
    let server = Server::with_agents(AGENTS, &[]);
    let mut client = server.client().await;
    let session = client.create("short").await;

    // It reports, and is told that there is no such tool, and reports again.
    let run_id = client.chat(&session, "/steps 10").await;
    let frames = client.until_run_ends(&run_id).await;

    let events = of_run(&frames, &run_id);
    assert_eq!(events.iter().filter(|event| event["type"] == "tool_call.start").count(), 3);
    let error = events.iter().find(|event| event["type"] == "error").expect("an error");
    assert!(error["error"]["message"].as_str().unwrap().contains("max_steps"), "{error}");
    assert_eq!(events.last().unwrap()["data"]["outcome"], "failed");
    assert_eq!(client.run(&session, "/echo still here").await, "completed");
}

#[tokio::test]
async fn clients_are_told_which_tools_there_are() {
    let server = Server::start();
    let mut client = server.client().await;

    let tools = client.must(json!({ "type": "get_tools" })).await["tools"].clone();

    let tool = |agent: &str, name: &str| {
        let mut tools = tools.as_array().unwrap().iter();
        tools.find(|tool| tool["agent_id"] == agent && tool["name"] == name).cloned()
    };
    let clock = tool("clerk", "clock").expect("the clerk has a clock");
    assert_eq!((&clock["needs_approval"], &clock["available"]), (&json!(true), &json!(true)));
    assert_eq!((&clock["source"], &clock["parameters"]["type"]), (&json!("builtin"), &json!("object")));
    assert_eq!(tool("helper", "clock").expect("so has the helper")["needs_approval"], false);
    assert_eq!(tool("helper", "update_state"), None);
}

#[tokio::test]
async fn suggestions_are_there_until_the_next_run() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    client.run(&session, "/tool suggest {\"items\":[\"one\",\"two\"]}").await;

    let mut other = server.client().await;
    assert_eq!(snapshot(&mut other, &session).await["suggestions"], json!(["one", "two"]));
    client.run(&session, "/echo on").await;
    let mut third = server.client().await;
    assert_eq!(snapshot(&mut third, &session).await["suggestions"], json!([]));
}

/// An agent with a server of tools that does what it should not, and that writes down what it is asked.
fn with_bad_tools(dir: &std::path::Path) -> std::path::PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/tools/misbehaving.mjs");
    let journal = dir.join("journal");
    let agents = format!(
        "[[agents]]
        id = \"bold\"
        name = \"Bold\"
        model = \"demo\"
        context_window = 100000
        tools = [\"mcp:bad\", \"report_progress\"]

        [mcp.bad]
        command = [\"node\", {script:?}, \"--journal={}\"]
        ",
        journal.display()
    );
    std::fs::write(dir.join("agents.toml"), agents).expect("a file can be written");
    journal
}

fn count(journal: &std::path::Path, what: &str) -> usize {
    std::fs::read_to_string(journal).map_or(0, |text| text.matches(what).count())
}

async fn until_called(journal: &std::path::Path, tool: &str) {
    until(&format!("a call of {tool}"), async || count(journal, &format!("\"name\":\"{tool}\"")) > 0).await;
}

#[tokio::test]
async fn a_stop_gives_up_a_call_that_hangs() {
    let dir = scratch_dir();
    let journal = with_bad_tools(&dir);
    let server = Server::start_in(&dir, &[]);
    let mut client = server.client().await;
    let session = client.create("bold").await;
    let run_id = client.chat(&session, "/tool hang\n/tool echo {\"text\":\"hi\"}").await;
    until_called(&journal, "hang").await;

    let stopped = client.must(stop(&session, json!({ "run_id": run_id }))).await;

    assert_eq!(stopped["outcome"], "cancelled");
    let log = client.history(&session).await;
    let events = of_run(&log, &run_id);
    let hung = events.iter().rev().find(|event| event["type"] == "tool_call.end").unwrap();
    assert_eq!(hung["data"]["error"]["details"]["reason"], "cancelled");
    until("the server of the tool to be told", async || count(&journal, "notifications/cancelled") == 1)
        .await;
    assert_eq!(client.run(&session, "/tool echo {\"text\":\"still here\"}").await, "completed");
    assert_well_formed(&client.history(&session).await);
}

#[tokio::test]
async fn a_call_that_a_crash_cut_is_closed_as_unknown_and_not_made_again() {
    let dir = scratch_dir();
    let journal = with_bad_tools(&dir);
    let mut phoenix = Phoenix::start_in(&dir, &[]);
    let mut client = phoenix.server().client().await;
    let session = client.create("bold").await;
    let run_id = client.chat(&session, "/tool hang").await;
    until_called(&journal, "hang").await;

    phoenix.crash();

    let mut client = phoenix.server().client().await;
    snapshot(&mut client, &session).await;
    let mut log = Vec::new();
    until("the end of the run", async || {
        log = client.history(&session).await;
        log.last().is_some_and(|event| event["type"] == "run_finished")
    })
    .await;
    let events = of_run(&log, &run_id);
    let end = events.iter().find(|event| event["type"] == "tool_call.end").unwrap();
    assert!(end["data"]["error"]["message"].as_str().unwrap().contains("unknown"), "{end}");
    assert_eq!(events.last().unwrap()["data"]["outcome"], "interrupted");
    assert_eq!(client.run(&session, "/echo on").await, "completed");
    assert_eq!(count(&journal, "\"name\":\"hang\""), 1);
    assert_well_formed(&client.history(&session).await);
}

#[tokio::test]
async fn a_task_whose_tool_a_crash_cut_fails_and_does_it_not_again() {
    let dir = scratch_dir();
    let journal = with_bad_tools(&dir);
    let mut phoenix = Phoenix::start_in(&dir, &[]);
    let id = create_task(phoenix.server(), "bold", "/tool hang").await;
    until_called(&journal, "hang").await;

    phoenix.crash();

    let task = until_task(phoenix.server(), &id, "failed").await;
    assert_eq!(task["error"]["code"], "interrupted", "{task}");
    assert_eq!(count(&journal, "\"name\":\"hang\""), 1);
}

async fn post(server: &Server, path: &str, body: &str) -> (String, Value) {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: \
         {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let (head, body) = server.request(&request).await;
    (head, serde_json::from_str(&body).expect("JSON"))
}

async fn create_task(server: &Server, agent: &str, input: &str) -> String {
    let body = json!({ "agent_id": agent, "name": "A task", "input": input }).to_string();
    let (head, task) = post(server, "/api/v1/tasks", &body).await;
    assert!(head.contains("201"), "{head}");
    task["task_id"].as_str().expect("an id").to_owned()
}

async fn task(server: &Server, id: &str) -> Value {
    serde_json::from_str(&server.get(&format!("/api/v1/tasks/{id}")).await.1).expect("JSON")
}

async fn until_task(server: &Server, id: &str, status: &str) -> Value {
    let mut now = Value::Null;
    until(&format!("{id} to be {status}"), async || {
        now = task(server, id).await;
        now["status"] == status
    })
    .await;
    now
}

#[tokio::test]
async fn a_task_that_is_cancelled_as_the_server_comes_back_does_not_run_on() {
    let mut phoenix = Phoenix::start(&[]);
    for _ in 0..5 {
        let id = create_task(phoenix.server(), "worker", "/steps 10 300").await;
        until_task(phoenix.server(), &id, "running").await;

        phoenix.crash();
        let (head, answer) = post(phoenix.server(), &format!("/api/v1/tasks/{id}/cancel"), "").await;

        assert!(head.contains("200"), "{head} {answer}");
        assert_eq!(answer["status"], "cancelled", "{answer}");
        let mut client = phoenix.server().client().await;
        let log = client.history(&id).await;
        assert_eq!(log.iter().filter(|event| event["type"] == "task_cancelled").count(), 1);
        assert_well_formed(&log);
    }
}

#[tokio::test]
async fn a_pause_holds_through_a_question_and_a_restart() {
    let dir = scratch_dir();
    let agents = "[[agents]]
        id = \"careful\"
        name = \"Careful\"
        model = \"demo\"
        tools = [\"report_progress\", { name = \"clock\", approval = \"ask\" }]
        ";
    std::fs::write(dir.join("agents.toml"), agents).expect("a file can be written");
    let mut phoenix = Phoenix::start_in(&dir, &[]);
    for round in 0..2 {
        let id = create_task(phoenix.server(), "careful", "/tool clock").await;
        until_task(phoenix.server(), &id, "running").await;
        let mut client = phoenix.server().client().await;
        let mut log = Vec::new();
        until("the question", async || {
            log = client.history(&id).await;
            log.last().is_some_and(|event| event["type"] == "approval_requested")
        })
        .await;
        let call = log.last().expect("the question")["data"]["tool_call_id"].clone();
        let (_, paused) = post(phoenix.server(), &format!("/api/v1/tasks/{id}/pause"), "").await;
        assert_eq!(
            (&paused["pausing"], &paused["waiting_approval"]),
            (&json!(true), &json!(true)),
            "{paused}"
        );

        if round == 0 {
            phoenix.crash()
        } else {
            phoenix.restart().await
        };

        let mut client = phoenix.server().client().await;
        client.must(approval(&id, call.as_str().expect("an id"), "approve")).await;
        until_task(phoenix.server(), &id, "paused").await;
        post(phoenix.server(), &format!("/api/v1/tasks/{id}/resume"), "").await;
        until_task(phoenix.server(), &id, "completed").await;
        assert_well_formed(&client.history(&id).await);
    }
}

#[tokio::test]
async fn a_task_whose_tool_an_orderly_stop_cut_fails_as_well() {
    let dir = scratch_dir();
    let journal = with_bad_tools(&dir);
    let mut phoenix = Phoenix::start_in(&dir, &[("DUOLOGUE_DRAIN_SECS", "0")]);
    let id = create_task(phoenix.server(), "bold", "/tool hang").await;
    until_called(&journal, "hang").await;

    phoenix.restart().await;

    let failed = until_task(phoenix.server(), &id, "failed").await;
    assert_eq!(failed["error"]["code"], "interrupted", "{failed}");
    assert_eq!(count(&journal, "\"name\":\"hang\""), 1);
}

#[tokio::test]
async fn a_server_of_tools_that_dies_costs_what_it_was_asked_and_is_started_again() {
    let dir = scratch_dir();
    with_bad_tools(&dir);
    let server = Server::start_in(&dir, &[]);
    let mut client = server.client().await;
    let session = client.create("bold").await;

    let run_id = client.chat(&session, "/tool die\n/tool hang").await;
    let frames = client.until_run_ends(&run_id).await;

    let events = of_run(&frames, &run_id);
    assert_eq!(error_codes(&events), ["tool_error", "tool_error"]);
    assert_eq!(events.last().unwrap()["data"]["outcome"], "completed");
    until("the tools to be there again", async || {
        let run_id = client.chat(&session, "/tool echo {\"text\":\"back again\"}").await;
        let frames = client.until_run_ends(&run_id).await;
        frames.iter().any(|frame| frame["data"]["result"] == "back again")
    })
    .await;
}

#[tokio::test]
async fn a_large_result_is_kept_and_cut_for_the_model() {
    let dir = scratch_dir();
    with_bad_tools(&dir);
    let server = Server::start_in(&dir, &[]);
    let mut client = server.client().await;
    let session = client.create("bold").await;
    let (mut results, mut answers) = (Vec::new(), Vec::new());
    for call in ["large {\"size\":200000}", "large {\"size\":3000000}", "huge_first"] {
        let run_id = client.chat(&session, &format!("/tool {call}")).await;
        let frames = client.until_run_ends(&run_id).await;
        let of_type = |kind: &str| frames.iter().find(|frame| frame["type"] == kind).unwrap()["data"].clone();
        assert_eq!(of_type("run_finished")["outcome"], "completed");
        results.push(of_type("tool_call.end"));
        answers.push(of_type("agent_response")["content"].as_str().unwrap().len());
    }

    assert_eq!(results[0]["result"].as_str().unwrap().len(), 200_000, "what fits is kept whole");
    assert_eq!(
        (&results[1]["result"]["cut"], &results[1]["result"]["bytes"]),
        (&json!(true), &json!(3_000_002))
    );
    assert_eq!(results[2]["error"]["code"], "tool_error", "of fifty megabytes nothing is kept");
    assert!(answers.iter().all(|length| *length < 40_000), "the model is told a part: {answers:?}");
    assert_well_formed(&client.history(&session).await);
}

// ---- approvals ----

#[tokio::test]
async fn the_first_answer_counts_and_every_client_sees_the_same() {
    let server = Server::start();
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(server.client().await);
    }
    let session = clients[0].create("clerk").await;
    for client in &mut clients[1..] {
        snapshot(client, &session).await;
    }
    let (run_id, call) = ask_clerk(&mut clients[0], &session, "/tool clock").await;
    let mut bystander = Bystander::new(&server).await;

    let answers = clients.iter_mut().enumerate().map(|(at, client)| {
        let decision = if at == 1 { "deny" } else { "approve" };
        client.command(approval(&session, &call, decision))
    });
    let answers = join_all(answers).await;

    assert_eq!(answers.iter().filter(|answer| answer["ok"] == true).count(), 1, "{answers:?}");
    let refused = answers.iter().filter(|answer| answer["ok"] == false);
    assert!(refused.into_iter().all(|answer| answer["error"]["code"] == "conflict"), "{answers:?}");
    let mut seen = Vec::new();
    for client in &mut clients {
        let frames = client.until_run_ends(&run_id).await;
        let resolved = frames.iter().filter(|frame| frame["type"] == "approval_resolved").cloned();
        seen.push(resolved.collect::<Vec<_>>());
    }
    // The first client saw the request before; all see one and the same decision.
    assert!(seen.iter().all(|resolved| resolved.len() == 1 && resolved == &seen[0]), "{seen:?}");
    assert_eq!(clients[0].error_code(approval(&session, &call, "approve")).await, "conflict");
    bystander.notices_nothing().await;
    assert_well_formed(&clients[0].history(&session).await);
}

#[tokio::test]
async fn a_call_is_made_with_the_arguments_that_were_allowed() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("clerk").await;
    let (run_id, call) = ask_clerk(&mut client, &session, "/tool clock {\"timezone\":\"UTC\"}").await;

    let mut wrong = approval(&session, &call, "approve");
    wrong["data"]["args"] = json!({ "timezone": 7 });
    let refused = client.command(wrong).await;
    assert_eq!(refused["error"]["code"], "invalid_field");
    assert_eq!(refused["error"]["details"]["field"], "data.args/timezone", "{refused}");
    let mut edited = approval(&session, &call, "approve");
    edited["data"]["args"] = json!({ "timezone": "Asia/Tokyo" });
    client.must(edited).await;

    let frames = client.until_run_ends(&run_id).await;
    let of_type = |kind: &str| frames.iter().find(|frame| frame["type"] == kind).expect("it is there");
    assert_eq!(of_type("approval_resolved")["data"]["args"], json!({ "timezone": "Asia/Tokyo" }));
    assert_eq!(of_type("tool_call.end")["data"]["result"]["timezone"], "Asia/Tokyo");
    // The model is told why that is not what it asked for.
    let answer = of_type("agent_response")["data"]["content"].as_str().unwrap();
    assert!(answer.contains("a person changed the arguments"), "{answer}");
}

#[tokio::test]
async fn a_call_that_is_denied_is_not_made_and_the_model_learns_why() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("clerk").await;
    let (run_id, call) = ask_clerk(&mut client, &session, "/tool clock").await;

    let mut denial = approval(&session, &call, "deny");
    denial["data"]["reason"] = "it is too late".into();
    client.must(denial).await;

    let frames = client.until_run_ends(&run_id).await;
    let end = frames.iter().find(|frame| frame["type"] == "tool_call.end").unwrap();
    assert_eq!(end["data"]["error"]["details"]["reason"], "denied");
    let answer = frames.iter().find(|frame| frame["type"] == "agent_response").unwrap();
    assert!(answer["data"]["content"].as_str().unwrap().contains("it is too late"));
    assert_eq!(frames.last().unwrap()["data"]["outcome"], "completed");
}

#[tokio::test]
async fn a_stop_ends_a_call_that_waits() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("clerk").await;
    let (run_id, call) = ask_clerk(&mut client, &session, "/tool clock\n/tool clock").await;
    let mut other = server.client().await;
    let seen = snapshot(&mut other, &session).await;
    assert_eq!(seen["session"]["status"], "waiting_approval");
    assert_eq!(seen["approvals"].as_array().unwrap().len(), 2);

    client.must(stop(&session, json!({ "run_id": run_id }))).await;

    let log = client.history(&session).await;
    let events = of_run(&log, &run_id);
    let tail = types(&events);
    assert_eq!(tail[tail.len() - 3..], ["tool_call.end", "tool_call.end", "run_finished"]);
    assert_eq!(events.last().unwrap()["data"]["outcome"], "cancelled");
    assert_eq!(client.error_code(approval(&session, &call, "approve")).await, "conflict");
    assert_eq!(client.run(&session, "/echo still here").await, "completed");
}

#[tokio::test]
async fn an_approval_outlives_a_crash_and_a_stop_of_the_server() {
    let mut phoenix = Phoenix::start(&[]);
    for round in 0..4 {
        let mut client = phoenix.server().client().await;
        let session = client.create("clerk").await;
        let (run_id, call) = ask_clerk(&mut client, &session, "/tool clock").await;
        // One that is answered, and one that is queued behind it.
        let queued = client.chat(&session, "/echo next").await;

        if round % 2 == 0 {
            phoenix.crash()
        } else {
            phoenix.restart().await
        };

        let mut client = phoenix.server().client().await;
        let seen = snapshot(&mut client, &session).await;
        assert_eq!(seen["run"]["run_id"], run_id.as_str());
        assert_eq!(seen["approvals"][0]["tool_call_id"], call.as_str());
        client.must(approval(&session, &call, "approve")).await;
        client.until_run_ends(&queued).await;
        let log = client.history(&session).await;
        let events = of_run(&log, &run_id);
        assert_eq!(events.last().unwrap()["data"]["outcome"], "completed");
        assert_eq!(events.iter().filter(|event| event["type"] == "tool_call.end").count(), 1);
        assert_well_formed(&log);
    }
}

#[tokio::test]
async fn approvals_that_cannot_be_are_refused_each_with_its_reason() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("clerk").await;
    let other = client.create("helper").await;
    let (_, call) = ask_clerk(&mut client, &session, "/tool clock").await;

    let with = |mut command: Value, field: &str, value: Value| {
        command["data"][field] = value;
        command
    };
    for (command, code) in [
        (approval(&session, "no_such_call", "approve"), "invalid_field"),
        // Of another session, however alike its id may be.
        (approval(&other, &call, "approve"), "invalid_field"),
        (approval("clerk_999999", &call, "approve"), "session_not_found"),
        (approval(&session, &call, "perhaps"), "invalid_field"),
        (with(approval(&session, &call, "deny"), "args", json!({})), "invalid_field"),
        (with(approval(&session, &call, "approve"), "args", json!([1])), "invalid_field"),
        (with(approval(&session, &call, "deny"), "reason", json!("x".repeat(5000))), "invalid_field"),
        (json!({ "type": "tool_approval", "session_id": session, "data": {} }), "invalid_field"),
    ] {
        let reply = client.command(command.clone()).await;
        assert_eq!(reply["error"]["code"], code, "{command}: {reply}");
        assert!(!reply["error"]["message"].as_str().unwrap().is_empty());
    }
    // It still waits, and can be allowed.
    client.must(approval(&session, &call, "approve")).await;
}

// ---- the shared document ----

#[tokio::test]
async fn agent_and_clients_change_one_document_that_all_see() {
    let server = Server::start();
    let mut one = server.client().await;
    let session = one.create("tracker").await;
    let mut two = server.client().await;
    assert_eq!(snapshot(&mut two, &session).await["state"]["version"], 1);

    one.run(&session, "/fight").await;
    let patch = json!([{ "op": "replace", "path": "/combatants/1/hp", "value": 5 }]);
    let data = two.must(update(&session, patch.clone(), 2)).await;
    assert_eq!(data["version"], 3);
    // The agent is told of it before it answers.
    one.run(&session, "/hit Goblin 2").await;

    let mut three = server.client().await;
    let state = snapshot(&mut three, &session).await["state"].clone();
    assert_eq!(state["version"], 4);
    assert_eq!(state["value"]["combatants"][1]["hp"], 3);
    let log = one.history(&session).await;
    let versions: Vec<_> = log
        .iter()
        .filter(|event| event["type"] == "state.patch")
        .map(|event| &event["data"]["version"])
        .collect();
    assert_eq!(versions, [1, 2, 3, 4]);
    let refused = two.command(update(&session, patch, 3)).await;
    assert_eq!(refused["error"]["code"], "conflict");
    assert_eq!(refused["error"]["details"]["version"], 4);
}

#[tokio::test]
async fn of_many_changes_at_once_each_is_made_once_and_in_turn() {
    const CLIENTS: usize = 4;
    const EACH: u64 = 15;
    let server = Server::start();
    let mut first = server.client().await;
    let session = first.create("helper").await;
    first.must(update(&session, json!([{ "op": "add", "path": "/count", "value": 0 }]), 0)).await;

    let counting = (0..CLIENTS).map(async |_| {
        let mut client = server.client().await;
        let mut version = 1;
        for _ in 0..EACH {
            loop {
                // Somebody else's change in between fails the version, or the test.
                let count = version - 1;
                let patch = json!([
                    { "op": "test", "path": "/count", "value": count },
                    { "op": "replace", "path": "/count", "value": count + 1 },
                ]);
                let reply = client.command(update(&session, patch, version)).await;
                if reply["ok"] == true {
                    version = reply["data"]["version"].as_u64().unwrap();
                    break;
                }
                assert_eq!(reply["error"]["code"], "conflict", "{reply}");
                version = reply["error"]["details"]["version"].as_u64().expect("the present version");
            }
        }
    });
    within("all to have counted", join_all(counting)).await;

    let mut last = server.client().await;
    let state = snapshot(&mut last, &session).await["state"].clone();
    assert_eq!(state["value"]["count"], CLIENTS as u64 * EACH);
    let log = first.history(&session).await;
    assert_contiguous(&durable(&log, &session), 0);
}

#[tokio::test]
async fn a_document_outlives_the_server_and_goes_with_a_fork() {
    let mut phoenix = Phoenix::start(&[]);
    let mut client = phoenix.server().client().await;
    let session = client.create("tracker").await;
    client.run(&session, "/fight").await;
    let head = client.history(&session).await.len();

    phoenix.crash();

    let mut client = phoenix.server().client().await;
    let state = snapshot(&mut client, &session).await["state"].clone();
    assert_eq!((&state["version"], &state["value"]["round"]), (&json!(2), &json!(1)));
    let mut fork = manage(&session, "fork");
    fork["data"]["at_seq"] = head.into();
    let forked = client.must(fork).await["session_id"].as_str().unwrap().to_owned();
    client.run(&forked, "/next").await;
    let mut other = phoenix.server().client().await;
    assert_eq!(snapshot(&mut other, &forked).await["state"]["value"]["turn"], 1);
    let mut other = phoenix.server().client().await;
    assert_eq!(snapshot(&mut other, &session).await["state"]["value"]["turn"], 0);
}

#[tokio::test]
async fn patches_that_cannot_be_are_refused_and_change_nothing() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("tracker").await;
    let mut bystander = Bystander::new(&server).await;
    let double = json!({ "op": "copy", "from": "", "path": "/round" });

    for (patch, if_version, code) in [
        (json!([{ "op": "remove", "path": "/nowhere" }]), json!(1), "invalid_field"),
        (json!([{ "op": "test", "path": "/round", "value": 7 }]), json!(1), "conflict"),
        (json!([{ "op": "replace", "path": "/round", "value": 7 }]), json!(9), "conflict"),
        (json!([{ "op": "grow", "path": "/round" }]), json!(1), "invalid_field"),
        (json!([]), json!(1), "invalid_field"),
        (json!({}), json!(1), "invalid_field"),
        (json!([{ "op": "replace", "path": "/round", "value": 7 }]), json!("1"), "invalid_field"),
        (json!([{ "op": "replace", "path": "/round", "value": 7 }]), Value::Null, "invalid_field"),
        (Value::Array(vec![double; 200]), json!(1), "invalid_field"),
        (
            json!([{ "op": "add", "path": "/long", "value": "x".repeat(250 * 1024) },
                { "op": "copy", "from": "/long", "path": "/again" }]),
            json!(1),
            "payload_too_large",
        ),
    ] {
        let mut command = update(&session, patch, 0);
        command["data"]["if_version"] = if_version;
        let reply = client.command(command.clone()).await;
        let command: String = command.to_string().chars().take(200).collect();
        assert_eq!(reply["error"]["code"], code, "{command}: {reply}");
    }

    let mut other = server.client().await;
    let state = snapshot(&mut other, &session).await["state"].clone();
    assert_eq!((&state["version"], &state["value"]["round"]), (&json!(1), &json!(0)));
    bystander.notices_nothing().await;
    assert_eq!(client.run(&session, "/fight").await, "completed");
}

#[tokio::test]
async fn a_change_sent_twice_is_made_once() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("tracker").await;
    let mut command = update(&session, json!([{ "op": "replace", "path": "/round", "value": 3 }]), 1);
    command["message_id"] = "twice".into();

    let first = client.backend.ask(&command).await;
    let again = client.backend.ask(&command).await;

    assert_eq!((&first["data"]["version"], &first["data"]["duplicate"]), (&json!(2), &json!(false)));
    assert_eq!((&again["data"]["version"], &again["data"]["duplicate"]), (&json!(2), &json!(true)));
}

#[tokio::test]
async fn typing_is_told_with_the_time_after_which_it_is_over() {
    let server = Server::start();
    let mut one = server.client().await;
    let session = one.create("helper").await;
    let mut two = server.client().await;
    snapshot(&mut two, &session).await;

    one.must(json!({ "type": "typing", "session_id": session, "data": { "typing": true } })).await;

    let typing = two.frontend.next_where("typing", |frame| frame["type"] == "typing").await;
    assert_eq!(typing["data"]["client_id"], one.id.as_str());
    assert!(typing["data"]["expires_in_ms"].as_u64().unwrap() > 0);
    assert_eq!(two.run(&session, "/echo on").await, "completed");
}
