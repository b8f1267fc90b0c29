//! A server that does all that no server should, over its standard input and output.

use futures_util::future::join;

use super::*;

#[tokio::test]
async fn one_that_hangs_at_its_start_is_given_up() {
    let bed = Bed::misbehaving_with(&["--silent"], |options| options.start_timeout = SOON);
    let session = bed.open();

    assert_eq!(session.names().await, [""; 0]);
    let failure = session.failure("echo", json!({ "text": "a" })).await;
    assert!(failure.contains("the tools of the server \"acme\" are not available now"), "{failure}");
    bed.source.close().await;
}

#[tokio::test]
async fn one_that_ends_at_once_or_is_not_there_says_why() {
    for (transport, expected) in [
        (
            program_of("node", &[&misbehaving().to_string_lossy(), "--dead"]),
            vec!["exit status: 4", "there is no such folder: /nowhere"],
        ),
        (program_of("no-such-program", &[]), vec!["there is no program \"no-such-program\"; install it"]),
        (program_of("/etc/passwd", &[]), vec!["\"/etc/passwd\" is no program that may be run"]),
    ] {
        let bed = Bed::new(transport, |_| ());

        let why = within("a reason", bed.source.probe()).await.expect_err("a failure");

        for expected in expected {
            assert!(why.contains(expected), "{why}");
        }
        let failure = bed.open().failure("echo", json!({ "text": "a" })).await;
        assert!(failure.contains("not available now") && !failure.contains("nowhere"), "{failure}");
        bed.source.close().await;
    }
}

#[tokio::test]
async fn one_that_hangs_in_a_call_costs_that_call_and_is_told_to_give_up() {
    let journal = scratch_dir().join("journal");
    let flag = format!("--journal={}", journal.display());
    let bed = Bed::misbehaving_with(&[&flag], |options| options.call_timeout = SOON);
    let session = bed.open();
    let pid = session.pid().await;

    let failure = session.failure("hang", json!({})).await;

    assert!(failure.contains("did not answer in 3 s") && failure.contains("not known"), "{failure}");
    let heard = || std::fs::read_to_string(&journal).expect("a journal");
    until("the word to give up", async || heard().contains("notifications/cancelled")).await;
    assert_eq!(session.pid().await, pid);
    bed.source.close().await;
}

