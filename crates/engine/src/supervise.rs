//! Everything long-lived that runs, in one list. A thread or task that ends without being told to, by a panic or
//! otherwise, is logged and then restarted, or ends the process, as its policy says.

use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;

/// What an unexpected end means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// The process cannot do without: it ends with exit code 1, and the service manager starts it anew.
    EndProcess,
    /// Started again after a pause.
    Restart,
}

/// One thing that runs.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Its name; the thread's name for a thread.
    pub name: String,
    /// What happens when it ends.
    pub policy: Policy,
    /// Runs at this moment.
    pub running: bool,
    /// Times it was started again.
    pub restarts: u32,
}

/// Pause before a restart, so that what fails at once does not spin.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// Reports of ends that may wait; the first one decides, so more are of no interest.
const REPORTS: usize = 8;

/// The list.
#[derive(Clone)]
pub struct Supervisor {
    entries: Arc<Mutex<Vec<Entry>>>,
    fatal: mpsc::Sender<String>,
}

/// Tells of what must end the process.
pub struct Fatal(mpsc::Receiver<String>);

impl Fatal {
    /// Waits for the end of something that the process cannot do without; says what and why.
    pub async fn next(&mut self) -> String {
        match self.0.recv().await {
            Some(why) => why,
            // Every sender is gone: nothing is left that could fail.
            None => std::future::pending().await,
        }
    }
}

impl Supervisor {
    /// An empty list, and where its bad news arrives.
    pub fn new() -> (Self, Fatal) {
        let (fatal, reports) = mpsc::channel(REPORTS);
        (
            Self {
                entries: Arc::default(),
                fatal,
            },
            Fatal(reports),
        )
    }

    /// Everything that runs or ran.
    pub fn list(&self) -> Vec<Entry> {
        self.entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Runs `body` on a thread of its own until it returns `Ok`.
    pub fn thread<F>(
        &self,
        name: &str,
        policy: Policy,
        mut body: F,
    ) -> io::Result<std::thread::JoinHandle<()>>
    where
        F: FnMut() -> io::Result<()> + Send + 'static,
    {
        let entry = self.add(name, policy);
        let supervisor = self.clone();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                loop {
                    let why = match catch_unwind(AssertUnwindSafe(&mut body)) {
                        Ok(Ok(())) => return supervisor.ended(entry),
                        Ok(Err(error)) => error.to_string(),
                        Err(panic) => panic_text(&*panic),
                    };
                    if !supervisor.failed(entry, &why) {
                        return;
                    }
                    std::thread::park_timeout(RESTART_PAUSE);
                    supervisor.restarted(entry);
                }
            })
    }

    /// Runs what `make` makes on the control runtime until it returns; made anew after a panic.
    pub fn task<F, T>(&self, name: &str, policy: Policy, mut make: F) -> tokio::task::JoinHandle<()>
    where
        F: FnMut() -> T + Send + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        let entry = self.add(name, policy);
        let supervisor = self.clone();
        tokio::spawn(async move {
            // An abort ends it as well.
            let _ended = Ended(supervisor.clone(), entry);
            loop {
                // The inner task ends with the outer one: an abort of what we return stops both.
                let mut inner = AbortOnDrop(tokio::spawn(make()));
                let why = match (&mut inner.0).await {
                    Ok(()) => return supervisor.ended(entry),
                    Err(end) => match end.try_into_panic() {
                        Ok(panic) => panic_text(&*panic),
                        Err(_) => return supervisor.ended(entry),
                    },
                };
                if !supervisor.failed(entry, &why) {
                    return;
                }
                tokio::time::sleep(RESTART_PAUSE).await;
                supervisor.restarted(entry);
            }
        })
    }

    fn add(&self, name: &str, policy: Policy) -> usize {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        // A finished thing's place is taken again, so that reloads do not make the list longer.
        let fresh = Entry {
            name: name.to_owned(),
            policy,
            running: true,
            restarts: 0,
        };
        if let Some(place) = entries.iter().position(|e| !e.running && e.name == name) {
            if let Some(entry) = entries.get_mut(place) {
                *entry = fresh;
            }
            return place;
        }
        entries.push(fresh);
        entries.len() - 1
    }

    fn update(&self, entry: usize, change: impl FnOnce(&mut Entry)) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(entry) {
            change(entry);
        }
    }

    fn ended(&self, entry: usize) {
        self.update(entry, |e| e.running = false);
    }

    fn restarted(&self, entry: usize) {
        self.update(entry, |e| {
            e.running = true;
            e.restarts = e.restarts.saturating_add(1);
        });
    }

    /// Logs, and says whether it shall be started again.
    fn failed(&self, entry: usize, why: &str) -> bool {
        let mut policy = Policy::EndProcess;
        let mut name = String::new();
        self.update(entry, |e| {
            e.running = false;
            policy = e.policy;
            name.clone_from(&e.name);
        });
        match policy {
            Policy::Restart => {
                tracing::error!(task = name, why, "ended unexpectedly; it is started again");
                true
            }
            Policy::EndProcess => {
                tracing::error!(
                    task = name,
                    why,
                    "ended unexpectedly; the process cannot go on without it"
                );
                // A full channel already holds the reason the process ends for.
                let _ = self
                    .fatal
                    .try_send(format!("{name} ended unexpectedly: {why}"));
                false
            }
        }
    }
}

/// Notes the end, however it came.
struct Ended(Supervisor, usize);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.ended(self.1);
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!(
        "a panic: {}",
        text.unwrap_or_else(|| "no message".to_owned())
    )
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(future)
    }

    #[test]
    fn a_panicking_thread_ends_the_process() {
        let (supervisor, mut fatal) = Supervisor::new();
        supervisor
            .thread("core", Policy::EndProcess, || panic!("broken"))
            .unwrap();
        let why = block_on(fatal.next());
        assert_eq!(why, "core ended unexpectedly: a panic: broken");
        assert!(!supervisor.list()[0].running);
    }

    #[test]
    fn a_thread_that_is_done_is_no_news() {
        let (supervisor, _fatal) = Supervisor::new();
        supervisor
            .thread("core", Policy::EndProcess, || Ok(()))
            .unwrap()
            .join()
            .unwrap();
        assert!(!supervisor.list()[0].running);
    }

    #[test]
    fn a_panicking_task_is_made_anew() {
        let (supervisor, _fatal) = Supervisor::new();
        let made = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&made);
        block_on(async {
            let handle = supervisor.task("admin", Policy::Restart, move || {
                let n = count.fetch_add(1, Ordering::SeqCst);
                async move { assert!(n == 1, "first time") }
            });
            handle.await.unwrap();
        });
        assert_eq!(made.load(Ordering::SeqCst), 2);
        assert_eq!(supervisor.list()[0].restarts, 1);
    }

    #[test]
    fn a_name_keeps_its_place() {
        let (supervisor, _fatal) = Supervisor::new();
        for _ in 0..3 {
            supervisor
                .thread("one", Policy::Restart, || Ok(()))
                .unwrap()
                .join()
                .unwrap();
        }
        assert_eq!(supervisor.list().len(), 1);
    }
}
