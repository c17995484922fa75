//! The four sources, each brought to the same form: a name, a text, and where it came from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::names::{current, is_a_setting, unknown};
use super::{Bounded, ConfigError, Conflict, ENV_PREFIX, Origin, Setting, Value};

/// A setting's name, its text and where that came from.
pub(super) type GivenText = (String, String, Origin);

/// What the sources have given so far, and what was wrong with it.
#[derive(Debug)]
pub struct Given {
    texts: BTreeMap<String, (String, Origin)>,
    secrets: Vec<String>,
    errors: Vec<ConfigError>,
}

impl Given {
    /// What is given when no source says anything.
    pub(super) fn defaults(settings: &[Setting]) -> Self {
        let text = |setting: &Setting| {
            let default = setting.default?;
            Some((setting.name.clone(), (default.to_owned(), Origin::Default)))
        };
        Self {
            texts: settings.iter().filter_map(text).collect(),
            secrets: settings
                .iter()
                .filter(|setting| setting.secret)
                .map(|setting| setting.name.clone())
                .collect(),
            errors: Vec::new(),
        }
    }

    /// Puts `texts` over what was given before.
    pub(super) fn overlay(&mut self, texts: impl IntoIterator<Item = GivenText>) {
        self.texts
            .extend(texts.into_iter().map(|(name, text, origin)| (name, (text, origin))));
    }

    /// Takes note of what is wrong.
    pub(super) fn record(&mut self, errors: impl IntoIterator<Item = ConfigError>) {
        self.errors.extend(errors);
    }

    /// Takes note of contradictions, each with the origin of its setting.
    pub(super) fn contradict(&mut self, conflicts: Vec<Conflict>) {
        for Conflict { setting, problem } in conflicts {
            let origin = self.origin(setting);
            self.errors.push(ConfigError::new(setting, origin, problem));
        }
    }

    /// All that was wrong.
    pub(super) fn take_errors(&mut self) -> Vec<ConfigError> {
        std::mem::take(&mut self.errors)
    }

    /// Where the text in force for `name` came from.
    pub(super) fn origin(&self, name: &str) -> Origin {
        self.texts
            .get(name)
            .map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    /// The value of the setting kept in `field`, or a record of what is wrong with it.
    pub fn value<T: Value>(&mut self, field: &str) -> Option<T> {
        let name = field.replace('_', "-");
        let Some((text, origin)) = self.texts.get(&name) else {
            let problem = "is required: set it in the file, the environment or by a flag";
            self.errors.push(ConfigError::new(name, Origin::Default, problem));
            return None;
        };
        match T::parse(text.trim()) {
            Ok(mut value) => {
                value.came_from(origin);
                Some(value)
            }
            Err(wanted) => {
                let error = self.wanted(&name, text, origin.clone(), &wanted);
                self.errors.push(error);
                None
            }
        }
    }

    /// `value` again, if it lies between `least` and `most`, or a record that it does not.
    pub fn within<T: Bounded>(&mut self, field: &str, value: Option<T>, least: &str, most: &str) -> Option<T> {
        let value = value?;
        let Some(bound) = value.bound() else { return Some(value) };
        let above = T::Bound::parse(least).is_ok_and(|least| least <= *bound);
        let below = T::Bound::parse(most).is_ok_and(|most| *bound <= most);
        if above && below {
            return Some(value);
        }
        let name = field.replace('_', "-");
        let (text, origin) = self
            .texts
            .get(&name)
            .cloned()
            .unwrap_or((String::new(), Origin::Default));
        let error = self.wanted(&name, &text, origin, &format!("{least} to {most}"));
        self.errors.push(error);
        None
    }

    fn wanted(&self, name: &str, text: &str, origin: Origin, wanted: &str) -> ConfigError {
        if self.secrets.iter().any(|secret| secret == name) {
            return ConfigError::new(name, origin, format!("want {wanted}"));
        }
        let text = text.escape_debug();
        ConfigError::new(name, origin, format!("want {wanted}, not `{text}`"))
    }
}

/// What a command line asks for, other than to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Help,
    Version,
    PrintConfig,
}

