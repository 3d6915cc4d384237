//! What a table's memory holds: one line that says by which rules it was written, for the next process that maps it.

use super::key::Secret;
use super::line::Line;
use crate::sync::atomics::{Ordering, fence};

/// Words of the line: whose rules, how large a table, and its secret.
const LAYOUT: usize = 0;
const SIZE: usize = 1;
const SECRET: usize = 2;

/// Memory that nothing was written to.
const BLANK: u64 = 0;

/// What was found in a table's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// Nothing: it is as it was given, all zeroes.
    Nothing,
    /// A table of the same layout and size, with this secret.
    Table(Secret),
    /// Something else.
    Foreign,
}

/// What the memory is that has this identity, seen by a table of a layout (never 0) and a size.
pub(super) fn find(line: &Line, layout: u64, size: u64) -> Found {
    match (line.get(LAYOUT), line.get(SIZE)) {
        (BLANK, _) => Found::Nothing,
        found if found == (layout, size) => Found::Table(std::array::from_fn(|word| line.get(SECRET + word))),
        _ => Found::Foreign,
    }
}

/// Says what the memory holds from now on. What makes it valid is written last: a process that ends before it leaves
/// [`Found::Nothing`] or what was there.
pub(super) fn put(line: &Line, layout: u64, size: u64, secret: &Secret) {
    line.set(SIZE, size);
    secret.iter().enumerate().for_each(|(word, part)| line.set(SECRET + word, *part));
    fence(Ordering::SeqCst);
    line.set(LAYOUT, layout);
}

/// Makes memory of foreign contents as it is when it is new, its identity last.
pub(super) fn clear(memory: &[Line], identity: usize) {
    let zero = |line: &Line| (0..Line::WORDS).for_each(|word| line.set(word, 0));
    memory.iter().enumerate().filter(|(at, _)| *at != identity).for_each(|(_, line)| zero(line));
    fence(Ordering::SeqCst);
    zero(&memory[identity]);
}
