//! Processes: what the server's takes, and what this one may open.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files that a process has open beside its sockets, generously.
const OTHER_FILES: u64 = 64;

/// Memory that has not fallen for so long is level.
const LEVEL_FOR: Duration = Duration::from_secs(2);
/// So long is waited for that.
const REST_AT_MOST: Duration = Duration::from_secs(8);

/// What the server's process takes, where its id is known.
#[derive(Debug, Clone, Copy)]
pub struct Meter(pub Option<u32>);

impl Meter {
    /// Memory that is in RAM, in bytes.
    pub fn memory(self) -> anyhow::Result<Option<u64>> {
        self.0.map(resident_bytes).transpose()
    }

    /// The same once it no longer falls: what was in use a moment ago is given back within seconds.
    pub async fn memory_at_rest(self) -> anyhow::Result<Option<u64>> {
        let Some(mut least) = self.memory()? else { return Ok(None) };
        let (began, mut fell) = (Instant::now(), Instant::now());
        while fell.elapsed() < LEVEL_FOR && began.elapsed() < REST_AT_MOST {
            tokio::time::sleep(LEVEL_FOR / 8).await;
            let now = self.memory()?.unwrap_or(least);
            if now < least {
                (least, fell) = (now, Instant::now());
            }
        }
        Ok(Some(least))
    }

    /// Processor time, its own and the kernel's for it.
    pub fn cpu(self) -> anyhow::Result<Option<Duration>> {
        self.0.map(cpu_time).transpose()
    }
}

fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = read_proc(pid, "status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kib.context("no VmRSS in /proc")? * 1024)
}

fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    /// Ticks of /proc a second; the same on all Linux systems that programs see.
    const TICKS: u64 = 100;
    let stat = read_proc(pid, "stat")?;
    // The second field is a name in brackets that may hold anything; utime and stime are 14 and 15.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: Vec<u64> =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    ensure!(ticks.len() == 2, "no processor time in /proc");
    Ok(Duration::from_millis((ticks[0] + ticks[1]) * 1000 / TICKS))
}

fn read_proc(pid: u32, file: &str) -> anyhow::Result<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}")).with_context(|| {
        format!("process {pid} cannot be measured; --pid needs Linux and the server's own id")
    })
}

/// Sees to it that this process may open so many sockets.
pub fn make_room_for(sockets: usize) -> anyhow::Result<()> {
    let needed = (sockets as u64).saturating_add(OTHER_FILES);
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("the limit of open files is not known")?;
    ensure!(
        needed <= hard,
        "{sockets} sockets are {needed} open files, and this process may have {hard}: raise the limit \
         (`ulimit -Hn {needed}`, as root), or ask for fewer"
    );
    if needed > soft {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("the limit of open files cannot be raised")?;
    }
    Ok(())
}
