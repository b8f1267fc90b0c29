use secrecy::ExposeSecret;

use super::{agents::Checked, *};
use crate::core::command::OnBusy;

fn check(text: &str) -> Result<Checked, SettingError> {
    check_with(text, &[])
}

fn check_with(text: &str, environment: &[(&str, &str)]) -> Result<Checked, SettingError> {
    agents::check("agents.toml", text, &Environment::of(environment))
}

fn refusal(text: &str) -> String {
    check(text).expect_err("refused").to_string()
}

const HELPER: &str = "[[agents]]\nid = \"helper\"\nname = \"Helper\"\nmodel = \"demo\"\n";

#[test]
fn a_whole_file_is_read() {
    let text = r#"
[[agents]]
id = "helper"
name = "Helper"
description = "Helps"
model = "demo"
system_prompt = "Be kind."
seed_messages = [ { role = "assistant", content = "Hello!" } ]
context_window = 8192
on_busy = "interrupt"

[[agents]]
id = "writer"
name = "Writer"
model = "local::some/model:7b"
temperature = 0.7
max_tokens = 2048

[providers.local]
kind = "openai"
base_url = "http://127.0.0.1:11434/v1"
api_key_env = "LOCAL_API_KEY"
first_token_timeout_secs = 5
"#;

    let checked = check_with(text, &[("LOCAL_API_KEY", "secret")]).unwrap();

    assert_eq!(checked.agents[0].on_busy, OnBusy::Interrupt);
    assert_eq!(checked.agents[0].seeds.len(), 1);
    let expected = ModelName::Of { provider: "local".into(), model: "some/model:7b".into() };
    assert_eq!(checked.agents[1].model, expected);
    let local = &checked.providers["local"];
    assert_eq!(local.base_url.as_deref(), Some("http://127.0.0.1:11434/v1/"));
    assert_eq!(local.key.as_ref().unwrap().expose_secret(), "secret");
    assert_eq!(local.first_token_timeout, Duration::from_secs(5));
    assert_eq!(local.idle_timeout, Duration::from_secs(60));
    assert_eq!(local.missing_key(), None);
    assert!(!format!("{local:?}").contains("secret"), "a key is never printed");
}

#[test]
fn only_providers_in_use_are_kept_and_a_missing_key_is_known() {
    let checked = check(&HELPER.replace("demo", "anthropic::claude-sonnet-4-5")).unwrap();

    assert_eq!(checked.providers.keys().collect::<Vec<_>>(), ["anthropic"]);
    assert_eq!(checked.providers["anthropic"].missing_key(), Some("ANTHROPIC_API_KEY"));
}

#[test]
fn mistakes_are_refused_with_their_line_and_what_was_expected() {
    for (text, expected) in [
        ("", "agents.toml: there are no agents"),
        (
            &HELPER.replace("model", "modle"),
            "agents.toml line 4: there is no key \"modle\"; did you mean \"model\"?",
        ),
        (&HELPER.replace("helper", "Helper"), "agents.toml line 2: id: expected 1 to 64 characters"),
        (
            &HELPER.replace("demo", "gpt-4"),
            "agents.toml line 4: model: expected \"demo\" or \"PROVIDER::MODEL\"",
        ),
        (
            &HELPER.replace("demo", "antropic::claude"),
            "agents.toml line 4: model: there is no provider \"antropic\"; did you mean \"anthropic\"?",
        ),
        (&format!("{HELPER}{HELPER}"), "agents.toml line 6: id: there is another agent helper"),
        (&format!("{HELPER}temperature = 3.0"), "agents.toml line 5: temperature: expected 0 to 2, found 3"),
        (&format!("{HELPER}context_window = 5"), "agents.toml line 5: context_window: expected 256"),
        (&format!("{HELPER}on_busy = \"wait\""), "agents.toml line 5: unknown variant `wait`"),
        ("[[agents]]\nid = \"a\"\nname = \"A\"", "agents.toml line 1: missing field `model`"),
        ("[[agents]]\nid = 5", "agents.toml line 2: invalid type: integer `5`, expected a string"),
        ("[[agents", "agents.toml line 1: "),
        (
            &format!("{HELPER}[providers.x]\nkind = \"opnai\"\nbase_url = \"http://h/\""),
            "agents.toml line 6: kind: expected one of openai",
        ),
        (
            &format!("{HELPER}[providers.x]\nkind = \"openai\""),
            "agents.toml line 5: base_url: provider \"x\" needs",
        ),
        (
            &format!("{HELPER}[providers.x]\nkind = \"openai\"\nbase_url = \"ftp://h\""),
            "agents.toml line 7: base_url: expected an http://",
        ),
        (
            &format!("{HELPER}[providers.openai]\napi_key_env = \"sk-abc\""),
            "agents.toml line 6: api_key_env: expected the name of an environment variable",
        ),
        (
            &format!("{HELPER}[providers.openai]\nidle_timeout_secs = 0"),
            "agents.toml line 6: idle_timeout_secs: expected 1 to 3600 seconds",
        ),
    ] {
        let found = refusal(text);

        assert!(found.starts_with(expected), "{text}\nexpected: {expected}\n   found: {found}");
    }
}

