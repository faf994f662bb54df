//! One HTTP/1 exchange over a socket: hyper writes and reads it, here it is waited for.
//!
//! A connection is waited for in one of two ways. A command has nothing else to do meanwhile: it blocks in the
//! read itself, which needs no event loop and wakes soonest. The REPL does several things at a time and waits in
//! its event loop. Both go through the same `async` functions; those of a blocking connection never suspend.
//!
//! hyper reads whenever it could (it looks for the end of a connection before it has sent anything, too), but a
//! read that blocks must come last: after the request was sent, and after what is there already was handed on. So
//! a read is answered with "not yet" until the exchange has got nowhere without it; then one read may block.

use std::future::{Future as _, poll_fn};
use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Trouble;

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

    /// Bounds each wait of a blocking connection until the head of the answer has come.
    pub(super) fn limit(&self, limit: Duration) -> io::Result<()> {
        match self {
            Wire::Blocking(stream) => {
                let limit = Some(limit.max(Duration::from_millis(1)));
                stream.set_write_timeout(limit).and_then(|()| stream.set_read_timeout(limit))
            }
            Wire::Async(_) => Ok(()),
        }
    }
}

/// What a blocking connection may do.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Nothing that waits for the daemon.
    #[default]
    Go,
    /// One read, which may block.
    Wait,
    /// Nothing: the limit has passed.
    Late,
}

#[derive(Debug, Default, Clone)]
struct Turns(Arc<Mutex<Turn>>);

impl Turns {
    fn lock(&self) -> MutexGuard<'_, Turn> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets whose turn it is; tells whose it was.
    fn set(&self, turn: Turn) -> Turn {
        std::mem::replace(&mut *self.lock(), turn)
    }
}

/// A connection as hyper sees it.
#[derive(Debug)]
struct Socket {
    wire: Wire,
    turns: Turns,
}

impl Socket {
    /// What came of a read or write that may have blocked.
    fn blocked<T>(&self, result: io::Result<T>) -> Poll<io::Result<T>> {
        match result {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.turns.set(Turn::Late);
                Poll::Pending
            }
            result => Poll::Ready(result),
        }
    }

    fn write(
        &mut self,
        bytes: usize,
        blocking: impl Fn(&mut UnixStream) -> io::Result<usize>,
        asynchronous: impl FnOnce(Pin<&mut tokio::net::UnixStream>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.wire {
            Wire::Async(stream) => asynchronous(Pin::new(stream)),
            Wire::Blocking(stream) => {
                let written = uninterrupted(|| blocking(stream));
                self.blocked(written)
            }
        };
        // What could not be sent to its end may have been refused before that: the answer says.
        written.map(|written| Ok(written.unwrap_or(bytes)))
    }
}

/// Does it again until no signal comes in between.
fn uninterrupted<T>(mut act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match act() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let stream = match &mut this.wire {
            Wire::Async(stream) => return Pin::new(stream).poll_read(cx, buf),
            Wire::Blocking(stream) => stream,
        };
        {
            let mut turn = this.turns.lock();
            if *turn != Turn::Wait {
                return Poll::Pending;
            }
            *turn = Turn::Go;
        }
        let read = uninterrupted(|| stream.read(buf.initialize_unfilled()));
        this.blocked(read).map_ok(|n| buf.advance(n))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.write(buf.len(), |stream| stream.write(buf), |stream| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = bufs.iter().map(|buf| buf.len()).sum();
        self.write(bytes, |stream| stream.write_vectored(bufs), |stream| stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // sockets keep nothing back
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // closing it is enough
    }
}

/// A connection on which one exchange goes on.
#[derive(Debug)]
struct Exchange {
    /// `None` once it is over.
    connection: Option<Connection<TokioIo<Socket>, Full<Bytes>>>,
    /// Of a blocking connection.
    turns: Option<Turns>,
    /// Kept, since letting it go would mean to close the connection in good order.
    sender: SendRequest<Full<Bytes>>,
}

impl Exchange {
    async fn open(wire: Wire) -> hyper::Result<Exchange> {
        let turns = Turns::default();
        let shared = matches!(wire, Wire::Blocking(_)).then(|| turns.clone());
        let (sender, connection) = http1::handshake(TokioIo::new(Socket { wire, turns })).await?;
        Ok(Exchange { connection: Some(connection), turns: shared, sender })
    }

    /// Lets the connection work until it has brought what is asked for. `late` tells whether that may be given up
    /// when the limit has passed.
    async fn until<T>(&mut self, late: bool, mut ask: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Result<T, Trouble> {
        if let Some(turns) = &self.turns {
            turns.set(Turn::Go);
        }
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(value) = ask(cx) {
                    return Poll::Ready(Ok(value));
                }
                let Some(connection) = &mut self.connection else { return Poll::Ready(Err(Trouble::CutOff)) };
                if Pin::new(connection).poll(cx).is_ready() {
                    self.connection = None;
                    continue;
                }
                if let Poll::Ready(value) = ask(cx) {
                    return Poll::Ready(Ok(value));
                }
                let Some(turns) = &self.turns else { return Poll::Pending };
                if turns.set(Turn::Wait) == Turn::Late && late {
                    return Poll::Ready(Err(Trouble::Silent));
                }
            }
        })
        .await
    }
}

/// An answer whose head has come.
#[derive(Debug)]
pub(super) struct Answer {
    head: Response<()>,
    body: Incoming,
    exchange: Exchange,
}

impl Answer {
    /// Sends a request and reads the head of its answer.
    ///
    /// # Errors
    /// `Silent` when the limit passes before, `CutOff` when the connection ends or makes no sense.
    pub(super) async fn to(request: Request<Full<Bytes>>, wire: Wire) -> Result<Answer, Trouble> {
        let mut exchange = Exchange::open(wire).await.map_err(|_| Trouble::CutOff)?;
        let mut answer = pin!(exchange.sender.send_request(request));
        let answer = exchange.until(true, |cx| answer.as_mut().poll(cx)).await?.map_err(|_| Trouble::CutOff)?;
        let (head, body) = answer.into_parts();
        Ok(Answer { head: Response::from_parts(head, ()), body, exchange })
    }

    pub(super) fn status(&self) -> u16 {
        self.head.status().as_u16()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.headers().get(name)?.to_str().ok()
    }

    /// The next bytes of the body, which may take as long as they like; `None` at its end.
    ///
    /// # Errors
    /// `CutOff` when the connection ends before the body does.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, Trouble> {
        loop {
            let body = &mut self.body;
            match self.exchange.until(false, |cx| Pin::new(&mut *body).poll_frame(cx)).await? {
                None => return Ok(None),
                Some(Err(_)) => return Err(Trouble::CutOff),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// The whole rest of the body.
    ///
    /// # Errors
    /// As for a piece.
    pub(super) async fn rest(&mut self) -> Result<Vec<u8>, Trouble> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece().await? {
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }
}

#[cfg(test)]
mod tests;
