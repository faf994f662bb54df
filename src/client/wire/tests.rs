//! Exchanges with a daemon that is told byte by byte what to answer.

use std::sync::mpsc;

use futures_util::FutureExt as _;

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// What the future of a blocking connection comes to: it never suspends.
fn now<F: Future>(future: F) -> F::Output {
    future.now_or_never().expect("a blocking exchange suspends")
}

fn request(body: Vec<u8>) -> Request<Full<Bytes>> {
    Request::builder().method("POST").uri("/x").header("host", "octo").body(Full::from(body)).unwrap()
}

fn blocking(stream: UnixStream, limit: Duration) -> Wire {
    let wire = Wire::new(stream, true).unwrap();
    wire.limit(limit).unwrap();
    wire
}

/// A daemon at the other end: reads up to the end of the request's head, then does as it is told.
fn daemon(act: impl FnOnce(UnixStream) + Send + 'static) -> UnixStream {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    std::thread::spawn(move || {
        let mut seen = Vec::new();
        while !seen.windows(4).any(|four| four == b"\r\n\r\n") {
            let mut byte = [0];
            theirs.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
        act(theirs);
    });
    ours
}

#[test]
fn each_part_of_an_answer_arrives_before_the_next_is_sent() {
    let (go, told) = mpsc::channel::<()>();
    let parts = ["HTTP/1.1 200 OK\r\nx-octo-log-from:  7 \r\ntransfer-encoding: chunked\r\n\r\n", "3\r\none\r\n"];
    let parts = parts.into_iter().chain(["3\r\ntwo\r\n1\r\n!\r\n", "0\r\n\r\n"]);
    let stream = daemon(move |mut stream| {
        for part in parts {
            stream.write_all(part.as_bytes()).unwrap();
            // Ends only with the client: the connection stays open behind the last part.
            let _ = told.recv();
        }
        let _ = told.recv();
    });
    let mut answer = now(Answer::to(request(Vec::new()), blocking(stream, LONG))).unwrap();
    assert_eq!((answer.status(), answer.header("X-Octo-Log-From"), answer.header("x")), (200, Some("7"), None));
    let mut seen = Vec::new();
    for _ in 0..2 {
        go.send(()).unwrap();
        seen.push(now(answer.piece()).unwrap().unwrap());
    }
    seen.push(now(answer.piece()).unwrap().unwrap());
    assert_eq!(seen, ["one", "two", "!"]);
    go.send(()).unwrap();
    assert_eq!(now(answer.piece()).unwrap(), None);
    assert_eq!(now(answer.piece()).unwrap(), None);
}

#[test]
fn an_answer_that_comes_at_once_is_read_to_its_end_and_not_beyond() {
    for body in ["transfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", "content-length: 3\r\n\r\nabc"] {
        let (done, wait) = mpsc::channel::<()>();
        let stream = daemon(move |mut stream| {
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{body}").as_bytes()).unwrap();
            let _ = wait.recv();
        });
        let mut answer = now(Answer::to(request(Vec::new()), blocking(stream, LONG))).unwrap();
        assert_eq!(now(answer.rest()).unwrap(), b"abc");
        drop(done);
    }
}

#[test]
fn a_daemon_that_says_nothing_or_reads_nothing_is_silent() {
    let (done, wait) = mpsc::channel::<()>();
    let stream = daemon(move |_stream| {
        let _ = wait.recv();
    });
    let limit = Duration::from_millis(10);
    let silent = now(Answer::to(request(Vec::new()), blocking(stream, limit)));
    assert!(matches!(silent, Err(Trouble::Silent)), "{silent:?}");
    drop(done);
    // Nobody reads: more than the socket holds cannot be sent.
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let stuck = now(Answer::to(request(vec![0; 8 << 20]), blocking(ours, limit)));
    assert!(matches!(stuck, Err(Trouble::Silent)), "{stuck:?}");
}

#[test]
fn a_body_may_take_longer_than_the_limit() {
    let limit = Duration::from_millis(5);
    let (go, told) = mpsc::channel::<()>();
    let stream = daemon(move |mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").unwrap();
        told.recv().unwrap();
        for byte in [b"a", b"b"] {
            let _ = told.recv_timeout(limit * 10);
            stream.write_all(byte).unwrap();
        }
    });
    let same = stream.try_clone().unwrap();
    let mut answer = now(Answer::to(request(Vec::new()), blocking(stream, LONG))).unwrap();
    same.set_read_timeout(Some(limit)).unwrap();
    go.send(()).unwrap();
    assert_eq!(now(answer.rest()).unwrap(), b"ab");
}

/// A daemon that refuses a long request by its head, and reads no more of it.
fn refusing() -> UnixStream {
    daemon(|mut stream| stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nno!").unwrap())
}

#[tokio::test]
async fn what_is_refused_before_it_is_sent_to_its_end_has_its_answer() {
    for wire in [Wire::new(refusing(), true).unwrap(), Wire::new(refusing(), false).unwrap()] {
        let mut answer = Answer::to(request(vec![b' '; 8 << 20]), wire).await.unwrap();
        assert_eq!((answer.status(), answer.rest().await.unwrap()), (413, b"no!".to_vec()));
    }
}

#[test]
fn an_answer_that_is_cut_anywhere_is_no_answer() {
    let whole = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for end in 0..=whole.len() {
        let stream = daemon(move |mut stream| stream.write_all(&whole[..end]).unwrap());
        let body = now(async { Answer::to(request(Vec::new()), blocking(stream, LONG)).await?.rest().await });
        match body {
            Ok(body) => assert_eq!((end, body), (whole.len(), b"abc".to_vec())),
            Err(trouble) => assert!(end < whole.len() && matches!(trouble, Trouble::CutOff), "{end}: {trouble:?}"),
        }
    }
}
