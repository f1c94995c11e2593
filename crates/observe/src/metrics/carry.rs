//! Counts that go on in another process: what a registry has counted, and its addition to another one. Counters and
//! histograms only; a gauge says how something is, and the other process knows better.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::{Deserialize, Serialize};

use super::registry::{Family, Kind, Registry, Series, State, legal_name};
use super::{Counter, Histogram, Unit};

/// What a registry has counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    families: BTreeMap<String, CarriedFamily>,
}

/// All series of one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct CarriedFamily {
    help: String,
    /// By written labels.
    series: BTreeMap<String, Counted>,
}

/// One series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Counted {
    Counter(u64),
    Histogram(CountedHistogram),
}

/// A distribution, without its empty buckets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CountedHistogram {
    pub(super) bytes: bool,
    pub(super) sum: u64,
    pub(super) coarse: BTreeMap<usize, u64>,
    pub(super) fine: BTreeMap<usize, u64>,
}

impl Carried {
    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut rest = self.clone();
        for (name, family) in &mut rest.families {
            let Some(before) = earlier.families.get(name) else {
                continue;
            };
            family
                .series
                .retain(|labels, counted| match before.series.get(labels) {
                    Some(before) => counted.take(before),
                    None => true,
                });
        }
        rest.families.retain(|_, family| !family.series.is_empty());
        rest
    }

    /// How many series.
    pub fn len(&self) -> usize {
        self.families.values().map(|f| f.series.len()).sum()
    }

    /// Nothing at all?
    pub fn is_empty(&self) -> bool {
        self.families.is_empty()
    }
}

impl Counted {
    /// Takes away what had been counted before; false if nothing is left.
    fn take(&mut self, before: &Self) -> bool {
        match (self, before) {
            (Self::Counter(now), Self::Counter(before)) => {
                *now = now.saturating_sub(*before);
                *now > 0
            }
            (Self::Histogram(now), Self::Histogram(before)) => {
                now.sum = now.sum.wrapping_sub(before.sum);
                subtract(&mut now.coarse, &before.coarse);
                subtract(&mut now.fine, &before.fine);
                !now.coarse.is_empty()
            }
            // A name that became something else: what it counts is new.
            _ => true,
        }
    }
}

fn subtract(from: &mut BTreeMap<usize, u64>, what: &BTreeMap<usize, u64>) {
    from.retain(|bucket, count| {
        *count = count.saturating_sub(what.get(bucket).copied().unwrap_or(0));
        *count > 0
    });
}

impl Registry {
    /// What was counted so far.
    pub fn carry(&self) -> Carried {
        let state = self.lock();
        let families = state.families.iter().filter_map(|(name, family)| {
            let series: BTreeMap<_, _> = family
                .series
                .iter()
                .filter_map(|(labels, series)| Some((labels.clone(), counted(series)?)))
                .collect();
            let help = family.help.clone();
            (!series.is_empty()).then(|| (name.clone(), CarriedFamily { help, series }))
        });
        Carried {
            families: families.collect(),
        }
    }

    /// Adds what another process has counted. A series that does not fit the bound, or is another kind here, is left out.
    pub fn add(&self, carried: &Carried) {
        let mut state = self.lock();
        for (name, family) in &carried.families {
            for (labels, counted) in &family.series {
                state.add(name, &family.help, labels, counted);
            }
        }
    }
}

fn counted(series: &Series) -> Option<Counted> {
    match series {
        Series::Counter(cell) => {
            let value = Counter(cell.clone()).value();
            (value > 0).then_some(Counted::Counter(value))
        }
        Series::Histogram(histogram) => {
            let counted = histogram.counted();
            (!counted.coarse.is_empty()).then_some(Counted::Histogram(counted))
        }
        Series::Gauge(_) => None,
    }
}

