//! HTTP as far as viewers need it: request heads in, response heads out. Pure: bytes and texts.
//!
//! | request | answer |
//! |---|---|
//! | `GET /live/NAME.ts` | 200 `video/mp2t` without a length: the stream from a key frame on; 404 when nobody publishes it |
//! | `GET /live/NAME.ts?back_s=N` | the same from N s ago, or from as long ago as is kept |
//! | `GET /live/NAME/SEQ.ts` | 200 `video/mp2t`: chunk SEQ, tables and all; 404 when it is gone or does not come in time |
//! | `GET /live/NAME/head` | 200 JSON: `{"oldest":SEQ,"head":SEQ}` |
//! | `HEAD` of these | the same head, no body |
//! | `PUT`, `POST`, `GET /stats` | control's |
//! | anything else | 404, 405, 400, 414 or 431 with one line of text |
//!
//! A player that begins N s ago is sent what it takes, not at the stream's pace: what it reads ahead starts it sooner and survives
//! a longer gap, its full buffer stops the socket, and each turn's bytes are bounded, so that it costs the others a turn.
//!
//! Answers about single chunks leave the connection open (`asker.rs`); every other response ends it. Other keys
//! behind a `?` are passed over. A target may name its host (`GET http://HOST/live/NAME.ts`), which is passed over too.

use std::io::Write;

use cache_core::units::{CHUNK_SPAN, ChunkSeq};
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
        /// How many chunks behind the newest it wants to begin, if it says so.
        back: Option<u64>,
    },
    /// About single chunks: an asker's, of whom more requests may follow.
    Asker,
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
    /// 400: `back_s` is no number.
    Back,
    /// 404: the path leads nowhere.
    NoSuchPath,
    /// 404: the stream is not live.
    NoSuchStream,
    /// 404: the chunk has left the ring, or never was.
    GoneChunk,
    /// 404: the chunk is too far ahead, or did not come in time.
    NotYetChunk,
    /// 405.
    Method,
    /// 421: it is answered on a connection of its own.
    Anew,
    /// 414.
    UriTooLong,
    /// 431.
    HeadTooLong,
    /// 503: no room, or going out of service.
    Unavailable,
}

/// A whole request head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    /// Without its query.
    pub(super) path: &'a str,
    /// What stands behind the path's `?`.
    pub(super) query: &'a str,
    /// The other side wants the connection closed afterwards, or does not know that it could stay open.
    pub(super) close: bool,
    /// A body follows.
    pub(super) body: bool,
    /// Bytes of the head.
    pub(super) len: usize,
}

/// What an asker asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// That chunk.
    Chunk(ChunkSeq),
    /// Which chunks there are.
    Head,
}

/// Reads the request head that `bytes` begin with; `None` while it is not whole. Cost: one pass over at most 4 KiB.
pub(super) fn parse(bytes: &[u8]) -> Option<Result<Request<'_>, HttpError>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    Some(match request.parse(bytes) {
        Ok(httparse::Status::Complete(len)) if len > HANDSHAKE_BYTES_MAX => Err(HttpError::HeadTooLong),
        Ok(httparse::Status::Complete(len)) => {
            let mut close = request.version != Some(1);
            let mut body = false;
            for header in request.headers.iter() {
                if header.name.eq_ignore_ascii_case("connection") {
                    close |= header
                        .value
                        .split(|byte| *byte == b',')
                        .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
                } else if header.name.eq_ignore_ascii_case("content-length") {
                    body |= header.value != b"0";
                } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                    body = true;
                }
            }
            let (path, query) = split(request.path.unwrap_or(""));
            Ok(Request { method: request.method.unwrap_or(""), path, query, close, body, len })
        }
        Ok(httparse::Status::Partial) if bytes.len() < HANDSHAKE_BYTES_MAX => return None,
        Ok(httparse::Status::Partial) if bytes.contains(&b'\n') => Err(HttpError::HeadTooLong),
        Ok(httparse::Status::Partial) => Err(HttpError::UriTooLong),
        Err(httparse::Error::TooManyHeaders) => Err(HttpError::HeadTooLong),
        Err(_) => Err(HttpError::Malformed),
    })
}

/// Whether the request whose first bytes these are wants no body in its answer.
pub(super) fn is_head(request: &[u8]) -> bool {
    request.starts_with(b"HEAD ")
}

