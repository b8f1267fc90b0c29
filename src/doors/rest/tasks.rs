//! `/api/v1/tasks`: background runs, made, watched over and taken away.
//!
//! Commands go the way of all commands, through the manager; what is shown is read from the store.

use std::collections::{HashSet, VecDeque};

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{StatusCode, header},
    web,
};
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::{StreamExt, stream};

use super::{
    download::{LogReader, PAGE, file},
    request::{Refusal, fields, idempotency_key, no_fields, respond},
};
use crate::{
    core::{
        command::{Caller, Command, Done},
        error::{ErrorCode, Problem},
        event::{Durable, TaskChange, Timestamp},
        ids::{ClientId, Principal, SessionId, Topic},
        ports::{ReadFrom, SessionFilter, SessionKind, StoreError},
        session::{SessionRecord, TaskRecord},
    },
    doors::{
        Doors, admit,
        wire::{
            commands,
            events::TaskTexts,
            task_export::Format,
            tasks::{self, Part, Query, Wanted},
        },
    },
};

/// Records that an export reads at once…
const EXPORT_PAGE: usize = 100;
/// …and about what it sends at once: each may have a megabyte of text that its record lacks.
const EXPORT_BYTES: usize = 64 * 1024;

// ---- one task ----

pub async fn create(request: HttpRequest, payload: web::Payload, doors: web::Data<Doors>) -> HttpResponse {
    let created = async {
        let caller = caller(&request, &doors)?;
        let key = idempotency_key(&request)?;
        let command = tasks::create(fields(&request, payload, max_body(&doors)).await?)?;
        let done = execute(&doors, &caller, command, key).await?;
        let Done::Created { session_id, .. } = done else { return Err(Problem::internal().into()) };
        let (_, task) = show(&doors, &caller.principal, session_id.as_str()).await?;
        let location = format!("/api/v1/tasks/{session_id}");
        Ok(json(StatusCode::CREATED).insert_header((header::LOCATION, location)).body(task))
    };
    respond(created.await)
}

pub async fn get(request: HttpRequest, id: web::Path<String>, doors: web::Data<Doors>) -> HttpResponse {
    let got = async {
        let caller = caller(&request, &doors)?;
        let (_, task) = show(&doors, &caller.principal, &id).await?;
        Ok(json(StatusCode::OK).body(task))
    };
    respond(got.await)
}

