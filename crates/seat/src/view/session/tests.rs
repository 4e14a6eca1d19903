//! A viewer against a view of a machine that is a few lines of test.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use super::super::listen::Stream;
use super::super::{MAX_VIEWERS, Password, View};
use super::{Place, serve};

/// A machine that draws 2 by 1 pixels and notes what it is asked.
fn machine(folder: &std::path::Path) -> (std::path::PathBuf, Arc<Mutex<Vec<String>>>) {
    let path = folder.join("control");
    let listener = UnixListener::bind(&path).unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&asked);
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        draw(&stream, &notes);
    });
    (path, asked)
}

/// Answers requests as `allod-vmm` does.
fn draw(stream: &UnixStream, notes: &Mutex<Vec<String>>) {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
    loop {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut buffer = [0; 4096];
        let mut parts = [std::io::IoSliceMut::new(&mut buffer)];
        let read = rustix::net::recvmsg(stream, &mut parts, &mut control, RecvFlags::empty()).unwrap().bytes;
        if read == 0 {
            return;
        }
        let mut answer = "{\"answer\":\"done\"}\n";
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut files) = message {
                rustix::io::pwrite(files.next().unwrap(), &[1, 2, 3, 0, 4, 5, 6, 0], 0).unwrap();
                answer = "{\"answer\":\"picture\",\"width\":2,\"height\":1}\n";
            }
        }
        notes.lock().unwrap().push(String::from_utf8_lossy(&buffer[..read]).trim().to_owned());
        (&*stream).write_all(answer.as_bytes()).unwrap();
    }
}

fn viewer(view: View) -> (UnixStream, std::thread::JoinHandle<Result<(), String>>) {
    let (person, stream) = UnixStream::pair().unwrap();
    let served = std::thread::spawn(move || {
        serve(&view, Stream::Unix(stream), &AtomicUsize::new(0)).map_err(|error| error.to_string())
    });
    (person, served)
}

fn expect(person: &mut UnixStream, bytes: &[u8]) {
    let mut found = vec![0; bytes.len()];
    person.read_exact(&mut found).unwrap();
    assert_eq!(found, bytes);
}

#[test]
fn a_viewer_sees_the_picture_and_its_keys_arrive() {
    let folder = tempfile::tempdir().unwrap();
    let (machine, asked) = machine(folder.path());
    let (mut person, served) = viewer(View { machine, name: "desk".to_owned(), password: None });
    expect(&mut person, b"RFB 003.008\n");
    person.write_all(b"RFB 003.008\n").unwrap();
    expect(&mut person, &[1, 1]);
    person.write_all(&[1]).unwrap();
    expect(&mut person, &[0; 4]);
    person.write_all(&[1]).unwrap();
    expect(&mut person, &[0, 2, 0, 1, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0, 0, 0, 0, 4]);
    expect(&mut person, b"desk");
    person.write_all(&[3, 0, 0, 0, 0, 0, 0, 2, 0, 1]).unwrap();
    expect(&mut person, &[0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0, 1, 2, 3, 0, 4, 5, 6, 0]);
    person.write_all(&[4, 1, 0, 0, 0, 0, 0, b'a', 5, 0x15, 0, 7, 0, 9]).unwrap();
    drop(person);
    served.join().unwrap().unwrap();
    let asked = asked.lock().unwrap();
    assert_eq!(asked[asked.len() - 2], "{\"command\":\"key\",\"code\":30,\"down\":true}");
    assert_eq!(asked[asked.len() - 1], "{\"command\":\"pointer\",\"x\":7,\"y\":9,\"buttons\":3,\"wheel\":1}");
}

#[test]
fn strangers_and_those_without_the_password_are_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "secret\n").unwrap();
    for (said, reason) in [
        (&b"GET / HTTP/1.1\n"[..], "speaks no RFB"),
        (b"RFB 003.003\n", "speaks no RFB"),
        (b"RFB 003.008\n\x01", "does not know the password"),
        (b"RFB 003.008\n\x020123456789abcdef", "does not know the password"),
    ] {
        let password = Some(Password::from_file(&file).unwrap());
        let view = View { machine: folder.path().join("nobody"), name: String::new(), password };
        let (mut person, served) = viewer(view);
        person.write_all(said).unwrap();
        let error = served.join().unwrap().unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn there_is_an_end_to_the_places_for_viewers_and_each_is_given_back() {
    let viewers = AtomicUsize::new(0);
    for _ in 0..2 {
        let places: Vec<_> = (0..MAX_VIEWERS).map(|_| Place::take(&viewers).unwrap()).collect();
        for _ in 0..3 {
            assert!(Place::take(&viewers).is_err());
        }
        drop(places);
    }
    assert_eq!(viewers.into_inner(), 0);
}
