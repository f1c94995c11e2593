//! An origin that remembers: it writes down the `X-Id` of every request **before** it answers, so that whatever becomes of
//! the process, what reached it is known.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::time::Duration;

use crate::http;

/// Between writing a request down and answering it.
const THINKING: Duration = Duration::from_millis(5);

/// Runs until it is killed, which is what it is for.
pub fn serve(address: SocketAddrV4, record: &str) -> Result<(), String> {
    let listener =
        TcpListener::bind(address).map_err(|e| format!("cannot listen on {address}: {e}"))?;
    let record = OpenOptions::new()
        .append(true)
        .create(true)
        .open(record)
        .map_err(|e| format!("cannot write {record}: {e}"))?;
    println!("ready");
    for stream in listener.incoming().flatten() {
        let Ok(record) = record.try_clone() else {
            continue;
        };
        std::thread::spawn(move || {
            let _ = connection(stream, record);
        });
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "an origin that takes its time does so by the clock"
)]
fn connection(mut stream: TcpStream, mut record: File) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = Vec::new();
    let mut space = [0; 16 << 10];
    loop {
        while let Some(end) = http::head_end(&input) {
            let head = &input[..end];
            let length = http::content_length(head).unwrap_or(0) as usize;
            let mut line = http::field(head, "x-id").unwrap_or(b"-").to_vec();
            line.push(b'\n');
            // One write per line: with O_APPEND, lines of several threads stay whole.
            record.write_all(&line)?;
            while input.len() < end + length {
                let n = stream.read(&mut space)?;
                if n == 0 {
                    return Ok(());
                }
                input.extend_from_slice(&space[..n]);
            }
            input.drain(..end + length);
            // Long enough that a killed one has requests under way.
            std::thread::sleep(THINKING);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        let n = stream.read(&mut space)?;
        if n == 0 {
            return Ok(());
        }
        input.extend_from_slice(&space[..n]);
    }
}
