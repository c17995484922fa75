//! What time it is for a worker, told with some of its answers.
//!
//! | header | |
//! |---|---|
//! | `clocks` | three numbers with `/` between them, in milliseconds: when the request was received, as it says itself; when it was answered, by the worker's clock; and how long a token counts after its `exp` |
//!
//! The two lie on two clocks, and one comes before the other: so a terminator learns how far its own may be from the worker's.

use std::time::Duration;

use super::text;
use crate::bus::{Properties, Value};
use crate::service::clock::Timestamp;

const CLOCKS: &str = "clocks";

/// Of one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// When the request was received, as it says.
    pub asked: Timestamp,
    /// When it was answered, by the worker's clock.
    pub answered: Timestamp,
    /// How long a token counts after its end.
    pub leeway: Duration,
}

impl Clocks {
    /// Has an answer tell them.
    pub fn write(self, properties: &mut Properties) {
        let Self {
            asked,
            answered,
            leeway,
        } = self;
        let text = format!("{}/{}/{}", asked.as_millis(), answered.as_millis(), leeway.as_millis());
        properties.headers.push((CLOCKS.to_owned(), Value::Text(text)));
    }

    /// What an answer tells; none if it does not.
    pub fn read(properties: &Properties) -> Option<Self> {
        let text = text(properties, CLOCKS).ok().flatten()?;
        let mut numbers = text.split('/').map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten();
        Some(Self {
            asked: Timestamp::from_millis(next()?),
            answered: Timestamp::from_millis(next()?),
            leeway: Duration::from_millis(next()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_read_back_and_what_is_none_is_not_read() {
        let clocks = Clocks {
            asked: Timestamp::from_millis(1),
            answered: Timestamp::from_millis(u64::MAX),
            leeway: Duration::from_secs(5),
        };
        let mut properties = Properties::default();
        assert_eq!(Clocks::read(&properties), None);
        clocks.write(&mut properties);
        assert_eq!(Clocks::read(&properties), Some(clocks));
        for wrong in ["", "1/2", "1//3", "-1/2/3", "a/b/c"] {
            properties.headers = vec![(CLOCKS.to_owned(), Value::Text(wrong.to_owned()))];
            assert_eq!(Clocks::read(&properties), None, "{wrong}");
        }
    }
}
