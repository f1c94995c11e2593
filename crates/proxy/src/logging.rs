//! From a configured access log to what `observe` writes: the format, and the values that only a template asks for.

use std::sync::Arc;

use narthex_config::model::{AccessLog, AccessLogFormat, Part, Template, Var};
use narthex_observe::access_log::{FieldKind, Format, Template as LogTemplate, TemplatePart};

/// An access log's format, compiled.
pub(crate) struct LogPlan {
    pub(crate) format: Arc<Format>,
    /// Values for `FieldKind::Extra`, in order; each a template of one variable.
    pub(crate) extras: Vec<Template>,
}

impl LogPlan {
    pub(crate) fn of(log: &AccessLog) -> Self {
        let mut extras = Vec::new();
        let format = match &log.format {
            AccessLogFormat::Json => Format::Json,
            AccessLogFormat::Combined => Format::Combined,
            AccessLogFormat::Template(template) => Format::Template(LogTemplate::new(
                template
                    .parts
                    .iter()
                    .map(|p| part(p, &mut extras))
                    .collect(),
            )),
        };
        Self {
            format: Arc::new(format),
            extras,
        }
    }
}

fn part(part: &Part, extras: &mut Vec<Template>) -> TemplatePart {
    let var = match part {
        Part::Text(text) => return TemplatePart::Text(text.clone()),
        Part::Var(var) => var,
    };
    let kind = match var {
        Var::ClientIp => FieldKind::ClientIp,
        Var::ClientPort => FieldKind::ClientPort,
        Var::Scheme => FieldKind::Scheme,
        Var::Method => FieldKind::Method,
        Var::Host => FieldKind::Host,
        Var::Authority => FieldKind::Authority,
        Var::Path => FieldKind::Path,
        Var::Query => FieldKind::Query,
        Var::Uri => FieldKind::Uri,
        Var::Protocol => FieldKind::Protocol,
        Var::RequestId => FieldKind::RequestId,
        Var::Site => FieldKind::Site,
        Var::Route => FieldKind::Route,
        Var::Upstream => FieldKind::Upstream,
        Var::Server => FieldKind::Server,
        Var::Status => FieldKind::Status,
        Var::Time => FieldKind::Time,
        Var::TimeMsec => FieldKind::TimeMsec,
        Var::DurationMs => FieldKind::DurationMs,
        Var::UpstreamMs => FieldKind::UpstreamMs,
        Var::BytesSent => FieldKind::BytesSent,
        Var::BytesReceived => FieldKind::BytesReceived,
        Var::Attempts => FieldKind::Attempts,
        Var::Cache => FieldKind::Cache,
        Var::Outcome => FieldKind::Outcome,
        Var::Fault => FieldKind::Fault,
        other => {
            extras.push(Template {
                source: String::new(),
                parts: vec![Part::Var(other.clone())],
            });
            FieldKind::Extra(extras.len() - 1)
        }
    };
    TemplatePart::Field(kind)
}
