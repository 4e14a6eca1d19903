//! Tests against the other end of both sockets: what swtpm will say is there before it is asked.

use std::cell::Cell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use linux::EventFd;
use linux::stream::Stream;

use super::{Alone, Emulator, Order, Swtpm, TpmError, Trouble, Watch};

const COMMAND: [u8; 10] = [0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x7b];
const ANSWER: [u8; 12] = [0x80, 1, 0, 0, 0, 12, 0, 0, 0, 0, 5, 6];
/// What a TPM that starts says: stopped, of this size, started.
const STARTS: [u8; 24] =
    [0, 0, 0, 0, /* */ 0, 0, 0, 0, 0, 0, 15, 128, 0, 0, 10, 0, 0, 0, 16, 0, /* */ 0, 0, 0, 0];

/// A swtpm that a life has had, and the other ends of its sockets.
fn used(cancels: bool) -> (Swtpm, UnixStream, UnixStream) {
    let (control, theirs) = Stream::pair().unwrap();
    let (data, commands) = Stream::pair().unwrap();
    let swtpm = Swtpm { control, data, cancels, fresh: false, broken: false, owed_results: 0, left: None };
    (swtpm, theirs.into(), commands.into())
}

fn heard(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.set_nonblocking(true).unwrap();
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

/// Rings once with an order, and has nothing to say from then on.
struct Once(EventFd, Cell<Order>);

impl Watch for Once {
    fn bell(&self) -> &EventFd {
        &self.0
    }

    fn order(&self) -> Order {
        self.1.replace(Order::GoOn)
    }
}

fn once(order: Order) -> Once {
    let bell = linux::event::new_event().unwrap();
    bell.write(1).unwrap();
    Once(bell, Cell::new(order))
}

fn nobody() -> Alone {
    Alone(linux::event::new_event().unwrap())
}

#[test]
fn a_tpm_is_introduced_and_started() {
    for (capabilities, fits) in [
        (0xffff_u64, true),
        (0x3403, true),
        (0x3402, false),
        (0x3401, false),
        (0x3003, false),
        (0x2403, false),
        (0x1403, false),
    ] {
        let (mut theirs, control) = UnixStream::pair().unwrap();
        let says = [&capabilities.to_be_bytes()[..], &[0; 4], &STARTS].concat();
        theirs.write_all(&says).unwrap();
        let connected = Swtpm::connect(control.into());
        let asked = heard(&mut theirs);
        if fits {
            let swtpm = connected.map_err(|error| error.to_string()).unwrap();
            assert_eq!((swtpm.cancels, swtpm.fresh), (capabilities == 0xffff, true));
            let asks: [u8; 28] =
                [0, 0, 0, 1, 0, 0, 0, 16, 0, 0, 0, 14, 0, 0, 0, 17, 0, 0, 15, 128, 0, 0, 0, 2, 0, 0, 0, 0];
            assert_eq!(asked, asks);
        } else {
            assert!(matches!(connected, Err(TpmError::Unfit(found)) if found == capabilities));
        }
    }
}

#[test]
fn a_result_that_is_no_success_is_told_with_what_was_asked() {
    for (at, what) in [(8, "take a socket"), (12, "stop"), (16, "take commands"), (32, "start its TPM")] {
        let (mut theirs, control) = UnixStream::pair().unwrap();
        let mut says = [&0xffff_u64.to_be_bytes()[..], &[0; 4], &STARTS].concat();
        says[at + 3] = 9;
        theirs.write_all(&says).unwrap();
        let error = Swtpm::connect(control.into()).err().unwrap().to_string();
        assert!(error.contains(what) && error.contains("0x9"), "{at}: {error}");
    }
}

#[test]
fn a_command_is_carried_out_and_a_life_begins_with_a_start() {
    let (mut swtpm, mut control, mut data) = used(true);
    data.write_all(&ANSWER).unwrap();
    assert_eq!(swtpm.execute(&COMMAND, &nobody()).unwrap(), ANSWER);
    assert_eq!(heard(&mut data), COMMAND);
    control.write_all(&STARTS).unwrap();
    swtpm.begin(&nobody()).unwrap();
    assert_eq!(heard(&mut control), [0, 0, 0, 14, 0, 0, 0, 17, 0, 0, 15, 128, 0, 0, 0, 2, 0, 0, 0, 0]);
}

#[test]
fn a_swtpm_that_is_gone_or_lies_is_broken_for_good() {
    for (answer, is_it) in [
        (&[][..], (|error| matches!(error, TpmError::Closed)) as fn(&TpmError) -> bool),
        (&ANSWER[..11], |error| matches!(error, TpmError::Closed)),
        (&[0x80, 1, 0, 0, 0, 9, 0, 0, 0, 0], |error| matches!(error, TpmError::Size(9))),
        (&[0x80, 1, 0, 0, 15, 129, 0, 0, 0, 0], |error| matches!(error, TpmError::Size(3969))),
        (&[0xff; 10], |error| matches!(error, TpmError::Size(0xffff_ffff))),
    ] {
        let (mut swtpm, _control, mut data) = used(true);
        data.write_all(answer).unwrap();
        data.shutdown(std::net::Shutdown::Write).unwrap();
        let first = swtpm.execute(&COMMAND, &nobody());
        assert!(matches!(&first, Err(Trouble::Broken(error)) if is_it(error)), "{answer:?} {first:?}");
        assert!(matches!(swtpm.execute(&COMMAND, &nobody()), Err(Trouble::StillBroken)));
        assert!(matches!(swtpm.begin(&nobody()), Err(Trouble::StillBroken)));
    }
}

#[test]
fn the_answer_to_a_command_that_was_left_is_not_taken_for_the_next_one() {
    for come in [0, 3, 11] {
        let (mut swtpm, mut control, mut data) = used(true);
        data.write_all(&ANSWER[..come]).unwrap();
        assert!(matches!(swtpm.execute(&COMMAND, &once(Order::Leave)), Err(Trouble::Left)));
        data.write_all(&ANSWER[come..]).unwrap();
        control.write_all(&STARTS).unwrap();
        swtpm.begin(&nobody()).unwrap();
        let mut next = ANSWER;
        next[11] = 77;
        data.write_all(&next).unwrap();
        assert_eq!(swtpm.execute(&COMMAND, &nobody()).unwrap(), next, "{come}");
    }
}

#[test]
fn a_command_is_given_up_where_swtpm_can_and_its_result_is_not_taken_for_another() {
    for cancels in [true, false] {
        let (mut swtpm, mut control, mut data) = used(cancels);
        // The order to give up comes while the answer is awaited.
        let watch = once(Order::Cancel);
        let answers = std::thread::spawn(move || {
            let mut command = [0; 10];
            data.read_exact(&mut command).unwrap();
            if cancels {
                let mut asked = [0; 4];
                control.read_exact(&mut asked).unwrap();
                assert_eq!(asked, [0, 0, 0, 9]);
                data.write_all(&ANSWER).unwrap();
                control.write_all(&[0, 0, 0, 9]).unwrap();
            } else {
                data.write_all(&ANSWER).unwrap();
            }
            control.write_all(&STARTS).unwrap();
            (control, data)
        });
        assert_eq!(swtpm.execute(&COMMAND, &watch).unwrap(), ANSWER);
        swtpm.begin(&nobody()).unwrap();
        drop(answers.join().unwrap());
    }
}

#[test]
fn a_start_that_was_left_half_way_is_begun_anew() {
    let (mut swtpm, mut control, _data) = used(true);
    control.write_all(&STARTS[..6]).unwrap();
    assert!(matches!(swtpm.begin(&once(Order::Leave)), Err(Trouble::Left)));
    control.write_all(&STARTS[6..20]).unwrap();
    control.write_all(&STARTS).unwrap();
    swtpm.begin(&nobody()).unwrap();
    assert_eq!(swtpm.owed_results, 0);
}
