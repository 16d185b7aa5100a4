//! The table of routes, and the match from method and path to one of them. What a route does is the handlers' business.

use crate::metrics::Route;
use hyper::Method;

/// Methods, paths and routes of the public listener, as `/openapi.json` documents them.
pub const TABLE: &[(&str, &str, Route)] = &[
    ("POST", "/v1/sessions", Route::SessionCreate),
    ("GET", "/v1/sessions/{session}", Route::SessionRead),
    ("DELETE", "/v1/sessions/{session}", Route::SessionDelete),
    (
        "PUT",
        "/v1/sessions/{session}/background",
        Route::SessionSwitch,
    ),
    ("PATCH", "/v1/sessions/{session}/view", Route::SessionView),
    ("GET", "/v1/sessions/{session}/frame", Route::SessionFrame),
    (
        "POST",
        "/v1/sessions/{session}/frames",
        Route::SessionComposite,
    ),
    ("GET", "/v2/sessions/{session}/source", Route::SourceRead),
    ("PUT", "/v2/sessions/{session}/source", Route::SourcePut),
    (
        "DELETE",
        "/v2/sessions/{session}/source",
        Route::SourceDelete,
    ),
    (
        "GET",
        "/v2/sessions/{session}/source/frames",
        Route::SourceWait,
    ),
    (
        "POST",
        "/v2/sessions/{session}/source/frames",
        Route::SourcePush,
    ),
    ("POST", "/v1/sessions:batchCreate", Route::BatchCreate),
    ("POST", "/v1/sessions:batchRead", Route::BatchRead),
    ("POST", "/v1/sessions:batchDelete", Route::BatchDelete),
    ("POST", "/v1/sessions:batchSwitch", Route::BatchSwitch),
    ("GET", "/v1/backgrounds", Route::BackgroundList),
    ("PUT", "/v1/backgrounds/{background}", Route::BackgroundPut),
    ("GET", "/v1/backgrounds/{background}", Route::BackgroundRead),
    (
        "HEAD",
        "/v1/backgrounds/{background}",
        Route::BackgroundRead,
    ),
    (
        "DELETE",
        "/v1/backgrounds/{background}",
        Route::BackgroundDelete,
    ),
    ("GET", "/healthz", Route::Health),
    ("HEAD", "/healthz", Route::Health),
    ("GET", "/readyz", Route::Ready),
    ("HEAD", "/readyz", Route::Ready),
    ("GET", "/openapi.json", Route::OpenApi),
    ("HEAD", "/openapi.json", Route::OpenApi),
];

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A route and the path's variable part, empty where it has none.
    Route(Route, &'a str),
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// Nothing.
    NotFound,
}

fn session_part<'a>(method: &Method, rest: &'a str) -> Target<'a> {
    let (id, part) = rest.split_once('/').unwrap_or((rest, ""));
    let route = match (part, method) {
        ("", &Method::GET) => Route::SessionRead,
        ("", &Method::DELETE) => Route::SessionDelete,
        ("background", &Method::PUT) => Route::SessionSwitch,
        ("view", &Method::PATCH) => Route::SessionView,
        ("frame", &Method::GET) => Route::SessionFrame,
        ("frames", &Method::POST) => Route::SessionComposite,
        ("" | "background" | "view" | "frame" | "frames", _) => return Target::MethodNotAllowed,
        _ => return Target::NotFound,
    };
    if rest.ends_with('/') {
        Target::NotFound
    } else {
        Target::Route(route, id)
    }
}

fn source_part<'a>(method: &Method, rest: &'a str) -> Target<'a> {
    let Some((id, part)) = rest.split_once('/') else {
        return Target::NotFound;
    };
    let route = match (part, method) {
        ("source", &Method::GET) => Route::SourceRead,
        ("source", &Method::PUT) => Route::SourcePut,
        ("source", &Method::DELETE) => Route::SourceDelete,
        ("source/frames", &Method::GET) => Route::SourceWait,
        ("source/frames", &Method::POST) => Route::SourcePush,
        ("source" | "source/frames", _) => return Target::MethodNotAllowed,
        _ => return Target::NotFound,
    };
    Target::Route(route, id)
}

fn background_part<'a>(method: &Method, id: &'a str) -> Target<'a> {
    if id.contains('/') || id.is_empty() {
        return Target::NotFound;
    }
    match *method {
        Method::PUT => Target::Route(Route::BackgroundPut, id),
        Method::GET | Method::HEAD => Target::Route(Route::BackgroundRead, id),
        Method::DELETE => Target::Route(Route::BackgroundDelete, id),
        _ => Target::MethodNotAllowed,
    }
}

fn fixed(path: &str) -> Option<(Method, Route)> {
    Some(match path {
        "/v1/sessions:batchSwitch" => (Method::POST, Route::BatchSwitch),
        "/v1/sessions:batchRead" => (Method::POST, Route::BatchRead),
        "/v1/sessions:batchCreate" => (Method::POST, Route::BatchCreate),
        "/v1/sessions:batchDelete" => (Method::POST, Route::BatchDelete),
        "/v1/sessions" => (Method::POST, Route::SessionCreate),
        "/v1/backgrounds" => (Method::GET, Route::BackgroundList),
        "/healthz" => (Method::GET, Route::Health),
        "/readyz" => (Method::GET, Route::Ready),
        "/openapi.json" => (Method::GET, Route::OpenApi),
        _ => return None,
    })
}

