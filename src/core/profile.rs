//! What an agent is: its model, its words to begin with, its tools. Set up once, from the configuration.

use std::sync::Arc;

use super::{
    command::OnBusy,
    event::{AgentCard, Role},
    ids::AgentId,
    ports::{ModelProvider, Tool},
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
    pub tools: Vec<Arc<dyn Tool>>,
}

/// A message that every session with the agent begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    pub role: Role,
    pub content: String,
}

impl AgentProfile {
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

    pub fn cards(&self) -> Vec<AgentCard> {
        self.0.iter().map(|profile| profile.card.clone()).collect()
    }
}
