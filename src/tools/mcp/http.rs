//! A server that runs somewhere and is spoken to over HTTP (MCP's streamable HTTP).
//!
//! What it sends is bounded by the library. An answer that is too large ends its stream there; here it becomes the
//! failure of the one call that it is about.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::BoxStream};
use reqwest::{
    Url,
    header::{HeaderName, HeaderValue},
    redirect,
};
use rmcp::{
    model::{ClientJsonRpcMessage, ErrorData, JsonRpcMessage, RequestId, ServerJsonRpcMessage},
    transport::{
        StreamableHttpClientTransport,
        common::client_side_sse::ExponentialBackoff,
        streamable_http_client::{
            SseError, StreamableHttpClient, StreamableHttpClientTransportConfig, StreamableHttpError,
            StreamableHttpPostResponse,
        },
    },
};
use secrecy::{ExposeSecret, SecretString};
use sse_stream::Sse;

use super::MAX_MESSAGE_BYTES;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A stream of answers that broke off is taken up again so often, where the server keeps its place; then the calls
/// that wait for it fail. Together it is a second: nobody waits long for a server that has gone.
const RESUMPTIONS: usize = 3;
const RESUMPTION_WAIT: Duration = Duration::from_millis(150);
/// Calls on their way to one server at the same moment, and messages on their way from it.
const AT_ONCE: usize = 64;

pub type HttpTransport = StreamableHttpClientTransport<Bounded>;
/// How the transport fails.
pub type HttpError = StreamableHttpError<reqwest::Error>;

/// Makes the transport; it connects with the first message.
pub fn transport(url: &str, token: Option<&SecretString>) -> Result<HttpTransport, String> {
    let mut http = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("duologue/", env!("CARGO_PKG_VERSION")))
        // What is packed could unpack to any size.
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        // The token would go along to wherever it points.
        .redirect(redirect::Policy::none());
    if is_on_this_machine(url) {
        http = http.no_proxy();
    }
    let http = http.build().map_err(|error| format!("there is no HTTP client: {error}"))?;
    let mut config = StreamableHttpClientTransportConfig::with_uri(url)
        .max_sse_event_size(MAX_MESSAGE_BYTES)
        .max_concurrent_requests(AT_ONCE)
        // It would send a call again, and whether that is right only whoever made it can know.
        .reinit_on_expired_session(false);
    let mut resumption = ExponentialBackoff::default();
    resumption.max_times = Some(RESUMPTIONS);
    resumption.base_duration = RESUMPTION_WAIT;
    config.retry_config = Arc::new(resumption);
    config.channel_buffer_capacity = AT_ONCE;
    if let Some(token) = token {
        config = config.auth_header(token.expose_secret());
    }
    Ok(StreamableHttpClientTransport::with_client(Bounded(http), config))
}

/// No proxy is asked for what is on this machine.
fn is_on_this_machine(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The library's client, but for answers that are too large.
#[derive(Clone)]
pub struct Bounded(reqwest::Client);

type Headers = HashMap<HeaderName, HeaderValue>;
type Events = BoxStream<'static, Result<Sse, SseError>>;

impl StreamableHttpClient for Bounded {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        token: Option<String>,
        headers: Headers,
    ) -> Result<StreamableHttpPostResponse, HttpError> {
        self.post_message_with_max_sse_event_size(uri, message, session, token, headers, MAX_MESSAGE_BYTES)
            .await
    }

    async fn post_message_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        token: Option<String>,
        headers: Headers,
        max_bytes: usize,
    ) -> Result<StreamableHttpPostResponse, HttpError> {
        let id = match &message {
            JsonRpcMessage::Request(request) => Some(request.id.clone()),
            _ => None,
        };
        let http = &self.0;
        let answer =
            http.post_message_with_max_sse_event_size(uri, message, session, token, headers, max_bytes);
        match (answer.await, id) {
            (Err(StreamableHttpError::ResponseBodyTooLarge { .. }), Some(id)) => {
                Ok(StreamableHttpPostResponse::Json(too_large(id), None))
            }
            (Ok(StreamableHttpPostResponse::Sse(events, session)), Some(id)) => {
                Ok(StreamableHttpPostResponse::Sse(answering(events, id), session))
            }
            (answer, _) => answer,
        }
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session: Arc<str>,
        token: Option<String>,
        headers: Headers,
    ) -> Result<(), HttpError> {
        self.0.delete_session(uri, session, token, headers).await
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event_id: Option<String>,
        token: Option<String>,
        headers: Headers,
    ) -> Result<Events, HttpError> {
        self.get_stream_with_max_sse_event_size(
            uri,
            session,
            last_event_id,
            token,
            headers,
            MAX_MESSAGE_BYTES,
        )
        .await
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event_id: Option<String>,
        token: Option<String>,
        headers: Headers,
        max_bytes: usize,
    ) -> Result<Events, HttpError> {
        self.0
            .get_stream_with_max_sse_event_size(uri, session, last_event_id, token, headers, max_bytes)
            .await
    }
}

/// The events of the answer to a request: one that is too large becomes the refusal of it.
fn answering(events: Events, id: RequestId) -> Events {
    let events = events.map(move |event| match event {
        Err(error) if is_too_large(&error) => {
            let data = serde_json::to_string(&too_large(id.clone())).ok();
            Ok(Sse { data, ..Sse::default() })
        }
        event => event,
    });
    events.boxed()
}

/// The library has a type for this error, and keeps it for itself.
fn is_too_large(error: &SseError) -> bool {
    let mut error: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = error {
        if cause.to_string().contains("exceeded the maximum size") {
            return true;
        }
        error = cause.source();
    }
    false
}

fn too_large(id: RequestId) -> ServerJsonRpcMessage {
    let why = format!("its answer is too large; at most {MAX_MESSAGE_BYTES} bytes are taken");
    JsonRpcMessage::error(ErrorData::internal_error(why, None), Some(id))
}
