//! The engine against a model that tries every topic.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::topic::{TopicFilter, TopicName};

fn rule(effect: Effect, topics: &[&str]) -> Rule {
    Rule {
        effect,
        publish: true,
        subscribe: true,
        topics: topics.iter().map(|topic| Pattern::parse(topic).unwrap()).collect(),
        users: vec![],
        listeners: vec![],
    }
}

fn allow(topics: &[&str]) -> Rule {
    rule(Effect::Allow, topics)
}

fn deny(topics: &[&str]) -> Rule {
    rule(Effect::Deny, topics)
}

fn client(client: &str) -> Principal {
    Principal { client: client.into(), ..Principal::default() }
}

fn access(rules: Vec<Rule>, principal: &Principal) -> Access {
    Policy::from(rules).access(principal)
}

fn publishes(access: &Access, topic: &str) -> bool {
    access.may_publish(&TopicName::parse(topic).unwrap())
}

fn subscribes(access: &Access, filter: &str) -> bool {
    access.may_subscribe(&TopicFilter::parse(filter).unwrap())
}

#[test]
fn without_a_rule_nothing_is_allowed() {
    let access = access(vec![], &client("c"));
    assert!(!publishes(&access, "a"));
    assert!(!subscribes(&access, "a"));
    assert!(!subscribes(&access, "#"));
}

#[test]
fn the_first_rule_that_matches_decides() {
    let access = access(vec![deny(&["a/secret"]), allow(&["a/#"]), deny(&["#"])], &client("c"));
    assert!(publishes(&access, "a/open"));
    assert!(!publishes(&access, "a/secret"));
    assert!(!publishes(&access, "b"));
}

#[test]
fn a_wildcard_does_not_allow_reserved_topics() {
    let access = access(vec![allow(&["#"])], &client("c"));
    assert!(subscribes(&access, "#"));
    assert!(!publishes(&access, "$SYS/x"));
    assert!(!subscribes(&access, "$SYS/#"));
}

#[test]
fn a_subscription_is_allowed_when_all_that_it_can_match_is() {
    let cases: &[(&[Rule], &str, bool)] = &[
        (&[allow(&["a/#"])], "a/#", true),
        (&[allow(&["a/#"])], "a", true),
        (&[allow(&["a/#"])], "a/+/b", true),
        (&[allow(&["a/#"])], "+/b", false),
        (&[allow(&["a/#"])], "#", false),
        (&[allow(&["a/+"])], "a/+", true),
        (&[allow(&["a/+"])], "a/b", true),
        (&[allow(&["a/+"])], "a/#", false),
        (&[allow(&["a", "a/+", "a/+/#"])], "a/#", true),
        (&[allow(&["a/+/#"])], "a/#", false),
        (&[allow(&["a/b", "a/c"])], "a/+", false),
        (&[deny(&["a/b"]), allow(&["a/#"])], "a/+", false),
        (&[deny(&["a/b"]), allow(&["a/#"])], "a/b/#", false),
        (&[deny(&["a/b"]), allow(&["a/#"])], "a/b/+", true),
        (&[allow(&["a/b"]), deny(&["a/b"]), allow(&["a/#"])], "a/#", true),
        (&[allow(&["+/+"])], "a/+", true),
        (&[allow(&["/a", "+"])], "+", true),
        (&[deny(&["/#"]), allow(&["+"])], "+", true),
        (&[allow(&["a/#"])], "$share/group/a/b", true),
        (&[allow(&["a/#"])], "$share/group/b", false),
        (&[allow(&["#"])], "$share/group", false),
        (&[allow(&["#"])], "$share/group/", false),
    ];
    for (rules, filter, expected) in cases {
        let access = access(rules.to_vec(), &client("c"));
        assert_eq!(subscribes(&access, filter), *expected, "{rules:?} {filter}");
    }
}

