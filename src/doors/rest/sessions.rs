//! `/api/v1/sessions/{id}/export`: a session as a file.

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde::Deserialize;

use super::download::{LogReader, file};
use crate::{
    core::{
        error::Problem,
        ids::{Principal, SessionId},
        ports::StoreError,
        session::SessionRecord,
    },
    doors::{Doors, admit, problem_response, wire::export::Format},
};

#[derive(Deserialize)]
struct ExportQuery {
    format: Option<String>,
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
    let head = Bytes::from(format.head(&record));
    let events = stream::try_unfold(LogReader::new(doors, &record), move |mut log| async move {
        let Some(events) = log.next().await? else { return Ok(None) };
        let text: String = events.iter().map(|event| format.event(event)).collect();
        Ok(Some((Bytes::from(text), log)))
    });
    let name = format!("{}.{}", record.session_id, format.extension());
    Ok(file(&name, format.media_type(), stream::iter([Ok(head)]).chain(events)))
}

async fn owned_session(doors: &Doors, id: &str, principal: &Principal) -> Result<SessionRecord, Problem> {
    let name: String = id.chars().take(100).collect();
    let not_found = || Problem::session_not_found(&name);
    let id: SessionId = id.parse().map_err(|_| not_found())?;
    let state = doors.store.session(&id).await.map_err(StoreError::unreadable)?;
    state.map(|state| state.record).filter(|record| record.owner == *principal).ok_or_else(not_found)
}
