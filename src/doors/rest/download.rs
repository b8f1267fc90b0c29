//! What exports have in common: a log that is read page by page, and a file that is sent as it is read.

use std::sync::Arc;

use actix_web::{HttpResponse, http::header, web};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};

use crate::{
    core::{
        event::Event,
        ids::{Epoch, Seq, Topic},
        ports::{PageLimit, ReadFrom, StoreError},
        session::SessionRecord,
    },
    doors::Doors,
};

/// What is read of a log, and sent, at once.
pub const PAGE: PageLimit = PageLimit { events: 256, bytes: 256 * 1024 };

/// A session's log, being read from its beginning.
pub struct LogReader {
    doors: web::Data<Doors>,
    topic: Topic,
    epoch: Epoch,
    after: Seq,
    /// The last event when the reading began: it ends there, however the session goes on.
    head: Seq,
}

impl LogReader {
    pub fn new(doors: web::Data<Doors>, record: &SessionRecord) -> Self {
        let topic = Topic::Session(record.session_id.clone());
        Self { doors, topic, epoch: record.epoch.clone(), after: 0, head: record.head }
    }

    /// The next events; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<Arc<Event>>>, StoreError> {
        if self.after >= self.head {
            return Ok(None);
        }
        let page = self.doors.store.read(&self.topic, ReadFrom::After(self.after), PAGE).await?;
        // Its id may be that of another by now.
        let page = page.filter(|page| page.head.epoch == self.epoch);
        let page = page.ok_or_else(|| StoreError(format!("{} was deleted", self.topic)))?;
        let last = page.events.last().ok_or_else(|| StoreError(format!("{} lacks events", self.topic)))?;
        self.after = last.seq();
        Ok(Some(page.events.into_iter().filter(|event| event.seq() <= self.head).collect()))
    }
}

/// A file for the client to keep, sent as its parts are read. Of one that cannot be read to its end, the client
/// sees a body that was cut.
pub fn file(
    name: &str,
    media_type: &str,
    parts: impl Stream<Item = Result<Bytes, StoreError>> + 'static,
) -> HttpResponse {
    let cut = |error: StoreError| {
        log::error!("an export was cut: {error}");
        std::io::Error::other(error)
    };
    HttpResponse::Ok()
        .content_type(media_type)
        .insert_header((header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .streaming(parts.map_err(cut))
}
