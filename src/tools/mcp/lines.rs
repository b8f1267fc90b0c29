//! Lines of bytes that may be longer than anybody wants to keep (pure).

/// Bytes that are kept of either end of a line that is too long: a message has its id near one of them.
const KEPT: usize = 4096;
/// Letters of what a server says that are shown.
pub const SHOWN: usize = 1000;

/// Cuts a stream of bytes into lines. No more is kept of a line than the longest may have.
#[derive(Debug)]
pub struct Lines {
    longest: usize,
    line: Vec<u8>,
    /// What is known of the line that is being read, if it is too long.
    overlong: Option<Overlong>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    Whole(Vec<u8>),
    Overlong(Overlong),
}

/// The two ends of a line that is too long.
#[derive(Debug, PartialEq, Eq)]
pub struct Overlong {
    pub head: Vec<u8>,
    tail: Vec<u8>,
    pub bytes: u64,
}

impl Lines {
    pub fn new(longest: usize) -> Self {
        Self { longest, line: Vec::new(), overlong: None }
    }

    /// Takes bytes up to the end of a line: how many it took, and the line if that was its end.
    pub fn take(&mut self, bytes: &[u8]) -> (usize, Option<Line>) {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        self.add(&bytes[..end.unwrap_or(bytes.len())]);
        match end {
            Some(end) => (end + 1, Some(self.end())),
            None => (bytes.len(), None),
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        if let Some(overlong) = &mut self.overlong {
            overlong.add(bytes);
        } else if self.line.len() + bytes.len() <= self.longest {
            self.line.extend_from_slice(bytes);
        } else {
            let mut overlong = Overlong { head: Vec::new(), tail: Vec::new(), bytes: 0 };
            overlong.add(&std::mem::take(&mut self.line));
            overlong.add(bytes);
            self.overlong = Some(overlong);
        }
    }

    /// What stands there is a line, whether it is ended or not.
    pub fn end(&mut self) -> Line {
        if let Some(overlong) = self.overlong.take() {
            return Line::Overlong(overlong);
        }
        let mut line = std::mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Line::Whole(line)
    }
}

impl Overlong {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let room = KEPT.saturating_sub(self.head.len());
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(KEPT)..]);
        self.tail.drain(..self.tail.len().saturating_sub(KEPT));
    }

    /// The id of the message that the line is, where one of its ends has it: some write it first, some last.
    pub fn id(&self) -> Option<serde_json::Value> {
        id_at_head(&self.head).or_else(|| id_at_tail(&self.tail))
    }
}

/// What a server says, as it may stand in a log: on one line, of a bounded length, with nothing in it that a terminal
/// obeys.
pub fn plain(text: &str) -> String {
    let letters = text.trim().chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    let mut plain: String = letters.clone().take(SHOWN).collect();
    if letters.count() > SHOWN {
        plain.push('…');
    }
    plain
}

/// The id of the message that a line is, though it cannot be read as one.
pub fn id_of(line: &[u8]) -> Option<serde_json::Value> {
    id_at_head(line).or_else(|| id_at_tail(&line[line.len().saturating_sub(KEPT)..]))
}

/// The id among the first members of an object, as long as those are no lists or objects themselves.
fn id_at_head(text: &[u8]) -> Option<serde_json::Value> {
    let mut rest = text.trim_ascii_start().strip_prefix(b"{")?;
    loop {
        let (key, after) = scalar(rest)?;
        let (value, after) = scalar(after.trim_ascii_start().strip_prefix(b":")?)?;
        if key == "id" {
            return Some(value);
        }
        rest = after.trim_ascii_start().strip_prefix(b",")?;
    }
}

/// A text, number or other word at the beginning, whole, and what comes after it.
fn scalar(text: &[u8]) -> Option<(serde_json::Value, &[u8])> {
    let text = text.trim_ascii_start();
    let end = match text.first()? {
        b'"' => {
            let mut escaped = false;
            let quote = text.iter().skip(1).position(|byte| {
                let ends = *byte == b'"' && !escaped;
                escaped = *byte == b'\\' && !escaped;
                ends
            });
            quote? + 2
        }
        b'{' | b'[' => return None,
        _ => text.iter().position(|byte| matches!(byte, b',' | b'}' | b':') || byte.is_ascii_whitespace())?,
    };
    Some((serde_json::from_slice(&text[..end]).ok()?, &text[end..]))
}

