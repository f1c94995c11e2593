//! Dynamic updates of DNS (RFC 2136) over TCP, signed with TSIG (RFC 8945): one record is added or taken away.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The whole conversation with the name server; [`UpdateError::Slow`] names it, too.
const TALK_MAX: Duration = Duration::from_secs(15);
/// Clocks may differ by so much (RFC 8945 section 10 recommends it).
const FUDGE: u16 = 300;
/// Labels of a record's name that are taken off in search of its zone, at most.
const LABELS_MAX: usize = 32;
/// How long others may remember the record, in seconds.
const TTL: u32 = 10;

const TXT: u16 = 16;
const SOA: u16 = 6;
const TSIG: u16 = 250;
const IN: u16 = 1;
const NONE: u16 = 254;
const ANY: u16 = 255;
const QUERY: u16 = 0;
const UPDATE: u16 = 5 << 11;

/// Add or take away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Beside what is there.
    Add,
    /// Exactly this value.
    Remove,
}

/// The hash of a TSIG key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// `hmac-sha256`
    Sha256,
    /// `hmac-sha384`
    Sha384,
    /// `hmac-sha512`
    Sha512,
}

impl Algorithm {
    /// By its name in DNS; the weak ones (MD5, SHA-1) are none.
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "hmac-sha256" => Some(Self::Sha256),
            "hmac-sha384" => Some(Self::Sha384),
            "hmac-sha512" => Some(Self::Sha512),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "hmac-sha256",
            Self::Sha384 => "hmac-sha384",
            Self::Sha512 => "hmac-sha512",
        }
    }

    fn key(self, secret: &[u8]) -> hmac::Key {
        let hash = match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::Key::new(hash, secret)
    }
}

/// A key that updates are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct Tsig {
    /// Its name, as the name server knows it.
    pub name: String,
    /// Its hash.
    pub algorithm: Algorithm,
    /// Its bytes.
    pub secret: Vec<u8>,
}

impl std::fmt::Debug for Tsig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret is none of a log's business.
        write!(f, "Tsig({}, {})", self.name, self.algorithm.name())
    }
}

/// What goes wrong with an update.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// No connection, or it broke.
    #[error("the name server {0}: {1}")]
    Talk(String, std::io::Error),
    /// No answer.
    #[error("the name server {0} did not answer within 15 s")]
    Slow(String),
    /// It says no.
    #[error("the name server {0} refuses: {1}")]
    Refused(String, &'static str),
    /// What it says makes no sense.
    #[error("the name server {0} answers what is no answer: {1}")]
    Answer(String, &'static str),
    /// It is not whom we share the key with.
    #[error(
        "the name server {0} does not sign its answer with the key {1}; is the secret the same there?"
    )]
    Unsigned(String, String),
    /// A name that DNS cannot hold.
    #[error("`{0}` is no name of DNS")]
    Name(String),
    /// No zone.
    #[error("the name server {0} has no zone for {1}; name the zone, or another server")]
    NoZone(String, String),
}

/// Makes one change at `server` (`address:port`).
pub async fn send(
    server: &str,
    zone: Option<&str>,
    tsig: Option<&Tsig>,
    record: &str,
    value: &str,
    change: Change,
) -> Result<(), UpdateError> {
    let talk = async {
        let found;
        let zone = match zone {
            Some(zone) => zone,
            None => {
                found = find_zone(server, record).await?;
                &found
            }
        };
        let id = random_id();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |d| d.as_secs());
        let no_name = |name: &str| UpdateError::Name(name.to_owned());
        let mut message = update(id, zone, record, value, change).ok_or_else(|| no_name(record))?;
        let mac = match tsig {
            Some(tsig) => sign(&mut message, tsig, now).ok_or_else(|| no_name(&tsig.name))?,
            None => Vec::new(),
        };
        let answer = ask(server, &message).await?;
        let code = reply_code(server, &answer, id)?;
        // A refusal for a wrong key is not signed (RFC 8945 section 5.2): it is believed, it only says no.
        if code != 0 {
            return Err(UpdateError::Refused(server.to_owned(), refusal(code)));
        }
        if let Some(tsig) = tsig
            && !is_signed(&answer, tsig, &mac, now)
        {
            return Err(UpdateError::Unsigned(server.to_owned(), tsig.name.clone()));
        }
        Ok(())
    };
    tokio::time::timeout(TALK_MAX, talk)
        .await
        .unwrap_or_else(|_| Err(UpdateError::Slow(server.to_owned())))
}

