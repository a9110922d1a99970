//! Times of the week and of the year, as crontab(5) writes them: five fields, in UTC.
//!
//! Invariant: an expression that was parsed has times, at most eight years apart.

use std::fmt;

const MINUTE_MS: i64 = 60_000;
const DAY_MINUTES: i64 = 1_440;
/// The 29th of February is never further away: from 2096 to 2104, and a day more.
const MAX_GAP_DAYS: i64 = 8 * 366 + 1;
/// Counting ends after so many days, a hundred years: a clock may be set to any time.
const MAX_COUNTED_DAYS: i64 = 36_525;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// Days of the months, in a leap year.
const MONTH_DAYS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// A time table: minute, hour, day of the month, month, day of the week.
///
/// Each field is `*`, or a list of numbers and ranges, with a step or without: `*/15`, `1-5`,
/// `0,30`, `10-20/5`. Months may be `jan` to `dec`, days of the week `sun` to `sat`; 0 and 7 are
/// both Sunday. Where neither of the two fields of days begins with `*`, a day needs to be in one
/// of them; otherwise in both.
#[derive(Clone, PartialEq, Eq)]
pub struct Cron {
    text: String,
    /// Bits 0 to 59.
    minutes: u64,
    /// Bits 0 to 23.
    hours: u64,
    /// Bits 1 to 31.
    days: u64,
    /// Bits 1 to 12.
    months: u64,
    /// Bits 0 to 6, from Sunday on.
    weekdays: u64,
    /// A day needs to be in one of the two fields only.
    either: bool,
}

/// Why a text is no time table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// There are not five fields.
    #[error("{0} fields; allowed: 5 (minute, hour, day of the month, month, day of the week)")]
    Fields(usize),
    /// A field cannot be read.
    #[error(
        "{field} \"{text}\": not a list of numbers from {min} to {max}, of ranges such as \
         {min}-{max}, or of steps such as */2"
    )]
    Field {
        /// Which of the five.
        field: &'static str,
        /// As it was written.
        text: String,
        /// The least number allowed.
        min: u32,
        /// The greatest.
        max: u32,
    },
    /// No month that it names has a day that it names.
    #[error("there is no such day in any year")]
    Never,
}

/// One of the five fields.
struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    /// Names of the numbers from `min` on.
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", min: 0, max: 59, names: &[] },
    Field { name: "hour", min: 0, max: 23, names: &[] },
    Field { name: "day of the month", min: 1, max: 31, names: &[] },
    Field { name: "month", min: 1, max: 12, names: &MONTHS },
    Field { name: "day of the week", min: 0, max: 7, names: &WEEKDAYS },
];

impl Field {
    fn parse(&self, text: &str) -> Result<u64, CronError> {
        let bits = text.split(',').try_fold(0, |bits, part| Some(bits | self.part(part)?));
        bits.ok_or_else(|| CronError::Field {
            field: self.name,
            text: text.to_owned(),
            min: self.min,
            max: self.max,
        })
    }

    /// `*`, a number or a range, and a step where it is more than one number.
    fn part(&self, text: &str) -> Option<u64> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(number(step).filter(|step| *step > 0)?)),
            None => (text, None),
        };
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (self.value(first)?, self.value(last)?),
            None if range == "*" => (self.min, self.max),
            None if step.is_some() => return None,
            None => (self.value(range)?, self.value(range)?),
        };
        if first > last {
            return None;
        }
        let values = (first..=last).step_by(step.unwrap_or(1) as usize);
        Some(values.fold(0, |bits, value| bits | 1 << value))
    }

    fn value(&self, text: &str) -> Option<u32> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let value = named.map_or_else(|| number(text), |at| Some(self.min + at as u32))?;
        (self.min..=self.max).contains(&value).then_some(value)
    }
}

/// Digits alone: no sign.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

