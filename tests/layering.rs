//! The dependency rule of the architecture, as data: each module and what it may use. Fails with the offending line.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

/// (module, modules of ours it may name). Adding a row, or a word to one, is a design decision.
const RULES: &[(&str, &[&str])] = &[
    // layer 0: words
    ("clock", &[]),
    ("error", &["model"]),
    ("model", &["clock", "error"]),
    ("metrics", &[]),
    ("draft", &[]),
    ("failpoint", &["error"]),
    // layer 1: parts, never each other
    ("content", &["clock", "error", "model"]),
    ("transport", &["clock", "error", "model"]),
    ("store", &["clock", "error", "model"]),
    // pure decisions
    ("policy", &["clock", "error", "model"]),
    ("blobs", &["clock", "error", "failpoint", "model"]),
    // layer 1½
    ("resilience", &["clock", "error", "metrics", "model", "store"]),
    ("credentials", &["clock", "draft", "error", "failpoint", "model", "transport", "store"]),
    // layer 2: sources of truth, never each other
    ("platform", &["clock", "error", "failpoint", "model", "content", "transport", "resilience", "credentials"]),
    // below the registry: what is changed is noted in the same transaction
    ("audit", &["clock", "draft", "error", "failpoint", "model", "store"]),
    ("registry", &["audit", "clock", "error", "failpoint", "model", "policy", "store"]),
    // layer 3: jobs
    (
        "manager",
        &[
            "audit",
            "blobs",
            "clock",
            "draft",
            "error",
            "failpoint",
            "metrics",
            "model",
            "content",
            "transport",
            "store",
            "resilience",
            "credentials",
            "platform",
            "policy",
            "registry",
        ],
    ),
    // layer 4: time
    (
        "upkeep",
        &[
            "audit",
            "blobs",
            "clock",
            "content",
            "error",
            "metrics",
            "model",
            "platform",
            "policy",
            "registry",
            "resilience",
            "manager",
            "transport",
        ],
    ),
    // edges
    ("config", &["clock", "credentials", "error", "model", "policy"]),
    ("auth", &["audit", "clock", "config", "credentials", "error", "model", "policy", "registry", "store"]),
    (
        "connect",
        &[
            "audit",
            "auth",
            "blobs",
            "clock",
            "config",
            "content",
            "credentials",
            "error",
            "manager",
            "model",
            "platform",
            "registry",
            "resilience",
            "store",
            "transport",
        ],
    ),
    ("simulator", &[]),
    (
        "python",
        &[
            "audit",
            "auth",
            "clock",
            "config",
            "connect",
            "content",
            "credentials",
            "error",
            "manager",
            "metrics",
            "model",
            "policy",
            "registry",
            "resilience",
            "simulator",
            "store",
            "transport",
            "upkeep",
        ],
    ),
];

/// Crates that belong to one module alone.
const OWNED: &[(&str, &[&str])] = &[
    ("pyo3", &["python"]),
    ("reqwest", &["transport", "platform"]),
    ("rusqlite", &["store"]),
    ("tokio_postgres", &["store"]),
    ("hyper", &["simulator"]),
    ("redis", &["resilience"]),
    ("object_store", &["blobs"]),
    ("prometheus_client", &["metrics"]),
];

fn sources() -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    walk(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut found);
    assert!(found.len() > 40, "the sources were not found");
    found
}

/// (module, path, text) of every source file below `src`.
fn walk(directory: &Path, found: &mut Vec<(String, String, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap();
            let module = relative.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
            found.push((module.to_owned(), path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

/// Modules named as `crate::name` in one line of code.
fn named(line: &str) -> Vec<&str> {
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices("crate::")
        .map(|(at, prefix)| {
            let rest = &code[at + prefix.len()..];
            &rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())]
        })
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn imports_point_down() {
    let mut offences = Vec::new();
    for (module, path, text) in sources() {
        if module == "lib" {
            continue;
        }
        let Some((_, allowed)) = RULES.iter().find(|(name, _)| *name == module) else {
            offences.push(format!("{path}: module {module:?} has no row in the table"));
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            for name in named(line) {
                if name != module && !allowed.contains(&name) {
                    offences.push(format!("{path}:{}: {module} may not use {name}: {}", number + 1, line.trim()));
                }
            }
        }
    }
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

#[test]
fn crates_stay_in_their_module() {
    let mut offences = Vec::new();
    for (module, path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for (name, owners) in OWNED {
                let uses = code.contains(&format!("{name}::")) || code.contains(&format!("use {name};"));
                if uses && !owners.contains(&module.as_str()) {
                    offences.push(format!("{path}:{}: {name} belongs to {owners:?}", number + 1));
                }
            }
        }
    }
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

#[test]
fn every_row_has_its_module() {
    let modules: Vec<String> = sources().into_iter().map(|(module, ..)| module).collect();
    for (name, _) in RULES {
        assert!(modules.iter().any(|module| module == name), "{name} is in the table but not in src/");
    }
}

#[test]
fn only_the_clock_asks_what_time_it_is() {
    // The simulator has a clock of its own; it imports nothing of ours.
    let mut offences = Vec::new();
    for (module, path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            if !["clock", "simulator"].contains(&module.as_str())
                && (line.contains("SystemTime::now") || line.contains("jiff::Timestamp::now"))
            {
                offences.push(format!("{path}:{}", number + 1));
            }
        }
    }
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}
