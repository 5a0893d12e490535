//! Ranks that are threads of one process, so that everything above the transport can be tested without MPI.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, ensure};

use super::{Introduction, Ranks, Transport};

/// A rank's ends of the channels between all pairs of ranks.
struct Channels {
    rank: usize,
    /// To each rank.
    senders: Vec<Sender<Vec<u8>>>,
    /// From each rank.
    receivers: Vec<Mutex<Receiver<Vec<u8>>>>,
}

impl Channels {
    /// The ends of `size` ranks.
    fn connected(size: usize) -> Vec<Self> {
        let mut ends: Vec<Self> =
            (0..size).map(|rank| Self { rank, senders: Vec::new(), receivers: Vec::new() }).collect();
        for from in 0..size {
            for to in 0..size {
                let (sender, receiver) = channel();
                if let Some(end) = ends.get_mut(from) {
                    end.senders.push(sender);
                }
                if let Some(end) = ends.get_mut(to) {
                    end.receivers.push(Mutex::new(receiver));
                }
            }
        }
        ends
    }

    fn receive(&self, incoming: &mut [u8]) -> Result<()> {
        let length = incoming.len() / self.size();
        for (rank, receiver) in self.receivers.iter().enumerate() {
            let receiver = receiver.lock().unwrap_or_else(PoisonError::into_inner);
            let piece = receiver.recv().map_err(|_| anyhow!("rank {rank} has ended"))?;
            ensure!(piece.len() == length, "rank {rank} has sent {} bytes, {length} were expected", piece.len());
            if let Some(place) = incoming.get_mut(rank * length..(rank + 1) * length) {
                place.copy_from_slice(&piece);
            }
        }
        Ok(())
    }
}

impl Transport for Channels {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.senders.len()
    }

    fn name(&self) -> &'static str {
        "threads"
    }

    fn exchange(&self, outgoing: &[u8], incoming: &mut [u8]) -> Result<()> {
        let length = outgoing.len() / self.size();
        for (rank, sender) in self.senders.iter().enumerate() {
            let piece = outgoing.get(rank * length..(rank + 1) * length).unwrap_or_default();
            sender.send(piece.to_vec()).map_err(|_| anyhow!("rank {rank} has ended"))?;
        }
        self.receive(incoming)
    }

    fn gather(&self, own: &[u8], all: &mut [u8]) -> Result<()> {
        for (rank, sender) in self.senders.iter().enumerate() {
            sender.send(own.to_vec()).map_err(|_| anyhow!("rank {rank} has ended"))?;
        }
        self.receive(all)
    }
}

