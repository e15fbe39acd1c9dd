//! What a platform lists against what the registry says it holds. Nothing here asks or changes anything.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde::Serialize;

use crate::clock::Timestamp;
use crate::model::{AccountId, Digest, FileObject, PlatformId, RemoteStatus, Replica, ReplicaStatus};
use crate::registry::{Expected, Holding};

/// How the two sides of one file compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Sign {
    #[serde(rename = "=")]
    Equal,
    #[serde(rename = "+")]
    OnlyRemote,
    #[serde(rename = "-")]
    OnlyLocal,
    #[serde(rename = "*")]
    Differs,
    /// It is there and cannot be used.
    #[serde(rename = "!")]
    Unreadable,
}

/// One file of an account, on one side or both.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    pub sign: Sign,
    pub platform: PlatformId,
    pub account: AccountId,
    pub remote_id: String,
    pub name: String,
    /// Bytes, as the platform says; else as we know.
    pub size: Option<u64>,
    pub digest: Option<Digest>,
    /// What differs, or what else is known, for people.
    pub why: Vec<String>,
    /// The platform's description.
    pub remote: Option<FileObject>,
    /// Our replica.
    pub local: Option<Replica>,
    /// When its row was last written: whoever acts on this must find it so.
    #[serde(skip)]
    pub changed_at: Option<Timestamp>,
    /// Whether what the platform has cannot be what we mean.
    #[serde(skip)]
    pub has_other_content: bool,
}

/// A deletion that was begun so long ago was cut short.
const CUT_SHORT: Duration = Duration::from_secs(600);

/// The two sides. The listing was begun at `asked_at`; holdings and expected files were read after it had ended.
#[derive(Debug)]
pub(super) struct Sides {
    pub platform: PlatformId,
    pub account: AccountId,
    pub asked_at: Timestamp,
    pub listed: Vec<FileObject>,
    pub held: Vec<Holding>,
    pub expected: Vec<Expected>,
}

impl Sides {
    /// Every file once: those that the platform lists in its order, then those that it does not.
    pub(super) fn compare(&self) -> Vec<Difference> {
        let held: HashMap<&str, &Holding> =
            self.held.iter().map(|held| (held.replica.remote_id.as_str(), held)).collect();
        let mut seen = HashSet::new();
        let mut differences = Vec::new();
        for object in self.listed.iter().filter(|object| seen.insert(object.id.as_str())) {
            match held.get(object.id.as_str()) {
                Some(held) => differences.extend(self.known(object, held)),
                None => differences.extend(self.unexplained(object)),
            }
        }
        let missing = self.held.iter().filter(|held| !seen.contains(held.replica.remote_id.as_str()));
        differences.extend(missing.filter_map(|held| self.missing(held)));
        differences
    }

    fn known(&self, object: &FileObject, held: &Holding) -> Option<Difference> {
        // What was written after the listing had begun may be newer than the listing.
        if held.changed_at >= self.asked_at {
            return None;
        }
        let (sign, why) = match (held.replica.status, &object.status) {
            // Its deletion is under way, here or there.
            (ReplicaStatus::Deleting, _) if !self.was_cut_short(held) => return None,
            (ReplicaStatus::Deleting | ReplicaStatus::Deleted, RemoteStatus::Deleted) => return None,
            (ReplicaStatus::Deleting, _) => {
                (Sign::OnlyRemote, vec![format!("its deletion was begun at {}", held.changed_at)])
            }
            (ReplicaStatus::Deleted | ReplicaStatus::Error, _) => {
                (Sign::OnlyRemote, vec![format!("noted here as {}", held.replica.status.as_str())])
            }
            // Upkeep removes it when nobody needs it any more.
            (ReplicaStatus::Retired, _) => return None,
            (ReplicaStatus::Active, RemoteStatus::Deleted) => (Sign::OnlyLocal, vec!["deleted there".to_owned()]),
            (ReplicaStatus::Active, RemoteStatus::Failed) => {
                let said = object.status_details.as_deref().unwrap_or("it could not be processed");
                (Sign::Unreadable, vec![said.to_owned()])
            }
            (ReplicaStatus::Active, _) => match deviations(object, held) {
                why if why.is_empty() => (Sign::Equal, why),
                why => (Sign::Differs, why),
            },
        };
        Some(self.difference(sign, Some(object), Some(held), why))
    }

