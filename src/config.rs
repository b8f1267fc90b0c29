//! Settings: read once from the environment, `.env` and `agents.toml`, checked, and never read again.
//!
//! The only file that reads the environment. What it hands out has been checked; a mistake is refused with
//! where it stands, what was expected and, where it looks like a slip, the nearest right name.

pub mod agents;
pub mod tools;

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::SecretString;

pub use agents::{AgentSettings, ModelName, ProviderKind, ProviderSettings};
pub use tools::{ChosenTools, McpSettings, McpTransport, ToolOrigin};

/// What the server runs with.
#[derive(Debug)]
pub struct Settings {
    pub bind: SocketAddr,
    pub store: StoreSettings,
    pub workers: usize,
    pub max_frame_bytes: usize,
    pub max_message_bytes: usize,
    pub outbox_bytes: usize,
    pub heartbeat_secs: u32,
    pub session_idle: Duration,
    /// Tasks that run at the same time; the others wait.
    pub tasks_at_once: usize,
    pub drain: Duration,
    pub agents: Vec<AgentSettings>,
    /// The providers that agents use, by name. The built-in demo model is none.
    pub providers: BTreeMap<String, ProviderSettings>,
    /// The servers of tools that agents use, by name.
    pub mcp: BTreeMap<String, McpSettings>,
    /// What should be mended, though the server can run.
    pub warnings: Vec<String>,
}

/// Where sessions are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreSettings {
    /// In this process, up to so many bytes; gone with it.
    Memory { max_bytes: usize },
    /// In a file.
    Sqlite { path: PathBuf, durability: Durability },
}

/// What an acknowledged command survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The death of the process.
    Normal,
    /// The loss of power too: everything is synced before it is acknowledged.
    Full,
}

/// A setting that cannot be used: where it stands, what is wrong with it, what was expected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct SettingError {
    pub place: String,
    pub problem: String,
}

impl SettingError {
    fn new(place: impl fmt::Display, problem: impl Into<String>) -> Self {
        Self { place: place.to_string(), problem: problem.into() }
    }
}

/// A value and where it came from.
struct Value {
    text: String,
    place: Place,
}

enum Place {
    Environment,
    /// A line of `.env`.
    DotEnv(usize),
}

/// The environment as the server sees it: the process's, and `.env` for what that leaves out.
pub struct Environment(BTreeMap<String, Value>);

const PREFIX: &str = "DUOLOGUE_";

/// Every setting of ours, with what it has when it is not set. `.env.example` says the same.
pub const KEYS: &[(&str, &str)] = &[
    ("DUOLOGUE_BIND", "127.0.0.1:8080"),
    ("DUOLOGUE_AGENTS", "agents.toml"),
    ("DUOLOGUE_STORE", "sqlite:data/duologue.db"),
    ("DUOLOGUE_DURABILITY", "normal"),
    ("DUOLOGUE_MEMORY_STORE_BYTES", "1073741824"),
    // As many as there are cores.
    ("DUOLOGUE_WORKERS", ""),
    ("DUOLOGUE_MAX_FRAME_BYTES", "262144"),
    ("DUOLOGUE_MAX_MESSAGE_BYTES", "1048576"),
    ("DUOLOGUE_OUTBOX_BYTES", "1048576"),
    ("DUOLOGUE_HEARTBEAT_SECS", "25"),
    ("DUOLOGUE_SESSION_IDLE_SECS", "900"),
    ("DUOLOGUE_MAX_RUNNING_TASKS", "4"),
    ("DUOLOGUE_DRAIN_SECS", "10"),
    ("RUST_LOG", "info"),
];

impl Environment {
    /// Reads the process's environment, and `.env` in the working directory if there is one.
    ///
    /// # Errors
    /// If `.env` cannot be read, or a line of it is not `KEY=value`.
    #[expect(clippy::disallowed_methods, reason = "this is the reader of the environment")]
    pub fn read() -> Result<Self, SettingError> {
        let mut values = read_dot_env(Path::new(".env"))?;
        for (key, text) in std::env::vars_os() {
            if let (Ok(key), Ok(text)) = (key.into_string(), text.into_string()) {
                values.insert(key, Value { text, place: Place::Environment });
            }
        }
        Ok(Self(values))
    }

    /// An environment of these variables alone.
    pub fn of(variables: &[(&str, &str)]) -> Self {
        let value = |text: &str| Value { text: text.to_owned(), place: Place::Environment };
        Self(variables.iter().map(|(key, text)| ((*key).to_owned(), value(text))).collect())
    }

    /// What the log shows, as `env_logger` filters.
    pub fn log_filters(&self) -> &str {
        self.text("RUST_LOG").map_or(default_of("RUST_LOG"), |(text, _)| text)
    }

    /// The address of the server that a client talks to when it is given none.
    pub fn bind(&self) -> Result<SocketAddr, SettingError> {
        self.parse("DUOLOGUE_BIND", "an address and a port, as 127.0.0.1:8080")
    }

