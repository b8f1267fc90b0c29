//! One call of a model: attempts, deadlines, and what is sent on while it answers.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use futures_util::StreamExt;
use genai::{
    Client, Headers, ModelIden,
    adapter::AdapterKind,
    chat::{ChatOptions, ChatStream, ChatStreamEvent},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    Api,
    answer::{Answer, Piece},
    failure::{Failure, Identity, Retry},
    redact::prefix,
    request::{chat_options, chat_request},
};
use crate::core::{
    conversation::Prompt,
    ports::{ModelError, ModelErrorKind, ModelEvent, ModelRequest, PromptMessage},
};

/// Attempts at one call, while nothing of an answer has come.
const MAX_ATTEMPTS: u32 = 3;
/// Wait before the second attempt, at most; it doubles with each.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// A provider that asks for more patience than this has its error passed on.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(10);
/// Bytes of text that one event carries, so that the events that wait are bounded in bytes too.
const MAX_PIECE: usize = 16 * 1024;
/// Waits for more of one event. Each brings a packet at least, so an event of 700 KB is never refused for it.
const MAX_WAITS: u32 = 512;
/// Time spent on making one event of what came: far more than a whole answer in one piece takes.
const MAX_WORK: Duration = Duration::from_secs(2);
/// Bytes kept of what the provider sent last, for errors.
const MAX_FRAME: usize = 4 * 1024;

pub type Events = mpsc::Sender<Result<ModelEvent, ModelError>>;

/// A provider, and how to call it.
pub struct Provider {
    pub api: Api,
    pub identity: Identity,
    pub client: Client,
    /// The time from the call to the first content, all attempts included.
    pub first_token_timeout: Duration,
    /// The time from one content to the next.
    pub idle_timeout: Duration,
}

impl Provider {
    /// Answers into the channel; the last event is an end or an error.
    pub async fn answer(&self, request: ModelRequest, events: Events) {
        if let Err(error) = self.attempts(&request, &events).await {
            // Where nobody listens any more, nobody misses it.
            let _ = events.send(Err(error)).await;
        }
    }

