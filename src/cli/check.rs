//! `duologue check`: reads settings, agents and store, reaches the providers of the models and the servers of the
//! tools, and says what is wrong.

use std::{collections::BTreeMap, sync::Arc};

use clap::Parser;
use futures_util::future::join_all;

use super::Failure;
use crate::{
    app::{Providers, ToolSources, stored_sessions},
    config::{AgentSettings, Environment, ModelName, Settings, StoreSettings, nearest},
    core::ports::ToolSpec,
    telemetry,
};

/// Says whether the settings, the store, the agents, their providers and the servers of their tools are in order,
/// and how to mend what is not.
///
/// Exit status is 1 if anything is wrong. Each model is asked for as little as its provider allows: at most
/// one token. Each server of tools is started or reached, asked for its tools, and ended.
#[derive(Debug, Parser)]
pub struct Check;

pub fn run() -> Result<(), Failure> {
    let environment = Environment::read().map_err(|error| Failure::Run(error.into()))?;
    telemetry::init("error");
    let settings = Settings::new(&environment).map_err(|error| Failure::Run(error.into()))?;
    println!("ok       settings: listens on {}", settings.bind);
    let mut problems = settings.warnings.len() + usize::from(!check_store(&settings.store));
    let providers = Providers::start(&settings).map_err(Failure::Run)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Run(error.into()))?;
    problems += runtime.block_on(check_models(&settings, &providers));
    let tools = ToolSources::start(&settings).map_err(Failure::Run)?;
    problems += runtime.block_on(check_tools(&settings, &tools));
    for warning in &settings.warnings {
        println!("problem  {warning}");
    }
    match problems {
        0 => Ok(()),
        1 => Err(Failure::Run(anyhow::anyhow!("there is a problem"))),
        problems => Err(Failure::Run(anyhow::anyhow!("there are {problems} problems"))),
    }
}

/// Reads all of the store; whether it is whole.
fn check_store(settings: &StoreSettings) -> bool {
    let path = match settings {
        StoreSettings::Memory { .. } => {
            println!("ok       store: sessions are kept in memory, and gone when the server stops");
            return true;
        }
        StoreSettings::Sqlite { path, .. } if !path.exists() => {
            println!("ok       store: {} will be made when the server starts", path.display());
            return true;
        }
        StoreSettings::Sqlite { path, .. } => path.display(),
    };
    let verified = stored_sessions(settings).and_then(|store| store.verify().map_err(anyhow::Error::msg));
    match &verified {
        Ok(()) => println!("ok       store: {path} is whole"),
        Err(error) => println!("problem  store: {error:#}"),
    }
    verified.is_ok()
}

/// Reaches each model once; the number of those that cannot be used.
async fn check_models(settings: &Settings, providers: &Providers) -> usize {
    let mut agents_of: BTreeMap<String, (&ModelName, Vec<&str>)> = BTreeMap::new();
    for agent in &settings.agents {
        let (_, agents) = agents_of.entry(agent.model.to_string()).or_insert((&agent.model, Vec::new()));
        agents.push(agent.id.as_str());
    }
    let mut problems = 0;
    for (name, (model, agents)) in agents_of {
        let agents = agents.join(", ");
        match providers.probe(model).await {
            Ok(()) => println!("ok       model {name} of {agents}"),
            Err(error) => {
                println!("problem  model {name} of {agents}: {error}");
                problems += 1;
            }
        }
    }
    problems
}

/// Has each server list its tools, all at once, and ends those that it started; the number of problems.
async fn check_tools(settings: &Settings, sources: &ToolSources) -> usize {
    let servers = settings.mcp.keys().map(|server| async move { (server, sources.probe(server).await) });
    let mut problems = 0;
    for (server, listed) in join_all(servers).await {
        let lines = match listed {
            Ok(tools) => {
                println!("ok       mcp {server} of {}: {}", users(settings, server), counted(&tools));
                missing_tools(settings, server, &tools)
            }
            Err(why) => vec![format!("mcp {server} of {}: {why}", users(settings, server))],
        };
        problems += lines.len();
        for line in lines {
            println!("problem  {line}");
        }
    }
    sources.close().await;
    problems
}

/// The agents that have tools of a server.
fn users(settings: &Settings, server: &str) -> String {
    let uses = |agent: &&AgentSettings| agent.tools.iter().any(|tools| tools.source.server() == Some(server));
    settings.agents.iter().filter(uses).map(|agent| agent.id.as_str()).collect::<Vec<_>>().join(", ")
}

/// How many tools there are, and the names of the first of them.
fn counted(tools: &Arc<[ToolSpec]>) -> String {
    /// A terminal has room for these.
    const SHOWN: usize = 20;
    // Nothing that the terminal would obey.
    let names: Vec<_> = tools.iter().take(SHOWN).map(|tool| tool.name.escape_debug().to_string()).collect();
    let more = if tools.len() > SHOWN { ", …" } else { "" };
    match tools.len() {
        0 => "no tools".to_owned(),
        1 => format!("1 tool: {}", names.join(", ")),
        count => format!("{count} tools: {}{more}", names.join(", ")),
    }
}

/// Tools that agents name and the server does not have.
fn missing_tools(settings: &Settings, server: &str, tools: &[ToolSpec]) -> Vec<String> {
    let names = || tools.iter().map(|tool| tool.name.as_str());
    let mut lines = Vec::new();
    for agent in &settings.agents {
        let chosen = agent.tools.iter().filter(|tools| tools.source.server() == Some(server));
        let named = chosen.flat_map(|tools| tools.choice.named.keys());
        for tool in named.filter(|tool| !names().any(|name| name == tool.as_str())) {
            let hint = match nearest(tool, names()) {
                Some(near) => format!("did you mean \"mcp:{server}/{near}\"?"),
                None => "take one of those that are listed above".to_owned(),
            };
            lines.push(format!("agent {}: mcp server {server} has no tool {tool:?}; {hint}", agent.id));
        }
    }
    lines
}