/// A target's path and query: `/live/news.ts?back_s=5`, or the same behind a scheme and a host.
pub(super) fn split(target: &str) -> (&str, &str) {
    let target = target.split('#').next().unwrap_or("");
    let behind_scheme = ["http://", "https://"].into_iter().find_map(|scheme| {
        target.get(..scheme.len()).filter(|start| start.eq_ignore_ascii_case(scheme)).map(|_| &target[scheme.len()..])
    });
    let target = behind_scheme.map_or(target, |rest| rest.find(['/', '?']).map_or("", |at| &rest[at..]));
    target.split_once('?').unwrap_or((target, ""))
}

/// How far back a query asks to begin, in chunks.
fn back(query: &str) -> Result<Option<u64>, HttpError> {
    let Some(text) = query.split('&').find_map(|part| part.strip_prefix("back_s=")) else { return Ok(None) };
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds: u64 = digits.then(|| text.parse().unwrap_or(u64::MAX)).ok_or(HttpError::Back)?;
    Ok(Some(seconds.saturating_mul(1_000 / CHUNK_SPAN.millis())))
}

/// Judges a connection's first request; `None` while its head is not whole.
pub(super) fn judge(bytes: &[u8]) -> Option<HttpVerdict> {
    Some(match parse(bytes)? {
        Ok(request) => route(&request),
        Err(error) => HttpVerdict::Error(error),
    })
}

/// Where a request leads.
pub(super) fn route(request: &Request<'_>) -> HttpVerdict {
    let Request { method, path, .. } = *request;
    if asked(request).is_some() {
        return HttpVerdict::Asker;
    }
    let stream = path.strip_prefix("/live/").and_then(|file| file.strip_suffix(".ts"));
    match (method, path, stream.map(StreamName::new)) {
        ("PUT" | "POST", ..) | ("GET", "/stats", _) => HttpVerdict::Control,
        ("GET" | "HEAD", _, Some(Ok(name))) => match back(request.query) {
            Ok(back) => HttpVerdict::Playout { name, head_only: method == "HEAD", back },
            Err(error) => HttpVerdict::Error(error),
        },
        ("GET" | "HEAD", ..) => HttpVerdict::Error(HttpError::NoSuchPath),
        _ => HttpVerdict::Error(HttpError::Method),
    }
}

/// What an asker's request is about: the stream's name, not yet checked, and what of it.
pub(super) fn asked<'a>(request: &Request<'a>) -> Option<(&'a str, Asked)> {
    if !matches!(request.method, "GET" | "HEAD") {
        return None;
    }
    let (name, file) = request.path.strip_prefix("/live/")?.split_once('/')?;
    if file == "head" {
        return Some((name, Asked::Head));
    }
    let digits = file.strip_suffix(".ts")?;
    // `parse` would take a sign.
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
    Some((name, Asked::Chunk(ChunkSeq::new(number))))
}

/// Appends the head in front of a chunk's `len` bytes. A chunk does not change; it may be kept for a minute, less than
/// a stream that ended is remembered here before its name could begin anew.
pub(super) fn put_chunk_head(out: &mut Vec<u8>, len: u32, close: bool) {
    let close = if close { CLOSE } else { "" };
    // Writing into a Vec does not fail.
    let _ = write!(
        out,
        "HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nContent-Length: {len}\r\n\
         Cache-Control: public, max-age=60, immutable\r\nAccess-Control-Allow-Origin: *\r\n{close}\r\n"
    );
}

/// Appends the answer to [`Asked::Head`], or with `head_only` its head.
pub(super) fn put_live(out: &mut Vec<u8>, oldest: ChunkSeq, head: ChunkSeq, head_only: bool, close: bool) {
    let close = if close { CLOSE } else { "" };
    let body = format!("{{\"oldest\":{oldest},\"head\":{head}}}\n");
    let len = body.len();
    let _ = write!(
        out,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len}\r\nCache-Control: no-store\r\n\
         Access-Control-Allow-Origin: *\r\n{close}\r\n{}",
        if head_only { "" } else { &body }
    );
}

const CLOSE: &str = "Connection: close\r\n";

/// The head of a playout.
pub(super) const PLAYOUT_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nCache-Control: no-store\r\n\
Access-Control-Allow-Origin: *\r\nConnection: close\r\n\r\n";

