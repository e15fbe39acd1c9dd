//! The platforms that are simulated.

use serde::{Deserialize, Serialize};

/// Where Kimi Code's users log in.
pub(super) const OAUTH_PATH: &str = "/kimi_code";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Profile {
    Moonshot,
    /// Z.ai, international.
    Zai,
    /// api.kimi.com/coding/v1: Moonshot's API, for those who have logged in.
    KimiCode,
    /// Zhipu, open.bigmodel.cn.
    ZhipuCn,
}

impl Profile {
    pub(super) const ALL: [Profile; 4] = [Profile::Moonshot, Profile::Zai, Profile::KimiCode, Profile::ZhipuCn];

    pub(super) fn name(self) -> &'static str {
        match self {
            Profile::Moonshot => "moonshot",
            Profile::Zai => "zai",
            Profile::KimiCode => "kimi_code",
            Profile::ZhipuCn => "zhipu_cn",
        }
    }

    pub(super) fn named(name: &str) -> Option<Profile> {
        Profile::ALL.into_iter().find(|profile| profile.name() == name)
    }

    pub(super) fn base_path(self) -> &'static str {
        match self {
            Profile::Moonshot => "/moonshot/v1",
            Profile::Zai => "/zai/api/paas/v4",
            Profile::KimiCode => "/kimi_code/coding/v1",
            Profile::ZhipuCn => "/zhipu_cn/api/paas/v4",
        }
    }

    /// The profile a path belongs to, and the rest of the path.
    pub(super) fn of_path(path: &str) -> Option<(Profile, &str)> {
        let under = |profile: Profile| {
            let rest = path.strip_prefix(profile.base_path())?;
            (rest.is_empty() || rest.starts_with('/')).then_some((profile, rest))
        };
        let login =
            || Some((Profile::KimiCode, path.strip_prefix(OAUTH_PATH).filter(|rest| rest.starts_with("/api/"))?));
        Profile::ALL.into_iter().find_map(under).or_else(login)
    }

    /// Whose rules its files follow.
    pub(super) fn rules(self) -> Profile {
        if self == Profile::KimiCode { Profile::Moonshot } else { self }
    }

    /// Keys that are always known, so that JWTs made from them can be checked.
    pub(super) fn default_key(self) -> &'static str {
        match self {
            Profile::Moonshot => "sk-simulator",
            Profile::Zai => "simulator.zai-secret",
            Profile::KimiCode => super::oauth::USER,
            Profile::ZhipuCn => "simulator.zhipu-secret",
        }
    }

    pub(super) fn speaks_zai(self) -> bool {
        self.rules() != Profile::Moonshot
    }
}
