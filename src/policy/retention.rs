//! Which files stay and which go: rules, time limits, the trash, and what holds a file whatever they say.

use std::time::Duration;

use serde::Serialize;

use crate::clock::Timestamp;
use crate::model::{FileRecord, HoldKind, PlatformId};

/// What a rule does with files that it does not keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Then {
    /// Taken off the platforms; the record stays.
    Delete,
    /// The same, but only where a copy is kept.
    Archive,
    /// Into the trash.
    Trash,
}

/// A rule, for the files of a tag and a platform, or all.
#[derive(Clone, Debug)]
pub struct Rule {
    pub name: String,
    pub tag: Option<String>,
    /// Only copies there are counted and taken away.
    pub platform: Option<PlatformId>,
    /// The newest so many stay.
    pub keep_last: Option<u64>,
    /// Those handed over or used so lately stay.
    pub keep_within: Option<Duration>,
    pub then: Then,
}

impl Rule {
    fn concerns(&self, file: &FileRecord) -> bool {
        file.trashed_at.is_none()
            && self.tag.as_ref().is_none_or(|tag| file.tags.contains(tag))
            && self.has_something_there(file)
    }

    /// What is on no platform can only be put into the trash.
    fn has_something_there(&self, file: &FileRecord) -> bool {
        match (&self.platform, self.then) {
            (Some(platform), _) => file.replicas.iter().any(|replica| replica.platform == *platform),
            (None, Then::Trash) => true,
            (None, Then::Delete | Then::Archive) => !file.replicas.is_empty(),
        }
    }
}

/// Something that holds a file.
#[derive(Clone, Debug)]
pub struct Held {
    pub kind: HoldKind,
    /// Of a lease: where.
    pub platform: Option<PlatformId>,
    pub until: Option<Timestamp>,
}

/// A file, and what is to be known of it for a decision.
#[derive(Clone, Debug)]
pub struct Subject<'f> {
    pub file: &'f FileRecord,
    pub holds: &'f [Held],
    pub has_copy: bool,
}

/// What is to be done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    Delete,
    Archive,
    Trash,
    /// Taken off the platforms and put into the trash: it was wanted until then.
    Expire,
    /// Everything of it goes for good: its time in the trash is over.
    Purge,
}

/// That a file goes, from where, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Departure {
    pub step: Step,
    /// `None`: from everywhere.
    pub platform: Option<PlatformId>,
    pub because: String,
    /// What keeps it all the same.
    pub obstacle: Option<String>,
}

/// What becomes of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fate {
    pub departures: Vec<Departure>,
    /// Why it stays, where it does.
    pub stays: Vec<String>,
}

/// Decides over files, which have to come newest first: rules count them.
#[derive(Debug)]
pub struct Retention<'r> {
    rules: &'r [Rule],
    /// How long files stay in the trash; `None` for ever.
    trash_period: Option<Duration>,
    now: Timestamp,
    /// Files that each rule has seen.
    seen: Vec<u64>,
}

impl<'r> Retention<'r> {
    pub fn new(rules: &'r [Rule], trash_period: Option<Duration>, now: Timestamp) -> Self {
        Retention { rules, trash_period, now, seen: vec![0; rules.len()] }
    }

    pub fn decide(&mut self, subject: &Subject<'_>) -> Fate {
        let mut fate = Fate::default();
        self.by_time(subject, &mut fate);
        for (rule, seen) in self.rules.iter().zip(&mut self.seen) {
            if rule.concerns(subject.file) {
                *seen += 1;
                apply(rule, *seen, subject, self.now, &mut fate);
            }
        }
        if fate.departures.is_empty() && fate.stays.is_empty() {
            fate.stays.push("no rule names it".to_owned());
        }
        fate.stays.extend(subject.holds.iter().map(said));
        fate
    }

    /// Its own time, and its time in the trash.
    fn by_time(&self, subject: &Subject<'_>, fate: &mut Fate) {
        let file = subject.file;
        if let Some(since) = file.trashed_at {
            let Some(period) = self.trash_period else {
                return fate.stays.push(format!("it is in the trash since {since}, for ever"));
            };
            match since.plus(period) {
                at if at <= self.now => {
                    let because = format!("it has been in the trash since {since}");
                    fate.departures.push(departure(Step::Purge, None, because, subject));
                }
                at => fate.stays.push(format!("it is in the trash, and goes for good at {at}")),
            }
            return;
        }
        match file.keep_until {
            Some(until) if until <= self.now => {
                let because = format!("it was wanted until {until}");
                fate.departures.push(departure(Step::Expire, None, because, subject));
            }
            Some(until) => fate.stays.push(format!("it is wanted until {until}")),
            None => {}
        }
    }
}

fn apply(rule: &Rule, number: u64, subject: &Subject<'_>, now: Timestamp, fate: &mut Fate) {
    let name = &rule.name;
    if let Some(last) = rule.keep_last.filter(|last| number <= *last) {
        return fate.stays.push(format!("rule {name} keeps the newest {last}, and it is number {number}"));
    }
    let used_at = subject.file.used_at();
    let age = now.since(used_at);
    if let Some(within) = rule.keep_within.filter(|within| age <= *within) {
        let until = used_at.plus(within);
        return fate.stays.push(format!("rule {name} keeps it until {until}"));
    }
    let step = match rule.then {
        Then::Delete => Step::Delete,
        Then::Archive => Step::Archive,
        Then::Trash => Step::Trash,
    };
    let because = format!("rule {name}: it is number {number}, and was last used {} ago", days(age));
    fate.departures.push(departure(step, rule.platform.clone(), because, subject));
}

