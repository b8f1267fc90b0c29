//! Tasks over HTTP, and the socket of one: what is refused, what is shown, and the life of a task.

use std::collections::BTreeSet;

use reqwest::{
    Method, StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde_json::{Value, json};

use crate::support::{
    Client, Server, Socket, assert_contiguous, create, manage, scratch_dir, types, unique, until, within,
};

const MEMORY: &[(&str, &str)] = &[("DUOLOGUE_STORE", "memory:")];

/// A client of the HTTP side.
struct Api {
    http: reqwest::Client,
    base: String,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// What was asked for, which must have been there.
    #[track_caller]
    fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/json");
        assert_eq!(self.header("cache-control"), "no-store");
        assert_eq!(self.header("x-content-type-options"), "nosniff");
        self.json()
    }

    /// The problem that it must be.
    #[track_caller]
    fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        assert!(!problem["detail"].as_str().expect("words").is_empty() && problem["details"].is_object());
        problem
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

impl Api {
    fn of(server: &Server) -> Self {
        Self { http: reqwest::Client::new(), base: format!("http://{}/api/v1/tasks", server.addr) }
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).body(body.to_owned());
        for (name, value) in headers {
            let name: HeaderName = name.parse().expect("a name");
            request = request.header(name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        let answer = within("an answer", request.send()).await.expect("an answer");
        let (status, headers) = (answer.status(), answer.headers().clone());
        let text = within("a body", answer.text()).await.expect("a whole body");
        Answer { status, headers, text }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    async fn send_json(&self, method: Method, path: &str, body: &Value) -> Answer {
        self.send(method, path, &[("content-type", "application/json")], &body.to_string()).await
    }

    /// Creates a task of the worker; its id.
    async fn create(&self, name: &str, input: &str) -> String {
        let task = json!({ "agent_id": "worker", "name": name, "input": input });
        let created = self.send_json(Method::POST, "", &task).await.ok(201);
        created["task_id"].as_str().expect("an id").to_owned()
    }

    async fn task(&self, id: &str) -> Value {
        self.get(&format!("/{id}")).await.ok(200)
    }

    async fn act(&self, id: &str, action: &str) -> Answer {
        self.send(Method::POST, &format!("/{id}/{action}"), &[], "").await
    }

    /// Waits for a task to get there; the task as it is then.
    async fn until(&self, id: &str, status: &str) -> Value {
        let mut task = Value::Null;
        until(&format!("{id} to be {status}"), async || {
            task = self.task(id).await;
            task["status"] == status
        })
        .await;
        task
    }

    /// The ids of a list, in its order.
    async fn list(&self, query: &str) -> Vec<String> {
        ids(&self.get(query).await.ok(200))
    }
}

fn ids(list: &Value) -> Vec<String> {
    let tasks = list["tasks"].as_array().expect("tasks");
    tasks.iter().map(|task| task["task_id"].as_str().expect("an id").to_owned()).collect()
}

/// A socket of one task.
async fn watch(server: &Server, id: &str, query: &str) -> Socket {
    Socket::open(&server.url(&format!("/ws/tasks/{id}{query}"))).await
}

/// The acknowledgement that the socket of a task begins with.
async fn acknowledged(socket: &mut Socket) -> Value {
    let ack = socket.next().await;
    assert_eq!(ack["type"], "subscribe_ack", "{ack}");
    let topics = ack["data"]["topics"].as_array().expect("topics");
    assert_eq!(topics.len(), 1, "{ack}");
    topics[0].clone()
}

/// Durable events up to the first of this type.
async fn events_until(socket: &mut Socket, kind: &str) -> Vec<Value> {
    let mut frames = socket.collect_until(kind, |frame| frame["type"] == kind).await;
    frames.retain(|frame| frame["seq"].is_u64());
    frames
}

// ---- what is refused ----

#[tokio::test]
async fn what_is_no_task_is_not_found() {
    let server = Server::with(MEMORY);
    let api = Api::of(&server);
    let mut client = server.client().await;
    let chat = client.create("worker").await;
    let long = "x".repeat(500);

    for id in ["worker_999999", "worker", "nonsense%20id", "%F0%9F%A6%80", &long, &chat] {
        let rename = api.send_json(Method::PATCH, &format!("/{id}"), &json!({ "name": "x" })).await;
        let delete = api.send(Method::DELETE, &format!("/{id}"), &[], "").await;
        let mut answers = vec![api.get(&format!("/{id}")).await, rename, delete];
        for action in ["pause", "resume", "cancel"] {
            answers.push(api.act(id, action).await);
        }
        answers.push(api.get(&format!("/{id}/export/json")).await);
        answers.push(api.get(&format!("/{id}/export/csv")).await);
        for answer in answers {
            let problem = answer.problem(404, "task_not_found");
            assert!(problem["details"]["task_id"].as_str().expect("an id").chars().count() <= 100);
        }
        let request = format!(
            "GET /ws/tasks/{id} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            server.addr
        );
        // It stays a connection of HTTP.
        let request = request.replace("Connection: Upgrade", "Connection: Upgrade, close");
        let (head, body) = server.request(&request).await;
        assert!(head.starts_with("HTTP/1.1 404"), "{head}");
        assert_eq!(serde_json::from_str::<Value>(&body).expect("JSON")["code"], "task_not_found");
    }

    // The conversation is as it was, and in no list of tasks.
    assert_eq!(client.run(&chat, "/echo still here").await, "completed");
    assert!(api.list("").await.is_empty());
}

#[tokio::test]
async fn what_cannot_become_a_task_says_which_field() {
    let server = Server::with(MEMORY);
    let api = Api::of(&server);
    let task = |change: Value| {
        let mut task = json!({ "agent_id": "worker", "name": "Count", "input": "/echo x" });
        for (field, value) in change.as_object().expect("an object") {
            task[field] = value.clone();
        }
        task
    };
    let name = |chars| json!({ "name": "é".repeat(chars) });
    let input = |bytes: usize| json!({ "input": format!("/echo {}", "x".repeat(bytes - 6)) });

    for (change, status, code, field) in [
        (json!({ "agent_id": "nobody" }), 404, "agent_not_found", None),
        (json!({ "agent_id": "No Body" }), 404, "agent_not_found", None),
        (json!({ "agent_id": 1 }), 422, "invalid_field", Some("agent_id")),
        (json!({ "agent_id": null }), 422, "invalid_field", Some("agent_id")),
        (json!({ "name": "" }), 422, "invalid_field", Some("name")),
        (json!({ "name": " \t " }), 422, "invalid_field", Some("name")),
        (json!({ "name": "a\nb" }), 422, "invalid_field", Some("name")),
        (json!({ "name": ["x"] }), 422, "invalid_field", Some("name")),
        (name(201), 422, "invalid_field", Some("name")),
        (json!({ "input": "" }), 422, "invalid_field", Some("input")),
        (json!({ "input": "\n" }), 422, "invalid_field", Some("input")),
        (json!({ "input": {} }), 422, "invalid_field", Some("input")),
        (input(256 * 1024 + 1), 413, "payload_too_large", Some("input")),
    ] {
        let problem = api.send_json(Method::POST, "", &task(change)).await.problem(status, code);
        if let Some(field) = field {
            assert_eq!(problem["details"]["field"], field, "{problem}");
        }
    }
    for (body, field) in [
        (json!({}), "agent_id"),
        (json!({ "agent_id": "worker" }), "name"),
        (json!({ "agent_id": "worker", "name": "x" }), "input"),
    ] {
        let problem = api.send_json(Method::POST, "", &body).await.problem(422, "invalid_field");
        assert_eq!(problem["details"]["field"], field, "{problem}");
    }
    assert!(api.list("").await.is_empty(), "nothing came of any of them");

    // What is just right is taken, and fields that are not known are passed over.
    let unknown = json!({ "input": "/echo x", "priority": { "high": [1] } });
    for change in [name(200), input(256 * 1024), unknown] {
        api.send_json(Method::POST, "", &task(change)).await.ok(201);
    }
    let id = api.create("  around  ", "/echo x").await;
    assert_eq!(api.task(&id).await["name"], "around");
    for name in [json!(""), json!(null), json!("x".repeat(201))] {
        let rename = api.send_json(Method::PATCH, &format!("/{id}"), &json!({ "name": name })).await;
        assert_eq!(rename.problem(422, "invalid_field")["details"]["field"], "name");
    }
}

#[tokio::test]
async fn a_body_is_bounded_json() {
    let server = Server::with(MEMORY);
    let api = Api::of(&server);
    let task = json!({ "agent_id": "worker", "name": "x", "input": "/echo x" }).to_string();

    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonl",
        "",
    ] {
        let headers = [("content-type", content_type)];
        api.send(Method::POST, "", &headers, &task).await.problem(415, "bad_request");
    }
    api.send(Method::POST, "", &[], &task).await.problem(415, "bad_request");
    let encoded = [("content-type", "application/json"), ("content-encoding", "gzip")];
    api.send(Method::POST, "", &encoded, &task).await.problem(415, "bad_request");
    let json = [("content-type", "application/json")];
    let deep = format!("{{\"x\":{}1{}}}", "[".repeat(100), "]".repeat(100));
    let twice = r#"{"name":"x","name":"y"}"#;
    for body in ["", "nonsense", "[]", "\"x\"", "{\"name\":", "{} {}", twice, &deep] {
        api.send(Method::POST, "", &json, body).await.problem(400, "bad_request");
    }
    // The answer is seen, though the client is still sending.
    for bytes in [1024 * 1024 + 1, 8 * 1024 * 1024] {
        let body = format!("{{\"input\":\"{}\"}}", "x".repeat(bytes));
        let problem = api.send(Method::POST, "", &json, &body).await.problem(413, "payload_too_large");
        assert_eq!(problem["details"]["limit"], 1024 * 1024);
    }
    // Of an unknown length, and no text.
    let chunked = format!(
        "POST /api/v1/tasks HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n200000\r\n{}\r\n0\r\n\r\n",
        server.addr,
        "x".repeat(0x0020_0000)
    );
    let (head, _) = server.request(&chunked).await;
    assert!(head.starts_with("HTTP/1.1 413"), "{head}");
    let latin = "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                 Content-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"name\":";
    let request: Vec<u8> = latin.bytes().chain([b'"', 0xfc, b'"', b'}']).collect();
    let answer = raw(&server, &request).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("UTF-8"), "{answer}");

    // What is JSON by its type is taken, whatever else the type says.
    let headers = [("content-type", "Application/JSON; charset=utf-8")];
    let created = api.send(Method::POST, "", &headers, &task).await.ok(201);
    let id = created["task_id"].as_str().expect("an id");
    // An act needs no body; if it has one, that is of no other type.
    let form = [("content-type", "application/x-www-form-urlencoded")];
    api.send(Method::POST, &format!("/{id}/pause"), &form, "x=1").await.problem(415, "bad_request");
    api.send(Method::DELETE, &format!("/{id}"), &form, "x=1").await.problem(415, "bad_request");
    assert_eq!(api.send(Method::DELETE, &format!("/{id}"), &json, "{}").await.status, 204);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for_for_ever() {
    let server = Server::with(MEMORY);

    let begun = format!(
        "POST /api/v1/tasks HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n\
         {{\"name\":",
        server.addr
    );
    let answer = raw(&server, begun.as_bytes()).await;

    // And the connection ends: what is left of the body would be taken for another request.
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("bad_request"), "{answer}");
}

/// The answer to bytes as they are.
async fn raw(server: &Server, request: &[u8]) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(server.addr).await.expect("a connection");
    stream.write_all(request).await.expect("an open connection");
    let mut answer = Vec::new();
    within("an answer", stream.read_to_end(&mut answer)).await.expect("an answer");
    String::from_utf8(answer).expect("text")
}

