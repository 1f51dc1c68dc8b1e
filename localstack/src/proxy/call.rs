//! Which operation of which service a request is, and how that service says that something is wrong.

use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

/// The longest name that is taken for one.
const LONGEST_NAME: usize = 64;

/// A call of an AWS service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    /// As the signature names it.
    pub(super) service: String,
    /// As the service names it.
    pub(super) operation: String,
}

/// An answer of the proxy's own.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) headers: Vec<(&'static str, &'static str)>,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn plain(status: StatusCode, content_type: &'static str, body: String) -> Self {
        Self { status, content_type, headers: Vec::new(), body }
    }
}

impl Call {
    /// Looks what a request is.
    pub(super) fn of(head: &Parts, body: &[u8]) -> Self {
        let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        // Credential=KEY/20261123/us-east-1/dynamodb/aws4_request
        let scope = header("authorization").and_then(|text| text.split_once("Credential=")?.1.split([',', ' ']).next());
        let service =
            scope.and_then(|scope| name(scope.split('/').rev().nth(1)?)).unwrap_or_else(|| "other".to_owned());
        let operation = match &*service {
            "s3" => Some(in_bucket(&head.method, head.uri.path(), head.uri.query().unwrap_or_default()).to_owned()),
            "execute-api" => Some(on_connection(&head.method).to_owned()),
            "sns" => {
                form_urlencoded::parse(body).find(|(key, _)| key == "Action").and_then(|(_, action)| name(&action))
            }
            _ => header("x-amz-target").and_then(|target| name(target.rsplit('.').next()?)),
        };
        Self { service, operation: operation.unwrap_or_else(|| head.method.to_string()) }
    }

    /// Whether it is for what stands in for SNS, and not for the emulator.
    pub(super) fn is_push(&self) -> bool {
        self.service == "sns"
    }

    /// How the service refuses what is too much at once.
    pub(super) fn throttled(&self) -> Reply {
        match &*self.service {
            "dynamodb" => json(
                StatusCode::BAD_REQUEST,
                "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
                "The level of configured provisioned throughput for the table was exceeded.",
            ),
            "sqs" => json(StatusCode::BAD_REQUEST, "com.amazonaws.sqs#RequestThrottled", "Too many requests."),
            "s3" => xml(StatusCode::SERVICE_UNAVAILABLE, "SlowDown", "Please reduce your request rate."),
            "sns" => xml_of_queries(StatusCode::BAD_REQUEST, "Throttled", "Rate exceeded"),
            "execute-api" => Reply {
                headers: vec![("x-amzn-errortype", "LimitExceededException")],
                ..json_message(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests")
            },
            _ => json(StatusCode::BAD_REQUEST, "ThrottlingException", "Rate exceeded"),
        }
    }

    /// How the service says that it is in trouble itself.
    pub(super) fn failed(&self) -> Reply {
        const STATUS: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;
        match &*self.service {
            "dynamodb" => json(
                STATUS,
                "com.amazonaws.dynamodb.v20120810#InternalServerError",
                "The request processing has failed because of an unknown error.",
            ),
            "s3" => xml(STATUS, "InternalError", "We encountered an internal error. Please try again."),
            "sns" => xml_of_queries(STATUS, "InternalError", "Internal error"),
            "execute-api" => json_message(STATUS, "Internal server error"),
            _ => json(STATUS, "InternalFailure", "The request processing has failed."),
        }
    }
}

/// A name that is short and plain, if it is one.
fn name(text: &str) -> Option<String> {
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    Some(text.to_owned()).filter(|text| !text.is_empty() && text.len() <= LONGEST_NAME && plain(text))
}

/// The operations of S3 that functions call.
fn in_bucket(method: &Method, path: &str, query: &str) -> &'static str {
    let asks = |key: &str| form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == key);
    let of_object = path.trim_matches('/').contains('/');
    match *method {
        Method::POST if asks("uploads") => "CreateMultipartUpload",
        Method::POST if asks("uploadId") => "CompleteMultipartUpload",
        Method::GET if asks("uploadId") => "ListParts",
        Method::GET if asks("tagging") => "GetObjectTagging",
        Method::GET if !of_object => "ListObjectsV2",
        Method::GET => "GetObject",
        Method::HEAD if !of_object => "HeadBucket",
        Method::HEAD => "HeadObject",
        Method::PUT if asks("partNumber") => "UploadPart",
        Method::PUT if asks("tagging") => "PutObjectTagging",
        Method::PUT => "PutObject",
        Method::DELETE if asks("uploadId") => "AbortMultipartUpload",
        Method::DELETE if asks("tagging") => "DeleteObjectTagging",
        Method::DELETE => "DeleteObject",
        _ => "other",
    }
}

