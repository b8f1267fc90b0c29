//! What a client may assert of the events that it is shown (pure).

use std::borrow::Cow;

use anyhow::ensure;
use serde::Deserialize;
use serde_json::value::RawValue;

/// As much of a frame as is checked.
#[derive(Debug, Deserialize)]
pub struct Frame<'a> {
    #[serde(rename = "type")]
    pub kind: &'a str,
    epoch: Option<&'a str>,
    seq: Option<u64>,
    message_id: Option<&'a str>,
    session_id: Option<&'a str>,
    #[serde(borrow)]
    pub data: Option<&'a RawValue>,
}

/// What was seen, and what should not have been.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events of sessions that were followed: durable ones and deltas.
    pub events: u64,
    pub deltas: u64,
    pub gaps: u64,
    pub duplicates: u64,
}

/// What a frame was to the one who follows a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Delta,
    Durable,
    /// The durable event that ends a run.
    Finished,
    /// Something that has no place among the session's events.
    Other,
}

/// How far a client has followed a session, and a digest of the way there: two that have come to the same
/// number must have seen the same events.
#[derive(Debug, Clone)]
pub struct Follower {
    session_id: String,
    epoch: String,
    /// Number of the last durable event.
    seq: u64,
    events: Digest,
    /// Events are being replayed: answers come without their deltas.
    catching_up: bool,
    /// Of the answer that is streaming: code points, and the text.
    points: u64,
    text: Digest,
}

#[derive(Deserialize)]
struct Delta<'a> {
    offset: u64,
    #[serde(borrow)]
    text: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Snapshot<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow)]
    content: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Finished<'a> {
    outcome: &'a str,
}

impl<'a> Frame<'a> {
    pub fn parse(text: &'a str) -> anyhow::Result<Self> {
        serde_json::from_str(text).map_err(|error| anyhow::anyhow!("not a frame ({error}): {text}"))
    }

    fn data(&self) -> &'a str {
        self.data.map_or("{}", RawValue::get)
    }
}

impl Follower {
    /// Follows a session from its beginning.
    pub fn new(session_id: &str, epoch: &str) -> Self {
        Self {
            session_id: session_id.to_owned(),
            epoch: epoch.to_owned(),
            seq: 0,
            events: Digest::default(),
            catching_up: false,
            points: 0,
            text: Digest::default(),
        }
    }

    pub fn session_id(&self) -> &str {
        &self.session_id
    }

    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// A resume was accepted: what happened meanwhile is replayed, without what was streamed of it.
    pub fn resumed(&mut self) {
        self.catching_up = true;
    }

    /// Whether both have seen the same events.
    pub fn agrees_with(&self, other: &Follower) -> bool {
        (self.seq, &self.epoch, self.events) == (other.seq, &other.epoch, other.events)
    }

    /// Takes in a frame.
    ///
    /// # Errors
    /// Where what it says cannot be, or is not what was asked for: a run that did not complete, another epoch,
    /// an answer that is not what was streamed. Gaps and duplicates are counted.
    pub fn see(&mut self, frame: &Frame<'_>, counts: &mut Counts) -> anyhow::Result<Seen> {
        if frame.session_id != Some(&self.session_id) {
            return Ok(Seen::Other);
        }
        if matches!(frame.kind, "agent_status_change" | "message.snapshot" | "message.delta") {
            // These are of now: all that was missed has been replayed.
            self.catching_up = false;
        }
        if frame.kind == "message.snapshot" {
            let Snapshot { text } = serde_json::from_str(frame.data())?;
            self.points = text.chars().count() as u64;
            self.text = Digest::of(&text);
            return Ok(Seen::Other);
        }
        if frame.kind == "message.delta" {
            self.see_delta(&serde_json::from_str(frame.data())?, counts);
            return Ok(Seen::Delta);
        }
        if let Some(seq) = frame.seq {
            let Some(epoch) = frame.epoch else { anyhow::bail!("{} has a number and no epoch", frame.kind) };
            ensure!(epoch == self.epoch, "the session is numbered anew, in epoch {epoch}");
            if !self.number(seq, frame.message_id.unwrap_or_default(), counts) {
                return Ok(Seen::Other);
            }
        }
        match frame.kind {
            "agent_response" => {
                let Response { content } = serde_json::from_str(frame.data())?;
                let text = std::mem::take(&mut self.text);
                self.points = 0;
                ensure!(
                    self.catching_up || text == Digest::of(&content),
                    "the answer is not what was streamed"
                );
            }
            "run_finished" => {
                let Finished { outcome } = serde_json::from_str(frame.data())?;
                ensure!(outcome == "completed", "a run ended {outcome}");
                return Ok(Seen::Finished);
            }
            _ => {}
        }
        Ok(if frame.seq.is_some() { Seen::Durable } else { Seen::Other })
    }

    /// Checks where a delta stands in the streaming answer.
    fn see_delta(&mut self, delta: &Delta<'_>, counts: &mut Counts) {
        counts.events += 1;
        counts.deltas += 1;
        counts.gaps += u64::from(delta.offset > self.points);
        counts.duplicates += u64::from(delta.offset < self.points);
        self.points += delta.text.chars().count() as u64;
        self.text.add(&delta.text);
    }

    /// Checks a durable event's number; whether the event is new.
    fn number(&mut self, seq: u64, event_id: &str, counts: &mut Counts) -> bool {
        counts.events += 1;
        if seq <= self.seq {
            counts.duplicates += 1;
            return false;
        }
        counts.gaps += u64::from(seq > self.seq + 1);
        self.seq = seq;
        self.events.add(event_id);
        true
    }
}

