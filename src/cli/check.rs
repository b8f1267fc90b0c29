//! `duologue check`: reads settings, agents and store, reaches the providers of the models, and says what is wrong.

use std::collections::BTreeMap;

use clap::Parser;

use super::Failure;
use crate::{
    app::{Providers, stored_sessions},
    config::{Environment, ModelName, Settings, StoreSettings},
    telemetry,
};

/// Says whether the settings, the store, the agents and their providers are in order, and how to mend what is not.
///
/// Exit status is 1 if anything is wrong. Each model is asked for as little as its provider allows: at most
/// one token.
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
