//! The registry: families of series by name, bounded, shared by all rooms. Its lock is taken when a series is registered and
//! when it is read, never when a value is recorded.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::cells::{CellRef, Cells};
use super::render;
use super::{Counter, Gauge, Histogram, Unit};

/// Series per registry unless said otherwise.
pub const DEFAULT_MAX_SERIES: usize = 20_000;
/// Longest label value in bytes; longer ones are cut, and so share a series.
const MAX_LABEL_BYTES: usize = 256;
/// After a sweep that freed nothing, the next one waits this long.
const SWEEP_PAUSE: Duration = Duration::from_millis(50);
/// The value of every label of a folded series.
const FOLDED: &str = "other";

/// Receives a collector's samples: labels and value.
pub type Emit<'a> = dyn FnMut(&[(&str, &str)], f64) + 'a;

type Collect = Arc<dyn Fn(&mut Emit<'_>) + Send + Sync>;

/// What a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Rises and falls.
    Gauge,
    /// A distribution.
    Histogram,
}

/// One series.
pub(super) enum Series {
    Counter(CellRef),
    Gauge(CellRef),
    Histogram(Histogram),
}

impl Series {
    fn unused(&mut self) -> bool {
        match self {
            Self::Counter(cell) | Self::Gauge(cell) => cell.unused(),
            Self::Histogram(histogram) => histogram.unused(),
        }
    }
}

/// All series of one name.
pub(super) struct Family {
    pub(super) help: String,
    pub(super) kind: Kind,
    /// By written labels (`a="x",b="y"`), sorted by label name.
    pub(super) series: BTreeMap<String, Series>,
    /// Asked when read, for figures that another part of the program already keeps.
    pub(super) collect: Option<Collect>,
}

/// A family to ask, and the head to write before: none if it has series of its own, which come with it.
struct Asked {
    name: String,
    head: Option<(String, Kind)>,
    collect: Collect,
}

pub(super) struct State {
    pub(super) families: BTreeMap<String, Family>,
    pub(super) series: usize,
    pub(super) folded: u64,
    pub(super) cells: Cells,
    pub(super) cores: usize,
    max_series: usize,
    /// When a sweep last found nothing to free.
    in_vain: Option<Instant>,
}

/// The process's metrics. A clone is the same registry.
#[derive(Clone)]
pub struct Registry {
    state: Arc<Mutex<State>>,
}

impl Registry {
    /// For `cores` data cores, with [`DEFAULT_MAX_SERIES`].
    pub fn new(cores: usize) -> Self {
        Self::with_limit(cores, DEFAULT_MAX_SERIES)
    }

