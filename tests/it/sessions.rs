//! Sessions from their beginning to their end, as `protocol.md` has them: how they are created, listed, read,
//! renamed, closed and refreshed; their runs, in which order and how they end; every event, field by field.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

use crate::support::{
    Client, Server, Socket, Watched, assert_contiguous, assert_well_formed, chat, chat_on_busy, create,
    durable, manage, of_run, stop, subscribe, subscribe_from, topic, types, until,
};

const KIB: usize = 1024;

/// A message whose run goes on until it is stopped, without a word.
const ENDLESS: &str = "/think 3600000";
/// A message whose run goes on until it is stopped, and says something all the time.
const ENDLESS_TALK: &str = "/count 1000000 5";

fn list(data: Value) -> Value {
    let mut command = json!({ "type": "session_management", "data": { "action": "list" } });
    command["data"].as_object_mut().expect("an object").extend(data.as_object().expect("an object").clone());
    command
}

fn history(session: &str, data: Value) -> Value {
    let mut command = manage(session, "history");
    command["data"].as_object_mut().expect("an object").extend(data.as_object().expect("an object").clone());
    command
}

fn rename(session: &str, title: &str) -> Value {
    let mut command = manage(session, "rename");
    command["data"]["title"] = title.into();
    command
}

fn refresh(agent: &str, session: Option<&str>) -> Value {
    let mut command = json!({ "type": "agent_refresh", "agent_id": agent });
    if let Some(session) = session {
        command["session_id"] = session.into();
    }
    command
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no text {field:?} in {value}"))
}

fn ids(page: &Value) -> Vec<String> {
    let sessions = page["sessions"].as_array().expect("sessions");
    sessions.iter().map(|session| text(session, "session_id").to_owned()).collect()
}

fn seqs(page: &Value) -> Vec<u64> {
    let events = page["events"].as_array().expect("events");
    events.iter().map(|event| event["seq"].as_u64().expect("a number")).collect()
}

/// The one event of its type among these.
#[track_caller]
fn only<'a>(events: &[&'a Value], kind: &str) -> &'a Value {
    let found: Vec<_> = events.iter().filter(|event| event["type"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind} among {:?}", types(events));
    found[0]
}

/// What a run said as it was streamed, over all its messages.
fn streamed(frames: &[Value], run_id: &str) -> String {
    let deltas = frames.iter().filter(|frame| frame["type"] == "message.delta" && frame["run_id"] == run_id);
    deltas.map(|delta| text(&delta["data"], "text")).collect()
}

/// Waits until a run has said something.
async fn until_it_speaks(client: &mut Client, run_id: &str) -> Vec<Value> {
    client
        .frontend
        .collect_until("a word", |frame| frame["type"] == "message.delta" && frame["run_id"] == run_id)
        .await
}

// ---- creating ----

#[tokio::test]
async fn a_created_session_says_where_it_begins() {
    let server = Server::start();
    let mut client = server.client().await;
    let mut command = create("helper");
    command["data"]["title"] = "About nothing".into();

    let data = client.must(command).await;

    let session = text(&data, "session_id");
    let number = session.strip_prefix("helper_").expect("its agent's id stands before its number");
    assert!((100..=999).contains(&number.parse::<u32>().expect("a number")), "{session}");
    assert_eq!((&data["seq"], &data["duplicate"]), (&json!(1), &json!(false)), "{data}");
    let log = client.history(session).await;
    assert_eq!(types(&log.iter().collect::<Vec<_>>()), ["session_created", "system_message", "seed_message"]);
    assert_eq!(log[0]["epoch"], data["epoch"]);
    assert_eq!(log[0]["data"]["title"], "About nothing");
    assert_eq!(
        (&log[0]["data"]["session_id"], &log[0]["data"]["agent_name"]),
        (&json!(session), &json!("Helper"))
    );
    assert_eq!(log[1]["data"]["content"], "You are a helpful assistant.");
    assert_eq!(log[2]["data"]["role"], "assistant");
}

#[tokio::test]
async fn an_agents_seed_messages_keep_their_order_and_roles() {
    let server = Server::start();
    let mut client = server.client().await;

    let session = client.create("counter").await;

    let log = client.history(&session).await;
    let roles: Vec<_> = log[2..].iter().map(|event| text(&event["data"], "role")).collect();
    assert_eq!(roles, ["user", "assistant"]);
}

#[tokio::test]
async fn the_ids_of_a_command_may_stand_in_the_envelope_or_in_data() {
    let server = Server::start();
    let mut client = server.client().await;

    let created = client
        .must(json!({ "type": "session_management", "data": { "action": "create", "agent_id": "helper" } }))
        .await;
    let session = text(&created, "session_id");
    client
        .must(json!({ "type": "chat_message", "data": { "session_id": session, "content": "/echo hi" } }))
        .await;
    client
        .must(json!({
            "type": "chat_message", "agent_id": "helper", "session_id": session, "data": { "content": "/echo hi" },
        }))
        .await;
}

#[tokio::test]
async fn an_id_that_is_null_in_the_envelope_is_looked_for_in_data() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;

    client
        .must(json!({
            "type": "chat_message", "session_id": null, "data": { "session_id": session, "content": "/echo hi" },
        }))
        .await;
}

#[tokio::test]
async fn fields_that_the_protocol_does_not_know_are_ignored() {
    let server = Server::start();
    let mut client = server.client().await;
    let mut command = create("helper");
    command["trace"] = json!({ "id": [1, 2] });
    command["data"]["colour"] = "green".into();

    client.must(command).await;
}

#[tokio::test]
async fn numbers_grow_by_a_digit_when_half_of_them_are_taken() {
    const HALF: usize = 450;
    let server = Server::start();
    let mut client = Client::open(&server, "many").await;
    let mut commands = Vec::new();
    for _ in 0..HALF + 100 {
        commands.push(client.send(create("helper")).await);
    }

    let mut sessions = Vec::new();
    for id in commands {
        let reply = client.backend.reply_to(&id).await;
        sessions.push(text(&reply["data"], "session_id").to_owned());
    }

    let distinct: BTreeSet<_> = sessions.iter().collect();
    assert_eq!(distinct.len(), sessions.len(), "no id is given out twice");
    let digits = |session: &String| session.strip_prefix("helper_").expect("its agent's id").len();
    // As many as are being made at once may each have picked one that is taken, and count for two so long.
    let short = sessions.iter().filter(|session| digits(session) == 3).count();
    assert!((HALF - 64..=HALF).contains(&short), "{short} have three digits");
    assert!(sessions.iter().all(|session| digits(session) <= 4 && !session.contains("_0")));
    // Each agent has numbers of its own.
    assert_eq!(client.create("writer").await.strip_prefix("writer_").map(str::len), Some(3));
}

// ---- the list ----

/// Waits for the clock to move on: the list does not tell what happened within a millisecond.
async fn a_moment_later() {
    let began = std::time::SystemTime::now();
    let tick = std::time::Duration::from_millis(2);
    until("the clock to move on", async || began.elapsed().is_ok_and(|elapsed| elapsed > tick)).await;
}

/// Creates sessions, one after another; the newest first.
async fn create_some(client: &mut Client, agent: &str, count: usize) -> Vec<String> {
    let mut sessions = Vec::new();
    for _ in 0..count {
        sessions.push(text(&client.must(create(agent)).await, "session_id").to_owned());
    }
    sessions.reverse();
    sessions
}

/// The newest first, those of the same moment by id.
#[track_caller]
fn assert_in_order(sessions: &[Value]) {
    for pair in sessions.windows(2) {
        let (first, second) = (text(&pair[0], "updated_at"), text(&pair[1], "updated_at"));
        let in_order =
            first > second || first == second && text(&pair[0], "session_id") < text(&pair[1], "session_id");
        assert!(in_order, "{} before {}", pair[0], pair[1]);
    }
}

