//! Values of options as people write them.

use std::time::Duration;

/// Reads "20ms", "1.5s", "2m".
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number
        .trim()
        .parse()
        .map_err(|_| "a time is like 20ms, 1.5s or 2m")?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        _ => return Err("a time has a unit: us, ms, s or m".to_owned()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Reads a number above 1.
pub(super) fn factor(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "a factor is like 1.5")?;
    if number > 1.0 {
        Ok(number)
    } else {
        Err("a factor is more than 1".to_owned())
    }
}

/// Reads "0.1%" or "0.1".
pub(super) fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').trim();
    number
        .parse()
        .map_err(|_| "a share is like 0.1%".to_owned())
}

/// Reads "1Mbps", "500kbps" or bits per second.
pub(super) fn bitrate(text: &str) -> Result<u64, String> {
    let (number, factor) = if let Some(number) = text.strip_suffix("Mbps") {
        (number, 1e6)
    } else if let Some(number) = text.strip_suffix("kbps") {
        (number, 1e3)
    } else {
        (text, 1.0)
    };
    let number: f64 = number
        .trim()
        .parse()
        .map_err(|_| "a rate is like 1.5Mbps or 500kbps")?;
    let bps = number * factor;
    if !(10_000.0..=100_000_000.0).contains(&bps) {
        return Err("a rate is between 10kbps and 100Mbps".to_owned());
    }
    #[expect(clippy::cast_possible_truncation, reason = "checked above")]
    Ok(bps as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_shares_and_rates_are_read() {
        assert_eq!(duration("20ms"), Ok(Duration::from_millis(20)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert!(duration("20").is_err() && duration("-1s").is_err());
        assert_eq!(percent("0.1%"), Ok(0.1));
        assert_eq!(bitrate("1.5Mbps"), Ok(1_500_000));
        assert!(bitrate("1").is_err());
    }
}