    /// With at most `max_series` labelled series.
    pub fn with_limit(cores: usize, max_series: usize) -> Self {
        let state = State {
            families: BTreeMap::new(),
            series: 0,
            folded: 0,
            cells: Cells::new(cores),
            cores,
            max_series,
            in_vain: None,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The counter of this name and these labels, made if there is none. `name` should end in `_total`.
    pub fn counter(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Counter {
        let mut state = self.lock();
        let found = state.register(name, help, labels, Kind::Counter, |cells, _| {
            Series::Counter(cells.allocate())
        });
        match found {
            Some(Series::Counter(cell)) => Counter(cell.clone()),
            _ => Counter(state.cells.allocate()),
        }
    }

    /// The gauge of this name and these labels, made if there is none.
    pub fn gauge(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Gauge {
        let mut state = self.lock();
        let found = state.register(name, help, labels, Kind::Gauge, |cells, _| {
            Series::Gauge(cells.allocate())
        });
        match found {
            Some(Series::Gauge(cell)) => Gauge(cell.clone()),
            _ => Gauge(state.cells.allocate()),
        }
    }

    /// The histogram of this name and these labels, made if there is none. `name` should end in `_seconds` or `_bytes`.
    pub fn histogram(
        &self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        unit: Unit,
    ) -> Histogram {
        let mut state = self.lock();
        let make = |_: &mut Cells, cores| Series::Histogram(Histogram::new(cores, unit));
        match state.register(name, help, labels, Kind::Histogram, make) {
            Some(Series::Histogram(histogram)) => histogram.clone(),
            _ => Histogram::new(state.cores, unit),
        }
    }

    /// A family whose values are asked for when the metrics are read; `kind` is a counter or a gauge. The same name again
    /// replaces the closure. It is called without the registry's lock, and at most the registry's bound of its samples is kept.
    pub fn collect(
        &self,
        name: &str,
        help: &str,
        kind: Kind,
        read: impl Fn(&mut Emit<'_>) + Send + Sync + 'static,
    ) {
        if let Some(family) = self.lock().family(name, help, kind) {
            family.collect = Some(Arc::new(read));
        }
    }

    /// Appends everything in Prometheus text format 0.0.4
    /// (`Content-Type: text/plain; version=0.0.4; charset=utf-8`).
    pub fn render_prometheus(&self, out: &mut String) {
        let (collectors, most) = {
            let state = self.lock();
            render::families(&state, out);
            (state.collectors(), state.max_series)
        };
        for Asked {
            name,
            head,
            collect,
        } in collectors
        {
            if let Some((help, kind)) = head {
                render::head(&name, &help, kind, out);
            }
            render::collected(&name, &*collect, most, out);
        }
        render::process(out);
    }

    /// How many registrations were folded into a series `other` because the registry was full.
    pub fn folded(&self) -> u64 {
        self.lock().folded
    }

    /// How many series there are.
    pub fn series(&self) -> usize {
        self.lock().series
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Registry({} series)", self.series())
    }
}

impl State {
    /// The family of this name; `None` if the name belongs to another kind.
    fn family(&mut self, name: &str, help: &str, kind: Kind) -> Option<&mut Family> {
        let name = legal_name(name);
        let family = self.families.entry(name.clone()).or_insert_with(|| Family {
            help: help.to_owned(),
            kind,
            series: BTreeMap::new(),
            collect: None,
        });
        if family.kind != kind {
            tracing::error!(name, ?kind, already = ?family.kind, "a metric was declared as two kinds; the second is not exported");
            return None;
        }
        Some(family)
    }

    fn register(
        &mut self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        kind: Kind,
        make: impl FnOnce(&mut Cells, usize) -> Series,
    ) -> Option<&Series> {
        let mut key = label_key(labels);
        let known = self.family(name, help, kind)?.series.contains_key(&key);
        // a series without labels is one per family, and families are written in the program
        if !known && !labels.is_empty() && !self.has_room() {
            self.folded += 1;
            let folded: Vec<_> = labels.iter().map(|(label, _)| (*label, FOLDED)).collect();
            key = label_key(&folded);
        }
        let cores = self.cores;
        let family = self.families.get_mut(&legal_name(name))?;
        match family.series.entry(key) {
            Entry::Occupied(series) => Some(series.into_mut()),
            Entry::Vacant(place) => {
                self.series += 1;
                Some(place.insert(make(&mut self.cells, cores)))
            }
        }
    }

    /// True if a series fits, if need be after those without a handle are gone.
    pub(super) fn has_room(&mut self) -> bool {
        if self.series < self.max_series {
            return true;
        }
        // a sweep visits every series: when many new ones arrive in a row, not each of them pays for one
        if self.in_vain.is_none_or(|at| at.elapsed() >= SWEEP_PAUSE) {
            self.sweep();
        }
        self.series < self.max_series
    }

    /// Forgets every series that nobody can write any more: what removed routes and upstreams left behind.
    fn sweep(&mut self) {
        let cells = &mut self.cells;
        let mut freed = 0;
        for family in self.families.values_mut() {
            let gone: Vec<_> = family
                .series
                .extract_if(.., |_, series| series.unused())
                .collect();
            freed += gone.len();
            for (_, series) in gone {
                if let Series::Counter(cell) | Series::Gauge(cell) = series {
                    cells.release(cell);
                }
            }
        }
        self.series -= freed;
        self.in_vain = (freed == 0).then(Instant::now);
    }

    fn collectors(&self) -> Vec<Asked> {
        let mut found = Vec::new();
        for (name, family) in &self.families {
            if let Some(collect) = &family.collect {
                let alone = family.series.is_empty();
                found.push(Asked {
                    name: name.clone(),
                    head: alone.then(|| (family.help.clone(), family.kind)),
                    collect: Arc::clone(collect),
                });
            }
        }
        found
    }
}

/// Letters, digits, `_` and `:`, not beginning with a digit; anything else becomes `_`.
pub(super) fn legal_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for (at, letter) in name.chars().enumerate() {
        let legal = letter.is_ascii_alphabetic()
            || matches!(letter, '_' | ':')
            || (at > 0 && letter.is_ascii_digit());
        out.push(if legal { letter } else { '_' });
    }
    out
}

/// Labels as they are written, sorted by name: a series' identity.
pub(super) fn label_key(labels: &[(&str, &str)]) -> String {
    let mut sorted: Vec<_> = labels.to_vec();
    sorted.sort_unstable();
    let mut out = String::new();
    for (name, value) in sorted {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(&legal_name(name).replace(':', "_"));
        out.push_str("=\"");
        render::escape_label(cut(value), &mut out);
        out.push('"');
    }
    out
}

/// At most [`MAX_LABEL_BYTES`], whole characters.
fn cut(value: &str) -> &str {
    value
        .get(..value.floor_char_boundary(MAX_LABEL_BYTES))
        .unwrap_or(value)
}
