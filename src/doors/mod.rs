//! The ways in and out. Each translates between the core and a wire; none holds state that another lacks.

pub mod health;
pub mod reply;
pub mod rest;
pub mod ui;
pub mod wire;
pub mod ws;

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use actix_web::{
    HttpRequest, HttpResponse, Resource, guard,
    http::{StatusCode, header},
    web,
};
use serde::Deserialize;

use crate::{
    access::origin,
    core::{
        bus::Bus,
        command::Caller,
        connections::MAX_TOPICS,
        error::{ErrorCode, Problem},
        ids::{ClientId, Principal, SessionId},
        manager::Manager,
        ports::Store,
        profile::Profiles,
    },
};
use reply::row;
use rest::tasks;
use wire::{
    commands::MAX_CONTENT_BYTES,
    frames::{Limits, Model},
};
use ws::{
    backend_api::BackendApi,
    connection::{Connection, Register},
    frontend_api::{self, FrontendApi},
    guard::FrameLimits,
    socket::{self, Door, MAX_IN_FLIGHT, Socket},
    tcp,
    watchdog::Watchdog,
};

/// Which socket a client has opened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Path {
    /// `/ws/frontend-api`: shows events.
    Frontend,
    /// `/ws/backend-api`: takes commands.
    Backend,
    /// `/ws/tasks/{id}`: shows the events of that task.
    Task(SessionId),
}

/// What the doors lead to.
pub struct Doors {
    pub bus: Bus,
    pub manager: Manager,
    pub store: Arc<dyn Store>,
    pub profiles: Arc<Profiles>,
    pub models: Vec<Model>,
    pub settings: DoorSettings,
    pub register: Register,
    pub draining: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
pub struct DoorSettings {
    pub frame_limits: FrameLimits,
    pub outbox_bytes: usize,
    pub heartbeat_secs: u32,
    /// The server listens on a loopback address, and answers to names of one only.
    pub loopback: bool,
}

impl Doors {
    /// Why commands are refused now, if they are.
    pub fn refusal(&self) -> Option<Problem> {
        let draining = self.draining.load(Ordering::Relaxed);
        draining.then(|| Problem::unavailable("the server is about to stop; reconnect and try again"))
    }
}

impl DoorSettings {
    /// What clients are told of their limits.
    pub fn limits(&self) -> Limits {
        let bytes = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
        Limits {
            max_frame_bytes: bytes(self.frame_limits.max_frame_bytes),
            max_message_bytes: bytes(self.frame_limits.max_message_bytes),
            max_content_bytes: MAX_CONTENT_BYTES,
            outbox_bytes: self.outbox_bytes,
            max_topics: MAX_TOPICS,
            max_commands_in_flight: MAX_IN_FLIGHT,
        }
    }
}

/// Every route, on one page.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/ws/frontend-api", web::get().to(frontend_api))
        .route("/ws/backend-api", web::get().to(backend_api))
        .route("/ws/tasks/{id}", web::get().to(task_events))
        .service(web::resource("/api/v1/sessions/{id}/export").get(rest::sessions::export))
        .service(
            resource("/api/v1/tasks", "GET, HEAD, POST")
                .get(tasks::list)
                .head(tasks::list)
                .post(tasks::create),
        )
        // Before those of one task: none is called export.
        .service(resource("/api/v1/tasks/export", "GET").get(tasks::no_format))
        .service(resource("/api/v1/tasks/export/{format}", "GET").get(tasks::export_all))
        .service(
            resource("/api/v1/tasks/{id}", "GET, HEAD, PUT, PATCH, DELETE")
                .get(tasks::get)
                .head(tasks::get)
                .put(tasks::rename)
                .patch(tasks::rename)
                .delete(tasks::delete),
        )
        .service(resource("/api/v1/tasks/{id}/{action:pause|resume|cancel}", "POST").post(tasks::act))
        .service(resource("/api/v1/tasks/{id}/export/{format}", "GET").get(tasks::export))
        .service(web::resource("/health").get(health::live))
        .service(web::resource("/ready").get(health::ready))
        .default_service(web::route().guard(guard::Any(guard::Get()).or(guard::Head())).to(ui::serve));
}

/// A resource that says which methods it has to whoever uses another.
fn resource(path: &str, methods: &'static str) -> Resource {
    web::resource(path).default_service(rest::only(methods))
}