/// The zone of a record: the longest suffix of its name that the server has an SOA for.
async fn find_zone(server: &str, record: &str) -> Result<String, UpdateError> {
    let mut rest = record;
    for _ in 0..LABELS_MAX {
        let Some((_, parent)) = rest.split_once('.') else {
            break;
        };
        rest = parent;
        let id = random_id();
        let query = question(id, rest).ok_or_else(|| UpdateError::Name(rest.to_owned()))?;
        let answer = ask(server, &query).await?;
        match reply_code(server, &answer, id)? {
            0 if has_soa(&answer) == Some(true) => return Ok(rest.to_owned()),
            // It may have the zone and not be able to say so now.
            code @ 2 => return Err(UpdateError::Refused(server.to_owned(), refusal(code))),
            _ => {}
        }
    }
    Err(UpdateError::NoZone(server.to_owned(), record.to_owned()))
}

async fn ask(server: &str, message: &[u8]) -> Result<Vec<u8>, UpdateError> {
    let talk = async {
        let mut stream = TcpStream::connect(server).await?;
        let length = u16::try_from(message.len()).map_err(std::io::Error::other)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(message);
        stream.write_all(&framed).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    talk.await
        .map_err(|error| UpdateError::Talk(server.to_owned(), error))
}

fn random_id() -> u16 {
    let mut bytes = [0; 2];
    // Without randomness it is a constant; TCP and the signature do not rely on it.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u16::from_be_bytes(bytes)
}

fn push(message: &mut Vec<u8>, values: &[u16]) {
    for value in values {
        message.extend_from_slice(&value.to_be_bytes());
    }
}

/// Appends a name, lower case, not compressed.
fn push_name(message: &mut Vec<u8>, name: &str) -> Option<()> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > 253 {
        return None;
    }
    for label in name.split('.').filter(|_| !name.is_empty()) {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|l| (1..=63).contains(l))?;
        message.push(length);
        message.extend(label.bytes().map(|b| b.to_ascii_lowercase()));
    }
    message.push(0);
    Some(())
}

fn question(id: u16, name: &str) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(64);
    push(&mut message, &[id, QUERY, 1, 0, 0, 0]);
    push_name(&mut message, name)?;
    push(&mut message, &[SOA, IN]);
    Some(message)
}

fn update(id: u16, zone: &str, record: &str, value: &str, change: Change) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(512);
    push(&mut message, &[id, UPDATE, 1, 0, 1, 0]);
    push_name(&mut message, zone)?;
    push(&mut message, &[SOA, IN]);
    push_name(&mut message, record)?;
    let (class, ttl) = match change {
        Change::Add => (IN, TTL),
        // RFC 2136 section 2.5.4: delete an RR from an RRset.
        Change::Remove => (NONE, 0),
    };
    push(&mut message, &[TXT, class]);
    message.extend_from_slice(&ttl.to_be_bytes());
    let length = u8::try_from(value.len()).ok()?;
    push(&mut message, &[u16::from(length) + 1]);
    message.push(length);
    message.extend_from_slice(value.as_bytes());
    Some(message)
}

/// What a signature is over, beside the message (RFC 8945 section 4.3.3).
fn variables(tsig: &Tsig, time: u64, fudge: u16, error: u16, other: &[u8]) -> Option<Vec<u8>> {
    let mut signed = Vec::with_capacity(128);
    push_name(&mut signed, &tsig.name)?;
    push(&mut signed, &[ANY, 0, 0]);
    push_name(&mut signed, tsig.algorithm.name())?;
    push_time(&mut signed, time);
    push(&mut signed, &[fudge, error, other.len() as u16]);
    signed.extend_from_slice(other);
    Some(signed)
}

/// 48 bits of seconds.
fn push_time(message: &mut Vec<u8>, time: u64) {
    message.extend(time.to_be_bytes().into_iter().skip(2));
}

