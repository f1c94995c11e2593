//! A TXT record at `_acme-challenge.<name>`, put there by a dynamic update (RFC 2136) or by a program of the operator's.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{ChildStderr, Command};

use super::update::{self, Change, Tsig};

/// A program that takes longer is ended.
const PROGRAM_MAX: Duration = Duration::from_mins(2);
/// Characters of a program's complaint that are shown.
const COMPLAINT_MAX: usize = 300;
/// Bytes of it that are kept.
const COMPLAINT_BYTES: usize = 4 * COMPLAINT_MAX;
/// After a program's end, how long the rest of its complaint is waited for: what it has left running may hold the pipe open.
const COMPLAINT_WAIT: Duration = Duration::from_millis(100);

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
    let mut child = Command::new(program)
        .args(first)
        .args([what, record, value])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot be started: {error}"))?;
    let mut group = Group::of(child.id());
    let mut complaint = Complaint {
        from: child.stderr.take(),
        said: Vec::new(),
    };
    let work = async {
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                () = complaint.read(), if complaint.from.is_some() => {}
            }
        };
        complaint.rest().await;
        status
    };
    let status = tokio::time::timeout(PROGRAM_MAX, work)
        .await
        .map_err(|_| {
            format!(
                "was not done within {} s and was ended",
                PROGRAM_MAX.as_secs()
            )
        })?
        .map_err(|error| error.to_string())?;
    group.leave();
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&complaint.said);
    let said: String = said.trim().chars().take(COMPLAINT_MAX).collect();
    Err(format!("ended with {status}: {said}"))
}

/// What a program complains of: read for as long as it runs, so that it does not wait for us, and kept up to a bound.
struct Complaint {
    from: Option<ChildStderr>,
    said: Vec<u8>,
}

impl Complaint {
    async fn read(&mut self) {
        let Some(from) = &mut self.from else { return };
        let mut bytes = [0; 1024];
        match from.read(&mut bytes).await {
            Ok(n) if n > 0 => {
                let room = COMPLAINT_BYTES.saturating_sub(self.said.len());
                let kept = bytes.get(..n.min(room)).unwrap_or_default();
                self.said.extend_from_slice(kept);
            }
            _ => self.from = None,
        }
    }

    /// What is in the pipe still.
    async fn rest(&mut self) {
        while self.from.is_some()
            && self.said.len() < COMPLAINT_BYTES
            && tokio::time::timeout(COMPLAINT_WAIT, self.read())
                .await
                .is_ok()
        {}
    }
}

/// A program with all that it has started: ended together, unless it has ended by itself.
struct Group(Option<Pid>);

impl Group {
    fn of(leader: Option<u32>) -> Self {
        let leader = leader.and_then(|id| i32::try_from(id).ok());
        Self(leader.and_then(Pid::from_raw))
    }

    fn leave(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // It may have gone meanwhile.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
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

    #[tokio::test]
    async fn a_program_may_say_much_and_leave_somebody_behind() {
        // 32 MiB of complaint: read, so that it ends, and not kept.
        let error = shell("echo first >&2; head -c 33554432 /dev/zero >&2; exit 4")
            .put("r", "v")
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("exit status: 4: first"), "{error}");
        assert!(error.len() < 2_000, "{}", error.len());
        // What it leaves running holds its standard error open; it is done all the same.
        let writer = shell("sleep 60 & exit 0");
        let put = tokio::time::timeout(Duration::from_secs(20), writer.put("r", "v"));
        put.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_is_given_up_is_ended_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        // The shell waits for a program of its own, which alone would outlive it.
        let script = format!(
            "sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait",
            pid.display()
        );
        let writer = shell(&script);
        let put = writer.put("r", "v");
        let started = async {
            while !pid.exists() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            done = put => panic!("{done:?}"),
            () = started => {}
        }
        let pid = std::fs::read_to_string(&pid).unwrap();
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        let begin = std::time::Instant::now();
        // Gone, or dead and not yet taken away by whoever inherits it.
        while state().is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(begin.elapsed() < Duration::from_secs(20), "it lives on");
            tokio::task::yield_now().await;
        }
    }
}