/// Tells texts apart (FNV-1a), without keeping them: there may be thousands of a megabyte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    fn of(text: &str) -> Self {
        let mut digest = Self::default();
        digest.add(text);
        digest
    }

    fn add(&mut self, text: &str) {
        const PRIME: u64 = 0x0100_0000_01b3;
        self.0 = text.bytes().fold(self.0, |digest, byte| (digest ^ u64::from(byte)).wrapping_mul(PRIME));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ephemeral(kind: &str, data: &str) -> String {
        format!(r#"{{"v":1,"type":"{kind}","session_id":"a_1","data":{data}}}"#)
    }

    fn durable(kind: &str, seq: u64, data: &str) -> String {
        format!(
            r#"{{"v":1,"type":"{kind}","epoch":"e","seq":{seq},"message_id":"id-{seq}","session_id":"a_1","data":{data}}}"#
        )
    }

    fn delta(offset: u64, text: &str) -> String {
        format!(
            r#"{{"v":1,"type":"message.delta","session_id":"a_1","data":{{"offset":{offset},"text":"{text}"}}}}"#
        )
    }

    /// What a follower makes of frames: the last thing seen, and the counts.
    fn follow(follower: &mut Follower, frames: &[String]) -> (anyhow::Result<Seen>, Counts) {
        let mut counts = Counts::default();
        let mut last = Ok(Seen::Other);
        for frame in frames {
            last = follower.see(&Frame::parse(frame).expect("a frame"), &mut counts);
        }
        (last, counts)
    }

    fn follower() -> Follower {
        Follower::new("a_1", "e")
    }

    #[test]
    fn a_run_without_a_fault_counts_none() {
        let frames = [
            durable("session_created", 1, "{}"),
            durable("run_started", 2, "{}"),
            delta(0, "é"),
            delta(1, "\\n2"),
            durable("agent_response", 3, r#"{"content":"é\n2"}"#),
            durable("run_finished", 4, r#"{"outcome":"completed"}"#),
        ];

        let (last, counts) = follow(&mut follower(), &frames);

        assert_eq!(last.expect("a good run"), Seen::Finished);
        assert_eq!(counts, Counts { events: 6, deltas: 2, gaps: 0, duplicates: 0 });
    }

    #[test]
    fn gaps_and_duplicates_are_found_by_number_and_by_offset() {
        let numbers = [1, 3, 3, 2, 4].map(|seq| durable("user_message", seq, "{}"));
        let offsets = [delta(0, "ab"), delta(3, "c"), delta(1, "d")];

        let (_, durable) = follow(&mut follower(), &numbers);
        let (_, ephemeral) = follow(&mut follower(), &offsets);

        assert_eq!((durable.gaps, durable.duplicates), (1, 2));
        assert_eq!((ephemeral.gaps, ephemeral.duplicates), (1, 1));
    }

    #[test]
    fn an_answer_must_be_what_was_streamed_unless_it_is_replayed() {
        let answer = [durable("agent_response", 1, r#"{"content":"abc"}"#)];

        let (live, _) = follow(&mut follower(), &answer);
        assert!(live.is_err());

        let mut resumed = follower();
        resumed.resumed();
        assert_eq!(follow(&mut resumed, &answer).0.expect("it is replayed"), Seen::Durable);

        let status = ephemeral("agent_status_change", "{}");
        let mut live = follower();
        live.resumed();
        let frames = [vec![status], answer.to_vec()].concat();
        assert!(follow(&mut live, &frames).0.is_err(), "what comes after the replay must be streamed");
    }

    #[test]
    fn a_resume_in_mid_answer_goes_on_from_the_snapshot() {
        let mut resumed = follower();
        resumed.resumed();
        let frames = [
            ephemeral("message.snapshot", r#"{"text":"aé"}"#),
            ephemeral("message.delta", r#"{"offset":2,"text":"b"}"#),
            durable("agent_response", 1, r#"{"content":"aéb"}"#),
        ];

        let (last, counts) = follow(&mut resumed, &frames);

        assert_eq!(last.expect("all fits"), Seen::Durable);
        assert_eq!((counts.gaps, counts.duplicates), (0, 0));
    }

    #[test]
    fn what_ends_badly_is_an_error() {
        let failed = durable("run_finished", 1, r#"{"outcome":"failed"}"#);
        let anew = durable("user_message", 1, "{}").replace(r#""epoch":"e""#, r#""epoch":"f""#);

        for (frame, expected) in [(failed, "a run ended failed"), (anew, "numbered anew")] {
            let error = follow(&mut follower(), &[frame]).0.expect_err("it is wrong").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn followers_that_saw_other_events_do_not_agree() {
        let (mut one, mut other) = (follower(), follower());
        let events = [durable("user_message", 1, "{}"), durable("run_started", 2, "{}")];
        let changed = events.clone().map(|event| event.replace("id-2", "id-x"));

        follow(&mut one, &events).0.expect("good events");
        follow(&mut other, &events[..1]).0.expect("a good event");
        assert!(!one.agrees_with(&other), "one is ahead");
        follow(&mut other, &changed[1..]).0.expect("a good event");
        assert!(!one.agrees_with(&other), "the second event is another one");
        assert!(one.agrees_with(&one.clone()));
    }

    #[test]
    fn frames_of_other_sessions_are_no_concern() {
        let other = durable("user_message", 7, "{}").replace("a_1", "b_1");

        let (last, counts) = follow(&mut follower(), &[other]);

        assert_eq!(last.expect("it is passed over"), Seen::Other);
        assert_eq!(counts, Counts::default());
    }
}
