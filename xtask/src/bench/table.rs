//! Rounds into a table.

use std::fmt::Write as _;

use super::scenario::Scenario;
use crate::rig::Answer;

/// One proxy in one round.
#[derive(Debug, Clone)]
pub struct Round {
    /// What the rig measured.
    pub answer: Answer,
    /// CPU time of the busiest worker over the mean of all; 1.0 is perfect.
    pub balance: f64,
}

impl Round {
    /// CPU time per request, µs.
    pub fn cost(&self) -> f64 {
        self.answer.get("cpu_ns") / 1e3 / self.answer.get("requests").max(1.0)
    }

    fn failures(&self) -> f64 {
        self.answer.get("errors") + self.answer.get("not_200")
    }
}

/// A proxy's rounds.
pub type Rounds = (String, Vec<Round>);

/// The middle of some numbers.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.as_slice() {
        [] => f64::NAN,
        all if all.len() % 2 == 1 => all[middle],
        all => f64::midpoint(all[middle - 1], all[middle]),
    }
}

fn median_of(rounds: &[Round], what: impl Fn(&Round) -> f64) -> f64 {
    median(rounds.iter().map(what).collect())
}

/// Cost of `ours` over that of `other`, paired round by round.
pub fn ratio(ours: &[Round], other: &[Round]) -> f64 {
    median(
        ours.iter()
            .zip(other)
            .map(|(a, b)| a.cost() / b.cost())
            .collect(),
    )
}

/// The table of a scenario. The first proxy is ours.
pub fn markdown(s: &Scenario, all: &[Rounds]) -> String {
    let mut out = format!("\n### {}: {}\n\n", s.name, s.what);
    if s.is_idle() {
        idle(&mut out, all);
        return out;
    }
    let bases: Vec<&Rounds> = all.iter().skip(1).collect();
    let mut head = String::from(
        "| proxy | CPU µs/request | spread | user % | requests/s | p50 µs | p99 µs | p99.9 µs | proxy CPU % | generator CPU % | failed |",
    );
    if s.workers > 1 {
        head.push_str(" busiest worker / mean |");
    }
    for (name, _) in &bases {
        let _ = write!(head, " / {name} |");
    }
    let columns = head.matches('|').count() - 1;
    let _ = writeln!(out, "{head}\n|{}", "---|".repeat(columns));
    for (name, rounds) in all {
        row(&mut out, s, name, rounds, &bases);
    }
    goals(&mut out, s, all);
    out
}

fn row(out: &mut String, s: &Scenario, name: &str, rounds: &[Round], bases: &[&Rounds]) {
    let costs: Vec<f64> = rounds.iter().map(Round::cost).collect();
    let low = costs.iter().copied().fold(f64::INFINITY, f64::min);
    let high = costs.iter().copied().fold(0.0, f64::max);
    let number = |key: &'static str| median_of(rounds, |r| r.answer.get(key));
    let share = |key: &'static str| {
        median_of(rounds, |r| {
            r.answer.get(key) / 1e7 / r.answer.get("secs").max(1e-9)
        })
    };
    let user = median_of(rounds, |r| {
        let (u, k) = (r.answer.get("user"), r.answer.get("system"));
        100.0 * u / (u + k).max(1.0)
    });
    let _ = write!(
        out,
        "| {name} | {:.2} | {low:.2}-{high:.2} | {user:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} |",
        median(costs),
        median_of(rounds, |r| r.answer.get("requests")
            / r.answer.get("secs").max(1e-9)),
        number("p50_us"),
        number("p99_us"),
        number("p999_us"),
        share("cpu_ns"),
        share("own_ns"),
        rounds.iter().map(Round::failures).sum::<f64>(),
    );
    if s.workers > 1 {
        let _ = write!(out, " {:.2} |", median_of(rounds, |r| r.balance));
    }
    for (_, base) in bases {
        let _ = write!(out, " {:.3} |", ratio(rounds, base));
    }
    out.push('\n');
}

fn goals(out: &mut String, s: &Scenario, all: &[Rounds]) {
    let Some((_, ours)) = all.first() else { return };
    for (name, rounds) in all.iter().skip(1) {
        let goal = match name.as_str() {
            "nginx" => s.goals[0],
            "haproxy" | "varnish" => s.goals[1],
            _ => None,
        };
        if let Some(goal) = goal {
            let is = ratio(ours, rounds);
            let verdict = if is <= goal { "reached" } else { "MISSED" };
            let _ = writeln!(
                out,
                "\nGoal: at most {goal:.2} of {name}; is {is:.3}: {verdict}."
            );
        }
    }
}

fn idle(out: &mut String, all: &[Rounds]) {
    out.push_str(
        "| proxy | bytes/connection | resident before | with all | idle CPU ms | failed |\n|---|---|---|---|---|---|\n",
    );
    for (name, rounds) in all {
        for Round { answer: a, .. } in rounds {
            let (before, after) = (a.get("before_bytes"), a.get("after_bytes"));
            let _ = writeln!(
                out,
                "| {name} | {:.0} | {:.1} MiB | {:.1} MiB | {:.1} | {:.0} |",
                (after - before) / a.get("conns").max(1.0),
                before / 1_048_576.0,
                after / 1_048_576.0,
                a.get("idle_cpu_ns") / 1e6,
                a.get("errors"),
            );
        }
    }
    out.push_str("\nGoal: at most 629 bytes per connection.\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(Vec::new()).is_nan());
    }
}