#[test]
fn variables_stand_for_what_the_client_is() {
    let certificate = CertificateFields {
        common_name: Some("pump".into()),
        dns_names: vec!["a.example".into(), "b.example".into()],
        fingerprint: "00ff".into(),
        ..CertificateFields::default()
    };
    let principal = Principal {
        client: "c1".into(),
        user: Some("ann".into()),
        certificate: Some(Arc::new(certificate)),
        ..Principal::default()
    };
    let pattern = ["${client}/x", "u-${username}-/x", "${cert.cn}", "${cert.san.dns}/+"];
    let found = access(vec![allow(&pattern), allow(&["f/${cert.fingerprint}"])], &principal);
    for topic in ["c1/x", "u-ann-/x", "pump", "a.example/1", "b.example/1", "f/00ff"] {
        assert!(publishes(&found, topic), "{topic}");
    }
    assert!(!publishes(&found, "c2/x"));
    let anonymous = access(vec![allow(&pattern)], &client("c1"));
    assert!(publishes(&anonymous, "c1/x"));
    assert!(!publishes(&anonymous, "u--/x"), "no name is not an empty name");
    assert!(!publishes(&anonymous, "${cert.cn}"));
}

#[test]
fn a_client_cannot_name_itself_into_other_topics() {
    for name in ["#", "+", "a/b", "a\0b", "$SYS", "", "a#", "+/+"] {
        let rules = vec![allow(&["${client}/#", "up/${client}/#"])];
        let access = access(rules, &client(name));
        for topic in ["a/b/x", "a/x", "$SYS/x", "up/a/b", "up/x", "up//x"] {
            assert!(!publishes(&access, topic), "client {name:?}, topic {topic}");
        }
        assert!(!subscribes(&access, "#"));
        assert!(!subscribes(&access, "up/#"));
    }
}

#[test]
fn a_rule_that_denies_covers_every_name_when_the_clients_is_no_level() {
    let rules = || vec![deny(&["private/${client}"]), allow(&["#"])];
    let ordinary = access(rules(), &client("a"));
    assert!(!publishes(&ordinary, "private/a") && publishes(&ordinary, "private/b"));
    let odd = access(rules(), &client("a/b"));
    assert!(!publishes(&odd, "private/a") && publishes(&odd, "public"));
}

#[test]
fn rules_are_for_users_and_listeners() {
    let mut rule = allow(&["#"]);
    rule.users = vec!["ann".into()];
    rule.listeners = vec!["plant".into()];
    let is_allowed = |user: Option<&str>, listener: &str| {
        let user = user.map(Arc::from);
        let principal = Principal { user, listener: listener.into(), ..client("c") };
        publishes(&access(vec![rule.clone()], &principal), "a")
    };
    assert!(is_allowed(Some("ann"), "plant"));
    assert!(!is_allowed(Some("ann"), "office"));
    assert!(!is_allowed(Some("bob"), "plant"));
    assert!(!is_allowed(None, "plant"));
}

