//! What belongs to links, in the order of their numbers: two short lists, one to search and one to read.
//!
//! A peer has some ten partners, and looks one up for each frame. In a tree of such large values their numbers lie as far
//! apart as the values; here they are beside each other. A new link has the greatest number, so that it goes to the end.

use super::event::LinkId;

/// A value for each of some links.
#[derive(Clone, Debug)]
pub(super) struct ByLink<T> {
    /// Ascending.
    links: Vec<LinkId>,
    /// In the same order.
    values: Vec<T>,
}

impl<T> Default for ByLink<T> {
    fn default() -> ByLink<T> {
        ByLink { links: Vec::new(), values: Vec::new() }
    }
}

impl<T> ByLink<T> {
    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    pub(super) fn get(&self, link: &LinkId) -> Option<&T> {
        self.links.binary_search(link).ok().and_then(|at| self.values.get(at))
    }

    pub(super) fn get_mut(&mut self, link: &LinkId) -> Option<&mut T> {
        self.links.binary_search(link).ok().and_then(|at| self.values.get_mut(at))
    }

    /// The value that the link had before, if it had one.
    pub(super) fn insert(&mut self, link: LinkId, value: T) -> Option<T> {
        match self.links.binary_search(&link) {
            Ok(at) => Some(std::mem::replace(&mut self.values[at], value)),
            Err(at) => {
                self.links.insert(at, link);
                self.values.insert(at, value);
                None
            }
        }
    }

    pub(super) fn remove(&mut self, link: &LinkId) -> Option<T> {
        let at = self.links.binary_search(link).ok()?;
        self.links.remove(at);
        Some(self.values.remove(at))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &LinkId> {
        self.links.iter()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.values.iter()
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.values.iter_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&LinkId, &T)> {
        self.links.iter().zip(&self.values)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&LinkId, &mut T)> {
        self.links.iter().zip(&mut self.values)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a tree.
        #[test]
        fn as_a_tree_would_be(steps in prop::collection::vec((0u32..12, any::<bool>(), any::<u64>()), 0..60)) {
            let (mut tree, mut lists) = (BTreeMap::new(), ByLink::default());
            for (link, put, value) in steps {
                let link = LinkId(link);
                if put {
                    prop_assert_eq!(lists.insert(link, value), tree.insert(link, value));
                } else {
                    prop_assert_eq!(lists.remove(&link), tree.remove(&link));
                }
                prop_assert_eq!((lists.len(), lists.is_empty()), (tree.len(), tree.is_empty()));
                prop_assert!(lists.iter().eq(&tree) && lists.iter_mut().eq(tree.iter_mut()));
                prop_assert!(lists.keys().eq(tree.keys()) && lists.values().eq(tree.values()));
                prop_assert!(lists.values_mut().eq(tree.values_mut()));
                for link in (0..12).map(LinkId) {
                    prop_assert_eq!(lists.get(&link), tree.get(&link));
                    prop_assert_eq!(lists.get_mut(&link), tree.get_mut(&link));
                }
            }
        }
    }
}
