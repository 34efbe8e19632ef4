//! HTTP as far as control serves it: uploads, `/stats` (loopback only), a line of help.
//!
//! | request | answer |
//! |---|---|
//! | `PUT` or `POST /live/NAME` with MPEG-TS | 200 at the body's end; 403, 409, 415, 503 ... with a line that says what to do |
//! | `GET /stats` | JSON; 403 from elsewhere than this host |
//! | `GET /` | what this is |
//!
//! Viewers' requests never come here: shards serve them. Every response ends its connection.

mod body;
mod head;
mod upload;

use std::rc::Rc;

use cache_core::time::Span;

use super::hub::Hub;
use super::link::Link;
use super::stats;
use head::{BadRequest, Request};

const WRITE_WITHIN: Span = Span::from_secs(5);

/// What is read of a body that was refused, so that the answer arrives: two seconds or 4 MiB (our guess: what is under
/// way from an encoder at 16 Mbit/s).
const LINGER: Span = Span::from_secs(2);
const LINGER_BYTES_MAX: usize = 4 << 20;

const HELP: &str = "This is a Weircast cache server.\n\
    watch:   http://HOST:PORT/live/NAME.ts\n\
    publish: ffmpeg ... -f mpegts -method PUT http://HOST:PORT/live/NAME\n";

/// A response.
#[derive(Debug)]
struct Response {
    status: u16,
    content_type: &'static str,
    retry_after_s: Option<u32>,
    body: String,
}

impl Response {
    fn text(status: u16, body: impl Into<String>) -> Response {
        let mut body = body.into();
        if !body.ends_with('\n') {
            body.push('\n');
        }
        Response { status, content_type: "text/plain; charset=utf-8", retry_after_s: None, body }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let retry = self.retry_after_s.map(|s| format!("Retry-After: {s}\r\n")).unwrap_or_default();
        format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{retry}Connection: close\r\n\r\n{}",
            self.status,
            reason(self.status),
            self.content_type,
            self.body.len(),
            self.body
        )
        .into_bytes()
    }
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        _ => "Service Unavailable",
    }
}

/// Serves one request. `read` holds its whole head.
pub(super) async fn serve(hub: &Rc<Hub>, link: Link, read: Vec<u8>) {
    let link = Rc::new(link);
    let response = match head::read(&read) {
        Ok((Request::Publish(publish), head_len)) => upload::take(hub, &link, publish, &read[head_len..]).await,
        Ok((Request::Stats, _)) if link.peer().ip().to_canonical().is_loopback() => Some(Response {
            status: 200,
            content_type: "application/json",
            retry_after_s: None,
            body: stats::json(hub).to_string() + "\n",
        }),
        Ok((Request::Stats, _)) => Some(Response::text(403, "Statistics are for this host only: ask 127.0.0.1.")),
        Ok((Request::Help, _)) => Some(Response::text(200, HELP)),
        Err(BadRequest(status, said)) => Some(Response::text(status, said)),
    };
    let Some(response) = response else { return };
    if response.status >= 400 {
        hub.counters.http_errors.one();
        tracing::info!(from = %link.peer(), status = response.status, said = response.body.trim_end(), "HTTP refused");
    }
    if link.write_all(&response.to_bytes(), WRITE_WITHIN).await.is_ok() {
        link.linger(LINGER, LINGER_BYTES_MAX).await;
    }
}
