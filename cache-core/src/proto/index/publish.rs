//! Who may publish a name.
//!
//! Names are open unless a rule names them; a rule is a name, or a pattern with `*` for any run of characters, and a secret.
//! Of several rules that match, the one without `*` wins, then the longest.

use crate::sign::check_authorisation;
use crate::wire::StreamName;
use crate::wire::datagram::Cookie;
use crate::wire::index::PublishRequest;

/// A secret and the names that need it.
#[derive(Clone, PartialEq, Eq)]
pub struct PublishRule {
    /// A stream name, or a pattern with `*`.
    pub name: String,
    /// What a publisher must prove to know.
    pub secret: String,
}

impl std::fmt::Debug for PublishRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublishRule({}, secret)", self.name)
    }
}

/// What a request has proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// The name is open: anybody may publish it, nobody may take it from another.
    Open,
    /// The name's secret is known to the publisher.
    Secret,
}

/// The publish secret for the name is missing or wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAuthorised;

/// All rules.
#[derive(Clone, Debug, Default)]
pub struct PublishRules(Vec<PublishRule>);

impl PublishRules {
    /// The rules, in any order.
    pub fn new(mut rules: Vec<PublishRule>) -> PublishRules {
        rules.sort_by_key(|rule| (rule.name.contains('*'), std::cmp::Reverse(rule.name.len())));
        PublishRules(rules)
    }

    /// What `request`, sent with `cookie`, may do.
    pub fn judge(&self, request: &PublishRequest, cookie: &Cookie) -> Result<Authority, NotAuthorised> {
        match self.rule_of(&request.stream) {
            None => Ok(Authority::Open),
            Some(rule) if check_authorisation(&rule.secret, cookie, &request.stream, &request.key, &request.proof) => {
                Ok(Authority::Secret)
            }
            Some(_) => Err(NotAuthorised),
        }
    }

    /// The rule for `name`.
    pub fn rule_of(&self, name: &StreamName) -> Option<&PublishRule> {
        self.0.iter().find(|rule| matches(rule.name.as_bytes(), name.as_str().as_bytes()))
    }
}

/// Whether `name` fits `pattern`, in which `*` stands for any run of characters.
pub fn fits(pattern: &str, name: &StreamName) -> bool {
    matches(pattern.as_bytes(), name.as_str().as_bytes())
}

/// Whether `name` fits `pattern`, in which `*` stands for any run of characters. Cost: pattern times name.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where the last star stood, and up to where it has swallowed the name.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, n));
            p += 1;
        } else if pattern.get(p) == Some(&name[n]) {
            (p, n) = (p + 1, n + 1);
        } else if let Some((at, swallowed)) = star {
            star = Some((at, swallowed + 1));
            (p, n) = (at + 1, swallowed + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::publish_authorisation;
    use crate::wire::Blob;

    fn name(text: &str) -> StreamName {
        StreamName::new(text).expect("a name")
    }

    #[test]
    fn stars_stand_for_any_run() {
        let fits = |pattern: &str, name: &str| matches(pattern.as_bytes(), name.as_bytes());
        for (pattern, name) in
            [("*", "x"), ("live-*", "live-"), ("a*b*c", "a--b--b-c"), ("*-hd", "news-hd"), ("a", "a")]
        {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("live-*", "live"), ("a*b", "a-c"), ("a", "ab"), ("", "a"), ("*a", "ab")] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn the_narrowest_rule_wins() {
        let rule = |name: &str| PublishRule { name: name.into(), secret: name.into() };
        let rules = PublishRules::new(vec![rule("*"), rule("live-*"), rule("live-one")]);
        let of = |text| rules.rule_of(&name(text)).map(|rule| rule.name.as_str());
        assert_eq!(of("live-one"), Some("live-one"));
        assert_eq!(of("live-two"), Some("live-*"));
        assert_eq!(of("news"), Some("*"));
        assert_eq!(PublishRules::new(vec![rule("live-*")]).rule_of(&name("news")), None);
    }

    #[test]
    fn a_secret_must_be_proved_and_the_proof_is_bound_to_the_address() {
        let rules = PublishRules::new(vec![PublishRule { name: "live-*".into(), secret: "s3cret".into() }]);
        let (cookie, key) = (Cookie([7; 16]), [1; 32]);
        let request = |stream: &str, proof| PublishRequest {
            stream: name(stream),
            key,
            proof,
            possession: [0; 64],
            takeover: false,
            at_cache: None,
            ticket: Blob::default(),
        };
        let proof = publish_authorisation("s3cret", &cookie, &name("live-a"), &key);
        assert_eq!(rules.judge(&request("live-a", proof), &cookie), Ok(Authority::Secret));
        assert_eq!(rules.judge(&request("live-b", proof), &cookie), Err(NotAuthorised));
        assert_eq!(rules.judge(&request("live-a", proof), &Cookie([8; 16])), Err(NotAuthorised));
        assert_eq!(rules.judge(&request("live-a", [0; 32]), &cookie), Err(NotAuthorised));
        assert_eq!(rules.judge(&request("news", [0; 32]), &cookie), Ok(Authority::Open));
    }
}
