//! What the planner answers on the recorded inventories of six boards: one row for each wish.

#![allow(clippy::unwrap_used, reason = "a row that cannot be read fails its test")]

mod board;

use board::told;
use spec::inventory::HostInventory;
use spec::seat_file::SeatFile;

const SEAT: &str = "[[seat]]\nname = \"anna\"\ncpus.count = 2\nmemory.size = \"2GiB\"\n";

fn check(recorded: &str, rows: &[(&str, &str)]) {
    let inventory: HostInventory = serde_json::from_str(recorded).unwrap();
    for (wish, expected) in rows {
        let file =
            SeatFile::parse("seats.toml", &format!("{SEAT}{wish}\n")).map_err(|errors| errors.to_string());
        let answer = plan::plan(&inventory, &file.unwrap(), &[], &[]);
        assert_eq!(told(&answer), *expected, "{wish}\n{answer:#?}");
    }
}

#[test]
fn desktop_with_two_cards_beside_that_of_the_processor() {
    check(
        include_str!("inventories/desktop-two-gpus.json"),
        &[
            ("device = [{ vendor = \"nvidia\" }]", "anna: 01:00.0+01:00.1"),
            ("device = [{ class = \"display\", model = \"RX 6600\" }]", "anna: 04:00.0+04:00.1"),
            ("device = [{ class = \"display\", vendor = \"amd\" }]", "no: several-match"),
            ("device = [{ connector = \"HDMI-A-3\" }]", "no: held-by-desktop@0e:00.0"),
            ("device = [{ usb = \"huntsman\" }, { usb = \"k8\" }]", "anna: 0e:00.3+0e:00.4"),
            ("device = [{ usb = \"USB Keyboard\" }]", "anna: 09:00.0"),
            ("device = [{ class = \"nvme\" }]", "no: several-match"),
            ("device = [{ class = \"nvme\", model = \"SN850X\" }]", "anna: 07:00.0"),
            (
                "device = [{ class = \"nvme\", model = \"980PRO\" }]",
                "no: held-by-file-system@0b:00.0 held-by-file-system@0b:00.0 held-by-swap@0b:00.0",
            ),
            ("device = [{ class = \"storage\" }]", "anna: 0a:00.0"),
            ("device = [{ class = \"network\" }]", "no: held-by-route@08:00.0"),
            (
                "device = [{ path = \"0000:00/01.1\" }, { path = \"0000:00/01.2\" }]",
                "anna: 01:00.0+01:00.1 04:00.0+04:00.1",
            ),
            ("device = [{ path = \"0000:00/08.1\" }]", "no: held-by-desktop@0e:00.0"),
        ],
    );
}

#[test]
fn laptop_with_one_card() {
    check(
        include_str!("inventories/laptop-one-gpu.json"),
        &[
            ("device = [{ class = \"display\" }]", "no: held-by-desktop@00:02.0 only-console@00:02.0"),
            ("console = \"give\"\ndevice = [{ class = \"display\" }]", "no: held-by-desktop@00:02.0"),
            ("device = [{ class = \"audio\" }]", "no: held-by-sound@00:1f.3 group-not-whole@00:1f.3"),
            (
                "device = [{ class = \"nvme\" }, { class = \"network\" }]",
                "no: held-by-file-system@01:00.0 held-by-file-system@01:00.0 held-by-file-system@01:00.0 held-by-file-system@01:00.0 held-by-route@00:14.3",
            ),
            ("device = [{ class = \"usb\" }]", "anna: 00:14.0"),
        ],
    );
}

#[test]
fn server_with_four_cards() {
    check(
        include_str!("inventories/server-four-gpus.json"),
        &[
            ("device = [{ class = \"display\" }]", "no: several-match"),
            ("device = [{ address = \"03:00.0\" }, { address = \"84:00.0\" }]", "anna: 03:00.0 84:00.0"),
            ("device = [{ vendor = \"aspeed\" }]", "no: only-console@45:00.0"),
            (
                "virtual-function = [{ of.interface = \"ens0f0np0\" }, { of.interface = \"ens1f0np0\" }]",
                "anna: 05:00.0/vf0 85:00.0/vf0",
            ),
            ("virtual-function = [{ of.interface = \"ens0f1np1\", vlan = 5 }]", "anna: 05:00.1/vf0"),
            ("device = [{ interface = \"ens0f0np0\" }]", "no: held-by-virtual-functions@05:00.0"),
            ("device = [{ interface = \"eno1\" }]", "no: held-by-route@43:00.0"),
            (
                "device = [{ interface = \"eno1\" }, { interface = \"eno2\" }]",
                "no: held-by-route@43:00.0 held-by-route@43:00.1 last-network@43:00.1",
            ),
            ("device = [{ class = \"nvme\" }]", "no: several-match"),
            (
                "device = [{ class = \"nvme\", address = \"41:00.0\" }]",
                "no: held-by-file-system@41:00.0 held-by-swap@41:00.0",
            ),
        ],
    );
}

#[test]
fn board_with_bad_groups() {
    check(
        include_str!("inventories/amd-bad-groups.json"),
        &[
            ("device = [{ vendor = \"amd\", class = \"display\" }]", "no: group-not-whole@05:00.0"),
            ("device = [{ vendor = \"nvidia\" }]", "anna: 10:00.0+10:00.1"),
            (
                "device = [{ address = \"01:00.0\" }, { address = \"01:00.1\" }, { address = \"03:00.0\" }, { address = \"05:00.0\" }]",
                "no: held-by-file-system@01:00.1 held-by-file-system@01:00.1 held-by-swap@01:00.1 held-by-route@03:00.0 held-by-login@03:00.0",
            ),
            ("device = [{ usb = \"USB Keyboard\" }]", "anna: 11:00.3"),
        ],
    );
}

#[test]
fn host_on_an_nvme_disk() {
    check(
        include_str!("inventories/nvme-root.json"),
        &[
            ("device = [{ class = \"nvme\" }]", "no: several-match"),
            (
                "device = [{ address = \"02:00.0\" }]",
                "no: held-by-file-system@02:00.0 held-by-file-system@02:00.0 held-by-swap@02:00.0",
            ),
            (
                "device = [{ address = \"03:00.0\" }, { vendor = \"nvidia\" }]",
                "anna: 03:00.0 01:00.0+01:00.1",
            ),
            ("device = [{ class = \"display\", vendor = \"intel\" }]", "anna: 00:02.0"),
        ],
    );
}

#[test]
fn host_that_came_over_the_network() {
    check(
        include_str!("inventories/nic-boot.json"),
        &[
            (
                "device = [{ interface = \"enp2s0\" }]",
                "no: held-by-route@02:00.0 held-by-network-storage@02:00.0",
            ),
            ("device = [{ interface = \"enp3s0\" }]", "anna: 03:00.0"),
            ("device = [{ class = \"display\" }]", "no: only-console@01:00.0"),
            ("console = \"give\"\ndevice = [{ class = \"display\" }]", "anna: 01:00.0+01:00.1"),
        ],
    );
}
