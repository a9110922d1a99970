//! Which function answers a request.

use std::sync::Arc;

use tidegate_flow::{HttpRoute, NotText, Parameters};

/// A route of a function that is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedRoute {
    /// Index of the function.
    pub function: usize,
    /// Its name.
    pub name: String,
    /// The route.
    pub route: HttpRoute,
}

/// All of them; the core's thread replaces them when functions come and go.
pub type Served = Arc<[ServedRoute]>;

/// What the table says of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    Route(&'a ServedRoute, Parameters),
    /// A parameter of the path is no text.
    NotText,
    /// The path has these methods only.
    Methods(Vec<&'static str>),
    Nothing,
}

/// Finds the route of a request: literal segments count before parameters.
pub(crate) fn find<'a>(served: &'a [ServedRoute], method: &str, path: &str) -> Found<'a> {
    let about = |one: &'a ServedRoute| Some((one, one.route.parameters(path)?));
    let matches: Vec<(&ServedRoute, Result<Parameters, NotText>)> =
        served.iter().filter_map(about).collect();
    let meant = matches.iter().map(|(one, _)| one.route.shape()).max();
    let Some(meant) = meant else { return Found::Nothing };
    let mut methods = Vec::new();
    for (one, parameters) in matches {
        if one.route.shape() != meant {
            continue;
        }
        if !one.route.methods().contains(&method) {
            methods.extend_from_slice(one.route.methods());
            continue;
        }
        return match parameters {
            Ok(parameters) => Found::Route(one, parameters),
            Err(NotText) => Found::NotText,
        };
    }
    methods.sort_unstable();
    methods.dedup();
    Found::Methods(methods)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_literal_route_is_meant_and_other_methods_are_told() {
        let routes = ["GET /s/{id}", "PUT,DELETE /s/{name}", "GET /s/all", "GET /s/{id}/limit"];
        let served: Vec<ServedRoute> = routes
            .iter()
            .enumerate()
            .map(|(function, text)| ServedRoute {
                function,
                name: format!("f{function}"),
                route: HttpRoute::parse(text).unwrap(),
            })
            .collect();
        let function = |method, path| match find(&served, method, path) {
            Found::Route(one, _) => Some(one.function),
            Found::NotText | Found::Methods(_) | Found::Nothing => None,
        };
        assert_eq!(function("GET", "/s/g3"), Some(0));
        assert_eq!(function("DELETE", "/s/g3"), Some(1));
        assert_eq!(function("GET", "/s/all"), Some(2));
        assert_eq!(function("GET", "/s/all/limit"), Some(3));
        assert_eq!(find(&served, "GET", "/s"), Found::Nothing);
        assert_eq!(find(&served, "POST", "/s/g3"), Found::Methods(vec!["DELETE", "GET", "PUT"]));
        assert_eq!(find(&served, "PUT", "/s/all"), Found::Methods(vec!["GET"]));
        assert_eq!(find(&served, "GET", "/s/%ff"), Found::NotText);
    }
}
