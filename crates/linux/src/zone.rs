//! The host's time zone: how far its local time is from universal time.
//!
//! Not here: calendars. Starters of machines ask, for guests whose clock shows local time.

use std::mem::MaybeUninit;
use std::time::{SystemTime, UNIX_EPOCH};

/// Returns how many seconds local time is ahead of universal time at `at`: 0 where the host does not say.
pub fn utc_offset_s(at: SystemTime) -> i32 {
    let Ok(since) = at.duration_since(UNIX_EPOCH) else { return 0 };
    let Ok(seconds) = libc::time_t::try_from(since.as_secs()) else { return 0 };
    let mut local = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both point to live values of their types; the C library writes the second only.
    let done = unsafe { libc::localtime_r(&raw const seconds, local.as_mut_ptr()) };
    if done.is_null() {
        return 0;
    }
    // SAFETY: all-zero bytes are a valid `tm`, and the call filled it in.
    let local = unsafe { local.assume_init() };
    i32::try_from(local.tm_gmtoff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::Duration;

    #[test]
    fn summer_and_winter_differ_where_they_do() {
        // The zone is the process's, so each row asks a process of its own: this test, told what to print.
        if let Ok(at) = std::env::var("ZONE_AT") {
            println!("offset {}", utc_offset_s(UNIX_EPOCH + Duration::from_secs(at.parse().unwrap())));
            return;
        }
        let (winter, summer) = (1_768_000_000_u64, 1_784_000_000);
        let rows = [
            ("UTC0", winter, 0),
            ("CET-1CEST,M3.5.0,M10.5.0/3", winter, 3600),
            ("CET-1CEST,M3.5.0,M10.5.0/3", summer, 7200),
            ("NST3:30NDT,M3.2.0,M11.1.0", winter, -12_600),
        ];
        for (zone, at, expected) in rows {
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["zone::tests::summer", "--nocapture"])
                .envs([("TZ", zone), ("ZONE_AT", &at.to_string())])
                .output()
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(text.contains(&format!("offset {expected}\n")), "{zone} {at}: {text}");
        }
    }
}
