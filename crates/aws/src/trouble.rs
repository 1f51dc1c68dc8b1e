//! What the SDK's errors mean for the rules.

use aws_sdk_dynamodb::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use poste_domain::{Class, Trouble};

/// Codes with which services ask for less.
const THROTTLES: [&str; 11] = [
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "Throttling",
    "RequestLimitExceeded",
    "TooManyRequestsException",
    "LimitExceededException",
    "RequestThrottled",
    "SlowDown",
    "OverLimit",
    "Throttled",
    "KMSThrottling",
];

/// Codes of passing faults, some of which come with a status below 500.
const FAULTS: [&str; 5] = [
    "InternalServerError",
    "InternalError",
    "ServiceUnavailable",
    "ReplicatedWriteConflictException",
    "TransactionConflictException",
];

/// The trouble behind an SDK error, after the SDK's own retries.
pub(crate) fn trouble<E>(part: &'static str, error: &SdkError<E, HttpResponse>) -> Trouble
where
    E: ProvideErrorMetadata,
{
    let (class, detail) = match error {
        SdkError::ServiceError(service) => {
            let code = service.err().code().unwrap_or("no code");
            let status = service.raw().status().as_u16();
            (classify(code, status), format!("{code} ({status}): {}", service.err().message().unwrap_or_default()))
        }
        SdkError::TimeoutError(_) => (Class::Transient, "no answer in time".to_owned()),
        SdkError::DispatchFailure(failure) => (Class::Transient, format!("not reached: {failure:?}")),
        SdkError::ResponseError(_) => (Class::Transient, "an answer that is none".to_owned()),
        other => (Class::Permanent, format!("request not built: {other}")),
    };
    Trouble::new(part, class, detail)
}

/// A conditional write found its condition not to hold.
pub(crate) fn lost_condition<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    error.code() == Some("ConditionalCheckFailedException")
}

fn classify(code: &str, status: u16) -> Class {
    if THROTTLES.contains(&code) || status == 429 {
        Class::Throttled
    } else if FAULTS.contains(&code) || status >= 500 {
        Class::Transient
    } else {
        Class::Permanent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_class() {
        assert_eq!(classify("ProvisionedThroughputExceededException", 400), Class::Throttled);
        assert_eq!(classify("no code", 429), Class::Throttled);
        assert_eq!(classify("InternalServerError", 500), Class::Transient);
        assert_eq!(classify("no code", 503), Class::Transient);
        assert_eq!(classify("ReplicatedWriteConflictException", 400), Class::Transient);
        assert_eq!(classify("AccessDeniedException", 400), Class::Permanent);
        assert_eq!(classify("ValidationException", 400), Class::Permanent);
    }
}
