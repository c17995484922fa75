//! Everything the harness starts dies with the test process, and its folders go.
//!
//! A destructor is no promise: a test process can be killed, and statics are never dropped. So one `sh` holds the read
//! end of a pipe whose only writer is this process. Over it the shell is told each process group as it starts and ends;
//! when the pipe closes, however that came about, the shell kills the groups that are left, by id, and removes the
//! folder in which all the others lie.

use std::{
    env, fs,
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// `$1` is the folder. Lines are `+ id` and `- id`. Signals for the terminal's foreground group are not for us.
const SCRIPT: &str = r#"
trap '' HUP INT QUIT TERM
alive=' '
while read -r sign id; do
    case $sign in
        +) alive="$alive$id " ;;
        -) case $alive in *" $id "*) alive="${alive%%" $id "*} ${alive#*" $id "}" ;; esac ;;
    esac
done
# Not "kill -KILL": dash then takes no group.
for id in $alive; do kill -s KILL -- "-$id" 2>/dev/null; done
# What is dying may still write: a few more tries.
for try in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$1" && break; sleep 0.2; done
"#;

static WATCHDOG: LazyLock<Watchdog> = LazyLock::new(Watchdog::start);

struct Watchdog {
    /// Held for its pipe; it outlives this process, so no one waits for it.
    shell: Mutex<Child>,
    root: PathBuf,
}

impl Watchdog {
    fn start() -> Self {
        let root = env::temp_dir().join(format!(
            "countersign-tests-{}-{:08x}",
            process::id(),
            rand::random::<u32>()
        ));
        fs::create_dir(&root).expect("a folder for this test process");
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "watchdog"])
            .arg(&root)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A signal to the test's process group must not take its watchdog along.
            .process_group(0)
            .spawn()
            .expect("sh starts");
        Self {
            shell: Mutex::new(shell),
            root,
        }
    }

    fn tell(&self, sign: char, group: u32) {
        let mut shell = self.shell.lock().unwrap_or_else(|broken| broken.into_inner());
        let pipe = shell.stdin.as_mut().expect("its stdin is a pipe");
        writeln!(pipe, "{sign} {group}").expect("the watchdog listens");
    }
}

/// From now on the process group `group` dies with this process.
pub fn watch(group: u32) {
    WATCHDOG.tell('+', group);
}

/// The process group `group` has ended: its id may soon be someone else's.
pub fn forget(group: u32) {
    WATCHDOG.tell('-', group);
}

/// A fresh folder that goes with this value, at the latest with the test process.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes one; `purpose` is part of its name, for anyone who looks while a claim runs.
    #[must_use]
    pub fn new(purpose: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = WATCHDOG.root.join(format!("{purpose}-{number}"));
        fs::create_dir(&path).expect("a folder in the test process's own");
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of `name` in it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file in it and returns its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, content).expect("a file in a folder of our own");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What fails here the watchdog does at the end.
        let _ = fs::remove_dir_all(&self.0);
    }
}
