//! Sweeps: combinations that nobody writes by hand, judged by the model alone. `NARTHEX_E2E_FULL=1` runs all of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![allow(
    clippy::format_collect,
    clippy::format_push_string,
    reason = "request bytes are written to be read"
)]

use narthex_e2e::kit::craft::{EVIL, chunked, get, request};
use narthex_e2e::kit::origin::Personality;
use narthex_e2e::kit::rig::Rig;
use narthex_e2e::kit::table::Table;
use narthex_e2e::kit::{Rng, full};

/// Spellings of a field: `{}` stands for the name, `[]` for the value.
const FIELD_FORMS: &[&str] = &[
    "{}: []\r\n",
    "{}:[]\r\n",
    "{}:\t[]\r\n",
    "{}: [] \r\n",
    "{}: []\t\r\n",
    "{} : []\r\n",
    "{}\t: []\r\n",
    " {}: []\r\n",
    "\t{}: []\r\n",
    "{}:\x0b[]\r\n",
    "{}: []\x0b\r\n",
    "{}: []\x0c\r\n",
    "{}:\n []\r\n",
    "{}:\r\n []\r\n",
    "{}:\r\n\t[]\r\n",
    "{}: []\n",
    "{}: []\r",
    "{}: []\r\r\n",
    "{}: []\n\r\n",
    "X: y\n{}: []\r\n",
    "X: y\r{}: []\r\n",
    "X: y\r\n {}: []\r\n",
    "{}\r\n: []\r\n",
    "\x00{}: []\r\n",
    "{}\x00: []\r\n",
    "{}: \x00[]\r\n",
    "{}: []\x00\r\n",
    "{}: \"[]\"\r\n",
    "{}: '[]'\r\n",
    "{}: [],\r\n",
    "{}: ,[]\r\n",
    "{}: [], []\r\n",
    "{}: [];q=1\r\n",
    "{}: []\u{a0}\r\n",
    "{}:\u{a0}[]\r\n",
    "{}\u{a0}: []\r\n",
    "\u{feff}{}: []\r\n",
    "{}: []\x7f\r\n",
    "{}:: []\r\n",
    "{}; []\r\n",
    "{}=[]\r\n",
    "{} []\r\n",
    "{}: []\r\n{}: []\r\n",
    "{}:\r\n{}: []\r\n",
    "{}: []\r\n{}:\r\n",
    "{}: x\r\n{}: []\r\n",
    "({}): []\r\n",
    "X-{}: []\r\n",
    "{}-X: []\r\n",
];

fn spell(form: &str, name: &str, value: &str) -> String {
    form.replace("{}", name).replace("[]", value)
}

/// `Transfer-Encoding` in every form against `Content-Length` in every form, for three kinds of origin.
#[test]
fn te_cl_permutations() {
    let tes = [
        "chunked",
        "Chunked",
        "identity",
        "xchunked",
        "chunke",
        "",
        "gzip, chunked",
    ];
    let cls = ["5", "0", "+5", "05", "5, 5", "0x5", ""];
    let names = [
        "Transfer-Encoding",
        "transfer-encoding",
        "TRANSFER-ENCODING",
    ];
    let mut rng = Rng(42);
    let keep = if full() { 1 } else { 20 };
    for (p, personality) in [
        Personality::Strict,
        Personality::LenientLf,
        Personality::ClFirst,
    ]
    .into_iter()
    .enumerate()
    {
        let rig = Rig::with_personality(personality);
        let mut t = Table::new(&rig);
        for te_form in FIELD_FORMS {
            for te in tes {
                for cl_form in FIELD_FORMS {
                    for cl in cls {
                        for method in ["GET", "POST", "OPTIONS"] {
                            if rng.below(keep * 3) != p {
                                continue;
                            }
                            let name = names[rng.below(3)];
                            let (a, b) = (
                                spell(te_form, name, te),
                                spell(cl_form, "Content-Length", cl),
                            );
                            let fields = if rng.below(2) == 0 { a + &b } else { b + &a };
                            t.judge(request(
                                method,
                                "/sweep",
                                &fields,
                                &format!("0\r\n\r\n{EVIL}"),
                            ));
                        }
                    }
                }
            }
        }
        t.finish();
    }
}

/// Each framing field alone, in every form.
#[test]
fn one_framing_field_in_every_form() {
    for personality in [Personality::Strict, Personality::LenientLf] {
        let rig = Rig::with_personality(personality);
        let mut t = Table::new(&rig);
        for form in FIELD_FORMS {
            for (name, value) in [("Transfer-Encoding", "chunked"), ("Content-Length", "5")] {
                for method in ["GET", "POST"] {
                    t.judge(request(
                        method,
                        "/one",
                        &spell(form, name, value),
                        &format!("0\r\n\r\n{EVIL}"),
                    ));
                }
            }
        }
        t.finish();
    }
}

