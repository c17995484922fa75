//! What the operating system says of this process, under the names that Prometheus's own libraries use.
//!
//! It is read when someone asks for the metrics, from `/proc`; where there is none, there is nothing to tell.

use std::fs;

use metrics::gauge;

/// Sets the gauges.
pub(super) fn measure() {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    set("process_open_fds", open_files());
    set("process_max_fds", open_files_most(&read("/proc/self/limits")));
    set(
        "process_resident_memory_bytes",
        kibibytes(&read("/proc/self/status"), "VmRSS:"),
    );
    let limits = [
        read("/sys/fs/cgroup/memory.max").trim().parse().ok(),
        kibibytes(&read("/proc/meminfo"), "MemTotal:"),
    ];
    // The less of what this container and what this machine has.
    set("countersign_memory_limit_bytes", limits.into_iter().flatten().min());
}

fn set(name: &'static str, value: Option<u64>) {
    if let Some(value) = value {
        gauge!(name).set(value as f64);
    }
}

/// Linux 6.2 and later say it as the size of the folder; before, its entries are counted.
fn open_files() -> Option<u64> {
    let folder = "/proc/self/fd";
    match fs::metadata(folder).ok()?.len() {
        0 => Some(fs::read_dir(folder).ok()?.count() as u64),
        count => Some(count),
    }
}

/// The limit that is in force: `Max open files  1024  4096  files`.
fn open_files_most(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The bytes of a line such as `VmRSS:   1234 kB`.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let count: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    count.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_read() {
        let limits =
            "Limit  Soft  Hard  Units\nMax open files            20000                524288               files\n";
        assert_eq!(open_files_most(limits), Some(20_000));
        assert_eq!(open_files_most("Max open files  unlimited  unlimited  files"), None);
        assert_eq!(kibibytes("Name:\tx\nVmRSS:\t    2048 kB\n", "VmRSS:"), Some(2 << 20));
        assert_eq!(kibibytes("VmRSS:\t 2048", "VmRSS:"), None);
    }

    #[test]
    fn each_open_file_counts() {
        let before = open_files().unwrap();
        let _open: Vec<_> = (0..64).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        // Other tests in this process open and close some, too.
        assert!(open_files().unwrap() >= before + 32);
    }
}