    /// Whether the model can be asked. Costs a token at most.
    pub async fn probe(&self, model: String) -> Result<(), ModelError> {
        match timeout(self.first_token_timeout, self.check(model)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.timed_out(false).error),
        }
    }

    async fn check(&self, model: String) -> Result<(), ModelError> {
        if self.lists_models() {
            match self.client.all_model_names(self.adapter(), ()).await {
                Ok(names) if names.iter().any(|name| is_called(name, &model)) => return Ok(()),
                // Lists may be in pages and without aliases.
                Ok(_) => {}
                Err(error) => {
                    let failure = self.identity.failure(&error, "");
                    // A server without a list may well answer.
                    if failure.error.kind != ModelErrorKind::Other || failure.retry != Retry::Never {
                        return Err(failure.error);
                    }
                }
            }
        }
        let request = ModelRequest {
            model,
            prompt: Prompt::new("", [PromptMessage::User(vec!["Hi".to_owned()])]),
            temperature: None,
            max_tokens: Some(1),
            tools: Arc::default(),
        };
        let (events, mut answer) = mpsc::channel(1);
        tokio::select! {
            outcome = self.attempts(&request, &events) => outcome,
            // One event shows that it answers.
            Some(event) = answer.recv() => event.map(drop),
        }
    }

    /// Whether its list of models tells that the key is right.
    fn lists_models(&self) -> bool {
        match self.api {
            // Public.
            Api::OpenRouter => false,
            // The library would ask for it without the key.
            Api::Ollama => self.identity.key.is_none(),
            _ => true,
        }
    }

    async fn attempts(&self, request: &ModelRequest, events: &Events) -> Result<(), ModelError> {
        let first_token_by = Instant::now() + self.first_token_timeout;
        let mut attempt = 1;
        loop {
            let Err(failure) = self.attempt(request, first_token_by, events).await else { return Ok(()) };
            let left = first_token_by.saturating_duration_since(Instant::now());
            let Some(wait) = pause(failure.retry, attempt, left, rand::random()) else {
                return Err(failure.error);
            };
            log::warn!(
                "provider {}: attempt {attempt} failed ({}); the next follows in {} ms",
                self.identity.name,
                failure.what,
                wait.as_millis()
            );
            sleep(wait).await;
            attempt += 1;
        }
    }

    async fn attempt(
        &self,
        request: &ModelRequest,
        first_token_by: Instant,
        events: &Events,
    ) -> Result<(), Failure> {
        let frame = LastFrame::default();
        let chat = chat_request(self.api, &self.identity.name, request);
        let options = frame.watch(self.headers(chat_options(self.api, request)));
        let model = ModelIden::new(self.adapter(), request.model.as_str());
        let mut answer = Answer::new(self.api, &self.identity);
        let mut deadline = first_token_by;
        let mut began = false;
        // This builds the request; the stream sends it.
        let stream = self.client.exec_chat_stream(model, chat, Some(&options)).await;
        let mut stream = stream.map_err(|error| self.identity.failure(&error, ""))?.stream;
        loop {
            let piece = match timeout_at(deadline, next_event(&mut stream)).await {
                Ok(Next::Event(event)) => answer.take(event, || frame.get()),
                Ok(Next::Failed(error)) => Err(self.identity.failure(&error, &frame.get())),
                Ok(Next::Nothing) if began => Err(Failure::cut()),
                Ok(Next::Nothing) => Err(self.identity.rubbish(&frame.get())),
                Ok(Next::TooLong) => Err(self.identity.too_much("more at once than a whole answer may have")),
                Err(_) => Err(self.timed_out(began)),
            };
            match piece {
                Ok(Piece::Nothing) => continue,
                Ok(Piece::Hidden) => {}
                Ok(Piece::Text(text)) => {
                    for piece in pieces(&text) {
                        if events.send(Ok(ModelEvent::Text(piece.to_owned()))).await.is_err() {
                            return Ok(());
                        }
                    }
                }
                Ok(Piece::End(last)) => {
                    for event in last {
                        if events.send(Ok(event)).await.is_err() {
                            return Ok(());
                        }
                    }
                    return Ok(());
                }
                // Another attempt would say again what was said already.
                Err(failure) if began => return Err(failure.with_retry(Retry::Never)),
                Err(failure) => return Err(failure),
            }
            began = true;
            deadline = Instant::now() + self.idle_timeout;
        }
    }

    fn timed_out(&self, began: bool) -> Failure {
        let name = &self.identity.name;
        let message = if began {
            let secs = self.idle_timeout.as_secs_f64();
            format!(
                "{name} sent nothing for {secs} s in the middle of its answer; try again, or raise the provider's \
                 idle_timeout_secs"
            )
        } else {
            let secs = self.first_token_timeout.as_secs_f64();
            format!(
                "{name} sent no answer within {secs} s; try again, or raise the provider's \
                 first_token_timeout_secs"
            )
        };
        Failure::new(ModelErrorKind::Timeout, "no answer in time", message)
    }

    /// The library sends no key to Ollama, which may stand behind somebody who wants one.
    fn headers(&self, options: ChatOptions) -> ChatOptions {
        use secrecy::ExposeSecret;
        match &self.identity.key {
            Some(key) if self.api == Api::Ollama => {
                let bearer = format!("Bearer {}", key.expose_secret());
                options.with_extra_headers(Headers::from(("Authorization", bearer)))
            }
            _ => options,
        }
    }

    fn adapter(&self) -> AdapterKind {
        self.api.adapter()
    }
}

/// What a stream gives next.
enum Next {
    Event(ChatStreamEvent),
    Failed(genai::Error),
    Nothing,
    /// It reads and reads, and makes nothing of it.
    TooLong,
}

