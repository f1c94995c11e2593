//! The demo's controller, behind the proxy at `/demo`: shows the origins and kills one.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use super::origin::{AWAY, Origin};
use super::server::{Open, Reply, Request, accept};

/// Starts it on a free port, which is returned.
pub fn start(origins: &Arc<[Origin]>) -> std::io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let origins = Arc::clone(origins);
    let answer: Arc<dyn Fn(&Request) -> Reply + Send + Sync> =
        Arc::new(move |request| reply(&origins, request));
    std::thread::Builder::new()
        .name("demo-controller".to_owned())
        .spawn(move || accept(&listener, &Arc::new(Open::default()), &answer, || true))?;
    Ok(port)
}

fn reply(origins: &[Origin], request: &Request) -> Reply {
    let text = |status, body| Reply {
        status,
        kind: "text/plain; charset=utf-8",
        body,
    };
    let Some(number) = request.path.strip_prefix("/demo/kill/") else {
        return text("200 OK", list(origins));
    };
    if request.method != "POST" {
        return text(
            "405 Method Not Allowed",
            "send a POST, so that no link and no prefetch kills an origin\n".to_owned(),
        );
    }
    let chosen = number
        .parse::<usize>()
        .ok()
        .and_then(|n| origins.get(n.checked_sub(1)?));
    match chosen {
        Some(origin) => {
            origin.kill();
            text(
                "200 OK",
                format!("{} is away for {} seconds\n", origin.name(), AWAY.as_secs()),
            )
        }
        None => text(
            "404 Not Found",
            format!(
                "there is no origin {number:?}; they are 1 to {}\n",
                origins.len()
            ),
        ),
    }
}

fn list(origins: &[Origin]) -> String {
    origins
        .iter()
        .enumerate()
        .fold(String::new(), |text, (n, origin)| {
            let state = if origin.is_up() { "up" } else { "away" };
            text + &format!(
                "{} {} 127.0.0.1:{} {state}\n",
                n + 1,
                origin.name(),
                origin.port()
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(origins: &[Origin], method: &str, path: &str) -> Reply {
        reply(
            origins,
            &Request {
                method: method.to_owned(),
                path: path.to_owned(),
                headers: Vec::new(),
            },
        )
    }

    #[test]
    fn only_a_post_kills_and_only_what_exists() {
        let origins = [Origin::start("Amber", "orange").unwrap()];
        assert_eq!(
            ask(&origins, "GET", "/demo/kill/1").status,
            "405 Method Not Allowed"
        );
        for path in [
            "/demo/kill/0",
            "/demo/kill/2",
            "/demo/kill/x",
            "/demo/kill/",
        ] {
            assert_eq!(
                ask(&origins, "POST", path).status,
                "404 Not Found",
                "{path}"
            );
        }
        assert!(ask(&origins, "GET", "/demo").body.contains("1 Amber") && origins[0].is_up());
        assert_eq!(ask(&origins, "POST", "/demo/kill/1").status, "200 OK");
        assert!(!origins[0].is_up());
    }
}
