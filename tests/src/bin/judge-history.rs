//! Judges histories that drills have left behind: `judge-history FILE…`. Ends with 1 if one breaks a promise.

use std::{path::PathBuf, process::ExitCode};

use tests::history;

fn main() -> ExitCode {
    let mut sound = true;
    for path in std::env::args_os().skip(1).map(PathBuf::from) {
        match history::read(&path) {
            Ok(lines) => {
                let judgement = history::judge(&lines);
                sound &= judgement.broken.is_empty();
                println!("{}\n{judgement}", path.display());
            }
            Err(error) => {
                sound = false;
                eprintln!("{}: {error}", path.display());
            }
        }
    }
    ExitCode::from(u8::from(!sound))
}
