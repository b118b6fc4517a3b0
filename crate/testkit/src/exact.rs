//! The meaning of a page in integers without limits.
//!
//! This is the specification, formula by formula. The core splits, shifts and saturates; this model does
//! none of it, so the tests compare the core with it.

use num_bigint::BigInt;
use num_integer::Integer;
use vmclock::Timescale;
use vmclock::snapshot::{Abi, RawFields};

pub const TAI_OFFSET_VALID: u64 = 1 << 0;
pub const PERIOD_ESTERROR_VALID: u64 = 1 << 3;
pub const PERIOD_MAXERROR_VALID: u64 = 1 << 4;
pub const TIME_ESTERROR_VALID: u64 = 1 << 5;
pub const TIME_MAXERROR_VALID: u64 = 1 << 6;
pub const VM_GEN_COUNTER_PRESENT: u64 = 1 << 8;

pub fn big(value: impl Into<BigInt>) -> BigInt {
    value.into()
}

pub fn two_to(power: u32) -> BigInt {
    big(1) << power
}

fn ns(seconds: impl Into<BigInt>) -> BigInt {
    seconds.into() * 1_000_000_000
}

/// `(counter - counter_value) as signed 64 bits`: the representative of the difference modulo 2^64
/// that lies in `[-2^63, 2^63)`.
pub fn distance(counter: u64, reference: u64) -> BigInt {
    let difference = (big(counter) - big(reference)).mod_floor(&two_to(64));
    if difference < two_to(63) {
        difference
    } else {
        difference - two_to(64)
    }
}

/// `e = floor(d * period / 2^shift)`.
pub fn elapsed(d: &BigInt, period: u64, shift: u8) -> BigInt {
    (d * big(period)).div_floor(&two_to(shift.into()))
}

/// `ns = floor((time_sec * 2^64 + time_frac_sec + e) * 10^9 / 2^64)`.
pub fn time_ns(time_sec: u64, time_frac_sec: u64, elapsed: &BigInt) -> BigInt {
    let ticks = big(time_sec) * two_to(64) + big(time_frac_sec) + elapsed;
    ns(ticks).div_floor(&two_to(64))
}

/// `ceil(|d| * rate * 10^9 / 2^(64 + shift))`.
pub fn growth_ns(d: &BigInt, rate: u64, shift: u8) -> BigInt {
    let magnitude = BigInt::from(d.magnitude().clone());
    ns(magnitude * big(rate)).div_ceil(&two_to(64 + u32::from(shift)))
}

/// At most 2^63 - 1.
pub fn saturated(value: BigInt) -> BigInt {
    value.min(two_to(63) - 1)
}

/// Returns whether `d` ticks are more than a second before the reference.
pub fn is_more_than_a_second_behind(d: &BigInt, period: u64, shift: u8) -> bool {
    d * big(period) < -two_to(64 + u32::from(shift))
}

/// `|raw|` if the page flags it valid and it is within 10 to 255.
pub fn tai_minus_utc(raw: i16, flagged: bool) -> Option<i64> {
    let magnitude = i64::from(raw).abs();
    (flagged && (10..=255).contains(&magnitude)).then_some(magnitude)
}

/// The first seconds of the month that holds `utc_sec` and of the month after it.
///
/// It walks there from the start of the 400-year cycle: year by year, then month by month.
pub fn month_around(utc_sec: &BigInt) -> (BigInt, BigInt) {
    const CYCLE_SEC: i64 = 146_097 * 86_400;
    let (cycle, second) = utc_sec.div_mod_floor(&big(CYCLE_SEC));
    // Small from here on.
    let second = i64::try_from(second).unwrap();
    let start = cycle * CYCLE_SEC;
    let mut walked = 0;
    for year in 1970.. {
        let is_leap_year = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let february = if is_leap_year { 29 } else { 28 };
        let year_sec = (february + 337) * 86_400;
        if second - walked >= year_sec {
            walked += year_sec;
            continue;
        }
        for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31_i64] {
            let length = days * 86_400;
            if second - walked < length {
                return (&start + walked, start + walked + length);
            }
            walked += length;
        }
    }
    unreachable!()
}

