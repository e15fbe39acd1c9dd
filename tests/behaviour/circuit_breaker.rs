//! The circuit breaker against a model that remembers everything and counts it again each time.

use std::time::Duration;

use exai_files::clock::Timestamp;
use exai_files::resilience::{
    BreakerSettings, BreakerState, CircuitBreaker, CircuitPermit, Mode, Outcome, Report, Transition, Window,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// What the breaker should be, in the plainest words: lists, filters and counts.
struct Model {
    settings: BreakerSettings,
    mode: Mode,
    state: BreakerState,
    epoch: u64,
    results: Vec<(Timestamp, Outcome)>,
    opened_in_a_row: u32,
    until: Timestamp,
    probes: Vec<(u64, Timestamp)>,
    good_probes: u32,
}

impl Model {
    fn new(settings: BreakerSettings) -> Self {
        Model {
            settings,
            mode: Mode::Automatic,
            state: BreakerState::Closed,
            epoch: 0,
            results: Vec::new(),
            opened_in_a_row: 0,
            until: Timestamp(0),
            probes: Vec::new(),
            good_probes: 0,
        }
    }

    fn go(&mut self, state: BreakerState) {
        self.state = state;
        self.epoch += 1;
        self.results.clear();
        self.probes.clear();
        self.good_probes = 0;
    }

    fn open(&mut self, now: Timestamp) {
        self.opened_in_a_row += 1;
        self.until = now.plus(self.wait());
        self.go(BreakerState::Open);
    }

    fn wait(&self) -> Duration {
        let mut wait = self.settings.wait;
        for _ in 1..self.opened_in_a_row {
            wait = wait.mul_f64(self.settings.wait_factor).min(self.settings.wait_cap);
        }
        wait.min(self.settings.wait_cap)
    }

    /// Whether leave is given, and whether as a probe.
    fn acquire(&mut self, now: Timestamp, token: u64) -> Option<bool> {
        if self.mode == Mode::ForcedOpen {
            return None;
        }
        if self.mode != Mode::Automatic {
            return Some(false);
        }
        if self.state == BreakerState::Open {
            self.until = self.until.min(now.plus(self.wait()));
            if now < self.until {
                return None;
            }
            self.go(BreakerState::HalfOpen);
        }
        if self.state == BreakerState::Closed {
            return Some(false);
        }
        let lease_end = now.plus(self.settings.probe_lease);
        self.probes.retain(|(_, end)| *end > now);
        for (_, end) in &mut self.probes {
            *end = (*end).min(lease_end);
        }
        if self.probes.len() as u32 + self.good_probes >= self.settings.probes {
            return None;
        }
        self.probes.push((token, lease_end));
        Some(true)
    }

    fn report(&mut self, now: Timestamp, epoch: u64, token: u64, outcome: Outcome) -> bool {
        if epoch != self.epoch || self.state == BreakerState::Open {
            return false;
        }
        if self.state == BreakerState::Closed {
            if outcome != Outcome::Ignored && self.mode != Mode::Disabled {
                self.results.push((now, outcome));
                if self.mode == Mode::Automatic && self.is_bad(now) {
                    self.open(now);
                }
            }
            return true;
        }
        let Some(place) = self.probes.iter().position(|(known, _)| *known == token) else { return false };
        let (_, end) = self.probes.remove(place);
        if end <= now {
            return false;
        }
        match outcome {
            Outcome::Ignored => {}
            Outcome::Success => {
                self.good_probes += 1;
                if self.good_probes >= self.settings.successes_to_close {
                    self.opened_in_a_row = 0;
                    self.go(BreakerState::Closed);
                }
            }
            Outcome::Slow | Outcome::Failure => self.open(now),
        }
        true
    }

    fn is_bad(&self, now: Timestamp) -> bool {
        let counted: Vec<Outcome> = match self.settings.window {
            Window::Calls(size) => self.results.iter().rev().take(size as usize).map(|(_, outcome)| *outcome).collect(),
            Window::Time(length) => {
                let tenth = |at: Timestamp| at.0.div_euclid(length.as_micros() as i64 / 10);
                let inside = |at: Timestamp| tenth(at) > tenth(now) - 10;
                self.results.iter().filter(|(at, _)| inside(*at)).map(|(_, outcome)| *outcome).collect()
            }
        };
        let minimum = match self.settings.window {
            Window::Calls(size) => self.settings.minimum_calls.min(size),
            Window::Time(_) => self.settings.minimum_calls,
        };
        let share = |wanted: Outcome| {
            100.0 * counted.iter().filter(|outcome| **outcome == wanted).count() as f64 / counted.len() as f64
        };
        counted.len() as u32 >= minimum.max(1)
            && (share(Outcome::Failure) >= f64::from(self.settings.failure_rate)
                || share(Outcome::Slow) >= f64::from(self.settings.slow_rate))
    }
}

fn random_settings(random: &mut StdRng) -> BreakerSettings {
    let probes = random.random_range(1..5);
    BreakerSettings {
        window: match random.random_bool(0.5) {
            true => Window::Calls(random.random_range(1..20)),
            false => Window::Time(Duration::from_millis(random.random_range(1..60) * 100)),
        },
        minimum_calls: random.random_range(1..10),
        failure_rate: random.random_range(1..=100),
        slow_rate: random.random_range(30..=101),
        slow_call: Duration::from_secs(60),
        wait: Duration::from_millis(random.random_range(100..3_000)),
        wait_factor: 2.0,
        wait_cap: Duration::from_millis(random.random_range(3_000..20_000)),
        probes,
        successes_to_close: random.random_range(1..=probes),
        probe_lease: Duration::from_millis(random.random_range(100..5_000)),
    }
}

fn random_outcome(random: &mut StdRng) -> Outcome {
    match random.random_range(0..10) {
        0..5 => Outcome::Success,
        5..8 => Outcome::Failure,
        8 => Outcome::Slow,
        _ => Outcome::Ignored,
    }
}

/// 200 breakers of random settings, 6,000 operations each: states, grants, late results, all as the model says.
#[test]
fn it_does_what_the_model_does() {
    let seed = std::env::var("EXAI_FILES_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_123);
    println!("seed {seed} (EXAI_FILES_SEED)");
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..200 {
        let settings = random_settings(&mut random);
        let mut now = Timestamp::from_unix_seconds(1_800_000_000);
        let (mut breaker, mut model) = (CircuitBreaker::default(), Model::new(settings));
        let mut out: Vec<(CircuitPermit, u64, u64)> = Vec::new();
        for token in 0..6_000_u64 {
            now = now.plus(Duration::from_micros(random.random_range(0..300_000)));
            match random.random_range(0..1_000) {
                0..480 => {
                    let refused = breaker.refusal(&settings, now).is_some();
                    let expected = model.acquire(now, token);
                    assert_eq!(refused, expected.is_none(), "{settings:?} {breaker:?}");
                    let (granted, _) = breaker.acquire(&settings, now, token);
                    assert_eq!(granted.ok().map(CircuitPermit::is_probe), expected, "{settings:?} {breaker:?}");
                    if let Ok(permit) = granted {
                        out.push((permit, model.epoch, token));
                    }
                }
                480..990 if !out.is_empty() => {
                    let (permit, epoch, token) = out.swap_remove(random.random_range(0..out.len()));
                    let outcome = random_outcome(&mut random);
                    let counts = model.report(now, epoch, token, outcome);
                    let report = breaker.report(&settings, now, permit, outcome);
                    assert_eq!(report != Report::Late, counts, "{settings:?} {breaker:?}");
                }
                990..994 => {
                    let mode = [Mode::Automatic, Mode::ForcedOpen, Mode::Disabled, Mode::MetricsOnly]
                        [random.random_range(0..4)];
                    if model.mode != mode {
                        model.mode = mode;
                        model.opened_in_a_row = 0;
                        model.go(BreakerState::Closed);
                    }
                    breaker.set_mode(now, mode);
                }
                994..996 => {
                    model.mode = Mode::Automatic;
                    model.opened_in_a_row = 0;
                    model.go(BreakerState::Closed);
                    breaker.reset(now);
                }
                _ => {}
            }
            if model.mode == Mode::Automatic {
                assert_eq!(breaker.state(), model.state, "{settings:?} {breaker:?}");
            }
        }
    }
}

// ===== what others get wrong =====

const START: Timestamp = Timestamp(1_800_000_000_000_000);

fn after(seconds: f64) -> Timestamp {
    START.plus(Duration::from_secs_f64(seconds))
}

/// The existing tool's defaults: 5 failures in a row, 60 s, doubling to 300 s, 3 probes, 2 successes.
fn as_the_existing_tool() -> BreakerSettings {
    BreakerSettings {
        window: Window::Calls(5),
        minimum_calls: 5,
        failure_rate: 100,
        slow_rate: 101,
        slow_call: Duration::from_secs(60),
        wait: Duration::from_secs(60),
        wait_factor: 2.0,
        wait_cap: Duration::from_secs(300),
        probes: 3,
        successes_to_close: 2,
        probe_lease: Duration::from_secs(15),
    }
}

fn opened(settings: &BreakerSettings) -> CircuitBreaker {
    let mut breaker = CircuitBreaker::default();
    for token in 0..5 {
        let permit = breaker.acquire(settings, START, token).0.unwrap();
        breaker.report(settings, START, permit, Outcome::Failure);
    }
    assert_eq!(breaker.state(), BreakerState::Open);
    breaker
}

#[test]
fn the_existing_tools_defaults_can_be_said() {
    let settings = as_the_existing_tool();
    let mut breaker = opened(&settings);
    let mut at = 0.0;
    for wait in [60.0, 120.0, 240.0, 300.0, 300.0] {
        assert!(breaker.acquire(&settings, after(at + wait - 1.0), 90).0.is_err(), "still open before {wait} s");
        at += wait;
        let probe = breaker.acquire(&settings, after(at), 91).0.unwrap();
        breaker.report(&settings, after(at), probe, Outcome::Failure);
    }
    at += 300.0;
    let probes: Vec<_> = (0..3).map(|token| breaker.acquire(&settings, after(at), token).0.unwrap()).collect();
    assert!(breaker.acquire(&settings, after(at), 3).0.is_err(), "a fourth one is one too many");
    assert_eq!(breaker.report(&settings, after(at), probes[0], Outcome::Success), Report::Counted);
    let closed = Report::Changed(Transition { from: BreakerState::HalfOpen, to: BreakerState::Closed });
    assert_eq!(breaker.report(&settings, after(at), probes[1], Outcome::Success), closed);
}

#[test]
fn results_of_calls_begun_before_the_outage_close_nothing() {
    let settings = as_the_existing_tool();
    let mut breaker = CircuitBreaker::default();
    let early: Vec<_> = (0..9).map(|token| breaker.acquire(&settings, START, token).0.unwrap()).collect();
    for permit in &early[..5] {
        breaker.report(&settings, START, *permit, Outcome::Failure);
    }
    breaker.acquire(&settings, after(60.0), 90).0.unwrap();
    for permit in &early[5..] {
        assert_eq!(breaker.report(&settings, after(61.0), *permit, Outcome::Success), Report::Late);
    }
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
}

#[test]
fn probes_whose_holders_died_are_given_out_again_after_their_lease() {
    let settings = as_the_existing_tool();
    let mut breaker = opened(&settings);
    let lost: Vec<_> = (0..3).map(|token| breaker.acquire(&settings, after(60.0), token).0.unwrap()).collect();
    assert!(breaker.acquire(&settings, after(74.9), 3).0.is_err());
    assert!(breaker.acquire(&settings, after(75.0), 4).0.is_ok());
    assert_eq!(breaker.report(&settings, after(75.1), lost[0], Outcome::Success), Report::Late);
}

#[test]
fn a_probe_at_work_keeps_its_lease() {
    let settings = as_the_existing_tool();
    let mut breaker = opened(&settings);
    let probe = breaker.acquire(&settings, after(60.0), 1).0.unwrap();
    for seconds in [70.0, 80.0, 90.0] {
        assert!(breaker.renew(&settings, after(seconds), probe));
    }
    assert_eq!(breaker.report(&settings, after(100.0), probe, Outcome::Success), Report::Counted);
}

#[test]
fn a_clock_set_back_an_hour_does_not_keep_it_open_an_hour_longer() {
    let settings = as_the_existing_tool();
    let mut breaker = opened(&settings);
    let back = START.minus(Duration::from_secs(3_600));
    assert!(breaker.acquire(&settings, back, 1).0.is_err());
    assert!(breaker.acquire(&settings, back.plus(Duration::from_secs(60)), 2).0.is_ok());
}

#[test]
fn a_cancelled_probe_says_nothing_and_gives_its_place_back() {
    let settings = BreakerSettings { probes: 1, successes_to_close: 1, ..as_the_existing_tool() };
    let mut breaker = opened(&settings);
    let probe = breaker.acquire(&settings, after(60.0), 1).0.unwrap();
    assert_eq!(breaker.report(&settings, after(60.1), probe, Outcome::Ignored), Report::Counted);
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert!(breaker.acquire(&settings, after(60.2), 2).0.is_ok());
}

#[test]
fn its_state_survives_being_written_down() {
    let settings = as_the_existing_tool();
    let mut breaker = opened(&settings);
    breaker.acquire(&settings, after(60.0), 7).0.unwrap();
    let written = serde_json::to_string(&breaker).unwrap();
    assert_eq!(serde_json::from_str::<CircuitBreaker>(&written).unwrap(), breaker);
}

#[test]
fn what_another_kind_of_window_counted_counts_no_more() {
    let by_time = BreakerSettings { window: Window::Time(Duration::from_secs(3_600)), ..as_the_existing_tool() };
    let mut breaker = CircuitBreaker::default();
    let permit = breaker.acquire(&by_time, START, 0).0.unwrap();
    breaker.report_successes(&by_time, START, permit, 10_000);
    let settings = as_the_existing_tool();
    for _ in 0..5 {
        breaker.report(&settings, START, permit, Outcome::Failure);
    }
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[test]
fn a_service_that_asks_for_peace_has_it_for_so_long() {
    let (settings, mut breaker) = (as_the_existing_tool(), CircuitBreaker::default());
    let permit = breaker.acquire(&settings, START, 0).0.unwrap();
    breaker.open_for(START, permit, Duration::from_secs(600));
    assert_eq!(breaker.open_for(after(1.0), permit, Duration::from_secs(9)), Report::Late, "asked before it opened");
    assert_eq!(breaker.acquire(&settings, after(1.0), 1).0.unwrap_err().retry_in, Some(Duration::from_secs(599)));
    assert!(breaker.acquire(&settings, after(600.0), 2).0.unwrap().is_probe());
}
