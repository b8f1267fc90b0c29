//! `FrameGuard`: reads WebSocket frame headers before the codec does, and lets nothing past it that would
//! make us buffer more than our limits, or that RFC 6455 forbids.
//!
//! The codec behind it buffers a whole frame before it looks at the frame's size, knows no limit for a
//! message of many fragments, and has no close codes for what it refuses. So all of that is decided here,
//! by *declared* length, as the headers come in; what passes is passed on as it is.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use actix_web::error::PayloadError;
use bytes::Bytes;
use futures_util::Stream;

use crate::doors::reply::Close;

/// Frames that one message may be cut into.
const MAX_FRAGMENTS: u32 = 1024;
/// Pings, pongs and closes in a second.
const MAX_CONTROL_FRAMES: u32 = 100;
/// Two bytes, eight of length, four of mask.
const MAX_HEADER: usize = 14;

/// What a connection may send.
#[derive(Debug, Clone, Copy)]
pub struct FrameLimits {
    pub max_frame_bytes: u64,
    /// Over all fragments of a message.
    pub max_message_bytes: u64,
}

// ---- the checks ----

/// Follows a stream of client frames, header by header (pure).
#[derive(Debug)]
pub struct FrameChecker {
    limits: FrameLimits,
    state: State,
    message: Option<Fragmented>,
    control: ControlRate,
}

#[derive(Debug)]
enum State {
    Header { bytes: [u8; MAX_HEADER], have: usize },
    Payload { left: u64 },
}

/// A message of which not all fragments have come.
#[derive(Debug)]
struct Fragmented {
    bytes: u64,
    frames: u32,
}

#[derive(Debug)]
struct ControlRate {
    second: Instant,
    frames: u32,
}

/// A frame's header (RFC 6455, section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    fin: bool,
    opcode: Opcode,
    len: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opcode {
    Continuation,
    Text,
    Close,
    Ping,
    Pong,
}

impl FrameChecker {
    pub fn new(limits: FrameLimits, now: Instant) -> Self {
        Self {
            limits,
            state: State::Header { bytes: [0; MAX_HEADER], have: 0 },
            message: None,
            control: ControlRate { second: now, frames: 0 },
        }
    }