/// Appends the signature and returns it.
fn sign(message: &mut Vec<u8>, tsig: &Tsig, now: u64) -> Option<Vec<u8>> {
    let mut signed = message.clone();
    signed.extend(variables(tsig, now, FUDGE, 0, &[])?);
    let mac = hmac::sign(&tsig.algorithm.key(&tsig.secret), &signed);
    let mac = mac.as_ref().to_vec();

    let mut data = Vec::with_capacity(128);
    push_name(&mut data, tsig.algorithm.name())?;
    push_time(&mut data, now);
    push(&mut data, &[FUDGE, mac.len() as u16]);
    data.extend_from_slice(&mac);
    let id = u16::from_be_bytes([*message.first()?, *message.get(1)?]);
    push(&mut data, &[id, 0, 0]);

    push_name(message, &tsig.name)?;
    push(message, &[TSIG, ANY, 0, 0, data.len() as u16]);
    message.extend(data);
    // One additional record.
    *message.get_mut(11)? = 1;
    Some(mac)
}

fn reply_code(server: &str, answer: &[u8], id: u16) -> Result<u8, UpdateError> {
    let wrong = |why| UpdateError::Answer(server.to_owned(), why);
    let mut reader = Reader(answer, 0);
    let head = reader
        .u16()
        .zip(reader.u16())
        .ok_or_else(|| wrong("too short"))?;
    if head.0 != id {
        return Err(wrong("it is of another question"));
    }
    if head.1 & 0x8000 == 0 {
        return Err(wrong("it is a question"));
    }
    Ok((head.1 & 0xf) as u8)
}

/// The words of RFC 2136 section 2.2 and RFC 8945 section 3, for operators.
fn refusal(code: u8) -> &'static str {
    match code {
        1 => "FORMERR: it does not understand the update",
        2 => "SERVFAIL: it failed itself; its log says why",
        3 => "NXDOMAIN",
        4 => "NOTIMP: it takes no updates",
        5 => "REFUSED: this key, or this address, may not update the zone",
        9 => "NOTAUTH: it does not have this zone, or the key's name, secret or clock differ there",
        10 => "NOTZONE: the name is not inside the zone",
        _ => "with a code that we have no words for",
    }
}

/// Reads a message from outside: nothing is indexed.
struct Reader<'a>(&'a [u8], usize);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let end = self.1.checked_add(n)?;
        let bytes = self.0.get(self.1..end)?;
        self.1 = end;
        Some(bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]))
    }

    fn skip_name(&mut self) -> Option<()> {
        loop {
            let length = *self.take(1)?.first()?;
            match length {
                0 => return Some(()),
                1..=63 => self.take(usize::from(length))?,
                // A pointer ends the name; it need not be followed.
                192..=255 => {
                    self.take(1)?;
                    return Some(());
                }
                _ => return None,
            };
        }
    }

    /// Type and data of a record.
    fn record(&mut self) -> Option<(u16, &'a [u8])> {
        self.skip_name()?;
        let kind = self.u16()?;
        self.take(6)?;
        let length = self.u16()?;
        Some((kind, self.take(usize::from(length))?))
    }

    /// Counts of the four sections, behind which the reader then is.
    fn head(&mut self) -> Option<[u16; 4]> {
        self.take(4)?;
        Some([self.u16()?, self.u16()?, self.u16()?, self.u16()?])
    }

    fn questions(&mut self, n: u16) -> Option<()> {
        for _ in 0..n {
            self.skip_name()?;
            self.take(4)?;
        }
        Some(())
    }
}

fn has_soa(answer: &[u8]) -> Option<bool> {
    let mut reader = Reader(answer, 0);
    let [questions, answers, ..] = reader.head()?;
    reader.questions(questions)?;
    for _ in 0..answers {
        if reader.record()?.0 == SOA {
            return Some(true);
        }
    }
    Some(false)
}

/// Is this answer to a message with that signature signed with our key, now?
fn is_signed(answer: &[u8], tsig: &Tsig, request_mac: &[u8], now: u64) -> bool {
    signed_as(answer, tsig, request_mac, now) == Some(true)
}

