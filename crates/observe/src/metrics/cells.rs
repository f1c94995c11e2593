//! The memory behind counters and gauges: blocks of 64 series, each core's 64 cells side by side on lines of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Cells on one cache line.
const PER_LINE: usize = 8;
/// Lines in one core's row of a block.
const LINES_PER_ROW: usize = 8;
/// Series in a block.
pub(super) const PER_BLOCK: usize = PER_LINE * LINES_PER_ROW;

/// One cache line.
#[derive(Default)]
#[repr(align(64))]
struct Line([AtomicU64; PER_LINE]);

/// Cells of 64 series: a row per core and a last one for every other thread.
pub(super) struct Block {
    cores: usize,
    lines: Box<[Line]>,
}

impl Block {
    pub(super) fn new(cores: usize) -> Self {
        Self {
            cores,
            lines: (0..(cores + 1) * LINES_PER_ROW)
                .map(|_| Line::default())
                .collect(),
        }
    }

    /// `row <= cores` and `offset < PER_BLOCK`: both are checked where they are made.
    #[inline]
    fn cell(&self, row: usize, offset: usize) -> &AtomicU64 {
        &self.lines[row * LINES_PER_ROW + offset / PER_LINE].0[offset % PER_LINE]
    }

    /// A core is the only writer of its row, so load and store suffice; all others share the last row.
    #[inline]
    fn add(&self, core: usize, offset: usize, n: u64) {
        if core < self.cores {
            let cell = self.cell(core, offset);
            cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
        } else {
            self.cell(self.cores, offset).fetch_add(n, Relaxed);
        }
    }

    fn set(&self, core: usize, offset: usize, value: u64) {
        self.cell(core.min(self.cores), offset)
            .store(value, Relaxed);
    }

    fn sum(&self, offset: usize) -> u64 {
        (0..=self.cores).fold(0, |sum, row| {
            sum.wrapping_add(self.cell(row, offset).load(Relaxed))
        })
    }
}

/// One series' cells. A clone is a handle; [`CellRef::unused`] tells the registry that none is left.
#[derive(Clone)]
pub(super) struct CellRef {
    block: Arc<Block>,
    offset: usize,
    alive: Arc<()>,
}

impl CellRef {
    #[inline]
    pub(super) fn add(&self, core: usize, n: u64) {
        self.block.add(core, self.offset, n);
    }

    pub(super) fn set(&self, core: usize, value: u64) {
        self.block.set(core, self.offset, value);
    }

    pub(super) fn sum(&self) -> u64 {
        self.block.sum(self.offset)
    }

    /// True if this is the only reference to the series. Takes `&mut` so that nobody clones it meanwhile.
    pub(super) fn unused(&mut self) -> bool {
        Arc::get_mut(&mut self.alive).is_some()
    }
}

/// Hands out cells; freed ones first.
pub(super) struct Cells {
    cores: usize,
    current: Arc<Block>,
    next: usize,
    free: Vec<CellRef>,
}

impl Cells {
    pub(super) fn new(cores: usize) -> Self {
        Self {
            cores,
            current: Arc::new(Block::new(cores)),
            next: 0,
            free: Vec::new(),
        }
    }

    pub(super) fn allocate(&mut self) -> CellRef {
        if let Some(cell) = self.free.pop() {
            return cell;
        }
        if self.next == PER_BLOCK {
            self.current = Arc::new(Block::new(self.cores));
            self.next = 0;
        }
        let offset = self.next;
        self.next += 1;
        CellRef {
            block: Arc::clone(&self.current),
            offset,
            alive: Arc::new(()),
        }
    }

    /// Takes back a series' cells, which must be unused, and zeroes them.
    pub(super) fn release(&mut self, cell: CellRef) {
        for row in 0..=self.cores {
            cell.set(row, 0);
        }
        self.free.push(cell);
    }
}
