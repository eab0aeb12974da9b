//! Durations and sizes as people write them: `30s`, `250ms`, `8MiB`; a bare number means seconds or bytes.

use serde::de::{self, Visitor};
use std::fmt;
use std::time::Duration;

const DURATION: &str = "a duration such as `30s`, `5m` or `250ms` (a bare number means seconds)";
/// Largest size that is read. A double, which sizes pass through, is exact up to it, and no limit needs more.
const LARGEST_SIZE: f64 = if usize::BITS > 32 {
    1_125_899_906_842_624.0
} else {
    2_147_483_648.0
};
const SIZE: &str = "a size such as `8MiB`, `64KiB` or `4096` (bytes)";

/// Parses a duration: a number with `us`, `ms`, `s`, `m`, `h` or `d`, or a bare number of seconds.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let seconds = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "" | "s" | "sec" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    // A time that is longer than any limit stays so.
    Some(Duration::try_from_secs_f64(number * seconds).unwrap_or(Duration::MAX))
}

/// Parses a size in bytes: a number with `B`, `KiB`, `MiB`, `GiB`, `TiB` (powers of 1024) or `KB`, `MB`, `GB` (powers of
/// 1000), in any case, or a bare number of bytes.
///
/// # Errors
/// Returns the error that serde is to show.
pub(crate) fn parse_size<E: de::Error>(text: &str) -> Result<usize, E> {
    let refuse = || E::invalid_value(de::Unexpected::Str(text), &SizeVisitor);
    let bytes = bytes(text).ok_or_else(refuse)?;
    if bytes > LARGEST_SIZE {
        return Err(E::custom(format_args!(
            "`{}` is too large; the largest is {}",
            text.escape_debug(),
            show_size(LARGEST_SIZE as usize)
        )));
    }
    if bytes.fract() != 0.0 {
        return Err(refuse());
    }
    Ok(bytes as usize)
}

/// Returns the bytes that `text` means, which may be a fraction.
fn bytes(text: &str) -> Option<f64> {
    let (number, unit) = split(text)?;
    let scale: f64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kib" | "k" => 1024.0,
        "mib" | "m" => 1_048_576.0,
        "gib" | "g" => 1_073_741_824.0,
        "tib" | "t" => 1_099_511_627_776.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        _ => return None,
    };
    Some(number * scale)
}

/// Writes a duration with the largest unit in which it is a whole number: `90s`, `250ms`.
pub(crate) fn show_duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    for (unit, length) in [("s", 1_000_000_000), ("ms", 1_000_000)] {
        if nanoseconds.is_multiple_of(length) {
            return format!("{}{unit}", nanoseconds / length);
        }
    }
    format!("{}us", nanoseconds / 1000)
}

/// Writes a size in bytes with the largest unit in which it is a whole number: `32MiB`.
pub(crate) fn show_size(bytes: usize) -> String {
    for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.replace('_', "").parse().ok()?, unit.trim()))
}

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(DURATION)
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Duration, E> {
        Ok(Duration::from_secs(seconds))
    }

    fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Duration, E> {
        if seconds < 0.0 || seconds.is_nan() {
            return Err(E::invalid_value(de::Unexpected::Float(seconds), &self));
        }
        Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        parse_duration(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SIZE)
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<usize, E> {
        parse_size(&bytes.to_string())
    }

    fn visit_f64<E: de::Error>(self, bytes: f64) -> Result<usize, E> {
        parse_size(&bytes.to_string())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<usize, E> {
        parse_size(text)
    }
}

/// Fields that are durations, for the attribute `with` of serde.
pub(crate) mod duration {
    use super::{DurationVisitor, show_duration};
    use serde::{Deserializer, Serializer};
    use std::time::Duration;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        from.deserialize_any(DurationVisitor)
    }

    pub(crate) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&show_duration(*value))
    }
}

/// Fields that are sizes in bytes, for the attribute `with` of serde.
pub(crate) mod size {
    use super::{SizeVisitor, show_size};
    use serde::{Deserializer, Serializer};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
        from.deserialize_any(SizeVisitor)
    }

    pub(crate) fn serialize<S: Serializer>(value: &usize, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&show_size(*value))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde::de::value::Error;

    #[test]
    fn durations_and_sizes_read_as_written() {
        for (text, milliseconds) in [
            ("30s", 30_000),
            ("5m", 300_000),
            ("250ms", 250),
            ("1h", 3_600_000),
            ("15", 15_000),
            ("1.5 s", 1_500),
        ] {
            assert_eq!(
                parse_duration(text),
                Some(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for (text, bytes) in [
            ("8MiB", 8 << 20),
            ("64KiB", 64 << 10),
            ("4096", 4096),
            ("1 GiB", 1 << 30),
            ("10kb", 10_000),
            ("1.5KiB", 1536),
        ] {
            assert_eq!(parse_size::<Error>(text), Ok(bytes), "{text}");
        }
        for text in ["", "s", "-1s", "5 parsecs", "1e400", "٣s", "1.1.1s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        let forever = parse_duration("99999999999999999999999999h");
        assert_eq!(forever, Some(Duration::MAX), "a limit refuses it later");
        for text in ["", "MiB", "-1", "8 miles", "0.3B"] {
            let refused = parse_size::<Error>(text).unwrap_err().to_string();
            assert!(refused.contains("a size such as"), "{text}: {refused}");
        }
        assert_eq!(
            parse_size::<Error>("99999999999GiB")
                .unwrap_err()
                .to_string(),
            "`99999999999GiB` is too large; the largest is 1024TiB"
        );
        for (bytes, shown) in [
            (0, "0"),
            (4096, "4KiB"),
            (4097, "4097"),
            (256 << 20, "256MiB"),
        ] {
            assert_eq!(show_size(bytes), shown);
        }
        for (milliseconds, shown) in [(0, "0s"), (1500, "1500ms"), (90_000, "90s")] {
            assert_eq!(show_duration(Duration::from_millis(milliseconds)), shown);
        }
    }
}