fn signed_as(answer: &[u8], tsig: &Tsig, request_mac: &[u8], now: u64) -> Option<bool> {
    let mut reader = Reader(answer, 0);
    let [questions, answers, authorities, additional] = reader.head()?;
    reader.questions(questions)?;
    let before = usize::from(answers) + usize::from(authorities) + usize::from(additional);
    // The signature is the very last record.
    for _ in 0..before.checked_sub(1)? {
        reader.record()?;
    }
    let start = reader.1;
    let (kind, data) = reader.record()?;
    if kind != TSIG || reader.1 != answer.len() {
        return Some(false);
    }
    let mut data = Reader(data, 0);
    data.skip_name()?;
    let time = data.take(6)?;
    let time = time.iter().fold(0_u64, |sum, b| (sum << 8) | u64::from(*b));
    let fudge = data.u16()?;
    let length = data.u16()?;
    let mac = data.take(usize::from(length))?;
    let original_id = data.u16()?;
    let error = data.u16()?;
    let length = data.u16()?;
    let other = data.take(usize::from(length))?;
    if error != 0 || now.abs_diff(time) > u64::from(fudge.min(FUDGE)) {
        return Some(false);
    }
    let mut signed = Vec::with_capacity(answer.len() + 256);
    push(&mut signed, &[request_mac.len() as u16]);
    signed.extend_from_slice(request_mac);
    push(&mut signed, &[original_id]);
    signed.extend_from_slice(answer.get(2..10)?);
    push(&mut signed, &[additional.checked_sub(1)?]);
    signed.extend_from_slice(answer.get(12..start)?);
    signed.extend(variables(tsig, time, fudge, error, other)?);
    Some(hmac::verify(&tsig.algorithm.key(&tsig.secret), &signed, mac).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Tsig {
        Tsig {
            name: "Key.example.".into(),
            algorithm: Algorithm::Sha256,
            secret: b"secret".to_vec(),
        }
    }

    /// An answer as a server would sign it.
    fn answer(request_mac: &[u8], now: u64) -> Vec<u8> {
        let mut message = Vec::new();
        push(&mut message, &[7, 0x8000 | UPDATE, 0, 0, 0, 0]);
        let mut signed = (request_mac.len() as u16).to_be_bytes().to_vec();
        signed.extend_from_slice(request_mac);
        signed.extend_from_slice(&message);
        signed.extend(variables(&key(), now, FUDGE, 0, &[]).unwrap());
        let mac = hmac::sign(&key().algorithm.key(b"secret"), &signed);
        let mut data = Vec::new();
        push_name(&mut data, "hmac-sha256").unwrap();
        push_time(&mut data, now);
        push(&mut data, &[FUDGE, 32]);
        data.extend_from_slice(mac.as_ref());
        push(&mut data, &[7, 0, 0]);
        push_name(&mut message, "key.example").unwrap();
        push(&mut message, &[TSIG, ANY, 0, 0, data.len() as u16]);
        message.extend(data);
        message[11] = 1;
        message
    }

    #[test]
    fn only_our_key_our_question_and_our_time() {
        let mac = [9; 32];
        let good = answer(&mac, 1_000);
        assert!(is_signed(&good, &key(), &mac, 1_000));
        assert!(is_signed(&good, &key(), &mac, 1_000 + u64::from(FUDGE)));
        assert!(!is_signed(&good, &key(), &mac, 1_001 + u64::from(FUDGE)));
        assert!(!is_signed(&good, &key(), &[8; 32], 1_000));
        let other = Tsig {
            secret: b"other".to_vec(),
            ..key()
        };
        assert!(!is_signed(&good, &other, &mac, 1_000));
        for cut in 0..good.len() {
            assert!(!is_signed(&good[..cut], &key(), &mac, 1_000), "{cut}");
        }
        for at in 0..good.len() {
            let mut bent = good.clone();
            bent[at] ^= 1;
            // The name of the key in the record is ours by the signature, not by its spelling; so is the record's TTL.
            let _ = is_signed(&bent, &key(), &mac, 1_000);
        }
        let mut bent = good.clone();
        bent[3] ^= 5;
        assert!(!is_signed(&bent, &key(), &mac, 1_000));
    }

    #[test]
    fn names_that_dns_cannot_hold() {
        let long = "a".repeat(64);
        for name in ["a..b", &long, &"a.".repeat(128)] {
            assert!(push_name(&mut Vec::new(), name).is_none(), "{name}");
        }
        assert!(push_name(&mut Vec::new(), &"a.".repeat(127)).is_some());
    }
}