impl State {
    fn add(&mut self, name: &str, help: &str, labels: &str, counted: &Counted) {
        let kind = match counted {
            Counted::Counter(_) => Kind::Counter,
            Counted::Histogram(_) => Kind::Histogram,
        };
        let known = self
            .families
            .get(name)
            .is_some_and(|family| family.series.contains_key(labels));
        if name != legal_name(name) || (!known && !self.has_room()) {
            return;
        }
        let cores = self.cores;
        let Self {
            families,
            cells,
            series,
            ..
        } = self;
        let family = families.entry(name.to_owned()).or_insert_with(|| Family {
            help: help.to_owned(),
            kind,
            series: BTreeMap::new(),
            collect: None,
        });
        if family.kind != kind {
            return;
        }
        let place = match family.series.entry(labels.to_owned()) {
            Entry::Occupied(place) => place.into_mut(),
            Entry::Vacant(place) => {
                *series += 1;
                place.insert(match counted {
                    Counted::Counter(_) => Series::Counter(cells.allocate()),
                    Counted::Histogram(h) => {
                        let unit = if h.bytes { Unit::Bytes } else { Unit::Seconds };
                        Series::Histogram(Histogram::new(cores, unit))
                    }
                })
            }
        };
        match (place, counted) {
            (Series::Counter(cell), Counted::Counter(n)) => Counter(cell.clone()).add_shared(*n),
            (Series::Histogram(histogram), Counted::Histogram(counted)) => histogram.add(counted),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(registry: &Registry) -> String {
        let mut out = String::new();
        registry.render_prometheus(&mut out);
        let own = ["#", "process_", "narthex_metrics_"];
        let ours = |line: &&str| !own.iter().any(|own| line.starts_with(own));
        out.lines().filter(ours).collect::<Vec<_>>().join("\n")
    }

    fn filled(registry: &Registry, times: u64) {
        let counter = registry.counter("a_total", "A.", &[("x", "1"), ("w", "q\"\\\n")]);
        counter.add(0, times);
        counter.add_shared(times);
        let plain = registry.histogram("b_seconds", "B.", &[], Unit::Seconds);
        let sizes = registry.histogram("b_bytes", "B.", &[("x", "1")], Unit::Bytes);
        for n in 0..times {
            plain.observe(1, n * 1_000);
            sizes.observe_shared(n);
        }
    }

    fn through_json(carried: &Carried) -> Carried {
        let text = serde_json::to_string(carried).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn what_was_counted_is_counted_there() {
        let (old, new) = (Registry::new(2), Registry::new(8));
        filled(&old, 40);
        old.gauge("g", "G.", &[]).set_shared(7);
        new.add(&through_json(&old.carry()));
        let without_gauge = text(&old).replace("\ng 7", "");
        assert_eq!(text(&new), without_gauge);
        let quantile = |r: &Registry| {
            r.histogram("b_seconds", "B.", &[], Unit::Seconds)
                .quantile(0.5)
        };
        assert_eq!(quantile(&new), quantile(&old));
    }

    #[test]
    fn a_handle_made_later_finds_it() {
        let (old, new) = (Registry::new(1), Registry::new(1));
        old.counter("a_total", "A.", &[("x", "1")]).add_shared(5);
        new.add(&old.carry());
        let counter = new.counter("a_total", "A.", &[("x", "1")]);
        counter.inc(0);
        assert_eq!(counter.value(), 6);
        assert_eq!(new.series(), 1);
    }

    #[test]
    fn the_bound_holds_and_kinds_stay() {
        let old = Registry::new(1);
        for n in 0..100 {
            old.counter("a_total", "A.", &[("x", &n.to_string())])
                .add_shared(1);
        }
        old.counter("b_total", "B.", &[]).add_shared(1);
        let new = Registry::with_limit(1, 10);
        let gauge = new.gauge("b_total", "B.", &[]);
        new.add(&old.carry());
        assert!(new.series() <= 10, "{}", new.series());
        assert_eq!(gauge.value(), 0);
    }

    proptest! {
        #[test]
        fn the_last_counts_complete_the_first(before in 0u64..50, after in 0u64..50) {
            let (old, new) = (Registry::new(2), Registry::new(1));
            filled(&old, before);
            let first = old.carry();
            new.add(&through_json(&first));
            filled(&old, after);
            let last = old.carry().since(&first);
            if after == 0 {
                prop_assert!(last.is_empty());
            }
            new.add(&through_json(&last));
            if before + after > 0 {
                prop_assert_eq!(text(&new), text(&old));
            }
        }
    }
}
