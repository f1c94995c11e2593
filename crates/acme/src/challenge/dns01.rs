//! A TXT record at `_acme-challenge.<name>`, put there by a dynamic update (RFC 2136) or by a program of the operator's.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::update::{self, Change, Tsig};

/// A program that takes longer is ended.
const PROGRAM_MAX: Duration = Duration::from_mins(2);
/// Bytes of a program's complaint that are shown.
const COMPLAINT_MAX: usize = 300;

/// Who writes the records.
#[derive(Clone, PartialEq, Eq)]
pub enum Writer {
    /// The zone's name server takes updates.
    Update {
        /// `address:port` of the primary.
        server: String,
        /// The zone; found by asking the server if not given.
        zone: Option<String>,
        /// What the updates are signed with.
        tsig: Option<Tsig>,
    },
    /// `program... add|remove <record name> <value>`; exit code 0 when the record is there for everybody, or gone.
    Program(Vec<String>),
    /// A POST of `{"action": "add"|"remove", "name": .., "value": ..}`; a status of 2xx when the record is there, or gone.
    Webhook {
        /// `http://` or `https://`.
        url: String,
        /// Bearer token.
        token: Option<String>,
    },
}

/// What goes wrong with a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The name server.
    #[error("the TXT record {record}: {error}")]
    Update {
        /// Whose.
        record: String,
        /// Why.
        error: update::UpdateError,
    },
    /// The web hook.
    #[error("{url} for the TXT record {record}: {why}")]
    Webhook {
        /// Which.
        url: String,
        /// Whose.
        record: String,
        /// Why.
        why: String,
    },
    /// The program.
    #[error("`{program}` for the TXT record {record}: {why}")]
    Program {
        /// Which.
        program: String,
        /// Whose.
        record: String,
        /// Why.
        why: String,
    },
}

/// Where the record of a name is; the same for a name and its wildcard.
pub fn record_name(name: &str) -> String {
    format!(
        "_acme-challenge.{}",
        name.strip_prefix("*.").unwrap_or(name)
    )
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Tokens are none of a log's business.
        match self {
            Self::Update { server, tsig, .. } => write!(f, "Update({server}, {tsig:?})"),
            Self::Program(words) => write!(f, "Program({words:?})"),
            Self::Webhook { url, .. } => write!(f, "Webhook({url})"),
        }
    }
}

impl Writer {
    /// Puts the record there. Other values of the same record stay: a name and its wildcard may be proven at once.
    pub async fn put(&self, record: &str, value: &str) -> Result<(), RecordError> {
        self.change(record, value, Change::Add).await
    }

    /// Takes exactly this value away.
    pub async fn take(&self, record: &str, value: &str) -> Result<(), RecordError> {
        self.change(record, value, Change::Remove).await
    }

    async fn change(&self, record: &str, value: &str, change: Change) -> Result<(), RecordError> {
        let what = match change {
            Change::Add => "add",
            Change::Remove => "remove",
        };
        match self {
            Writer::Webhook { url, token } => {
                let said = serde_json::json!({ "action": what, "name": record, "value": value });
                crate::http::post(url, token.as_deref(), said.to_string())
                    .await
                    .map_err(|why| RecordError::Webhook {
                        url: url.clone(),
                        record: record.to_owned(),
                        why,
                    })
            }
            Writer::Update { server, zone, tsig } => {
                let zone = zone.as_deref();
                update::send(server, zone, tsig.as_ref(), record, value, change)
                    .await
                    .map_err(|error| RecordError::Update {
                        record: record.to_owned(),
                        error,
                    })
            }
            Writer::Program(words) => {
                run(words, what, record, value)
                    .await
                    .map_err(|why| RecordError::Program {
                        program: words.first().cloned().unwrap_or_default(),
                        record: record.to_owned(),
                        why,
                    })
            }
        }
    }
}

async fn run(words: &[String], what: &str, record: &str, value: &str) -> Result<(), String> {
    let (program, first) = words.split_first().ok_or("no program is named")?;
    let child = Command::new(program)
        .args(first)
        .args([what, record, value])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot be started: {error}"))?;
    let ended = tokio::time::timeout(PROGRAM_MAX, child.wait_with_output())
        .await
        .map_err(|_| {
            format!(
                "was not done within {} s and was ended",
                PROGRAM_MAX.as_secs()
            )
        })?
        .map_err(|error| error.to_string())?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    let said: String = said.trim().chars().take(COMPLAINT_MAX).collect();
    Err(format!("ended with {}: {said}", ended.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_has_the_record_of_its_name() {
        assert_eq!(record_name("*.a.example"), "_acme-challenge.a.example");
        assert_eq!(record_name("a.example"), "_acme-challenge.a.example");
    }

    fn shell(script: &str) -> Writer {
        Writer::Program(vec![
            "/bin/sh".into(),
            "-c".into(),
            script.into(),
            "hook".into(),
        ])
    }

    #[tokio::test]
    async fn a_web_hook_gets_it_as_json() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let answers = ["204 No Content", "403 Forbidden"];
        let server = tokio::spawn(async move {
            let mut seen = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut said = String::new();
                while !said.ends_with('}') {
                    let mut bytes = [0; 1024];
                    let n = stream.read(&mut bytes).await.unwrap();
                    said.push_str(std::str::from_utf8(&bytes[..n]).unwrap());
                }
                let answer =
                    format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
                seen.push(said);
            }
            seen
        });
        let writer = Writer::Webhook {
            url,
            token: Some("t0ken".into()),
        };
        writer.put("r", "v").await.unwrap();
        let refused = writer.take("r", "v").await.unwrap_err().to_string();
        assert!(refused.ends_with("answers 403 Forbidden"), "{refused}");
        let seen = server.await.unwrap();
        assert!(
            seen[0].starts_with("POST /hook HTTP/1.1\r\n"),
            "{}",
            seen[0]
        );
        assert!(
            seen[0].contains("authorization: Bearer t0ken\r\n"),
            "{}",
            seen[0]
        );
        assert!(
            seen[0].ends_with(r#"{"action":"add","name":"r","value":"v"}"#),
            "{}",
            seen[0]
        );
        assert!(
            seen[1].ends_with(r#"{"action":"remove","name":"r","value":"v"}"#),
            "{}",
            seen[1]
        );
    }

    #[tokio::test]
    async fn a_program_gets_what_to_do_and_its_complaint_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let writer = shell(&format!("echo \"$1 $2 $3\" >> {}", out.display()));
        writer.put("_acme-challenge.a.example", "v").await.unwrap();
        writer.take("_acme-challenge.a.example", "v").await.unwrap();
        assert_eq!(
            std::fs::read_to_string(&out).unwrap(),
            "add _acme-challenge.a.example v\nremove _acme-challenge.a.example v\n"
        );
        let error = shell("echo no such zone >&2; exit 3")
            .put("r", "v")
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "`/bin/sh` for the TXT record r: ended with exit status: 3: no such zone"
        );
        let error = Writer::Program(vec!["/no/such".into()])
            .put("r", "v")
            .await
            .unwrap_err();
        assert!(error.to_string().contains("cannot be started"), "{error}");
    }
}
