//! What is written is read again, and what is torn, changed or failed is not.

use std::os::fd::AsFd as _;

use super::*;

fn folder() -> (tempfile::TempDir, OwnedFd) {
    let dir = tempfile::tempdir().unwrap();
    let fd = disk::open_dir(rustix::fs::CWD, dir.path()).unwrap();
    (dir, fd)
}

fn id(n: u32) -> TaskId {
    format!("{n:08x}").parse().unwrap()
}

fn bytes(dir: &tempfile::TempDir, number: u64) -> Vec<u8> {
    std::fs::read(dir.path().join(name(number))).unwrap()
}

fn record(n: u32) -> Vec<u8> {
    format!("{{\n  \"n\": {n}\n}}\n").into_bytes()
}

fn frame(n: u32) -> Frame {
    let mut frame = Frame::default();
    frame.put(id(n), &record(n), false);
    frame.launch(id(n), n);
    frame.remove(id(n + 1000));
    frame
}

fn told(n: u32) -> Vec<Entry> {
    let record = record(n);
    vec![Entry::Put { id: id(n), record }, Entry::Launch(id(n), n), Entry::Remove(id(n + 1000))]
}

#[test]
fn what_is_appended_is_read_again_in_order() {
    let (dir, fd) = folder();
    let mut journal = Journal::new(fd.try_clone().unwrap(), fd.try_clone().unwrap());
    for n in 1..=3 {
        journal.append(&frame(n)).unwrap();
        if n == 2 {
            journal.applied();
            assert!(parse(&bytes(&dir, 0)).unwrap().unwrap().applied);
        }
    }
    let old = parse(&bytes(&dir, 0)).unwrap().unwrap();
    assert_eq!(old.frames, [told(1), told(2), told(3)]);
    assert!(!old.applied, "the third was not");
    assert_eq!(old.header.place, place(&fd, &fd));
}

#[test]
fn a_cut_or_changed_frame_ends_the_segment_and_never_begins_it() {
    let (dir, fd) = folder();
    let mut journal = Journal::new(fd.try_clone().unwrap(), fd);
    journal.append(&frame(1)).unwrap();
    let one = usize::try_from(journal.current.as_ref().unwrap().end).unwrap();
    journal.append(&frame(2)).unwrap();
    let two = usize::try_from(journal.current.as_ref().unwrap().end).unwrap();
    let whole = bytes(&dir, 0);
    for at in one..two {
        let cut = parse(&whole[..at]).unwrap().unwrap();
        assert_eq!(cut.frames, [told(1)], "cut at {at}");
        let mut changed = whole.clone();
        changed[at] ^= 0x40;
        assert_eq!(parse(&changed).unwrap().unwrap().frames, [told(1)], "changed at {at}");
    }
    for at in 0..40 {
        assert!(parse(&whole[..at]).unwrap().is_none(), "cut at {at}");
    }
    assert!(parse(&[0; 4096]).unwrap().is_none());
}

#[test]
fn runs_that_may_be_under_way_are_carried_into_the_next_segment() {
    let (dir, fd) = folder();
    let mut journal = Journal::new(fd.try_clone().unwrap(), fd);
    for n in [1, 2, 3] {
        let mut frame = Frame::default();
        frame.launch(id(n), n);
        journal.append(&frame).unwrap();
    }
    let mut over = Frame::default();
    over.put(id(2), b"{}", true);
    over.remove(id(3));
    journal.append(&over).unwrap();
    // A save that fails begins a new segment.
    journal.current = None;
    journal.append(&frame(9)).unwrap();
    let old = parse(&bytes(&dir, 1)).unwrap().unwrap();
    assert_eq!(old.header.launched, BTreeMap::from([(id(1), 1)]));
    assert_eq!(old.frames, [told(9)]);
}

#[test]
fn a_frame_that_failed_is_not_found() {
    let (dir, fd) = folder();
    let mut journal = Journal::new(fd.try_clone().unwrap(), fd);
    journal.append(&frame(1)).unwrap();
    journal.append(&frame(2)).unwrap();
    journal.current.as_mut().unwrap().void().unwrap();
    let old = parse(&bytes(&dir, 0)).unwrap().unwrap();
    assert_eq!((old.frames, old.applied), (vec![told(1)], true));
}

#[test]
fn a_long_journal_goes_on_in_a_new_segment_and_the_old_ones_go() {
    let (dir, fd) = folder();
    let mut journal = Journal::new(fd.try_clone().unwrap(), fd.try_clone().unwrap());
    let mut large = Frame::default();
    large.put(id(1), &vec![b' '; usize::try_from(ROTATE).unwrap()], false);
    journal.append(&large).unwrap();
    journal.append(&frame(2)).unwrap();
    while journal.checkpoint.load(Ordering::Acquire) {
        std::thread::yield_now();
    }
    assert_eq!(segments(&fd).unwrap(), [1]);
    assert_eq!(parse(&bytes(&dir, 1)).unwrap().unwrap().frames, [told(2)]);
    assert!(disk::read_file(fd.as_fd(), name(0).as_str(), 1 << 20).is_err());
}
