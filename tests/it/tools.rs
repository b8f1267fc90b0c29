//! Tools of servers: those that others wrote, as they are, and one of ours that does all that no server should.

mod check;
mod faults;
mod http;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use duologue::{
    core::{
        error::{ErrorCode, Problem},
        ports::{ToolOutput, ToolSource, Tools},
    },
    runtime::AdapterRuntime,
    tools::mcp::{McpOptions, McpSource, McpTransport, Program},
};
use futures_util::future::join_all;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::{
    installed::{npm_package, venv},
    support::{PATIENCE, scratch_dir, until, within},
};

/// For deadlines that a test waits for, and that nothing else may miss on however busy a machine.
const SOON: Duration = Duration::from_secs(3);

// ---- servers ----

/// A server's tools, and the thread that they work on.
struct Bed {
    source: McpSource,
    _runtime: AdapterRuntime,
}

impl Bed {
    fn new(transport: McpTransport, change: impl FnOnce(&mut McpOptions)) -> Self {
        let runtime = AdapterRuntime::start("tools").expect("a runtime");
        let mut options =
            McpOptions { transport, per_session: false, start_timeout: PATIENCE, call_timeout: PATIENCE };
        change(&mut options);
        Self { source: McpSource::new("acme", options, runtime.handle()), _runtime: runtime }
    }

    fn program(program: impl AsRef<Path>, arguments: &[&str]) -> Self {
        Self::new(program_of(program, arguments), |_| ())
    }

    fn everything() -> Self {
        Self::program("node", &[&everything().to_string_lossy(), "stdio"])
    }

    /// The one that does what it should not, as its flags say.
    fn misbehaving(flags: &[&str]) -> Self {
        Self::misbehaving_with(flags, |_| ())
    }

    fn misbehaving_with(flags: &[&str], change: impl FnOnce(&mut McpOptions)) -> Self {
        let script = misbehaving().to_string_lossy().into_owned();
        let arguments: Vec<_> = [script.as_str()].into_iter().chain(flags.iter().copied()).collect();
        Self::new(program_of("node", &arguments), change)
    }

    fn open(&self) -> Session {
        Session(self.source.open(false))
    }
}

/// What programs are found by, and what some of them insist on.
#[expect(clippy::disallowed_methods, reason = "only tests read it")]
fn environment() -> BTreeMap<String, String> {
    let names = ["PATH", "HOME"].into_iter();
    names.filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?))).collect()
}

fn program_of(program: impl AsRef<Path>, arguments: &[&str]) -> McpTransport {
    McpTransport::Program(Program {
        program: program.as_ref().to_string_lossy().into_owned(),
        arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        environment: environment()
            .into_iter()
            .map(|(name, value)| (name, SecretString::from(value)))
            .collect(),
    })
}

fn everything() -> PathBuf {
    npm_package("@modelcontextprotocol/server-everything").join("dist/index.js")
}

fn misbehaving() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/tools/misbehaving.mjs")
}

/// The tools as a session has them.
#[derive(Clone)]
struct Session(Arc<dyn Tools>);

impl Session {
    async fn names(&self) -> Vec<String> {
        let specs = within("a list of tools", self.0.list()).await;
        specs.iter().map(|spec| spec.name.clone()).collect()
    }

    async fn call(&self, name: &str, args: Value) -> Result<Value, Problem> {
        match within(name, self.0.call(name, args)).await {
            Ok(ToolOutput::Value(value)) => Ok(value),
            Ok(output) => panic!("{name} came to {output:?}"),
            Err(problem) => Err(problem),
        }
    }

    /// What a tool answers whose answer is a text.
    async fn text(&self, name: &str, args: Value) -> String {
        match self.call(name, args).await {
            Ok(Value::String(text)) => text,
            other => panic!("{name} came to {other:?}"),
        }
    }

    async fn echo(&self, text: &str) -> String {
        self.text("echo", json!({ "text": text })).await
    }

    /// The server's words, or ours, on a tool that failed.
    async fn failure(&self, name: &str, args: Value) -> String {
        match self.call(name, args).await {
            Err(problem) if problem.code == ErrorCode::ToolError => problem.message,
            Err(problem) => panic!("{name} failed otherwise: {problem:?}"),
            Ok(value) => panic!("{name} did not fail, but came to {} bytes", value.to_string().len()),
        }
    }

