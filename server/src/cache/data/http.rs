//! HTTP as far as viewers need it: one request head in, one response head out, then transport stream until the end.
//!
//! | request | answer |
//! |---|---|
//! | `GET /live/NAME.ts` | 200 `video/mp2t` without a length: the stream from a key frame on; 404 when nobody publishes it |
//! | `HEAD /live/NAME.ts` | the same head, no body |
//! | `PUT`, `POST`, `GET /stats` | control's |
//! | anything else | 404, 405, 400, 414 or 431 with one line of text |
//!
//! Every response ends its connection.

use cache_core::wire::StreamName;

use super::config::HANDSHAKE_BYTES_MAX;

/// Headers that are looked at; a browser sends about 15.
const HEADERS_MAX: usize = 48;

/// A whole request head's meaning.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HttpVerdict {
    /// `GET` (or `HEAD`) of a stream.
    Playout {
        /// The stream.
        name: StreamName,
        /// The response's head only.
        head_only: bool,
    },
    /// Control's.
    Control,
    /// An error.
    Error(HttpError),
}

/// An error response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HttpError {
    /// 400.
    Malformed,
    /// 404: the path leads nowhere.
    NoSuchPath,
    /// 404: the stream is not live.
    NoSuchStream,
    /// 405.
    Method,
    /// 414.
    UriTooLong,
    /// 431.
    HeadTooLong,
    /// 503: no room, or going out of service.
    Unavailable,
}

/// Judges a request; `None` while its head is not whole.
pub(super) fn judge(bytes: &[u8]) -> Option<HttpVerdict> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    Some(match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => route(request.method.unwrap_or(""), request.path.unwrap_or("")),
        Ok(httparse::Status::Partial) if bytes.len() < HANDSHAKE_BYTES_MAX => return None,
        Ok(httparse::Status::Partial) if bytes.contains(&b'\n') => HttpVerdict::Error(HttpError::HeadTooLong),
        Ok(httparse::Status::Partial) => HttpVerdict::Error(HttpError::UriTooLong),
        Err(httparse::Error::TooManyHeaders) => HttpVerdict::Error(HttpError::HeadTooLong),
        Err(_) => HttpVerdict::Error(HttpError::Malformed),
    })
}

fn route(method: &str, target: &str) -> HttpVerdict {
    let path = target.split(['?', '#']).next().unwrap_or("");
    let stream = path.strip_prefix("/live/").and_then(|file| file.strip_suffix(".ts"));
    match (method, path, stream.map(StreamName::new)) {
        ("PUT" | "POST", ..) | ("GET", "/stats", _) => HttpVerdict::Control,
        ("GET" | "HEAD", _, Some(Ok(name))) => HttpVerdict::Playout { name, head_only: method == "HEAD" },
        ("GET" | "HEAD", ..) => HttpVerdict::Error(HttpError::NoSuchPath),
        _ => HttpVerdict::Error(HttpError::Method),
    }
}

/// The head of a playout.
pub(super) const PLAYOUT_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nCache-Control: no-store\r\n\
Access-Control-Allow-Origin: *\r\nConnection: close\r\n\r\n";

impl HttpError {
    /// The whole response.
    pub(super) fn response(self) -> String {
        let (status, extra, text) = match self {
            HttpError::Malformed => ("400 Bad Request", "", "This is not an HTTP/1 request."),
            HttpError::NoSuchPath => {
                ("404 Not Found", "", "Streams are at /live/NAME.ts; NAME is of A-Z a-z 0-9 . _ -")
            }
            HttpError::NoSuchStream => ("404 Not Found", "", "No such stream is live."),
            HttpError::Method => {
                ("405 Method Not Allowed", "Allow: GET, HEAD, PUT, POST\r\n", "GET plays, PUT publishes.")
            }
            HttpError::UriTooLong => ("414 URI Too Long", "", "The request line is over 4096 bytes."),
            HttpError::HeadTooLong => {
                ("431 Request Header Fields Too Large", "", "The head is over 4096 bytes or 48 fields.")
            }
            HttpError::Unavailable => {
                ("503 Service Unavailable", "Retry-After: 1\r\n", "No capacity here at the moment.")
            }
        };
        let len = text.len() + 1;
        format!(
            "HTTP/1.1 {status}\r\n{extra}Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len}\r\n\
             Connection: close\r\n\r\n{text}\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(line: &str) -> HttpVerdict {
        judge(format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).expect("the head is whole")
    }

    fn playout(name: &str, head_only: bool) -> HttpVerdict {
        HttpVerdict::Playout { name: StreamName::new(name).expect("a good name"), head_only }
    }

    #[test]
    fn requests_go_where_they_belong() {
        assert_eq!(verdict("GET /live/news.ts"), playout("news", false));
        assert_eq!(verdict("GET /live/news.ts?t=1"), playout("news", false));
        assert_eq!(verdict("HEAD /live/a.b.ts"), playout("a.b", true));
        assert_eq!(verdict("PUT /live/news"), HttpVerdict::Control);
        assert_eq!(verdict("POST /anything"), HttpVerdict::Control);
        assert_eq!(verdict("GET /stats"), HttpVerdict::Control);
        for (line, error) in [
            ("GET /", HttpError::NoSuchPath),
            ("GET /live/news", HttpError::NoSuchPath),
            ("GET /live/.ts", HttpError::NoSuchPath),
            ("GET /live/../etc/passwd.ts", HttpError::NoSuchPath),
            ("DELETE /live/news.ts", HttpError::Method),
            ("GET", HttpError::Malformed),
        ] {
            assert_eq!(verdict(line), HttpVerdict::Error(error), "{line}");
        }
    }

    #[test]
    fn a_head_is_waited_for_up_to_its_limit() {
        assert_eq!(judge(b"GET /live/news.ts HTTP/1.1\r\nHost: x\r\n"), None);
        let long_uri = [b"GET /".as_slice(), &[b'a'; HANDSHAKE_BYTES_MAX]].concat();
        assert_eq!(judge(&long_uri), Some(HttpVerdict::Error(HttpError::UriTooLong)));
        let long_head = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'a'; HANDSHAKE_BYTES_MAX]].concat();
        assert_eq!(judge(&long_head), Some(HttpVerdict::Error(HttpError::HeadTooLong)));
    }

    #[test]
    fn error_responses_have_the_length_they_say() {
        let response = HttpError::Method.response();
        let (head, body) = response.split_once("\r\n\r\n").expect("head and body");
        assert!(head.contains(&format!("Content-Length: {}", body.len())) && head.contains("Allow: GET"), "{head}");
    }
}