/// The id among the last members of an object: whatever begins with it has to end as the object does.
fn id_at_tail(text: &[u8]) -> Option<serde_json::Value> {
    const KEY: &[u8] = b"\"id\"";
    let starts = (0..text.len().saturating_sub(KEY.len())).rev().filter(|at| text[*at..].starts_with(KEY));
    for start in starts {
        let object: Vec<u8> = [b"{", &text[start..]].concat();
        if let Ok(serde_json::Value::Object(mut members)) = serde_json::from_slice(&object) {
            return members.remove("id");
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn lines(longest: usize, pieces: &[&[u8]]) -> Vec<Line> {
        let mut lines = Lines::new(longest);
        let mut found = Vec::new();
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                let (taken, line) = lines.take(rest);
                found.extend(line);
                rest = &rest[taken..];
            }
        }
        found
    }

    fn overlong(text: &str) -> Overlong {
        let text = format!("{text}\n");
        match lines(10, &[text.as_bytes()]).remove(0) {
            Line::Overlong(overlong) => overlong,
            Line::Whole(line) => panic!("{line:?} is not too long"),
        }
    }

    #[test]
    fn a_line_is_put_together_from_its_pieces() {
        let found = lines(10, &[b"ab", b"c\r\nde\n", b"\n", b"rest"]);

        let whole = |text: &str| Line::Whole(text.as_bytes().to_vec());
        assert_eq!(found, [whole("abc"), whole("de"), whole("")]);
    }

    #[test]
    fn what_is_shown_has_nothing_that_a_terminal_obeys() {
        assert_eq!(plain("\x1b[2J\x07red\nand \u{fffd} "), " [2J red and \u{fffd}");
        assert_eq!(plain(&"é".repeat(2000)).chars().count(), SHOWN + 1);
    }

    #[test]
    fn the_line_after_one_that_is_too_long_is_whole() {
        let long = [b'x'; 30];

        let found = lines(10, &[&long[..7], &long, b"end\nab\n"]);

        assert_eq!(found.len(), 2);
        assert!(matches!(&found[0], Line::Overlong(overlong) if overlong.bytes == 40), "{found:?}");
        assert_eq!(found[1], Line::Whole(b"ab".to_vec()));
    }

    #[test]
    fn the_id_of_a_message_is_found_at_either_end() {
        let text = "y".repeat(100_000);
        for (message, id) in [
            (format!(r#"{{"jsonrpc":"2.0","id":7,"result":{{"text":"{text}"}}}}"#), json!(7)),
            (format!(r#"{{ "jsonrpc" : "2.0" , "id" : "a\"b" , "result":["{text}"]}}"#), json!("a\"b")),
            (format!(r#"{{"result":{{"text":"{text}"}},"jsonrpc":"2.0","id":8}}"#), json!(8)),
            (format!(r#"{{"result":{{"text":"{text}"}},"id":9,"jsonrpc":"2.0"}} "#), json!(9)),
            (format!(r#"{{"result":"{text}\"id\":1}}","id":10}}"#), json!(10)),
        ] {
            assert_eq!(overlong(&message).id(), Some(id), "{}", &message[..60]);
        }
    }

    #[test]
    fn what_is_not_the_messages_own_id_is_not_taken_for_it() {
        let text = "y".repeat(100_000);
        for message in [
            format!(r#"{{"result":{{"text":"{text}","id":7}}}}"#),
            format!(r#"{{"result":"{text}\",\"id\":7}}"}}"#),
            format!(r#"{{"result":"{text}","id":7"#),
            format!(r#"{{"a":{{"id":7}},"result":"{text}"}}"#),
            text,
        ] {
            assert_eq!(overlong(&message).id(), None, "{}", &message[..20]);
        }
    }

    #[test]
    fn the_head_of_a_line_is_as_long_however_it_comes() {
        let line = [[b'a'; 18].as_slice(), b"\n"].concat();

        assert_eq!(lines(16, &[&line]), lines(16, &[&line[..17], &line[17..]]));
    }

    proptest! {
        #[test]
        fn however_it_comes_it_is_the_same(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'a'), Just(b'"')], 0..200),
            at in 0..200_usize,
        ) {
            let at = at.min(text.len());

            prop_assert_eq!(lines(16, &[&text]), lines(16, &[&text[..at], &text[at..]]));
        }
    }
}