/// A leap second as the specification's table gives it.
#[derive(Clone, Debug)]
pub struct Leap {
    /// +1 for an inserted second, -1 for a deleted one.
    pub sign: i64,
    /// The first second of the month that begins with, or after, the leap.
    pub edge_sec: BigInt,
    /// `c - u`.
    pub c_minus_u: i64,
}

pub fn leap(indicator: u8, abi: Abi, utc_sec: &BigInt) -> Option<Leap> {
    let (start, end) = month_around(utc_sec);
    let rfc_v4 = abi == Abi::RfcV4;
    let (sign, edge_sec, c_minus_u) = match indicator {
        1 => (1, end, 0),
        2 => (-1, end, 0),
        3 if utc_sec + 1 == end => (1, end, 1),
        3 if *utc_sec == start => (1, start, 0),
        4 if rfc_v4 => {
            // A second is being deleted: take the nearer side of it.
            if &end - utc_sec <= big(86_400) {
                (-1, end, 0)
            } else {
                (-1, start, -1)
            }
        }
        4 => (1, start, 1),
        5 if rfc_v4 => (1, start, 1),
        6 if rfc_v4 => (-1, start, -1),
        5 => (-1, start, -1),
        _ => return None,
    };
    Some(Leap {
        sign,
        edge_sec,
        c_minus_u,
    })
}

/// One piece of UTC as a function of `c`, both in nanoseconds: on `[from, to)` it is
/// `at_from + (c - from) * numerator / denominator`.
struct Piece {
    from: Option<BigInt>,
    to: Option<BigInt>,
    origin: BigInt,
    at_origin: BigInt,
    numerator: BigInt,
    denominator: BigInt,
}

impl Piece {
    /// The numerator of its value at `c`, over its denominator.
    fn value(&self, c: &BigInt) -> (BigInt, BigInt) {
        let numerator = &self.at_origin * &self.denominator + (c - &self.origin) * &self.numerator;
        (numerator, self.denominator.clone())
    }

    fn holds(&self, c: &BigInt) -> bool {
        self.from.as_ref().is_none_or(|from| c >= from) && self.to.as_ref().is_none_or(|to| c < to)
    }
}

fn pieces(leap: &Leap, scale: Timescale) -> Vec<Piece> {
    let edge = ns(leap.edge_sec.clone());
    let sign = ns(leap.sign);
    let (from, to) = match scale {
        Timescale::UtcNoonLinear => {
            let from = &edge - ns(43_200);
            let to = &from + ns(86_400) + &sign;
            (from, to)
        }
        Timescale::UtcSls => {
            let from = &edge + &sign - ns(1000);
            let to = &from + ns(1000);
            (from, to)
        }
        _ => {
            let joint = if leap.sign > 0 { edge } else { edge - ns(1) };
            (joint.clone(), joint)
        }
    };
    let identity = |from: Option<BigInt>, to: Option<BigInt>, minus: BigInt| Piece {
        from,
        to,
        origin: big(0),
        at_origin: -minus,
        numerator: big(1),
        denominator: big(1),
    };
    let before = identity(None, Some(from.clone()), big(0));
    let after = identity(Some(to.clone()), None, sign.clone());
    let between = match scale {
        Timescale::UtcNoonLinear => (ns(86_400), ns(86_400) + &sign),
        // c - L * (c - u0) / 1000 has the slope (1000 - L) / 1000.
        Timescale::UtcSls => (ns(1000) - &sign, ns(1000)),
        _ => return vec![before, after],
    };
    let smear = Piece {
        from: Some(from.clone()),
        to: Some(to),
        origin: from.clone(),
        at_origin: from,
        numerator: between.0,
        denominator: between.1,
    };
    vec![before, smear, after]
}

/// A label, and the hull of the image of the interval around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub epoch_ns: BigInt,
    pub earliest_ns: BigInt,
    pub latest_ns: BigInt,
}

