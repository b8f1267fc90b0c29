//! The disk fails, really: it is full, cannot be written, is slow, stands still, or has kept something else than
//! it was given.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    crash::{FILE, rename},
    oracle::{
        Logs, Notes, Oracle, Witness, all_sessions, assert_no, create_titled, differences, logs_in_file,
        testimony,
    },
    support::{Bystander, Server, chat, duologue, scratch_dir, unique, within},
};

// ---- a server on a disk ----

/// A file system of its own, which only those see who are in its mount namespace. It goes with the process that
/// holds that, and so with the test.
struct Disk {
    holder: Child,
    /// As its own processes see it.
    mount: PathBuf,
}

impl Disk {
    /// `None` where this process may not mount anything.
    fn mount(what: &str) -> Option<Self> {
        let mount = scratch_dir();
        let script = format!("{what} {} && echo mounted && exec cat", mount.display());
        let mut holder = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("util-linux is there");
        let mut said = [0; 8];
        if holder.stdout.take().is_some_and(|mut out| out.read_exact(&mut said).is_ok()) {
            return Some(Self { holder, mount });
        }
        holder.wait().expect("it ends");
        None
    }

    /// One of so many bytes.
    fn of_size(bytes: u64) -> Option<Self> {
        Self::mount(&format!("mount -t tmpfs -o size={bytes} tmpfs"))
    }

    /// One with a journal, as servers have.
    fn with_a_journal() -> Option<Self> {
        let image = scratch_dir().join("image");
        File::create(&image).and_then(|file| file.set_len(64 << 20)).expect("room for an image");
        let made = Command::new("mkfs.ext4").arg("-q").arg(&image).status().expect("e2fsprogs is there");
        assert!(made.success());
        Self::mount(&format!("mount -o loop {}", image.display()))
    }

    /// Where this process sees a file of it.
    fn path(&self, name: &str) -> PathBuf {
        let mount = self.mount.strip_prefix("/").expect("an absolute path");
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(mount).join(name)
    }

    /// Leaves no room on it.
    fn fill(&self) {
        let mut file = File::create(self.path("filler")).expect("room for a name");
        // A page at a time, to the last.
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    /// Makes room again.
    fn empty(&self) {
        fs::remove_file(self.path("filler")).expect("it is there");
    }

    fn run(&self, command: &[&str]) {
        let status = Command::new("nsenter")
            .arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id()))
            .args(command)
            .status()
            .expect("util-linux is there");
        assert!(status.success(), "{command:?} failed");
    }

    /// A server that sees the disk, and has its file there.
    fn server(&self, dir: &Path, environment: &[(&str, &str)]) -> Command {
        let store = format!("sqlite:{}", self.mount.join(FILE).display());
        let mut command = Command::new("nsenter");
        command.env_clear();
        // The settings that every server of these tests has.
        for (key, value) in duologue(dir, environment).get_envs() {
            command.env(key, value.unwrap_or_default());
        }
        command.env("DUOLOGUE_STORE", store).arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id())).args(
            ["sh", "-c", &format!("cd {} && exec {} serve", dir.display(), env!("CARGO_BIN_EXE_duologue"))],
        );
        command
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A directory that a server can be started in.
fn server_dir() -> PathBuf {
    let dir = scratch_dir();
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/agents.toml"), dir.join("agents.toml")).expect("a copy");
    dir
}

const LOG: &str = "log";

/// Starts a server whose log can be read. It does not write that itself: its own limits are none of the log's.
fn start(mut command: Command, dir: &Path) -> Server {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let mut log = File::create(dir.join(LOG)).expect("a file can be made");
    std::thread::spawn(move || std::io::copy(&mut reader, &mut log));
    command.stderr(writer);
    Server::spawn(command, dir)
}

fn log_of(server: &Server) -> String {
    fs::read_to_string(server.dir.join(LOG)).expect("a log")
}