impl Cron {
    /// Reads an expression.
    ///
    /// # Errors
    /// See [`CronError`].
    pub fn parse(text: &str) -> Result<Cron, CronError> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let fields: [&str; 5] =
            words.as_slice().try_into().map_err(|_| CronError::Fields(words.len()))?;
        let mut bits = [0; 5];
        for ((field, text), bits) in FIELDS.iter().zip(fields).zip(&mut bits) {
            *bits = field.parse(text)?;
        }
        let [minutes, hours, days, months, weekdays] = bits;
        let cron = Cron {
            text: words.join(" "),
            minutes,
            hours,
            days,
            months,
            // 7 is Sunday, as 0 is.
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            either: !fields[2].starts_with('*') && !fields[4].starts_with('*'),
        };
        let has_day = |(month, most): (usize, &u32)| {
            cron.months >> (month + 1) & 1 == 1 && cron.days.trailing_zeros() <= *most
        };
        if !cron.either && !MONTH_DAYS.iter().enumerate().any(has_day) {
            return Err(CronError::Never);
        }
        Ok(cron)
    }

    /// The expression, with one space between fields.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first time after this one, both in milliseconds since 1970.
    pub(crate) fn next_after(&self, unix_ms: i64) -> Option<i64> {
        let from = unix_ms.div_euclid(MINUTE_MS) + 1;
        let (first, minute) = (from.div_euclid(DAY_MINUTES), from.rem_euclid(DAY_MINUTES));
        let from = |day| if day == first { minute } else { 0 };
        let days = (first..=first + MAX_GAP_DAYS).filter(|day| self.has_day(*day));
        let mut times = days.filter_map(|day| Some((day, self.minute_from(from(day))?)));
        times.next().map(|(day, minute)| (day * DAY_MINUTES + minute) * MINUTE_MS)
    }

    /// The last time that is not after this one.
    pub(crate) fn last_by(&self, unix_ms: i64) -> Option<i64> {
        let by = unix_ms.div_euclid(MINUTE_MS);
        let (first, minute) = (by.div_euclid(DAY_MINUTES), by.rem_euclid(DAY_MINUTES));
        let by = |day| if day == first { minute } else { DAY_MINUTES - 1 };
        let days = (0..=MAX_GAP_DAYS).map(|back| first - back).filter(|day| self.has_day(*day));
        let mut times = days.filter_map(|day| Some((day, self.minute_by(by(day))?)));
        times.next().map(|(day, minute)| (day * DAY_MINUTES + minute) * MINUTE_MS)
    }

    /// How many times there are after the first and not after the second.
    pub(crate) fn count(&self, after: i64, by: i64) -> u64 {
        let (after, by) = (after.div_euclid(MINUTE_MS), by.div_euclid(MINUTE_MS));
        let (first, last) = (after.div_euclid(DAY_MINUTES), by.div_euclid(DAY_MINUTES));
        let last = last.min(first + MAX_COUNTED_DAYS);
        // Those of each day up to the last minute, less those of the first day up to the first.
        let of = |day: i64| {
            let to = if day == last { by - day * DAY_MINUTES } else { DAY_MINUTES - 1 };
            if self.has_day(day) { self.minutes_by(to.min(DAY_MINUTES - 1)) } else { 0 }
        };
        let all: u64 = (first..=last).map(of).sum();
        let before = after.rem_euclid(DAY_MINUTES);
        all.saturating_sub(if self.has_day(first) { self.minutes_by(before) } else { 0 })
    }

    fn has_day(&self, day: i64) -> bool {
        let (month, date) = month_and_date(day);
        // 1970 began on a Thursday.
        let weekday = (day + 4).rem_euclid(7);
        let (date, weekday) = (self.days >> date & 1 == 1, self.weekdays >> weekday & 1 == 1);
        let is_day = if self.either { date || weekday } else { date && weekday };
        self.months >> month & 1 == 1 && is_day
    }

    /// The first minute of a day from this one on.
    fn minute_from(&self, from: i64) -> Option<i64> {
        let mut hours = (from / 60..24).filter(|hour| self.hours >> hour & 1 == 1);
        hours.find_map(|hour| {
            let left = self.minutes >> (from - hour * 60).max(0);
            (left != 0)
                .then(|| hour * 60 + (from - hour * 60).max(0) + i64::from(left.trailing_zeros()))
        })
    }

    /// The last minute of a day up to this one.
    fn minute_by(&self, by: i64) -> Option<i64> {
        let mut hours = (0..=by / 60).rev().filter(|hour| self.hours >> hour & 1 == 1);
        hours.find_map(|hour| {
            let left = self.minutes & up_to(by - hour * 60);
            (left != 0).then(|| hour * 60 + i64::from(left.ilog2()))
        })
    }

    /// How many minutes of a day there are up to this one.
    fn minutes_by(&self, by: i64) -> u64 {
        let hours = (0..=by / 60).filter(|hour| self.hours >> hour & 1 == 1);
        hours.map(|hour| u64::from((self.minutes & up_to(by - hour * 60)).count_ones())).sum()
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({})", self.text)
    }
}

/// Bits from 0 to this minute of an hour; all for a later one.
fn up_to(minute: i64) -> u64 {
    (1 << (minute.min(59) + 1)) - 1
}

