//! A process of this machine as /proc shows it: processor time, memory, descriptors.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// A process to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
}

/// A process at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The moment.
    pub at: Instant,
    /// User and system time of all threads since its start, in steps of 10 ms.
    pub cpu: Duration,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Open descriptors.
    pub descriptors: u64,
}

impl Process {
    /// The process that listens on a TCP address of this machine; `None` when it cannot be seen.
    pub fn listening(addr: SocketAddr) -> Option<Self> {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
        let inode = tables
            .iter()
            .filter_map(|table| std::fs::read_to_string(table).ok())
            .find_map(|table| listener(&table, addr.port()))?;
        let wanted = format!("socket:[{inode}]");
        let processes = std::fs::read_dir("/proc").ok()?.flatten();
        let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.find(|pid| has_descriptor(*pid, &wanted))
            .map(|pid| Self { pid })
    }

    /// How it is now; `None` when it is gone.
    pub fn sample(self) -> Option<Sample> {
        let folder = format!("/proc/{}", self.pid);
        let stat = std::fs::read_to_string(format!("{folder}/stat")).ok()?;
        let status = std::fs::read_to_string(format!("{folder}/status")).ok()?;
        let descriptors = std::fs::read_dir(format!("{folder}/fd")).ok();
        Some(Sample {
            at: Instant::now(),
            cpu: cpu_of(&stat)?,
            rss_bytes: rss_of(&status)?,
            descriptors: descriptors.map_or(0, |entries| entries.count() as u64),
        })
    }
}

/// The inode of the socket that listens on a port, in a table of /proc/net.
fn listener(table: &str, port: u16) -> Option<u64> {
    let port = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_it = words.get(1)?.ends_with(&port) && *words.get(3)? == LISTENING;
        is_it.then(|| words.get(9)?.parse().ok()).flatten()
    })
}

fn has_descriptor(pid: u32, wanted: &str) -> bool {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd"));
    let mut entries = entries.into_iter().flatten().flatten();
    entries.any(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to == Path::new(wanted)))
}

/// The 14th and 15th field of `stat`, counted behind the name, which may hold anything.
fn cpu_of(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut words = rest.split_whitespace().skip(11);
    let ticks: u64 = words.next()?.parse::<u64>().ok()? + words.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

fn rss_of(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

/// TCP_LISTEN, as /proc/net/tcp writes states.
const LISTENING: &str = "0A";
/// USER_HZ, which is 100 on every Linux.
const TICKS_PER_SECOND: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_read() {
        let stat = "7 (a name) with) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 3 0 1 2 3";
        assert_eq!(cpu_of(stat), Some(Duration::from_secs(3)));
        assert_eq!(rss_of("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1\n\
            1: 0100007F:1F91 00000000:0000 01 00000000:00000000 00:00000000 00000000 0 0 4712 1\n";
        assert_eq!(listener(table, 8080), Some(4711));
        assert_eq!(listener(table, 8081), None);
    }

    #[test]
    fn a_process_finds_itself() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = Process::listening(socket.local_addr().unwrap()).unwrap();
        assert_eq!(found.pid, std::process::id());
        let sample = found.sample().unwrap();
        assert!(sample.rss_bytes > 0 && sample.descriptors > 0);
    }
}
