//! `list_files`.

use std::ops::ControlFlow;

use rustix::fs::FileType;

use super::call::ListFiles;
use super::folder::Folder;
use super::walk::{Glob, walk};
use super::{Limits, RESULT_MAX, ToolError};

/// Room for the remarks below the names.
const REMARKS: usize = 1024;

/// Lists a folder.
pub(super) fn list_files(folder: &Folder, args: &ListFiles, limits: Limits) -> Result<String, ToolError> {
    let watch = folder.watch();
    let place = folder.find(args.path.as_deref().unwrap_or("."), &watch)?;
    if !place.kind().is_some_and(FileType::is_dir) {
        return Err(place.error("is no folder: read_file shows a file"));
    }
    let glob = args.pattern.as_deref().map(|pattern| Glob::new(pattern, &place)).transpose()?;
    let recursive = args.recursive == Some(true) || glob.as_ref().is_some_and(Glob::is_of_paths);
    let (mut text, mut shown, mut unnamed) = (String::new(), 0, 0);
    let left = walk(folder, &watch, &place, recursive, limits, |found| {
        if glob.as_ref().is_some_and(|glob| !glob.matches(&found.path)) {
            return ControlFlow::Continue(());
        }
        // What is in a folder is listed, so that its own line would say nothing new.
        let mark = match found.kind {
            FileType::Directory if recursive && glob.is_none() => return ControlFlow::Continue(()),
            FileType::Directory => "/",
            FileType::Symlink => " (a symbolic link)",
            FileType::RegularFile => "",
            _ => " (no file)",
        };
        let Some(path) = found.path.to_str().filter(|path| !path.contains(char::is_control)) else {
            unnamed += 1;
            return ControlFlow::Continue(());
        };
        if shown >= limits.shown || text.len() + path.len() > RESULT_MAX - REMARKS {
            return ControlFlow::Break(format!("after {shown} names"));
        }
        shown += 1;
        text.push_str(path);
        text.push_str(mark);
        text.push('\n');
        ControlFlow::Continue(())
    })?;
    if shown == 0 {
        text.push_str("[There is nothing that is not ignored");
        text.push_str(if glob.is_some() { " and matches.]\n" } else { ".]\n" });
    }
    if unnamed > 0 {
        text.push_str(&format!("[{unnamed} names cannot be written as text, and are not shown.]\n"));
    }
    Ok(text + &left.told())
}
