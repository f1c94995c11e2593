//! Certificates by themselves: gets them from a certificate authority (RFC 8555) and keeps them fresh.
