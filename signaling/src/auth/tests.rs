//! Forged, mistyped and untimely tokens, each with its verdict.

use serde_json::{Value, json};

use super::*;
use crate::config::Secret;

const NOW: u64 = 1_700_000_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn keys() -> Auth {
    let mut auth = Auth::default();
    auth.keys.insert("app".to_owned(), Secret::new(SECRET));
    auth.keys.insert(
        "other".to_owned(),
        Secret::new("another secret of more than 32 bytes"),
    );
    auth
}

fn good_claims() -> Value {
    json!({ "iss": "app", "sub": "ann", "exp": NOW + 600, "video": { "room": "r", "roomJoin": true } })
}

/// Signs any header and payload with the right key, as an attacker who has it could not do worse.
fn token(header: &[u8], payload: &[u8]) -> String {
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(payload)
    );
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{signed}.{signature}")
}

fn verdict(header: &Value, payload: &Value) -> Result<Grants, VerifyError> {
    let token = token(
        header.to_string().as_bytes(),
        payload.to_string().as_bytes(),
    );
    verify(&keys(), &token, NOW)
}

fn with(path: &[&str], value: Value) -> Value {
    let mut claims = good_claims();
    let mut place = &mut claims;
    for key in path {
        place = &mut place[*key];
    }
    *place = value;
    claims
}

#[test]
fn a_good_token_becomes_grants() {
    let grants = verdict(&json!({ "alg": "HS256", "typ": "JWT" }), &good_claims()).unwrap();
    assert_eq!(grants.identity.as_deref(), Some("ann"));
    assert!(grants.may_join("r") && !grants.may_join("other"));
    assert!(grants.media.publish && grants.media.subscribe && grants.media.publish_data);
    assert!(!grants.room_admin && !grants.may_moderate("r") && !grants.update_own_metadata);
    let claims = Claims {
        exp: NOW + 5,
        ..Claims::default()
    };
    let minted = verify(&keys(), &sign(&keys(), "app", claims.clone()).unwrap(), NOW).unwrap();
    assert_eq!((minted.key.as_str(), minted.identity), ("app", None));
    assert_eq!(
        sign(&keys(), "missing", claims),
        Err(VerifyError::UnknownKey)
    );
}

#[test]
fn forged_headers_are_refused() {
    for header in [
        json!({ "alg": "none" }),
        json!({ "alg": "None" }),
        json!({ "alg": "" }),
        json!({ "alg": "hs256" }),
        json!({ "alg": "HS384" }),
        json!({ "alg": "HS512" }),
        json!({ "alg": "RS256" }),
        json!({ "alg": "ES256" }),
        json!({ "alg": "EdDSA" }),
        json!({ "alg": "HS256", "crit": ["exp"] }),
        json!({ "alg": "HS256", "kid": "../../etc/passwd" }),
        json!({ "alg": "HS256", "kid": "' OR 1=1 --" }),
        json!({ "alg": "HS256", "kid": "app\u{0}" }),
        json!({ "alg": "HS256", "kid": "" }),
        json!({ "alg": "HS256", "kid": "other" }),
        json!({ "alg": "HS256", "kid": "x".repeat(1 << 20) }),
        json!({ "alg": 5 }),
        json!({ "alg": ["HS256"] }),
        json!({ "typ": "JWT" }),
        json!([]),
        json!("HS256"),
    ] {
        let refusal = verdict(&header, &good_claims()).unwrap_err();
        assert_eq!(refusal.code().as_str(), "unauthorized", "{header}");
    }
}

#[test]
fn headers_that_point_elsewhere_for_keys_change_nothing() {
    for extra in ["jku", "x5u", "jwk", "x5c"] {
        let mut header = json!({ "alg": "HS256", "kid": "app" });
        header[extra] = json!("https://evil.example/keys");
        assert!(verdict(&header, &good_claims()).is_ok(), "{extra}");
    }
}

