//! A bounded memory of a warm function, each entry good for a while.

use std::{hash::Hash, num::NonZeroUsize, sync::Mutex};

use lru::LruCache;

pub(crate) struct Cache<K, V> {
    entries: Mutex<LruCache<K, (u64, V)>>,
    good_for_ms: u64,
}

impl<K: Hash + Eq, V: Clone> Cache<K, V> {
    pub(crate) fn new(most: usize, good_for_ms: u64) -> Self {
        let most = NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN);
        Self { entries: Mutex::new(LruCache::new(most)), good_for_ms }
    }

    pub(crate) fn get(&self, key: &K, now_ms: u64) -> Option<V> {
        let mut entries = self.entries.lock().expect("nothing panics while it holds the lock");
        let (since, value) = entries.get(key)?;
        (now_ms.saturating_sub(*since) < self.good_for_ms).then(|| value.clone())
    }

    pub(crate) fn put(&self, key: K, value: V, now_ms: u64) {
        let mut entries = self.entries.lock().expect("nothing panics while it holds the lock");
        entries.put(key, (now_ms, value));
    }

    /// Keeps what is there, where that is so.
    pub(crate) fn put_unless(&self, key: K, value: V, now_ms: u64, keep: impl FnOnce(&V) -> bool) {
        let mut entries = self.entries.lock().expect("nothing panics while it holds the lock");
        if !entries.peek(&key).is_some_and(|(_, there)| keep(there)) {
            entries.put(key, (now_ms, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_grow_old_and_are_bounded() {
        let cache = Cache::new(2, 100);
        cache.put("a", 1, 0);
        assert_eq!(cache.get(&"a", 99), Some(1));
        assert_eq!(cache.get(&"a", 100), None);
        cache.put("b", 2, 100);
        cache.put("c", 3, 100);
        assert_eq!(cache.get(&"a", 0), None);
        assert_eq!(cache.get(&"b", 100), Some(2));
    }
}