/// Month and day of a day since 1970-01-01, in the proleptic Gregorian calendar
/// (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
fn month_and_date(day: i64) -> (i64, i64) {
    let of_era = (day + 719_468).rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    (if month < 10 { month + 3 } else { month - 9 }, date)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-05-28T20:26:40Z, a Thursday.
    const NOW: i64 = 1_780_000_000_000;
    const HOUR: i64 = 3_600_000;
    const DAY: i64 = 24 * HOUR;
    /// 2026-05-28T00:00:00Z.
    const TODAY: i64 = NOW / DAY * DAY;

    fn cron(text: &str) -> Cron {
        Cron::parse(text).unwrap()
    }

    #[test]
    fn the_next_time_is_the_one_that_crontab_means() {
        for (text, after, next) in [
            ("* * * * *", NOW, NOW + 20_000),
            ("* * * * *", NOW + 20_000, NOW + 80_000),
            ("*/5 * * * *", NOW, TODAY + 20 * HOUR + 30 * MINUTE_MS),
            ("26 20 * * *", NOW, TODAY + DAY + 20 * HOUR + 26 * MINUTE_MS),
            ("0 3 * * *", NOW, TODAY + 27 * HOUR),
            ("15,45 21 * * *", NOW, TODAY + 21 * HOUR + 15 * MINUTE_MS),
            ("59 23 31 12 *", NOW, 1_798_761_540_000),
            // Friday is the 29th; Sunday, by either of its numbers or its name, the 31st.
            ("0 0 * * 5", NOW, TODAY + DAY),
            ("0 0 * * 0", NOW, TODAY + 3 * DAY),
            ("0 0 * * 7", NOW, TODAY + 3 * DAY),
            ("0 0 * * Sun", NOW, TODAY + 3 * DAY),
            ("0 0 * * 6-7", NOW, TODAY + 2 * DAY),
            ("0 0 1 JUN *", NOW, TODAY + 4 * DAY),
            // Of two fields of days one is enough; of one and a star both.
            ("0 0 1 * 5", NOW, TODAY + DAY),
            ("0 0 1 * */1", NOW, TODAY + 4 * DAY),
            ("0 0 */2 * 5", NOW, TODAY + DAY),
            ("0 0 */2 * 6", NOW, TODAY + 16 * DAY),
            ("0 12 29 2 *", NOW, 1_835_438_400_000),
            ("0 0 29 2 *", 3_981_484_800_000, 4_233_686_400_000),
            ("10-20/5 * * * *", NOW, TODAY + 21 * HOUR + 10 * MINUTE_MS),
            ("0 0 * * *", -1, 0),
        ] {
            assert_eq!(cron(text).next_after(after), Some(next), "{text} after {after}");
            assert_eq!(cron(text).last_by(next), Some(next), "{text}");
            assert!(cron(text).last_by(next - 1).is_some_and(|last| last <= after), "{text}");
        }
    }

    #[test]
    fn what_is_counted_is_what_there_is_from_one_to_the_next() {
        for text in ["* * * * *", "*/7 1-5,22 * * *", "30 20 * * 4", "0 0 1,15 * *", "5 4 29 2 *"] {
            let cron = cron(text);
            for (after, by) in [(0, 40), (1, 999), (26, 2_000), (700, 100_001), (5, 5)] {
                let (after, by) = (NOW + after * MINUTE_MS, NOW + by * MINUTE_MS);
                let times =
                    std::iter::successors(cron.next_after(after), |at| cron.next_after(*at));
                let times: Vec<i64> = times.take_while(|at| *at <= by).collect();
                assert_eq!(cron.count(after, by), times.len() as u64, "{text} {after} {by}");
                let back = std::iter::successors(cron.last_by(by), |at| cron.last_by(*at - 1));
                let mut back: Vec<i64> = back.take_while(|at| *at > after).collect();
                back.reverse();
                assert_eq!(back, times, "{text} {after} {by}");
            }
        }
    }

    #[test]
    fn any_time_of_any_clock_has_an_answer() {
        let daily = cron("0 0 * * *");
        for unix_ms in [i64::MIN, 0, i64::MAX] {
            assert!(daily.count(unix_ms, i64::MAX) <= MAX_COUNTED_DAYS as u64 + 1);
            assert!(daily.next_after(unix_ms / 2).is_some());
        }
    }

    #[test]
    fn what_is_wrong_with_an_expression_is_said() {
        for (text, wrong) in [
            ("* * * *", "4 fields; allowed: 5"),
            ("60 * * * *", "minute \"60\": not a list of numbers from 0 to 59"),
            ("* 24 * * *", "hour \"24\""),
            ("* * 0 * *", "day of the month \"0\""),
            ("* * * 13 *", "month \"13\""),
            ("* * * * 8", "day of the week \"8\""),
            ("*/0 * * * *", "minute \"*/0\""),
            ("5/2 * * * *", "minute \"5/2\""),
            ("9-3 * * * *", "minute \"9-3\""),
            ("+1 * * * *", "minute \"+1\""),
            ("1,,2 * * * *", "minute \"1,,2\""),
            (" * * * foo * ", "month \"foo\""),
            ("0 0 30 2 *", "no such day"),
            ("0 0 31 4,6 *", "no such day"),
        ] {
            let error = Cron::parse(text).unwrap_err().to_string();
            assert!(error.contains(wrong), "{text}: {error}");
        }
        assert_eq!(cron("  0\t0 30 2  1 ").as_str(), "0 0 30 2 1");
    }
}
