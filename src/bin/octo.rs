//! The command line, and the `claude` wrapper when called by that name.

use std::process::ExitCode;

fn main() -> ExitCode {
    if octo::claude::called_as_claude(std::env::args_os().next().as_deref()) {
        return octo::claude::run_wrapper();
    }
    ExitCode::SUCCESS
}