#[tokio::test]
async fn a_list_is_paged_by_its_cursor_from_the_newest_on() {
    let server = Server::start();
    let mut client = server.client().await;
    let created: BTreeSet<_> = create_some(&mut client, "helper", 70).await.into_iter().collect();

    let first = client.must(list(json!({}))).await;
    assert_eq!(first["sessions"].as_array().map(Vec::len), Some(50), "without a limit");
    let all = client.must(list(json!({ "limit": 200 }))).await;
    assert_eq!(all["next_cursor"], Value::Null);
    let sessions = all["sessions"].as_array().expect("sessions");
    assert_in_order(sessions);
    assert_eq!(ids(&all).into_iter().collect::<BTreeSet<_>>(), created);

    for limit in [1, 7, 69, 70, 71] {
        let (mut paged, mut cursor) = (Vec::new(), Value::Null);
        loop {
            let page = client.must(list(json!({ "limit": limit, "cursor": cursor }))).await;
            let sessions = page["sessions"].as_array().expect("sessions");
            assert!(sessions.len() <= limit);
            paged.extend(sessions.clone());
            cursor = page["next_cursor"].clone();
            if cursor.is_null() {
                break;
            }
        }
        assert_eq!(&paged, sessions, "in pages of {limit}");
    }
}

#[tokio::test]
async fn what_comes_to_the_top_of_the_list_does_not_disturb_the_pages_below() {
    let server = Server::start();
    let mut client = server.client().await;
    create_some(&mut client, "helper", 10).await;
    let before = ids(&client.must(list(json!({}))).await);
    let first = client.must(list(json!({ "limit": 4 }))).await;
    a_moment_later().await;
    create_some(&mut client, "helper", 3).await;
    client.must(rename(&before[0], "to the top")).await;

    let rest = client.must(list(json!({ "cursor": first["next_cursor"] }))).await;

    assert_eq!(ids(&rest), &before[4..]);
}

#[tokio::test]
async fn whatever_happens_to_a_session_brings_it_to_the_top_of_the_list() {
    let server = Server::start();
    let mut client = server.client().await;
    let oldest = client.create("helper").await;
    create_some(&mut client, "helper", 3).await;
    let top =
        async |client: &mut Client| client.must(list(json!({ "limit": 1 }))).await["sessions"][0].clone();

    a_moment_later().await;
    client.must(rename(&oldest, "A title")).await;
    let renamed = top(&mut client).await;
    assert_eq!((text(&renamed, "session_id"), text(&renamed, "title")), (oldest.as_str(), "A title"));
    assert_eq!(renamed["status"], "idle");

    create_some(&mut client, "helper", 1).await;
    a_moment_later().await;
    client.chat(&oldest, ENDLESS).await;
    let running = top(&mut client).await;
    assert_eq!((text(&running, "session_id"), text(&running, "status")), (oldest.as_str(), "running"));

    create_some(&mut client, "helper", 1).await;
    a_moment_later().await;
    client.must(manage(&oldest, "close")).await;
    let closed = top(&mut client).await;
    assert_eq!((text(&closed, "session_id"), text(&closed, "status")), (oldest.as_str(), "closed"));
    assert_eq!(closed["created_at"], renamed["created_at"]);
    assert_eq!(closed["head"], client.history(&oldest).await.len(), "the number of its last event");
}

#[tokio::test]
async fn a_record_of_the_list_has_the_fields_that_the_protocol_names() {
    let server = Server::start();
    let mut client = server.client().await;
    let created = client.must(create("helper")).await;

    let page = client.must(list(json!({}))).await;

    let record = page["sessions"][0].as_object().expect("a record");
    let fields: BTreeSet<_> = record.keys().map(String::as_str).collect();
    let expected = ["agent_id", "created_at", "epoch", "head", "session_id", "status", "title", "updated_at"];
    assert_eq!(fields, expected.into());
    assert_eq!((&record["agent_id"], &record["title"]), (&json!("helper"), &Value::Null));
    assert_eq!((&record["session_id"], &record["epoch"]), (&created["session_id"], &created["epoch"]));
    for field in ["created_at", "updated_at"] {
        assert_is_timestamp(&record[field]);
    }
}

#[tokio::test]
async fn a_list_is_narrowed_by_agent_and_by_query() {
    let server = Server::start();
    let mut client = server.client().await;
    let helpers = create_some(&mut client, "helper", 5).await;
    let writers = create_some(&mut client, "writer", 5).await;
    client.must(rename(&helpers[0], "Übungen in Geduld")).await;
    client.must(rename(&writers[0], "Geduld und andere Tugenden")).await;
    let set = |page: Value| ids(&page).into_iter().collect::<BTreeSet<_>>();

    let page = client.must(list(json!({ "agent_id": "writer" }))).await;
    assert_eq!(set(page), writers.iter().cloned().collect());
    let mut in_envelope = list(json!({}));
    in_envelope["agent_id"] = "helper".into();
    assert_eq!(set(client.must(in_envelope).await), helpers.iter().cloned().collect());
    let page = client.must(list(json!({ "query": "Geduld" }))).await;
    assert_eq!(set(page), [helpers[0].clone(), writers[0].clone()].into());
    let page = client.must(list(json!({ "query": "Geduld", "agent_id": "helper" }))).await;
    assert_eq!(set(page), [helpers[0].clone()].into());
    let page = client.must(list(json!({ "query": "Ungeduldige" }))).await;
    assert_eq!((ids(&page).len(), &page["next_cursor"]), (0, &Value::Null));
}

#[tokio::test]
async fn a_search_in_the_list_is_paged_too() {
    let server = Server::start();
    let mut client = server.client().await;
    let sessions = create_some(&mut client, "helper", 12).await;
    for session in sessions.iter().step_by(2) {
        client.must(rename(session, "even")).await;
    }

    let first = client.must(list(json!({ "query": "even", "limit": 4 }))).await;
    let rest =
        client.must(list(json!({ "query": "even", "limit": 4, "cursor": first["next_cursor"] }))).await;

    assert_eq!((ids(&first).len(), ids(&rest).len()), (4, 2));
    assert_eq!(rest["next_cursor"], Value::Null);
    let found: BTreeSet<_> = ids(&first).into_iter().chain(ids(&rest)).collect();
    assert_eq!(found, sessions.into_iter().step_by(2).collect());
}

// ---- history ----

#[tokio::test]
async fn history_is_read_from_either_end() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    for number in 0..30 {
        client.run(&session, &format!("/echo {number}")).await;
    }
    // Three to begin with, five a run.
    const HEAD: u64 = 153;

    let page = client.must(history(&session, json!({}))).await;
    assert_eq!(seqs(&page), (1..=100).collect::<Vec<_>>(), "without a position and a limit");
    assert_eq!((&page["more"], &page["head"]), (&json!(true), &json!(HEAD)));
    assert_eq!(page["epoch"], page["events"][0]["epoch"]);

    for (data, expected, more) in [
        (json!({ "after": 0, "limit": 1000 }), 1..=HEAD, false),
        (json!({ "after": 100 }), 101..=HEAD, false),
        (json!({ "after": 10, "limit": 5 }), 11..=15, true),
        (json!({ "after": HEAD - 5, "limit": 5 }), HEAD - 4..=HEAD, false),
        (json!({ "before": HEAD + 1 }), HEAD - 99..=HEAD, true),
        (json!({ "before": 10, "limit": 4 }), 6..=9, true),
        (json!({ "before": 5, "limit": 4 }), 1..=4, false),
        (json!({ "before": 3 }), 1..=2, false),
        (json!({ "before": u64::MAX, "limit": 1 }), HEAD..=HEAD, true),
    ] {
        let page = client.must(history(&session, data.clone())).await;
        assert_eq!(seqs(&page), expected.collect::<Vec<_>>(), "{data}");
        assert_eq!((&page["more"], &page["head"]), (&json!(more), &json!(HEAD)), "{data}");
    }
    for data in [json!({ "after": HEAD }), json!({ "after": u64::MAX }), json!({ "before": 1 })] {
        let page = client.must(history(&session, data.clone())).await;
        assert_eq!((seqs(&page).len(), &page["more"]), (0, &json!(false)), "{data}");
    }
}