#[tokio::test]
async fn other_methods_are_told_which_are_allowed() {
    let server = Server::with(MEMORY);
    let api = Api::of(&server);
    let id = api.create("x", "/echo x").await;

    for (path, allowed) in [
        (String::new(), "GET, HEAD, POST"),
        (format!("/{id}"), "GET, HEAD, PUT, PATCH, DELETE"),
        (format!("/{id}/pause"), "POST"),
        (format!("/{id}/resume"), "POST"),
        (format!("/{id}/cancel"), "POST"),
        (format!("/{id}/export/json"), "GET"),
        ("/export/json".to_owned(), "GET"),
    ] {
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS]
        {
            if allowed.split(", ").any(|name| name == method.as_str()) {
                continue;
            }
            let answer = api.send(method, &path, &[], "").await;
            answer.problem(405, "bad_request");
            assert_eq!(answer.header("allow"), allowed);
        }
    }
    for path in [String::new(), format!("/{id}")] {
        let answer = api.send(Method::HEAD, &path, &[], "").await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, ""));
    }
}

#[tokio::test]
async fn a_query_that_is_wrong_says_which_field() {
    let server = Server::with(MEMORY);
    let api = Api::of(&server);
    api.create("x", "/echo x").await;

    for (query, field) in [
        ("?status=done", "status"),
        ("?status=Running", "status"),
        ("?status=pending&status=running", "status"),
        ("?limit=0", "limit"),
        ("?limit=201", "limit"),
        ("?limit=-1", "limit"),
        ("?limit=many", "limit"),
        ("?cursor=nonsense", "cursor"),
        ("?cursor=~worker_100", "cursor"),
        ("?cursor=0~nobody", "cursor"),
    ] {
        let problem = api.get(query).await.problem(422, "invalid_field");
        assert_eq!(problem["details"]["field"], field, "{query}: {problem}");
    }
    api.get("?agent_id=No%20Body").await.problem(404, "agent_not_found");
    api.get("/export/csv?status=done").await.problem(422, "invalid_field");
    for query in ["?status=&q=&cursor=&limit=", "?q=%20", "?limit=200", "?colour=blue", "?q=%ff&x=%zz&=&&"] {
        api.get(query).await.ok(200);
    }
    assert!(api.list("?agent_id=nobody").await.is_empty());
}

