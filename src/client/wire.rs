//! The bytes of one HTTP/1 exchange: the request out, the head of the answer and the pieces of its body in.
//!
//! A connection is waited for in one of two ways. A command has nothing else to do meanwhile: it blocks in the
//! read itself, which needs no event loop and wakes soonest. The REPL does several things at a time and waits in
//! its event loop. Both go through the same `async` functions; those of a blocking connection never suspend.

use std::io;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use hyper::body::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// More of a head than any daemon sends.
const HEAD_MAX: usize = 64 * 1024;

/// One read.
const READ: usize = 64 * 1024;

/// A connection to the daemon.
#[derive(Debug)]
pub(super) enum Wire {
    Blocking(UnixStream),
    Async(tokio::net::UnixStream),
}

impl Wire {
    pub(super) fn new(stream: UnixStream, blocking: bool) -> io::Result<Wire> {
        if blocking {
            return Ok(Wire::Blocking(stream));
        }
        stream.set_nonblocking(true)?;
        tokio::net::UnixStream::from_std(stream).map(Wire::Async)
    }

    /// Bounds each later wait of a blocking connection.
    pub(super) fn limit(&self, limit: Duration) -> io::Result<()> {
        match self {
            Wire::Blocking(stream) => {
                let limit = Some(limit.max(Duration::from_millis(1)));
                stream.set_write_timeout(limit).and_then(|()| stream.set_read_timeout(limit))
            }
            Wire::Async(_) => Ok(()),
        }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Wire::Blocking(stream) => stream.write_all(bytes),
            Wire::Async(stream) => stream.write_all(bytes).await,
        }
    }

    /// Adds what has come to the buffer; 0 at the end. `WouldBlock` when the limit has passed.
    async fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        buffer.reserve(READ);
        match self {
            Wire::Blocking(stream) => loop {
                match rustix::io::read(&*stream, rustix::buffer::spare_capacity(buffer)) {
                    Err(rustix::io::Errno::INTR) => {}
                    read => return Ok(read?),
                }
            },
            Wire::Async(stream) => stream.read_buf(buffer).await,
        }
    }
}

/// How the body says where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// After so many more bytes.
    Length(u64),
    /// With a chunk of no length.
    Chunks(Chunk),
    /// With the connection.
    Connection,
}

/// What of a chunked body comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    /// The line with a chunk's length.
    Size,
    /// So many bytes of a chunk.
    Data(u64),
    /// The line end after a chunk.
    DataEnd,
    /// The lines after the last chunk.
    Trailer,
    /// Nothing.
    Done,
}

/// Names, in small letters, and values.
type Headers = Vec<(String, String)>;

/// An answer whose head has come.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Headers,
    wire: Wire,
    buffer: Vec<u8>,
    framing: Framing,
}

/// What the buffer holds.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Some(Bytes),
    /// Nothing yet.
    More,
    End,
}

