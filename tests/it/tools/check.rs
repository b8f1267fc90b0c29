//! `duologue check` and servers of tools.

use std::process::Output;

use super::*;
use crate::support::duologue;

fn check(tools: &str, servers: &str) -> Output {
    let dir = scratch_dir();
    let agents = format!(
        "[[agents]]\nid = \"helper\"\nname = \"Helper\"\nmodel = \"demo\"\ntools = [{tools}]\n{servers}\n"
    );
    std::fs::write(dir.join("agents.toml"), agents).expect("a file");
    duologue(&dir, &[]).envs(environment()).arg("check").output().expect("it runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The command of the misbehaving server, as `agents.toml` has it.
fn command(flags: &[&str]) -> String {
    let flags: String = flags.iter().map(|flag| format!(", {flag:?}")).collect();
    format!("command = [\"node\", {:?}{flags}]", misbehaving())
}

#[test]
fn a_check_lists_the_tools_of_each_server_and_leaves_none_behind() {
    let pids = scratch_dir().join("pids");
    let acme = command(&[&format!("--grandchild={}", pids.display())]);
    let servers = format!("[mcp.acme]\n{acme}\n[mcp.unused]\ncommand = [\"no-such-program\"]");

    let output =
        check("\"clock\", \"mcp:acme/echo\", { name = \"mcp:acme/die\", approval = \"ask\" }", &servers);

    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    let expected = "ok       mcp acme of helper: 15 tools: echo, hang, ";
    assert!(stdout(&output).contains(expected), "{}", stdout(&output));
    let family = std::fs::read_to_string(&pids).expect("its pids");
    assert!(!family.split(' ').any(|pid| runs(pid.parse().expect("a number"))), "{family}");
}

#[test]
fn a_check_says_what_is_wrong_with_servers_and_with_the_choice_of_their_tools() {
    let servers = [
        "[mcp.acme]\n".to_owned() + &command(&[]),
        "[mcp.absent]\ncommand = [\"no-such-program\"]".to_owned(),
        "[mcp.dead]\n".to_owned() + &command(&["--dead"]),
        "[mcp.silent]\nstart_timeout_secs = 1\n".to_owned() + &command(&["--silent"]),
        "[mcp.remote]\nurl = \"http://127.0.0.1:9/mcp?key=in-the-address\"\ntoken_env = \"ACME_UNSET_TOKEN\""
            .to_owned(),
    ];
    let tools = r#""mcp:acme/eho", "mcp:absent", "mcp:dead", "mcp:silent/x", "mcp:remote""#;

    let output = check(tools, &servers.join("\n"));

    let said = stdout(&output);
    let problems: Vec<_> = said.lines().filter(|line| line.starts_with("problem")).collect();
    for expected in [
        "agent helper: mcp server acme has no tool \"eho\"; did you mean \"mcp:acme/echo\"?",
        "mcp absent of helper: there is no program \"no-such-program\"; install it, or correct command",
        "there is no such folder: /nowhere",
        "mcp silent of helper: it did not come up in 1 s",
        "mcp remote of helper: it cannot be reached",
        "mcp server remote: ACME_UNSET_TOKEN is not set",
    ] {
        assert!(problems.iter().any(|line| line.contains(expected)), "{expected}: {said}");
    }
    assert_eq!(problems.len(), 6, "{said}");
    assert!(!said.contains("in-the-address"), "{said}");
    assert_eq!(output.status.code(), Some(1));
}