#[tokio::test]
async fn what_history_says_is_what_was_shown() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    let mut frames = client.frontend.so_far().await;
    for message in ["/echo Grüße, 日本 😀", "/tool clock {\"zone\":\"UTC\"}", "/fail cut", "plain words"]
    {
        let run_id = client.chat(&session, message).await;
        frames.extend(client.until_run_ends(&run_id).await);
    }

    let log = client.history(&session).await;

    let shown = durable(&frames, &session);
    // The first one was taken when the session was opened.
    assert_eq!(shown, log[1..].iter().collect::<Vec<_>>());
    assert_well_formed(&log);
}

/// Sends messages of `count` times `bytes` that only wait; they are in the log one after another.
async fn wait_with(client: &mut Client, session: &str, character: char, bytes: usize, count: usize) {
    client.chat(session, ENDLESS).await;
    for _ in 0..count {
        client.chat(session, &character.to_string().repeat(bytes)).await;
    }
}

/// Reads the whole history, and checks that no page is larger than it may be.
async fn assert_pages_are_bounded(client: &mut Client, session: &str) {
    let mut after = 0;
    loop {
        let page = client.must(history(session, json!({ "after": after, "limit": 1000 }))).await;
        let seqs = seqs(&page);
        let bytes = page["events"].to_string().len();
        assert!(
            bytes <= 512 * KIB || seqs.len() == 1,
            "a page of {} events has {} KiB",
            seqs.len(),
            bytes / KIB
        );
        assert_eq!(seqs, (after + 1..).take(seqs.len()).collect::<Vec<_>>());
        after = *seqs.last().expect("a page of a log that goes on has an event at least");
        if page["more"] == false {
            return assert_eq!(page["head"], after);
        }
    }
}

#[tokio::test]
async fn a_page_of_history_ends_at_512_kib() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    wait_with(&mut client, &session, 'x', 100 * KIB, 10).await;

    assert_pages_are_bounded(&mut client, &session).await;
}

#[tokio::test]
async fn a_page_of_history_ends_at_512_kib_of_json() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    // Each of these takes two bytes as JSON.
    wait_with(&mut client, &session, '"', 100 * KIB, 10).await;

    assert_pages_are_bounded(&mut client, &session).await;
}

#[tokio::test]
async fn a_page_of_history_has_the_newest_that_fit_where_it_is_read_backwards() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    wait_with(&mut client, &session, 'x', 100 * KIB, 10).await;
    let head = client.history(&session).await.len() as u64;

    let page = client.must(history(&session, json!({ "before": head + 1, "limit": 1000 }))).await;

    let seqs = seqs(&page);
    assert_eq!(seqs, (head + 1 - seqs.len() as u64..=head).collect::<Vec<_>>());
    assert!(seqs.len() < 10 && page["more"] == true, "{} events", seqs.len());
}

// ---- renaming, closing, refreshing ----

#[tokio::test]
async fn a_rename_is_an_event_and_shows_in_the_list() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;

    for title in ["One", "Zwei 😀", "  three words here  "] {
        client.must(rename(&session, title)).await;
        let updated =
            client.frontend.next_where("session_updated", |frame| frame["type"] == "session_updated").await;
        assert_eq!(updated["data"]["title"], title.trim());
        let page = client.must(list(json!({}))).await;
        assert_eq!(page["sessions"][0]["title"], title.trim());
    }
}

#[tokio::test]
async fn what_is_read_shows_what_was_sent_before() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    for number in 0..50 {
        let title = format!("title {number}");
        client.send(rename(&session, &title)).await;
        let read = client.send(history(&session, json!({ "before": 1_000_000, "limit": 1 }))).await;
        let listed = client.send(list(json!({ "limit": 1 }))).await;

        let read = client.backend.reply_to(&read).await;
        assert_eq!(read["data"]["events"][0]["data"]["title"], title, "{read}");
        let listed = client.backend.reply_to(&listed).await;
        assert_eq!(listed["data"]["sessions"][0]["title"], title, "{listed}");
    }
}

#[tokio::test]
async fn a_session_can_be_renamed_while_it_runs() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    client.chat(&session, ENDLESS).await;

    client.must(rename(&session, "busy")).await;
    client.must(stop(&session, json!({}))).await;

    assert_well_formed(&client.history(&session).await);
}

#[tokio::test]
async fn a_closed_session_can_be_read_and_nothing_else() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    client.run(&session, "/echo hi").await;

    client.must(manage(&session, "close")).await;

    // The reply is the commit.
    let log = client.history(&session).await;
    assert_eq!(log.last().expect("an end")["type"], "session_closed");
    assert_eq!(log.last().expect("an end")["data"]["reason"], "closed");
    assert_well_formed(&log);
    for command in [
        chat(&session, "anybody there?"),
        rename(&session, "late"),
        manage(&session, "close"),
        stop(&session, json!({})),
        json!({ "type": "typing", "session_id": session, "data": { "typing": true } }),
    ] {
        assert_eq!(client.error_code(command.clone()).await, "session_closed", "{command}");
    }
    assert_eq!(client.history(&session).await, log);
    let page = client.must(list(json!({}))).await;
    assert_eq!(page["sessions"][0]["status"], "closed");
}

#[tokio::test]
async fn closing_ends_the_run_that_is_going_and_those_that_wait() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    let current = client.chat(&session, ENDLESS_TALK).await;
    let mut frames = until_it_speaks(&mut client, &current).await;
    let waiting = [client.chat(&session, "/echo 1").await, client.chat(&session, "/echo 2").await];

    client.must(manage(&session, "close")).await;

    let log = client.history(&session).await;
    assert_well_formed(&log);
    let closed = log.last().expect("an end");
    assert_eq!(closed["type"], "session_closed");
    let events = of_run(&log, &current);
    let expected = ["user_message", "run_started", "agent_response", "context_update", "run_finished"];
    assert_eq!(types(&events), expected);
    let end = &events.last().expect("an end")["data"];
    assert_eq!((&end["outcome"], &end["reason"]), (&json!("cancelled"), &json!("closed")));
    for run_id in &waiting {
        let events = of_run(&log, run_id);
        assert_eq!(types(&events), ["user_message", "run_finished"]);
        let end = &events.last().expect("an end")["data"];
        assert_eq!((&end["outcome"], &end["reason"]), (&json!("cancelled"), &json!("closed")));
    }
    // What had come is kept, and it is what was shown.
    frames
        .extend(client.frontend.collect_until("the close", |frame| frame["type"] == "session_closed").await);
    let kept = only(&of_run(&log, &current), "agent_response")["data"].clone();
    assert_eq!((&kept["incomplete"], text(&kept, "content")), (&json!(true), &*streamed(&frames, &current)));
}

#[tokio::test]
async fn a_refresh_puts_a_fresh_session_in_the_place_of_the_old_one() {
    let server = Server::start();
    let mut client = server.client().await;
    let old = client.create("helper").await;
    let current = client.chat(&old, ENDLESS).await;
    let waiting = client.chat(&old, "/echo later").await;

    let data = client.must(refresh("helper", Some(&old))).await;

    let fresh = text(&data, "session_id").to_owned();
    assert!(fresh.starts_with("helper_") && fresh != old, "{fresh}");
    let log = client.history(&old).await;
    assert_well_formed(&log);
    let closed = log.last().expect("an end");
    assert_eq!(closed["type"], "session_closed");
    let expected = json!({ "reason": "refreshed", "replaced_by": fresh });
    assert_eq!(closed["data"], expected);
    for run_id in [current, waiting] {
        let end = only(&of_run(&log, &run_id), "run_finished");
        assert_eq!(
            (&end["data"]["outcome"], &end["data"]["reason"]),
            (&json!("cancelled"), &json!("closed"))
        );
    }
    // It is subscribed as one that was created.
    assert_eq!(client.run(&fresh, "/echo hi").await, "completed");
    assert_eq!(client.error_code(chat(&old, "hi")).await, "session_closed");
}

#[tokio::test]
async fn a_refresh_needs_no_old_session() {
    let server = Server::start();
    let mut client = server.client().await;
    let closed = client.create("helper").await;
    client.must(manage(&closed, "close")).await;
    let before = client.history(&closed).await;

    for old in [None, Some("helper_999999"), Some("no session's id"), Some(closed.as_str())] {
        let data = client.must(refresh("helper", old)).await;
        let fresh = text(&data, "session_id").to_owned();
        assert_eq!(client.run(&fresh, "/echo hi").await, "completed", "{old:?}");
    }
    assert_eq!(client.history(&closed).await, before, "what is closed stays as it is");
}

