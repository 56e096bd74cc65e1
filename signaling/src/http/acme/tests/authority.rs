//! An ACME server (RFC 8555) that proves names for real: it looks, by TLS-ALPN-01, at the address that
//! all names lead to.

mod proof;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm};
use serde_json::{Value, json};
use x509_cert::der::Decode;
use x509_cert::request::CertReq;

use crate::http::Entry;
use crate::http::fixture::{Authority, Issued, Site};
use crate::metrics::Metrics;

/// The server and what it knows.
pub(super) struct AcmeServer {
    site: Site,
    books: Arc<Books>,
}

struct Books {
    authority: Arc<Authority>,
    state: Mutex<Known>,
}

/// What the next answer is instead of what it should be.
#[derive(Clone, Copy)]
pub(super) enum Trouble {
    /// An error page of something in between.
    ErrorPage,
    /// More than anybody would send.
    Endless,
    /// The names are not to its liking.
    Rejected,
}

struct Known {
    next: u32,
    nonces: HashSet<String>,
    /// Public keys by account URL.
    accounts: HashMap<String, Value>,
    orders: Vec<OrderRecord>,
    /// Where all names lead to.
    leads_to: Option<SocketAddr>,
    /// When the certificates to be issued are good.
    valid: Range<u64>,
    trouble: Option<Trouble>,
}

struct OrderRecord {
    account: String,
    names: Vec<String>,
    /// For each name: proved, or what was wrong.
    proofs: Vec<Option<Result<(), String>>>,
    chain: Option<String>,
}

/// The public key in a request for a certificate.
struct RequestedKey(Vec<u8>);

impl PublicKeyData for RequestedKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl AcmeServer {
    pub(super) async fn start(authority: Arc<Authority>) -> Self {
        let metrics = Arc::new(Metrics::new());
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = authority.sign(&["127.0.0.1".to_owned()], 0..2_210_000_000, &key);
        let key = key.serialize_pem();
        let entry = Entry {
            tls: Some(Issued { cert, key }.tls(&metrics)),
            ..Entry::plain(metrics)
        };
        let state = Known {
            next: 0,
            nonces: HashSet::new(),
            accounts: HashMap::new(),
            orders: Vec::new(),
            leads_to: None,
            valid: 1_700_000_000..2_210_000_000,
            trouble: None,
        };
        let books = Arc::new(Books {
            authority,
            state: Mutex::new(state),
        });
        let routes = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&books));
        Self {
            site: Site::serve(entry, routes).await,
            books,
        }
    }

    pub(super) fn directory_url(&self) -> String {
        format!("https://{}/directory", self.site.addr)
    }

    /// Lets all names lead to this address.
    pub(super) fn lead_to(&self, addr: SocketAddr) {
        self.books.lock().leads_to = Some(addr);
    }

    pub(super) fn issue_for(&self, valid: Range<u64>) {
        self.books.lock().valid = valid;
    }

    pub(super) fn trouble(&self, trouble: Trouble) {
        self.books.lock().trouble = Some(trouble);
    }

    pub(super) fn forget_accounts(&self) {
        self.books.lock().accounts.clear();
    }

    /// Names of the orders so far.
    pub(super) fn orders(&self) -> Vec<Vec<String>> {
        let state = self.books.lock();
        state
            .orders
            .iter()
            .map(|order| order.names.clone())
            .collect()
    }
}

/// What is wrong with a request (RFC 8555 §6.7), and details.
struct Refusal(&'static str, &'static str);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let kind = format!("urn:ietf:params:acme:error:{}", self.0);
        let body = json!({ "type": kind, "detail": self.1 });
        (StatusCode::BAD_REQUEST, axum::Json(body)).into_response()
    }
}

fn created(location: &str, body: Value) -> Response {
    let location = [(header::LOCATION, location.to_owned())];
    (StatusCode::CREATED, location, axum::Json(body)).into_response()
}

async fn answer(State(books): State<Arc<Books>>, request: Request) -> Response {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let host = request.headers()[header::HOST].to_str().unwrap();
    let base = format!("https://{host}");
    let mut answer = match books.interfere(&path) {
        Some(answer) => answer,
        None => {
            let body = to_bytes(request.into_body(), 1 << 16).await.unwrap();
            let answer = books.answer(&base, &path, &body).await;
            answer.unwrap_or_else(IntoResponse::into_response)
        }
    };
    let nonce = HeaderValue::try_from(books.nonce()).unwrap();
    answer.headers_mut().insert("replay-nonce", nonce);
    answer
}

