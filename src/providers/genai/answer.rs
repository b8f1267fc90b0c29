//! One answer, put together from the pieces that a provider streams (pure).
//!
//! Tool calls are put together here and not by the client library: its list grows to whatever index a
//! provider names, and takes two calls with the same index for one.

use genai::chat::{ChatStreamEvent, StopReason, StreamEnd};
use serde_json::{Map, Value};

use super::{
    Api,
    failure::{Failure, Identity},
    state::{self, HiddenPart},
};
use crate::core::{
    event::{FinishReason, Usage},
    ports::{ModelErrorKind, ModelEvent, ToolCall},
};

/// Calls that one answer may ask for.
const MAX_CALLS: usize = 64;
/// Bytes of the arguments of all calls of one answer.
const MAX_ARGS_BYTES: usize = 256 * 1024;
/// Bytes of text at once; a whole answer has a quarter of it at most.
const MAX_TEXT_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of reasoning and signatures, which the client library gathers until the end.
const MAX_HIDDEN_BYTES: usize = 4 * 1024 * 1024;

/// What a piece of the stream came to.
#[derive(Debug)]
pub enum Piece {
    /// A sign of life that says nothing.
    Nothing,
    /// The model is at work on something that is not shown.
    Hidden,
    Text(String),
    /// The last of the answer: its calls, and its end.
    End(Vec<ModelEvent>),
}

#[derive(Debug)]
pub struct Answer<'a> {
    api: Api,
    provider: &'a Identity,
    calls: Vec<Call>,
    /// Kept where the provider demands it back with the results of tools.
    reasoning: String,
    hidden_bytes: usize,
    has_text: bool,
}

#[derive(Debug)]
struct Call {
    id: String,
    name: String,
    args: Args,
    signatures: Vec<String>,
}

#[derive(Debug)]
enum Args {
    /// JSON in the making.
    Partial(String),
    Whole {
        value: Value,
        bytes: usize,
    },
}

impl Args {
    fn bytes(&self) -> usize {
        match self {
            Args::Partial(text) => text.len(),
            Args::Whole { bytes, .. } => *bytes,
        }
    }
}

impl<'a> Answer<'a> {
    pub fn new(api: Api, provider: &'a Identity) -> Self {
        Self { api, provider, calls: Vec::new(), reasoning: String::new(), hidden_bytes: 0, has_text: false }
    }

    /// Takes the next piece; `frame` is what the provider sent last, as it came.
    pub fn take(&mut self, event: ChatStreamEvent, frame: impl FnOnce() -> String) -> Result<Piece, Failure> {
        match event {
            ChatStreamEvent::Start | ChatStreamEvent::Heartbeat => Ok(Piece::Nothing),
            ChatStreamEvent::Chunk(chunk) => {
                if chunk.content.len() > MAX_TEXT_BYTES {
                    return Err(self
                        .provider
                        .too_much(&format!("more than {MAX_TEXT_BYTES} bytes of text at once")));
                }
                self.has_text |= !chunk.content.is_empty();
                Ok(Piece::Text(chunk.content))
            }
            ChatStreamEvent::ReasoningChunk(chunk) => {
                if self.api == Api::DeepSeek {
                    self.reasoning.push_str(&chunk.content);
                }
                self.hide(chunk.content.len())
            }
            ChatStreamEvent::ThoughtSignatureChunk(chunk) => self.hide(chunk.content.len()),
            ChatStreamEvent::ToolCallChunk(chunk) => {
                self.add_call(chunk.tool_call);
                self.check_calls()?;
                Ok(Piece::Hidden)
            }
            ChatStreamEvent::End(end) => self.end(end, frame).map(Piece::End),
        }
    }

    fn hide(&mut self, bytes: usize) -> Result<Piece, Failure> {
        self.hidden_bytes += bytes;
        if self.hidden_bytes > MAX_HIDDEN_BYTES {
            return Err(self.provider.too_much(&format!("more than {MAX_HIDDEN_BYTES} bytes of reasoning")));
        }
        Ok(Piece::Hidden)
    }

    fn add_call(&mut self, chunk: genai::chat::ToolCall) {
        let genai::chat::ToolCall { call_id: id, fn_name: name, fn_arguments: args, thought_signatures } =
            chunk;
        let signatures = thought_signatures.unwrap_or_default();
        let Value::String(text) = args else {
            // Gemini and Ollama send each call whole.
            let bytes = args.to_string().len();
            return self.calls.push(Call { id, name, args: Args::Whole { value: args, bytes }, signatures });
        };
        match self.position(&id, &name) {
            Some(position) => {
                if let Args::Partial(partial) = &mut self.calls[position].args {
                    // Anthropic's pieces hold all that came before.
                    if self.api == Api::Anthropic {
                        partial.clear();
                    }
                    partial.push_str(&text);
                }
            }
            None => self.calls.push(Call { id, name, args: Args::Partial(text), signatures }),
        }
    }

    /// The call that a piece goes on with; `None` if it begins one.
    fn position(&self, id: &str, name: &str) -> Option<usize> {
        let known = self.calls.iter().position(|call| call.id == id);
        if known.is_some() || !name.is_empty() {
            return known;
        }
        // A piece without a name and an id goes on; the library gives it the id `call_N` by its index.
        let last = self.calls.len().checked_sub(1)?;
        Some(index_of(id).filter(|index| *index <= last).unwrap_or(last))
    }

    fn check_calls(&self) -> Result<(), Failure> {
        if self.calls.len() > MAX_CALLS {
            return Err(self.provider.too_much(&format!("more than {MAX_CALLS} tool calls at once")));
        }
        let bytes: usize =
            self.calls.iter().map(|call| call.id.len() + call.name.len() + call.args.bytes()).sum();
        if bytes > MAX_ARGS_BYTES {
            return Err(self.provider.too_much(&format!("more than {MAX_ARGS_BYTES} bytes of tool calls")));
        }
        Ok(())
    }