#[tokio::test]
async fn a_format_that_does_not_exist_is_told_which_do() {
    let server = Server::with(MEMORY);
    let api = Api::of(&server);
    let id = api.create("x", "/echo x").await;

    for path in ["/export", "/export/pdf", "/export/JSON", "/export/pause"] {
        for path in [path.to_owned(), format!("/{id}/export/pdf")] {
            let problem = api.get(&path).await.problem(422, "invalid_field");
            assert_eq!(problem["details"]["field"], "format");
            assert_eq!(problem["details"]["expected"], "json, csv or markdown");
        }
    }
}

#[tokio::test]
async fn pages_of_other_servers_get_nowhere() {
    let server = Server::with(MEMORY);
    let api = Api::of(&server);
    let id = api.create("x", "/echo x").await;
    let task = json!({ "agent_id": "worker", "name": "x", "input": "/echo x" }).to_string();

    for origin in ["http://evil.example", "null", ""] {
        let headers = [("origin", origin), ("content-type", "application/json")];
        for (method, path, body) in [
            (Method::POST, String::new(), task.as_str()),
            (Method::GET, String::new(), ""),
            (Method::GET, format!("/{id}"), ""),
            (Method::PATCH, format!("/{id}"), "{\"name\":\"y\"}"),
            (Method::POST, format!("/{id}/cancel"), ""),
            (Method::DELETE, format!("/{id}"), ""),
            (Method::GET, "/export/json".to_owned(), ""),
            (Method::GET, "/export".to_owned(), ""),
            (Method::GET, format!("/{id}/export/csv"), ""),
        ] {
            api.send(method, &path, &headers, body).await.problem(403, "forbidden");
        }
    }
    let rebound = [("host", "evil.example"), ("content-type", "application/json")];
    api.send(Method::POST, "", &rebound, &task).await.problem(403, "forbidden");
    // A form needs no leave of ours to be sent, and some browsers may leave its origin out.
    for form in ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"] {
        let headers = [("content-type", form)];
        api.send(Method::POST, "", &headers, &task).await.problem(415, "bad_request");
        api.send(Method::POST, &format!("/{id}/cancel"), &headers, "x=1").await.problem(415, "bad_request");
    }
    assert_eq!(api.list("").await, [id.as_str()]);
    let own = format!("http://{}", server.addr);
    let headers = [("origin", own.as_str()), ("content-type", "application/json")];
    api.send(Method::POST, "", &headers, &task).await.ok(201);
}

// ---- doing things once ----

#[tokio::test]
async fn a_request_with_a_key_is_done_once() {
    let server = Server::with(MEMORY);
    let api = Api::of(&server);
    let task =
        |name: &str| json!({ "agent_id": "worker", "name": name, "input": "/think 3600000" }).to_string();
    let first_key = format!("\"{}\"", unique("key"));
    let key = &first_key;
    let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];

    let first = api.send(Method::POST, "", &headers, &task("once")).await;
    let again = api.send(Method::POST, "", &headers, &task("once")).await;

    let id = first.ok(201)["task_id"].as_str().expect("an id").to_owned();
    assert_eq!(again.ok(201)["task_id"], id.as_str());
    assert_eq!(first.header("location"), format!("/api/v1/tasks/{id}"));
    assert_eq!(again.header("location"), first.header("location"));
    assert_eq!(api.list("").await, [id.as_str()]);
    let other = api.send(Method::POST, "", &headers, &task("another")).await;
    let problem = other.problem(409, "conflict");
    assert_eq!(problem["details"]["idempotency_key"], key.trim_matches('"'), "{problem}");
    // Nor for something else.
    let bare = [("idempotency-key", key.trim_matches('"'))];
    api.send(Method::POST, &format!("/{id}/cancel"), &bare, "").await.problem(409, "conflict");
    // Many at once.
    let headers = [("content-type", "application/json"), ("idempotency-key", "at-once")];
    let body = task("at once");
    let answers = futures_util::future::join_all((0..8).map(|_| api.send(Method::POST, "", &headers, &body)));
    let all: BTreeSet<_> = answers.await.iter().map(|answer| answer.ok(201)["task_id"].to_string()).collect();
    assert_eq!(all.len(), 1);
    assert_eq!(api.list("").await.len(), 2);

    // A refusal is judged afresh.
    let headers = [("content-type", "application/json"), ("idempotency-key", "refused-1")];
    let nobody = task("x").replace("worker", "nobody");
    api.send(Method::POST, "", &headers, &nobody).await.problem(404, "agent_not_found");
    api.send(Method::POST, "", &headers, &task("x")).await.ok(201);

    // What was deleted is not there any more, and its deletion was done.
    let key = [("idempotency-key", "delete-1")];
    for _ in 0..2 {
        assert_eq!(api.send(Method::DELETE, &format!("/{id}"), &key, "").await.status, 204);
    }
    api.send(Method::DELETE, &format!("/{id}"), &[], "").await.problem(404, "task_not_found");
    let headers = [("content-type", "application/json"), ("idempotency-key", first_key.as_str())];
    let problem = api.send(Method::POST, "", &headers, &task("once")).await.problem(404, "task_not_found");
    assert_eq!(problem["details"]["task_id"], id.as_str(), "it is not made anew");

    for key in ["", "\"\"", "\"open", "\"a\", \"b\"", &"x".repeat(129)] {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        let problem = api.send(Method::POST, "", &headers, &task("x")).await.problem(422, "invalid_field");
        assert_eq!(problem["details"]["field"], "Idempotency-Key");
    }
    let twice = [("content-type", "application/json"), ("idempotency-key", "a"), ("idempotency-key", "b")];
    api.send(Method::POST, "", &twice, &task("x")).await.problem(422, "invalid_field");
}

