//! `narthex proxy --tls`: HTTPS without a file, from the authority of the machine's own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs::{self, File};
use std::process::{Child, Command, Output, Stdio};

use narthex_e2e::kit::eventually;
use narthex_e2e::kit::found::LONG;
use narthex_e2e::kit::origin::Origin;
use narthex_e2e::kit::proxy::{binary, free_port, say};

/// Ended with the test.
struct Quick(Child);

impl Drop for Quick {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn narthex(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).output().unwrap()
}

#[test]
fn one_command_serves_both_versions_on_both_ports() {
    let origin = Origin::start();
    let to = origin.place();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (plain, https) = (free_port(), free_port());
    let (listen, encrypted) = (format!("127.0.0.1:{plain}"), format!("127.0.0.1:{https}"));
    let storage = at("state");
    let arguments = [
        "proxy",
        "--tls",
        &to,
        "--listen",
        &listen,
        "--https",
        &encrypted,
        "--name",
        "app.test",
        "--storage",
        &storage,
        "--workers",
        "2",
    ];
    let child = Command::new(binary())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(File::create(at("out")).unwrap())
        .stderr(File::create(at("err")).unwrap())
        .spawn()
        .unwrap();
    let _quick = Quick(child);
    let said = || fs::read_to_string(at("err")).unwrap();

    // It says where it serves and how to trust it, and that works.
    let root = at("narthex.pem");
    let trusted = eventually(LONG, || {
        let out = narthex(&["trust", "--storage", &storage]);
        fs::write(&root, &out.stdout).unwrap();
        out.status.success() && said().contains("trust --storage")
    });
    assert!(trusted, "{}", said());
    let urls = [
        format!("https://localhost:{https}/"),
        format!("http://localhost:{plain}/"),
        format!("narthex trust --storage {storage} "),
    ];
    for part in urls {
        assert!(said().contains(&part), "{part}: {}", said());
    }

    let curl = |how: &[&str], url: &str| {
        let to = |name: &str, port| format!("{name}:{port}:127.0.0.1");
        let out = Command::new("curl")
            .args([
                "-sS",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code} %{http_version}",
            ])
            .args([
                "--resolve",
                &to("localhost", https),
                "--resolve",
                &to("app.test", https),
            ])
            .args(["--resolve", &to("localhost", plain)])
            .args(how)
            .arg(url)
            .output()
            .unwrap();
        (String::from_utf8(out.stdout.clone()).unwrap(), out)
    };
    let secure = |name: &str| format!("https://{name}:{https}/");
    let believing = ["--cacert", &root];
    // Leaves come one after the other.
    for name in ["localhost", "app.test"] {
        let url = secure(name);
        let served = eventually(LONG, || curl(&believing, &url).1.status.success());
        assert!(served, "{}\n{}", say(&curl(&believing, &url).1), said());
    }
    for (how, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let (got, out) = curl(&[&believing[..], &[how]].concat(), &secure("localhost"));
        assert_eq!(got, format!("200 {version}"), "{how}: {}", say(&out));
    }
    for (how, version) in [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")] {
        let (got, out) = curl(&[how], &format!("http://localhost:{plain}/"));
        assert_eq!(got, format!("200 {version}"), "{how}: {}", say(&out));
    }
    // Without the root nobody believes it; exit code 60 says just that.
    let (_, out) = curl(&[], &secure("localhost"));
    assert_eq!(out.status.code(), Some(60), "{}", say(&out));

    // The file that says the same is good.
    let out = narthex(&[&arguments[..], &["--print"]].concat());
    let file = at("same.kdl");
    fs::write(&file, &out.stdout).unwrap();
    let out = narthex(&["check", &file]);
    assert!(out.status.success(), "{}", say(&out));
}
