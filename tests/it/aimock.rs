//! `@copilotkit/aimock`, somebody else's idea of what the providers' APIs are, in a process of its own.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
};

use serde_json::{Value, json};

use crate::installed::npm_package;

/// The one key that it takes, whichever API is spoken.
pub const KEY: &str = "aimock-key-5Tq80zLw";

/// A server of all APIs on a port of its own. It ends with the test.
pub struct Aimock {
    child: Child,
    address: String,
    fixtures: PathBuf,
}

impl Aimock {
    /// Starts one that answers by these fixtures, the first that fits a request.
    pub fn start(fixtures: Value) -> Self {
        let package = npm_package("@copilotkit/aimock");
        let file = scratch_file();
        std::fs::write(&file, json!({ "fixtures": fixtures }).to_string()).expect("fixtures can be written");
        let mut child = Command::new("node")
            .arg(package.join("dist/cli.js"))
            .args(["--host", "127.0.0.1", "--port", "0", "--fixtures"])
            .arg(&file)
            .env("AIMOCK_API_KEYS", KEY)
            .stdout(Stdio::piped())
            .spawn()
            .expect("node starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
        let address = lines.find_map(|line| Some(line.split_once("listening on ")?.1.trim().to_owned()));
        // What it says later is of no interest, but it is not to choke on it.
        std::thread::spawn(move || lines.for_each(drop));
        let mut aimock = Self { child, address: String::new(), fixtures: file };
        aimock.address = address.expect("aimock says where it listens");
        aimock
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    /// The bodies of the requests that it had, in OpenAI's form whichever API they came by.
    pub async fn requests(&self) -> Vec<Value> {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let request = client.get(self.url("/__aimock/journal")).bearer_auth(KEY);
        let text = request.send().await.expect("an answer").text().await.expect("a text");
        let entries: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        entries.into_iter().map(|mut entry| entry["body"].take()).collect()
    }
}

impl Drop for Aimock {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.fixtures);
    }
}

fn scratch_file() -> PathBuf {
    static FILES: AtomicU64 = AtomicU64::new(0);
    let name = format!("aimock-{}-{}.json", std::process::id(), FILES.fetch_add(1, Ordering::Relaxed));
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}