#[tokio::test]
async fn a_request_has_nothing_to_do_with_sockets_that_have_no_name() {
    let server = Server::with(MEMORY);
    let api = Api::of(&server);
    let mut frontend = Socket::open(&server.url("/ws/frontend-api")).await;
    let mut backend = Socket::open(&server.url("/ws/backend-api")).await;
    let key = unique("key");
    let mut command = create("helper");
    command["message_id"] = key.as_str().into();
    let reply = backend.ask(&command).await;
    assert_eq!(reply["ok"], true, "{reply}");
    frontend.next_where("its session", |frame| frame["type"] == "subscribe_ack").await;

    let id = api.create("a", "/think 3600000").await;
    let of_task = |frame: &Value| frame.to_string().contains(&id) && frame["type"] != "session_list_changed";
    let seen: Vec<_> = frontend.so_far().await.into_iter().filter(of_task).collect();
    assert!(seen.is_empty(), "{seen:?}");

    let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
    let task = json!({ "agent_id": "worker", "name": "b", "input": "/think 3600000" }).to_string();
    api.send(Method::POST, "", &headers, &task).await.ok(201);
}

// ---- the life of a task ----

#[tokio::test]
async fn a_task_runs_to_its_end() {
    for environment in [MEMORY, &[]] {
        let server = Server::with(environment);
        let api = Api::of(&server);
        let task = json!({ "agent_id": "worker", "name": "Three steps", "input": "/steps 3 20" });

        let answer = api.send_json(Method::POST, "", &task).await;

        let created = answer.ok(201);
        let id = created["task_id"].as_str().expect("an id");
        assert_eq!(answer.header("location"), format!("/api/v1/tasks/{id}"));
        assert_eq!((&created["session_id"], &created["agent_id"]), (&json!(id), &json!("worker")));
        assert_eq!((&created["name"], &created["input"]), (&json!("Three steps"), &json!("/steps 3 20")));
        let mut socket = watch(&server, id, "?seq=0").await;
        let subscribed = acknowledged(&mut socket).await;
        assert_eq!(subscribed["topic"], format!("session:{id}"));
        assert_eq!(subscribed["requested"], format!("task:{id}"));
        assert_eq!(subscribed["recovered"], true);
        let events = events_until(&mut socket, "run_finished").await;
        let events: Vec<_> = events.iter().collect();

        assert_contiguous(&events, 0);
        for event in &events {
            assert_eq!(event["event_type"], event["type"]);
            assert_eq!((&event["task_id"], &event["session_id"]), (&json!(id), &json!(id)));
            assert_eq!(event["topic"], format!("session:{id}"));
        }
        let kinds = types(&events);
        let of_task: Vec<_> = kinds.iter().filter(|kind| kind.starts_with("task_")).collect();
        assert_eq!(of_task, [&"task_created", &"task_started", &"task_completed"], "{kinds:?}");
        for kind in ["user_message", "run_started", "tool_call.start", "tool_call.end", "agent_response"] {
            assert!(kinds.contains(&kind), "{kind} is not among {kinds:?}");
        }
        assert!(kinds.contains(&"progress_update"), "{kinds:?}");
        let started = events.iter().find(|event| event["type"] == "run_started").expect("a run");
        assert_eq!(started["data"]["trigger"], "task");
        assert_eq!(events.last().expect("an end")["data"]["outcome"], "completed");

        let task = api.until(id, "completed").await;
        let said = events.iter().rev().find(|event| event["type"] == "agent_response").expect("an answer");
        assert_eq!(task["result"], said["data"]["content"]);
        assert_eq!((&task["progress"], &task["error"]), (&json!(1.0), &Value::Null));
        for field in ["created_at", "started_at", "ended_at", "updated_at"] {
            assert!(task[field].is_string(), "{task}");
        }
        assert_eq!(api.list("?status=completed").await, [id]);
        assert!(api.list("?status=running").await.is_empty());
        // It has ended: there is nothing left to pause, to resume or to cancel.
        for action in ["pause", "resume", "cancel"] {
            api.act(id, action).await.problem(409, "conflict");
        }
    }
}

#[tokio::test]
async fn a_task_that_fails_says_why() {
    let server = Server::with(MEMORY);
    let api = Api::of(&server);
    let id = api.create("Fail", "/fail auth").await;

    let task = api.until(&id, "failed").await;

    assert_eq!(task["error"]["code"], "provider_auth", "{task}");
    assert!(task["error"]["message"].is_string() && task["ended_at"].is_string());
    let mut socket = watch(&server, &id, "?seq=0").await;
    acknowledged(&mut socket).await;
    let events = events_until(&mut socket, "task_failed").await;
    assert_eq!(events.last().expect("an end")["error"]["code"], "provider_auth");
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let server = Server::start();
    let api = Api::of(&server);
    let mut client = server.client().await;
    let mut all = Vec::new();
    for number in 1..=7 {
        let id = api.create(&format!("Count the {number}. time"), "/echo x").await;
        api.until(&id, "completed").await;
        all.insert(0, id);
    }
    let failed = api.create("Fehler über alles", "/fail server").await;
    api.until(&failed, "failed").await;
    all.insert(0, failed.clone());
    let chat = client.create("worker").await;

    assert_eq!(api.list("").await, all, "the one that changed last comes first");
    assert_eq!(api.list("?status=failed").await, [failed.as_str()]);
    assert_eq!(api.list("?q=THE%203.").await, [all[5].as_str()]);
    assert_eq!(api.list("?q=%C3%9CBER").await, [failed.as_str()]);
    assert_eq!(api.list(&format!("?q={failed}")).await, [failed.as_str()]);
    assert_eq!(api.list("?status=failed&q=count").await, [""; 0]);
    assert_eq!(api.list("?agent_id=worker").await.len(), 8);
    assert!(api.list("?agent_id=helper").await.is_empty());

    let mut paged = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = api.get(&format!("?limit=3&status=completed&cursor={cursor}")).await.ok(200);
        assert!(ids(&page).len() <= 3);
        paged.extend(ids(&page));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(paged, all[1..]);

    // They are apart from conversations.
    let listed = client.must(json!({ "type": "session_management", "data": { "action": "list" } })).await;
    let sessions: Vec<_> = listed["sessions"].as_array().expect("sessions").iter().collect();
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0]["session_id"], chat.as_str());

    // Another name is found, and has it come first.
    for (method, name) in [(Method::PATCH, "Renamed once"), (Method::PUT, "Renamed twice")] {
        let path = format!("/{}", all[7]);
        let renamed =
            api.send_json(method, &path, &json!({ "name": name, "status": "failed" })).await.ok(200);
        assert_eq!((&renamed["name"], &renamed["status"]), (&json!(name), &json!("completed")));
    }
    assert_eq!(api.list("?q=renamed%20twice").await, [all[7].as_str()]);
    assert_eq!(api.list("?limit=1").await, [all[7].as_str()]);
}

