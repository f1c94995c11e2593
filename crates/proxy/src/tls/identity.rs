//! What the origin gets to know of a client's certificate (RFC 9440), and what no client may say of itself.

use narthex_message::{FieldId, base64};
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
    base64::encode_to(&client.certificate, &mut value);
    value.push(b':');
    encode::line("Client-Cert", &value, out);
}

#[cfg(test)]
mod tests {
    use super::*;

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
