//! What a setting's text can be read as.
//!
//! The grammar is one for all: surrounding white space does not count, lists are
//! comma separated, and an optional value is `off` where it is none.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;

use super::{Origin, Shown};

/// A type that a setting can have.
pub trait Value: Sized {
    /// Whether the text may hold a password. Such a text is never repeated, and [`Value::show`] redacts it.
    const SECRET: bool = false;

    /// Reads the value.
    ///
    /// # Errors
    /// What would be right, to stand after "want": "an address and a port". It does not repeat `text`.
    fn parse(text: &str) -> Result<Self, String>;

    /// The value as `--print-config` shows it. What is not secret can be read back.
    fn show(&self) -> Shown;

    /// Learns where its text came from, if it wants to read it there again one day.
    fn came_from(&mut self, _: &Origin) {}
}

/// A value that can be too small or too great.
pub trait Bounded: Value {
    /// What the least and the greatest value are written as.
    type Bound: Value + PartialOrd;

    /// What is to be compared, if there is anything.
    fn bound(&self) -> Option<&Self::Bound>;
}

/// A number that fits the machine, written in decimal digits.
macro_rules! integers {
    ($($type:ty),+) => {$(
        impl Value for $type {
            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("a whole number from {} to {}", <$type>::MIN, <$type>::MAX))
            }

            fn show(&self) -> Shown {
                // TOML's integers are signed; what does not fit is shown as text, which is read as well.
                i64::try_from(*self).map_or_else(|_| self.to_string().into(), Shown::Integer)
            }
        }

        impl Bounded for $type {
            type Bound = Self;

            fn bound(&self) -> Option<&Self> {
                Some(self)
            }
        }
    )+};
}

integers!(u16, u32, u64, usize);

impl Value for String {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("some text".to_owned());
        }
        Ok(text.to_owned())
    }

    fn show(&self) -> Shown {
        self.as_str().into()
    }
}

impl Value for PathBuf {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the path of a file".to_owned());
        }
        Ok(text.into())
    }

    fn show(&self) -> Shown {
        self.to_string_lossy().as_ref().into()
    }
}

impl Value for SocketAddr {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| "an IP address and a port, such as `127.0.0.1:8080` or `[::]:8080`".to_owned())
    }

    fn show(&self) -> Shown {
        self.to_string().into()
    }
}

/// The word for "none".
const OFF: &str = "off";

/// TOML's own words for it are read as well.
impl Value for bool {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "on" | "true" => Ok(true),
            OFF | "false" => Ok(false),
            _ => Err(format!("`on` or `{OFF}`")),
        }
    }

    fn show(&self) -> Shown {
        if *self { "on".into() } else { OFF.into() }
    }
}

impl<T: Value> Value for Option<T> {
    const SECRET: bool = T::SECRET;

    fn parse(text: &str) -> Result<Self, String> {
        if text == OFF {
            return Ok(None);
        }
        T::parse(text)
            .map(Some)
            .map_err(|wanted| format!("{wanted}, or `{OFF}`"))
    }

    fn show(&self) -> Shown {
        self.as_ref().map_or_else(|| OFF.into(), T::show)
    }
}

impl<T: Bounded> Bounded for Option<T> {
    type Bound = T::Bound;

    fn bound(&self) -> Option<&T::Bound> {
        self.as_ref().and_then(T::bound)
    }
}

impl<T: Value> Value for Vec<T> {
    const SECRET: bool = T::SECRET;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let in_each = |wanted| format!("in each place of the comma-separated list {wanted}");
        text.split(',')
            .map(|item| T::parse(item.trim()).map_err(in_each))
            .collect()
    }

    fn show(&self) -> Shown {
        Shown::Array(self.iter().map(T::show).collect())
    }
}

/// A list that is never empty.
#[derive(Clone, PartialEq, Eq)]
pub struct OneOrMore<T>(Vec<T>);

impl<T> OneOrMore<T> {
    /// The one, or the first of several.
    pub fn first(&self) -> &T {
        &self.0[0]
    }
}

impl<T> Deref for OneOrMore<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Debug> Debug for OneOrMore<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: Value> Value for OneOrMore<T> {
    const SECRET: bool = T::SECRET;

    fn parse(text: &str) -> Result<Self, String> {
        let list = Vec::parse(text)?;
        if list.is_empty() {
            return Err("at least one, or several separated by commas".to_owned());
        }
        Ok(Self(list))
    }

    fn show(&self) -> Shown {
        self.0.show()
    }

    fn came_from(&mut self, origin: &Origin) {
        self.0.iter_mut().for_each(|one| one.came_from(origin));
    }
}
