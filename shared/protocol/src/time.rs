//! Times on the wire: ISO 8601 as Python writes it (celery.utils.iso8601).

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, SecondsFormat, Utc};

use crate::time_zone::{Zone, instants};

/// Reads a time. Without an offset it is UTC, Celery's default time zone.
pub fn parse(text: &str) -> Option<DateTime<Utc>> {
    parse_in(text, &Zone::UTC)
}

/// Reads a time. Without an offset it is what the clocks of `zone` show. Offsets as `Z`, `+02:00`, `+0200`; seconds with
/// or without a fraction; a date alone is its midnight.
pub fn parse_in(text: &str, zone: &Zone) -> Option<DateTime<Utc>> {
    let text = text.trim();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.with_timezone(&Utc));
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z"] {
        if let Ok(time) = DateTime::<FixedOffset>::parse_from_str(text, format) {
            return Some(time.with_timezone(&Utc));
        }
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, format) {
            return Some(instants(time, zone).0);
        }
    }
    Some(instants(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0)?, zone).0)
}

/// Writes a time as Python's `isoformat()` does for UTC: microseconds, `+00:00`.
pub fn format(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, false)
}

/// Seconds since the epoch, with fraction.
pub fn epoch(time: DateTime<Utc>) -> f64 {
    time.timestamp_micros() as f64 / 1e6
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn forms_that_python_writes() {
        for (text, seconds) in [
            ("2026-11-24T03:12:19.858790+00:00", 1795489939.85879),
            ("2026-11-24T03:12:19+02:00", 1795482739.0),
            ("2026-11-24T03:12:19Z", 1795489939.0),
            ("2026-11-24T03:12:19", 1795489939.0),
            ("2026-11-24T03:12:19+0200", 1795482739.0),
            ("2026-11-24 03:12:19.5", 1795489939.5),
            ("2026-11-24", 1795478400.0),
        ] {
            assert_eq!(parse(text).map(epoch), Some(seconds), "{text}");
        }
        for text in ["", "soon", "2026-13-01T00:00:00", "1795489939"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_without_an_offset_is_the_zone_s() {
        let zone = "Europe/Berlin".parse().unwrap();
        let berlin = |text| parse_in(text, &zone).map(format);
        assert_eq!(berlin("2026-07-01T12:00:00").as_deref(), Some("2026-07-01T10:00:00.000000+00:00"));
        assert_eq!(berlin("2026-01-01").as_deref(), Some("2025-12-31T23:00:00.000000+00:00"));
        assert_eq!(berlin("2026-07-01T12:00:00Z").as_deref(), Some("2026-07-01T12:00:00.000000+00:00"));
    }

    #[test]
    fn written_as_python_does() {
        let text = "2026-11-24T03:12:19.858790+00:00";
        assert_eq!(format(parse(text).unwrap()), text);
    }
}
