//! A server that is a program: started, spoken to over its standard input and output, and ended with all that it
//! started itself.

use std::{
    collections::VecDeque,
    io,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use rmcp::{
    RoleClient,
    model::{ErrorData, JsonRpcMessage, RequestId, ServerNotification},
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use secrecy::ExposeSecret;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{mpsc, oneshot, watch},
};

use super::{
    MAX_MESSAGE_BYTES, Program,
    life::{Life, Running},
    lines::{Line, Lines, SHOWN, id_of, plain},
};

/// Messages that wait for the program to read them; with so many, it has stopped reading.
const WAITING_MESSAGES: usize = 256;
/// What the messages have that are no answers.
const METHOD: &[u8] = b"\"method\"";
/// How long a program that is no longer needed gets to end by itself, and then to obey a signal.
const GRACE: Duration = Duration::from_secs(2);
/// How long the status of a program that closed its output is waited for, to tell why it did.
const STATUS_GRACE: Duration = Duration::from_millis(500);
/// Lines of a program's words that are shown in a second, and at once; the rest are counted.
const LINES_PER_SECOND: u32 = 20;
const LINES_AT_ONCE: u32 = 100;
/// The last words of a program that are kept to tell why it ended.
const LAST_WORDS: usize = 5;

/// Starts the program. What it says goes one way, what is to become of it the other.
pub fn start(
    program: &Program,
    name: &Arc<str>,
    life: &Life,
    running: Running,
) -> Result<(Pipe, Process), String> {
    let mut command = Command::new(&program.program);
    command
        .args(&program.arguments)
        .env_clear()
        .envs(program.environment.iter().map(|(name, value)| (name, value.expose_secret())))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Programs as npx start others, which are to end with them.
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| cannot_start(&program.program, &error))?;
    let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err("its standard input and output are not there".to_owned());
    };
    let words = Words::new(name.clone());
    tokio::spawn(listen(stderr, words.clone()));
    let (outgoing, waiting) = mpsc::channel(WAITING_MESSAGES);
    tokio::spawn(write(stdin, waiting));
    let (stop, stopped) = oneshot::channel();
    let (exit, exited) = watch::channel(None);
    tokio::spawn(attend(child, group, stopped, exit, life.clone(), running));
    let pipe = Pipe {
        stdout: BufReader::new(stdout),
        lines: Lines::new(MAX_MESSAGE_BYTES),
        outgoing: Some(outgoing),
        exited: exited.clone(),
        life: life.clone(),
        words: words.clone(),
        confused: false,
    };
    Ok((pipe, Process { _stop: stop, exited, words }))
}

fn cannot_start(program: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("there is no program {program:?}; install it, or correct command"),
        io::ErrorKind::PermissionDenied => {
            format!("{program:?} is no program that may be run; correct command")
        }
        _ => format!("{program:?} cannot be started: {error}"),
    }
}

/// A program that runs. It is ended when this is dropped.
#[derive(Debug)]
pub struct Process {
    _stop: oneshot::Sender<()>,
    exited: watch::Receiver<Option<ExitStatus>>,
    words: Words,
}

impl Process {
    /// What the program left behind, for whoever wants to know why it did not come up.
    pub async fn last_words(&mut self) -> String {
        let _ = tokio::time::timeout(STATUS_GRACE, self.exited.wait_for(Option::is_some)).await;
        let ended = match *self.exited.borrow() {
            Some(status) => format!("it ended with {status}"),
            None => String::new(),
        };
        let said = self.words.last();
        let said = if said.is_empty() { said } else { format!("it said: {said}") };
        [ended, said].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
    }
}

/// Waits for the end of a program, or brings it about.
async fn attend(
    mut child: Child,
    mut group: Group,
    stopped: oneshot::Receiver<()>,
    exit: watch::Sender<Option<ExitStatus>>,
    life: Life,
    running: Running,
) {
    tokio::select! {
        status = child.wait() => {
            // Nobody speaks for it any more, whoever it has left behind.
            group.kill();
            let status = status.ok();
            exit.send_replace(status);
            // What it said before it ended is read first.
            tokio::time::sleep(STATUS_GRACE).await;
            life.end(&ended(status));
        }
        _ = stopped => {
            // Its standard input closes, which is the word to go.
            if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
                group.signal(Signal::SIGTERM);
                let _ = tokio::time::timeout(GRACE, child.wait()).await;
            }
            group.kill();
            let _ = child.wait().await;
        }
    }
    drop(running);
}

