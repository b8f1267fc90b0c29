//! Search in messages: what is looked for, and how a hit is shown (pure).

use super::event::Durable;

/// Words of a query, at most; the rest is ignored.
const MAX_WORDS: usize = 16;
/// Characters of an excerpt before and after the first word that was found.
const EXCERPT_BEFORE: usize = 40;
const EXCERPT_AFTER: usize = 120;

/// The words that a message must all have, in lower case. The last may be the beginning of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words(Vec<String>);

impl Words {
    /// The words of a query; `None` if it has none.
    pub fn of(query: &str) -> Option<Self> {
        let words: Vec<_> = words(query).map(|(_, word)| word.to_lowercase()).take(MAX_WORDS).collect();
        (!words.is_empty()).then_some(Self(words))
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether a text has all of them.
    pub fn are_in(&self, text: &str) -> bool {
        let texts: Vec<_> = words(text).map(|(_, word)| word.to_lowercase()).collect();
        self.0.iter().enumerate().all(|(at, wanted)| texts.iter().any(|word| self.is_match(at, wanted, word)))
    }

    fn is_match(&self, at: usize, wanted: &str, word: &str) -> bool {
        if at + 1 == self.0.len() { word.starts_with(wanted) } else { word == wanted }
    }

    /// A piece of the text around the first of them, on one line.
    pub fn excerpt(&self, text: &str) -> String {
        let found = words(text).find(|(_, word)| {
            let word = word.to_lowercase();
            self.0.iter().enumerate().any(|(at, wanted)| self.is_match(at, wanted, &word))
        });
        let found = found.map_or(0, |(at, _)| at);
        let start =
            text[..found].char_indices().rev().take(EXCERPT_BEFORE).last().map_or(found, |(at, _)| at);
        let rest = &text[found..];
        let end = found + rest.char_indices().nth(EXCERPT_AFTER).map_or(rest.len(), |(at, _)| at);
        let mut excerpt = text[start..end].split_whitespace().collect::<Vec<_>>().join(" ");
        if start > 0 {
            excerpt.insert(0, '…');
        }
        if end < text.len() {
            excerpt.push('…');
        }
        excerpt
    }
}

/// The words of a text, and where each begins.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(move |word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

/// The text of an event that a search looks through: what people and agents said.
pub fn searched_text(body: &Durable) -> Option<&str> {
    match body {
        Durable::UserMessage { content, .. } => Some(content),
        Durable::AgentResponse(response) => Some(&response.content),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words_of(query: &str) -> Words {
        Words::of(query).expect("words")
    }

    #[test]
    fn all_words_must_be_there_and_the_last_may_be_a_beginning() {
        let text = "The quick brown fox, and the Übung.";

        for query in ["fox", "QUICK fo", "übung", "brown the q", "fox; DROP"] {
            assert_eq!(words_of(query).are_in(text), query != "fox; DROP", "{query}");
        }
        assert!(!words_of("qui fox").are_in(text), "only the last word may be cut");
        assert_eq!(Words::of(" -- \"*\" "), None);
    }

    #[test]
    fn an_excerpt_shows_the_word_and_what_is_around_it() {
        let text = format!("{} needle\n\nin\thay {}", "a ".repeat(100), "z ".repeat(100));

        let excerpt = words_of("needle").excerpt(&text);

        assert!(excerpt.contains("needle in hay"), "{excerpt}");
        assert!(excerpt.starts_with('…') && excerpt.ends_with('…'), "{excerpt}");
        assert!(excerpt.chars().count() <= EXCERPT_BEFORE + EXCERPT_AFTER + 2);
        assert_eq!(words_of("x").excerpt("日本語"), "日本語");
    }
}