/// 200 and more malformed chunk bodies, in the first, a middle and the last place.
#[test]
fn chunk_grammar() {
    let rig = Rig::with_personality(Personality::LenientLf);
    let mut t = Table::new(&rig);
    let sizes = [
        "0x3",
        "+3",
        "-3",
        " 3",
        "3 ",
        "3\t",
        "\t3",
        "3_",
        "3.",
        "3,3",
        "",
        "g",
        "3g",
        "3h",
        "3\0",
        "\x003",
        "3\x0b",
        "3\x0c",
        "3\r",
        "3\u{a0}",
        "FFFFFFFFFFFFFFFFF",
        "100000003000000003",
        "ffffffffffffffff",
        "0000000000000000003",
    ];
    let extensions = [
        ";",
        ";;",
        ";=",
        ";=b",
        ";a=",
        ";a=\"",
        ";a=\"b",
        ";a=b\"",
        ";a b",
        ";a=b c",
        ";\0",
        ";a\0",
        ";a=\x01",
        ";a\x7f",
        ";a=\"\x02\"",
        ";\r",
        ";\n",
        ";a\n",
        ";a\r",
        ";a=\"\n\"",
        ";a=\"\r\n\"",
        ";(",
        ";a=(",
        ";a=\"b\"c",
        ";a=@",
    ];
    let ends = [
        "", "\n", "\r", "\r\r\n", "\n\r", "XX", "X\r\n", " \r\n", "\0\0", "\n\n", "\r\x0b\n",
    ];
    let mut bodies: Vec<String> = Vec::new();
    for s in sizes {
        bodies.push(format!("{s}\r\nabc\r\n0\r\n\r\n"));
        bodies.push(format!("3\r\nabc\r\n{s}\r\nabc\r\n0\r\n\r\n"));
        bodies.push(format!("3\r\nabc\r\n{s}\r\n\r\n"));
    }
    for e in extensions {
        bodies.push(format!("3{e}\r\nabc\r\n0\r\n\r\n"));
        bodies.push(format!("3\r\nabc\r\n3{e}\r\nabc\r\n0\r\n\r\n"));
        bodies.push(format!("3\r\nabc\r\n0{e}\r\n\r\n"));
        bodies.push(format!("3;ok{e}\r\nabc\r\n0\r\n\r\n"));
    }
    for e in ends {
        bodies.push(format!("3\r\nabc{e}0\r\n\r\n"));
        bodies.push(format!("3\r\nabc\r\n3\r\nabc{e}0\r\n\r\n"));
        bodies.push(format!("3{e}abc\r\n0\r\n\r\n"));
        bodies.push(format!("3\r\nabc\r\n0\r\n{e}"));
        bodies.push(format!("3\r\nabc\r\n0{e}"));
    }
    assert!(bodies.len() >= 200, "{}", bodies.len());
    for body in bodies {
        t.judge(chunked(format!("{body}{EVIL}").as_bytes()));
    }
    t.finish();
}

/// A pipeline with one byte changed anywhere: the proxy and the model agree about all that follows.
#[test]
fn one_byte_changed() {
    let rig = Rig::plain();
    let mut t = Table::new(&rig);
    let mut rng = Rng(2026);
    let rows = if full() { 200_000 } else { 6000 };
    for n in 0..rows {
        let mut bytes = format!(
            "{}{}{}",
            get("/a", "X-A: b\r\n"),
            request(
                "POST",
                "/b",
                "Transfer-Encoding: chunked\r\n",
                "3;x=y\r\nabc\r\n0\r\nX-T: v\r\n\r\n"
            ),
            request("POST", "/c", "Content-Length: 3\r\n", "abc"),
        )
        .into_bytes();
        let at = rng.below(bytes.len());
        bytes[at] = match n % 4 {
            0 => b"\r\n \t:;,\0"[rng.below(8)],
            1 => bytes[at] ^ (1 << rng.below(8)),
            2 => rng.next_u64() as u8,
            _ => bytes[rng.below(bytes.len())],
        };
        if ambiguous(&bytes) {
            continue;
        }
        t.judge(&bytes);
    }
    t.finish();
}

/// Changes whose effect is a matter of routing or hop-by-hop rules, which other tests look at.
fn ambiguous(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    ["connection:", "expect:", "upgrade:"]
        .iter()
        .any(|w| text.contains(w))
}

/// Bytes removed, doubled or swapped.
#[test]
fn bytes_removed_and_doubled() {
    let rig = Rig::plain();
    let mut t = Table::new(&rig);
    let base = |n: usize| match n % 3 {
        0 => get("/a", "X-A: b\r\n") + &get("/b", ""),
        1 => {
            request(
                "POST",
                "/b",
                "Transfer-Encoding: chunked\r\n",
                "3;x=y\r\nabc\r\n0\r\nX-T: v\r\n\r\n",
            ) + &get("/b", "")
        }
        _ => request("POST", "/c", "Content-Length: 3\r\n", "abc") + &get("/b", ""),
    };
    let step = if full() { 1 } else { 3 };
    for kind in 0..3 {
        let len = base(kind).len();
        for at in (0..len).step_by(step) {
            let mut removed = base(kind).into_bytes();
            removed.remove(at);
            t.judge(&removed);
            let mut doubled = base(kind).into_bytes();
            doubled.insert(at, doubled[at]);
            t.judge(&doubled);
        }
    }
    t.finish();
}