fn on_connection(method: &Method) -> &'static str {
    match *method {
        Method::POST => "PostToConnection",
        Method::DELETE => "DeleteConnection",
        Method::GET => "GetConnection",
        _ => "other",
    }
}

fn json(status: StatusCode, kind: &str, message: &str) -> Reply {
    let body = serde_json::json!({ "__type": kind, "message": message });
    Reply::plain(status, "application/x-amz-json-1.0", body.to_string())
}

fn json_message(status: StatusCode, message: &str) -> Reply {
    Reply::plain(status, "application/json", serde_json::json!({ "message": message }).to_string())
}

fn xml(status: StatusCode, code: &str, message: &str) -> Reply {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    Reply::plain(status, "application/xml", body)
}

fn xml_of_queries(status: StatusCode, code: &str, message: &str) -> Reply {
    let body = format!(
        "<ErrorResponse><Error><Type>Receiver</Type><Code>{code}</Code><Message>{message}</Message></Error>\
         <RequestId>poste</RequestId></ErrorResponse>"
    );
    Reply::plain(status, "text/xml", body)
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn call(service: &str, method: Method, uri: &str, target: Option<&str>, body: &str) -> (String, String) {
        let scope =
            format!("AWS4-HMAC-SHA256 Credential=KEY/20261123/us-east-1/{service}/aws4_request, SignedHeaders=h");
        let mut request = Request::builder().method(method).uri(uri).header("authorization", scope);
        if let Some(target) = target {
            request = request.header("x-amz-target", target);
        }
        let call = Call::of(&request.body(()).unwrap().into_parts().0, body.as_bytes());
        (call.service, call.operation)
    }

    #[test]
    fn calls_are_told_apart() {
        let target = |service, target| call(service, Method::POST, "/", Some(target), "{}");
        assert_eq!(target("dynamodb", "DynamoDB_20120810.BatchGetItem").1, "BatchGetItem");
        assert_eq!(target("sqs", "AmazonSQS.SendMessageBatch"), ("sqs".into(), "SendMessageBatch".into()));
        let post = "/_aws/execute-api/abc/prod/%40connections/xyz%3D";
        assert_eq!(call("execute-api", Method::POST, post, None, "{}").1, "PostToConnection");
        assert_eq!(call("execute-api", Method::DELETE, post, None, "").1, "DeleteConnection");
        let s3 = |method, uri| call("s3", method, uri, None, "").1;
        assert_eq!(s3(Method::POST, "/bucket/key?uploads"), "CreateMultipartUpload");
        assert_eq!(s3(Method::POST, "/bucket/key?uploadId=1"), "CompleteMultipartUpload");
        assert_eq!(s3(Method::GET, "/bucket/key?max-parts=1000&uploadId=1&x-id=ListParts"), "ListParts");
        assert_eq!(s3(Method::HEAD, "/bucket/key"), "HeadObject");
        assert_eq!(s3(Method::DELETE, "/bucket/key?tagging"), "DeleteObjectTagging");
        assert_eq!(call("sns", Method::POST, "/", None, "Action=Publish&Message=Action%3DX").1, "Publish");
    }

    #[test]
    fn what_is_none_is_other() {
        let request = Request::builder().uri("/").header("x-amz-target", "x.<script>").body(()).unwrap();
        let call = Call::of(&request.into_parts().0, b"");
        assert_eq!((&*call.service, &*call.operation), ("other", "GET"));
    }
}