fn departure(step: Step, platform: Option<PlatformId>, because: String, subject: &Subject<'_>) -> Departure {
    let is_unkept = step == Step::Archive && !subject.has_copy;
    let unkept = is_unkept.then(|| "no copy of it is kept".to_owned());
    Departure { obstacle: obstacle(platform.as_ref(), subject.holds).or(unkept), step, platform, because }
}

/// What keeps a file on a platform, or everywhere, whatever rules say; a legal hold is named first.
pub fn obstacle(platform: Option<&PlatformId>, holds: &[Held]) -> Option<String> {
    let concerns = |held: &&Held| match held.kind {
        HoldKind::Legal | HoldKind::Pin => true,
        HoldKind::Lease => platform.is_none() || held.platform.is_none() || held.platform.as_ref() == platform,
    };
    holds.iter().filter(concerns).max_by_key(|held| held.kind == HoldKind::Legal).map(said)
}

fn said(held: &Held) -> String {
    let what = match held.kind {
        HoldKind::Legal => "it is under legal hold",
        HoldKind::Pin => "it is pinned",
        HoldKind::Lease => "it is leased",
    };
    let place = held.platform.as_ref().map(|platform| format!(" on {platform}")).unwrap_or_default();
    let until = held.until.map(|until| format!(" until {until}")).unwrap_or_default();
    format!("{what}{place}{until}")
}

fn days(age: Duration) -> String {
    match age.as_secs() / 86_400 {
        0 => "less than a day".to_owned(),
        1 => "a day".to_owned(),
        days => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Digest, Identity};

    const DAY: Duration = Duration::from_secs(86_400);
    const NOW: Timestamp = Timestamp(400 * 86_400_000_000);

    fn file(days_old: u32, tags: &[&str]) -> FileRecord {
        let identity = Identity { digest: Digest([0; 32]), size: 1, mime: "text/plain".into() };
        let mut file = FileRecord::new(identity, "f.txt".into(), NOW.minus(DAY * days_old));
        file.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        file
    }

    fn rule(then: Then, keep_last: Option<u64>, keep_within: Option<u32>) -> Rule {
        let keep_within = keep_within.map(|days| DAY * days);
        Rule { name: "r".into(), tag: Some("report".into()), platform: None, keep_last, keep_within, then }
    }

    fn decide(retention: &mut Retention<'_>, file: &FileRecord, holds: &[Held]) -> Vec<(Step, Option<String>)> {
        let fate = retention.decide(&Subject { file, holds, has_copy: false });
        fate.departures.into_iter().map(|departure| (departure.step, departure.obstacle)).collect()
    }

    #[test]
    fn a_rule_keeps_the_newest_and_the_youngest_of_its_tag() {
        let rules = [rule(Then::Trash, Some(2), Some(30))];
        let mut retention = Retention::new(&rules, None, NOW);
        let goes =
            |retention: &mut Retention<'_>, days, tags: &[&str]| !decide(retention, &file(days, tags), &[]).is_empty();
        assert!(!goes(&mut retention, 100, &["report"]), "the newest");
        assert!(!goes(&mut retention, 200, &["other"]), "of another tag, and not counted");
        assert!(!goes(&mut retention, 200, &["report"]), "the second");
        assert!(goes(&mut retention, 300, &["report"]));
        assert!(!goes(&mut retention, 30, &["report"]), "young");
    }

    #[test]
    fn what_holds_a_file_is_an_obstacle_and_a_legal_hold_comes_first() {
        let rules = [rule(Then::Trash, None, Some(1))];
        let held = |kind| Held { kind, platform: None, until: None };
        let goes = decide(
            &mut Retention::new(&rules, None, NOW),
            &file(9, &["report"]),
            &[held(HoldKind::Legal), held(HoldKind::Pin)],
        );
        assert_eq!(goes, [(Step::Trash, Some("it is under legal hold".to_owned()))]);
    }

    #[test]
    fn archiving_needs_a_copy_and_something_to_take_away() {
        let rules = [rule(Then::Archive, None, Some(1))];
        assert_eq!(decide(&mut Retention::new(&rules, None, NOW), &file(9, &["report"]), &[]), []);
    }

    #[test]
    fn what_was_wanted_until_then_goes_and_the_trash_is_emptied_in_time() {
        let mut retention = Retention::new(&[], Some(DAY * 30), NOW);
        let wanted = FileRecord { keep_until: Some(NOW), ..file(9, &[]) };
        assert_eq!(decide(&mut retention, &wanted, &[]), [(Step::Expire, None)]);
        let trashed = |days: u32| FileRecord { trashed_at: Some(NOW.minus(DAY * days)), ..file(99, &[]) };
        assert_eq!(decide(&mut retention, &trashed(29), &[]), []);
        assert_eq!(decide(&mut retention, &trashed(30), &[]), [(Step::Purge, None)]);
    }
}
