//! One topic's replay window: the newest events, and whether a position can be resumed from them (pure).

use std::{collections::VecDeque, sync::Arc};

use super::{
    event::Event,
    ids::{Epoch, Position, Seq},
};

/// A window's events weigh this much at most, so there are some two hundred; older ones are in the store.
const WINDOW_BYTES: usize = 64 * 1024;

/// The logs of `agent:` topics and of `system` keep this many events; a session's log keeps all.
pub const KEPT_EVENTS: usize = 1000;

/// The newest events of one topic, in order and without a gap, up to its head.
#[derive(Debug)]
pub struct Window {
    epoch: Epoch,
    head: Seq,
    events: VecDeque<Arc<Event>>,
    bytes: usize,
}

/// What a window has for somebody who has seen a topic up to a position.
#[derive(Debug)]
pub enum Rest {
    /// All that came since, oldest first.
    Here(Vec<Arc<Event>>),
    /// More came since than the window holds: read on from the store.
    Behind,
    /// The position is of another numbering: `epoch` or `ahead` in the protocol's words.
    OtherEpoch,
    Ahead,
}

impl Window {
    /// A window on a log whose last event is `head`; it holds what comes from here on.
    pub fn new(epoch: Epoch, head: Seq) -> Self {
        Self { epoch, head, events: VecDeque::new(), bytes: 0 }
    }

    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    pub fn head(&self) -> Seq {
        self.head
    }

    /// Whether the position is after the head, in the same numbering.
    pub fn is_behind(&self, position: &Position) -> bool {
        position.epoch == self.epoch && position.seq > self.head
    }

    /// Lets the events go; the store has them.
    pub fn forget_events(&mut self) {
        self.events = VecDeque::new();
        self.bytes = 0;
    }

    /// Takes in the event after the head.
    pub fn push(&mut self, event: Arc<Event>) {
        debug_assert_eq!(event.seq(), self.head + 1, "a window has no gap");
        self.head = event.seq();
        self.bytes += event.weight();
        self.events.push_back(event);
        while self.bytes > WINDOW_BYTES {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= oldest.weight();
        }
    }

    /// What came after `position`.
    pub fn rest(&self, position: &Position) -> Rest {
        if position.epoch != self.epoch {
            return Rest::OtherEpoch;
        }
        let Some(missed) = self.head.checked_sub(position.seq) else { return Rest::Ahead };
        match usize::try_from(missed) {
            Ok(missed) if missed <= self.events.len() => {
                Rest::Here(self.events.range(self.events.len() - missed..).cloned().collect())
            }
            _ => Rest::Behind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{
        event::{Durable, Timestamp},
        ids::Topic,
    };

    fn window(events: u64, text_bytes: usize) -> Window {
        let mut window = Window::new("e".into(), 0);
        for seq in 1..=events {
            let body = Durable::SystemMessage { content: "x".repeat(text_bytes) };
            let event = Event::durable(Topic::System, "e".into(), seq, Timestamp(0), body.into());
            window.push(Arc::new(event));
        }
        window
    }

    fn seqs(rest: Rest) -> Vec<Seq> {
        match rest {
            Rest::Here(events) => events.iter().map(|event| event.seq()).collect(),
            other => panic!("expected events, got {other:?}"),
        }
    }

    fn at(seq: Seq) -> Position {
        Position { epoch: "e".into(), seq }
    }

    #[test]
    fn a_resume_gets_exactly_what_it_missed() {
        let window = window(5, 1);

        assert_eq!(seqs(window.rest(&at(0))), [1, 2, 3, 4, 5]);
        assert_eq!(seqs(window.rest(&at(3))), [4, 5]);
        assert_eq!(seqs(window.rest(&at(5))), [] as [Seq; 0]);
    }

    #[test]
    fn positions_of_another_numbering_are_told_apart() {
        let window = window(5, 1);

        assert!(matches!(window.rest(&at(6)), Rest::Ahead));
        assert!(matches!(window.rest(&Position { epoch: "f".into(), seq: 3 }), Rest::OtherEpoch));
    }

    #[test]
    fn a_window_is_bounded_in_bytes() {
        let many = window(10_000, 1);
        assert!(matches!(many.rest(&at(9_000)), Rest::Behind));
        assert_eq!(seqs(many.rest(&at(9_900))).len(), 100);

        let heavy = window(10, WINDOW_BYTES / 4);
        assert!(matches!(heavy.rest(&at(6)), Rest::Behind));
        assert_eq!(seqs(heavy.rest(&at(7))), [8, 9, 10]);

        let huge = window(3, 2 * WINDOW_BYTES);
        assert!(matches!(huge.rest(&at(2)), Rest::Behind));
        assert_eq!(seqs(huge.rest(&at(3))), [] as [Seq; 0]);
    }
}
