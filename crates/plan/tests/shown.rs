//! What people are shown of plans and refusals: text and picture.

#![allow(clippy::unwrap_used, reason = "a row that cannot be read fails its test")]

mod board;

use board::Board;
use board::made::{amd_bad_groups, desktop_two_gpus};
use spec::plan::{Plan, Refusal, TrialRecord, TrialVerdict};
use spec::seat_file::SeatFile;

fn answer(board: &Board, devices: &str, trials: &[TrialRecord]) -> Result<Plan, Refusal> {
    let text =
        format!("[[seat]]\nname = \"anna\"\ncpus.count = 2\nmemory.size = \"2GiB\"\ndevice = [{devices}]\n");
    plan::plan(&board.inventory, &SeatFile::parse("f", &text).unwrap(), &[], trials)
}

#[test]
fn a_refusal_is_told_with_members_and_remedy() {
    let refusal = answer(&amd_bad_groups(), "{ address = \"04:00.0\" }", &[]).unwrap_err();
    let text = plan::refusal_text(&refusal);
    let expected = "\
The seats cannot be as the file asks, for one reason (nothing was changed):

1. seat anna, device 1 (address = 0000:04:00.0)  [group-not-whole]
   IOMMU group 0 can only be taken whole, and has 3 members that the seat does not ask for
     0000:02:00.0  0000:00/01.2/00.0  AMD xHCI Controller: held by the host's xhci_hcd
     0000:02:00.1  0000:00/01.2/00.1  AMD Device: held by the host's ahci
     0000:05:00.0  0000:00/01.2/00.2/09.0/00.0  Somebody Ethernet: held by the host's r8169
   -> put the card into another slot, best one directly at the processor; `allod devices` shows the groups
";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn what_does_not_match_is_told_with_what_is_there() {
    let board = desktop_two_gpus();
    for (wish, sentence, candidate) in [
        ("{ usb = \"dell\" }", "no device matches", "Intel xHCI Controller: Logitech Keyboard K120"),
        ("{ monitor = \"samsung\" }", "no device matches", "NVIDIA Display [Card]: DELL U2720Q on DP-1"),
        (
            "{ class = \"display\", vendor = \"intel\" }",
            "no device matches; 0000:00:14.0 comes nearest, but not class = display",
            "Intel xHCI Controller: Logitech Keyboard K120",
        ),
        ("{ class = \"display\" }", "2 devices match", "NVIDIA Display [Card]: DELL U2720Q on DP-1"),
    ] {
        let refusal = answer(&board, wish, &[]).unwrap_err();
        let reason = &refusal.reasons[0];
        assert_eq!(
            (reason.sentence.as_str(), reason.candidates[0].name.as_str()),
            (sentence, candidate),
            "{wish}"
        );
    }
}

#[test]
fn a_trial_speaks_for_its_card_as_long_as_the_kernel_is_the_same() {
    let board = desktop_two_gpus();
    let trial = |verdict: TrialVerdict, kernel: &str| TrialRecord {
        identity: board.inventory.function(board::at("05:00.0")).unwrap().identity.clone(),
        verdict,
        rounds: 20,
        kernel: Some(kernel.to_owned()),
        firmware: None,
        resets: Vec::new(),
        rom: None,
    };
    let failed = || TrialVerdict::Failed { why: "it stayed asleep".to_owned() };
    for (trials, told) in [
        (vec![], "no-trial"),
        (vec![trial(TrialVerdict::Passed, "6.12.8-amd64")], ""),
        (vec![trial(TrialVerdict::Passed, "6.1")], "old-trial"),
        (vec![trial(TrialVerdict::Passed, "6.12.8-amd64"), trial(failed(), "6.12.8-amd64")], "trial-failed"),
        (vec![trial(failed(), "6.12.8-amd64"), trial(TrialVerdict::Passed, "6.12.8-amd64")], ""),
    ] {
        let codes: Vec<&str> = match answer(&board, "{ usb = \"cherry\" }", &trials) {
            Ok(plan) => plan.notices.iter().map(|notice| notice.code.as_str()).collect(),
            Err(refusal) => refusal.reasons.iter().map(|reason| reason.code.as_str()).collect(),
        };
        assert_eq!(codes.join(" "), told, "{trials:?}");
    }
}

#[test]
fn a_plan_is_told_with_slots_and_steps() {
    let text = plan::plan_text(&answer(&desktop_two_gpus(), "{ monitor = \"LG\" }", &[]).unwrap());
    for line in [
        "  slot 0.0  0000:04:00.0  AMD/ATI Display [Card]  (from amdgpu, reset with its bus), first display",
        "       0.1  0000:04:00.1  AMD/ATI HDMI Audio  (from snd_hda_intel, reset with its bus)",
        "  cpus      2 on processors 1,9, 2 threads a core",
        "    2  anna: unbind 0000:04:00.0 from amdgpu",
        "   nothing has shown yet that 0000:04:00.0 and 0000:04:00.1 survive being taken and given back",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn names_of_devices_cannot_reach_the_terminal_or_leave_the_picture() {
    let mut board = desktop_two_gpus();
    board.function("04:00.0").names.device = Some("\u{1b}[2J<script>".to_owned());
    let plan = answer(&board, "{ monitor = \"LG\" }", &[]).unwrap();
    assert!(!plan::plan_text(&plan).contains('\u{1b}'));
    let picture = plan::picture(&board.inventory, Ok(&plan));
    assert!(!picture.contains("<script>") && !picture.contains('\u{1b}'), "{picture}");
}

#[test]
fn the_picture_shows_each_function_in_the_colour_of_its_seat() {
    let board = desktop_two_gpus();
    let plan = answer(&board, "{ monitor = \"LG\" }", &[]).unwrap();
    let picture = plan::picture(&board.inventory, Ok(&plan));
    // Two functions, each as a box and a stripe, and the text who has it; processors and memory besides.
    assert_eq!(picture.matches(">seat anna</text>").count(), 2);
    assert_eq!(picture.matches("fill=\"#d6e8f4\" stroke=\"#0072b2\"").count(), 2);
    let refusal = answer(&board, "{ class = \"nvme\" }", &[]).unwrap_err();
    let picture = plan::picture(&board.inventory, Err(&refusal));
    assert!(
        picture.contains(">held-by-file-system</text>") && picture.contains("fill=\"#fdecee\""),
        "{picture}"
    );
}
