//! The state of the process for people: as text, and as one page without scripts.

use std::fmt::Write as _;

use narthex_engine::command::Status;

/// Lines for a terminal.
pub fn text(status: &Status) -> String {
    let mut out = String::new();
    let reloads = &status.reloads;
    let connections: usize = status.connections.iter().sum();
    let _ = writeln!(
        out,
        "narthex {} is {} (pid {}, up {})",
        status.version,
        status.phase.word(),
        status.pid,
        uptime(status.uptime_seconds)
    );
    let _ = writeln!(out, "configuration  {}", status.source);
    let _ = writeln!(
        out,
        "reloads        {} applied, {} refused",
        reloads.applied, reloads.refused
    );
    if !reloads.last_applied {
        let _ = writeln!(
            out,
            "               the last one was refused; `narthex reload` says why"
        );
    }
    if status.draining_before > 0 {
        let _ = writeln!(
            out,
            "upgraded       {} before this one still finishing what is in flight",
            count(status.draining_before, "process")
        );
    }
    let _ = writeln!(
        out,
        "serving        {}, {}",
        count(status.sites, "site"),
        count(status.routes, "route")
    );
    let _ = writeln!(
        out,
        "workers        {} with {} {:?}",
        status.workers,
        count(connections, "client connection"),
        status.connections
    );
    let memory = &status.memory;
    let _ = writeln!(
        out,
        "memory         {} resident, {} in buffers, {}{}",
        mebibytes(memory.resident),
        mebibytes(memory.buffered),
        match memory.cap {
            0 => "no cap".to_owned(),
            cap => format!("cap {}", mebibytes(cap)),
        },
        match memory.stage {
            "calm" => "",
            "refuse" => ": over the cap, refuses connections",
            "idle" => ": over the cap, closes idle connections",
            "keep-alive" => ": over the cap, ends keep-alive",
            _ => ": over the cap, aborts the largest",
        }
    );
    for listener in &status.listeners {
        let _ = writeln!(
            out,
            "listener       {} on {}",
            listener.name, listener.address
        );
    }
    for upstream in &status.upstreams {
        let _ = writeln!(out, "upstream       {}", upstream.name);
        for server in &upstream.servers {
            let _ = writeln!(
                out,
                "  {:<28} {:<10} {} in flight, {} connections{}{}",
                server.name,
                server.state,
                server.in_flight,
                server.connections,
                match server.reason.as_str() {
                    "" => String::new(),
                    reason => format!(", {reason}"),
                },
                server
                    .last_error
                    .as_ref()
                    .map(|e| format!(", last error: {e}"))
                    .unwrap_or_default()
            );
        }
    }
    for task in status
        .tasks
        .iter()
        .filter(|task| !task.running || task.restarts > 0)
    {
        let state = if task.running { "runs" } else { "has ended" };
        let _ = writeln!(
            out,
            "task           {} {state}, started again {} times",
            task.name, task.restarts
        );
    }
    out
}

/// The page at `/`.
pub fn render(status: &Status) -> String {
    const LINKS: [&str; 11] = [
        "/status",
        "/upstreams",
        "/cache",
        "/cache/blocks",
        "/certificates",
        "/drift",
        "/audit",
        "/config",
        "/metrics",
        "/health/live",
        "/health/ready",
    ];
    let links = LINKS
        .map(|path| format!("<a href=\"{path}\">{path}</a>"))
        .join(" ");
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>narthex</title>\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}\
         pre{{background:#8881;padding:1rem;overflow:auto}}</style>\
         <h1>Narthex</h1><pre>{}</pre><p>{links}</p>\
         <p>Changing calls: <code>POST /reload</code>, <code>/upgrade</code>, <code>/reopen-logs</code>, <code>/stop</code>, and those of \
         <code>/upstreams/U/servers</code>, <code>POST /cache/purge</code>, <code>/cache/blocks</code>, <code>/cache/unblock</code>; \
         asking: <code>POST /explain</code>, <code>/cache/look</code>.</p></html>\n",
        escape(&text(status))
    )
}

fn escape(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut out, c| {
            match c {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '"' => out.push_str("&quot;"),
                '\'' => out.push_str("&#39;"),
                '\n' => out.push('\n'),
                c if c.is_control() => out.push('\u{fffd}'),
                c => out.push(c),
            }
            out
        })
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Tenths are enough for people.
fn mebibytes(bytes: u64) -> String {
    let tenths = bytes / (1024 * 1024 / 10);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

fn uptime(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use narthex_engine::command::{ListenerStatus, MemoryStatus, Phase, ReloadStats, Status};

    use super::*;

    fn status(source: &str) -> Status {
        Status {
            version: "1",
            pid: 7,
            phase: Phase::Ready,
            uptime_seconds: 130,
            source: source.to_owned(),
            reloads: ReloadStats {
                last_applied: true,
                ..ReloadStats::default()
            },
            workers: 2,
            connections: vec![1, 2],
            listeners: vec![ListenerStatus {
                name: ":80".to_owned(),
                address: "[::]:80".to_owned(),
            }],
            memory: MemoryStatus {
                cap: 512 << 20,
                resident: 33 << 20,
                buffered: 3 << 19,
                stage: "idle",
            },
            sites: 1,
            routes: 3,
            upstreams: Vec::new(),
            draining_before: 0,
            tasks: Vec::new(),
        }
    }

    #[test]
    fn the_text_says_what_runs() {
        let text = text(&status("narthex.kdl"));
        assert!(
            text.starts_with("narthex 1 is ready (pid 7, up 2 min)\n"),
            "{text}"
        );
        assert!(
            text.contains("2 with 3 client connections [1, 2]"),
            "{text}"
        );
        assert!(text.contains(":80 on [::]:80"), "{text}");
        assert!(
            text.contains(
                "33.0 MiB resident, 1.5 MiB in buffers, cap 512.0 MiB: over the cap, closes idle"
            ),
            "{text}"
        );
    }

    #[test]
    fn names_cannot_speak_html() {
        let page = render(&status("<script>alert(1)</script>\u{1b}[2J"));
        assert!(
            !page.contains("<script>") && !page.contains('\u{1b}'),
            "{page}"
        );
        assert!(page.contains("&lt;script&gt;"), "{page}");
    }
}
