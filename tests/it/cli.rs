//! The command line, run as its users run it.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::support::{Server, duologue, scratch_dir};

/// Runs a command to its end.
fn run(arguments: &[&str], input: &str) -> Output {
    let mut child = duologue(&scratch_dir(), &[])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    // It may not want to read.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("text")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("text")
}

fn url(server: &Server) -> String {
    format!("http://{}", server.addr)
}

// ---- chat ----

#[test]
fn a_script_gets_an_answer_for_each_line() {
    let server = Server::start();

    let output = run(&["chat", "helper", "--url", &url(&server)], "/echo one\n\n/count 3\n/echo last");

    assert_eq!(stdout(&output), "one\n1 2 3\nlast\n");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

/// In a terminal, which `script` of util-linux stands in for.
#[test]
fn a_call_that_waits_is_asked_about_and_answered_in_the_terminal() {
    let server = Server::start();
    let chat = format!("'{}' chat clerk --url {}", env!("CARGO_BIN_EXE_duologue"), url(&server));
    let mut script = Command::new("script")
        .args(["--quiet", "--return", "--flush", "--command", &chat, "/dev/null"])
        .current_dir(scratch_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script starts");
    let mut keys = script.stdin.take().expect("a pipe");
    let mut screen = BufReader::new(script.stdout.take().expect("a pipe")).lines();
    let mut shown = |what: &str| screen.by_ref().map_while(Result::ok).any(|line| line.contains(what));

    assert!(shown("send `/tool clock`"));
    keys.write_all(b"/tool clock\n").expect("it reads");
    assert!(shown("allow clock?"));
    keys.write_all(b"perhaps\n").expect("it reads");
    assert!(shown("allow clock?"));
    keys.write_all(b"n not now\n").expect("it reads");
    assert!(shown("denied by local"));
    assert!(shown("not now"));
    keys.write_all(b"/tool clock\n").expect("it reads");
    assert!(shown("allow clock?"));
    keys.write_all(b"y\n").expect("it reads");
    assert!(shown("approved by local"));
    assert!(shown("unix_seconds"));
    // Ctrl-D, as a terminal has it.
    keys.write_all(&[4]).expect("it reads");
    assert_eq!(script.wait().expect("it ends").code(), Some(0));
}

#[test]
fn without_an_agent_the_first_is_talked_to() {
    let server = Server::start();

    let output = run(&["chat", "--url", &url(&server)], "/echo hello\n");

    assert_eq!(stdout(&output), "hello\n");
}

#[test]
fn a_run_that_fails_is_told_and_fails_the_script() {
    let server = Server::start();

    let output = run(&["chat", "helper", "--url", &url(&server)], "/fail auth\n/echo and on\n");

    assert_eq!(stdout(&output), "and on\n", "the lines after it are sent all the same");
    assert!(stderr(&output).contains("provider_auth"), "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_chat_that_cannot_begin_says_why() {
    let server = Server::start();
    for (arguments, expected, status) in [
        (vec!["chat", "nobody", "--url", &url(&server)], "no agent \"nobody\"", 1),
        (vec!["chat", "--session", "helper_999999", "--url", &url(&server)], "no session helper_999999", 1),
        (vec!["chat", "--url", "http://127.0.0.1:9"], "no server answers at http://127.0.0.1:9", 1),
        (vec!["chat", "--url", "nowhere"], "expected a server's address", 2),
        (vec!["chat", "--url", "https://127.0.0.1"], "TLS is not built yet", 2),
        (vec!["chat", "--session", "a_100", "helper"], "cannot be used with", 2),
        (vec!["chatter"], "unrecognized subcommand 'chatter'", 2),
    ] {
        let output = run(&arguments, "hello\n");

        let first = stderr(&output).lines().next().unwrap_or_default().to_owned();
        assert!(first.contains(expected), "{arguments:?}: {}", stderr(&output));
        assert_eq!(output.status.code(), Some(status), "{arguments:?}");
    }
}

/// A chat in progress.
struct Chat {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Chat {
    fn start(server: &Server, input: &str) -> Self {
        let mut child = duologue(&scratch_dir(), &[])
            .args(["chat", "helper", "--url", &url(server)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        child.stdin.as_mut().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, lines }
    }

    /// Reads the answer up to and with a word.
    fn read_to(&mut self, word: &str) -> String {
        let mut text = String::new();
        while !text.ends_with(word) {
            let mut byte = [0];
            std::io::Read::read_exact(&mut self.lines, &mut byte).expect("more of the answer");
            text.push(char::from(byte[0]));
        }
        text
    }

    fn end(mut self) -> (String, Output) {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.lines, &mut rest).expect("text");
        (rest, self.child.wait_with_output().expect("it ends"))
    }
}

#[test]
fn an_interrupt_stops_the_run() {
    let server = Server::start();
    let mut chat = Chat::start(&server, "/count 10000 20\n");
    chat.read_to("1 2 3 4 5");

    kill(nix::unistd::Pid::from_raw(chat.child.id() as i32), Signal::SIGINT).expect("it runs");

    let (rest, output) = chat.end();
    assert!(rest.ends_with('\n') && rest.len() < 10_000, "{rest}");
    assert!(stderr(&output).contains("(stopped)"), "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_chat_outlives_a_server_that_forgets_it_only_to_say_so() {
    let memory = ("DUOLOGUE_STORE", "memory:");
    let server = Server::with(&[memory]);
    let mut chat = Chat::start(&server, "/count 10000 20\n");
    chat.read_to("1 2 3 4 5");
    let addr = server.addr.to_string();
    let dir = server.kill();
    let _server = Server::start_in(&dir, &[memory, ("DUOLOGUE_BIND", &addr)]);

    let (_, output) = chat.end();

    assert!(stderr(&output).contains("connection closed; attempt 1"), "{}", stderr(&output));
    let last = stderr(&output).lines().last().unwrap_or_default().to_owned();
    assert!(last.contains("restarted without its memory"), "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
async fn a_session_is_gone_on_with() {
    let server = Server::start();
    let mut client = server.client().await;
    let session = client.create("writer").await;
    client.run(&session, "/echo before").await;

    let output = run(&["chat", "--url", &url(&server), "--session", &session], "/echo after\n");

    assert_eq!(stdout(&output), "after\n", "a script is not told what was said before");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let log = client.history(&session).await;
    assert_eq!(log.iter().filter(|event| event["type"] == "agent_response").count(), 2);
}

#[test]
fn a_server_that_falls_silent_is_taken_for_gone_and_looked_for_again() {
    let server = Server::with(&[("DUOLOGUE_HEARTBEAT_SECS", "1")]);
    let mut chat = duologue(&server.dir, &[])
        .args(["chat", "helper", "--url", &url(&server)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = chat.stdin.take().expect("a pipe");
    input.write_all(b"/echo first\n").expect("it reads");
    let mut answers = BufReader::new(chat.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    assert_eq!(answers.next().as_deref(), Some("first"));

    server.signal(Signal::SIGSTOP);
    let mut notes = BufReader::new(chat.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    assert!(notes.any(|note| note.contains("attempt 1")), "it notices");
    server.signal(Signal::SIGCONT);

    input.write_all(b"/echo second\n").expect("it reads");
    drop(input);
    assert_eq!(answers.next().as_deref(), Some("second"), "the session goes on");
    assert!(chat.wait().expect("it ends").success());
}

// ---- bench ----

/// Has a bench put load on a server; its report.
fn bench(server: &Server, load: &[&str]) -> Value {
    let output = run(&[&["bench", "--url", &url(server), "--json"], load].concat(), "");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    serde_json::from_str(stdout(&output)).expect("one JSON object")
}

#[track_caller]
fn assert_spread(report: &Value, field: &str) {
    let at = |name: &str| report[field][name].as_f64().expect("a number");
    assert!(0.0 < at("p50") && at("p50") <= at("p99") && at("p99") <= at("max"), "{field}: {report}");
}

#[test]
fn a_bench_counts_what_it_sees() {
    let server = Server::start();
    let pid = server.pid().to_string();

    let report = bench(&server, &["--pid", &pid, "--sessions", "7", "--messages", "3", "--tokens", "20"]);

    for (field, expected) in
        [("sessions", 7), ("messages", 21), ("deltas", 420), ("gaps", 0), ("duplicates", 0), ("errors", 0)]
    {
        assert_eq!(report[field], expected, "{field}: {report}");
    }
    for field in
        ["sessions_per_second", "deltas_per_second", "server_rss_bytes", "bytes_per_session", "seconds"]
    {
        assert!(report[field].as_f64().is_some_and(|value| value > 0.0), "{field}: {report}");
    }
    assert_spread(&report, "first_delta_ms");
    assert_spread(&report, "run_ms");
}

#[test]
fn clients_that_a_bench_drops_come_back_to_all_that_they_missed() {
    /// From `user_message` to `run_finished`.
    const EVENTS_OF_A_RUN: u64 = 5;
    let server = Server::start();

    let report = bench(&server, &["--sessions", "20", "--messages", "1", "--tokens", "5", "--reconnect"]);

    assert_eq!(report["replayed"], 20 * EVENTS_OF_A_RUN, "{report}");
    assert_eq!(report["messages"], 20, "what is answered while clients are away is no load: {report}");
    assert_spread(&report, "reconnect_ms");
    assert_eq!(report["all_back_ms"], report["reconnect_ms"]["max"]);
}

#[test]
fn the_watchers_of_a_bench_see_every_event() {
    let server = Server::start();

    let report =
        bench(&server, &["--sessions", "1", "--messages", "2", "--tokens", "10", "--watchers", "12"]);

    assert_eq!(report["watchers"], 12);
    assert_eq!(report["deltas"], 2 * 10 * 13, "{report}");
    assert_spread(&report, "spread_ms");
}

#[test]
fn a_bench_that_may_not_open_so_many_sockets_says_how_to() {
    let script = format!("ulimit -n 100; exec '{}' bench --sessions 200", env!("CARGO_BIN_EXE_duologue"));

    let output = Command::new("sh").args(["-c", &script]).output().expect("it runs");

    assert!(stderr(&output).contains("400 sockets are 464 open files"), "{}", stderr(&output));
    assert!(stderr(&output).contains("ulimit -Hn"), "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_bench_of_failing_runs_fails() {
    let dir = scratch_dir();
    let agents = "[[agents]]\nid = \"helper\"\nname = \"Helper\"\nmodel = \"openai::gpt-4o-mini\"\n";
    std::fs::write(dir.join("agents.toml"), agents).expect("a file");
    let server = Server::start_in(&dir, &[]);

    let output = run(&["bench", "--url", &url(&server), "--sessions", "2", "--messages", "1", "--json"], "");

    let report: Value = serde_json::from_str(stdout(&output)).expect("one JSON object");
    assert_eq!(report["errors"], 2);
    assert_eq!(output.status.code(), Some(1));
}

// ---- check ----

#[test]
fn a_check_of_what_is_shipped_finds_nothing() {
    let dir = scratch_dir();
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/agents.toml"), dir.join("agents.toml"))
        .expect("a copy");

    let output = duologue(&dir, &[]).arg("check").output().expect("it runs");

    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert!(
        stdout(&output).contains("ok       model demo of helper, writer, counter"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn a_check_finds_each_problem_and_says_how_to_mend_it() {
    let dir = scratch_dir();
    let agents = r#"
[[agents]]
id = "keyless"
name = "Keyless"
model = "openai::gpt-4o-mini"

[[agents]]
id = "unreachable"
name = "Unreachable"
model = "local::llama"

[providers.local]
kind = "openai"
base_url = "http://127.0.0.1:9/v1/"
"#;
    std::fs::write(dir.join("agents.toml"), agents).expect("a file");

    let output = duologue(&dir, &[("DUOLOGUE_BNID", "x")]).arg("check").output().expect("it runs");

    let lines: Vec<_> = stdout(&output).lines().filter(|line| line.starts_with("problem")).collect();
    assert_eq!(lines.len(), 3, "{}", stdout(&output));
    for expected in ["set OPENAI_API_KEY", "http://127.0.0.1:9", "did you mean DUOLOGUE_BIND?"] {
        assert!(lines.iter().any(|line| line.contains(expected)), "{expected}: {lines:?}");
    }
    assert!(stderr(&output).contains("there are 3 problems"));
    assert_eq!(output.status.code(), Some(1));
}

// ---- help ----

#[test]
fn every_command_explains_itself() {
    for command in ["serve", "chat", "bench", "check"] {
        let output = run(&[command, "--help"], "");

        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains("Usage: duologue"), "{}", stdout(&output));
    }
    let output = run(&["--help"], "");
    for command in ["serve", "chat", "bench", "check"] {
        assert!(stdout(&output).lines().any(|line| line.trim_start().starts_with(command)), "{command}");
    }
}

/// Standard output of a server has one line, for scripts that wait for it.
#[test]
fn the_server_says_where_it_listens_and_nothing_else() {
    let dir = scratch_dir();
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/agents.toml"), dir.join("agents.toml"))
        .expect("a copy");
    let mut child = duologue(&dir, &[]).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();

    let first = lines.next().expect("a line").expect("text");
    kill(nix::unistd::Pid::from_raw(child.id() as i32), Signal::SIGTERM).expect("it runs");

    assert!(first.starts_with("listening on http://127.0.0.1:"), "{first}");
    assert!(lines.next().is_none());
    assert!(child.wait().expect("it ends").success());
}