impl Books {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.state.lock().unwrap()
    }

    fn nonce(&self) -> String {
        let mut state = self.lock();
        state.next += 1;
        let nonce = format!("nonce-{}", state.next);
        state.nonces.insert(nonce.clone());
        nonce
    }

    /// The answer that a trouble makes, once.
    fn interfere(&self, path: &str) -> Option<Response> {
        let mut state = self.lock();
        let answer = match (state.trouble?, path) {
            (Trouble::ErrorPage, _) => (StatusCode::BAD_GATEWAY, "<html>\u{7}oops").into_response(),
            (Trouble::Endless, _) => " ".repeat(1 << 20).into_response(),
            (Trouble::Rejected, "order") => {
                Refusal("rejectedIdentifier", "not these names").into_response()
            }
            (Trouble::Rejected, _) => return None,
        };
        state.trouble = None;
        Some(answer)
    }

    async fn answer(&self, base: &str, path: &str, body: &[u8]) -> Result<Response, Refusal> {
        if path == "nonce" {
            return Ok(StatusCode::OK.into_response());
        } else if path == "directory" {
            let directory = json!({
                "newNonce": format!("{base}/nonce"),
                "newAccount": format!("{base}/account"),
                "newOrder": format!("{base}/order"),
            });
            return Ok(axum::Json(directory).into_response());
        }
        let (account, payload) = self.signed(&format!("{base}/{path}"), body)?;
        let mut words = path.split('/');
        let kind = words.next().unwrap();
        let mut numbers = words.map(|number| number.parse::<usize>().unwrap());
        match (kind, numbers.next(), numbers.next()) {
            ("account", None, None) => Ok(created(&account, json!({ "status": "valid" }))),
            ("order", None, None) => Ok(self.open_order(base, account, &payload)),
            ("order", Some(order), None) => Ok(self.order(base, order)),
            ("authorization", Some(order), Some(name)) => {
                let authorization = self.lock().orders[order].authorization(base, order, name);
                Ok(axum::Json(authorization).into_response())
            }
            ("challenge", Some(order), Some(name)) => {
                let (domain, digest) = self.challenge(order, name);
                let addr = self.lock().leads_to;
                let proof = proof::look(addr, &domain, &digest).await;
                let mut state = self.lock();
                state.orders[order].proofs[name] = Some(proof);
                let mut challenge = state.orders[order].challenge(base, order, name);
                // How it ends takes others time to find out: that is told later.
                (challenge["status"], challenge["error"]) = (json!("processing"), Value::Null);
                Ok(axum::Json(challenge).into_response())
            }
            ("finalize", Some(order), None) => {
                let csr = payload["csr"].as_str().unwrap();
                self.issue(order, &URL_SAFE_NO_PAD.decode(csr).unwrap())?;
                Ok(self.order(base, order))
            }
            ("certificate", Some(order), None) => {
                let chain = self.lock().orders[order].chain.clone().unwrap();
                Ok(Body::from(chain).into_response())
            }
            _ => Err(Refusal("malformed", "no such resource")),
        }
    }

    fn open_order(&self, base: &str, account: String, payload: &Value) -> Response {
        let identifiers = payload["identifiers"].as_array().unwrap().iter();
        let names = identifiers.map(|name| name["value"].as_str().unwrap().to_owned());
        let names: Vec<_> = names.collect();
        let mut state = self.lock();
        state.orders.push(OrderRecord {
            account,
            proofs: vec![None; names.len()],
            names,
            chain: None,
        });
        let number = state.orders.len() - 1;
        let order = state.orders[number].to_json(base, number);
        created(&format!("{base}/order/{number}"), order)
    }

    fn order(&self, base: &str, number: usize) -> Response {
        axum::Json(self.lock().orders[number].to_json(base, number)).into_response()
    }

    /// Checks a request's signature (RFC 8555 §6.2); its account and payload.
    fn signed(&self, url: &str, body: &[u8]) -> Result<(String, Value), Refusal> {
        let body: Value = serde_json::from_slice(body).unwrap();
        let part = |name: &str| body[name].as_str().unwrap().to_owned();
        let decoded = |name: &str| URL_SAFE_NO_PAD.decode(part(name)).unwrap();
        let head: Value = serde_json::from_slice(&decoded("protected")).unwrap();
        let mut state = self.lock();
        if !state.nonces.remove(head["nonce"].as_str().unwrap()) {
            return Err(Refusal("badNonce", "not one of mine"));
        }
        assert_eq!((&head["url"], &head["alg"]), (&json!(url), &json!("ES256")));
        let account = match head["kid"].as_str() {
            Some(kid) => kid.to_owned(),
            None => {
                let account = format!("{url}/{}", state.accounts.len() + 1);
                state.accounts.insert(account.clone(), head["jwk"].clone());
                account
            }
        };
        let Some(key) = state.accounts.get(&account) else {
            return Err(Refusal("accountDoesNotExist", "never heard of it"));
        };
        let number = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
        let point = [vec![4], number("x"), number("y")].concat();
        let message = format!("{}.{}", part("protected"), part("payload"));
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(message.as_bytes(), &decoded("signature"))
            .unwrap();
        // An empty payload asks to read (§6.3).
        let payload = serde_json::from_slice(&decoded("payload")).unwrap_or(Value::Null);
        Ok((account, payload))
    }

    /// A name to be proved, and the digest its holder has to show (RFC 8737 §3).
    fn challenge(&self, number: usize, name: usize) -> (String, Vec<u8>) {
        let state = self.lock();
        let order = &state.orders[number];
        let key = &state.accounts[&order.account];
        // RFC 7638 §3: the members that matter, in order, without spaces.
        let member = |name: &str| key[name].as_str().unwrap();
        let canonical = format!(
            r#"{{"crv":"{}","kty":"{}","x":"{}","y":"{}"}}"#,
            member("crv"),
            member("kty"),
            member("x"),
            member("y")
        );
        let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()));
        let keys = format!("{}.{thumbprint}", token(number, name));
        let shown = digest(&SHA256, keys.as_bytes()).as_ref().to_vec();
        (order.names[name].clone(), shown)
    }

    /// Signs what the order is for, if all its names are proved.
    fn issue(&self, number: usize, csr: &[u8]) -> Result<(), Refusal> {
        let mut state = self.lock();
        let valid = state.valid.clone();
        let order = &mut state.orders[number];
        if order.status() != "ready" {
            return Err(Refusal("orderNotReady", "prove the names first"));
        }
        let key = CertReq::from_der(csr)
            .unwrap()
            .info
            .public_key
            .subject_public_key;
        let key = RequestedKey(key.raw_bytes().to_vec());
        order.chain = Some(self.authority.sign(&order.names, valid, &key));
        Ok(())
    }
}

