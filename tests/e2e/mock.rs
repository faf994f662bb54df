//! The mock of the model API: one server per test, on a port of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

pub(crate) struct Mock {
    server: Child,
    port: u16,
}

impl Mock {
    pub(crate) fn start(node: &str, program: &str, fixtures: &Path) -> Self {
        let mut server = Command::new(node)
            .arg(program)
            .env("AIMOCK_STRICT_TURN_INDEX", "1")
            .args(["--host", "127.0.0.1", "--port", "0", "--validate-on-load", "--fixtures"])
            .arg(fixtures)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the mock starts; if not, run tests/e2e/setup.sh again");
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let port = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split("http://127.0.0.1:").nth(1)?.trim().parse().ok())
            .expect("the mock tells its address");
        // Reads on, so that the mock never waits for a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Mock { server, port }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The requests that the model API got so far.
    pub(crate) fn requests(&self) -> Vec<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        // HTTP/1.0: the answer ends with the connection, and is not chunked.
        write!(stream, "GET /__aimock/journal HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap()
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}
