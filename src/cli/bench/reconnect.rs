//! All clients are dropped at once, miss a run, and come back at once with their positions.

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;

use super::{
    OPENING_AT_ONCE, answer,
    report::Reconnecting,
    session::{Absent, Session},
    tally::{Histogram, Tally},
};
use crate::cli::client::Server;

/// A client that has gone, and one that saw what happened in its absence.
struct Parted {
    absent: Absent,
    witness: Absent,
}

/// Drops every client, has each session answer a message, brings all back, and has each answer another.
pub async fn run(
    server: &Server,
    sessions: Vec<Session>,
    content: &str,
    tally: &Rc<RefCell<Tally>>,
) -> anyhow::Result<Reconnecting> {
    // All of them, before anything else happens.
    let absent: Vec<Absent> = sessions.into_iter().map(Session::leave).collect();
    let parted = stream::iter(absent.into_iter().enumerate())
        .map(|(number, absent)| miss_a_run(server, absent, number, content, tally))
        .buffer_unordered(OPENING_AT_ONCE)
        .try_collect()
        .await?;
    let (sessions, reconnecting) = bring_back(server, parted, tally).await?;
    // What is doubled or lost where the replay ends shows only now.
    answer(sessions, 1, Duration::ZERO, content, tally, &ProgressBar::hidden()).await?;
    Ok(reconnecting)
}

/// Has a session answer a message that its own client does not see.
async fn miss_a_run(
    server: &Server,
    absent: Absent,
    number: usize,
    content: &str,
    tally: &RefCell<Tally>,
) -> anyhow::Result<Parted> {
    let mut witness = absent.stand_in(number).come_back(server, tally).await?;
    witness.chat(content, tally).await?;
    Ok(Parted { absent, witness: witness.leave() })
}

/// Brings all clients back at once, each up to the last event that it missed.
async fn bring_back(
    server: &Server,
    parted: Vec<Parted>,
    tally: &Rc<RefCell<Tally>>,
) -> anyhow::Result<(Vec<Session>, Reconnecting)> {
    let began = Instant::now();
    let come_back = |Parted { absent, witness }: Parted| {
        let (server, tally) = (server.clone(), tally.clone());
        async move {
            let session = absent.come_back(&server, &tally).await?;
            anyhow::Ok((session, witness, began.elapsed()))
        }
    };
    let missed = |Parted { absent, witness }: &Parted| witness.follower().seq() - absent.follower().seq();
    let replayed = parted.iter().map(missed).sum();
    let tasks: Vec<_> =
        parted.into_iter().map(|parted| tokio::task::spawn_local(come_back(parted))).collect();
    let mut sessions = Vec::with_capacity(tasks.len());
    let mut back = Histogram::default();
    for task in tasks {
        let (session, witness, elapsed) = task.await??;
        let agree = session.follower().agrees_with(witness.follower());
        ensure!(
            agree,
            "a client came back to other events than happened in {}",
            witness.follower().session_id()
        );
        back.record(elapsed);
        sessions.push(session);
    }
    let reconnect_ms = back.spread();
    Ok((sessions, Reconnecting { reconnect_ms, all_back_ms: reconnect_ms.max, replayed }))
}
