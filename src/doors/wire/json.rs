//! Strict JSON: no deeper, no larger and no more ambiguous than a command needs to be.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Arrays and objects within one another, at most.
pub const MAX_DEPTH: usize = 64;
/// Values and keys in one text, at most.
pub const MAX_NODES: usize = 20_000;

/// Reads one JSON value and nothing after it.
///
/// # Errors
/// In words for whoever sent it: text that is not JSON (RFC 8259), lone surrogates and numbers out of range
/// among it, an object that has a key twice, nesting past [`MAX_DEPTH`], more than [`MAX_NODES`] values.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut nodes = 0;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let strict = Strict { depth: 0, nodes: &mut nodes };
    let value = strict.deserialize(&mut deserializer).map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    Ok(value)
}

/// One value at a depth; `nodes` counts over the whole text.
struct Strict<'a> {
    depth: usize,
    nodes: &'a mut usize,
}

impl Strict<'_> {
    fn count<E: Error>(&mut self) -> Result<(), E> {
        *self.nodes += 1;
        if *self.nodes > MAX_NODES {
            return Err(E::custom(format_args!("more than {MAX_NODES} values")));
        }
        Ok(())
    }

    fn inner<E: Error>(&mut self) -> Result<Strict<'_>, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format_args!("nested more than {MAX_DEPTH} deep")));
        }
        Ok(Strict { depth: self.depth + 1, nodes: self.nodes })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<Value, D::Error> {
        self.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self.inner()?)? {
            array.push(item);
        }
        Ok(array.into())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            self.count()?;
            let value = fields.next_value_seed(self.inner()?)?;
            if object.contains_key(&key) {
                let start: String = key.chars().take(100).collect();
                return Err(A::Error::custom(format_args!("key {start:?} stands twice in an object")));
            }
            object.insert(key, value);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        parse(text).expect_err("refused")
    }

    #[test]
    fn plain_json_is_read() {
        let value = parse(r#"{"a":[1,-2,0.5,true,null,"x\u00e9\ud83d\ude00"],"b":{}}"#).unwrap();

        assert_eq!(value, serde_json::json!({ "a": [1, -2, 0.5, true, null, "xé😀"], "b": {} }));
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));

        assert!(parse(&nested(MAX_DEPTH)).is_ok());
        assert!(refusal(&nested(MAX_DEPTH + 1)).contains("deep"));
        assert!(refusal(&"[".repeat(10_000)).contains("deep"));
        assert!(refusal(&r#"{"a":"#.repeat(10_000)).contains("deep"));
    }

    #[test]
    fn the_number_of_values_is_bounded() {
        let wide = format!("[{}0]", "0,".repeat(1_000_000));

        assert!(refusal(&wide).contains("values"));
    }

    #[test]
    fn ambiguous_and_broken_texts_are_refused() {
        assert!(refusal(r#"{"a":1,"a":2}"#).contains("twice"));
        for text in ["", "{", r#""\ud800""#, "1e999999", "{} {}", "nul", "{'a':1}", "[1,]"] {
            refusal(text);
        }
    }
}
