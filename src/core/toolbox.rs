//! The tools of one session: those of its agent's sources, under names that models can tell apart.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use futures_util::{StreamExt, stream::FuturesOrdered};

use super::{
    conversation::estimate_tokens,
    ports::{ToolSpec, Tools},
    profile::{AgentProfile, Approval, ToolChoice},
};

/// A model is told of so many tools at most: providers refuse more.
const MAX_TOOLS: usize = 128;
/// Providers take names of this length at most, of letters, digits, `_` and `-`.
const MAX_NAME: usize = 64;

/// An agent's sources, as one session has them open.
pub struct Toolbox {
    groups: Vec<Group>,
    /// Tokens that what a model is told of the tools may take.
    max_tokens: u64,
    /// What was last listed, and what came of it: mostly that is what is listed next.
    last: Arc<Mutex<Last>>,
}

#[derive(Default)]
struct Last {
    lists: Vec<Arc<[ToolSpec]>>,
    toolset: Toolset,
}

#[derive(Clone)]
struct Group {
    tools: Arc<dyn Tools>,
    origin: String,
    choice: ToolChoice,
}

/// The tools that there are for one step of a run.
#[derive(Clone, Default)]
pub struct Toolset {
    tools: Arc<[Offered]>,
    specs: Arc<[ToolSpec]>,
    /// What the model is told of them takes so many tokens; an estimate.
    pub tokens: u64,
}

/// A tool that a model is told of.
pub struct Offered {
    /// The model's name for it.
    shown: String,
    pub needs_approval: bool,
    /// What its source calls it.
    pub name: String,
    pub source: Arc<dyn Tools>,
}

impl Toolbox {
    pub fn open(profile: &AgentProfile, of_task: bool) -> Self {
        let groups = profile.tools.iter().map(|group| Group {
            tools: group.source.open(of_task),
            origin: group.origin.clone(),
            choice: group.choice.clone(),
        });
        let max_tokens = profile.card.context_window / 2;
        Self { groups: groups.collect(), max_tokens, last: Arc::default() }
    }

    /// The tools that can be called now.
    pub fn list(&self) -> impl Future<Output = Toolset> + Send + 'static {
        let (groups, max_tokens, last) = (self.groups.clone(), self.max_tokens, self.last.clone());
        let lists: FuturesOrdered<_> = groups.iter().map(|group| group.tools.list()).collect();
        async move {
            let lists: Vec<_> = lists.collect().await;
            let mut last = last.lock().expect("no panic while locked");
            let is_same = |(list, other): (&Arc<_>, &Arc<_>)| Arc::ptr_eq(list, other);
            if last.lists.len() != lists.len() || !lists.iter().zip(&last.lists).all(is_same) {
                let toolset = Toolset::of(&groups, &lists, max_tokens);
                *last = Last { lists, toolset };
            }
            last.toolset.clone()
        }
    }
}

impl Toolset {
    /// The tools of these lists that the agent is to have: as many as a model can be told of.
    fn of(groups: &[Group], lists: &[Arc<[ToolSpec]>], max_tokens: u64) -> Self {
        let chosen = groups.iter().zip(lists).flat_map(|(group, specs)| {
            specs.iter().filter_map(move |spec| Some((group, spec, group.choice.of(&spec.name)?)))
        });
        let (mut tools, mut specs, mut names) = (Vec::new(), Vec::new(), HashSet::new());
        let (mut all_tokens, mut left_out) = (0, 0);
        for (group, spec, approval) in chosen {
            let tokens = spec_tokens(spec);
            if tools.len() == MAX_TOOLS || all_tokens + tokens > max_tokens {
                left_out += 1;
                continue;
            }
            all_tokens += tokens;
            let shown = free_name(&spec.name, &group.origin, &mut names);
            specs.push(ToolSpec { name: shown.clone(), ..spec.clone() });
            tools.push(Offered {
                shown,
                needs_approval: approval == Approval::Ask,
                name: spec.name.clone(),
                source: group.tools.clone(),
            });
        }
        if left_out > 0 {
            log::warn!(
                "{left_out} tools are left out: a model is told of {MAX_TOOLS}, and of no more than fit in half of \
                 its window; choose those that the agent needs in its tools"
            );
        }
        Self { tools: tools.into(), specs: specs.into(), tokens: all_tokens }
    }

    pub fn find(&self, name: &str) -> Option<&Offered> {
        self.tools.iter().find(|tool| tool.shown == name)
    }

    /// What a model is told of them.
    pub fn specs(&self) -> Arc<[ToolSpec]> {
        self.specs.clone()
    }
}

fn spec_tokens(spec: &ToolSpec) -> u64 {
    estimate_tokens(&spec.name)
        + estimate_tokens(&spec.description)
        + estimate_tokens(&spec.parameters.to_string())
}

/// A name that providers take and no other tool has.
fn free_name(name: &str, origin: &str, taken: &mut HashSet<String>) -> String {
    let plain = |name: &str| -> String {
        let allowed = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-');
        name.chars()
            .take(MAX_NAME)
            .map(|character| if allowed(character) { character } else { '_' })
            .collect()
    };
    let server = origin.rsplit(':').next().unwrap_or_default();
    let candidates = [plain(name), plain(&format!("{server}_{name}"))].into_iter();
    let numbered = (2..).map(|number: u32| {
        let number = number.to_string();
        let name: String = plain(name).chars().take(MAX_NAME - number.len() - 1).collect();
        format!("{name}_{number}")
    });
    let mut free = candidates.chain(numbered).filter(|name| !name.is_empty() && !taken.contains(name));
    let name = free.next().unwrap_or_default();
    taken.insert(name.clone());
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_such_as_providers_take_and_each_is_another() {
        let mut taken = HashSet::new();
        let mut name = |name: &str, origin: &str| free_name(name, origin, &mut taken);

        assert_eq!(name("read_file", "mcp:files"), "read_file");
        assert_eq!(name("read_file", "mcp:docs"), "docs_read_file");
        assert_eq!(name("read_file", "mcp:docs"), "read_file_2");
        assert_eq!(name("a.b/c d", "mcp:docs"), "a_b_c_d");
        let long = name(&"x".repeat(100), "mcp:docs");
        assert_eq!(long.len(), 64);
        let other = name(&"x".repeat(100), "mcp:docs");
        assert!(other.len() <= 64 && other != long, "{other}");
    }
}