async fn frontend_api(
    request: HttpRequest,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> actix_web::Result<HttpResponse> {
    match admit_upgrade(&request, &doors) {
        Ok(caller) => upgrade(request, payload, doors, Path::Frontend, caller, FrontendApi::new),
        Err(refused) => Ok(*refused),
    }
}

async fn backend_api(
    request: HttpRequest,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> actix_web::Result<HttpResponse> {
    match admit_upgrade(&request, &doors) {
        Ok(caller) => upgrade(request, payload, doors, Path::Backend, caller, BackendApi::new),
        Err(refused) => Ok(*refused),
    }
}

/// The events of one task, from a position in the query.
async fn task_events(
    request: HttpRequest,
    id: web::Path<String>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> actix_web::Result<HttpResponse> {
    let caller = match admit_upgrade(&request, &doors) {
        Ok(caller) => caller,
        Err(refused) => return Ok(*refused),
    };
    let planned = async {
        let resume = tasks::query(&request).position()?;
        let record = tasks::owned_task(&doors, &id, &caller.principal).await?;
        let name = format!("task:{id}");
        let plan = frontend_api::plan(&doors, &caller.principal, &name, resume).await?;
        Ok((record.session_id, name, plan))
    };
    match planned.await {
        Ok((id, name, plan)) => {
            let door = |socket| FrontendApi::of_task(socket, name, plan);
            upgrade(request, payload, doors, Path::Task(id), caller, door)
        }
        Err(problem) => Ok(problem_response(&problem)),
    }
}

#[derive(Deserialize)]
struct UpgradeQuery {
    client_id: Option<String>,
}

/// Whether a request may become a socket, and whose; otherwise how it is answered.
fn admit_upgrade(request: &HttpRequest, doors: &Doors) -> Result<Caller, Box<HttpResponse>> {
    let caller = admit(request, doors).map_err(|problem| problem_response(&problem))?;
    if !request.headers().contains_key(header::UPGRADE) {
        // RFC 9110, section 15.5.22.
        let message = "this is a WebSocket endpoint; connect with ws:// and an Upgrade header";
        let problem = Problem::new(ErrorCode::BadRequest, message);
        let mut response = problem_response_as(StatusCode::UPGRADE_REQUIRED, &problem);
        response.headers_mut().insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
        return Err(response.into());
    }
    Ok(caller)
}

/// Makes a request a socket.
fn upgrade<A: Door>(
    request: HttpRequest,
    payload: web::Payload,
    doors: web::Data<Doors>,
    path: Path,
    caller: Caller,
    door: impl FnOnce(Socket) -> A,
) -> actix_web::Result<HttpResponse> {
    let watchdog = request.app_data::<Rc<Watchdog>>().expect("each worker has a watchdog").clone();
    let connection = Connection::new(path, caller, doors.settings.outbox_bytes, watchdog.clock().clone());
    if let Some(socket) = tcp::handle_of(&request) {
        watchdog.watch(&connection, socket);
    }
    socket::start(door(Socket::new(doors, connection)), &request, payload)
}

/// Whether the request may come in, and as whom.
fn admit(request: &HttpRequest, doors: &Doors) -> Result<Caller, Problem> {
    check_host(request, doors)?;
    let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or(""));
    let host = header(header::HOST).unwrap_or("");
    if let Some(origin) = header(header::ORIGIN)
        && !origin::is_same_origin(origin, host)
    {
        let message = "this page was not served by this server, and may not connect to it";
        return Err(Problem::new(ErrorCode::Forbidden, message));
    }
    if let Some(problem) = doors.refusal() {
        return Err(problem);
    }
    let invalid = |expected| Problem::invalid_field("client_id", expected);
    let query = web::Query::<UpgradeQuery>::from_query(request.query_string())
        .map_err(|_| invalid("one client_id in the query"))?;
    let client_id = query.client_id.as_deref().map(str::parse::<ClientId>).transpose();
    let client_id = client_id.map_err(|error| invalid(error.expected))?;
    Ok(Caller { principal: Principal::local(), client_id })
}

/// A page elsewhere may have its own name point here: then `Host` is that name.
fn check_host(request: &HttpRequest, doors: &Doors) -> Result<(), Problem> {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    if doors.settings.loopback && !origin::is_loopback_host(host) {
        let message = "this server listens on a loopback address; use localhost or 127.0.0.1";
        return Err(Problem::new(ErrorCode::Forbidden, message));
    }
    Ok(())
}

/// A problem as the answer to a request (RFC 9457).
fn problem_response(problem: &Problem) -> HttpResponse {
    let status = StatusCode::from_u16(row(problem.code).status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    problem_response_as(status, problem)
}

fn problem_response_as(status: StatusCode, problem: &Problem) -> HttpResponse {
    let details = if problem.details.is_null() { &serde_json::json!({}) } else { &problem.details };
    HttpResponse::build(status).content_type("application/problem+json").json(serde_json::json!({
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "code": row(problem.code).code,
        "detail": problem.message,
        "details": details,
    }))
}