/// A server on the machine's own disk. It does not end where it may write no further.
fn plain(dir: &Path, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new("sh");
    command.env_clear().current_dir(dir);
    for (key, value) in duologue(dir, environment).get_envs() {
        command.env(key, value.unwrap_or_default());
    }
    command
        .env("DUOLOGUE_STORE", format!("sqlite:{FILE}"))
        .args(["-c", &format!("trap '' XFSZ; exec {} serve", env!("CARGO_BIN_EXE_duologue"))]);
    command
}

/// Sets how long a file a running process may make.
fn limit_files(server: &Server, bytes: &str) {
    let status = Command::new("prlimit")
        .args([format!("--pid={}", server.pid()), format!("--fsize={bytes}:unlimited")])
        .status()
        .expect("util-linux is there");
    assert!(status.success());
}

// ---- disks that take nothing more ----

/// Sends messages until one is refused; what will come of that one.
async fn until_refused(
    witness: &Witness,
    session: &str,
) -> tokio::sync::oneshot::Receiver<Result<Value, Value>> {
    let text = format!("/echo {}", "x".repeat(20_000));
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < crate::support::PATIENCE, "nothing is refused");
        let mut answer = witness.send(chat(session, &text));
        loop {
            if let Ok(answer) = answer.try_recv() {
                answer.expect("what is refused is refused for now");
                break;
            }
            if refusals(&witness.notes()) > 0 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// How often something was refused for now.
fn refusals(notes: &Notes) -> usize {
    let replies = notes.commands.values().flat_map(|asked| &asked.replies);
    let refused: Vec<_> = replies.filter(|reply| reply["ok"] == false).collect();
    for reply in &refused {
        let error = &reply["error"];
        assert_eq!((&error["code"], &error["retryable"]), (&json!("unavailable"), &json!(true)), "{reply}");
    }
    refused.len()
}

/// Clients stream and command while a disk takes nothing more, and then does again.
///
/// - What cannot be kept is refused for now, and connections stay.
/// - What can be read is read.
/// - A run whose end cannot be kept ends once it can be; one whose text cannot be kept goes on, or fails.
/// - All goes on by itself, and nothing was lost or doubled.
async fn endures(server: &Server, file: &Path, break_it: impl FnOnce(), mend_it: impl FnOnce(), hint: &str) {
    let (author, talker) = (Witness::of(server, "author"), Witness::of(server, "talker"));
    let mut reader = server.client().await;
    let [long, short, old] =
        [talker.create("helper").await, talker.create("helper").await, talker.create("helper").await];
    let busy = author.create("helper").await;
    let long_run = run_of(&talker.must(chat(&long, "/count 100000 20")).await);
    // Says a line, too late for it to be kept, and too short to be kept before its end.
    let short_run = run_of(&talker.must(chat(&short, "/think 4000")).await);
    let queued_run = run_of(&talker.must(chat(&short, "/echo next")).await);
    talker.until_streaming(&long_run, 1).await;

    break_it();
    let refused = until_refused(&author, &busy).await;
    let others = [
        author.send(create_titled("helper", &unique("while it fails"))),
        author.send(rename(&busy)),
        talker.send(json!({ "type": "agent_refresh", "agent_id": "helper", "session_id": old })),
    ];
    author.until("more refusals", |notes| refusals(notes) > 8).await;
    talker
        .until("the end of the text", |notes| {
            notes
                .texts
                .values()
                .any(|streamed| streamed.run_id == short_run && streamed.text.ends_with("ms."))
        })
        .await;
    assert!(!talker.notes().ended.contains(&short_run), "its end was shown, and cannot have been kept");
    let history = reader.history(&short).await;
    assert!(history.iter().any(|event| event["run_id"] == short_run.as_str()), "what there is can be read");
    assert_eq!(all_sessions(&mut reader).await.len(), 4);
    assert_eq!(server.get("/health").await.0, 200);
    println!("of the long run {} bytes were shown by now", text_of(&talker, &long_run));

    mend_it();
    let refused = within("what was refused", refused).await.expect("the witness lives");
    author.until_ended(&run_of(&refused.expect("it is accepted at last"))).await;
    for other in others {
        within("what was refused", other).await.expect("the witness lives").expect("it is accepted at last");
    }
    talker.until_ended(&short_run).await;
    talker.until_ended(&queued_run).await;
    stop_if_it_goes(&talker, &long, &long_run).await;
    assert_eq!(talker.notes().closes, Vec::<u16>::new(), "connections stay");

    println!("{} refusals", refusals(&author.notes()));
    let (logs, notes) = testimony(server, vec![author, talker]).await;
    server.signal(Signal::SIGKILL);
    Oracle::expecting(&[]).assert(&notes, &logs);
    assert_no(&differences(&logs, &logs_in_file(file)));
    assert_eq!(end_of(&logs, &short_run), "completed");
    println!("the long run ended {}", end_of(&logs, &long_run));
    let log = log_of(server);
    assert!(log.contains(hint), "the log says nothing of {hint:?}: {log}");
    println!("the log has {} lines, as: {}", log.lines().count(), log.lines().next().unwrap_or_default());
}

/// How a run has ended; one that failed because of the store says so.
#[track_caller]
fn end_of(logs: &Logs, run_id: &str) -> String {
    let of_run = || logs.values().flatten().filter(|event| event["run_id"] == run_id);
    let end = of_run().next_back().expect("events of the run");
    assert_eq!(end["type"], "run_finished");
    let outcome = end["data"]["outcome"].as_str().expect("an outcome");
    if outcome == "failed" {
        let error = of_run().find(|event| event["type"] == "error").expect("a reason");
        assert_eq!(error["error"]["code"], "unavailable", "{error}");
    }
    outcome.to_owned()
}

/// Stops a run, unless it has failed.
async fn stop_if_it_goes(witness: &Witness, session: &str, run_id: &str) {
    match witness.ask(crate::support::stop(session, json!({ "run_id": run_id }))).await {
        Ok(data) => assert!(data["outcome"] == "cancelled" || data["outcome"] == "failed", "{data}"),
        Err(error) => assert_eq!(error["code"], "conflict", "{error}"),
    }
    witness.until_ended(run_id).await;
}

fn run_of(data: &Value) -> String {
    data["run_id"].as_str().expect("a run").to_owned()
}

fn text_of(witness: &Witness, run_id: &str) -> usize {
    let notes = witness.notes();
    notes
        .texts
        .values()
        .filter(|streamed| streamed.run_id == run_id)
        .map(|streamed| streamed.text.len())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_and_all_goes_on_once_there_is_room() {
    let dir = server_dir();
    if let Some(disk) = Disk::of_size(8 << 20) {
        let server = start(disk.server(&dir, &[]), &dir);
        let (fill, empty) = (|| disk.fill(), || disk.empty());
        endures(&server, &disk.path(FILE), fill, empty, "the disk is full").await;
    } else {
        println!("nothing can be mounted here: the disk is as full as the kernel says to this process");
        full_by_limit(&dir).await;
    }
}

/// It dies while its disk is full, and is started before there is room: then it says so, or runs and goes on later.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_on_a_full_disk_loses_nothing() {
    let dir = server_dir();
    let Some(disk) = Disk::of_size(8 << 20) else {
        return println!("NOT TESTED: nothing can be mounted here");
    };
    let mut server = start(disk.server(&dir, &[]), &dir);
    let address = tokio::sync::watch::channel(server.addr).0;
    let (author, talker) =
        (Witness::start("author", address.subscribe()), Witness::start("talker", address.subscribe()));
    let (busy, streaming) = (author.create("helper").await, talker.create("helper").await);
    let cut = run_of(&talker.must(chat(&streaming, "/count 100000 20")).await);
    let queued = run_of(&talker.must(chat(&streaming, "/echo next")).await);
    talker.until_streaming(&cut, 100).await;
    disk.fill();
    let refused = until_refused(&author, &busy).await;
    server.kill();

    match started(disk.server(&dir, &[]), &dir) {
        Ok(()) => println!("it starts on a full disk"),
        Err((status, error)) => assert_refused(status, &error, &["full"]),
    }

    disk.empty();
    server = start(disk.server(&dir, &[]), &dir);
    address.send_replace(server.addr);
    let refused = within("what was refused", refused).await.expect("the witness lives");
    author.until_ended(&run_of(&refused.expect("it is accepted at last"))).await;
    talker.until_ended(&queued).await;
    let (logs, notes) = testimony(&server, vec![author, talker]).await;
    server.kill();
    Oracle::expecting(&[1006]).assert(&notes, &logs);
    assert_no(&differences(&logs, &logs_in_file(&disk.path(FILE))));
    println!("the run that was cut ended {}", end_of(&logs, &cut));
    assert_eq!(end_of(&logs, &queued), "completed");
}

/// Writes that fail because a file may grow no further (EFBIG).
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_may_not_grow_loses_nothing_and_all_goes_on_once_it_may() {
    full_by_limit(&server_dir()).await;
}

async fn full_by_limit(dir: &Path) {
    let server = start(plain(dir, &[]), dir);
    endures(
        &server,
        &dir.join(FILE),
        || limit_files(&server, "0"),
        || limit_files(&server, "unlimited"),
        "goes on by itself",
    )
    .await;
}

// ---- disks that cannot be written ----

/// Files that nobody can change, root included, until this goes.
struct Immutable(Vec<PathBuf>);

impl Immutable {
    fn make(files: Vec<PathBuf>) -> Self {
        // What follows may fail half way.
        let files = Self(files);
        assert!(
            files.chattr("+i"),
            "files cannot be made immutable here: this takes root, and ext4 or another \
            file system that knows chattr +i below {}",
            env!("CARGO_TARGET_TMPDIR")
        );
        files
    }

    fn chattr(&self, flag: &str) -> bool {
        Command::new("chattr").arg(flag).args(&self.0).status().expect("e2fsprogs is there").success()
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        self.chattr("-i");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_written_lose_nothing_and_all_goes_on_once_they_can() {
    let dir = server_dir();
    let server = start(plain(&dir, &[]), &dir);
    let files = || vec![dir.join(FILE), dir.join(format!("{FILE}-wal"))];
    let immutable = std::cell::RefCell::new(None);
    endures(
        &server,
        &dir.join(FILE),
        || drop(immutable.replace(Some(Immutable::make(files())))),
        || drop(immutable.take()),
        "goes on by itself",
    )
    .await;
}

#[test]
fn a_server_does_not_start_on_a_disk_that_cannot_be_written() {
    let dir = server_dir();
    let Some(disk) = Disk::of_size(8 << 20) else {
        println!("nothing can be mounted here: a directory stands for the disk");
        let store = dir.join("store");
        fs::create_dir(&store).expect("a directory");
        fs::set_permissions(&store, fs::Permissions::from_mode(0o555)).expect("it is ours");
        let mut command = duologue(&dir, &[("DUOLOGUE_STORE", "sqlite:store/duologue.db")]);
        command.arg("serve");
        let (status, error) = started(command, &dir).expect_err("it cannot start");
        return assert_refused(status, &error, &["; "]);
    };
    let mount = disk.mount.display().to_string();

    // Where there is no file yet,
    disk.run(&["mount", "-o", "remount,ro", &mount]);
    let nothing = started(disk.server(&dir, &[]), &dir);
    disk.run(&["mount", "-o", "remount,rw", &mount]);
    // and where there is one.
    start(disk.server(&dir, &[]), &dir).kill();
    let before = fs::read(disk.path(FILE)).expect("a file");
    disk.run(&["mount", "-o", "remount,ro", &mount]);
    let something = started(disk.server(&dir, &[]), &dir);

    for refused in [nothing, something] {
        let (status, error) = refused.expect_err("it cannot start");
        assert_refused(status, &error, &["Read-only", "; "]);
    }
    assert_eq!(fs::read(disk.path(FILE)).expect("a file"), before);
}

/// It has not started, and says in its first line what is wrong and what to do.
#[track_caller]
fn assert_refused(status: ExitStatus, error: &str, says: &[&str]) {
    let line = error.lines().next().unwrap_or_default();
    println!("{line}");
    assert_eq!(status.code(), Some(2), "{error}");
    assert!(line.starts_with("duologue: "), "{error}");
    for words in says {
        assert!(line.contains(words), "it does not say {words:?}: {error}");
    }
    assert!(!error.contains("panicked"), "{error}");
}

// ---- slow disks ----

/// Another program holds the lock for a while, as a backup or a shell may.
#[tokio::test(flavor = "multi_thread")]
async fn while_another_program_has_the_database_locked_commands_wait_and_reads_go_on() {
    /// Longer than the server waits for a lock at a time.
    const LOCKED: Duration = Duration::from_secs(5);
    let dir = server_dir();
    let server = start(plain(&dir, &[]), &dir);
    let (author, talker) = (Witness::of(&server, "author"), Witness::of(&server, "talker"));
    let (session, streaming) = (author.create("helper").await, talker.create("helper").await);
    let run_id = run_of(&talker.must(chat(&streaming, "/count 100000 20")).await);
    let short_run = run_of(&author.must(chat(&session, "/count 50 20")).await);
    talker.until_streaming(&run_id, 1).await;

    let lock = rusqlite::Connection::open(dir.join(FILE)).expect("it is a database");
    lock.busy_timeout(Duration::from_secs(10)).expect("it can be set");
    lock.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let locked = Instant::now();
    let answers: Vec<_> =
        (0..20).map(|number| author.send(chat(&session, &format!("/echo {number}")))).collect();
    let mut reader = server.client().await;
    let (mut shown, mut shown_at) = (0, Duration::ZERO);
    while locked.elapsed() < LOCKED {
        assert!(!reader.history(&streaming).await.is_empty());
        assert_eq!(all_sessions(&mut reader).await.len(), 2);
        let now = text_of(&talker, &run_id);
        if now > shown {
            (shown, shown_at) = (now, locked.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("the stream went on for {shown_at:?} of {LOCKED:?}");
    assert!(author.notes().ended.is_empty(), "what is locked was written");
    assert!(shown_at > Duration::from_secs(1), "the stream stopped at once");
    lock.execute_batch("ROLLBACK").expect("it can be let go");

    for answer in answers {
        within("an answer", answer).await.expect("the witness lives").expect("it is accepted at last");
    }
    author.until_ended(&short_run).await;
    stop_if_it_goes(&talker, &streaming, &run_id).await;
    println!("{} refusals", refusals(&author.notes()));
    let (logs, notes) = testimony(&server, vec![author, talker]).await;
    server.signal(Signal::SIGKILL);
    drop(lock);
    Oracle::expecting(&[]).assert(&notes, &logs);
    println!("the run ended {}", end_of(&logs, &run_id));
    assert_no(&differences(&logs, &logs_in_file(&dir.join(FILE))));
}

/// A disk that stands still for a while: everything that writes to it stands still with it.
struct Frozen<'a>(&'a Disk);

impl<'a> Frozen<'a> {
    fn freeze(disk: &'a Disk) -> Self {
        disk.run(&["fsfreeze", "--freeze", &disk.mount.display().to_string()]);
        Self(disk)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.run(&["fsfreeze", "--unfreeze", &self.0.mount.display().to_string()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_disk_stands_still_streams_go_on_and_nothing_is_acknowledged() {
    const STILL: Duration = Duration::from_secs(6);
    let dir = server_dir();
    let Some(disk) = Disk::with_a_journal() else {
        return println!("NOT TESTED: a disk that stands still takes root and loop devices");
    };
    let server = start(disk.server(&dir, &[("DUOLOGUE_HEARTBEAT_SECS", "1")]), &dir);
    let (author, talker) = (Witness::of(&server, "author"), Witness::of(&server, "talker"));
    let (session, streaming) = (author.create("helper").await, talker.create("helper").await);
    let run_id = run_of(&talker.must(chat(&streaming, "/count 100000 20")).await);
    talker.until_streaming(&run_id, 1).await;

    let frozen = Frozen::freeze(&disk);
    let still = Instant::now();
    let answers: Vec<_> =
        (0..20).map(|number| author.send(chat(&session, &format!("/echo {number}")))).collect();
    while still.elapsed() < STILL {
        let shown = text_of(&talker, &run_id);
        talker.until_streaming(&run_id, shown + 20).await;
        assert_eq!(server.get("/health").await.0, 200);
    }
    let accepted = author.notes().commands.values().filter(|asked| asked.accepted().is_some()).count();
    assert_eq!(accepted, 1, "only the session's creation: what is not written is not acknowledged");
    drop(frozen);

    let all_answered = |notes: &Notes| notes.commands.values().all(|asked| asked.accepted().is_some());
    for _ in 0..400 {
        if all_answered(&author.notes()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if !all_answered(&author.notes()) {
        tell_where_it_hangs(&server, &author);
    }
    for answer in answers {
        within("an answer", answer).await.expect("the witness lives").expect("it is accepted at last");
    }
    talker.must(crate::support::stop(&streaming, json!({ "run_id": run_id }))).await;
    println!("{} refusals", refusals(&author.notes()));
    let (logs, notes) = testimony(&server, vec![author, talker]).await;
    server.kill();
    Oracle::expecting(&[]).assert(&notes, &logs);
    assert_no(&differences(&logs, &logs_in_file(&disk.path(FILE))));
}

/// For whoever has to find out why something is not answered.
fn tell_where_it_hangs(server: &Server, witness: &Witness) {
    for (id, asked) in witness.notes().commands.iter().filter(|(_, asked)| asked.accepted().is_none()) {
        println!("not answered: {id}, sent {} times, {:?}", asked.sent, asked.replies.last());
    }
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs");
    for task in tasks.flatten().map(|task| task.path()) {
        let read = |what: &str| fs::read_to_string(task.join(what)).unwrap_or_default();
        println!("{} {} {}", read("comm").trim(), read("wchan"), read("stack"));
    }
    println!("{}", log_of(server));
}

// ---- files that are somebody else's, or no longer what they were ----

#[tokio::test]
async fn a_second_server_on_the_same_file_is_refused_and_the_first_unharmed() {
    let dir = server_dir();
    let server = start(plain(&dir, &[]), &dir);
    let mut bystander = Bystander::new(&server).await;

    let second = plain(&dir, &[]);
    let here = dir.clone();
    let second = tokio::task::spawn_blocking(move || started(second, &here));
    let second = within("the second to end", second).await.expect("it does not panic");
    let (status, error) = second.expect_err("it cannot start");
    assert_refused(status, &error, &["another"]);
    bystander.notices_nothing().await;
    assert!(!log_of(&server).contains("ERROR"), "{}", log_of(&server));
}

/// The file of a server that was used and stopped, and its directory.
async fn used_file() -> (PathBuf, Vec<u8>) {
    let dir = server_dir();
    let mut server = start(plain(&dir, &[]), &dir);
    let mut client = server.client().await;
    for _ in 0..20 {
        let session = client.create("helper").await;
        client.run(&session, "/count 2000").await;
        client.run(&session, "/count 3000").await;
    }
    server.signal(Signal::SIGTERM);
    assert!(server.ended().await.success());
    // Without pages that are not in use: nobody would miss them.
    let connection = rusqlite::Connection::open(dir.join(FILE)).expect("a database");
    connection.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE);").expect("room");
    drop(connection);
    let bytes = fs::read(dir.join(FILE)).expect("a file");
    assert!(bytes.len() > 100_000, "{} bytes", bytes.len());
    (dir, bytes)
}

fn flip(bytes: &[u8], at: impl IntoIterator<Item = usize>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    at.into_iter().for_each(|at| bytes[at] ^= 0xff);
    bytes
}

#[tokio::test]
async fn a_damaged_file_is_refused_with_what_to_do_and_not_touched() {
    let (dir, sound) = used_file().await;
    let page = usize::from(u16::from_be_bytes([sound[16], sound[17]]));
    let pages = sound.len() / page;
    // One of a tree, as its first byte says: what follows a long text has no form that could be wrong.
    let is_of_tree = |number: &usize| matches!(sound[number * page], 2 | 5 | 10 | 13);
    let middle = (pages / 2..pages).find(is_of_tree).expect("a page of a tree") * page;
    let torn: Vec<(&str, Vec<u8>)> = vec![
        ("cut in the middle", sound[..sound.len() / 2].to_vec()),
        ("cut by a page", sound[..sound.len() - page].to_vec()),
        ("cut in its header", sound[..50].to_vec()),
        ("empty", Vec::new()),
        ("its page size flipped", flip(&sound, [16])),
        ("its number of pages flipped", flip(&sound, [30])),
        ("its version flipped", flip(&sound, [60])),
        ("its root flipped", flip(&sound, 100..108)),
        ("a page in the middle flipped", flip(&sound, (middle..).take(64))),
        ("every tenth page flipped", flip(&sound, (1..pages).step_by(10).map(|number| number * page))),
        ("a page of zeros", {
            let mut bytes = sound.clone();
            bytes[middle..][..page].fill(0);
            bytes
        }),
        ("a page over another", {
            let mut bytes = sound.clone();
            bytes.copy_within(page..2 * page, middle);
            bytes
        }),
    ];
    let mut wrong = Vec::new();
    for (what, bytes) in torn {
        let (said, problem) = refusal_of(&dir, &bytes, &["restore"]);
        println!("{what}: {said}");
        wrong.extend(problem.map(|problem| format!("{what}: {problem}")));
    }
    for (what, bytes) in [
        ("its name flipped", flip(&sound, [3])),
        ("a picture", b"\x89PNG\r\n\x1a\n and so on".to_vec()),
        ("settings", b"[[agents]]\nid = \"helper\"\n".repeat(100)),
        ("another program's database", somebody_elses()),
    ] {
        let (said, problem) = refusal_of(&dir, &bytes, &[FILE]);
        println!("{what}: {said}");
        wrong.extend(problem.map(|problem| format!("{what}: {problem}")));
    }
    assert_no(&wrong);

    // It was the damage.
    fs::write(dir.join(FILE), &sound).expect("it is put back");
    let server = start(plain(&dir, &[]), &dir);
    let mut client = server.client().await;
    assert_eq!(all_sessions(&mut client).await.len(), 20);
}

/// Starts a server and kills it at once; how it has ended by itself, and what it said, if it did not start.
fn probe(dir: &Path) -> Result<(), (ExitStatus, String)> {
    started(plain(dir, &[]), dir)
}

fn started(mut command: Command, dir: &Path) -> Result<(), (ExitStatus, String)> {
    let errors = dir.join("errors");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&errors).expect("a file"));
    let mut server = command.spawn().expect("it runs");
    let mut said = String::new();
    BufReader::new(server.stdout.take().expect("a pipe")).read_line(&mut said).expect("text");
    if said.is_empty() {
        let status = server.wait().expect("it ends");
        return Err((status, fs::read_to_string(errors).expect("text")));
    }
    server.kill().expect("it runs");
    server.wait().expect("it ends");
    Ok(())
}

/// The first line that a server says of a file, and what is wrong with what it does.
fn refusal_of(dir: &Path, bytes: &[u8], says: &[&str]) -> (String, Option<String>) {
    let file = dir.join(FILE);
    for suffix in ["-wal", "-shm", "-journal"] {
        let _ = fs::remove_file(dir.join(format!("{FILE}{suffix}")));
    }
    fs::write(&file, bytes).expect("a file");
    let Err((status, error)) = probe(dir) else {
        return (String::new(), Some("it was taken for a sound one".to_owned()));
    };
    let line = error.lines().next().unwrap_or_default();
    let after = fs::read(&file).expect("a file");
    let problem = if status.code() != Some(2) {
        Some(format!("ended {status}: {error}"))
    } else if after != bytes {
        let at = after.iter().zip(bytes).position(|(after, before)| after != before);
        Some(format!("the file was changed, from {} to {} bytes, at {at:?}", bytes.len(), after.len()))
    } else {
        says.iter()
            .find(|words| !line.contains(**words))
            .map(|words| format!("does not say {words:?}: {error}"))
    };
    (line.to_owned(), problem)
}

/// What was written last is in a log beside the file. Where some of that is lost, the server does not start, or says
/// to clients that what they know is not what there is.
#[tokio::test]
async fn a_damaged_write_ahead_log_is_refused_or_told() {
    let dir = server_dir();
    let wal = |dir: &Path| dir.join(format!("{FILE}-wal"));
    let server = start(plain(&dir, &[]), &dir);
    let mut client = server.client().await;
    let session = client.create("helper").await;
    for _ in 0..20 {
        client.run(&session, "/echo hello").await;
    }
    let before = client.history(&session).await;
    server.kill();
    let bytes = fs::read(wal(&dir)).expect("a log");
    let mut wrong = Vec::new();
    for (what, bytes) in [
        ("flipped in the middle", flip(&bytes, [bytes.len() / 2])),
        ("cut in the middle", bytes[..bytes.len() / 2].to_vec()),
        ("flipped in its header", flip(&bytes, [1])),
        ("empty", Vec::new()),
    ] {
        let dir_of_this = server_dir();
        fs::copy(dir.join(FILE), dir_of_this.join(FILE)).expect("a copy");
        fs::write(wal(&dir_of_this), &bytes).expect("a copy");
        if let Err((status, error)) = probe(&dir_of_this) {
            println!("{what}: {error}");
            assert_eq!(status.code(), Some(2), "{error}");
            continue;
        }
        let log = fs::read_to_string(dir_of_this.join("errors")).expect("text");
        let server = start(plain(&dir_of_this, &[]), &dir_of_this);
        let mut client = server.client().await;
        let Some(now) = all_sessions(&mut client).await.pop() else {
            if !log.contains("it may lack what clients saw") {
                wrong.push(format!("{what}: the session is gone, and nothing says so"));
            }
            continue;
        };
        let log = client.history(&session).await;
        let kept = log.iter().zip(&before).take_while(|(now, before)| now == before).count();
        if now["epoch"] == before[0]["epoch"] && kept < before.len() {
            wrong.push(format!(
                "{what}: {} of {} events are gone, and the epoch is still {}; in their place is {:?}",
                before.len() - kept,
                before.len(),
                now["epoch"],
                log.get(kept).map(|event| (&event["seq"], &event["type"]))
            ));
        }
    }
    assert_no(&wrong);

    // Where it was, what lies beside it tells how much there was: however often it is tried.
    for (what, bytes) in [
        ("flipped in the middle", flip(&bytes, [bytes.len() / 2])),
        ("cut in the middle", bytes[..bytes.len() / 2].to_vec()),
        ("cut by a byte", bytes[..bytes.len() - 1].to_vec()),
        ("flipped in its header", flip(&bytes, [1])),
        ("empty", Vec::new()),
    ] {
        let dir_of_this = server_dir();
        for suffix in ["", "-shm", ".lock"] {
            let name = format!("{FILE}{suffix}");
            fs::copy(dir.join(&name), dir_of_this.join(&name)).expect("a copy");
        }
        fs::write(wal(&dir_of_this), &bytes).expect("a copy");
        // Nor does it help to look at it by other means first.
        for arguments in [&["export", session.as_str()][..], &["backup", "copy.db"], &["check"]] {
            let looked = plain(&dir_of_this, &[]).args(arguments).output().expect("it runs");
            assert!(!looked.status.success(), "{what}: {arguments:?} {looked:?}");
        }
        for _ in 0..2 {
            let Err((status, error)) = probe(&dir_of_this) else { panic!("{what}: it was taken for sound") };
            assert_eq!(status.code(), Some(2), "{what}: {error}");
            assert!(error.lines().next().is_some_and(|line| line.contains("restore")), "{what}: {error}");
        }
        assert_eq!(fs::read(wal(&dir_of_this)).expect("a log"), bytes, "{what}: it is as it was");
    }
}

fn somebody_elses() -> Vec<u8> {
    let path = scratch_dir().join("other.db");
    let connection = rusqlite::Connection::open(&path).expect("a database");
    connection
        .execute_batch("CREATE TABLE recipes (name TEXT); INSERT INTO recipes VALUES ('bread');")
        .expect("a table");
    drop(connection);
    fs::read(path).expect("a file")
}
