#!/usr/bin/env bash
# Measures what is promised of speed and memory, and prints it as a Markdown table.
#
# Processor time is compared with a server on plain axum: both are measured in turn, three times, and the medians
# set against each other, so that the ratios hold on a busy machine as well. The other figures are the best of
# three runs, and need a quiet one: the load comes from the same processors. Needs bash, cargo, python3, and Linux
# for /proc. Takes a quarter of an hour after the build.
#
#   benches/figures.sh > figures.md
#   ROUNDS=5 benches/figures.sh      # more rounds
#   KEEP=dir benches/figures.sh      # keeps each run's JSON there
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
rounds=${ROUNDS:-3}
server=
scratch=$(mktemp -d)
results=${KEEP:-$scratch/results}
mkdir -p "$results"
results=$(cd "$results" && pwd)
rm -f "$results"/*.json

stop() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
        rm -rf "$scratch"/server.*
        server=
    fi
}
trap 'stop; let_sleep; rm -rf "$scratch"' EXIT
trap 'exit 1' INT TERM

# A processor that sleeps takes 20 to 50 us to wake, in a virtual machine above all: an echo that crosses threads
# waits for that several times. On a server with anything to do they are awake.
spinners=()
keep_awake() {
    for _ in $(seq "$(nproc)"); do
        nice -n 19 sh -c 'while :; do :; done' &
        spinners+=($!)
    done
}
let_sleep() {
    for spinner in "${spinners[@]}"; do
        kill "$spinner" 2>/dev/null || true
        wait "$spinner" 2>/dev/null || true
    done
    spinners=()
}

say() { echo "$@" >&2; }

# The peer opens as many files as it finds it may; ours raises the limit itself.
ulimit -Sn "$(ulimit -Hn)"

say "building"
(cd "$root" && cargo build --release --quiet)
(cd "$root/benches/axum-peer" && cargo build --release --quiet)
duologue=${CARGO_TARGET_DIR:-$root/target}/release/duologue
peer=${CARGO_TARGET_DIR:-$root/benches/axum-peer/target}/release/axum-peer

# serve DIR SETTINGS...: our server, with what is in that directory.
serve() {
    local dir=$1
    shift
    exec 3< <(cd "$dir" && exec env -i DUOLOGUE_BIND=127.0.0.1:0 DUOLOGUE_AGENTS="$root/agents.toml" \
        RUST_LOG=error "$@" "$duologue" serve)
}

# start NAME [DIR]: a server on a free port, with its defaults and an empty store, or that of a directory. Sets
# $server and $url.
start() {
    local line dir
    dir=${2:-$(mktemp -d "$scratch/server.XXXXXX")}
    case $1 in
    ours | normal) serve "$dir" ;;
    memory) serve "$dir" DUOLOGUE_STORE=memory: ;;
    full) serve "$dir" DUOLOGUE_DURABILITY=full ;;
    axum) exec 3< <(exec "$peer") ;;
    gathering) exec 3< <(exec "$peer" gather) ;;
    esac
    server=$!
    if ! read -r line <&3; then
        say "the server $1 has not started"
        exit 1
    fi
    url=${line#listening on }
}

# measure FIGURE SERVER ROUND OPTIONS...: one run of the load, against a fresh server.
measure() {
    local figure=$1 name=$2 round=$3
    shift 3
    say "round $round of $rounds: $figure, $name"
    start "$name"
    # A run in which something was lost is no figure: it ends the script, with the reason on standard error.
    "$duologue" bench --url "$url" --pid "$server" --json "$@" >"$results/$figure-$name-$round.json"
    stop
    exec 3<&-
}

# stores FIGURE OPTIONS...: the same load on each store, one right after the other.
stores() {
    local figure=$1 name
    shift
    for name in memory normal full; do
        measure "$figure" "$name" "$round" "$@"
    done
}

# rss PID: memory of its own that is in RAM, in KiB.
rss() { awk '/^RssAnon/ { print $2 }' "/proc/$1/status"; }

# long_session NAME: opens a session of 10,000 messages again and again, at a server that has just started.
long_session() {
    local dir=$scratch/long-$1 name=$1
    mkdir "$dir"
    say "round $round of $rounds: a session of 10,000 messages, $name"
    start "$name" "$dir"
    seq 5000 | sed 's|^|/echo a message of a few words, number |' | "$duologue" chat writer --url "$url" >/dev/null
    if [ "$name" != memory ]; then
        stop
        exec 3<&-
        start "$name" "$dir"
    fi
    python3 "$root/benches/open_session.py" "$url" >"$results/long-$name-$round.json"
    stop
    exec 3<&-
    rm -r "$dir"
}

# both FIGURE OPTIONS...: ours and axum's, one right after the other.
both() {
    local figure=$1
    shift
    measure "$figure" ours "$round" "$@"
    measure "$figure" axum "$round" "$@"
}

for round in $(seq "$rounds"); do
    both paced --sessions 500 --messages 2 --tokens 200 --rate 40
    both steady --sessions 500 --messages 2 --tokens 200 --rate 40 --steady
    burst=(--sessions 500 --messages 4 --tokens 400)
    both burst "${burst[@]}"
    measure burst gathering "$round" "${burst[@]}"
    both echo --sessions 1 --messages 5000 --tokens 1
    keep_awake
    both awake --sessions 1 --messages 5000 --tokens 1
    let_sleep
    both open --sessions 2000 --messages 0
    both use --sessions 2000 --messages 1 --tokens 40 --rate 20
    measure reconnect ours "$round" --sessions 1000 --messages 1 --tokens 1 --reconnect
    measure watchers ours "$round" --sessions 1 --messages 10 --tokens 40 --rate 40 --watchers 500
    stores burst "${burst[@]}"
    stores busy --sessions 1000 --messages 3 --tokens 40 --rate 20 --steady
    stores echo --sessions 1 --messages 5000 --tokens 1
    keep_awake
    stores awake --sessions 1 --messages 5000 --tokens 1
    let_sleep
    stores open --sessions 2000 --messages 0
    for name in memory normal; do
        long_session "$name"
    done
done

# Sessions that nobody uses: 2,000 at a time, as each has two sockets while it is made.
stored=$scratch/stored
mkdir "$stored"
start normal "$stored"
for hundred in $(seq 50); do
    say "storing sessions: $hundred of 50"
    "$duologue" bench --url "$url" --json --sessions 2000 --messages 1 --tokens 20 >/dev/null
done
stop
exec 3<&-
for directory in "$stored" ""; do
    name=$([ -n "$directory" ] && echo stored || echo empty)
    start normal "$directory"
    rss "$server" >"$results/$name.start"
    "$duologue" bench --url "$url" --json --sessions 100 --messages 2 --tokens 20 >/dev/null
    rss "$server" >"$results/$name.hundred"
    stop
    exec 3<&-
done

python3 - "$results" <<'PYTHON'
import glob, json, os, re, statistics, sys

runs = {}
for path in glob.glob(os.path.join(sys.argv[1], "*.json")):
    figure, name, _ = re.fullmatch(r"(\w+)-(\w+)-(\d+)", os.path.basename(path)[: -len(".json")]).groups()
    with open(path) as file:
        runs.setdefault((figure, name), []).append(json.load(file))


def values(figure, name, field):
    """One field of each run, such as run_ms.p99."""
    found = []
    for run in runs.get((figure, name), []):
        for part in field.split("."):
            run = run[part]
        found.append(run)
    return found


def row(what, ours, axum=None, most=None, least=None, digits=1):
    target = f"≤ {most:,}" if most is not None else f"≥ {least:,}" if least is not None else ""
    met = (most is None or ours <= most) and (least is None or ours >= least)
    verdict = "" if not target else "met" if met else "**missed**"
    show = lambda number: "" if number is None else f"{number:,.{digits}f}"
    print(f"| {what} | {target} | {show(ours)} | {show(axum)} | {verdict} |")


def compare(what, figure, most, peer="axum"):
    """Ours and the peer's, and how many times the peer's ours is."""
    field = "server_cpu_us_per_delta"
    ours, theirs = (statistics.median(values(figure, name, field)) for name in ("ours", peer))
    row(f"server CPU, µs a delta, {what}", ours, theirs, digits=2)
    row("… as a multiple of axum's", ours / theirs, most=most, digits=2)


def best(what, figure, field, digits=1, scale=1, most=None, least=None):
    pick = min if least is None else max
    ours, axum = (
        pick(found) / scale if (found := values(figure, name, field)) else None for name in ("ours", "axum")
    )
    row(what, ours, axum, most, least, digits)


print("| figure | target | ours | axum, untuned | verdict |")
print("|---|--:|--:|--:|---|")
compare("500 sessions × 40/s", "paced", 1.5)
compare("the same, not in waves", "steady", None)
compare("500 sessions in a burst", "burst", 1)
compare("the same, axum made to gather what is ready", "burst", None, peer="gathering")
best("echo, ms, p50", "echo", "first_delta_ms.p50", digits=3)
best("echo, ms, p99", "echo", "first_delta_ms.p99", digits=3, most=0.2)
best("echo, ms, p50, processors kept awake", "awake", "first_delta_ms.p50", digits=3)
best("echo, ms, p99, processors kept awake", "awake", "first_delta_ms.p99", digits=3, most=0.2)
best("echo to the end of its run, ms, p99", "echo", "run_ms.p99", digits=3)
best("sessions opened a second", "open", "sessions_per_second", digits=0, least=5000)
best("KiB a session, idle", "use", "idle_bytes_per_session", scale=1024, most=32)
best("KiB a session, after a message", "use", "bytes_per_session", scale=1024, most=48)
best("1,000 clients dropped, back again, ms, p50", "reconnect", "reconnect_ms.p50", digits=0)
best("… all of them", "reconnect", "all_back_ms", digits=0, most=150)
best("500 watchers, from first to last, ms, p50", "watchers", "spread_ms.p50", digits=2)
best("… p99", "watchers", "spread_ms.p99", digits=2, most=6)

print("\n| | memory | normal | full | normal / memory |")
print("|---|--:|--:|--:|--:|")


def durability(what, figure, field, digits=1, middle=statistics.median, names=("memory", "normal", "full")):
    found = [middle(values(figure, name, field)) for name in names]
    cells = [f"{number:,.{digits}f}" for number in found] + [""] * (3 - len(found))
    print(f"| {what} | {' | '.join(cells)} | {found[1] / found[0]:.2f} |")


durability("deltas a second, 500 sessions in a burst", "burst", "deltas_per_second", 0)
durability("server CPU, µs a delta, the same", "burst", "server_cpu_us_per_delta", 2)
durability("acknowledgement, ms, p50, 1,000 busy sessions", "busy", "acknowledged_ms.p50", 2)
durability("… p99", "busy", "acknowledged_ms.p99", 2)
durability("acknowledgement, ms, p50, one session", "echo", "acknowledged_ms.p50", 3, min)
durability("… p99", "echo", "acknowledged_ms.p99", 3, min)
durability("echo, ms, p99, one session", "echo", "first_delta_ms.p99", 3, min)
durability("the same, processors kept awake", "awake", "first_delta_ms.p99", 3, min)
durability("sessions opened a second", "open", "sessions_per_second", 0, max)
durability("opening a session of 10,000 messages, ms, p50", "long", "opened_ms.p50", 2, min, ("memory", "normal"))


def kib(name):
    with open(os.path.join(sys.argv[1], name)) as file:
        return int(file.read()) / 1024


print("\n| memory of the server, MiB | nothing stored | 100,000 sessions stored |")
print("|---|--:|--:|")
print(f"| at its start | {kib('empty.start'):.1f} | {kib('stored.start'):.1f} |")
print(f"| after 100 sessions were used | {kib('empty.hundred'):.1f} | {kib('stored.hundred'):.1f} |")

model = next(
    (line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?"
)
print(f"\n{os.cpu_count()} processors ({model}), the load on the same ones; {len(runs['paced', 'ours'])} rounds.")
print("Processor time is the median, the rest the best. axum has no log, no replay and no bounds.")
PYTHON
