//! `duologue check`: reads settings and agents, reaches the providers of their models, and says what is wrong.

use std::collections::BTreeMap;

use clap::Parser;

use super::Failure;
use crate::{
    app::Providers,
    config::{Environment, ModelName, Settings},
    telemetry,
};

/// Says whether the settings, the agents and their providers are in order, and how to mend what is not.
///
/// Exit status is 1 if anything is wrong. Each model is asked for as little as its provider allows: at most
/// one token.
#[derive(Debug, Parser)]
pub struct Check;

pub fn run() -> Result<(), Failure> {
    let environment = Environment::read().map_err(|error| Failure::Run(error.into()))?;
    telemetry::init("error");
    let settings = Settings::new(&environment).map_err(|error| Failure::Run(error.into()))?;
    println!("ok       settings: listens on {}, keeps sessions in memory", settings.bind);
    let providers = Providers::start(&settings).map_err(Failure::Run)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Run(error.into()))?;
    let problems = settings.warnings.len() + runtime.block_on(check_models(&settings, &providers));
    for warning in &settings.warnings {
        println!("problem  {warning}");
    }
    match problems {
        0 => Ok(()),
        1 => Err(Failure::Run(anyhow::anyhow!("there is a problem"))),
        problems => Err(Failure::Run(anyhow::anyhow!("there are {problems} problems"))),
    }
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
