//! Functions, or uplinks, by the indices that the shell knows them by.
//!
//! Invariants:
//! - An index that has been given out never means another one: what the shell still says about one that
//!   has left is nobody's.
//! - One that has left takes no memory and no time, however many there were. Only the one that left last
//!   is still there, for what looks at an index once more after it was emptied; nothing comes of that.

use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};

/// Members that come and leave.
pub(crate) struct Roster<T> {
    members: BTreeMap<usize, Box<T>>,
    next: usize,
    /// The one that left last, if one has.
    left: Vec<Box<T>>,
}

impl<T> Roster<T> {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Takes up another one; answers its index.
    pub(crate) fn push(&mut self, member: T) -> usize {
        let index = self.next;
        self.next += 1;
        self.members.insert(index, Box::new(member));
        index
    }

    /// It leaves.
    pub(crate) fn remove(&mut self, index: usize) {
        if let Some(member) = self.members.remove(&index) {
            self.left.clear();
            self.left.push(member);
        }
    }

    /// Whether this index is of one that is there.
    pub(crate) fn contains(&self, index: usize) -> bool {
        self.members.contains_key(&index)
    }

    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.members.get(&index).map(|member| &**member)
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.members.get_mut(&index).map(|member| &mut **member)
    }

    /// In the order of their indices.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.members.values().map(|member| &**member)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.members.values_mut().map(|member| &mut **member)
    }

    /// With their indices, in order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (usize, &T)> {
        self.members.iter().map(|(index, member)| (*index, &**member))
    }

    /// The first index that is not below this one, to walk through all while they change.
    pub(crate) fn from(&self, index: usize) -> Option<usize> {
        self.members.range(index..).next().map(|(index, _)| *index)
    }
}

impl<T> FromIterator<T> for Roster<T> {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Roster<T> {
        let mut roster = Roster { members: BTreeMap::new(), next: 0, left: Vec::new() };
        for member in all {
            roster.push(member);
        }
        roster
    }
}

impl<T> Index<usize> for Roster<T> {
    type Output = T;

    fn index(&self, index: usize) -> &T {
        self.members.get(&index).unwrap_or_else(|| &self.left[0])
    }
}

impl<T> IndexMut<usize> for Roster<T> {
    fn index_mut(&mut self, index: usize) -> &mut T {
        match self.members.get_mut(&index) {
            Some(member) => member,
            None => &mut self.left[0],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Roster;

    #[test]
    fn an_index_never_means_another_one() {
        let mut roster: Roster<&str> = ["a", "b"].into_iter().collect();
        roster.remove(0);
        assert_eq!((roster.push("c"), roster.len()), (2, 2));
        assert_eq!(roster.entries().collect::<Vec<_>>(), [(1, &"b"), (2, &"c")]);
        assert_eq!((roster.get(0), roster.contains(0), roster.contains(2)), (None, false, true));
        assert_eq!((roster.from(0), roster.from(2), roster.from(3)), (Some(1), Some(2), None));
        roster.remove(0);
        assert_eq!(roster.len(), 2);
    }

    #[test]
    fn only_the_one_that_left_last_can_be_looked_at() {
        let mut roster: Roster<String> = ["a", "b", "c"].into_iter().map(String::from).collect();
        roster.remove(0);
        roster.remove(1);
        assert_eq!((&*roster[0], &*roster[1], &*roster[2]), ("b", "b", "c"));
        roster[1].push('!');
        assert_eq!(roster.iter().collect::<Vec<_>>(), ["c"]);
    }
}
