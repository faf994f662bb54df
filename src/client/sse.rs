//! Server-sent events, as far as the log stream needs them: `event:` and `data:` lines.

/// One event: its name and its data.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) data: String,
}

/// Cuts a stream of bytes, in any pieces, into events.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    name: String,
    data: String,
}

impl Parser {
    /// Takes the next piece; the events that it completes are added to `events`.
    pub(super) fn push(&mut self, piece: &[u8], events: &mut Vec<Event>) {
        let mut rest = piece;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            self.line.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.line);
            self.line(String::from_utf8_lossy(&line).trim_end_matches('\r'), events);
        }
        self.line.extend_from_slice(rest);
    }

    fn line(&mut self, line: &str, events: &mut Vec<Event>) {
        if line.is_empty() {
            if !self.data.is_empty() || !self.name.is_empty() {
                events.push(Event { name: std::mem::take(&mut self.name), data: std::mem::take(&mut self.data) });
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            _ => {} // comments keep the connection alive; other fields mean nothing here
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_the_same_however_the_stream_is_cut() {
        let stream = b": hello\n\nevent: log\ndata: {\"a\":1}\n\nevent:end\r\ndata: x\r\ndata: y\r\n\r\n";
        let expected = vec![
            Event { name: "log".into(), data: "{\"a\":1}".into() },
            Event { name: "end".into(), data: "x\ny".into() },
        ];
        for size in 1..stream.len() {
            let (mut parser, mut events) = (Parser::default(), Vec::new());
            for piece in stream.chunks(size) {
                parser.push(piece, &mut events);
            }
            assert_eq!(events, expected, "pieces of {size}");
        }
    }
}
