//! Arguments, held against what a tool says of them.
//!
//! The schema comes from a server that is none of ours: nothing in it is fetched, and no pattern of it takes more
//! than one pass over the text. What cannot be made sense of is not checked; the tool itself will say what it wants.

use jsonschema::{
    JsonType, PatternOptions, ValidationError, Validator,
    error::{TypeKind, ValidationErrorKind},
};
use serde_json::Value;

use crate::core::error::Problem;

/// Bytes that one pattern of a schema may take when it is compiled: much more than any sane one.
const MAX_PATTERN_BYTES: usize = 1024 * 1024;
/// Schemas that values are held against, counted through all references: a few lines of schema can refer to each
/// other so often that no check of them would end.
const MAX_WORK: usize = 100_000;
/// So deep may schemas that apply to one value refer to each other; one that refers to itself is deeper.
const MAX_DEPTH: usize = 128;
/// Letters of what was expected, at most; a list of choices may be long.
const MAX_EXPECTED: usize = 300;

/// The check of one tool's arguments.
#[derive(Debug)]
pub struct ArgumentCheck {
    /// `None` where the schema is not one.
    validator: Option<Validator>,
}

impl ArgumentCheck {
    /// `tool` is what the tool is called in the log.
    pub fn new(tool: &str, schema: &Value) -> Self {
        match compile(schema) {
            Ok(validator) => Self { validator: Some(validator) },
            Err(why) => {
                let why: String = why.chars().take(MAX_EXPECTED).collect();
                let (tool, why) = (tool.escape_debug(), why.escape_debug());
                log::warn!("tool {tool}: its arguments are not checked, as their schema is unusable: {why}");
                Self { validator: None }
            }
        }
    }

    /// # Errors
    /// `invalid_field`, which names the first argument that is wrong, as a JSON pointer.
    pub fn check(&self, args: &Value) -> Result<(), Problem> {
        let Some(validator) = &self.validator else { return Ok(()) };
        match validator.iter_errors(args).next() {
            None => Ok(()),
            Some(error) => Err(problem(&error)),
        }
    }
}

fn compile(schema: &Value) -> Result<Validator, String> {
    if !is_bounded(schema) {
        return Err("it refers to itself without end, or too often".to_owned());
    }
    let patterns = PatternOptions::regex().size_limit(MAX_PATTERN_BYTES).dfa_size_limit(MAX_PATTERN_BYTES);
    jsonschema::options()
        .offline()
        .with_pattern_options(patterns)
        .build(schema)
        .map_err(|error| error.to_string())
}

/// Whether a check by the schema comes to an end soon: how many schemas one value may be held against is bounded.
fn is_bounded(root: &Value) -> bool {
    fn everywhere(root: &Value, place: &Value, work: &mut usize) -> bool {
        match place {
            Value::Object(fields) => {
                at_once(root, place, 0, work) && fields.values().all(|place| everywhere(root, place, work))
            }
            Value::Array(places) => places.iter().all(|place| everywhere(root, place, work)),
            _ => true,
        }
    }
    everywhere(root, root, &mut 0)
}

/// Counts the schemas that apply to the very value that `schema` applies to. Those that apply to parts of it are
/// counted where they stand: a value ends, if its schema does not.
fn at_once(root: &Value, schema: &Value, depth: usize, work: &mut usize) -> bool {
    *work += 1;
    if *work > MAX_WORK || depth > MAX_DEPTH {
        return false;
    }
    let Value::Object(fields) = schema else { return true };
    fields.iter().all(|(keyword, value)| match (keyword.as_str(), value) {
        ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(reference)) => {
            let target = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
            target.is_none_or(|target| at_once(root, target, depth + 1, work))
        }
        ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => {
            schemas.iter().all(|schema| at_once(root, schema, depth + 1, work))
        }
        ("not" | "if" | "then" | "else", schema) => at_once(root, schema, depth + 1, work),
        ("dependentSchemas", Value::Object(schemas)) => {
            schemas.values().all(|schema| at_once(root, schema, depth + 1, work))
        }
        _ => true,
    })
}

fn problem(error: &ValidationError<'_>) -> Problem {
    let place = error.instance_path().as_str();
    let field = |name: &str| format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"));
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            Problem::invalid_field(&field(property.as_str().unwrap_or_default()), "a value; it is required")
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let name = unexpected.first().map(String::as_str).unwrap_or_default();
            Problem::invalid_field(&field(name), "no such argument")
        }
        kind => {
            let expected = expected(kind).unwrap_or_else(|| format!("something else: {error}"));
            let place = if place.is_empty() { "args" } else { place };
            Problem::invalid_field(place, cut(&expected))
        }
    }
}

/// What a keyword of the schema asks for, where that can be said in a few words.
fn expected(kind: &ValidationErrorKind) -> Option<String> {
    Some(match kind {
        ValidationErrorKind::Type { kind: TypeKind::Single(kind) } => named(*kind).to_owned(),
        ValidationErrorKind::Type { kind: TypeKind::Multiple(kinds) } => {
            kinds.iter().map(named).collect::<Vec<_>>().join(" or ")
        }
        ValidationErrorKind::Enum { options } => match &**options {
            Value::Array(options) => {
                let options: Vec<_> = options.iter().map(Value::to_string).collect();
                format!("one of {}", options.join(", "))
            }
            option => option.to_string(),
        },
        ValidationErrorKind::Constant { expected_value } => expected_value.to_string(),
        ValidationErrorKind::Minimum { limit } => format!("at least {limit}"),
        ValidationErrorKind::Maximum { limit } => format!("at most {limit}"),
        ValidationErrorKind::ExclusiveMinimum { limit } => format!("more than {limit}"),
        ValidationErrorKind::ExclusiveMaximum { limit } => format!("less than {limit}"),
        ValidationErrorKind::MinProperties { limit: 1 } => "at least one argument".to_owned(),
        ValidationErrorKind::MinLength { limit } => format!("at least {limit} characters"),
        ValidationErrorKind::MaxLength { limit } => format!("at most {limit} characters"),
        ValidationErrorKind::MinItems { limit } => format!("at least {limit} items"),
        ValidationErrorKind::MaxItems { limit } => format!("at most {limit} items"),
        ValidationErrorKind::UniqueItems => "items that differ from each other".to_owned(),
        ValidationErrorKind::Pattern { pattern } => format!("a text that matches {pattern}"),
        ValidationErrorKind::Format { format } => format!("a text of the format {format}"),
        _ => return None,
    })
}

