//! `/api/v1/sessions/{id}/export`: a session as a file.

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;

use crate::{
    core::{
        error::Problem,
        ids::{Epoch, Principal, Seq, SessionId, Topic},
        ports::{PageLimit, ReadFrom, StoreError},
        session::SessionRecord,
    },
    doors::{Doors, admit, problem_response, wire::export::Format},
};

/// What is read of a log, and sent, at once.
const PAGE: PageLimit = PageLimit { events: 256, bytes: 256 * 1024 };

#[derive(Deserialize)]
struct ExportQuery {
    format: Option<String>,
}

/// Where an export is.
struct Progress {
    doors: web::Data<Doors>,
    topic: Topic,
    epoch: Epoch,
    format: Format,
    after: Seq,
    /// The last event when the export began: it ends there, however the session goes on.
    head: Seq,
}

/// The session's log up to now, read as the client takes it.
pub async fn export(request: HttpRequest, id: web::Path<String>, doors: web::Data<Doors>) -> HttpResponse {
    match begin(&request, &id, doors).await {
        Ok(response) => response,
        Err(problem) => problem_response(&problem),
    }
}

async fn begin(request: &HttpRequest, id: &str, doors: web::Data<Doors>) -> Result<HttpResponse, Problem> {
    let caller = admit(request, &doors)?;
    let wrong_format = || Problem::invalid_field("format", Format::NAMES);
    let query = web::Query::<ExportQuery>::from_query(request.query_string()).map_err(|_| wrong_format())?;
    let format = Format::of_name(query.format.as_deref().unwrap_or("jsonl")).ok_or_else(wrong_format)?;
    let record = owned_session(&doors, id, &caller.principal).await?;
    let file = format!("attachment; filename=\"{}.{}\"", record.session_id, format.extension());
    let head = Bytes::from(format.head(&record));
    let progress = Progress {
        doors,
        topic: Topic::Session(record.session_id),
        epoch: record.epoch,
        format,
        after: 0,
        head: record.head,
    };
    let pages = stream::unfold(Some(progress), |progress| async {
        let mut progress = progress?;
        match progress.next_page().await {
            Ok(Some(page)) => Some((Ok(page), Some(progress))),
            Ok(None) => None,
            // The client sees a body that was cut.
            Err(error) => {
                log::error!("an export was cut: {error}");
                Some((Err(std::io::Error::other(error)), None))
            }
        }
    });
    let body = futures_util::StreamExt::chain(stream::iter([Ok(head)]), pages);
    Ok(HttpResponse::Ok()
        .content_type(format.media_type())
        .insert_header((header::CONTENT_DISPOSITION, file))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .streaming(body))
}

async fn owned_session(doors: &Doors, id: &str, principal: &Principal) -> Result<SessionRecord, Problem> {
    let name: String = id.chars().take(100).collect();
    let not_found = || Problem::session_not_found(&name);
    let id: SessionId = id.parse().map_err(|_| not_found())?;
    let state = doors.store.session(&id).await.map_err(StoreError::unreadable)?;
    state.map(|state| state.record).filter(|record| record.owner == *principal).ok_or_else(not_found)
}

impl Progress {
    /// The next part of the file; `None` at its end.
    async fn next_page(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.after >= self.head {
            return Ok(None);
        }
        let page = self.doors.store.read(&self.topic, ReadFrom::After(self.after), PAGE).await?;
        // Its id may be that of another by now.
        let page = page.filter(|page| page.head.epoch == self.epoch);
        let page = page.ok_or_else(|| StoreError(format!("{} was deleted", self.topic)))?;
        let events = page.events.iter().filter(|event| event.seq() <= self.head);
        let text: String = events.map(|event| self.format.event(event)).collect();
        let last = page.events.last().ok_or_else(|| StoreError(format!("{} lacks events", self.topic)))?;
        self.after = last.seq();
        Ok(Some(Bytes::from(text)))
    }
}