#[tokio::test]
async fn a_refresh_with_an_unknown_agent_leaves_the_old_session_alone() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;

    assert_eq!(client.error_code(refresh("nobody", Some(&session))).await, "agent_not_found");

    assert_eq!(client.run(&session, "/echo hi").await, "completed");
}

// ---- runs ----

#[tokio::test]
async fn the_events_of_a_run_come_in_their_order() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;

    let data = client.must(chat(&session, "/echo one two three")).await;
    let run_id = text(&data, "run_id");
    let frames = client.until_run_ends(run_id).await;

    let events = of_run(&frames, run_id);
    let expected = ["user_message", "run_started", "agent_response", "context_update", "run_finished"];
    assert_eq!(types(&events), expected);
    assert_eq!(events[0]["seq"], data["seq"], "the reply says where the message stands");
    let said = &events[0]["data"];
    assert_eq!((&said["content"], &said["queued"]), (&json!("/echo one two three"), &json!(false)));
    assert_eq!(said["author"], "local");
    let answer = &events[2]["data"];
    assert_eq!((&answer["content"], &answer["incomplete"]), (&json!("one two three"), &json!(false)));
    assert_eq!((&answer["model"], &answer["finish_reason"]), (&json!("demo"), &json!("stop")));
    assert_eq!(streamed(&frames, run_id), "one two three");
    assert_eq!(events[4]["data"]["outcome"], "completed");
    // What streams is between the run's beginning and its answer.
    let of_this_run: Vec<_> = frames.iter().filter(|frame| frame["run_id"] == run_id).collect();
    let types = types(&of_this_run);
    let place = |kind: &str| types.iter().position(|other| *other == kind).expect(kind);
    let last_delta = types.iter().rposition(|kind| *kind == "message.delta").expect("a delta");
    assert!(place("run_started") < place("message.delta") && last_delta < place("agent_response"));
}

#[tokio::test]
async fn deltas_say_at_which_code_point_they_begin() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    const TEXT: &str = "Zürich 日本語 👩‍👩‍👧‍👦 e\u{301}t\u{e9} 😀😀 end";

    let run_id = client.chat(&session, &format!("/echo {TEXT}")).await;
    let frames = client.until_run_ends(&run_id).await;

    let mut said = String::new();
    for delta in frames.iter().filter(|frame| frame["type"] == "message.delta") {
        assert_eq!(delta["data"]["offset"], said.chars().count(), "{delta}");
        said.push_str(text(&delta["data"], "text"));
    }
    assert_eq!(said, TEXT);
    let answer = only(&of_run(&frames, &run_id), "agent_response");
    assert_eq!(answer["data"]["content"], TEXT);
}

#[tokio::test]
async fn the_status_of_the_agent_is_shown_as_it_changes() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    let statuses = async |client: &mut Client, message: &str| {
        client.chat(&session, message).await;
        let frames = client
            .frontend
            .collect_until("idleness", |frame| {
                frame["type"] == "agent_status_change" && frame["data"]["status"] == "idle"
            })
            .await;
        let changes = frames.iter().filter(|frame| frame["type"] == "agent_status_change");
        changes.map(|frame| text(&frame["data"], "status").to_owned()).collect::<Vec<_>>()
    };

    assert_eq!(statuses(&mut client, "/echo hi").await, ["thinking", "responding", "idle"]);
    let with_tool = statuses(&mut client, "/tool clock").await;
    assert_eq!(with_tool[..2], ["thinking", "calling_tool"]);
}

#[tokio::test]
async fn messages_that_wait_run_in_their_order() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    let current = client.chat(&session, ENDLESS).await;
    let mut runs = vec![current.clone()];
    for number in 0..5 {
        let data = client.must(chat(&session, &format!("/echo {number}"))).await;
        let run_id = text(&data, "run_id").to_owned();
        let message = client
            .frontend
            .next_where("user_message", |frame| {
                frame["type"] == "user_message" && frame["run_id"] == run_id.as_str()
            })
            .await;
        assert_eq!((&message["data"]["queued"], &message["seq"]), (&json!(true), &data["seq"]));
        runs.push(run_id);
    }

    client.must(stop(&session, json!({ "run_id": current }))).await;
    client.until_run_ends(runs.last().expect("a run")).await;

    let log = client.history(&session).await;
    assert_well_formed(&log);
    let started: Vec<_> = log.iter().filter(|event| event["type"] == "run_started").collect();
    assert_eq!(started.iter().map(|event| text(event, "run_id")).collect::<Vec<_>>(), runs);
    for (number, run_id) in runs[1..].iter().enumerate() {
        let events = of_run(&log, run_id);
        assert_eq!(only(&events, "agent_response")["data"]["content"], number.to_string());
        assert_eq!(only(&events, "run_finished")["data"]["outcome"], "completed");
    }
}

#[tokio::test]
async fn a_message_may_ask_to_be_rejected_where_a_run_is_going() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    let accepted = client.must(chat_on_busy(&session, "/echo idle", "reject")).await;
    client.until_run_ends(text(&accepted, "run_id")).await;
    client.chat(&session, ENDLESS).await;
    let before = client.history(&session).await;

    let reply = client.command(chat_on_busy(&session, "/echo busy", "reject")).await;

    assert_eq!(reply["error"]["code"], "busy", "{reply}");
    assert_eq!(client.history(&session).await, before, "nothing of it is in the log");
}

#[tokio::test]
async fn a_message_that_interrupts_takes_the_place_of_the_run_before_those_that_wait() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    let current = client.chat(&session, ENDLESS_TALK).await;
    let mut frames = until_it_speaks(&mut client, &current).await;
    let waiting = client.chat(&session, "/echo I waited").await;

    let data = client.must(chat_on_busy(&session, "/echo I interrupted", "interrupt")).await;
    let interrupting = text(&data, "run_id").to_owned();
    frames.extend(client.until_run_ends(&waiting).await);

    let log = client.history(&session).await;
    assert_well_formed(&log);
    let started: Vec<_> = log.iter().filter(|event| event["type"] == "run_started").collect();
    let started: Vec<_> = started.iter().map(|event| text(event, "run_id")).collect();
    assert_eq!(started, [&current, &interrupting, &waiting]);
    let end = &only(&of_run(&log, &current), "run_finished")["data"];
    assert_eq!((&end["outcome"], &end["reason"]), (&json!("cancelled"), &json!("replaced")));
    let kept = &only(&of_run(&log, &current), "agent_response")["data"];
    assert_eq!((&kept["incomplete"], text(kept, "content")), (&json!(true), &*streamed(&frames, &current)));
    for run_id in [&interrupting, &waiting] {
        assert_eq!(only(&of_run(&log, run_id), "run_finished")["data"]["outcome"], "completed");
    }
}

#[tokio::test]
async fn a_message_that_would_interrupt_nothing_just_runs() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;

    let data = client.must(chat_on_busy(&session, "/echo hi", "interrupt")).await;
    let frames = client.until_run_ends(text(&data, "run_id")).await;

    let message = only(&of_run(&frames, text(&data, "run_id")), "user_message");
    assert_eq!(message["data"]["queued"], false);
}

#[tokio::test]
async fn the_queue_holds_32_messages() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    let current = client.chat(&session, ENDLESS).await;
    let mut waiting = Vec::new();
    for number in 0..32 {
        waiting.push(client.chat(&session, &format!("/echo {number}")).await);
    }

    assert_eq!(client.error_code(chat(&session, "/echo too many")).await, "busy");

    // There is room again once one has left.
    client.must(stop(&session, json!({ "run_id": waiting[7] }))).await;
    let last = client.chat(&session, "/echo last").await;
    assert_eq!(client.error_code(chat(&session, "/echo too many")).await, "busy");
    client.must(stop(&session, json!({ "run_id": current }))).await;
    client.until_run_ends(&last).await;
    assert_well_formed(&client.history(&session).await);
}

