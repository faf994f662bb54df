//! A blocking HTTP/1.1 client that can also send what no proper client would.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// What the server answered.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(2000)]);
        write!(f, "{} {:?}\n{body}", self.status, self.headers)
    }
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(k, _)| k == name).map_or("", |(_, v)| v)
    }

    /// The code of a typed error, after checking that it is one.
    #[track_caller]
    pub(crate) fn error(&self) -> String {
        let body = self.json();
        let error = &body["error"];
        for field in ["code", "message", "hint"] {
            assert!(error[field].is_string(), "no `{field}` in {self:?}");
        }
        assert!(!error["message"].as_str().unwrap().is_empty(), "{self:?}");
        assert_eq!(body.as_object().unwrap().len(), 1, "{self:?}");
        error["code"].as_str().unwrap().to_owned()
    }
}

/// One connection.
pub(crate) struct Conn {
    stream: BufReader<UnixStream>,
}

impl Conn {
    pub(crate) fn open(socket: &Path) -> io::Result<Conn> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(90)))?;
        stream.set_write_timeout(Some(Duration::from_secs(60)))?;
        Ok(Conn { stream: BufReader::new(stream) })
    }

    pub(crate) fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: octo\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        // The server may answer (and close) before it has read everything.
        let _ = self.send(&[head.as_bytes(), body].concat());
        self.answer(method == "HEAD")
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    pub(crate) fn socket(&self) -> &UnixStream {
        self.stream.get_ref()
    }

    pub(crate) fn answer(&mut self, bare: bool) -> io::Result<Answer> {
        let (status, headers) = self.head()?;
        let mut answer = Answer { status, headers, body: Vec::new() };
        if bare || status == 204 || status == 304 || status == 101 {
            return Ok(answer);
        }
        if answer.header("transfer-encoding") == "chunked" {
            while let Some(chunk) = self.chunk()? {
                answer.body.extend(chunk);
            }
        } else if let Ok(length) = answer.header("content-length").parse::<usize>() {
            answer.body.resize(length, 0);
            self.stream.read_exact(&mut answer.body)?;
        } else {
            self.stream.read_to_end(&mut answer.body)?;
        }
        Ok(answer)
    }

    pub(crate) fn head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status line: {line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok((status, headers))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// The next chunk of a chunked body.
    pub(crate) fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let size = self.line()?;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or(""), 16).map_err(io::Error::other)?;
        let mut bytes = vec![0; size];
        self.stream.read_exact(&mut bytes)?;
        self.line()?;
        Ok((size > 0).then_some(bytes))
    }
}

/// Server-sent events of one answer.
pub(crate) struct Events {
    conn: Conn,
    text: String,
}

/// One event: its name and its data.
pub(crate) type Event = (String, Value);

impl Events {
    pub(crate) fn open(socket: &Path, path: &str) -> io::Result<Events> {
        let mut conn = Conn::open(socket)?;
        conn.send(format!("GET {path} HTTP/1.1\r\nhost: octo\r\n\r\n").as_bytes())?;
        let (status, _) = conn.head()?;
        if status != 200 {
            return Err(io::Error::other(format!("status {status}")));
        }
        Ok(Events { conn, text: String::new() })
    }

    /// The next event; `None` at the end of the stream.
    pub(crate) fn next(&mut self) -> io::Result<Option<Event>> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| block.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
                if let (Some(name), Some(data)) = (field("event:"), field("data:")) {
                    return Ok(Some((name.to_owned(), serde_json::from_str(data).map_err(io::Error::other)?)));
                }
            }
            match self.conn.chunk()? {
                None => return Ok(None),
                Some(chunk) => self.text.push_str(&String::from_utf8(chunk).map_err(io::Error::other)?),
            }
        }
    }
}

/// The bytes of a `log` event.
#[track_caller]
pub(crate) fn log_bytes(data: &Value) -> (u64, Vec<u8>) {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(data["bytes"].as_str().unwrap()).unwrap();
    (data["from"].as_u64().unwrap(), bytes)
}
