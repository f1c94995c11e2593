//! What can be wrong, and whose business it is.

use narthex_message::{BadResponse, Reject};

/// An error code (RFC 9113 7). Codes that are not known are kept as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub u32);

#[allow(missing_docs)] // the names are RFC 9113's
impl ErrorCode {
    pub const NO_ERROR: Self = Self(0x0);
    pub const PROTOCOL_ERROR: Self = Self(0x1);
    pub const INTERNAL_ERROR: Self = Self(0x2);
    pub const FLOW_CONTROL_ERROR: Self = Self(0x3);
    pub const SETTINGS_TIMEOUT: Self = Self(0x4);
    pub const STREAM_CLOSED: Self = Self(0x5);
    pub const FRAME_SIZE_ERROR: Self = Self(0x6);
    pub const REFUSED_STREAM: Self = Self(0x7);
    pub const CANCEL: Self = Self(0x8);
    pub const COMPRESSION_ERROR: Self = Self(0x9);
    pub const CONNECT_ERROR: Self = Self(0xa);
    pub const ENHANCE_YOUR_CALM: Self = Self(0xb);
    pub const INADEQUATE_SECURITY: Self = Self(0xc);
    pub const HTTP_1_1_REQUIRED: Self = Self(0xd);

    /// A word for logs and metrics: one of a bounded set.
    pub fn word(self) -> &'static str {
        match self.0 {
            0x0 => "no-error",
            0x1 => "protocol-error",
            0x2 => "internal-error",
            0x3 => "flow-control-error",
            0x4 => "settings-timeout",
            0x5 => "stream-closed",
            0x6 => "frame-size-error",
            0x7 => "refused-stream",
            0x8 => "cancel",
            0x9 => "compression-error",
            0xa => "connect-error",
            0xb => "enhance-your-calm",
            0xc => "inadequate-security",
            0xd => "http-1.1-required",
            _ => "unknown",
        }
    }
}

/// The connection is over: its GOAWAY is already in `out`. Write that, then close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fatal {
    /// The code of the GOAWAY.
    pub code: ErrorCode,
    /// What the peer did, for the log.
    pub why: &'static str,
}

/// A head or trailer section that is well formed and too large: what HTTP/1 would answer with 431 or 414. What is in the index
/// is what fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oversize {
    /// `:path` beyond `limits line`.
    Target,
    /// A field line beyond `limits field`.
    Field,
    /// Bytes, 32 added per field, beyond `limits head`.
    Head,
    /// Fields, crumbs of cookies counted singly, beyond `limits fields`.
    Fields,
}

impl From<Oversize> for Reject {
    fn from(oversize: Oversize) -> Self {
        match oversize {
            Oversize::Target => Self::TargetTooLong,
            Oversize::Field => Self::FieldTooLong,
            Oversize::Head => Self::HeadTooLarge,
            Oversize::Fields => Self::TooManyFields,
        }
    }
}

impl From<Oversize> for BadResponse {
    fn from(oversize: Oversize) -> Self {
        match oversize {
            Oversize::Target | Oversize::Field | Oversize::Head => Self::HeadTooLarge,
            Oversize::Fields => Self::TooManyFields,
        }
    }
}