#[tokio::test]
async fn the_queue_holds_a_mebibyte() {
    let server = Server::with(&[("DUOLOGUE_MAX_FRAME_BYTES", "1048576")]);
    let mut client = server.client().await;
    let session = client.create("helper").await;
    let current = client.chat(&session, ENDLESS).await;
    let large = "x".repeat(256 * KIB);
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.push(client.chat(&session, &large).await);
    }

    assert_eq!(client.error_code(chat(&session, "x")).await, "busy");

    client.must(stop(&session, json!({ "run_id": waiting[0] }))).await;
    client.chat(&session, "x").await;
    assert_eq!(client.error_code(chat(&session, &large)).await, "busy");
    client.must(stop(&session, json!({ "run_id": current, "clear_queue": true }))).await;
    assert_well_formed(&client.history(&session).await);
}

// ---- stopping ----

#[tokio::test]
async fn a_stop_is_answered_once_the_run_has_ended_and_keeps_what_was_said() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    for named in [true, false] {
        let run_id = client.chat(&session, ENDLESS_TALK).await;
        let mut frames = until_it_speaks(&mut client, &run_id).await;

        let data = if named { json!({ "run_id": run_id }) } else { json!({}) };
        let stopped = client.must(stop(&session, data)).await;

        assert_eq!(stopped["outcome"], "cancelled");
        let log = client.history(&session).await;
        assert_well_formed(&log);
        let events = of_run(&log, &run_id);
        let expected = ["user_message", "run_started", "agent_response", "context_update", "run_finished"];
        assert_eq!(types(&events), expected);
        assert_eq!(only(&events, "run_finished")["data"]["outcome"], "cancelled");
        frames.extend(client.until_run_ends(&run_id).await);
        let kept = &only(&events, "agent_response")["data"];
        assert_eq!(
            (&kept["incomplete"], text(kept, "content")),
            (&json!(true), &*streamed(&frames, &run_id))
        );
        assert_eq!(client.run(&session, "/echo and on").await, "completed");
    }
}

#[tokio::test]
async fn a_run_that_has_said_nothing_is_stopped_without_an_answer() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    let run_id = client.chat(&session, ENDLESS).await;

    client.must(stop(&session, json!({}))).await;

    let log = client.history(&session).await;
    assert_eq!(types(&of_run(&log, &run_id)), ["user_message", "run_started", "run_finished"]);
}

#[tokio::test]
async fn only_what_is_going_or_waits_can_be_stopped() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    let other = client.create("helper").await;
    let foreign = client.chat(&other, ENDLESS).await;
    let ended = client.chat(&session, "/echo hi").await;
    client.until_run_ends(&ended).await;

    for running in [false, true] {
        if running {
            client.chat(&session, ENDLESS).await;
        } else {
            assert_eq!(client.error_code(stop(&session, json!({}))).await, "conflict", "nothing is going");
        }
        let late = client.error_code(stop(&session, json!({ "run_id": ended }))).await;
        assert_eq!(late, "conflict", "it has ended");
        for unknown in [foreign.as_str(), "01890000-0000-7000-8000-000000000000", "no run's id"] {
            let reply = client.command(stop(&session, json!({ "run_id": unknown }))).await;
            assert_eq!(reply["error"]["code"], "run_not_found", "{unknown}: {reply}");
        }
    }
    // Nothing of this has stopped what is going.
    let page = client.must(list(json!({}))).await;
    assert!(
        page["sessions"].as_array().expect("sessions").iter().all(|session| session["status"] == "running")
    );
}

#[tokio::test]
async fn a_run_that_waits_can_be_stopped_before_it_begins() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    let current = client.chat(&session, ENDLESS).await;
    let mut waiting = Vec::new();
    for number in 0..3 {
        waiting.push(client.chat(&session, &format!("/echo {number}")).await);
    }

    let stopped = client.must(stop(&session, json!({ "run_id": waiting[1] }))).await;

    assert_eq!(stopped["outcome"], "cancelled");
    let log = client.history(&session).await;
    let events = of_run(&log, &waiting[1]);
    assert_eq!(types(&events), ["user_message", "run_finished"]);
    let end = &events[1]["data"];
    assert_eq!((&end["outcome"], &end["reason"]), (&json!("cancelled"), &json!("cleared")));
    assert_eq!(client.error_code(stop(&session, json!({ "run_id": waiting[1] }))).await, "conflict");
    client.must(stop(&session, json!({ "run_id": current }))).await;
    client.until_run_ends(&waiting[2]).await;
    let log = client.history(&session).await;
    assert_well_formed(&log);
    for run_id in [&waiting[0], &waiting[2]] {
        assert_eq!(only(&of_run(&log, run_id), "run_finished")["data"]["outcome"], "completed");
    }
}

#[tokio::test]
async fn a_stop_leaves_the_queue_unless_it_is_to_clear_it() {
    let server = Server::start();
    let mut client = server.client().await;
    for clear in [false, true] {
        let session = client.create("helper").await;
        let current = client.chat(&session, ENDLESS).await;
        let waiting = [client.chat(&session, "/echo 1").await, client.chat(&session, "/echo 2").await];

        let data = json!({ "run_id": current, "clear_queue": clear });
        client.must(stop(&session, data)).await;
        client.until_run_ends(&waiting[1]).await;

        let log = client.history(&session).await;
        assert_well_formed(&log);
        for run_id in &waiting {
            let events = of_run(&log, run_id);
            let end = &only(&events, "run_finished")["data"];
            if clear {
                assert_eq!(types(&events), ["user_message", "run_finished"]);
                assert_eq!((&end["outcome"], &end["reason"]), (&json!("cancelled"), &json!("cleared")));
            } else {
                assert_eq!(end["outcome"], "completed");
            }
        }
        assert_eq!(client.run(&session, "/echo and on").await, "completed");
    }
}

#[tokio::test]
async fn a_queue_that_is_cleared_again_before_that_is_done_ends_each_run_once() {
    let server = Server::start();
    let mut client = server.client().await;
    for round in 0..10 {
        let session = client.create("helper").await;
        client.chat(&session, ENDLESS).await;
        let waiting = client.chat(&session, "/echo waiting").await;
        // All of these are there before the first has been done.
        let mut commands = Vec::new();
        for number in 0..10 {
            commands.push(client.send(chat(&session, "/echo waiting")).await);
            let command = match (number + round) % 4 {
                0 => stop(&session, json!({ "run_id": waiting })),
                _ => stop(&session, json!({ "clear_queue": true })),
            };
            commands.push(client.send(command).await);
        }
        commands.push(client.send(manage(&session, "close")).await);
        for id in commands {
            client.backend.reply_to(&id).await;
        }

        assert_well_formed(&client.history(&session).await);
    }
}

#[tokio::test]
async fn all_who_stop_a_run_are_told_how_it_ended() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    let run_id = client.chat(&session, ENDLESS).await;
    let mut commands = Vec::new();
    for _ in 0..10 {
        commands.push(client.send(stop(&session, json!({ "run_id": run_id }))).await);
    }

    let mut told = 0;
    for id in commands {
        let reply = client.backend.reply_to(&id).await;
        if reply["ok"] == true {
            assert_eq!(reply["data"]["outcome"], "cancelled", "{reply}");
            told += 1;
        } else {
            assert_eq!(reply["error"]["code"], "conflict", "it has ended: {reply}");
        }
    }
    assert!(told > 0);
    assert_well_formed(&client.history(&session).await);
}

#[tokio::test]
async fn a_stop_that_races_with_the_end_says_how_the_run_ended() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    for round in 0..60 {
        // The stop comes the sooner after the end, the shorter the answer is.
        let run_id = client.chat(&session, &format!("/count {}", 1 + 40 * (round % 15))).await;
        let reply = client.command(stop(&session, json!({ "run_id": run_id }))).await;

        let log = client.history(&session).await;
        let end = only(&of_run(&log, &run_id), "run_finished")["data"]["outcome"].clone();
        if reply["ok"] == true {
            assert_eq!(reply["data"]["outcome"], end, "{reply}");
        } else {
            assert_eq!((&reply["error"]["code"], &end), (&json!("conflict"), &json!("completed")), "{reply}");
        }
    }
    assert_well_formed(&client.history(&session).await);
}

