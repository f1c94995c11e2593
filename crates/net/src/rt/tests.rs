//! Tests of the runtime, against the real kernel; the wheel also against a model, with made-up time.

mod sockets;
mod tasks;
mod wheel;

/// What an idle connection costs in the runtime, besides its own future. Growth must be a decision.
#[test]
fn an_idle_connection_is_small() {
    assert_eq!(size_of::<super::core::Task>(), 32);
    // And eight bytes to find it by its number.
    assert_eq!(size_of::<super::reactor::Source>(), 28);
    assert_eq!(size_of::<super::timer::Entry>(), 16);
    assert_eq!(size_of::<super::Registration>(), 8);
    assert_eq!(size_of::<crate::stream::Stream>(), 24);
}

#[test]
fn everybody_can_be_woken() {
    use super::{Core, current_core, spawn, yield_now};
    std::thread::spawn(|| {
        let core = Core::enter(201).unwrap();
        let go = std::rc::Rc::new(std::cell::Cell::new(false));
        let done = std::rc::Rc::new(std::cell::Cell::new(0));
        for _ in 0..10 {
            let (go, done) = (std::rc::Rc::clone(&go), std::rc::Rc::clone(&done));
            spawn(async move {
                std::future::poll_fn(|_| {
                    if go.get() {
                        std::task::Poll::Ready(())
                    } else {
                        std::task::Poll::Pending
                    }
                })
                .await;
                done.set(done.get() + 1);
                if done.get() == 10 {
                    current_core().stop();
                }
            });
        }
        spawn(async move {
            yield_now().await;
            go.set(true);
            current_core().wake_all();
        });
        core.run().unwrap();
        assert_eq!(done.get(), 10);
    })
    .join()
    .unwrap();
}
