//! Errors as clients see them: RFC 9457 problems with a code, whether to try again, and the outcome.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;

use super::json::Object;
use crate::{Error, Outcome, Reason};

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident $name:literal $status:ident $retryable:literal $title:literal,)*) => {
        /// What is wrong, in a word that programs can rely on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $($(#[$doc])* $code,)*
        }

        impl Code {
            /// The word.
            pub fn name(self) -> &'static str {
                match self { $(Code::$code => $name,)* }
            }

            /// The status that it is answered with.
            pub fn status(self) -> StatusCode {
                match self { $(Code::$code => StatusCode::$status,)* }
            }

            /// Whether the same request can succeed later.
            pub fn is_retryable(self) -> bool {
                match self { $(Code::$code => $retryable,)* }
            }

            /// The same for every problem of this code.
            pub fn title(self) -> &'static str {
                match self { $(Code::$code => $title,)* }
            }
        }
    };
}

codes! {
    /// No key was given.
    KeyEmpty "key_empty" BAD_REQUEST false "the key is empty",
    /// Over `KEY_BYTES_MAX`.
    KeyTooLong "key_too_long" BAD_REQUEST false "the key is too long",
    /// A `%` without two hexadecimal digits after it.
    BadPercentEncoding "bad_percent_encoding" BAD_REQUEST false "the percent-encoding is malformed",
    /// A key in a path must be UTF-8.
    BadUtf8Key "bad_utf8_key" BAD_REQUEST false "the key in the path is not UTF-8",
    /// A parameter that this route doesn't have.
    UnknownQueryParameter "unknown_query_parameter" BAD_REQUEST false "unknown query parameter",
    /// A parameter or header with a value that it can't have.
    BadQueryValue "bad_query_value" BAD_REQUEST false "a parameter has an impossible value",
    /// A cursor that wasn't made by this listing.
    InvalidCursor "invalid_cursor" BAD_REQUEST false "the cursor is not one of this listing",
    /// The body isn't the JSON that is wanted.
    MalformedJson "malformed_json" BAD_REQUEST false "the JSON is malformed",
    /// A conditional header that can't be read.
    MalformedIfMatch "malformed_if_match" BAD_REQUEST false "the condition is malformed",
    /// The body ended early.
    BodyIncomplete "body_incomplete" BAD_REQUEST false "the body did not arrive whole",
    /// A name of a recipe that can't be one.
    BadName "bad_name" BAD_REQUEST false "the name is not allowed",
    /// A revision that was never granted.
    FutureRevision "future_revision" BAD_REQUEST false "the revision has not been granted yet",
    /// A reader that is too slow.
    Lagging "lagging" SERVICE_UNAVAILABLE true "the watch fell behind",
    /// A revision that isn't kept any more.
    Compacted "compacted" GONE false "the revision is compacted",
    /// An Idempotency-Key that another request had before.
    IdempotencyKeyReused "idempotency_key_reused" UNPROCESSABLE_ENTITY false "the idempotency key was given to another request",
    /// A transaction that met an older one.
    Conflict "conflict" CONFLICT true "an older transaction is in the way",
    /// The group can't make sense of the request.
    InvalidRequest "invalid_request" BAD_REQUEST false "the request is invalid",
    /// An operation of a transaction asks for what can't be.
    Impossible "impossible" CONFLICT false "an operation of the transaction cannot be executed",
    /// More than `BATCH_OPERATIONS_MAX`.
    TooManyOperations "too_many_operations" BAD_REQUEST false "too many operations in one batch",
    /// No such route.
    NotFound "not_found" NOT_FOUND false "there is no such route",
    /// No such key.
    KeyNotFound "key_not_found" NOT_FOUND false "there is no such key",
    /// No such lease, or it is over.
    LeaseNotFound "lease_not_found" NOT_FOUND false "there is no such lease",
    /// A lease with this id lives.
    LeaseExists "lease_exists" CONFLICT false "the lease exists already",
    /// Others hold the lock, and held it as long as the caller waited.
    NotAcquired "not_acquired" CONFLICT true "the lock is held by others",
    /// The lease of who waited is over.
    SessionExpired "session_expired" CONFLICT false "the lease has ended",
    /// A lock that is in use as another kind.
    OtherKind "other_kind" CONFLICT false "the lock is in use as another kind",
    /// Who isn't the leader.
    NotLeading "not_leading" CONFLICT false "it does not lead",
    /// There is no candidate.
    NoLeader "no_leader" NOT_FOUND true "nobody leads",
    /// A double barrier whose parties have begun.
    Begun "begun" CONFLICT true "others have begun already",
    /// There is one with this id.
    Exists "exists" CONFLICT false "it exists already",
    /// No such member.
    MemberNotFound "member_not_found" NOT_FOUND false "there is no such member",
    /// No such instance of a service.
    InstanceNotFound "instance_not_found" NOT_FOUND false "there is no such instance",
    /// A version that the limits have let go.
    VersionGone "version_gone" GONE false "the version is not kept any more",
    /// A version that there wasn't yet.
    NoVersion "no_version" NOT_FOUND false "there is no such version yet",
    /// Not at the version that was expected.
    OtherVersion "other_version" PRECONDITION_FAILED false "it is at another version",
    /// An offset that the retention has let go.
    OffsetGone "offset_gone" GONE false "the offset is not kept any more",
    /// An offset that there isn't yet.
    BeyondEnd "beyond_end" BAD_REQUEST false "the offset is beyond the end",
    /// An offset that is acknowledged.
    Acknowledged "acknowledged" CONFLICT false "the offset is acknowledged already",
    /// No such consumer.
    NoConsumer "no_consumer" NOT_FOUND false "there is no such consumer",
    /// Not under this key and token.
    NotHeld "not_held" CONFLICT false "it is not held",
    /// The route has other methods.
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED false "the method is not allowed here",
    /// The body did not arrive in time.
    BodyTimeout "body_timeout" REQUEST_TIMEOUT true "the body did not arrive in time",
    /// Older than what is remembered of requests.
    Expired "expired" CONFLICT false "the request is older than what is remembered of requests",
    /// The condition doesn't hold.
    ConditionFailed "condition_failed" PRECONDITION_FAILED false "the condition does not hold",
    /// Over `VALUE_BYTES_MAX`.
    ValueTooLarge "value_too_large" PAYLOAD_TOO_LARGE false "the value is too large",
    /// Over `REQUEST_BYTES_MAX`.
    BodyTooLarge "body_too_large" PAYLOAD_TOO_LARGE false "the request body is too large",
    /// No media type, or a value that isn't of it.
    BadContentType "bad_content_type" UNSUPPORTED_MEDIA_TYPE false "the content type is wrong for the value",
    /// No majority, no leader, no node.
    Unavailable "unavailable" SERVICE_UNAVAILABLE true "the key's group is not available",
    /// Queues are full.
    Busy "busy" SERVICE_UNAVAILABLE true "too many requests are waiting",
    /// Under way when the deadline passed.
    Deadline "deadline" GATEWAY_TIMEOUT true "the deadline passed",
    /// A disk is full.
    NoSpace "no_space" INSUFFICIENT_STORAGE false "no space left on a node's disk",
}

