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

/// The secret of the table that an earlier process has left in `memory`, whose line `identity` says what it holds: one of this layout
/// (never 0) and size. Without one the memory is as it is when it is new, but for that line's other words.
pub(super) fn former(memory: &[Line], identity: usize, layout: u64, size: u64) -> Option<Secret> {
    let line = &memory[identity];
    match (line.get(LAYOUT), line.get(SIZE)) {
        (BLANK, _) => None,
        found if found == (layout, size) => Some(std::array::from_fn(|word| line.get(SECRET + word))),
        _ => {
            clear(memory, identity);
            None
        }
    }
}

/// Says what the memory holds from now on. What makes it valid is written last: a process that ends before it leaves memory that
/// is new, or what was there.
pub(super) fn put(line: &Line, layout: u64, size: u64, secret: &Secret) {
    line.set(SIZE, size);
    secret.iter().enumerate().for_each(|(word, part)| line.set(SECRET + word, *part));
    fence(Ordering::SeqCst);
    line.set(LAYOUT, layout);
}

/// Makes memory of foreign contents as it is when it is new, its identity last.
fn clear(memory: &[Line], identity: usize) {
    memory.iter().enumerate().filter(|(at, _)| *at != identity).for_each(|(_, line)| line.clear());
    fence(Ordering::SeqCst);
    memory[identity].clear();
}
