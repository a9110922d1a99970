//! AWS Signature Version 4 for one request (AWS, "Signature Version 4 signing process"; for S3 the
//! path is encoded once). Checked against the published examples.
//!
//! Not here: chunked bodies, presigned URLs; a query must be canonical already.

use ring::digest::{SHA256, digest};
use ring::hmac;

use super::credentials::Credentials;
use crate::hex;

/// What is signed.
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    /// Percent-encoded, beginning with a slash.
    pub(super) path: &'a str,
    /// Sorted and percent-encoded; empty when there is none.
    pub(super) query: &'a str,
    /// Lower-case names in rising order.
    pub(super) headers: &'a [(&'a str, &'a str)],
    /// See [`sha256_hex`].
    pub(super) body_hash: &'a str,
}

/// Where and when a signature holds.
pub(super) struct Scope<'a> {
    /// `20130524T000000Z`
    pub(super) time: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

/// The value of the header `authorization`.
pub(super) fn authorization(
    credentials: &Credentials,
    scope: &Scope<'_>,
    request: &Signed<'_>,
) -> String {
    let date = scope.time.get(..8).unwrap_or(scope.time);
    let place = format!("{date}/{}/{}/aws4_request", scope.region, scope.service);
    let names: Vec<&str> = request.headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let headers: String =
        request.headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let canonical = format!(
        "{}\n{}\n{}\n{headers}\n{names}\n{}",
        request.method, request.path, request.query, request.body_hash
    );
    let to_sign =
        format!("AWS4-HMAC-SHA256\n{}\n{place}\n{}", scope.time, sha256_hex(canonical.as_bytes()));
    let secret = format!("AWS4{}", credentials.secret);
    let parts = [date, scope.region, scope.service, "aws4_request", &to_sign];
    let signature = parts.iter().fold(secret.into_bytes(), |key, part| hmac_sha256(&key, part));
    format!(
        "AWS4-HMAC-SHA256 Credential={}/{place}, SignedHeaders={names}, Signature={}",
        credentials.key_id,
        hex::encode(&signature)
    )
}

/// The hash of a body, as the signature wants it.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes).as_ref())
}

fn hmac_sha256(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(request: &Signed<'_>, signature: &str) {
        let credentials = Credentials {
            key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: None,
        };
        let scope = Scope { time: "20130524T000000Z", region: "us-east-1", service: "s3" };
        let value = authorization(&credentials, &scope, request);
        let names: Vec<_> = request.headers.iter().map(|(name, _)| *name).collect();
        let expected = format!(
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
             SignedHeaders={}, Signature={signature}",
            names.join(";")
        );
        assert_eq!(value, expected);
    }

    /// Amazon S3 API Reference, "Signature calculations for the authorization header".
    #[test]
    fn published_examples_of_s3_have_their_published_signatures() {
        let host = ("host", "examplebucket.s3.amazonaws.com");
        let date = ("x-amz-date", "20130524T000000Z");
        let nothing = sha256_hex(b"");
        let body = sha256_hex(b"Welcome to Amazon S3.");
        let empty = ("x-amz-content-sha256", &nothing[..]);
        let range = ("range", "bytes=0-9");
        check(
            &Signed {
                method: "GET",
                path: "/test.txt",
                query: "",
                headers: &[host, range, empty, date],
                body_hash: &nothing,
            },
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        );
        check(
            &Signed {
                method: "PUT",
                path: "/test%24file.text",
                query: "",
                headers: &[
                    ("date", "Fri, 24 May 2013 00:00:00 GMT"),
                    host,
                    ("x-amz-content-sha256", &body),
                    date,
                    ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
                ],
                body_hash: &body,
            },
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        );
        let get = |query, signature| {
            let headers = &[host, empty, date];
            let request = Signed { method: "GET", path: "/", query, headers, body_hash: &nothing };
            check(&request, signature);
        };
        get("lifecycle=", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
        get(
            "max-keys=2&prefix=J",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        );
    }

    /// AWS Signature Version 4 test suite, `get-vanilla`.
    #[test]
    fn the_suites_plainest_request_has_its_published_signature() {
        let credentials = Credentials {
            key_id: "AKIDEXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: None,
        };
        let scope = Scope { time: "20150830T123600Z", region: "us-east-1", service: "service" };
        let headers = &[("host", "example.amazonaws.com"), ("x-amz-date", scope.time)];
        let body_hash = &sha256_hex(b"");
        let request = Signed { method: "GET", path: "/", query: "", headers, body_hash };
        assert_eq!(
            authorization(&credentials, &scope, &request),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date, \
             Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        );
    }
}
