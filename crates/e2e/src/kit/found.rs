//! What is to be seen from outside of servers that are discovered: who answers, and what metrics and log say.

use std::collections::BTreeSet;
use std::time::Duration;

use super::craft::get;
use super::eventually;
use super::origin::{Origin, Personality};
use super::proxy::Proxy;

/// Longer than any source takes to say something, look-ups without an answer and pauses after failures included.
pub const LONG: Duration = Duration::from_secs(40);

/// Origins that say their names: `o1`, `o2`, ...
pub fn origins(n: usize) -> Vec<Origin> {
    (1..=n)
        .map(|i| Origin::named(&format!("o{i}"), Personality::Strict))
        .collect()
}

/// A proxy with so many workers and an upstream that has only this.
#[track_caller]
pub fn proxy(workers: usize, discover: &str) -> Proxy {
    Proxy::start(&config(workers, discover))
}

/// Its configuration.
pub fn config(workers: usize, discover: &str) -> String {
    let config = Proxy::config(
        "",
        &format!(
            "upstream \"u\" {{\n{discover}\nbalance \"round-robin\"\n}}\nsite \"*\" {{ proxy \"u\" }}"
        ),
    );
    config.replace("workers 2", &format!("workers {workers}"))
}

/// The value of the first metric whose line begins so.
pub fn metric(proxy: &Proxy, name: &str) -> Option<String> {
    let text = proxy.metrics();
    let line = text.lines().find(|l| l.starts_with(name))?;
    line.rsplit(' ').next().map(str::to_owned)
}

/// Waits for this value of a metric.
#[track_caller]
pub fn metric_becomes(proxy: &Proxy, name: &str, wanted: &str) {
    let seen = || metric(proxy, name).as_deref() == Some(wanted);
    assert!(
        eventually(LONG, seen),
        "{name} is {:?} and not {wanted}\n{}",
        metric(proxy, name),
        proxy.stderr()
    );
}

/// Waits for the source's `up` to be this.
#[track_caller]
pub fn up(proxy: &Proxy, wanted: &str) {
    metric_becomes(proxy, "narthex_discovery_up{", wanted);
}

/// Waits for these words in the log.
#[track_caller]
pub fn says(proxy: &Proxy, words: &str) {
    assert!(
        eventually(LONG, || proxy.stderr().contains(words)),
        "`{words}` is not in {}",
        proxy.stderr()
    );
}

/// Who answers a few requests.
#[track_caller]
pub fn who(proxy: &Proxy) -> BTreeSet<String> {
    let ask = |_| {
        let answer = proxy.connect().ask(get("/", ""));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.fields.get("x-origin").unwrap_or_default()
    };
    (0..8).map(ask).collect()
}

/// Waits until exactly these answer.
#[track_caller]
pub fn served_by(proxy: &Proxy, wanted: &[&str]) {
    let wanted: BTreeSet<String> = wanted.iter().map(|s| (*s).to_owned()).collect();
    let mut last = BTreeSet::new();
    let done = eventually(LONG, || {
        last = who(proxy);
        last == wanted
    });
    assert!(done, "{last:?} and not {wanted:?}\n{}", proxy.stderr());
}

/// Waits until nobody is left to answer.
#[track_caller]
pub fn served_by_nobody(proxy: &Proxy) {
    let done = eventually(LONG, || proxy.connect().ask(get("/", "")).status == 503);
    assert!(done, "somebody answers\n{}", proxy.stderr());
}

/// The source is lost for this reason, is asked again and again, and takes none of these away.
#[track_caller]
pub fn held(proxy: &Proxy, kept: &[&str], why: &str, asked: impl Fn() -> usize) {
    up(proxy, "0");
    says(proxy, "the last known servers are kept");
    says(proxy, why);
    let before = asked();
    assert!(
        eventually(LONG, || asked() >= before + 2),
        "it is not asked"
    );
    let kept: BTreeSet<String> = kept.iter().map(|s| (*s).to_owned()).collect();
    assert_eq!(who(proxy), kept);
}

/// The source works again and says so.
#[track_caller]
pub fn heard(proxy: &Proxy, now: &[&str]) {
    up(proxy, "1");
    served_by(proxy, now);
    says(proxy, "the source of servers works again");
}
