//! What we may depend on: licences that fit Apache-2.0, no crate with a known fault, one of each kind.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::process::Command;

use serde_json::Value;

/// Licences whose terms an Apache-2.0 program can meet.
const LICENCES: [&str; 11] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates that must not come in, not even through others, and why.
const BANNED: [(&str, &str); 12] = [
    ("rtp", "the 0.17 line panics on malformed packets"),
    ("rtcp", "the 0.17 line panics on malformed packets"),
    ("sdp", "the 0.17 line; rtc-sdp follows it"),
    ("stun", "the 0.17 line; we read STUN ourselves"),
    ("webrtc-srtp", "the 0.17 line; we protect packets ourselves"),
    ("webrtc-sctp", "the 0.17 line; sctp-proto follows it"),
    ("webrtc-dtls", "the 0.17 line; dimpl follows it"),
    (
        "webrtc-ice",
        "the 0.17 line; we are an ICE-lite agent ourselves",
    ),
    ("webrtc-util", "the 0.17 line"),
    ("rml_rtmp", "panics on input that the protocol allows"),
    ("native-tls", "rustls is our TLS"),
    (
        "openssl-sys",
        "rustls is our TLS; the build needs no C library",
    ),
];

/// The oldest version of a crate we take, and why.
const FLOORS: [(&str, [u64; 3], &str); 4] = [
    (
        "jsonwebtoken",
        [11, 0, 0],
        "before 10.3 a mistyped `exp` counts as none (CVE-2026-25537)",
    ),
    (
        "ring",
        [0, 17, 12],
        "AES can panic before (RUSTSEC-2025-0009)",
    ),
    (
        "rustls",
        [0, 23, 18],
        "the acceptor can panic before (RUSTSEC-2024-0399)",
    ),
    (
        "webrtc",
        [0, 20, 0],
        "the 0.17 line panics on malformed packets",
    ),
];

/// Every crate of the lock file, for any platform: name and version.
fn locked() -> Vec<(String, [u64; 3])> {
    let lock = include_str!("../../Cargo.lock");
    let lock: toml::Table = lock.parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    let read = |package: &toml::Value| {
        let name = package["name"].as_str().unwrap().to_owned();
        (name, version(package["version"].as_str().unwrap()))
    };
    packages.iter().map(read).collect()
}

/// The three numbers of a version; pre-releases and build numbers count as the version itself.
fn version(text: &str) -> [u64; 3] {
    let numbers = text.split(['-', '+']).next().unwrap().split('.');
    let numbers: Vec<u64> = numbers.map(|number| number.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

#[test]
fn no_banned_crate_is_locked() {
    for (name, _) in locked() {
        if let Some((_, reason)) = BANNED.iter().find(|(banned, _)| *banned == name) {
            panic!("{name} is banned: {reason}");
        }
    }
}

#[test]
fn no_crate_is_older_than_its_floor() {
    for (name, version) in locked() {
        if let Some((_, floor, reason)) = FLOORS.iter().find(|(low, ..)| *low == name) {
            assert!(
                version >= *floor,
                "{name} {version:?} is below {floor:?}: {reason}"
            );
        }
    }
}

#[test]
fn every_crate_comes_from_the_registry_or_from_here() {
    let lock = include_str!("../../Cargo.lock");
    let mut sources: Vec<&str> = lock
        .lines()
        .filter(|line| line.starts_with("source"))
        .collect();
    sources.sort_unstable();
    sources.dedup();
    assert_eq!(
        sources,
        [r#"source = "registry+https://github.com/rust-lang/crates.io-index""#]
    );
}

#[test]
fn every_licence_fits_ours() {
    // Only what is built here is sure to be downloaded, so that no network is needed.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version=1"])
        .args(["--filter-platform", &platform])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100, "only {} packages", packages.len());
    for package in packages {
        let licence = package["license"].as_str().unwrap_or("none");
        assert!(fits(licence), "{}: {licence}", package["name"]);
    }
}

/// Whether an SPDX expression lets us choose only licences from the list.
fn fits(expression: &str) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    any_of(&mut words) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>) -> bool {
    let mut fits = all_of(words);
    while words.next_if_eq(&"OR").is_some() {
        fits |= all_of(words);
    }
    fits
}

fn all_of(words: &mut Words<'_>) -> bool {
    let mut fits = one(words);
    while words.next_if_eq(&"AND").is_some() {
        fits &= one(words);
    }
    fits
}

fn one(words: &mut Words<'_>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        return any_of(words) & (words.next() == Some(")"));
    }
    let fits = words.next().is_some_and(|word| LICENCES.contains(&word));
    if words.next_if_eq(&"WITH").is_some() {
        words.next(); // an exception only allows more
    }
    fits
}

#[test]
fn licence_expressions_are_read_as_spdx_means_them() {
    for expression in [
        "MIT",
        "MIT/Apache-2.0",
        "Apache-2.0 WITH LLVM-exception OR GPL-2.0-only",
        "(MIT OR GPL-3.0-only) AND Unicode-3.0",
        "ISC AND (Apache-2.0 OR ISC) AND BSD-3-Clause",
    ] {
        assert!(fits(expression), "{expression}");
    }
    for expression in [
        "none",
        "",
        "AGPL-3.0-only",
        "MIT AND GPL-3.0-only",
        "MIT AND (GPL-3.0-only OR LGPL-2.1-only)",
        "(MIT",
        "MIT)",
    ] {
        assert!(!fits(expression), "{expression}");
    }
}
