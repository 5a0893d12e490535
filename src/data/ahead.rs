//! Items that a thread prepares before they are asked for.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};

/// Items prepared ahead on a thread, in their order. The first error ends them; dropping it early stops the work.
pub struct Ahead<T> {
    receiver: Option<Receiver<Result<T>>>,
    producer: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Ahead<T> {
    /// Starts to work through `items` at once; at most `waiting` of them wait until they are taken, beside the one in work.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(
        thread: &str,
        waiting: usize,
        items: impl Iterator<Item = Result<T>> + Send + 'static,
    ) -> Result<Self> {
        let (sender, receiver) = sync_channel(waiting);
        let produce = move || {
            for item in items {
                let failed = item.is_err();
                // Sending fails once nobody listens any more.
                if sender.send(item).is_err() || failed {
                    return;
                }
            }
        };
        let producer = std::thread::Builder::new().name(thread.to_owned()).spawn(produce);
        let producer = producer.context("cannot start a thread to prepare batches")?;
        Ok(Self { receiver: Some(receiver), producer: Some(producer) })
    }
}

impl<T> Iterator for Ahead<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.receiver.as_ref()?.recv().ok();
        if !matches!(item, Some(Ok(_))) {
            self.receiver = None;
            let crashed = self.producer.take().is_some_and(|producer| producer.join().is_err());
            if item.is_none() && crashed {
                return Some(Err(anyhow!("the thread that prepares batches crashed; please report this")));
            }
        }
        item
    }
}

impl<T> Drop for Ahead<T> {
    /// Stops and waits for the thread.
    fn drop(&mut self) {
        // Without a receiver the next send fails, which ends the thread.
        self.receiver = None;
        if let Some(producer) = self.producer.take() {
            let _ = producer.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn items_come_in_order_and_end_with_the_first_error() {
        let items = (0..5).map(|i| if i == 3 { Err(anyhow!("no {i}")) } else { Ok(i) });
        let outcomes: Vec<_> =
            Ahead::start("ft-test", 1, items).unwrap().map(|r| r.map_err(|e| e.to_string())).collect();
        assert_eq!(outcomes, [Ok(0), Ok(1), Ok(2), Err("no 3".to_owned())]);
    }

    #[test]
    fn only_a_bounded_number_is_prepared_ahead_and_dropping_stops_the_work() {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = made.clone();
        let items = (0..).map(move |i: usize| {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(i)
        });
        let mut ahead = Ahead::start("ft-test", 2, items).unwrap();
        assert_eq!(ahead.next().unwrap().unwrap(), 0);
        // Time enough to make thousands.
        std::thread::sleep(Duration::from_millis(50));
        let so_far = made.load(Ordering::SeqCst);
        assert!((2..=4).contains(&so_far), "one taken, two waiting, one in work: not {so_far}");
        drop(ahead);
        let after = made.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(made.load(Ordering::SeqCst), after, "nothing is made once the thread has ended");
    }

    #[test]
    fn a_crash_of_the_thread_is_an_error_not_an_end() {
        let items = (0..3).map(|i| if i == 1 { panic!("a bug") } else { Ok(i) });
        let mut ahead = Ahead::start("ft-test", 1, items).unwrap();
        assert_eq!(ahead.next().unwrap().unwrap(), 0);
        assert!(ahead.next().unwrap().unwrap_err().to_string().contains("crashed"));
        assert!(ahead.next().is_none());
    }
}
