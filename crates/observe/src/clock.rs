//! Civil time: Unix seconds to the three spellings that the proxy writes. All of it is UTC and pure, but for
//! [`unix_ms`].
//!
//! Years above 9999 do not fit the fixed widths; such seconds are written as the last one of 9999.

use std::time::{SystemTime, UNIX_EPOCH};

/// The last second that has a four-digit year.
const LAST_SECOND: u64 = 253_402_300_799;

const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// The first of January 1970 was a Thursday.
const WEEKDAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];

/// A moment in UTC, broken down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    /// 1970..=9999.
    pub year: u16,
    /// 1..=12.
    pub month: u8,
    /// 1..=31.
    pub day: u8,
    /// 0..=23.
    pub hour: u8,
    /// 0..=59.
    pub minute: u8,
    /// 0..=59; Unix time has no leap seconds.
    pub second: u8,
    /// Days since Thursday, 0..=6: the epoch was one.
    since_thursday: u8,
}

impl Civil {
    /// Breaks Unix seconds down.
    pub fn from_unix(seconds: u64) -> Self {
        let seconds = seconds.min(LAST_SECOND);
        let days = seconds / 86_400;
        let of_day = seconds % 86_400;
        let (year, month, day) = date_of(days);
        Self {
            year: year as u16,
            month: month as u8,
            day: day as u8,
            hour: (of_day / 3600) as u8,
            minute: (of_day / 60 % 60) as u8,
            second: (of_day % 60) as u8,
            since_thursday: (days % 7) as u8,
        }
    }

    fn month_name(self) -> &'static [u8; 3] {
        MONTHS
            .get(usize::from(self.month) - 1)
            .copied()
            .unwrap_or(b"???")
    }

    fn weekday_name(self) -> &'static [u8; 3] {
        WEEKDAYS
            .get(usize::from(self.since_thursday))
            .copied()
            .unwrap_or(b"???")
    }
}

/// Year, month, day of a day counted from the epoch. Counting in years that begin in March puts the leap day last, so
/// that a month's first day is a linear function of its number; 400 years are always 146,097 days.
fn date_of(days_since_epoch: u64) -> (u64, u64, u64) {
    // 719,468 days lie between 0000-03-01 and the epoch
    let days = days_since_epoch + 719_468;
    let cycle = days / 146_097;
    let of_cycle = days % 146_097;
    let year_of_cycle = (of_cycle - of_cycle / 1460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = cycle * 400 + year_of_cycle + u64::from(month <= 2);
    (year, month, day)
}

/// Copies `text` to `out` at `at`; every caller passes constants that fit.
fn put(out: &mut [u8], at: usize, text: &[u8]) {
    for (to, from) in out.iter_mut().skip(at).zip(text) {
        *to = *from;
    }
}

fn put2(out: &mut [u8], at: usize, value: u8) {
    put(out, at, &[b'0' + value / 10, b'0' + value % 10]);
}

fn put4(out: &mut [u8], at: usize, value: u16) {
    put2(out, at, (value / 100) as u8);
    put2(out, at + 2, (value % 100) as u8);
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`: IMF-fixdate, RFC 9110 section 5.6.7.
pub fn http_date(seconds: u64) -> [u8; 29] {
    let t = Civil::from_unix(seconds);
    let mut out = *b"???, 00 ??? 0000 00:00:00 GMT";
    put(&mut out, 0, t.weekday_name());
    put2(&mut out, 5, t.day);
    put(&mut out, 8, t.month_name());
    put4(&mut out, 12, t.year);
    put2(&mut out, 17, t.hour);
    put2(&mut out, 20, t.minute);
    put2(&mut out, 23, t.second);
    out
}

/// `1994-11-06T08:49:37Z`: RFC 3339.
pub fn rfc3339(seconds: u64) -> [u8; 20] {
    let t = Civil::from_unix(seconds);
    let mut out = *b"0000-00-00T00:00:00Z";
    put4(&mut out, 0, t.year);
    put2(&mut out, 5, t.month);
    put2(&mut out, 8, t.day);
    put2(&mut out, 11, t.hour);
    put2(&mut out, 14, t.minute);
    put2(&mut out, 17, t.second);
    out
}

/// `06/Nov/1994:08:49:37 +0000`: the Common Log Format.
pub fn clf(seconds: u64) -> [u8; 26] {
    let t = Civil::from_unix(seconds);
    let mut out = *b"00/???/0000:00:00:00 +0000";
    put2(&mut out, 0, t.day);
    put(&mut out, 3, t.month_name());
    put4(&mut out, 7, t.year);
    put2(&mut out, 12, t.hour);
    put2(&mut out, 15, t.minute);
    put2(&mut out, 18, t.second);
    out
}

/// Unix milliseconds now; 0 for a clock before 1970. For the control plane and rare events: the data path reads its time
/// once per turn of its loop.
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn known_moments() {
        assert_eq!(&http_date(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&rfc3339(784_111_777), b"1994-11-06T08:49:37Z");
        assert_eq!(&clf(784_111_777), b"06/Nov/1994:08:49:37 +0000");
        assert_eq!(&rfc3339(0), b"1970-01-01T00:00:00Z");
        assert_eq!(&rfc3339(951_782_399), b"2000-02-28T23:59:59Z");
        assert_eq!(&rfc3339(951_782_400), b"2000-02-29T00:00:00Z");
        assert_eq!(
            &rfc3339(4_107_542_400),
            b"2100-03-01T00:00:00Z",
            "2100 is no leap year"
        );
    }

    #[test]
    fn beyond_the_last_four_digit_year() {
        assert_eq!(&rfc3339(LAST_SECOND), b"9999-12-31T23:59:59Z");
        assert_eq!(rfc3339(u64::MAX), rfc3339(LAST_SECOND));
    }

    proptest! {
        #[test]
        fn same_as_the_reference(seconds in 0..=LAST_SECOND) {
            let theirs = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
            prop_assert_eq!(&http_date(seconds)[..], theirs.as_bytes());
        }
    }
}
