//! The ledger's file: torn, damaged, newer, shared, long.

use std::fs;

use spec::ledger::{Change, Ending, Keeper, LedgerEvent};
use spec::plan::{ClaimKind, ClaimState};

use super::*;

fn opened() -> LedgerEvent {
    LedgerEvent::Open {
        kind: ClaimKind::Hand,
        boot: "first".to_owned(),
        functions: Vec::new(),
        cpus: "2-3".parse().unwrap(),
        rests_on: None,
    }
}

fn intend(step: u32) -> LedgerEvent {
    let (function, driver) = ("0000:01:00.0".parse().unwrap(), "vfio-pci".to_owned());
    LedgerEvent::Intend { step, change: Change::Bind { function, driver } }
}

/// A ledger with one claim that is taken, one in debt and one that is over.
fn filled(directory: &Path) -> Book {
    let mut ledger = Ledger::open(directory, "a test").unwrap();
    for (claim, event) in [
        ("one", opened()),
        ("one", intend(0)),
        ("two", opened()),
        ("one", LedgerEvent::Taken { keeper: Keeper::Hand }),
        ("two", intend(0)),
        ("two", intend(1)),
        ("two", LedgerEvent::Undone { step: 1, note: None }),
        ("two", LedgerEvent::Owe { step: 0, reason: "it is busy".to_owned() }),
        ("three", opened()),
        ("three", LedgerEvent::Close { how: Ending::Released }),
    ] {
        ledger.append(7, claim, event).unwrap();
    }
    ledger.book().clone()
}

#[test]
fn what_was_written_is_what_the_next_start_reads() {
    let folder = tempfile::tempdir().unwrap();
    let book = filled(folder.path());
    assert_eq!(read(folder.path()).unwrap(), book);
    assert_eq!(*Ledger::open(folder.path(), "a test").unwrap().book(), book);
    let states: Vec<_> =
        book.claims().map(|entry| (entry.record.seat.as_str(), entry.record.state)).collect();
    assert_eq!(states, [("one", ClaimState::Taken), ("two", ClaimState::Debt)]);
    assert_eq!(book.debts().len(), 1);
    assert_eq!(book.debts()[0].reason, "it is busy");
}

#[test]
fn a_ledger_cut_off_at_any_byte_is_read_up_to_its_last_whole_line() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    let path = folder.path().join(journal::FILE);
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let lines = whole[..length].iter().filter(|byte| **byte == b'\n').count();
        let mut ledger = Ledger::open(folder.path(), "a test").unwrap();
        assert_eq!(read(folder.path()).unwrap(), *ledger.book(), "{length}");
        // The next line is not glued to the torn one.
        ledger.append(8, "four", opened()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), lines + 1, "{length}");
        drop(ledger);
        assert!(read(folder.path()).unwrap().claim("four").is_some(), "{length}");
    }
}

#[test]
fn a_ledger_that_makes_no_sense_is_not_acted_on() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    let path = folder.path().join(journal::FILE);
    let whole = fs::read_to_string(&path).unwrap();
    let newer = whole.replacen("{\"v\":1,", "{\"v\":2,\"claims\":9,", 1);
    for (text, says) in [
        (whole.replacen("\"event\":\"open\"", "\"event\":\"opn\"", 1), "line 1 of the ledger"),
        (whole.replacen("\"step\":0", "\"step\":-1", 1), "line 2 of the ledger"),
        (whole.replacen("{\"v\":1,", "\u{0}\u{0}", 1), "line 1 of the ledger"),
        (newer, "a newer Allod (format 2)"),
    ] {
        fs::write(&path, &text).unwrap();
        for error in [Ledger::open(folder.path(), "a test").unwrap_err(), read(folder.path()).unwrap_err()] {
            assert!(error.to_string().contains(says), "{error}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "it is left as it was");
    }
}

#[test]
fn of_two_callers_one_is_told_who_the_other_is() {
    let folder = tempfile::tempdir().unwrap();
    let first = Ledger::open(folder.path(), "allod up seats.toml").unwrap();
    let error = Ledger::open(folder.path(), "allod claim").unwrap_err();
    let says = format!("`allod up seats.toml (process {})` is changing the host", std::process::id());
    assert!(error.to_string().starts_with(&says), "{error}");
    read(folder.path()).unwrap();
    drop(first);
    Ledger::open(folder.path(), "allod claim").unwrap();
}

#[test]
fn a_long_ledger_is_written_anew_with_what_stands() {
    let folder = tempfile::tempdir().unwrap();
    let book = filled(folder.path());
    let mut ledger = Ledger::open(folder.path(), "a test").unwrap();
    let path = folder.path().join(journal::FILE);
    while fs::metadata(&path).unwrap().len() <= COMPACT_BYTES as u64 {
        ledger.append(7, "passing", opened()).unwrap();
        ledger.append(7, "passing", LedgerEvent::Close { how: Ending::Released }).unwrap();
    }
    drop(ledger);
    let mut ledger = Ledger::open(folder.path(), "a test").unwrap();
    assert_eq!(*ledger.book(), book);
    assert!(fs::metadata(&path).unwrap().len() < 4096);
    ledger.append(9, "one", LedgerEvent::Release).unwrap();
    drop(ledger);
    let again = read(folder.path()).unwrap();
    assert_eq!(again.claim("one").unwrap().record.state, ClaimState::Releasing);
    assert_eq!(again.claim("two"), book.claim("two"));
}