    async fn pid(&self) -> u32 {
        self.text("pid", json!({})).await.parse().expect("a number")
    }
}

fn runs(pid: u32) -> bool {
    // What nobody has waited for is no longer running, but has not gone either.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

// ---- those that others wrote ----

#[tokio::test]
async fn the_server_of_everything_is_spoken_to_over_its_standard_input_and_output() {
    let bed = Bed::everything();
    does_everything(&bed).await;
    bed.source.close().await;
}

/// What the npm package does, however it is spoken to.
async fn does_everything(bed: &Bed) {
    let session = bed.open();
    let names = session.names().await;
    for name in ["echo", "get-sum", "get-tiny-image", "get-structured-content"] {
        assert!(names.iter().any(|other| other == name), "{name}: {names:?}");
    }

    assert_eq!(session.text("echo", json!({ "message": "grüße 😀" })).await, "Echo: grüße 😀");
    let sum = session.text("get-sum", json!({ "a": 2, "b": 40 })).await;
    assert!(sum.contains("42"), "{sum}");

    let image = session.call("get-tiny-image", json!({})).await.expect("an image");
    let part =
        image.as_array().expect("a list").iter().find(|part| part["type"] == "image").expect("an image");
    assert_eq!(part["mimeType"], "image/png");
    assert!(part["bytes"].as_u64().is_some_and(|bytes| bytes > 100) && part.get("data").is_none(), "{part}");

    let weather =
        session.call("get-structured-content", json!({ "location": "New York" })).await.expect("weather");
    assert!(weather.is_object() && weather.get("temperature").is_some(), "{weather}");

    let refused = session.call("get-sum", json!({ "a": "two", "b": 40 })).await.expect_err("a refusal");
    assert_eq!((refused.code, refused.message.as_str()), (ErrorCode::InvalidField, "/a: expected a number"));
    assert_eq!(session.0.check("get-sum", &json!({ "a": 1 })).expect_err("a refusal"), {
        Problem::invalid_field("/b", "a value; it is required")
    });
    let unknown = session.failure("no_such_tool", json!({})).await;
    assert!(unknown.contains("no_such_tool"), "{unknown}");
}

#[tokio::test]
async fn the_time_server_of_python_tells_the_time() {
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/tools/requirements.txt");
    let python = venv("venv-tools", &requirements).join("bin/python");
    let bed = Bed::program(python, &["-m", "mcp_server_time"]);
    let session = bed.open();

    assert_eq!(session.names().await, ["get_current_time", "convert_time"]);
    let answer =
        session.call("get_current_time", json!({ "timezone": "Europe/Berlin" })).await.expect("the time");
    assert!(answer.to_string().contains("Europe/Berlin"), "{answer}");
    let refused = session.call("get_current_time", json!({})).await.expect_err("a refusal");
    assert_eq!(refused.message, "/timezone: expected a value; it is required");
    let unknown = session.failure("get_current_place", json!({})).await;
    assert!(unknown.contains("get_current_place"), "{unknown}");
    let nowhere = session.failure("get_current_time", json!({ "timezone": "Europe/Atlantis" })).await;
    assert!(nowhere.contains("Atlantis"), "{nowhere}");
    bed.source.close().await;
}

// ---- who has which connection ----

#[tokio::test]
async fn sessions_share_a_server_that_is_started_when_it_is_needed_and_ended_when_it_is_closed() {
    let journal = scratch_dir().join("journal");
    let bed = Bed::misbehaving(&[&format!("--journal={}", journal.display())]);
    let (one, other) = (bed.open(), bed.open());
    assert!(!journal.exists(), "nothing is started before it is needed");

    let pid = one.pid().await;
    assert_eq!(other.pid().await, pid);
    drop((one, other));
    assert_eq!(bed.open().pid().await, pid, "it stays for the next session");

    within("the end", bed.source.close()).await;
    assert!(!runs(pid));
    let gone = bed.open();
    assert_eq!(gone.names().await, [""; 0]);
    assert!(gone.failure("pid", json!({})).await.contains("not available"));
}

#[tokio::test]
async fn a_server_of_a_session_ends_with_it() {
    let bed = Bed::misbehaving_with(&[], |options| options.per_session = true);
    let (one, other) = (bed.open(), bed.open());
    let (pid, other_pid) = (one.pid().await, other.pid().await);
    assert_ne!(pid, other_pid);

    drop(one);

    until("the end of its server", async || !runs(pid)).await;
    assert_eq!(other.pid().await, other_pid);
    within("the end", bed.source.close()).await;
    assert!(!runs(other_pid));
}

#[tokio::test]
async fn a_server_of_sessions_is_described_without_a_session() {
    let journal = scratch_dir().join("journal");
    let flags = [format!("--journal={}", journal.display())];
    let bed = Bed::misbehaving_with(&[&flags[0]], |options| options.per_session = true);

    let described = within("a description", bed.source.describe()).await;
    assert!(described.iter().any(|tool| tool.spec.name == "echo" && tool.available), "{described:?}");
    let again = within("a description", bed.source.describe()).await;
    assert_eq!(again, described);

    let starts = std::fs::read_to_string(&journal).expect("a journal").matches("\"initialize\"").count();
    assert_eq!(starts, 1, "what is known is not asked for again");
    within("the end", bed.source.close()).await;
}

#[tokio::test]
async fn however_many_ask_what_there_is_one_server_is_started() {
    let dir = scratch_dir();
    let (journal, starts, dead) = (dir.join("journal"), dir.join("starts"), dir.join("dead"));
    let flags = [
        format!("--journal={}", journal.display()),
        format!("--starts={}", starts.display()),
        format!("--dead-while={}", dead.display()),
    ];
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let bed = Bed::misbehaving_with(&flags, |options| options.per_session = true);
    let ask = async || join_all((0..10).map(|_| bed.source.describe())).await;
    let count = || std::fs::read_to_string(&starts).map_or(0, |starts| starts.lines().count());
    std::fs::write(&dead, "").expect("a file");

    let described = within("failures", ask()).await;
    assert!(described.iter().all(Vec::is_empty), "{described:?}");
    // It is tried again after a second, and then after two: not once for each who asks.
    assert!((1..=3).contains(&count()), "{}", count());

    std::fs::remove_file(&dead).expect("a file");
    let failed = count();
    until("descriptions", async || ask().await.iter().all(|described| described.len() > 10)).await;
    assert_eq!(count(), failed + 1);
    let described = ask().await;
    assert!(described.iter().flatten().all(|tool| tool.available), "{described:?}");
    assert_eq!(count(), failed + 1);
    let pid = std::fs::read_to_string(&starts).expect("starts").lines().last().map(str::parse::<u32>);
    let pid = pid.expect("a start").expect("a pid");
    until("its end", async || !runs(pid)).await;
    within("the end", bed.source.close()).await;
}

#[tokio::test]
async fn a_program_has_no_variables_but_those_that_it_is_given() {
    let bed = Bed::misbehaving_with(&[], |options| {
        let McpTransport::Program(program) = &mut options.transport else { panic!("a program") };
        program.environment.insert("ACME_KEY".to_owned(), "secret".into());
    });

    let environment = bed.open().call("env", json!({})).await.expect("its variables");

    let names: Vec<_> = environment.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(names, ["ACME_KEY", "HOME", "PATH"]);
    bed.source.close().await;
}

#[tokio::test]
async fn calls_at_the_same_moment_each_get_their_own_answer() {
    let bed = Bed::misbehaving(&[]);
    let session = bed.open();
    let texts: Vec<_> = (0..500).map(|number| format!("text {number}")).collect();

    let answers = join_all(texts.iter().map(|text| session.echo(text))).await;

    assert_eq!(answers, texts);
    bed.source.close().await;
}

#[tokio::test]
async fn a_changed_list_is_listed_again() {
    let bed = Bed::misbehaving(&[]);
    let session = bed.open();
    assert!(!session.names().await.contains(&"added_0".to_owned()));

    assert_eq!(session.text("change", json!({})).await, "changed");

    until("the new tool", async || session.names().await.contains(&"added_0".to_owned())).await;
    bed.source.close().await;
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_is_cancelled() {
    let journal = scratch_dir().join("journal");
    let bed = Bed::misbehaving(&[&format!("--journal={}", journal.display())]);
    let session = bed.open();
    let heard = |what: &str| std::fs::read_to_string(&journal).unwrap_or_default().contains(what);

    let call = tokio::spawn({
        let session = session.clone();
        async move { session.call("hang", json!({})).await }
    });
    until("the call", async || heard("\"hang\"")).await;
    call.abort();

    until("the word that nobody waits", async || heard("notifications/cancelled")).await;
    assert_eq!(session.echo("still here").await, "still here");
    bed.source.close().await;
}