#[tokio::test]
async fn a_task_is_shown_whole_and_listed_by_its_beginning() {
    let server = Server::start();
    let api = Api::of(&server);
    let text = "grün 💧 ".repeat(800);
    let input = format!("/echo {}", text.trim());
    let id = api.create("Long", &input).await;

    let task = api.until(&id, "completed").await;

    assert_eq!(task["input"], input.as_str());
    assert_eq!(task["result"], text.trim());
    let listed = &api.get("").await.ok(200)["tasks"][0];
    let chars = |field: &str| listed[field].as_str().expect("a text").chars().count();
    assert_eq!((chars("input"), chars("result")), (1_001, 4_001));
    // What is said in its session afterwards is none of its result.
    let mut client = server.client().await;
    let run_id = client.chat(&id, "/echo something else").await;
    until("the answer", async || {
        let log = client.history(&id).await;
        log.iter().any(|event| event["type"] == "run_finished" && event["run_id"] == run_id.as_str())
    })
    .await;
    assert_eq!(api.task(&id).await["result"], text.trim());
    let renamed = api.send_json(Method::PATCH, &format!("/{id}"), &json!({ "name": "Longer" })).await.ok(200);
    assert_eq!(renamed["input"], input.as_str());
}

#[tokio::test]
async fn a_task_is_paused_at_a_step_and_goes_on() {
    let server = Server::with(MEMORY);
    let api = Api::of(&server);
    let id = api.create("Steps", "/steps 4 1500").await;
    let mut socket = watch(&server, &id, "?seq=0").await;
    acknowledged(&mut socket).await;
    events_until(&mut socket, "tool_call.end").await;

    let answer = api.act(&id, "pause").await;

    let later = answer.ok(202);
    assert_eq!((&later["status"], &later["pausing"]), (&json!("running"), &json!(true)));
    let again = api.act(&id, "pause").await;
    assert!(again.status.is_success(), "{}", again.text);
    let paused = api.until(&id, "paused").await;
    assert_eq!(paused["pausing"], false);
    let before = events_until(&mut socket, "task_paused").await;
    assert!(before.iter().any(|event| event["data"]["pausing"] == true), "{before:?}");
    let progress = paused["progress"].as_f64().expect("a number");
    assert!(progress < 1.0);

    // It stands still.
    let head = before.last().expect("an event")["seq"].clone();
    let snapshot = watch(&server, &id, "").await.next_where("a snapshot", is_snapshot).await;
    assert_eq!(snapshot["data"]["head"], head);
    api.act(&id, "pause").await.problem(409, "conflict");

    let resumed = api.act(&id, "resume").await.ok(200);
    assert!(matches!(resumed["status"].as_str(), Some("pending" | "running")), "{resumed}");
    let rest = events_until(&mut socket, "run_finished").await;
    let rest: Vec<_> = rest.iter().collect();
    assert_contiguous(&rest, head.as_u64().expect("a number"));
    let kinds = types(&rest);
    assert!(kinds.starts_with(&["task_resumed", "task_started"]), "{kinds:?}");
    assert!(!kinds.contains(&"run_started"), "it is the same run: {kinds:?}");
    assert_eq!(api.until(&id, "completed").await["progress"], 1.0);
}

fn is_snapshot(frame: &Value) -> bool {
    frame["type"] == "session_snapshot"
}

#[tokio::test]
async fn a_task_is_cancelled_whether_it_runs_waits_or_is_paused() {
    let server = Server::with(&[("DUOLOGUE_STORE", "memory:"), ("DUOLOGUE_MAX_RUNNING_TASKS", "1")]);
    let api = Api::of(&server);
    let running = api.create("Runs", "/think 3600000").await;
    api.until(&running, "running").await;
    let waiting = api.create("Waits", "/echo x").await;
    let paused = api.create("Paused", "/echo x").await;
    assert_eq!(api.act(&paused, "pause").await.ok(200)["status"], "paused");
    assert_eq!(api.task(&waiting).await["status"], "pending");

    for id in [&waiting, &paused, &running] {
        let cancelled = api.act(id, "cancel").await.ok(200);
        assert_eq!(cancelled["status"], "cancelled", "{cancelled}");
        assert!(cancelled["ended_at"].is_string());
        for action in ["cancel", "pause", "resume"] {
            let problem = api.act(id, action).await.problem(409, "conflict");
            assert!(problem["detail"].as_str().expect("words").contains("cancelled"), "{problem}");
        }
    }

    // Its place is free.
    let next = api.create("Next", "/echo done").await;
    assert_eq!(api.until(&next, "completed").await["result"], "done");
    let mut socket = watch(&server, &running, "?seq=0").await;
    acknowledged(&mut socket).await;
    let events = events_until(&mut socket, "run_finished").await;
    assert_eq!(events.last().expect("an end")["data"]["outcome"], "cancelled");
}

#[tokio::test]
async fn a_deleted_task_is_gone_for_those_who_watch_it() {
    for environment in [MEMORY, &[]] {
        let server = Server::with(environment);
        let api = Api::of(&server);
        let id = api.create("Runs", "/think 3600000").await;
        api.until(&id, "running").await;
        let mut socket = watch(&server, &id, "?seq=0").await;
        acknowledged(&mut socket).await;
        let mut watcher = server.client().await;
        watcher.frontend.send(&crate::support::subscribe(&[&format!("task:{id}")])).await;
        watcher.frontend.next_where("a snapshot", is_snapshot).await;

        let answer = api.send(Method::DELETE, &format!("/{id}"), &[], "").await;

        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (204, ""));
        let is_deleted = |frame: &Value| frame["data"]["reason"] == "deleted";
        let deleted = socket.next_where("session_closed", is_deleted).await;
        assert_eq!(
            (&deleted["type"], &deleted["event_type"]),
            (&json!("session_closed"), &json!("session_closed"))
        );
        assert_eq!(deleted["task_id"], id.as_str());
        assert!(deleted.get("seq").is_none());
        let closed =
            socket.next_where("connection_closed", |frame| frame["type"] == "connection_closed").await;
        assert_eq!(closed["data"]["code"], 4404);
        assert_eq!(socket.close_code().await, 4404);
        // Other sockets stay.
        watcher.frontend.next_where("session_closed", is_deleted).await;
        assert_eq!(watcher.frontend.so_far().await.iter().filter(|frame| is_deleted(frame)).count(), 0);

        api.get(&format!("/{id}")).await.problem(404, "task_not_found");
        api.send(Method::DELETE, &format!("/{id}"), &[], "").await.problem(404, "task_not_found");
        assert!(api.list("").await.is_empty());
        let next = api.create("Next", "/echo done").await;
        api.until(&next, "completed").await;
    }
}

