//! Paths and authorities: canonical is a fixed point, says the same as the reference, and holds nothing that was refused.

use narthex_e2e::kit::canon;
use narthex_message::{authority, path, query};

/// The target.
pub fn url(data: &[u8]) {
    let (raw, asked) = path::split_target(data);
    for merge in [false, true] {
        one_path(raw, merge);
    }
    if let Some(asked) = asked {
        let _ = query::validate(asked);
        for (name, value) in query::pairs(asked) {
            let _ = (query::decode(name), query::decode(value));
        }
    }
    host(data);
}

fn one_path(raw: &[u8], merge: bool) {
    let mut out = String::new();
    let result = path::canonical(raw, merge, &mut out).map(str::to_owned);
    if let Ok(canonical) = &result {
        assert!(canonical.starts_with('/'));
        assert!(canonical.bytes().all(|b| (0x21..0x7f).contains(&b)));
        assert!(
            !canonical.split('/').any(|s| s == "." || s == ".."),
            "{canonical}"
        );
        assert!(!merge || !canonical.contains("//"), "{canonical}");
        let mut again = String::new();
        let second = path::canonical(canonical.as_bytes(), merge, &mut again);
        assert_eq!(second, Ok(canonical.as_str()), "not a fixed point");
        assert_eq!(path::require_canonical(canonical, merge), Ok(()));
    }
    if !merge {
        let reference = canon::canonical_path(raw);
        assert_eq!(
            result.clone().ok().map(String::into_bytes),
            reference,
            "ours is {result:?}, of {}",
            raw.escape_ascii()
        );
    }
}

fn host(raw: &[u8]) {
    let Ok(parsed) = authority::parse(raw) else {
        return;
    };
    let host = parsed.host.into_owned();
    assert!(!host.is_empty() && host.len() <= authority::MAX_AUTHORITY);
    assert!(
        !host
            .bytes()
            .any(|b| b.is_ascii_uppercase() || b <= b' ' || b >= 0x7f)
    );
    let again = authority::parse(host.as_bytes());
    assert_eq!(
        again.map(|a| (a.host.into_owned(), a.port)),
        Ok((host, None)),
        "not a fixed point"
    );
}
