//! The tools of one session: those of its agent's sources, under names that models can tell apart.

use std::{
    collections::{BTreeMap, HashSet},
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
        let names = Names::of(groups, lists);
        let (mut tools, mut specs, mut taken) = (Vec::new(), Vec::new(), HashSet::new());
        let (mut all_tokens, mut left_out) = (0, 0);
        for (group, spec, approval) in chosen {
            let tokens = spec_tokens(spec);
            if tools.len() == MAX_TOOLS || all_tokens + tokens > max_tokens {
                left_out += 1;
                continue;
            }
            let shown = names.shown(&group.origin, &spec.name);
            // Else its source has listed it twice.
            if !taken.insert(shown.clone()) {
                continue;
            }
            all_tokens += tokens;
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

/// The names under which a model is told of tools: such as providers take, and each another.
///
/// A name means the same tool whatever servers are up: a call may have been allowed long before it is made. So of
/// other servers, only that they are there counts, not what they list.
struct Names<'a> {
    /// The servers that the agent has tools of.
    servers: Vec<&'a str>,
    /// The tools that are always there. They keep their names.
    built_in: HashSet<&'a str>,
    /// How many tools of each source would have a name.
    alike: BTreeMap<(&'a str, String), usize>,
}

impl<'a> Names<'a> {
    fn of(groups: &'a [Group], lists: &'a [Arc<[ToolSpec]>]) -> Self {
        let servers = groups.iter().filter_map(|group| server_of(&group.origin)).collect();
        let built_in = groups.iter().zip(lists).filter(|(group, _)| server_of(&group.origin).is_none());
        let built_in = built_in.flat_map(|(_, specs)| specs.iter().map(|spec| spec.name.as_str())).collect();
        let mut names = Self { servers, built_in, alike: BTreeMap::new() };
        for (group, specs) in groups.iter().zip(lists) {
            for spec in specs.iter() {
                let wanted = names.wanted(&group.origin, &spec.name);
                *names.alike.entry((&group.origin, cut(&wanted, MAX_NAME))).or_default() += 1;
            }
        }
        names
    }

    /// A tool of the only server has its own name; one of several servers has that of its server before it.
    fn wanted(&self, origin: &str, name: &str) -> String {
        match server_of(origin) {
            Some(server) if self.servers.len() > 1 || self.built_in.contains(plain(name).as_str()) => {
                plain(&format!("{server}_{name}"))
            }
            _ => plain(name),
        }
    }

    fn shown(&self, origin: &'a str, name: &str) -> String {
        let wanted = self.wanted(origin, name);
        let short = cut(&wanted, MAX_NAME);
        let is_alike = self.alike.get(&(origin, short.clone())).is_some_and(|count| *count > 1);
        // The server `a` may list `b_c`, and the server `a_b` may list `c`.
        let may_be_others = server_of(origin).is_some_and(|own| {
            let mut others = self.servers.iter().filter(|server| **server != own);
            others.any(|other| wanted.starts_with(&format!("{other}_")))
                || self.built_in.contains(short.as_str())
        });
        if short.is_empty() || is_alike || may_be_others {
            return marked(&wanted, origin, name);
        }
        short
    }
}

/// The server that a source is; none is the one that is built in.
fn server_of(origin: &str) -> Option<&str> {
    origin.strip_prefix("mcp:")
}

/// A name of letters that providers take.
fn plain(name: &str) -> String {
    let allowed = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-');
    name.chars().map(|character| if allowed(character) { character } else { '_' }).collect()
}

fn cut(name: &str, length: usize) -> String {
    name.chars().take(length).collect()
}

/// A name that only this tool of this source has.
fn marked(wanted: &str, origin: &str, name: &str) -> String {
    // FNV-1a: the same in every process, and in every version of this one.
    let bytes = origin.bytes().chain([0]).chain(name.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mark = format!("{:08x}", hash >> 32);
    format!("{}_{mark}", cut(wanted, MAX_NAME - mark.len() - 1))
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, future::BoxFuture};
    use serde_json::{Value, json};

    use super::*;
    use crate::core::{error::Problem, ports::ToolOutput};

    struct Nothing;

    impl Tools for Nothing {
        fn list(&self) -> BoxFuture<'static, Arc<[ToolSpec]>> {
            async { Arc::default() }.boxed()
        }

        fn call(&self, _: &str, _: Value) -> BoxFuture<'static, Result<ToolOutput, Problem>> {
            async { Err(Problem::internal()) }.boxed()
        }

        fn check(&self, _: &str, _: &Value) -> Result<(), Problem> {
            Ok(())
        }
    }

    /// The names that a model is told, of sources with these tools.
    fn shown(sources: &[(&str, &[&str])]) -> Vec<String> {
        let groups = sources.iter().map(|(origin, _)| Group {
            tools: Arc::new(Nothing),
            origin: (*origin).to_owned(),
            choice: ToolChoice { others: Some(Approval::NotNeeded), named: BTreeMap::new() },
        });
        let spec = |name: &&str| ToolSpec {
            name: (*name).to_owned(),
            description: String::new(),
            parameters: json!({}),
        };
        let lists: Vec<Arc<[ToolSpec]>> =
            sources.iter().map(|(_, names)| names.iter().map(spec).collect()).collect();
        let toolset = Toolset::of(&groups.collect::<Vec<_>>(), &lists, u64::MAX);
        toolset.specs().iter().map(|spec| spec.name.clone()).collect()
    }

    #[test]
    fn tools_of_one_server_have_their_own_names_those_of_several_its_name_too() {
        let built_in = ("builtin", &["clock", "suggest"][..]);
        let one = shown(&[built_in, ("mcp:files", &["read_file", "clock"])]);
        let two = shown(&[built_in, ("mcp:files", &["read_file"]), ("mcp:docs", &["read_file", "find"])]);

        assert_eq!(one, ["clock", "suggest", "read_file", "files_clock"]);
        assert_eq!(two, ["clock", "suggest", "files_read_file", "docs_read_file", "docs_find"]);
    }

    #[test]
    fn a_name_means_the_same_tool_whatever_servers_are_up() {
        let long = "x".repeat(100);
        let sources = [
            ("mcp:a", &["read_file", "b_c", "b c"][..]),
            ("mcp:a_b", &["read_file", "c", "d.e", "d_e"][..]),
            ("builtin", &["clock", "a_clock"]),
            ("mcp:other", &["clock", "read_file", &long][..]),
            ("mcp:clock", &["read_file"]),
        ];
        let all = shown(&sources);
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 13, "{all:?}");

        for down in [0, 1, 3, 4] {
            let mut some = sources;
            some[down].1 = &[];
            let before: usize = sources[..down].iter().map(|(_, names)| names.len()).sum();
            let expected = [&all[..before], &all[before + sources[down].1.len()..]].concat();
            assert_eq!(shown(&some), expected, "without {}", sources[down].0);
        }
    }

    #[test]
    fn names_are_such_as_providers_take_and_each_is_another() {
        let long = "x".repeat(100);
        let longer = "x".repeat(101);
        let tools = ["a.b/c d", "a_b/c d", "web.search", &long, &longer, "", "größe", "a.b/c d"];

        let names = shown(&[("mcp:docs", &tools)]);

        let fits = |name: &String| {
            (1..=MAX_NAME).contains(&name.len())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
        };
        assert!(names.iter().all(fits), "{names:?}");
        assert_eq!(names.len(), 7, "one is listed twice: {names:?}");
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), 7, "{names:?}");
        assert!(names.contains(&"web_search".to_owned()), "{names:?}");
        assert_eq!(names, shown(&[("mcp:docs", &tools)]));
    }
}