#[test]
fn mistakes_in_patterns_are_named() {
    for (text, expected) in [
        ("a/${client", "has a `${` without a `}` in the same level"),
        ("a/${name}", "has the unknown variable ${name}; known: ${client}, ${username}"),
        ("a/+${client}", "has a `+` that is not a whole level"),
        ("$share/g/a", "begins with `$share/`"),
        ("", "is empty"),
    ] {
        let error = Pattern::parse(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}

#[test]
fn a_question_that_takes_too_long_is_denied() {
    let deep = |at: usize| {
        let levels: Vec<&str> = (0..24).map(|level| if level == at { "x" } else { "+" }).collect();
        levels.join("/")
    };
    let patterns: Vec<String> = (0..24).map(deep).collect();
    let mut rules: Vec<Rule> = patterns.iter().map(|p| deny(&[p, &format!("{p}/y")])).collect();
    rules.push(allow(&["#"]));
    let access = access(rules, &client("c"));
    let filter = ["+"; 26].join("/");
    assert!(!subscribes(&access, &filter));
}

/// Matching as section 4.7 describes it, written once more.
fn model_matches(filter: &[&str], topic: &[&str], first: bool) -> bool {
    match (filter, topic) {
        (["#"], _) => !(first && topic[0].starts_with('$')),
        ([], []) => true,
        ([level, filter @ ..], [word, topic @ ..]) => {
            let wild = *level == "+" && !(first && word.starts_with('$'));
            (wild || level == word) && model_matches(filter, topic, false)
        }
        _ => false,
    }
}

/// `sensors/#` matches `sensors` too, which the model has apart.
fn model_filter_matches(filter: &str, topic: &str) -> bool {
    let filter: Vec<&str> = filter.split('/').collect();
    let topic: Vec<&str> = topic.split('/').collect();
    let parent = filter.len() > 1 && filter.last() == Some(&"#");
    model_matches(&filter, &topic, true)
        || (parent && model_matches(&filter[..filter.len() - 1], &topic, true))
}

fn model_allows(rules: &[(Effect, String)], topic: &str) -> bool {
    let decides = rules.iter().find(|(_, filter)| model_filter_matches(filter, topic));
    decides.is_some_and(|(effect, _)| *effect == Effect::Allow)
}

/// All topics of up to four levels over the words of the rules and one that no rule has.
fn topics() -> Vec<String> {
    let words = ["a", "b", "", "$s", "other"];
    let mut all: Vec<String> = words.map(str::to_owned).to_vec();
    let mut last = all.clone();
    for _ in 1..4 {
        last = last
            .iter()
            .flat_map(|topic| words.iter().map(move |word| format!("{topic}/{word}")))
            .collect();
        all.extend(last.iter().cloned());
    }
    all.retain(|topic| !topic.is_empty());
    all
}

fn filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![3 => "[ab]", 2 => Just("+".to_owned()), 1 => Just(String::new()),
        1 => Just("$s".to_owned())];
    let levels = prop::collection::vec(level, 0..4);
    (levels, any::<bool>()).prop_filter_map("empty", |(mut levels, hash)| {
        if levels.len() == 3 {
            levels.pop();
        }
        if hash {
            levels.push("#".to_owned());
        }
        let text = levels.join("/");
        (!text.is_empty()).then_some(text)
    })
}

fn rules() -> impl Strategy<Value = Vec<(Effect, String)>> {
    let effect = prop_oneof![2 => Just(Effect::Allow), 1 => Just(Effect::Deny)];
    prop::collection::vec((effect, filter()), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_decides_like_a_model_that_tries_every_topic(rules in rules(), wish in filter()) {
        let policy: Vec<Rule> =
            rules.iter().map(|(effect, topic)| rule(*effect, &[topic])).collect();
        let access = access(policy, &client("c"));
        let mut all_allowed = true;
        for topic in topics() {
            let expected = model_allows(&rules, &topic);
            prop_assert_eq!(publishes(&access, &topic), expected, "{}", topic);
            all_allowed &= expected || !model_filter_matches(&wish, &topic);
        }
        prop_assert_eq!(subscribes(&access, &wish), all_allowed, "{}", wish);
    }

    #[test]
    fn no_name_allows_more_than_its_own_level(name in "[ab+#/$\0]{0,4}", topic in filter()) {
        let access = access(vec![allow(&["${client}/x", "t/${client}"])], &client(&name));
        let allowed = |topic: &str| TopicName::parse(topic).is_ok() && publishes(&access, topic);
        for topic in topics().iter().chain([&topic, &format!("{name}/x"), &format!("t/{name}")]) {
            let own = !name.is_empty() && !name.contains('/')
                && ((*topic == format!("{name}/x") && !name.starts_with('$'))
                    || *topic == format!("t/{name}"));
            prop_assert!(!allowed(topic) || own, "{:?} {}", name, topic);
        }
    }
}
