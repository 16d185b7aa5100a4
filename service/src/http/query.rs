//! Query strings. A route knows its parameters, and any other is refused: a misspelt one that was passed over would have another
//! question answered than was asked.
//!
//! Values hold nothing that is percent-encoded: ids, words and numbers.

use super::problem::{Kind, Problem};
use hyper::Uri;
use std::str::FromStr;

/// Most characters of an unknown parameter's name that the refusal quotes: answers of fixed size are small.
const QUOTED_CHARS_MAX: usize = 64;

/// A query string that holds known parameters only.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// The query of `uri`; `known` are the parameters that it may have.
    ///
    /// # Errors
    /// [`Kind::BadRequest`] for any other one, with its name and the known ones.
    pub fn of(uri: &'a Uri, known: &[&str]) -> Result<Self, Problem> {
        let query = Self(uri.query().unwrap_or_default());
        match query.pairs().find(|(name, _)| !known.contains(name)) {
            Some((name, _)) => Err(unknown(name, known)),
            None => Ok(query),
        }
    }

    fn pairs(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let pairs = self.0.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    /// All values of a parameter, in their order.
    pub fn values(self, name: &str) -> impl Iterator<Item = &'a str> {
        self.pairs()
            .filter_map(move |(given, value)| (given == name).then_some(value))
    }

    /// The value of a parameter.
    ///
    /// # Errors
    /// [`Kind::BadRequest`] when it is given more than once: only one of them could count.
    pub fn value(self, name: &str) -> Result<Option<&'a str>, Problem> {
        let mut values = self.values(name);
        let value = values.next();
        match values.next() {
            Some(_) => Err(Problem::new(
                Kind::BadRequest,
                format!("{name} is given more than once"),
            )),
            None => Ok(value),
        }
    }

    /// The value of a parameter that is a number.
    ///
    /// # Errors
    /// [`Kind::BadRequest`] when it is none that `T` can hold, or given more than once.
    pub fn number<T: FromStr>(self, name: &str) -> Result<Option<T>, Problem> {
        let Some(text) = self.value(name)? else {
            return Ok(None);
        };
        let bad = || Problem::new(Kind::BadRequest, format!("{name} is no number in range"));
        text.parse().map(Some).map_err(|_| bad())
    }
}

fn unknown(name: &str, known: &[&str]) -> Problem {
    let quoted: String = name.chars().take(QUOTED_CHARS_MAX).collect();
    let taken = match known {
        [] => "none is taken here".to_owned(),
        known => format!("known here: {}", known.join(", ")),
    };
    Problem::new(
        Kind::BadRequest,
        format!("there is no query parameter {quoted:?}; {taken}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind<T>(read: Result<T, Problem>) -> Option<Kind> {
        read.err().map(|problem| problem.kind())
    }

    #[test]
    fn values_are_read_by_name() {
        let uri = Uri::from_static("/frame?width=640&height=360&&tag=a&tag=b&flag");
        let query = Query::of(&uri, &["width", "height", "tag", "flag"]).expect("all known");
        assert_eq!(query.number("width").ok(), Some(Some(640)));
        assert_eq!(query.value("flag").ok(), Some(Some("")));
        assert_eq!(query.value("depth").ok(), Some(None));
        assert_eq!(query.number::<u32>("depth").ok(), Some(None));
        assert_eq!(query.values("tag").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(kind(query.value("tag")), Some(Kind::BadRequest));
        assert_eq!(kind(query.number::<u8>("width")), Some(Kind::BadRequest));
        let bare = Uri::from_static("/frame");
        assert!(Query::of(&bare, &[]).is_ok());
    }

    #[test]
    fn an_unknown_parameter_is_named_beside_the_known_ones_and_cut() {
        let refused = |uri: &'static str, known: &[&str]| {
            let problem = Query::of(&Uri::from_static(uri), known).expect_err("refused");
            assert_eq!(problem.kind(), Kind::BadRequest);
            problem.detail().to_owned()
        };
        let detail = refused("/frame?width=1&witdh=100", &["width", "height"]);
        assert_eq!(
            detail,
            "there is no query parameter \"witdh\"; known here: width, height"
        );
        assert!(refused("/x?a", &[]).ends_with("none is taken here"));
        // Part of a name is no name, and a name is none in other letters.
        for near in ["/frame?xwidth=1", "/frame?widt=1", "/frame?Width=1"] {
            refused(near, &["width"]);
        }
        let long: Uri = format!("/frame?{}=1", "x".repeat(5000))
            .parse()
            .expect("a URI");
        let problem = Query::of(&long, &[]).expect_err("refused");
        assert!(problem.detail().len() < 200, "{}", problem.detail());
    }
}
