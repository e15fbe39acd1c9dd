//! Who calls.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// Longest name of a user, a role or a session, in characters.
const LONGEST: usize = 256;

/// On whose behalf something is done. The audit log has pseudonyms of user, session and address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    pub user: String,
    #[serde(default)]
    pub roles: Vec<String>,
    /// Of a web application or the like.
    #[serde(default)]
    pub session: Option<String>,
    /// Where the request came from, such as an IP address.
    #[serde(default)]
    pub address: Option<String>,
}

impl Actor {
    pub fn new(user: impl Into<String>) -> Self {
        Actor { user: user.into(), roles: Vec::new(), session: None, address: None }
    }

    /// # Errors
    /// `InvalidRequest` when it names nobody, or in characters that nobody's name has.
    pub fn check(&self) -> Result<()> {
        let texts = [&self.user].into_iter().chain(&self.roles).chain(&self.session).chain(&self.address);
        let is_odd = |text: &String| {
            text.trim().is_empty() || text.chars().count() > LONGEST || text.chars().any(char::is_control)
        };
        match texts.into_iter().any(is_odd) {
            false => Ok(()),
            true => Err(Error::new(
                ErrorKind::InvalidRequest,
                "who calls is named by an empty, endless or unprintable text",
            )
            .with_hint(format!("user, roles, session and address have 1 to {LONGEST} characters each"))),
        }
    }
}
