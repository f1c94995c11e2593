//! Certificates sent compressed (RFC 8879), without much work for one handshake.
//!
//! rustls remembers what it has compressed and therefore takes its time over it. With more certificates than it remembers, whoever
//! asks for one after the other would make a core take that time again and again.

use std::sync::Arc;

use rustls::compress::{
    BROTLI_COMPRESSOR, CertCompressor, CompressionCache, CompressionFailed, CompressionLevel,
    ZLIB_COMPRESSOR,
};
use rustls::{CertificateCompressionAlgorithm, ServerConfig};

/// Compressed chains that are remembered.
const REMEMBERED: usize = 64;

/// Compresses quickly, whoever remembers the result.
#[derive(Debug)]
struct Quick(&'static dyn CertCompressor);

impl CertCompressor for Quick {
    fn compress(
        &self,
        input: Vec<u8>,
        _level: CompressionLevel,
    ) -> Result<Vec<u8>, CompressionFailed> {
        self.0.compress(input, CompressionLevel::Interactive)
    }

    fn algorithm(&self) -> CertificateCompressionAlgorithm {
        self.0.algorithm()
    }
}

static BROTLI: Quick = Quick(BROTLI_COMPRESSOR);
static ZLIB: Quick = Quick(ZLIB_COMPRESSOR);

pub(super) fn set(config: &mut ServerConfig) {
    config.cert_compressors = vec![&BROTLI, &ZLIB];
    config.cert_compression_cache = Arc::new(CompressionCache::new(REMEMBERED));
}
