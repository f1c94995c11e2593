//! Tests of the runtime, against the real kernel; the wheel also against a model, with made-up time.

mod sockets;
mod tasks;
mod wheel;

/// What an idle connection costs in the runtime, besides its own future. Growth must be a decision.
#[test]
fn an_idle_connection_is_small() {
    assert_eq!(size_of::<super::core::Task>(), 32);
    assert_eq!(size_of::<super::reactor::Source>(), 24);
    assert_eq!(size_of::<super::timer::Entry>(), 16);
    assert_eq!(size_of::<super::Registration>(), 4);
    assert_eq!(size_of::<crate::stream::Stream>(), 8);
}