fn token(number: usize, name: usize) -> String {
    format!("token-{number}-{name}")
}

impl OrderRecord {
    fn status(&self) -> &'static str {
        let is_refused = |proof: &Option<_>| matches!(proof, Some(Err(_)));
        match &self.chain {
            Some(_) => "valid",
            None if self.proofs.iter().any(is_refused) => "invalid",
            None if self.proofs.iter().all(Option::is_some) => "ready",
            None => "pending",
        }
    }

    fn to_json(&self, base: &str, number: usize) -> Value {
        let names = 0..self.names.len();
        let authorizations = names.map(|name| format!("{base}/authorization/{number}/{name}"));
        let certificate = self
            .chain
            .as_ref()
            .map(|_| format!("{base}/certificate/{number}"));
        json!({
            "status": self.status(),
            "authorizations": authorizations.collect::<Vec<_>>(),
            "finalize": format!("{base}/finalize/{number}"),
            "certificate": certificate,
        })
    }

    fn authorization(&self, base: &str, number: usize, name: usize) -> Value {
        let challenge = self.challenge(base, number, name);
        json!({
            "identifier": { "type": "dns", "value": self.names[name] },
            "status": challenge["status"],
            "challenges": [
                { "type": "http-01", "url": base, "token": "unused", "status": "pending" },
                challenge,
            ],
        })
    }

    fn challenge(&self, base: &str, number: usize, name: usize) -> Value {
        let (status, error) = match &self.proofs[name] {
            None => ("pending", Value::Null),
            Some(Ok(())) => ("valid", Value::Null),
            Some(Err(reason)) => {
                let kind = "urn:ietf:params:acme:error:connection";
                ("invalid", json!({ "type": kind, "detail": reason }))
            }
        };
        json!({
            "type": "tls-alpn-01",
            "url": format!("{base}/challenge/{number}/{name}"),
            "token": token(number, name),
            "status": status,
            "error": error,
        })
    }
}
