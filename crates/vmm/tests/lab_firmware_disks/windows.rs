//! Cards that ask for more addresses than there are below 4 GiB: firmware places them above memory, and they work there.

use lab::{Failure, Host};

use crate::firmware::disks::guest_disk;
use crate::{machine, run};

/// Says where the window of the card is, and writes and reads its first word and one of its last.
const LOOK: &str = "for d in /sys/bus/pci/devices/*; do case $(cat $d/vendor)$(cat $d/device) in 0x1b360x0010) \
                    echo 1 > $d/enable; set -- $(sed -n 3p $d/resource); echo window $1 $2; last=$(($2 - 63)); \
                    devmem $1 32 0x12345678; devmem $last 32 0x9abcdef0; \
                    echo words $(devmem $1 32) $(devmem $last 32);; esac; done";

pub(crate) fn large(host: &Host) -> Result<(), Failure> {
    let taken = run(
        host,
        "card=$(lspci -Dn -d 1b36:0010 | cut -d' ' -f1); modprobe vfio-pci; device=/sys/bus/pci/devices/$card; \
         echo vfio-pci > $device/driver_override; [ -e $device/driver ] && echo $card > $device/driver/unbind; echo $card > /sys/bus/pci/drivers_probe; echo $card",
    )?;
    let card = taken.stdout.trim().to_owned();
    let disks = guest_disk(host, LOOK)?;
    for (firmware, disks) in [("bios", disks.by_bios), ("uefi", disks.by_uefi)] {
        let (output, report) =
            machine(host, &format!("--no-reboot --firmware {firmware} {disks} --device {card}"))?;
        let said = |word: &str| -> Vec<u64> {
            let line = output.stdout.lines().find_map(|line| line.trim().strip_prefix(word));
            let numbers = line.unwrap_or_default().split_whitespace();
            numbers
                .filter_map(|number| u64::from_str_radix(number.trim_start_matches("0x"), 16).ok())
                .collect()
        };
        let &[start, end] = &said("window ")[..] else { panic!("{firmware}: no window in {output:?}") };
        assert!(start >= 4 << 30 && end - start + 1 == 4 << 30, "{firmware}: {start:#x} to {end:#x}");
        // The host of the lab has an AMD processor of 40 address bits.
        assert!(
            !(0xfd_0000_0000..0x100_0000_0000).contains(&end),
            "{firmware}: among HyperTransport's: {end:#x}"
        );
        assert_eq!(said("words "), [0x1234_5678, 0x9abc_def0], "{firmware}: {output:?}");
        assert_eq!(report["cause"], "power-off", "{firmware}: {output:?}");
    }
    Ok(())
}
