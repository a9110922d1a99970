//! The whole set on the runtime crate.

use std::collections::BTreeSet;

use crate::{harsh_limits, judge, set};

#[test]
fn what_each_hostile_module_tries_ends_as_it_must() {
    let mut wrong = Vec::new();
    for one in set() {
        let judgement = judge(&(one.module)(), &harsh_limits());
        if !one.fate.is(&judgement.came) {
            wrong.push(format!("{}: {:?}, not {:?}", one.name, judgement.came, one.fate));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_modules_have_names_of_their_own() {
    let set = set();
    let names: BTreeSet<&str> = set.iter().map(|one| one.name).collect();
    assert!(set.len() >= 100, "{}", set.len());
    assert_eq!(names.len(), set.len());
}
