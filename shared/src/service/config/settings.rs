//! The two macros with which a program writes its settings down.

/// A struct of settings, and all that is made from it.
///
/// A field is a setting of the same name in kebab case, its doc comment the manual.
/// After `=` stands the default, as text (a setting without one must be set), after
/// `in` the least and the greatest value, as text too. First come, after `use`,
/// groups: structs of settings that several programs have in common.
///
/// ```
/// use std::net::SocketAddr;
/// use std::time::Duration;
///
/// shared::settings! {
///     /// What the gate is told.
///     pub struct GateConfig {
///         use logging: shared::service::config::LogConfig,
///         /// The address to listen on.
///         pub listen: SocketAddr = "127.0.0.1:8080",
///         /// How long a visitor may stand in the gate; `off` for ever.
///         pub patience: Option<Duration> = "30s" in "1s"..="10m",
///         /// The file with the names of those who may pass.
///         pub guests: std::path::PathBuf,
///     }
/// }
/// ```
#[macro_export]
macro_rules! settings {
    (
        $(#[doc = $struct_doc:expr])*
        $visibility:vis struct $name:ident {
            $(use $group:ident: $group_type:ty,)*
            $(
                $(#[doc = $doc:expr])*
                pub $field:ident: $type:ty $(= $default:literal $(in $least:literal..=$most:literal)?)?,
            )*
        }
    ) => {
        $(#[doc = $struct_doc])*
        #[derive(Clone, Debug)]
        $visibility struct $name {
            $(
                #[doc = concat!("What programs have in common: ", stringify!($group), ".")]
                pub $group: $group_type,
            )*
            $(
                $(#[doc = $doc])*
                pub $field: $type,
            )*
        }

        impl $crate::service::config::Settings for $name {
            fn settings() -> Vec<$crate::service::config::Setting> {
                let mut settings = Vec::new();
                $(settings.extend(<$group_type as $crate::service::config::Settings>::settings());)*
                $(
                    #[allow(unused_mut)]
                    let mut setting = $crate::service::config::Setting::of_field(stringify!($field));
                    setting.doc = [$($doc.trim()),*].join("\n");
                    setting.secret = <$type as $crate::service::config::Value>::SECRET;
                    $(
                        setting.default = Some($default);
                        $(setting.range = Some(($least, $most));)?
                    )?
                    settings.push(setting);
                )*
                settings
            }

            fn read(given: &mut $crate::service::config::Given) -> Option<Self> {
                $(let $group = <$group_type as $crate::service::config::Settings>::read(given);)*
                $(
                    let $field = given.value::<$type>(stringify!($field));
                    $($(let $field = given.within(stringify!($field), $field, $least, $most);)?)?
                )*
                Some(Self { $($group: $group?,)* $($field: $field?,)* })
            }

            fn show(&self) -> Vec<(String, $crate::service::config::Shown)> {
                let mut shown = Vec::new();
                $(shown.extend($crate::service::config::Settings::show(&self.$group));)*
                $(
                    let name = stringify!($field).replace('_', "-");
                    shown.push((name, $crate::service::config::Value::show(&self.$field)));
                )*
                shown
            }
        }
    };
}

/// An enum that is a closed list of words, and the [`Value`](crate::service::config::Value) that reads it.
///
/// ```
/// shared::choice! {
///     /// How wide the gate stands open.
///     pub enum Opening {
///         /// No one passes.
///         Shut = "shut",
///         /// Everyone passes.
///         Wide = "wide",
///     }
/// }
/// ```
#[macro_export]
macro_rules! choice {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $name {
            /// Its word in the configuration.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl $crate::service::config::Value for $name {
            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("one of {}", [$(concat!("`", $word, "`")),+].join(", "))),
                }
            }

            fn show(&self) -> $crate::service::config::Shown {
                self.as_str().into()
            }
        }
    };
}