/// One refused or failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub(super) code: Code,
    detail: Cow<'static, str>,
    outcome: Option<Outcome>,
    /// After a failed condition: the key's revision, 0 if it is absent.
    found: Option<u64>,
    allow: Option<&'static str>,
    /// The connection can't be used again: an unread body stands in it.
    pub(super) closes: bool,
}

impl Problem {
    /// With an explanation for people.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem {
            code,
            detail: detail.into(),
            outcome: None,
            found: None,
            allow: None,
            closes: false,
        }
    }

    pub(super) fn condition_failed(found: u64) -> Problem {
        let detail = match found {
            0 => "the key does not exist".to_owned(),
            found => format!("the key is at revision {found}"),
        };
        Problem {
            found: Some(found),
            ..Problem::new(Code::ConditionFailed, detail)
        }
    }

    pub(super) fn method_not_allowed(allow: &'static str) -> Problem {
        Problem {
            allow: Some(allow),
            ..Problem::new(
                Code::MethodNotAllowed,
                format!("this route has the methods {allow}"),
            )
        }
    }

    /// For a write: what is refused is not applied, unless it says otherwise.
    pub(super) fn of_write(mut self) -> Problem {
        self.outcome.get_or_insert(Outcome::NotApplied);
        self
    }

    pub(super) fn write_json(&self, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        self.write_fields(&mut object);
        object.end();
    }

    /// The same into an object that has other fields too.
    pub(super) fn write_fields(&self, object: &mut Object<'_>) {
        let kind = ["urn:caucus:problem:", self.code.name()].concat();
        object.text("type", &kind);
        object.text("title", self.code.title());
        object.number("status", u64::from(self.code.status().as_u16()));
        object.text("detail", &self.detail);
        object.text("code", self.code.name());
        object.boolean("retryable", self.code.is_retryable());
        match self.outcome {
            Some(Outcome::NotApplied) => object.text("outcome", "not_applied"),
            Some(Outcome::Unknown) => object.text("outcome", "unknown"),
            Some(Outcome::Read) | None => {}
        }
        if let Some(found) = self.found {
            object.number("found_revision", found);
        }
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let mut body = Vec::with_capacity(256);
        self.write_json(&mut body);
        let mut response = Response::new(Full::new(body.into()));
        *response.status_mut() = self.code.status();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if self.code.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        let code = match &error.reason {
            Reason::NoSpace => Code::NoSpace,
            Reason::Expired => Code::Expired,
            Reason::FutureRevision => Code::FutureRevision,
            Reason::Compacted { .. } => Code::Compacted,
            Reason::LeaseNotFound => Code::LeaseNotFound,
            Reason::Conflict => Code::Conflict,
            Reason::NameTaken => Code::IdempotencyKeyReused,
            Reason::Invalid(_) => Code::InvalidRequest,
            Reason::Busy(_) => Code::Busy,
            Reason::Unavailable(_) => Code::Unavailable,
            Reason::Deadline => Code::Deadline,
        };
        Problem {
            outcome: Some(error.outcome),
            ..Problem::new(code, error.reason.to_string())
        }
    }
}