    fn unexplained(&self, object: &FileObject) -> Option<Difference> {
        let is_expected = |expected: &Expected| {
            object.name.as_deref().is_some_and(|name| crate::manager::is_name_of(name, &expected.remote_name))
                && object.size.is_none_or(|size| size == expected.size)
        };
        if object.status == RemoteStatus::Deleted || self.expected.iter().any(is_expected) {
            return None;
        }
        Some(self.difference(Sign::OnlyRemote, Some(object), None, Vec::new()))
    }

    fn missing(&self, held: &Holding) -> Option<Difference> {
        let replica = &held.replica;
        let is_held = match replica.status {
            ReplicaStatus::Active | ReplicaStatus::Retired => true,
            ReplicaStatus::Deleting => self.was_cut_short(held),
            ReplicaStatus::Deleted | ReplicaStatus::Error => false,
        };
        if !is_held || held.changed_at >= self.asked_at {
            return None;
        }
        let why = match replica.expires_at.filter(|at| *at <= self.asked_at) {
            Some(at) => vec![format!("it expired at {at}")],
            None => Vec::new(),
        };
        Some(self.difference(Sign::OnlyLocal, None, Some(held), why))
    }

    fn was_cut_short(&self, held: &Holding) -> bool {
        self.asked_at.since(held.changed_at) > CUT_SHORT
    }

    fn difference(
        &self,
        sign: Sign,
        object: Option<&FileObject>,
        held: Option<&Holding>,
        why: Vec<String>,
    ) -> Difference {
        let replica = held.map(|held| &held.replica);
        let id = object.map(|object| &object.id).or(replica.map(|replica| &replica.remote_id));
        let name = object.and_then(|object| object.name.as_ref()).or(replica.map(|replica| &replica.remote_name));
        Difference {
            sign,
            platform: self.platform.clone(),
            account: self.account.clone(),
            remote_id: id.cloned().unwrap_or_default(),
            name: name.cloned().unwrap_or_default(),
            size: object.and_then(|object| object.size).or(held.and_then(|held| held.size)),
            digest: held.and_then(|held| held.digest),
            why,
            remote: object.cloned(),
            local: replica.cloned(),
            changed_at: held.map(|held| held.changed_at),
            has_other_content: sign == Sign::Unreadable || sizes(object, held).is_some(),
        }
    }
}

/// Bytes there and here, where they are not the same.
fn sizes(object: Option<&FileObject>, held: Option<&Holding>) -> Option<(u64, u64)> {
    let sizes = object.and_then(|object| object.size).zip(held.and_then(|held| held.size));
    sizes.filter(|(there, here)| there != here)
}

