//! What each user has on the platforms, and whether there is room for more of it.

use std::time::Duration;

use serde::Serialize;

use super::Registry;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::model::Digest;
use crate::policy::quota::Amount;
use crate::policy::user_quota::UserLimits;
use crate::store::{Session, bind};

/// How long a file counts that was admitted and is nowhere yet; an upload that takes longer counts by its claim.
const ADMISSION: Duration = Duration::from_secs(600);

/// What a user has and may have.
#[derive(Clone, Debug, Serialize)]
pub struct UserUsage {
    pub user: String,
    pub files: u64,
    pub bytes: u64,
    #[serde(flatten)]
    pub limits: UserLimits,
}

impl Registry {
    /// Lets a user have one more content on the platforms, or not: nobody else's request of theirs comes between. A
    /// content that is theirs already is admitted always.
    ///
    /// # Errors
    /// `TooLarge`; `QuotaExceeded`; `Registry`, and then nothing is admitted.
    pub async fn admit(&self, user: &str, digest: &Digest, size: u64, limits: UserLimits) -> Result<()> {
        let (user, digest, now) = (user.to_owned(), digest.hex(), self.now());
        self.write("admit", move |session| {
            session.lock(&format!("exai_files user {user}"))?;
            if !has(session, &user, &digest, now)? {
                limits.admit(&user, held(session, &user, now)?, size)?;
            }
            let sql = "INSERT INTO user_files (user_id, file_hash, file_size, admitted_until) VALUES (?1, ?2, ?3, ?4)
                       ON CONFLICT (user_id, file_hash) DO UPDATE SET admitted_until = excluded.admitted_until";
            session.execute(sql, bind![&user, &digest, size, now.plus(ADMISSION)]).map(drop)
        })
        .await
    }

    /// An admitted content is where it should be, or nowhere: from now on it counts by where it is.
    ///
    /// # Errors
    /// `Registry`; then it counts for up to ten minutes more.
    pub async fn end_admission(&self, user: &str, digest: &Digest) -> Result<()> {
        let (user, digest, now) = (user.to_owned(), digest.hex(), self.now());
        self.write("end-admission", move |session| {
            let sql = "UPDATE user_files SET admitted_until = ?3 WHERE user_id = ?1 AND file_hash = ?2";
            session.execute(sql, bind![&user, &digest, now]).map(drop)
        })
        .await
    }

    /// What a user has.
    pub async fn usage_of(&self, user: &str, limits: UserLimits) -> Result<UserUsage> {
        let (user, now) = (user.to_owned(), self.now());
        self.store
            .read(move |session| {
                let Amount { files, bytes } = held(session, &user, now)?;
                Ok(UserUsage { user, files, bytes, limits })
            })
            .await
    }
}

/// Contents that count: on a platform, on their way to one, or just admitted.
const COUNTS: &str = "(u.admitted_until > ?2
    OR EXISTS (SELECT 1 FROM platform_file_registry r WHERE r.file_hash = u.file_hash AND r.status = 'active')
    OR EXISTS (SELECT 1 FROM upload_intents i WHERE i.file_hash = u.file_hash AND i.state = 'sending'))";

fn held(session: &mut Session<'_>, user: &str, now: Timestamp) -> Result<Amount> {
    let sql = format!(
        "SELECT COUNT(*), CAST(COALESCE(SUM(u.file_size), 0) AS BIGINT) FROM user_files u WHERE u.user_id = ?1 AND {COUNTS}"
    );
    let row = session.one(&sql, bind![user, now])?;
    Ok(Amount { files: row.get(0)?, bytes: row.get(1)? })
}

fn has(session: &mut Session<'_>, user: &str, digest: &str, now: Timestamp) -> Result<bool> {
    let sql = format!("SELECT 1 FROM user_files u WHERE u.user_id = ?1 AND u.file_hash = ?3 AND {COUNTS}");
    Ok(session.row(&sql, bind![user, now, digest])?.is_some())
}
