//! The opening handshake of WebSocket over HTTP/1.1 (RFC 6455 4.2.2), for requests that came by HTTP/2 (RFC 8441): those have no
//! key of their own.

use aws_lc_rs::digest;

/// What a server appends to the key.
const SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A key that nobody can guess.
pub fn key() -> [u8; 16] {
    let mut key = [0; 16];
    // Without randomness there would be no TLS either. The key only keeps caches from answering: zeros do, too.
    let _ = aws_lc_rs::rand::fill(&mut key);
    key
}

/// The bytes that a server proves with, in Base64, that it has understood this key (given in Base64).
pub fn proof(key: &str) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key.as_bytes());
    context.update(SUFFIX);
    context.finish().as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_example_of_the_rfc() {
        let proof = super::proof("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(proof[..4], [0xb3, 0x7a, 0x4f, 0x2c]);
    }
}
