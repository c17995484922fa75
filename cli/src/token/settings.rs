//! A worker's settings that are about tokens, as flags of this tool: each is read by the worker's own code, so that what a
//! worker makes of it is what is checked here.

use std::ffi::OsString;
use std::sync::LazyLock;

use anyhow::{Context as _, anyhow};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use shared::service::config::{self, Loaded, Setting, Settings as _};
use worker::auth::checking::Checker;
use worker::config::WorkerConfig;

use crate::support::dev_key;

/// The file of a worker.
const CONFIG: &str = "config";

/// Those that were given, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct TokenSettings(Vec<(String, String)>);

/// The settings of workers that say which tokens are good.
static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    let is_of_tokens = |setting: &Setting| setting.name.starts_with("jwt-") || setting.name.starts_with("jwks-");
    WorkerConfig::settings().into_iter().filter(is_of_tokens).collect()
});

impl TokenSettings {
    /// A verifier of a worker that is told these. What neither flags nor environment nor a file say is as `token mint` has
    /// it: the development key, its issuer and its audience.
    ///
    /// # Errors
    /// Why a worker would not start with them.
    pub(super) async fn checker(&self) -> anyhow::Result<Checker> {
        let is_given = |name: &str| self.value(name).is_some() || std::env::var_os(env_of(name)).is_some();
        let has_file = is_given(CONFIG);
        let mut flags: Vec<OsString> = self
            .0
            .iter()
            .map(|(name, text)| format!("--{name}={text}").into())
            .collect();
        let mut default = |name: &str, text: &str| flags.push(format!("--{name}={text}").into());
        let file = dev_key::SecretFile::create().context("cannot write the development key to a temporary file")?;
        if !has_file {
            // An issuer that is a URL says itself where its keys are.
            let issuer = self.value("jwt-issuer").map(str::to_owned);
            let issuer = issuer
                .or_else(|| std::env::var(env_of("jwt-issuer")).ok())
                .unwrap_or_default();
            if !is_given("jwt-keys") && !issuer.contains("://") {
                default("jwt-keys", &file.entry());
            }
            for (name, text) in [("jwt-issuer", dev_key::ISSUER), ("jwt-audience", dev_key::AUDIENCE)] {
                if !is_given(name) {
                    default(name, text);
                }
            }
        }
        match config::load::<WorkerConfig>(flags, std::env::vars_os()) {
            Ok(Loaded::Run(config)) => Ok(Checker::new(&config).await?),
            Ok(Loaded::Print(_)) => Err(anyhow!("these settings ask for no check")),
            Err(errors) => Err(anyhow!("{errors}")),
        }
    }

    /// Whether any is given by a flag.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn value(&self, name: &str) -> Option<&str> {
        let given = self.0.iter().find(|(given, _)| given == name)?;
        Some(&given.1)
    }
}

fn env_of(name: &str) -> String {
    Setting::of_field(&name.replace('-', "_")).env
}

impl Args for TokenSettings {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new(CONFIG).long(CONFIG).value_name("FILE");
        let command = command.arg(file.help(format!("The settings of a worker, in TOML [env: {}]", env_of(CONFIG))));
        SETTINGS.iter().fold(command, |command, setting| {
            let help = match setting.default {
                Some("") | None => format!("{} [env: {}]", setting.doc, setting.env),
                Some(default) => format!("{} [env: {}] [default: {default}]", setting.doc, setting.env),
            };
            let first = setting.doc.split_inclusive('.').next().unwrap_or_default().to_owned();
            let arg = Arg::new(&*setting.name).long(&*setting.name).value_name("VALUE");
            command.arg(arg.allow_hyphen_values(true).help(first).long_help(help))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for TokenSettings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let names = SETTINGS.iter().map(|setting| &*setting.name).chain([CONFIG]);
        let given = names.filter_map(|name| {
            let text = matches.get_one::<String>(name)?.clone();
            Some((name.to_owned(), text))
        });
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
