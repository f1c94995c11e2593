//! `Cache-Status` (RFC 9211): what this cache did with a request.

use super::Why;
use super::lines::decimal;

/// Why a request went on to the origin (RFC 9211 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// The cache is not for it.
    Bypass,
    /// Its method is not.
    Method,
    /// Nothing is stored under its key.
    UriMiss,
    /// Something is, for other values of the fields in `Vary`.
    VaryMiss,
    /// Nothing usable is stored, for another reason.
    Miss,
    /// The request wants it so.
    Request,
    /// It is stored and stale.
    Stale,
    /// Only a part is stored.
    Partial,
}

impl Forward {
    fn word(self) -> &'static [u8] {
        match self {
            Self::Bypass => b"bypass",
            Self::Method => b"method",
            Self::UriMiss => b"uri-miss",
            Self::VaryMiss => b"vary-miss",
            Self::Miss => b"miss",
            Self::Request => b"request",
            Self::Stale => b"stale",
            Self::Partial => b"partial",
        }
    }
}

impl Why {
    /// What `fwd` says of a request that goes on for this reason. Reasons not to store speak of the answer; a request that went
    /// on had been a miss.
    pub fn forward(self) -> Forward {
        match self {
            Self::Method => Forward::Method,
            Self::RequestBody | Self::Upgrade | Self::Bypass | Self::Condition => Forward::Bypass,
            Self::RequestNoStore | Self::RequestNoCache | Self::RequestAge => Forward::Request,
            Self::Miss => Forward::UriMiss,
            Self::VaryMiss => Forward::VaryMiss,
            Self::Stale | Self::NoCache | Self::Purged => Forward::Stale,
            Self::Part => Forward::Partial,
            _ => Forward::Miss,
        }
    }
}

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStatus {
    /// Why the request went on; `None`: a hit.
    pub forward: Option<Forward>,
    /// The status that came of it, if it is not the answer's own.
    pub forward_status: Option<u16>,
    /// The answer was stored.
    pub stored: bool,
    /// The request waited for another's fetch.
    pub collapsed: bool,
    /// Seconds that a stored answer is still fresh; negative: has been stale.
    pub ttl_s: Option<i64>,
    /// More of the reason, as a token.
    pub detail: Option<&'static str>,
}

impl CacheStatus {
    /// Appends the field's value. Allocates nothing but room in `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Narthex");
        match self.forward {
            None => out.extend_from_slice(b"; hit"),
            Some(forward) => {
                out.extend_from_slice(b"; fwd=");
                out.extend_from_slice(forward.word());
                if let Some(status) = self.forward_status {
                    out.extend_from_slice(b"; fwd-status=");
                    decimal(out, u64::from(status));
                }
                if self.stored {
                    out.extend_from_slice(b"; stored");
                }
                if self.collapsed {
                    out.extend_from_slice(b"; collapsed");
                }
            }
        }
        if let Some(ttl) = self.ttl_s {
            out.extend_from_slice(b"; ttl=");
            if ttl < 0 {
                out.push(b'-');
            }
            decimal(out, ttl.unsigned_abs());
        }
        if let Some(detail) = self.detail {
            out.extend_from_slice(b"; detail=");
            out.extend_from_slice(detail.as_bytes());
        }
    }
}

/// Appends the value of `Age`.
pub fn write_age(out: &mut Vec<u8>, age_s: u32) {
    decimal(out, u64::from(age_s));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(status: CacheStatus) -> String {
        let mut out = Vec::new();
        status.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines() {
        let none = CacheStatus::default();
        assert_eq!(
            written(CacheStatus {
                ttl_s: Some(376),
                ..none
            }),
            "Narthex; hit; ttl=376"
        );
        assert_eq!(
            written(CacheStatus {
                ttl_s: Some(-412),
                ..none
            }),
            "Narthex; hit; ttl=-412"
        );
        assert_eq!(
            written(CacheStatus {
                forward: Some(Forward::UriMiss),
                stored: true,
                collapsed: true,
                ..none
            }),
            "Narthex; fwd=uri-miss; stored; collapsed"
        );
        assert_eq!(
            written(CacheStatus {
                forward: Some(Why::Stale.forward()),
                forward_status: Some(304),
                stored: true,
                ttl_s: Some(60),
                ..none
            }),
            "Narthex; fwd=stale; fwd-status=304; stored; ttl=60"
        );
        assert_eq!(
            written(CacheStatus {
                forward: Some(Why::Bypass.forward()),
                detail: Some(Why::Bypass.word()),
                ..none
            }),
            "Narthex; fwd=bypass; detail=bypass"
        );
    }

    /// Every word is a token of structured fields, and the line a list's member.
    #[test]
    fn structured() {
        for why in Why::ALL {
            let line = written(CacheStatus {
                forward: Some(why.forward()),
                forward_status: Some(200),
                ttl_s: Some(i64::MIN),
                detail: Some(why.word()),
                ..CacheStatus::default()
            });
            assert!(line.bytes().all(|b| b.is_ascii_graphic() || b == b' '));
            assert!(why.word().starts_with(|c: char| c.is_ascii_lowercase()));
        }
        let mut out = Vec::new();
        write_age(&mut out, u32::MAX);
        assert_eq!(out, b"4294967295");
    }
}
