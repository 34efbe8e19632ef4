//! As much of a reader of Rust as rules about sources need.
#![allow(unreachable_pub, reason = "used by one test binary")]

/// `text` without its comments, and with its texts and characters empty.
pub fn strip(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let raw = raw_string_hashes(rest).filter(|_| !code.ends_with(is_word));
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(hashes) = raw {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = rest.find('"').map_or(rest.len(), |at| at + 1);
            rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len())
        } else if c == '"' {
            quoted(rest, '"')
        } else if c == '\'' && is_character(rest) {
            quoted(rest, '\'')
        } else {
            0
        };
        if skipped == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            code.push(' ');
            rest = &rest[skipped..];
        }
    }
    code
}

/// Of `r#"..."#`, how many `#`; `None` for anything else.
fn raw_string_hashes(rest: &str) -> Option<usize> {
    let tail = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = tail.len() - tail.trim_start_matches('#').len();
    tail[hashes..].starts_with('"').then_some(hashes)
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        let (step, change) = match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (2, 1),
            [b'*', b'/', ..] => (2, -1),
            _ => (1, 0),
        };
        at += step;
        depth += change;
        if depth == 0 {
            break;
        }
    }
    at
}

/// Bytes up to and with the closing quote.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Whether a quote begins a character, not a lifetime.
fn is_character(rest: &str) -> bool {
    let mut chars = rest.chars().skip(1);
    matches!((chars.next(), chars.next()), (Some('\\'), _) | (Some(_), Some('\'')))
}

/// `code` (stripped) without the modules that are compiled for tests alone.
pub fn without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(") {
        let attribute = &rest[at..];
        let end = attribute.find(']').map_or(attribute.len(), |end| end + 1);
        let is_test = words(&attribute[..end], "test") > 0 && !attribute[..end].contains("not(");
        kept.push_str(&rest[..at]);
        rest = &attribute[end..];
        if !is_test {
            kept.push_str(&attribute[..end]);
        } else if let Some(body) = rest.find(['{', ';']) {
            rest = &rest[body + if rest[body..].starts_with('{') { block(&rest[body..]) } else { 1 }..];
        }
    }
    kept + rest
}

/// Bytes of a block in braces.
fn block(rest: &str) -> usize {
    let mut depth = 0;
    for (at, c) in rest.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return at + 1;
        }
    }
    rest.len()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// How often `word` stands in `code`, as a whole.
pub fn words(code: &str, word: &str) -> usize {
    let whole = |at: usize| !code[..at].ends_with(is_word) && !code[at + word.len()..].starts_with(is_word);
    code.match_indices(word).filter(|(at, _)| whole(*at)).count()
}

/// The paths inside the crate that `code` (stripped) of the module `module` names, from the crate's root.
pub fn crate_paths(code: &str, module: &[&str]) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let roots = code.match_indices("crate::").chain(code.match_indices("super::"));
    for (at, root) in roots {
        let before = &code[..at];
        if before.ends_with(is_word) || before.ends_with("super::") {
            continue;
        }
        let mut rest = &code[at + root.len()..];
        let mut base: Vec<String> = Vec::new();
        if root == "super::" {
            let mut up = 1;
            while let Some(tail) = rest.strip_prefix("super::") {
                rest = tail;
                up += 1;
            }
            base.extend(module[..module.len().saturating_sub(up)].iter().map(|name| (*name).to_owned()));
        }
        tree(rest, &base, &mut paths);
    }
    paths.retain(|path| !path.is_empty());
    paths
}

/// The paths of a use tree, `a::b` or `{a::b, c::{d, e}}`, behind `base`. Returns what follows it.
fn tree<'a>(rest: &'a str, base: &[String], paths: &mut Vec<Vec<String>>) -> &'a str {
    let rest = rest.trim_start();
    let Some(mut inside) = rest.strip_prefix('{') else {
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let mut path = base.to_vec();
        if end > 0 && rest.starts_with(|c: char| c.is_lowercase() || c == '_') && &rest[..end] != "self" {
            path.push(rest[..end].to_owned());
        }
        return match rest[end..].strip_prefix("::") {
            Some(tail) => tree(tail, &path, paths),
            None => {
                paths.push(path);
                &rest[end..]
            }
        };
    };
    loop {
        inside = tree(inside, base, paths).trim_start();
        // Past `as name` and the like, up to the next branch.
        let next = inside.find([',', '}']).unwrap_or(inside.len());
        inside = &inside[next..];
        match inside.strip_prefix(',') {
            Some(tail) if !tail.trim_start().starts_with('}') => inside = tail,
            Some(tail) => return tail.trim_start().strip_prefix('}').unwrap_or(tail),
            None => return inside.strip_prefix('}').unwrap_or(inside),
        }
    }
}

#[test]
fn comments_and_texts_are_no_code() {
    let code = strip("a // unsafe\nb /* unsafe /* x */ */ c \"un\\\"safe\" r#\"unsafe \" \"# 'x' '\\'' &'a d");
    assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "b", "c", "&'a", "d"]);
}

#[test]
fn tests_are_left_out() {
    let code = "a #[cfg(test)] mod tests { b { } } c #[cfg(feature)] d #[cfg(test)] mod e; f";
    let kept = without_tests(code);
    assert_eq!(kept.split_whitespace().collect::<Vec<_>>(), ["a", "c", "#[cfg(feature)]", "d", "f"]);
}

#[test]
fn paths_are_found_in_trees_and_upwards() {
    let paths = |code: &str| -> Vec<String> {
        crate_paths(code, &["proto", "peer", "urgent"]).iter().map(|path| path.join("::")).collect()
    };
    assert_eq!(paths("use crate::wire::codec::Reader;"), ["wire::codec"]);
    assert_eq!(
        paths("use crate::{ring, time::{Span, Time}, proto::index::Swarm as S,};"),
        ["ring", "time", "time", "proto::index"]
    );
    assert_eq!(paths("super::config::Config + super::super::index::X"), ["proto::peer::config", "proto::index"]);
    assert_eq!(paths("super::super::super::ring::Slab"), ["ring"]);
}
