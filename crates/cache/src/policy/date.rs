//! HTTP dates: all three forms (RFC 9110 5.6.7), names in any case (RFC 9111 4.2), `GMT` and no other zone.

/// Seconds of fifty Gregorian years.
const FIFTY_YEARS: u64 = 1_577_847_600;

/// Unix seconds of a date; 0 for what lies before 1970. `now_s` tells the century of a year with two digits.
pub fn parse(value: &[u8], now_s: u64) -> Option<u64> {
    match value.get(3)? {
        b',' => fixdate(value),
        b' ' => asctime(value),
        _ => rfc850(value, now_s),
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn fixdate(v: &[u8]) -> Option<u64> {
    let v: &[u8; 29] = v.try_into().ok()?;
    let [
        a,
        b,
        c,
        b',',
        b' ',
        d1,
        d2,
        b' ',
        m1,
        m2,
        m3,
        b' ',
        y1,
        y2,
        y3,
        y4,
        b' ',
        time @ ..,
    ] = v
    else {
        return None;
    };
    weekday([*a, *b, *c])?;
    let (time, zone) = time.split_at_checked(8)?;
    zone.eq_ignore_ascii_case(b" GMT").then_some(())?;
    let year = two(*y1, *y2)? * 100 + two(*y3, *y4)?;
    unix(year, month([*m1, *m2, *m3])?, two(*d1, *d2)?, clock(time)?)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850(v: &[u8], now_s: u64) -> Option<u64> {
    let comma = v.iter().take(10).position(|b| *b == b',')?;
    let (day, rest) = v.split_at_checked(comma)?;
    DAYS.iter()
        .any(|name| name.eq_ignore_ascii_case(day))
        .then_some(())?;
    let rest: &[u8; 24] = rest.try_into().ok()?;
    let [
        b',',
        b' ',
        d1,
        d2,
        b'-',
        m1,
        m2,
        m3,
        b'-',
        y1,
        y2,
        b' ',
        time @ ..,
    ] = rest
    else {
        return None;
    };
    let (time, zone) = time.split_at_checked(8)?;
    zone.eq_ignore_ascii_case(b" GMT").then_some(())?;
    let (month, day, clock) = (month([*m1, *m2, *m3])?, two(*d1, *d2)?, clock(time)?);
    let year = two(*y1, *y2)? + year_of(now_s) / 100 * 100;
    // "more than 50 years in the future": the most recent year in the past with these digits (RFC 9110 5.6.7).
    match unix(year, month, day, clock) {
        Some(at) if at <= now_s.saturating_add(FIFTY_YEARS) => Some(at),
        _ => unix(year.checked_sub(100)?, month, day, clock),
    }
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(v: &[u8]) -> Option<u64> {
    let v: &[u8; 24] = v.try_into().ok()?;
    let [a, b, c, b' ', m1, m2, m3, b' ', d1, d2, b' ', time @ ..] = v else {
        return None;
    };
    weekday([*a, *b, *c])?;
    let (time, year) = time.split_at_checked(8)?;
    let [b' ', y1, y2, y3, y4] = year else {
        return None;
    };
    let d1 = if *d1 == b' ' { b'0' } else { *d1 };
    let year = two(*y1, *y2)? * 100 + two(*y3, *y4)?;
    unix(year, month([*m1, *m2, *m3])?, two(d1, *d2)?, clock(time)?)
}

const DAYS: [&[u8]; 7] = [
    b"Sunday",
    b"Monday",
    b"Tuesday",
    b"Wednesday",
    b"Thursday",
    b"Friday",
    b"Saturday",
];

fn weekday(name: [u8; 3]) -> Option<()> {
    DAYS.iter()
        .any(|day| day.get(..3).is_some_and(|d| d.eq_ignore_ascii_case(&name)))
        .then_some(())
}

/// 1 to 12.
fn month(name: [u8; 3]) -> Option<u64> {
    Some(match &name.map(|b| b.to_ascii_lowercase()) {
        b"jan" => 1,
        b"feb" => 2,
        b"mar" => 3,
        b"apr" => 4,
        b"may" => 5,
        b"jun" => 6,
        b"jul" => 7,
        b"aug" => 8,
        b"sep" => 9,
        b"oct" => 10,
        b"nov" => 11,
        b"dec" => 12,
        _ => return None,
    })
}

fn two(a: u8, b: u8) -> Option<u64> {
    (a.is_ascii_digit() && b.is_ascii_digit())
        .then(|| u64::from(a - b'0') * 10 + u64::from(b - b'0'))
}

/// `08:49:37` in seconds. A leap second counts as the one before it.
fn clock(v: &[u8]) -> Option<u64> {
    let [h1, h2, b':', m1, m2, b':', s1, s2] = v else {
        return None;
    };
    let (hour, minute, second) = (two(*h1, *h2)?, two(*m1, *m2)?, two(*s1, *s2)?);
    (hour < 24 && minute < 60 && second <= 60).then(|| hour * 3600 + minute * 60 + second.min(59))
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Seconds since 1970 of a civil time; the calendar in years that begin in March, as `observe::clock` reads it backwards.
fn unix(year: u64, month: u64, day: u64, clock: u64) -> Option<u64> {
    let most = match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if day == 0 || day > most {
        return None;
    }
    if year < 1970 {
        return Some(0);
    }
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
    Some(days.saturating_sub(719_468) * 86_400 + clock)
}

/// The year of a Unix time, near enough for the century: a Gregorian year is 365.2425 days.
fn year_of(now_s: u64) -> u64 {
    1970 + now_s / 31_556_952
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_795_900_000; // 2026-11-28

    #[test]
    fn three_forms_of_one_moment() {
        for form in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "SUN, 06 nOV 1994 08:49:37 gmt",
            "sunday, 06-nov-94 08:49:37 Gmt",
            "sun NOV 06 08:49:37 1994",
        ] {
            assert_eq!(parse(form.as_bytes(), NOW), Some(784_111_777), "{form}");
        }
        // Leap seconds, leap days, and what lies before the epoch.
        for (form, at) in [
            ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_799),
            ("Tue, 29 Feb 2000 00:00:00 GMT", 951_782_400),
            ("Wed, 31 Dec 1969 23:59:59 GMT", 0),
            ("Sat, 01 Jan 0000 00:00:00 GMT", 0),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799),
        ] {
            assert_eq!(parse(form.as_bytes(), NOW), Some(at), "{form}");
        }
    }

    #[test]
    fn two_digits_of_a_year() {
        let at = |text: &str, now| parse(text.as_bytes(), now);
        assert_eq!(
            at("Thursday, 18-Aug-50 02:01:18 GMT", NOW),
            Some(2_544_400_878)
        );
        // 2076-11-28 is fifty years away: the day before is still ahead, a year later is the last century's.
        assert_eq!(
            at("Friday, 27-Nov-76 00:00:00 GMT", NOW),
            Some(3_373_660_800)
        );
        assert_eq!(at("Sunday, 28-Nov-77 00:00:00 GMT", NOW), Some(249_523_200));
    }

    #[test]
    fn what_is_no_date() {
        for bad in [
            "",
            "0",
            "-1",
            "now",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 AEST",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun 06 Nov 1994 08:49:37 GMT",
            "Sun, 06  Nov  1994 08:49:37 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08.49.37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Sun, 29 Feb 1900 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Xun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nuv 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMTx",
            "Sunday, 06-Nov-1994 08:49:37 GMT",
            "Someday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov 6 08:49:37 1994",
        ] {
            assert_eq!(parse(bad.as_bytes(), NOW), None, "{bad}");
        }
    }

    proptest! {
        /// What the proxy writes is read back, and the crate `httpdate` agrees on all three forms.
        #[test]
        fn agrees_with_the_writer_and_with_httpdate(at in 0u64..253_402_300_799) {
            let written = narthex_observe::clock::http_date(at);
            prop_assert_eq!(parse(&written, NOW), Some(at));
            let text = std::str::from_utf8(&written).unwrap();
            let theirs = httpdate::parse_http_date(text).unwrap();
            prop_assert_eq!(theirs.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(), at);
        }

        #[test]
        fn never_panics(value in proptest::collection::vec(any::<u8>(), 0..40), now in any::<u64>()) {
            let _ = parse(&value, now);
        }

        #[test]
        fn near_dates(text in "(Sun|Mon, |Tuesday, |Wed )(0[0-9]|[1-3][0-9]| [1-9])[- ](Jan|Feb|nov)[- ](19|20)?[0-9][0-9] [0-2][0-9]:[0-6][0-9]:[0-6][0-9]( GMT)?", now in 0u64..4_000_000_000) {
            // `httpdate` is stricter about case and laxer about nothing: what it reads, we read alike (its two-digit years turn
            // at 1970, ours fifty years ahead).
            if text.len() == 29 && let Ok(theirs) = httpdate::parse_http_date(&text) {
                let theirs = theirs.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
                prop_assert_eq!(parse(text.as_bytes(), now), Some(theirs));
            }
        }
    }
}
