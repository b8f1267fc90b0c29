//! What the requests of all resources have in common: bodies that are bounded, and refusals.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse, Responder, Route,
    http::{
        StatusCode,
        header::{self, HeaderName},
    },
    web,
};
use bytes::BytesMut;
use futures_util::StreamExt;
use serde_json::{Map, Value};

use crate::{
    core::error::{ErrorCode, Problem},
    doors::{
        problem_response, problem_response_as,
        wire::{json, tasks},
    },
};

/// How long a client may take to send a request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Of a body that is too large, so much more is read and dropped: a client that is still sending would not see
/// the answer if the connection ended meanwhile.
const DROPPED_BYTES: usize = 16 * 1024 * 1024;

/// Why a request is refused; with a status of its own where that says more than the problem's.
pub struct Refusal {
    status: Option<StatusCode>,
    problem: Problem,
}

impl Refusal {
    fn with_status(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status: Some(status), problem: Problem::new(ErrorCode::BadRequest, message) }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { status: None, problem }
    }
}

/// The answer to a request, whatever came of it.
pub fn respond(outcome: Result<HttpResponse, Refusal>) -> HttpResponse {
    match outcome {
        Ok(response) => response,
        Err(Refusal { status: Some(status), problem }) => problem_response_as(status, &problem),
        Err(Refusal { status: None, problem }) => problem_response(&problem),
    }
}

/// The route of a resource for all methods but those that it has (RFC 9110, section 15.5.6).
pub fn only(methods: &'static str) -> Route {
    web::route().to(move || async move { NotAllowed(methods) })
}

struct NotAllowed(&'static str);

impl Responder for NotAllowed {
    type Body = actix_web::body::BoxBody;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse {
        let message = format!("{} is not allowed here; these are: {}", request.method(), self.0);
        let problem = Problem::new(ErrorCode::BadRequest, message);
        let mut response = problem_response_as(StatusCode::METHOD_NOT_ALLOWED, &problem);
        response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(self.0));
        response
    }
}

/// The fields of a JSON object that is the request's body.
pub async fn fields(
    request: &HttpRequest,
    payload: web::Payload,
    max_bytes: usize,
) -> Result<Map<String, Value>, Refusal> {
    if request.headers().get(header::CONTENT_TYPE).is_none() {
        return Err(wrong_type("none"));
    }
    let body = body(request, payload, max_bytes).await?;
    let bad = |why: String| Problem::new(ErrorCode::BadRequest, format!("expected a JSON object{why}"));
    let text = std::str::from_utf8(&body).map_err(|_| bad(": it is not UTF-8".to_owned()))?;
    match json::parse(text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(bad(String::new()).into()),
        Err(why) => Err(bad(format!(": {why}")).into()),
    }
}

/// Reads the body of a request that needs none, and drops it. What a form of another page would send has a type
/// that is refused.
pub async fn no_fields(
    request: &HttpRequest,
    payload: web::Payload,
    max_bytes: usize,
) -> Result<(), Refusal> {
    body(request, payload, max_bytes).await.map(|_| ())
}

/// The body of a request; if it says of what type it is, that is JSON.
async fn body(
    request: &HttpRequest,
    mut payload: web::Payload,
    max_bytes: usize,
) -> Result<BytesMut, Refusal> {
    let text = |name: &HeaderName| request.headers().get(name).map(|value| value.to_str().unwrap_or(""));
    let media_type = |value: &str| value.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if let Some(found) = text(&header::CONTENT_TYPE).map(media_type)
        && found != "application/json"
    {
        return Err(wrong_type(&found));
    }
    if let Some(coding) = text(&header::CONTENT_ENCODING).filter(|coding| *coding != "identity") {
        let coding: String = coding.chars().take(100).collect();
        let message = format!("the body is encoded as {coding:?}; send it as it is");
        return Err(Refusal::with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let read = async {
        let (mut body, mut bytes) = (BytesMut::new(), 0_usize);
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|_| {
                Refusal::with_status(StatusCode::BAD_REQUEST, "the body ended before its end")
            })?;
            bytes = bytes.saturating_add(chunk.len());
            if bytes <= max_bytes {
                body.extend_from_slice(&chunk);
            } else {
                body = BytesMut::new();
            }
            if bytes > max_bytes.saturating_add(DROPPED_BYTES) {
                break;
            }
        }
        if bytes > max_bytes {
            let message = format!("the body has more than {max_bytes} bytes, which is the limit");
            let problem = Problem::new(ErrorCode::PayloadTooLarge, message);
            return Err(problem.with(serde_json::json!({ "limit": max_bytes })).into());
        }
        Ok(body)
    };
    let timed_out = |_| {
        let message = format!("the body did not come within {} s", BODY_TIMEOUT.as_secs());
        Refusal::with_status(StatusCode::REQUEST_TIMEOUT, message)
    };
    tokio::time::timeout(BODY_TIMEOUT, read).await.map_err(timed_out)?
}

fn wrong_type(found: &str) -> Refusal {
    let found: String = found.chars().take(100).collect();
    let message = format!("the body's Content-Type is {found:?}; send application/json");
    Refusal::with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
}

/// What the client calls the command, so that it is done once.
pub fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let mut keys = request.headers().get_all("idempotency-key");
    let Some(key) = keys.next() else { return Ok(None) };
    if keys.next().is_some() {
        return Err(Problem::invalid_field("Idempotency-Key", "one of it"));
    }
    tasks::idempotency_key(key.as_bytes()).map(Some)
}
