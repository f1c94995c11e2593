//! Reading a request head, strictly or as lenient servers do.

use super::Personality;
use crate::kit::http::{Fields, decimal, field_line, trim_ows};
use crate::kit::show;

/// A head and how its body is framed.
pub struct Head {
    pub method: String,
    pub target: String,
    pub version: String,
    pub fields: Fields,
    pub framing: Framing,
}

/// How the body ends.
#[derive(Clone, Copy)]
pub enum Framing {
    Length(u64),
    Chunked,
}

/// Splits off one line if it is complete: the line without its end, and its length with it.
pub fn line(buf: &[u8], personality: Personality) -> Option<Result<(&[u8], usize), String>> {
    let at = buf.iter().position(|b| *b == b'\n')?;
    let (line, used) = (buf.get(..at)?, at + 1);
    Some(match line.strip_suffix(b"\r") {
        Some(line) => Ok((line, used)),
        None if personality == Personality::LenientLf => Ok((line, used)),
        None => Err(format!("bare LF after {}", show(line))),
    })
}

/// Parses the lines of a head.
pub fn head(lines: &[Vec<u8>], personality: Personality) -> Result<Head, String> {
    let first = lines.first().ok_or("no request line")?;
    let text = std::str::from_utf8(first).map_err(|_| format!("request line {}", show(first)))?;
    let parts: Vec<&str> = text.split(' ').collect();
    let [method, target, version] = parts.as_slice() else {
        return Err(format!("request line {text:?}"));
    };
    if !version.starts_with("HTTP/1.") || method.is_empty() || target.is_empty() {
        return Err(format!("request line {text:?}"));
    }
    let mut fields = Fields::default();
    for l in lines.iter().skip(1) {
        fields
            .0
            .push(field(l, personality).ok_or_else(|| format!("field line {}", show(l)))?);
    }
    let framing = framing(&fields, personality)?;
    Ok(Head {
        method: (*method).to_owned(),
        target: (*target).to_owned(),
        version: (*version).to_owned(),
        fields,
        framing,
    })
}

/// One field line.
pub fn field(line: &[u8], personality: Personality) -> Option<(Vec<u8>, Vec<u8>)> {
    if personality != Personality::LenientLf {
        return field_line(line);
    }
    let colon = line.iter().position(|b| *b == b':')?;
    Some((
        trim_ows(line.get(..colon)?).to_vec(),
        trim_ows(line.get(colon + 1..)?).to_vec(),
    ))
}

fn framing(fields: &Fields, personality: Personality) -> Result<Framing, String> {
    let (te, cl) = (
        fields.all("transfer-encoding"),
        fields.all("content-length"),
    );
    let lenient = personality != Personality::Strict;
    if !lenient && te.len() + cl.len() > 1 {
        return Err(format!(
            "{} Transfer-Encoding and {} Content-Length lines",
            te.len(),
            cl.len()
        ));
    }
    let length = match cl.first() {
        Some(v) => Some(decimal(v).ok_or_else(|| format!("Content-Length {}", show(v)))?),
        None => None,
    };
    let chunked = te.iter().any(|v| v.eq_ignore_ascii_case(b"chunked"))
        || (personality == Personality::LenientLf
            && te
                .iter()
                .any(|v| v.to_ascii_lowercase().windows(7).any(|w| w == b"chunked")));
    if !te.is_empty() && !chunked && !lenient {
        return Err(format!("Transfer-Encoding {}", show(te[0])));
    }
    Ok(match (chunked, length) {
        (true, None) => Framing::Chunked,
        (true, Some(_)) if personality != Personality::ClFirst => Framing::Chunked,
        (_, length) => Framing::Length(length.unwrap_or(0)),
    })
}
