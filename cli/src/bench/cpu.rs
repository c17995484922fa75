//! What processes have used: CPU time and memory, from `/proc`.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, anyhow};

/// `USER_HZ`: the unit of `/proc/<pid>/stat` is 1/100 s on every Linux (proc(5), sysconf(3)).
const MICROSECONDS_PER_TICK: u64 = 10_000;

/// The listening state in `/proc/net/tcp`.
const TCP_LISTEN: &str = "0A";

/// A process that is watched.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    /// What it is, for the table: `terminator`, `broker`.
    pub(crate) name: String,
    /// Its id; none if it cannot be seen from here.
    pub(crate) pid: Option<u32>,
}

/// The CPU time that a process has used so far, all its threads and both modes, in microseconds.
pub(crate) fn used_us(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse_stat(&stat).ok_or_else(|| anyhow!("{path} is not as proc(5) says"))
}

/// Fields 14 and 15 of `stat`; the second field is a name in parentheses that may hold anything.
fn parse_stat(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * MICROSECONDS_PER_TICK)
}

/// The resident memory of a process, in bytes (`VmRSS`).
pub(crate) fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix("kB")?
                .trim()
                .parse::<u64>()
                .ok()
        })
        .map(|kib| kib * 1_024)
        .ok_or_else(|| anyhow!("{path} has no VmRSS"))
}

/// The process that listens on a port of this machine; none if it is elsewhere, or not ours to see.
pub(crate) fn listener(address: IpAddr, port: u16) -> Option<u32> {
    if !address.is_loopback() {
        return None;
    }
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .find_map(|table| listening_inode(&table, port))?;
    owner_of(&format!("socket:[{inode}]"))
}

fn listening_inode(table: &str, port: u16) -> Option<u64> {
    let port = format!("{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let listens = fields.get(3) == Some(&TCP_LISTEN) && fields.get(1)?.rsplit_once(':')?.1 == port;
        listens.then(|| fields.get(9)?.parse().ok())?
    })
}

fn owner_of(socket: &str) -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(|pid: &u32| has_open(&format!("/proc/{pid}/fd"), socket))
}

fn has_open(folder: &str, socket: &str) -> bool {
    let Ok(entries) = fs::read_dir(folder) else {
        return false;
    };
    entries
        .filter_map(Result::ok)
        .any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == Path::new(socket)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    #[test]
    fn the_name_of_a_process_may_hold_anything() {
        let stat = "7 (a) R 1 (b) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0 20 0";
        assert_eq!(parse_stat(stat), Some(42 * MICROSECONDS_PER_TICK));
        assert_eq!(parse_stat("7 (a"), None);
    }

    #[test]
    fn whoever_listens_is_found_by_the_port() {
        let listener_socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener_socket.local_addr().unwrap().port();
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(listener(loopback, port), Some(std::process::id()));
        assert_eq!(listener(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), port), None);
    }

    #[test]
    fn this_process_has_memory_and_has_used_some_time() {
        assert!(resident_bytes(std::process::id()).unwrap() > 100 * 1_024);
        assert!(used_us(std::process::id()).is_ok());
        assert!(used_us(u32::MAX).is_err());
    }
}