#[tokio::test]
async fn a_disconnect_stops_nothing() {
    let server = Server::start();
    let mut watcher = server.client().await;
    let mut client = server.client().await;
    let session = client.create("helper").await;
    watcher.frontend.ask(&subscribe(&[&topic(&session)])).await;
    let run_id = client.chat(&session, "/count 100 5").await;
    let waiting = client.chat(&session, "/echo and on").await;
    let connections = server.connections().await;

    drop(client);
    until("the client to be gone", async || server.connections().await == connections - 2).await;

    watcher.until_run_ends(&waiting).await;
    let log = watcher.history(&session).await;
    assert_well_formed(&log);
    for run_id in [run_id, waiting] {
        assert_eq!(only(&of_run(&log, &run_id), "run_finished")["data"]["outcome"], "completed");
    }
}

// ---- failures ----

#[tokio::test]
async fn a_provider_that_fails_is_named_in_an_error_and_the_session_goes_on() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;
    for (kind, code) in [
        ("auth", "provider_auth"),
        ("rate_limit", "provider_rate_limited"),
        ("timeout", "provider_timeout"),
        ("server", "provider_error"),
    ] {
        let run_id = client.chat(&session, &format!("/fail {kind}")).await;
        let frames = client.until_run_ends(&run_id).await;

        let events = of_run(&frames, &run_id);
        assert_eq!(types(&events), ["user_message", "run_started", "error", "run_finished"], "{kind}");
        let error = &events[2]["error"];
        assert_eq!(error["code"], code, "{error}");
        assert!(!text(error, "message").is_empty() && error["details"].is_object(), "{error}");
        assert_eq!(events[3]["data"]["outcome"], "failed");
        assert_eq!(client.run(&session, "/echo and on").await, "completed");
    }
    assert_well_formed(&client.history(&session).await);
}

#[tokio::test]
async fn what_had_come_of_an_answer_that_is_cut_is_kept() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;

    let run_id = client.chat(&session, "/fail cut").await;
    let frames = client.until_run_ends(&run_id).await;

    let events = of_run(&frames, &run_id);
    let expected =
        ["user_message", "run_started", "agent_response", "context_update", "error", "run_finished"];
    assert_eq!(types(&events), expected);
    let kept = &only(&events, "agent_response")["data"];
    assert_eq!((&kept["incomplete"], text(kept, "content")), (&json!(true), &*streamed(&frames, &run_id)));
    assert!(!text(kept, "content").is_empty());
    assert_eq!(only(&events, "error")["error"]["code"], "provider_error");
    assert_eq!(only(&events, "run_finished")["data"]["outcome"], "failed");
}

#[tokio::test]
async fn a_tool_that_there_is_not_is_an_error_of_its_call() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;

    let run_id = client.chat(&session, r#"/tool sundial {"zone":"UTC"}"#).await;
    let frames = client.until_run_ends(&run_id).await;

    let events = of_run(&frames, &run_id);
    let expected = [
        "user_message",
        "run_started",
        "tool_call.start",
        "tool_call.end",
        "agent_response",
        "context_update",
        "run_finished",
    ];
    assert_eq!(types(&events), expected);
    let (start, end) = (&events[2]["data"], &events[3]["data"]);
    assert_eq!((&start["tool_name"], &start["args"]), (&json!("sundial"), &json!({ "zone": "UTC" })));
    assert_eq!(start["tool_call_id"], end["tool_call_id"]);
    assert_eq!((&end["error"]["code"], end.get("result")), (&json!("tool_error"), None));
    assert!(end["duration_ms"].is_u64());
    // The model is told, and goes on.
    assert!(text(&events[4]["data"], "content").contains("sundial"));
    assert_eq!(events[6]["data"]["outcome"], "completed");
    assert_eq!(client.run(&session, "/echo and on").await, "completed");
}

// ---- limits ----

#[tokio::test]
async fn an_answer_longer_than_an_event_may_be_is_cut() {
    let server = Server::start();
    let mut client = server.client().await;
    // Nobody watches, so that nothing is streamed.
    let mut backend = Socket::open(&server.url("/ws/backend-api?client_id=alone")).await;
    let created = backend.ask(&with_id("c1", create("helper"))).await;
    let session = text(&created["data"], "session_id").to_owned();
    let sent = backend.ask(&with_id("c2", chat(&session, "/count 1000000"))).await;
    let run_id = text(&sent["data"], "run_id").to_owned();

    until("the end of the run", async || {
        client.must(list(json!({}))).await["sessions"][0]["status"] == "idle"
    })
    .await;

    let log = client.history(&session).await;
    let events = of_run(&log, &run_id);
    let answer = only(&events, "agent_response");
    assert_eq!(
        (&answer["data"]["finish_reason"], &answer["data"]["incomplete"]),
        (&json!("length"), &json!(true))
    );
    let bytes = answer.to_string().len();
    assert!((900 * KIB..=1024 * KIB).contains(&bytes), "{bytes}");
    assert!(text(&answer["data"], "content").starts_with("1 2 3 4 5 6 7 8 9 10 11"));
    assert_eq!(only(&events, "run_finished")["data"]["outcome"], "completed");
}

fn with_id(id: &str, mut command: Value) -> Value {
    command["message_id"] = id.into();
    command
}

/// An agent that takes whatever a message can hold.
const WIDE_WINDOW: &str = r#"
[[agents]]
id = "wide"
name = "Wide"
model = "demo"
context_window = 10000000
"#;

#[tokio::test]
async fn no_event_is_larger_than_a_mebibyte() {
    let server = Server::with_agents(WIDE_WINDOW, &[("DUOLOGUE_MAX_FRAME_BYTES", "1048576")]);
    let mut client = server.client().await;
    let session = client.create("wide").await;
    // As JSON, a quote takes two bytes and a control character six.
    for message in [
        format!("/echo {}", "\"".repeat(250 * KIB)),
        format!("/echo {}", "\u{1}".repeat(160 * KIB)),
        format!("/tool clock {{\"zone\":\"{}\"}}", "x".repeat(250 * KIB)),
    ] {
        client.run(&session, &message).await;
    }

    for event in client.history(&session).await {
        let bytes = event.to_string().len();
        assert!(bytes <= 1024 * KIB, "{} has {bytes} bytes", event["type"]);
    }
}

#[tokio::test]
async fn no_event_is_larger_than_a_mebibyte_whatever_a_tool_is_called() {
    let server = Server::with_agents(WIDE_WINDOW, &[("DUOLOGUE_MAX_FRAME_BYTES", "1048576")]);
    let mut client = server.client().await;
    let session = client.create("wide").await;

    client.run(&session, &format!("/tool {}", "\"".repeat(250 * KIB))).await;

    for event in client.history(&session).await {
        let bytes = event.to_string().len();
        assert!(bytes <= 1024 * KIB, "{} has {} KiB", event["type"], bytes / KIB);
    }
}

// ---- context ----

/// An agent with room for a few hundred tokens.
const SMALL_WINDOW: &str = r#"
[[agents]]
id = "small"
name = "Small"
model = "demo"
system_prompt = "You forget."
context_window = 600
"#;

#[tokio::test]
async fn the_context_fills_and_then_leaves_out_the_oldest() {
    let server = Server::with_agents(SMALL_WINDOW, &[]);
    let mut client = server.client().await;
    let session = client.create("small").await;
    let (mut used_before, mut omitted_before, mut percentages) = (0, 0, BTreeSet::new());

    for round in 0..30 {
        let run_id = client.chat(&session, &format!("/echo {round} {}", "word ".repeat(20))).await;
        let frames = client.until_run_ends(&run_id).await;
        let context = &only(&of_run(&frames, &run_id), "context_update")["data"];
        let number = |field: &str| context[field].as_u64().unwrap_or_else(|| panic!("{field} in {context}"));
        assert_eq!(number("context_window"), 600);
        assert!(matches!(text(context, "source"), "provider" | "estimate"), "{context}");
        let (used, omitted) = (number("tokens_used"), number("omitted_messages"));
        assert!((1..=600).contains(&used), "{context}");
        let percentage = number("percentage");
        assert!(percentage.abs_diff(used * 100 / 600) <= 1, "{context}");
        percentages.insert(percentage);
        assert!(omitted >= omitted_before, "what was left out stays out: {context}");
        assert!(used > used_before || omitted > omitted_before, "it moves: {context}");
        (used_before, omitted_before) = (used, omitted);
    }

    assert!(omitted_before > 0, "the window has filled");
    assert!(percentages.len() > 4, "{percentages:?}");
    assert_well_formed(&client.history(&session).await);
}

