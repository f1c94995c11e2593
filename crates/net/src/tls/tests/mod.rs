//! Tests of TLS on cores, against rustls's own client and OpenSSL.
