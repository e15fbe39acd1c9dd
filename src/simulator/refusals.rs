//! Every way to say no, as the platforms say it (platform_api.md §4).

use serde_json::{Value, json};

use super::profile::Profile;

/// An answer that is an error.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub status: u16,
    pub body: Body,
    pub headers: Vec<(&'static str, String)>,
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    Json(Value),
    Html(String),
}

impl Refusal {
    pub(super) fn json(status: u16, body: Value) -> Self {
        Refusal { status, body: Body::Json(body), headers: Vec::new() }
    }

    pub(super) fn html(status: u16, title: &str) -> Self {
        let page = format!(
            "<html>\r\n<head><title>{status} {title}</title></head>\r\n<body><center><h1>{status} {title}</h1></center></body>\r\n</html>\r\n"
        );
        Refusal { status, body: Body::Html(page), headers: Vec::new() }
    }
}

// ===== Moonshot =====

/// (type, status, message), §4A.
const MOONSHOT: &[(&str, u16, &str)] = &[
    ("content_filter", 400, "The request was rejected because it was considered high risk"),
    ("invalid_request_error", 400, "Invalid request: the request is malformed"),
    ("invalid_authentication_error", 401, "Invalid Authentication"),
    ("incorrect_api_key_error", 401, "Incorrect API key provided"),
    ("permission_denied_error", 403, "The API you are accessing is not open"),
    ("resource_not_found_error", 404, "Not found the file or Permission denied"),
    ("engine_overloaded_error", 429, "The engine is currently overloaded, please try again later"),
    (
        "exceeded_current_quota_error",
        429,
        "Your account org-simulated<ak-simulated> is suspended, please check your plan and billing details",
    ),
    (
        "rate_limit_reached_error",
        429,
        "Your account org-simulated<ak-simulated> request reached organization max RPM: 3, please try again after 1 seconds",
    ),
    ("client_closed_request", 499, "client closed request"),
    ("server_error", 500, "Failed to extract file: internal error"),
    ("unexpected_output", 500, "invalid state transition"),
    ("", 500, "extract task failed: failed"),
    ("server_unavailable", 503, "The server is temporarily unavailable"),
];

pub(super) fn moonshot(status: u16, kind: &str, message: &str) -> Refusal {
    Refusal::json(status, json!({"error": {"message": message, "type": kind}}))
}

pub(super) fn moonshot_type(kind: &str) -> Refusal {
    let (kind, status, message) = MOONSHOT.iter().find(|row| row.0 == kind).unwrap_or(&MOONSHOT[1]);
    let mut refusal = moonshot(*status, kind, message);
    if *status == 429 {
        refusal.headers = moonshot_429_headers();
    }
    refusal
}

pub(super) fn moonshot_invalid(message: &str) -> Refusal {
    moonshot(400, "invalid_request_error", message)
}