    /// A secret, if the variable is set to something.
    pub fn secret(&self, key: &str) -> Option<SecretString> {
        self.text(key).map(|(text, _)| SecretString::from(text))
    }

    /// Variables that a program needs to run at all, wherever it comes from; no secret is among them.
    fn ordinary(&self) -> impl Iterator<Item = (&str, &str)> {
        const NAMES: &[&str] = &["PATH", "HOME", "LANG", "TERM", "USER", "LOGNAME", "SHELL", "TMPDIR"];
        let is_ordinary = |name: &str| NAMES.contains(&name) || name.starts_with("LC_");
        self.0
            .iter()
            .filter(move |(name, _)| is_ordinary(name))
            .map(|(name, value)| (name.as_str(), value.text.as_str()))
    }

    fn text(&self, key: &str) -> Option<(&str, &Value)> {
        let value = self.0.get(key)?;
        let text = value.text.trim();
        (!text.is_empty()).then_some((text, value))
    }

    fn text_or_default<'a>(&'a self, key: &str) -> &'a str {
        self.text(key).map_or(default_of(key), |(text, _)| text)
    }

    fn place(&self, key: &str) -> String {
        match self.0.get(key).map(|value| &value.place) {
            Some(Place::DotEnv(line)) => format!(".env line {line}: {key}"),
            Some(Place::Environment) | None => key.to_owned(),
        }
    }

    fn parse<T: std::str::FromStr>(&self, key: &str, expected: &str) -> Result<T, SettingError> {
        let text = self.text_or_default(key);
        let problem = || format!("expected {expected}, found {text:?}");
        text.parse().map_err(|_| SettingError::new(self.place(key), problem()))
    }

    fn number(&self, key: &str, range: RangeInclusive<usize>) -> Result<usize, SettingError> {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        let number = self.parse(key, &expected)?;
        if range.contains(&number) {
            return Ok(number);
        }
        Err(SettingError::new(self.place(key), format!("expected {expected}, found {number}")))
    }

    fn seconds(&self, key: &str, range: RangeInclusive<usize>) -> Result<Duration, SettingError> {
        Ok(Duration::from_secs(self.number(key, range)? as u64))
    }

    /// Where sessions are kept. Bad values of the settings of a store that is not used are told too.
    ///
    /// # Errors
    /// If there is no such store, or it is not built yet.
    pub fn store(&self) -> Result<StoreSettings, SettingError> {
        const MIB: usize = 1024 * 1024;
        let max_bytes = self.number("DUOLOGUE_MEMORY_STORE_BYTES", MIB..=usize::MAX / 2)?;
        let durability = match self.text_or_default("DUOLOGUE_DURABILITY") {
            "normal" => Durability::Normal,
            "full" => Durability::Full,
            text => {
                let problem = format!("expected normal or full, found {text:?}");
                return Err(SettingError::new(self.place("DUOLOGUE_DURABILITY"), problem));
            }
        };
        let text = self.text_or_default("DUOLOGUE_STORE");
        let problem = match text.split_once(':') {
            Some(("memory", "")) => return Ok(StoreSettings::Memory { max_bytes }),
            Some(("sqlite", path)) if !path.is_empty() => {
                return Ok(StoreSettings::Sqlite { path: PathBuf::from(path), durability });
            }
            Some(("redis" | "rediss", _)) => {
                format!("the store {text:?} is not built yet; use sqlite:data/duologue.db or memory:")
            }
            _ => format!("expected sqlite:FILE, as sqlite:data/duologue.db, or memory:; found {text:?}"),
        };
        Err(SettingError::new(self.place("DUOLOGUE_STORE"), problem))
    }

    /// Keys that look like ours and are not.
    fn unknown_keys(&self) -> impl Iterator<Item = String> {
        let known = || KEYS.iter().map(|(key, _)| *key);
        self.0.keys().filter(move |key| key.starts_with(PREFIX) && !known().any(|known| known == *key)).map(
            move |key| {
                let hint =
                    nearest(key, known()).map_or_else(String::new, |near| format!("; did you mean {near}?"));
                format!("{}: there is no such setting, it is ignored{hint}", self.place(key))
            },
        )
    }
}

