//! An HTTP request's head as control needs it: what is asked for, with which secret, and how the body comes. Pure.

use cache_core::wire::StreamName;

use super::body::Coding;

/// Headers that are looked at; an encoder sends about six.
const HEADERS_MAX: usize = 64;

/// What a request asks of control.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// `PUT` or `POST /live/NAME`: a stream is uploaded.
    Publish(Publish),
    /// `GET /stats`.
    Stats,
    /// `GET /`.
    Help,
}

/// An upload's head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Publish {
    /// The stream.
    pub(super) name: StreamName,
    /// The publish secret that was shown, by `?key=` or `Authorization`.
    pub(super) secret: Option<String>,
    /// `?takeover=1`: replace a publisher that is live.
    pub(super) takeover: bool,
    /// How the body comes.
    pub(super) coding: Coding,
    /// The sender waits for `100 Continue`.
    pub(super) expects_continue: bool,
}

/// Why a request is not served: a status, and a line for the person who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadRequest(pub(super) u16, pub(super) &'static str);

/// Reads a whole head; the bytes from the returned offset on are body.
pub(super) fn read(bytes: &[u8]) -> Result<(Request, usize), BadRequest> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let len = match request.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Err(BadRequest(431, "The request's head is too long.")),
        Err(_) => return Err(BadRequest(400, "This is not an HTTP request that can be read.")),
    };
    let target = request.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let request = match (request.method.unwrap_or_default(), path) {
        ("PUT" | "POST", path) => Request::Publish(publish(path, query, request.headers)?),
        ("GET", "/stats") => Request::Stats,
        ("GET", "/") => Request::Help,
        _ => return Err(BadRequest(404, "Nothing is served under this path; streams are at /live/NAME.ts.")),
    };
    Ok((request, len))
}

fn publish(path: &str, query: &str, headers: &[httparse::Header<'_>]) -> Result<Publish, BadRequest> {
    let name = path.strip_prefix("/live/").ok_or(BadRequest(404, "Publish to /live/NAME."))?;
    let name = name.strip_suffix(".ts").unwrap_or(name);
    let name = StreamName::new(name).map_err(|_| {
        BadRequest(400, "A stream name has 1 to 64 characters of A-Z a-z 0-9 . _ - and does not begin with a dot.")
    })?;
    let mut publish =
        Publish { name, secret: None, takeover: false, coding: Coding::UntilClose, expects_continue: false };
    let mut chunked = false;
    for header in headers {
        let value = std::str::from_utf8(header.value).unwrap_or_default().trim();
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                return Err(BadRequest(501, "The only Transfer-Encoding that is understood is chunked."));
            }
            chunked = true;
        } else if header.name.eq_ignore_ascii_case("content-length") {
            let length = value.parse().map_err(|_| BadRequest(400, "Content-Length is not a number."))?;
            publish.coding = Coding::Length(length);
        } else if header.name.eq_ignore_ascii_case("expect") {
            publish.expects_continue = value.eq_ignore_ascii_case("100-continue");
        } else if header.name.eq_ignore_ascii_case("authorization") {
            publish.secret = authorization(value);
        }
    }
    if chunked {
        // RFC 9112, 6.3: Transfer-Encoding overrides Content-Length.
        publish.coding = Coding::Chunked;
    }
    for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match key {
            "key" => publish.secret = Some(percent_decoded(value)),
            "takeover" => publish.takeover = value == "1",
            _ => {}
        }
    }
    Ok(publish)
}

/// The secret of `Bearer SECRET` or `Basic base64(anything:SECRET)`.
fn authorization(value: &str) -> Option<String> {
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let pair = String::from_utf8(base64_decoded(rest.trim())?).ok()?;
        return Some(pair.split_once(':')?.1.to_owned());
    }
    None
}

/// `%XX` as its byte; what is not UTF-8 then stays as it was.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |at: usize| tail.get(at).and_then(|c| (*c as char).to_digit(16));
        match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// RFC 4648; `None` for anything else. Padding may be missing.
fn base64_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0u32, 0);
    for c in text.trim_end_matches('=').bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(head: &str) -> Publish {
        match read(head.as_bytes()).expect("a good request") {
            (Request::Publish(publish), len) => {
                assert_eq!(len, head.len());
                publish
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_ffmpeg_sends() {
        let head = "PUT /live/test HTTP/1.1\r\nTransfer-Encoding: chunked\r\nUser-Agent: Lavf/59.27.100\r\nAccept: */*\r\n\
                    Expect: 100-continue\r\nConnection: close\r\nHost: 127.0.0.1:7400\r\nIcy-MetaData: 1\r\n\r\n";
        let publish = publish(head);
        assert_eq!(publish.name.as_str(), "test");
        assert_eq!(publish.coding, Coding::Chunked);
        assert!(publish.expects_continue && publish.secret.is_none() && !publish.takeover);
    }

    #[test]
    fn the_secret_may_come_in_three_ways() {
        let by_key = publish("POST /live/a.ts?takeover=1&key=s%20%C3%A9 HTTP/1.1\r\n\r\n");
        assert_eq!((by_key.secret.as_deref(), by_key.takeover), (Some("s \u{e9}"), true));
        let bearer = publish("PUT /live/a HTTP/1.1\r\nAuthorization: Bearer s3cret\r\n\r\n");
        assert_eq!(bearer.secret.as_deref(), Some("s3cret"));
        let basic = publish("PUT /live/a HTTP/1.1\r\nauthorization: basic cHVibGlzaGVyOnMzY3JldA==\r\n\r\n");
        assert_eq!(basic.secret.as_deref(), Some("s3cret"));
    }

    #[test]
    fn the_body_comes_in_three_ways() {
        let coding = |header: &str| publish(&format!("PUT /live/a HTTP/1.1\r\n{header}\r\n\r\n")).coding;
        assert_eq!(coding("Content-Length: 376"), Coding::Length(376));
        assert_eq!(coding("Content-Length: 5\r\nTransfer-Encoding: Chunked"), Coding::Chunked);
        assert_eq!(coding("X: y"), Coding::UntilClose);
    }

    #[test]
    fn what_is_not_served_is_said() {
        let status = |head: &str| read(head.as_bytes()).expect_err("not served").0;
        assert_eq!(status("PUT /live/ HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status("PUT /live/a%20b HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status("PUT /elsewhere HTTP/1.1\r\n\r\n"), 404);
        assert_eq!(status("DELETE /live/a HTTP/1.1\r\n\r\n"), 404);
        assert_eq!(status("PUT /live/a HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n"), 501);
        assert_eq!(status("PUT /live/a HTTP/1.1\r\nContent-Length: x\r\n\r\n"), 400);
        assert_eq!(status("PUT /live/a HTTP/1.1\r\n"), 431);
        assert_eq!(status("\0\0\r\n\r\n"), 400);
        assert_eq!(read(b"GET /stats HTTP/1.1\r\n\r\n"), Ok((Request::Stats, 23)));
    }

    #[test]
    fn base64_is_read_or_refused() {
        assert_eq!(base64_decoded("YTpi").as_deref(), Some(&b"a:b"[..]));
        assert_eq!(base64_decoded("YTpiYw").as_deref(), Some(&b"a:bc"[..]));
        assert_eq!(base64_decoded("Y Tpi"), None);
    }
}