#[tokio::test]
async fn no_more_tasks_run_than_there_are_places() {
    let server = Server::with(&[("DUOLOGUE_STORE", "memory:"), ("DUOLOGUE_MAX_RUNNING_TASKS", "2")]);
    let api = Api::of(&server);
    let mut tasks = Vec::new();
    for number in 0..5 {
        tasks.push(api.create(&format!("Task {number}"), "/think 3600000").await);
    }
    let (first, waiting) = tasks.split_at(2);
    for id in first {
        api.until(id, "running").await;
    }

    // Whatever is asked meanwhile, the others wait.
    let mut client = server.client().await;
    let chat = client.create("worker").await;
    assert_eq!(client.run(&chat, "/echo conversations do not wait").await, "completed");
    assert_eq!(api.list("?status=running").await.len(), 2);
    let pending: BTreeSet<_> = api.list("?status=pending").await.into_iter().collect();
    assert_eq!(pending, waiting.iter().cloned().collect());

    // A place that gets free is taken by the one that has waited longest.
    for (ended, next) in [(&tasks[1], &tasks[2]), (&tasks[0], &tasks[3]), (&tasks[2], &tasks[4])] {
        api.act(ended, "cancel").await.ok(200);
        api.until(next, "running").await;
        assert_eq!(api.list("?status=running").await.len(), 2);
    }
    assert!(api.list("?status=pending").await.is_empty());
}

#[tokio::test]
async fn a_task_goes_on_after_a_crash_of_the_server() {
    let one_at_a_time = [("DUOLOGUE_MAX_RUNNING_TASKS", "1")];
    let server = Server::with(&one_at_a_time);
    let api = Api::of(&server);
    let id = api.create("Steps", "/steps 4 1500").await;
    let mut socket = watch(&server, &id, "?seq=0").await;
    let epoch = acknowledged(&mut socket).await["epoch"].as_str().expect("an epoch").to_owned();
    let seen = events_until(&mut socket, "tool_call.end").await;
    let last = seen.last().expect("an event")["seq"].as_u64().expect("a number");
    let first_run =
        seen.iter().find(|event| event["type"] == "run_started").expect("a run")["run_id"].clone();
    let waiting = api.create("Waits", "/echo x").await;
    let paused = api.create("Is paused", "/echo y").await;
    api.act(&paused, "pause").await.ok(200);
    let dir = server.kill();

    let server = Server::start_in(&dir, &one_at_a_time);
    let api = Api::of(&server);
    let mut socket = watch(&server, &id, &format!("?epoch={epoch}&seq={last}")).await;
    let subscribed = acknowledged(&mut socket).await;
    assert_eq!((&subscribed["recovered"], &subscribed["epoch"]), (&json!(true), &json!(epoch)));
    let rest = events_until(&mut socket, "task_completed").await;
    let rest: Vec<_> = rest.iter().collect();

    assert_contiguous(&rest, last);
    let end = rest.iter().find(|event| event["type"] == "run_finished").expect("an end");
    assert_eq!((&end["run_id"], &end["data"]["outcome"]), (&first_run, &json!("interrupted")));
    let started = rest.iter().find(|event| event["type"] == "run_started").expect("another run");
    assert_eq!(started["data"]["trigger"], "resumed");
    assert_ne!(started["run_id"], first_run);
    assert!(started["seq"].as_u64() > end["seq"].as_u64());
    assert_eq!(rest.iter().filter(|event| event["type"] == "run_started").count(), 1);
    let task = api.until(&id, "completed").await;
    assert_eq!(task["progress"], 1.0);
    assert_eq!(api.until(&waiting, "completed").await["result"], "x");
    assert_eq!(api.task(&paused).await["status"], "paused");
    api.act(&paused, "resume").await.ok(200);
    assert_eq!(api.until(&paused, "completed").await["result"], "y");
}

// ---- the socket of one task ----

#[tokio::test]
async fn a_tasks_socket_goes_on_from_any_position() {
    let server = Server::start();
    let api = Api::of(&server);
    let id = api.create("Steps", "/steps 3 10").await;
    api.until(&id, "completed").await;
    let mut socket = watch(&server, &id, "?seq=0").await;
    let subscribed = acknowledged(&mut socket).await;
    let epoch = subscribed["epoch"].as_str().expect("an epoch").to_owned();
    let log = events_until(&mut socket, "run_finished").await;
    let head = log.len() as u64;
    assert_eq!((&subscribed["head"], &subscribed["replayed"]), (&json!(head), &json!(head)));

    for seq in 0..=head {
        let mut socket = watch(&server, &id, &format!("?epoch={epoch}&seq={seq}")).await;
        let subscribed = acknowledged(&mut socket).await;
        assert_eq!(subscribed["recovered"], true);
        assert_eq!(subscribed["replayed"], head - seq);
        let mut rest = Vec::new();
        for _ in seq..head {
            rest.push(socket.next().await);
        }
        assert_eq!(rest, log[seq as usize..], "as it is in the log");
    }
    for (query, reason) in [
        (String::new(), "new"),
        ("?seq=1&epoch=other".to_owned(), "epoch"),
        (format!("?epoch={epoch}&seq={}", head + 1), "ahead"),
    ] {
        let mut socket = watch(&server, &id, &query).await;
        let subscribed = acknowledged(&mut socket).await;
        assert_eq!((&subscribed["recovered"], &subscribed["reason"]), (&json!(false), &json!(reason)));
        let snapshot = socket.next().await;
        assert!(is_snapshot(&snapshot), "{snapshot}");
        assert_eq!(snapshot["data"]["head"], head);
        assert_eq!(snapshot["data"]["session"]["task"]["status"], "completed");
        let messages = snapshot["data"]["messages"].as_array().expect("messages");
        assert!(messages.iter().all(|event| event["event_type"] == event["type"]));
    }
    for (query, field) in [
        ("?seq=1", "epoch"),
        ("?epoch=x", "seq"),
        ("?epoch=x&seq=-1", "seq"),
        ("?epoch=x&seq=1.5", "seq"),
        ("?seq=0&client_id=%00", "client_id"),
    ] {
        let request = format!(
            "GET /ws/tasks/{id}{query} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            server.addr
        );
        let (head, body) = server.request(&request).await;
        assert!(head.starts_with("HTTP/1.1 422"), "{query}: {head}");
        let problem: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(problem["details"]["field"], field, "{problem}");
    }
    let (status, _) = server.get(&format!("/ws/tasks/{id}")).await;
    assert_eq!(status, 426);
}

