//! Server-sent events, read as they come: the `data` of each, whatever pieces the network made of them.

/// A line longer than this is no token.
const LONGEST: usize = 1 << 20;

/// Cuts what arrives into the data of events.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    data: Vec<u8>,
    after_return: bool,
}

/// What came is no stream of events that anybody would send.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Events {
    /// Takes the next piece of the stream and gives the data of the events that it completes.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<Vec<String>, TooLong> {
        let mut events = Vec::new();
        for &byte in piece {
            match byte {
                b'\n' if self.after_return => self.after_return = false,
                b'\n' | b'\r' => {
                    self.after_return = byte == b'\r';
                    events.extend(self.end_of_line());
                }
                _ => {
                    self.after_return = false;
                    self.line.push(byte);
                }
            }
            if self.line.len() + self.data.len() > LONGEST {
                return Err(TooLong);
            }
        }
        Ok(events)
    }

    /// An event that the stream's end completes: some servers leave the last blank line out.
    pub(super) fn end(&mut self) -> Option<String> {
        self.end_of_line().or_else(|| self.end_of_line())
    }

    fn end_of_line(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            return (!data.is_empty()).then(|| String::from_utf8_lossy(&data).into_owned());
        }
        if let Some(value) = line.strip_prefix(b"data:") {
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    const STREAM: &str =
        ": hello\r\ndata: {\"a\":1}\r\n\r\nevent: x\ndata:two\ndata: lines\n\ndata: ü🦀\r\rid: 7\n\ndata: end";

    #[test]
    fn events_are_the_same_however_they_are_cut() {
        for size in 1..STREAM.len() {
            let (mut events, mut found) = (Events::default(), Vec::new());
            for piece in STREAM.as_bytes().chunks(size) {
                found.extend(events.push(piece).unwrap());
            }
            found.extend(events.end());
            assert_eq!(found, ["{\"a\":1}", "two\nlines", "ü🦀", "end"], "pieces of {size}");
            assert_eq!(events.end(), None);
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut events = Events::default();
        let refused = (0..2000).find_map(|_| events.push(&[b'x'; 1024]).err());
        assert_eq!(refused, Some(TooLong));
    }
}