/// The image of `[c - bound, c + bound]`.
///
/// Each piece that meets the interval contributes both ends of the common part. The end of a piece is its
/// limit from the left.
fn image(pieces: &[Piece], c: &BigInt, bound: &BigInt) -> Label {
    let (first, last) = (c - bound, c + bound);
    let home = pieces.iter().find(|piece| piece.holds(c)).unwrap();
    let (numerator, denominator) = home.value(c);
    let mut earliest = None;
    let mut latest = None;
    for piece in pieces {
        let is_past = piece.to.as_ref().is_some_and(|to| &first >= to);
        let is_ahead = piece.from.as_ref().is_some_and(|from| &last < from);
        if is_past || is_ahead {
            continue;
        }
        let low = piece
            .from
            .clone()
            .map_or(first.clone(), |from| from.max(first.clone()));
        let high = piece
            .to
            .clone()
            .map_or(last.clone(), |to| to.min(last.clone()));
        for end in [low, high] {
            let (numerator, denominator) = piece.value(&end);
            let floor = numerator.div_floor(&denominator);
            let ceil = numerator.div_ceil(&denominator);
            earliest = Some(earliest.map_or(floor.clone(), |least: BigInt| least.min(floor)));
            latest = Some(latest.map_or(ceil.clone(), |most: BigInt| most.max(ceil)));
        }
    }
    Label {
        epoch_ns: numerator.div_floor(&denominator),
        earliest_ns: earliest.unwrap(),
        latest_ns: latest.unwrap(),
    }
}

/// How a reader interprets a page.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub size_bytes: u32,
    pub abi: Abi,
    pub timescale: Timescale,
    pub assumed_drift_ppb: Option<u32>,
    pub assumed_error_ns: Option<u64>,
    pub require_synchronized: bool,
    pub counter_id: u8,
}

/// All figures of a reading, before they are limited to 64 bits.
#[derive(Clone, Debug)]
pub struct Meaning {
    pub label: Label,
    pub bound_ns: Option<BigInt>,
    pub est_error_ns: Option<BigInt>,
    pub age_ns: BigInt,
    pub leap_second: bool,
    pub tai_minus_utc_sec: Option<BigInt>,
    pub vm_generation: Option<u64>,
}

impl View {
    fn structure_bytes(&self) -> u32 {
        let whole = if self.abi == Abi::RfcV4 { 0x68 } else { 0x70 };
        whole.min(self.size_bytes)
    }

    /// A field of 64 bits at `offset` under a flag.
    fn stated(&self, page: &RawFields, flag: u64, offset: u32, value: u64) -> Option<u64> {
        let is_known = self.abi != Abi::RfcV4 || flag < VM_GEN_COUNTER_PRESENT;
        let is_there = self.structure_bytes() >= offset + 8;
        (is_known && is_there && page.flags & flag != 0).then_some(value)
    }

    pub fn vm_generation(&self, page: &RawFields) -> Option<u64> {
        self.stated(
            page,
            VM_GEN_COUNTER_PRESENT,
            0x68,
            page.vm_generation_counter,
        )
    }

