//! Classes of requests: the kind of device, the best of some languages.

use narthex_message::{FieldId, Head};

use super::normal::{quality, split_quality};

/// The kind of device, by what `User-Agent` calls itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Device {
    /// Everything else, robots and silence too.
    Desktop = 0,
    /// A telephone.
    Phone = 1,
    /// A tablet.
    Tablet = 2,
}

/// The device of a request.
pub(super) fn device(request: Head<'_>) -> Device {
    let agent = request.get(FieldId::UserAgent).unwrap_or_default();
    let says = |word: &[u8]| agent.windows(word.len()).any(|w| w == word);
    let android = says(b"Android");
    if says(b"iPad") || says(b"Tablet") || says(b"Kindle") || (android && !says(b"Mobile")) {
        Device::Tablet
    } else if android || says(b"Mobi") || says(b"iPhone") || says(b"iPod") {
        Device::Phone
    } else {
        Device::Desktop
    }
}

/// The one of `offered` that `Accept-Language` values most; of equals the first offered. `None`: it wants none of them, or
/// says nothing.
pub(super) fn language<'l>(request: Head<'_>, offered: &'l [String]) -> Option<&'l str> {
    let mut best: Option<(u16, &str)> = None;
    for tag in offered {
        let value = worth(request, tag.as_bytes());
        if value > best.map_or(0, |(most, _)| most) {
            best = Some((value, tag));
        }
    }
    best.map(|(_, tag)| tag)
}

/// The quality of the longest range that fits the tag: `en` fits `en-gb`, and `en-gb` fits `en`, which is what there is.
fn worth(request: Head<'_>, tag: &[u8]) -> u16 {
    let mut found: Option<(usize, u16)> = None;
    for element in request
        .named(b"accept-language")
        .flat_map(|line| line.split(|b| *b == b','))
    {
        let (range, q) = split_quality(element.trim_ascii());
        let Some(q) = quality(q) else { continue };
        let length = if range == b"*" {
            0
        } else if is_prefix(range, tag) || is_prefix(tag, range) {
            range.len()
        } else {
            continue;
        };
        if found.is_none_or(|(longest, _)| length > longest) {
            found = Some((length, q));
        }
    }
    found.map_or(0, |(_, q)| q)
}

/// Is `a` the tag `b`, or the beginning of it up to a `-`?
fn is_prefix(a: &[u8], b: &[u8]) -> bool {
    !a.is_empty()
        && b.get(..a.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(a))
        && matches!(b.get(a.len()), None | Some(b'-'))
}
