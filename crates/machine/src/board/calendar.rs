//! Seconds and civil dates of the proleptic Gregorian calendar, for the RTC's registers.

/// Seconds in a day; the RTC knows no leap seconds.
pub(super) const SECONDS_PER_DAY: i64 = 86_400;

/// Days from 0000-03-01, where this calendar's cycles begin, to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;
/// Days in 400 years, after which the calendar repeats.
const CYCLE_DAYS: i64 = 146_097;

/// A date and time of day. Fields past their range are allowed where a sum is asked for, and never come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Civil {
    pub(super) year: i64,
    /// 1 is January.
    pub(super) month: i64,
    /// 1 is the first of the month.
    pub(super) day: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
    pub(super) second: i64,
}

impl Civil {
    /// Counts the seconds since 1970-01-01 00:00:00, carrying fields that are out of range.
    pub(super) fn to_seconds(self) -> i64 {
        // Years begin in March here, so the leap day is the last one and months have a regular pattern.
        let months = self.year * 12 + self.month - 3;
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12));
        let (cycle, year) = (year.div_euclid(400), year.rem_euclid(400));
        let year_start = year * 365 + year / 4 - year / 100;
        let days = cycle * CYCLE_DAYS + year_start + month_start(month) + self.day - 1 - EPOCH_DAYS;
        days * SECONDS_PER_DAY + self.hour * 3600 + self.minute * 60 + self.second
    }

    /// Names the moment `seconds` after 1970-01-01 00:00:00.
    pub(super) fn from_seconds(seconds: i64) -> Self {
        let time = seconds.rem_euclid(SECONDS_PER_DAY);
        let days = seconds.div_euclid(SECONDS_PER_DAY) + EPOCH_DAYS;
        let (cycle, day) = (days.div_euclid(CYCLE_DAYS), days.rem_euclid(CYCLE_DAYS));
        // Take out the leap days so that every year has 365: one in 1461 days, none each 36524, one each 146096.
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (year * 365 + year / 4 - year / 100);
        let month = (day * 5 + 2) / 153;
        let months = (cycle * 400 + year) * 12 + month + 2;
        Self {
            year: months.div_euclid(12),
            month: months.rem_euclid(12) + 1,
            day: day - month_start(month) + 1,
            hour: time / 3600,
            minute: time / 60 % 60,
            second: time % 60,
        }
    }
}

/// Tells the day of the week at `seconds` after 1970-01-01 00:00:00, a Thursday; 1 is Sunday.
pub(super) fn weekday(seconds: i64) -> i64 {
    (seconds.div_euclid(SECONDS_PER_DAY) + 4).rem_euclid(7) + 1
}

/// The day of a year beginning in March on which `month` begins; 0 is March.
fn month_start(month: i64) -> i64 {
    // Five months are 153 days: 31, 30, 31, 30, 31, and again.
    (month * 153 + 2) / 5
}

#[cfg(test)]
mod tests {
    use super::{Civil, weekday};

    fn civil(date: [i64; 6]) -> Civil {
        let [year, month, day, hour, minute, second] = date;
        Civil { year, month, day, hour, minute, second }
    }

    #[test]
    fn seconds_and_dates_name_each_other() {
        for (seconds, date, day) in [
            (0, [1970, 1, 1, 0, 0, 0], 5),
            (-1, [1969, 12, 31, 23, 59, 59], 4),
            (951_782_399, [2000, 2, 28, 23, 59, 59], 2),
            (951_782_400, [2000, 2, 29, 0, 0, 0], 3),
            (951_868_800, [2000, 3, 1, 0, 0, 0], 4),
            (1_709_210_096, [2024, 2, 29, 12, 34, 56], 5),
            (4_107_542_399, [2100, 2, 28, 23, 59, 59], 1),
            (4_107_542_400, [2100, 3, 1, 0, 0, 0], 2),
            (253_402_300_799, [9999, 12, 31, 23, 59, 59], 6),
            (-62_167_219_200, [0, 1, 1, 0, 0, 0], 7),
        ] {
            assert_eq!(Civil::from_seconds(seconds), civil(date), "{seconds}");
            assert_eq!(civil(date).to_seconds(), seconds, "{date:?}");
            assert_eq!(weekday(seconds), day, "{seconds}");
        }
    }

    #[test]
    fn every_day_of_a_cycle_survives_the_round_trip() {
        for day in -800_000..800_000 {
            let seconds = day * 86_400 + 43_210;
            assert_eq!(Civil::from_seconds(seconds).to_seconds(), seconds, "day {day}");
        }
    }

    #[test]
    fn fields_out_of_range_carry() {
        for (date, same_as) in [
            ([2023, 2, 31, 0, 0, 0], [2023, 3, 3, 0, 0, 0]),
            ([2023, 0, 1, 0, 0, 0], [2022, 12, 1, 0, 0, 0]),
            ([2023, 13, 0, 0, 0, 0], [2023, 12, 31, 0, 0, 0]),
            ([2023, 1, 1, 24, 60, 60], [2023, 1, 2, 1, 1, 0]),
        ] {
            assert_eq!(civil(date).to_seconds(), civil(same_as).to_seconds(), "{date:?}");
        }
    }
}
