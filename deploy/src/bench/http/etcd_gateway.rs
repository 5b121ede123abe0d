//! etcd's JSON gateway: keys and values in base64.

use std::io::Write;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;

use super::connection::Dialect;
use crate::bench::workload::Request;

/// `POST /v3/kv/put` and `/v3/kv/range`.
pub(in crate::bench) struct EtcdGateway;

impl Dialect for EtcdGateway {
    fn encode(host: &str, request: &Request<'_>, out: &mut Vec<u8>) {
        let (path, body) = match request {
            Request::Put(pair) => {
                let value = Base64Display::new(pair.value.as_bytes(), &STANDARD);
                let key = Base64Display::new(pair.key.as_bytes(), &STANDARD);
                ("put", format!(r#"{{"key":"{key}","value":"{value}"}}"#))
            }
            Request::Get(pair) => {
                let key = Base64Display::new(pair.key.as_bytes(), &STANDARD);
                ("range", format!(r#"{{"key":"{key}"}}"#))
            }
            // Refused with the options: the gateway has no batch whose parts stand on their own.
            Request::Batch(_) | Request::Publish(..) => {
                unreachable!("batches are for Caucus only")
            }
            Request::Txn(_) | Request::List(_) | Request::Lock(_) => {
                unreachable!("these are for gRPC only")
            }
        };
        write!(
            out,
            "POST /v3/kv/{path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len(),
        )
        .expect("writing to memory doesn't fail");
    }

    fn check(request: &Request<'_>, body: &[u8]) -> bool {
        match request {
            Request::Put(_)
            | Request::Batch(_)
            | Request::Publish(..)
            | Request::Txn(_)
            | Request::List(_)
            | Request::Lock(_) => true,
            // A missing key is answered with 200 and the header alone.
            Request::Get(pair) => body.len() > pair.value.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::keyspace::Pair;

    #[test]
    fn keys_and_values_are_base64() {
        let mut out = Vec::new();
        EtcdGateway::encode(
            "h:1",
            &Request::Put(Pair {
                key: "foo",
                value: "bar",
            }),
            &mut out,
        );
        let text = String::from_utf8(out).expect("text");
        assert!(text.starts_with("POST /v3/kv/put HTTP/1.1\r\n"), "{text}");
        assert!(text.contains("Content-Length: 29\r\n"), "{text}");
        assert!(
            text.ends_with("\r\n\r\n{\"key\":\"Zm9v\",\"value\":\"YmFy\"}"),
            "{text}"
        );
    }
}
