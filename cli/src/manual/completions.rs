//! `countersign completions`: what makes a shell complete the words of our programs.

use std::process::ExitCode;

use clap::{Args, Command, CommandFactory as _, ValueEnum};
use clap_complete::Shell;
use shared::service::config;
use terminator::TerminatorConfig;
use worker::config::WorkerConfig;

use crate::Cli;
use crate::support::print;
use crate::support::settings_file;

/// Shown under `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  countersign completions bash > /etc/bash_completion.d/countersign
  countersign completions fish --program worker > ~/.config/fish/completions/worker.fish";

/// For which shell, and of which program.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
    /// The program to complete
    #[arg(long, value_enum, value_name = "PROGRAM", default_value_t = Program::Countersign)]
    program: Program,
}

/// Everything that is run by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Program {
    /// This tool
    Countersign,
    /// What holds the sockets
    Terminator,
    /// What handles messages
    Worker,
}

impl Program {
    /// Its command line.
    pub(crate) fn command(self) -> Command {
        match self {
            Self::Countersign => settings_file::taught(Cli::command()),
            Self::Terminator => config::command::<TerminatorConfig>(),
            Self::Worker => config::command::<WorkerConfig>(),
        }
    }
}

/// Prints the script.
pub(crate) fn run(args: &CompletionsArgs) -> ExitCode {
    print::line(script(args.shell, args.program).trim_end());
    ExitCode::SUCCESS
}

fn script(shell: Shell, of: Program) -> String {
    let mut command = of.command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_every_program_is_completed() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            for program in Program::value_variants() {
                let script = script(shell, *program);
                let command = program.command();
                let words = command
                    .get_subcommands()
                    .filter(|one| !one.is_hide_set())
                    .map(Command::get_name);
                let flags = command.get_arguments().filter_map(clap::Arg::get_long);
                for word in words.chain(flags) {
                    assert!(script.contains(word), "{word}, of {program:?} in {shell}");
                }
            }
        }
    }
}