/// The library puts no bound to a line, nor to the body of an error, and a line costs it more with each piece
/// that comes. From here, only how often it has to wait for more is seen, and how long it is busy with it:
/// that bounds both what it gathers and what it takes from the other calls.
async fn next_event(stream: &mut ChatStream) -> Next {
    let (mut waits, mut work) = (0, Duration::ZERO);
    poll_fn(|context| {
        let began = Instant::now();
        let next = match stream.poll_next_unpin(context) {
            Poll::Ready(Some(Ok(event))) => Next::Event(event),
            Poll::Ready(Some(Err(error))) => Next::Failed(error),
            Poll::Ready(None) => Next::Nothing,
            Poll::Pending => {
                waits += 1;
                work += began.elapsed();
                if waits <= MAX_WAITS && work <= MAX_WORK {
                    return Poll::Pending;
                }
                Next::TooLong
            }
        };
        Poll::Ready(next)
    })
    .await
}

/// What the provider sent last, as it came: errors tell of it.
#[derive(Default)]
struct LastFrame(Arc<Mutex<String>>);

impl LastFrame {
    fn watch(&self, options: ChatOptions) -> ChatOptions {
        let last = self.0.clone();
        options.with_raw_frame_fn(move |_, frame| {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            last.clear();
            last.push_str(prefix(frame.data, MAX_FRAME));
        })
    }

    fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How long to wait before the next attempt; `None` if there is to be none. `jitter` is from 0 to 1.
fn pause(retry: Retry, attempt: u32, left: Duration, jitter: f64) -> Option<Duration> {
    let wait = match retry {
        Retry::Backoff => (FIRST_BACKOFF * 2_u32.pow(attempt - 1)).mul_f64(0.5 + jitter / 2.0),
        // Whoever was told the same is not to come at the same moment.
        Retry::After(wait) if wait <= MAX_RETRY_AFTER => wait + FIRST_BACKOFF.mul_f64(jitter / 2.0),
        Retry::After(_) | Retry::Never => return None,
    };
    (attempt < MAX_ATTEMPTS && wait < left).then_some(wait)
}

/// A text in pieces of a bounded size.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let piece = prefix(rest, MAX_PIECE);
        rest = &rest[piece.len()..];
        (!piece.is_empty()).then_some(piece)
    })
}

/// Ollama lists each model with its tag, and takes `latest` for one that is named without.
fn is_called(listed: &str, model: &str) -> bool {
    listed == model || listed.strip_suffix(":latest") == Some(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn attempts_are_few_and_further_and_further_apart() {
        let wait =
            |attempt, jitter| pause(Retry::Backoff, attempt, LONG, jitter).map(|wait| wait.as_millis());

        assert_eq!((wait(1, 0.0), wait(1, 1.0)), (Some(250), Some(500)));
        assert_eq!((wait(2, 0.0), wait(2, 1.0)), (Some(500), Some(1000)));
        assert_eq!(wait(3, 0.0), None);
    }

    #[test]
    fn a_wish_of_the_provider_is_kept_if_it_is_short() {
        let after = |secs| pause(Retry::After(Duration::from_secs(secs)), 1, LONG, 0.0);

        assert_eq!(after(3), Some(Duration::from_secs(3)));
        assert_eq!(after(10), Some(Duration::from_secs(10)));
        assert_eq!(after(11), None);
        assert_eq!(pause(Retry::Never, 1, LONG, 0.5), None);
    }

    #[test]
    fn nobody_waits_past_the_deadline() {
        assert_eq!(pause(Retry::Backoff, 1, Duration::from_millis(200), 0.0), None);
        assert_eq!(pause(Retry::After(Duration::from_secs(5)), 1, Duration::from_secs(5), 0.0), None);
    }

    #[test]
    fn a_long_text_comes_in_pieces_that_make_it_up_again() {
        let text = "äöü€".repeat(10_000);

        let pieces: Vec<_> = pieces(&text).collect();

        assert!(pieces.iter().all(|piece| piece.len() <= MAX_PIECE));
        assert_eq!(pieces.concat(), text);
        assert_eq!(super::pieces("").count(), 0);
    }

    #[test]
    fn a_listed_model_is_known_without_its_tag() {
        assert!(is_called("llama3.2:latest", "llama3.2"));
        assert!(is_called("gpt-4o", "gpt-4o"));
        assert!(!is_called("llama3.2:1b", "llama3.2"));
    }
}