pub async fn rename(
    request: HttpRequest,
    id: web::Path<String>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> HttpResponse {
    let renamed = async {
        let caller = caller(&request, &doors)?;
        let key = idempotency_key(&request)?;
        let fields = fields(&request, payload, max_body(&doors)).await?;
        let command = tasks::rename(task_id(&id)?, fields)?;
        execute(&doors, &caller, command, key).await?;
        let (_, task) = show(&doors, &caller.principal, &id).await?;
        Ok(json(StatusCode::OK).body(task))
    };
    respond(renamed.await)
}

pub async fn delete(
    request: HttpRequest,
    id: web::Path<String>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> HttpResponse {
    let deleted = async {
        let caller = caller(&request, &doors)?;
        let key = idempotency_key(&request)?;
        no_fields(&request, payload, max_body(&doors)).await?;
        execute(&doors, &caller, Command::DeleteTask { session_id: task_id(&id)? }, key).await?;
        Ok(HttpResponse::NoContent().finish())
    };
    respond(deleted.await)
}

/// `pause`, `resume` and `cancel`. One that takes effect later, as a pause of a running task does at its next
/// step, is answered 202.
pub async fn act(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> HttpResponse {
    let (id, action) = path.into_inner();
    let acted = async {
        let caller = caller(&request, &doors)?;
        let key = idempotency_key(&request)?;
        no_fields(&request, payload, max_body(&doors)).await?;
        let session_id = task_id(&id)?;
        let command = match action.as_str() {
            "pause" => Command::PauseTask { session_id },
            "resume" => Command::ResumeTask { session_id },
            // The route has no other.
            _ => Command::CancelTask { session_id },
        };
        execute(&doors, &caller, command, key).await?;
        let (record, task) = show(&doors, &caller.principal, &id).await?;
        let later = record.task.is_some_and(|task| task.pausing);
        Ok(json(if later { StatusCode::ACCEPTED } else { StatusCode::OK }).body(task))
    };
    respond(acted.await)
}

/// Has the core carry a command out.
async fn execute(
    doors: &Doors,
    caller: &Caller,
    command: Command,
    key: Option<String>,
) -> Result<Done, Problem> {
    let idempotency = commands::idempotency(caller, key.as_deref(), &command);
    let task_id = command.session_id().cloned();
    let answer = doors.manager.execute(caller.clone(), command, idempotency).await;
    // The core answers everything; it cannot once it has ended, and then the process does.
    let result = answer.map_err(|_| Problem::internal())?.result;
    result.map_err(|problem| match (problem.code, task_id, key) {
        (ErrorCode::SessionNotFound, Some(id), _) => Problem::task_not_found(id.as_str()),
        (ErrorCode::Conflict, _, Some(key)) if problem.details["message_id"] == key.as_str() => {
            let message = "this Idempotency-Key was used for another request; take a new one for each";
            Problem::new(ErrorCode::Conflict, message).with(serde_json::json!({ "idempotency_key": key }))
        }
        _ => problem,
    })
}

/// Who asks. A command of a request belongs to none of the principal's sockets, not to those without a name either.
fn caller(request: &HttpRequest, doors: &Doors) -> Result<Caller, Problem> {
    let Caller { principal, .. } = admit(request, doors)?;
    Ok(Caller { principal, client_id: Some(ClientId::of_requests()) })
}

/// What a socket takes as one message, a request takes as its body.
fn max_body(doors: &Doors) -> usize {
    usize::try_from(doors.settings.frame_limits.max_message_bytes).unwrap_or(usize::MAX)
}

fn json(status: StatusCode) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    response
        .content_type("application/json")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"));
    response
}

// ---- reading one ----

fn task_id(id: &str) -> Result<SessionId, Problem> {
    // What no task can be called is no task.
    id.parse().map_err(|_| not_found(id))
}

fn not_found(id: &str) -> Problem {
    Problem::task_not_found(&commands::short(id))
}

/// The record of a task that the principal may see.
pub async fn owned_task(doors: &Doors, id: &str, principal: &Principal) -> Result<SessionRecord, Problem> {
    let state = doors.store.session(&task_id(id)?).await.map_err(StoreError::unreadable)?;
    let record = state.map(|state| state.record);
    let owned = record.filter(|record| record.owner == *principal && record.task.is_some());
    owned.ok_or_else(|| not_found(id))
}

/// A task as it is now, with its JSON.
async fn show(
    doors: &Doors,
    principal: &Principal,
    id: &str,
) -> Result<(SessionRecord, ByteString), Problem> {
    let record = owned_task(doors, id, principal).await?;
    let texts = whole_texts(doors, &record).await.map_err(StoreError::unreadable)?;
    let task = texts.and_then(|texts| tasks::task(&record, &texts)).ok_or_else(|| not_found(id))?;
    Ok((record, task))
}

/// What the record of a task lacks of its texts, from the log; `None` if that is gone.
async fn whole_texts(doors: &Doors, record: &SessionRecord) -> Result<Option<TaskTexts>, StoreError> {
    let Some(task) = &record.task else { return Ok(None) };
    let mut texts = TaskTexts::default();
    if !task.has_whole_input() {
        texts.input = whole_input(doors, record).await?;
        if texts.input.is_none() {
            return Ok(None);
        }
    }
    if !task.has_whole_result() {
        texts.result = whole_result(doors, record, task).await?;
        if texts.result.is_none() {
            return Ok(None);
        }
    }
    Ok(Some(texts))
}

/// The task's input stands near the log's beginning.
async fn whole_input(doors: &Doors, record: &SessionRecord) -> Result<Option<String>, StoreError> {
    let topic = Topic::Session(record.session_id.clone());
    let mut after = 0;
    loop {
        let page = doors.store.read(&topic, ReadFrom::After(after), PAGE).await?;
        let Some(page) = page.filter(|page| page.head.epoch == record.epoch) else { return Ok(None) };
        for event in &page.events {
            after = event.seq();
            if let Some(Durable::Task(change)) = event.as_durable()
                && let TaskChange::Created { input, .. } = change.as_ref()
            {
                return Ok(Some(input.clone()));
            }
        }
        if !page.more {
            return Ok(None);
        }
    }
}

/// The last answer before the task ended, if it has: what is said in its session afterwards is none of it.
async fn whole_result(
    doors: &Doors,
    record: &SessionRecord,
    task: &TaskRecord,
) -> Result<Option<String>, StoreError> {
    let topic = Topic::Session(record.session_id.clone());
    let mut before = record.head.saturating_add(1);
    let mut is_before_end = !task.status.has_ended();
    loop {
        let page = doors.store.read(&topic, ReadFrom::Before(before), PAGE).await?;
        let Some(page) = page.filter(|page| page.head.epoch == record.epoch) else { return Ok(None) };
        for event in page.events.iter().rev() {
            before = event.seq();
            match event.as_durable() {
                Some(Durable::Task(change)) => is_before_end |= change.ends_task(),
                Some(Durable::AgentResponse(response)) if is_before_end => {
                    return Ok(Some(response.content.clone()));
                }
                _ => {}
            }
        }
        if !page.more {
            return Ok(None);
        }
    }
}

// ---- lists ----

pub async fn list(request: HttpRequest, doors: web::Data<Doors>) -> HttpResponse {
    let listed = async {
        let caller = caller(&request, &doors)?;
        let query = query(&request);
        let Part { cursor, limit } = query.part()?;
        // One more than asked for tells whether there is another page.
        let filter =
            SessionFilter { after: cursor, limit: limit + 1, ..filter(query.wanted()?, caller.principal) };
        let mut records = doors.store.sessions(filter).await.map_err(StoreError::unreadable)?;
        let more = records.len() > limit;
        records.truncate(limit);
        Ok(json(StatusCode::OK).body(tasks::list(&records, more)))
    };
    respond(listed.await)
}

pub fn query(request: &HttpRequest) -> Query {
    // Any text is a query.
    let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
    Query::of(pairs.map_or_else(|_| Vec::new(), web::Query::into_inner))
}

fn filter(wanted: Wanted, owner: Principal) -> SessionFilter {
    let Wanted { status, agent_id, query } = wanted;
    let kind = SessionKind::Tasks { status };
    SessionFilter { owner, kind, agent_id, query, after: None, limit: EXPORT_PAGE }
}

// ---- exports ----

/// All tasks that the list would have, one after the other.
pub async fn export_all(
    request: HttpRequest,
    format: web::Path<String>,
    doors: web::Data<Doors>,
) -> HttpResponse {
    let begin = || -> Result<HttpResponse, Refusal> {
        let caller = caller(&request, &doors)?;
        let format = format_of(&format)?;
        let walk = Walk::new(doors.clone(), filter(query(&request).wanted()?, caller.principal));
        let head = Bytes::from(format.list_head());
        let tasks = stream::try_unfold((walk, true), move |(mut walk, mut is_first)| async move {
            let mut text = String::new();
            while text.len() < EXPORT_BYTES
                && let Some(record) = walk.next().await?
            {
                // Unless it was deleted meanwhile.
                if let Some(texts) = whole_texts(&walk.doors, &record).await? {
                    text.push_str(&format.list_item(&record, &texts, is_first));
                    is_first = false;
                }
            }
            Ok((!text.is_empty()).then(|| (Bytes::from(text), (walk, is_first))))
        });
        let tail = stream::iter([Ok(Bytes::from_static(format.list_tail().as_bytes()))]);
        let parts = stream::iter([Ok(head)]).chain(tasks).chain(tail);
        Ok(file(&format!("tasks.{}", format.extension()), format.media_type(), parts))
    };
    respond(begin())
}

/// A task with all that happened in it.
pub async fn export(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    doors: web::Data<Doors>,
) -> HttpResponse {
    let (id, format) = path.into_inner();
    let exported = async {
        let caller = caller(&request, &doors)?;
        let format = format_of(&format)?;
        let record = owned_task(&doors, &id, &caller.principal).await?;
        let texts = whole_texts(&doors, &record).await.map_err(StoreError::unreadable)?;
        let head = Bytes::from(format.head(&record, &texts.ok_or_else(|| not_found(&id))?));
        let log = format.has_events().then(|| LogReader::new(doors.clone(), &record));
        let events = stream::try_unfold((log, true), move |(mut log, mut is_first)| async move {
            let Some(reader) = &mut log else { return Ok(None) };
            let Some(events) = reader.next().await? else { return Ok(None) };
            let mut text = String::new();
            for event in events {
                text.push_str(&format.event(&event, is_first));
                is_first = false;
            }
            Ok(Some((Bytes::from(text), (log, is_first))))
        });
        let tail = stream::iter([Ok(Bytes::from_static(format.tail().as_bytes()))]);
        let parts = stream::iter([Ok(head)]).chain(events).chain(tail);
        Ok(file(&format!("{}.{}", record.session_id, format.extension()), format.media_type(), parts))
    };
    respond(exported.await)
}

/// An export of all tasks without a format.
pub async fn no_format(request: HttpRequest, doors: web::Data<Doors>) -> HttpResponse {
    let refused = caller(&request, &doors).and_then(|_| format_of("").map(|_| ()));
    respond(refused.map(|()| HttpResponse::NoContent().finish()).map_err(Refusal::from))
}

fn format_of(name: &str) -> Result<Format, Problem> {
    Format::of_name(name).ok_or_else(|| Problem::invalid_field("format", Format::NAMES))
}

/// All tasks there were when it began, each once, however they move in the list meanwhile.
///
/// The list has those first that changed last. A task that changes while the list is read gets before the place
/// where the reader is; so what has changed since is read again, until nothing new is among it.
struct Walk {
    doors: web::Data<Doors>,
    filter: SessionFilter,
    began: Timestamp,
    /// When the first task of the list had changed.
    changed: Option<Timestamp>,
    seen: HashSet<SessionId>,
    /// Those that were read and not given yet.
    ready: VecDeque<SessionRecord>,
    is_again: bool,
    found_any: bool,
    is_done: bool,
}

impl Walk {
    fn new(doors: web::Data<Doors>, filter: SessionFilter) -> Self {
        Self {
            doors,
            filter,
            began: Timestamp::now(),
            changed: None,
            seen: HashSet::new(),
            ready: VecDeque::new(),
            is_again: false,
            found_any: true,
            is_done: false,
        }
    }

    /// The next of them; `None` at the end.
    async fn next(&mut self) -> Result<Option<SessionRecord>, StoreError> {
        while self.ready.is_empty() && !self.is_done {
            self.read().await?;
        }
        Ok(self.ready.pop_front())
    }

    async fn read(&mut self) -> Result<(), StoreError> {
        let mut page = self.doors.store.sessions(self.filter.clone()).await?;
        self.changed = self.changed.or_else(|| page.first().map(|record| record.updated_at));
        let last = page.last().map(|record| (record.updated_at, record.session_id.clone()));
        let is_past = last.as_ref().is_none_or(|(at, _)| Some(*at) < self.changed);
        let is_end = page.len() < self.filter.limit || self.is_again && is_past;
        page.retain(|record| record.created_at <= self.began && self.seen.insert(record.session_id.clone()));
        self.found_any |= !page.is_empty();
        self.ready.extend(page);
        self.filter.after = last;
        if is_end {
            self.is_done = !std::mem::take(&mut self.found_any);
            (self.filter.after, self.is_again) = (None, true);
        }
        Ok(())
    }
}
