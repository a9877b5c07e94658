//! Requests and replies as bytes.
//!
//! There is no framing: a reply is whole when it parses. Anything may arrive in several reads.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Process lists of crowded sandboxes are the largest replies; more than this is no reply.
pub(super) const LARGEST_REPLY: usize = 4 << 20;

#[derive(Serialize)]
struct Request<'a, A> {
    method: &'a str,
    arg: A,
}

#[derive(Deserialize)]
struct Reply<R> {
    success: bool,
    #[serde(default)]
    err: String,
    result: Option<R>,
}

/// The bytes of a request.
pub(super) fn encode(method: &str, arg: impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Request { method, arg })
}

/// What the bytes received so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoded<R> {
    /// The reply isn't whole yet.
    More,
    /// The call succeeded.
    Success(Option<R>),
    /// The sentry reports an error in its own words.
    Error(String),
    /// This isn't a reply.
    Garbage(String),
}

/// Decodes a reply from everything received so far.
pub(super) fn decode<R: DeserializeOwned>(received: &[u8]) -> Decoded<R> {
    let mut replies = serde_json::Deserializer::from_slice(received).into_iter::<Reply<R>>();
    match replies.next() {
        None => Decoded::More,
        Some(Ok(reply)) if reply.success => Decoded::Success(reply.result),
        Some(Ok(reply)) => Decoded::Error(reply.err),
        Some(Err(error)) if error.is_eof() => Decoded::More,
        Some(Err(error)) => Decoded::Garbage(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT_REPLY: &str = r#"{"success":true,"err":"","result":1280}"#;

    #[test]
    fn a_reply_cut_at_any_byte_is_not_whole_yet() {
        for cut in 0..WAIT_REPLY.len() {
            assert_eq!(decode::<u32>(&WAIT_REPLY.as_bytes()[..cut]), Decoded::More, "cut at {cut}");
        }
        assert_eq!(decode(WAIT_REPLY.as_bytes()), Decoded::Success(Some(1280u32)));
    }

    #[test]
    fn an_error_comes_in_the_sentrys_words() {
        let reply = br#"{"success":false,"err":"unknown method","result":null}"#;
        assert_eq!(decode::<u32>(reply), Decoded::Error("unknown method".into()));
    }

    #[test]
    fn what_is_no_reply_is_garbage() {
        assert!(matches!(decode::<u32>(b"hello"), Decoded::Garbage(_)));
        assert!(matches!(decode::<u32>(br#"{"success":"yes"}"#), Decoded::Garbage(_)));
    }

    #[test]
    fn a_request_is_one_json_object() {
        let request = encode("containerManager.Wait", "c1").unwrap();
        assert_eq!(request, br#"{"method":"containerManager.Wait","arg":"c1"}"#);
    }
}
