//! The programs' own file of settings, for the tool: `--config /etc/countersign/worker.toml`, or `COUNTERSIGN_CONFIG`.
//!
//! An argument that a setting of the programs is read from has the name of that setting
//! in its variable. So what the file says of it counts where neither flag nor
//! environment says anything, as it does for the programs; all else in the file is not
//! the tool's. What the file says is read as a flag would be, so what is wrong with it
//! is told the same way.

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory, Error, FromArgMatches};
use shared::service::config::{ENV_PREFIX, texts_in};

/// The argument with the file's name, as the programs have it.
const CONFIG: &str = "config";

/// Programs of their own, which read their file themselves.
const PROGRAMS: [&str; 3] = ["terminator", "worker", "dev"];

/// What an argument is called in a file, if it is a setting.
fn setting_of(arg: &Arg) -> Option<String> {
    let name = arg.get_env()?.to_str()?.strip_prefix(ENV_PREFIX)?;
    Some(name.to_ascii_lowercase().replace('_', "-"))
}

/// The same command, where each that takes settings takes a file of them.
pub(crate) fn taught(command: Command) -> Command {
    let command = command.mut_subcommands(|command| {
        if PROGRAMS.contains(&command.get_name()) {
            return command;
        }
        taught(command)
    });
    let takes_settings = command.get_arguments().any(|arg| setting_of(arg).is_some());
    let has_file = command.get_arguments().any(|arg| arg.get_id() == CONFIG);
    if !takes_settings || has_file {
        return command;
    }
    let file = Arg::new(CONFIG)
        .long(CONFIG)
        .value_name("FILE")
        .env(format!("{ENV_PREFIX}CONFIG"))
        .value_parser(clap::value_parser!(std::path::PathBuf))
        .help("A file of a program's settings, as its own --config: what it says counts where neither flag nor environment does");
    command.arg(file)
}

/// Reads the arguments, the environment, and the file that either names.
///
/// # Errors
/// What is wrong with one of them.
pub(crate) fn parse<T: CommandFactory + FromArgMatches>(mut args: Vec<OsString>) -> Result<T, Error> {
    let mut command = taught(T::command());
    let mut matches = command.try_get_matches_from_mut(&args)?;
    let (depth, leaf, given) = leaf(&command, &matches);
    if let Some(path) = given
        .try_get_one::<std::path::PathBuf>(CONFIG)
        .ok()
        .flatten()
        .filter(|_| !PROGRAMS.contains(&leaf.get_name()))
    {
        let flags = flags(path, leaf, given)
            .map_err(|problem| Error::raw(ErrorKind::Io, format!("{}: {problem}\n", path.display())))?;
        args.splice(1 + depth..1 + depth, flags);
        matches = command.try_get_matches_from_mut(&args)?;
    }
    T::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// The subcommand that was chosen, below how many, and what it was given.
fn leaf<'a>(command: &'a Command, matches: &'a ArgMatches) -> (usize, &'a Command, &'a ArgMatches) {
    let chosen = matches.subcommand();
    match chosen.and_then(|(name, given)| Some((command.find_subcommand(name)?, given))) {
        Some((below, given)) => {
            let (depth, below, given) = leaf(below, given);
            (depth + 1, below, given)
        }
        None => (0, command, matches),
    }
}

/// What the file says of settings that were not given, as flags.
fn flags(path: &Path, command: &Command, given: &ArgMatches) -> Result<Vec<OsString>, String> {
    let texts = texts_in(path)?;
    let is_open = |arg: &Arg| {
        let source = given.value_source(arg.get_id().as_str());
        matches!(source, None | Some(ValueSource::DefaultValue))
    };
    let of_file = |arg: &Arg| {
        let setting = setting_of(arg)?;
        let (_, text) = texts.iter().find(|(name, _)| *name == setting)?;
        Some(format!("--{}={text}", arg.get_long()?).into())
    };
    let open = command.get_arguments().filter(|arg| is_open(arg));
    Ok(open.filter_map(of_file).collect())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::Cli;
    use crate::support::broker::BrokerArgs;

    #[derive(Debug, Parser)]
    struct Tool {
        #[command(subcommand)]
        command: Below,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Below {
        Look(BrokerArgs),
    }

    /// The namespace that is meant, with this file.
    fn namespace(file: &str, args: &[&str]) -> Result<String, String> {
        let path = std::env::temp_dir().join(format!("settings-file-{:016x}.toml", rand::random::<u64>()));
        std::fs::write(&path, file).unwrap();
        let config = path.display().to_string();
        let all = [&["tool", "look", "--config", &config], args].concat();
        let parsed = parse::<Tool>(all.into_iter().map(OsString::from).collect());
        std::fs::remove_file(path).unwrap();
        match parsed.map_err(|error| error.to_string())?.command {
            Below::Look(broker) => Ok(broker.namespace),
        }
    }

    #[test]
    fn a_setting_in_the_file_counts_unless_a_flag_says_otherwise_and_others_are_passed_over() {
        let file = "namespace = \"a\"\njwt-issuer = [\"https://x\"]\nprefetch = 3\n";
        assert_eq!(namespace(file, &[]), Ok("a".to_owned()));
        assert_eq!(namespace(file, &["--namespace", "b"]), Ok("b".to_owned()));
        assert_eq!(namespace("", &[]), Ok("countersign".to_owned()));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_one_sentence() {
        let wrong = namespace("amqp-url = [\"amqp://a\"\n", &[]).unwrap_err();
        assert!(wrong.contains("is not TOML from line"), "{wrong}");
        let none = parse::<Tool>(["tool", "look", "--config", "/none/such"].map(OsString::from).to_vec());
        let none = none.unwrap_err().to_string();
        assert!(none.contains("/none/such: cannot be read"), "{none}");
    }

    #[test]
    fn every_command_that_reaches_broker_or_store_takes_the_file() {
        let command = taught(Cli::command());
        command.clone().debug_assert();
        let takes = |names: &[&str]| {
            let found = names
                .iter()
                .fold(&command, |command, name| command.find_subcommand(name).unwrap());
            found.get_arguments().any(|arg| arg.get_id() == CONFIG)
        };
        for names in [
            &["push"][..],
            &["inject"],
            &["revoke"],
            &["explain"],
            &["inspect", "identity"],
        ] {
            assert!(takes(names), "{names:?}");
        }
        assert!(takes(&["inspect", "dead", "list"]) && takes(&["queues", "move"]));
        assert!(!takes(&["ready"]) && !takes(&["completions"]));
    }
}