/// Runs `work` as `size` ranks, each with so many worker threads of its own, and returns what each has made.
///
/// They must not share workers: one that waits for another rank inside a pass would keep that rank from ever getting there.
///
/// # Errors
/// If threads cannot be started. What becomes of `work` is inside; a rank that panics is an error too.
pub fn run<T: Send>(size: usize, workers: usize, work: impl Fn(Ranks) -> Result<T> + Sync) -> Result<Vec<Result<T>>> {
    let pools = (0..size).map(|_| rayon::ThreadPoolBuilder::new().num_threads(workers).build());
    let pools = pools.collect::<Result<Vec<_>, _>>().context("cannot start the threads of a rank")?;
    let work = &work;
    Ok(std::thread::scope(|scope| {
        let rank = |(pool, channels): (rayon::ThreadPool, Channels)| {
            scope.spawn(move || {
                pool.install(|| {
                    work(Ranks::join(
                        Arc::new(channels),
                        &Introduction { host: "here".to_owned(), ..Introduction::default() },
                    )?)
                })
            })
        };
        let started: Vec<_> = pools.into_iter().zip(Channels::connected(size)).map(rank).collect();
        started.into_iter().map(|rank| rank.join().unwrap_or_else(|_| Err(anyhow!("a rank has panicked")))).collect()
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn results<T: Send>(size: usize, work: impl Fn(Ranks) -> Result<T> + Sync) -> Vec<T> {
        run(size, 1, work).unwrap().into_iter().map(Result::unwrap).collect()
    }

    /// Values of both signs and many sizes, whose sum depends on the order.
    fn value(rank: usize, index: usize) -> f32 {
        let bits = crate::random::mix(rank as u64, index as u64);
        let size = 2f32.powi((bits % 40) as i32 - 20);
        if bits & 64 == 0 { size } else { -1.5 * size }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn sums_are_those_in_the_order_of_ranks_on_every_rank(size in 1usize..6, count in 0usize..9000) {
            let sums = results(size, |ranks| {
                let mut single: Vec<f32> = (0..count).map(|i| value(ranks.rank(), i)).collect();
                let mut double: Vec<f64> = single.iter().map(|v| f64::from(*v) / 3.0).collect();
                ranks.sum_f32(&mut single)?;
                ranks.sum_f64(&mut double)?;
                Ok((single, double))
            });
            for (single, double) in sums {
                for i in 0..count {
                    let exact = (1..size).fold(f64::from(value(0, i)), |sum, rank| sum + f64::from(value(rank, i)));
                    prop_assert_eq!(single[i].to_bits(), if size == 1 { value(0, i).to_bits() } else { (exact as f32).to_bits() });
                    let thirds = (1..size).fold(f64::from(value(0, i)) / 3.0, |sum, rank| sum + f64::from(value(rank, i)) / 3.0);
                    prop_assert_eq!(double[i].to_bits(), thirds.to_bits());
                }
            }
        }
    }

    #[test]
    fn sums_do_not_depend_on_how_many_values_go_at_once() {
        let count = 3 * 65_536 * 2 + 17;
        for sums in results(3, |ranks| {
            let mut all: Vec<f32> = (0..count).map(|i| value(ranks.rank(), i)).collect();
            ranks.sum_f32(&mut all)?;
            let mut few: Vec<f32> = (count - 100..count).map(|i| value(ranks.rank(), i)).collect();
            ranks.sum_f32(&mut few)?;
            Ok((all.split_off(count - 100), few))
        }) {
            assert_eq!(sums.0, sums.1);
        }
    }

    #[test]
    fn bytes_of_any_length_arrive_whole_and_in_order() {
        let length = |rank: usize| [0, 5, (1 << 22) + 3][rank];
        for all in results(3, |ranks| ranks.gather_bytes(&vec![ranks.rank() as u8 + 1; length(ranks.rank())])) {
            for (rank, bytes) in all.iter().enumerate() {
                assert_eq!(bytes.len(), length(rank));
                assert!(bytes.iter().all(|byte| *byte == rank as u8 + 1));
            }
        }
        let said = results(3, |ranks| ranks.from_first(&format!("I am {}", ranks.rank())));
        assert_eq!(said, ["I am 0", "I am 0", "I am 0"]);
        assert_eq!(results(3, |ranks| ranks.any(ranks.rank() == 2)), [true; 3]);
        assert_eq!(results(3, |ranks| ranks.any(false)), [false; 3]);
    }

    #[test]
    fn a_rank_that_ends_is_an_error_for_those_who_wait_for_it() {
        let outcomes = run(3, 1, |ranks| {
            ensure!(ranks.rank() != 1, "rank 1 gives up");
            ranks.sum_f64(&mut [1.0])?;
            ranks.sum_f64(&mut [1.0])
        });
        let errors: Vec<String> = outcomes.unwrap().into_iter().map(|o| o.unwrap_err().to_string()).collect();
        assert_eq!(errors[1], "rank 1 gives up");
        assert!(errors[0].contains("has ended") && errors[2].contains("has ended"), "{errors:?}");
    }

    #[test]
    fn what_differs_between_ranks_is_named_with_both_values() {
        let outcomes = run(3, 1, |ranks| ranks.ensure_same("the recipe", if ranks.rank() == 2 { "b" } else { "a" }));
        for outcome in outcomes.unwrap() {
            let message = outcome.unwrap_err().to_string();
            assert!(
                message.contains("the recipe") && message.contains("a on rank 0") && message.contains("b on rank 2"),
                "{message}"
            );
        }
    }
}
