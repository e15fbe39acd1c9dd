//! How long a platform asks us to wait: in a header, or only in the words of its message.

use std::time::Duration;

use crate::clock::Timestamp;

/// Longest wait that is taken at its word; a platform that asks for more is asked again after this.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Zhipu writes reset times in Beijing time.
const BEIJING_HOURS: i64 = 8;

/// What the answer's headers and message say.
pub(super) struct Hints<'a> {
    pub retry_after_ms: Option<&'a str>,
    pub retry_after: Option<&'a str>,
    pub server_date: Option<Timestamp>,
    pub message: &'a str,
    pub now: Timestamp,
}

impl Hints<'_> {
    /// The wait, from the most precise source that makes sense.
    pub(super) fn wait(&self) -> Option<Duration> {
        let millis = self.retry_after_ms.and_then(number).map(|ms| ms / 1_000.0);
        let header = self.retry_after.and_then(|text| number(text).or_else(|| self.until_date(text)));
        let wait = millis.or(header).or_else(|| seconds_in_words(self.message)).and_then(seconds)?;
        Some(wait.min(LONGEST))
    }

    /// The moment a usage window resets, as a wait. Not capped: nobody sleeps on it, people read it.
    pub(super) fn until_reset(&self) -> Option<Duration> {
        let reset = reset_time(self.message)?;
        let now = self.server_date.unwrap_or(self.now);
        (reset > now).then(|| reset.since(now))
    }

    /// An HTTP date, measured on the clock of whoever wrote it.
    fn until_date(&self, text: &str) -> Option<f64> {
        let until = httpdate::parse_http_date(text.trim()).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        let now = self.server_date.unwrap_or(self.now);
        Some((until.as_secs_f64() - now.0 as f64 / 1e6).max(0.0))
    }
}

fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    plain.then(|| text.parse().ok()).flatten()
}

fn seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds.min(1e9)).ok()
}

/// "… please try again after 19 seconds" (Moonshot states the wait nowhere else, platform_api.md §4A).
fn seconds_in_words(message: &str) -> Option<f64> {
    let lower = message.to_ascii_lowercase();
    lower.match_indices("after ").find_map(|(at, word)| {
        let rest = &lower[at + word.len()..];
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let wait = number(&rest[..end])?;
        rest[end..].trim_start().starts_with("second").then_some(wait)
    })
}

/// "… reset at 2026-05-25 19:22:49", "将在 2026-05-25 19:22:49 重置".
fn reset_time(message: &str) -> Option<Timestamp> {
    let is_time = |text: &&str| {
        text.len() == 19
            && text.bytes().zip("dddd-dd-dd dd:dd:dd".bytes()).all(|(byte, shape)| match shape {
                b'd' => byte.is_ascii_digit(),
                _ => byte == shape,
            })
    };
    let found = message.char_indices().filter_map(|(at, _)| message.get(at..at + 19)).find(is_time)?;
    let civil: jiff::civil::DateTime = found.replace(' ', "T").parse().ok()?;
    let utc = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    Some(Timestamp(utc.as_microsecond() - BEIJING_HOURS * 3_600_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints<'a>(ms: Option<&'a str>, header: Option<&'a str>, message: &'a str) -> Hints<'a> {
        let now = Timestamp::parse_rfc3339("2026-11-23T10:00:00Z").unwrap();
        Hints { retry_after_ms: ms, retry_after: header, server_date: None, message, now }
    }

    #[test]
    fn every_form_of_a_wait_is_read() {
        let secs = |s: f64| Some(Duration::from_secs_f64(s));
        for (name, ms, header, message, wait) in [
            ("zero", None, Some("0"), "", secs(0.0)),
            ("seconds", None, Some("1"), "", secs(1.0)),
            ("float", None, Some("1.5"), "", secs(1.5)),
            ("milliseconds win", Some("250"), Some("9"), "", secs(0.25)),
            ("a date", None, Some("Mon, 23 Nov 2026 10:00:07 GMT"), "", secs(7.0)),
            ("a past date", None, Some("Mon, 23 Nov 2026 09:00:00 GMT"), "", secs(0.0)),
            ("too long", None, Some("1000000000"), "", secs(3600.0)),
            ("negative", None, Some("-1"), "", None),
            ("not a number", None, Some("NaN"), "", None),
            ("empty", None, Some(""), "", None),
            ("words", None, None, "max RPM: 3, please try again after 19 seconds", secs(19.0)),
            ("words with a fraction", None, None, "please try again after 0.5 seconds", secs(0.5)),
            ("one second", None, None, "try again after 1 second", secs(1.0)),
            ("words without a number", None, None, "try again after a while", None),
            ("a bad header falls back to words", None, Some("soon"), "after 2 seconds", secs(2.0)),
        ] {
            assert_eq!(hints(ms, header, message).wait(), wait, "{name}");
        }
    }

    #[test]
    fn a_date_is_measured_on_the_clock_of_the_server() {
        let skewed = Timestamp::parse_rfc3339("2026-11-23T12:00:00Z");
        let hints = Hints { server_date: skewed, ..hints(None, Some("Mon, 23 Nov 2026 12:00:03 GMT"), "") };
        assert_eq!(hints.wait(), Some(Duration::from_secs(3)));
    }

    #[test]
    fn reset_times_are_in_beijing_time() {
        for message in [
            "Usage limit reached for 5 hour. Your limit will reset at 2026-11-23 18:30:00",
            "已达到 5 小时的使用上限。您的限额将在 2026-11-23 18:30:00 重置。",
        ] {
            assert_eq!(hints(None, None, message).until_reset(), Some(Duration::from_secs(1_800)), "{message}");
        }
        assert_eq!(hints(None, None, "no time here").until_reset(), None);
    }
}
