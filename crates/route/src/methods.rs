//! A route's list of methods. Methods are case-sensitive (RFC 9110 §9.1): `get` is none of ours.

/// Those that nearly every list is made of; each is one bit.
const KNOWN: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT",
];

/// A list of methods; empty takes all.
#[derive(Debug)]
pub(crate) struct Methods {
    known: u16,
    others: Box<[Box<str>]>,
}

impl Methods {
    pub(crate) fn build(written: &[String]) -> Self {
        let known = written.iter().fold(0, |bits, method| bits | bit(method));
        let others = written
            .iter()
            .filter(|method| bit(method) == 0)
            .map(|m| m.as_str().into());
        Self {
            known,
            others: others.collect(),
        }
    }

    /// Is `method` in the list, or the list empty?
    pub(crate) fn take(&self, method: &str) -> bool {
        match (self.known, &*self.others) {
            (0, []) => true,
            (known, []) => known & bit(method) != 0,
            (known, others) => known & bit(method) != 0 || others.iter().any(|m| **m == *method),
        }
    }

    /// The list, known ones first.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let known = KNOWN
            .into_iter()
            .filter(|method| self.known & bit(method) != 0);
        known.chain(self.others.iter().map(|m| &**m))
    }
}

/// The bit of a known method; 0 for others.
fn bit(method: &str) -> u16 {
    match method {
        "GET" => 1,
        "HEAD" => 1 << 1,
        "POST" => 1 << 2,
        "PUT" => 1 << 3,
        "PATCH" => 1 << 4,
        "DELETE" => 1 << 5,
        "OPTIONS" => 1 << 6,
        "TRACE" => 1 << 7,
        "CONNECT" => 1 << 8,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_known_method_has_its_own_bit() {
        for (i, method) in KNOWN.iter().enumerate() {
            assert_eq!(bit(method), 1 << i);
            let list = Methods::build(&[(*method).to_owned()]);
            for other in KNOWN {
                assert_eq!(list.take(other), other == *method);
            }
            assert!(!list.take(&method.to_ascii_lowercase()));
        }
    }

    #[test]
    fn ac15_others_are_case_sensitive_too() {
        let list = Methods::build(&["PURGE".to_owned(), "GET".to_owned()]);
        assert!(list.take("PURGE") && list.take("GET"));
        assert!(!list.take("purge") && !list.take("get") && !list.take("POST") && !list.take(""));
        assert!(list.names().eq(["GET", "PURGE"]));
        assert!(Methods::build(&[]).take("anything"));
    }
}
