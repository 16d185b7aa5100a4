//! Who calls: bearer tokens name a tenant and its roles. What a caller may do is the handlers' business.

use super::problem::{Kind, Problem};
use crate::sessions::TenantId;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use std::collections::{HashMap, HashSet};

/// Tenant of callers without a token, where that is allowed.
pub const LOCAL_TENANT: &str = "local";

/// Most tenants with tokens: a tenant's number has 16 bits, and 0 is [`LOCAL_TENANT`]'s.
const TENANTS_MAX: usize = u16::MAX as usize;

/// What a token allows beyond the tenant's own sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Writing backgrounds.
    Catalogue,
}

impl Role {
    /// The role of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        (name == "catalogue").then_some(Self::Catalogue)
    }
}

/// One configured token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// What the caller sends.
    pub secret: String,
    /// Whose sessions it reaches.
    pub tenant: String,
    /// What else it may do.
    pub roles: Vec<Role>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("tenant", &self.tenant)
            .field("roles", &self.roles)
            .finish_non_exhaustive()
    }
}

/// An authenticated caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Whose sessions it reaches.
    pub tenant: TenantId,
    /// Whether it may write backgrounds.
    pub catalogue: bool,
}

impl Caller {
    /// Passes only with the role to write backgrounds.
    ///
    /// # Errors
    /// [`Kind::Forbidden`].
    pub fn needs_catalogue(&self) -> Result<(), Problem> {
        if self.catalogue {
            Ok(())
        } else {
            Err(Problem::new(
                Kind::Forbidden,
                "use a token with the role catalogue",
            ))
        }
    }
}

/// Checks that every tenant gets a number of its own, and every secret names one caller.
///
/// # Errors
/// A sentence with the cause; it quotes no secret.
pub fn validate(tokens: &[Token]) -> Result<(), String> {
    let tenants: HashSet<&str> = tokens.iter().map(|token| token.tenant.as_str()).collect();
    if tenants.len() > TENANTS_MAX {
        return Err(format!(
            "{} tenants have tokens, and at most {TENANTS_MAX} can be told apart",
            tenants.len()
        ));
    }
    let mut first_of = HashMap::new();
    for (at, token) in tokens.iter().enumerate() {
        if let Some(first) = first_of.insert(&token.secret, at) {
            return Err(format!(
                "tokens {} and {} (tenants {:?} and {:?}) have the same secret",
                first + 1,
                at + 1,
                tokens[first].tenant,
                token.tenant
            ));
        }
    }
    Ok(())
}

/// The configured tokens.
#[derive(Debug)]
pub struct Auth {
    by_secret: HashMap<Vec<u8>, Caller>,
    anonymous: Option<Caller>,
}

impl Auth {
    /// Without tokens, everybody is the tenant `local` with every role: only for loopback, which the configuration checks.
    ///
    /// # Panics
    /// For tokens that [`validate`] refuses: two tenants would reach each other's sessions.
    #[must_use]
    pub fn new(tokens: &[Token]) -> Self {
        assert_eq!(validate(tokens), Ok(()), "the configuration was checked");
        let mut tenants: HashMap<&str, TenantId> = HashMap::from([(LOCAL_TENANT, TenantId(0))]);
        let mut by_secret = HashMap::new();
        for token in tokens {
            let next = tenants.len() as u16;
            let tenant = *tenants.entry(&token.tenant).or_insert(TenantId(next));
            let catalogue = token.roles.contains(&Role::Catalogue);
            by_secret.insert(
                token.secret.clone().into_bytes(),
                Caller { tenant, catalogue },
            );
        }
        let anonymous = tokens.is_empty().then_some(Caller {
            tenant: TenantId(0),
            catalogue: true,
        });
        Self {
            by_secret,
            anonymous,
        }
    }

    /// The caller that the headers name.
    ///
    /// # Errors
    /// [`Kind::Unauthorized`]: an unknown token is refused also where none would do.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let Some(value) = headers.get(AUTHORIZATION) else {
            return self
                .anonymous
                .ok_or_else(|| Problem::from(Kind::Unauthorized));
        };
        let bytes = value.as_bytes();
        let bearer = bytes
            .split_at_checked(7)
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
        bearer
            .and_then(|(_, secret)| self.by_secret.get(secret.trim_ascii()).copied())
            .ok_or_else(|| Problem::from(Kind::Unauthorized))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.parse().expect("a header value"));
        headers
    }

    fn token(secret: &str, tenant: &str, roles: Vec<Role>) -> Token {
        Token {
            secret: secret.into(),
            tenant: tenant.into(),
            roles,
        }
    }

    #[test]
    fn tokens_of_one_tenant_share_it_and_differ_in_roles() {
        let auth = Auth::new(&[
            token("a", "acme", vec![]),
            token("b", "acme", vec![Role::Catalogue]),
            token("c", "other", vec![]),
        ]);
        let of = |secret: &str| {
            auth.caller(&headers(&format!("Bearer {secret}")))
                .expect("known")
        };
        assert_eq!(of("a").tenant, of("b").tenant);
        assert_ne!(of("a").tenant, of("c").tenant);
        assert!(of("a").needs_catalogue().is_err() && of("b").needs_catalogue().is_ok());
        assert!(auth.caller(&HeaderMap::new()).is_err());
    }

    #[test]
    fn without_tokens_anybody_is_local_but_an_unknown_token_is_refused() {
        let auth = Auth::new(&[]);
        assert!(auth.caller(&HeaderMap::new()).expect("local").catalogue);
        for bad in ["Bearer x", "Basic eA==", "Bearer", ""] {
            assert!(auth.caller(&headers(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn tokens_that_cannot_be_told_apart_are_refused_without_quoting_them() {
        let twice = [token("hush", "acme", vec![]), token("hush", "beta", vec![])];
        let error = validate(&twice).expect_err("refused");
        assert!(!error.contains("hush") && error.contains("acme") && error.contains("beta"));
        let many = |count: usize| -> Vec<Token> {
            let each = |at: usize| token(&at.to_string(), &at.to_string(), vec![]);
            (0..count).map(each).collect()
        };
        assert!(validate(&many(TENANTS_MAX + 1)).is_err());
        let most = many(TENANTS_MAX);
        let auth = Auth::new(&most);
        let ids: HashSet<TenantId> = auth
            .by_secret
            .values()
            .map(|caller| caller.tenant)
            .collect();
        assert_eq!(ids.len(), TENANTS_MAX);
        assert!(!ids.contains(&TenantId(0)), "local stays apart");
    }

    #[test]
    fn secrets_never_show_in_debug_output() {
        assert!(!format!("{:?}", token("hush", "acme", vec![])).contains("hush"));
    }
}