/// A command line, taken apart.
#[derive(Debug, Default)]
pub(super) struct Flags {
    pub(super) asked: Option<Asked>,
    pub(super) file: Option<PathBuf>,
    pub(super) texts: Vec<GivenText>,
}

/// Takes a command line apart: `--name value` and `--name=value` for each of `settings`, and the few flags
/// that every program has.
///
/// Help asked for goes before everything else, so that it is to be had when the rest is wrong.
pub(super) fn flags(
    program: &str,
    settings: &[Setting],
    args: impl IntoIterator<Item = OsString>,
) -> (Flags, Vec<ConfigError>) {
    let mut flags = Flags::default();
    let mut errors = Vec::new();
    let mut args = args.into_iter().peekable();
    while let Some(arg) = args.next() {
        let arg = arg.to_string_lossy().into_owned();
        let asked = match arg.as_str() {
            "--help" | "-h" => Some(Asked::Help),
            "--version" | "-V" => Some(Asked::Version),
            "--print-config" => Some(Asked::PrintConfig),
            _ => None,
        };
        if asked.is_some() {
            flags.asked = Asked::first(flags.asked, asked);
            continue;
        }
        let (name, joined) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(OsString::from(value))),
            None => (arg.as_str(), None),
        };
        let Some(name) = name.strip_prefix("--") else {
            // It may be the second half of a password that was not quoted; only its place is told.
            let problem = format!("{program} takes no arguments but flags; is a value not quoted?");
            errors.push(ConfigError::new(
                "an argument without `--`",
                Origin::CommandLine,
                problem,
            ));
            continue;
        };
        let value = joined.or_else(|| args.next_if(|next| !next.to_string_lossy().starts_with("--")));
        if let Err(error) = flags.set(current(name), value, settings) {
            errors.push(error);
        }
    }
    (flags, errors)
}

impl Asked {
    fn first(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        [Self::Help, Self::Version, Self::PrintConfig]
            .into_iter()
            .find(|it| a == Some(*it) || b == Some(*it))
    }
}

impl Flags {
    fn set(&mut self, name: &str, value: Option<OsString>, settings: &[Setting]) -> Result<(), ConfigError> {
        let wrong = |problem: &str| ConfigError::new(name, Origin::Flag, problem);
        let own = settings.iter().any(|setting| setting.name == name);
        if !own && name != "config" {
            if is_a_setting(name) {
                return Err(wrong("is a setting of another program"));
            }
            return Err(unknown(name, Origin::Flag, settings));
        }
        let value = value.ok_or_else(|| wrong("has no value"))?;
        if name == "config" {
            return match self.file.replace(value.into()) {
                None => Ok(()),
                Some(_) => Err(wrong("is given twice")),
            };
        }
        let text = value.into_string().map_err(|_| wrong("is not UTF-8"))?;
        if self.texts.iter().any(|(before, ..)| before == name) {
            return Err(wrong("is given twice"));
        }
        self.texts.push((name.to_owned(), text, Origin::Flag));
        Ok(())
    }
}

