//! Bytes that are made when they are written: piece by piece, on several threads, given out in order. What is in memory at a time is bounded by the
//! number of threads, and neither that number nor the speed of one of them shows in the bytes.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::Data;

/// Bytes of a piece. Elements of 2, 3, 4, 5, 6 and 8 bits all fill it with a multiple of 65,536 of them, so that what is made in blocks of that many
/// is made once.
pub(super) const PIECE: usize = 15 << 16;

/// More threads than this wait for the disk.
const MOST_THREADS: usize = 32;

/// Some bytes of some data.
#[derive(Debug)]
pub(super) struct Piece<'p, 'a> {
    pub data: &'p Data<'a>,
    pub range: Range<usize>,
}

/// The pieces of data that have to be made; none of data that are there.
pub(super) fn pieces<'p, 'a>(data: &'p Data<'a>) -> impl Iterator<Item = Piece<'p, 'a>> {
    let len = match data.as_slice() {
        Some(_) => 0,
        None => usize::try_from(data.len()).unwrap_or(usize::MAX),
    };
    (0..len.div_ceil(PIECE)).map(move |n| Piece {
        data,
        range: n * PIECE..(n + 1).saturating_mul(PIECE).min(len),
    })
}

/// What threads and consumer share.
struct Queue<'q, 'p, 'a> {
    pieces: &'q [Piece<'p, 'a>],
    /// The most pieces that are made or being made and not given out.
    window: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// How many pieces have been begun.
    begun: usize,
    /// How many have been given out.
    given: usize,
    /// Those that are made and not given out.
    made: BTreeMap<usize, io::Result<Vec<u8>>>,
    /// Nobody waits for anything any more.
    over: bool,
}

impl Queue<'_, '_, '_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'g>(&self, state: MutexGuard<'g, State>) -> MutexGuard<'g, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes pieces until there are no more.
    fn work(&self) {
        // If making one panics, the consumer must not wait for it; the panic goes on when the threads are joined.
        let _over = Over(self);
        loop {
            let mut state = self.lock();
            while !state.over
                && state.begun < self.pieces.len()
                && state.begun >= state.given + self.window
            {
                state = self.wait(state);
            }
            let at = state.begun;
            let Some(piece) = self.pieces.get(at).filter(|_| !state.over) else {
                return;
            };
            state.begun += 1;
            drop(state);
            let bytes = piece.data.range(piece.range.clone());
            let bytes = bytes.map(std::borrow::Cow::into_owned);
            self.lock().made.insert(at, bytes);
            self.changed.notify_all();
        }
    }

    /// The next piece's bytes.
    fn next(&self) -> io::Result<Vec<u8>> {
        let mut state = self.lock();
        loop {
            let at = state.given;
            if let Some(bytes) = state.made.remove(&at) {
                state.given += 1;
                self.changed.notify_all();
                return bytes;
            }
            if state.over || at >= self.pieces.len() {
                return Err(io::Error::other("a thread that makes weights failed"));
            }
            state = self.wait(state);
        }
    }

    fn end(&self) {
        self.lock().over = true;
        self.changed.notify_all();
    }
}

/// Ends the work when it goes, in a panic only.
struct Over<'o>(&'o Queue<'o, 'o, 'o>);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.end();
        }
    }
}

/// Lets threads (all cores, if no number is given) make the pieces while `consume` asks for them, in order and each once.
pub(super) fn made<R>(
    pieces: &[Piece<'_, '_>],
    threads: Option<NonZeroUsize>,
    consume: impl FnOnce(&mut dyn FnMut() -> io::Result<Vec<u8>>) -> R,
) -> R {
    let cores = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = threads.map_or_else(cores, NonZeroUsize::get);
    let threads = threads.min(MOST_THREADS).min(pieces.len());
    let queue = Queue {
        pieces,
        window: 2 * threads,
        state: Mutex::default(),
        changed: Condvar::new(),
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| queue.work());
        }
        let result = consume(&mut || queue.next());
        queue.end();
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_in_order_whatever_the_number_of_threads() {
        let len = 5 * PIECE + 17;
        let data = Data::made(len as u64, |range| {
            Ok(range.map(|i| (i / 1000) as u8).collect())
        });
        let all: Vec<_> = pieces(&data).collect();
        assert_eq!(all.len(), 6);
        for threads in [1, 2, 7] {
            let bytes = made(&all, NonZeroUsize::new(threads), |next| {
                let parts: io::Result<Vec<_>> = all.iter().map(|_| next()).collect();
                parts.unwrap().concat()
            });
            let expected: Vec<u8> = (0..len).map(|i| (i / 1000) as u8).collect();
            assert!(bytes == expected, "{threads} threads");
        }
    }

    #[test]
    fn a_failure_comes_in_its_place_and_ends_the_rest() {
        let data = Data::made(4 * PIECE as u64, |range| {
            if range.start == PIECE {
                return Err(io::Error::other("gone"));
            }
            Ok(vec![0; range.len()])
        });
        let all: Vec<_> = pieces(&data).collect();
        let error = made(&all, None, |next| {
            next().unwrap();
            next().unwrap_err()
        });
        assert_eq!(error.to_string(), "gone");
    }
}
