//! The lines of an answer that goes on for ever.

use futures_util::io::{AsyncBufRead, AsyncBufReadExt};
use std::io;
use std::pin::Pin;

/// An answer, read line by line.
pub(super) struct Lines {
    reader: Pin<Box<dyn AsyncBufRead + Send>>,
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
}

impl Lines {
    pub(super) fn new(reader: impl AsyncBufRead + Send + 'static) -> Self {
        Lines { reader: Box::pin(reader), begun: Vec::new() }
    }

    /// Waits for something to come and gives each line that is whole then to `take`, which may fail. False at the end; what
    /// has come of a line by then is nothing.
    pub(super) async fn next<E: From<io::Error>>(
        &mut self,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        let chunk = self.reader.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(false);
        }
        let (length, mut rest) = (chunk.len(), chunk);
        let mut taken = Ok(());
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n')
            && taken.is_ok()
        {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            if self.begun.is_empty() {
                taken = take(line);
            } else {
                self.begun.extend_from_slice(line);
                taken = take(&self.begun);
                self.begun.clear();
            }
            rest = after;
        }
        self.begun.extend_from_slice(rest);
        self.reader.as_mut().consume_unpin(length);
        taken.map(|()| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::io::{AllowStdIo, BufReader};

    /// The lines of a text that comes in pieces of this size.
    fn lines(text: &str, size: usize) -> Vec<String> {
        let text = io::Cursor::new(text.as_bytes().to_vec());
        let mut lines = Lines::new(BufReader::with_capacity(size, AllowStdIo::new(text)));
        let mut found = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let take = |found: &mut Vec<String>, line: &[u8]| {
                found.push(String::from_utf8(line.to_vec()).unwrap());
                Ok::<(), io::Error>(())
            };
            while lines.next(|line| take(&mut found, line)).await.unwrap() {}
        });
        found
    }

    #[test]
    fn lines_are_whole_wherever_they_were_cut() {
        for size in 1..20 {
            assert_eq!(lines("one\ntwo\n\nthree\nfo", size), ["one", "two", "", "three"], "{size}");
        }
        assert!(lines("", 4).is_empty());
    }
}
