//! Answers, errors and lines of them as etcd's gateway writes them.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use tonic::{Code, Status};

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Line<T> {
    Result(T),
    Error(StreamError),
}

pub(super) fn line<T: Serialize>(answer: Result<T, Status>) -> Bytes {
    let line = match answer {
        Ok(answer) => Line::Result(answer),
        Err(status) => Line::Error(StreamError::from(&status)),
    };
    let mut text = serde_json::to_vec(&line).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

/// An error as the gateway writes it: the text twice, as clients of either age expect it.
#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    message: &'a str,
    code: i32,
}

/// An error in the middle of a stream has the HTTP status too.
#[derive(Serialize)]
struct StreamError {
    grpc_code: i32,
    http_code: u16,
    message: String,
    http_status: &'static str,
}

impl From<&Status> for StreamError {
    fn from(status: &Status) -> Self {
        let http = http_status(status.code());
        Self {
            grpc_code: status.code().into(),
            http_code: http.as_u16(),
            message: status.message().to_owned(),
            http_status: http.canonical_reason().unwrap_or_default(),
        }
    }
}

pub(super) fn success(answer: &impl Serialize) -> Response {
    match serde_json::to_vec(answer) {
        Ok(text) => {
            let mut response = Response::new(Body::from(text));
            set_json(response.headers_mut());
            response
        }
        Err(error) => failure(&Status::internal(error.to_string())),
    }
}

pub(super) fn failure(status: &Status) -> Response {
    let body = ErrorBody {
        error: status.message(),
        message: status.message(),
        code: status.code().into(),
    };
    let text = serde_json::to_vec(&body).unwrap_or_default();
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = http_status(status.code());
    set_json(response.headers_mut());
    response
}

pub(super) fn set_json(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
}

pub(super) fn plain(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// The table of etcd 3.4's gateway; later ones have 400 for what failed on a precondition.
pub(super) fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::REQUEST_TIMEOUT,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::FailedPrecondition => StatusCode::PRECONDITION_FAILED,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
