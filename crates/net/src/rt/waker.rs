//! A waker that is a number: core (8 bits), generation (24 bits), slot (32 bits). Nothing to count, nothing to free.
#![allow(unsafe_code)]

use std::task::{RawWaker, RawWakerVTable, Waker};

use super::core::{TaskKey, try_core};

/// Generations wrap inside this mask.
pub(super) const GENERATION_MASK: u32 = 0x00ff_ffff;

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake, nothing);

pub(super) fn make(core: u16, task: TaskKey) -> Waker {
    // JUSTIFICATION: `std::task::Wake` wants one reference-counted allocation per task; an idle connection would pay it.
    // SAFETY: the data pointer is never dereferenced; it only carries bits. Every function of the vtable accepts any
    // bits (an unknown core, slot or generation wakes nobody), may be called from any thread, and owns nothing.
    unsafe { Waker::from_raw(raw(pack(core, task))) }
}

fn pack(core: u16, task: TaskKey) -> u64 {
    (u64::from(core & 0xff) << 56)
        | (u64::from(task.generation & GENERATION_MASK) << 32)
        | u64::from(task.slot)
}

fn unpack(bits: u64) -> (u16, TaskKey) {
    let task = TaskKey {
        slot: bits as u32,
        generation: (bits >> 32) as u32 & GENERATION_MASK,
    };
    ((bits >> 56) as u16, task)
}

fn raw(bits: u64) -> RawWaker {
    RawWaker::new(std::ptr::without_provenance(bits as usize), &VTABLE)
}

fn clone(data: *const ()) -> RawWaker {
    RawWaker::new(data, &VTABLE)
}

fn nothing(_: *const ()) {}

fn wake(data: *const ()) {
    let (id, task) = unpack(data.addr() as u64);
    match try_core() {
        Some(core) if core.id() == id => core.wake(task),
        _ => super::remote::wake_on(id, task),
    }
}
