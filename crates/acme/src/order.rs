//! What to do next in an order for a certificate (RFC 8555 section 7.4): a pure function of what we have written down and
//! what the authority says. Nothing else is remembered, so a process that ends anywhere goes on where it was.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::challenge::Kind;

/// An order older than this is given up: the authority has most likely forgotten it, and a new one costs little.
const AGE_MAX: Duration = Duration::from_mins(30);
/// The first pause before the authority is asked again; each further one is half as long again.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest of these pauses.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// An order under way, as it is written down before the authority can act on it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The names of the certificate.
    pub names: Vec<String>,
    /// The authority's directory.
    pub directory: String,
    /// How the names are proven.
    pub kind: Kind,
    /// The certificate's private key (PKCS#8, PEM): known before the order is final, so that no certificate is without.
    pub key: String,
    /// Where the order is, once there is one.
    pub url: Option<String>,
    /// When it was begun: seconds since 1970.
    pub begun: u64,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key is none of a log's business.
        write!(
            f,
            "Pending({:?}, {}, {:?})",
            self.names, self.kind, self.url
        )
    }
}

/// How an order stands (RFC 8555 section 7.1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Names are still to be proven.
    Pending,
    /// The certificate may be asked for.
    Ready,
    /// It is being made.
    Processing,
    /// It is there.
    Valid,
    /// It will never be.
    Invalid,
}

/// How one name stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// We are to answer a challenge of the kind that we chose.
    Wanted,
    /// We have; the authority looks.
    Looking,
    /// Proven.
    Valid,
    /// Refused.
    Invalid,
    /// The authority does not offer the kind that we chose.
    NotOffered,
}

/// What the authority says of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The order.
    pub status: Status,
    /// Its names.
    pub proofs: Vec<(String, Proof)>,
    /// Why something was refused, in the authority's words.
    pub why: Option<String>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make the order.
    Create,
    /// Ask how it stands.
    Look,
    /// Answer the challenges of these names, tell the authority, and look again.
    Answer(Vec<String>),
    /// Look again after so long.
    Wait(Duration),
    /// Ask for the certificate.
    Finalize,
    /// Fetch it.
    Fetch,
    /// Forget this order; why, and whether a new one is worth trying at once.
    Drop {
        /// In words.
        why: String,
        /// It just went stale: nothing was refused.
        stale: bool,
    },
}

/// What comes next. `looks` is how often the authority has been asked since the last thing we did.
pub fn next(order: &Pending, seen: Option<&Seen>, looks: u32, now: u64) -> Step {
    if now.saturating_sub(order.begun) > AGE_MAX.as_secs() {
        return Step::Drop {
            why: format!(
                "the order was not done within {} minutes",
                AGE_MAX.as_secs() / 60
            ),
            stale: true,
        };
    }
    if order.url.is_none() {
        return Step::Create;
    }
    let Some(seen) = seen else {
        return Step::Look;
    };
    match seen.status {
        Status::Pending => prove(order, seen, looks),
        Status::Ready => Step::Finalize,
        Status::Processing => Step::Wait(pause(looks)),
        Status::Valid => Step::Fetch,
        Status::Invalid => refused(seen),
    }
}

fn prove(order: &Pending, seen: &Seen, looks: u32) -> Step {
    let with = |proof| {
        let of = seen.proofs.iter().filter(move |(_, p)| *p == proof);
        of.map(|(name, _)| name.clone())
    };
    if with(Proof::Invalid).next().is_some() {
        return refused(seen);
    }
    if let Some(name) = with(Proof::NotOffered).next() {
        return Step::Drop {
            why: format!("the authority does not offer {} for {name}", order.kind),
            stale: false,
        };
    }
    let wanted: Vec<String> = with(Proof::Wanted).collect();
    if wanted.is_empty() {
        Step::Wait(pause(looks))
    } else {
        Step::Answer(wanted)
    }
}

fn refused(seen: &Seen) -> Step {
    let why = seen.why.as_deref();
    Step::Drop {
        why: why
            .unwrap_or("the authority refused, and does not say why")
            .to_owned(),
        stale: false,
    }
}

fn pause(looks: u32) -> Duration {
    FIRST_PAUSE
        .mul_f64(1.5_f64.powi(looks.min(16).cast_signed()))
        .min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(url: Option<&str>) -> Pending {
        Pending {
            names: vec!["a.example".into()],
            directory: "https://ca.example/dir".into(),
            kind: Kind::Http01,
            key: "key".into(),
            url: url.map(Into::into),
            begun: 1_000,
        }
    }

    fn seen(status: Status, proof: Proof) -> Seen {
        Seen {
            status,
            proofs: vec![("a.example".into(), proof)],
            why: Some("no".into()),
        }
    }

    #[test]
    fn every_state_has_its_step() {
        let url = order(Some("https://ca.example/o/1"));
        let step = |status, proof| next(&url, Some(&seen(status, proof)), 0, 1_001);
        let refused = Step::Drop {
            why: "no".into(),
            stale: false,
        };
        assert_eq!(next(&order(None), None, 0, 1_001), Step::Create);
        assert_eq!(next(&url, None, 0, 1_001), Step::Look);
        assert_eq!(
            step(Status::Pending, Proof::Wanted),
            Step::Answer(vec!["a.example".into()])
        );
        assert_eq!(
            step(Status::Pending, Proof::Looking),
            Step::Wait(FIRST_PAUSE)
        );
        assert_eq!(step(Status::Pending, Proof::Valid), Step::Wait(FIRST_PAUSE));
        assert_eq!(step(Status::Pending, Proof::Invalid), refused);
        assert_eq!(step(Status::Ready, Proof::Valid), Step::Finalize);
        assert_eq!(
            step(Status::Processing, Proof::Valid),
            Step::Wait(FIRST_PAUSE)
        );
        assert_eq!(step(Status::Valid, Proof::Valid), Step::Fetch);
        assert_eq!(step(Status::Invalid, Proof::Valid), refused);
        assert!(matches!(
            step(Status::Pending, Proof::NotOffered),
            Step::Drop { why, stale: false } if why == "the authority does not offer http-01 for a.example"
        ));
    }

    #[test]
    fn an_old_order_is_forgotten() {
        let old = order(Some("https://ca.example/o/1"));
        let at = 1_000 + AGE_MAX.as_secs();
        let valid = seen(Status::Valid, Proof::Valid);
        assert_eq!(next(&old, Some(&valid), 0, at), Step::Fetch);
        assert!(matches!(
            next(&old, Some(&valid), 0, at + 1),
            Step::Drop { stale: true, .. }
        ));
    }

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let url = order(Some("u"));
        let looking = seen(Status::Pending, Proof::Looking);
        let wait = |looks| match next(&url, Some(&looking), looks, 1_001) {
            Step::Wait(pause) => pause,
            other => panic!("{other:?}"),
        };
        assert!(wait(4) > wait(3));
        assert_eq!(wait(u32::MAX), PAUSE_MAX);
    }
}
