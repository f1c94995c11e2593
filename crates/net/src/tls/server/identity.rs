//! Who a client is, as its verified certificate says.

use std::fmt::Write as _;

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Names of a certificate that are kept; the others are left out.
const MAX_NAMES: usize = 64;

/// A client that has proved who it is. There is one only if the certificate was verified in this connection's handshake, or in the
/// one whose session it resumes under the same policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// Subject, as a distinguished name (RFC 4514 order as written in the certificate).
    pub subject: String,
    /// The last common name of the subject, if any.
    pub common_name: Option<String>,
    /// Issuer, as a distinguished name.
    pub issuer: String,
    /// Serial number, in lower case hexadecimal digits.
    pub serial: String,
    /// Subject alternative names that are DNS names.
    pub dns: Vec<String>,
    /// ... that are URIs (SPIFFE).
    pub uris: Vec<String>,
    /// ... that are mail addresses.
    pub emails: Vec<String>,
    /// SHA-256 over the certificate, in lower case hexadecimal digits.
    pub fingerprint: String,
    /// Valid until, in seconds since 1970.
    pub not_after: i64,
    /// The certificate, DER.
    pub certificate: Vec<u8>,
}

impl ClientIdentity {
    /// Reads what a verified certificate says. `None` if it cannot be read: then nobody has been proved.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate.as_ref()).ok()?;
        let mut this = Self {
            subject: parsed.subject().to_string(),
            common_name: parsed
                .subject()
                .iter_common_name()
                .last()
                .and_then(|name| name.as_str().ok())
                .filter(|name| is_text(name))
                .map(str::to_owned),
            issuer: parsed.issuer().to_string(),
            serial: hex(parsed.raw_serial()),
            dns: Vec::new(),
            uris: Vec::new(),
            emails: Vec::new(),
            fingerprint: hex(digest::digest(&digest::SHA256, certificate.as_ref()).as_ref()),
            not_after: parsed.validity().not_after.timestamp(),
            certificate: certificate.as_ref().to_vec(),
        };
        if let Ok(Some(names)) = parsed.subject_alternative_name() {
            for name in names.value.general_names.iter().take(MAX_NAMES) {
                let (list, name) = match name {
                    GeneralName::DNSName(name) => (&mut this.dns, name),
                    GeneralName::URI(name) => (&mut this.uris, name),
                    GeneralName::RFC822Name(name) => (&mut this.emails, name),
                    _ => continue,
                };
                // A name with a NUL or a line break is nobody's (TL-04).
                if is_text(name) {
                    list.push((*name).to_owned());
                }
            }
        }
        (is_text(&this.subject) && is_text(&this.issuer)).then_some(this)
    }
}

fn is_text(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}
