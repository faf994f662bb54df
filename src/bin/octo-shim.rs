//! `octo-shim`: one small process per run; started by the daemon, never by hand. See `octo::shim`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(octo::shim::run(std::env::args_os().skip(1)) as u8)
}
