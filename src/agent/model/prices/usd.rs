//! Money, exact.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount of US dollars, in whole millionths of a millionth: one token at one dollar per million tokens costs
/// a million of them, so every price with up to six decimals gives an exact cost. As JSON, a decimal text
/// (`"0.0123"`), which no reader can round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Usd(u64);

const PER_DOLLAR: u64 = 1_000_000_000_000;
const DECIMALS: usize = 12;

impl Usd {
    /// Nothing.
    pub const ZERO: Usd = Usd(0);
    /// The largest amount, about 18 million dollars.
    pub const MAX: Usd = Usd(u64::MAX);

    /// An amount in millionths of a millionth of a dollar.
    #[must_use]
    pub const fn from_pico(pico: u64) -> Usd {
        Usd(pico)
    }

    /// The amount in millionths of a millionth of a dollar.
    #[must_use]
    pub const fn pico(self) -> u64 {
        self.0
    }

    /// The sum; `None` when it passes [`Usd::MAX`].
    #[must_use]
    pub fn checked_add(self, other: Usd) -> Option<Usd> {
        self.0.checked_add(other.0).map(Usd)
    }

    /// The sum, at most [`Usd::MAX`].
    #[must_use]
    pub fn saturating_add(self, other: Usd) -> Usd {
        Usd(self.0.saturating_add(other.0))
    }

    /// What is left after taking `other` away, at least nothing.
    #[must_use]
    pub fn saturating_sub(self, other: Usd) -> Usd {
        Usd(self.0.saturating_sub(other.0))
    }

    /// As a number, for records and people; not for sums.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "it is shown, not added")]
    pub fn to_f64(self) -> f64 {
        self.0 as f64 / PER_DOLLAR as f64
    }
}

impl fmt::Display for Usd {
    /// All its decimals, at least two: `0.0123`, `3.00`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:012}", self.0 % PER_DOLLAR);
        let kept = fraction.trim_end_matches('0').len().max(2);
        write!(f, "{}.{}", self.0 / PER_DOLLAR, &fraction[..kept])
    }
}

impl FromStr for Usd {
    type Err = String;

    /// Reads a decimal number such as `1`, `0.25` or `1e-6`, without rounding.
    fn from_str(text: &str) -> Result<Usd, String> {
        decimal(text, DECIMALS).map(Usd)
    }
}

/// Reads a decimal number exactly, as a whole number of units of 10^-`decimals`.
pub(super) fn decimal(text: &str, decimals: usize) -> Result<u64, String> {
    let wrong = || format!("`{}` is no amount such as `0.25`", text.chars().take(40).collect::<String>());
    let (digits, exponent) = text.trim().split_once(['e', 'E']).unwrap_or((text.trim(), "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
        return Err(wrong());
    }
    let exponent: i32 = exponent.parse().map_err(|_| wrong())?;
    let fraction = fraction.trim_end_matches('0');
    let number: u128 = match format!("{whole}{fraction}").trim_start_matches('0') {
        "" => return Ok(0),
        number => number.parse().map_err(|_| wrong())?,
    };
    let shift = i64::try_from(decimals).unwrap_or(0) + i64::from(exponent) - fraction.len() as i64;
    let scaled = if shift >= 0 {
        u32::try_from(shift).ok().and_then(|s| 10_u128.checked_pow(s)).and_then(|f| number.checked_mul(f))
    } else {
        let factor = u32::try_from(-shift).ok().and_then(|s| 10_u128.checked_pow(s)).ok_or_else(wrong)?;
        number.is_multiple_of(factor).then(|| number / factor)
    };
    let scaled = scaled.and_then(|n| u64::try_from(n).ok());
    scaled.ok_or_else(|| format!("`{}` is too large, or has more than {decimals} decimals", text.trim()))
}

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Usd, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
