//! What a run counts and times, in memory that does not grow with it (pure).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::oracle::Counts;

/// What all sessions have seen together.
#[derive(Debug, Default)]
pub struct Tally {
    pub counts: Counts,
    /// From a message to its acknowledgement.
    pub acknowledged: Histogram,
    pub first_delta: Histogram,
    pub run: Histogram,
    pub errors: u64,
    /// The first of the errors: the others are mostly the same, or follow from it.
    pub first_error: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Spread {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

/// Durations, counted in buckets that are less than 1 % wide: 58 KiB however many there are.
#[derive(Debug)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

/// When each event of one session reached its first watcher and its last.
///
/// Watchers see the same events in the same order, so an event is its place in that order, and those that
/// not all have seen yet are as many as the server lets its slowest client fall behind.
#[derive(Debug)]
pub struct Sightings {
    watchers: usize,
    /// Place of the oldest event that not all have seen.
    oldest: u64,
    open: VecDeque<Sighting>,
    spreads: Histogram,
}

#[derive(Debug)]
struct Sighting {
    first: Instant,
    watchers: usize,
}

/// What is reported of the messages that were answered so far.
#[derive(Debug)]
pub struct Load {
    pub messages: u64,
    pub deltas: u64,
    pub acknowledged: Spread,
    pub first_delta: Spread,
    pub run: Spread,
}

impl Tally {
    pub fn load(&self) -> Load {
        Load {
            messages: self.run.count,
            deltas: self.counts.deltas,
            acknowledged: self.acknowledged.spread(),
            first_delta: self.first_delta.spread(),
            run: self.run.spread(),
        }
    }

    pub fn fail(&mut self, error: &anyhow::Error) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| format!("{error:#}"));
    }
}

/// Bits of a duration that tell buckets of the same power of two apart.
const FINE_BITS: u32 = 7;

impl Default for Histogram {
    fn default() -> Self {
        let powers = u64::BITS - FINE_BITS;
        Self { buckets: vec![0; (powers as usize + 1) << FINE_BITS], count: 0, max: 0 }
    }
}

impl Histogram {
    pub fn record(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[Self::bucket(nanos)] += 1;
        self.count += 1;
        self.max = self.max.max(nanos);
    }

    /// In milliseconds; zeros where nothing was recorded.
    pub fn spread(&self) -> Spread {
        Spread { p50: self.millis(0.5), p99: self.millis(0.99), max: self.max as f64 / 1e6 }
    }

    /// The duration that so great a part of all does not exceed.
    fn millis(&self, part: f64) -> f64 {
        let rank = (part * self.count as f64).ceil() as u64;
        let mut counted = 0;
        let bucket = self.buckets.iter().position(|count| {
            counted += count;
            counted >= rank.max(1)
        });
        bucket.map_or(0.0, |bucket| Self::top(bucket).min(self.max) as f64 / 1e6)
    }

    /// Small numbers have a bucket each, greater ones share theirs with those of the same leading bits.
    fn bucket(nanos: u64) -> usize {
        let shift = (u64::BITS - nanos.leading_zeros()).saturating_sub(FINE_BITS + 1);
        ((u64::from(shift) << FINE_BITS) + (nanos >> shift)) as usize
    }

    /// The greatest number of a bucket.
    fn top(bucket: usize) -> u64 {
        let shift = (bucket >> FINE_BITS).saturating_sub(1);
        let leading = (bucket - (shift << FINE_BITS)) as u64;
        (leading << shift) + ((1 << shift) - 1)
    }
}

impl Sightings {
    pub fn new(watchers: usize) -> Self {
        Self { watchers, oldest: 0, open: VecDeque::new(), spreads: Histogram::default() }
    }

    /// A watcher has got its event number `place`, counted from 0, at `now`. No earlier call has a later `now`.
    pub fn see(&mut self, place: u64, now: Instant) {
        let Some(index) = place.checked_sub(self.oldest).and_then(|index| usize::try_from(index).ok()) else {
            return;
        };
        while self.open.len() <= index {
            self.open.push_back(Sighting { first: now, watchers: 0 });
        }
        self.open[index].watchers += 1;
        // Who has seen an event has seen those before it: they are completed in order.
        while let Some(Sighting { first, .. }) =
            self.open.pop_front_if(|sighting| sighting.watchers >= self.watchers)
        {
            self.oldest += 1;
            self.spreads.record(now.duration_since(first));
        }
    }

    /// Of the events that all have seen.
    pub fn spread(&self) -> Spread {
        self.spreads.spread()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn a_histogram_knows_its_quantiles_to_a_percent() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|millis| histogram.record(MILLI * millis));

        let Spread { p50, p99, max } = histogram.spread();

        assert!((500.0..505.0).contains(&p50), "{p50}");
        assert!((990.0..1000.0).contains(&p99), "{p99}");
        assert_eq!((max, histogram.count), (1000.0, 1000));
    }

    #[test]
    fn every_duration_has_a_bucket_that_is_its_own() {
        for nanos in (0..64).map(|power| 1_u64 << power).chain([0, 127, 128, 129, 255, 256, 257, u64::MAX]) {
            let bucket = Histogram::bucket(nanos);

            let top = Histogram::top(bucket);
            assert!(nanos <= top && top - nanos <= nanos / 128, "{nanos}: up to {top}");
            assert_eq!(Histogram::bucket(top), bucket);
            assert!(bucket < Histogram::default().buckets.len());
        }
    }

    #[test]
    fn nothing_recorded_is_zero() {
        assert_eq!(Histogram::default().spread(), Spread::default());
    }

    #[test]
    fn an_event_is_spread_from_its_first_watcher_to_its_last() {
        let began = Instant::now();
        let mut sightings = Sightings::new(3);

        for (place, millis) in [(0, 1), (1, 2), (0, 3), (0, 5), (1, 6), (1, 42)] {
            sightings.see(place, began + MILLI * millis);
        }

        let Spread { p50, max, .. } = sightings.spread();
        assert!((4.0..4.1).contains(&p50), "{p50}");
        assert_eq!(max, 40.0);
        assert!(sightings.open.is_empty(), "what all have seen is forgotten");
    }

    #[test]
    fn what_one_watcher_has_not_seen_has_no_spread() {
        let mut sightings = Sightings::new(2);

        sightings.see(0, Instant::now());

        assert_eq!(sightings.spread(), Spread::default());
        assert_eq!(sightings.open.len(), 1);
    }
}