    /// Takes in the next bytes of the stream.
    ///
    /// # Errors
    /// With the code to close with, at the first header that is not allowed.
    pub fn check(&mut self, mut input: &[u8], now: Instant) -> Result<(), Close> {
        while !input.is_empty() {
            match &mut self.state {
                State::Payload { left } => {
                    let skipped = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    input = &input[skipped..];
                    *left -= skipped as u64;
                    if *left == 0 {
                        self.state = State::Header { bytes: [0; MAX_HEADER], have: 0 };
                    }
                }
                State::Header { bytes, have } => {
                    bytes[*have] = input[0];
                    *have += 1;
                    input = &input[1..];
                    if let Some(header) = Header::parse(&bytes[..*have], self.limits.max_frame_bytes)? {
                        self.admit(header, now)?;
                        self.state = match header.len {
                            0 => State::Header { bytes: [0; MAX_HEADER], have: 0 },
                            left => State::Payload { left },
                        };
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a whole frame's header and payload have come, and no part of the next.
    #[cfg(test)]
    fn is_between_frames(&self) -> bool {
        matches!(self.state, State::Header { have: 0, .. })
    }

    fn admit(&mut self, header: Header, now: Instant) -> Result<(), Close> {
        match header.opcode {
            Opcode::Text if self.message.is_some() => return Err(Close::ProtocolError),
            Opcode::Text if header.fin => {}
            Opcode::Text => self.message = Some(Fragmented { bytes: header.len, frames: 1 }),
            Opcode::Continuation => {
                let message = self.message.as_mut().ok_or(Close::ProtocolError)?;
                message.bytes = message.bytes.saturating_add(header.len);
                message.frames += 1;
                if message.bytes > self.limits.max_message_bytes || message.frames > MAX_FRAGMENTS {
                    return Err(Close::TooLarge);
                }
                if header.fin {
                    self.message = None;
                }
            }
            Opcode::Close | Opcode::Ping | Opcode::Pong => {
                if now.duration_since(self.control.second) >= Duration::from_secs(1) {
                    self.control = ControlRate { second: now, frames: 0 };
                }
                self.control.frames += 1;
                if self.control.frames > MAX_CONTROL_FRAMES {
                    return Err(Close::Flood);
                }
            }
        }
        Ok(())
    }
}

impl Header {
    /// Reads as much of a header as there is; `None` if it is not whole yet.
    fn parse(bytes: &[u8], max_len: u64) -> Result<Option<Self>, Close> {
        let first = bytes[0];
        if first & 0x70 != 0 {
            // A reserved bit, and no extension was agreed on.
            return Err(Close::ProtocolError);
        }
        let fin = first & 0x80 != 0;
        let (opcode, is_control) = match first & 0x0F {
            0x0 => (Opcode::Continuation, false),
            0x1 => (Opcode::Text, false),
            0x2 => return Err(Close::BinaryFrame),
            0x8 => (Opcode::Close, true),
            0x9 => (Opcode::Ping, true),
            0xA => (Opcode::Pong, true),
            _ => return Err(Close::ProtocolError),
        };
        let Some(second) = bytes.get(1) else { return Ok(None) };
        let (masked, short) = (second & 0x80 != 0, u64::from(second & 0x7F));
        if !masked || (is_control && (!fin || short > 125)) || (opcode == Opcode::Close && short == 1) {
            return Err(Close::ProtocolError);
        }
        let (len, len_bytes) = match short {
            126 => (be_number(&bytes[2..], 2), 2),
            127 => (be_number(&bytes[2..], 8), 8),
            short => (Some(short), 0),
        };
        let Some(len) = len else { return Ok(None) };
        let shortest = match len_bytes {
            2 => len > 125,
            8 => len > u64::from(u16::MAX) && len <= i64::MAX as u64,
            _ => true,
        };
        if !shortest {
            return Err(Close::ProtocolError);
        }
        if len > max_len {
            return Err(Close::TooLarge);
        }
        let whole = bytes.len() == 2 + len_bytes + 4;
        Ok(whole.then_some(Self { fin, opcode, len }))
    }
}

/// A number of `size` bytes, most significant first; `None` if there are fewer.
fn be_number(bytes: &[u8], size: usize) -> Option<u64> {
    let bytes = bytes.get(..size)?;
    Some(bytes.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
}

// ---- the stream ----

/// What the guard and its socket's actor tell each other. Both live on one thread.
#[derive(Debug, Default)]
pub struct GuardState {
    violation: Cell<Option<Close>>,
    transport_failed: Cell<bool>,
    paused: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl GuardState {
    /// Why the stream was ended by the guard, if it was.
    pub fn violation(&self) -> Option<Close> {
        self.violation.get()
    }

    /// Whether the stream ended because the connection did.
    pub fn transport_failed(&self) -> bool {
        self.transport_failed.get()
    }

    /// Stops, or goes on, reading from the connection. What was read before may still come.
    pub fn pause(&self, paused: bool) {
        self.paused.set(paused);
        if !paused && let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// The bytes of a connection, as long as they are frames that are allowed.
pub struct FrameGuard<S> {
    stream: S,
    checker: FrameChecker,
    state: Rc<GuardState>,
}

impl<S> FrameGuard<S> {
    pub fn new(stream: S, limits: FrameLimits, state: Rc<GuardState>) -> Self {
        Self { stream, checker: FrameChecker::new(limits, Instant::now()), state }
    }
}

impl<S> Stream for FrameGuard<S>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let guard = self.get_mut();
        let state = &guard.state;
        if state.paused.get() && state.violation.get().is_none() {
            *state.waker.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        loop {
            let item = std::task::ready!(Pin::new(&mut guard.stream).poll_next(cx));
            if state.violation.get().is_some() {
                match item {
                    // Read and dropped while the connection closes: left unread, it would be reset, and
                    // the client might not see why.
                    Some(Ok(_)) => continue,
                    Some(Err(_)) | None => return Poll::Ready(None),
                }
            }
            let chunk = match item {
                Some(Ok(chunk)) => chunk,
                item => {
                    state.transport_failed.set(true);
                    return Poll::Ready(item);
                }
            };
            return match guard.checker.check(&chunk, Instant::now()) {
                Ok(()) => Poll::Ready(Some(Ok(chunk))),
                Err(close) => {
                    state.violation.set(Some(close));
                    Poll::Ready(Some(Err(PayloadError::Overflow)))
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: FrameLimits = FrameLimits { max_frame_bytes: 1000, max_message_bytes: 3000 };

    fn checker() -> FrameChecker {
        FrameChecker::new(LIMITS, Instant::now())
    }

    fn frame(first: u8, payload_len: usize) -> Vec<u8> {
        let mut frame = header(first, payload_len as u64);
        frame.extend(std::iter::repeat_n(b'x', payload_len));
        frame
    }

    /// A masked header with the shortest length there is.
    fn header(first: u8, len: u64) -> Vec<u8> {
        let mut header = vec![first];
        match len {
            0..=125 => header.push(0x80 | len as u8),
            126..=0xFFFF => {
                header.push(0x80 | 126);
                header.extend((len as u16).to_be_bytes());
            }
            _ => {
                header.push(0x80 | 127);
                header.extend(len.to_be_bytes());
            }
        }
        header.extend([0; 4]);
        header
    }

    fn check(bytes: &[u8]) -> Result<(), Close> {
        let now = Instant::now();
        let whole = checker().check(bytes, now);
        // However the bytes are cut, the verdict is the same.
        let mut bytewise = checker();
        let cut = bytes.iter().try_for_each(|byte| bytewise.check(&[*byte], now));
        assert_eq!(whole, cut);
        whole
    }

    const TEXT: u8 = 0x81;
    const FIRST: u8 = 0x01;
    const MIDDLE: u8 = 0x00;
    const LAST: u8 = 0x80;
    const PING: u8 = 0x89;

    #[test]
    fn whole_and_fragmented_messages_pass() {
        let mut bytes = frame(TEXT, 0);
        for len in [1, 125, 126, 1000] {
            bytes.extend(frame(TEXT, len));
        }
        bytes.extend(frame(FIRST, 1000));
        bytes.extend(frame(PING, 125));
        bytes.extend(frame(MIDDLE, 1000));
        bytes.extend(frame(LAST, 1000));
        bytes.extend(frame(TEXT, 5));

        assert_eq!(check(&bytes), Ok(()));
    }

    #[test]
    fn size_is_refused_by_declaration_alone() {
        assert_eq!(check(&header(TEXT, 1001)), Err(Close::TooLarge));
        assert_eq!(check(&header(TEXT, 1 << 40)), Err(Close::TooLarge));
        assert_eq!(check(&header(TEXT, i64::MAX as u64)), Err(Close::TooLarge));
    }

    #[test]
    fn a_fragmented_message_is_bounded_in_bytes_and_in_frames() {
        let mut large = frame(FIRST, 1000);
        large.extend(frame(MIDDLE, 1000));
        large.extend(frame(MIDDLE, 1000));
        assert_eq!(check(&large), Ok(()));
        large.extend(header(MIDDLE, 1));
        assert_eq!(check(&large), Err(Close::TooLarge));

        let mut empty = frame(FIRST, 0);
        for _ in 0..10_000 {
            empty.extend(frame(MIDDLE, 0));
        }
        assert_eq!(check(&empty), Err(Close::TooLarge));
    }

    #[test]
    fn what_the_rfc_forbids_is_refused() {
        let unmasked = [TEXT, 0x05];
        let long_ping = header(PING, 126);
        let fragmented_ping = header(0x09, 1);
        let not_shortest_16 = [TEXT, 0x80 | 126, 0, 5];
        let not_shortest_64 = [TEXT, 0x80 | 127, 0, 0, 0, 0, 0, 0, 1, 0];
        let top_bit = [TEXT, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 0];
        let close_of_one_byte = header(0x88, 1);
        for bytes in [
            &unmasked[..],
            &long_ping,
            &fragmented_ping,
            &not_shortest_16,
            &not_shortest_64,
            &top_bit,
            &close_of_one_byte,
        ] {
            assert_eq!(check(bytes), Err(Close::ProtocolError), "{bytes:?}");
        }
        for rsv in [0x40, 0x20, 0x10] {
            assert_eq!(check(&[TEXT | rsv]), Err(Close::ProtocolError));
        }
        for opcode in [0x3, 0x7, 0xB, 0xF] {
            assert_eq!(check(&[0x80 | opcode]), Err(Close::ProtocolError));
        }
        assert_eq!(check(&[0x82]), Err(Close::BinaryFrame));
    }

    #[test]
    fn fragments_must_be_in_order() {
        assert_eq!(check(&frame(LAST, 1)), Err(Close::ProtocolError));
        let mut two_at_once = frame(FIRST, 1);
        two_at_once.extend(frame(TEXT, 1));
        assert_eq!(check(&two_at_once), Err(Close::ProtocolError));
    }

    #[test]
    fn control_frames_are_bounded_by_the_second() {
        let mut checker = checker();
        let now = Instant::now();
        let burst = frame(PING, 0).repeat(MAX_CONTROL_FRAMES as usize);

        assert_eq!(checker.check(&burst, now), Ok(()));
        assert_eq!(checker.check(&burst, now + Duration::from_secs(1)), Ok(()));
        assert_eq!(checker.check(&frame(PING, 0), now + Duration::from_millis(1500)), Err(Close::Flood));
    }

    /// What an arbitrary client might send: frames that are nearly right.
    fn awkward_frame() -> impl Strategy<Value = Vec<u8>> {
        let first = prop_oneof![
            6 => prop_oneof![Just(TEXT), Just(FIRST), Just(MIDDLE), Just(LAST), Just(PING), Just(0x88)],
            1 => any::<u8>()
        ];
        let len = prop_oneof![8 => 0..400_u64, 1 => 900..1100_u64, 1 => any::<u64>()];
        (first, len, any::<bool>()).prop_map(|(first, len, whole)| {
            let mut bytes = header(first, len);
            if whole && len <= 1100 {
                bytes.extend(std::iter::repeat_n(7, len as usize));
            }
            bytes
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

        /// Whatever comes, in whatever pieces: no panic, one verdict, and a codec behind the guard never
        /// holds more than one frame within the limit.
        #[test]
        fn no_input_gets_past_the_limits(
            frames in proptest::collection::vec(awkward_frame(), 0..12),
            noise in proptest::collection::vec(any::<u8>(), 0..40),
            cuts in proptest::collection::vec(1..700_usize, 1..40),
        ) {
            let mut bytes = frames.concat();
            bytes.extend(noise);
            let _ = check(&bytes);

            let now = Instant::now();
            let mut checker = checker();
            let mut codec = actix_http::ws::Codec::new().max_size(LIMITS.max_frame_bytes as usize);
            let mut buffered = bytes::BytesMut::new();
            let mut rest = &bytes[..];
            let mut message = 0;
            'stream: for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, after) = rest.split_at((*cut).min(rest.len()));
                rest = after;
                if checker.check(chunk, now).is_err() {
                    break;
                }
                buffered.extend_from_slice(chunk);
                loop {
                    use actix_http::ws::{Frame, Item};
                    match tokio_util::codec::Decoder::decode(&mut codec, &mut buffered) {
                        Ok(None) => break,
                        // What is wrong within a frame, such as a close code, is for the codec to find.
                        Err(_) => break 'stream,
                        Ok(Some(Frame::Continuation(Item::FirstText(part)))) => message = part.len(),
                        Ok(Some(Frame::Continuation(Item::Continue(part) | Item::Last(part)))) => {
                            message += part.len();
                        }
                        Ok(Some(Frame::Binary(_) | Frame::Continuation(Item::FirstBinary(_)))) => {
                            panic!("binary frames do not pass")
                        }
                        Ok(Some(_)) => {}
                    }
                    prop_assert!(message as u64 <= LIMITS.max_message_bytes);
                }
                prop_assert!(buffered.len() as u64 <= LIMITS.max_frame_bytes + MAX_HEADER as u64);
                if checker.is_between_frames() {
                    prop_assert!(buffered.is_empty(), "guard and codec see the same frames");
                }
            }
        }
    }
}
