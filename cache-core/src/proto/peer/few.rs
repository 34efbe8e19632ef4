//! A few values by their keys: two short lists in the order of the keys, one to search and one to read.
//!
//! A peer has some ten partners and some thirty members. It looks one up for each frame, and goes through all keys many times
//! a second. In a tree the keys lie as far apart as the values; here they are beside each other.

/// A value for each of some keys. Putting one in moves those behind it: for tens, not for thousands.
#[derive(Clone, Debug)]
pub(super) struct Few<K, T> {
    /// Ascending.
    keys: Vec<K>,
    /// In the same order.
    values: Vec<T>,
}

impl<K, T> Default for Few<K, T> {
    fn default() -> Few<K, T> {
        Few { keys: Vec::new(), values: Vec::new() }
    }
}

impl<K: Ord, T> Few<K, T> {
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn get(&self, key: &K) -> Option<&T> {
        self.keys.binary_search(key).ok().and_then(|at| self.values.get(at))
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut T> {
        self.keys.binary_search(key).ok().and_then(|at| self.values.get_mut(at))
    }

    /// The value that the key had before, if it had one.
    pub(super) fn insert(&mut self, key: K, value: T) -> Option<T> {
        match self.keys.binary_search(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.values[at], value)),
            Err(at) => {
                self.keys.insert(at, key);
                self.values.insert(at, value);
                None
            }
        }
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<T> {
        let at = self.keys.binary_search(key).ok()?;
        self.keys.remove(at);
        Some(self.values.remove(at))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.keys.iter()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.values.iter()
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.values.iter_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &T)> {
        self.keys.iter().zip(&self.values)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut T)> {
        self.keys.iter().zip(&mut self.values)
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
            let (mut tree, mut few) = (BTreeMap::new(), Few::default());
            for (key, put, value) in steps {
                if put {
                    prop_assert_eq!(few.insert(key, value), tree.insert(key, value));
                } else {
                    prop_assert_eq!(few.remove(&key), tree.remove(&key));
                }
                prop_assert_eq!((few.len(), few.is_empty()), (tree.len(), tree.is_empty()));
                prop_assert!(few.iter().eq(&tree) && few.iter_mut().eq(tree.iter_mut()));
                prop_assert!(few.keys().eq(tree.keys()) && few.values().eq(tree.values()));
                prop_assert!(few.values_mut().eq(tree.values_mut()));
                for key in 0..12 {
                    prop_assert_eq!(few.get(&key), tree.get(&key));
                    prop_assert_eq!(few.get_mut(&key), tree.get_mut(&key));
                }
            }
        }
    }
}
