//! One life of the engine: start, serve, reload, refuse, stop. One test, because a process has one set of cores.
#![allow(
    clippy::unwrap_used,
    reason = "the helpers of a test fail as the test does"
)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use narthex_engine::command::Phase;
use narthex_engine::handle::ReloadError;
use narthex_engine::{Engine, Exit, Handle, Options, Source};

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn connect(port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

/// One request on a connection that stays open; the body of the answer, which ends with a line break.
fn ask(stream: &mut TcpStream) -> String {
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0u8; 1024];
    loop {
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&answer);
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && body.ends_with('\n')
        {
            return body.to_owned();
        }
    }
}

fn write(path: &Path, ports: &[u16], word: &str) {
    let listeners = ports.iter().fold(String::new(), |text, port| {
        text + &format!("listen \"127.0.0.1:{port}\"\n")
    });
    let text = format!(
        "version 1\nworkers 2\naccess-log \"off\"\n{listeners}site \"*\" {{ respond 200 \"{word}\\n\" }}\n"
    );
    std::fs::write(path, text).unwrap();
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[test]
fn one_life() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("narthex.kdl");
    let (first, second) = (free_port(), free_port());
    write(&file, &[first], "one");
    let source = Source::File(file.clone());
    let config = source.load().unwrap().config;
    let (engine, handle) = Engine::start(
        config,
        Options {
            source,
            log: None,
            default_admin: false,
            upgradable: false,
            predecessor: None,
        },
    )
    .unwrap();
    assert_eq!(handle.phase(), Phase::Starting);

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let exit = runtime.block_on(async {
        let running = tokio::spawn(engine.run());
        story(&handle, &file, first, second).await;
        running.await.unwrap()
    });
    assert_eq!(exit, Exit::Stopped);
    assert!(connect(second).is_err(), "the socket is closed");
}

/// Cores answer as soon as they have the configuration; the control thread says so a moment later.
async fn ready(handle: &Handle) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while handle.phase() == Phase::Starting {
        assert!(Instant::now() < deadline, "never ready");
        tokio::task::yield_now().await;
    }
    assert_eq!(handle.phase(), Phase::Ready);
}

async fn story(handle: &Handle, file: &Path, first: u16, second: u16) {
    let mut client = blocking(move || connect(first).unwrap()).await;
    let (mut client, body) = blocking(move || {
        let body = ask(&mut client);
        (client, body)
    })
    .await;
    assert_eq!(body, "one\n");
    ready(handle).await;

    write(file, &[first, second], "two");
    let report = handle.reload("test").await.unwrap();
    assert_eq!(
        report.changes.listeners.added,
        [format!("127.0.0.1:{second}")]
    );
    assert_eq!(report.changes.sites.changed, ["*"]);
    // Every core has adopted: the old connection and both sockets see the new configuration.
    let bodies = blocking(move || {
        [
            ask(&mut client),
            ask(&mut connect(first).unwrap()),
            ask(&mut connect(second).unwrap()),
        ]
    })
    .await;
    assert_eq!(bodies, ["two\n", "two\n", "two\n"]);

    std::fs::write(file, "version 1\nlisten \":x\"\n").unwrap();
    match handle.reload("test").await {
        Err(ReloadError::Refused(refused)) => assert!(
            refused.problems.contains("narthex.kdl:2:"),
            "{}",
            refused.problems
        ),
        other => panic!("{other:?}"),
    }
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let occupied = taken.local_addr().unwrap().port();
    write(file, &[first, second, occupied], "three");
    match handle.reload("test").await {
        Err(ReloadError::Refused(refused)) => {
            assert!(refused.problems.contains("in use"), "{}", refused.problems);
        }
        other => panic!("{other:?}"),
    }
    let body = blocking(move || ask(&mut connect(first).unwrap())).await;
    assert_eq!(body, "two\n", "a refused reload changes nothing");

    write(file, &[second], "four");
    let report = handle.reload("test").await.unwrap();
    assert_eq!(
        report.changes.listeners.removed,
        [format!("127.0.0.1:{first}")]
    );
    let (gone, body) =
        blocking(move || (connect(first).is_err(), ask(&mut connect(second).unwrap()))).await;
    assert!(gone, "a removed listener is closed when the reload returns");
    assert_eq!(body, "four\n");

    let status = handle.status().await.unwrap();
    assert_eq!(
        (
            status.reloads.applied,
            status.reloads.refused,
            status.reloads.last_applied
        ),
        (2, 2, true)
    );
    assert_eq!((status.phase, status.workers), (Phase::Ready, 2));
    assert!(
        status
            .tasks
            .iter()
            .any(|task| task.name == "narthex-0" && task.running)
    );

    handle
        .stop("test", Some(Duration::from_secs(10)))
        .await
        .unwrap();
}
