//! Many clients that watch one session: how far apart they get the same event.

use std::{cell::RefCell, rc::Rc, time::Instant};

use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinSet;

use super::{
    OPENING_AT_ONCE,
    oracle::{Follower, Frame, Seen},
    session::{Session, client_id, resume},
    tally::{Sightings, Spread, Tally},
};
use crate::cli::client::{Server, Socket};

pub struct Watchers {
    /// Each ends with the last run that it waits for. Dropping them ends them.
    tasks: JoinSet<anyhow::Result<Follower>>,
    sightings: Rc<RefCell<Sightings>>,
}

/// One watcher at its place.
struct Watcher {
    frontend: Socket,
    follower: Follower,
}

impl Watchers {
    /// Subscribes `count` clients to a session, where its own client is, to watch the runs of so many messages.
    pub async fn open(
        server: &Server,
        session: &Session,
        count: usize,
        messages: usize,
        tally: &Rc<RefCell<Tally>>,
    ) -> anyhow::Result<Self> {
        let watchers: Vec<Watcher> = stream::iter(0..count)
            .map(|number| Watcher::open(server, session.follower(), number))
            .buffer_unordered(OPENING_AT_ONCE)
            .try_collect()
            .await?;
        let sightings = Rc::new(RefCell::new(Sightings::new(count)));
        let mut tasks = JoinSet::new();
        for watcher in watchers {
            tasks.spawn_local(watcher.watch(messages, tally.clone(), sightings.clone()));
        }
        Ok(Self { tasks, sightings })
    }

    /// Waits until all have seen what the session's own client has.
    pub async fn end(mut self, session: &Session) -> anyhow::Result<Spread> {
        while let Some(watcher) = self.tasks.join_next().await {
            let follower = watcher?.context("a watcher failed")?;
            ensure!(
                follower.agrees_with(session.follower()),
                "a watcher saw other events than the client of {}",
                follower.session_id()
            );
        }
        Ok(self.sightings.borrow().spread())
    }
}

impl Watcher {
    async fn open(server: &Server, at: &Follower, number: usize) -> anyhow::Result<Self> {
        let mut follower = at.clone();
        let (frontend, _) = resume(server, &client_id("watcher", number), &mut follower).await?;
        Ok(Self { frontend, follower })
    }

    async fn watch(
        self,
        messages: usize,
        tally: Rc<RefCell<Tally>>,
        sightings: Rc<RefCell<Sightings>>,
    ) -> anyhow::Result<Follower> {
        let Self { mut frontend, mut follower } = self;
        let (mut events, mut finished) = (0, 0);
        while finished < messages {
            let text = frontend.next_text().await?;
            let now = Instant::now();
            let seen = follower.see(&Frame::parse(&text)?, &mut tally.borrow_mut().counts)?;
            if seen == Seen::Other {
                continue;
            }
            sightings.borrow_mut().see(events, now);
            events += 1;
            finished += usize::from(seen == Seen::Finished);
        }
        Ok(follower)
    }
}