fn named(kind: JsonType) -> &'static str {
    match kind {
        JsonType::Array => "a list",
        JsonType::Boolean => "true or false",
        JsonType::Integer => "a whole number",
        JsonType::Null => "null",
        JsonType::Number => "a number",
        JsonType::Object => "an object",
        JsonType::String => "a text",
    }
}

fn cut(text: &str) -> String {
    if text.chars().count() <= MAX_EXPECTED {
        return text.to_owned();
    }
    text.chars().take(MAX_EXPECTED).chain("…".chars()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::error::ErrorCode;

    fn refusal(schema: Value, args: Value) -> String {
        let problem = ArgumentCheck::new("a tool", &schema).check(&args).expect_err("refused");
        assert_eq!(problem.code, ErrorCode::InvalidField);
        problem.message
    }

    #[test]
    fn a_refusal_names_the_argument_and_what_was_expected() {
        let schema = json!({
            "type": "object",
            "properties": {
                "path": { "type": "string", "maxLength": 5 },
                "lines": { "type": "array", "items": { "type": ["integer", "null"], "minimum": 1 } },
                "how": { "enum": ["head", "tail"] },
            },
            "required": ["path"],
            "additionalProperties": false,
        });
        for (args, expected) in [
            (json!({}), "/path: expected a value; it is required"),
            (json!({ "path": 1 }), "/path: expected a text"),
            (json!({ "path": "abcdef" }), "/path: expected at most 5 characters"),
            (json!({ "path": "a", "lines": [1, 0] }), "/lines/1: expected at least 1"),
            (json!({ "path": "a", "lines": [1, "x"] }), "/lines/1: expected null or a whole number"),
            (json!({ "path": "a", "how": "all" }), "/how: expected one of \"head\", \"tail\""),
            (json!({ "path": "a", "a/b": 1 }), "/a~1b: expected no such argument"),
            (json!([]), "args: expected an object"),
            (json!(null), "args: expected an object"),
        ] {
            assert_eq!(refusal(schema.clone(), args.clone()), expected, "{args}");
        }
        let check = ArgumentCheck::new("a tool", &schema);
        assert_eq!(check.check(&json!({ "path": "a", "lines": [1, null] })), Ok(()));
    }

    #[test]
    fn what_is_no_schema_checks_nothing() {
        for schema in [
            json!({ "type": "strange" }),
            json!({ "$ref": "https://example.com/schema.json" }),
            json!({ "$ref": "file:///etc/passwd" }),
            json!({ "$ref": "#/$defs/missing" }),
            json!({ "properties": { "a": { "pattern": "(?=look)ahead" } } }),
            json!({ "properties": { "a": { "pattern": "((a{1000}){1000}){1000}" } } }),
            json!("nonsense"),
        ] {
            assert_eq!(ArgumentCheck::new("a tool", &schema).check(&json!({ "a": 1 })), Ok(()), "{schema}");
        }
    }

    #[test]
    fn a_schema_that_never_ends_checks_nothing() {
        let mut doubled = json!({ "$defs": { "d40": { "type": "object" } }, "$ref": "#/$defs/d0" });
        for level in 0..40 {
            let next = json!({ "$ref": format!("#/$defs/d{}", level + 1) });
            doubled["$defs"][format!("d{level}")] = json!({ "allOf": [next, next] });
        }
        for schema in [
            json!({ "$ref": "#" }),
            json!({ "allOf": [{ "$ref": "#" }] }),
            json!({ "properties": { "a": { "$ref": "#/$defs/b" } }, "$defs": { "b": { "not": { "$ref": "#/$defs/b" } } } }),
            doubled,
        ] {
            assert_eq!(ArgumentCheck::new("a tool", &schema).check(&json!({ "a": 1 })), Ok(()), "{schema}");
        }
    }

    #[test]
    fn a_schema_of_trees_is_checked() {
        let schema = json!({
            "properties": { "tree": { "$ref": "#/$defs/node" } },
            "$defs": { "node": {
                "type": "object",
                "properties": { "name": { "type": "string" }, "children": { "items": { "$ref": "#/$defs/node" } } },
            } },
        });
        let args = json!({ "tree": { "name": "a", "children": [{ "name": "b" }, { "name": 3 }] } });

        assert_eq!(refusal(schema, args), "/tree/children/1/name: expected a text");
    }

    #[test]
    fn a_pattern_takes_no_more_than_a_pass_over_the_text() {
        let schema = json!({ "properties": { "a": { "pattern": "^(a+)+$" } } });
        let args = json!({ "a": format!("{}!", "a".repeat(100_000)) });

        assert_eq!(refusal(schema, args), "/a: expected a text that matches ^(a+)+$");
    }
}
