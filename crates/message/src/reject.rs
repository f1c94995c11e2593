//! Why a request is refused before it is routed: one word for the log, one status for the client.

/// A reason to refuse a request. The word is stable: it is in the log, the metric and `Narthex-Reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // `word` says what each is
pub enum Reject {
    BareLineEnd,
    RequestLine,
    Method,
    Target,
    TargetTooLong,
    Version,
    FieldName,
    FieldValue,
    FieldFold,
    FieldTooLong,
    HeadTooLarge,
    TooManyFields,
    HostMissing,
    HostRepeated,
    HostInvalid,
    HostMismatch,
    ContentLength,
    ContentLengthRepeated,
    TransferEncoding,
    TransferCoding,
    TransferEncodingIn10,
    LengthAndCoding,
    ConnectionField,
    ChunkSize,
    ChunkExtension,
    ChunkEnd,
    Trailer,
    TrailersTooLarge,
    Expectation,
    Connect,
    Trace,
    BodyNotAllowed,
    BodyTooLarge,
    Upgrade,
    Path,
    HeadTimeout,
    BodyTimeout,
    ProxyHeader,
    WebText,
}

impl Reject {
    /// Status for the client.
    pub fn status(self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::FieldTooLong | Self::HeadTooLarge | Self::TooManyFields => 431,
            Self::Version => 505,
            Self::TransferCoding => 501,
            Self::Expectation => 417,
            Self::Connect | Self::Trace => 405,
            Self::BodyTooLarge => 413,
            Self::HeadTimeout | Self::BodyTimeout => 408,
            _ => 400,
        }
    }

    /// The reason word.
    pub fn word(self) -> &'static str {
        match self {
            Self::BareLineEnd => "bare-line-end",
            Self::RequestLine => "request-line",
            Self::Method => "method",
            Self::Target => "target",
            Self::TargetTooLong => "target-too-long",
            Self::Version => "version",
            Self::FieldName => "field-name",
            Self::FieldValue => "field-value",
            Self::FieldFold => "field-fold",
            Self::FieldTooLong => "field-too-long",
            Self::HeadTooLarge => "head-too-large",
            Self::TooManyFields => "too-many-fields",
            Self::HostMissing => "host-missing",
            Self::HostRepeated => "host-repeated",
            Self::HostInvalid => "host-invalid",
            Self::HostMismatch => "host-mismatch",
            Self::ContentLength => "content-length",
            Self::ContentLengthRepeated => "content-length-repeated",
            Self::TransferEncoding => "transfer-encoding",
            Self::TransferCoding => "transfer-coding-unknown",
            Self::TransferEncodingIn10 => "transfer-encoding-in-1.0",
            Self::LengthAndCoding => "te-and-cl",
            Self::ConnectionField => "connection-field",
            Self::ChunkSize => "chunk-size",
            Self::ChunkExtension => "chunk-extension",
            Self::ChunkEnd => "chunk-end",
            Self::Trailer => "trailer",
            Self::TrailersTooLarge => "trailers-too-large",
            Self::Expectation => "expectation",
            Self::Connect => "connect",
            Self::Trace => "trace",
            Self::BodyNotAllowed => "body-not-allowed",
            Self::BodyTooLarge => "body-too-large",
            Self::Upgrade => "upgrade",
            Self::Path => "path",
            Self::HeadTimeout => "head-timeout",
            Self::BodyTimeout => "body-timeout",
            Self::ProxyHeader => "proxy-header",
            Self::WebText => "grpc-web-text",
        }
    }
}
