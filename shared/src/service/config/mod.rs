//! Configuration: one struct per program, and that struct is the manual.
//!
//! An operator meets a setting in four places: the file, the environment, the
//! flags and the documentation. Kept by hand, the four drift apart. So a program
//! writes its settings down once, with [`settings!`](crate::settings), and the
//! four are made from that: the doc comment of a field is its text in `--help`
//! and in the reference.
//!
//! Every value travels as text until the last source has spoken (defaults, file,
//! environment, flags; later wins) and is read only then. That is why all that is
//! wrong can be told at once, each error with the setting, where its value came
//! from and what would be right.
//!
//! Nothing here touches the process: [`load`] is told the arguments and the
//! environment.

mod settings;

mod error;
mod groups;
mod names;
mod print;
mod sources;
mod units;
mod url;
mod value;

use std::ffi::OsString;

pub use error::{ConfigError, ConfigErrors, Conflict, Origin};
pub use groups::{
    Batch, BrokerConfig, EventForm, LogConfig, LogFilter, LogFormat, Namespace, TraceConfig, tls_conflicts,
};
pub use names::{EVERY_SETTING, is_a_setting, nearest};
pub use print::{command, reference, section};
pub use sources::{Given, text_in, texts_in};
pub use units::{Share, Size};
pub use url::{AmqpUrl, OtlpUrl, redacted};
pub use value::{Bounded, OneOrMore, Value};

/// One setting, as the manual tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The name in the file and, after `--`, among the flags: `max-deliveries`.
    pub name: String,
    /// The environment variable: `COUNTERSIGN_MAX_DELIVERIES`.
    pub env: String,
    /// The text it has where no one sets it; `None` if someone must.
    pub default: Option<&'static str>,
    /// The least and the greatest value, where there are such.
    pub range: Option<(&'static str, &'static str)>,
    /// What it is, in full sentences.
    pub doc: String,
    /// Whether its text may hold a password, and so is never repeated in an error.
    pub secret: bool,
}

impl Setting {
    /// The setting kept in the struct field `field` (snake case).
    pub fn of_field(field: &str) -> Self {
        Self {
            name: field.replace('_', "-"),
            env: format!("{ENV_PREFIX}{}", field.to_uppercase()),
            default: None,
            range: None,
            doc: String::new(),
            secret: false,
        }
    }
}

/// A value as it is printed: TOML, secrets redacted.
pub type Shown = toml::Value;

/// What every environment variable of ours begins with.
pub const ENV_PREFIX: &str = "COUNTERSIGN_";

/// A struct of settings. Implemented by [`settings!`](crate::settings), never by hand.
pub trait Settings: Sized {
    /// The table of its settings, in the order of the fields.
    fn settings() -> Vec<Setting>;

    /// Reads all fields from the text given for them.
    ///
    /// What is wrong is recorded in `given`, and then the answer is `None`.
    fn read(given: &mut Given) -> Option<Self>;

    /// Each setting's name and value, secrets redacted, in the order of the fields.
    fn show(&self) -> Vec<(String, Shown)>;
}

/// Who a program is, for `--help` and `--version`.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The name of the executable.
    pub name: &'static str,
    /// The version, as `CARGO_PKG_VERSION` has it.
    pub version: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// What `--help` ends with: examples of use.
    pub examples: &'static str,
}

/// The whole configuration of one program.
pub trait Config: Settings {
    /// Whose configuration this is.
    const PROGRAM: Program;

    /// How the program logs.
    fn logging(&self) -> &LogConfig;

    /// What two settings, each right in itself, contradict each other in.
    fn check(&self) -> Vec<Conflict> {
        Vec::new()
    }
}

/// What a command line asks for.
#[derive(Debug)]
pub enum Loaded<T> {
    /// Run with this configuration.
    Run(T),
    /// Print this text to standard output and exit with status 0: `--help`, `--version`, `--print-config`.
    Print(String),
}

/// Reads a configuration from its four sources.
///
/// `args` are the arguments without the program's own name, `env` the environment.
/// The only thing read besides is the file that `--config` or `COUNTERSIGN_CONFIG` names.
///
/// # Errors
/// All that is wrong, at once: what cannot be read, is unknown, missing, out of range or contradictory.
pub fn load<T: Config>(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded<T>, ConfigErrors> {
    let settings = T::settings();
    let (flags, errors) = sources::flags(T::PROGRAM.name, &settings, args);
    let asked = flags.asked;
    match asked {
        Some(sources::Asked::Help) => return Ok(Loaded::Print(print::help::<T>())),
        Some(sources::Asked::Version) => return Ok(Loaded::Print(print::version(&T::PROGRAM))),
        Some(sources::Asked::PrintConfig) | None => {}
    }
    let mut given = gather(&settings, flags, errors, env);
    let config = read_and_check::<T>(&mut given)?;
    Ok(match asked {
        Some(_) => Loaded::Print(print::in_force(&config.show(), &given)),
        None => Loaded::Run(config),
    })
}

/// In which form to tell what is wrong with these sources: as the program would have logged, if they say how. A person who asks for
/// something to be printed reads text.
pub fn log_format<T: Config>(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> LogFormat {
    let settings = T::settings();
    let (flags, errors) = sources::flags(T::PROGRAM.name, &settings, args);
    if flags.asked.is_some() {
        return LogFormat::Text;
    }
    let mut given = gather(&settings, flags, errors, env);
    given.value("log_format").unwrap_or(LogFormat::Text)
}

/// What all sources give, later ones over earlier ones, and what is wrong with it.
fn gather(
    settings: &[Setting],
    flags: sources::Flags,
    mut errors: Vec<ConfigError>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Given {
    let (environment, file_of_env, wrong) = sources::environment(settings, env);
    errors.extend(wrong);
    let mut given = Given::defaults(settings);
    if let Some(path) = flags.file.or(file_of_env) {
        let (texts, wrong) = sources::file(settings, &path);
        errors.extend(wrong);
        given.overlay(texts);
    }
    given.overlay(environment);
    given.overlay(flags.texts);
    given.record(errors);
    given
}

/// A configuration of defaults but for `texts`, pairs of a setting's name and its value.
///
/// For a program that starts another inside itself, and for tests.
///
/// # Errors
/// As [`load`].
pub fn from_pairs<'a, T: Config>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<T, ConfigErrors> {
    let settings = T::settings();
    let mut given = Given::defaults(&settings);
    for (name, text) in texts {
        if settings.iter().any(|setting| setting.name == name) {
            given.overlay([(name.to_owned(), text.to_owned(), Origin::Code)]);
        } else {
            given.record([names::unknown(name, Origin::Code, &settings)]);
        }
    }
    read_and_check(&mut given)
}

fn read_and_check<T: Config>(given: &mut Given) -> Result<T, ConfigErrors> {
    let config = T::read(given);
    if let Some(config) = &config {
        let conflicts = config.check();
        given.contradict(conflicts);
    }
    match (config, given.take_errors()) {
        (Some(config), errors) if errors.is_empty() => Ok(config),
        (_, errors) => Err(ConfigErrors(errors)),
    }
}

#[cfg(test)]
mod tests;
