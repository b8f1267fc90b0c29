//! `duologue serve`: the server, until it is told to stop.

use std::io::Write;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;
use crate::{
    app::App,
    config::{Environment, Settings},
    telemetry,
};

pub fn run() -> Result<(), Failure> {
    let environment = Environment::read().map_err(|error| Failure::Start(error.into()))?;
    telemetry::init(environment.log_filters());
    let settings = Settings::new(&environment).map_err(|error| Failure::Start(error.into()))?;
    for warning in settings.warnings.iter().cloned().chain(settings.missing_keys()) {
        log::warn!("{warning}");
    }
    actix::System::new().block_on(serve(settings))
}

async fn serve(settings: Settings) -> Result<(), Failure> {
    let mut stop = Stop::new().map_err(Failure::Start)?;
    let app = App::start(settings).await.map_err(Failure::Start)?;
    announce(&app).map_err(Failure::Start)?;
    stop.asked().await;
    tokio::select! {
        drained = app.drain() => drained.map_err(Failure::Run),
        () = stop.asked() => {
            log::warn!("asked a second time: stopping at once");
            std::process::exit(1);
        }
    }
}

/// Says where the server is, once it accepts connections: scripts wait for this line.
fn announce(app: &App) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "listening on http://{}", app.addr)
        .and_then(|()| out.flush())
        .context("standard output is closed")
}

/// SIGTERM or Ctrl-C.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be listened to");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
