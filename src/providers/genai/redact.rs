//! What a provider said, made fit to be shown: one short line without anything that looks like a key (pure).
//!
//! Providers echo keys, whole or masked, in the bodies of their refusals.

/// Characters of a provider's words that are shown.
const SHOWN: usize = 300;
/// Bytes of them that are looked at.
const READ: usize = 8 * 1024;
/// How the keys of common providers begin.
const KEY_PREFIXES: &[&str] =
    &["sk-", "sk_", "pk-", "rk-", "gsk_", "xai-", "AIza", "AQ.", "tgp_", "hf_", "nvapi-", "ya29.", "eyJ"];
/// Fewer characters than this with such a beginning are a word.
const MIN_KEY: usize = 8;
/// This many characters in a row that a text shares with the key give it away.
const FRAGMENT: usize = 8;

const HIDDEN: &str = "[key]";

/// The text on one line, shortened, without control characters, keys and the queries of addresses.
pub fn shown(text: &str, key: Option<&str>) -> String {
    let key = key.filter(|key| !key.is_empty());
    let mut text = prefix(text, READ).replace(char::is_control, " ");
    if let Some(key) = key {
        text = text.replace(key, HIDDEN);
    }
    let mut line = String::new();
    let mut after_bearer = false;
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        let word = strip_address(word);
        if after_bearer {
            line.push_str(HIDDEN);
        } else {
            hide_keys(&word, key, &mut line);
        }
        after_bearer = word.trim_matches(|c: char| !c.is_ascii_alphanumeric()).eq_ignore_ascii_case("bearer");
    }
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None => line,
    }
}

/// As much of the text as fits in so many bytes.
pub fn prefix(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// Removes the user and the query of an address: either may hold a key.
fn strip_address(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    let (host, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    let host = host.rsplit('@').next().unwrap_or(host);
    format!("{scheme}://{host}{path}")
}

/// Appends a word with what looks like a key hidden.
fn hide_keys(word: &str, key: Option<&str>, line: &mut String) {
    let mut rest = word;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_key_character(c)).unwrap_or(rest.len());
        let (token, after) = rest.split_at(end);
        line.push_str(if looks_like_key(token, key) { HIDDEN } else { token });
        let next = after.find(is_key_character).unwrap_or(after.len());
        let (between, after) = after.split_at(next);
        line.push_str(between);
        rest = after;
    }
}

/// Of a key, or of what masks a part of it.
fn is_key_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.' | '*' | '•' | '…')
}

fn looks_like_key(token: &str, key: Option<&str>) -> bool {
    if token.contains("***") || token.contains("••") {
        return true;
    }
    if token.len() >= MIN_KEY && KEY_PREFIXES.iter().any(|prefix| token.starts_with(prefix)) {
        return true;
    }
    let Some(key) = key.filter(|key| key.len() > FRAGMENT && key.is_ascii()) else { return false };
    let token = token.trim_end_matches('.');
    let masked = token.contains("..") || token.contains('…');
    let shares = |length: usize| {
        key.len() >= length && (0..=key.len() - length).any(|at| token.contains(&key[at..at + length]))
    };
    let is_end_of_key = token.len() >= 4 && (key.starts_with(token) || key.ends_with(token));
    shares(FRAGMENT) || is_end_of_key || (masked && shares(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "zq81-Fh3kPmWx77Tt0Lr";

    #[test]
    fn the_key_and_its_parts_are_hidden() {
        for said in [
            "Incorrect API key provided: zq81-Fh3kPmWx77Tt0Lr. You can find it elsewhere.",
            "Incorrect API key provided: zq81-Fh3************t0Lr.",
            "bad key zq81-Fh3...t0Lr",
            "bad key zq81…t0Lr",
            "key ends with t0Lr",
            "key begins with 'zq81-F'",
            "{\"key\":\"zq81-Fh3kPmWx77Tt0Lr\"}",
            "xFh3kPmWx7x",
        ] {
            let line = shown(said, Some(KEY));
            assert!(line.contains(HIDDEN), "{line}");
            for part in ["zq81", "t0Lr", "Fh3k"] {
                assert!(!line.contains(part), "{line}");
            }
        }
    }

    #[test]
    fn keys_of_others_are_hidden_too() {
        for (said, secret) in [
            ("Incorrect API key provided: sk-proj-AbCd1234.", "AbCd"),
            ("got sk-ab***wxyz", "wxyz"),
            ("key=AIzaSyD-1234567890", "AIza"),
            ("Authorization: Bearer abcdef", "abcdef"),
            ("xai-1234567890abc was revoked", "xai-"),
        ] {
            let line = shown(said, None);
            assert!(!line.contains(secret), "{line}");
        }
    }

    #[test]
    fn plain_words_stay() {
        for said in [
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 8545 tokens.",
            "model 'llama3.2:latest' not found, try pulling it first",
            "Rate limit reached for gpt-4o-mini in organization org-x on tokens per min (TPM): Limit 10000",
        ] {
            assert_eq!(shown(said, Some(KEY)), said);
        }
    }

    #[test]
    fn addresses_lose_their_query_and_user() {
        let said = "see https://me:secret@api.example.com/v1/models?key=AAAA&x=1 (docs at http://a.b/c#d)";

        assert_eq!(shown(said, None), "see https://api.example.com/v1/models (docs at http://a.b/c");
    }

    #[test]
    fn control_characters_and_line_ends_become_spaces_and_the_rest_is_cut() {
        assert_eq!(shown("a\u{0}\u{1b}[31mb\r\n\tc", None), "a [31mb c");
        let line = shown(&"word ".repeat(1_000), None);
        assert!(line.ends_with('…') && line.chars().count() <= SHOWN + 1);
        assert_eq!(shown(&"ä".repeat(400), None).chars().count(), SHOWN + 1);
    }
}