/// Finds what `method` and `path` name.
#[must_use]
pub fn find<'a>(method: &Method, path: &'a str) -> Target<'a> {
    if let Some(rest) = path.strip_prefix("/v1/sessions/") {
        return session_part(method, rest);
    }
    if let Some(rest) = path.strip_prefix("/v2/sessions/") {
        return source_part(method, rest);
    }
    if let Some(id) = path.strip_prefix("/v1/backgrounds/") {
        return background_part(method, id);
    }
    match fixed(path) {
        Some((wanted, route)) if wanted == *method => Target::Route(route, ""),
        // hyper leaves the body out and states its length.
        Some((_, route)) if is_probe(route) && *method == Method::HEAD => Target::Route(route, ""),
        Some(_) => Target::MethodNotAllowed,
        None => Target::NotFound,
    }
}

/// Parameters that the query of a route may have. Probes are answered whatever their callers add.
#[must_use]
pub const fn parameters(route: Route) -> &'static [&'static str] {
    match route {
        Route::SessionFrame => &["width", "height", "format", "quality"],
        Route::SessionComposite => &["width", "height", "format", "quality", "deadline_ms"],
        Route::SourcePush => &["width", "height"],
        Route::SourceWait => &["after", "wait_ms"],
        Route::BackgroundPut => &["tag"],
        Route::BackgroundList => &["after", "limit"],
        _ => &[],
    }
}

/// Whether the route is answered while the service drains: probes are, work is not.
#[must_use]
pub fn is_probe(route: Route) -> bool {
    matches!(route, Route::Health | Route::Ready | Route::OpenApi)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_is_found() {
        for (method, path, route) in TABLE {
            let path = path
                .replace("{session}", "00000001000000ff")
                .replace("{background}", "beach");
            let method: Method = method.parse().expect("a method");
            assert!(
                matches!(find(&method, &path), Target::Route(found, _) if found == *route),
                "{method} {path}"
            );
        }
    }

    #[test]
    fn gives_the_variable_part_and_tells_method_from_path() {
        assert_eq!(
            find(&Method::GET, "/v1/sessions/ab/frame"),
            Target::Route(Route::SessionFrame, "ab")
        );
        assert_eq!(
            find(&Method::PUT, "/v1/backgrounds/x"),
            Target::Route(Route::BackgroundPut, "x")
        );
        assert_eq!(
            find(&Method::POST, "/v1/sessions/ab/frame"),
            Target::MethodNotAllowed
        );
        assert_eq!(
            find(&Method::GET, "/v1/sessions:batchSwitch"),
            Target::MethodNotAllowed
        );
        for path in [
            "/",
            "/v1",
            "/v1/sessions/ab/",
            "/v1/sessions/ab/x",
            "/v1/sessions/ab/source",
            "/v2/sessions/ab",
            "/v2/sessions/ab/",
            "/v2/sessions/ab/background",
            "/v2/sessions/ab/source/",
            "/v1/backgrounds/",
            "/v1/backgrounds/a/b",
        ] {
            assert_eq!(find(&Method::GET, path), Target::NotFound, "{path}");
        }
    }

    #[test]
    fn the_openapi_document_and_the_table_name_the_same() {
        let document: serde_json::Value =
            serde_json::from_str(super::super::OPENAPI).expect("json");
        let paths = document["paths"].as_object().expect("paths");
        let mut documented: Vec<(String, String)> = Vec::new();
        for (path, operations) in paths {
            let operations = operations.as_object().expect("operations");
            let methods = operations.keys().filter(|key| *key != "parameters");
            documented.extend(methods.map(|method| (method.to_uppercase(), path.clone())));
        }
        let mut routed: Vec<_> = TABLE
            .iter()
            .map(|row| (row.0.to_owned(), row.1.to_owned()))
            .collect();
        documented.sort();
        routed.sort();
        assert_eq!(documented, routed);
    }

    #[test]
    fn the_openapi_document_names_the_parameters_that_are_known() {
        let document: serde_json::Value =
            serde_json::from_str(super::super::OPENAPI).expect("json");
        for (method, path, route) in TABLE {
            let of_path = &document["paths"][*path];
            let of_both = [of_path, &of_path[method.to_lowercase()]];
            let listed = of_both.map(|place| place["parameters"].as_array());
            let mut documented: Vec<&str> = listed
                .into_iter()
                .flatten()
                .flatten()
                .filter(|parameter| parameter["in"] == "query")
                .filter_map(|parameter| parameter["name"].as_str())
                .collect();
            documented.sort_unstable();
            let mut known = parameters(*route).to_vec();
            known.sort_unstable();
            assert_eq!(documented, known, "{method} {path}");
        }
    }
}