fn ended(status: Option<ExitStatus>) -> String {
    match status {
        Some(status) => format!("it ended with {status}"),
        None => "it ended".to_owned(),
    }
}

/// The program and all that it started. Killed when this is dropped, unless that was done.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // None of it may be left: that is as good.
            let _ = killpg(group, signal);
        }
    }

    /// The number may be another's after this.
    fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

// ---- messages ----

/// A message on its way to the program, and who wants to know that it has arrived.
type Outgoing = (Vec<u8>, oneshot::Sender<io::Result<()>>);

async fn write(mut stdin: ChildStdin, mut waiting: mpsc::Receiver<Outgoing>) {
    while let Some((message, written)) = waiting.recv().await {
        let outcome = async {
            stdin.write_all(&message).await?;
            stdin.flush().await
        };
        // A program that reads no more will not answer either; the end of its output tells.
        let _ = written.send(outcome.await);
    }
}

/// The messages to and from a program, a line each.
pub struct Pipe {
    stdout: BufReader<ChildStdout>,
    lines: Lines,
    /// Closed with the connection; the program's standard input closes with it.
    outgoing: Option<mpsc::Sender<Outgoing>>,
    exited: watch::Receiver<Option<ExitStatus>>,
    life: Life,
    words: Words,
    /// It has said something that is no message; that is told once.
    confused: bool,
}

