//! Servers of tools that are reached over HTTP.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use super::*;

/// A server in a process of its own. It ends with the test.
struct Remote {
    child: Child,
    url: String,
}

impl Drop for Remote {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Remote {
    fn misbehaving(flags: &[&str]) -> Self {
        Self::misbehaving_on(0, flags)
    }

    fn misbehaving_on(port: u16, flags: &[&str]) -> Self {
        let mut command = Command::new("node");
        command.arg(misbehaving()).arg(format!("--http={port}")).args(flags);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("node starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("it speaks");
        let port = line.trim().strip_prefix("listening on ").expect("its port");
        Self { child, url: format!("http://127.0.0.1:{port}/mcp") }
    }

    /// The npm package. It cannot be told to take any free port, and one that was free may be taken.
    fn everything() -> Self {
        let mut tries = (0..20).filter_map(|_| Self::everything_on(free_port()));
        tries.next().expect("a port for the server of everything")
    }

    fn everything_on(port: u16) -> Option<Self> {
        let mut command = Command::new("node");
        command.arg(everything()).arg("streamableHttp").env("PORT", port.to_string());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("node starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        let is_up = lines.any(|line| line.contains("listening on port"));
        std::thread::spawn(move || lines.for_each(drop));
        let remote = Self { child, url: format!("http://127.0.0.1:{port}/mcp") };
        is_up.then_some(remote)
    }

    fn port(&self) -> u16 {
        let port = self.url.trim_end_matches("/mcp").rsplit(':').next();
        port.and_then(|port| port.parse().ok()).expect("a port")
    }

    fn bed(&self) -> Bed {
        self.bed_with(None, |_| ())
    }

    fn bed_with(&self, token: Option<&str>, change: impl FnOnce(&mut McpOptions)) -> Bed {
        let token = token.map(SecretString::from);
        Bed::new(McpTransport::Http { url: self.url.clone(), token }, change)
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

#[tokio::test]
async fn the_server_of_everything_is_spoken_to_over_http() {
    let remote = Remote::everything();
    let bed = remote.bed();
    does_everything(&bed).await;
    bed.source.close().await;
}

#[tokio::test]
async fn one_that_dies_fails_what_it_was_asked_and_is_reached_again() {
    let mut remote = Remote::everything();
    let bed = remote.bed();
    let session = bed.open();
    let args = json!({ "duration": 600, "steps": 2 });
    assert!(!session.names().await.is_empty());

    let call = tokio::spawn({
        let session = session.clone();
        async move { session.failure("trigger-long-running-operation", args).await }
    });
    // It may have begun once another call that came later is done.
    assert_eq!(session.text("echo", json!({ "message": "a" })).await, "Echo: a");
    remote.child.kill().expect("it runs");
    remote.child.wait().expect("it ends");

    let failure = within("the failure", call).await.expect("it ends");
    let expected = ["was lost during the call", "the call was not made"];
    assert!(expected.iter().any(|expected| failure.contains(expected)), "{failure}");
    until("that its tools are gone", async || session.names().await.is_empty()).await;
    let remote = Remote::everything_on(remote.port()).expect("its port is free again");
    until("its second life", async || !session.names().await.is_empty()).await;
    assert_eq!(session.text("echo", json!({ "message": "b" })).await, "Echo: b");
    bed.source.close().await;
    drop(remote);
}

#[tokio::test]
async fn one_that_dies_in_a_call_leaves_open_what_has_become_of_it() {
    let journal = scratch_dir().join("journal");
    let mut remote = Remote::misbehaving(&[&format!("--journal={}", journal.display())]);
    let bed = remote.bed();
    let session = bed.open();
    assert_eq!(session.echo("hello").await, "hello");

    let call = tokio::spawn({
        let session = session.clone();
        async move { session.failure("hang", json!({})).await }
    });
    let heard = || std::fs::read_to_string(&journal).expect("a journal");
    until("the call", async || heard().contains("\"hang\"")).await;
    remote.child.kill().expect("it runs");

    let failure = within("the failure", call).await.expect("it ends");
    assert!(failure.contains("was lost during the call") && failure.contains("not known"), "{failure}");
    assert_eq!(heard().matches("\"hang\"").count(), 1, "no call is made twice");
    bed.source.close().await;
}

#[tokio::test]
async fn a_call_that_never_reached_its_server_was_not_made() {
    let mut remote = Remote::misbehaving(&[]);
    let bed = remote.bed();
    let session = bed.open();
    assert_eq!(session.echo("hello").await, "hello");
    remote.child.kill().expect("it runs");
    remote.child.wait().expect("it ends");

    let failure = session.failure("echo", json!({ "text": "a" })).await;

    assert!(failure.contains("cannot be reached; the call was not made"), "{failure}");
    assert!(session.failure("echo", json!({ "text": "a" })).await.contains("not available now"));
    bed.source.close().await;
}

#[tokio::test]
async fn an_answer_of_fifty_megabytes_costs_its_call() {
    for flags in [vec![], vec!["--events"]] {
        let remote = Remote::misbehaving(&flags);
        let bed = remote.bed();
        let session = bed.open();
        let pid = session.pid().await;

        let failure = session.failure("huge_first", json!({})).await;

        assert!(failure.contains("its answer is too large; at most 16777216 bytes"), "{flags:?}: {failure}");
        assert_eq!(session.pid().await, pid);
        bed.source.close().await;
    }
}

#[tokio::test]
async fn one_that_hangs_in_a_call_costs_that_call_and_is_told_to_give_up() {
    let journal = scratch_dir().join("journal");
    let remote = Remote::misbehaving(&[&format!("--journal={}", journal.display())]);
    let bed = remote.bed_with(None, |options| options.call_timeout = SOON);
    let session = bed.open();

    let failure = session.failure("hang", json!({})).await;

    assert!(failure.contains("did not answer in 3 s"), "{failure}");
    let heard = || std::fs::read_to_string(&journal).expect("a journal");
    until("the word to give up", async || heard().contains("notifications/cancelled")).await;
    assert_eq!(session.echo("hello").await, "hello");
    bed.source.close().await;
}

#[tokio::test]
async fn a_token_goes_along_and_a_missing_one_is_asked_for() {
    let remote = Remote::misbehaving(&["--token=acme-token"]);

    let bed = remote.bed_with(Some("acme-token"), |_| ());
    assert_eq!(bed.open().echo("hello").await, "hello");
    bed.source.close().await;

    let bed = remote.bed();
    let why = within("a reason", bed.source.probe()).await.expect_err("a refusal");
    assert!(why.contains("set token_env"), "{why}");
    bed.source.close().await;
}

#[tokio::test]
async fn one_that_is_not_there_or_never_answers_says_so() {
    let nobody = format!("http://127.0.0.1:{}/mcp", free_port());
    let bed = Bed::new(McpTransport::Http { url: nobody, token: None }, |_| ());
    let why = within("a reason", bed.source.probe()).await.expect_err("a failure");
    assert!(why.contains("it cannot be reached"), "{why}");
    bed.source.close().await;

    let remote = Remote::misbehaving(&["--silent"]);
    let bed = remote.bed_with(None, |options| options.start_timeout = SOON);
    let why = within("a reason", bed.source.probe()).await.expect_err("a failure");
    assert!(why.contains("it did not come up in 3 s"), "{why}");
    bed.source.close().await;
}