impl Answer {
    /// Reads the head.
    pub(super) async fn read(mut wire: Wire) -> io::Result<Answer> {
        let mut buffer = Vec::new();
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            if buffer.len() > HEAD_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if wire.receive(&mut buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let (status, headers, framing) = head(&buffer[..end]).ok_or(io::ErrorKind::InvalidData)?;
        buffer.drain(..end + 4);
        Ok(Answer { status, headers, wire, buffer, framing })
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The next bytes of the body; `None` at its end.
    pub(super) async fn piece(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            match self.framing.take(&mut self.buffer)? {
                Piece::Some(bytes) => return Ok(Some(bytes)),
                Piece::End => return Ok(None),
                Piece::More => {}
            }
            match self.wire.receive(&mut self.buffer).await {
                Ok(0) if self.framing == Framing::Connection => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                // The body may take as long as it likes.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The whole rest of the body.
    pub(super) async fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece().await? {
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }
}

/// Takes a head apart; the names of headers in small letters.
fn head(text: &[u8]) -> Option<(u16, Headers, Framing)> {
    let mut lines = std::str::from_utf8(text).ok()?.split("\r\n");
    let mut words = lines.next()?.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    let status: u16 = words.next()?.parse().ok()?;
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let headers = lines.map(header).collect::<Option<Vec<_>>>()?;
    let value = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value);
    let framing = if value("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        Framing::Chunks(Chunk::Size)
    } else if let Some(length) = value("content-length") {
        Framing::Length(length.parse().ok()?)
    } else if matches!(status, 204 | 304) {
        Framing::Length(0)
    } else {
        Framing::Connection
    };
    Some((status, headers, framing))
}

impl Framing {
    /// Takes the next bytes of the body out of the buffer.
    fn take(&mut self, buffer: &mut Vec<u8>) -> io::Result<Piece> {
        match self {
            Framing::Length(0) => Ok(Piece::End),
            _ if buffer.is_empty() && *self != Framing::Chunks(Chunk::Done) => Ok(Piece::More),
            Framing::Connection => Ok(Piece::Some(std::mem::take(buffer).into())),
            Framing::Length(left) => {
                let bytes = first(buffer, *left);
                *left -= bytes.len() as u64;
                Ok(Piece::Some(bytes))
            }
            Framing::Chunks(chunk) => chunk.take(buffer),
        }
    }
}

/// Up to so many bytes of the buffer.
fn first(buffer: &mut Vec<u8>, most: u64) -> Bytes {
    let n = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
    if n == buffer.len() {
        return std::mem::take(buffer).into();
    }
    buffer.drain(..n).collect::<Vec<u8>>().into()
}

impl Chunk {
    fn take(&mut self, buffer: &mut Vec<u8>) -> io::Result<Piece> {
        let broken = || io::Error::from(io::ErrorKind::InvalidData);
        let (mut at, mut found) = (0, Piece::More);
        loop {
            match *self {
                Chunk::Done => {
                    found = Piece::End;
                    break;
                }
                Chunk::Data(left) => {
                    buffer.drain(..at);
                    at = 0;
                    if buffer.is_empty() {
                        break;
                    }
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                    found = Piece::Some(Bytes::copy_from_slice(&buffer[..n]));
                    at = n;
                    *self = if n as u64 == left { Chunk::DataEnd } else { Chunk::Data(left - n as u64) };
                    break;
                }
                Chunk::Size | Chunk::DataEnd | Chunk::Trailer => {}
            }
            let rest = &buffer[at..];
            let Some(end) = rest.iter().position(|b| *b == b'\n') else {
                if rest.len() > HEAD_MAX {
                    return Err(broken());
                }
                break;
            };
            let line = std::str::from_utf8(&rest[..end]).map_err(|_| broken())?.trim();
            *self = match self {
                Chunk::Size => {
                    let size = line.split(';').next().unwrap_or_default().trim();
                    match u64::from_str_radix(size, 16).map_err(|_| broken())? {
                        0 => Chunk::Trailer,
                        size => Chunk::Data(size),
                    }
                }
                Chunk::DataEnd if line.is_empty() => Chunk::Size,
                Chunk::Trailer if line.is_empty() => Chunk::Done,
                Chunk::Trailer => Chunk::Trailer,
                Chunk::DataEnd | Chunk::Data(_) | Chunk::Done => return Err(broken()),
            };
            at += end + 1;
        }
        buffer.drain(..at);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body as it comes out when it comes in pieces of a size.
    fn body(framing: Framing, sent: &[u8], size: usize) -> io::Result<(Vec<u8>, bool)> {
        let (mut framing, mut buffer, mut body) = (framing, Vec::new(), Vec::new());
        for piece in sent.chunks(size) {
            buffer.extend_from_slice(piece);
            loop {
                match framing.take(&mut buffer)? {
                    Piece::Some(bytes) => body.extend_from_slice(&bytes),
                    Piece::More => break,
                    Piece::End => return Ok((body, true)),
                }
            }
        }
        Ok((body, false))
    }

    #[test]
    fn a_body_comes_out_the_same_however_it_is_cut() {
        let chunked = b"5\r\nhello\r\nA;x=y\r\n, \r\nworld!\r\n0\r\nafter: all\r\n\r\n";
        for size in 1..=chunked.len() {
            let whole = (b"hello, \r\nworld!".to_vec(), true);
            assert_eq!(body(Framing::Chunks(Chunk::Size), chunked, size).unwrap(), whole, "pieces of {size}");
            assert_eq!(body(Framing::Length(7), b"1234567", size).unwrap(), (b"1234567".to_vec(), true));
            let cut = body(Framing::Chunks(Chunk::Size), &chunked[..20], size).unwrap();
            assert!(!cut.1 && b"hello, \r\nworld!".starts_with(&cut.0), "a cut body passes for whole");
        }
        for broken in [&b"x\r\n"[..], b"-1\r\n", b"1\r\nab\r\n", b"\r\n"] {
            assert!(body(Framing::Chunks(Chunk::Size), broken, 100).is_err());
        }
    }

    #[test]
    fn a_head_says_how_its_body_ends() {
        let framing = |text: &str| head(text.as_bytes()).map(|(status, _, framing)| (status, framing));
        assert_eq!(framing("HTTP/1.1 200 OK\r\nContent-Length: 12"), Some((200, Framing::Length(12))));
        assert_eq!(
            framing("HTTP/1.1 201 Created\r\nTransfer-Encoding: Chunked"),
            Some((201, Framing::Chunks(Chunk::Size)))
        );
        assert_eq!(framing("HTTP/1.0 503 Sorry\r\nx: y"), Some((503, Framing::Connection)));
        assert_eq!(framing("HTTP/1.1 204 No Content"), Some((204, Framing::Length(0))));
        for bad in ["", "HTTP/2 200", "HTTP/1.1", "HTTP/1.1 abc", "HTTP/1.1 200 OK\r\nno header"] {
            assert_eq!(framing(bad), None, "{bad}");
        }
        let (_, headers, _) = head(b"HTTP/1.1 200 OK\r\nX-Octo-Log-From:  7 ").unwrap();
        assert_eq!(headers, [("x-octo-log-from".to_owned(), "7".to_owned())]);
    }
}
