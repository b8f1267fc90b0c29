//! What the actors of all sockets have in common: reading frames, bounding what is in flight, writing what
//! waits in the outbox, closing.

use std::{
    collections::VecDeque,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use actix::{Actor, ActorContext, ActorFuture, AsyncContext, StreamHandler};
use actix_http::ws::Item as Fragment;
use actix_web::{HttpRequest, HttpResponse, web};
use actix_web_actors::ws::{self, Message, ProtocolError, WebsocketContext};
use bytes::BytesMut;
use bytestring::ByteString;

use super::{
    body::Pieces,
    connection::Connection,
    guard::{FrameGuard, GuardState},
    outbox::{Item, MAX_REPLY_BYTES, Notice},
};
use crate::{
    core::error::{ErrorCode, Problem},
    doors::{
        Doors,
        reply::Close,
        wire::{
            commands::{self, Request},
            events, frames,
        },
    },
};

/// Commands of one socket that are not answered yet, at most; then it is not read.
pub const MAX_IN_FLIGHT: usize = 64;
/// What is encoded at once. The dispatcher asks again as soon as that is on its way to the kernel, so more
/// would only fill its buffer.
const WRITE_BYTES: usize = 8 * 1024;
/// So many frames that cannot be read, within this time, are a flood.
const MAX_BAD_FRAMES: usize = 20;
const BAD_FRAMES_WITHIN: Duration = Duration::from_secs(10);

/// The part of a socket's actor that all of them have.
pub struct Socket {
    pub doors: web::Data<Doors>,
    pub connection: Arc<Connection>,
    guard: Rc<GuardState>,
    /// The fragments so far of a message.
    fragments: Option<BytesMut>,
    /// Messages that came while too much was in flight, or before the socket was ready.
    held: VecDeque<ByteString>,
    ready: bool,
    in_flight: usize,
    bad_frames: VecDeque<Instant>,
    /// Our close has been written; what is left is the client's answer to it.
    closing: bool,
}

/// An actor at one of the doors.
pub trait Door:
    Actor<Context = WebsocketContext<Self>> + StreamHandler<Result<Message, ProtocolError>>
{
    fn socket(&mut self) -> &mut Socket;

    /// Takes up what a client asks for. `begin` has been called for it; `finish` must be, once.
    fn request(&mut self, reply_to: Option<String>, request: Request, ctx: &mut Self::Context);

    /// Takes up what the bus tells. It tells nothing to sockets that take no events.
    fn noticed(&mut self, _notice: Notice, _ctx: &mut Self::Context) {}
}

impl Socket {
    pub fn new(doors: web::Data<Doors>, connection: Arc<Connection>) -> Self {
        Self {
            doors,
            connection,
            guard: Rc::default(),
            fragments: None,
            held: VecDeque::new(),
            ready: false,
            in_flight: 0,
            bad_frames: VecDeque::new(),
            closing: false,
        }
    }

    pub fn reply(&self, frame: ByteString) {
        self.connection.reply(Item::Text(frame));
    }

    pub fn refuse(&self, reply_to: Option<&str>, problem: &Problem) {
        self.reply(frames::refused(reply_to, problem));
    }

    /// Whether another command may be taken up.
    fn has_room(&self) -> bool {
        self.in_flight < MAX_IN_FLIGHT && self.connection.outbox.reply_bytes() <= MAX_REPLY_BYTES
    }

    /// The server stops reading while there is too much to do, or to read for the client.
    fn update_flow(&self) {
        let paused = !self.has_room() || !self.held.is_empty();
        self.guard.pause(paused);
        self.connection.set_paused(paused);
    }

    /// Counts a frame that could not be read; whether that makes a flood.
    fn is_flood(&mut self) -> bool {
        let now = Instant::now();
        self.bad_frames.push_back(now);
        if self.bad_frames.len() > MAX_BAD_FRAMES {
            self.bad_frames.pop_front();
        }
        self.bad_frames.len() == MAX_BAD_FRAMES
            && self.bad_frames.front().is_some_and(|first| now.duration_since(*first) < BAD_FRAMES_WITHIN)
    }

    /// Puts the fragments of a message together.
    fn assemble(&mut self, fragment: Fragment) -> Result<Option<ByteString>, Close> {
        match fragment {
            Fragment::FirstText(data) => self.fragments = Some(BytesMut::from(&data[..])),
            // The guard lets none of these pass.
            Fragment::FirstBinary(_) => return Err(Close::BinaryFrame),
            Fragment::Continue(data) => {
                if let Some(fragments) = &mut self.fragments {
                    fragments.extend_from_slice(&data);
                }
            }
            Fragment::Last(data) => {
                let Some(mut message) = self.fragments.take() else { return Err(Close::ProtocolError) };
                message.extend_from_slice(&data);
                return ByteString::try_from(message.freeze()).map(Some).map_err(|_| Close::InvalidUtf8);
            }
        }
        Ok(None)
    }
}

/// Upgrades a request to a socket with `door` as its actor.
pub fn start<A: Door>(
    mut door: A,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, actix_web::Error> {
    let socket = door.socket();
    let limits = socket.doors.settings.frame_limits;
    let payload = FrameGuard::new(payload, limits, socket.guard.clone());
    let max_frame = usize::try_from(limits.max_frame_bytes).unwrap_or(usize::MAX);
    let response = ws::WsResponseBuilder::new(door, request, payload).frame_size(max_frame).start()?;
    Ok(response.map_body(|_, body| Pieces::of(body)).map_into_boxed_body())
}

/// The socket's actor has started.
pub fn started<A: Door>(door: &mut A, ctx: &mut A::Context) {
    ctx.spawn(Writer);
    let socket = door.socket();
    let settings = &socket.doors.settings;
    let Connection { id, caller, .. } = &*socket.connection;
    let established = frames::connection_established(
        *id,
        caller.client_id.as_ref(),
        settings.heartbeat_secs,
        settings.limits(),
    );
    // Before anything that the bus may have for it; written once the socket is ready.
    socket.connection.hand_over_items([Item::Text(established)]);
    socket.doors.register.insert(&socket.connection);
    log::debug!("connection={} opened: {:?}", socket.connection.id, socket.connection.path);
}

/// The socket may be used: the client learns of it, and what it has sent meanwhile is taken up.
pub fn ready<A: Door>(door: &mut A, ctx: &mut A::Context) {
    let socket = door.socket();
    socket.ready = true;
    socket.connection.outbox.wake();
    take_up_held(door, ctx);
}

/// The socket's actor has stopped.
pub fn stopped(socket: &Socket) {
    socket.doors.register.remove(&socket.connection);
    log::debug!("connection={} gone", socket.connection.id);
}

/// Takes a frame in.
pub fn received<A: Door>(door: &mut A, frame: Result<Message, ProtocolError>, ctx: &mut A::Context) {
    let socket = door.socket();
    let frame = match frame {
        Ok(frame) => frame,
        Err(_) if socket.guard.transport_failed() => return ctx.stop(),
        Err(error) => {
            let close = socket.guard.violation().unwrap_or(match error {
                // The codec's word for text that is not UTF-8.
                ProtocolError::Io(_) => Close::InvalidUtf8,
                _ => Close::ProtocolError,
            });
            log::info!("connection={} is closed: {}", socket.connection.id, close.reason());
            return socket.connection.close(close);
        }
    };
    socket.connection.hear();
    if socket.closing {
        if let Message::Close(_) = frame {
            ctx.stop();
        }
        return;
    }
    let text = match frame {
        Message::Text(text) => Ok(Some(text)),
        Message::Continuation(fragment) => socket.assemble(fragment),
        Message::Ping(data) => {
            socket.connection.reply(Item::Pong(data));
            Ok(None)
        }
        Message::Close(reason) => {
            // Answered with its own code, which the codec has checked.
            let code = reason.map_or(Close::Normal.code(), |reason| u16::from(reason.code));
            ctx.close(Some(close_reason(code, "")));
            ctx.stop();
            Ok(None)
        }
        Message::Pong(_) | Message::Nop => Ok(None),
        Message::Binary(_) => Err(Close::BinaryFrame),
    };
    match text {
        Ok(Some(text)) => {
            if socket.ready && socket.held.is_empty() && socket.has_room() {
                take_up(door, &text, ctx);
            } else {
                socket.held.push_back(text);
            }
            door.socket().update_flow();
        }
        Ok(None) => {}
        Err(close) => socket.connection.close(close),
    }
}

/// What the client asked for has been answered.
pub fn finish<A: Door>(door: &mut A, ctx: &mut A::Context) {
    door.socket().in_flight -= 1;
    take_up_held(door, ctx);
}

fn take_up_held<A: Door>(door: &mut A, ctx: &mut A::Context) {
    while door.socket().has_room()
        && let Some(text) = door.socket().held.pop_front()
    {
        take_up(door, &text, ctx);
    }
    door.socket().update_flow();
}

fn take_up<A: Door>(door: &mut A, text: &str, ctx: &mut A::Context) {
    let socket = door.socket();
    let commands::Inbound { reply_to, request } = commands::decode(text, &socket.connection.path);
    match request {
        Ok(Request::Ping | Request::Heartbeat) => socket.reply(frames::pong(reply_to.as_deref())),
        Ok(request) => {
            socket.in_flight += 1;
            door.request(reply_to, request, ctx);
        }
        Err(problem) => {
            socket.refuse(reply_to.as_deref(), &problem);
            if problem.code == ErrorCode::BadRequest && socket.is_flood() {
                socket.connection.close(Close::Flood);
            }
        }
    }
}

fn close_reason(code: u16, text: &str) -> ws::CloseReason {
    let description = (!text.is_empty()).then(|| text.to_owned());
    ws::CloseReason { code: code.into(), description }
}

/// Writes what waits in the outbox, for as long as the actor lives.
struct Writer;

impl<A: Door> ActorFuture<A> for Writer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, door: &mut A, ctx: &mut A::Context, task: &mut Context<'_>) -> Poll<()> {
        let socket = door.socket();
        let connection = socket.connection.clone();
        if !socket.ready {
            connection.outbox.register(task.waker());
            return Poll::Pending;
        }
        let items = connection.outbox.drain(WRITE_BYTES, task.waker());
        if items.is_empty() {
            return Poll::Pending;
        }
        for item in items {
            match item {
                Item::Event(event) => ctx.text(events::payload(&event)),
                Item::Text(text) => ctx.text(text),
                Item::Ping => ctx.ping(b""),
                Item::Pong(data) => ctx.pong(&data),
                Item::Notice(notice) => door.noticed(notice, ctx),
                Item::Close(close) => {
                    ctx.close(Some(close_reason(close.code(), close.reason())));
                    door.socket().closing = true;
                }
            }
        }
        // There is room for replies again.
        take_up_held(door, ctx);
        if connection.outbox.oldest().is_some() {
            // Nothing may have been written for the dispatcher to come back for.
            task.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
