//! Sets as sorted lists, for sets that are small or seldom change: a `BTreeSet` compiles to several kilobytes
//! of code per element type.

/// Inserts an item into a sorted list without duplicates; returns whether it was new.
pub fn insert<T: Ord>(list: &mut Vec<T>, item: T) -> bool {
    match list.binary_search(&item) {
        Ok(_) => false,
        Err(place) => {
            list.insert(place, item);
            true
        }
    }
}

/// Sorts a list and removes duplicates.
pub fn sort<T: Ord>(list: &mut Vec<T>) {
    list.sort_unstable();
    list.dedup();
}

#[cfg(test)]
mod tests {
    use super::{insert, sort};

    #[test]
    fn each_item_is_there_once_and_in_order() {
        let mut list = vec![3, 1, 3];
        sort(&mut list);
        assert!(insert(&mut list, 2));
        assert!(!insert(&mut list, 3));
        assert_eq!(list, [1, 2, 3]);
    }
}