#[tokio::test]
async fn a_tasks_socket_shows_that_task_and_takes_nothing() {
    let server = Server::with(MEMORY);
    let api = Api::of(&server);
    let id = api.create("Steps", "/think 3600000").await;
    let other = api.create("Other", "/steps 3 10").await;
    // Without a client id as well as with the one of a client that does other things.
    let mut client = Client::open(&server, "tab").await;
    let mut sockets = vec![watch(&server, &id, "?seq=0").await, watch(&server, &id, "?client_id=tab").await];
    for socket in &mut sockets {
        acknowledged(socket).await;
    }
    let chat = client.create("worker").await;
    client.run(&chat, "/echo x").await;
    client.must(json!({ "type": "get_agents" })).await;
    api.until(&other, "completed").await;
    let mut frontend_without_id = Socket::open(&server.url("/ws/frontend-api")).await;

    for socket in &mut sockets {
        for (frame, code, path) in [
            (json!({ "type": "subscribe", "topics": ["system"] }), "forbidden", "/ws/frontend-api"),
            (
                json!({ "type": "unsubscribe", "topics": [format!("task:{id}")] }),
                "forbidden",
                "/ws/frontend-api",
            ),
            (json!({ "type": "stop_run", "session_id": id }), "forbidden", "/ws/backend-api"),
            (json!({ "type": "get_agents" }), "forbidden", "/ws/backend-api"),
            (json!({ "type": "nonsense" }), "unknown_type", ""),
        ] {
            let mut frame = frame;
            frame["message_id"] = unique("frame").into();
            let reply = socket.ask(&frame).await;
            assert_eq!((&reply["ok"], &reply["error"]["code"]), (&json!(false), &json!(code)), "{frame}");
            assert!(reply["error"]["message"].as_str().expect("words").contains(path), "{reply}");
        }
        for kind in ["ping", "heartbeat"] {
            let pong = socket.ask(&json!({ "type": kind, "message_id": unique("ping") })).await;
            assert_eq!(pong["type"], "pong");
        }
    }
    api.send_json(Method::PATCH, &format!("/{id}"), &json!({ "name": "Renamed" })).await.ok(200);
    for socket in &mut sockets {
        let frames = socket.collect_until("the new name", |frame| frame["type"] == "session_updated").await;
        assert!(frames.iter().all(|frame| frame["session_id"] == id.as_str()), "{frames:?}");
    }
    // The list's changes go where they belong.
    frontend_without_id
        .next_where("the list to change", |frame| {
            frame["type"] == "session_list_changed" && frame["data"]["task"]["name"] == "Renamed"
        })
        .await;

    // A newer socket of a client replaces the older one of that task, and no other.
    let mut of_other = watch(&server, &other, "?client_id=tab").await;
    let mut newer = watch(&server, &id, "?client_id=tab").await;
    assert_eq!(sockets[1].close_code().await, 4409);
    acknowledged(&mut newer).await;
    acknowledged(&mut of_other).await;
    for socket in [&mut newer, &mut of_other, &mut sockets[0], &mut client.frontend, &mut client.backend] {
        socket.so_far().await;
    }
}

#[tokio::test]
async fn a_tasks_socket_follows_an_answer_while_it_streams() {
    let server = Server::with(MEMORY);
    let api = Api::of(&server);
    let id = api.create("Count", "/count 60 25").await;
    api.until(&id, "running").await;
    let mut watched = crate::support::Watched::new();
    let (mut seq, mut epoch) = (0, String::new());

    // Connected again and again, in the middle of the answer.
    let mut ended = false;
    while !ended {
        let mut socket = watch(&server, &id, &format!("?epoch={epoch}&seq={seq}")).await;
        epoch = acknowledged(&mut socket).await["epoch"].as_str().expect("an epoch").to_owned();
        watched.reconnected();
        let mut deltas = 0;
        while deltas < 12 && !ended {
            let frame = socket.next().await;
            watched.see(&frame);
            deltas += usize::from(frame["type"] == "message.delta");
            ended = frame["type"] == "run_finished";
        }
        seq = watched.seq(&format!("session:{id}"));
        socket.close().await;
    }

    let expected = (1..=60).map(|number| number.to_string()).collect::<Vec<_>>().join(" ");
    assert_eq!(api.until(&id, "completed").await["result"], expected);
}

// ---- exports ----

/// Tasks of all kinds, with names and texts that files could trip over; their ids.
async fn some_tasks(api: &Api) -> Vec<String> {
    let mut tasks = Vec::new();
    for (name, input) in [
        ("Plain", "/echo fine"),
        ("Comma, \"quotes\" | pipes \\| and 💧", "/echo a,\"b\"\r\nc | d"),
        ("=HYPERLINK(\"http://evil.example\")", "/echo =1+1"),
        ("+1", "/echo -1"),
        ("@SUM(A1)", "/echo \u{9}tab"),
        ("Fails", "/fail auth"),
    ] {
        let id = api.create(name, input).await;
        api.until(&id, if name == "Fails" { "failed" } else { "completed" }).await;
        tasks.push(id);
    }
    tasks
}

#[tokio::test]
async fn all_tasks_are_exported_in_each_format() {
    for environment in [MEMORY, &[]] {
        let server = Server::with(environment);
        let api = Api::of(&server);
        let mut tasks = some_tasks(&api).await;
        let long = format!("/echo {}", "long 💧 ".repeat(1_500).trim());
        tasks.push(api.create("Long", &long).await);
        api.until(&tasks[6], "completed").await;
        tasks.reverse();

        let json = api.get("/export/json").await;
        assert_eq!(json.status, 200);
        assert_eq!(json.header("content-type"), "application/json");
        assert_eq!(json.header("content-disposition"), "attachment; filename=\"tasks.json\"");
        assert_eq!(
            (json.header("cache-control"), json.header("x-content-type-options")),
            ("no-store", "nosniff")
        );
        let exported = json.json();
        assert_eq!(ids(&exported), tasks);
        for task in exported["tasks"].as_array().expect("tasks") {
            assert_eq!(
                *task,
                api.task(task["task_id"].as_str().expect("an id")).await,
                "whole, as by its id"
            );
        }

        let csv = api.get("/export/csv").await;
        assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8; header=present");
        assert_eq!(csv.header("content-disposition"), "attachment; filename=\"tasks.csv\"");
        let mut reader = csv::Reader::from_reader(csv.text.as_bytes());
        let columns: Vec<_> = reader.headers().expect("headers").iter().map(str::to_owned).collect();
        let rows: Vec<_> = reader.records().map(|row| row.expect("a row")).collect();
        assert_eq!(rows.len(), tasks.len());
        for (row, task) in rows.iter().zip(exported["tasks"].as_array().expect("tasks")) {
            for field in
                ["task_id", "agent_id", "name", "status", "created_at", "ended_at", "input", "result"]
            {
                let cell = &row[columns.iter().position(|column| column == field).expect(field)];
                let text = task[field].as_str().unwrap_or("");
                match text.starts_with(['=', '+', '-', '@', '\t']) {
                    true => assert_eq!(cell, format!("'{text}"), "no formula"),
                    false => assert_eq!(cell, text),
                }
            }
        }

        let markdown = api.get("/export/markdown").await;
        assert_eq!(markdown.header("content-type"), "text/markdown; charset=utf-8");
        assert_eq!(markdown.header("content-disposition"), "attachment; filename=\"tasks.md\"");
        let table: Vec<_> = markdown.text.lines().filter(|line| line.starts_with('|')).map(cells).collect();
        assert_eq!(table.len(), 2 + tasks.len());
        for (row, task) in table[2..].iter().zip(exported["tasks"].as_array().expect("tasks")) {
            assert_eq!(row.len(), table[0].len(), "{row:?}");
            assert_eq!((&row[0], &row[1]), (&text(task, "task_id"), &text(task, "name")));
            assert_eq!(row[3], text(task, "status"));
        }

        // As the list is filtered.
        let failed = api.get("/export/json?status=failed&limit=0&cursor=x").await.json();
        assert_eq!(ids(&failed), [tasks[1].as_str()]);
        assert_eq!(api.get("/export/json?q=nothing%20like%20it").await.json(), json!({ "tasks": [] }));
        let none = api.get("/export/csv?q=nothing%20like%20it").await;
        assert_eq!(none.text.lines().count(), 1, "the columns");
    }
}

