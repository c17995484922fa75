//! What is made from the table of settings for people to read.

use std::fmt::Write as _;

use clap::{Arg, Command, ValueHint};

use super::{Config, Given, Origin, Program, Setting, Shown};

/// `--version`.
pub(super) fn version(program: &Program) -> String {
    format!("{} {}\n", program.name, program.version)
}

/// `--help`.
pub(super) fn help<T: Config>() -> String {
    command::<T>().render_long_help().to_string()
}

/// A program's command line, as clap has it: for `--help`, for completions and for manual pages.
///
/// It is not what reads the flags: clap would report one wrong flag at a time, so [`load`](super::load) reads them itself.
pub fn command<T: Config>() -> Command {
    let program = T::PROGRAM;
    let mut command = Command::new(program.name)
        .version(program.version)
        .about(program.about)
        .override_usage(format!("{} [--config PATH] [--SETTING VALUE]...", program.name))
        .after_long_help(program.examples)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("PATH")
                .value_hint(ValueHint::FilePath)
                .long_help(
                    "A TOML file of settings, under the names below without `--`. Environment and flags win over it.\n\
                     [env: COUNTERSIGN_CONFIG]",
                ),
        );
    for setting in &T::settings() {
        command = command.arg(argument(setting));
    }
    for (name, short, text) in [
        (
            "print-config",
            None,
            "Print the settings in force as TOML, passwords redacted, and exit",
        ),
        ("help", Some('h'), "Print this text and exit"),
        ("version", Some('V'), "Print the version and exit"),
    ] {
        command = command.arg(Arg::new(name).long(name).short(short).num_args(0).help(text));
    }
    command
}

fn argument(setting: &Setting) -> Arg {
    let default = setting
        .default
        .map_or("required".to_owned(), |default| format!("default: {default}"));
    let text = format!("{}\n[env: {}] [{default}]", full_doc(setting), setting.env);
    Arg::new(setting.name.clone())
        .long(setting.name.clone())
        .value_name("VALUE")
        .long_help(text)
}

/// The doc of a setting as one paragraph, its range at the end.
fn full_doc(setting: &Setting) -> String {
    let doc = setting.doc.replace('\n', " ");
    match setting.range {
        Some((least, most)) => format!("{doc} From {least} to {most}."),
        None => doc,
    }
}

/// `--print-config`: what is in force, as a TOML file that has the same effect once its secrets are put back.
pub(super) fn in_force(shown: &[(String, Shown)], given: &Given) -> String {
    shown.iter().fold(String::new(), |mut text, (name, value)| {
        let comment = match given.origin(name) {
            Origin::Default => String::new(),
            origin => format!("  # {}", origin.of(name)),
        };
        let _ = writeln!(text, "{name} = {value}{comment}");
        text
    })
}

/// The reference of all settings, as Markdown: one section per program.
///
/// Each of `programs` is the program and its table, as [`section`] makes it.
pub fn reference(programs: &[(Program, Vec<Setting>)]) -> String {
    programs
        .iter()
        .map(|(program, settings)| section_text(program, settings))
        .collect::<Vec<_>>()
        .join("\n")
}

/// A program and its table of settings, for [`reference()`].
pub fn section<T: Config>() -> (Program, Vec<Setting>) {
    (T::PROGRAM, T::settings())
}

fn section_text(program: &Program, settings: &[Setting]) -> String {
    let mut text = format!("## `{}`\n\n{}.\n\n", program.name, program.about);
    text += "| setting | environment | default | what it is |\n|---|---|---|---|\n";
    for setting in settings {
        let default = match setting.default {
            None => "required".to_owned(),
            Some("") => "empty".to_owned(),
            Some(default) => format!("`{default}`"),
        };
        // A bar would end the cell.
        let doc = full_doc(setting).replace('|', "\\|");
        let _ = writeln!(text, "| `{}` | `{}` | {default} | {doc} |", setting.name, setting.env);
    }
    text
}
