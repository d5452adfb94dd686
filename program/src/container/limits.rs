//! What must hold of the numbers that a delegate reads from tensors: that a position lies within its axis, say. The delegate's instructions can't say it; a slice, for one, goes as far as there is something.
//!
//! The method has each as text in a string among its values that nothing reads, so that other runtimes pass it by.

use std::fmt;
use std::str::FromStr;

/// What the text begins with.
pub const PREFIX: &str = "range of a number: ";

/// The range of what is put into one value slot of a delegate's main chain and its branches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Which of the method's delegates.
    pub delegate: usize,
    /// The value slot.
    pub slot: u32,
    /// The least number that may be put there.
    pub least: i64,
    /// The largest one.
    pub most: i64,
    /// The number as an expression of what was read from tensors and of lengths, for messages.
    pub number: String,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Limit {
            delegate,
            slot,
            least,
            most,
            number,
        } = self;
        write!(f, "{PREFIX}{delegate}.{slot} {least}..{most} {number}")
    }
}

/// A text that limits no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the range of a number")]
pub struct NoLimit;

impl FromStr for Limit {
    type Err = NoLimit;

    fn from_str(text: &str) -> Result<Self, NoLimit> {
        let read = || {
            let mut parts = text.strip_prefix(PREFIX)?.splitn(3, ' ');
            let (delegate, slot) = parts.next()?.split_once('.')?;
            let (least, most) = parts.next()?.split_once("..")?;
            Some(Limit {
                delegate: delegate.parse().ok()?,
                slot: slot.parse().ok()?,
                least: least.parse().ok()?,
                most: most.parse().ok()?,
                number: parts.next()?.to_owned(),
            })
        };
        read().ok_or(NoLimit)
    }
}

#[cfg(test)]
mod tests {
    use super::Limit;

    #[test]
    fn text_is_read_back() {
        let limit = Limit {
            delegate: 1,
            slot: 20,
            least: i64::MIN,
            most: 5,
            number: "u1 - 2*u0".to_owned(),
        };
        assert_eq!(limit.to_string().parse(), Ok(limit));
        for broken in [
            "",
            "range of a number: ",
            "range of a number: 0.1 1..2",
            "range of a number: 0 1..2 u0",
            "range of a number: 0.-1 1..2 u0",
            "range of a number: 0.1 1..99999999999999999999 u0",
        ] {
            assert!(broken.parse::<Limit>().is_err(), "{broken}");
        }
    }
}