#[tokio::test]
async fn a_message_too_long_for_the_window_is_an_error_and_the_session_goes_on() {
    let server = Server::with_agents(SMALL_WINDOW, &[]);
    let mut client = server.client().await;
    let session = client.create("small").await;
    assert_eq!(client.run(&session, "/echo before").await, "completed");

    let run_id = client.chat(&session, &"word ".repeat(2000)).await;
    let frames = client.until_run_ends(&run_id).await;

    let events = of_run(&frames, &run_id);
    assert_eq!(types(&events), ["user_message", "run_started", "error", "run_finished"]);
    assert_eq!(events[2]["error"]["code"], "context_overflow");
    assert_eq!(events[3]["data"]["outcome"], "failed");
    assert_eq!(client.run(&session, "/echo after").await, "completed");
    assert_well_formed(&client.history(&session).await);
}

// ---- memory ----

#[tokio::test]
async fn a_session_that_has_left_memory_goes_on_where_it_was() {
    let server = Server::with(&[("DUOLOGUE_SESSION_IDLE_SECS", "1")]);
    let mut client = server.client().await;
    let mut watched = Watched::new();
    let data = client.must(create("helper")).await;
    let (session, epoch) = (text(&data, "session_id").to_owned(), data["epoch"].clone());
    let first = client.chat(&session, "/echo first").await;
    let agents_in_memory = async || {
        let (_, body) = server.get("/ready").await;
        serde_json::from_str::<Value>(&body).expect("JSON")["agents_in_memory"].as_u64().expect("a number")
    };

    for round in 0..3 {
        until("the session to leave memory", async || agents_in_memory().await == 0).await;
        let run_id = client.chat(&session, &format!("/echo {round}")).await;
        for frame in client.until_run_ends(&run_id).await {
            watched.see(&frame);
        }
    }

    let log = client.history(&session).await;
    assert_well_formed(&log);
    assert_eq!(log[0]["epoch"], epoch);
    let seen: Vec<_> = watched.topic(&topic(&session)).events.values().collect();
    assert_eq!(seen, log.iter().collect::<Vec<_>>(), "whoever watches misses nothing of it");
    let late = client.error_code(stop(&session, json!({ "run_id": first }))).await;
    assert_eq!(late, "conflict", "its runs are known");
}

// ---- fields ----

#[track_caller]
fn assert_is_timestamp(value: &Value) {
    let text = value.as_str().unwrap_or_else(|| panic!("no timestamp: {value}"));
    assert!(text.parse::<jiff::Timestamp>().is_ok(), "not as RFC 3339 has it: {text}");
}

/// The fields of `data` that an event has, and those that it may leave out.
fn data_fields(kind: &str) -> Option<(&'static [&'static str], &'static [&'static str])> {
    Some(match kind {
        "session_created" => (&["session_id", "agent_name", "title"], &[]),
        "system_message" => (&["content"], &[]),
        "seed_message" => (&["role", "content"], &[]),
        "user_message" => (&["message_id", "command_id", "content", "author", "queued"], &[]),
        "run_started" => (&["trigger"], &[]),
        "tool_call.start" => (&["message_id", "tool_call_id", "tool_name", "args"], &[]),
        "tool_call.end" => {
            (&["tool_call_id", "duration_ms"], &["message_id", "tool_name", "result", "error"])
        }
        "agent_response" => {
            (&["message_id", "content", "model", "finish_reason", "usage", "incomplete"], &[])
        }
        "context_update" => {
            (&["tokens_used", "context_window", "percentage", "omitted_messages", "source"], &[])
        }
        "error" => (&[], &[]),
        "run_finished" => (&["outcome", "usage", "duration_ms"], &["reason"]),
        "session_updated" => (&["title"], &[]),
        "session_closed" => (&["reason"], &["replaced_by"]),
        "message.delta" => (&["message_id", "offset", "text"], &[]),
        "message.snapshot" => (&["message_id", "text"], &[]),
        "agent_status_change" => (&["status"], &[]),
        "typing" => (&["typing", "author", "client_id", "expires_in_ms"], &[]),
        "approval_requested" => (&["tool_call_id", "tool_name", "expires_at"], &[]),
        "approval_resolved" => (&["tool_call_id", "decision", "by"], &["reason", "args"]),
        "state.patch" => (&["version", "patch"], &[]),
        "suggestions" => (&["items"], &[]),
        _ => return None,
    })
}

/// Whether events of this type belong to a run; some may or may not.
fn is_of_a_run(kind: &str) -> Option<bool> {
    match kind {
        "session_created" | "system_message" | "seed_message" | "session_updated" | "session_closed"
        | "typing" => Some(false),
        // A document may be changed by a client, too.
        "agent_status_change" | "state.patch" => None,
        _ => Some(true),
    }
}

#[tokio::test]
async fn every_event_has_the_fields_of_its_type_and_no_others() {
    const AGENTS: &str = r#"
        [[agents]]
        id = "helper"
        name = "Helper"
        model = "demo"
        system_prompt = "Help."
        seed_messages = [{ role = "assistant", content = "Hello." }]
        tools = ["suggest", { name = "update_state", approval = "ask" }]
        state = {}
    "#;
    let server = Server::with_agents(AGENTS, &[]);
    let mut client = server.client().await;
    let mut command = create("helper");
    command["data"]["title"] = "All of them".into();
    let created = client.must(command).await;
    let session = text(&created, "session_id").to_owned();
    let mut frames = Vec::new();
    for message in ["/echo words", "/tool clock", r#"/tool suggest {"items":["on"]}"#, "/fail cut"] {
        let run_id = client.chat(&session, message).await;
        frames.extend(client.until_run_ends(&run_id).await);
    }
    let patch = r#"/tool update_state {"patch":[{"op":"add","path":"/a","value":1}]}"#;
    let run_id = client.chat(&session, patch).await;
    frames.extend(
        client.frontend.collect_until("a request", |frame| frame["type"] == "approval_requested").await,
    );
    let call = &frames.last().expect("a request")["data"]["tool_call_id"];
    let data = json!({ "tool_call_id": call, "decision": "approve", "reason": "why not" });
    client.must(json!({ "type": "tool_approval", "session_id": session, "data": data })).await;
    frames.extend(client.until_run_ends(&run_id).await);
    let run_id = client.chat(&session, ENDLESS_TALK).await;
    frames.extend(until_it_speaks(&mut client, &run_id).await);
    client.must(json!({ "type": "typing", "session_id": session, "data": { "typing": true } })).await;
    client.must(rename(&session, "Another")).await;
    // Whoever comes while it speaks is shown what it has said.
    let from_here = subscribe_from(&topic(&session), text(&created, "epoch"), 3);
    let mut other = server.client().await;
    other.frontend.ask(&from_here).await;
    let shown =
        other.frontend.collect_until("what was said", |frame| frame["type"] == "message.snapshot").await;
    let snapshot = shown.last().expect("a snapshot").clone();
    client.must(manage(&session, "close")).await;
    frames
        .extend(client.frontend.collect_until("the close", |frame| frame["type"] == "session_closed").await);
    frames.push(snapshot);

    let mut seen = BTreeMap::new();
    let mut event_ids = BTreeSet::new();
    for event in &frames {
        let kind = text(event, "type");
        let Some((fields, optional)) = data_fields(kind) else { continue };
        *seen.entry(kind).or_insert(0) += 1;
        let keys: BTreeSet<_> = event.as_object().expect("an object").keys().map(String::as_str).collect();
        let mut expected = BTreeSet::from([
            "v",
            "type",
            "topic",
            "message_id",
            "timestamp",
            "agent_id",
            "session_id",
            "data",
        ]);
        let is_ephemeral =
            matches!(kind, "message.delta" | "message.snapshot" | "agent_status_change" | "typing");
        if !is_ephemeral {
            expected.extend(["epoch", "seq"]);
            assert_eq!(event["epoch"], created["epoch"], "{event}");
        }
        if is_of_a_run(kind).unwrap_or(keys.contains("run_id")) {
            expected.insert("run_id");
        }
        if kind == "error" {
            expected.insert("error");
            let error: BTreeSet<_> =
                event["error"].as_object().expect("an error").keys().map(String::as_str).collect();
            assert_eq!(error, ["code", "details", "message"].into(), "{event}");
        }
        assert_eq!(keys, expected, "{event}");
        assert_eq!((&event["v"], &event["agent_id"]), (&json!(1), &json!("helper")), "{event}");
        assert_eq!(
            (&event["topic"], &event["session_id"]),
            (&json!(topic(&session)), &json!(session)),
            "{event}"
        );
        assert!(event_ids.insert(text(event, "message_id")), "each event has an id of its own: {event}");
        assert_is_timestamp(&event["timestamp"]);

        let data: BTreeSet<_> =
            event["data"].as_object().expect("an object").keys().map(String::as_str).collect();
        let required: BTreeSet<_> = fields.iter().copied().collect();
        let allowed: BTreeSet<_> = required.iter().copied().chain(optional.iter().copied()).collect();
        assert!(data.is_superset(&required), "{kind} lacks {:?}", required.difference(&data));
        assert!(data.is_subset(&allowed), "{kind} has {:?}", data.difference(&allowed));
        if fields.contains(&"usage") {
            assert!(event["data"]["usage"].is_object() || event["data"]["usage"].is_null(), "{event}");
        }
    }
    for kind in [
        "session_created",
        "system_message",
        "seed_message",
        "user_message",
        "run_started",
        "tool_call.start",
        "tool_call.end",
        "agent_response",
        "context_update",
        "error",
        "run_finished",
        "session_updated",
        "session_closed",
        "message.delta",
        "message.snapshot",
        "agent_status_change",
        "approval_requested",
        "approval_resolved",
        "state.patch",
        "suggestions",
        "typing",
    ] {
        assert!(seen.contains_key(kind), "no {kind} has come");
    }
    let durable = durable(&frames, &session);
    assert_contiguous(&durable, 0);
}