#[test]
fn the_environment_is_checked() {
    let settings = |variables: &[(&str, &str)]| Settings::new(&Environment::of(variables)).map(|_| ());
    for (key, value, expected) in [
        ("DUOLOGUE_BIND", "localhost", "DUOLOGUE_BIND: expected an address and a port"),
        ("DUOLOGUE_BIND", "0.0.0.0:8080", "DUOLOGUE_BIND: 0.0.0.0:8080 can be reached from other machines"),
        ("DUOLOGUE_STORE", "sqlite:", "DUOLOGUE_STORE: expected sqlite:FILE"),
        (
            "DUOLOGUE_STORE",
            "redis://localhost",
            "DUOLOGUE_STORE: the store \"redis://localhost\" is not built",
        ),
        ("DUOLOGUE_STORE", "disk", "DUOLOGUE_STORE: expected sqlite:FILE"),
        ("DUOLOGUE_DURABILITY", "some", "DUOLOGUE_DURABILITY: expected normal or full, found \"some\""),
        ("DUOLOGUE_WORKERS", "0", "DUOLOGUE_WORKERS: expected a number from 1 to 256, found 0"),
        (
            "DUOLOGUE_HEARTBEAT_SECS",
            "soon",
            "DUOLOGUE_HEARTBEAT_SECS: expected a number from 1 to 3600, found \"soon\"",
        ),
        ("DUOLOGUE_MAX_MESSAGE_BYTES", "2048", "DUOLOGUE_MAX_MESSAGE_BYTES: expected at least"),
        ("DUOLOGUE_AGENTS", "no/such/file.toml", "no/such/file.toml: there is no such file"),
    ] {
        let found = settings(&[(key, value)]).expect_err(key).to_string();

        assert!(found.starts_with(expected), "expected: {expected}\n   found: {found}");
    }
}

#[test]
fn a_slip_in_a_key_is_pointed_out() {
    let environment =
        Environment::of(&[("DUOLOGUE_BNID", "x"), ("DUOLOGUE_QUITE_ELSE", "y"), ("OTHER", "z")]);

    let unknown: Vec<_> = environment.unknown_keys().collect();

    assert_eq!(unknown.len(), 2);
    assert!(unknown[0].contains("did you mean DUOLOGUE_BIND?"), "{unknown:?}");
    assert!(!unknown[1].contains("did you mean"), "{unknown:?}");
}