#[tokio::test]
async fn one_that_answers_nothing_any_more_is_started_again() {
    let bed = Bed::misbehaving_with(&[], |options| options.call_timeout = SOON);
    let session = bed.open();
    let pid = session.pid().await;

    assert!(session.failure("freeze", json!({})).await.contains("did not answer in 3 s"));

    until("its end", async || !runs(pid)).await;
    until("its second life", async || !session.names().await.is_empty()).await;
    assert_ne!(session.pid().await, pid);
    bed.source.close().await;
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_fails_its_call() {
    let bed = Bed::misbehaving(&[]);
    let session = bed.open();

    let failure = session.failure("deep", json!({})).await;

    assert!(failure.contains("its answer cannot be read"), "{failure}");
    assert_eq!(session.echo("hello").await, "hello");
    bed.source.close().await;
}

#[tokio::test]
async fn one_that_dies_fails_what_it_was_asked_and_is_started_again() {
    let dir = scratch_dir();
    let (journal, dead) = (dir.join("journal"), dir.join("dead"));
    let flags = [format!("--journal={}", journal.display()), format!("--dead-while={}", dead.display())];
    let bed = Bed::misbehaving(&[&flags[0], &flags[1]]);
    let session = bed.open();
    let pid = session.pid().await;
    std::fs::write(&dead, "").expect("a file");

    let (hanging, dying) = join(session.failure("hang", json!({})), session.failure("die", json!({}))).await;

    for failure in [hanging, dying] {
        assert!(failure.contains("was lost during the call") && failure.contains("not known"), "{failure}");
    }
    assert_eq!(session.names().await, [""; 0], "its tools are not available until it is up again");
    assert!(session.0.check("echo", &json!({})).is_err(), "what its tools take is still known");
    let described = within("a description", bed.source.describe()).await;
    assert!(described.iter().any(|tool| tool.spec.name == "echo" && !tool.available), "{described:?}");
    std::fs::remove_file(&dead).expect("a file");
    until("its second life", async || !session.names().await.is_empty()).await;
    assert_ne!(session.pid().await, pid);
    let heard = std::fs::read_to_string(&journal).expect("a journal");
    assert_eq!(heard.matches("\"die\"").count(), 1, "no call is made twice");
    assert_eq!(heard.matches("\"hang\"").count(), 1, "no call is made twice");
    bed.source.close().await;
}

#[tokio::test]
async fn an_answer_of_fifty_megabytes_is_streamed_past_and_costs_its_call() {
    let bed = Bed::misbehaving(&[]);
    let session = bed.open();
    let pid = session.pid().await;
    let before = own_memory();
    let peak = Peak::watch();

    for tool in ["huge_first", "huge_last"] {
        let failure = session.failure(tool, json!({})).await;
        assert!(
            failure.contains("its answer has 500000") && failure.contains("at most 16777216"),
            "{failure}"
        );
        assert_eq!(session.pid().await, pid, "the connection stays");
    }

    let grown = peak.reached().saturating_sub(before);
    assert!(grown < 40_000_000, "{grown} bytes for an answer that nobody gets");
    bed.source.close().await;
}

#[tokio::test]
async fn an_answer_that_is_too_large_to_find_out_whose_it_is_costs_the_connection() {
    let bed = Bed::misbehaving(&[]);
    let session = bed.open();
    let pid = session.pid().await;

    let failure = session.failure("huge_without_id", json!({})).await;

    assert!(failure.contains("was lost during the call"), "{failure}");
    until("another connection", async || !session.names().await.is_empty()).await;
    assert_ne!(session.pid().await, pid);
    bed.source.close().await;
}

#[tokio::test]
async fn a_list_over_many_pages_is_put_together_and_one_without_end_is_cut() {
    for (flags, expected) in [
        (vec!["--tools=500", "--page=37"], 515),
        (vec!["--tools=5000", "--page=500"], 1000),
        (vec!["--endless"], 100),
    ] {
        let bed = Bed::misbehaving(&flags);
        assert_eq!(bed.open().names().await.len(), expected, "{flags:?}");
        bed.source.close().await;
    }
}

#[tokio::test]
async fn what_is_no_message_is_skipped() {
    let bed = Bed::misbehaving(&["--garbage"]);

    assert_eq!(bed.open().echo("hello").await, "hello");
    bed.source.close().await;
}

#[tokio::test]
async fn a_flood_of_words_holds_nothing_up() {
    let bed = Bed::misbehaving(&["--flood"]);
    let session = bed.open();

    for _ in 0..20 {
        assert_eq!(session.echo("hello").await, "hello");
    }
    bed.source.close().await;
}

#[tokio::test]
async fn a_flood_of_requests_and_notifications_is_survived() {
    let bed = Bed::misbehaving(&[]);
    let session = bed.open();

    assert_eq!(session.text("ping_us", json!({})).await, "pinged");

    assert_eq!(session.echo("hello").await, "hello");
    bed.source.close().await;
}

#[tokio::test]
async fn an_unknown_tool_is_a_failure_whichever_way_the_server_says_so() {
    let bed = Bed::misbehaving(&[]);
    let session = bed.open();

    assert!(session.failure("refuse", json!({})).await.contains("Unknown tool: refuse"));
    assert_eq!(session.failure("fail", json!({})).await, "no tool \"fail\" here");
    bed.source.close().await;
}

#[tokio::test]
async fn what_a_program_starts_ends_with_it_however_it_ends() {
    for flags in [vec![], vec!["--stubborn"]] {
        let pids = scratch_dir().join("pids");
        let flag = format!("--grandchild={}", pids.display());
        let flags: Vec<_> = flags.into_iter().chain([flag.as_str()]).collect();
        let family = || -> Vec<u32> {
            let pids = std::fs::read_to_string(&pids).expect("its pids");
            pids.split(' ').map(|pid| pid.parse().expect("a number")).collect()
        };

        let bed = Bed::misbehaving(&flags);
        let session = bed.open();
        assert_eq!(session.echo("hello").await, "hello");
        let pids = family();
        assert!(pids.iter().all(|pid| runs(*pid)), "{pids:?}");
        bed.source.close().await;
        until("the end of all", async || !pids.iter().any(|pid| runs(*pid))).await;

        let bed = Bed::misbehaving(&flags);
        let session = bed.open();
        assert_eq!(session.echo("hello").await, "hello");
        let pids = family();
        session.failure("die", json!({})).await;
        until("the end of all", async || !pids.iter().any(|pid| runs(*pid))).await;
        bed.source.close().await;

        let bed = Bed::misbehaving(&flags);
        assert_eq!(bed.open().echo("hello").await, "hello");
        let pids = family();
        // The thread that works for tools goes without a word.
        drop(bed);
        until("the end of all", async || !pids.iter().any(|pid| runs(*pid))).await;
    }
}

// ---- memory ----

/// Memory of this process that is its own, in bytes.
fn own_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
}

/// The most memory that was in use while it watched.
struct Peak {
    stop: std::sync::mpsc::Sender<()>,
    watch: std::thread::JoinHandle<u64>,
}

impl Peak {
    fn watch() -> Self {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let watch = std::thread::spawn(move || {
            let mut peak = own_memory();
            while stopped.recv_timeout(Duration::from_millis(2))
                == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                peak = peak.max(own_memory());
            }
            peak
        });
        Self { stop, watch }
    }

    fn reached(self) -> u64 {
        drop(self.stop);
        self.watch.join().expect("it watched")
    }
}