impl Transport<RoleClient> for Pipe {
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let sent = self.enqueue(&message);
        async move {
            match sent?.await {
                Ok(written) => written,
                Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
    }

    /// May be dropped and begun again at any time: all that was read is kept.
    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            let line = match self.stdout.fill_buf().await {
                Ok([]) | Err(_) => {
                    let exited = self.exited.wait_for(Option::is_some);
                    let status = tokio::time::timeout(STATUS_GRACE, exited).await;
                    let status = status.ok().and_then(Result::ok).and_then(|status| *status);
                    self.life
                        .end(&status.map_or("it closed its output".to_owned(), |status| ended(Some(status))));
                    return None;
                }
                Ok(bytes) => {
                    let (taken, line) = self.lines.take(bytes);
                    self.stdout.consume(taken);
                    line
                }
            };
            match line {
                None => {}
                Some(Line::Whole(line)) => {
                    if let Some(message) = self.read(&line) {
                        return Some(message);
                    }
                }
                Some(Line::Overlong(overlong)) => {
                    let id = overlong.id().and_then(|id| serde_json::from_value::<RequestId>(id).ok());
                    let why = too_large(overlong.bytes);
                    let Some(id) = id else {
                        self.life.end(&format!("{why}, and it is not known which call it is about"));
                        return None;
                    };
                    return Some(JsonRpcMessage::error(ErrorData::internal_error(why, None), Some(id)));
                }
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        self.outgoing = None;
        Ok(())
    }
}

impl Pipe {
    fn enqueue(
        &mut self,
        message: &TxJsonRpcMessage<RoleClient>,
    ) -> io::Result<oneshot::Receiver<io::Result<()>>> {
        let outgoing = self.outgoing.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let (written, sent) = oneshot::channel();
        match outgoing.try_send((line, written)) {
            Ok(()) => Ok(sent),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(io::Error::other("it does not read what it is sent"))
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// The message that a line is, if it is one that anybody here wants.
    fn read(&mut self, line: &[u8]) -> Option<RxJsonRpcMessage<RoleClient>> {
        if line.trim_ascii().is_empty() {
            return None;
        }
        match serde_json::from_slice(line) {
            // Each would be a task of its own, and some servers send thousands.
            Ok(JsonRpcMessage::Notification(notification)) => {
                matches!(notification.notification, ServerNotification::ToolListChangedNotification(_))
                    .then_some(JsonRpcMessage::Notification(notification))
            }
            Ok(message) => Some(message),
            Err(error) => {
                // It may be the answer to a call all the same, which is then not waited for in vain.
                let id = id_of(line).and_then(|id| serde_json::from_value::<RequestId>(id).ok());
                let is_answer = |text: &[u8]| !text.windows(METHOD.len()).any(|part| part == METHOD);
                if let Some(id) = id.filter(|_| is_answer(line)) {
                    let why = format!("its answer cannot be read: {error}");
                    return Some(JsonRpcMessage::error(ErrorData::internal_error(why, None), Some(id)));
                }
                if !self.confused {
                    self.confused = true;
                    self.words
                        .warn("it says things on its standard output that are no messages; they are skipped");
                }
                None
            }
        }
    }
}

/// What is said of a message that was not taken.
pub fn too_large(bytes: u64) -> String {
    format!("its answer has {bytes} bytes; at most {MAX_MESSAGE_BYTES} are taken")
}

// ---- words ----

/// What a program says on its standard error, as our log shows it.
#[derive(Debug, Clone)]
struct Words {
    name: Arc<str>,
    last: Arc<Mutex<VecDeque<String>>>,
}

impl Words {
    fn new(name: Arc<str>) -> Self {
        Self { name, last: Arc::default() }
    }

    fn warn(&self, words: &str) {
        log::warn!("mcp {}: {words}", self.name);
    }

    fn keep(&self, line: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.push_back(line.to_owned());
        if last.len() > LAST_WORDS {
            last.pop_front();
        }
    }

    fn last(&self) -> String {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.iter().map(String::as_str).collect::<Vec<_>>().join(" / ")
    }
}

async fn listen(words: impl AsyncRead + Unpin, to: Words) {
    let mut words = BufReader::new(words);
    let mut lines = Lines::new(SHOWN);
    let mut pace = Pace::new(Instant::now());
    loop {
        let line = match words.fill_buf().await {
            Ok([]) | Err(_) => break,
            Ok(bytes) => {
                let (taken, line) = lines.take(bytes);
                words.consume(taken);
                line
            }
        };
        let Some(line) = line.map(shown).filter(|line| !line.is_empty()) else { continue };
        to.keep(&line);
        if let Some(left_out) = pace.show(Instant::now()) {
            if left_out > 0 {
                log::info!("mcp {}: ({left_out} lines are left out)", to.name);
            }
            log::info!("mcp {}: {line}", to.name);
        }
    }
    let rest = shown(lines.end());
    if !rest.is_empty() {
        to.keep(&rest);
        log::info!("mcp {}: {rest}", to.name);
    }
}

fn shown(line: Line) -> String {
    match line {
        Line::Whole(line) => plain(&String::from_utf8_lossy(&line)),
        Line::Overlong(overlong) => plain(&String::from_utf8_lossy(&overlong.head)),
    }
}

/// How many lines are shown: a program that floods its standard error is not to flood our log.
struct Pace {
    allowance: u32,
    since: Instant,
    left_out: u64,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { allowance: LINES_AT_ONCE, since: now, left_out: 0 }
    }

    /// Whether a line is shown, with the number of those that were not since the last.
    fn show(&mut self, now: Instant) -> Option<u64> {
        let seconds = now.saturating_duration_since(self.since).as_secs();
        if seconds > 0 {
            let earned = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(LINES_PER_SECOND);
            self.allowance = self.allowance.saturating_add(earned).min(LINES_AT_ONCE);
            self.since = now;
        }
        if self.allowance == 0 {
            self.left_out += 1;
            return None;
        }
        self.allowance -= 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_words_is_shown_in_part_and_counted() {
        let start = Instant::now();
        let mut pace = Pace::new(start);

        let shown = (0..1000).filter(|_| pace.show(start).is_some()).count();
        assert_eq!(shown, LINES_AT_ONCE as usize);

        let later = start + Duration::from_secs(2);
        assert_eq!(pace.show(later), Some(900));
        assert_eq!(
            (0..1000).filter(|_| pace.show(later).is_some()).count(),
            2 * LINES_PER_SECOND as usize - 1
        );
    }
}
