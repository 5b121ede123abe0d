//! Conditional requests: an ETag is a revision in quotes.

use caucus_api::limits::CONDITION_REVISIONS_MAX;
use caucus_api::shard::condition::Kind;
use caucus_api::shard::{Condition, Revisions, Unit};
use http::HeaderMap;
use http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};

use super::problem::{Code, Problem};

/// The value of `If-Match` or `If-None-Match`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tags {
    Any,
    Revisions(Vec<u64>),
}

impl Tags {
    fn hold(&self, revision: u64) -> bool {
        match self {
            Tags::Any => true,
            Tags::Revisions(revisions) => revisions.contains(&revision),
        }
    }
}

/// The condition of a write.
pub(super) fn of_write(headers: &HeaderMap) -> Result<Option<Condition>, Problem> {
    let kind = match (
        tags(headers, &IF_MATCH, false)?,
        tags(headers, &IF_NONE_MATCH, true)?,
    ) {
        (None, None) => return Ok(None),
        (Some(Tags::Any), None) => Kind::Present(Unit {}),
        (Some(Tags::Revisions(revisions)), None) => Kind::RevisionIs(Revisions { revisions }),
        (None, Some(Tags::Any)) => Kind::Absent(Unit {}),
        (None, Some(Tags::Revisions(revisions))) => Kind::RevisionIsNot(Revisions { revisions }),
        (Some(_), Some(_)) => {
            return Err(Problem::new(
                Code::MalformedIfMatch,
                "a request has If-Match or If-None-Match, not both",
            ));
        }
    };
    Ok(Some(Condition { kind: Some(kind) }))
}

/// What a read's conditions say of the record that it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Answer,
    NotModified,
    Failed,
}

/// The conditions of a read.
#[derive(Debug)]
pub(super) struct OfRead {
    matches: Option<Tags>,
    none_matches: Option<Tags>,
}

impl OfRead {
    pub(super) fn parse(headers: &HeaderMap) -> Result<OfRead, Problem> {
        Ok(OfRead {
            matches: tags(headers, &IF_MATCH, false)?,
            none_matches: tags(headers, &IF_NONE_MATCH, true)?,
        })
    }

    /// `revision`: of the record, if there is one.
    pub(super) fn judge(&self, revision: Option<u64>) -> Verdict {
        let holds = |tags: &Tags| revision.is_some_and(|revision| tags.hold(revision));
        if self.matches.as_ref().is_some_and(|tags| !holds(tags)) {
            return Verdict::Failed;
        }
        if self.none_matches.as_ref().is_some_and(holds) {
            return Verdict::NotModified;
        }
        Verdict::Answer
    }
}

fn tags(headers: &HeaderMap, name: &HeaderName, weak: bool) -> Result<Option<Tags>, Problem> {
    if !headers.contains_key(name) {
        return Ok(None);
    }
    let mut lines = headers.get_all(name).iter();
    if let (Some(only), None) = (lines.next(), lines.next())
        && only.as_bytes().trim_ascii() == b"*"
    {
        return Ok(Some(Tags::Any));
    }
    let mut revisions = Vec::new();
    for line in headers.get_all(name) {
        let line = line.to_str().map_err(|_| malformed(name, "other bytes"))?;
        for tag in line.split(',') {
            revisions.push(revision(tag.trim(), weak).ok_or_else(|| malformed(name, tag))?);
        }
    }
    if revisions.len() > CONDITION_REVISIONS_MAX {
        return Err(Problem::new(
            Code::MalformedIfMatch,
            format!("{name} takes at most {CONDITION_REVISIONS_MAX} ETags"),
        ));
    }
    Ok(Some(Tags::Revisions(revisions)))
}

fn revision(tag: &str, weak: bool) -> Option<u64> {
    let strong = match tag.strip_prefix("W/") {
        Some(rest) if weak => rest,
        Some(_) => return None,
        None => tag,
    };
    let digits = strong.strip_prefix('"')?.strip_suffix('"')?;
    // `parse` would also take a sign.
    let legal = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    legal.then(|| digits.parse().ok())?
}

fn malformed(name: &HeaderName, found: &str) -> Problem {
    let found: String = found.trim().chars().take(64).collect();
    Problem::new(
        Code::MalformedIfMatch,
        format!(
            "{name} takes * or ETags, which are numbers in double quotes, such as \"42\", \"43\"; found: {found}"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn of(name: HeaderName, lines: &[&str]) -> Result<Option<Condition>, Code> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&name, HeaderValue::from_str(line).unwrap());
        }
        of_write(&headers).map_err(|problem| problem.code)
    }

    #[test]
    fn writes() {
        let kind = |kind| Ok(Some(Condition { kind: Some(kind) }));
        let is = |revisions: &[u64]| {
            kind(Kind::RevisionIs(Revisions {
                revisions: revisions.to_vec(),
            }))
        };
        assert_eq!(of(IF_MATCH, &["*"]), kind(Kind::Present(Unit {})));
        assert_eq!(of(IF_NONE_MATCH, &["*"]), kind(Kind::Absent(Unit {})));
        assert_eq!(of(IF_MATCH, &["\"42\""]), is(&[42]));
        assert_eq!(
            of(IF_MATCH, &["\"42\" , \"43\"", "\"44\""]),
            is(&[42, 43, 44])
        );
        for wrong in [
            "",
            "42",
            "\"\"",
            "\"a\"",
            "\"+1\"",
            "\"1\",",
            "W/\"1\"",
            "\"1",
            "*, \"1\"",
            "\"18446744073709551616\"",
        ] {
            assert_eq!(
                of(IF_MATCH, &[wrong]),
                Err(Code::MalformedIfMatch),
                "{wrong}"
            );
        }
        let many = vec!["\"1\""; CONDITION_REVISIONS_MAX + 1].join(",");
        assert_eq!(of(IF_MATCH, &[&many]), Err(Code::MalformedIfMatch));
    }

    #[test]
    fn reads() {
        let judge = |name: HeaderName, value: &'static str, revision| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            OfRead::parse(&headers).unwrap().judge(revision)
        };
        assert_eq!(
            judge(IF_NONE_MATCH, "W/\"5\"", Some(5)),
            Verdict::NotModified
        );
        assert_eq!(judge(IF_NONE_MATCH, "\"5\"", Some(6)), Verdict::Answer);
        assert_eq!(judge(IF_NONE_MATCH, "*", None), Verdict::Answer);
        assert_eq!(judge(IF_MATCH, "\"5\"", Some(6)), Verdict::Failed);
        assert_eq!(judge(IF_MATCH, "*", None), Verdict::Failed);
        assert_eq!(judge(IF_MATCH, "\"5\"", Some(5)), Verdict::Answer);
    }
}
