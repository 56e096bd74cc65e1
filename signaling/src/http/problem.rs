//! Errors of HTTP routes: RFC 9457 `application/problem+json` with the protocol's `code`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::message::{ErrorCode, ErrorReply};

/// An error as an HTTP answer.
#[derive(Debug)]
pub(crate) struct Problem {
    error: ErrorReply,
    status: StatusCode,
}

/// The body.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct ProblemBody {
    /// Always `about:blank`: `code` tells problems apart.
    r#type: &'static str,
    /// The status in words.
    title: &'static str,
    /// The status.
    status: u16,
    /// What is wrong, for people.
    detail: String,
    /// What is wrong; stable, the same codes as in signaling.
    code: &'static str,
}

impl Problem {
    /// The same with another status than goes with its code.
    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { error, status } = self;
        let body = ProblemBody {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: error.message,
            code: error.code.as_str(),
        };
        let text = serde_json::to_string(&body).unwrap_or_default();
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (status, kind, text).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait_ms) = error.retry_after_ms {
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(wait_ms.div_ceil(1000)),
            );
        }
        response
    }
}

impl From<ErrorReply> for Problem {
    fn from(error: ErrorReply) -> Self {
        let status = StatusCode::from_u16(error.code.status());
        Self {
            error,
            status: status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

/// A problem in one line.
pub(crate) fn problem(code: ErrorCode, message: impl Into<String>) -> Problem {
    ErrorReply::new(code, message).into()
}