    fn end(&mut self, end: StreamEnd, frame: impl FnOnce() -> String) -> Result<Vec<ModelEvent>, Failure> {
        let StreamEnd { captured_usage, captured_stop_reason, captured_content, .. } = end;
        // The library ends the streams of these two even where they were cut.
        let is_whole = match self.api {
            Api::Gemini => captured_stop_reason.is_some(),
            Api::Ollama => captured_usage.is_some(),
            _ => true,
        };
        if !is_whole {
            return Err(self.provider.last_words(&frame()).unwrap_or_else(Failure::cut));
        }
        let calls = self.finish_calls(captured_stop_reason.as_ref())?;
        let finish_reason = self.finish_reason(captured_stop_reason.as_ref())?;
        let hidden = captured_content.into_iter().flatten().filter_map(HiddenPart::of);
        let mut hidden: Vec<_> = hidden.filter(|part| !is_of_a_call(part, &self.calls)).collect();
        if !calls.is_empty() && !self.reasoning.is_empty() {
            hidden.push(HiddenPart::Reasoning(std::mem::take(&mut self.reasoning)));
        }
        let mut events: Vec<_> = calls.into_iter().map(ModelEvent::ToolCall).collect();
        events.push(ModelEvent::End {
            finish_reason,
            usage: captured_usage.and_then(usage),
            provider_state: state::keep(&self.provider.name, hidden),
        });
        Ok(events)
    }

    fn finish_calls(&self, stop: Option<&StopReason>) -> Result<Vec<ToolCall>, Failure> {
        let mut calls: Vec<ToolCall> = Vec::new();
        for call in &self.calls {
            let args = match &call.args {
                Args::Whole { value, .. } => value.clone(),
                Args::Partial(text) if text.trim().is_empty() => Value::Null,
                Args::Partial(text) => match serde_json::from_str(text) {
                    Ok(args) => args,
                    Err(_) if matches!(stop, Some(StopReason::MaxTokens(_))) => {
                        return Err(self.cut_call(&call.name));
                    }
                    // The model's mistake: the tool will say so, and the model may mend it.
                    Err(_) => Value::String(text.clone()),
                },
            };
            let args = if args.is_null() { Value::Object(Map::new()) } else { args };
            let id = own_id(&call.id, &call.name, &calls);
            let signatures = call.signatures.iter().cloned().map(HiddenPart::Signature).collect();
            let provider_state = state::keep(&self.provider.name, signatures);
            calls.push(ToolCall { id, name: call.name.clone(), args, provider_state });
        }
        Ok(calls)
    }

    /// Providers end an answer that calls tools with all sorts of reasons: the calls decide.
    fn finish_reason(&self, stop: Option<&StopReason>) -> Result<FinishReason, Failure> {
        Ok(match stop {
            _ if !self.calls.is_empty() => FinishReason::ToolCalls,
            Some(StopReason::MaxTokens(_)) => FinishReason::Length,
            Some(StopReason::ContentFilter(_)) => FinishReason::ContentFilter,
            // Such as Gemini's MALFORMED_FUNCTION_CALL: an answer without a word needs one.
            Some(StopReason::Other(reason)) if !self.has_text => return Err(self.no_answer(reason)),
            None
            | Some(
                StopReason::Completed(_)
                | StopReason::ToolCall(_)
                | StopReason::StopSequence(_)
                | StopReason::Other(_),
            ) => FinishReason::Stop,
        })
    }

    fn cut_call(&self, tool: &str) -> Failure {
        let message = format!(
            "{} reached max_tokens in the middle of a call of the tool {tool:?}; raise the agent's max_tokens",
            self.provider.name
        );
        Failure::new(ModelErrorKind::Other, "a tool call was cut", message)
    }

    fn no_answer(&self, reason: &str) -> Failure {
        let message =
            format!("{} gave no answer ({}); try again", self.provider.name, self.provider.shown(reason));
        Failure::new(ModelErrorKind::Other, "there was no answer", message)
    }
}

/// Gemini's signatures stand with the calls that they are of, and once more with the answer.
fn is_of_a_call(part: &HiddenPart, calls: &[Call]) -> bool {
    match part {
        HiddenPart::Signature(signature) => calls.iter().any(|call| call.signatures.contains(signature)),
        HiddenPart::Reasoning(_) | HiddenPart::Block(_) => false,
    }
}

/// The N of `call_N`, the id that the library gives to pieces that come with an index only.
fn index_of(id: &str) -> Option<usize> {
    id.strip_prefix("call_")?.parse().ok()
}

/// An id of this call alone: some models give none, and then the library gives the same ones with each answer.
fn own_id(id: &str, name: &str, others: &[ToolCall]) -> String {
    let is_stand_in =
        id.is_empty() || id.starts_with("call#") || index_of(id).is_some_and(|index| index < MAX_CALLS);
    if !is_stand_in && others.iter().all(|other| other.id != id) {
        return id.to_owned();
    }
    // In the library's form, by which it knows that Gemini has never heard of this id.
    format!("call#{name}#{}", rand::random::<u32>())
}

/// What was counted; absent counts come as zeros.
fn usage(usage: genai::chat::Usage) -> Option<Usage> {
    let tokens = |count: Option<i32>| count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default();
    let usage = Usage {
        prompt_tokens: tokens(usage.prompt_tokens),
        completion_tokens: tokens(usage.completion_tokens),
    };
    (usage != Usage::default()).then_some(usage)
}

#[cfg(test)]
mod tests;