    /// The codes of all reasons to refuse time from `page`. Their order means nothing.
    pub fn refusals(&self, page: &RawFields) -> Vec<&'static str> {
        let mut codes = Vec::new();
        if self.structure_bytes() < 0x58 || page.counter_id == 0xff {
            codes.push("ERR_VMCLOCK_NO_TIME");
        }
        if page.counter_id != 0xff && page.counter_id != self.counter_id {
            codes.push("ERR_VMCLOCK_WRONG_COUNTER");
        }
        if page.clock_status != 2 && (page.clock_status != 3 || self.require_synchronized) {
            codes.push("ERR_VMCLOCK_UNSYNCHRONIZED");
        }
        if page.counter_period_frac_sec == 0 || page.counter_period_shift > 127 {
            codes.push("ERR_VMCLOCK_BAD_PERIOD");
        }
        let flagged = page.flags & TAI_OFFSET_VALID != 0;
        let offset = tai_minus_utc(page.tai_offset_sec, flagged);
        match (page.time_type, self.timescale) {
            (0, Timescale::Tai) if offset.is_none() => codes.push("ERR_VMCLOCK_NO_TAI_OFFSET"),
            (0 | 1, Timescale::Monotonic) => codes.push("ERR_VMCLOCK_TIMESCALE"),
            (0, _) | (2, Timescale::Monotonic) => {}
            (1, Timescale::Tai) if !flagged => {}
            (1, _) if offset.is_none() => codes.push("ERR_VMCLOCK_NO_TAI_OFFSET"),
            (1, _) => {}
            _ => codes.push("ERR_VMCLOCK_TIMESCALE"),
        }
        codes
    }

    /// The meaning of `counter` on a page without a reason to refuse it.
    pub fn meaning(&self, page: &RawFields, counter: u64) -> Meaning {
        let shift = page.counter_period_shift;
        let period = page.counter_period_frac_sec;
        let d = distance(counter, page.counter_value);
        let page_ns = time_ns(
            page.time_sec,
            page.time_frac_sec,
            &elapsed(&d, period, shift),
        );

        let picoseconds = self.abi == Abi::RfcV4;
        let error_ns = |raw: u64| {
            if picoseconds {
                big(raw).div_ceil(&big(1000))
            } else {
                big(raw)
            }
        };
        let rate = self
            .stated(
                page,
                PERIOD_MAXERROR_VALID,
                0x40,
                page.counter_period_maxerror_rate_frac_sec,
            )
            .or_else(|| {
                let ppb = big(self.assumed_drift_ppb?);
                u64::try_from((big(period) * ppb).div_ceil(&big(1_000_000_000))).ok()
            });
        let bound_ns = self
            .stated(page, TIME_MAXERROR_VALID, 0x60, page.time_maxerror_nanosec)
            .map(error_ns)
            .or_else(|| {
                let is_synchronized = page.clock_status == 2;
                self.assumed_error_ns.filter(|_| is_synchronized).map(big)
            })
            .zip(rate)
            .map(|(base_ns, rate)| base_ns + growth_ns(&d, rate, shift) + 1);
        let est_error_ns = self
            .stated(page, TIME_ESTERROR_VALID, 0x58, page.time_esterror_nanosec)
            .zip(self.stated(
                page,
                PERIOD_ESTERROR_VALID,
                0x38,
                page.counter_period_esterror_rate_frac_sec,
            ))
            .map(|(raw, rate)| saturated(error_ns(raw) + growth_ns(&d, rate, shift)));

        let offset = tai_minus_utc(page.tai_offset_sec, page.flags & TAI_OFFSET_VALID != 0);
        // Seconds from the page's time to the UTC of its reference and to TAI.
        let (to_utc, to_tai) = match page.time_type {
            0 => (Some(0), offset),
            1 => (offset.map(|offset| -offset), Some(0)),
            _ => (None, None),
        };
        let leap = to_utc.and_then(|to_utc| {
            leap(
                page.leap_indicator,
                self.abi,
                &(big(page.time_sec) + to_utc),
            )
        });
        // Without a leap second, c equals u, and UTC equals c.
        let without = [Piece {
            from: None,
            to: None,
            origin: big(0),
            at_origin: big(0),
            numerator: big(1),
            denominator: big(1),
        }];
        let utc_pieces = |scale| {
            leap.as_ref()
                .map_or_else(Vec::new, |leap| pieces(leap, scale))
        };
        let c = to_utc.map(|to_utc| {
            &page_ns + ns(to_utc) + ns(leap.as_ref().map_or(0, |leap| leap.c_minus_u))
        });
        let width = bound_ns.clone().unwrap_or_default();
        let label = match self.timescale {
            Timescale::Tai => image(&without, &(&page_ns + ns(to_tai.unwrap())), &width),
            Timescale::Monotonic => image(&without, &page_ns, &width),
            _ if leap.is_none() => image(&without, c.as_ref().unwrap(), &width),
            scale => image(&utc_pieces(scale), c.as_ref().unwrap(), &width),
        };
        let leap_second = leap.as_ref().zip(c.as_ref()).is_some_and(|(leap, c)| {
            let edge = ns(leap.edge_sec.clone());
            leap.sign > 0 && c >= &edge && c < &(edge + ns(1))
        });
        let tai_minus_utc_sec = offset.and(c.as_ref()).map(|c| {
            let strict = if leap.is_some() {
                image(&utc_pieces(Timescale::Utc), c, &big(0)).epoch_ns
            } else {
                c.clone()
            };
            // TAI minus strict UTC: whole seconds by construction.
            let (seconds, rest) = (&page_ns + ns(to_tai.unwrap()) - strict).div_mod_floor(&ns(1));
            assert_eq!(rest, big(0));
            seconds
        });
        Meaning {
            label,
            bound_ns,
            est_error_ns,
            age_ns: &page_ns - time_ns(page.time_sec, page.time_frac_sec, &big(0)),
            leap_second,
            tai_minus_utc_sec,
            vm_generation: self.vm_generation(page),
        }
    }
}
