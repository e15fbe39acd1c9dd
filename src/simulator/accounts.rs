//! Who is asking: API keys, and Zhipu's JWTs made from them (platform_api.md §3).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::hmac;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::clock::Micros;
use super::profile::Profile;
use super::refusals::{self, Refusal};
use super::settings::Settings;

/// The account behind an `Authorization` header; every key is an account of its own.
pub(super) fn authenticate(
    profile: Profile,
    settings: &Settings,
    known: &mut Vec<String>,
    header: Option<&str>,
    now: Micros,
) -> Result<String, Refusal> {
    let missing = || {
        if profile.speaks_zai() {
            refusals::code(profile, "1001")
        } else {
            refusals::moonshot_type("invalid_authentication_error")
        }
    };
    let token = header.and_then(|header| header.strip_prefix("Bearer ")).ok_or_else(missing)?.trim();
    let key = match profile {
        Profile::Moonshot if token.starts_with("sk-") && token.len() > 3 => token.to_owned(),
        Profile::Moonshot | Profile::KimiCode => return Err(refusals::moonshot_type("incorrect_api_key_error")),
        _ if token.matches('.').count() == 2 => key_of_jwt(profile, settings, known, token, now)?,
        _ if token.split('.').filter(|part| !part.is_empty()).count() == 2 => token.to_owned(),
        _ => return Err(refusals::code(profile, "401")),
    };
    if settings.keys.as_ref().is_some_and(|keys| !keys.contains(&key)) {
        return Err(match profile {
            Profile::Moonshot | Profile::KimiCode => refusals::moonshot_type("incorrect_api_key_error"),
            _ => refusals::code(profile, "1000"),
        });
    }
    if profile.speaks_zai() && !known.contains(&key) {
        known.push(key.clone());
    }
    Ok(account(&key))
}

/// A key's name in logs: eight characters of its digest.
pub(super) fn account(key: &str) -> String {
    Sha256::digest(key)[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key_of_jwt(
    profile: Profile,
    settings: &Settings,
    known: &[String],
    token: &str,
    now: Micros,
) -> Result<String, Refusal> {
    let bad = || refusals::code(profile, "1000");
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { return Err(bad()) };
    let json = |part: &str| serde_json::from_slice::<Value>(&BASE64.decode(part).ok()?).ok();
    let (header_json, claims) = (json(header).ok_or_else(bad)?, json(payload).ok_or_else(bad)?);
    if header_json["alg"] != "HS256" || header_json["sign_type"] != "SIGN" {
        return Err(bad());
    }
    let id = claims["api_key"].as_str().ok_or_else(bad)?;
    let keys = settings
        .keys
        .iter()
        .flatten()
        .map(String::as_str)
        .chain(known.iter().map(String::as_str))
        .chain([profile.default_key()]);
    let key = keys.into_iter().find(|key| key.split('.').next() == Some(id)).ok_or_else(bad)?.to_owned();
    let secret = key.split_once('.').map_or("", |(_, secret)| secret);
    let signed = format!("{header}.{payload}");
    let signature = BASE64.decode(signature).map_err(|_| bad())?;
    let verifying = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hmac::verify(&verifying, signed.as_bytes(), &signature).map_err(|_| bad())?;
    // Milliseconds, unlike RFC 7519.
    match claims["exp"].as_i64() {
        Some(exp) if exp > now / 1_000 => Ok(key),
        _ => Err(refusals::code(profile, "1003")),
    }
}
