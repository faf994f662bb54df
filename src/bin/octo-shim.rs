//! `octo-shim`: one small process per run; started by the daemon, never by hand. See `octo::shim`.

use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == "--version") {
        let said = writeln!(std::io::stdout(), "octo-shim {}", env!("CARGO_PKG_VERSION"));
        return if said.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    ExitCode::from(octo::shim::run(std::env::args_os().skip(1)) as u8)
}