fn text(task: &Value, field: &str) -> String {
    task[field].as_str().unwrap_or("").to_owned()
}

/// The cells of a row of a Markdown table.
fn cells(row: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut characters = row.strip_prefix('|').expect("a row").chars();
    while let Some(character) = characters.next() {
        let cell = cells.last_mut().expect("a cell");
        match character {
            '\\' => cell.extend(characters.next()),
            '|' => cells.push(String::new()),
            other => cell.push(other),
        }
    }
    cells.pop();
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}

#[tokio::test]
async fn one_task_is_exported_with_all_that_happened_in_it() {
    let server = Server::start();
    let api = Api::of(&server);
    let id = api.create("Three | steps", "/steps 3 10").await;
    let task = api.until(&id, "completed").await;
    let mut client = server.client().await;
    let log = client.history(&id).await;

    let json = api.get(&format!("/{id}/export/json")).await;
    assert_eq!(json.header("content-disposition"), format!("attachment; filename=\"{id}.json\""));
    assert_eq!(json.json(), json!({ "task": task, "events": log }), "as clients get it");

    let csv = api.get(&format!("/{id}/export/csv")).await;
    let mut reader = csv::Reader::from_reader(csv.text.as_bytes());
    let rows: Vec<_> = reader.records().map(|row| row.expect("a row")).collect();
    assert_eq!((rows.len(), &rows[0][0], &rows[0][2]), (1, id.as_str(), "Three | steps"));

    let markdown = api.get(&format!("/{id}/export/markdown")).await;
    assert_eq!(markdown.header("content-disposition"), format!("attachment; filename=\"{id}.md\""));
    let text = markdown.text;
    assert!(text.starts_with("# Three | steps\n\n- Task: "), "{text}");
    for part in ["- Status: completed\n", "- Progress: 100%\n", "/steps 3 10", "**Tool report_progress**"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(text.contains(task["result"].as_str().expect("a text")));
}

/// A task that changes gets to the front of the list, past whoever is reading it.
#[tokio::test]
async fn an_export_has_each_task_once_while_they_change() {
    const TASKS: usize = 230;
    let server = Server::with(&[("DUOLOGUE_STORE", "memory:"), ("DUOLOGUE_MAX_RUNNING_TASKS", "1")]);
    let api = Api::of(&server);
    // All wait behind one.
    api.create("First", "/think 3600000").await;
    let mut tasks = BTreeSet::new();
    for _ in 1..TASKS {
        tasks.insert(api.create("Waits", "/echo x").await);
    }
    let stop = std::sync::atomic::AtomicBool::new(false);
    let renaming = async {
        let mut number = 0_usize;
        for id in tasks.iter().cycle() {
            if stop.load(std::sync::atomic::Ordering::Relaxed) {
                break;
            }
            number += 1;
            let name = json!({ "name": format!("Renamed {number}") });
            api.send_json(Method::PATCH, &format!("/{id}"), &name).await.ok(200);
        }
        number
    };
    let exporting = async {
        let exporter = Api::of(&server);
        for _ in 0..20 {
            let exported = exporter.get("/export/json").await.json();
            let ids = ids(&exported);
            let distinct: BTreeSet<_> = ids.iter().collect();
            assert_eq!((ids.len(), distinct.len()), (TASKS, TASKS));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    };

    let (renamed, ()) = tokio::join!(renaming, exporting);

    assert!(renamed > 0);
}

/// What is exported is not gathered first.
#[tokio::test]
async fn an_export_of_much_takes_little_memory() {
    const TASKS: usize = 120;
    let server = Server::with(&[("DUOLOGUE_MAX_RUNNING_TASKS", "1")]);
    let api = Api::of(&server);
    api.create("First", "/think 3600000").await;
    let input = format!("/echo {}", "x".repeat(250_000));
    for _ in 1..TASKS {
        api.create("Long", &input).await;
    }
    let before = server.resident_bytes();
    let mut largest = before;

    let answer = api.http.get(format!("{}/export/json", api.base)).send().await.expect("an answer");
    let mut bytes = 0;
    let mut body = answer;
    while let Some(chunk) = within("a part", body.chunk()).await.expect("a whole body") {
        bytes += chunk.len();
        largest = largest.max(server.resident_bytes());
    }

    assert!(bytes > (TASKS - 1) * 250_000, "{bytes}");
    assert!(largest - before < 16 * 1024 * 1024, "{} bytes more", largest - before);
}

#[tokio::test]
async fn an_export_goes_on_while_the_server_does_other_things() {
    let server = Server::start();
    let api = Api::of(&server);
    let id = api.create("Count", "/count 20000").await;
    api.until(&id, "completed").await;
    let mut client = server.client().await;

    // A client that reads nothing of it for a while.
    let mut answer = api.http.get(format!("{}/{id}/export/json", api.base)).send().await.expect("an answer");
    let chat = client.create("worker").await;
    assert_eq!(client.run(&chat, "/echo x").await, "completed");
    client.must(manage(&chat, "close")).await;
    let mut body = Vec::new();
    while let Some(chunk) = within("a part", answer.chunk()).await.expect("a whole body") {
        body.extend_from_slice(&chunk);
    }

    let exported: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(exported["events"], json!(client.history(&id).await));
}

#[tokio::test]
async fn nothing_is_taken_while_the_server_stops() {
    let dir = scratch_dir();
    let mut server = Server::start_in(&dir, &[("DUOLOGUE_DRAIN_SECS", "30")]);
    let api = Api::of(&server);
    let id = api.create("Long", "/count 40 50").await;
    api.until(&id, "running").await;

    server.signal(nix::sys::signal::Signal::SIGTERM);
    until("/ready to fail", async || server.get("/ready").await.0 == 503).await;

    let task = json!({ "agent_id": "worker", "name": "x", "input": "x" });
    api.send_json(Method::POST, "", &task).await.problem(503, "unavailable");
    assert!(server.ended().await.success());

    let server = Server::start_in(&dir, &[]);
    let task = Api::of(&server).until(&id, "completed").await;
    assert!(task["result"].as_str().expect("a text").ends_with("40"), "{task}");
}