impl Settings {
    /// Checks everything that can be checked without starting anything.
    pub fn new(environment: &Environment) -> Result<Self, SettingError> {
        const KIB: usize = 1024;
        const MIB: usize = 1024 * KIB;
        let store = environment.store()?;
        let bind = environment.bind()?;
        if !bind.ip().is_loopback() {
            let problem = format!(
                "{bind} can be reached from other machines, and there is no authentication yet; use a loopback \
                 address, as 127.0.0.1:8080"
            );
            return Err(SettingError::new(environment.place("DUOLOGUE_BIND"), problem));
        }
        let workers = match environment.text("DUOLOGUE_WORKERS") {
            Some(_) => environment.number("DUOLOGUE_WORKERS", 1..=256)?,
            None => std::thread::available_parallelism().map_or(2, usize::from),
        };
        let max_frame_bytes = environment.number("DUOLOGUE_MAX_FRAME_BYTES", KIB..=16 * MIB)?;
        let max_message_bytes = environment.number("DUOLOGUE_MAX_MESSAGE_BYTES", KIB..=16 * MIB)?;
        if max_message_bytes < max_frame_bytes {
            let problem = format!(
                "expected at least DUOLOGUE_MAX_FRAME_BYTES, {max_frame_bytes}; found {max_message_bytes}"
            );
            return Err(SettingError::new(environment.place("DUOLOGUE_MAX_MESSAGE_BYTES"), problem));
        }
        let heartbeat_secs = environment.number("DUOLOGUE_HEARTBEAT_SECS", 1..=3600)?;
        let mut settings = Self {
            bind,
            store,
            workers,
            max_frame_bytes,
            max_message_bytes,
            outbox_bytes: environment.number("DUOLOGUE_OUTBOX_BYTES", 4 * KIB..=1024 * MIB)?,
            heartbeat_secs: u32::try_from(heartbeat_secs).unwrap_or(u32::MAX),
            session_idle: environment.seconds("DUOLOGUE_SESSION_IDLE_SECS", 1..=31_536_000)?,
            tasks_at_once: environment.number("DUOLOGUE_MAX_RUNNING_TASKS", 1..=1_000)?,
            drain: environment.seconds("DUOLOGUE_DRAIN_SECS", 0..=86_400)?,
            agents: Vec::new(),
            providers: BTreeMap::new(),
            mcp: BTreeMap::new(),
            warnings: environment.unknown_keys().collect(),
        };
        let path = PathBuf::from(environment.text_or_default("DUOLOGUE_AGENTS"));
        let file = read_agents(&path)?;
        let agents::Checked { agents, providers, mcp, warnings } =
            agents::check(&path.display().to_string(), &file, environment)?;
        settings.agents = agents;
        settings.providers = providers;
        settings.mcp = mcp;
        settings.warnings.extend(warnings);
        Ok(settings)
    }

    /// Providers in use that cannot be used until their key is set.
    pub fn missing_keys(&self) -> impl Iterator<Item = String> {
        self.providers.iter().filter_map(|(name, provider)| {
            let variable = provider.missing_key()?;
            Some(format!(
                "provider {name}: {variable} is not set; its agents answer provider_auth until it is"
            ))
        })
    }
}

fn read_agents(path: &Path) -> Result<String, SettingError> {
    fs::read_to_string(path).map_err(|error| {
        let problem = match error.kind() {
            io::ErrorKind::NotFound => {
                "there is no such file; start in the folder that has one, or name it in DUOLOGUE_AGENTS"
                    .to_owned()
            }
            _ => error.to_string(),
        };
        SettingError::new(path.display(), problem)
    })
}

/// Reads a file of `KEY=value` lines; none is as good as an empty one.
fn read_dot_env(path: &Path) -> Result<BTreeMap<String, Value>, SettingError> {
    let place = path.display();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(SettingError::new(place, error.to_string())),
    };
    let mut values = BTreeMap::new();
    for pair in dotenvy::from_read_iter(text.as_bytes()) {
        let (key, value) = pair.map_err(|error| match error {
            dotenvy::Error::LineParse(line, _) => {
                let number =
                    text.lines().position(|other| other.contains(line.trim())).map_or(0, |at| at + 1);
                SettingError::new(format!("{place} line {number}"), "expected KEY=value")
            }
            other => SettingError::new(&place, other.to_string()),
        })?;
        let line = text.lines().position(|line| sets(line, &key)).map_or(0, |at| at + 1);
        values.insert(key, Value { text: value, place: Place::DotEnv(line) });
    }
    Ok(values)
}

/// Whether a line of `.env` sets the key.
fn sets(line: &str, key: &str) -> bool {
    let line = line.trim_start();
    let line = line.strip_prefix("export ").unwrap_or(line);
    line.split_once('=').is_some_and(|(name, _)| name.trim() == key)
}

fn default_of(key: &str) -> &'static str {
    KEYS.iter().find(|(known, _)| *known == key).map_or("", |(_, default)| default)
}

/// The name that a slip most probably meant.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|known| (edit_distance(name, known), known))
        .filter(|(distance, known)| *distance <= 1 + known.len() / 4)
        .min()
        .map(|(_, known)| known)
}

/// How many letters must be added, removed, exchanged or swapped with their neighbour.
fn edit_distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<_>, Vec<_>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![(0..=to.len()).collect::<Vec<_>>()];
    for i in 1..=from.len() {
        let mut row = vec![i; to.len() + 1];
        for j in 1..=to.len() {
            let above = &rows[i - 1];
            let exchange = above[j - 1] + usize::from(from[i - 1] != to[j - 1]);
            row[j] = exchange.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                row[j] = row[j].min(rows[i - 2][j - 2] + 1);
            }
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests;