impl HttpError {
    /// The whole response, or with `head_only` its head; `close` says that it is the connection's last.
    pub(super) fn response(self, head_only: bool, close: bool) -> String {
        let (status, extra, text) = match self {
            HttpError::Malformed => ("400 Bad Request", "", "This is not an HTTP/1 request."),
            HttpError::Back => ("400 Bad Request", "", "back_s takes a number of seconds: /live/NAME.ts?back_s=30"),
            HttpError::NoSuchPath => (
                "404 Not Found",
                "",
                "Streams are at /live/NAME.ts, chunks at /live/NAME/SEQ.ts; NAME is of A-Z a-z 0-9 . _ -",
            ),
            HttpError::NoSuchStream => ("404 Not Found", "", "No such stream is live."),
            HttpError::GoneChunk => ("404 Not Found", "", "This chunk is no longer here, or never was."),
            HttpError::NotYetChunk => ("404 Not Found", "Retry-After: 1\r\n", "This chunk is not here yet."),
            HttpError::Anew => ("421 Misdirected Request", "", "Connect anew for this."),
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
        let close = if close { CLOSE } else { "" };
        let mut response = format!(
            "HTTP/1.1 {status}\r\n{extra}Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len}\r\n\
             Cache-Control: no-store\r\n{close}\r\n"
        );
        if !head_only {
            response.push_str(text);
            response.push('\n');
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(line: &str) -> HttpVerdict {
        judge(format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).expect("the head is whole")
    }

    fn playout(name: &str, head_only: bool) -> HttpVerdict {
        HttpVerdict::Playout { name: StreamName::new(name).expect("a good name"), head_only, back: None }
    }

    #[test]
    fn a_playout_says_how_far_back_it_begins() {
        let back = |query: &str| match verdict(&format!("GET /live/news.ts?{query}")) {
            HttpVerdict::Playout { back, .. } => Ok(back),
            other => Err(other),
        };
        assert_eq!(back("back_s=30"), Ok(Some(150)));
        assert_eq!(back("t=1&back_s=0&weircast-hop=1"), Ok(Some(0)));
        assert_eq!(back("back_s=99999999999999999999999"), Ok(Some(u64::MAX)));
        assert_eq!(back("back=30&xback_s=3"), Ok(None));
        for query in ["back_s=", "back_s=-1", "back_s=+1", "back_s=5m", "back_s=1.5"] {
            assert_eq!(back(query), Err(HttpVerdict::Error(HttpError::Back)), "{query}");
        }
    }

    #[test]
    fn a_target_may_name_its_host() {
        assert_eq!(verdict("GET http://cache.example:7400/live/news.ts?t=1"), playout("news", false));
        assert_eq!(verdict("GET HTTPS://x/live/news/1.ts"), HttpVerdict::Asker);
        assert_eq!(verdict("GET http://x/stats"), HttpVerdict::Control);
        for line in ["GET http://x", "GET http://", "GET http:///", "GET ftp://x/live/news.ts", "GET *"] {
            assert_eq!(verdict(line), HttpVerdict::Error(HttpError::NoSuchPath), "{line}");
        }
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
    fn requests_about_single_chunks_are_read() {
        let asked_in = |line: &str| {
            let head = format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n");
            let request = parse(head.as_bytes()).expect("whole").expect("well formed");
            asked(&request).map(|(name, asked)| (name.to_owned(), asked))
        };
        let chunk = |number| Some(("news".to_owned(), Asked::Chunk(ChunkSeq::new(number))));
        assert_eq!(asked_in("GET /live/news/0.ts"), chunk(0));
        assert_eq!(asked_in("HEAD /live/news/18446744073709551615.ts?x"), chunk(u64::MAX));
        assert_eq!(asked_in("GET /live/news/head"), Some(("news".to_owned(), Asked::Head)));
        for line in [
            "GET /live/news/.ts",
            "GET /live/news/+1.ts",
            "GET /live/news/-1.ts",
            "GET /live/news/1",
            "GET /live/news/18446744073709551616.ts",
            "GET /live/news/1/2.ts",
            "GET /live/news/heads",
            "POST /live/news/1.ts",
        ] {
            assert_eq!(asked_in(line), None, "{line}");
        }
        assert_eq!(verdict("GET /live/news/1.ts"), HttpVerdict::Asker);
    }

    #[test]
    fn a_head_tells_how_the_connection_goes_on() {
        let read = |text: &str| {
            let request = parse(text.as_bytes()).expect("whole").expect("well formed");
            (request.close, request.body, request.len == text.len())
        };
        assert_eq!(read("GET / HTTP/1.1\r\n\r\n"), (false, false, true));
        assert_eq!(read("GET / HTTP/1.1\r\nConnection: keep-alive, Close\r\n\r\n"), (true, false, true));
        assert_eq!(read("GET / HTTP/1.0\r\n\r\n"), (true, false, true));
        assert_eq!(read("GET / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"), (false, true, false));
        assert_eq!(read("GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"), (false, true, true));
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
        let response = HttpError::Method.response(false, true);
        let (head, body) = response.split_once("\r\n\r\n").expect("head and body");
        assert!(head.contains(&format!("Content-Length: {}", body.len())) && head.contains("Allow: GET"), "{head}");
    }
}