#[test]
fn unsigned_and_foreign_signatures_are_refused() {
    let good = token(br#"{"alg":"HS256"}"#, good_claims().to_string().as_bytes());
    let (body, signature) = good.rsplit_once('.').unwrap();
    let mut flipped = signature.to_owned().into_bytes();
    flipped[0] = if flipped[0] == b'A' { b'B' } else { b'A' };
    for forged in [
        format!("{body}."),
        format!("{body}.{}", String::from_utf8(flipped).unwrap()),
        format!("{body}.{signature}A"),
        body.to_owned(),
        format!("{good}.x"),
        String::new(),
        "..".to_owned(),
        "a.b.c".to_owned(),
        format!("{good}\n"),
    ] {
        assert!(verify(&keys(), &forged, NOW).is_err(), "{forged:?}");
    }
    for end in 0..good.len() {
        assert!(verify(&keys(), &good[..end], NOW).is_err(), "cut at {end}");
    }
    // Signed with a key of the server, but not the one it names.
    let claims = with(&["iss"], json!("other"));
    assert_eq!(
        verdict(&json!({ "alg": "HS256" }), &claims),
        Err(VerifyError::Signature)
    );
}

#[test]
fn claims_of_the_wrong_type_are_refused() {
    let header = json!({ "alg": "HS256" });
    for exp in [
        json!(null),
        json!("1700000600"),
        json!(1_700_000_600.5),
        json!(1_700_000_600.0),
        json!(-1),
        json!(true),
        json!([1]),
        json!({}),
        json!(1e300),
    ] {
        assert_eq!(
            verdict(&header, &with(&["exp"], exp.clone())),
            Err(VerifyError::Claims),
            "exp {exp}"
        );
    }
    for (path, value) in [
        (vec!["nbf"], json!("0")),
        (vec!["nbf"], json!(1.5)),
        (vec!["iat"], json!(-5)),
        (vec!["sub"], json!(5)),
        (vec!["name"], json!({})),
        (vec!["attributes"], json!({ "a": 1 })),
        (vec!["video"], json!("all")),
        (vec!["video", "room"], json!(5)),
        (vec!["video", "roomJoin"], json!("true")),
        (vec!["video", "roomAdmin"], json!(1)),
        (vec!["video", "canPublishSources"], json!(["everything"])),
        (vec!["plenum"], json!({ "guest": "yes" })),
    ] {
        let claims = with(&path, value.clone());
        assert_eq!(
            verdict(&header, &claims),
            Err(VerifyError::Claims),
            "{path:?} {value}"
        );
    }
    let mut without = good_claims();
    without.as_object_mut().unwrap().remove("exp");
    assert_eq!(verdict(&header, &without), Err(VerifyError::Claims));
    let twice = br#"{"iss":"app","sub":"ann","exp":1700000600,"exp":99999999999}"#;
    assert!(verify(&keys(), &token(br#"{"alg":"HS256"}"#, twice), NOW).is_err());
}

#[test]
fn times_are_kept_with_thirty_seconds_leeway() {
    let header = json!({ "alg": "HS256" });
    for (exp, expected) in [
        (NOW - 30, Ok(())),
        (NOW - 31, Err(VerifyError::Expired)),
        (0, Err(VerifyError::Expired)),
        (NOW + LIFETIME_MAX_S + 30, Ok(())),
        (NOW + LIFETIME_MAX_S + 31, Err(VerifyError::LifetimeTooLong)),
        (u64::MAX, Err(VerifyError::LifetimeTooLong)),
    ] {
        assert_eq!(
            verdict(&header, &with(&["exp"], json!(exp))).map(|_| ()),
            expected,
            "{exp}"
        );
    }
    for (nbf, expected) in [
        (NOW + 30, Ok(())),
        (NOW + 31, Err(VerifyError::NotYet)),
        (u64::MAX, Err(VerifyError::NotYet)),
    ] {
        assert_eq!(
            verdict(&header, &with(&["nbf"], json!(nbf))).map(|_| ()),
            expected,
            "{nbf}"
        );
    }
    assert_eq!(VerifyError::Expired.code().as_str(), "token_expired");
}

#[test]
fn identities_and_rooms_have_safe_names() {
    let header = json!({ "alg": "HS256" });
    for bad in ["a b", "a/b", "a\nb", "ä", "a\u{1b}[31m", &"x".repeat(129)] {
        assert_eq!(
            verdict(&header, &with(&["sub"], json!(bad))),
            Err(VerifyError::BadName)
        );
        let claims = with(&["video", "room"], json!(bad));
        assert_eq!(verdict(&header, &claims), Err(VerifyError::BadName));
    }
    assert_eq!(
        verdict(&header, &with(&["sub"], json!(""))),
        Err(VerifyError::NoIdentity)
    );
    assert!(verdict(&header, &with(&["sub"], json!("x".repeat(128)))).is_ok());
    let long = with(&["name"], json!("x".repeat(257)));
    assert_eq!(verdict(&header, &long), Err(VerifyError::TooLong));
}

#[test]
fn guests_need_no_identity_and_hidden_ones_publish_nothing() {
    let header = json!({ "alg": "HS256" });
    let mut claims = good_claims();
    claims.as_object_mut().unwrap().remove("sub");
    assert_eq!(verdict(&header, &claims), Err(VerifyError::NoIdentity));
    claims["plenum"] = json!({ "guest": true });
    let guest = verdict(&header, &claims).unwrap();
    assert!(guest.guest && guest.identity.is_none());
    let hidden = verdict(&header, &with(&["video", "hidden"], json!(true))).unwrap();
    assert!(hidden.hidden && !hidden.media.publish);
}

#[test]
fn grants_restrict_what_they_name() {
    let header = json!({ "alg": "HS256" });
    let mut claims = good_claims();
    claims["video"]["canPublishSources"] = json!(["microphone"]);
    claims["video"]["canSubscribe"] = json!(false);
    claims["video"]["canPublishData"] = json!(false);
    let grants = verdict(&header, &claims).unwrap();
    assert_eq!(grants.media.publish_sources, [sfu::Source::Microphone]);
    assert!(!grants.media.subscribe && !grants.media.publish_data);
    claims["video"] = json!({ "roomAdmin": true });
    let admin = verdict(&header, &claims).unwrap();
    assert!(admin.may_moderate("any") && !admin.may_join("any"));
}

#[test]
fn a_renewed_token_allows_the_same_for_longer() {
    let first = json!({ "iss": "app", "sub": "ann", "exp": NOW + 60, "name": "Ann", "metadata": "m",
        "attributes": { "a": "b" }, "roomConfig": { "maxParticipants": 7, "metadata": "x" },
        "video": { "room": "r", "roomJoin": true, "canPublishSources": ["microphone"],
            "canSubscribe": false, "roomAdmin": true, "canUpdateOwnMetadata": true } });
    let guest = json!({ "iss": "app", "exp": NOW + 60, "plenum": { "guest": true },
        "video": { "room": "r", "roomJoin": true } });
    for claims in [first, guest] {
        let grants = verdict(&json!({ "alg": "HS256" }), &claims).unwrap();
        let keys = Keys::new(keys());
        let token = keys.sign("app", grants.claims("ann", NOW + 600)).unwrap();
        let renewed = keys.verify(&token, NOW + 599).unwrap();
        let expires_at_s = NOW + 600;
        assert_eq!(
            renewed,
            Grants {
                expires_at_s,
                ..grants
            }
        );
    }
}

#[test]
fn keys_that_were_replaced_verify_and_sign_no_more() {
    let keys = Keys::new(keys());
    let claims = || Claims {
        exp: NOW + 60,
        ..Claims::default()
    };
    let token = keys.sign("app", claims()).unwrap();
    assert!(keys.verify(&token, NOW).is_ok());
    let mut next = Auth::default();
    let secret = Secret::new("one more secret of 32 bytes or so");
    next.keys.insert("next".to_owned(), secret);
    keys.replace(next);
    assert_eq!(keys.verify(&token, NOW), Err(VerifyError::UnknownKey));
    assert_eq!(keys.sign("app", claims()), Err(VerifyError::UnknownKey));
    assert!(keys.sign("next", claims()).is_ok());
}

#[test]
fn a_token_too_long_to_be_taken_is_not_made() {
    // Each within its own limit, but quotation marks take two bytes in JSON.
    let text = "\"".repeat(METADATA_BYTES_MAX - 1);
    let claims = Claims {
        exp: NOW + 60,
        metadata: Some(text.clone()),
        attributes: Some(BTreeMap::from([("a".to_owned(), text)])),
        ..Claims::default()
    };
    let refusal = sign(&keys(), "app", claims).err();
    assert_eq!(refusal, Some(VerifyError::TooLong));
}