/// Picks our variables out of an environment: the texts, the path of the configuration file, what is wrong.
pub(super) fn environment(
    settings: &[Setting],
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> (Vec<GivenText>, Option<PathBuf>, Vec<ConfigError>) {
    let (mut texts, mut file, mut errors) = (Vec::new(), None, Vec::new());
    for (variable, value) in env {
        let Some(name) = variable.to_string_lossy().strip_prefix(ENV_PREFIX).map(str::to_owned) else {
            continue;
        };
        let name = if name == name.to_uppercase() {
            current(&name.to_lowercase().replace('_', "-")).to_owned()
        } else {
            name
        };
        if name == "config" {
            file = Some(PathBuf::from(value));
        } else if settings.iter().any(|setting| setting.name == name) {
            match value.into_string() {
                Ok(text) => texts.push((name, text, Origin::Environment)),
                Err(_) => errors.push(ConfigError::new(name, Origin::Environment, "is not UTF-8")),
            }
        } else if !is_a_setting(&name) {
            let mut error = unknown(&name, Origin::Environment, settings);
            if name.contains("service-") || value.to_string_lossy().starts_with("tcp://") {
                error.problem +=
                    " (Kubernetes sets such variables for a service: `enableServiceLinks: false` stops it)";
            }
            errors.push(error);
        }
    }
    (texts, file, errors)
}

/// The largest configuration file that is read, in bytes: far more than all settings can fill.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads the TOML file at `path`: the texts and what is wrong.
pub(super) fn file(settings: &[Setting], path: &Path) -> (Vec<GivenText>, Vec<ConfigError>) {
    let origin = || Origin::File(path.to_owned());
    let whole = |problem: String| (Vec::new(), vec![ConfigError::new("config", origin(), problem)]);
    let content = match read(path) {
        Ok(content) => content,
        Err(error) => return whole(format!("cannot be read: {error}")),
    };
    let table: toml::Table = match content.parse() {
        Ok(table) => table,
        Err(error) => return whole(not_toml(&content, &error)),
    };
    let (mut texts, mut errors) = (Vec::new(), Vec::new());
    for (name, value) in table {
        let name = current(&name).to_owned();
        if settings.iter().any(|setting| setting.name == name) {
            match text_of(&value) {
                Ok(text) => texts.push((name, text, origin())),
                Err(problem) => errors.push(ConfigError::new(name, origin(), problem)),
            }
        } else if !is_a_setting(&name) {
            errors.push(unknown(&name, origin(), settings));
        }
    }
    (texts, errors)
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut content = String::new();
    std::fs::File::open(path)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut content)?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(std::io::Error::other(format!(
            "it is longer than {MAX_FILE_BYTES} bytes"
        )));
    }
    Ok(content)
}

/// Where a file stops being TOML. The parser's own text would repeat the line, and with it a password.
fn not_toml(content: &str, error: &toml::de::Error) -> String {
    let before = error
        .span()
        .and_then(|span| content.get(..span.start))
        .unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    format!(
        "is not TOML from line {line} on: {}",
        error.message().replace('\n', " ")
    )
}

/// The text of a setting in a configuration file.
///
/// # Errors
/// Why there is none; it repeats nothing of the file.
pub fn text_in(content: &[u8], setting: &str) -> Result<String, String> {
    let content = std::str::from_utf8(content).map_err(|_| "is not UTF-8".to_owned())?;
    let table: toml::Table = content.parse().map_err(|error| not_toml(content, &error))?;
    let value = table.get(setting).ok_or("does not say it any more")?;
    text_of(value).map_err(str::to_owned)
}

/// The texts of all settings in a configuration file, by their present names, for a program that has some of them only.
///
/// # Errors
/// Why there are none; it repeats nothing of the file.
pub fn texts_in(path: &Path) -> Result<Vec<(String, String)>, String> {
    let content = read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let table: toml::Table = content.parse().map_err(|error| not_toml(&content, &error))?;
    let text = |(name, value): (String, toml::Value)| {
        let text = text_of(&value).map_err(|want| format!("{name}: {want}"))?;
        Ok((current(&name).to_owned(), text))
    };
    table.into_iter().map(text).collect()
}

/// The text of a TOML value: what one would write into the environment for it.
fn text_of(value: &toml::Value) -> Result<String, &'static str> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => Ok(value.to_string()),
        toml::Value::Array(items) => {
            let texts: Vec<String> = items.iter().map(text_of).collect::<Result<_, _>>()?;
            if texts.iter().any(|text| text.contains(',')) {
                return Err("want no comma inside an entry of the list");
            }
            Ok(texts.join(","))
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => Err("want a string, a number or a list; settings are flat"),
    }
}
