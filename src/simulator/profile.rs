//! The three platforms that are simulated.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Profile {
    Moonshot,
    /// Z.ai, international.
    Zai,
    /// Zhipu, open.bigmodel.cn.
    ZhipuCn,
}

impl Profile {
    pub(super) const ALL: [Profile; 3] = [Profile::Moonshot, Profile::Zai, Profile::ZhipuCn];

    pub(super) fn name(self) -> &'static str {
        match self {
            Profile::Moonshot => "moonshot",
            Profile::Zai => "zai",
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
            Profile::ZhipuCn => "/zhipu_cn/api/paas/v4",
        }
    }

    /// The profile a path belongs to, and the rest of the path.
    pub(super) fn of_path(path: &str) -> Option<(Profile, &str)> {
        let under = |profile: Profile| {
            let rest = path.strip_prefix(profile.base_path())?;
            (rest.is_empty() || rest.starts_with('/')).then_some((profile, rest))
        };
        Profile::ALL.into_iter().find_map(under)
    }

    /// Keys that are always known, so that JWTs made from them can be checked.
    pub(super) fn default_key(self) -> &'static str {
        match self {
            Profile::Moonshot => "sk-simulator",
            Profile::Zai => "simulator.zai-secret",
            Profile::ZhipuCn => "simulator.zhipu-secret",
        }
    }

    pub(super) fn speaks_zai(self) -> bool {
        self != Profile::Moonshot
    }
}
