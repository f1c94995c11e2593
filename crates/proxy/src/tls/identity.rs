//! What the origin gets to know of a client's certificate (RFC 9440), and what no client may say of itself.

use narthex_message::FieldId;
use narthex_net::tls::server::ClientIdentity;
use narthex_wire::h1::encode;

use crate::handle::Exchange;

/// Beginnings of the names of fields in which proxies tell who a client has proved to be, in lower case.
const TOLD: [&str; 8] = [
    "client-cert",
    "ssl-client",
    "x-arr-clientcert",
    "x-client-cert",
    "x-forwarded-client-cert",
    "x-forwarded-tls-client",
    "x-ssl-client",
    "x-tls-client",
];

/// Does a field of this name tell who a client is? An application may read `_` as `-`.
pub(crate) fn tells(name: &[u8]) -> bool {
    TOLD.iter().any(|told| {
        name.get(..told.len()).is_some_and(|begin| {
            begin
                .iter()
                .zip(told.bytes())
                .all(|(b, t)| b.eq_ignore_ascii_case(&t) || (*b == b'_' && t == b'-'))
        })
    })
}

impl Exchange<'_> {
    /// Removes what a client says of its own certificate, where any site believes such fields.
    pub(crate) fn disbelieve(&mut self) {
        if !self.rt.runtime.tls.asks_clients() {
            return;
        }
        let work = &mut *self.work;
        for field in &work.index.fields {
            let name = field.name.of(&work.input);
            if field.id == FieldId::Other
                && tells(name)
                && let Ok(name) = std::str::from_utf8(name)
            {
                work.edits.remove(name);
            }
        }
    }

    /// Writes what the client has proved.
    pub(crate) fn write_client_certificate(&self, out: &mut Vec<u8>) {
        let client = self.client.tls.as_ref().and_then(|tls| tls.client.as_ref());
        if let Some(client) = client {
            write(client, out);
        }
    }
}

/// `Client-Cert: :BASE64:`, a byte sequence of a structured field.
fn write(client: &ClientIdentity, out: &mut Vec<u8>) {
    let mut value = Vec::with_capacity(client.certificate.len() / 3 * 4 + 6);
    value.push(b':');
    base64(&client.certificate, &mut value);
    value.push(b':');
    encode::line("Client-Cert", &value, out);
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |n: u32| DIGITS[(n & 63) as usize];
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let n = byte(0) << 16 | byte(1) << 8 | byte(2);
        let mut four = [digit(n >> 18), digit(n >> 12), digit(n >> 6), digit(n)];
        for missing in four.iter_mut().skip(chunk.len() + 1) {
            *missing = b'=';
        }
        out.extend_from_slice(&four);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_every_length() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let mut out = Vec::new();
            base64(bytes.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn what_tells_of_a_certificate() {
        for name in [
            "Client-Cert",
            "client-cert-chain",
            "X-Forwarded-Client-Cert",
            "X_SSL_Client_S_DN",
            "X-SSL-Client-Verify",
            "X-Forwarded-Tls-Client-Cert-Info",
        ] {
            assert!(tells(name.as_bytes()), "{name}");
        }
        for name in ["Client", "X-Forwarded-For", "X-Client-Ip", ""] {
            assert!(!tells(name.as_bytes()), "{name}");
        }
    }
}
