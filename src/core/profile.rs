//! What an agent is: its model, its words to begin with, its tools. Set up once, from the configuration.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;
use tokio::time::Instant;

use super::{
    command::OnBusy,
    event::{AgentCard, Role},
    ids::{AgentId, RunId},
    ports::{ModelProvider, ToolSource},
    run::{Run, WaitingRun},
};

pub struct AgentProfile {
    pub card: AgentCard,
    pub system_prompt: Option<String>,
    pub seeds: Vec<Seed>,
    pub provider: Arc<dyn ModelProvider>,
    /// The model's name as the provider knows it.
    pub model: String,
    pub temperature: Option<f64>,
    /// Upper bound of an answer, in tokens.
    pub max_tokens: Option<u32>,
    pub on_busy: OnBusy,
    /// A run calls its model this often at most.
    pub max_steps: u32,
    /// What every session's shared document begins as.
    pub initial_state: Option<Value>,
    pub tools: Vec<ToolGroup>,
}

/// Tools of one source that an agent has.
pub struct ToolGroup {
    pub source: Arc<dyn ToolSource>,
    /// What clients are told of where they come from: `builtin`, or `mcp:` and the server's name.
    pub origin: String,
    pub choice: ToolChoice,
}

/// Which tools of a source an agent has, and which of them a person must allow each time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToolChoice {
    /// All those that are not named.
    pub others: Option<Approval>,
    pub named: BTreeMap<String, Approval>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Approval {
    NotNeeded,
    /// A person must allow each call.
    Ask,
}

impl ToolChoice {
    /// Whether the agent has a tool, and may call it unasked.
    pub fn of(&self, name: &str) -> Option<Approval> {
        self.named.get(name).copied().or(self.others)
    }
}

/// A message that every session with the agent begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    pub role: Role,
    pub content: String,
}

impl AgentProfile {
    /// A run of the agent whose beginning is on its way to the log.
    pub fn starting_run(&self, id: RunId) -> Run {
        Run::starting(id, &self.card.model, self.max_steps, Instant::now().into_std())
    }

    /// A run that another agent has left waiting.
    pub fn waiting_run(&self, run: WaitingRun) -> Run {
        Run::waiting(run, &self.card.model, self.max_steps, Instant::now().into_std())
    }

    /// Tokens of the model's window that are kept free for its answer.
    pub fn answer_tokens(&self) -> u64 {
        /// Long enough for most answers; in a small window, a quarter of it.
        const USUAL: u64 = 4096;
        let window = self.card.context_window;
        match self.max_tokens {
            Some(tokens) => u64::from(tokens).min(window / 2),
            None => USUAL.min(window / 4),
        }
    }
}

/// The agents there are, in the order of the configuration.
#[derive(Default)]
pub struct Profiles(Vec<Arc<AgentProfile>>);

impl Profiles {
    pub fn new(profiles: Vec<AgentProfile>) -> Self {
        Self(profiles.into_iter().map(Arc::new).collect())
    }

    pub fn get(&self, id: &AgentId) -> Option<Arc<AgentProfile>> {
        self.0.iter().find(|profile| profile.card.id == *id).cloned()
    }

    pub fn iter(&self) -> impl Iterator<Item = &AgentProfile> {
        self.0.iter().map(Arc::as_ref)
    }

    pub fn cards(&self) -> Vec<AgentCard> {
        self.0.iter().map(|profile| profile.card.clone()).collect()
    }
}