#[tokio::test]
async fn a_message_names_the_command_that_brought_it() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("helper").await;

    let id = client.send(chat(&session, "/echo named")).await;
    client.backend.reply_to(&id).await;
    client.backend.send(&chat(&session, "/echo unnamed")).await;
    let reply = client.backend.next().await;
    client.until_run_ends(text(&reply["data"], "run_id")).await;

    let log = client.history(&session).await;
    let messages: Vec<_> = log.iter().filter(|event| event["type"] == "user_message").collect();
    assert_eq!(messages[0]["data"]["command_id"], id.as_str());
    assert_eq!(messages[1]["data"]["command_id"], Value::Null);
    assert_eq!((&reply["reply_to"], &reply["ok"]), (&Value::Null, &json!(true)));
}

// ---- what is there to choose from ----

#[tokio::test]
async fn agents_and_models_are_those_of_the_configuration() {
    let server = Server::start();
    let mut client = server.client().await;

    let agents = client.must(json!({ "type": "get_agents" })).await;
    let names: Vec<_> =
        agents["agents"].as_array().expect("agents").iter().map(|agent| text(agent, "id")).collect();
    assert_eq!(names, ["helper", "writer", "counter", "tracker", "clerk", "worker"]);
    assert_eq!((text(&agents["agents"][0], "name"), text(&agents["agents"][0], "model")), ("Helper", "demo"));
    assert_eq!(agents["agents"][1]["context_window"], 32768);

    let models = client.must(json!({ "type": "get_models" })).await;
    assert!(models["models"].to_string().contains("\"demo\""), "{models}");
}

// ---- everything at once ----

/// Something that a client may do to a session, chosen at random.
fn random_command(random: &mut StdRng, session: &str, runs: &[String]) -> Value {
    let messages = [
        "/echo a few words",
        "/count 40",
        "/count 20 1",
        "/think 3",
        "/tool clock",
        "/fail server",
        "/fail cut",
        "/lorem 5",
    ];
    let message = messages.choose(random).expect("a message");
    match random.random_range(0..100) {
        0..45 => chat(session, message),
        45..52 => chat_on_busy(session, message, "reject"),
        52..65 => chat_on_busy(session, message, "interrupt"),
        65..75 => stop(session, json!({})),
        75..85 => match runs.choose(random) {
            Some(run_id) => stop(session, json!({ "run_id": run_id })),
            None => stop(session, json!({ "clear_queue": true })),
        },
        85..89 => stop(session, json!({ "clear_queue": true })),
        89..94 => rename(session, &format!("title {}", random.random_range(0..1000))),
        94..98 => json!({ "type": "typing", "session_id": session, "data": { "typing": true } }),
        _ => manage(session, "close"),
    }
}

/// Sends random commands; the ids of the messages that were accepted.
async fn misuse(client: &mut Client, sessions: &[String], seed: u64) -> Vec<String> {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut runs, mut accepted) = (Vec::new(), Vec::new());
    for _ in 0..150 {
        let session = sessions.choose(&mut random).expect("a session");
        let command = random_command(&mut random, session, &runs);
        let id = client.send(command.clone()).await;
        // Some are sent in a row.
        if random.random_bool(0.3) {
            continue;
        }
        let reply = client.backend.reply_to(&id).await;
        if reply["ok"] == true {
            if let Some(run_id) = reply["data"]["run_id"].as_str() {
                runs.push(run_id.to_owned());
                accepted.push(id);
            }
        } else {
            let code = text(&reply["error"], "code");
            let expected = ["busy", "conflict", "run_not_found", "session_closed"];
            assert!(expected.contains(&code), "{command} was answered {reply}");
        }
    }
    accepted
}

#[tokio::test]
async fn whatever_clients_do_every_run_ends_once_and_every_client_sees_the_same() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let server = Server::start();
    let mut clients = [server.client().await, server.client().await, server.client().await];
    let mut sessions = Vec::new();
    for agent in ["helper", "writer", "helper", "writer"] {
        sessions.push(clients[0].create(agent).await);
    }
    let topics: Vec<_> = sessions.iter().map(|session| topic(session)).collect();
    let topics: Vec<_> = topics.iter().map(String::as_str).collect();
    for client in &mut clients {
        let resume = Watched::new().resume("all", &topics);
        client.frontend.ask(&resume).await;
    }

    let [one, two, three] = &mut clients;
    let (one, two, three) = tokio::join!(
        misuse(one, &sessions, seed),
        misuse(two, &sessions, seed.wrapping_add(1)),
        misuse(three, &sessions, seed.wrapping_add(2)),
    );
    let is_over = |log: &[Value]| {
        let runs_of = |kind: &str| {
            let events = log.iter().filter(|event| event["type"] == kind);
            events.map(|event| text(event, "run_id").to_owned()).collect::<BTreeSet<_>>()
        };
        runs_of("user_message") == runs_of("run_finished")
    };
    let mut logs = Vec::new();
    for session in &sessions {
        until("all runs to end", async || is_over(&clients[0].history(session).await)).await;
        logs.push(clients[0].history(session).await);
    }

    logs.iter().for_each(|log| assert_well_formed(log));
    for id in one.into_iter().chain(two).chain(three) {
        let brought =
            logs.iter().flatten().filter(|event| event["data"]["command_id"] == id.as_str()).count();
        assert_eq!(brought, 1, "{id} was accepted");
    }
    for client in &mut clients[1..] {
        let mut watched = Watched::new();
        for frame in client.frontend.so_far().await {
            watched.see(&frame);
        }
        for (topic, log) in topics.iter().zip(&logs) {
            let seen: Vec<_> = watched.topic(topic).events.values().collect();
            assert_eq!(seen, log.iter().collect::<Vec<_>>(), "{topic}");
        }
    }
}
