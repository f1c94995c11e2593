//! SRV records (RFC 2782) as servers: pure. Their ports are taken as they are, their weights too (scaled down where one is
//! above 1000), and their priorities come after the one of the `server` line: the lowest is its rank, each higher one is a
//! rank further.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Records of a name.
pub(super) const RECORDS: usize = 256;
/// The largest weight of a server.
const MAX_WEIGHT: u32 = 1_000;
/// The last rank.
const MAX_STEP: u8 = 15;

/// One record. In the order of use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Record {
    pub(super) priority: u16,
    pub(super) target: String,
    pub(super) port: u16,
    pub(super) weight: u16,
}

/// A place where a name's servers are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Ranks after the `server` line's own.
    pub(crate) step: u8,
    /// Where.
    pub(crate) address: SocketAddr,
    /// Instead of the `server` line's own.
    pub(crate) weight: Option<u32>,
}

impl Place {
    /// Rank and weight are the line's.
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Self {
            step: 0,
            address,
            weight: None,
        }
    }
}

/// A record that says no place: "this service is decidedly not available here" (RFC 2782), or something wrong.
pub(super) fn is_usable(record: &Record) -> bool {
    record.port != 0 && !record.target.is_empty() && record.target != "."
}

/// The places of records whose targets have these addresses. The weight of a target with several is shared by them.
pub(super) fn places<'a>(
    records: &[Record],
    addresses: impl Fn(&str) -> &'a [IpAddr],
) -> Vec<Place> {
    let usable = || records.iter().filter(|r| is_usable(r));
    let heaviest = usable().map(|r| u32::from(r.weight)).max().unwrap_or(0);
    let mut priorities: Vec<u16> = usable().map(|r| r.priority).collect();
    priorities.sort_unstable();
    priorities.dedup();
    let parts = usable().map(|r| (scaled(r.weight, heaviest), addresses(&r.target).len()));
    let scale = scale(&parts.collect::<Vec<_>>());
    let mut places = Vec::new();
    for record in usable() {
        let step = priorities.partition_point(|p| *p < record.priority);
        let step = u8::try_from(step).unwrap_or(MAX_STEP).min(MAX_STEP);
        let found = addresses(&record.target);
        let shared = scaled(record.weight, heaviest) * scale / (found.len().max(1) as u32);
        places.extend(found.iter().map(|ip| Place {
            step,
            address: SocketAddr::new(*ip, record.port),
            weight: Some(shared.max(1)),
        }));
    }
    places.sort_unstable();
    // Two records may name one place.
    let mut seen = HashSet::new();
    places.retain(|place| seen.insert(place.address));
    places
}

/// By what all weights (of a target, and its addresses) are to be multiplied so that each can be shared without a rest; the
/// largest that there is room for, if none can.
fn scale(parts: &[(u32, usize)]) -> u32 {
    let heaviest = parts.iter().map(|(weight, _)| *weight).max().unwrap_or(1);
    let most = (MAX_WEIGHT / heaviest.max(1)).max(1);
    let even = |by: &u32| {
        let rest = |(weight, of): &(u32, usize)| (*weight * by) as usize % (*of).max(1);
        parts.iter().all(|part| rest(part) == 0)
    };
    (1..=most).find(even).unwrap_or(most)
}

/// Zero is "a very small chance of being chosen".
fn scaled(weight: u16, heaviest: u32) -> u32 {
    let weight = u32::from(weight);
    if heaviest <= MAX_WEIGHT {
        weight.max(1)
    } else {
        (weight * MAX_WEIGHT / heaviest).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(priority: u16, weight: u16, target: &str, port: u16) -> Record {
        Record {
            priority,
            target: target.to_owned(),
            port,
            weight,
        }
    }

    fn ips(text: &str) -> Vec<IpAddr> {
        text.split_whitespace()
            .map(|ip| ip.parse().unwrap())
            .collect()
    }

    /// Step, address, weight.
    fn shown(records: &[Record], known: &[(&str, Vec<IpAddr>)]) -> Vec<String> {
        let of = |target: &str| -> &[IpAddr] {
            known
                .iter()
                .find(|(name, _)| *name == target)
                .map_or(&[], |(_, ips)| ips)
        };
        let show = |p: &Place| format!("{} {} {}", p.step, p.address, p.weight.unwrap());
        places(records, of).iter().map(show).collect()
    }

    #[test]
    fn ports_weights_and_order_are_the_records() {
        let known = [
            ("a.test", ips("10.0.0.1")),
            ("b.test", ips("10.0.0.2")),
            ("c.test", ips("10.0.0.3")),
        ];
        let records = [
            record(10, 5, "a.test", 8001),
            record(10, 0, "b.test", 8002),
            record(20, 7, "c.test", 8003),
            record(20, 7, "unknown.test", 8004),
        ];
        assert_eq!(
            shown(&records, &known),
            [
                "0 10.0.0.1:8001 5",
                "0 10.0.0.2:8002 1",
                "1 10.0.0.3:8003 7"
            ]
        );
    }

    #[test]
    fn large_weights_are_scaled_and_shared() {
        let known = [
            ("a.test", ips("10.0.0.1 10.0.0.2")),
            ("b.test", ips("10.0.0.3")),
        ];
        let records = [
            record(0, 50_000, "a.test", 80),
            record(0, 25_000, "b.test", 80),
        ];
        assert_eq!(
            shown(&records, &known),
            [
                "0 10.0.0.1:80 500",
                "0 10.0.0.2:80 500",
                "0 10.0.0.3:80 500"
            ]
        );
    }

    #[test]
    fn a_small_weight_is_shared_too() {
        let known = [
            ("a.test", ips("10.0.0.1 fd00::1")),
            ("b.test", ips("10.0.0.2")),
            ("c.test", ips("10.0.0.3 10.0.0.4 10.0.0.5")),
        ];
        let records = ["a.test", "b.test", "c.test"].map(|target| record(0, 1, target, 80));
        assert_eq!(
            shown(&records, &known),
            [
                "0 10.0.0.1:80 3",
                "0 10.0.0.2:80 6",
                "0 10.0.0.3:80 2",
                "0 10.0.0.4:80 2",
                "0 10.0.0.5:80 2",
                "0 [fd00::1]:80 3"
            ]
        );
        let records = [record(0, 65_535, "a.test", 80), record(0, 0, "c.test", 80)];
        assert_eq!(
            shown(&records, &known),
            [
                "0 10.0.0.1:80 500",
                "0 10.0.0.3:80 1",
                "0 10.0.0.4:80 1",
                "0 10.0.0.5:80 1",
                "0 [fd00::1]:80 500"
            ]
        );
    }

    #[test]
    fn what_says_no_place_is_left_out() {
        let known = [("a.test", ips("10.0.0.1")), (".", ips("10.0.0.9"))];
        let records = [
            record(0, 1, ".", 80),
            record(0, 1, "a.test", 0),
            record(5, 1, "a.test", 80),
            record(6, 9, "a.test", 80),
        ];
        assert_eq!(shown(&records, &known), ["0 10.0.0.1:80 1"]);
    }

    #[test]
    fn the_last_rank_takes_the_rest() {
        let known = [("a.test", ips("10.0.0.1"))];
        let records: Vec<Record> = (0..40)
            .map(|i| record(i * 10, 1, "a.test", 1000 + i))
            .collect();
        let places = places(&records, |_| &known[0].1);
        assert_eq!(places.len(), 40);
        assert_eq!(places.iter().map(|p| p.step).max(), Some(MAX_STEP));
    }
}
