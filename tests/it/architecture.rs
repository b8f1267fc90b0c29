//! The layering, checked by reading `use` lines: what may know of what.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A source file: its path from `src/`, and its text without tests.
struct Source {
    path: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    let sources = paths.into_iter().map(|path| {
        let text = fs::read_to_string(&path).expect("source files are text");
        // Tests of a file stand at its end, and may reach further.
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned();
        let path = path.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
        Source { path, text }
    });
    let is_test = |path: &str| {
        path.ends_with("tests.rs") || path.ends_with("testing.rs") || path.ends_with("typescript.rs")
    };
    sources.filter(|source| !is_test(&source.path)).collect()
}

fn collect(dir: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

impl Source {
    /// Our modules that it names: the first part after `crate::`, also within braces.
    fn uses(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for rest in self.text.split("crate::").skip(1) {
            match rest.strip_prefix('{') {
                None => names.extend(first_word(rest)),
                Some(group) => names.extend(top_level(group)),
            }
        }
        names
    }

    fn is_in(&self, folder: &str) -> bool {
        self.path.starts_with(&format!("{folder}/"))
    }
}

fn first_word(text: &str) -> Option<String> {
    let word: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}

/// The names at the top of a group of imports that has just been opened.
fn top_level(group: &str) -> Vec<String> {
    let mut depth = 1;
    let mut names = Vec::new();
    let mut at_start = true;
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' => at_start = true,
            _ if depth == 1 && at_start && !character.is_whitespace() => {
                names.extend(first_word(&group[at..]));
                at_start = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

const LAYERS: [&str; 10] =
    ["access", "app", "cli", "config", "core", "doors", "providers", "store", "telemetry", "tools"];

#[track_caller]
fn assert_uses_only(folder: &str, allowed: &[&str]) {
    for source in
        sources().iter().filter(|source| source.is_in(folder) || source.path == format!("{folder}.rs"))
    {
        for name in source.uses() {
            let is_layer = LAYERS.contains(&name.as_str());
            assert!(!is_layer || allowed.contains(&name.as_str()), "src/{} names crate::{name}", source.path);
        }
    }
}

#[test]
fn the_core_knows_of_no_other_module() {
    assert_uses_only("core", &["core"]);
}

#[test]
fn the_core_knows_of_no_vendor() {
    let small = [
        "actix",
        "bytestring",
        "futures_util",
        "json_patch",
        "log",
        "rand",
        "serde",
        "serde_json",
        "std",
        "thiserror",
        "tokio",
        "uuid",
    ];
    for source in sources().iter().filter(|source| source.is_in("core")) {
        for line in source.text.lines().filter_map(|line| line.trim().strip_prefix("use ")) {
            let name = first_word(line.trim_start_matches("::")).unwrap_or_default();
            let ours = matches!(name.as_str(), "super" | "self" | "crate");
            assert!(ours || small.contains(&name.as_str()), "src/{} uses {name}", source.path);
        }
    }
}

#[test]
fn adapters_know_of_the_core_and_not_of_each_other() {
    assert_uses_only("providers", &["core", "providers"]);
    assert_uses_only("store", &["core", "store"]);
    assert_uses_only("tools", &["core", "tools"]);
    assert_uses_only("access", &["core", "access"]);
    for source in sources().iter().filter(|source| source.is_in("providers")) {
        let adapter = |path: &str| path.split(['/', '.']).nth(1).map(str::to_owned);
        for other in ["scripted", "genai"] {
            let names_other = source.text.contains(&format!("providers::{other}"));
            assert!(!names_other || adapter(&source.path).as_deref() == Some(other), "src/{}", source.path);
        }
    }
}

#[test]
fn doors_know_of_the_core_and_of_no_adapter() {
    assert_uses_only("doors", &["access", "core", "doors"]);
}

#[test]
fn only_the_wiring_names_adapters() {
    for source in sources() {
        let uses = source.uses();
        let folders = ["providers", "store", "tools"];
        let adapters = folders.iter().any(|folder| uses.contains(*folder));
        let is_adapter = folders.iter().any(|folder| source.is_in(folder));
        assert!(!adapters || is_adapter || source.path == "app.rs", "src/{} names an adapter", source.path);
    }
}

#[test]
fn only_the_configuration_reads_the_environment() {
    for source in sources() {
        let reads = ["env::var", "env::vars", "option_env!"].iter().any(|call| source.text.contains(call));
        assert!(!reads || source.path == "config.rs", "src/{} reads the environment", source.path);
    }
}

#[test]
fn actix_web_stays_at_the_doors() {
    for source in sources() {
        let web = source.text.contains("actix_web") || source.text.contains("actix_http");
        let may = source.is_in("doors") || source.path == "app.rs";
        assert!(!web || may, "src/{} uses actix-web", source.path);
        let actors = source.text.contains("actix_web_actors");
        assert!(!actors || source.is_in("doors/ws"), "src/{} uses actix-web-actors", source.path);
    }
}

#[test]
fn one_module_names_the_library_of_mcp() {
    for source in sources() {
        let named = source.text.contains("rmcp::") || source.text.contains("use rmcp");
        assert!(!named || source.path.starts_with("tools/mcp"), "src/{} names rmcp", source.path);
    }
}

#[test]
fn one_file_names_the_model_library() {
    for source in sources() {
        let named = source.text.contains("genai::") && !source.is_in("providers") && source.path != "app.rs";
        assert!(!named, "src/{} names genai", source.path);
    }
}