#[test]
fn the_example_names_every_setting_with_its_default() {
    let example = include_str!("../../.env.example");
    let written: Vec<_> = example
        .lines()
        .filter_map(|line| line.trim_start_matches(['#', ' ']).split_once('='))
        .filter(|(key, _)| key.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
        .collect();
    for (key, default) in KEYS {
        let found = written.iter().find(|(written, _)| written == key);
        let (_, value) = found.unwrap_or_else(|| panic!("{key} is not in .env.example"));
        let value = value.split('#').next().unwrap_or("").trim();
        assert_eq!(value, *default, "{key}");
    }
    let known = |key: &str| KEYS.iter().any(|(known, _)| *known == key) || key.ends_with("_API_KEY");
    for (key, _) in written {
        assert!(known(key), "{key} of .env.example is not a setting");
    }
}

const FILES: &str = "[mcp.files]\ncommand = [\"npx\", \"files\"]\n";

fn with_tools(tools: &str) -> String {
    format!("{HELPER}tools = [{tools}]\n{FILES}")
}

#[test]
fn tools_are_gathered_by_their_source_and_the_specific_word_goes_before_the_general() {
    use crate::core::profile::{Approval, ToolChoice};
    let text = with_tools(
        r#""clock", { name = "mcp:files", approval = "ask" }, "mcp:files/read_file",
           { name = "mcp:files/write_file", approval = "ask" }, { name = "clock", approval = "ask" }, "clock""#,
    );

    let tools = check(&text).unwrap().agents.remove(0).tools;

    let sources: Vec<_> = tools.iter().map(|tools| tools.source.to_string()).collect();
    assert_eq!(sources, ["builtin", "mcp:files"]);
    let clock = ToolChoice { others: None, named: [("clock".into(), Approval::Ask)].into() };
    assert_eq!(tools[0].choice, clock);
    assert_eq!(tools[1].choice.of("read_file"), Some(Approval::NotNeeded));
    assert_eq!(tools[1].choice.of("write_file"), Some(Approval::Ask));
    assert_eq!(tools[1].choice.of("anything"), Some(Approval::Ask));
}

#[test]
fn servers_of_tools_are_read_with_the_variables_that_they_may_have() {
    let text = format!(
        r#"{HELPER}tools = ["mcp:files", "mcp:web"]
[mcp.files]
command = ["npx", "-y", "files", "/srv"]
env = ["FILES_KEY", "FILES_OTHER"]
per_session = true
call_timeout_secs = 5
[mcp.web]
url = "http://127.0.0.1:3001/mcp"
token_env = "WEB_TOKEN"
[mcp.unused]
url = "http://127.0.0.1:3002/mcp"
"#
    );
    let environment = [
        ("PATH", "/bin"),
        ("LC_ALL", "C"),
        ("OPENAI_API_KEY", "ours"),
        ("FILES_KEY", "theirs"),
        ("WEB_TOKEN", "token"),
    ];

    let checked = check_with(&text, &environment).unwrap();

    assert_eq!(checked.mcp.keys().collect::<Vec<_>>(), ["files", "web"], "only those in use are kept");
    let files = &checked.mcp["files"];
    assert!(files.per_session);
    assert_eq!((files.start_timeout, files.call_timeout), (Duration::from_secs(60), Duration::from_secs(5)));
    let McpTransport::Command { program, arguments, environment } = &files.transport else {
        panic!("{files:?}")
    };
    assert_eq!((program.as_str(), arguments.join(" ").as_str()), ("npx", "-y files /srv"));
    assert_eq!(environment.keys().collect::<Vec<_>>(), ["FILES_KEY", "LC_ALL", "PATH"]);
    assert_eq!(environment["FILES_KEY"].expose_secret(), "theirs");
    let web = &checked.mcp["web"];
    let McpTransport::Http { url, token } = &web.transport else { panic!("{web:?}") };
    assert_eq!(url, "http://127.0.0.1:3001/mcp");
    assert_eq!(token.as_ref().unwrap().expose_secret(), "token");
    assert_eq!(checked.warnings.len(), 1);
    assert!(checked.warnings[0].contains("FILES_OTHER is not set"), "{:?}", checked.warnings);
    let printed = format!("{:?}", checked.mcp);
    assert!(!printed.contains("theirs") && !printed.contains("\"token\""), "{printed}");
}

#[test]
fn mistakes_in_tools_are_refused_with_their_line_and_what_was_expected() {
    let server = |body: &str| format!("{HELPER}[mcp.files]\n{body}\n");
    for (text, expected) in [
        (
            with_tools(r#""clok""#),
            "line 5: tools: there is no built-in tool \"clok\"; did you mean \"clock\"?",
        ),
        (
            with_tools(r#""weather""#),
            "there are clock, update_state, report_progress, suggest, and those of servers",
        ),
        (with_tools(r#""files/read_file""#), "did you mean \"mcp:files/read_file\"?"),
        (
            with_tools(
                r#""clock",
"mcp:fils/x""#,
            ),
            "line 6: tools: there is no mcp server \"fils\"; did you mean \"files\"?",
        ),
        (
            format!("{HELPER}tools = [\"mcp:x\"]"),
            "there is no mcp server \"x\"; add [mcp.x] with a command or a url",
        ),
        (with_tools(r#""mcp:files/""#), "expected \"mcp:files\", or \"mcp:files/TOOL\""),
        (
            with_tools(r#"{ name = "clock", approval = "asks" }"#),
            "expected approval = \"ask\" or \"never\" for \"clock\", found \"asks\"; did you mean \"ask\"?",
        ),
        (
            with_tools(r#"{ name = "clock", aproval = "ask" }"#),
            "there is no key \"aproval\"; did you mean \"approval\"?",
        ),
        (
            with_tools(r#"{ name = "clock", approval = "ask" }, { name = "clock", approval = "never" }"#),
            "\"clock\" is named twice",
        ),
        (with_tools("7"), "expected a tool"),
        (server(""), "line 5: mcp: expected a command, as"),
        (server("command = [\"x\"]\nurl = \"http://127.0.0.1/\""), "mcp server \"files\" has both"),
        (server("command = []"), "line 6: command: expected a program and its arguments"),
        (server("command = [\"\"]"), "line 6: command: expected a program and its arguments"),
        (server("url = \"127.0.0.1\""), "line 6: url: expected an http:// or https:// address"),
        (server("url = \"http://127.0.0.1/\"\nenv = [\"A\"]"), "line 7: env: only a server that is started"),
        (server("command = [\"x\"]\ntoken_env = \"A\""), "line 7: token_env: only a server with a url"),
        (
            server("command = [\"x\"]\nenv = [\"sk-1\"]"),
            "line 7: env: expected the name of an environment variable",
        ),
        (
            server("command = [\"x\"]\ncall_timeout_secs = 0"),
            "line 7: call_timeout_secs: expected 1 to 3600 seconds",
        ),
        (server("comand = [\"x\"]"), "there is no key \"comand\"; did you mean \"command\"?"),
        (
            format!("{HELPER}[mcp.\"a/b\"]\nurl = \"http://127.0.0.1/\""),
            "line 5: mcp: expected 1 to 64 letters",
        ),
        (format!("{HELPER}state = 3"), "line 5"),
        (format!("{HELPER}state = {{ a = nan }}"), "line 5: state: expected what JSON has"),
        (
            format!("{HELPER}state = {{ a = \"{}\" }}", "x".repeat(300_000)),
            "line 5: state: expected at most 262144 bytes",
        ),
    ] {
        let refused = refusal(&text);
        assert!(refused.contains(expected), "{text}\n{refused}\nexpected {expected}");
    }
}

#[test]
fn a_state_is_any_json_object() {
    let text = format!(
        "{HELPER}state = {{ round = 1, combatants = [{{ name = \"Goblin\", hp = 7.5, down = false }}], day = 2026-11-21 }}"
    );

    let state = check(&text).unwrap().agents.remove(0).initial_state.unwrap();

    let expected = serde_json::json!({
        "round": 1, "combatants": [{ "name": "Goblin", "hp": 7.5, "down": false }], "day": "2026-11-21",
    });
    assert_eq!(state, expected);
}

#[test]
fn the_built_in_tools_are_those_that_there_are() {
    use crate::{core::ports::ToolSource, tools::builtin::BuiltinTools};
    let tools =
        futures_util::FutureExt::now_or_never(BuiltinTools::default().describe()).expect("they are ready");
    let names: Vec<_> = tools.iter().map(|tool| tool.spec.name.as_str()).collect();

    assert_eq!(names, tools::BUILT_IN);
}
