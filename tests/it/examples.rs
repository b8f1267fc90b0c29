//! The examples, run as a newcomer runs them: with what they ask for, against a server.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use crate::{
    installed::{self, install, npm_ci},
    support::Server,
};

/// An example, and the program that runs it.
struct Example {
    program: PathBuf,
    script: &'static str,
}

impl Example {
    fn python() -> Self {
        Self { program: venv().join("bin/python"), script: "chat.py" }
    }

    fn node() -> Self {
        install_packages();
        Self { program: "node".into(), script: "chat.mjs" }
    }

    fn start(&self, server: &Server, arguments: &[&str]) -> Child {
        Command::new(&self.program)
            .arg(examples().join(self.script))
            .args(["--url", &server.url("")])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts")
    }

    /// Runs it to its end.
    fn run(&self, server: &Server, arguments: &[&str], input: &str) -> Output {
        let mut child = self.start(server, arguments);
        let mut stdin = child.stdin.take().expect("a pipe");
        // It may not want to read.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("it ends")
    }

    fn answers(&self) {
        let server = Server::start();

        let output = self.run(&server, &["/count 5 10"], "");
        assert_eq!(stdout(&output), "1 2 3 4 5\n");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));

        let session = stderr(&output).trim().strip_prefix("session ").expect("it names its session");
        let output = self.run(&server, &["--session", session], "/echo grüße 😀");
        assert_eq!(stdout(&output), "grüße 😀\n");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }

    fn fails(&self) {
        let server = Server::start();
        for (arguments, text, error) in [
            (vec!["/fail auth"], "", "provider_auth: "),
            (vec!["/fail cut"], "This answer will be cut off in the middle of its\n", "provider_error: "),
            (vec!["--agent", "nobody", "hello"], "", "agent_not_found: "),
            (vec!["--session", "helper_999999", "hello"], "", "session_not_found: "),
        ] {
            let output = self.run(&server, &arguments, "");

            assert_eq!(stdout(&output), text, "{arguments:?}");
            assert!(stderr(&output).contains(error), "{arguments:?}: {}", stderr(&output));
            assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        }
    }

    /// The answer is shown as it comes, and its connection's end is the example's.
    fn streams_until_the_connection_ends(&self) {
        let server = Server::start();
        let mut child = self.start(&server, &["/count 100000 20"]);
        let mut shown = vec![0; "1 2 3 4 5".len()];
        child.stdout.as_mut().expect("a pipe").read_exact(&mut shown).expect("the beginning of an answer");
        assert_eq!(shown, b"1 2 3 4 5");

        server.kill();

        let output = child.wait_with_output().expect("it ends");
        assert!(stderr(&output).contains("connection closed"), "{}", stderr(&output));
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn the_python_example_answers() {
    Example::python().answers();
}

#[test]
fn the_python_example_says_what_went_wrong() {
    Example::python().fails();
}

#[test]
fn the_python_example_streams_until_the_connection_ends() {
    Example::python().streams_until_the_connection_ends();
}

#[test]
fn the_node_example_answers() {
    Example::node().answers();
}

#[test]
fn the_node_example_says_what_went_wrong() {
    Example::node().fails();
}

#[test]
fn the_node_example_streams_until_the_connection_ends() {
    Example::node().streams_until_the_connection_ends();
}

// ---- what they need ----

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// A Python that has what `requirements.txt` asks for.
fn venv() -> PathBuf {
    installed::venv("venv", &examples().join("requirements.txt"))
}

fn install_packages() {
    let examples = examples();
    install(&examples.join("package-lock.json"), &examples.join("node_modules"), || npm_ci(&examples));
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("text")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("text")
}