/// What a real 429 carries: no Retry-After, no X-RateLimit-* (capture of 2026-03-17).
fn moonshot_429_headers() -> Vec<(&'static str, String)> {
    [
        ("msh-gid", "enterprise-tier-3"),
        ("msh-org-id", "org-simulated"),
        ("msh-project-id", "proj-simulated"),
        ("msh-request-id", "5f0c1a52-0000-4000-a000-000000000429"),
        ("msh-trace-mode", "on"),
        ("msh-uid", "simulated"),
        ("vary", "Origin"),
        ("x-msh-trace-id", "00000000000000000000000000000429"),
        ("server", "cloudflare"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into()
}

// ===== Z.ai and Zhipu =====

/// (code, status, English, Chinese), §4B.3. Statuses that no source gives are 400.
const ZAI: &[(&str, u16, &str, &str)] = &[
    ("401", 401, "token expired or incorrect", "令牌已过期或验证不正确"),
    ("500", 500, "Internal error", "内部错误"),
    ("1000", 401, "Authentication Failed", "身份验证失败。"),
    ("1001", 401, "Authorization header was not received", "Header中未收到Authorization参数，无法进行身份验证。"),
    ("1002", 401, "Invalid token", "Authorization Token非法，请确认Authorization Token正确传递。"),
    ("1003", 401, "Token expired", "Authorization Token已过期，请重新生成/获取。"),
    ("1004", 401, "Token verification failed", "通过提供的Authorization Token验证失败"),
    ("1005", 401, "Re-authentication required", "需要重新认证"),
    ("1100", 400, "Account read or write error", "账户读写"),
    ("1110", 400, "Account inactive", "您的账户当前处于非活动状态。请检查账户信息"),
    ("1111", 400, "Account does not exist", "您的账户不存在"),
    ("1112", 400, "Account locked", "您的账户已被锁定，请联系客服解锁"),
    ("1113", 429, "Insufficient balance or no resource package. Please recharge.", "余额不足或无可用资源包,请充值。"),
    ("1120", 400, "Account temporarily inaccessible, please retry later", "无法成功访问您的账户，请稍后重试"),
    ("1121", 400, "Account locked for violations", "您的账户因违规被锁定"),
    ("1200", 500, "API call failed", "接口调用失败"),
    ("1210", 400, "Invalid API parameters", "API 调用参数有误，请检查文档。"),
    ("1211", 400, "Model does not exist", "模型不存在，请检查模型代码。"),
    ("1212", 400, "Method not supported for this model", "当前模型不支持该调用方式"),
    ("1213", 400, "A required parameter was not received", "未正常接收到必要参数。"),
    ("1214", 400, "Invalid parameter", "参数非法。请检查文档。"),
    ("1215", 400, "Parameters exclude each other", "参数不能同时设置，请检查文档。"),
    ("1220", 403, "You do not have permission to access this API", "您无权访问该 API。"),
    ("1221", 400, "API is offline", "API 已下线。"),
    ("1222", 400, "API does not exist", "API 不存在。"),
    ("1230", 500, "API call process error", "API 调用流程出错。"),
    ("1231", 400, "Duplicate request_id", "您已有请求"),
    ("1234", 500, "Network error, please contact customer service", "网络错误"),
    ("1261", 400, "Prompt exceeds max length", "Prompt 超长。"),
    ("1300", 400, "Blocked by policy", "API 调用被策略阻止。"),
    ("1301", 400, "Sensitive content detected", "系统检测到输入或生成内容可能包含不安全或敏感内容"),
    ("1302", 429, "Rate limit reached for requests", "您的账户已达到速率限制，请您控制请求频率"),
    ("1303", 429, "Request frequency too high", "您当前使用该API的频率过高，请降低频率"),
    ("1304", 429, "Daily call limit reached", "该API已达今日调用次数限额"),
    ("1305", 429, "The service may be temporarily overloaded", "该模型当前访问量过大，请您稍后再试"),
    (
        "1308",
        429,
        "Usage limit reached for 5 hour. Your limit will reset at {reset}",
        "已达到 5 小时的使用上限。您的限额将在 {reset} 重置。",
    ),
    ("1309", 429, "Your GLM Coding Plan package has expired", "您的 GLM Coding Plan 套餐已到期"),
    (
        "1310",
        429,
        "Weekly limit reached. Your limit will reset at {reset}",
        "已达到每周使用上限，您的限额将在 {reset} 重置。",
    ),
    ("1311", 429, "The model is not in your plan", "当前订阅套餐暂未开放该模型权限"),
    ("1312", 429, "The model is very busy", "该模型当前访问量过大"),
    ("1313", 429, "Fair use limit", "您的账户触发公平使用策略"),
    ("1314", 429, "Enterprise plan expired", "企业套餐已到期"),
    ("1315", 429, "The key is only valid for the enterprise coding plan", "该 API Key 仅限企业套餐使用"),
    ("1316", 429, "5 hour cap reached and no balance", "已达到 5 小时的使用上限且余额不足"),
    ("1317", 429, "7 day cap reached and no balance", "已达到 7 天的使用上限且余额不足"),
    ("1318", 429, "Sub-account 5 hour cap reached", "子账户已达到 5 小时的使用上限"),
    ("1319", 429, "Sub-account 7 day cap reached", "子账户已达到 7 天的使用上限"),
    ("1320", 429, "Enterprise spend limit reached", "企业消费已达上限"),
    ("1321", 429, "Sub-account spend limit reached", "子账户消费已达上限"),
];

/// Where a 1308 says its window resets, in Beijing time.
const RESET: &str = "2026-11-24 03:00:00";

/// A business error in Chinese (Zhipu's default) or English (Z.ai's).
pub(super) fn code(profile: Profile, code: &str) -> Refusal {
    in_language(code, profile != Profile::ZhipuCn)
}

pub(super) fn in_language(code: &str, english: bool) -> Refusal {
    let (code, status, en, zh) = ZAI.iter().find(|row| row.0 == code).unwrap_or(&ZAI[1]);
    let message = if english { en } else { zh }.replace("{reset}", RESET);
    Refusal::json(*status, json!({"error": {"code": code, "message": message}}))
}

/// The codes of the table, for tests that walk all of them.
pub(super) fn is_code(code: &str) -> bool {
    ZAI.iter().any(|row| row.0 == code)
}

pub(super) fn is_type(kind: &str) -> bool {
    MOONSHOT.iter().any(|row| row.0 == kind)
}

pub(super) fn zai_invalid(message: &str) -> Refusal {
    Refusal::json(400, json!({"error": {"code": "1214", "message": message}}))
}

/// The body shapes of §4B.2, by their number there.
pub(super) fn shape(number: u8, path: &str) -> Option<Refusal> {
    let shape1 = json!({"error": {"code": "1214", "message": "parameter illegal"}});
    Some(match number {
        1 => Refusal::json(400, shape1),
        2 => Refusal::json(400, json!({"error": shape1["error"], "request_id": "2026041314372115099c8b3a024339"})),
        3 => Refusal::json(400, json!({"code": 1214, "message": "parameter illegal"})),
        4 => unknown_route(),
        5 => Refusal::json(200, json!({"code": 401, "msg": "令牌已过期或验证不正确", "success": false})),
        6 => Refusal::json(
            404,
            json!({"timestamp": 1_700_000_000_000u64, "status": 404, "error": "Not Found", "path": path}),
        ),
        7 => Refusal::json(
            200,
            json!({"data": null, "code": 10_001, "message": "knowledge base error", "timestamp": 1_700_000_000_000u64}),
        ),
        8 => Refusal::json(200, json!({"success": false, "message": "parse failed"})),
        9 => Refusal::json(
            429,
            json!({"error": {"message": format!("[1308][Usage limit reached. Your limit will reset at {RESET}][20261123trace]")}}),
        ),
        10 => Refusal::html(405, "Not Allowed"),
        11 => Refusal::json(
            200,
            json!({"error": {"code": "1305", "message": "The service may be temporarily overloaded"}}),
        ),
        _ => return None,
    })
}

/// HTTP 200 with an error inside: what an unknown route, and metadata of a file, get on Z.ai.
pub(super) fn unknown_route() -> Refusal {
    Refusal::json(200, json!({"code": 500, "msg": "404 NOT_FOUND", "success": false}))
}

/// 429 for going too fast. Only Moonshot says for how long, and only in words.
pub(super) fn too_fast(profile: Profile, limit: &str, wait: f64, english: bool) -> Refusal {
    if profile.speaks_zai() {
        return in_language("1302", english);
    }
    let message = format!(
        "Your account org-simulated<ak-simulated> request reached organization {limit}, please try again after {} seconds",
        wait.ceil().max(1.0)
    );
    Refusal { headers: moonshot_429_headers(), ..moonshot(429, "rate_limit_reached_error", &message) }
}