/// What the platform says otherwise than we; what it does not say agrees.
fn deviations(object: &FileObject, held: &Holding) -> Vec<String> {
    let replica = &held.replica;
    let mut why = Vec::new();
    if let Some((there, here)) = sizes(Some(object), Some(held)) {
        why.push(format!("{here} bytes here, {there} there"));
    }
    if let Some(there) =
        object.name.as_ref().filter(|name| !replica.remote_name.is_empty() && **name != replica.remote_name)
    {
        why.push(format!("named {:?} here, {there:?} there", replica.remote_name));
    }
    match &object.purpose {
        Some(there) if replica.purpose.as_str().is_empty() => why.push(format!("for {there} there, not known here")),
        Some(there) if *there != replica.purpose => {
            why.push(format!("for {} here, for {there} there", replica.purpose))
        }
        _ => {}
    }
    if let Some(there) = object.expires_at.filter(|at| Some(*at) != replica.expires_at) {
        let here = replica.expires_at.map_or("never".to_owned(), |at| at.to_string());
        why.push(format!("expires {here} here, {there} there"));
    }
    why
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::model::{ContentKind, Origin, Purpose};

    const ASKED: Timestamp = Timestamp(1_000_000_000_000);

    fn object(id: &str, status: RemoteStatus) -> FileObject {
        FileObject {
            id: id.to_owned(),
            size: Some(5),
            created_at: None,
            name: Some("a.txt".to_owned()),
            purpose: Some(Purpose::new("file-extract")),
            status,
            status_details: None,
            mime: None,
            expires_at: None,
            raw: serde_json::Value::Null,
        }
    }

    fn holding(id: &str, status: ReplicaStatus, changed_at: i64) -> Holding {
        let replica = Replica {
            platform: PlatformId::new("moonshot").unwrap(),
            account: AccountId::default(),
            purpose: Purpose::new("file-extract"),
            remote_id: id.to_owned(),
            remote_name: "a.txt".to_owned(),
            status,
            content: ContentKind::Opaque,
            created_at: Timestamp(1),
            verified_at: Timestamp(1),
            expires_at: None,
            used_at: None,
            origin: Origin::AlreadyThere,
        };
        Holding { replica, digest: None, size: Some(5), changed_at: Timestamp(changed_at) }
    }

    /// The one difference's sign, if there is one.
    fn sign(
        listed: Option<RemoteStatus>,
        held: Option<(ReplicaStatus, i64)>,
        expected: &[(&str, u64)],
    ) -> Option<Sign> {
        let sides = Sides {
            platform: PlatformId::new("moonshot").unwrap(),
            account: AccountId::default(),
            asked_at: ASKED,
            listed: listed.map(|status| object("f", status)).into_iter().collect(),
            held: held.map(|(status, at)| holding("f", status, at)).into_iter().collect(),
            expected: expected
                .iter()
                .map(|(name, size)| Expected { remote_name: (*name).to_owned(), size: *size })
                .collect(),
        };
        let differences = sides.compare();
        assert!(differences.len() <= 1);
        differences.first().map(|difference| difference.sign)
    }

    #[test]
    fn every_state_of_both_sides_has_its_sign() {
        use RemoteStatus::{Failed, Pending, Ready, Unstated};
        use ReplicaStatus::{Active, Deleted, Deleting, Error};
        for (listed, held, expected) in [
            (Some(Ready), Some(Active), Some(Sign::Equal)),
            (Some(Unstated), Some(Active), Some(Sign::Equal)),
            (Some(Pending), Some(Active), Some(Sign::Equal)),
            (Some(Failed), Some(Active), Some(Sign::Unreadable)),
            (Some(RemoteStatus::Deleted), Some(Active), Some(Sign::OnlyLocal)),
            (Some(RemoteStatus::Deleted), Some(Deleted), None),
            (Some(RemoteStatus::Deleted), None, None),
            (Some(Ready), Some(Deleting), None),
            (Some(Ready), Some(Deleted), Some(Sign::OnlyRemote)),
            (Some(Ready), Some(Error), Some(Sign::OnlyRemote)),
            (Some(Ready), None, Some(Sign::OnlyRemote)),
            (Some(Failed), None, Some(Sign::OnlyRemote)),
            (None, Some(Active), Some(Sign::OnlyLocal)),
            (None, Some(Deleting), None),
            (None, Some(Deleted), None),
        ] {
            let held_before = held.map(|status| (status, ASKED.0 - 1));
            assert_eq!(sign(listed.clone(), held_before, &[]), expected, "{listed:?} there, {held:?} here");
            if held.is_some() {
                let held_after = held.map(|status| (status, ASKED.0));
                assert_eq!(sign(listed, held_after, &[]), None, "written since the listing was begun: not judged");
            }
        }
    }

    #[test]
    fn a_deletion_that_was_cut_short_comes_to_light() {
        let long_ago = Some((ReplicaStatus::Deleting, 1));
        assert_eq!(sign(Some(RemoteStatus::Ready), long_ago, &[]), Some(Sign::OnlyRemote));
        assert_eq!(sign(None, long_ago, &[]), Some(Sign::OnlyLocal));
        assert_eq!(sign(Some(RemoteStatus::Deleted), long_ago, &[]), None);
    }

    #[test]
    fn what_is_on_its_way_is_no_orphan() {
        for (name, size, expected) in
            [("a.txt", 5, None), ("a.txt", 6, Some(Sign::OnlyRemote)), ("b.txt", 5, Some(Sign::OnlyRemote))]
        {
            assert_eq!(sign(Some(RemoteStatus::Ready), None, &[(name, size)]), expected);
        }
    }
}
