//! `countersign man`: the manual pages of this tool, of each of its subcommands, and of the programs.

pub(crate) mod completions;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum as _, ValueHint};

use crate::manual::completions::Program;

/// Shown under `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  countersign man ~/.local/share/man/man1
  countersign man . && man ./worker.1";

/// The arguments of `man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The folder, which is made if it is not there
    #[arg(value_hint = ValueHint::DirPath)]
    folder: PathBuf,
}

/// Writes the pages.
///
/// # Errors
/// If they cannot be written there.
pub(crate) fn run(args: &ManArgs) -> anyhow::Result<ExitCode> {
    write(&args.folder).with_context(|| format!("cannot write to {}", args.folder.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn write(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    for program in Program::value_variants() {
        clap_mangen::generate_to(program.command(), folder)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Command;

    use super::*;

    /// The pages of a command and of all below it.
    fn pages(command: &Command, above: &str, pages: &mut BTreeSet<String>) {
        let name = format!("{above}{}", command.get_name());
        for sub in command.get_subcommands().filter(|one| !one.is_hide_set()) {
            self::pages(sub, &format!("{name}-"), pages);
        }
        pages.insert(format!("{name}.1"));
    }

    #[test]
    fn every_program_and_every_subcommand_has_a_page() {
        let folder = std::env::temp_dir().join(format!("countersign-man-{:016x}", rand::random::<u64>()));
        write(&folder).unwrap();
        let names = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let names: BTreeSet<_> = names.collect();
        let mut wanted = BTreeSet::new();
        for program in Program::value_variants() {
            let command = program.command();
            pages(&command, "", &mut wanted);
            let page = fs::read_to_string(folder.join(format!("{}.1", command.get_name()))).unwrap();
            let words = command
                .get_subcommands()
                .filter(|one| !one.is_hide_set())
                .map(Command::get_name);
            // Roff writes a hyphen as `\\-`.
            for word in words.chain(command.get_arguments().filter_map(clap::Arg::get_long)) {
                assert!(page.contains(&word.replace('-', "\\-")), "{word} in {command}");
            }
        }
        fs::remove_dir_all(&folder).unwrap();
        assert!(wanted.is_subset(&names), "{wanted:?} in {names:?}");
    }
    /// The commands in a text: what stands behind our name, up to the end of the code or line that it stands in.
    fn commands(text: &str) -> impl Iterator<Item = Vec<&str>> {
        let behind = ["`countersign ", "\ncountersign ", "$(countersign "].map(|start| text.split(start).skip(1));
        let whole = behind
            .into_iter()
            .flatten()
            .filter_map(|rest| rest.split(['`', '\n', '#', '|', ')']).next());
        // What leaves something out names no command.
        let whole = whole.filter(|command| !command.contains('…'));
        whole.map(|command| command.split_whitespace().collect())
    }

    #[test]
    fn every_command_in_the_documents_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut seen = 0;
        for document in [
            "README.md",
            "docs/migrating.md",
            "docs/operations.md",
            "docs/permissions.md",
            "docs/protocol.md",
            "docs/runbook.md",
        ] {
            let text = fs::read_to_string(root.join(document)).unwrap();
            for words in commands(&text) {
                let mut command = Program::Countersign.command();
                for word in &words {
                    if let Some(flag) = word.strip_prefix("--") {
                        let known = command.get_arguments().any(|one| one.get_long() == Some(flag));
                        assert!(known, "{document}: {words:?} has no --{flag}");
                    } else if command.has_subcommands() {
                        let sub = command.find_subcommand(word).cloned();
                        command = sub.unwrap_or_else(|| panic!("{document}: {words:?}"));
                    }
                }
                seen += 1;
            }
        }
        assert!(seen > 15, "only {seen} commands were found: the test has gone blind");
    }
}
