//! What can be wrong with a configuration, told so that it can be put right.

use std::fmt;
use std::path::{Path, PathBuf};

use super::ENV_PREFIX;

/// Where a text came from; later ones win.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// No one set it.
    Default,
    /// The TOML file at this path.
    File(PathBuf),
    /// The environment variable of that name.
    Environment,
    /// The flag of that name.
    Flag,
    /// The command line as a whole.
    CommandLine,
    /// The program that started this one inside itself.
    Code,
}

impl Origin {
    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            _ => None,
        }
    }

    /// The place to look at, for the setting called `name`.
    pub fn of(&self, name: &str) -> String {
        match self {
            Self::Default => "default".to_owned(),
            Self::File(path) => format!("file {}", path.display()),
            Self::Environment => format!("environment {}", env_name(name)),
            Self::Flag => format!("flag --{name}"),
            Self::CommandLine => "command line".to_owned(),
            Self::Code => "given by the program".to_owned(),
        }
    }
}

fn env_name(name: &str) -> String {
    format!("{ENV_PREFIX}{}", name.replace('-', "_").to_uppercase())
}

/// One thing that is wrong, on one line: `max-deliveries (flag --max-deliveries): want 2 to 20, not `1``.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting} ({}): {problem}", origin.of(setting))]
pub struct ConfigError {
    /// The name of the setting, or what stands where a name should.
    pub setting: String,
    /// Where its value came from.
    pub origin: Origin,
    /// What is wrong and what would be right. Holds no secret.
    pub problem: String,
}

impl ConfigError {
    /// Says that `setting`, as it came from `origin`, is wrong.
    pub fn new(setting: impl Into<String>, origin: Origin, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        debug_assert!(!problem.contains('\n'), "an error is one line");
        Self {
            setting: setting.into(),
            origin,
            problem,
        }
    }
}

/// Everything that is wrong with a configuration; prints one error a line. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}

/// A setting that contradicts another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The name of the setting to look at first.
    pub setting: &'static str,
    /// What it contradicts and what would be right.
    pub problem: String,
}

impl Conflict {
    /// Says that `setting` contradicts another.
    pub fn new(setting: &'static str, problem: impl Into<String>) -> Self {
        Self {
            setting,
            problem: problem.into(),
        }
    }
}
